"""Conv-LoRA's recipe as published, on a SAM of full architecture and tiny width, 256 pixels."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import moe_lib as moe
from moe_lib import heads, losses
from moe_lib.backbones import Sam, Sizes
from moe_lib.datasets import DataError
from moe_lib.recipes import conv_lora
from moe_lib.recipes.conv_lora import TASKS, Joined, recipe, run
from moe_lib.train import schedule

VIT_B = moe.backbones.registry.VIT_B
REDUCED = dataclasses.replace(
    VIT_B, image=256, width=24, heads=2, channels=16, decoder_heads=2, decoder_mlp=32, quality_width=16
)
SMALL = Sizes(
    image=32, patch=8, width=16, depth=2, heads=2, window=3, global_blocks=(1,), channels=16,
    decoder_heads=2, decoder_mlp=16, quality_width=16,
)  # fmt: skip
REAL = {  # folder: task, ids that do not count
    "kvasir_seg_text": ("polyps", ()),
    "dsb2018_nuclei": ("lesions", ()),
    "crackforest": ("roads", ()),
    "camvid": ("transparent", (11,)),
}


def sam(sizes: Sizes = SMALL) -> Sam:
    torch.manual_seed(0)
    return Sam(sizes).eval().requires_grad_(False)


def write(root: Path, classes: int = 2, counts=(("train", 6), ("val", 2), ("test", 3))) -> Path:
    """A folder as data_scripts makes them, of scenes that are not squares."""
    task = moe.worlds.task("polyps" if classes == 2 else "semantic", "train", sum(n for _, n in counts), 64)
    batch, at = task.batch(range(len(task))), 0
    for split, count in counts:
        for kind in ("images", "masks"):
            (root / split / kind).mkdir(parents=True)
        for i in range(at, at + count):
            pixels = (batch["image"][i].permute(1, 2, 0).numpy() * 255).astype(np.uint8)
            values = (batch["mask"][i] % classes).numpy().astype(np.uint8)
            Image.fromarray(pixels).resize((50, 40)).save(root / split / "images" / f"{i}.png")
            Image.fromarray(values).resize((50, 40), 0).save(root / split / "masks" / f"{i}.png")
        at += count
    (root / "classes.txt").write_text("".join(f"{i} class{i}\n" for i in range(classes)))
    return root


@pytest.fixture(scope="module")
def polyps(tmp_path_factory) -> Path:
    return write(tmp_path_factory.mktemp("data") / "polyps")


@pytest.fixture(scope="module")
def several(tmp_path_factory) -> Path:
    return write(tmp_path_factory.mktemp("data") / "several", classes=4)


def test_the_recipe_is_the_published_one():
    """The numbers of the code, as the specification lists them."""
    assert {name: (task.epochs, task.rate) for name, task in TASKS.items() if task.measures} == {
        "polyps": (30, 1e-4), "lesions": (30, 1e-4), "camouflage": (20, 1e-4), "shadows": (10, 1e-4),
        "leaves": (30, 3e-4), "roads": (20, 3e-4),
    }  # fmt: skip
    assert [name for name, task in TASKS.items() if task.loss is not losses.structure] == ["shadows"]
    assert TASKS["polyps"].measures[0] == "s_measure" and TASKS["shadows"].measures == ("ber",)
    assert TASKS["polyps"].balance == 1 and TASKS["transparent"].balance == 2
    asked = recipe(TASKS["leaves"], 498, seed=3)
    assert (asked.batch, asked.at_once, asked.steps, asked.every) == (4, 1, 30 * 125, 125)
    assert (asked.decay, asked.clip, asked.eps, asked.patience, asked.seed) == (1e-4, 1.0, 1e-6, 10, 3)
    shares = [schedule(step, asked, asked.fall) for step in range(asked.steps)]
    assert shares == pytest.approx([1 - step / asked.steps for step in range(asked.steps)])


def test_methods_are_the_published_ones():
    method = moe.adapting.METHODS["conv_lora"]()
    assert (method.rank, method.experts, method.alpha, method.top_k, method.gate) == (3, 8, 32, 1, "official")
    assert moe.adapting.METHODS["lora"]().alpha == 32 and moe.adapting.METHODS["lora"]().rank == 3


@pytest.mark.parametrize("task", ["polyps", "camouflage", "shadows", "leaves"])
def test_binary_tasks_train_and_are_tested(task, polyps, tmp_path):
    scores = run(sam(), task, [polyps], tmp_path / "run", epochs=2, device="cpu")
    assert scores.keys() == {"polyps"} and tuple(scores["polyps"]) == TASKS[task].measures
    assert all(0 <= value <= 1 for value in scores["polyps"].values())
    kept = json.loads((tmp_path / "run" / "scores.json").read_text())
    assert kept["scores"] == scores and kept["asked"]["epochs"] == 2
    assert [line["step"] for line in kept["history"]] == [0, 2, 4]  # two steps an epoch
    assert kept["history"][1]["balance"] > 0
    chooses = "minus_ber" if task == "shadows" else TASKS[task].measures[0]  # more is better
    assert all((line[chooses] <= 0) == (task == "shadows") for line in kept["history"])
    again = heads.SemanticSam(sam())
    moe.load_adapter(again, tmp_path / "run" / "adapter")
    task = TASKS[task]
    assert conv_lora.tested(task, again.eval(), conv_lora._read([polyps], "test", size=32, ignore=())[0]) == (
        pytest.approx(scores["polyps"], abs=1e-6)
    )


def test_classes_have_one_score_of_the_whole_split(several, tmp_path):
    scores = run(sam(), "transparent", [several], tmp_path / "run", epochs=1, device="cpu")["several"]
    assert scores.keys() == {"mean_iou", "accuracy"} and all(0 <= value <= 1 for value in scores.values())


def test_folders_are_trained_on_together_and_tested_apart(polyps, tmp_path):
    other = write(tmp_path / "other", counts=(("train", 3), ("val", 2), ("test", 2)))
    scores = run(sam(), "polyps", [polyps, other], tmp_path / "run", epochs=1, device="cpu")
    assert list(scores) == ["polyps", "other"]
    history = json.loads((tmp_path / "run" / "scores.json").read_text())["history"]
    assert history[-1]["step"] == 3  # of nine pictures, by four


def test_folders_of_one_name_are_told_apart(polyps, tmp_path):
    other = write(tmp_path / "elsewhere" / "polyps", counts=(("train", 3), ("val", 2), ("test", 2)))
    scores = run(sam(), "polyps", [polyps, other], tmp_path / "run", epochs=1, device="cpu")
    assert list(scores) == [str(polyps), str(other)]


def test_pictures_go_through_the_model_one_by_one(polyps, tmp_path, monkeypatch):
    seen = []
    true = heads.SemanticSam.forward

    def watched(self, batch):
        if self.training:
            seen.append(len(batch["image"]))
        return true(self, batch)

    monkeypatch.setattr(heads.SemanticSam, "forward", watched)
    run(sam(), "polyps", [polyps], tmp_path / "run", epochs=1, device="cpu")
    assert seen == [1] * 8


def test_mirrors_are_drawn_anew_each_epoch(polyps):
    data = Joined(conv_lora._read([polyps], "train", size=32, ignore=(), mirrored=True))
    drawn = []
    for data.epoch in range(6):
        drawn.append(data.batch(range(6))["image"])
    plain = Joined(conv_lora._read([polyps], "train", size=32, ignore=())).batch(range(6))["image"]
    turned = [[bool((a - b).abs().max() > 1e-5) for a, b in zip(one, plain, strict=True)] for one in drawn]
    assert 6 < sum(map(sum, turned)) < 30 and len(set(map(tuple, turned))) > 3
    for one in drawn:
        for a, b in zip(one, plain, strict=True):
            assert min((a - b).abs().max(), (a - b.flip(-1)).abs().max()) < 1e-5


def test_a_run_that_was_stopped_goes_on(polyps, tmp_path, monkeypatch):
    whole = run(sam(), "polyps", [polyps], tmp_path / "whole", epochs=3, device="cpu")
    true, calls = conv_lora.loss, []

    def stopping(*args):
        calls.append(0)
        if len(calls) == 12:  # in the second epoch
            raise KeyboardInterrupt
        return true(*args)

    monkeypatch.setattr(conv_lora, "loss", stopping)
    with pytest.warns(UserWarning, match="interrupted"):
        assert run(sam(), "polyps", [polyps], tmp_path / "parts", epochs=3, device="cpu") is None
    assert not (tmp_path / "parts" / "scores.json").exists()
    with pytest.raises(FileExistsError, match="method='conv_lora', and 'lora' is asked for"):
        run(sam(), "polyps", [polyps], tmp_path / "parts", method="lora", epochs=3, device="cpu")
    monkeypatch.undo()
    assert run(sam(), "polyps", [polyps], tmp_path / "parts", epochs=3, device="cpu") == whole
    with pytest.raises(FileExistsError, match="finished run"):
        run(sam(), "polyps", [polyps], tmp_path / "parts", epochs=3, device="cpu")
    (tmp_path / "parts" / "mine.txt").write_text("kept")
    run(sam(), "polyps", [polyps], tmp_path / "parts", epochs=1, device="cpu", force=True)
    assert (tmp_path / "parts" / "mine.txt").exists()


def test_what_cannot_be_trained_is_refused(polyps, several, tmp_path):
    out = tmp_path / "run"
    with pytest.raises(DataError, match="has 4 classes; this task is one of two classes"):
        run(sam(), "polyps", [several], out)
    with pytest.raises(DataError, match="has 2 classes; this task is one of more than two"):
        run(sam(), "transparent", [polyps], out)
    with pytest.raises(DataError, match="should be the same"):
        run(sam(), "polyps", [polyps, several], out)
    with pytest.raises(ValueError, match="task is one of polyps, lesions"):
        run(sam(), "polyp", [polyps], out)
    with pytest.raises(ValueError, match="method is one of conv_lora"):
        run(sam(), "polyps", [polyps], out, method="dora")
    assert not out.exists()
    out.mkdir()
    (out / "thesis.tex").touch()
    with pytest.raises(FileExistsError, match="not empty"):
        run(sam(), "polyps", [polyps], out)


def command(*arguments: str | Path) -> subprocess.CompletedProcess:
    call = [sys.executable, "-m", "moe_lib.recipes.conv_lora", *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(call, capture_output=True, text=True, timeout=300, env=environment)


@pytest.mark.slow
def test_two_devices_do_what_one_does(polyps, tmp_path):
    """By the command line, in processes of their own."""
    for devices in (1, 2):
        done = command(
            "polyps", "--data", polyps, "--model", "pocket", "--method", "lora", "--epochs", 1, "--device",
            "cpu", "--devices", devices, "--out", tmp_path / str(devices),
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("polyps: s_measure 0.") == 1
    one, two = (json.loads((tmp_path / name / "scores.json").read_text()) for name in "12")
    assert two["devices"] == 2
    for a, b in zip(one["history"], two["history"], strict=True):
        assert a == pytest.approx(b, rel=1e-4)
    assert one["scores"]["polyps"] == pytest.approx(two["scores"]["polyps"], abs=1e-4)


def test_mistakes_on_the_command_line_are_a_line(polyps, tmp_path):
    done = command("polyps", "--data", polyps, "--out", tmp_path / "run")
    assert done.returncode == 1 and "sam_vit_h_4b8939.pth" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("name", REAL)
@pytest.mark.parametrize("method", ["decoder", "lora", "conv_lora"])
def test_the_whole_recipe_on_real_pictures(name, method, tmp_path):
    """The blocks of ViT-B with their windows, at 256 pixels; a few pictures of each split."""
    root = Path(os.environ.get("MOE_DATA", "")).expanduser() / name
    if not os.environ.get("MOE_DATA") or not root.is_dir():
        pytest.skip("MOE_DATA names no folder with real data")
    few = tmp_path / name
    few.mkdir()
    (few / "classes.txt").write_text((root / "classes.txt").read_text())
    for split, count in (("train", 4), ("val", 2), ("test", 2)):
        for kind in ("images", "masks"):
            (few / split / kind).mkdir(parents=True)
            for file in sorted((root / split / kind).iterdir())[:count]:
                (few / split / kind / file.name).symlink_to(file.resolve())
    task, ignore = REAL[name]
    scores = run(
        sam(REDUCED), task, [few], tmp_path / "run", method=method, epochs=1, ignore=ignore, device="cpu"
    )
    history = json.loads((tmp_path / "run" / "scores.json").read_text())["history"]
    assert history[-1]["step"] == 1 and np.isfinite(list(scores[name].values())).all()
    assert (history[-1]["balance"] > 0) == (method == "conv_lora")
