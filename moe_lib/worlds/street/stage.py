"""A batch of streets made ready for the renderer: cameras, tables, and which solid may touch which tile.

All of it is NumPy on the host and small, so the device never waits for a count. A *view* is one street at one
instant; views are ordered instant by instant, the last instant being the picture itself.

    F instants, B streets, S = F·B views, P solids in all streets together, R = 2 + F·P rows of the table
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from moe_lib.worlds.street.scene import Scene
from moe_lib.worlds.street.solids import SOLID, STYLE

TILE = 8  # pixels a side; every size of a task is a multiple
SKY, GROUND = 0, 1  # the first two rows of the table
FIELD_OF_VIEW = np.deg2rad(58)
NEAR = 1e-3  # metres: nothing closer is seen
CONTACT = 0.55  # metres that the soft darkening around whatever stands on the ground reaches

COLUMN = {
    name: slice(offset // 4, offset // 4 + (dtype.itemsize // 4))
    for name, (dtype, offset) in SOLID.fields.items()
}


@dataclass
class Pairs:
    """Which solids are to be tried in which tiles; ``n`` pairs of one kind."""

    row: Tensor  # (n,) row of the table
    tile: Tensor  # (n,) number of the tile among those of all views
    left: Tensor  # (n,) first column of the tile in its view
    top: Tensor  # (n,) first line


@dataclass
class Stage:
    """What the renderer needs to know about a batch of streets."""

    scenes: Sequence[Scene]
    size: int
    instants: tuple[float, ...]
    device: torch.device
    table: Tensor  # (C, R) columns of SOLID; centres are where they are at the instant of the view
    rays: Tensor  # (14, R) the camera in a solid's own axes: position, right, up, forward; and its lean
    axes: Tensor  # (9, S) right, up and forward of each camera
    eye: Tensor  # (3, S) where each camera is
    rows_of: np.ndarray  # (R,) the view of each row, -1 for sky and ground
    host: np.ndarray  # (R,) of SOLID, the table as NumPy has it
    host_rays: np.ndarray  # (14, R)

    @property
    def streets(self) -> int:
        return len(self.scenes)

    @property
    def views(self) -> int:
        return len(self.scenes) * len(self.instants)

    @property
    def tiles(self) -> int:
        """Tiles of one view."""
        return (self.size // TILE) ** 2

    @property
    def focal(self) -> float:
        """Focal length in pixels."""
        return self.size / (2 * np.tan(FIELD_OF_VIEW / 2))

    def of_view(self, values) -> Tensor:
        """One number per street → one per view, ``(S, 1, 1)`` float32."""
        values = np.tile(np.asarray(values, dtype=np.float32), len(self.instants))
        return self.sent(values).view(-1, 1, 1)

    def sent(self, array: np.ndarray) -> Tensor:
        """An array on the device."""
        return _sent(array, self.device)


def set_up(scenes: Sequence[Scene], size: int, instants: Sequence[float], device: torch.device) -> Stage:
    """Cameras and tables of a batch. ``instants`` end with 0, the time of the picture."""
    instants = tuple(float(t) for t in instants)
    right, up, forward, eye = _cameras(scenes, instants)
    solids = np.concatenate([scene.solids for scene in scenes])
    street = np.repeat(np.arange(len(scenes)), [len(scene.solids) for scene in scenes])
    shared = np.zeros(2, SOLID)
    shared["class"], shared["turn"][:, 0] = -1, 1
    frames, rows_of = [shared], [np.full(2, -1)]
    for number, t in enumerate(instants):
        frame = solids.copy()
        frame["centre"] += frame["velocity"] * np.float32(t)
        frames.append(frame)
        rows_of.append(street + number * len(scenes))
    host, view = np.concatenate(frames), np.concatenate(rows_of)

    position = _turned(eye[view] - host["centre"], host["turn"])
    axes = [_turned(axis[view], host["turn"]) for axis in (right, up, forward)]
    rays = np.concatenate([position, *axes, host["lean"]], 1).T
    return Stage(
        scenes=scenes,
        size=size,
        instants=instants,
        device=device,
        table=_sent(host.view(np.float32).reshape(len(host), -1).T, device),
        rays=_sent(rays, device),
        axes=_sent(np.concatenate([right, up, forward], 1).T, device),
        eye=_sent(eye.T, device),
        rows_of=view,
        host=host,
        host_rays=rays,
    )


def _sent(array: np.ndarray, device: torch.device) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array)).to(device, non_blocking=True)


def _cameras(scenes: Sequence[Scene], instants: Sequence[float]) -> list[np.ndarray]:
    """Right, up, forward and position of the camera of every view; ``(S, 3)`` each, float32."""
    height, pitch, ahead, yaw = np.stack([scene.camera for scene in scenes], 1)
    views = []
    for t in instants:
        cos, sin, cp, sp = np.cos(yaw * t), np.sin(yaw * t), np.cos(pitch), np.sin(pitch)
        views.append(
            [
                (cos, 0 * cos, -sin),
                (sin * sp, cp, cos * sp),
                (sin * cp, -sp, cos * cp),
                (0 * cos, height, ahead * t),
            ]
        )
    # (F, 4, 3, B) → four of (F·B, 3)
    return list(np.array(views, dtype=np.float32).transpose(1, 0, 3, 2).reshape(4, -1, 3))


def _turned(vector: np.ndarray, turn: np.ndarray) -> np.ndarray:
    """Vectors ``(n, 3)`` of the world along a solid's own axes."""
    cos, sin, x, z = turn[:, 0], turn[:, 1], vector[:, 0], vector[:, 2]
    return np.stack([x * cos - z * sin, vector[:, 1], x * sin + z * cos], 1)


