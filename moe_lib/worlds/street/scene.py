"""What stands in a street: NumPy decides it once per scene, through ``Draws``.

Metres; x to the right, y up, z forward; the ground is y = 0. The camera stands near x = z = 0 and looks
along z. Everything solid is one row of a table, whatever its kind: a centre, half sizes, a turn about the
vertical axis, a velocity, and how it looks.
"""

from dataclasses import dataclass

import numpy as np

from moe_lib.worlds.draws import Draws
from moe_lib.worlds.street.conditions import Conditions
from moe_lib.worlds.street.solids import BALL, BOX, CLASS, HULL, POST, WHEEL, Solids

_PLOTS, _SLOTS, _CARS = 10, 22, 6  # more never fit between the first place and the last
_FACADES = np.array(
    [[0.62, 0.55, 0.42], [0.52, 0.29, 0.22], [0.58, 0.44, 0.26], [0.42, 0.48, 0.42], [0.37, 0.43, 0.52],
     [0.66, 0.62, 0.56], [0.56, 0.36, 0.33]]
)  # fmt: skip
_SIGNS = np.array([[0.7, 0.08, 0.07], [0.08, 0.17, 0.7], [0.78, 0.62, 0.06]])
_SKINS = np.array([[0.58, 0.40, 0.30], [0.42, 0.27, 0.18], [0.25, 0.15, 0.10], [0.66, 0.50, 0.40]])


@dataclass(frozen=True)
class Scene:
    """One street and the conditions it is seen under.

    Introduced in :doc:`/chapters/pocket_world`.
    """

    solids: np.ndarray  # (P,) of SOLID
    labels: np.ndarray  # (n,) class of instance 1 … n
    road: np.ndarray  # (5,) width, pavement's width, shift and bend of the centre line, seed of the texture
    camera: np.ndarray  # (4,) height, pitch downwards, metres forward and yaw per event window
    sun: np.ndarray  # (3,) unit vector towards the sun
    lamps: np.ndarray  # (3, 3) where street lamps burn at night
    conditions: Conditions

    @property
    def weather(self) -> str:
        return self.conditions.weather

    @property
    def case(self) -> str:
        return self.conditions.case


def street(draws: Draws, conditions: Conditions) -> Scene:
    """A street; its content does not depend on the conditions."""
    width, pavement, shift, bend = draws.uniform(size=4) * (3, 1.3, 2.4, 0.012) + (5.5, 1.2, -1.2, -0.006)
    road = np.array([width, pavement, shift, bend, draws.uniform()])
    camera = draws.uniform(size=4) * (0.8, 0.1, 0.4, 0.024) + (1.5, 0.03, 0.1, -0.012)
    solids = Solids()
    _plots(solids, draws, road)
    lamps = _roadside(solids, draws, road)
    _cars(solids, draws, road)
    _crossing(solids, draws, road)
    azimuth, elevation = draws.uniform(0, 2 * np.pi), draws.uniform(0.35, 1.1)
    flat = np.cos(elevation)
    sun = np.array([np.cos(azimuth) * flat, np.sin(elevation), np.sin(azimuth) * flat])
    return Scene(
        solids.table(), np.concatenate(solids.labels), road.astype(np.float32), camera, sun, lamps, conditions
    )


def _centre_line(road: np.ndarray, z):
    return road[2] + road[3] * z * z


def _greys(u: np.ndarray, low: float, high: float) -> np.ndarray:
    """Almost grey colours; ``u`` is ``(n, 4)``."""
    return (low + (high - low) * u[:, :1]) * (0.92 + 0.16 * u[:, 1:])


def _clothes(u: np.ndarray) -> np.ndarray:
    return 0.06 + 0.6 * u


