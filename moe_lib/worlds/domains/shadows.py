"""Shadows on the ground (SBU).

The mask is where something that stands there, or something outside the picture, keeps the sun from the ground
and from what lies flat on it. What casts the shadow is background, and so are stains, wet patches, dark slabs
and dark things: a shadow is told by its shape, by what it hangs on, and by the ground's own pattern that goes
on in it.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from moe_lib.worlds import layers, outlines
from moe_lib.worlds.domains.parts import Stack, blobs, heading, linear, noise_at, segments
from moe_lib.worlds.draws import Draws
from moe_lib.worlds.layered import Layered

# Two colours, frequency of the pattern, how sharp and how bent it is, and whether it runs both ways:
# grass, earth, asphalt, sand, cobbles, slabs, planks, snow.
_GROUNDS = (
    ((0.38, 0.50, 0.20), (0.22, 0.36, 0.12), 9, 1.5, 3.0, True),
    ((0.52, 0.42, 0.32), (0.40, 0.30, 0.22), 3, 1.0, 3.0, False),
    ((0.50, 0.50, 0.51), (0.42, 0.42, 0.44), 2, 1.0, 2.0, False),
    ((0.86, 0.76, 0.58), (0.76, 0.64, 0.46), 10, 1.0, 1.0, False),
    ((0.40, 0.38, 0.37), (0.64, 0.60, 0.55), 9, 4.0, 0.2, True),
    ((0.50, 0.46, 0.42), (0.78, 0.72, 0.66), 4, 12.0, 0.0, False),
    ((0.45, 0.33, 0.22), (0.66, 0.50, 0.35), 6, 6.0, 0.1, False),
    ((0.90, 0.92, 0.96), (0.82, 0.86, 0.92), 2, 1.0, 2.0, False),
)


@dataclass(frozen=True)
class Shadows(Layered):
    """Shadows on the ground.

    Introduced in :doc:`/chapters/pocket_world`.
    """

    name: ClassVar[str] = "shadows"
    family: ClassVar[str] = "shadows"
    classes: ClassVar[tuple[str, ...]] = ("background", "shadow")

    def scene(self, index: int) -> layers.Scene:
        draws = self.draws(index)
        stack = Stack()
        # A step up in a thing's height moves the end of its shadow by this much over the ground.
        sun = np.array([draws.choice((-1, 1)) * draws.uniform(0.6, 1.3), draws.uniform(-0.3, 0.6)])
        _ground(stack, draws)
        _patches(stack, draws)
        things = _things(draws)
        _shade(stack, draws, things, sun)
        for lines, colour in things:
            _paint(stack, draws, lines, colour)
        return stack.scene(
            seed=draws.seed(), light=(-sun[0], -0.6, 0.8), ambient=0.4, vignette=draws.uniform(0, 0.6),
            exposure=draws.uniform(0.6, 1.8), full_well=draws.uniform(900, 3000),
        )  # fmt: skip


# A part of a thing is some lines and a colour. A line says of a stroke's two ends how far aside of the
# thing's foot and how high they are, and how wide: (aside, height, aside, height, half width, half width).
_Parts = list[tuple[np.ndarray, np.ndarray]]


def _things(draws: Draws) -> _Parts:
    """All parts of what stands in the picture, the far things first; lines end with their thing's foot."""
    count = draws.choice((1, 2, 2, 3, 4))
    feet = np.stack([draws.uniform(0.12, 0.88, count), draws.uniform(0.35, 1.0, count)], 1)
    near, parts = draws.uniform(1.4, 2.4), []
    for foot in feet[np.argsort(feet[:, 1])]:
        for lines, colour in draws.choice(_KINDS)(draws):
            lines = np.array(lines) * near
            parts.append((np.concatenate([lines, np.tile(foot, (len(lines), 1))], 1), colour))
    return parts


def _strokes(lines: np.ndarray, upwards: np.ndarray) -> np.ndarray:
    """On the canvas, where a step up in height leads this way."""
    start, end = (lines[:, 6:] + at @ np.array([(1, 0), upwards]) for at in (lines[:, :2], lines[:, 2:4]))
    return segments(start, end, lines[:, 4], lines[:, 5])


