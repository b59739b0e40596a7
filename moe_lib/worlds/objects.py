"""Things that can be recognised: a fish, a lamp, a mushroom — a few layers each, which share one instance.

Every kind is a function that draws its proportions and returns its parts, from the back to the front, in its
own frame: x to the right, y down, about one unit from the middle to the edge.
"""

from collections.abc import Callable
from functools import cache

import numpy as np

from moe_lib.worlds import outlines
from moe_lib.worlds.assembly import DARK, EYE, GREEN, PALE, SKIN, TRIM, Part, limbs, spot
from moe_lib.worlds.draws import Draws
from moe_lib.worlds.outlines import Outline

_DISC = outlines.disc()
BOX = outlines.superellipse(7)
_CAP = outlines.dome(0.12)
_LEAF = outlines.leaf()
_TRIANGLE = outlines.polygon(np.array([(0, -1), (1, 0.7), (-1, 0.7)]))
_TRAPEZE = outlines.polygon(np.array([(-0.5, -1), (0.5, -1), (1, 1), (-1, 1)]))
TUMBLER = outlines.polygon(np.array([(-1, -1), (1, -1), (0.75, 1), (-0.75, 1)]))
BOTTLE = outlines.polygon(
    np.array(
        [
            (-0.15, -1),
            (0.15, -1),
            (0.15, -0.5),
            (0.42, -0.2),
            (0.42, 0.95),
            (-0.42, 0.95),
            (-0.42, -0.2),
            (-0.15, -0.5),
        ]
    )
)
_HULL = outlines.polygon(np.array([(-1, -0.3), (1, -0.3), (0.65, 0.4), (-0.6, 0.4)]))
_WINGS = outlines.polar(lambda a: (0.12 + 0.88 * np.abs(np.sin(2 * a)) ** 0.6) * (1 - 0.18 * np.sin(a)))
_APPLE = outlines.polar(
    lambda a: 0.95 + 0.1 * np.sin(a) ** 2 - 0.28 * np.exp(-(((a + np.pi / 2) / 0.35) ** 2))
)
_SHAPES = (
    _DISC, BOX, _TRIANGLE, _TRAPEZE, outlines.regular(5), outlines.regular(6), outlines.star(5),
    outlines.star(8, 0.7),
    outlines.cross(), outlines.superellipse(1.2), outlines.polar(lambda a: 0.75 + 0.25 * np.cos(3 * a)),
)  # fmt: skip


@cache
def _petals(count: int) -> Outline:
    return outlines.polar(lambda a: 0.45 + 0.55 * np.abs(np.cos(count * a / 2)) ** 0.7)


def fish(d: Draws) -> list[Part]:
    deep, tail, fin = d.uniform(0.32, 0.5), d.uniform(0.25, 0.45), d.uniform(0.1, 0.35)
    return [
        limbs(TRIM, (0.5, 0, 0.95, -tail, 0.08, 0.15), (0.5, 0, 0.95, tail, 0.08, 0.15),
              (-0.1, -deep, 0.3, -deep - fin, 0.2, 0.03),
              (-0.1, deep * 0.8, 0.15, deep + 0.5 * fin, 0.12, 0.03)),
        limbs(SKIN, (-0.45, 0, 0.0, 0, deep * 0.75, deep), (0, 0, 0.65, 0, deep, 0.09)),
        spot(EYE, -0.58, -0.1, 0.11),
    ]  # fmt: skip


def beast(d: Draws) -> list[Part]:
    """Four legs, a head, a tail: from dog to giraffe."""
    leg, neck, bulk = d.uniform(0.55, 0.9), d.uniform(0.2, 0.65), d.uniform(0.24, 0.36)
    head, ear = 0.95 * neck, d.uniform(0.15, 0.4)
    x, y = 0.5 + 0.3 * neck, 0.0 - head
    return [
        limbs(SKIN, (-0.45, 0.1, -0.5, leg, 0.13, 0.08), (-0.25, 0.1, -0.2, leg * 0.96, 0.12, 0.07),
              (0.28, 0.1, 0.22, leg * 0.96, 0.12, 0.07), (0.45, 0.1, 0.5, leg, 0.12, 0.08),
              (-0.65, -0.1, -0.98, d.uniform(-0.5, 0.3), 0.07, 0.05),
              (-0.42, 0, 0.4, -0.02, bulk, bulk * 0.92), (0.45, -0.05, x, y, 0.24, 0.18),
              (x, y, x + d.uniform(0.22, 0.4), y + 0.1, 0.2, 0.11),
              (x - 0.05, y - 0.1, x - 0.12, y - 0.1 - ear, 0.1, 0.04)),
        spot(EYE, x + 0.04, y - 0.05, 0.085),
    ]  # fmt: skip