def _plots(solids: Solids, draws: Draws, road: np.ndarray) -> None:
    """Buildings with their billboards, and fences, along both sides."""
    first = draws.uniform(2, 6, size=(2, 1))
    u = draws.uniform(size=(2, _PLOTS, 20))
    length, gap = 6 + 7 * u[..., 0], 0.5 + 6.5 * u[..., 1]
    ends = first + np.cumsum(length + gap, 1)
    start = ends - length - gap
    mid = start + length / 2
    side = np.broadcast_to([[-1.0], [1.0]], mid.shape)
    inside = start < 62
    built = inside & (u[..., 2] < 0.75)
    fenced = inside & ~built & (u[..., 3] < 0.6)
    verge = _centre_line(road, mid) + side * (road[0] / 2 + road[1])

    b, length_b, mid_b, side_b = u[built], length[built], mid[built], side[built]
    x, top = verge[built] + side_b * (5 + 3 * b[:, 4]), 6 + 8 * b[:, 5]
    paint = np.where(
        b[:, 6:7] < 0.55,
        _greys(b[:, 7:11], 0.25, 0.6),
        _FACADES[(b[:, 7] * len(_FACADES)).astype(int)] * (0.75 + 0.45 * b[:, 8:11]),
    )
    roof = np.where(b[:, 12] < 0.45, np.minimum(2.2, 0.25 * top), 0.3)  # pitched, or a flat rim
    wall = top - roof
    solids.add(BOX, "facade", "building", x, wall / 2, mid_b, (3, wall / 2, length_b / 2), albedo=paint,
               salt=b[:, 11])  # fmt: skip
    tiles = np.where(b[:, 13:14] < 0.5, [[0.30, 0.14, 0.10]], [[0.16, 0.16, 0.18]]) * (
        0.8 + 0.5 * b[:, 14:15]
    )
    pitched = roof > 0.3
    lean = np.where(pitched, 2.9, 0.0)
    solids.add(HULL, "roof", "building", x, wall + roof / 2, mid_b, (3.12, roof / 2, length_b / 2 + 0.12),
               albedo=np.where(pitched[:, None], tiles, 0.8 * paint), lean=np.stack([lean, lean * 0], 1),
               salt=b[:, 11])  # fmt: skip

    shown = b[:, 15] < 0.46
    b, side_b, x, mid_b = b[shown], side_b[shown], x[shown], mid_b[shown]
    ids = solids.things(np.full(len(b), CLASS["billboard"]))
    for style, here in (("car_advert", b[:, 16] < 0.5), ("person_advert", b[:, 16] >= 0.5)):
        n = b[here]
        solids.add(BOX, style, "billboard", x[here] - side_b[here] * 3.06, 1 + 1.2 * n[:, 17], mid_b[here],
                   (0.03, 0.9 + 0.5 * n[:, 18], 1.8 + 0.8 * n[:, 19]), albedo=0.12 + 0.6 * n[:, 7:10],
                   instance=ids[here], salt=n[:, 10])  # fmt: skip

    f = u[fenced]
    high = 0.5 + 0.4 * f[:, 4]
    solids.add(BOX, "fence", "fence", verge[fenced] + side[fenced] * 0.8, high, mid[fenced],
               (0.08, high, length[fenced] / 2), albedo=_greys(f[:, 5:9], 0.2, 0.5),
               salt=f[:, 9])  # fmt: skip


def _roadside(solids: Solids, draws: Draws, road: np.ndarray) -> np.ndarray:
    """Poles with signs and lamps, trees, and people on the pavement; returns where lamps burn, ``(3, 3)``."""
    first = draws.uniform(4.5, 8, size=(2, 1))
    u = draws.uniform(size=(2, _SLOTS, 20))
    steps = 1.8 + 3.2 * u[..., 0]
    z = first + np.cumsum(steps, 1) - steps
    side = np.broadcast_to([[-1.0], [1.0]], z.shape)
    x = _centre_line(road, z) + side * (road[0] / 2 + road[1] - 0.4 + 1.2 * u[..., 1])
    inside, lot = z < 42, u[..., 2]

    here = inside & (lot < 0.38)
    lamps = _poles(solids, u[here], x[here], z[here], side[here])
    here = inside & (lot >= 0.38) & (lot < 0.66)
    _trees(solids, u[here], x[here] + 0.8 * side[here], z[here])
    here = inside & (lot >= 0.66)
    pace = (u[here][:, 3:5] * 2 - 1) * (0.06, 0.1)
    living = u[here][:, 5] > 0.11  # the others are advertising figures: only their temperature tells
    _people(solids, u[here], x[here], z[here], pace * living[:, None], living)
    return lamps


def _poles(solids: Solids, u, x, z, side) -> np.ndarray:
    paint, radius, high = _greys(u[:, 3:7], 0.15, 0.45), 0.11 + 0.09 * u[:, 7], 3.5 + 2.5 * u[:, 8]
    ids = solids.things(np.full(len(u), CLASS["pole"]))
    signed = u[:, 9] < 0.6
    solids.add(POST, "plain", "pole", x, high / 2, z, (radius, high / 2, radius), albedo=paint, instance=ids,
               salt=u[:, 10])  # fmt: skip
    lit = np.flatnonzero(~signed)[:3]
    head = x[lit] - 0.45 * side[lit]
    solids.add(BOX, "lamp", "pole", head, high[lit], z[lit], (0.5, 0.07, 0.12), albedo=paint[lit],
               instance=ids[lit])  # fmt: skip
    s = u[signed]
    solids.add(BOX, "sign", "sign", x[signed], 2.2 + s[:, 11], z[signed] - 0.2, (0.5, 0.5, 0.03),
               albedo=_SIGNS[(s[:, 12] * 3).astype(int)], salt=s[:, 13],
               instance=solids.things(np.full(len(s), CLASS["sign"])))  # fmt: skip
    lamps = np.full((3, 3), -50.0)  # too far to matter
    lamps[: len(lit)] = np.stack([head - 0.3 * side[lit], high[lit] - 0.15, z[lit]], 1)
    return lamps


