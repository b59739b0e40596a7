"""What a linear map of images really does: its kernel, seen by one bright pixel, and how far that reaches."""

from collections.abc import Callable

import torch
from torch import Tensor

# Shapes
#   maps     (B, C, H, W)
#   kernel   (K, K), K odd; the entry in the middle is a pixel's effect on itself


def effective_kernel(linear_map: Callable[[Tensor], Tensor], *, radius: int = 3, margin: int = 4) -> Tensor:
    """Kernel of a linear, position-independent map of one-channel images: what one bright pixel turns into.

    Args:
        linear_map: Takes ``(1, 1, S, S)`` and returns the same shape. A constant that it adds is removed.
        radius: The kernel covers ``2 * radius + 1`` pixels each way.
        margin: Pixels between the kernel and the border, so that no padding is seen.

    Returns:
        ``(2 * radius + 1, 2 * radius + 1)``, oriented like a convolution weight: entry ``[i, j]`` is what the
        pixel ``(i - radius, j - radius)`` away contributes.

    Introduced in :doc:`/chapters/00_larger_scale`.
    """
    if radius < 0 or margin < 0:
        raise ValueError(f"radius and margin are numbers of pixels, got radius={radius!r}, margin={margin!r}")
    middle = radius + margin
    dark = torch.zeros(1, 1, 2 * middle + 1, 2 * middle + 1)
    bright = dark.clone()
    bright[..., middle, middle] = 1
    response = linear_map(bright) - linear_map(dark)
    if response.shape != bright.shape:
        raise ValueError(
            f"the map turns {tuple(bright.shape)} into {tuple(response.shape)}; it should keep the shape"
        )
    window = slice(margin, margin + 2 * radius + 1)
    # The pixel to the right of the bright one shows the weight of its *left* neighbour: hence the flip.
    return response[0, 0, window, window].flip(0, 1)


def centre_share(kernel: Tensor) -> float:
    """Share of a kernel's energy (squared weights) at its centre: 1 for a 1×1 convolution.

    Introduced in :doc:`/chapters/00_larger_scale`.
    """
    energy = _energy(kernel)
    middle = kernel.shape[-1] // 2
    return float(energy[..., middle, middle].sum() / energy.sum())


def rms_radius(kernel: Tensor) -> float:
    """Root-mean-square distance from the centre, in pixels, weighted by energy: how far a kernel looks.

    Introduced in :doc:`/chapters/00_larger_scale`.
    """
    energy = _energy(kernel)
    offset = torch.arange(kernel.shape[-1], device=kernel.device) - kernel.shape[-1] // 2
    squared_distance = offset[:, None] ** 2 + offset[None, :] ** 2
    return float(((energy * squared_distance).sum() / energy.sum()).sqrt())


def _energy(kernel: Tensor) -> Tensor:
    if kernel.ndim < 2 or kernel.shape[-1] != kernel.shape[-2] or kernel.shape[-1] % 2 == 0:
        raise ValueError(f"a kernel is (…, K, K) with odd K, got {tuple(kernel.shape)}")
    energy = kernel.double() ** 2
    if not 0 < energy.sum() < float("inf"):
        raise ValueError("a kernel needs finite weights that are not all zero: otherwise it has no spread")
    return energy
