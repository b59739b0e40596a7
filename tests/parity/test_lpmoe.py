"""The official code of Controllable-LPMoE: its extractor, its interactions, its whole network."""

import re

import numpy as np
import torch
from cases import cases, close, read
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

import moe_lib as moe
from moe_lib.backbones import PlainVit
from moe_lib.methods.local_priors import LocalPriors
from moe_lib.methods.lpmoe import Extract, Inject, LPMoE

OUT, GRADIENT = (1e-5, 1e-6), (1e-3, 1e-5)  # relative, absolute

# What the official code calls a part, and what it is called here.
NAMES = (
    (r"^module1\.", "priors."),
    (r"^module2\.(\d)\.module2_1\.", r"inject.\1."),
    (r"^module2\.(\d)\.module2_2\.", r"extract.\1."),
    (r"^module2\.3\.extra_extractors\.0\.", "extract.4."),
    (r"^module2\.3\.extra_extractors\.1\.", "extract.5."),
    (r"^norm(\d)\.", lambda m: f"norms.{int(m[1]) - 1}."),
    (r"MoEConv\.gating_network\.", "mixture.gate."),
    (r"MoEConv\.expert_([abcd])\.", lambda m: f"mixture.experts.{'abcd'.index(m[1])}."),
    (r"(^|\.)stem\.", r"\1downs.0."),
    (r"(^|\.)conv([234])\.", lambda m: f"{m[1]}downs.{int(m[2]) - 1}."),
    (r"(^|priors\.)fc1\.", r"\1out."),
    (r"\.Conv_1\.", ".enter."),
    (r"\.reduce\.(?=\d)", ".leave."),
    (r"\.(?:DConv|ATConv|WTConv)_([357])\.", lambda m: f".steps.{(int(m[1]) - 3) // 2}."),
    (r"\.ASConv_1_([357])\.", lambda m: f".steps.{(int(m[1]) - 3) // 2}.row."),
    (r"\.ASConv_([357])_1\.", lambda m: f".steps.{(int(m[1]) - 3) // 2}.column."),
    (r"(downs\.\d|enter|leave|steps\.\d|row|column)\.0\.", r"\1.conv."),
    (r"(downs\.\d|enter|leave|steps\.\d|row|column)\.1\.", r"\1.norms.0."),
    (r"base_conv", "base"), (r"base_scale\.weight", "base_scale"),
    (r"wavelet_convs\.0", "bands"), (r"wavelet_scale\.0\.weight", "bands_scale"),
    (r"\.?feat_norm", lambda m: m[0].replace("feat_norm", "value_norm")),
    (r"attn\.sampling_offsets", "attention.offsets"), (r"attn\.attention_weights", "attention.weights"),
    (r"attn\.value_proj", "attention.value"), (r"attn\.output_proj", "attention.out"),
    (r"ffn\.fc1", "ffn.enter"), (r"ffn\.fc2", "ffn.leave"), (r"ffn\.dwconv\.dwconv", "ffn.near"),
    (r"ffn\.dwconv\.moe_attention\.ca\.conv", "ffn.plain"),
    (r"ffn\.dwconv\.moe_attention\.ra\.conv", "ffn.reverse"),
    (r"ffn\.dwconv\.moe_attention\.Gating", "ffn.gate"),
)  # fmt: skip


def ours(name: str) -> str:
    """The name that a tensor of the official state has here."""
    for pattern, here in NAMES:
        name = re.sub(pattern, here, name)
    return name


def load(module: nn.Module, arrays: dict[str, Tensor], prefix: str) -> nn.Module:
    """All tensors of a case that begin with a prefix, and no other; the fixed Haar taps are not needed."""
    state = {ours(name[len(prefix) :]): v for name, v in arrays.items() if name.startswith(prefix)}
    state = {name: v for name, v in state.items() if not name.endswith("wt_filter")}
    for name, own in module.state_dict().items():
        if name.endswith("num_batches_tracked"):
            state[name] = own
    module.load_state_dict(state)
    return module.eval()


