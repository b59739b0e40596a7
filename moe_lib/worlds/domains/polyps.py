"""Polyps in the bowel, as an endoscope sees them (Kvasir-SEG, CVC-ClinicDB).

One smooth swelling, sometimes two, on wet folded tissue of nearly its own colour. What tells it apart is its
roundness, the line where it stands on the tissue, and a texture of its own. Folds, bubbles, bulges of the
wall and a polyp's stalk are background; residue and reflections on a polyp cut no holes into its mask.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from moe_lib.worlds import layers, outlines
from moe_lib.worlds.domains.parts import Stack, blobs, heading, line, linear, noise_at, segments
from moe_lib.worlds.draws import Draws
from moe_lib.worlds.layered import Layered

_TISSUES = (
    (0.83, 0.44, 0.38),
    (0.86, 0.50, 0.32),
    (0.76, 0.41, 0.42),
    (0.88, 0.64, 0.55),
    (0.68, 0.45, 0.38),
)
_ROUND = [(outlines.superellipse(power), (1.0, 0.0)) for power in (2, 3, 5)]
_WINDOWS = [*_ROUND, (outlines.regular(8), heading(np.pi / 8))]


@dataclass(frozen=True)
class Polyps(Layered):
    """Polyps on the wall of the bowel.

    Introduced in :doc:`/chapters/pocket_world`.
    """

    name: ClassVar[str] = "polyps"
    family: ClassVar[str] = "polyps"
    classes: ClassVar[tuple[str, ...]] = ("background", "polyp")

    def scene(self, index: int) -> layers.Scene:
        draws = self.draws(index)
        stack = Stack()
        tissue = linear(*draws.choice(_TISSUES)) * draws.uniform(0.7, 1.0) * draws.uniform(0.9, 1.1, 3)
        skin = {"label": 0, **noise_at(draws, draws.uniform(0.2, 0.5))}
        lumen = 0.5 + heading(draws.uniform(0, 2 * np.pi)) * draws.uniform(0.08, 0.45)
        _wall(stack, draws, tissue, skin)
        _tunnel(stack, draws, lumen, skin)
        _bulge(stack, draws, skin)
        _folds(stack, draws, lumen, tissue, skin)
        _vessels(stack, draws)
        heads = _heads(draws, lumen)
        _polyp(stack, draws, *heads[0], tissue, lobes=draws.choice((1, 1, 1, 2, 3)))
        for centre, radius in heads[1:]:
            _polyp(stack, draws, centre, radius, tissue, lobes=1)
        _residue(stack, draws)
        _bubbles(stack, draws)
        _glints(stack, draws, heads)
        _corners(stack, draws)
        return stack.scene(
            seed=draws.seed(), light=(*draws.normal(0, 0.25, 2), 0.9), ambient=draws.uniform(0.2, 0.4),
            vignette=draws.uniform(0.3, 1.5), exposure=draws.uniform(0.9, 1.5),
            full_well=draws.uniform(700, 2500), about={"polyps": len(heads)},
        )  # fmt: skip


def _wall(stack: Stack, draws: Draws, tissue: np.ndarray, skin: dict) -> None:
    """The wall of the bowel."""
    stack.add(
        base=tissue, accent=tissue * (0.8, 0.6, 0.58), wave1=(*draws.normal(0, 1.5, 2), draws.uniform()),
        warp=draws.uniform(0.5, 2), grain=draws.uniform(0.1, 0.3), relief=draws.uniform(0.1, 0.45),
        gloss=draws.uniform(0, 0.1), **skin,
    )  # fmt: skip


def _tunnel(stack: Stack, draws: Draws, lumen: np.ndarray, skin: dict) -> None:
    """Rings of folds that lead to the lumen, and the lumen, from which no light returns."""
    stack.add(
        outline=blobs(draws, 1, 0.15), centre=lumen, radius=draws.uniform(0.45, 0.8), multiply=1, soft=0.3,
        base=(0.42, 0.33, 0.31), accent=1.0, ring=draws.uniform(1.5, 4.5),
        wave1=(0, 0, draws.uniform(0, 0.5)), warp=draws.uniform(0.3, 0.9), sharp=draws.uniform(1, 2),
        opacity=draws.uniform(0.3, 1), **skin,
    )  # fmt: skip
    radius = draws.uniform(0.08, 0.2)
    for share, dark in ((1.7, 0.4), (0.8, 0.2)):
        stack.add(
            outline=blobs(draws, 1, 0.25), centre=lumen + draws.normal(0, 0.02, 2), multiply=1,
            soft=0.8 * share * radius, radius=radius * share * draws.uniform(0.7, 1.2, 2),
            base=(dark, 0.85 * dark, 0.8 * dark), **skin,
        )  # fmt: skip


def _bulge(stack: Stack, draws: Draws, skin: dict) -> None:
    """Where the wall is pushed in from outside: as wide as a polyp, but flat and without an edge."""
    stack.add(
        outline=blobs(draws, 1, 0.2), centre=draws.uniform(0.1, 0.9, 2),
        turn=heading(draws.uniform(0, 2 * np.pi)), radius=draws.uniform(0.08, 0.2, 2), multiply=1,
        base=draws.uniform(0.85, 1.2), dome=draws.uniform(0.35, 0.6), soft=draws.uniform(0.06, 0.12),
        opacity=draws.chance(0.7), **skin,
    )  # fmt: skip


def _folds(stack: Stack, draws: Draws, lumen: np.ndarray, tissue: np.ndarray, skin: dict) -> None:
    """Ridges that run around the lumen, seen as arcs."""
    arcs = []
    for _ in range(draws.integer(1, 3)):
        angles = draws.uniform(0, 2 * np.pi) + np.linspace(0, draws.uniform(0.8, 2.2), 5)
        points = lumen + heading(angles) * (draws.uniform(0.25, 0.7) * draws.uniform(0.93, 1.07, 5))[:, None]
        arcs.append(line(points, draws.uniform(0.02, 0.075) * np.array([0.4, 0.9, 1, 0.9, 0.4])))
    stack.draw(
        np.concatenate(arcs), base=tissue * draws.uniform(0.75, 1.2), accent=tissue * 0.6,
        wave1=(*draws.normal(0, 2, 2), 0), warp=1, grain=0.2, dome=draws.uniform(0.6, 0.95),
        soft=draws.uniform(0.02, 0.06), gloss=draws.uniform(0, 0.1), **skin,
    )  # fmt: skip


def _vessels(stack: Stack, draws: Draws) -> None:
    """Thin red branches under the surface."""
    start, angle, step = draws.uniform(0.15, 0.85, 2), draws.uniform(0, 2 * np.pi), draws.uniform(0.08, 0.15)
    trunk = np.cumsum([start, *(heading(angle + draws.normal(0, 0.5, 4)) * step)], axis=0)
    twigs = trunk[1:3] + heading(angle + np.array([-1, 1]) * draws.uniform(0.5, 1.1, 2)) * step
    thick = np.array([4, 3.5, 3, 2, 1]) * 1e-3
    stack.draw(
        np.concatenate([line(trunk, thick), segments(trunk[1:3], twigs, 0.0025, 0.001)]), multiply=1,
        soft=0.006, base=(0.75, 0.4, 0.4), opacity=draws.choice((0, 0.3, 0.6, 0.9)), label=0,
    )  # fmt: skip


def _heads(draws: Draws, lumen: np.ndarray) -> list[tuple[np.ndarray, float]]:
    """Centres and radii of the polyps, which stay in view, keep apart and leave the lumen open."""
    heads: list[tuple[np.ndarray, float]] = []
    count = 2 if draws.chance(0.18) else 1
    while len(heads) < count:
        radius = draws.uniform(0.05, 0.1) if heads else draws.uniform(0.08, 0.25)
        centre = 0.5 + heading(draws.uniform(0, 2 * np.pi)) * draws.uniform(0, 0.45 - 0.8 * radius)
        apart = [np.linalg.norm(centre - other) / (radius + size) for other, size in [*heads, (lumen, 0.0)]]
        if min(apart) > 1.4:
            heads.append((centre, radius))
    return heads


def _polyp(
    stack: Stack, draws: Draws, centre: np.ndarray, radius: float, tissue: np.ndarray, *, lobes: int
) -> None:  # fmt: skip
    """A head of so many lobes, on the wall or, one in four, on a stalk."""
    colour = tissue * draws.uniform(0.8, 1.2) * draws.uniform(0.92, 1.08, 3)
    surface = {
        "base": colour, "accent": colour * draws.uniform(0.5, 0.85, 3),
        "wave1": (*draws.normal(0, 9, 2), 0), "wave2": (*draws.normal(0, 9, 2), 0),
        "warp": draws.uniform(0.5, 2), "grain": draws.uniform(0.1, 0.35), "relief": draws.uniform(0.1, 0.5),
        "gloss": draws.uniform(0.02, 0.2), **noise_at(draws, draws.uniform(0.3, 0.8)),
    }  # fmt: skip
    foot = centre + heading(draws.uniform(0, 2 * np.pi)) * radius * draws.uniform(1.3, 2)
    bend = (foot + centre) / 2 + draws.normal(0, 0.02, 2)
    stack.draw(
        line(np.stack([foot, bend, centre]), radius * np.array([0.4, 0.22, 0.35])),
        **(surface | {"dome": 0.85, "soft": 0.02, "label": 0, "opacity": draws.chance(0.25)}),
    )  # fmt: skip
    spread = radius * (0.45 if lobes > 1 else 0.0)
    stack.add(
        lobes, outline=blobs(draws, lobes, draws.uniform(0.05, 0.22)), label=1,
        centre=centre + heading(draws.uniform(0, 2 * np.pi, lobes)) * spread,
        turn=heading(draws.uniform(0, 2 * np.pi, lobes)),
        radius=(radius - spread / 2) * draws.uniform(0.75, 1.15, (lobes, 2)), dome=draws.uniform(0.5, 0.95),
        soft=draws.uniform(0.01, 0.035), cast=(*draws.normal(0, 0.008, 2), draws.uniform(0.15, 0.45)),
        **surface,
    )  # fmt: skip


def _residue(stack: Stack, draws: Draws) -> None:
    """What the cleansing left behind: yellow and brown, flat, of no shape."""
    count = draws.choice((0, 0, 1, 2))
    stack.add(
        count, outline=blobs(draws, count, 0.6), centre=draws.uniform(0.1, 0.9, (count, 2)),
        radius=draws.uniform(0.01, 0.05, (count, 2)),
        base=linear(0.78, 0.62, 0.25) * draws.uniform(0.4, 1.2, (count, 1)), accent=linear(0.5, 0.36, 0.12),
        wave1=(9, 5, 0), warp=2, grain=0.4, opacity=draws.uniform(0.5, 0.95, count), soft=0.012,
    )  # fmt: skip


def _bubbles(stack: Stack, draws: Draws) -> None:
    """A little foam."""
    count = draws.choice((0, 0, 0, 2, 3))
    stack.add(
        count, centre=draws.uniform(0.15, 0.85, 2) + draws.normal(0, 0.06, (count, 2)),
        radius=draws.uniform(0.01, 0.03, (count, 1)), refract=0.02, base=1.05, accent=0.7, ring=0.5,
        sharp=3, dome=0.7, gloss=0.6,
    )  # fmt: skip


def _glints(stack: Stack, draws: Draws, heads: list[tuple[np.ndarray, float]]) -> None:
    """The lamp's reflections on what is wet, some of them on the polyps."""
    count = 5
    at = draws.uniform(0.15, 0.85, (count, 2))
    for number, (centre, radius) in enumerate(heads):
        at[number] = centre + radius * draws.uniform(-0.5, 0.5, 2)
    way = heading(draws.uniform(0, 2 * np.pi))
    away = way * draws.uniform(0, 0.03, (count, 1)) + draws.normal(0, 0.005, (count, 2))
    stack.draw(
        segments(at, at + away, draws.uniform(0.002, 0.008, count), draws.uniform(0.001, 0.005, count)),
        base=1.4, soft=0.008, opacity=draws.uniform(0.5, 1),
    )  # fmt: skip


def _corners(stack: Stack, draws: Draws) -> None:
    """The endoscope's view is round or has eight corners; outside it is black, and background."""
    outline, turn = draws.choice(_WINDOWS)
    stack.add(
        outline=outline, turn=turn, radius=2, hole=draws.uniform(0.5, 0.6) / 2, base=draws.uniform(0, 0.01),
        label=0, soft=0.01,
    )  # fmt: skip
