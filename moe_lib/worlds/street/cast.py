"""What every pixel sees: the nearest solid, found exactly and without loops over streets, pixels or solids.

Rays are tried tile by tile. A block of results is ``(TILE, TILE, n)``: line and column in the tile, then one
entry per (solid, tile) pair, so that the long axis comes last. Every solid is convex, so a ray is inside it
between two distances; distances are counted in planar depth, for a ray's own z is 1.

The nearest hit is the smallest of 64-bit keys, (bits of the depth, row of the table): an order that does not
depend on who comes first. Everything here that decides a mask is +, -, ×, ÷, √, min, max and comparisons of
float32, which every device and thread computes alike.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from moe_lib.worlds.street.solids import BALL, BOX, HULL, POST, WHEEL
from moe_lib.worlds.street.stage import COLUMN, CONTACT, GROUND, NEAR, TILE, Pairs, Stage, pairs, standing

Vector = tuple[Tensor, Tensor, Tensor]
_ROW_BITS = 24
_NEVER = 2**62
FARTHEST = 150.0  # metres of ground; beyond it is sky


@dataclass
class Hits:
    """What the pixels see. Shapes ``(S, H, W)``."""

    row: Tensor  # int64, row of the stage's table
    depth: Tensor  # planar depth in metres; sky is infinite


def directions(stage: Stage) -> Vector:
    """Where the pixels look, with length such that the planar depth is 1; ``(S, H, W)`` each."""
    place = (torch.arange(stage.size, device=stage.device) + (0.5 - stage.size / 2)) * (1 / stage.focal)
    axes = stage.axes.view(9, -1, 1, 1)
    x, y = place[None, None, :], -place[None, :, None]
    return tuple(x * axes[i] + (y * axes[3 + i] + axes[6 + i]) for i in range(3))


def nearest(stage: Stage, *, cull: bool = True) -> tuple[Hits, list[Tensor]]:
    """The first thing that every pixel sees, and the silhouettes of the last instant's instances.

    Returns:
        The hits, and for each street ``(n,)`` how many pixels each instance would cover, were it alone.
    """
    best = _ground(stage)
    shapes = _Silhouettes(stage)
    for kind, inside in INSIDE.items():
        rows = np.flatnonzero((stage.host["kind"] == kind) & (stage.rows_of >= 0))
        tried = pairs(stage, rows, cull=cull)
        if tried is None:
            continue
        origin, toward, half, lean = _own_axes(stage, tried)
        near, far = inside(origin, toward, half, lean)
        hit = (near < far) & (near > NEAR)
        key = (near.view(torch.int32).to(torch.int64) << _ROW_BITS) | tried.row
        key = torch.where(hit, key, _NEVER).flatten(0, 1)
        best.scatter_reduce_(1, tried.tile.expand_as(key), key, "amin")
        shapes.add(tried, hit.flatten(0, 1))
    best = untiled(best, stage.size)
    depth = (best >> _ROW_BITS).to(torch.int32).view(torch.float32)
    return Hits(best & (2**_ROW_BITS - 1), depth), shapes.sizes()


def contact(stage: Stage, *, cull: bool = True) -> Tensor:
    """How dark the ground is around whatever stands on it, 0 to 1; ``(S, H, W)``, for the ground only."""
    dark = torch.zeros(TILE * TILE, stage.views * stage.tiles, device=stage.device)
    tried = pairs(stage, standing(stage), halo=True, cull=cull)
    if tried is not None:
        origin, toward, half, _ = _own_axes(stage, tried)
        below = origin[1] + stage.table[COLUMN["centre"]][1][tried.row]
        depth = -below / toward[1].clamp(max=-1e-4)
        beside = [((origin[i] + depth * toward[i]).abs() - half[i]).clamp(min=0) for i in (0, 2)]
        away = torch.sqrt(beside[0] * beside[0] + beside[1] * beside[1])
        shade = (1 - away * (1 / CONTACT)).clamp(min=0)
        shade = (shade * shade).flatten(0, 1)
        dark.scatter_reduce_(1, tried.tile.expand_as(shade), shade, "amax")
    return untiled(dark, stage.size)


class _Silhouettes:
    """Counts the pixels that each instance of the last instant would cover if nothing hid it."""

    def __init__(self, stage: Stage):
        self.stage = stage
        self.counts = [len(scene.labels) for scene in stage.scenes]
        first = np.cumsum([1, *self.counts])[:-1]  # plane 0 takes what belongs to no instance
        last = stage.rows_of - (stage.views - stage.streets)
        instance = stage.host["instance"].astype(int)
        plane = np.where((last >= 0) & (instance > 0), first[np.maximum(last, 0)] + instance - 1, 0)
        self.plane = stage.sent(plane)
        self.width = (1 + sum(self.counts)) * stage.tiles
        whole = -(-self.width // 8) * 8  # whole 64-bit words, see sizes()
        self.covered = torch.zeros(TILE * TILE, whole, dtype=torch.uint8, device=stage.device)

    def add(self, tried: Pairs, hit: Tensor) -> None:
        place = self.plane[tried.row] * self.stage.tiles + tried.tile % self.stage.tiles
        self.covered.scatter_reduce_(1, place.expand_as(hit), hit.to(torch.uint8), "amax")

    def sizes(self) -> list[Tensor]:
        # A tile has 64 pixels, so bytes hold their counts and eight are added at a time.
        in_tile = self.covered.view(torch.int64).sum(0).view(torch.uint8)[: self.width]
        pixels = in_tile.view(-1, self.stage.tiles).sum(1)
        return list(pixels[1:].split(self.counts))


def _own_axes(stage: Stage, tried: Pairs) -> tuple[Vector, Vector, Vector, Tensor]:
    """Rays in the solids' own axes: origins ``(n,)``, directions ``(TILE, TILE, n)``; half sizes, lean."""
    rays = stage.rays[:, tried.row]
    step = torch.arange(TILE, device=stage.device).view(-1, 1) + (0.5 - stage.size / 2)
    x = ((tried.left + step) * (1 / stage.focal))[None]
    y = ((tried.top + step) * (-1 / stage.focal))[:, None]
    toward = tuple(x * rays[3 + i] + (y * rays[6 + i] + rays[9 + i]) for i in range(3))
    return tuple(rays[:3]), toward, tuple(stage.table[COLUMN["half"]][:, tried.row]), rays[12:]


