"""SERA: DETRIS's modules as its code ran them, and an independent calculation of what SERA adds."""

import re
from functools import partial

import numpy as np
import pytest
import torch
from cases import cases, close, read
from timm.models.vision_transformer import Block
from torch import Tensor, nn

import moe_lib as moe
from moe_lib import metrics, routing
from moe_lib.backbones import Said
from moe_lib.heads.referring import (
    Neck,
    PlaceDecoder,
    Projector,
    Referred,
    coordinates,
    referring_loss,
    waves,
    waves_of,
)
from moe_lib.methods.aligner import Aligner, TextAdapter
from moe_lib.methods.sera import AlignedMlp, Experts
from moe_lib.methods.sera_fusion import KERNELS, Boundary, Filter, Fusion, Plane

# Largest difference by largest number, and at least so much: of DETRIS's modules, and of the calculation.
DTYPES = pytest.mark.parametrize("dtype, bound", [(torch.float64, 1e-12), (torch.float32, 1e-4)])
ABSOLUTE = 1e-10

# What the published code calls a part, and what it is called here.
NAMES = (
    (r"dense_branch1\.", "branches.one."), (r"dense_branch2\.", "branches.three."),
    (r"dense_branch3\.", "branches.five."), (r"\.conv\.", ".0."), (r"\.bn\.", ".1."),
    (r"D_fc1", "down"), (r"D_fc2", "up"), (r"cross\.multihead_attn", "look.attention"),
    (r"cross\.image_proj", "look.enter"), (r"cross\.text_proj", "look.words"),
    (r"cross\.back_proj", "look.leave"),
    (r"^mlp\.", "mlp.base."), (r"^adapter\.", "mlp.adapter."),
    (r"fusion(\d)\.multihead_attn", lambda m: f"weigh.{int(m[1]) - 3}"), (r"txt_proj", "say"),
    (r"f(\d)_proj", lambda m: f"enter.{int(m[1]) - 3}"), (r"aggr", "join"),
    (r"coordconv\.0\.conv1", "place"), (r"coordconv\.1", "mix"),
    (r"self_attn_norm", "after.0"), (r"cross_attn_norm", "after.1"), (r"\.self_attn\.", ".itself."),
    (r"\.multihead_attn\.", ".words."), (r"\.ffn\.", ".feed."),
    (r"\.norm([123])\.", lambda m: f".norms.{int(m[1]) - 1}."), (r"^vis\.", "enlarge."), (r"^txt\.", "say."),
)  # fmt: skip


def ours(name: str) -> str:
    """The name that a tensor of the published code has here."""
    for pattern, here in NAMES:
        name = re.sub(pattern, here, name)
    return name


def load(module: nn.Module, arrays: dict[str, Tensor], prefix: str, dtype: torch.dtype) -> nn.Module:
    """All tensors of a case that begin with a prefix, and no other."""
    state = {ours(name[len(prefix) :]): v for name, v in arrays.items() if name.startswith(prefix)}
    state |= {n: v for n, v in module.state_dict().items() if n.endswith("num_batches_tracked")}
    module.to(dtype).load_state_dict(state)
    return module


def gradients_agree(module: nn.Module, arrays: dict[str, Tensor], prefix: str, bound: float) -> None:
    expected = {name: v for name, v in arrays.items() if name.startswith(prefix)}
    assert expected
    for name, gradient in expected.items():
        parameter = module.get_parameter(ours(name[len(prefix) :]))
        close(f"gradient of {name}", parameter.grad, gradient, bound, bound)


def leaf(x: Tensor, dtype: torch.dtype) -> Tensor:
    return x.to(dtype).clone().requires_grad_()


def sizes(arrays: dict[str, Tensor], prefix: str) -> dict:
    """How wide an aligner is."""
    down, inner = arrays[f"{prefix}D_fc1.weight"], arrays[f"{prefix}cross.image_proj.weight"]
    words = arrays[f"{prefix}cross.text_proj.weight"].shape[1]
    return {"channels": down.shape[1], "words": words, "width": len(down), "inside": len(inner)}