def _paint(stack: Stack, draws: Draws, lines: np.ndarray, colour: np.ndarray) -> None:
    stack.draw(
        _strokes(lines, np.array([0, -1.0])), base=colour, accent=colour * draws.uniform(0.6, 1), sharp=2,
        warp=0.6, wave1=(*draws.normal(0, 8, 2), 0), grain=0.25, dome=0.85, label=0, **noise_at(draws, 1),
    )  # fmt: skip


def _ground(stack: Stack, draws: Draws) -> None:
    """One ground, and often a darker one beside it, as if in shadow."""
    stack.add(label=0, **_texture(draws, draws.uniform(0.6, 1.1)))
    if draws.chance(0.6):
        out, _ = _outside(draws)
        stack.add(
            outline=outlines.superellipse(20), centre=0.5 + out * draws.uniform(0.75, 1.1), turn=out,
            radius=(0.8, 2), label=0, **_texture(draws, draws.choice((0.2, 0.35, 0.6))),
        )  # fmt: skip


def _texture(draws: Draws, bright: float) -> dict:
    base, accent, frequency, sharp, warp, both = draws.choice(_GROUNDS)
    turn = heading(draws.normal(0, 0.3)) * frequency * draws.uniform(0.7, 1.3)
    return {
        "base": linear(*base) * bright, "accent": linear(*accent) * bright, "sharp": sharp, "warp": warp,
        "wave1": (turn[1], turn[0], draws.uniform()),
        "wave2": (turn[0], -turn[1], draws.uniform()) if both else (0, 0, 0.5),
        "grain": draws.uniform(0.15, 0.5), "relief": draws.uniform(0.1, 0.4),
        **noise_at(draws, draws.uniform(0.7, 1.2)),
    }  # fmt: skip


def _patches(stack: Stack, draws: Draws) -> None:
    """What is dark or bright of itself: stains, which cover the ground's pattern, and slabs and lids."""
    count = draws.integer(1, 5)
    stain = linear(0.5, 0.40, 0.31) * draws.uniform(0.1, 0.7)
    stack.add(
        count, outline=blobs(draws, count, 0.5), centre=draws.uniform(0, 1, (count, 2)), base=stain,
        accent=0.6 * stain, radius=draws.uniform(0.06, 0.25, (count, 2)), wave1=(2, 3, 0), warp=2,
        grain=0.3, opacity=draws.uniform(0.75, 1, count), soft=0.003, label=0, **noise_at(draws, 0.6),
    )  # fmt: skip
    count = draws.choice((0, 0, 1, 2))
    grey = draws.choice((0.02, 0.05, 0.6))
    stack.add(
        count, outline=draws.choice((outlines.disc(), outlines.superellipse(8))),
        centre=draws.uniform(0.1, 0.9, (count, 2)), radius=draws.uniform(0.06, 0.16, (count, 2)), base=grey,
        accent=grey * 1.6, wave1=(14, 0, 0), wave2=(0, 14, 0), sharp=4, grain=0.3, label=0,
    )  # fmt: skip


def _shade(stack: Stack, draws: Draws, things: _Parts, sun: np.ndarray) -> None:
    """All shadows in one layer: where two meet it is no darker."""
    strokes = [_strokes(lines, sun) for lines, _ in things]
    if draws.chance(0.7):
        strokes.append(draws.choice((_foliage, _foliage, _foliage, _wall, _bars))(draws))
    tint = np.array((0.86, 0.96, 1.2)) * draws.uniform(0.28, 0.5)
    stack.draw(np.concatenate(strokes), multiply=1, base=tint, soft=draws.uniform(0.012, 0.03), label=1)


def _outside(draws: Draws) -> tuple[np.ndarray, np.ndarray]:
    """The way to something outside the picture, and the way across."""
    out = heading(draws.uniform(0, 2 * np.pi))
    return out, np.array([-out[1], out[0]])


def _foliage(draws: Draws) -> np.ndarray:
    """Leaves of a tree, with flecks of sun between them."""
    out, across = _outside(draws)
    at = 0.5 + out * draws.uniform(0.1, 0.6, (12, 1)) + across * draws.normal(0, 0.22, (12, 1))
    return segments(
        at, at + draws.normal(0, 0.06, (12, 2)), draws.uniform(0.02, 0.09, 12), draws.uniform(0.01, 0.06, 12)
    )


def _wall(draws: Draws) -> np.ndarray:
    """The straight edge of a building."""
    out, across = _outside(draws)
    middle = 0.5 + out * draws.uniform(0.65, 0.9)
    return segments((middle - 2 * across)[None], (middle + 2 * across)[None], 0.5)