def gradients_agree(module: nn.Module, arrays: dict[str, Tensor], prefix: str, floor: float = 0.0) -> None:
    expected = {name: v for name, v in arrays.items() if name.startswith(prefix)}
    assert expected
    for name, gradient in expected.items():
        found = module.get_parameter(ours(name[len(prefix) :])).grad
        relative, absolute = GRADIENT
        close(f"gradient of {name}", found, gradient, relative, max(absolute, floor))


def whole(values: dict, start: str) -> list[str]:
    return sorted(name for name in values if name.startswith(start))


@cases("lpmoe", has="out/c1")
def test_local_priors(case):
    meta, arrays = read(case)
    priors = load(LocalPriors(meta["inplanes"], meta["embed_dim"]), arrays, "w/")
    image = arrays["in/image"].clone().requires_grad_()
    with moe.watch_routing(priors) as records:
        first, *levels = priors(image)
    found = {"c1": first} | {f"c{i}": level.flatten(2).mT for i, level in enumerate(levels, 2)}
    for name, values in found.items():
        close(name, values, arrays[f"out/{name}"], *OUT)
    for scale, record in enumerate(records["mixture.gate"], 1):
        close(f"gate {scale}", record.gates, arrays[f"gate/scale{scale}"], *OUT)
    sum((values * arrays[f"r/{name}"]).sum() for name, values in found.items()).backward()
    gradients_agree(priors, arrays, "g/")
    if "gin/image" in arrays:
        close("gradient of the image", image.grad, arrays["gin/image"], *GRADIENT)


@cases("lpmoe", has="moe_odd/in/x")
def test_the_mixture_alone_on_an_odd_map(case):
    meta, arrays = read(case)
    priors = load(LocalPriors(meta["inplanes"], meta["embed_dim"]), arrays, "w/")
    mixture, u = priors.mixture, arrays["moe_odd/in/x"].clone().requires_grad_()
    out = mixture(u)
    close("out", out, arrays["moe_odd/out/y"], *OUT)
    close("gate", mixture.gate.routing.gates, arrays["moe_odd/gate"], *OUT)
    for name in whole(arrays, "moe_odd/mid/expert"):
        letter = name.rpartition("_")[2]
        close(name, mixture.experts["abcd".index(letter)](u), arrays[name], *OUT)
    (out * arrays["moe_odd/r/y"]).sum().backward()
    gradients_agree(priors, arrays, "moe_odd/g/")
    for name in whole(arrays, "moe_odd/gin"):
        close("gradient of the map", u.grad, arrays[name], *GRADIENT)


@cases("lpmoe", has="inject/out")
def test_interactions(case):
    meta, arrays = read(case)
    width = arrays["in/x"].shape[-1]
    method = LPMoE(
        heads=meta["num_heads"], points=meta["n_points"], ratio=meta["deform_ratio"], eps=meta["ln_eps"]
    )
    modules = {
        "inject": load(Inject(width, method), arrays, "w/inject."),
        "extract": load(Extract(width, method), arrays, "w/extract."),
    }
    for name, module in modules.items():
        x, c = (arrays[f"in/{key}"].clone().requires_grad_() for key in "xc")
        places = arrays[f"ref/{name}_points"][0, :, 0]
        sizes = [tuple(size) for size in arrays[f"ref/{name}_shapes"].tolist()]
        if name == "inject":
            out = module(x, c, places, sizes)
        else:
            scales = [tuple(s) for s in arrays["ref/inject_shapes"].tolist()]
            out = module(c, x, places, scales, sizes[0])
        close(name, out, arrays[f"{name}/out"], *OUT)
        weights = module.attention.attention(module.query_norm(x if name == "inject" else c),
                                             module.value_norm(c if name == "inject" else x))  # fmt: skip
        close("weights", weights, arrays[f"{name}/mid/weights_product"], *OUT)
        (out * arrays[f"{name}/r"]).sum().backward()
        gradients_agree(module, arrays, f"g/{name}.")
        for key, value in (("x", x), ("c", c)):
            close(f"gradient of {key}", value.grad, arrays[f"gin/{name}_{key}"], *GRADIENT)