@DTYPES
@pytest.mark.parametrize("mode", ["eval", "train"])
@cases("sera", has="block.adapter.D_fc1.weight")
def test_an_aligner_alone_and_one_for_words(case, mode, dtype, bound):
    _, arrays = read(case)
    size, side = sizes(arrays, "block.adapter."), int(arrays["grid"])
    aligner = Aligner(**size, heads=int(arrays["cross_heads"]), dropout=0)
    load(aligner, arrays, "block.adapter.", dtype).train(mode == "train")
    x, text = leaf(arrays["x"], dtype), leaf(arrays["text"], dtype)
    out = aligner(x, (side, side), text)
    close("aligner", out, arrays[f"{mode}.aligner_out"], bound)
    (out * arrays["cot_x"]).sum().backward()
    close("gradient of x", x.grad, arrays[f"{mode}.aligner_grad_x"], bound)
    close("gradient of text", text.grad, arrays[f"{mode}.aligner_grad_text"], bound)

    adapter = TextAdapter(size["words"], len(arrays["text_adapter.D_fc1.weight"]))
    load(adapter, arrays, "text_adapter.", dtype).train(mode == "train")
    text = leaf(arrays["text"], dtype)
    out = adapter(text)
    close("text adapter", out, arrays[f"{mode}.text_adapter_out"], bound)
    (out * arrays["cot_text"]).sum().backward()
    close("gradient of text", text.grad, arrays[f"{mode}.text_adapter_grad_text"], bound)
    gradients_agree(adapter, arrays, f"{mode}.grad.text_adapter.", bound)


@DTYPES
@pytest.mark.parametrize("mode", ["eval", "train"])
@cases("sera", has="block.adapter.D_fc1.weight")
def test_a_block_of_the_vit_with_its_adapter(case, mode, dtype, bound):
    _, arrays = read(case)
    size, side = sizes(arrays, "block.adapter."), int(arrays["grid"])
    ratio = len(arrays["block.mlp.fc1.bias"]) / size["channels"]
    norm = partial(nn.LayerNorm, eps=1e-6)
    block = Block(
        size["channels"], int(arrays["block_heads"]), ratio, qkv_bias=True, init_values=1, norm_layer=norm
    )
    method = moe.SERA(
        words=size["words"], rank=size["width"], heads=int(arrays["cross_heads"]), dropout=0, stage="none",
        scale=float(arrays["adapter_scale"]), mask_padding=False,
    )  # fmt: skip
    block.mlp = AlignedMlp(block.mlp, block.mlp.fc1, method)
    block.mlp.adapter = Aligner(**size, heads=int(arrays["cross_heads"]), dropout=0)
    load(block, arrays, "block.", dtype).train(mode == "train")
    x, text = leaf(arrays["x"], dtype), leaf(arrays["text"], dtype)
    assert x.shape[1] - side**2 == int(arrays["split_token"])
    padding = torch.zeros(text.shape[:2], dtype=torch.bool)
    block.mlp.told = (side, side), Said(text, text[:, 0], padding)
    out = block(x)
    close("block", out, arrays[f"{mode}.block_out"], bound)
    (out * arrays["cot_x"]).sum().backward()
    close("gradient of x", x.grad, arrays[f"{mode}.block_grad_x"], bound)
    close("gradient of text", text.grad, arrays[f"{mode}.block_grad_text"], bound)
    gradients_agree(block, arrays, f"{mode}.grad.block.", bound)
    if mode == "train":
        for name in (name for name in arrays if name.startswith("train.after.block.")):
            close(name, block.get_buffer(ours(name.removeprefix("train.after.block."))), arrays[name], bound)


