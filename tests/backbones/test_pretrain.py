"""Pretraining in small: it learns, resumes where it was killed, and two processes do what one does."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import tiny
import torch
from lightning_fabric import Fabric
from safetensors.torch import load_file

from moe_lib import backbones
from moe_lib.backbones import checkpoints
from moe_lib.backbones.pretrain import __main__ as command
from moe_lib.backbones.pretrain import loop, objectives
from moe_lib.backbones.pretrain.loop import LOG, STATE, Plan, Training, planned, schedule, share_of
from moe_lib.backbones.pretrain.objectives import Restorer
from moe_lib.backbones.pretrain.pool import Pool
from moe_lib.backbones.pretrain.reading import sentences

PLAN = Plan(model="sam", steps=6, batch=4, scenes=12, warmup=2)
RUN = Path(__file__).with_name("tiny_run.py")


def training(folder: Path, plan: Plan = PLAN) -> Training:
    folder.mkdir(exist_ok=True)
    fabric = Fabric(accelerator="cpu", devices=1)
    return Training(fabric, plan, tiny.objective(plan.model), tiny.pool(12), tiny.pool(4, seed=1), folder)


def lines(folder: Path) -> list[dict]:
    """The log, without what depends on the clock."""
    found = [json.loads(line) for line in (folder / LOG).read_text(encoding="utf-8").splitlines()]
    return [{key: value for key, value in line.items() if key != "seconds"} for line in found]


def same_state(one: Path, other: Path) -> bool:
    """Whether weights, their average and the optimiser's moments are equal to the last bit."""
    states = [torch.load(folder / STATE, weights_only=True) for folder in (one, other)]
    flat = []
    for state in states:
        values = {(part, name): v for part in ("module", "average") for name, v in state[part].items()}
        for number, entry in state["optimiser"]["state"].items():
            values |= {(number, name): v for name, v in entry.items()}
        flat.append(values)
    assert len(flat[0]) > 300
    return flat[0].keys() == flat[1].keys() and all(flat[0][key].equal(flat[1][key]) for key in flat[0])


@pytest.mark.parametrize("model", ["sam", "mae"])
def test_it_learns_the_scenes_it_sees(model, tmp_path):
    plan = replace(PLAN, model=model, steps=60, batch=12, average=0.9)
    run = training(tmp_path, plan)
    before = run.one_step()["loss"]
    run.run(every=30)
    assert run.one_step()["loss"] < 0.8 * before
    assert [line["step"] for line in lines(tmp_path)] == [30, 60]
    assert lines(tmp_path)[1]["images"] == 720