def _ground(stage: Stage) -> Tensor:
    """Keys of the ground and, above it, of the sky: ``(TILE², tiles of all views)``."""
    down = directions(stage)[1]
    depth = stage.eye[1].view(-1, 1, 1) / (-down).clamp(min=1e-6)
    depth = torch.where(depth < FARTHEST, depth, torch.inf)
    key = (depth.view(torch.int32).to(torch.int64) << _ROW_BITS) | (depth < FARTHEST).to(torch.int64) * GROUND
    return tiled(key)


def tiled(picture: Tensor) -> Tensor:
    """``(V, H, W)`` → ``(TILE², tiles of all V)``."""
    views, size = len(picture), picture.shape[-1]
    across = size // TILE
    return picture.view(views, across, TILE, across, TILE).permute(2, 4, 0, 1, 3).reshape(TILE * TILE, -1)


def untiled(values: Tensor, size: int) -> Tensor:
    """``(TILE², tiles of all V)`` → ``(V, H, W)``."""
    across = size // TILE
    return values.view(TILE, TILE, -1, across, across).permute(2, 3, 0, 4, 1).reshape(-1, size, size)


# Between which two distances is a ray inside a solid? (near, far), where near ≥ far means never.


def _slab(origin: Tensor, toward: Tensor, half: Tensor) -> tuple[Tensor, Tensor]:
    """Between two parallel planes."""
    inverse = 1 / toward
    a, b = (-half - origin) * inverse, (half - origin) * inverse
    return torch.minimum(a, b), torch.maximum(a, b)


def _both(one: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    return torch.maximum(one[0], other[0]), torch.minimum(one[1], other[1])


def _round(along: Tensor, out: Tensor, square: Tensor) -> tuple[Tensor, Tensor]:
    """Where square·t² + 2·along·t + out ≤ 0; where it never is, both ends are equal."""
    root = torch.sqrt((along * along - square * out).clamp(min=0))
    inverse = 1 / square
    return (-along - root) * inverse, (root - along) * inverse


def _in_box(o: Vector, d: Vector, half: Vector, lean: Tensor) -> tuple[Tensor, Tensor]:
    return _both(_slab(o[1], d[1], half[1]), _both(_slab(o[0], d[0], half[0]), _slab(o[2], d[2], half[2])))


def _in_hull(o: Vector, d: Vector, half: Vector, lean: Tensor) -> tuple[Tensor, Tensor]:
    """A box whose four sides lean inwards, by ``lean`` metres at the top."""
    near, far = _slab(o[1], d[1], half[1])
    for axis, over in ((0, lean[0]), (2, lean[1])):
        slope = over / (2 * half[1])
        limit = half[axis] - slope * half[1]
        for sign in (-1, 1):
            toward = sign * d[axis] + slope * d[1]
            crossing = (limit - (sign * o[axis] + slope * o[1])) / toward
            near = torch.maximum(near, torch.where(toward < 0, crossing, -torch.inf))
            far = torch.minimum(far, torch.where(toward < 0, torch.inf, crossing))
    return near, far


def _in_cylinder(o: Vector, d: Vector, half: Vector, axis: int) -> tuple[Tensor, Tensor]:
    i, j = (k for k in range(3) if k != axis)
    along, square = o[i] * d[i] + o[j] * d[j], d[i] * d[i] + d[j] * d[j]
    out = o[i] * o[i] + o[j] * o[j] - half[j] * half[j]
    return _both(_slab(o[axis], d[axis], half[axis]), _round(along, out, square))


def _in_post(o: Vector, d: Vector, half: Vector, lean: Tensor) -> tuple[Tensor, Tensor]:
    return _in_cylinder(o, d, half, axis=1)


def _in_wheel(o: Vector, d: Vector, half: Vector, lean: Tensor) -> tuple[Tensor, Tensor]:
    return _in_cylinder(o, d, half, axis=0)


def _in_ball(o: Vector, d: Vector, half: Vector, lean: Tensor) -> tuple[Tensor, Tensor]:
    along = o[0] * d[0] + o[1] * d[1] + o[2] * d[2]
    out = o[0] * o[0] + o[1] * o[1] + o[2] * o[2] - half[0] * half[0]
    return _round(along, out, d[0] * d[0] + d[1] * d[1] + d[2] * d[2])


INSIDE = {BOX: _in_box, HULL: _in_hull, POST: _in_post, WHEEL: _in_wheel, BALL: _in_ball}
