"""Spots of disease on a leaf, photographed in the field or on a table (leaf disease sets).

The mask is every spot on the leaf in front, with its halo. Spots on leaves behind it, holes, drops of water,
crumbs of soil and flecks of sunlight are background, and so is the healthy leaf.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from moe_lib.worlds import layers, outlines
from moe_lib.worlds.domains.parts import Stack, blobs, heading, linear, noise_at, segments
from moe_lib.worlds.draws import Draws
from moe_lib.worlds.layered import Layered

_LEAF, _OTHER = 1, 2  # instances: the leaf in front, leaves behind it
# Green for the most part, but also yellow, red, brown and silver: none of these is a sign of disease.
_BLADES = (
    (0.30, 0.52, 0.18), (0.42, 0.60, 0.22), (0.22, 0.42, 0.22), (0.55, 0.62, 0.25),
    (0.70, 0.60, 0.24), (0.48, 0.28, 0.24), (0.50, 0.38, 0.20), (0.62, 0.68, 0.58),
)  # fmt: skip
# Middle and halo of a spot: brown in yellow, black, yellow rust, white mildew, grey in red, pale.
_DISEASES = (
    ((0.42, 0.26, 0.13), (0.72, 0.66, 0.24)),
    ((0.16, 0.13, 0.10), (0.40, 0.38, 0.16)),
    ((0.80, 0.50, 0.12), (0.74, 0.70, 0.25)),
    ((0.88, 0.89, 0.84), (0.62, 0.70, 0.52)),
    ((0.66, 0.60, 0.48), (0.42, 0.18, 0.12)),
    ((0.66, 0.70, 0.36), (0.50, 0.60, 0.28)),
)
# Two colours, frequency of the pattern, how sharp and how bent it is: soil, sky, a table, paper, grass.
_GROUNDS = (
    ((0.38, 0.29, 0.21), (0.26, 0.19, 0.13), 4, 1.0, 1.0),
    ((0.55, 0.72, 0.90), (0.92, 0.94, 0.97), 0.7, 0.8, 0.6),
    ((0.66, 0.50, 0.34), (0.54, 0.38, 0.25), 5, 2, 0.25),
    ((0.82, 0.82, 0.80), (0.74, 0.74, 0.73), 0.5, 1, 0.5),
    ((0.34, 0.46, 0.16), (0.16, 0.26, 0.09), 12, 1.5, 1),
)
_HANDS = ((0.92, 0.70, 0.58), (0.78, 0.55, 0.43), (0.50, 0.33, 0.25))


@dataclass(frozen=True)
class Leaves(Layered):
    """Diseased spots on one leaf.

    Introduced in :doc:`/chapters/pocket_world`.
    """

    name: ClassVar[str] = "leaves"
    family: ClassVar[str] = "leaves"
    classes: ClassVar[tuple[str, ...]] = ("background", "disease")

    def scene(self, index: int) -> layers.Scene:
        draws = self.draws(index)
        stack = Stack()
        green = linear(*draws.choice(_BLADES)) * draws.uniform(0.7, 1.25)
        disease = _disease(draws, green)
        ground = _ground(stack, draws, disease)
        outline = draws.choice(_SPECIES)(draws)
        _others(stack, draws, outline, green, disease)
        leaf = _Leaf(draws, outline)
        if draws.chance(0.3):
            _hand(stack, draws, leaf)
        leaf.paint(stack, draws, green)
        _holes(stack, draws, leaf, ground)
        _spots(stack, draws, leaf, disease)
        _drops(stack, draws, leaf)
        _sun(stack, draws)
        return stack.scene(
            seed=draws.seed(), light=(*draws.normal(0, 0.5, 2), 0.8), ambient=draws.uniform(0.35, 0.6),
            vignette=draws.uniform(0, 0.8), exposure=draws.uniform(0.8, 1.25),
            full_well=draws.uniform(900, 3000),
        )  # fmt: skip


def _disease(draws: Draws, green: np.ndarray) -> np.ndarray:
    """Colours of a spot's middle and halo, ``(2, 3)``: of two diseases the one that it shows better."""
    colours = linear(*draws.choice(_DISEASES)), linear(*draws.choice(_DISEASES))
    sick = max(colours, key=lambda colour: np.abs(colour[0] - green).sum())
    return green + draws.uniform(0.7, 1, (2, 1)) * (sick * draws.uniform(0.75, 1.25, (2, 1)) - green)