@DTYPES
@pytest.mark.parametrize("mode", ["eval", "train"])
@cases("sera", has="neck.txt_proj.weight")
def test_neck_decoder_projector_and_loss(case, mode, dtype, bound):
    _, arrays = read(case)
    (width, sentence), channels = arrays["neck.txt_proj.weight"].shape, arrays["v3"].shape[1]
    heads, layers = int(arrays["heads"]), int(arrays["num_layers"])
    inside = len(arrays["decoder.layers.0.ffn.0.bias"])
    neck, decoder, projector = (
        load(module, arrays, f"{name}.", dtype).train(mode == "train")
        for name, module in (
            ("neck", Neck(channels, sentence, width, heads)),
            ("decoder", PlaceDecoder(width, layers, heads, inside, 0.0)),
            ("proj", Projector(sentence, width)),
        )
    )
    given = {name: leaf(arrays[name], dtype) for name in ("v3", "v4", "v5", "state", "words")}
    joined = neck([given[name] for name in ("v3", "v4", "v5")], given["state"])
    joined.retain_grad()
    decoded = decoder(joined, given["words"], arrays["pad_mask"])
    logits = projector(decoded, given["state"])
    mask = arrays["mask_full"][:, 0]
    loss = referring_loss(Referred(logits, mask.shape[-2:]), mask)
    for name, found in (
        ("neck_out", joined), ("decoder_out", decoded), ("logits", logits), ("loss", loss)
    ):  # fmt: skip
        close(name, found, arrays[f"{mode}.{name}"], bound)
    loss.backward()
    # Rounding of a sum over the whole batch norm: a floor of the largest gradient's size.
    for name, found in (*given.items(), ("neck_out", joined)):
        close(f"gradient of {name}", found.grad, arrays[f"{mode}.grad_{name}"], 10 * bound, bound)
    if mode == "eval":
        for name, part in (("neck", neck), ("decoder", decoder), ("proj", projector)):
            gradients_agree(part, arrays, f"eval.grad.{name}.", 10 * bound)
        for attention in neck.weigh:  # one key: nothing is decided, nothing learnt
            assert not attention.in_proj_weight.grad[: 2 * width].any()
            assert attention.in_proj_weight.grad[2 * width :].any()


@DTYPES
@cases("sera", has="proj_only_x")
def test_a_projector_alone(case, dtype, bound):
    _, arrays = read(case)
    width, sentence = arrays["neck.txt_proj.weight"].shape
    projector = load(Projector(sentence, width), arrays, "proj.", dtype).eval()
    x, state = leaf(arrays["proj_only_x"], dtype), leaf(arrays["proj_only_state"], dtype)
    out = projector(x, state)
    close("projector", out, arrays["proj_only_out"], bound)
    (out * arrays["proj_only_cot"]).sum().backward()
    close("gradient of x", x.grad, arrays["proj_only_grad_x"], bound)
    close("gradient of the sentence", state.grad, arrays["proj_only_grad_state"], bound)


@cases("sera", has="vis_pos")
def test_places(case):
    _, arrays = read(case)
    side, width = round(len(arrays["vis_pos"]) ** 0.5), arrays["vis_pos"].shape[-1]
    close("of words", waves(len(arrays["txt_pos"]), width), arrays["txt_pos"][:, 0], 1e-7)
    close("of a picture", waves_of((side, side), width), arrays["vis_pos"][:, 0], 1e-7)


