"""The loop learns, resumes bit for bit, is the same for every method, and says what is wrong."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import train_run
from torch import nn
from train_run import RECIPE, Lines, loss, net, score

from moe_lib.train import LOG, STATE, Fitted, Recipe, evaluate, fit, groups, schedule, share_of

SCRIPT = Path(train_run.__file__)


def run(folder: Path | None = None, recipe: Recipe = RECIPE, model: nn.Module | None = None, **more) -> tuple:
    model = net() if model is None else model
    data, how = more.pop("data", Lines()), more.pop("loss", loss)
    held_out = {"held_out": Lines(20, seed=1), "score": score}
    return model, fit(model, data, how, recipe, folder=folder, device="cpu", **held_out, **more)


def same(one: nn.Module, other: nn.Module) -> bool:
    a, b = one.state_dict(), other.state_dict()
    assert len(a) > 4
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_it_learns_and_tells_how():
    model, fitted = run(recipe=replace(RECIPE, steps=60, every=0), data=Lines(200))
    assert [line["step"] for line in fitted.history] == list(range(0, 61, 6))
    assert "loss" not in fitted.history[0] and "right" in fitted.history[0]  # before the first step
    assert fitted.history[-1]["loss"] < 0.75 * fitted.history[1]["loss"]
    assert fitted.best("right")["right"] > 0.85 > fitted.history[0]["right"]
    steps, losses = fitted.curve("loss")
    assert steps == list(range(6, 61, 6)) and losses[0] == fitted.history[1]["loss"]
    assert fitted.seconds > 0 and not fitted.interrupted and not model.training


def test_the_model_is_left_at_its_best():
    model, fitted = run(recipe=replace(RECIPE, steps=9, rate=1.0, every=1))  # wild: there are ups and downs
    found = evaluate(model, Lines(20, seed=1), score)["right"]
    assert found == fitted.best("right")["right"]
    assert fitted.history[-1]["right"] < found


def test_without_a_score_the_last_step_counts():
    model = net()
    fitted = fit(model, Lines(), loss, RECIPE, device="cpu")
    assert set(fitted.history[-1]) == {"step", "loss"}
    again = net()
    fit(again, Lines(), loss, replace(RECIPE, every=3), device="cpu")
    assert same(model, again)  # when it is measured changes nothing


def test_the_same_seed_is_the_same_run_and_leaves_other_random_numbers_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    one = run(recipe=RECIPE, model=net_without_seed())[0]
    assert torch.equal(torch.rand(3), expected)
    torch.manual_seed(77)
    assert same(one, run(model=net_without_seed())[0])
    assert not same(one, run(recipe=replace(RECIPE, seed=1), model=net_without_seed())[0])


def net_without_seed() -> nn.Module:
    with torch.random.fork_rng():
        return net()


def test_every_method_sees_the_same_scenes_in_the_same_order():
    seen = {}

    def spying(name):
        def spy(model, batch):
            seen.setdefault(name, []).append(batch["x"])
            return loss(model, batch)

        return spy

    run(loss=spying("one"))
    frozen = net()
    frozen[0].requires_grad_(False)
    run(model=frozen, loss=spying("other"))
    assert len(seen["one"]) == 12
    assert all(torch.equal(a, b) for a, b in zip(seen["one"], seen["other"], strict=True))
    first_epoch = torch.cat(seen["one"])[:10]
    assert {tuple(x) for x in first_epoch.tolist()} == {
        tuple(x) for x in Lines().x.tolist()
    }  # each scene once


def test_only_what_asks_for_a_gradient_is_trained():
    model, before = net(), net()
    model[0].requires_grad_(False)
    fit(model, Lines(), loss, RECIPE, device="cpu")
    assert torch.equal(model[0].weight, before[0].weight)
    assert not torch.equal(model[4].weight, before[4].weight)


# Interrupted, killed, taken up.


def test_a_killed_run_goes_on_bit_for_bit(tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    run(whole)
    assert subprocess.run([sys.executable, SCRIPT, killed, "1", "7"]).returncode == -9
    assert torch.load(killed / STATE, weights_only=True)["step"] == 4
    run(killed)
    states = [torch.load(folder / STATE, weights_only=True) for folder in (whole, killed)]
    for part in ("now", "best"):
        assert states[0][part].keys() == states[1][part].keys() and len(states[0][part]) > 5
        assert all(torch.equal(v, states[1][part][n]) for n, v in states[0][part].items())
    assert (whole / LOG).read_text() == (killed / LOG).read_text()
    assert len((whole / LOG).read_text().splitlines()) == 4


def test_a_run_that_is_done_is_given_back(tmp_path):
    model, fitted = run(tmp_path)

    def never(model, batch):
        raise AssertionError("it should not train")

    again, same_fit = run(tmp_path, loss=never)
    assert same(model, again) and same_fit.history == fitted.history
    assert [json.loads(line) for line in (tmp_path / LOG).read_text().splitlines()] == fitted.history


def test_an_interrupt_keeps_the_best_so_far(tmp_path):
    calls = 0

    def impatient(model, batch):
        nonlocal calls
        calls += 1
        if calls == 11:
            raise KeyboardInterrupt
        return loss(model, batch)

    with pytest.warns(UserWarning, match="interrupted after 10 steps; the model is the best so far"):
        model, fitted = run(tmp_path, loss=impatient)
    assert fitted.interrupted and [line["step"] for line in fitted.history] == [0, 4, 8]
    assert evaluate(model, Lines(20, seed=1), score)["right"] == fitted.best("right")["right"]
    again, fitted = run(tmp_path)  # and goes on from the last validation
    assert same(again, run()[0]) and fitted.history[-1]["step"] == 12
    calls = 0
    with pytest.warns(UserWarning, match="the model is what its last step left"):
        fit(net(), Lines(), impatient, RECIPE, device="cpu")


def test_a_folder_with_another_run_is_left_alone(tmp_path):
    run(tmp_path)
    before = (tmp_path / STATE).read_bytes()
    with pytest.raises(ValueError, match=r"lies a run with rate=0.01, and 0.1 is asked for; another folder"):
        run(tmp_path, replace(RECIPE, rate=0.1))
    other = net()
    other[0].requires_grad_(False)
    with pytest.raises(ValueError, match="lies a run of another model or method"):
        run(tmp_path, model=other)
    assert (tmp_path / STATE).read_bytes() == before


@pytest.mark.slow
def test_two_devices_do_what_one_does(tmp_path):
    """In processes of their own, and with a part of the model that gets no gradient."""
    assert subprocess.run([sys.executable, SCRIPT, tmp_path / "two", "2"], timeout=300).returncode == 0
    run(tmp_path / "one", model=train_run.plain_net())
    one, two = (torch.load(tmp_path / name / STATE, weights_only=True) for name in ("one", "two"))
    assert two["step"] == 12
    for name, values in one["now"].items():
        torch.testing.assert_close(two["now"][name], values, rtol=1e-5, atol=1e-6)
    for a, b in zip(one["fitted"]["history"], two["fitted"]["history"], strict=True):
        assert a == pytest.approx(b, rel=1e-5)


# Parts.


def test_the_rate_rises_in_a_line_and_falls_along_a_cosine():
    rates = [schedule(step, Recipe(steps=100, warmup=50)) for step in range(100)]
    assert rates[:10] == pytest.approx([0.1 * (i + 1) for i in range(10)])  # a tenth of all is less than 50
    assert rates[10] == 1 and rates[55] == pytest.approx(0.505) and rates[99] < 0.02
    assert schedule(2, Recipe(steps=1000, warmup=5)) == pytest.approx(3 / 5)


def test_the_rate_may_fall_in_a_line():
    recipe = Recipe(steps=20, warmup=0, fall="line")
    shares = [schedule(step, recipe, recipe.fall) for step in range(20)]
    assert shares == pytest.approx([1 - step / 20 for step in range(20)])
    with pytest.raises(ValueError, match="fall is 'cosine' or 'line'"):
        Recipe(fall="steep")


def test_scenes_may_go_through_the_model_a_few_at_once():
    """A loss that is a mean does not notice; unequal parts count by their size."""
    found, losses = {}, {}
    for at_once in (0, 1, 3, 4):
        model = train_run.plain_net()
        fitted = fit(model, Lines(), loss, replace(RECIPE, at_once=at_once), device="cpu")
        found[at_once] = model[0].weight.detach().clone()
        losses[at_once] = [line["loss"] for line in fitted.history[1:]]
    for at_once, weights in found.items():
        torch.testing.assert_close(weights, found[0], rtol=1e-5, atol=1e-6)
        assert losses[at_once] == pytest.approx(losses[0], rel=1e-5)
    with pytest.raises(ValueError, match="at_once is a whole number"):
        Recipe(at_once=-1)


def test_augmentations_are_drawn_anew_in_each_epoch():
    class Watched(Lines):
        epoch, seen = 0, []

        def batch(self, indices, device):
            self.seen.append(self.epoch)
            return super().batch(indices, device)

    fit(train_run.plain_net(), Watched(), loss, RECIPE, device="cpu")
    assert Watched.seen == [step * 4 // 10 for step in range(12)]


def test_devices_share_what_one_would_take():
    recipe = Recipe(batch=6, seed=3)
    whole, seeds = share_of(recipe, 10, 4, 0, 1)
    parts = [share_of(recipe, 10, 4, rank, 3) for rank in range(3)]
    assert torch.equal(torch.cat([rows for rows, _ in parts]), whole)
    assert torch.equal(torch.cat([s for _, s in parts]), seeds)


def test_the_learning_rate_reaches_the_optimiser():
    rates = []

    class Watched(torch.optim.AdamW):
        def step(self, *args, **kwargs):
            rates.append([group["lr"] for group in self.param_groups])
            return super().step(*args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.optim, "AdamW", Watched)
        run()
    assert rates == [[RECIPE.rate * schedule(step, RECIPE)] * 2 for step in range(12)]


def test_biases_norms_and_places_do_not_decay():
    model = nn.ModuleDict({"a": nn.Linear(3, 4), "norm": nn.LayerNorm(4)})
    model.register_parameter("pos_embed", nn.Parameter(torch.zeros(2, 4)))
    model.register_parameter("frozen", nn.Parameter(torch.zeros(2, 4), requires_grad=False))
    decayed, plain = sorted(groups(model, 0.1), key=lambda group: -group["weight_decay"])
    assert decayed["weight_decay"] == 0.1 and plain["weight_decay"] == 0
    assert [p.shape for p in decayed["params"]] == [(4, 3)] and len(plain["params"]) == 4


def test_a_part_can_have_a_rate_of_its_own():
    model, before = net(), net()
    fit(model, Lines(), loss, replace(RECIPE, parts={"4": 1e-12}), device="cpu")
    assert (model[4].weight - before[4].weight).abs().max() < 1e-9
    assert (model[0].weight - before[0].weight).abs().max() > 1e-3
    again = net()
    fit(
        again,
        Lines(),
        loss,
        replace(RECIPE, rate=1e-12, parts={"0": 1e-2, "1": 1e-2, "4": 1e-2}),
        device="cpu",
    )
    whole = net()
    fit(whole, Lines(), loss, RECIPE, device="cpu")
    for a, b in zip(again.parameters(), whole.parameters(), strict=True):
        torch.testing.assert_close(a, b)
    with pytest.raises(ValueError, match="a rate is given for '44', and nothing that is trained begins with"):
        fit(net(), Lines(), loss, replace(RECIPE, parts={"44": 1.0}), device="cpu")


def test_a_gradient_is_clipped():
    model = nn.Linear(6, 1, bias=False)

    def steep(model, batch):
        return 1e4 * model(batch["x"]).mean()

    seen = []
    model.weight.register_post_accumulate_grad_hook(lambda p: seen.append(float(p.grad.norm())))
    before = model.weight.detach().clone()
    norms = []
    with pytest.MonkeyPatch.context() as patch:

        class Watched(torch.optim.AdamW):
            def step(self, *args, **kwargs):
                norms.append(float(model.weight.grad.norm()))
                return super().step(*args, **kwargs)

        patch.setattr(torch.optim, "AdamW", Watched)
        fit(model, Lines(), steep, replace(RECIPE, clip=0.5), device="cpu")
    assert min(seen) > 100 and max(norms) <= 0.5001 and not torch.equal(model.weight, before)


def test_several_values_are_logged():
    def two(model, batch):
        value = loss(model, batch)
        return {"loss": value + 1, "task": value}

    _, fitted = run(loss=two)
    assert fitted.history[-1]["loss"] == pytest.approx(fitted.history[-1]["task"] + 1)
    with pytest.raises(ValueError, match="of several values one is called 'loss'; got task"):
        run(loss=lambda model, batch: {"task": loss(model, batch)})


def test_evaluation_is_in_eval_mode_and_leaves_the_mode_alone():
    model = net().train()
    modes = []

    def watching(model, batch):
        modes.append(model.training)
        assert not torch.is_grad_enabled()
        return score(model, batch)

    found = evaluate(model, Lines(20, seed=1), watching, batch=8)
    assert modes == [False] * 3 and model.training
    assert found["right"] == pytest.approx(
        float(score(model.eval(), Lines(20, seed=1).batch(torch.arange(20), "cpu"))["right"].mean())
    )


@pytest.mark.parametrize(
    "call, error, said",
    [
        (
            lambda: run(loss=lambda m, b: loss(m, b) * float("nan")),
            FloatingPointError,
            "the loss is nan by step 4",
        ),
        (
            lambda: run(model=net().requires_grad_(False)),
            ValueError,
            "no parameter asks for a gradient; inject",
        ),
        (lambda: fit(net(), Lines(), loss, held_out=Lines()), ValueError, "validation takes both"),
        (lambda: Recipe(steps=0), ValueError, "steps is a whole number from 1, got 0"),
        (lambda: Recipe(batch=1.5), ValueError, "batch is a whole number from 1, got 1.5"),
        (lambda: Recipe(rate=-1.0), ValueError, "rate and clip are above 0, got -1.0 and 1.0"),
        (lambda: run(recipe=replace(RECIPE, clip=0)), ValueError, "rate and clip are above 0"),
    ],
)
def test_what_is_refused(call, error, said):
    with pytest.raises(error, match=said):
        call()


def test_a_gpu_that_is_not_there():
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    with pytest.raises(ValueError, match="device 'cuda' is not to be had on this machine"):
        fit(net(), Lines(), loss, device="cuda")


def test_the_first_of_several_best_lines():
    fitted = Fitted([{"step": 0}, {"step": 1, "a": 2.0}, {"step": 2, "a": 2.0}, {"step": 3, "a": 1.0}])
    assert fitted.best("a")["step"] == 1
