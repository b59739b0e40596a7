"""SAM2's image encoder: timm's hierarchical trunk, and the neck that SAM2 puts on it."""

from collections.abc import Sequence

import torch.nn.functional as F
from timm.models.hieradet_sam2 import HieraDet
from torch import Tensor, nn

from moe_lib.backbones.pixels import MEAN, STD, Normalised


class Hiera(Normalised):
    """Pictures in [0, 1] → three maps ``(B, channels, h, w)`` of the strides 4, 8 and 16, the finest first.

    Args:
        trunk: With its weights, such as timm's ``"sam2_hiera_base_plus"``.
        channels: Of the neck.
        mean, std: Of the pixels it was trained on; ImageNet's, if they are left out.

    Introduced in :doc:`/book/other_methods`.
    """

    def __init__(
        self, trunk: HieraDet, channels: int = 256, mean: Sequence[float] = MEAN, std: Sequence[float] = STD
    ):
        super().__init__(mean, std)
        if not isinstance(trunk, HieraDet):
            raise TypeError(f"the trunk is a HieraDet of timm, got a {type(trunk).__name__}")
        self.trunk, self.channels = trunk, channels
        self.neck = nn.ModuleList(nn.Conv2d(info["num_chs"], channels, 1) for info in trunk.feature_info)

    def forward(self, image: Tensor) -> list[Tensor]:
        return self.maps(self.normalised(image))

    def maps(self, image: Tensor) -> list[Tensor]:
        """Of pictures that are normalised already."""
        stages = self.trunk.forward_intermediates(image, intermediates_only=True)
        fine, middle, coarse, coarsest = (layer(x) for layer, x in zip(self.neck, stages, strict=True))
        # From above comes something only here; then the coarsest has done its work.
        return [fine, middle, coarse + F.interpolate(coarsest, scale_factor=2.0, mode="nearest")]


class Joined(nn.Module):
    """The three maps as one of the middle's size, so that SAM's decoder can be asked in pretraining."""

    def __init__(self, hiera: Hiera):
        super().__init__()
        self.hiera = hiera

    def forward(self, image: Tensor) -> Tensor:
        fine, middle, coarse = self.hiera.maps(image)
        return F.avg_pool2d(fine, 2) + middle + F.interpolate(coarse, scale_factor=2.0, mode="bilinear")
