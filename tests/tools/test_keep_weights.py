"""A finished run becomes the library's own, with its log; one that began elsewhere is refused."""

import json
import re
import shutil
from dataclasses import asdict

import keep_weights
import pytest

from moe_lib import backbones
from moe_lib.backbones import checkpoints, registry
from moe_lib.backbones.pretrain.loop import Plan
from moe_lib.results import environment

LINES = [{"step": step, "images": 32 * step, "seconds": 10.0 * step, "held-out loss": 0.5} for step in (1, 2)]


@pytest.fixture
def weights(tmp_path):
    """A copy of what the library ships beside its weights."""
    folder = tmp_path / "weights"
    folder.mkdir()
    for name in ("training.json", "encoders.json", "README.md"):
        shutil.copy(registry.WEIGHTS / name, folder / name)
    return folder


@pytest.fixture
def scored(monkeypatch):
    monkeypatch.setattr(keep_weights, "half_scores", lambda *_: {"loss": 0.5})


def finished(folder, *, before: int = 0, **plan):
    """What `pretrain` leaves of a run of two steps."""
    plan = Plan(**{"model": "mae", "steps": 2, "batch": 32, **plan})
    folder.mkdir()
    card = {
        "model": plan.model, "plan": asdict(plan), "images": 64 + before, "hours": 0.5, "processes": 2,
        "precision": "bf16-mixed", "world": "abc", "environment": environment("cpu"),
        "held_out": {"held-out 1 click": 0.7, "held-out 2 clicks": 0.75, "held-out box": 0.8},
    }  # fmt: skip
    family, name = ("mae", "pocket") if plan.model == "mae" else ("sam", "pocket")
    model = getattr(backbones, family)(name, weights=False)
    checkpoints.save(model, folder / f"{plan.model}.safetensors", card)
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in LINES))
    return folder


def kept(weights, job):
    record = json.loads((weights / "training.json").read_text())
    (run,) = [run for run in record["runs"] if run["job"] == job]
    return record, run


@pytest.mark.usefixtures("scored")
def test_a_new_run_replaces_the_old_one_and_nothing_else(tmp_path, weights):
    old, _ = kept(weights, "mae")
    folder = finished(tmp_path / "run")
    assert keep_weights.keep(folder, weights) == "mae"
    record, run = kept(weights, "mae")
    assert [one["job"] for one in record["runs"]] == [one["job"] for one in old["runs"]]
    others = [one for one in record["runs"] if one["job"] != "mae"]
    assert others == [one for one in old["runs"] if one["job"] != "mae"]
    for one in others:
        assert record["environments"][one["made"]] == old["environments"][one["made"]]
    assert run["log"] == LINES and run["images"] == 64 and run["held_out_half"] == {"loss": 0.5}
    assert record["environments"][run["made"]] == environment("cpu")
    state, card = checkpoints.read(weights / "mae.safetensors")
    assert card["held_out_half"] == {"loss": 0.5}
    assert all(
        state[name].equal(value) for name, value in checkpoints.read(folder / "mae.safetensors")[0].items()
    )
    table = (weights / "README.md").read_text()
    assert '| `mae.safetensors` | `mae("pocket")` | 64 | 0.700 | 0.750 | 0.800 |' in table
    assert len(table.splitlines()) == len((registry.WEIGHTS / "README.md").read_text().splitlines())


@pytest.mark.usefixtures("scored")
def test_a_run_that_went_on_continues_the_log(tmp_path, weights):
    _, old = kept(weights, "sam")
    folder = finished(tmp_path / "run", model="sam", begin="sam.safetensors", before=old["images"])
    keep_weights.keep(folder, weights)
    record, run = kept(weights, "sam")
    assert run["images"] == old["images"] + 64 and run["log"][:-2] == old["log"]
    assert [line["images"] - old["images"] for line in run["log"][-2:]] == [32, 64]
    assert run["log"][-1]["seconds"] == round(3600 * old["hours"] + 20, 1)
    assert run["before"] == {name: value for name, value in old.items() if name != "log"}
    assert record["environments"][run["before"]["made"]]["device"].startswith("cuda")
    assert record["environments"][run["made"]] == environment("cpu")


@pytest.mark.usefixtures("scored")
def test_weights_that_began_elsewhere_are_refused(tmp_path, weights):
    folder = finished(tmp_path / "run", model="sam", begin="other.safetensors", before=1000)
    with pytest.raises(SystemExit, match=r"saw 64 of 1,064 pictures itself.*began from other weights"):
        keep_weights.keep(folder, weights)
    assert not (weights / "sam.safetensors").exists()


@pytest.mark.usefixtures("scored")
def test_of_a_control_only_the_log_is_kept(tmp_path, weights):
    readme = (weights / "README.md").read_text()
    folder = finished(tmp_path / "run", model="sam", frozen_encoder=True)
    assert keep_weights.keep(folder, weights) == "control"
    assert kept(weights, "control")[1]["log"] == LINES and kept(weights, "sam")[1]["images"] > 64
    assert not list(weights.glob("*.safetensors")) and (weights / "README.md").read_text() == readme


def test_what_no_run_made_is_forgotten(tmp_path):
    path = tmp_path / "record.json"
    runs = [{"job": "a", "made": 2, "before": {"job": "a", "made": 0}}, {"job": "b", "made": 2}]
    keep_weights.write(path, [{"n": 0}, {"n": 1}, {"n": 2}], runs)
    found = json.loads(path.read_text())
    assert found["environments"] == [{"n": 0}, {"n": 2}]
    assert [run["made"] for run in found["runs"]] == [1, 1] and found["runs"][0]["before"]["made"] == 0


def test_an_unfinished_run_is_refused(tmp_path, weights):
    with pytest.raises(SystemExit, match="holds 0 files of weights; a finished run holds one"):
        keep_weights.keep(tmp_path, weights)


def test_the_command_that_is_noted_parses_to_the_same_plan():
    from moe_lib.backbones.pretrain.__main__ import _parser, _plan

    plan = Plan("sam", 40, batch=32, rate=5e-4, begin="a.safetensors", frozen_encoder=True)
    card = {"environment": {"device": "cpu (x86_64)"}, "processes": 1, "precision": "32-true"}
    line = keep_weights.command(plan, card)
    words = line.removeprefix("python -m moe_lib.backbones.pretrain ").split()
    assert _plan(_parser().parse_args(words), type("", (), {"world_size": 1})) == plan
    two = keep_weights.command(plan, card | {"processes": 2})
    assert re.match(r"fabric run --accelerator cpu --devices 2 --precision 32-true moe_lib/backbones/", two)
    assert two.endswith(" ".join(words[:-2]))


def test_the_shipped_weights_score_in_half_precision_what_their_record_says():
    run = next(
        run
        for run in json.loads((registry.WEIGHTS / "training.json").read_text())["runs"]
        if run["job"] == "mae"
    )
    found = keep_weights.half_scores(registry.WEIGHTS / "mae.safetensors", Plan(**run["plan"]))
    assert found == pytest.approx(run["held_out_half"], abs=1e-3)
    assert keep_weights.half_scores(registry.WEIGHTS / "vit.safetensors", Plan("vit", 1)) == {}