def bird(d: Draws) -> list[Part]:
    head, beak, fat = d.uniform(-0.55, -0.4), d.uniform(0.2, 0.4), d.uniform(0.32, 0.42)
    return [
        limbs(TRIM, (0.6, head, 0.72 + beak, head + 0.06, 0.1, 0.02), (-0.05, 0.3, -0.1, 0.9, 0.05, 0.04),
              (0.15, 0.3, 0.15, 0.9, 0.05, 0.04), dome=0.4),
        limbs(SKIN, (0.15, 0, -0.35, 0.1, fat, 0.26), (-0.3, 0.08, -0.95, d.uniform(-0.1, 0.4), 0.2, 0.08),
              (0.2, -0.05, 0.48, head, fat * 0.8, 0.24)),
        Part(TRIM, _LEAF, centre=(-0.12, 0.02), radius=(0.48, 0.4), angle=np.pi - 0.3, detail=True, dome=0.5),
        spot(EYE, 0.54, head - 0.04, 0.085),
    ]  # fmt: skip


def snail(d: Draws) -> list[Part]:
    tall = d.uniform(0.5, 0.66)
    return [
        limbs(TRIM, (-0.85, 0.62, 0.55, 0.6, 0.06, 0.16), (0.55, 0.58, 0.85, 0.1, 0.16, 0.12),
              (0.85, 0.1, 0.95, -0.25, 0.05, 0.04), (0.8, 0.1, 0.72, -0.25, 0.05, 0.04)),
        Part(SKIN, _DISC, centre=(-0.1, 0.05), radius=(tall, tall * 0.92)),
        Part(DARK, _DISC, ((-0.1, 0.05, 0.05, 0.0, 0.06, 0.05), (0.05, 0, 0.1, 0.15, 0.05, 0.05),
                           (0.1, 0.15, -0.1, 0.28, 0.05, 0.05), (-0.1, 0.28, -0.35, 0.12, 0.05, 0.05),
                           (-0.35, 0.12, -0.25, -0.2, 0.05, 0.05)), dome=0.0, detail=True),
    ]  # fmt: skip


def turtle(d: Draws) -> list[Part]:
    wide = d.uniform(0.5, 0.66)
    return [
        limbs(TRIM, (0.4, 0, 0.85, d.uniform(-0.15, 0.15), 0.14, 0.17), (0.35, 0.3, 0.6, 0.7, 0.14, 0.1),
              (0.35, -0.3, 0.6, -0.7, 0.14, 0.1), (-0.4, 0.3, -0.6, 0.65, 0.14, 0.1),
              (-0.4, -0.3, -0.6, -0.65, 0.14, 0.1), (-0.5, 0, -0.9, 0, 0.08, 0.02)),
        Part(SKIN, _DISC, radius=(0.68, wide), dome=0.85),
        spot(EYE, 0.9, -0.06, 0.07),
    ]  # fmt: skip


def butterfly(d: Draws) -> list[Part]:
    return [
        Part(SKIN, _WINGS, radius=(d.uniform(0.85, 1.05), d.uniform(0.75, 0.95)), dome=0.2),
        limbs(DARK, (0, -0.4, 0, 0.5, 0.1, 0.05), (0, -0.4, -0.25, -0.85, 0.03, 0.03),
              (0, -0.4, 0.25, -0.85, 0.03, 0.03)),
        limbs(TRIM, (-0.5, -0.4, -0.55, -0.42, 0.14, 0.14),
              (0.5, -0.4, 0.55, -0.42, 0.14, 0.14), detail=True, dome=0),
    ]  # fmt: skip


def mushroom(d: Draws) -> list[Part]:
    lean, foot, wide = d.uniform(-0.15, 0.15), d.uniform(0.16, 0.3), d.uniform(0.75, 1.0)
    dots = [
        (x, y, x + 0.02, y, r, r) for x, y, r in ((-0.45, -0.2, 0.11), (0.05, -0.5, 0.13), (0.45, -0.15, 0.1))
    ]
    parts = [
        limbs(PALE, (0, 0, lean, 0.85, 0.17, foot)),
        Part(SKIN, _CAP, centre=(0, -0.02), radius=(wide, d.uniform(0.7, 0.95)), dome=0.75),
    ]
    return [*parts, limbs(PALE, *dots, detail=True, dome=0.3)] if d.chance(0.6) else parts


def flower(d: Draws) -> list[Part]:
    bend, heart = d.uniform(-0.25, 0.25), d.uniform(0.16, 0.26)
    return [
        limbs(
            GREEN,
            (0, -0.3, bend, 0.95, 0.06, 0.05),
            (0.7 * bend, 0.6, 0.7 * bend + 0.4, 0.3, 0.04, 0.12),
            dome=0.4,
        ),
        Part(
            SKIN,
            _petals(d.integer(5, 9)),
            centre=(0, -0.35),
            radius=(0.65, 0.65),
            angle=d.uniform(0, 6.3),
            dome=0.4,
        ),
        Part(TRIM, _DISC, centre=(0, -0.35), radius=(heart, heart), dome=0.9, detail=True),
    ]