class _Leaf:
    """Where the leaf lies, and which way it points."""

    def __init__(self, draws: Draws, outline: np.ndarray):
        self.outline, self.angle = outline, draws.uniform(0, 2 * np.pi)
        self.centre, self.radius = 0.5 + draws.normal(0, 0.04, 2), draws.uniform(0.42, 0.58)
        self.along = heading(self.angle)
        self.across = np.array([-self.along[1], self.along[0]])

    def at(self, along: np.ndarray, across: np.ndarray) -> np.ndarray:
        """Places ``(K, 2)`` on the canvas from the leaf's own coordinates, in radii."""
        return self.centre + self.radius * (np.outer(along, self.along) + np.outer(across, self.across))

    def inside(self, draws: Draws, count: int, edge: float = 0.85) -> np.ndarray:
        """Places within the leaf, ``(count, 2)``, up to this share of the way to its edge."""
        number = draws.uniform(0, outlines.STEPS, count).astype(int)
        unit = outlines.directions()[number]
        reach = self.outline[number] / np.abs(unit).sum(1) * np.sqrt(draws.uniform(0.01, edge**2, count))
        return self.at(unit[:, 0] * reach, unit[:, 1] * reach)

    def paint(self, stack: Stack, draws: Draws, green: np.ndarray) -> None:
        """Petiole, blade and veins."""
        rib = self.at(np.array([-1.6, -0.6, 0.9]), np.array([draws.uniform(-0.2, 0.2), 0, 0]))
        stem = segments(rib[:1], rib[1:2], 0.016, 0.012)
        stack.draw(stem, base=green * draws.uniform(0.7, 1.3), dome=0.8, label=0)
        stack.add(
            outline=self.outline, centre=self.centre, turn=self.along, radius=self.radius, base=green,
            accent=green * draws.uniform(0.6, 1.3, 3), wave1=(*draws.normal(0, 2, 2), 0),
            warp=draws.uniform(0.5, 2), grain=draws.uniform(0.1, 0.3), relief=draws.uniform(0.05, 0.3),
            dome=draws.uniform(0, 0.5), gloss=draws.uniform(0, 0.12),
            cast=(0.02, 0.03, draws.uniform(0.2, 0.6)), instance=_LEAF, label=0,
            **noise_at(draws, draws.uniform(0.4, 0.9)),
        )  # fmt: skip
        along = np.linspace(-0.6, 0.35, 3)
        lean, length = draws.uniform(0.15, 0.4), draws.uniform(0.45, 0.7)
        start = self.at(np.tile(along, 2), np.zeros(6))
        end = self.at(np.tile(along + lean, 2), np.repeat([-length, length], 3))
        stack.draw(
            np.concatenate([segments(rib[1:2], rib[2:], 0.009, 0.002), segments(start, end, 0.004, 0.001)]),
            base=green * draws.choice((0.55, 1.5, 1.9)), soft=0.006, opacity=draws.uniform(0.4, 0.9),
            on=_LEAF, instance=_LEAF, label=0,
        )  # fmt: skip