@pytest.mark.parametrize("biases", [True, False])
@cases("sera", has="W1")
def test_the_router_of_the_neck(case, biases):
    _, arrays = read(case)
    x, logits = arrays["X"], arrays["logits" if biases else "logits_no_bias"]
    for k in range(1, logits.shape[1] + 1):
        fusion = Fusion(x.shape[1], k=k, hidden=len(arrays["b1"])).double().eval()
        keep = float(biases)
        state = {"0.weight": arrays["W1"], "0.bias": keep * arrays["b1"]}
        fusion.router.load_state_dict(
            state | {"2.weight": arrays["W2"], "2.bias": keep * arrays["b2"]}
        )  # fmt: skip
        gates = fusion.decided(x)
        close("mean", x.mean((-2, -1)), arrays["z"], 0, ABSOLUTE)
        close("logits", fusion.routing.logits, logits, 0, ABSOLUTE)
        if biases:
            assert torch.equal(fusion.routing.chosen, arrays[f"k{k}_idx"])
            close("gates", gates, arrays[f"k{k}_gates"], 0, ABSOLUTE)
            added = [lambda rows, e=e: rows[:, e] for e in range(logits.shape[1])]
            mixed = routing.dispatch(arrays["expert_out"], fusion.routing, added)
            close("mixed", mixed, arrays[f"k{k}_mixed"], 0, ABSOLUTE)


@cases("sera", has="ad_R")
def test_the_experts_of_an_adapter_are_mixed(case):
    _, arrays = read(case)
    rich = arrays["ad_G_rich"]
    stage = Experts(rich.shape[1], moe.SERA(rank=16), 8).double()
    stage.router.load_state_dict({"weight": arrays["ad_R"], "bias": arrays["ad_rbias"]})
    gates = stage.weighed(rich)
    close("mean", rich.mean((-2, -1)), arrays["ad_z"], 0, ABSOLUTE)
    close("weights", gates, arrays["ad_w"], 0, ABSOLUTE)
    mixed = stage.mixed(rich, arrays["ad_E_s"], arrays["ad_E_b"], gates)
    close("mixed", mixed, arrays["ad_G_corr"], 0, ABSOLUTE)


@cases("sera", has="normal_logits")
def test_losses_of_the_neck(case):
    _, arrays = read(case)
    weights = [float(arrays[f"lambda_{name}"]) for name in ("z", "bal", "tok")]
    for table in ("normal", "peaked", "collapsed", "nearuniform"):
        number = arrays[f"{table}_logits"].shape[1]
        for k in range(1, number + 1):
            logits, at = leaf(arrays[f"{table}_logits"], torch.float64), f"{table}_k{k}"
            _, record = routing.top_k(logits, k, softmax="after")
            fusion = Fusion(8, k=k, weights=weights)
            choices = routing.switch_loss(record)
            total = fusion._balance(record)
            if k == number:  # constant here, and left out
                close("choices", choices, arrays[f"{at}_assign"], 0, ABSOLUTE)
                total = total + weights[2] * choices
            close(f"{at} total", total, arrays[f"{at}_moe_total"], 0, ABSOLUTE)
            total.backward()
            expected = (
                weights[0] * arrays[f"{table}_z_meansq_grad"] + weights[2] * arrays[f"{at}_assign_grad"]
                + weights[1] * arrays[f"{at}_cv2_importance_grad_logits"]
            )  # fmt: skip
            close(f"{at} gradient", logits.grad, expected, 0, ABSOLUTE)


FILTERED = {"gx": "sobel x", "gy": "sobel y", "lap4": "laplacian", "lap8": "laplacian 8", "blur": "blur"}


@pytest.mark.parametrize("padding", ["zero", "replicate"])
@cases("sera", has="k_sobel_x")
def test_filters(case, padding):
    _, arrays = read(case)
    for name in ("X", "const", "ramp_x", "ramp_y", "quad", "step"):
        x, found = arrays[name], {}
        for short, kernel in FILTERED.items():
            found[short] = Filter(kernel, x.shape[1], padding=padding).double()(x)
            close(f"{short} of {name}", found[short], arrays[f"{name}_{padding}_{short}"], 0, ABSOLUTE)
        _, size, _ = Boundary(x.shape[1], padding=padding).double().seen(x).chunk(3, 1)
        close("slope", size, arrays[f"{name}_{padding}_mag_eps1e-6"], 0, ABSOLUTE)
        _, size, _ = Boundary(x.shape[1], padding=padding, eps=0).double().seen(x).chunk(3, 1)
        close("slope", size, arrays[f"{name}_{padding}_mag"], 0, ABSOLUTE)
    short = {"sobel_x": "sobel x", "sobel_y": "sobel y", "lap4": "laplacian", "lap8": "laplacian 8"}
    for name in ("sobel_x", "sobel_y", "lap4", "lap8", "blur", "box"):
        kernel = torch.tensor(KERNELS[short.get(name, name)], dtype=torch.float64)
        close(name, kernel, arrays[f"k_{name}"], 0, 1e-15)


