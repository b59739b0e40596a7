"""Transparent things: bottles, bowls, vases, panes (Trans10K).

Glass shows what is behind it, displaced, with a thin rim, a faint tint and reflections. Around it stand
opaque things, a picture in a frame, and a hoop, which has a rim and reflections, too, but does not bend what
is seen through it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from moe_lib.worlds import layers, outlines, skins
from moe_lib.worlds.assembly import Stage
from moe_lib.worlds.domains.parts import heading, segments
from moe_lib.worlds.draws import Draws
from moe_lib.worlds.layered import Layered, things
from moe_lib.worlds.objects import BOTTLE, BOX, KINDS, TUMBLER
from moe_lib.worlds.outlines import Outline
from moe_lib.worlds.tasks import Batch

_VASE = outlines.polygon(
    np.array([(-0.3, -1), (0.3, -1), (0.16, -0.6), (0.5, 0), (0.3, 0.95), (-0.3, 0.95), (-0.5, 0),
    (-0.16, -0.6)])
)  # fmt: skip
_BOWL = outlines.polar(
    lambda a: np.where(np.sin(a) < 0, 0.3 / np.maximum(np.abs(np.sin(a)), 0.3), 1 - 0.25 * np.sin(a) ** 2)
)
_SHAPES: tuple[tuple[Outline, float, float], ...] = (  # outline, width, height
    (BOTTLE, 1.15, 1.15), (_VASE, 1.2, 1.0), (_BOWL, 0.95, 0.9), (TUMBLER, 0.6, 0.8), (BOX, 0.75, 0.95),
    (BOX, 1.0, 0.65), (outlines.disc(), 0.75, 0.75), (outlines.regular(6), 0.8, 0.8),
)  # fmt: skip
_OPAQUE = 10  # instances from here on are not glass
_BEHIND = tuple(kind for name, kind in KINDS.items() if name not in ("bottle", "cup"))


@dataclass(frozen=True)
class Glass(Layered):
    """One or two transparent things; a batch also has ``instances``, ``boxes``, ``visible`` and ``depth``.

    Introduced in :doc:`/chapters/pocket_world`.
    """

    name: ClassVar[str] = "glass"
    family: ClassVar[str] = "glass"
    classes: ClassVar[tuple[str, ...]] = ("background", "glass")

    def scene(self, index: int) -> layers.Scene:
        draws = self.draws(index)
        stage, lit, tint = Stage(), skins.lighting(draws), skins.light_colour(draws)
        _room(stage, draws, tint)
        count = draws.integer(1, 3)
        place = draws.uniform(0.2, 0.8, (count, 2))
        if count == 2:  # beside each other, or one above the other
            side = draws.integer(0, 2)
            place[:, side] = draws.uniform(0.15, 0.35), draws.uniform(0.65, 0.85)
        surfaces = skins.skins(draws, 2 * draws.integer(2, 5), light=tint)
        for number, pair in enumerate(surfaces.reshape(-1, 2)):
            # Most of it stands behind a glass.
            near = place[draws.integer(0, count)] if draws.chance(0.6) else draws.uniform(0.1, 0.9, 2)
            _thing(stage, draws, near + draws.uniform(-0.15, 0.15, 2), pair, lit, number)
        _hoop_and_picture(stage, draws, tint, lit)
        for number in range(count):
            radius = draws.uniform(0.2, 0.34) * (1 if count == 1 else 0.8)
            _glass(stage, draws, place[number], radius, number + 1)
        return stage.scene(about={"count": count}, **lit)

    def render(self, scenes: Sequence[layers.Scene], device: torch.device) -> Batch:
        painted = layers.render(scenes, self.size, device)
        batch = {"image": self.photograph(painted, scenes), "mask": painted["label"]}
        painted["instances"] *= painted["label"]  # what is opaque has numbers, too
        return batch | things(painted, [scene.about["count"] for scene in scenes])


def _room(stage: Stage, draws: Draws, tint: np.ndarray) -> None:
    """A wall, and the table or floor before it."""
    rows = skins.skins(draws, 2, rings=False, calm=True, light=tint)
    rows["label"], rows["depth"] = 0, 1
    rows["outline"][1], rows["radius"][1] = BOX, (0.9, 0.5)
    rows["turn"][1] = heading(draws.uniform(-0.12, 0.12))
    rows["centre"][1] = 0.5, draws.uniform(0.85, 1.3)
    stage.rows.append(rows)


def _thing(
    stage: Stage, draws: Draws, centre: np.ndarray, surfaces: np.ndarray, lit: dict, number: int
) -> None:
    """Something opaque."""
    stage.put(
        draws.choice(_BEHIND)(draws), *surfaces, centre=centre, radius=draws.uniform(0.1, 0.2),
        angle=draws.uniform(-0.4, 0.4), mirrored=draws.chance(0.5), instance=_OPAQUE + number, label=0,
        depth=0.8, cast=skins.shadow(lit, 0.02),
    )  # fmt: skip


def _hoop_and_picture(stage: Stage, draws: Draws, tint: np.ndarray, lit: dict) -> None:
    """A rim around nothing, with reflections in it; and a picture in a frame."""
    outline, wide, high = draws.choice(_SHAPES)
    radius = draws.uniform(0.14, 0.24) * np.array([wide, high])
    centre, turn = draws.uniform(0.15, 0.85, 2), heading(draws.uniform(-0.3, 0.3))
    stage.add(
        outline=outline, centre=centre, radius=radius, turn=turn, hole=draws.uniform(0.86, 0.93), label=0,
        depth=0.7, base=draws.uniform(0.4, 1.6), multiply=1, gloss=0.3, dome=0.3,
    )  # fmt: skip
    _reflections(stage, draws, centre, radius.min())

    picture = skins.skins(draws, 1, rings=False, light=tint)
    picture["outline"], picture["centre"] = BOX, draws.uniform(0.1, 0.9, 2)
    picture["radius"], picture["turn"] = draws.uniform(0.08, 0.17, 2), heading(draws.uniform(-0.3, 0.3))
    picture["label"], picture["depth"], picture["cast"] = 0, 0.75, skins.shadow(lit, 0.012)
    frame = picture.copy()
    frame["hole"], frame["base"] = 0.8, draws.uniform(0.05, 0.8, 3)
    frame["accent"], frame["cast"] = frame["base"], 0
    stage.rows += [picture, frame]


def _glass(stage: Stage, draws: Draws, centre: np.ndarray, size: float, instance: int) -> None:
    outline, wide, high = draws.choice(_SHAPES)
    radius = size * np.array([wide, high])
    tinted = skins.colours(draws.uniform(), draws.uniform(0, 0.25), draws.uniform(0.85, 1.02))
    # The first wave crosses one half near the edge, and there the rim begins.
    stage.add(
        outline=outline, centre=centre, radius=radius, turn=heading(draws.uniform(-0.2, 0.2)), base=tinted,
        accent=tinted * draws.choice((0.45, 0.6, 1.5, 1.8)), ring=0.5, sharp=16, gloss=0.3,
        wave1=(0, 0, draws.uniform(-0.225, -0.205)), dome=draws.uniform(0, 0.4), label=1, instance=instance,
        refract=draws.choice((-1, 1)) * draws.uniform(0.05, 0.11, 2), depth=0.5 - 0.1 * instance,
    )  # fmt: skip
    _reflections(stage, draws, centre, radius.min(), on=instance)


def _reflections(stage: Stage, draws: Draws, centre: np.ndarray, size: float, on: int = 0) -> None:
    """Two bright streaks, of a window or a lamp."""
    along = heading(draws.uniform(-2.2, -0.9)) * size * draws.uniform(0.2, 0.5)
    start = (
        centre + heading(draws.uniform(0, 6.3)) * size * 0.4 + np.array([[0, 0], [0.2 * size, 0.05 * size]])
    )
    streaks = segments(
        start - along, start + along, np.array([0.05, 0.025]) * size, np.array([0.035, 0.02]) * size
    )
    stage.draw(streaks, base=0.9, accent=1.0, soft=0.01, opacity=draws.uniform(0.15, 0.5), on=on)