def _ground(stack: Stack, draws: Draws, disease: np.ndarray) -> dict:
    """What lies behind, often in the disease's colours; its texture shows again through the leaf's holes."""
    base, accent, frequency, sharp, warp = draws.choice(_GROUNDS)
    base, accent = (linear(*colour) * draws.uniform(0.6, 1.1) for colour in (base, accent))
    tinge = draws.choice((0, 0.9, 0.9))
    texture = {
        "base": base + tinge * (disease[0] - base), "accent": accent + tinge * (0.7 * disease[0] - accent),
        "wave1": (*(frequency * heading(draws.uniform(0, 2 * np.pi))), 0), "warp": warp, "sharp": sharp,
        "grain": draws.uniform(0.05, 0.4), **noise_at(draws, draws.uniform(0.3, 1)),
    }  # fmt: skip
    stack.add(label=0, **texture)
    count = draws.choice((0, 0, 4))
    stack.add(  # crumbs, as large as spots
        count, outline=blobs(draws, count, 0.5), centre=draws.uniform(0, 1, (count, 2)), grain=0.3, dome=0.7,
        radius=draws.uniform(0.01, 0.035, (count, 2)), cast=(0.006, 0.01, 0.4), label=0,
        base=disease[0] * draws.uniform(0.4, 1.3, (count, 1)),
    )  # fmt: skip
    return texture


def _others(
    stack: Stack, draws: Draws, outline: np.ndarray, green: np.ndarray, disease: np.ndarray
) -> None:  # fmt: skip
    """Leaves of the same plant, behind and in its shade; their spots are not the leaf's."""
    count = draws.choice((0, 1, 2))
    way = draws.uniform(0, 2 * np.pi) + np.arange(count) * 2.2
    centre = 0.5 + heading(way) * draws.uniform(0.42, 0.6, (count, 1))
    stack.add(
        count, outline=outline, centre=centre, turn=heading(draws.uniform(0, 6.28, count)),
        radius=draws.uniform(0.25, 0.45, (count, 1)), base=green * draws.uniform(0.35, 0.8, (count, 1)),
        accent=green * 0.4, wave1=(*draws.normal(0, 2, 2), 0), warp=1, grain=0.2, relief=0.15,
        cast=(0.02, 0.03, 0.3), instance=_OTHER, label=0, soft=0.012,
    )  # fmt: skip
    spots = 2 * count
    stack.add(
        spots, outline=blobs(draws, spots, 0.4),
        centre=np.repeat(centre, 2, 0) + draws.normal(0, 0.1, (spots, 2)),
        radius=draws.uniform(0.015, 0.05, (spots, 2)), base=disease[0] * 0.7, accent=disease[1] * 0.7,
        ring=0.4, soft=0.015, on=_OTHER, instance=_OTHER, label=0,
    )  # fmt: skip


def _hand(stack: Stack, draws: Draws, leaf: _Leaf) -> None:
    """Fingers that hold the leaf from behind."""
    skin = linear(*draws.choice(_HANDS))
    aside = np.arange(3) * 0.34 - draws.uniform(0.2, 0.5)
    root = leaf.at(np.full(3, -2.2), 0.5 * aside + draws.uniform(-0.3, 0.3))
    tip = leaf.at(draws.uniform(-0.5, 0.1, 3), aside)
    stack.draw(
        segments(root, tip, 0.085, 0.065), base=skin, accent=skin * (0.85, 0.7, 0.65), wave1=(2, 3, 0),
        warp=1, grain=0.12, dome=0.85, label=0,
    )  # fmt: skip


def _holes(stack: Stack, draws: Draws, leaf: _Leaf, ground: dict) -> None:
    """What insects left: the ground is seen, in the leaf's own shadow."""
    count = draws.choice((0, 0, 1, 2))
    shaded = ground | {name: ground[name] * 0.45 for name in ("base", "accent")}
    stack.add(
        count, outline=blobs(draws, count, 0.4), centre=leaf.inside(draws, count, 0.95),
        radius=draws.uniform(0.012, 0.045, (count, 2)), on=_LEAF, label=0, **shaded,
    )  # fmt: skip


