"""What chapter 03 builds is right: routers by hand, losses, the toy, experts in an encoder, exercises."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from freshness import ROOT
from lift import lift

import moe_lib as moe
from moe_lib import routing

ARMS = {
    "switch": (lambda z, training: routing.switch(z), None, True),
    "random": (lambda z, training: routing.switch(z), None, False),
}
CHAPTER = lift(
    ROOT / "chapters" / "03_experts_and_routers.ipynb",
    *("TwoLines", "soft", "top_k", "noisy_top_k", "switch", "expert_choice"),
    *("cv_squared", "importance_loss", "switch_loss", "z_loss", "dropped", "Kinds", "train_toy"),
    *("Experts", "ExpertsLinear", "Mixture"),
    *("task_reaches", "switch_gradient", "unserved", "chance_bits", "usage_per_image"),
    toy_steps=30,
    arms=ARMS,
)


@pytest.fixture(autouse=True)
def the_same_numbers_every_time():
    torch.manual_seed(0)


def rows(count: int = 20, experts: int = 6) -> torch.Tensor:
    return torch.randn(count, experts)


@pytest.mark.parametrize("k", [1, 2, 6])
@pytest.mark.parametrize("before", [True, False])
def test_top_k_is_the_librarys(k, before):
    z = rows()
    expected, _ = routing.top_k(z, k, softmax="before" if before else "after")
    torch.testing.assert_close(CHAPTER.top_k(z, k, before), expected)


def test_noise_moves_the_choice():
    z, noise = rows(), rows()
    expected, _ = routing.noisy_top_k(z, 0.5, 2, training=True, noise=noise)
    torch.testing.assert_close(CHAPTER.noisy_top_k(z, 2, 0.5, noise), expected)


@pytest.mark.parametrize("capacity", [1, 3, 20])
def test_every_expert_takes_its_best_rows(capacity):
    z = rows()
    gates, fit = CHAPTER.expert_choice(z, capacity), z.softmax(-1)
    assert ((gates > 0).sum(0) == capacity).all()
    for e in range(6):
        taken = gates[:, e] > 0
        torch.testing.assert_close(gates[taken, e], fit[taken, e])
        assert taken.all() or fit[taken, e].min() >= fit[~taken, e].max()


def test_losses_are_the_librarys():
    z = rows(64)
    gates, record = routing.switch(z)
    pairs = [
        (CHAPTER.importance_loss(gates), routing.importance_loss(record)),
        (CHAPTER.switch_loss(z), routing.switch_loss(record)),
        (CHAPTER.z_loss(z), routing.z_loss(record)),
    ]
    for mine, theirs in pairs:
        torch.testing.assert_close(mine, theirs)


def test_the_formula_of_the_switch_gradient():
    z = rows().requires_grad_()
    CHAPTER.switch_loss(z).backward()
    torch.testing.assert_close(CHAPTER.switch_gradient(z.detach()), z.grad)


@pytest.mark.parametrize(("factor", "share"), [(1, 0.75), (2, 0.5), (4, 0.0)])
def test_what_does_not_fit_is_dropped(factor, share):
    assert CHAPTER.dropped(torch.tensor([100, 0, 0, 0]), factor) == pytest.approx(share)
    assert CHAPTER.dropped(torch.tensor([25, 25, 25, 25]), factor) == 0


def test_inputs_of_the_toy_are_what_is_said_of_them():
    for offset in (0, 2):
        found = []
        for seed in range(20):
            x, _, _ = CHAPTER.Kinds(seed, offset).draw(2000)
            common = x.mean(0)
            found.append(float(common.norm() / (x - common).square().sum(1).mean().sqrt()))
        assert np.mean(found) == pytest.approx(math.hypot(offset, 0.35), abs=0.2)


def test_an_expert_of_a_kind_can_be_perfect():
    data = CHAPTER.Kinds(3, 1)
    x, y, kind = data.draw(400)
    noise = x - data.centres[kind]
    torch.testing.assert_close(torch.einsum("nij,nj->ni", data.jobs[kind], noise), y, atol=1e-4, rtol=1e-4)


def test_the_toy_learns_and_a_random_router_stays():
    trained = CHAPTER.train_toy("switch", 0, seed=0, rate=1e-2, steps=300)
    untrained = CHAPTER.train_toy("random", 0, seed=0, rate=1e-2, steps=300)
    assert trained["error"] < 0.9 * untrained["error"] < 1
    assert trained["bits"] > untrained["bits"]
    before = CHAPTER.train_toy("random", 0, seed=0, rate=1e-2, steps=1)
    assert untrained["used"] == pytest.approx(before["used"], abs=1.0)  # other inputs, the same router


@pytest.mark.parametrize("router", ["learned", "random", "constant", "mean input"])
def test_experts_begin_as_the_encoder_and_are_what_they_say(router):
    sam, image = moe.backbones.sam("pocket"), torch.rand(3, 3, 96, 96)
    with torch.no_grad():
        before = sam.embed(image)
        moe.inject(sam.image_encoder, CHAPTER.Experts(router=router))
        with moe.watch_routing(sam) as records:
            assert torch.equal(sam.embed(image), before)
    assert [r[0].shape[0] for r in records.values()] == ["window", "image"] * 4
    chosen = torch.stack([r[0].chosen[:3, 0] for r in records.values()])
    if router == "constant":
        assert (chosen == 0).all() and all((r[0].gates[:, 0] > 0.999).all() for r in records.values())
    if router == "mean input":
        assert all(len(r[0].chosen.unique()) == 1 for r in records.values())
    trained = any("router" in name and p.requires_grad for name, p in sam.named_parameters())
    assert trained == (router in ("learned", "mean input"))


def test_experts_add_the_chosen_product():
    layer = CHAPTER.ExpertsLinear(torch.nn.Linear(8, 5), CHAPTER.Experts(experts=3, rank=2))
    torch.nn.init.normal_(layer.B)
    x = torch.randn(4, 2, 3, 8)
    out = layer(x)
    for i in range(4):
        e = int(layer.routing.chosen[i, 0])
        change = x[i] @ layer.A[e].T @ layer.B[e].T * layer.routing.gates[i, e]
        torch.testing.assert_close(out[i], layer.base(x[i]) + change, atol=1e-5, rtol=1e-5)


def test_the_mixture_alternates_its_domains(tmp_path, monkeypatch):
    monkeypatch.setenv("MOE_CACHE", str(tmp_path))
    data = CHAPTER.Mixture("val", 6)
    batch = data.batch(torch.tensor([3, 0]))
    assert len(data) == 6 and batch["domain"].tolist() == [1, 0]
    roads = moe.worlds.task("roads", "val", 3).batch([1])
    torch.testing.assert_close(batch["image"][0], roads["image"][0], atol=1e-2, rtol=0)
    assert torch.equal(batch["mask"][0], roads["mask"][0])


def test_who_is_taught():
    reached = {(k, s): CHAPTER.task_reaches(k, s, 4) for k in (1, 2) for s in ("before", "after")}
    assert [key for key, value in reached.items() if not value] == [(1, "after")]
    assert not CHAPTER.task_reaches(1, "before", 1)


def test_unserved_rows_are_counted():
    wanted = torch.tensor([0, 0, 0, 1, 1, 1, 2, 2, 2, 2])  # one too many for the last
    assert CHAPTER.unserved(9 * F.one_hot(wanted, 3).float(), 3) == pytest.approx(0.1)
    assert CHAPTER.unserved(9 * F.one_hot(wanted, 3).float(), 4) == 0


def test_chance_bits_are_what_shuffling_gives():
    chosen, labels = torch.randint(4, (3000,)), torch.randint(6, (3000,))
    null = routing.mutual_information(chosen, labels, permutations=300)["null"]
    assert CHAPTER.chance_bits(4, 6, 3000) == pytest.approx(null, rel=0.1)


def test_every_layer_has_one_vote():
    def certain(experts, what):
        return routing.switch(60 * F.one_hot(torch.tensor(experts), 2).float(), routed=what)[1]

    records = {"a": [certain([0], "image"), certain([0], "image")], "b": [certain([1, 1, 0, 1], "window")]}
    torch.testing.assert_close(
        CHAPTER.usage_per_image(records, images=2), torch.tensor([0.625, 0.375]), atol=1e-4, rtol=0
    )


def test_two_lines_weigh_their_answers():
    model, x = CHAPTER.TwoLines(), torch.randn(5, 1)
    answer, gates = model(x)
    by_hand = sum(gates[:, [e]] * model.experts[e](x) for e in range(2))
    torch.testing.assert_close(answer, by_hand)
    torch.testing.assert_close(gates.sum(1), torch.ones(5))
