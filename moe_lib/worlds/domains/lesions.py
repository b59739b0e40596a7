"""Pigmented lesions of the skin under a dermatoscope (ISIC).

The mask is the one large lesion: an uneven patch that tints the skin, mostly darker and sometimes paler, with
a pattern of its own and a border that may be sharp or fade into the skin. Freckles and small moles
around it, ruler marks, pen, stickers, gel, hairs and the picture's dark corners are background; a hair that
crosses the lesion leaves the mask whole.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from moe_lib.worlds import layers
from moe_lib.worlds.domains.parts import Stack, blobs, heading, line, linear, noise_at, segments
from moe_lib.worlds.draws import Draws
from moe_lib.worlds.layered import Layered

# From very light to very dark.
_SKINS = (
    (0.95, 0.80, 0.74),
    (0.92, 0.72, 0.63),
    (0.86, 0.64, 0.52),
    (0.74, 0.53, 0.41),
    (0.56, 0.38, 0.28),
    (0.40, 0.27, 0.20),
)
# How much light the pigment lets through, at the rim and in the darkest parts: brown, black, red, pale.
_PIGMENTS = (
    ((0.62, 0.47, 0.36), (0.30, 0.18, 0.12)),
    ((0.42, 0.33, 0.30), (0.10, 0.07, 0.07)),
    ((0.85, 0.52, 0.50), (0.55, 0.22, 0.24)),
    ((1.18, 1.12, 1.10), (0.75, 0.62, 0.55)),
)


@dataclass(frozen=True)
class Lesions(Layered):
    """One lesion on skin.

    Introduced in :doc:`/chapters/pocket_world`.
    """

    name: ClassVar[str] = "lesions"
    family: ClassVar[str] = "lesions"
    classes: ClassVar[tuple[str, ...]] = ("background", "lesion")

    def scene(self, index: int) -> layers.Scene:
        draws = self.draws(index)
        stack = Stack()
        skin = linear(*draws.choice(_SKINS)) * draws.uniform(0.85, 1.1) * draws.uniform(0.95, 1.05, 3)
        _skin(stack, draws, skin)
        centre = 0.5 + draws.normal(0, 0.07, 2)
        radius = draws.choice((draws.uniform(0.09, 0.18), draws.uniform(0.15, 0.32)))
        _freckles(stack, draws, centre, radius)
        _lesion(stack, draws, centre, radius)
        _tools(stack, draws, centre)
        _hairs(stack, draws)
        _bubbles(stack, draws)
        _corners(stack, draws)
        return stack.scene(
            seed=draws.seed(), light=(*draws.normal(0, 0.3, 2), 0.9), ambient=0.5,
            vignette=draws.uniform(0, 1.2), exposure=draws.uniform(0.75, 1.15),
            full_well=draws.uniform(900, 3000),
        )  # fmt: skip


def _skin(stack: Stack, draws: Draws, skin: np.ndarray) -> None:
    """Skin with its fine lines, then the uneven light of a lamp held at an angle, or a blush."""
    stack.add(
        base=skin, accent=skin * (0.9, 0.82, 0.8), wave1=(*draws.normal(0, 1.5, 2), draws.uniform()),
        warp=1.5, grain=draws.uniform(0.05, 0.15), relief=draws.uniform(0.03, 0.15), label=0,
        **noise_at(draws, draws.uniform(0.5, 1)),
    )  # fmt: skip
    stack.add(
        outline=blobs(draws, 1, 0.4), centre=draws.uniform(0, 1, 2), radius=draws.uniform(0.25, 0.6, 2),
        multiply=1, soft=0.35, base=draws.choice(((0.5, 0.45, 0.45), (0.8, 0.55, 0.55), (1.3, 1.25, 1.2))),
        opacity=draws.uniform(0, 1),
    )  # fmt: skip


def _freckles(stack: Stack, draws: Draws, centre: np.ndarray, radius: float) -> None:
    """Small moles, which do not count: none is a third as wide as the lesion."""
    count = draws.choice((0, 2, 4))
    way = draws.uniform(0, 2 * np.pi) + np.arange(count) * 2.4
    stack.add(
        count, outline=blobs(draws, count, 0.3), label=0, multiply=1, soft=draws.uniform(0.01, 0.03, count),
        centre=centre + heading(way) * (1.7 * radius + draws.uniform(0.02, 0.2, (count, 1))),
        radius=radius * draws.uniform(0.1, 0.3, (count, 1)) * draws.uniform(0.7, 1.2, (count, 2)),
        base=np.array((0.5, 0.36, 0.28)) * draws.uniform(0.6, 1.5, (count, 1)),
        opacity=draws.uniform(0.4, 1, count),
    )  # fmt: skip


def _lesion(stack: Stack, draws: Draws, centre: np.ndarray, radius: float) -> None:
    """A patch of pigment with a network in it, and a darker part that does not reach beyond it."""
    kind = draws.choice((0, 0, 1, 1, 2, 3))
    light, dark = (np.array(colour) * draws.uniform(0.9, 1.1, 3) for colour in _PIGMENTS[kind])
    faint = draws.uniform(0, 0.65)
    light, dark = light + faint * (1 - light), dark + 0.7 * faint * (1 - dark)
    network = draws.normal(0, 14, (2, 2))
    pattern = {
        "multiply": 1, "wave1": (*network[0], 0), "wave2": (*network[1], 0), "warp": draws.uniform(1, 3),
        "sharp": draws.uniform(0.7, 2.5), "instance": 1, "label": 1,
        **noise_at(draws, draws.uniform(0.3, 0.9)),
    }  # fmt: skip
    outer, inner = blobs(draws, 2, draws.uniform(0.15, 0.5), 9)
    stack.add(
        outline=outer, centre=centre, turn=heading(draws.uniform(0, 2 * np.pi)),
        radius=radius * draws.uniform(0.7, 1.15, 2), base=light, accent=(light + dark) / 2, grain=0.15,
        relief=draws.uniform(0, 0.3), soft=draws.choice((0.012, 0.03, 0.07)) * draws.uniform(0.7, 1.3),
        **pattern,
    )  # fmt: skip
    aside = radius * draws.uniform(0.1, 0.5) * heading(draws.uniform(0, 2 * np.pi))
    share = draws.uniform(0.35, 0.75) * draws.uniform(0.6, 1.2, 2)
    stack.add(
        outline=inner, centre=centre + aside, radius=radius * share, base=dark / light,
        accent=(dark / light + 1) / 2, soft=draws.uniform(0.01, 0.06), on=1, **pattern,
    )  # fmt: skip


def _tools(stack: Stack, draws: Draws, centre: np.ndarray) -> None:
    """Pen around the lesion, a ruler at the edge, a coloured sticker in a corner: sometimes one of them."""
    kind = draws.choice(("pen", "ruler", "sticker", "none", "none"))
    if kind == "pen":
        angles = draws.uniform(0, 2 * np.pi) + np.linspace(0, draws.uniform(0.8, 2.5), 6)
        reach = draws.uniform(0.33, 0.48) * draws.uniform(0.95, 1.05, (6, 1))
        points = centre + heading(angles) * reach
        stack.draw(
            line(points, draws.uniform(0.005, 0.012, 6)), label=0, multiply=0.7, soft=0.01, grain=0.4,
            base=draws.choice((linear(0.35, 0.2, 0.55), linear(0.15, 0.25, 0.55), linear(0.1, 0.1, 0.12))),
        )  # fmt: skip
    if kind == "ruler":
        way, gap = heading(draws.choice((0, np.pi / 2)) + draws.normal(0, 0.08)), draws.uniform(0.045, 0.08)
        inwards = way[::-1] * draws.choice((-1, 1))
        long = np.where(np.arange(9) % 5 == draws.integer(0, 5), 0.06, 0.03)[:, None]
        start = 0.5 + (np.arange(9) - 4)[:, None] * gap * way - 0.5 * inwards
        stack.draw(
            segments(start, start + long * inwards, np.full(9, 0.003)), label=0, base=0.02, opacity=0.9
        )
    if kind == "sticker":
        colour = draws.choice(
            ((0.15, 0.35, 0.7), (0.85, 0.35, 0.1), (0.2, 0.5, 0.25), (0.3, 0.22, 0.18), (0.85, 0.75, 0.2))
        )
        at = np.array([draws.choice((-0.02, 1.02)), draws.uniform(0, 1)])
        stack.add(
            centre=at if draws.chance(0.5) else at[::-1], radius=draws.uniform(0.12, 0.22),
            base=linear(*colour), label=0, grain=0.1, dome=0.2, cast=(0.005, 0.008, 0.3),
        )  # fmt: skip


def _hairs(stack: Stack, draws: Draws) -> None:
    """Hairs of one person: of one colour, about as thick and roughly in one direction."""
    count = draws.choice((0, 0, 3, 5, 8))
    if not count:
        return
    start, way = (
        draws.uniform(0, 1, (count, 2)),
        draws.uniform(0, 2 * np.pi) + draws.normal(0, 0.5, (count, 1)),
    )
    length = draws.uniform(0.12, 0.3, (count, 1))
    middle = start + length * heading(way[:, 0])
    end = middle + length * heading(way[:, 0] + draws.normal(0, 0.35, count))
    thick = draws.uniform(0.002, 0.005)
    strokes = np.concatenate(
        [segments(start, middle, thick, thick), segments(middle, end, thick, 0.5 * thick)]
    )
    colour = draws.choice(
        (linear(0.1, 0.07, 0.06), linear(0.1, 0.07, 0.06), linear(0.35, 0.22, 0.12), linear(0.8, 0.7, 0.55))
    )
    stack.draw(strokes, base=colour, opacity=draws.uniform(0.6, 1))


def _bubbles(stack: Stack, draws: Draws) -> None:
    """Air in the gel between skin and glass."""
    count = draws.choice((0, 0, 2, 3))
    stack.add(
        count, centre=draws.uniform(0.05, 0.95, (count, 2)), radius=draws.uniform(0.015, 0.05, (count, 1)),
        refract=0.02, base=1.08, accent=0.6, ring=0.5, sharp=6, wave1=(0, 0, 0.0), gloss=0.25, dome=0.5,
    )  # fmt: skip


def _corners(stack: Stack, draws: Draws) -> None:
    """The round view of the lens leaves the picture's corners dark."""
    if draws.chance(0.35):
        reach = draws.uniform(0.5, 0.66)
        stack.add(hole=reach / 0.95, radius=0.95, base=draws.uniform(0, 0.02), label=0, soft=0.03)
