"""Where the sun does not reach: one ray from every lit point, tried only against what can lie in its way.

Seen from the sun every ray is a point, a tile of pixels a small rectangle, and so is a solid. Only solids
whose rectangle overlaps the tile's, and that reach nearer to the sun, are tried.
"""

import numpy as np
import torch
from torch import Tensor

from moe_lib.worlds.street.cast import INSIDE, Vector, tiled, untiled
from moe_lib.worlds.street.stage import COLUMN, NEAR, Stage

_LIFT = 0.02  # metres that rays start above their surface
_MARGIN = 0.01  # metres, far more than rounding


def shadows(
    stage: Stage, views: np.ndarray, points: Vector, normal: Vector, lit: Tensor, *, cull: bool = True
) -> Tensor:
    """Which of the ``lit`` points lie in shadow.

    Args:
        views: ``(V,)`` the views that are asked for.
        points, normal: Places and normals in the world, ``(V, H, W)`` each.
        lit: ``(V, H, W)`` bool: points that face the sun; others are not tried.

    Returns:
        ``(V, H, W)`` bool.
    """
    frames = _sun_frames(np.stack([scene.sun for scene in stage.scenes])[views % stage.streets])
    points = tuple(tiled(p + _LIFT * n) for p, n in zip(points, normal, strict=True))
    lit = tiled(lit)
    dark = torch.zeros_like(lit, dtype=torch.uint8)
    low, high = _tile_bounds(stage, points, lit, frames)
    for kind, inside in INSIDE.items():
        rows, solid_low, solid_high, toward = _casters(stage, views, kind, frames)
        meets = solid_low[0].isfinite()[:, None].expand(-1, stage.tiles, -1)
        if cull:
            for axis in range(3):
                meets = meets & (low[axis, :, :, None] <= solid_high[axis, :, None])
            for axis in range(2):  # along the third the solid only has to be nearer to the sun
                meets = meets & (high[axis, :, :, None] >= solid_low[axis, :, None])
        view, tile, place = meets.nonzero(as_tuple=True)
        row, tile = rows[view, place], view * stage.tiles + tile
        solid = stage.table[:, row]
        cos, sin = solid[COLUMN["turn"]]
        x, y, z = (p[:, tile] - c for p, c in zip(points, solid[COLUMN["centre"]], strict=True))
        origin = (x * cos - z * sin, y, x * sin + z * cos)
        sun = tuple(toward[:, view, place])
        near, far = inside(origin, sun, tuple(solid[COLUMN["half"]]), solid[COLUMN["lean"]])
        hit = ((near < far) & (far > NEAR)).to(torch.uint8)
        dark.scatter_reduce_(1, tile.expand_as(hit), hit, "amax")
    return untiled(dark.bool() & lit, stage.size)


def _sun_frames(suns: np.ndarray) -> np.ndarray:
    """Two axes across the sun's rays and one towards it: ``(V, 3, 3)``, one axis a row."""
    flat = np.stack([-suns[:, 2], 0 * suns[:, 0], suns[:, 0]], 1)
    flat /= np.linalg.norm(flat, axis=1, keepdims=True)
    return np.stack([flat, np.cross(flat, suns), suns], 1)


def _tile_bounds(stage: Stage, points: Vector, lit: Tensor, frames: np.ndarray) -> tuple[Tensor, Tensor]:
    """Least and greatest coordinates of the lit points of every tile in the sun's axes: ``(3, V, tiles)``."""
    axes = stage.sent(frames.astype(np.float32)).repeat_interleave(stage.tiles, 0)
    low, high = [], []
    for axis in range(3):
        along = sum(p * axes[:, axis, i] for i, p in enumerate(points))
        low.append(torch.where(lit, along, torch.inf).amin(0))
        high.append(torch.where(lit, along, -torch.inf).amax(0))
    return tuple(torch.stack(b).view(3, -1, stage.tiles) for b in (low, high))


def _casters(stage: Stage, views: np.ndarray, kind: int, frames: np.ndarray) -> tuple[Tensor, ...]:
    """Solids of one kind, view by view: rows ``(V, P)``, bounds in the sun's axes and the sun in the solid's
    own axes ``(3, V, P)``. Empty places have bounds that meet nothing."""
    per_view = [np.flatnonzero((stage.host["kind"] == kind) & (stage.rows_of == view)) for view in views]
    most = max(1, *(len(rows) for rows in per_view)) if per_view else 1
    rows = np.zeros((len(views), most), dtype=np.int64)
    for place, found in zip(rows, per_view, strict=True):
        place[: len(found)] = found
    host = stage.host[rows]
    centre, half = (host[name].astype(np.float64) for name in ("centre", "half"))
    cos, sin = (host["turn"][..., i].astype(np.float64) for i in (0, 1))
    x, y, z = (frames[:, None, :, i] for i in range(3))  # (V, 1, 3 axes)
    cos, sin = cos[..., None], sin[..., None]
    own = np.stack([x * cos - z * sin, y + 0 * cos, x * sin + z * cos], -1)  # (V, P, 3 axes, 3)
    middle = np.einsum("vpi,vai->vpa", centre, frames)
    reach = (np.abs(own) * half[:, :, None]).sum(-1) + _MARGIN
    empty = (rows == 0)[..., None]
    low, high = np.where(empty, np.inf, middle - reach), np.where(empty, -np.inf, middle + reach)
    floats = [a.transpose(2, 0, 1).astype(np.float32) for a in (low, high, own[:, :, 2])]
    return tuple(map(stage.sent, (rows, *floats)))
