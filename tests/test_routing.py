"""Routers, their records and losses: golden values, gradients that arrive or do not, odd cases."""

import copy
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from golden import golden
from torch import Tensor, nn

from moe_lib import routing
from moe_lib.routing import Routed, Routing

SERA = golden("sera/np_routing")
SERA_LOSSES = golden("sera/np_losses")
TABLES = ("normal", "peaked", "collapsed", "nearuniform")
SENSORS = golden("mle_sam/routing_fusion")


def logits(*shape: int, seed: int = 0, grad: bool = False) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).requires_grad_(grad)


# Golden values.


@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_sera_chooses_first_and_weights_after(k):
    gates, record = routing.top_k(SERA["logits"], k, softmax="after")
    assert torch.equal(record.chosen, SERA[f"k{k}_idx"])
    torch.testing.assert_close(gates, SERA[f"k{k}_gates"], rtol=0, atol=1e-12)
    torch.testing.assert_close(gates.gather(1, record.chosen), SERA[f"k{k}_weights"], rtol=0, atol=1e-12)
    table = SERA["table_logits"].clone().requires_grad_()
    gates, record = routing.top_k(table, k, softmax="after")
    torch.testing.assert_close(gates.detach(), SERA[f"table_k{k}_gates"], rtol=0, atol=1e-12)
    (gates * SERA["table_cotangent"]).sum().backward()
    torch.testing.assert_close(table.grad, SERA[f"table_k{k}_vjp"], rtol=0, atol=1e-12)
    assert (table.grad.abs().max() == 0) == (k == 1)


@pytest.mark.parametrize("k", [1, 2, 4])
def test_sera_with_extreme_logits(k):
    gates, _ = routing.top_k(SERA["extreme_logits"], k, softmax="after")
    torch.testing.assert_close(gates, SERA[f"extreme_k{k}_gates"], rtol=0, atol=1e-12)


@pytest.mark.parametrize("k", [1, 2, 3, 4])
@pytest.mark.parametrize("how", ["loop", "gather", "dense"])
def test_sera_mixes_what_the_experts_give(k, how):
    _, record = routing.top_k(SERA["logits"], k, softmax="after")
    outputs = SERA["expert_out"]  # (B, E, C, H, W): expert e gives the part e of what a row holds
    experts = [lambda rows, e=e: rows[:, e] for e in range(4)]
    torch.testing.assert_close(
        routing.dispatch(outputs, record, experts, how=how), SERA[f"k{k}_mixed"], rtol=0, atol=1e-12
    )


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_sera_losses_and_their_gradients(table, k):
    def value(name: str) -> Tensor:
        return SERA_LOSSES[f"{table}_k{k}_{name}"]

    given = SERA_LOSSES[f"{table}_logits"].clone().requires_grad_()
    _, record = routing.top_k(given, k, softmax="after")
    close = dict(rtol=0, atol=1e-9)
    torch.testing.assert_close(record.importance, value("importance"), **close)
    assert record.counts.tolist() == value("load").tolist()
    for unbiased, end in ((False, ""), (True, "_unbiased")):
        importance = routing.importance_loss(record, unbiased=unbiased)
        torch.testing.assert_close(importance, value(f"cv2_importance{end}"), **close)
        torch.testing.assert_close(
            routing.load_loss(record, unbiased=unbiased), value(f"cv2_load{end}"), **close
        )
    (slope,) = torch.autograd.grad(routing.importance_loss(record, unbiased=False), given, retain_graph=True)
    torch.testing.assert_close(slope, value("cv2_importance_grad_logits"), **close)
    torch.testing.assert_close(routing.switch_loss(record), value("assign"), **close)
    (slope,) = torch.autograd.grad(routing.switch_loss(record), given)
    torch.testing.assert_close(slope, value("assign_grad"), **close)


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("of, name", [("logits", "z_meansq"), ("logsumexp", "z_logsumexp")])
def test_both_z_losses(table, of, name):
    given = SERA_LOSSES[f"{table}_logits"].clone().requires_grad_()
    loss = routing.z_loss(routing.top_k(given, 1, softmax="after")[1], of=of)
    torch.testing.assert_close(loss, SERA_LOSSES[f"{table}_{name}"], rtol=0, atol=1e-12)
    loss.backward()
    torch.testing.assert_close(given.grad, SERA_LOSSES[f"{table}_{name}_grad"], rtol=0, atol=1e-12)


