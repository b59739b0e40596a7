"""What a linear layer reads from tokens, and whether the notes on the weights say what was found."""

import json
import re

import probe_tokens
import torch
from freshness import ROOT
from probe_tokens import FILE, right


def test_a_layer_reads_what_is_there_and_not_what_is_not():
    torch.manual_seed(0)
    truth = torch.arange(300) % 3
    tokens = torch.randn(300, 8)
    told = tokens + 4 * torch.nn.functional.one_hot(truth, 8)
    assert right(told[:200], truth[:200], told[200:], truth[200:]) > 0.9
    assert right(tokens[:200], truth[:200], tokens[200:], truth[200:]) < 0.6


def test_labels_are_of_the_object_that_covers_a_patch():
    images, labels = probe_tokens.patches("val", 4)
    task = probe_tokens.moe.worlds.task("referring", "val", 8)
    assert images.shape == (4, 3, 96, 96) and all(x.shape == (4, 144) for x in labels.values())
    there = labels["shape"] >= 0
    assert torch.equal(there, labels["colour"] >= 0) and 5 < there.sum() < 200
    for i in range(4):
        named = {probe_tokens.SHAPES[k] for k in labels["shape"][i][there[i]].tolist()}
        assert named and named <= {thing.shape for thing in task.situation(2 * i).things}


def test_the_notes_on_the_weights_say_what_was_measured():
    notes = (ROOT / "moe_lib" / "weights" / "README.md").read_text(encoding="utf-8").replace("\n", " ")
    found = json.loads((ROOT / FILE).read_text(encoding="utf-8"))["right"]
    said = [
        int(x)
        for x in re.search(r"\((\d+) % right\).*?\((\d+) %, of six.*?tokens: (\d+) %\)", notes).groups()
    ]
    measured = (found["vit"]["colour"], found["vit"]["shape"], found["sam"]["shape"])
    assert said == [round(100 * share) for share in measured]
    assert f"an untrained one: {100 * found['vit, untrained']['colour']:.0f} %" in notes
    logs = json.loads((ROOT / "moe_lib" / "weights" / "encoders.json").read_text(encoding="utf-8"))
    runs = {run["job"]: run for run in logs["runs"]}
    held = [f"{runs['hiera']['held_out'][f'held-out {what}']:.3f}" for what in ("1 click", "2 clicks", "box")]
    assert f"| {runs['hiera']['images']:,} | {' | '.join(held)} |" in notes
    assert f"error {runs['vit']['held_out']['held-out loss']:.2f};" in notes
    assert f"{100 * runs['text']['held_out']['held-out word']:.0f} % of the next words" in notes
    assert f"{runs['text']['plan']['scenes']:,} sentences" in notes