def _bars(draws: Draws) -> np.ndarray:
    """A railing."""
    out, across = _outside(draws)
    foot = 0.5 + out * 0.8 + np.linspace(-0.6, 0.6, 6)[:, None] * across
    tip = foot - out * draws.uniform(0.5, 1.1)
    width = draws.uniform(0.03, 0.045)
    return np.concatenate([segments(foot, tip, width), segments(tip[:1], tip[-1:], width)])


def _colour(draws: Draws) -> np.ndarray:
    """Of things: some as dark as any shadow."""
    return linear(*draws.uniform(0.1, 0.85, 3)) * draws.choice((0.1, 0.1, 0.6, 1))


def _lamp(draws: Draws) -> _Parts:
    high, w = draws.uniform(0.3, 0.5), draws.uniform(0.01, 0.018)
    reach = draws.choice((-1, 1)) * draws.uniform(0.05, 0.1)
    lines = [
        (0, 0, 0, high, 1.3 * w, w),
        (0, high, reach, high, w, w),
        (reach, high, 1.3 * reach, high - 0.01, 2 * w, 2 * w),
    ]
    return [(lines, _colour(draws))]


def _person(draws: Draws) -> _Parts:
    h, step = draws.uniform(0.22, 0.4), draws.uniform(0.03, 0.1)
    legs = [(side * step, 0, 0, 0.48, 0.045, 0.06) for side in (-1, 1)]
    arms = [(0, 0.78, side * draws.uniform(0.14, 0.24), 0.45, 0.045, 0.035) for side in (-1, 1)]
    body = [(0, 0.5, 0, 0.76, 0.085, 0.11), *arms]
    head = [(0, 0.93, 0, 0.95, 0.075, 0.075)]
    skin = linear(0.85, 0.62, 0.5) * draws.uniform(0.25, 1)
    clothes = _colour(draws), _colour(draws), skin
    return [(h * np.array(lines), colour) for lines, colour in zip((legs, body, head), clothes, strict=True)]


def _tree(draws: Draws) -> _Parts:
    high, wide = draws.uniform(0.25, 0.42), draws.uniform(0.06, 0.1)
    crown = np.zeros((5, 6))
    crown[:, :2] = np.array((0, high)) + draws.normal(0, 0.75 * wide, (5, 2))
    crown[:, 2:4] = crown[:, :2] + draws.normal(0, 0.015, (5, 2))
    crown[:, 4:] = wide * draws.uniform(0.6, 1.0, (5, 2))
    green = linear(0.3, 0.46, 0.16) * draws.uniform(0.4, 1.3, 3)
    return [([(0, 0, 0, high, 0.02, 0.012)], linear(0.36, 0.26, 0.18)), (crown, green)]


def _ball(draws: Draws) -> _Parts:
    r = draws.uniform(0.05, 0.1)
    return [([(0, 0.9 * r, 0, 1.1 * r, r, r)], _colour(draws))]


def _sign(draws: Draws) -> _Parts:
    high, r = draws.uniform(0.25, 0.4), draws.uniform(0.04, 0.06)
    plate = [(-0.3 * r, high, 0.3 * r, high, r, r)]
    return [([(0, 0, 0, high, 0.009, 0.009)], linear(0.5, 0.5, 0.5)), (plate, _colour(draws))]


def _bench(draws: Draws) -> _Parts:
    a, h, w = draws.uniform(0.1, 0.17), draws.uniform(0.06, 0.09), 0.008
    lines = [(-a, 0, -a, h, w, w), (a, 0, a, h, w, w), (-a - 0.02, h, a + 0.02, h, 0.014, 0.014)]
    lines += [(-a, 1.7 * h, a, 1.7 * h, 0.011, 0.011), (-a, h, -a, 1.7 * h, w, w), (a, h, a, 1.7 * h, w, w)]
    return [(lines, _colour(draws))]


def _post(draws: Draws) -> _Parts:
    w, high = draws.uniform(0.03, 0.06), draws.uniform(0.08, 0.2)
    return [([(0, 0.5 * w, 0, high, w, 0.9 * w)], _colour(draws))]


_KINDS = (_lamp, _person, _person, _tree, _tree, _ball, _ball, _sign, _bench, _post)