def _trees(solids: Solids, u, x, z) -> None:
    ids = solids.things(np.full(len(u), CLASS["vegetation"]))
    stem, radius = 1.6 + u[:, 3], 0.9 + 0.8 * u[:, 4]
    solids.add(POST, "bark", "vegetation", x, stem / 2, z, (0.16, stem / 2, 0.16), albedo=(0.2, 0.14, 0.09),
               instance=ids)  # fmt: skip
    green = np.array([0.12, 0.26, 0.07]) * (0.6 + 0.7 * u[:, 5:6]) + 0.07 * u[:, 6:7] * (1, 0.3, 0)
    # One large ball and three lobes on it keep the spread of a single ball of this radius.
    lobes = [
        (0.0, 0.0, 0.0, 0.84),
        (0.5, 0.15, -0.2, 0.56),
        (-0.5, 0.05, -0.15, 0.58),
        (0.02, 0.5, 0.1, 0.55),
    ]
    for k, (dx, dy, dz, share) in enumerate(lobes):
        dx = dx * (0.8 + 0.4 * u[:, 7 + k])
        r = share * radius
        solids.add(BALL, "leaves", "vegetation", x + dx * radius, stem + (0.7 + dy) * radius, z + dz * radius,
                   (r, r, r), albedo=green, instance=ids, salt=u[:, 12])  # fmt: skip


def _people(solids: Solids, u, x, z, pace, living) -> None:
    """Legs, trunk and head; ``u`` is ``(n, 20)``, ``pace`` ``(n, 2)`` metres in x and z per window."""
    label = np.where(living, CLASS["pedestrian"], CLASS["billboard"])
    radius = 0.2 + 0.08 * u[:, 6]
    same = {
        "instance": solids.things(label),
        "velocity": np.stack([pace[:, 0], 0 * x, pace[:, 1]], 1),
        "salt": u[:, 7],
    }
    hips, neck = 0.78, 1.45
    thin = 0.8 * radius
    solids.add(POST, "cloth", label, x, hips / 2, z, (thin, hips / 2, thin),
               albedo=0.4 * _clothes(u[:, 8:11]), warmth=0.45 * living, **same)  # fmt: skip
    solids.add(POST, "cloth", label, x, (hips + neck) / 2, z, (radius, (neck - hips) / 2, radius),
               albedo=_clothes(u[:, 11:14]), warmth=0.6 * living, **same)  # fmt: skip
    skin = _SKINS[(u[:, 14] * len(_SKINS)).astype(int)]
    solids.add(BALL, "head", label, x, 1.6, z, (0.17, 0.17, 0.17), albedo=skin, warmth=0.9 * living, **same)


def _cars(solids: Solids, draws: Draws, road: np.ndarray) -> None:
    """Three to six cars. Those that move differ from the parked by their velocity, and by nothing else."""
    n = draws.integer(3, 7)
    u = draws.uniform(size=(_CARS, 14))[:n]
    z = np.sort(6 + 26 * u[:, 0] * np.sqrt(u[:, 0]))
    side = np.where(u[:, 1] < 0.5, -1.0, 1.0)
    for k in range(1, n):  # no car inside another
        ahead = z[:k][side[:k] == side[k]]
        z[k] = max(z[k], *(ahead + 4.6)) if len(ahead) else z[k]
    moving = u[:, 2] < 0.5
    in_lane = moving | (u[:, 3] < 0.5)
    x = _centre_line(road, z) + side * np.where(in_lane, road[0] / 4, road[0] / 2 - 1)
    paint = np.where(u[:, 4:5] < 0.6, _greys(u[:, 5:9], 0.1, 0.6), 0.08 + 0.62 * u[:, 5:8])
    label = np.where(moving, CLASS["car_moving"], CLASS["car_parked"])
    # They keep to the left: on that side one sees their tails. Warm engines are as common among the parked.
    yaw = 0.12 * u[:, 9] - 0.06
    cos, sin = -side * np.cos(yaw), -side * np.sin(yaw)
    same = {
        "instance": solids.things(label),
        "turn": np.stack([cos, sin], 1),
        "velocity": np.stack([0 * x, 0 * x, -side * moving * (0.25 + 0.45 * u[:, 10])], 1),
        "salt": u[:, 11],
        "warmth": (u[:, 12] < 0.85) * (0.4 + 0.6 * u[:, 13]),
    }

    def place(back):  # a place on the car's own axis; its front looks along local +z
        return x + back * sin, z + back * cos

    solids.add(BOX, "bodywork", label, x, 0.62, z, (0.88, 0.42, 2.0), albedo=paint, **same)
    cx, cz = place(-0.25)
    lean = np.broadcast_to([0.16, 0.5], (n, 2))
    solids.add(HULL, "cabin", label, cx, 1.27, cz, (0.82, 0.3, 1.3), albedo=paint, lean=lean, **same)
    for back in (-1.25, 1.25):
        wx, wz = place(back)
        solids.add(WHEEL, "tyre", label, wx, 0.31, wz, (0.9, 0.31, 0.31), albedo=0.035, **same)


def _crossing(solids: Solids, draws: Draws, road: np.ndarray) -> None:
    """Every second street has somebody who crosses it."""
    here = draws.chance(0.5)
    u = draws.uniform(size=(1, 20))
    z = 7 + 15 * u[:, 0]
    x = _centre_line(road, z) - 2.5 + 5 * u[:, 1]
    pace = np.where(u[:, 2] < 0.5, -1.0, 1.0) * (0.05 + 0.07 * u[:, 3])
    if here:
        _people(solids, u, x, z, np.stack([pace, 0 * pace], 1), np.array([True]))
