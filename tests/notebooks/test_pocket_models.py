"""The page of the pocket models: its own functions are right, and its learning curves are the kept ones."""

import json
from pathlib import Path

import pytest
import torch
from figures import figures
from freshness import ROOT, read
from lift import lift

import moe_lib as moe
from moe_lib.backbones.clicks import iou

NOTEBOOK = ROOT / "chapters" / "pocket_models.ipynb"
PAGE = lift(
    NOTEBOOK,
    *("clicked", "enlarged", "Cost", "cost", "block_parameters", "oracle_gain", "centre_click", "sittings"),
    iou=iou,
    record={"environments": [{"device": "cuda (A)"}, {"device": "cpu (B)"}]},
    where=torch.device("cpu"),
)


def test_clicks_are_drawn_in_their_colours_and_stay_inside():
    image = torch.zeros(2, 3, 20, 20)
    points = torch.tensor([[[5.0, 9], [0, 0]], [[19, 19], [3, 3]]])
    drawn = PAGE.clicked(image, points, torch.tensor([[1, 0], [1, -1]]))
    assert drawn[0, :, 9, 5].tolist() == pytest.approx([0.3, 1, 0.4])  # column 5, row 9
    assert drawn[0, 0, 0, 0] == 1 and drawn[0, 1, 0, 0] < 0.5  # red
    assert drawn[1, :, 3, 3].sum() == 0  # no click at all
    assert image.sum() == 0 and drawn[1].sum() > 0


def test_pixels_are_repeated():
    small = torch.arange(4.0).view(2, 2)
    assert PAGE.enlarged(small)[1].tolist() == [0, 0, 1, 1]
    assert PAGE.enlarged(small, 3).shape == (6, 6)


def test_the_cost_of_a_real_model():
    it = PAGE.cost("vit_b")
    assert it.parameters == 93_735_472 and it.weights == pytest.approx(374.94, abs=0.01)
    assert it.attention == pytest.approx(12 * 4096**2 * 4e-6)
    linear = 12 * 2 * (12 * 768**2) * 4096 / 1e9  # the matrices of 12 blocks, two operations a number
    assert linear < it.operations < 2 * linear


def test_counted_blocks():
    sizes = moe.backbones.sam("pocket", weights=False).image_encoder
    for block, side in ((sizes.blocks[0], 6), (sizes.blocks[1], 12)):
        assert PAGE.block_parameters(128, side) == sum(values.numel() for values in block.parameters())


def test_how_long_each_part_of_a_training_took():
    once = {"hours": 0.05, "made": 0}
    assert PAGE.sittings(once) == ["3.0 cuda"]
    assert PAGE.sittings({"hours": 1.55, "made": 1, "before": once}) == ["3.0 cuda", "90.0 cpu"]


def test_what_an_oracle_gains():
    truth = torch.zeros(2, 4, 4)
    truth[:, :2] = 1
    logits = torch.stack([truth - 0.5, 0.5 - truth], 1)  # right, and the opposite
    assert PAGE.oracle_gain(logits, torch.tensor([[0.9, 0.1], [0.1, 0.9]]), truth) == pytest.approx(0.5)


def test_the_deepest_pixel():
    mask = torch.zeros(12, 16)
    mask[2:9, 3:10] = 1
    mask[4, 10:15] = 1  # an arm
    assert PAGE.centre_click(mask) == (6, 5)


def test_the_learning_curves_are_those_of_the_kept_training():
    kept = json.loads(Path(moe.__file__).with_name("weights").joinpath("training.json").read_text())
    found = [figure for cell in read(NOTEBOOK).cells for figure in figures(cell.get("outputs", []))]
    (chart,) = [figure["data"] for figure in found if figure["name"] == "learning"]
    shown = [
        [(round(x, 3), round(y, 3)) for x, y in series] for name, series in chart.items() if "line" in name
    ]
    for run in kept["runs"]:
        for what in ("1 click", "box"):
            if f"held-out {what}" in run["log"][0]:
                curve = [(round(i["images"] / 1000, 3), round(i[f"held-out {what}"], 3)) for i in run["log"]]
                assert curve in shown, (run["job"], what)


def test_prose_repeats_the_training():
    kept = json.loads(Path(moe.__file__).with_name("weights").joinpath("training.json").read_text())
    runs = {run["job"]: run for run in kept["runs"]}
    prose = "\n".join(cell.source for cell in read(NOTEBOOK).cells)
    assert f"{runs['sam']['images']:,} views of {runs['sam']['plan']['scenes']:,} scenes" in prose
    for job in ("sam", "sam_global", "control"):
        for what in ("1 click", "box"):
            assert f"{runs[job]['held_out'][f'held-out {what}']:.2f}" in prose
