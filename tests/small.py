"""Small models of the kinds that methods are put into."""

from functools import partial

import torch
from segment_anything.modeling import ImageEncoderViT
from timm.models.convnext import ConvNeXt
from timm.models.swin_transformer import SwinTransformer
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from moe_lib.backbones.encoder import ImageEncoder

SIZES = dict(img_size=32, patch_size=4, embed_dim=24, depth=2, num_heads=2, out_chans=8, window_size=3)
SIZES |= dict(use_rel_pos=True, global_attn_indexes=(1,), norm_layer=partial(nn.LayerNorm, eps=1e-6))

KINDS = {
    "vit": lambda: VisionTransformer(
        img_size=32, patch_size=8, embed_dim=24, depth=2, num_heads=2, num_classes=5
    ),
    "swin": lambda: SwinTransformer(
        img_size=32, patch_size=2, embed_dim=12, depths=(1, 1), num_heads=(1, 2), window_size=4, num_classes=5
    ),
    "convnext": lambda: ConvNeXt(depths=(1, 1, 1, 1), dims=(8, 8, 16, 16), num_classes=5),
    "sam": lambda: ImageEncoderViT(**SIZES),
    "ours": lambda: ImageEncoder(**SIZES),
}


def model(kind: str, seed: int = 0) -> nn.Module:
    """With random values everywhere, so that nothing is hidden by a zero; in eval mode."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        made = KINDS[kind]().eval()
        with torch.no_grad():
            for values in made.parameters():
                values.add_(0.05 * torch.randn_like(values))
    return made


def images(count: int = 2, seed: int = 1) -> Tensor:
    return torch.rand(count, 3, 32, 32, generator=torch.Generator().manual_seed(seed))


def disturb(module: nn.Module, seed: int = 2, amount: float = 0.1) -> nn.Module:
    """Move whatever is trained, as training would; returns the module."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for values in module.parameters():
            if values.requires_grad:
                values.add_(amount * torch.randn(values.shape, generator=generator).to(values))
    return module