def leaf(d: Draws) -> list[Part]:
    slim = d.uniform(0.75, 1.25)
    veins = [(x, 0, x + 0.25, s * 0.33 * slim, 0.03, 0.015) for x in (-0.45, -0.1, 0.25) for s in (-1, 1)]
    return [
        limbs(TRIM, (-1.15, 0.1, -0.7, 0, 0.05, 0.05), dome=0.3),
        Part(SKIN, _LEAF, radius=(0.95, 0.95 * slim), dome=0.3),
        limbs(TRIM, (-0.8, 0, 0.95, 0, 0.05, 0.02), *veins, detail=True, dome=0.0),
    ]


def tree(d: Draws) -> list[Part]:
    trunk = limbs(DARK, (0, 0.95, 0, 0, 0.15, 0.1), (0, 0.4, 0.35, 0.05, 0.07, 0.05), dome=0.6)
    if d.chance(0.4):  # a conifer
        return [
            trunk,
            *(
                Part(SKIN, _TRIANGLE, centre=(0, y), radius=(r, r * 0.75))
                for y, r in ((0.15, 0.7), (-0.35, 0.5))
            ),
        ]
    crown = outlines.blob(d.uniform(0, 0.06, 8), d.uniform(0, 6.3, 8))
    return [
        trunk,
        Part(SKIN, crown, centre=(0, -0.25), radius=(d.uniform(0.65, 0.85), d.uniform(0.55, 0.72)), dome=0.7),
    ]


def cactus(d: Draws) -> list[Part]:
    left, right = d.uniform(-0.3, 0.2), d.uniform(-0.35, 0.15)
    return [
        limbs(SKIN, (0, 0.6, 0, -0.7, 0.24, 0.2), (0, left + 0.35, -0.5, left + 0.25, 0.12, 0.13),
              (-0.5, left + 0.25, -0.5, left - 0.25, 0.13, 0.12),
              (0, right + 0.35, 0.5, right + 0.25, 0.12, 0.13),
              (0.5, right + 0.25, 0.5, right - 0.35, 0.13, 0.11)),
        Part(TRIM, TUMBLER, centre=(0, 0.72), radius=(0.42, 0.28), dome=0.5),
    ]  # fmt: skip


def fruit(d: Draws) -> list[Part]:
    stalk = limbs(DARK, (0, -0.55, d.uniform(-0.15, 0.15), -1.0, 0.05, 0.05), dome=0.3)
    blade = Part(GREEN, _LEAF, centre=(0.28, -0.85), radius=(0.3, 0.3), angle=-0.3, dome=0.3)
    if d.chance(0.4):  # a pear
        body = limbs(SKIN, (0, -0.35, 0, 0.3, 0.28, d.uniform(0.5, 0.62)), dome=0.85)
    else:
        body = Part(SKIN, _APPLE, centre=(0, 0.1), radius=(d.uniform(0.75, 0.9), 0.78), dome=0.85)
    return [stalk, body, blade]


def cell(d: Draws) -> list[Part]:
    skin = outlines.blob(d.uniform(0, 0.09, 4), d.uniform(0, 6.3, 4))
    x, y, r = d.uniform(-0.25, 0.25), d.uniform(-0.25, 0.25), d.uniform(0.26, 0.4)
    grains = [(*at, *at, 0.06, 0.06) for at in d.uniform(-0.55, 0.55, (4, 2)).tolist()]
    return [
        Part(SKIN, skin, radius=(0.95, 0.85), dome=0.5),
        limbs(TRIM, *grains, detail=True),
        spot(TRIM, x, y, r, dome=0.7),
    ]


def stone(d: Draws) -> list[Part]:
    at = (np.arange(8) + d.uniform(-0.3, 0.3, 8)) * np.pi / 4
    reach = d.uniform(0.72, 1.0, 8)[:, None]
    return [
        Part(SKIN, outlines.polygon(reach * np.stack([np.cos(at), np.sin(at)], 1)), radius=(1, 0.8), dome=0.7)
    ]


def bottle(d: Draws) -> list[Part]:
    wide, low = d.uniform(0.9, 1.3), d.uniform(0.25, 0.5)
    return [
        limbs(TRIM, (0, -0.95, 0, -1.05, 0.13 * wide, 0.13 * wide), dome=0.3),
        Part(SKIN, BOTTLE, radius=(wide, 1.0), dome=0.5),
        Part(PALE, BOX, centre=(0, low), radius=(0.44 * wide, 0.25), dome=0.0, detail=True),
    ]


