"""Swin and ConvNeXt as backbones: a picture → a map of each of their four stages."""

from collections.abc import Sequence

from timm.models.convnext import ConvNeXt
from timm.models.swin_transformer import SwinTransformer
from torch import Tensor, nn

from moe_lib.backbones.pixels import MEAN, STD, Normalised


class Staged(Normalised):
    """timm's Swin or ConvNeXt: pictures in [0, 1] → four maps ``(B, C, h, w)``, the finest first.

    ``stage_norms`` are new, one for each map.

    Args:
        model: With its weights. Its head and its last norm are not used.
        mean, std: Of the pixels it was trained on; ImageNet's, if they are left out.

    Introduced in :doc:`/book/other_methods`.
    """

    def __init__(self, model: nn.Module, mean: Sequence[float] = MEAN, std: Sequence[float] = STD):
        super().__init__(mean, std)
        if not isinstance(model, (SwinTransformer, ConvNeXt)):
            raise TypeError(f"stages are those of timm's Swin or ConvNeXt; got a {type(model).__name__}")
        self.model = model
        self.channels = [info["num_chs"] for info in model.feature_info]
        self.stage_norms = nn.ModuleList(nn.LayerNorm(channels) for channels in self.channels)

    def forward(self, image: Tensor) -> list[Tensor]:
        model, image = self.model, self.normalised(image)
        swin, found = isinstance(model, SwinTransformer), []
        x = model.patch_embed(image) if swin else model.stem(image)
        for stage, norm in zip(model.layers if swin else model.stages, self.stage_norms, strict=True):
            x = stage(x)
            last = x if swin else x.permute(0, 2, 3, 1)
            found.append(norm(last).permute(0, 3, 1, 2))
        return found
