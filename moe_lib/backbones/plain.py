"""A plain ViT from the outside: block by block, as methods need it that work between the blocks.

Shapes: B pictures, N = h × w tokens of the picture with D channels, P tokens besides (class, registers).
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from timm.models.beit import Beit
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from moe_lib.backbones.encoder import ImageEncoder
from moe_lib.backbones.pixels import MEAN, STD, Normalised


class PlainVit(Normalised):
    """timm's ViT or BEiT, or the encoder of SAM or MAE: pictures in [0, 1] → four maps (B, D, …).

    The maps have strides of a quarter, a half, one and two patches. They are all made of the last tokens, by
    enlarging and shrinking: what a frozen ViT gives to a head that wants a pyramid.

    Args:
        vit: The model, with its weights. Its head is not used.
        mean, std: Of the pixels it was trained on; ImageNet's, if they are left out.

    Introduced in :doc:`/book/other_methods`.
    """

    def __init__(self, vit: nn.Module, mean: Sequence[float] = MEAN, std: Sequence[float] = STD):
        super().__init__(mean, std)
        if not isinstance(vit, (VisionTransformer, Beit, ImageEncoder)):
            raise TypeError(f"a plain ViT is timm's, or an encoder of SAM or MAE; got a {type(vit).__name__}")
        self.vit = vit
        patch = vit.patch_embed.proj.kernel_size
        self.patch, self.width, self.depth = patch[0], vit.patch_embed.proj.out_channels, len(vit.blocks)

    def forward(self, image: Tensor) -> list[Tensor]:
        x, besides, grid = self.enter(image)
        for i in range(self.depth):
            x, besides = self.block(i, x, besides, grid)
        x = self.norm(x).mT.unflatten(-1, grid)
        return [x if scale == 1 else resized(x, scale) for scale in (4, 2, 1, 0.5)]

    def enter(
        self, image: Tensor, hidden: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, Tensor, tuple[int, int]]:  # fmt: skip
        """What enters the first block: tokens ``(B, N, D)``, those besides ``(B, P, D)``, and h and w.

        Args:
            hidden: Which patches are hidden ``(B, N)``, and the token in their place ``(D,)``; of timm's ViT.
        """
        if image.ndim != 4 or image.shape[1] != 3:
            raise ValueError(f"pictures are (B, 3, H, W), got {tuple(image.shape)}")
        if any(side % self.patch for side in image.shape[-2:]):
            height, width = image.shape[-2:]
            raise ValueError(f"{height} × {width} pixels are no whole number of patches of {self.patch}")
        vit, image = self.vit, self.normalised(image)
        grid = (image.shape[-2] // self.patch, image.shape[-1] // self.patch)
        x = vit.patch_embed(image)
        if isinstance(vit, VisionTransformer):
            if hidden is not None:
                x = torch.where(hidden[0][..., None], hidden[1].to(x), x)
            x = vit.norm_pre(vit._pos_embed(x))
            count = vit.num_prefix_tokens
            return x[:, count:], x[:, :count], grid
        if isinstance(vit, Beit):
            x = torch.cat([vit.cls_token.expand(len(x), -1, -1), x], 1)
            x = vit.pos_drop(x if vit.pos_embed is None else x + vit.pos_embed)
            return x[:, 1:], x[:, :1], grid
        if vit.pos_embed is not None:
            x = x + vit.pos_embed
        return x.flatten(1, 2), x.new_zeros(len(x), 0, self.width), grid

    def block(
        self, i: int, x: Tensor, besides: Tensor, grid: tuple[int, int]
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """One block further."""
        vit, block = self.vit, self.vit.blocks[i]
        if isinstance(vit, ImageEncoder):
            return block(x.unflatten(1, grid)).flatten(1, 2), besides
        count, every = besides.shape[1], torch.cat([besides, x], 1)
        if isinstance(vit, Beit):
            shared = None if vit.rel_pos_bias is None else vit.rel_pos_bias()
            every = block(every, shared_rel_pos_bias=shared)
        else:
            every = block(every)
        return every[:, count:], every[:, :count]

    def norm(self, x: Tensor) -> Tensor:
        """What comes after the last block."""
        return x if isinstance(self.vit, ImageEncoder) else self.vit.norm(x)


def resized(x: Tensor, scale: float) -> Tensor:
    """A map enlarged or shrunk, bilinear."""
    return F.interpolate(x, scale_factor=scale, mode="bilinear", align_corners=False)