def uniperceiver(meta: dict, arrays: dict[str, Tensor]) -> VisionTransformer:
    """Its ViT as timm has it: no class token, a norm after the positions, scaled layers, no last norm."""
    vit = VisionTransformer(
        meta["img_size"], meta["patch_size"], embed_dim=meta["embed_dim"], depth=meta["depth"],
        num_heads=meta["num_heads"], mlp_ratio=meta["mlp_ratio"], class_token=False, global_pool="avg",
        pre_norm=True, final_norm=False, init_values=1.0, num_classes=0,
        norm_layer=lambda width, **given: nn.LayerNorm(width, eps=meta["ln_eps"], **given),
    )  # fmt: skip
    own = {name[2:]: v for name, v in arrays.items() if name.startswith(("w/layers.", "w/visual_embed."))}
    names = (
        (r"^layers\.", "blocks."), (r"self_attn\.in_proj", "attn.qkv"), (r"self_attn\.out_proj", "attn.proj"),
        (r"linear([12])", r"mlp.fc\1"), (r"gamma_([12])", r"ls\1.gamma"),
        (r"^visual_embed\.patch_embed\.proj", "patch_embed.proj"),
        (r"^visual_embed\.embeddings_norm", "norm_pre"),
    )  # fmt: skip
    state = {}
    for name, values in own.items():
        for pattern, here in names:
            name = re.sub(pattern, here, name)
        state[name] = values
    place = state.pop("visual_embed.patch_embed.spatial_pos_embed.weight")
    first = state.pop("visual_embed.patch_embed.temporal_pos_embed.weight")[0]
    bias = state.pop("patch_embed.proj.bias")  # timm has none before a norm; a position can hold it as well
    vit.load_state_dict(state | {"pos_embed": (place + first + bias)[None]})
    return vit.eval()


@cases("lpmoe", has="out/f1")
def test_the_whole_network(case):
    meta, arrays = read(case)
    model = nn.Module()
    model.backbone = PlainVit(uniperceiver(meta, arrays), mean=(0, 0, 0), std=(1, 1, 1))
    method = LPMoE(
        planes=meta["conv_inplane"], heads=meta["deform_num_heads"], points=meta["n_points"],
        ratio=meta["deform_ratio"], eps=meta["ln_eps"],
    )  # fmt: skip
    moe.inject(model, method)
    net = model.backbone
    own = {name: v for name, v in arrays.items() if not name.startswith(("w/layers.", "w/visual_embed."))}
    frozen = {f"base.{name}": v for name, v in net.base.state_dict().items()}
    load(net, own | {f"w/{name}": v for name, v in frozen.items()}, "w/")
    image = arrays["in/image"].clone().requires_grad_()
    with moe.watch_routing(net) as records:
        found = net(image)
    for i, values in enumerate(found, 1):
        close(f"f{i}", values, arrays[f"out/f{i}"], *OUT)
    for scale, record in enumerate(records["priors.mixture.gate"], 1):
        close(f"gate {scale}", record.gates, arrays[f"gate/prior_scale{scale}"], *OUT)
    for i in range(6):
        gates = torch.stack([record.gates for record in records[f"extract.{i}.ffn.gate"]])
        close(f"gates {i}", gates, arrays[f"gate/case_{f'block{i}' if i < 4 else f'extra{i - 4}'}"], *OUT)
    sum((values * arrays[f"r/f{i}"]).sum() for i, values in enumerate(found, 1)).backward()
    gradients_agree(net, arrays, "g/", floor=1e-6 * float(arrays["loss"].abs()))
    close("gradient of the image", image.grad, arrays["gin/image"], *GRADIENT)
    with np.load(case) as file:
        trained = {ours(name) for name in file["trainable_names"].tolist()}
    assert trained == {name for name, values in net.named_parameters() if values.requires_grad}
