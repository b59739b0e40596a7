"""Noise that every device draws alike: hashed from a seed and a place, never from a generator's state.

Shapes: B scenes, N places each. Integers are 32-bit, which wraps around on every device and is the widest
multiplication that CPUs do in vectors.
"""

from functools import cache

import torch
from torch import Tensor

_ODD = (374761393, 668265263, 2147483647, 1274126177)  # one multiplier per coordinate
ATLAS = 256  # texels a side of the noise atlas, which repeats


def hashed(*coordinates: Tensor, seed: Tensor) -> Tensor:
    """Well-mixed int32 numbers from int32 coordinates and seeds; all broadcast together."""
    h = seed.to(torch.int32) * _ODD[3]
    for coordinate, odd in zip(coordinates, _ODD, strict=False):
        h = h + coordinate.to(torch.int32) * odd
    h = (h ^ _shifted(h, 16)) * 0x7FEB352D
    h = (h ^ _shifted(h, 15)) * -2073254261
    return h ^ _shifted(h, 16)


def uniform(*coordinates: Tensor, seed: Tensor) -> Tensor:
    """Hashed numbers in [0, 1), float32."""
    return (hashed(*coordinates, seed=seed) & 0xFFFFFF).float() * 2.0**-24


def normal(*coordinates: Tensor, seed: Tensor) -> Tensor:
    """Hashed numbers of mean 0 and variance 1, nearly Gaussian: the four bytes of a hash, added."""
    return _bell(hashed(*coordinates, seed=seed))


def normals(count: int, *coordinates: Tensor, seed: Tensor) -> Tensor:
    """Several such numbers per place, ``(B, count, …)``: one hash, mixed once more for each.

    Coordinates and seed broadcast to ``(B, 1, …)``.
    """
    h = hashed(*coordinates, seed=seed)
    mixed = [h := _mixed(h) for _ in range(count)]
    return _bell(torch.cat(mixed, 1))


def _mixed(h: Tensor) -> Tensor:
    h = h * 0x7FEB352D
    return h ^ _shifted(h, 15)


def _bell(h: Tensor) -> Tensor:
    """The four bytes of whole numbers, added, and made a mean of 0 and a variance of 1."""
    pairs = (h & 0x00FF00FF).add_((h >> 8).bitwise_and_(0x00FF00FF))  # two sums in one number
    return (pairs & 0xFFFF).add_(pairs >> 16).float().sub_(510).mul_(1 / 147.8)


def pixels(seed: Tensor, channels: int, height: int, width: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Coordinates for one number per pixel and channel: ``channel, y, x, seed``, ready to broadcast.

    ``seed`` is ``(B,)``; the numbers come out as ``(B, channels, height, width)``.
    """
    here = {"device": seed.device, "dtype": torch.int32}
    channel = torch.arange(channels, **here).view(1, -1, 1, 1)
    y, x = torch.arange(height, **here).view(1, 1, -1, 1), torch.arange(width, **here).view(1, 1, 1, -1)
    return channel, y, x, seed.view(-1, 1, 1, 1)


def value_noise(*coordinates: Tensor, seed: Tensor) -> Tensor:
    """Smooth noise in [0, 1) with one cell per unit, over two or three coordinates of one shape."""
    cells = [torch.floor(c) for c in coordinates]
    parts = [c - cell for c, cell in zip(coordinates, cells, strict=True)]
    parts = [w * w * (3 - 2 * w) for w in parts]
    cells = [cell.to(torch.int32) for cell in cells]

    def blend(axis: int, corner: list[Tensor]) -> Tensor:
        if axis == len(cells):
            return uniform(*corner, seed=seed)
        low, high = (blend(axis + 1, [*corner, cells[axis] + step]) for step in (0, 1))
        return low + parts[axis] * (high - low)

    return blend(0, [])


@cache
def atlas(device: torch.device) -> Tensor:
    """A square of noise that repeats, for textures; ``(1, 4, ATLAS + 1, ATLAS + 1)``.

    Channels: coarse noise in [0, 1) with 16 cells a side, fine noise with 64, and the slopes of the coarse
    noise in x and y, for surfaces that catch the light.
    """
    place = torch.arange(ATLAS + 2, device=device) / ATLAS

    def layer(cells: int, seed: int) -> Tensor:
        at = place * cells
        y, x = torch.meshgrid(at, at, indexing="ij")
        # The lattice is folded so that the right edge meets the left: cell `cells` is cell 0 again.
        cell_y, cell_x = torch.floor(y), torch.floor(x)
        wy, wx = ((w * w * (3 - 2 * w)) for w in (y - cell_y, x - cell_x))
        corner = [
            [uniform((cell_y + i) % cells, (cell_x + j) % cells, seed=torch.tensor(seed)) for j in (0, 1)]
            for i in (0, 1)
        ]
        low, high = (row[0] + wx * (row[1] - row[0]) for row in corner)
        return low + wy * (high - low)

    coarse = 0.7 * layer(16, 1) + 0.3 * layer(32, 2)
    fine = 0.6 * layer(64, 3) + 0.4 * layer(128, 4)
    slope_x = (coarse[:-1, 1:] - coarse[:-1, :-1]) * 16
    slope_y = (coarse[1:, :-1] - coarse[:-1, :-1]) * 16
    channels = torch.stack([coarse[:-1, :-1], fine[:-1, :-1], slope_x, slope_y])[None]
    return channels.contiguous(memory_format=torch.channels_last)  # one texel's channels side by side: faster


def look_up(x: Tensor, y: Tensor) -> Tensor:
    """The atlas at places given in turns of the atlas: ``(B, h, w)`` twice → ``(B, 4, h, w)``."""
    # grid_sample's −1 … 1 covers the extra row and column too, and a texel's place is its middle.
    spread, start = 2 * ATLAS / (ATLAS + 1), 1 / (ATLAS + 1) - 1
    grid = x.new_empty(*x.shape, 2)  # filled in place: three times as fast as stacking
    grid[..., 0], grid[..., 1] = x, y
    grid.sub_(grid.floor()).mul_(spread).add_(start)
    picture = atlas(x.device).expand(len(x), -1, -1, -1)
    return torch.nn.functional.grid_sample(
        picture, grid, mode="bilinear", padding_mode="border", align_corners=False
    )


def _shifted(h: Tensor, by: int) -> Tensor:
    """Logical shift to the right: torch's is arithmetic, so the sign's copies are masked away."""
    return (h >> by) & ((1 << (32 - by)) - 1)