def pairs(stage: Stage, rows: np.ndarray, *, halo: bool = False, cull: bool = True) -> Pairs | None:
    """The tiles that each of these rows' solids may touch; None if there are none.

    Args:
        halo: Take the solid's surroundings on the ground (within ``CONTACT``) in place of the solid.
        cull: Without it every solid is tried in every tile of its view: slow, and of the same result.
    """
    across = stage.size // TILE
    if cull:
        left, right, top, bottom = _screen(stage, rows, halo)
    else:
        left, top = np.zeros((2, len(rows)), int)
        right = bottom = np.full(len(rows), stage.size - 1)
    seen = (left <= right) & (top <= bottom)
    rows, left, right, top, bottom = (
        a[seen] for a in (rows, left // TILE, right // TILE, top // TILE, bottom // TILE)
    )
    if not len(rows):
        return None
    wide = right - left + 1
    count = wide * (bottom - top + 1)
    which = np.repeat(np.arange(len(rows)), count)
    step = np.arange(len(which)) - np.repeat(np.cumsum(count) - count, count)
    column, line = left[which] + step % wide[which], top[which] + step // wide[which]
    tile = stage.rows_of[rows][which] * stage.tiles + line * across + column
    corner = np.stack([column * TILE, line * TILE]).astype(np.float32)
    return Pairs(*map(stage.sent, (rows[which], tile, corner[0], corner[1])))


def _screen(stage: Stage, rows: np.ndarray, halo: bool) -> tuple[np.ndarray, ...]:
    """First and last column and line that a solid's bounds can cover; none if first > last."""
    rays = stage.host_rays[:, rows].astype(np.float64)
    half = stage.host["half"][rows].T.astype(np.float64)
    middle = -rays[:3]
    if halo:
        half = half + CONTACT
        half[1] = 0
        middle[1] -= stage.host["centre"][rows, 1]
    # The eight corners seen from the camera: along its right, up and forward.
    signs = np.array(
        [[-1, 1, -1, 1, -1, 1, -1, 1], [-1, -1, 1, 1, -1, -1, 1, 1], [-1, -1, -1, -1, 1, 1, 1, 1]]
    )
    corners = middle[:, None] + signs[:, :, None] * half[:, None]
    across, up, ahead = (sum(corners[i] * rays[axis + i] for i in range(3)) for axis in (3, 6, 9))
    near, far = ahead.min(0), ahead.max(0)
    with np.errstate(divide="ignore", invalid="ignore"):
        spans = [_span(across, ahead, near, far), _span(-up, ahead, near, far)]
    edges = []
    for low, high in spans:
        to_pixel = stage.size / 2 - 0.5
        low, high = low * stage.focal + to_pixel, high * stage.focal + to_pixel
        # A twentieth of a pixel is far more than float32 can be off.
        first = np.ceil(np.clip(low - 0.05, 0, stage.size)).astype(int)
        last = np.floor(np.clip(high + 0.05, -1, stage.size - 1)).astype(int)
        edges += [first, np.where(far > 0, last, -1)]
    return tuple(edges)


def _span(
    sideways: np.ndarray, ahead: np.ndarray, near: np.ndarray, far: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Least and greatest tangent of the corners ``(8, n)``, with care for what reaches behind the camera."""
    tangent = sideways / ahead
    least, most = sideways.min(0), sideways.max(0)
    whole = near > 0.01
    low = np.where(whole, tangent.min(0), np.where(least > 0, least / far, -np.inf))
    high = np.where(whole, tangent.max(0), np.where(most < 0, most / far, np.inf))
    return low, high


def standing(stage: Stage) -> np.ndarray:
    """Rows of what stands on the ground and darkens it: cars, posts, walls."""
    host = stage.host
    foot = host["centre"][:, 1] - host["half"][:, 1]
    styles = [STYLE[name] for name in ("bodywork", "plain", "bark", "cloth", "facade", "fence")]
    return np.flatnonzero((foot < 0.3) & np.isin(host["style"], styles) & (stage.rows_of >= 0))
