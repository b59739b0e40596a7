"""Animals and things that wear the texture of the ground they are on (CAMO, COD10K).

How well they are hidden is a number: at grade 0 a thing has colours and a pattern of its own; at grade 1 it
has the ground's, cut from another place and turned, and only its edge and a little shading give it away. Flat
patches have the colours and the pattern of the things at any grade.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from moe_lib.worlds import layers, skins
from moe_lib.worlds.assembly import PAINTS, Stage
from moe_lib.worlds.domains.parts import blobs, heading
from moe_lib.worlds.draws import Draws
from moe_lib.worlds.layered import Layered, things
from moe_lib.worlds.objects import KINDS
from moe_lib.worlds.tasks import Batch

_HIDDEN = ("fish", "beast", "bird", "snail", "turtle", "butterfly", "leaf", "mushroom", "cactus", "flower")
_PATCHES = 4


@dataclass(frozen=True)
class Camouflage(Layered):
    """One hidden thing, now and then two; a batch also has ``grade`` float32 (B,), ``instances``, ``boxes``,
    ``visible`` and ``depth``.

    Args:
        grade: How well all of them are hidden, 0 to 1; without it every grade is as likely. All else in a
            scene stays the same.

    Introduced in :doc:`/chapters/pocket_world`.
    """

    grade: float | None = None

    name: ClassVar[str] = "camouflage"
    family: ClassVar[str] = "camouflage"
    classes: ClassVar[tuple[str, ...]] = ("background", "camouflaged")

    def __post_init__(self):
        super().__post_init__()
        if self.grade is not None and not 0 <= self.grade <= 1:
            raise ValueError(f"a grade is a number from 0 (plain to see) to 1 (hidden), got {self.grade!r}")

    def scene(self, index: int) -> layers.Scene:
        draws = self.draws(index)
        drawn = draws.uniform()
        grade = drawn if self.grade is None else self.grade
        stage, lit, tint = Stage(), skins.lighting(draws), skins.light_colour(draws)
        ground = skins.skins(draws, 1, rings=False, calm=True, light=tint)
        own = skins.skins(draws, 2, rings=False, calm=True, light=tint)
        ground["label"] = 0
        stage.rows.append(ground)
        _patches(stage, draws, ground, own, grade)

        count = 2 if draws.chance(0.25) else 1
        for number in range(count):
            kind = KINDS[draws.choice(_HIDDEN)]
            angle, scale = draws.uniform(0.3, np.pi - 0.3), draws.uniform(0.8, 1.3)
            surfaces = [_hide(own[i : i + 1], _moved(ground, angle, scale, draws), grade)[0] for i in (0, 1)]
            radius = draws.uniform(0.19, 0.34) * 0.8 ** (count - 1)
            stage.put(
                kind(draws), *surfaces, centre=draws.uniform(0.16, 0.84, 2), radius=radius,
                angle=draws.uniform(-1.2, 1.2), mirrored=draws.chance(0.5), instance=number + 1,
                depth=0.6 - 0.2 * number, cast=skins.shadow(lit, 0.02, 0.7 - 0.35 * grade),
                paints=_hide(PAINTS, surfaces[0][None], grade),
            )  # fmt: skip
            stage.rows[-1]["dome"] *= 1 - 0.3 * grade
        return stage.scene(about={"count": count, "grade": grade}, **lit)

    def render(self, scenes: Sequence[layers.Scene], device: torch.device) -> Batch:
        painted = layers.render(scenes, self.size, device)
        batch = {"image": self.photograph(painted, scenes), "mask": painted["label"]}
        batch["grade"] = torch.tensor([scene.about["grade"] for scene in scenes], device=device)
        return batch | things(painted, [scene.about["count"] for scene in scenes])


def _patches(stage: Stage, draws: Draws, ground: np.ndarray, own: np.ndarray, grade: float) -> None:
    """Flat patches that differ from the ground as the hidden things do."""
    rows = np.repeat(ground, _PATCHES)
    for row in range(_PATCHES):
        moved = _moved(ground, draws.uniform(0.3, np.pi - 0.3), draws.uniform(0.8, 1.3), draws)
        rows[row] = _hide(own[row % 2][None], moved, grade)[0]
    rows["outline"] = blobs(draws, _PATCHES, 0.35)
    rows["centre"] = draws.uniform(0.05, 0.95, (_PATCHES, 2))
    rows["radius"] = draws.uniform(0.08, 0.18, (_PATCHES, 2))
    rows["label"], rows["depth"] = 0, 1
    stage.rows.append(rows)


def _moved(skin: np.ndarray, angle: float, scale: float, draws: Draws) -> np.ndarray:
    """The same texture, cut from elsewhere: turned, and a little larger or smaller."""
    moved = skin.copy()
    cos, sin = heading(angle)
    turn = np.array([[cos, -sin], [sin, cos]])
    for wave in ("wave1", "wave2"):
        moved[wave][:, :2] = skin[wave][:, :2] @ turn.T * scale
        if skin[wave][:, :2].any():
            moved[wave][:, 2] += draws.uniform(0.2, 0.8)
    moved["speckle"] = (skin["speckle"].reshape(-1, 2, 2) @ turn * scale).reshape(-1, 4)
    moved["shift"] += draws.uniform(0.2, 0.8, 2)
    return moved


def _hide(own: np.ndarray, moved: np.ndarray, grade: float) -> np.ndarray:
    """From its own look (grade 0) to the ground's (grade 1): the colours go over, then the pattern."""
    rows = own.copy()
    if grade > 0.35:
        for name in ("wave1", "wave2", "ring", "warp", "sharp", "speckle", "shift"):
            rows[name] = moved[name]
    for name in ("base", "accent", "grain", "relief", "gloss"):
        rows[name] = own[name] + (moved[name] - own[name]) * np.float32(grade)
    return rows
