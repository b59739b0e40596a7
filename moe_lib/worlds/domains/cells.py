"""Cells and nuclei under the microscope (Data Science Bowl 2018).

Fifteen to forty small blobs, touching, some out of focus, as different kinds of microscopy show them: bright
on dark, dark on bright, or hardly different from an uneven background. Fibres, rings and smears of the cells'
own colour are no cells; a blob that is out of focus is.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from moe_lib.worlds import layers
from moe_lib.worlds.domains.parts import Stack, blobs, heading, line, noise_at
from moe_lib.worlds.draws import Draws
from moe_lib.worlds.layered import Layered, things
from moe_lib.worlds.skins import colours
from moe_lib.worlds.tasks import Batch

_STAINS = ("glow", "glow", "glow", "tissue", "tissue", "tissue", "grey", "dye", "dye")


@dataclass(frozen=True)
class Cells(Layered):
    """Many small cells; a batch also has ``instances``, ``boxes``, ``visible`` and ``depth``.

    Introduced in :doc:`/chapters/pocket_world`.
    """

    name: ClassVar[str] = "cells"
    family: ClassVar[str] = "cells"
    classes: ClassVar[tuple[str, ...]] = ("background", "cell")

    def scene(self, index: int) -> layers.Scene:
        draws = self.draws(index)
        stack = Stack()
        ground, body = _stain(draws)
        _slide(stack, draws, ground, body)
        _debris(stack, draws, body)
        count = draws.integer(15, 41)
        _cells(stack, draws, ground, body, count)
        return stack.scene(
            seed=draws.seed(), light=(*draws.normal(0, 0.5, 2), 0.8), ambient=0.6, vignette=draws.uniform(0,
            1.2),
            exposure=draws.uniform(0.8, 1.2), full_well=draws.uniform(150, 1500), about={"count": count},
        )  # fmt: skip

    def render(self, scenes: Sequence[layers.Scene], device: torch.device) -> Batch:
        painted = layers.render(scenes, self.size, device)
        batch = {"image": self.photograph(painted, scenes), "mask": painted["label"]}
        return batch | things(painted, [scene.about["count"] for scene in scenes])


def _stain(draws: Draws) -> tuple[np.ndarray, np.ndarray]:
    """Colours of background and cells: fluorescence, stained tissue, bright field, or any dye."""
    kind, hue = draws.choice(_STAINS), draws.uniform()
    if kind == "glow":
        ground = colours(hue + 0.1, 0.6, draws.uniform(0.12, 0.3))
        return ground, colours(hue, draws.uniform(0, 0.8), draws.uniform(0.45, 0.9))
    if kind == "tissue":
        pink = colours(draws.uniform(0.82, 1.0), draws.uniform(0.15, 0.5), draws.uniform(0.6, 0.9))
        return pink, colours(draws.uniform(0.68, 0.85), draws.uniform(0.3, 0.7), draws.uniform(0.35, 0.65))
    value = draws.uniform(0.4, 0.8)
    if kind == "grey":
        step = draws.choice((-1, 1)) * draws.uniform(0.14, 0.28)
        return colours(hue, 0.05, value), colours(hue, 0.08, value + step)
    return colours(hue, 0.5, value), colours(hue + draws.uniform(0.2, 0.8), 0.5, draws.uniform(0.35, 0.85))


def _slide(stack: Stack, draws: Draws, ground: np.ndarray, body: np.ndarray) -> None:
    """An uneven background: a patchy medium, and a broad smear of nearly the cells' colour."""
    patches = (*heading(draws.uniform(0, 6.3)) * draws.uniform(0.3, 2), draws.uniform())
    stack.add(
        base=ground, accent=ground + (body - ground) * draws.uniform(0, 0.35), label=0, wave1=patches,
        warp=draws.uniform(1, 3), grain=draws.uniform(0.1, 0.4), **noise_at(draws, draws.uniform(0.2, 0.7)),
    )  # fmt: skip
    stack.add(
        outline=blobs(draws, 1, 0.4)[0], centre=draws.uniform(0.1, 0.9, 2),
        radius=draws.uniform(0.12, 0.28, 2), soft=draws.uniform(0.03, 0.12), base=body, accent=ground, warp=2,
        grain=0.3, label=0, opacity=draws.uniform(0.4, 0.9), **noise_at(draws, 0.5),
    )  # fmt: skip


def _debris(stack: Stack, draws: Draws, body: np.ndarray) -> None:
    """Fibres and rings."""
    for _ in range(draws.integer(2, 5)):
        angle, bend = draws.uniform(0, 6.3), draws.uniform(-0.9, 0.9)
        steps = heading(np.array([angle, angle + bend])) * draws.uniform(0.05, 0.14, (2, 1))
        points = draws.uniform(0, 1, 2) + np.cumsum([(0, 0), *steps], axis=0)
        fibre = line(points, np.full(3, draws.uniform(0.005, 0.012)))
        stack.draw(fibre, base=body, accent=body * 0.7, grain=0.4, label=0, opacity=draws.uniform(0.6, 1))

    count = draws.integer(3, 8)
    rings = draws.uniform(0.02, 0.05, (count, 1)) * draws.uniform(0.8, 1.2, (count, 2))
    stack.add(
        count, outline=blobs(draws, count, 0.2), centre=draws.uniform(0, 1, (count, 2)), radius=rings,
        hole=draws.uniform(0.55, 0.75, count), base=body, accent=body * 0.8, grain=0.3, label=0, opacity=0.9,
    )  # fmt: skip


def _cells(stack: Stack, draws: Draws, ground: np.ndarray, body: np.ndarray, count: int) -> None:
    """Cells in clusters, so that some touch; the ones in focus have a crisp edge."""
    hubs = draws.uniform(0.1, 0.9, (5, 2))[[draws.integer(0, 5) for _ in range(count)]]
    apart = draws.uniform(size=(count, 1)) < 0.45
    centre = np.where(apart, draws.uniform(0, 1, (count, 2)), hubs + draws.normal(0, 0.09, (count, 2)))
    size = draws.uniform(0.026, 0.05) * draws.uniform(0.7, 1.3, (count, 1))
    size = size * draws.uniform(0.75, 1.2, (count, 2))
    blurred = draws.uniform(size=count) < 0.2
    colour = body * draws.uniform(0.75, 1.25, (count, 1))
    # From the middle to the edge: some are brightest inside, some at their membrane.
    rim = colour + (ground - colour) * draws.uniform(0.15, 0.65) if draws.chance(0.6) else colour * 0.6
    stack.add(
        count, outline=blobs(draws, count, 0.3, waves=3), centre=centre.clip(0.01, 0.99), radius=size,
        turn=heading(draws.uniform(0, 6.3, count)), opacity=np.where(blurred, 0.8, 1.0),
        soft=np.where(blurred, draws.uniform(0.02, 0.045, count), 0.004), base=colour, accent=rim, ring=0.5,
        sharp=draws.uniform(1, 2.5), warp=0.5, grain=draws.uniform(0.2, 0.5),
        dome=draws.choice((0.0, 0.4, 0.7)), label=1, instance=np.arange(1, count + 1),
        depth=np.linspace(0.9, 0.2, count), **noise_at(draws, 0.8),
    )  # fmt: skip