def _spots(stack: Stack, draws: Draws, leaf: _Leaf, disease: np.ndarray) -> None:
    """One to twenty spots of one disease, of like size: many small ones or a few that run together."""
    count = draws.choice((draws.integer(1, 5), draws.integer(2, 9), draws.integer(6, 21)))
    size = draws.uniform(0.19, 0.3) / np.sqrt(count + 2)
    target = draws.chance(0.25)  # rings, as on a target
    stack.add(
        count, outline=blobs(draws, count, draws.uniform(0.1, 0.6)), centre=leaf.inside(draws, count),
        turn=heading(draws.uniform(0, 2 * np.pi, count)),
        radius=size * draws.uniform(0.5, 1.3, (count, 1)) * draws.uniform(0.7, 1.2, (count, 2)),
        base=disease[0], accent=disease[1],
        ring=draws.uniform(1.3, 2.4) if target else draws.uniform(0.35, 0.55), warp=0.35,
        sharp=draws.uniform(1, 3), grain=draws.uniform(0.1, 0.4), opacity=draws.uniform(0.8, 1),
        soft=draws.uniform(0.003, 0.015), dome=-0.5, on=_LEAF, instance=_LEAF, label=1,
        **noise_at(draws, 0.8),
    )  # fmt: skip


def _drops(stack: Stack, draws: Draws, leaf: _Leaf) -> None:
    """Dew."""
    count = draws.choice((0, 0, 0, 3))
    stack.add(
        count, centre=leaf.inside(draws, count), radius=draws.uniform(0.012, 0.03, (count, 1)),
        refract=0.025, base=1.1, accent=0.75, ring=0.5, sharp=2, dome=0.8, gloss=0.8,
        cast=(0.004, 0.008, 0.3), on=_LEAF, instance=_LEAF, label=0,
    )  # fmt: skip


def _sun(stack: Stack, draws: Draws) -> None:
    """Light that falls through other leaves: bright or dim flecks over everything."""
    count = draws.choice((0, 0, 2))
    stack.add(
        count, outline=blobs(draws, count, 0.4), centre=draws.uniform(0.1, 0.9, (count, 2)),
        radius=draws.uniform(0.03, 0.15, (count, 2)), multiply=1, base=draws.choice((0.5, 0.55, 1.6, 1.8)),
        soft=0.03,
    )  # fmt: skip


# Of each entry of an outline, how many turns from the leaf's tip.
_TURNS = np.arctan2(*outlines.directions().T[::-1]) / (2 * np.pi)


def _lanceolate(draws: Draws) -> np.ndarray:
    return outlines.leaf(draws.uniform(0.45, 0.8), draws.uniform(0, 0.4))


def _heart(draws: Draws) -> np.ndarray:
    tip, notch = draws.uniform(0.4, 0.6), draws.uniform(0.25, 0.4)

    def radius(a: np.ndarray) -> np.ndarray:
        along = np.cos(a)
        return 0.72 - 0.2 * along + tip * np.maximum(along, 0) ** 6 - notch * np.maximum(-along, 0) ** 12

    return outlines.polar(radius)


def _toothed(draws: Draws) -> np.ndarray:
    teeth = draws.integer(18, 30)
    edge = 1 + 0.05 * (2 * np.abs(_TURNS * teeth % 1 - 0.5) - 0.5)
    return outlines.leaf(draws.uniform(0.6, 0.9), 0.2) * edge


def _lobed(draws: Draws) -> np.ndarray:
    deep = draws.uniform(0.35, 0.5)
    return outlines.polar(lambda a: 1 - deep + deep * (1 - np.abs(np.sin(2.5 * a))) ** 0.7 + 0.1 * np.cos(a))


def _oak(draws: Draws) -> np.ndarray:
    return outlines.leaf(0.62, 0) * (1 + 0.13 * np.cos(2 * np.pi * draws.integer(7, 10) * _TURNS))


_SPECIES = (_lanceolate, _heart, _toothed, _lobed, _oak)
