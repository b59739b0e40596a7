"""A SAM with Conv-LoRA from the state of the official one, which has the names of transformers' SAM."""

import re

import torch
from segment_anything.modeling.common import MLPBlock
from torch import Tensor, nn

from moe_lib import ConvLoRA, heads, inject
from moe_lib.backbones import Sam, Sizes

# What the official state calls a part, and what it is called here.
NAMES = (
    (r"^model\.", ""),
    (r"^vision_encoder", "image_encoder"),
    (r"patch_embed\.projection", "patch_embed.proj"),
    (r"image_encoder\.layers", "image_encoder.blocks"),
    (r"(blocks\.\d+|transformer\.layers\.\d+)\.layer_norm(\d)", r"\1.norm\2"),
    (r"attn\.qkv\.(weight|bias)$", r"attn.qkv.base.\1"),
    (r"qkv\.lora_(A|B)$", r"qkv.\1"),
    (r"lora_moe_gating\.", ""),
    (r"neck\.conv1", "neck.0"), (r"neck\.layer_norm1", "neck.1"),
    (r"neck\.conv2", "neck.2"), (r"neck\.layer_norm2", "neck.3"),
    (r"shared_embedding\.positional_embedding", "pe_layer.positional_encoding_gaussian_matrix"),
    (r"\.point_embed\.", ".point_embeddings."),
    (r"mask_embed\.conv1", "mask_downscaling.0"), (r"mask_embed\.layer_norm1", "mask_downscaling.1"),
    (r"mask_embed\.conv2", "mask_downscaling.3"), (r"mask_embed\.layer_norm2", "mask_downscaling.4"),
    (r"mask_embed\.conv3", "mask_downscaling.6"),
    (r"layer_norm_final_attn", "norm_final_attn"),
    (r"upscale_conv1", "output_upscaling.0"), (r"upscale_layer_norm", "output_upscaling.1"),
    (r"upscale_conv2", "output_upscaling.3"),
    (r"(mlps\.\d+|head)\.layers\.0", r"\1.layers.1"), (r"(mlps\.\d+|head)\.proj_in", r"\1.layers.0"),
    (r"(mlps\.\d+|head)\.proj_out", r"\1.layers.2"),
)  # fmt: skip


def ours(name: str) -> str:
    """The name that a tensor of the official state has here."""
    for pattern, here in NAMES:
        name = re.sub(pattern, here, name)
    return name


def build(meta: dict, official: dict[str, Tensor]) -> heads.SemanticSam:
    sizes = Sizes(
        image=meta["image"], patch=meta["patch"], width=meta["hidden"], depth=meta["layers"],
        heads=meta["heads"], window=meta["window"], global_blocks=tuple(meta["global_idx"]),
        channels=meta["neck"], decoder_heads=meta["dec_heads"], decoder_mlp=meta["dec_mlp"],
        quality_width=official["model.mask_decoder.iou_prediction_head.proj_in.weight"].shape[0],
    )  # fmt: skip
    sam = Sam(sizes)
    for block in sam.image_encoder.blocks:
        block.mlp = MLPBlock(meta["hidden"], meta["mlp"])
    for layer in sam.mask_decoder.transformer.layers:
        for norm in (part for part in layer.children() if isinstance(part, nn.LayerNorm)):
            norm.eps = 1e-6  # as in transformers; segment-anything has 1e-5 here
    channels = meta["neck"]
    sam.prompt_encoder.mask_downscaling[0] = nn.Conv2d(1, 1, 2, 2)  # as small as its test model has them
    sam.prompt_encoder.mask_downscaling[1].weight.data, sam.prompt_encoder.mask_downscaling[1].bias.data = (
        torch.ones(1), torch.zeros(1),
    )  # fmt: skip
    sam.prompt_encoder.mask_downscaling[3] = nn.Conv2d(1, 4, 2, 2)
    sam.prompt_encoder.mask_downscaling[4].weight.data, sam.prompt_encoder.mask_downscaling[4].bias.data = (
        torch.ones(4), torch.zeros(4),
    )  # fmt: skip
    sam.prompt_encoder.mask_downscaling[6] = nn.Conv2d(4, channels, 1)
    head = sam.mask_decoder.iou_prediction_head
    rows = official["model.mask_decoder.iou_prediction_head.proj_out.weight"].shape[0]
    head.layers[-1] = nn.Linear(head.layers[-1].in_features, rows)
    model = heads.SemanticSam(sam, meta["num_classes"], meta["tokens"])
    inject(model, ConvLoRA(meta["r"], meta["experts"], meta["alpha"], also=heads.DECODER))
    model.load_state_dict(translated(official))
    return model


def translated(official: dict[str, Tensor]) -> dict[str, Tensor]:
    """The official state by the names of ours, with the experts of a layer in one tensor."""
    state: dict[str, Tensor] = {}
    stacks: dict[str, dict[int, Tensor]] = {}
    for name, values in official.items():
        if name.endswith(("lora_moe_gating.mean", "lora_moe_gating.std")):
            continue  # 0 and 1
        if name == "model.shared_image_embedding.positional_embedding":
            continue  # the same as the prompt encoder's
        if found := re.fullmatch(r"(.*)\.lora_moe_experts\.(\d+)\.0\.(weight|bias)", name):
            stacks.setdefault(f"{ours(found[1])}.experts.{found[3]}", {})[int(found[2])] = values
        else:
            state[ours(name)] = values
    for name, parts in stacks.items():
        state[name] = torch.stack([parts[i] for i in sorted(parts)])
    return state