def test_a_run_that_is_taken_up_is_the_run_that_was_not_stopped(tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    training(whole).run(every=2)
    training(parts).run(every=2, until=2)
    training(parts).run(every=2, until=5)  # the fifth step was not kept, and is done again
    training(parts).run(every=2)
    assert lines(parts) == lines(whole) and len(lines(whole)) == 3
    assert same_state(whole, parts)


@pytest.fixture
def one_thread():
    """As the processes of ``tiny_run.py`` have it: sums come in the same order."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.slow
def test_a_killed_run_goes_on_bit_for_bit(tmp_path, one_thread):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    call = [sys.executable, str(RUN), str(killed), "6", "4", "0.5"]
    run = subprocess.Popen(call, stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + 120
    while not (killed / STATE).exists() and run.poll() is None and time.monotonic() < until:
        time.sleep(0.05)
    os.kill(run.pid, signal.SIGKILL)
    assert run.wait() == -signal.SIGKILL, run.stderr.read()
    assert 2 <= torch.load(killed / STATE, weights_only=True)["step"] < 6
    for folder in (killed, whole):
        training(folder).run(every=2)
    assert lines(killed) == lines(whole)
    assert same_state(killed, whole)


def test_a_kill_while_the_state_is_written_leaves_the_old_one(tmp_path, monkeypatch):
    training(tmp_path).run(every=2, until=2)
    again = training(tmp_path)

    def dies(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(loop.os, "replace", dies)
    with pytest.raises(KeyboardInterrupt):
        again.run(every=2)
    assert planned(tmp_path) == PLAN
    assert training(tmp_path).step == 2
    assert [line["step"] for line in lines(tmp_path)] == [2]  # what was logged after it is struck out


@pytest.mark.slow
def test_two_processes_do_what_one_does(tmp_path, one_thread):
    one, two = tmp_path / "one", tmp_path / "two"
    run = training(one, replace(PLAN, batch=8))
    alone = [float(run.one_step()["loss"]) for _ in range(6)]
    fabric = shutil.which("fabric", path=Path(sys.executable).parent)
    call = [fabric, "run", "--accelerator", "cpu", "--devices", "2", "--strategy", "ddp"]
    done = subprocess.run([*call, str(RUN), str(two), "6", "8"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    both = [json.loads((two / f"loss-{rank}.json").read_text()) for rank in (0, 1)]
    assert len(set(alone)) == 6
    assert both[0] == pytest.approx(alone, abs=1e-5) and both[1] == pytest.approx(alone, abs=1e-5)
    assert sum(line["loss"] for line in lines(two)) / 3 == pytest.approx(sum(alone) / 6, abs=2e-5)


@pytest.mark.parametrize("step", [0, 1, 5])
def test_processes_share_what_one_would_take(step):
    rows, seeds = share_of(PLAN, 10, step, 0, 1)
    parts = [share_of(PLAN, 10, step, rank, 2) for rank in (0, 1)]
    assert torch.equal(torch.cat([part[0] for part in parts]), rows)
    assert torch.equal(torch.cat([part[1] for part in parts]), seeds)


def test_every_scene_comes_once_an_epoch_with_another_seed_each_time():
    taken = [share_of(PLAN, 10, step, 0, 1) for step in range(10)]
    rows, seeds = (torch.cat([part[i] for part in taken]) for i in (0, 1))
    epochs = rows.view(4, 10)
    assert all(sorted(epoch.tolist()) == list(range(10)) for epoch in epochs)
    assert not torch.equal(epochs[0], epochs[1]) and len(seeds.unique()) == 40
    assert not torch.equal(share_of(replace(PLAN, seed=1), 10, 0, 0, 1)[0], taken[0][0])


def test_the_rate_rises_in_a_line_and_falls_along_a_cosine():
    plan = Plan(model="sam", steps=1000, warmup=100)
    shares = [schedule(step, plan) for step in range(1000)]
    assert shares[:100] == pytest.approx([(i + 1) / 100 for i in range(100)])
    assert max(shares) == 1 and shares[550] == pytest.approx(0.505, abs=0.01)
    assert shares[-1] == pytest.approx(0.01, abs=1e-4)
    assert schedule(9, replace(plan, steps=100)) == 1  # of few steps a tenth


def test_minutes_become_steps_at_the_pace_of_the_first_ones(tmp_path, monkeypatch):
    clock = iter([100.0, 100.0 + 5.0])  # ten steps take five seconds
    run = training(tmp_path, replace(PLAN, steps=0))
    monkeypatch.setattr(loop.time, "perf_counter", lambda: next(clock))
    run.find_pace(2)
    assert run.plan.steps == 240 and run.step == loop.PROBE


def test_a_frozen_encoder_stays_as_it_was_drawn(tmp_path):
    run = training(tmp_path, replace(PLAN, frozen_encoder=True))
    before = {name: values.clone() for name, values in run.model.state_dict().items()}
    run.run()
    changed = {
        name.split(".")[0]
        for name, values in run.model.state_dict().items()
        if not values.equal(before[name])
    }
    assert changed == {"prompt_encoder", "mask_decoder"}


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path):
    run = training(tmp_path)
    with torch.no_grad():
        run.model.mask_decoder.iou_token.weight.fill_(float("nan"))
    with pytest.raises(FloatingPointError, match="the loss is nan by step 2; a smaller --rate"):
        run.run(every=2)
    assert not (tmp_path / STATE).exists()


def test_turned_scenes_are_turned_alike():
    scenes = tiny.pool(64).scenes(torch.arange(64))
    found = objectives.turned(scenes, torch.arange(64, dtype=torch.int32))
    kinds = set()
    for before, after, b, a in zip(scenes.image, found.image, scenes.instances, found.instances, strict=True):
        turns = [(k, f) for k in range(4) for f in (0, 1)]
        fits = [
            turn for turn in turns
            if torch.equal(after, (before.flip(-1) if turn[1] else before).rot90(turn[0], (-2, -1)))
        ]  # fmt: skip
        assert len(fits) == 1
        kinds.add(fits[0])
        assert torch.equal(a, (b.flip(-1) if fits[0][1] else b).rot90(fits[0][0], (-2, -1)))
    assert len(kinds) == 8


def test_jittered_boxes_stay_near():
    boxes = torch.tensor([10.0, 20, 30, 60]).expand(500, 4, 4)
    shift = objectives.jittered(boxes, torch.arange(500, dtype=torch.int32)) - boxes
    largest = torch.tensor([2.0, 4, 2, 4])
    assert (shift.abs() <= largest).all() and (shift.abs().amax((0, 1)) > 0.98 * largest).all()
    assert (shift.mean((0, 1)).abs() < 0.1 * largest).all()


def test_only_the_best_of_three_and_the_single_mask_are_taught():
    truth = torch.zeros(1, 1, 16, 16, dtype=torch.bool)
    truth[..., :8] = True
    small = torch.randn(1, 1, 4, 8, 8, requires_grad=True)
    with torch.no_grad():
        small[0, 0, 2] = torch.where(torch.arange(8) < 4, 4.0, -4.0)
    quality = torch.tensor([[[0.0, 0.1, 0.9, 0.2]]])
    answer = objectives.Answer(small, quality, truth)
    answer.loss.backward()
    taught = [bool(part.abs().sum() > 0) for part in small.grad[0, 0]]
    assert taught == [True, False, True, False]
    assert answer.iou == 1 and answer.error == pytest.approx(0.1) and torch.equal(answer.chosen[1], truth)


def call(monkeypatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["pretrain", *map(str, arguments)])
    command.main()


@pytest.fixture
def few_scenes(monkeypatch):
    """The command, with scenes of a kind that need no rendering and models of a few thousand parameters."""
    sizes = {"sam": tiny.SIZES, "sam_global": tiny.GLOBAL, "mae": tiny.GLOBAL}
    monkeypatch.setattr(command, "MODELS", sizes)
    monkeypatch.setattr(command, "pool", lambda split, n: tiny.pool(min(n, 8), seed=len(split)))


@pytest.mark.parametrize("model", ["sam", "sam_global", "mae"])
def test_the_command_from_end_to_end(model, tmp_path, monkeypatch, capsys, few_scenes):
    out = tmp_path / "run"
    call(monkeypatch, model, "--steps", 3, "--batch", 2, "--scenes", 8, "--device", "cpu", "--out", out)
    assert f"{model}: 3 steps of 2 scenes on cpu" in capsys.readouterr().out
    assert {path.name for path in out.iterdir()} == {f"{model}.safetensors", LOG, STATE}
    card = checkpoints.read_card(out / f"{model}.safetensors")
    assert (card["images"], card["plan"]["steps"], card["processes"]) == (6, 3, 1)
    assert set(card["held_out"]) == {key for key in lines(out)[-1] if key.startswith("held-out")}
    fresh = command.fresh(Plan(model=model, steps=1)).model
    before = [values.clone() for values in fresh.parameters()]
    checkpoints.load(fresh, out / f"{model}.safetensors")
    assert not all(torch.equal(a, b) for a, b in zip(before, fresh.parameters(), strict=True))

    with pytest.raises(SystemExit, match=f"{out} is not empty; --resume goes on with it, --out names"):
        call(monkeypatch, model, "--steps", 3, "--out", out)
    with pytest.raises(SystemExit, match=f"the run in {out} is of {model}, not of text"):
        call(monkeypatch, "text", "--resume", "--out", out)
    call(monkeypatch, model, "--resume", "--device", "cpu", "--out", out)  # is at its end, and says so again
    assert len(lines(out)) == 3


@pytest.mark.parametrize("model", ["hiera", "vit", "text"])
def test_encoders_are_shipped_without_what_they_were_asked_through(model, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(command, "pool", lambda split, n: enlarged(tiny.pool(8, seed=len(split))))
    monkeypatch.setattr(command, "HELD_OUT", 8)
    out = tmp_path / "run"
    call(monkeypatch, model, "--steps", 2, "--batch", 2, "--scenes", 8, "--device", "cpu", "--out", out)
    path = out / f"{model}.safetensors"
    card = checkpoints.read_card(path)
    assert card["images"] == 4 and ("sentences" in card["task"]) == (model == "text")
    fresh = getattr(backbones, model)(weights=False)
    built = getattr(backbones, model)(checkpoint=path)
    assert not built.training and not any(values.requires_grad for values in built.parameters())
    before = [values.clone() for values in fresh.parameters()]
    assert not all(torch.equal(a, b) for a, b in zip(before, built.parameters(), strict=True))
    begun = command.kept(command.fresh(Plan(model=model, steps=1, begin=str(path))).model)
    assert all(torch.equal(a, b) for a, b in zip(begun.parameters(), built.parameters(), strict=True))


def enlarged(pool: Pool) -> Pool:
    """Scenes of 96 pixels, for models that have but one size."""
    image, instances = (
        x.repeat_interleave(3, -1).repeat_interleave(3, -2) for x in (pool.image, pool.instances)
    )
    return Pool(image, instances, pool.visible)


@torch.no_grad()
def test_hidden_patches_are_hidden_from_the_vit():
    """What is painted does not depend on the pixels of hidden patches, and does on those of others."""
    torch.manual_seed(0)
    model = Restorer(backbones.vit(weights=False)).eval()
    torch.nn.init.normal_(model.hidden), torch.nn.init.normal_(model.vit.vit.pos_embed, std=0.3)
    image, kept = torch.rand(2, 3, 96, 96), model.keep(torch.arange(2, dtype=torch.int32))
    assert 0.35 < kept.float().mean() < 0.65 and not torch.equal(kept[0], kept[1])
    hidden = (~kept).view(2, 1, 12, 12).repeat_interleave(8, -1).repeat_interleave(8, -2)

    def seen(x):
        return model.vit.enter(x, hidden=(~kept, model.hidden))[0]

    assert torch.equal(seen(image), seen(torch.where(hidden, 0.5, image)))
    assert not torch.equal(seen(image), seen(torch.where(hidden, image, 0.5)))
    assert model.loss(image, kept).shape == (2,)


def test_sentences_come_from_their_own_split_and_every_form_is_there():
    learnt, held_out = sentences("pretrain", 90), sentences("pretrain_val", 30)
    assert learnt.tokens.shape == (90, 16) and len(set(learnt.form.tolist())) > 6
    assert not {tuple(t) for t in learnt.tokens.tolist()} >= {tuple(t) for t in held_out.tokens.tolist()}
    assert torch.equal(sentences("pretrain", 9).tokens, learnt.tokens[:9])


@pytest.mark.parametrize("model", ["sam", "mae"])
def test_training_on_from_weights_that_are_there(model, tmp_path, monkeypatch, few_scenes):
    first, second = tmp_path / "first", tmp_path / "second"
    weights = first / f"{model}.safetensors"
    call(monkeypatch, model, "--steps", 2, "--batch", 2, "--scenes", 8, "--device", "cpu", "--out", first)
    begun = command.fresh(Plan(model=model, steps=1, begin=str(weights))).model
    written = load_file(weights)
    for name, values in begun.state_dict().items():
        assert torch.equal(values.half(), written[name]), name
    on = ("--begin", weights, "--steps", 3, "--batch", 4, "--scenes", 8, "--device", "cpu", "--out", second)
    call(monkeypatch, model, *on)
    earlier, card = checkpoints.read_card(weights), checkpoints.read_card(second / f"{model}.safetensors")
    assert card["images"] == 2 * 2 + 3 * 4
    assert card["before"] == earlier and "before" not in earlier


def test_what_the_command_refuses(tmp_path, monkeypatch, capsys, few_scenes):
    with pytest.raises(SystemExit, match=r"nothing to resume in .*; without --resume a run is begun there"):
        call(monkeypatch, "sam", "--resume", "--out", tmp_path / "none")
    for model in ("vit", "text"):
        with pytest.raises(SystemExit, match=f"{model} is an encoder alone; nothing of it is left to train"):
            call(monkeypatch, model, "--frozen-encoder", "--steps", 1, "--device", "cpu", "--out", tmp_path)
    if not torch.cuda.is_available():
        with pytest.raises((SystemExit, RuntimeError, ValueError), match=r"(?i)cuda"):
            call(monkeypatch, "sam", "--steps", 1, "--device", "cuda", "--out", tmp_path / "a")
    with pytest.raises(SystemExit):
        call(monkeypatch, "vit_h")
    assert "invalid choice: 'vit_h'" in capsys.readouterr().err
