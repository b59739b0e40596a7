"""What chapter 04 builds is right: the layer by hand, its controls, its measures, exercises."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from freshness import ROOT
from lift import lift
from torch import nn

import moe_lib as moe
from moe_lib import routing

CHAPTER = lift(
    ROOT / "chapters" / "04_conv_lora.ipynb",
    *("Bottleneck", "Expert", "Router", "Mixture", "the_librarys", "rows_read", "ShuffledLinear", "Shuffled"),
    *("arms", "plan", "pair_distances", "attention_distance", "thirds", "look_inside", "score", "energy_map"),
    *("values_of", "gain", "own_scale", "measure", "kept_runs", "in_turns", "ratios_of"),
    *("task_loss", "train", "as_published", "PAPERS_SETS"),
    *("more_than_lora", "combined", "excess", "reading", "fast", "least", "told", "encoder_gflop"),
    compute=["arms"],
    where=torch.device("cpu"),
    batch_size=2,
)


@pytest.fixture(autouse=True)
def the_same_numbers_every_time():
    torch.manual_seed(0)


def mixture(width=10, outputs=30, rank=3, experts=8):
    made = CHAPTER.Bottleneck(width, outputs, rank, 32, CHAPTER.Mixture(rank, experts))
    with torch.no_grad():
        for p in made.parameters():
            if p.requires_grad:
                p.add_(0.3 * torch.randn_like(p))
    return made


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("size", [(5, 7), (1, 1), (12, 12)])
def test_the_layer_by_hand_is_the_librarys(training, size):
    ours = mixture().train(training)
    theirs = CHAPTER.the_librarys(ours).train(training)
    x, weights = torch.randn(9, *size, 10), torch.randn(9, *size, 30)
    ours.inside.noise = noise = torch.randn(9, 8)
    losses = (ours(x) * weights).sum(), (theirs(x, noise=noise) * weights).sum()
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(ours.inside.balance, moe.balance_loss(theirs))
    for loss in losses:
        loss.backward()
    torch.testing.assert_close(ours.A.grad, theirs.A.grad, rtol=1e-3, atol=1e-3)
    for e, expert in enumerate(ours.inside.experts):
        found = expert.conv.weight.grad
        found = torch.zeros(3, 3, 3, 3) if found is None else found
        torch.testing.assert_close(found, theirs.experts.weight.grad[e], rtol=1e-3, atol=1e-3)


def test_the_task_does_not_reach_the_router_by_hand_either():
    ours = mixture()
    ours(torch.randn(6, 4, 4, 10)).square().sum().backward()
    assert not any(p.grad is not None and p.grad.any() for p in ours.inside.router.parameters())


@pytest.mark.parametrize("ratio, rows", [(1, 1), (2, 4), (3, 1), (8, 4)])
def test_rows_that_shrinking_reads(ratio, rows):
    assert CHAPTER.rows_read(ratio) == rows


def test_shuffled_experts_see_other_neighbours_and_answer_in_place():
    base = nn.Linear(8, 24).requires_grad_(False)
    layer = CHAPTER.Shuffled(ratios=(1,) * 8).wrap(base, "qkv").eval()
    u = torch.zeros(1, 5, 5, 3)
    u[0, 2, 2] = 1
    layer(torch.randn(1, 5, 5, 8))
    with torch.no_grad():
        plain = moe.ConvLoRALinear.mixture(layer, u, layer.routing)
        mixed = layer.mixture(u, layer.routing)
    assert (mixed[0, 2, 2] - plain[0, 2, 2]).abs().max() < 1e-6, "a token's effect on itself stays"
    assert (mixed - plain).abs().max() > 1e-3
    # In its own order the shuffled map is a convolution of shuffled tokens.
    order = torch.randperm(25, generator=torch.Generator().manual_seed(25))
    again = moe.ConvLoRALinear.mixture(layer, u.flatten(1, 2)[:, order].unflatten(1, (5, 5)), layer.routing)
    torch.testing.assert_close(mixed.flatten(1, 2)[:, order], again.flatten(1, 2))


def test_arms_are_controls_of_each_other():
    def count(arm):
        model = moe.heads.SemanticSam(moe.backbones.sam("pocket"))
        return moe.trainable_parameters(moe.inject(model, CHAPTER.arms[arm])).trainable

    counts = {arm: count(arm) for arm in CHAPTER.arms}
    decoder = counts["decoder"]
    assert counts["LoRA"] - decoder == 8 * 12 * 128
    assert counts["Conv-LoRA"] - decoder == 8 * (12 * 128 + 720)
    assert counts["LoRA"] < counts["Conv-LoRA"] < counts["LoRA, rank 5"]
    assert counts["shuffled"] == counts["Conv-LoRA"] == counts["switch"]
    scales = {arm: m.alpha / m.rank for arm, m in CHAPTER.arms.items() if hasattr(m, "rank")}
    assert set(round(s, 6) for s in scales.values()) == {round(32 / 3, 6)}
    assert all(arm in CHAPTER.arms for some in CHAPTER.plan.values() for arm in some)


def test_distance_of_attention_that_is_the_same_everywhere():
    assert float(CHAPTER.pair_distances(8).mean()) == pytest.approx(4.14, abs=0.01)
    assert float(CHAPTER.pair_distances(14).mean()) == pytest.approx(7.28, abs=0.01)


def test_what_is_seen_inside_a_model():
    model = moe.heads.SemanticSam(moe.backbones.sam("pocket"))
    moe.inject(model, CHAPTER.arms["Conv-LoRA"])
    batch = moe.worlds.task("cells", "test", 6).batch(range(6))
    inside = CHAPTER.look_inside(model.eval(), batch)
    assert set(inside) == {"distance", "used", "bits"}
    assert 1 < inside["distance"] < 8
    assert inside["used"] == pytest.approx(1), "a fresh gate has equal logits: the first expert always"
    assert list(CHAPTER.attention_distance(model, batch)) == [1, 3, 5, 7]
    model = moe.inject(moe.heads.SemanticSam(moe.backbones.sam("pocket")), CHAPTER.arms["sum"])
    assert CHAPTER.look_inside(model.eval(), batch)["used"] == pytest.approx(8, rel=1e-4)


def test_thirds_are_thirds():
    mask = torch.zeros(9, 10, 10)
    for i in range(9):
        mask[i].view(-1)[: 5 * i + 5] = 1
    assert CHAPTER.thirds(mask).tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]


def fake_found(seeds=3):
    random = np.random.default_rng(0)
    return {
        (domain, arm): [
            {"test": random.random(), "val": random.random(), "distance": random.random(),
             "used": random.random(), "bits": random.random()}
            for _ in range(seeds)
        ]
        for domain, some in CHAPTER.plan.items() for arm in some
    }  # fmt: skip


def test_measures_are_paired_differences():
    found = fake_found()
    measured = CHAPTER.measure(found)
    assert all(len(values) == 3 for values in measured.values())
    seed = 1
    by_hand = np.mean(
        [
            found[d, "Conv-LoRA"][seed]["test"] - found[d, "LoRA, rank 5"][seed]["test"]
            for d in ("roads", "cells", "polyps", "camouflage")
        ]
    )
    assert measured["conv_minus_lora"][seed] == pytest.approx(by_hand)
    assert measured["used_without_balance"][seed] == found["cells", "λ = 0"][seed]["used"]


def test_the_own_scale_is_chosen_on_validation_scenes():
    found = fake_found()
    for domain, best in (("cells", "ratio 2"), ("camouflage", "ratio 8")):
        for arm in ("ratio 1", "ratio 2", "ratio 4", "ratio 8"):
            for run in found[domain, arm]:
                run["val"] = float(arm == best)
    gained, best = CHAPTER.own_scale(found)
    assert best == {"cells": "ratio 2", "camouflage": "ratio 8"}
    cells, camouflage = (
        found["cells", "ratio 2"][0]["test"] - found["cells", "ratio 8"][0]["test"],
        found["camouflage", "ratio 8"][0]["test"] - found["camouflage", "ratio 2"][0]["test"],
    )
    assert gained[0] == pytest.approx((cells + camouflage) / 2)
    for run in found["camouflage", "ratio 2"]:
        run["val"] = 2.0
    assert not CHAPTER.own_scale(found)[0].any(), "the same ratio for both gains nothing"


def test_a_kept_run_comes_back_as_it_was():
    found = fake_found()
    quantities = {
        f"{domain} {arm} {what}": moe.quantity([run[what] for run in runs])
        for (domain, arm), runs in found.items()
        for what in runs[0]
    } | {"conv_minus_lora": moe.quantity([0.0, 1.0, 2.0])}
    again = CHAPTER.kept_runs({"quantities": quantities})
    assert again == found


def test_times_are_taken_in_turns():
    asked = []
    times = CHAPTER.in_turns({"a": lambda: asked.append("a"), "b": lambda: asked.append("b")}, 2)
    assert asked == ["a", "b"] * 3 and {name: len(t) for name, t in times.items()} == {"a": 2, "b": 2}
    assert CHAPTER.ratios_of({"a": [2.0, 3.0], "b": [1.0, 2.0]}, "a", "b") == [2.0, 1.5]


@pytest.mark.parametrize("domain", ["roads", "semantic"])
def test_a_step_of_training(domain):
    data = moe.worlds.task(domain, "train", 4)
    model = CHAPTER.train(domain, CHAPTER.arms["Conv-LoRA"], 0, data, 1e-3, 1e-3, 1)
    assert model.classes == (12 if domain == "semantic" else 1)
    assert 0 <= CHAPTER.score(model, data) <= 1
    moved = {n for n, p in model.named_parameters() if p.requires_grad and n.endswith("qkv.B") and p.any()}
    assert len(moved) == 8


def test_energy_of_kernels_sums_to_one_and_narrows():
    weights = torch.rand(5, 1, 1, 3, 3) * 2 - 1
    maps = [CHAPTER.energy_map(weights, ratio) for ratio in (1, 3, 8)]
    assert all(float(m.sum()) == pytest.approx(1) for m in maps)
    middles = [float(m[2, 2]) for m in maps]
    assert middles == sorted(middles) and middles[0] < 0.3 and middles[2] > 0.7


def test_floating_point_operations_of_the_real_encoder():
    # One block of ViT-B with global attention: 12 d² N and 2 N² d multiplications.
    one = CHAPTER.encoder_gflop(768, 5) - CHAPTER.encoder_gflop(768, 4)
    assert one == pytest.approx(2 * (12 * 768**2 * 4096 + 2 * 25 * 196**2 * 768) / 1e9)


# Exercises: the solutions are right, and checks of wrong ones are in the notebook's own asserts.


def test_solutions():
    assert CHAPTER.more_than_lora(3, 8) == 720
    said = torch.randn(4, 2, 3)
    torch.testing.assert_close(CHAPTER.combined(said), said.logsumexp(0))
    assert CHAPTER.excess(5) == pytest.approx(math.log(5))
    assert CHAPTER.least(1, 8) == pytest.approx(8) and CHAPTER.least(8, 8) == 0
    even = torch.zeros(8)
    even[:3] = 1
    assert CHAPTER.least(3, 8) == pytest.approx(float(routing.cv_squared(even)), rel=1e-5)


@pytest.mark.parametrize("ratio", [1, 3, 7])
def test_the_fast_odd_expert(ratio):
    expert, u = CHAPTER.Expert(2, ratio), torch.randn(2, 2, 4, 9)
    nn.init.normal_(expert.conv.bias)
    torch.testing.assert_close(CHAPTER.fast(u, expert), expert(u), rtol=1e-4, atol=1e-5)


def test_a_router_that_is_told():
    logits = torch.randn(5, 8, requires_grad=True)
    gates = CHAPTER.told(logits)
    assert torch.equal(gates.detach(), F.one_hot(logits.argmax(-1), 8).float())
    gates.sum().backward()
    assert logits.grad.any()


def test_the_papers_sets_run_as_published(tmp_path, monkeypatch, capsys):
    """Every task that has its folders, with three methods; what is done is kept, what is missing is said."""
    calls = []

    def run(sam, task, roots, folder, *, method, **how):
        calls.append((sam, task, [root.name for root in roots], method, how))
        folder.mkdir(parents=True)
        (folder / "scores.json").write_text('{"scores": {"x": {"iou": 0.5}}}')

    monkeypatch.setattr(CHAPTER.paper, "run", run)
    monkeypatch.setattr(CHAPTER, "out", str(tmp_path / "out"), raising=False)
    monkeypatch.setattr(moe.backbones, "sam", lambda *which: which)
    for name in ("kvasir", "cvc_clinicdb", "trans10k"):
        (tmp_path / name).mkdir()
    found = CHAPTER.as_published(tmp_path, "file.pth", device="cpu")
    methods = ("decoder", "lora", "conv_lora")
    assert calls == [
        (("vit_h", "file.pth"), task, names, method, {"device": "cpu"})
        for task, names in (("polyps", ["kvasir", "cvc_clinicdb"]), ("transparent", ["trans10k"]))
        for method in methods
    ]
    assert found["polyps", "lora"] == {"x": {"iou": 0.5}} and len(found) == 6
    assert capsys.readouterr().out.count("left out") == 5
    assert CHAPTER.as_published(tmp_path, "file.pth") == found and len(calls) == 6
    assert CHAPTER.PAPERS_SETS.keys() == CHAPTER.paper.TASKS.keys()