@cases("sera", has="bnd_W")
def test_two_experts_of_the_neck(case):
    _, arrays = read(case)
    x = arrays["X"]
    boundary = Boundary(x.shape[1]).double()
    weight, bias = arrays["bnd_W"][..., None, None], arrays["bnd_b"]
    boundary.mix.load_state_dict({"weight": weight, "bias": bias})
    close("stack", boundary.seen(x), arrays["boundary_stack"], 0, ABSOLUTE)
    close("boundary", x + boundary(x), arrays["bnd_out"], 0, ABSOLUTE)
    plane = Plane(x.shape[1], float(arrays["spa_alpha"])).double()
    plane.mix.load_state_dict({"weight": arrays["spa_W"][..., None, None], "bias": arrays["spa_b"]})
    # The library's coordinates are float32, as those of the published neck.
    close("spatial", x + plane(x), arrays["spa_out"], 0, 1e-6)
    for name in (name for name in arrays if name.startswith("coord_")):
        height, width = map(int, name.rpartition("_")[2].split("x"))
        found = coordinates(height, width, inside="centre" in name)
        close(name, found, arrays[name], 0, 1e-6)


@pytest.mark.parametrize("prefix, threshold", [("main_", None), ("t50_", 0.5)])
@cases("sera", has="prob")
def test_scores(case, prefix, threshold):
    _, arrays = read(case)
    at = float(arrays["threshold"]) if threshold is None else threshold
    probability, mask = arrays["prob"], arrays["mask"]
    both, either = metrics.areas(probability, mask, threshold=at)
    assert torch.equal(both, arrays[f"{prefix}inter"]) and torch.equal(either, arrays[f"{prefix}union"])
    for name, ious in (
        ("noeps", metrics.iou(probability, mask, threshold=at)), ("eps1e-6", both / (either.double() + 1e-6))
    ):  # fmt: skip
        torch.testing.assert_close(ious, arrays[f"{prefix}{name}_iou"], rtol=0, atol=1e-12)
        assert float(ious.mean()) == pytest.approx(float(arrays[f"{prefix}{name}_miou"]), abs=1e-12)
        shares = [metrics.share_above(ious, x) for x in arrays["pr_thresholds"].tolist()]
        np.testing.assert_array_equal(shares, arrays[f"{prefix}{name}_pr"])
    assert metrics.overall_iou(both.double(), either) == pytest.approx(float(arrays[f"{prefix}oiou"]))


@cases("sera", has="rag0_prob")
def test_scores_of_pictures_of_all_sizes(case):
    _, arrays = read(case)
    at, found = float(arrays["threshold"]), []
    for i in range(sum(name.startswith("rag") and name.endswith("_prob") for name in arrays)):
        pair = (arrays[f"rag{i}_prob"][None], arrays[f"rag{i}_mask"][None])
        found.append((*metrics.areas(*pair, threshold=at), metrics.iou(*pair, threshold=at)))
    both, either, ious = (torch.cat(values) for values in zip(*found, strict=True))
    assert torch.equal(both, arrays["rag_inter"]) and torch.equal(either, arrays["rag_union"])
    torch.testing.assert_close(ious, arrays["rag_iou"], rtol=0, atol=1e-6)
    assert metrics.overall_iou(both.double(), either) == pytest.approx(float(arrays["rag_oiou"]))