def cup(d: Draws) -> list[Part]:
    tall, reach = d.uniform(0.55, 0.8), d.uniform(0.8, 1.0)
    return [
        limbs(SKIN, (0.5, -0.35, reach, -0.25, 0.08, 0.08), (reach, -0.25, reach - 0.05, 0.2, 0.08, 0.08),
              (reach - 0.05, 0.2, 0.45, 0.35, 0.08, 0.08)),
        Part(SKIN, TUMBLER, radius=(0.62, tall), dome=0.5),
        Part(DARK, _DISC, centre=(0, -tall + 0.06), radius=(0.52, 0.13), dome=0.0, detail=True),
    ]  # fmt: skip


def lamp(d: Draws) -> list[Part]:
    foot = d.uniform(0.25, 0.45)
    return [
        limbs(TRIM, (-foot, 0.9, foot, 0.9, 0.09, 0.09), (0, 0.9, 0, -0.2, 0.08, 0.06)),
        Part(SKIN, _TRAPEZE, centre=(0, -0.45), radius=(d.uniform(0.6, 0.8), d.uniform(0.38, 0.5)), dome=0.3),
    ]


def house(d: Draws) -> list[Part]:
    wide, eaves, door = d.uniform(0.6, 0.8), d.uniform(-0.25, 0.0), d.uniform(-0.25, 0.25)
    return [
        limbs(DARK, (0.4, -0.2, 0.4, -0.85, 0.09, 0.09), dome=0.0),
        Part(SKIN, BOX, centre=(0, 0.35), radius=(wide, 0.55), dome=0.0),
        Part(TRIM, _TRIANGLE, centre=(0, eaves - 0.15), radius=(wide + 0.2, 0.6), dome=0.0),
        limbs(DARK, (door, 0.85, door, 0.55, 0.13, 0.12), (door - 0.4, 0.4, door - 0.38, 0.4, 0.11, 0.11),
              (door + 0.4, 0.4, door + 0.38, 0.4, 0.11, 0.11), dome=0.0, detail=True),
    ]  # fmt: skip


def boat(d: Draws) -> list[Part]:
    high = d.uniform(0.8, 1.0)
    return [
        limbs(DARK, (0, 0.4, 0, -high, 0.05, 0.04), dome=0.3),
        Part(SKIN, _TRIANGLE, centre=(0.3, -0.1), radius=(0.5, high * 0.65), angle=0.18, dome=0.2),
        Part(TRIM, _HULL, centre=(0, 0.65), radius=(0.95, 0.75), dome=0.2),
    ]


def car(d: Draws) -> list[Part]:
    back, front = d.uniform(-0.55, -0.35), d.uniform(0.1, 0.35)
    return [
        limbs(SKIN, (-0.75, 0.2, 0.75, 0.22, 0.24, 0.2), (back, -0.12, front, -0.12, 0.28, 0.26), dome=0.4),
        limbs(DARK, (-0.5, 0.45, -0.48, 0.45, 0.22, 0.22), (0.5, 0.45, 0.52, 0.45, 0.22, 0.22), dome=0.4),
        limbs(PALE, (back + 0.05, -0.15, back + 0.15, -0.15, 0.15, 0.15),
              (front - 0.1, -0.15, front, -0.15, 0.15, 0.15),
              dome=0.0, detail=True),
    ]  # fmt: skip


def umbrella(d: Draws) -> list[Part]:
    hook = 0.25 if d.chance(0.5) else -0.25
    return [
        limbs(DARK, (0, -0.85, 0, 0.8, 0.045, 0.05), (0, 0.8, 0.5 * hook, 0.92, 0.05, 0.05),
              (0.5 * hook, 0.92, hook, 0.75, 0.05, 0.05), dome=0.3),
        Part(SKIN, _CAP, centre=(0, 0.05), radius=(d.uniform(0.85, 1.0), d.uniform(0.7, 0.85)), dome=0.7),
    ]  # fmt: skip


def abstract(d: Draws) -> list[Part]:
    """A shape that is nothing in particular."""
    slim = d.uniform(0.5, 1.0)
    if d.chance(0.35):
        outline = outlines.blob(d.uniform(0, 0.14, 4), d.uniform(0, 6.3, 4))
    else:
        outline = d.choice(_SHAPES)
    return [Part(SKIN, outline, radius=(1.0, slim), dome=d.choice((0.0, 0.4, 0.9)))]


KINDS: dict[str, Callable[[Draws], list[Part]]] = {
    kind.__name__: kind
    for kind in (
        fish, beast, bird, snail, turtle, butterfly, mushroom, flower, leaf, tree, cactus, fruit, cell,
        stone, bottle,
        cup, lamp, house, boat, car, umbrella, abstract,
    )
}  # fmt: skip
