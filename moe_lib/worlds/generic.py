"""Scenes of anything, for pretraining: here is a point or a box, which pixels belong to that thing?"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from moe_lib.worlds import layers, noise, skins
from moe_lib.worlds.assembly import Stage
from moe_lib.worlds.draws import Draws
from moe_lib.worlds.layered import Layered, things
from moe_lib.worlds.objects import BOX, KINDS
from moe_lib.worlds.outlines import blob
from moe_lib.worlds.tasks import Batch

VISIBLE = 0.25  # the least share of an instance that must be seen for a prompt to ask for it
AREA = 30 / 96**2  # and the least share of the picture

_KINDS = (*KINDS.values(), *[KINDS["abstract"]] * 5)


@dataclass(frozen=True)
class Generic(Layered):
    """Class-agnostic prompts: a point or a box → the mask of the instance that is meant.

    Three to eight things of every kind lie about on textured grounds, lit, shadowed, covering each other. A
    batch holds ``image``, ``mask`` (of the instance that is asked for), ``point`` (column and row of a pixel
    of it, anywhere in it), ``box``, ``prompted`` (its id); and ``instances``, ``boxes``,
    ``visible`` and ``depth``.

    Introduced in :doc:`/chapters/pocket_world`.
    """

    name = "generic"
    family = "generic"
    classes = ("background", "object")

    def scene(self, index: int) -> layers.Scene:
        draws = self.draws(index)
        stage, lit, tint = Stage(), skins.lighting(draws), skins.light_colour(draws)
        count = 3 + int(6 * draws.uniform() ** 1.2)
        hue = draws.uniform()
        near = hue + np.array([draws.choice((0.0, 0.08, -0.08, 0.33, 0.5)) for _ in range(2 * count)])
        stage.rows.append(_ground(draws, hue + draws.choice((0.0, 0.5, 0.1, 0.6)), tint))

        surfaces = skins.skins(draws, 2 * count, hues=None if draws.chance(0.5) else near, light=tint)
        spread = draws.uniform(0.6, 1.0)  # things stand apart or crowd together
        middle = draws.uniform(0.45, 0.55, 2)
        u = draws.uniform(size=(count, 7))
        # Few things are large, many are small; each keeps its size when the next one covers it.
        radius = (0.105 + 0.15 * u[:, 0] ** 1.5) * (6 / count) ** 0.25
        centre = middle + spread * (u[:, 1:3] - 0.5)
        upright = draws.chance(0.6)
        angle = (0.5 if upright else 2 * np.pi) * (u[:, 3] - 0.5)
        for number in range(count):
            stage.put(
                draws.choice(_KINDS)(draws),
                surfaces[2 * number],
                surfaces[2 * number + 1],
                centre=centre[number],
                radius=radius[number],
                angle=angle[number],
                mirrored=u[number, 4] < 0.5,
                instance=number + 1,
                depth=0.9 - 0.1 * number,
                cast=skins.shadow(lit, 0.01 + 0.03 * u[number, 5], 0.2 + 0.5 * u[number, 6]),
            )
        return stage.scene(about={"count": count, "prompt": draws.seed()}, **lit)

    def render(self, scenes: Sequence[layers.Scene], device: torch.device) -> Batch:
        painted = layers.render(scenes, self.size, device)
        batch = {"image": self.photograph(painted, scenes)}
        batch |= things(painted, [scene.about["count"] for scene in scenes])
        seeds = torch.tensor([scene.about["prompt"] for scene in scenes], dtype=torch.int32, device=device)
        asked = prompts(batch, 1, seeds)
        return batch | {
            "mask": asked["mask"][:, 0],
            "prompted": asked["instance"][:, 0],
            "point": asked["point"][:, 0],
            "box": asked["box"][:, 0],
        }


def prompts(batch: Batch, n: int, seeds: Tensor | int) -> dict[str, Tensor]:
    """``n`` prompts per image, for a pretraining step.

    Instances of which enough is seen come in a random order, and again, with other points, when there are
    fewer than ``n``. The same seeds give the same prompts on every device.

    Args:
        batch: With ``instances``, ``boxes`` and ``visible``.
        n: Prompts per image.
        seeds: int32 ``(B,)``, or one whole number for all images, such as the number of the step.

    Returns:
        ``instance`` int64 (B, n); ``point`` (B, n, 2), column and row of a pixel of it; its ``box`` (B, n, 4)
        and ``mask`` int64 (B, n, H, W).

    Introduced in :doc:`/chapters/pocket_world`.
    """
    return ask(batch["instances"], pad_sequence(batch["visible"], batch_first=True), n, seeds)


def ask(instances: Tensor, visible: Tensor, n: int, seeds: Tensor | int) -> dict[str, Tensor]:
    """:func:`prompts` for instances ``(B, H, W)`` whose visible shares are padded to ``(B, I)``.

    Introduced in :doc:`/chapters/pocket_models`.
    """
    if n < 1:
        raise ValueError(f"an image gets at least one prompt, got n={n!r}")
    count, height, width = instances.shape
    device, most = instances.device, max(visible.shape[1], 1)
    number = torch.arange(count, dtype=torch.int32, device=device)
    seeds = number * 7919 + seeds if isinstance(seeds, int) else seeds.to(device)

    ids = torch.arange(1, most + 1, dtype=torch.int32, device=device)
    here = instances.flatten(1).long()
    area = torch.zeros(count, most + 1, dtype=torch.int64, device=device)
    area = area.scatter_add_(1, here, torch.ones_like(here))[:, 1:]
    seen = F.pad(visible, (0, most - visible.shape[1]))
    good = (seen >= VISIBLE) & (area >= AREA * height * width)
    # The good ones first, by a hashed number; where there is none, the largest.
    rank = torch.where(good, 2 + noise.uniform(ids, seed=seeds[:, None]), area / (height * width))
    order = rank.argsort(dim=1, descending=True, stable=True)
    turn = torch.arange(n, device=device) % good.sum(1, keepdim=True).clamp(min=1)
    chosen = order.gather(1, turn) + 1
    mask = instances[:, None] == chosen[..., None, None]
    return {
        "instance": chosen,
        "point": pixel_of(mask, seeds, turn=1000),
        "box": box_of(mask),
        "mask": mask.long(),
    }


def pixel_of(region: Tensor, seeds: Tensor, *, turn: int) -> Tensor:
    """A pixel of each region ``(B, n, H, W)`` bool, all equally likely: column and row, float ``(B, n, 2)``.

    Seeds ``(B,)`` and ``turn`` decide, on every device alike; of an empty region it is the first pixel.

    Introduced in :doc:`/chapters/pocket_models`.
    """
    n, height, width = region.shape[1:]
    _, y, x, seed = noise.pixels(seeds, 1, height, width)
    number = torch.arange(n, dtype=torch.int32, device=region.device).view(1, -1, 1, 1) + turn
    place = torch.where(region, noise.uniform(number, y, x, seed=seed), -1.0).flatten(2).argmax(2)
    return torch.stack([place % width, place // width], -1).float()


def box_of(region: Tensor) -> Tensor:
    """Tight boxes of regions ``(…, H, W)`` bool: x0, y0, x1, y1, ends exclusive; zeros for an empty one.

    Introduced in :doc:`/chapters/pocket_models`.
    """
    columns, rows = region.any(-2), region.any(-1)
    first = [line.float().argmax(-1) for line in (columns, rows)]
    past = [line.shape[-1] - line.flip(-1).float().argmax(-1) for line in (columns, rows)]
    return torch.where(columns.any(-1, keepdim=True), torch.stack([*first, *past], -1), 0).float()


def _ground(draws: Draws, hue: float, tint: np.ndarray) -> np.ndarray:
    """A ground, and at times a second one on a part of it."""
    rows = skins.skins(
        draws, 2, hues=np.array([hue, hue + draws.uniform(-0.3, 0.3)]), rings=False, calm=True, light=tint
    )
    rows["label"], rows["depth"] = 0, 1
    if draws.chance(0.7):
        return rows[:1]
    angle = draws.uniform(0, 2 * np.pi)
    rows["outline"][1] = (
        BOX if draws.chance(0.5) else blob(draws.uniform(0, 0.1, 4), draws.uniform(0, 6.3, 4))
    )
    rows["radius"][1] = draws.uniform(0.3, 0.7, 2)
    rows["centre"][1] = draws.uniform(0, 1, 2)
    rows["turn"][1] = np.cos(angle), np.sin(angle)
    return rows
