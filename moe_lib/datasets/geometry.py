"""Where each pixel of a picture goes: one placement, applied alike to image, mask, depth and instances.

Boxes are never moved: they are measured again on the instances that were, and so stay tight.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Augment:
    """Random changes for training, the same again for the same (seed, epoch, index).

    Args:
        flip: Probability of a mirror image.
        scale: Range of the zoom; above 1 a random window is cut out, below 1 the rest is padding.
        jitter: Largest relative change of brightness, contrast and saturation, on the image only.
        seed: Another seed, another course of changes.

    Samples with a text keep their geometry and their colours: a mirror turns "left" into "right", a cut may
    remove the thing that made another one the "leftmost", a zoom makes the "small" one large, and less
    saturation the "red" one grey. Only brightness and contrast change there. To swap words instead, one would
    have to understand each sentence.

    Introduced in :doc:`/chapters/pocket_world`.
    """

    flip: float = 0.5
    scale: tuple[float, float] = (0.75, 1.5)
    jitter: float = 0.2
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.flip <= 1:
            raise ValueError(f"flip is {self.flip!r}; should be a probability, 0 to 1")
        if not 0 < self.scale[0] <= self.scale[1]:
            raise ValueError(f"scale is {self.scale!r}; should be (smallest, largest) zoom, both positive")
        if not 0 <= self.jitter < 1:
            raise ValueError(f"jitter is {self.jitter!r}; should be 0 or more and below 1")

    def random(self, epoch: int, index: int) -> np.random.Generator:
        return np.random.default_rng((self.seed, epoch, index))


@dataclass(frozen=True)
class Placement:
    """Resize to ``height × width``, mirror if ``flip``, and show it through a window of ``canvas`` pixels.

    The window's upper left corner is pixel (top, left) of the resized picture; outside of it is padding.
    ``resample`` is "bilinear" or "bicubic".
    """

    height: int
    width: int
    canvas: tuple[int, int]
    top: int = 0
    left: int = 0
    flip: bool = False
    resample: str = "bilinear"

    def smooth(self, values: Tensor) -> Tensor:
        """(C, H, W) float → (C, *canvas), with antialiasing; padding is 0."""
        if values.shape[-2:] != (self.height, self.width):
            size = (self.height, self.width)
            values = F.interpolate(values[None], size, mode=self.resample, antialias=True)[0]
        return self._window(values, 0)

    def nearest(self, values: Tensor, fill: float) -> Tensor:
        """(H, W) → canvas, each pixel from the old pixel that contains its centre; padding is ``fill``."""
        rows = _centres(values.shape[0], self.height)
        columns = _centres(values.shape[1], self.width)
        return self._window(values[rows][:, columns], fill)

    def _window(self, values: Tensor, fill: float) -> Tensor:
        if self.flip:
            values = values.flip(-1)
        height, width = self.canvas
        out = values.new_full((*values.shape[:-2], height, width), fill)
        y0, x0 = max(self.top, 0), max(self.left, 0)
        y1, x1 = min(self.top + height, self.height), min(self.left + width, self.width)
        if y0 < y1 and x0 < x1:
            there = (..., slice(y0 - self.top, y1 - self.top), slice(x0 - self.left, x1 - self.left))
            out[there] = values[..., y0:y1, x0:x1]
        return out


def _centres(old: int, new: int) -> Tensor:
    """For each new pixel the old one that contains its centre; in whole numbers, so no rounding differs."""
    return (2 * torch.arange(new) + 1) * old // (2 * new)


def plain(height: int, width: int, size: int | None, fit: str, resample: str = "bilinear") -> Placement:
    """The whole picture on a square of ``size``: longer side fitted, padded below and right; or stretched."""
    if size is None:
        return Placement(height, width, (height, width), resample=resample)
    if fit == "stretch":
        return Placement(size, size, (size, size), resample=resample)
    zoom = size / max(height, width)
    height, width = max(1, round(height * zoom)), max(1, round(width * zoom))
    return Placement(height, width, (size, size), resample=resample)


def randomly(base: Placement, augment: Augment, random: np.random.Generator) -> Placement:
    """A zoomed, shifted and maybe mirrored version of a placement, on the same canvas."""
    zoom = float(np.exp(random.uniform(*np.log(augment.scale))))
    flip = bool(random.random() < augment.flip)
    shift = random.random(2)
    height, width = max(1, round(base.height * zoom)), max(1, round(base.width * zoom))
    # What sticks out is cut anywhere; where there is room to spare, the picture lies anywhere.
    top, left = (
        round(float(s) * (inside - outside))
        for s, inside, outside in zip(shift, (height, width), base.canvas, strict=True)
    )
    return Placement(height, width, base.canvas, top, left, flip, base.resample)


def jittered(image: Tensor, strength: float, random: np.random.Generator, *, colours: bool) -> Tensor:
    """A (3, H, W) image in [0, 1] with other brightness, contrast and (with ``colours``) saturation."""
    brightness, contrast, saturation = 1 + random.uniform(-strength, strength, 3)
    grey = (image * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(0, keepdim=True)
    if colours:
        image = grey + (image - grey) * float(saturation)
    mean = grey.mean()
    return ((mean + (image - mean) * float(contrast)) * float(brightness)).clamp(0, 1)


def tight_boxes(instances: Tensor, count: int) -> Tensor:
    """(count, 4) boxes x0, y0, x1, y1 around the pixels of instances 1 … count, ends exclusive."""
    boxes = torch.zeros(count, 4)
    for i in range(count):
        ys, xs = torch.nonzero(instances == i + 1, as_tuple=True)
        if len(ys):
            boxes[i] = torch.stack([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]).float()
    return boxes


def renumbered(instances: Tensor) -> tuple[Tensor, list[int]]:
    """Instances that can be seen, as 1 … n in the order of their old ids; and those old ids."""
    old = [int(i) for i in torch.unique(instances) if i > 0]
    new = torch.zeros_like(instances)
    for number, i in enumerate(old, 1):
        new[instances == i] = number
    return new, old
