"""Roads seen from an aeroplane (Massachusetts Roads).

A network of thin curved roads, asphalt or dirt, through fields, woods and settlements. Paths between fields,
rivers, roofs and yards have the colours of roads. What is under a tree or a shadow is still road: labels of
real roads are drawn from maps, and a network does not end where a crown hides it.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from moe_lib.worlds import layers, outlines
from moe_lib.worlds.domains.parts import Stack, blobs, heading, line, noise_at, segments
from moe_lib.worlds.draws import Draws
from moe_lib.worlds.layered import Layered
from moe_lib.worlds.skins import colours, light_colour, lighting, shadow

_BOX = outlines.superellipse(12)
_SEGMENTS = 7  # of which a curve is made


@dataclass(frozen=True)
class Roads(Layered):
    """Roads in aerial pictures, one and a half to five pixels wide at 96 pixels.

    Introduced in :doc:`/chapters/pocket_world`.
    """

    name: ClassVar[str] = "roads"
    family: ClassVar[str] = "roads"
    classes: ClassVar[tuple[str, ...]] = ("background", "road")

    def scene(self, index: int) -> layers.Scene:
        draws = self.draws(index)
        lit, tint = lighting(draws), light_colour(draws)
        stack = Stack()
        palette = _palette(draws) * tint
        road = _paving(draws) * tint
        minor = road * draws.uniform(0.75, 1.3) if draws.chance(0.6) else _paving(draws) * tint
        _country(stack, draws, palette, road)
        _water(stack, draws, road, minor)
        roads, lanes = _network(draws)
        # Tracks are worn: brightness changes a little from the middle of a road to its side.
        worn = {"label": 1, "depth": 0.9, "ring": 0.5, "wave1": (0, 0, draws.uniform()), "grain": 0.25}
        shade = draws.uniform(0.75, 1.25)
        for strokes, colour in (*((lane, minor) for lane in lanes), (roads, road)):
            stack.draw(strokes, base=colour, accent=colour * shade, **worn, **noise_at(draws, 0.7))
        every = np.concatenate([roads, *lanes])
        _settlement(stack, draws, every, road, lit)
        _trees(stack, draws, every, palette[0] * 0.7, lit)
        return stack.scene(**lit | {"vignette": 0.0})


def _palette(draws: Draws) -> np.ndarray:
    """Greens, straw and earth of one season; ``(4, 3)``."""
    hue = draws.uniform(0.08, 0.38) + draws.uniform(-0.09, 0.09, 4)
    return colours(hue, draws.uniform(0.1, 0.6, 4), draws.uniform(0.3, 0.75, 4))


def _paving(draws: Draws) -> np.ndarray:
    """Asphalt, concrete or dirt, dark or bright."""
    if draws.chance(0.55):
        return colours(draws.uniform(), draws.uniform(0, 0.12), draws.uniform(0.3, 0.85))
    return colours(draws.uniform(0.06, 0.14), draws.uniform(0.15, 0.5), draws.uniform(0.4, 0.85))


def _country(stack: Stack, draws: Draws, palette: np.ndarray, road: np.ndarray) -> None:
    """Fields with furrows, one of them as bare as a road; and a wood."""
    turn = draws.uniform(0, 2 * np.pi)
    stack.add(
        base=palette[0], accent=palette[1], label=0, warp=1.5, grain=0.3, relief=0.2,
        wave1=(*heading(turn) * 2, draws.uniform()), **noise_at(draws, 0.6),
    )  # fmt: skip
    fields = np.stack([palette[2], palette[3], road * draws.uniform(0.85, 1.15)])
    furrows = heading(turn + np.pi / 2 * (draws.uniform(size=3) < 0.5)) * draws.uniform(5, 22, (3, 1))
    stack.add(
        3, outline=_BOX, centre=draws.uniform(0, 1, (3, 2)), radius=draws.uniform(0.1, 0.25, (3, 2)),
        turn=heading(turn), base=fields, accent=fields * draws.uniform(0.7, 1.2, (3, 1)), label=0,
        wave1=np.pad(furrows, ((0, 0), (0, 1))), warp=0.2, sharp=1.5, grain=0.25, **noise_at(draws, 0.6),
    )  # fmt: skip
    stack.add(
        outline=blobs(draws, 1, 0.25)[0], centre=draws.uniform(0, 1, 2), radius=draws.uniform(0.12, 0.24, 2),
        base=palette[0] * 0.45, accent=palette[1] * 0.6, wave1=(9, 4, 0), wave2=(-4, 9, 0), warp=1.5,
        grain=0.5, relief=0.9, label=0, **noise_at(draws, 0.9),
    )  # fmt: skip


def _water(stack: Stack, draws: Draws, road: np.ndarray, minor: np.ndarray) -> None:
    """A winding stream whose width changes; and straight, thin borders of fields in the colours of roads."""
    if draws.chance(0.45):
        points = _curve(draws, *_across(draws), bend=0.14)
        widths = draws.uniform(0.012, 0.03) * draws.uniform(0.6, 1.5, len(points))
        blue = colours(draws.uniform(0.42, 0.62), 0.4, draws.uniform(0.3, 0.65))
        colour = road if draws.chance(0.4) else blue
        look = {"base": colour, "accent": colour * 0.6, "ring": 0.5, "gloss": 0.2}
        stack.draw(line(points, widths), label=0, **look, **noise_at(draws, 0.3))
    size = np.stack([draws.uniform(0.06, 0.17, 3), draws.uniform(0.005, 0.01, 3)], 1)
    turn = heading(draws.uniform(0, 2 * np.pi) + np.array([0, 0, 1]) * np.pi / 2)
    stack.add(
        3, outline=_BOX, centre=draws.uniform(0, 1, (3, 2)), radius=size, turn=turn, base=minor,
        accent=minor * 0.8, label=0, grain=0.5, opacity=0.9, **noise_at(draws, 0.9),
    )  # fmt: skip


def _network(draws: Draws) -> tuple[np.ndarray, list[np.ndarray]]:
    """Strokes of the main roads, and of each of the smaller ones that branch off."""
    first = _curve(draws, *_across(draws), bend=0.1)
    width = draws.uniform(0.014, 0.026)
    roads, curves = [line(first, np.full(len(first), width))], [first]
    if draws.chance(0.5):
        second = _curve(draws, *_across(draws), bend=0.1)
        curves.append(second)
        roads.append(line(second, np.full(len(second), width * draws.uniform(0.6, 1))))
    lanes = []
    for _ in range(draws.integer(2, 5)):
        stem = draws.choice(curves)
        at = draws.integer(1, len(stem) - 1)
        along = stem[at + 1] - stem[at - 1]
        away = np.array([-along[1], along[0]]) * draws.choice((-1, 1)) + along * draws.uniform(-0.5, 0.5)
        end = stem[at] + away / np.linalg.norm(away) * draws.uniform(0.3, 0.9)
        branch = _curve(draws, stem[at], end, bend=0.1, count=5)
        curves.append(branch)
        lanes.append(line(branch, np.full(len(branch), draws.uniform(0.008, 0.014))))
    return np.concatenate(roads), lanes


def _across(draws: Draws) -> tuple[np.ndarray, np.ndarray]:
    """Where a line enters the picture and where it leaves it."""
    way = heading(draws.uniform(0, 2 * np.pi))
    aside = np.array([-way[1], way[0]]) * draws.uniform(-0.3, 0.3)
    return 0.5 + aside - 0.75 * way, 0.5 + aside + 0.75 * way


def _curve(
    draws: Draws, start: np.ndarray, end: np.ndarray, bend: float, count: int = _SEGMENTS
) -> np.ndarray:
    """Points on a smooth curve between two places, ``(count + 1, 2)``."""
    t = np.linspace(0, 1, count + 1)
    run = end - start
    waves = np.sin(np.pi * t[:, None] * np.arange(1, 4)) * draws.normal(0, 1, 3) / np.arange(1, 4)
    return start + t[:, None] * run + (bend * waves.sum(1))[:, None] * np.array([-run[1], run[0]])


def _settlement(stack: Stack, draws: Draws, roads: np.ndarray, road: np.ndarray, lit: dict) -> None:
    """Houses beside the roads and a yard, their roofs at times of the roads' colour; none is on a road."""
    count = draws.integer(6, 14)
    beside = roads[[draws.integer(0, len(roads)) for _ in range(count)]]
    run = beside["end"] - beside["start"]
    way = run / np.linalg.norm(run, axis=1, keepdims=True)
    aside = np.stack([-way[:, 1], way[:, 0]], 1) * np.sign(draws.uniform(-1, 1, (count, 1)))
    size = draws.uniform(0.016, 0.036, (count, 2))
    size[0] = draws.uniform(0.04, 0.08, 2)
    gap = beside["width"].max(1) + size.max(1) * 1.3 + draws.uniform(0.01, 0.04, count)
    centre = beside["start"] + run * draws.uniform(0, 1, (count, 1)) + aside * gap[:, None]
    hue, value = draws.uniform(0, 0.12, count), draws.uniform(0.3, 0.9, count)
    paved = draws.uniform(size=(count, 1)) < 0.45
    paint = np.where(paved, road * draws.uniform(0.85, 1.15, (count, 1)), colours(hue, hue * 5, value))
    ridge = aside * (0.25 / size[:, 1:])  # one slope of the roof is in the light
    wave = np.concatenate([ridge, 0.25 - (centre * ridge).sum(1, keepdims=True)], 1)
    free = _distance(centre, roads) > size.max(1) * 1.3
    stack.add(
        int(free.sum()), outline=_BOX, centre=centre[free], radius=size[free], turn=way[free],
        base=paint[free], accent=paint[free] * 0.65, wave1=wave[free], sharp=9, grain=0.2, label=0, depth=0.7,
        cast=shadow(lit, 0.018),
    )  # fmt: skip


def _trees(stack: Stack, draws: Draws, roads: np.ndarray, colour: np.ndarray, lit: dict) -> None:
    """Two groves along the roads, whose crowns and shadows fall on them."""
    for _ in range(2):
        near = roads[draws.integer(0, len(roads))]
        middle = near["start"] + draws.uniform() * (near["end"] - near["start"])
        count = draws.integer(3, 7)
        at = middle + draws.normal(0, 0.05, (count, 2))
        stack.draw(
            segments(at, at + 0.001, draws.uniform(0.012, 0.026, count)), base=colour, accent=colour * 1.6,
            wave1=(0, 0, 0), warp=2, grain=0.5, relief=0.5, dome=0.8, cast=shadow(lit, 0.015),
            **noise_at(draws, 0.9),
        )  # fmt: skip


def _distance(points: np.ndarray, strokes: np.ndarray) -> np.ndarray:
    """How far points ``(N, 2)`` are from the nearest edge of strokes."""
    run = (strokes["end"] - strokes["start"])[None]
    to = points[:, None] - strokes["start"][None]
    along = ((to * run).sum(2) / (run * run).sum(2)).clip(0, 1)
    return (np.linalg.norm(to - along[..., None] * run, axis=2) - strokes["width"].max(1)).min(1)
