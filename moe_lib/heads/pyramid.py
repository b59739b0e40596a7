"""A small head for a pyramid, and a model of a backbone with a head.

Shapes: B pictures of H × W pixels, K classes (1: something or nothing), maps of h × w.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class Dense:
    """A score of each class at each pixel: ``logits`` (B, K, H, W); with one class, positive inside.

    Introduced in :doc:`/book/other_methods`.
    """

    logits: Tensor

    def probabilities(self) -> Tensor:
        """Of each class at each pixel, ``(B, K, H, W)``."""
        return self.logits.sigmoid() if self.logits.shape[1] == 1 else self.logits.softmax(1)

    def labels(self) -> Tensor:
        """The class of each pixel, ``(B, H, W)`` int64."""
        return (self.logits[:, 0] > 0).long() if self.logits.shape[1] == 1 else self.logits.argmax(1)


class PyramidHead(nn.Module):
    """Maps of several sizes, the finest first → ``(B, K, h, w)`` of the finest.

    Each is brought to ``width`` channels and enlarged; their sum goes through one 3 × 3 convolution.

    Introduced in :doc:`/book/other_methods`.
    """

    def __init__(self, channels: int | Sequence[int], classes: int = 1, width: int = 32, levels: int = 4):
        super().__init__()
        each = [channels] * levels if isinstance(channels, int) else list(channels)
        self.channels, self.classes = each, classes
        self.enter = nn.ModuleList(nn.Conv2d(c, width, 1) for c in each)
        self.mix = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1), nn.GroupNorm(math.gcd(width, 8), width), nn.ReLU()
        )
        self.leave = nn.Conv2d(width, classes, 1)

    def forward(self, maps: Sequence[Tensor]) -> Dense:
        if [x.shape[1] for x in maps] != self.channels:
            found = [x.shape[1] for x in maps]
            raise ValueError(f"the head was built for maps of {self.channels} channels and gets {found}")
        size = maps[0].shape[-2:]
        parts = [layer(x) for layer, x in zip(self.enter, maps, strict=True)]
        total = sum(F.interpolate(x, size, mode="bilinear", align_corners=False) for x in parts)
        return Dense(self.leave(self.mix(total)))


class Segmenter(nn.Module):
    """A backbone and a head: ``model(batch)`` → what the head says of the pictures, as large as they are.

    Introduced in :doc:`/book/other_methods`.
    """

    def __init__(self, backbone: nn.Module, head: nn.Module):
        super().__init__()
        self.backbone, self.head = backbone, head

    def forward(self, batch: Mapping[str, Any] | Tensor) -> Any:
        image = batch if isinstance(batch, Tensor) else batch["image"]
        answer = self.head(self.backbone(image))
        if not isinstance(answer, Dense):
            return answer.enlarged(image.shape[-2:])
        return Dense(F.interpolate(answer.logits, image.shape[-2:], mode="bilinear", align_corners=False))

    @property
    def classes(self) -> int:
        return self.head.classes