def test_spread_of_equal_and_of_one_sided_use():
    for name, unbiased in (("uniform", False), ("onehot", False)):
        found = routing.cv_squared(SERA_LOSSES[f"edge_u_{name}"], unbiased=unbiased)
        torch.testing.assert_close(found, SERA_LOSSES[f"edge_cv2_{name}"], rtol=1e-9, atol=1e-9)
    found = routing.cv_squared(SERA_LOSSES["edge_u_onehot"])
    torch.testing.assert_close(found, SERA_LOSSES["edge_cv2_onehot_unbiased"], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("case", ["a", "b"])
@pytest.mark.parametrize("mode", ["train", "eval"])
def test_the_gate_of_conv_lora(case, mode):
    arrays = golden(f"conv_lora/case_{case}")
    w_gate, w_noise = (
        arrays[f"param/lora_moe_gating.{n}"].clone().requires_grad_() for n in ("w_gate", "w_noise")
    )
    pooled = arrays[f"{mode}/pooled"]
    noise = arrays["train/noise"] if mode == "train" else None
    gates, record = routing.noisy_top_k(
        pooled @ w_gate, pooled @ w_noise, 1, training=mode == "train", noise=noise
    )
    close = dict(rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(gates, arrays[f"{mode}/gates"], **close)
    torch.testing.assert_close(record.logits, arrays[f"{mode}/clean_logits"], **close)
    torch.testing.assert_close(record.importance, arrays[f"{mode}/importance"], **close)
    torch.testing.assert_close(record.load, arrays[f"{mode}/load"], **close)
    if mode == "train":
        torch.testing.assert_close(record.noisy, arrays["train/noisy_logits"], **close)
        torch.testing.assert_close(record.prob_in_top_k, arrays["train/prob_in_top_k"], **close)
    loss = 0.01 * (routing.importance_loss(record) + routing.load_loss(record))
    torch.testing.assert_close(loss, arrays[f"{mode}/aux"], rtol=1e-4, atol=1e-7)
    if mode == "train":
        loss.backward()
        for name, weight in (("w_gate", w_gate), ("w_noise", w_noise)):
            expected = arrays[f"train/grad_aux/lora_moe_gating.{name}"]
            torch.testing.assert_close(
                weight.grad, expected, rtol=0, atol=1e-5 * float(expected.abs().max()) + 1e-7
            )


@pytest.mark.parametrize("level", [0, 1])
def test_sensors_that_are_missing_have_no_weight(level):
    """MLE-SAM's weights: a logit of -∞ leaves a sensor out of every rule."""
    arrays = SENSORS
    given = arrays[f"logit{level}"].masked_fill(~arrays["available"], -torch.inf)
    found = {
        "softmax": routing.dense(given, routed="sensor")[0],
        "sigmoid": routing.dense(given, by="sigmoid")[0],
        "signorm": routing.dense(F.logsigmoid(given))[0],
        **{f"top{k}_raw": routing.top_k(given, k, softmax="before")[0] for k in (1, 2)},
        **{f"top{k}": routing.top_k(given, k, softmax="after")[0] for k in (1, 2)},
    }
    for name, gates in found.items():
        torch.testing.assert_close(gates, arrays[f"w_{name}{level}"], rtol=1e-6, atol=1e-7, check_dtype=False)


# Gradients that reach the router, and those that do not.

ROUTERS = {
    "dense": lambda x: routing.dense(x),
    "sigmoid": lambda x: routing.dense(x, by="sigmoid"),
    "top 2, after": lambda x: routing.top_k(x, 2, softmax="after"),
    "top 2, before": lambda x: routing.top_k(x, 2, softmax="before"),
    "top 1, after": lambda x: routing.top_k(x, 1, softmax="after"),
    "switch": lambda x: routing.switch(x),
    "noisy top 2": lambda x: routing.noisy_top_k(x, torch.zeros_like(x), 2, training=True),
    "noisy top 1": lambda x: routing.noisy_top_k(x, torch.zeros_like(x), 1, training=True),
}


@pytest.mark.parametrize("name", ROUTERS)
@pytest.mark.parametrize("sizes", [(1,), (7,), (2, 3, 5)])
def test_who_gets_a_gradient_from_the_task(name, sizes):
    torch.manual_seed(0)
    given = logits(*sizes, 5, grad=True)
    gates, record = ROUTERS[name](given)
    (gates * logits(*sizes, 5, seed=1)).sum().backward()
    rows, chosen = given.grad.view(-1, 5), record.chosen
    assert given.grad.isfinite().all()
    if name.endswith("top 1, after") or name == "noisy top 1":
        assert (given.grad == 0).all()  # the gate is 1 whatever the logits say
        return
    within = torch.zeros_like(rows).scatter(1, chosen, 1.0)
    if name in ("top 2, after", "noisy top 2"):  # those that were left out learn nothing
        assert (rows[within == 0] == 0).all()
        rows = rows[within == 1]
    assert (rows != 0).all()


def test_noise_has_a_gradient_of_its_own():
    torch.manual_seed(0)
    clean, scale = logits(6, 5, grad=True), logits(6, 5, seed=1, grad=True)
    _, record = routing.noisy_top_k(clean, scale, 2, training=True)
    routing.load_loss(record).backward()
    assert (clean.grad != 0).all() and (scale.grad != 0).all()


def test_a_counted_load_has_no_gradient():
    for router in (ROUTERS["top 2, after"], ROUTERS["dense"]):
        _, record = router(logits(6, 5, grad=True))
        assert not routing.load_loss(record).requires_grad
    _, record = ROUTERS["top 1, after"](given := logits(6, 5, grad=True))
    routing.importance_loss(record).backward()
    assert (given.grad == 0).all()


LOSSES = {
    "importance": routing.importance_loss,
    "load": routing.load_loss,
    "switch": routing.switch_loss,
    "z": routing.z_loss,
}


@pytest.mark.parametrize("name", LOSSES)
def test_finite_gradients_at_perfect_balance(name):
    """Where a standard deviation has an infinite slope."""
    given = torch.eye(4).repeat(2, 1).requires_grad_()
    _, record = routing.noisy_top_k(given, 0.5, 1, training=True, noise=torch.zeros(8, 4))
    assert record.importance.tolist() == [2, 2, 2, 2]
    loss = LOSSES[name](record)
    loss.backward()
    assert loss.isfinite() and given.grad.isfinite().all()
    if name == "importance":
        assert loss == 0


def test_what_a_square_root_would_do_at_perfect_balance():
    """Torch's own ``std`` puts a 0 where its slope is infinite; the root of a variance does not."""
    slopes = []
    for spread in (lambda x: x.std(), lambda x: x.var().sqrt(), lambda x: routing.cv_squared(x).mul(4)):
        use = torch.full((4,), 2.0, requires_grad=True)
        (spread(use) / use.mean()).square().backward()
        slopes.append(use.grad)
    assert slopes[0].isfinite().all() and slopes[1].isnan().all() and slopes[2].isfinite().all()


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("router", ROUTERS)
def test_losses_of_one_row_and_of_one_expert(name, router):
    for shape in ((1, 5), (1, 1), (3, 1)):
        if shape[1] == 1 and " 2" in router:
            continue
        _, record = ROUTERS[router](given := logits(*shape, grad=True))
        loss = LOSSES[name](record)
        assert loss.isfinite()
        if loss.requires_grad:
            loss.backward()
            assert given.grad.isfinite().all()


def test_the_switch_loss_is_one_at_balance_and_grows_with_collapse():
    _, record = routing.switch(torch.zeros(8, 4))  # ties: expert 0 has all, the probabilities are equal
    assert routing.switch_loss(record) == 1
    _, record = routing.switch(torch.tensor([[9.0, 0, 0, 0]]).repeat(8, 1))
    assert routing.switch_loss(record) == pytest.approx(4, abs=0.01)


# Choices.


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_of_equal_logits_the_lower_index_wins(dtype):
    given = torch.tensor([[1, 3, 3, 3], [0, 0, 0, 0], [2, 1, 2, 1]], dtype=dtype)
    assert routing.top_k(given, 2, softmax="after")[1].chosen.tolist() == [[1, 2], [0, 1], [0, 2]]
    assert routing.dense(given)[1].chosen.tolist() == [[1, 2, 3, 0], [0, 1, 2, 3], [0, 2, 1, 3]]


@pytest.mark.parametrize("name", ROUTERS)
@pytest.mark.parametrize("sizes", [(1,), (6,), (2, 3), (2, 4, 3)])
def test_the_record_fits_what_was_routed(name, sizes):
    torch.manual_seed(0)
    gates, record = ROUTERS[name](given := logits(*sizes, 5))
    rows = math.prod(sizes)
    assert gates.shape == (*sizes, 5) and record.gates.shape == record.logits.shape == (rows, 5)
    assert torch.equal(record.gates, gates.reshape(rows, 5)) and torch.equal(
        record.logits, given.view(rows, 5)
    )
    assert record.shape == ("image", sizes)
    k = record.chosen.shape[1]
    assert k == {"dense": 5, "sigmoid": 5}.get(name, 2 if "2" in name else 1)
    assert torch.equal(record.gates.topk(k).indices.sort(1).values, record.chosen.sort(1).values)
    used = (record.gates > 0).sum(1)
    assert (used == k).all() and record.counts.sum() == k * rows
    if name not in ("sigmoid", "top 2, before", "switch"):
        torch.testing.assert_close(record.gates.sum(1), torch.ones(rows))
    elif name != "sigmoid":
        torch.testing.assert_close(gates, given.softmax(-1) * (gates > 0))
    assert repr(record) == f"Routing(image {sizes}: {k} of 5 experts)"


def test_what_is_routed_is_named():
    _, record = routing.switch(logits(2, 3, 4, 5), routed="window")
    assert record.shape == ("window", (2, 3, 4))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_logits_are_routed_in_full(dtype):
    gates, record = routing.top_k(logits(5, 4).to(dtype), 2, softmax="after")
    assert gates.dtype == record.logits.dtype == torch.float32
    assert routing.dense(logits(5, 4).double())[0].dtype == torch.float64


def test_a_router_computes_in_full_under_autocast():
    layer, x = nn.Linear(64, 8), logits(16, 64)
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(x).dtype == torch.bfloat16
        found = routing.router_logits(layer, x.bfloat16())
    assert found.dtype == torch.float32
    assert torch.equal(found, layer(x.bfloat16().float()))


def test_noise_only_in_training_and_as_given():
    given, noise = logits(6, 5), logits(6, 5, seed=3)
    kwargs = dict(softmax="after")
    quiet = routing.noisy_top_k(given, 0.5, 2, training=False)[1]
    assert quiet.noisy is None and quiet.prob_in_top_k is None
    assert torch.equal(quiet.gates, routing.top_k(given, 2, **kwargs)[0])
    loud = routing.noisy_top_k(given, 0.5, 2, training=True, noise=noise)[1]
    torch.testing.assert_close(loud.noisy, given + 0.5 * noise)
    assert torch.equal(loud.gates, routing.top_k(given + 0.5 * noise, 2, **kwargs)[0])
    learnt = routing.noisy_top_k(given, torch.full((6, 5), 2.0), 2, training=True, noise=noise, floor=0.1)[1]
    torch.testing.assert_close(learnt.noisy, given + (F.softplus(torch.tensor(2.0)) + 0.1) * noise)
    torch.manual_seed(0)
    one = routing.noisy_top_k(given, 1.0, 2, training=True)[1]
    two = routing.noisy_top_k(given, 1.0, 2, training=True)[1]
    assert not torch.equal(one.noisy, two.noisy)
    assert routing.noisy_top_k(given, 1.0, 5, training=True)[1].prob_in_top_k is None  # all are always in


def test_the_smooth_load_is_the_chance_of_being_chosen():
    """Drawn anew 20,000 times for one expert while the others keep their noise."""
    given, noise, k, std = logits(1, 5), logits(1, 5, seed=2), 2, 0.7
    record = routing.noisy_top_k(given, std, k, training=True, noise=noise)[1]
    for expert in range(5):
        many = noise.repeat(20_000, 1)
        many[:, expert] = logits(20_000, seed=expert + 10)
        drawn = routing.noisy_top_k(given.repeat(20_000, 1), std, k, training=True, noise=many)[1]
        share = float((drawn.gates[:, expert] > 0).float().mean())
        assert share == pytest.approx(float(record.prob_in_top_k[0, expert]), abs=0.012)


@pytest.mark.parametrize(
    "call, said",
    [
        (
            lambda x: routing.top_k(x, 0, softmax="after"),
            "k is a whole number from 1 to the 4 experts, got 0",
        ),
        (
            lambda x: routing.top_k(x, 5, softmax="after"),
            "k is a whole number from 1 to the 4 experts, got 5",
        ),
        (lambda x: routing.top_k(x, 1.0, softmax="after"), "k is a whole number"),
        (lambda x: routing.top_k(x, 1, softmax="both"), "softmax is one of before, after; got 'both'"),
        (lambda x: routing.dense(x, by="relu"), "by is one of softmax, sigmoid; got 'relu'"),
        (lambda x: routing.dense(x[0]), r"a row for whatever is routed; got \(4,\)"),
        (lambda x: routing.dense(x[:, :0]), r"got \(3, 0\)"),
        (lambda x: routing.noisy_top_k(x, 0.0, 1, training=True), "positive standard deviation, got 0.0"),
        (lambda x: routing.noisy_top_k(x, x[:1], 1, training=True), r"noise \(1, 4\) for logits \(3, 4\)"),
        (lambda x: routing.noisy_top_k(x, 1.0, 1, training=True, noise=x[:2]), r"noise \(2, 4\) for logits"),
        (
            lambda x: routing.z_loss(routing.dense(x)[1], of="sum"),
            "of is one of logsumexp, logits; got 'sum'",
        ),
    ],
)
def test_what_a_router_refuses(call, said):
    with pytest.raises(ValueError, match=said):
        call(logits(3, 4))


def test_experts_that_hardly_get_anything_are_never_better_than_balanced():
    assert routing.cv_squared(torch.zeros(4)) == 0
    assert routing.cv_squared(torch.tensor([1e-6, 0, 0, 0])) > 0


# Records.


def test_entropy_in_bits():
    weights = torch.tensor(
        [[1.0, 0, 0, 0], [1, 1, 1, 1], [2, 2, 0, 0], [0.25, 0.25, 0.25, 0.25]], requires_grad=True
    )
    found = routing.entropy(weights)
    assert found.tolist() == pytest.approx([0, 2, 1, 2])
    found.sum().backward()
    assert weights.grad.isfinite().all()
    assert routing.dense(torch.zeros(3, 4))[1].entropy.tolist() == [2, 2, 2]


def test_a_detached_record_is_the_same_without_gradient():
    torch.manual_seed(0)
    _, record = routing.noisy_top_k(logits(6, 5, grad=True), 1.0, 2, training=True)
    assert record.gates.requires_grad
    for kept in (record.detach(), record.detach(cpu=True)):
        assert kept.shape == record.shape
        for name in ("logits", "gates", "chosen", "noisy", "prob_in_top_k"):
            assert torch.equal(getattr(kept, name), getattr(record, name))
            assert not getattr(kept, name).requires_grad
    assert routing.switch(logits(2, 3))[1].detach().noisy is None
    elsewhere = routing.switch(torch.zeros(2, 3, device="meta"))[1]
    assert elsewhere.detach().gates.is_meta, "it stays where it is, unless asked"


class Layer(Routed):
    """Routes its rows; what balances them is the importance loss."""

    def __init__(self):
        super().__init__()
        self.router = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        gates, self.routing = routing.top_k(routing.router_logits(self.router, x), 2, softmax="after")
        self.balance = routing.importance_loss(self.routing)
        return x * gates.sum(-1, keepdim=True)


def stack() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(Layer(), nn.Linear(4, 4), nn.ModuleDict({"inner": Layer()})["inner"])


def test_every_call_is_recorded_in_order():
    model, x = stack(), logits(6, 4)
    with routing.watch_routing(model) as records:
        model(x)
        model(x[:2])
        model[2](x[:3])
    assert list(records) == ["0", "2"]
    assert [r.shape[1] for r in records["0"]] == [(6,), (2,)]
    assert [r.shape[1] for r in records["2"]] == [(6,), (2,), (3,)]
    assert not records["0"][0].gates.requires_grad
    model(x)
    assert len(records["0"]) == 2  # no longer watched
    assert not any(m._forward_hooks for m in model.modules())


def test_a_record_from_before_is_not_taken_again():
    model, x = stack(), logits(6, 4)
    model(x)
    with routing.watch_routing(model) as records:
        pass
    assert records == {}
    with routing.watch_routing(model) as records:
        model[0](x)
        twin = copy.deepcopy(model)
        twin(x)  # a copy takes the hooks along, and is none of our business
    assert list(records) == ["0"] and len(records["0"]) == 1


def test_watching_ends_when_something_fails():
    model = stack()
    with pytest.raises(RuntimeError), routing.watch_routing(model):
        model(logits(6, 5))
    assert not any(m._forward_hooks for m in model.modules())


def test_a_compiled_model_is_watched_under_its_own_names():
    model = torch.compile(stack(), backend="eager")
    with routing.watch_routing(model) as records:
        model(logits(6, 4))
    assert list(records) == ["0", "2"]


def test_a_compiled_model_that_skips_the_hooks_is_an_error():
    model = stack()
    compiled = torch.compile(model, backend="eager")
    compiled(logits(6, 4))
    try:
        with routing.watch_routing(model) as records:
            compiled(logits(6, 4))
    except RuntimeError as error:
        assert "was skipped: watch the model before it is compiled" in str(error)
    else:
        assert list(records) == ["0", "2"]  # this version of torch calls them


def test_the_balance_of_a_model_is_the_sum_over_its_layers():
    model, x = stack(), logits(6, 4)
    assert routing.balance_loss(model) == 0
    model(x)
    total = routing.balance_loss(model)
    torch.testing.assert_close(total, model[0].balance + model[2].balance)
    assert total > 0
    total.backward()
    assert model[0].router.weight.grad.abs().max() > 0
    assert routing.balance_loss(nn.Identity()) == 0
    model[0].balance = 1.0
    with pytest.raises(ValueError, match=r"balance of '0' should be a tensor of shape \(\), got 1.0"):
        routing.balance_loss(model)


def test_copies_start_without_a_record():
    model = stack()
    model(logits(6, 4))
    twin = copy.deepcopy(model)
    assert twin[0].routing is None and twin[0].balance is None
    assert model[0].routing is not None
    assert torch.equal(twin(logits(6, 4)), model(logits(6, 4)))


# Dispatch.


@pytest.mark.parametrize("router", ["dense", "top 2, after", "switch", "top 1, after"])
@pytest.mark.parametrize("sizes", [(1,), (6,), (2, 3)])
def test_three_ways_of_dispatch_agree(router, sizes):
    torch.manual_seed(0)
    experts = [nn.Linear(4, 7).double() for _ in range(5)]
    x = logits(*sizes, 4).double()
    results = {}
    for how in ("loop", "gather", "dense"):
        given = logits(*sizes, 5, seed=4).double().requires_grad_()
        leaf = x.clone().requires_grad_()
        _, record = ROUTERS[router](given)
        out = routing.dispatch(leaf, record, experts, how=how)
        assert out.shape == (*sizes, 7)
        for expert in experts:
            expert.zero_grad()
        (out * logits(*sizes, 7, seed=5)).sum().backward()
        slopes = [torch.zeros_like(e.weight) if e.weight.grad is None else e.weight.grad for e in experts]
        results[how] = [out.detach(), leaf.grad, given.grad, *slopes]
    by_hand = sum(record.gates[:, [e]] * expert(x.view(-1, 4)) for e, expert in enumerate(experts))
    torch.testing.assert_close(results["dense"][0].view(-1, 7), by_hand.detach())
    for how in ("loop", "gather"):
        for found, expected in zip(results[how], results["dense"], strict=True):
            torch.testing.assert_close(found, expected)


def test_gather_calls_only_who_has_rows():
    calls = []
    experts = [lambda rows, e=e: calls.append((e, len(rows))) or rows for e in range(4)]
    given = torch.tensor([[0.0, 9, 0, 0], [0, 9, 0, 0], [0, 0, 0, 9]])
    _, record = routing.top_k(given, 1, softmax="after")
    out = routing.dispatch(torch.arange(3.0)[:, None], record, experts)
    assert out[:, 0].tolist() == [0, 1, 2]
    assert calls == [(1, 2), (3, 1)]


def test_nothing_to_route_keeps_the_shape():
    _, record = routing.switch(torch.zeros(0, 3))
    out = routing.dispatch(torch.zeros(0, 4), record, [nn.Linear(4, 7) for _ in range(3)])
    assert out.shape == (0, 7)


def test_maps_and_half_precision_are_dispatched_in_their_own_dtype():
    experts = [nn.Conv2d(3, 3, 1).bfloat16() for _ in range(2)]
    _, record = routing.switch(logits(4, 2))
    out = routing.dispatch(logits(4, 3, 5, 7).bfloat16(), record, experts)
    assert out.shape == (4, 3, 5, 7) and out.dtype == torch.bfloat16


def test_dispatch_of_what_does_not_fit():
    _, record = routing.switch(logits(4, 2))
    with pytest.raises(ValueError, match=r"image \(4,\): 1 of 2 experts\) does not fit 3 experts"):
        routing.dispatch(torch.zeros(4, 1), record, [nn.Identity()] * 3)
    with pytest.raises(ValueError, match=r"x of shape \(3, 1\)"):
        routing.dispatch(torch.zeros(3, 1), record, [nn.Identity()] * 2)
    with pytest.raises(ValueError, match="how is one of loop, gather, dense; got 'fast'"):
        routing.dispatch(torch.zeros(4, 1), record, [nn.Identity()] * 2, how="fast")


# Information.


def test_bits_that_the_expert_tells():
    labels = np.arange(400) % 4
    same = routing.mutual_information(labels * 3 + 1, labels)
    assert same["bits"] == pytest.approx(2) and same["p"] == pytest.approx(1 / 1001) and same["null"] < 0.05
    half = routing.mutual_information(torch.from_numpy(labels // 2), torch.from_numpy(labels))
    assert half["bits"] == pytest.approx(1)
    constant = routing.mutual_information(labels * 0, labels)
    assert constant == {"bits": pytest.approx(0), "null": pytest.approx(0), "p": 1}


def test_chance_alone_tells_more_than_nothing():
    random = np.random.default_rng(0)
    p = []
    for _ in range(40):
        found = routing.mutual_information(
            random.integers(8, size=60), random.integers(4, size=60), permutations=99
        )
        assert found["bits"] > 0.02
        p.append(found["p"])
    assert (
        0.3 < np.mean(p) < 0.7 and min(p) < 0.2 and max(p) > 0.8
    )  # as a p value has to be without an effect
    assert found["null"] == pytest.approx(found["bits"], abs=0.15)


def test_information_of_what_is_no_pair_of_lists():
    with pytest.raises(ValueError, match=r"two of \(N,\) and permutations, got \(\(3,\), \(4,\)\)"):
        routing.mutual_information(np.zeros(3), np.zeros(4))
    with pytest.raises(ValueError, match="and 0"):
        routing.mutual_information(np.zeros(3), np.zeros(3), permutations=0)
    assert routing.mutual_information(np.arange(3), np.arange(3), permutations=1)["p"] == 1


def test_a_record_is_not_compared_by_its_tensors():
    _, record = routing.switch(logits(2, 3))
    assert isinstance(record, Routing) and record == record and record in [record]
