"""The surface at every pixel: where it is, how it is turned, and which solid it belongs to.

Ground and sky are handled as whole pictures, ``(S, H, W)``; solids cover a third of the pixels and are
handled as one flat list of ``n`` of them.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from moe_lib.worlds.street.cast import Hits, Vector, directions
from moe_lib.worlds.street.solids import BALL, POST, WHEEL
from moe_lib.worlds.street.stage import COLUMN, GROUND, SKY, Stage


@dataclass
class Solid:
    """The pixels that show solids, as one list."""

    pixel: Tensor  # (n,) place among S·H·W
    columns: Tensor  # (C, n) the solid's row of the table
    own: Vector  # (n,) place in the solid's own axes
    own_normal: Vector  # (n,) in the same axes
    footprint: Tensor  # (n,) metres of surface that one pixel covers

    def get(self, name: str) -> Tensor:
        """One column of the table, ``(n,)`` or ``(k, n)``."""
        found = self.columns[COLUMN[name]]
        return found[0] if len(found) == 1 else found


@dataclass
class Surfaces:
    """What there is to see. Shapes ``(S, H, W)``."""

    ground: Tensor  # bool
    sky: Tensor  # bool
    depth: Tensor  # planar, metres; 0 is sky
    distance: Tensor  # along the ray, metres; 0 is sky
    toward: Vector  # unit vectors from the camera
    point: Vector  # in the world
    normal: Vector
    footprint: Tensor  # metres of flat ground that one pixel covers, away from the camera
    solid: Solid

    def painted(self, picture: Tensor, values: Tensor) -> Tensor:
        """The picture ``(S, H, W)`` with one value for each pixel of a solid."""
        return picture.flatten().index_copy(0, self.solid.pixel, values).view_as(picture)


def surfaces(stage: Stage, hits: Hits) -> Surfaces:
    """The surfaces that were hit."""
    ground, sky = hits.row == GROUND, hits.row == SKY
    depth = torch.where(sky, 0, hits.depth)
    toward = directions(stage)
    length = torch.sqrt(toward[0] * toward[0] + toward[1] * toward[1] + toward[2] * toward[2])
    eye = stage.eye.view(3, -1, 1, 1)
    point = tuple(eye[i] + depth * toward[i] for i in range(3))
    toward = tuple(part / length for part in toward)
    footprint = depth * length / stage.focal / (-toward[1]).clamp(min=0.01)

    solid = _solid(stage, hits, point, depth)
    cos, sin = solid.get("turn")
    x, y, z = solid.own_normal
    flat = ground.float()  # the ground looks up
    found = Surfaces(
        ground, sky, depth, depth * length, toward, point, (0 * flat, flat, 0 * flat), footprint, solid
    )
    own = (x * cos + z * sin, y, z * cos - x * sin)
    found.normal = tuple(found.painted(base, part) for base, part in zip(found.normal, own, strict=True))
    return found


def _solid(stage: Stage, hits: Hits, point: Vector, depth: Tensor) -> Solid:
    row = hits.row.flatten()
    pixel = (row > GROUND).nonzero()[:, 0]
    columns = stage.table[:, row[pixel]]
    centre, (cos, sin) = columns[COLUMN["centre"]], columns[COLUMN["turn"]]
    x, y, z = (p.flatten()[pixel] - c for p, c in zip(point, centre, strict=True))
    own = (x * cos - z * sin, y, x * sin + z * cos)
    normal = _own_normal(columns, own)
    return Solid(pixel, columns, own, normal, depth.flatten()[pixel] * (1.3 / stage.focal))


def _own_normal(columns: Tensor, own: Vector) -> Vector:
    """The side of the solid that a place lies on is the one it sticks out of most."""
    x, y, z = own
    half, kind, lean = columns[COLUMN["half"]], columns[COLUMN["kind"]][0], columns[COLUMN["lean"]]
    slope = lean / (2 * half[1])
    out_x = x.abs() + slope[0] * (y + half[1]) - half[0]
    out_y = y.abs() - half[1]
    out_z = z.abs() + slope[1] * (y + half[1]) - half[2]
    out = torch.maximum(out_x, out_z)
    on_x, on_y = (out_x >= out_z).float(), (out_y > out).float()
    beside, on_z = 1 - on_y, 1 - on_x
    flat = (
        torch.sign(x) * on_x * beside,
        torch.sign(y) * on_y + beside * (on_x * slope[0] + on_z * slope[1]),
        torch.sign(z) * on_z * beside,
    )
    # A cylinder's end counts as hit when the place lies on it rather than on the mantle.
    post, wheel, ball = kind == POST, kind == WHEEL, kind == BALL
    top = post & (out_y > -1e-3)
    end = wheel & (x.abs() - half[0] > -1e-3)
    round_ = (
        torch.where(end, torch.sign(x), torch.where(ball, x, torch.where(post & ~top, x, 0))),
        torch.where(top, torch.sign(y), torch.where(ball | (wheel & ~end), y, 0)),
        torch.where(end | top, 0, z),
    )
    curved = post | wheel | ball
    normal = tuple(torch.where(curved, r, f) for r, f in zip(round_, flat, strict=True))
    scale = torch.rsqrt(normal[0] * normal[0] + normal[1] * normal[1] + normal[2] * normal[2] + 1e-12)
    return tuple(part * scale for part in normal)
