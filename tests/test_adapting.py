"""A user's folder: trained, resumed, stopped early, reported, applied; and what is refused, with a reason."""

import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
from freshness import ROOT
from PIL import Image

import moe_lib as moe
from moe_lib import adapting, commands
from moe_lib.adapting import Asked, adapt, pairs, predict

SHORT = {"steps": 2, "batch": 2, "device": "cpu"}


def write(folder: Path, names: list[str], classes: int = 1) -> tuple[Path, Path]:
    """Scenes of the world as files of 60 × 90 pixels, and their masks."""
    task = moe.worlds.task("polyps" if classes == 1 else "semantic", "train", len(names), 64)
    batch = task.batch(range(len(names)))
    for kind in ("images", "masks"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    for name, image, mask in zip(names, batch["image"], batch["mask"], strict=True):
        pixels = (image.permute(1, 2, 0).numpy() * 255).astype(np.uint8)
        values = mask.numpy().astype(np.uint8) * (255 if classes == 1 else 1)
        Image.fromarray(pixels).resize((90, 60)).save(folder / "images" / f"{name}.jpg")
        Image.fromarray(values).resize((90, 60), Image.Resampling.NEAREST).save(
            folder / "masks" / f"{name}.png"
        )
    return folder / "images", folder / "masks"


def trained(run: Path) -> moe.heads.SemanticSam:
    """The model that a run has left."""
    return moe.load_adapter(moe.heads.SemanticSam(moe.backbones.sam("pocket")), run / "adapter")


NAMES = [f"scene_{i}" for i in range(8)]


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return write(tmp_path_factory.mktemp("source"), NAMES)


@pytest.fixture(scope="module")
def finished(source, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "finished"
    adapt(*source, out, **SHORT)
    return out


def test_a_run_leaves_an_adapter_and_a_report(finished, source):
    report = (finished / "report.md").read_text(encoding="utf-8")
    assert "trainable params:" in report
    for name in re.findall(r"!\[.+?\]\((.+?)\)", report):
        assert np.asarray(Image.open(finished / name)).std() > 0, name
    assert set(re.findall(r"\((\w+)\.png\)", report)) == {"curves", "pictures", "routing"}
    made = json.loads(report.partition("```json")[2].partition("```")[0])
    assert made["asked"]["images"] == str(source[0]) and made["environment"]["device"].startswith("cpu")
    value = float(re.search(r"- IoU: ([\d.]+)", report)[1])
    assert 0 <= value <= 1
    model = trained(finished)
    assert float(sum(p.detach().abs().sum() for n, p in model.named_parameters() if n.endswith("qkv.B"))) > 0


def test_masks_as_large_as_the_pictures(finished, source, tmp_path):
    assert predict(finished, source[0], tmp_path / "found", device="cpu") == 8
    for name in NAMES:
        mask = np.asarray(Image.open(tmp_path / "found" / f"{name}.png"))
        assert mask.shape == (60, 90) and set(np.unique(mask)) <= {0, 255}
    with pytest.raises(FileExistsError, match="has 8 of the masks already"):
        predict(finished, source[0], tmp_path / "found", device="cpu")
    predict(finished, source[0], tmp_path / "found", device="cpu", force=True)


def test_what_is_predicted_is_what_was_trained(finished, source, tmp_path):
    held_out = pairs(Asked(*map(str, source)), 96)[1]
    predict(finished, source[0], tmp_path, device="cpu")
    model = trained(finished).eval()
    with torch.no_grad():
        found = model(held_out.batch([0])["image"]).labels()[0].float()
    mask = np.asarray(Image.open(tmp_path / f"{held_out.names[0]}.png").resize((96, 96))) > 127
    assert (torch.from_numpy(mask).float() == found).float().mean() > 0.95


def test_several_classes(tmp_path):
    images, masks = write(tmp_path, NAMES, classes=12)
    adapt(images, masks, tmp_path / "run", classes=12, method="lora", **SHORT)
    assert "mIoU of images" in (tmp_path / "run" / "report.md").read_text(encoding="utf-8")
    predict(tmp_path / "run", images, tmp_path / "found", device="cpu")
    assert np.asarray(Image.open(tmp_path / "found" / "scene_0.png")).max() < 12
    with pytest.raises(ValueError, match=r"has class id \d+; should be 0 to 2, or 255"):
        adapt(images, masks, tmp_path / "few", classes=3, **SHORT)


@pytest.mark.parametrize("method", ["adapter", "bitfit", "decoder"])
def test_other_methods(method, source, tmp_path):
    adapt(*source, tmp_path / "run", method=method, **SHORT)
    assert "routing.png" not in (tmp_path / "run" / "report.md").read_text(encoding="utf-8")


def test_a_run_that_was_stopped_goes_on_and_ends_as_if_it_had_not_been(source, tmp_path, monkeypatch):
    options = SHORT | {"steps": 4}
    adapt(*source, tmp_path / "whole", **options)
    own = adapting.scores
    calls = []

    def stop(model, batch):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return own(model, batch)

    monkeypatch.setattr(adapting, "scores", stop)
    with pytest.warns(UserWarning, match="interrupted after"):
        assert adapt(*source, tmp_path / "stopped", **options).interrupted
    assert not (tmp_path / "stopped" / "report.md").exists()
    monkeypatch.setattr(adapting, "scores", own)
    with pytest.raises(FileExistsError, match=r"a run with rate=0.001, and 0.01 is asked for"):
        adapt(*source, tmp_path / "stopped", rate=0.01, **options)
    adapt(*source, tmp_path / "stopped", **options)
    states = [
        moe.load_adapter(
            moe.heads.SemanticSam(moe.backbones.sam("pocket")), tmp_path / run / "adapter"
        ).state_dict()
        for run in ("whole", "stopped")
    ]
    assert all(torch.equal(values, states[1][name]) for name, values in states[0].items())


def test_it_stops_when_nothing_gets_better(source, tmp_path, monkeypatch):
    monkeypatch.setattr(adapting, "scores", lambda model, batch: {"IoU": torch.zeros(len(batch["image"]))})
    fitted = adapt(*source, tmp_path / "run", steps=20, batch=2, patience=3, device="cpu")
    assert fitted.history[-1]["step"] == 3


def test_nothing_is_overwritten(finished, source, tmp_path):
    with pytest.raises(FileExistsError, match="has a finished run; another folder, or --force"):
        adapt(*source, finished, **SHORT)
    copy = tmp_path / "copy"
    shutil.copytree(finished, copy)
    before = (copy / "report.md").read_text(encoding="utf-8")
    adapt(*source, copy, force=True, **(SHORT | {"steps": 1}))
    assert (copy / "report.md").read_text(encoding="utf-8") != before
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="not empty, and has no run to go on with"):
        adapt(*source, tmp_path / "mine", **SHORT)


def test_bad_folders(source, tmp_path):
    images, masks = (shutil.copytree(folder, tmp_path / folder.name) for folder in source)
    for wrong, says in (
        (dict(images=tmp_path / "no"), "there is no folder"),
        (dict(masks=tmp_path / "no"), "no folder"),
    ):
        with pytest.raises(ValueError, match=says):
            adapt(**({"images": images, "masks": masks, "out": tmp_path / "run"} | wrong), **SHORT)
    (masks / "scene_3.png").unlink()
    with pytest.raises(ValueError, match=r"1 names have no partner: scene_3; not in .*masks"):
        adapt(images, masks, tmp_path / "run", **SHORT)
    (images / "scene_3.jpg").unlink()
    Image.new("L", (5, 5)).save(masks / "scene_2.png")
    with pytest.raises(ValueError, match=r"scene_2\.png is 5×5, and its picture .* is 90×60"):
        adapt(images, masks, tmp_path / "run", **SHORT)
    Image.new("RGB", (90, 60)).save(masks / "scene_2.png")
    with pytest.raises(ValueError, match="has 3 channels; a mask has one"):
        adapt(images, masks, tmp_path / "run", **SHORT)
    for name in NAMES[4:]:
        (images / f"{name}.jpg").unlink()
        (masks / f"{name}.png").unlink()
    with pytest.raises(ValueError, match="has 3 pictures; at least 4"):
        adapt(images, masks, tmp_path / "run", **SHORT)
    with pytest.raises(ValueError, match="method is one of conv_lora, lora"):
        adapt(images, masks, tmp_path / "run", method="convlora")
    assert not (tmp_path / "run").exists()
    with pytest.raises(FileNotFoundError, match="no finished run"):
        predict(tmp_path, images, tmp_path / "found")


def test_a_name_is_held_out_whatever_the_others_are(source):
    learnt, held_out = pairs(Asked(*map(str, source)), 96)
    assert len(held_out) == 2 and len(learnt) == 6 and not set(learnt.names) & set(held_out.names)
    other = pairs(Asked(*map(str, source), seed=5), 96)[1]
    assert other.names != held_out.names


def test_the_commands(source, tmp_path, capsys):
    images, masks = map(str, source)
    ask = [
        "--images",
        images,
        "--masks",
        masks,
        "--out",
        str(tmp_path / "run"),
        "--steps",
        "1",
        "--batch",
        "2",
    ]
    assert commands.adapt_main([*ask, "--device", "cpu"]) == 0
    assert "report.md" in capsys.readouterr().out
    assert commands.adapt_main([*ask, "--batch", "2", "--device", "cpu"]) == 1
    assert capsys.readouterr().err.startswith("✗ ")
    found = ["--images", images, "--out", str(tmp_path / "found"), "--device", "cpu"]
    assert commands.predict_main([str(tmp_path / "run"), *found]) == 0
    assert "8 masks in" in capsys.readouterr().out


def test_the_commands_are_declared_and_explain_themselves():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert set(project["scripts"]) == {"moe-adapt", "moe-predict"}
    for name, place in project["scripts"].items():
        module, function = place.split(":")
        code = f"import sys, {module} as m; sys.argv[0] = {name!r}; sys.exit(m.{function}(['--help']))"
        run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
        assert run.returncode == 0 and f"usage: {name}" in run.stdout and "--force" in run.stdout
