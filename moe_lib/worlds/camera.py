"""From the light that reaches the lens to the picture that a task hands out.

The last step is what every camera and every JPEG does: eight bits, and colour at half the resolution
(YCbCr 4:2:0). The cache stores exactly these planes, so that a stored scene and a freshly rendered one are
equal bit for bit, at half of RGB's size.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from moe_lib.worlds import noise

GAMMA = 1 / 2.2


def develop(
    radiance: Tensor, *, seed: Tensor, exposure: Tensor | float = 1.0, full_well: Tensor | float = 1500.0,
    read_noise: float = 0.006,
) -> Tensor:  # fmt: skip
    """Linear radiance to display values in [0, 1]: exposure, shot and read noise, clipping, gamma.

    Args:
        radiance: ``(B, 3, H, W)``, white is 1.
        seed: Of the noise, one per scene; ``(B,)``.
        exposure: Gain before the sensor clips; a number or ``(B,)``.
        full_well: Electrons at white: the fewer, the noisier; a number or ``(B,)``.
        read_noise: Standard deviation of the noise that does not depend on the light.
    """
    light = (radiance * _per_scene(exposure, radiance)).clamp(0, 4)
    spread = torch.sqrt(light / _per_scene(full_well, radiance) + read_noise**2)
    height, width = radiance.shape[-2:]
    _, y, x, seed = noise.pixels(seed, 1, height, width)
    light = light + spread * noise.normals(3, y, x, seed=seed)
    return light.clamp(0, 1) ** GAMMA


def encode(image: Tensor) -> tuple[Tensor, Tensor]:
    """Display values ``(B, 3, H, W)`` in [0, 1] → luma ``(B, H, W)``, chroma ``(B, 2, H/2, W/2)``, uint8."""
    red, green, blue = image.unbind(1)
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    chroma = torch.stack([(blue - luma) / 1.772, (red - luma) / 1.402], 1)
    chroma = F.avg_pool2d(chroma, 2)
    return _byte(luma), _byte(chroma + 128 / 255)


def decode(luma: Tensor, chroma: Tensor) -> Tensor:
    """The picture of two planes: float32 ``(B, 3, H, W)`` in [0, 1]."""
    luma = luma.float() / 255
    chroma = (chroma.float() - 128) / 255
    blue, red = F.interpolate(chroma, scale_factor=2, mode="bilinear", align_corners=False).unbind(1)
    red, blue = luma + 1.402 * red, luma + 1.772 * blue
    green = (luma - 0.299 * red - 0.114 * blue) / 0.587
    return torch.stack([red, green, blue], 1).clamp(0, 1)


def photograph(radiance: Tensor, *, seed: Tensor, **settings) -> Tensor:
    """:func:`develop`, then through the eight bits of the camera.

    The planes travel with the picture, as its attribute ``planes``: they cannot be won back from it, and the
    cache stores them.
    """
    planes = encode(develop(radiance, seed=seed, **settings))
    image = decode(*planes)
    image.planes = planes
    return image


def joined(pictures: Sequence[Tensor]) -> Tensor:
    """Several batches of photographs as one, with their planes."""
    whole = torch.cat(list(pictures))
    if all(hasattr(picture, "planes") for picture in pictures):
        whole.planes = tuple(map(torch.cat, zip(*(picture.planes for picture in pictures), strict=True)))
    return whole


def _byte(values: Tensor) -> Tensor:
    return (values * 255).round().clamp(0, 255).to(torch.uint8)


def _per_scene(value: Tensor | float, like: Tensor) -> Tensor | float:
    return value.to(like).view(-1, 1, 1, 1) if isinstance(value, Tensor) else value
