"""The reference of MLE-SAM's parts, in float64 and float32."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from cases import cases, read
from torch import Tensor, nn

from moe_lib import losses, metrics
from moe_lib.heads.sensors import AllMLPHead, ClassDecoder, SensorRouter, fused
from moe_lib.methods.mle_sam import SensorLinear

EXACT, SINGLE = dict(rtol=1e-10, atol=1e-12), dict(rtol=1e-4, atol=1e-5)
DTYPES = pytest.mark.parametrize(
    "dtype, tolerance", [(torch.float64, EXACT), (torch.float32, SINGLE)], ids=["float64", "float32"]
)


def agree(found: Tensor, expected: Tensor, tolerance: dict) -> None:
    torch.testing.assert_close(found.detach(), expected.to(found.dtype), **tolerance)


def attention(qkv: Tensor, heads: int, out: nn.Linear) -> tuple[Tensor, Tensor]:
    """Plain attention of ``(M, B, N, 3 O)``: its map, and what leaves it."""
    q, k, v = (x.unflatten(-1, (heads, -1)).transpose(-3, -2) for x in qkv.chunk(3, -1))
    weights = (q @ k.mT / q.shape[-1] ** 0.5).softmax(-1)
    return weights, out((weights @ v).transpose(-3, -2).flatten(-2))


def linear(weight: Tensor, bias: Tensor, dtype: torch.dtype) -> nn.Linear:
    layer = nn.Linear(*weight.shape[::-1], dtype=dtype).requires_grad_(False)
    layer.load_state_dict({"weight": weight, "bias": bias})
    return layer


@DTYPES
@pytest.mark.parametrize("kind", ["sq_", "wd_"])
@cases("mle_sam", has="sq_W_qkv")
def test_a_lora_for_each_sensor(case, kind, dtype, tolerance):
    _, arrays = read(case)
    arrays = {name[len(kind) :]: v for name, v in arrays.items() if name.startswith(kind)}
    x, out = arrays["x"].to(dtype), linear(arrays["W_o"], arrays["b_o"], dtype)
    sensors, heads = len(x), int(arrays["heads"])
    rank, narrow = arrays["A_q"].shape[1], [False, True] if "narrow_q" in arrays else [False]
    for quirk in narrow:
        base = linear(arrays["W_qkv"], arrays["b_qkv"], dtype)
        layer = SensorLinear(base, sensors, rank, float(arrays["scale"]), narrow=quirk)
        frozen = layer(x.flatten(0, 1)).unflatten(0, x.shape[:2])
        agree(attention(frozen, heads, out)[1], arrays["out_frozen"], tolerance)
        state = {name: arrays[name] for name in ("A_q", "A_v", "B_q", "B_v")}
        if quirk:  # an update as wide as the input
            state = {n: v[:, -layer.width :] if n == "B_v" else v[:, : layer.width] if n == "B_q" else v
                     for n, v in state.items()}  # fmt: skip
        layer.load_state_dict(state, strict=False)
        qkv = layer(x.flatten(0, 1)).unflatten(0, x.shape[:2])
        before = "narrow_" if quirk else ""
        for name, part in zip("qkv", qkv.chunk(3, -1), strict=True):
            agree(part, arrays["k" if name == "k" else before + name], tolerance)
        weights, answer = attention(qkv, heads, out)
        agree(answer, arrays[f"{before}out"], tolerance)
        if not quirk:
            agree(weights, arrays["attn"], tolerance)
            merged = torch.einsum("mod,mbnd->mbno", arrays["W_qkv_merged"].to(dtype), x) + layer.base.bias
            agree(qkv, merged, tolerance)
        for i in range(sensors):  # any of them alone, and in any order
            layer.present = (i,)
            agree(layer(x[i]), qkv[i], tolerance)
        layer.present = (1, 0)
        agree(layer(x[[1, 0]].flatten(0, 1)).unflatten(0, (2, -1)), qkv[[1, 0]], tolerance)


KINDS = {
    "softmax": {}, "sigmoid": {"by": "sigmoid"},
    "top1": {"k": 1}, "top2": {"k": 2},
    "top1_raw": {"k": 1, "renormalise": False}, "top2_raw": {"k": 2, "renormalise": False},
}  # fmt: skip


@DTYPES
@pytest.mark.parametrize("kind", KINDS)
@cases("mle_sam", has="F0")
def test_routing_of_sensors(case, kind, dtype, tolerance):
    _, arrays = read(case)
    available = arrays["available"].bool()
    for level in sorted(int(name[1:]) for name in arrays if name[0] == "F" and name[1:].isdigit()):
        features = arrays[f"F{level}"].to(dtype)
        router = SensorRouter(features.shape[2], len(features), **KINDS[kind]).to(dtype)
        router.load_state_dict({"weight": arrays[f"Wr{level}"], "bias": arrays[f"br{level}"]})
        agree(router.scores(features), arrays[f"logit{level}"], tolerance)
        weights = router(features, available)
        agree(weights, arrays[f"w_{kind}{level}"], tolerance)
        if f"fused_{kind}{level}" in arrays:
            agree(fused(features, weights), arrays[f"fused_{kind}{level}"], tolerance)
        even = available.to(dtype) / available.sum(-1, keepdim=True)
        agree(even, arrays[f"w_mean{level}"], tolerance)
        agree(fused(features, even), arrays[f"fused_mean{level}"], tolerance)
        if kind == "softmax":
            both = fused(features, even) + fused(features, weights)
            agree(both, arrays[f"fused_sum{level}"], tolerance)
        changed = torch.where(available.mT[..., None, None, None], features, 99.0)
        agree(router(changed, available), weights.detach(), tolerance)  # a missing sensor says nothing


@DTYPES
@cases("mle_sam", has="aux_logits")
def test_heads(case, dtype, tolerance):
    _, arrays = read(case)
    levels = [arrays[f"P{i}"].to(dtype) for i in range(3)]
    width, classes = len(arrays["fuse_b"]), len(arrays["cls_b"])
    head = AllMLPHead([x.shape[1] for x in levels], classes, width, layers=1).to(dtype).eval()
    state = {
        f"enter.{i}.layers.0.{k}": arrays[f"proj_{k[0]}{i}"] for i in range(3) for k in ("weight", "bias")
    }
    for name, ours in (("fuse", "fuse"), ("cls", "leave")):
        state |= {f"{ours}.weight": arrays[f"{name}_w"][..., None, None], f"{ours}.bias": arrays[f"{name}_b"]}
    head.load_state_dict(state)
    aux = head(levels)
    agree(aux, arrays["aux_logits"], tolerance)

    tokens, pixels = arrays["tokens"].to(dtype), arrays["pixels"].to(dtype)

    def hidden(layer: int, token: int) -> nn.Linear:
        return linear(arrays[f"hyp_w{layer}"][token], arrays[f"hyp_b{layer}"][token], dtype)

    decoder = ClassDecoder(classes, 8, heads=1, inside=8, depth=1)
    decoder.mlps = nn.ModuleList(
        nn.Sequential(hidden(0, i), nn.ReLU(), hidden(1, i), nn.ReLU(), hidden(2, i))
        for i in range(classes + 1)
    )
    main = decoder.masks(tokens, pixels)
    agree(main, arrays["token_logits_all"], tolerance)
    agree(main[:, 1:], arrays["main_logits"], tolerance)
    total = F.interpolate(main[:, 1:] + aux, scale_factor=2, mode="bilinear", align_corners=False)
    agree(total, arrays["sum_logits_up"], tolerance)


@cases("mle_sam", has="ohem_main")
def test_losses_and_scores(case):
    _, arrays = read(case)
    label = arrays["label"]
    large = {
        name: F.interpolate(arrays[f"{name}_logits"], scale_factor=2, mode="bilinear", align_corners=False)
        for name in ("main", "aux")
    }
    for name, logits in large.items():
        agree(losses.ohem(logits, label), arrays[f"ohem_{name}"], EXACT)
        agree(F.cross_entropy(logits, label, ignore_index=255), arrays[f"ce_{name}"], EXACT)
    agree(losses.ohem(arrays["conf_logits"], label), arrays["ohem_conf"], EXACT)
    total = losses.ohem(large["main"], label) + 0.4 * losses.ohem(large["aux"], label)
    agree(total, arrays["total_loss"], EXACT)
    for name, logits in (("sum", arrays["sum_logits_up"]), ("conf", arrays["conf_logits"])):
        found = metrics.confusion(logits.argmax(1), label, logits.shape[1])
        assert torch.equal(found.long(), arrays[f"hist_{name}"])
        np.testing.assert_allclose(metrics.class_iou(found), arrays[f"iou_{name}"], rtol=1e-10)
        for absent, ours in (("zero", "zero"), ("nan", "skip")):
            expected = pytest.approx(float(arrays[f"miou_{absent}_{name}"]))
            assert 100 * metrics.mean_iou(found, absent=ours) == expected
