"""Conv-LoRA: equal to the literal layer, to the last border; its gates, its routing, what it refuses."""

import copy
import math

import pytest
import small
import tiny_methods
import torch
import torch.nn.functional as F
from torch import nn

import moe_lib as moe
from moe_lib import heads, routing
from moe_lib.methods.conv_lora import COMBINE, GATES, INTERPOLATION, ScaledConvolutions

BOTH = ["official", "switch"]


def literal(experts, u, expert):
    """Enlarge, convolve, GELU, shrink, as it is written."""
    out = []
    for one, e in zip(u, expert.tolist(), strict=True):
        ratio, z = experts.ratios[e], one.permute(2, 0, 1)[None]
        size, kernel = z.shape[-2:], experts.weight[e]
        up = "bicubic" if experts.interpolation == "area" else experts.interpolation
        if ratio > 1:
            z = F.interpolate(z, scale_factor=ratio, mode=up)
        z = F.gelu(F.conv2d(z, kernel, experts.bias[e], padding=kernel.shape[-1] // 2))
        if ratio > 1:
            z = F.interpolate(z, size=size, mode=experts.interpolation)
        out.append(z[0].permute(1, 2, 0))
    return torch.stack(out)


def layer(gate="official", seed=0, **options):
    torch.manual_seed(seed)
    made = moe.ConvLoRA(experts=4, gate=gate, **options).wrap(nn.Linear(10, 15).requires_grad_(False), "qkv")
    small.disturb(made)
    return made.eval()


@pytest.mark.parametrize("kernel", [3, 1])
@pytest.mark.parametrize("interpolation", INTERPOLATION)
@pytest.mark.parametrize("size", [(12, 12), (5, 8), (14, 14), (2, 3), (1, 1), (1, 6)])
def test_the_fast_form_is_the_literal_one(size, interpolation, kernel):
    torch.manual_seed(0)
    experts = ScaledConvolutions(3, tuple(range(1, 10)), interpolation, kernel).double()
    nn.init.normal_(experts.bias)
    u = torch.randn(18, *size, 3, dtype=torch.float64, requires_grad=True)
    expert = torch.arange(9).repeat(2)
    results = [form(u, expert) for form in (experts, lambda u, e: literal(experts, u, e))]
    weights = torch.randn_like(u)
    gradients = [torch.autograd.grad(out, (u, *experts.parameters()), weights) for out in results]
    for found, expected in zip((results[0], *gradients[0]), (results[1], *gradients[1]), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-12)


def test_in_single_precision_to_a_hundred_thousandth():
    torch.manual_seed(1)
    experts = ScaledConvolutions(3, tuple(range(1, 9)))
    u, expert = torch.randn(8, 14, 14, 3), torch.arange(8)
    expected = literal(experts, u, expert)
    assert (experts(u, expert) - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_ratios_that_read_one_row_only_need_one():
    one, four = ScaledConvolutions(2, (1, 3, 5)), ScaledConvolutions(2, (1, 3, 4))
    like = torch.zeros(1)
    assert [m._tables(6, torch.tensor([0]), like)[0].shape[1] for m in (one, four)] == [6, 24]


@pytest.mark.parametrize("gate", [*GATES, "fixed:1", "fixed:4"])
def test_nothing_changes_until_something_is_learnt(gate):
    torch.manual_seed(0)
    base = nn.Linear(10, 15)
    made = moe.ConvLoRA(experts=4, gate=gate).wrap(base, "qkv")
    x = torch.randn(3, 4, 5, 10)
    for training in (True, False):
        assert torch.equal(made.train(training)(x), base(x))


@pytest.mark.parametrize("gate, gets", [("official", False), ("switch", True), ("dense", True)])
def test_whether_the_task_reaches_the_router(gate, gets):
    made = layer(gate).train()
    made(torch.randn(6, 4, 4, 10)).square().sum().backward()
    assert (made.w_gate.grad is not None and bool(made.w_gate.grad.any())) == gets
    if gate == "official":
        assert made.w_gate.grad is None and made.w_noise.grad is None
        made.zero_grad()
        made(torch.randn(6, 4, 4, 10))
        moe.balance_loss(made).backward()
        assert made.w_gate.grad.any() and made.w_noise.grad.any() and made.A.grad.any()
        assert made.B.grad is None


def test_in_eval_mode_the_balance_has_no_gradient_and_nothing_is_random():
    made, x = layer(), torch.randn(6, 4, 4, 10)
    assert torch.equal(made(x), made(x))
    assert not moe.balance_loss(made).requires_grad and moe.balance_loss(made) > 0
    made.train()
    assert not torch.equal(made(x), made(x))


def test_a_step_with_one_image_pays_for_the_importance_whatever_it_learns():
    made = moe.ConvLoRA().wrap(nn.Linear(4, 6), "qkv").eval()
    made(torch.randn(1, 4, 4, 4))
    importance = routing.importance_loss(made.routing)
    assert importance.item() == pytest.approx(8, rel=1e-6)
    assert made.balance.item() == pytest.approx(0.01 * 16, rel=1e-6)


def test_noise_of_a_fresh_router_is_ln_2_and_a_hundredth():
    torch.manual_seed(0)
    made = moe.ConvLoRA(experts=4).wrap(nn.Linear(10, 15), "qkv").train()
    noise = torch.randn(5, 4)
    made(torch.randn(5, 3, 3, 10), noise=noise)
    torch.testing.assert_close(made.routing.noisy, (math.log(2) + 0.01) * noise)


def expected_mixture(made, u, weights):
    """Σ weight · expert(u) by the literal form; weights (N, M)."""
    total = torch.zeros_like(u)
    for e in range(weights.shape[1]):
        total = total + weights[:, e, None, None, None] * literal(made.experts, u, torch.full((len(u),), e))
    return total


@pytest.mark.parametrize("gate, top_k", [*((g, 1) for g in (*GATES, "fixed:3")), *((g, 2) for g in BOTH)])
def test_what_a_gate_weighs(gate, top_k):
    made, x = layer(gate, top_k=top_k), torch.randn(6, 4, 5, 10)
    out = made(x)
    u = x @ made.A.mT
    seen = u.mean((1, 2))
    if gate in BOTH or gate == "random":
        weights = routing.top_k(seen @ made.w_gate, top_k, softmax="before" if gate == "switch" else "after")[
            0
        ]
    elif gate == "dense":
        weights = (seen @ made.w_gate).softmax(-1)
    elif gate == "learnt":
        weights = made.logits.softmax(-1).expand(6, -1)
    else:
        row = {"sum": [1.0] * 4, "mean": [0.25] * 4, "fixed:3": [0, 0, 1.0, 0]}[gate]
        weights = torch.tensor(row).expand(6, -1)
    torch.testing.assert_close(made.routing.gates, weights)
    v = u + expected_mixture(made, u, weights)
    torch.testing.assert_close(out, made.base(x) + 32 / 3 * v @ made.B.mT, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("combine", COMBINE)
def test_how_two_experts_come_together(combine):
    made, x = layer(top_k=2, combine=combine), torch.randn(6, 4, 5, 10)
    made(x)
    u, record = x @ made.A.mT, made.routing
    said = torch.stack([literal(made.experts, u, record.chosen[:, i]) for i in range(2)])  # (2, N, h, w, r)
    gates = record.gates.gather(1, record.chosen).T[..., None, None, None]
    expected = {
        "sum": (gates * said).sum(0),
        "logsumexp": said.exp().sum(0).log(),
        "gated logsumexp": (gates * said.exp()).sum(0).log(),
    }
    torch.testing.assert_close(made.mixture(u, record), expected[combine], rtol=1e-4, atol=1e-5)


def test_two_equal_experts_are_one_in_a_sum_and_more_in_a_log_sum_exp():
    u = torch.randn(3, 4, 4, 10)
    for combine, more in (("sum", 0.0), ("logsumexp", math.log(2)), ("gated logsumexp", 0.0)):
        made = layer(top_k=2, combine=combine, ratios=(1,) * 4)
        with torch.no_grad():
            made.experts.weight[:], made.experts.bias[:] = made.experts.weight[:1], made.experts.bias[:1]
            made(u)
            low = u @ made.A.mT
            one = literal(made.experts, low, torch.zeros(3, dtype=torch.int64))
        torch.testing.assert_close(made.mixture(low, made.routing), one + more, rtol=1e-5, atol=1e-5)


def test_tokens_with_their_grid_are_a_map():
    made, x = layer(), torch.randn(2, 4, 5, 10)
    assert torch.equal(made(x.flatten(1, 2), (4, 5)), made(x).flatten(1, 2))
    assert torch.equal(made(x, grid=(4, 5)), made(x))
    for wrong, grid in ((x.flatten(1, 2), None), (x.flatten(1, 2), (5, 5)), (x, (5, 4)), (x[0, 0], None)):
        with pytest.raises(ValueError, match=r"a convolution needs a map .* without a class token"):
            made(wrong, grid)


@pytest.mark.parametrize("kind", ["sam", "ours"])
def test_blocks_in_windows_say_so_and_an_image_can_decide_for_all_of_them(kind):
    x = small.images(3)
    for route, windowed in (("window", ("window", (3, 9))), ("image", ("image", (3,)))):
        model = moe.inject(small.model(kind), moe.ConvLoRA(experts=4, route=route))
        small.disturb(model)
        with moe.watch_routing(model) as records:
            model(x)
        shapes = [calls[0].shape for calls in records.values()]
        assert shapes == [windowed, ("image", (3,))], route
    first = model.blocks[0].attn.qkv
    assert first.routing.gates.shape == (3, 4)
    pooled = []
    first.register_forward_pre_hook(lambda m, inputs: pooled.append((inputs[0] @ m.A.mT).mean((1, 2))))
    model(x)
    torch.testing.assert_close(first.routing.logits, pooled[0].view(3, 9, -1).mean(1) @ first.w_gate)
    part = first.mixture(torch.ones(27, 3, 3, 3), first.routing)
    assert torch.equal(part[:9], part[:1].expand(9, -1, -1, -1))  # nine windows, one expert


@torch.no_grad()  # with gradients the attention is computed in another order
def test_in_and_out_saved_and_loaded(tmp_path):
    for gate in [*GATES, "fixed:2"]:
        method = moe.ConvLoRA(experts=4, gate=gate, ratios=[1, 2, 2, 3])
        model, x = small.model("ours"), small.images()
        before = model(x)
        assert torch.equal(moe.inject(model, method)(x), before)
        small.disturb(model)
        assert (model(x) - before).abs().max() > 1e-4
        with moe.disable(model):
            assert torch.equal(model(x), before)
        moe.save_adapter(model, tmp_path / gate.replace(":", "-"))
        again = moe.load_adapter(small.model("ours"), tmp_path / gate.replace(":", "-"))
        assert torch.equal(again(x), model(x)), gate
        with pytest.raises(TypeError, match="ConvLoRA cannot be merged"):
            moe.merge(model)
        assert len(model._forward_pre_hooks) == 1
        moe.remove(model)
        assert torch.equal(model(x), before) and not model._forward_pre_hooks


def test_a_copy_has_hooks_of_its_own():
    model = moe.inject(small.model("ours"), moe.ConvLoRA(experts=4))
    model(small.images(2))
    twin = copy.deepcopy(model)
    twin(small.images(3))
    assert [m.blocks[0].attn.qkv.images for m in (model, twin)] == [2, 3]
    assert twin.blocks[0].attn.qkv.routing.shape == ("window", (3, 9))
    moe.remove(twin)
    assert not twin._forward_pre_hooks and model._forward_pre_hooks


def test_under_autocast_the_experts_are_exact_and_the_dtype_is_kept():
    made, x = layer(), torch.randn(4, 5, 5, 10)
    expected = made(x)
    decided = made.routing.gates
    with torch.autocast("cpu", torch.bfloat16):
        out = made(x)
    assert out.dtype == torch.bfloat16 and made.routing.gates.dtype == torch.float32
    assert torch.equal(made.routing.chosen[:, 0], decided.argmax(-1))
    assert (out.float() - expected).abs().max() < 0.02 * expected.abs().max()


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_it_follows_the_dtype_of_the_model(dtype):
    made, x = layer(), torch.randn(4, 5, 5, 10)
    expected = made(x)
    out = copy.deepcopy(made).to(dtype)(x.to(dtype))
    assert out.dtype == dtype
    assert (out.double() - expected.double()).abs().max() < (
        1e-5 if dtype == torch.float64 else 0.05
    ) * expected.abs().max()


def test_checkpointing_gives_the_same_gradients():
    made, x = layer().train(), torch.randn(4, 5, 5, 10)
    gradients = []
    for wrap in (
        lambda f, x: f(x),
        lambda f, x: torch.utils.checkpoint.checkpoint(f, x, use_reentrant=False),
    ):
        made.zero_grad()
        torch.manual_seed(3)
        wrap(made, x.clone().requires_grad_()).square().sum().backward()
        gradients.append([p.grad.clone() for p in (made.A, made.B, made.experts.weight)])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)


def test_what_is_remembered_serves_any_mode_and_any_default_device():
    for size in (7, 9):
        made, x = layer(), torch.randn(2, size, size, 10)
        with torch.inference_mode(), torch.device("meta" if size == 9 else "cpu"):
            made(x)
        made(x.requires_grad_()).sum().backward()
        assert made.experts.weight.grad.any()


@pytest.mark.slow
def test_compiled_it_is_the_same():
    made, x = layer(), torch.randn(4, 6, 6, 10)
    expected = made(x)
    compiled = torch.compile(made, fullgraph=True)
    torch.testing.assert_close(compiled(x), expected, rtol=1e-4, atol=1e-5)
    compiled(x).sum().backward()
    assert made.experts.weight.grad.any()


SIZES = {
    "vit_b": (3_624_768, 3_616_128, 93_434_768),
    "vit_l": (3_817_728, 3_800_448, 312_235_088),
    "vit_h": (4_020_096, 3_997_056, 641_185_232),
}


@pytest.mark.parametrize("name", SIZES)
def test_counts_of_the_paper_to_the_unit(name):
    conv, lora, everything = SIZES[name]

    def counted(method, **options):
        with torch.device("meta"):
            model = heads.SemanticSam(moe.backbones.sam(name, weights=False), **options)
        return moe.trainable_parameters(moe.inject(model, method)), model

    ours, model = counted(moe.ConvLoRA(also=heads.DECODER))
    place = (
        model.prompt_encoder.pe_layer.positional_encoding_gaussian_matrix
    )  # a parameter in the official code
    assert (ours.trainable, ours.all + place.numel()) == (conv, everything)
    assert counted(moe.LoRA(3, 32, also=heads.DECODER))[0].trainable == lora
    assert counted(moe.Open(heads.DECODER))[0].trainable == 3_505_536
    several = counted(moe.ConvLoRA(also=heads.DECODER), classes=12)[0].trainable
    assert several == conv + 256 * (10 - 1) + 257 * (12 + 1)
    width, blocks = model.sizes.width, model.sizes.depth
    assert conv - 3_505_536 == blocks * (12 * width + 720)


def test_it_is_refused_with_a_reason():
    for wrong, word in (
        (dict(rank=0), "rank is a whole number from 1"), (dict(experts=0), "experts is a whole number"),
        (dict(top_k=9), "top_k is a whole number from 1 to 8"), (dict(gate="oficial"), "gate is one of"),
        (dict(gate="fixed:0"), "fixed:1"), (dict(gate="fixed:9"), "fixed:8"),
        (dict(gate="dense", top_k=2), "for a router that chooses"), (dict(combine="max"), "combine is one"),
        (dict(ratios=(1, 2)), "8 experts need as many"), (dict(ratios=(0,) * 8), "whole ratios from 1"),
        (dict(interpolation="nearest"), "interpolation is one of"), (dict(route="token"), "route is one of"),
        (dict(kernel=5), "kernel is one of 1, 3"), (dict(alpha=math.inf), "alpha is a finite number"),
        (dict(balance=math.nan), "balance is a finite number"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=word):
            moe.ConvLoRA(**wrong)
    with pytest.raises(TypeError, match="'norm1' is a LayerNorm"):
        moe.ConvLoRA().wrap(nn.LayerNorm(3), "norm1")


def test_an_official_state_that_does_not_fit_is_refused():
    state = {"weight": torch.zeros(6, 4), "lora_A": torch.zeros(3, 4), "lora_B": torch.zeros(6, 3)}
    with pytest.raises(ValueError, match=r"'lora_moe_gating\.w_gate' is missing; the layer has lora_A"):
        moe.ConvLoRALinear.from_official(state, rank=3, alpha=32, experts=2)
    for name in ("w_gate", "w_noise"):
        state[f"lora_moe_gating.{name}"] = torch.zeros(3, 2)
    for i in range(3):
        state |= {f"lora_moe_experts.{i}.0.weight": torch.zeros(3, 3, 3, 3)}
        state |= {f"lora_moe_experts.{i}.0.bias": torch.zeros(3)}
    with pytest.raises(ValueError, match="the layer has 3 experts, and 2 are asked for"):
        moe.ConvLoRALinear.from_official(state, rank=3, alpha=32, experts=2)


def test_biases_of_experts_do_not_decay():
    from moe_lib.train import groups

    model = moe.inject(tiny_methods.sam(), moe.ConvLoRA(experts=2, targets="qkv"))
    plain = {id(p) for g in groups(model, 0.1) if not g["weight_decay"] for p in g["params"]}
    named = {name for name, p in model.named_parameters() if id(p) in plain}
    assert named == {f"image_encoder.blocks.{i}.attn.qkv.experts.bias" for i in (0, 1)}
