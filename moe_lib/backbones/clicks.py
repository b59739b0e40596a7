"""Prompts for training and testing, and how well they are answered.

Shapes: B pictures, P prompts each.
"""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from moe_lib.backbones.sam import Sam
from moe_lib.worlds.generic import ask, pixel_of

__all__ = ["Scenes", "correction", "iou", "objects", "scores"]

IGNORE = 255
FIRST, CORRECTION = 1000, 2000  # turns of the random numbers behind clicks


class Scenes(NamedTuple):
    """Pictures and their objects.

    ``image`` (B, 3, H, W) in [0, 1]; ``instances`` (B, H, W), 0 for none; ``visible`` (B, I), the share of
    each that is seen.

    Introduced in :doc:`/chapters/pocket_models`.
    """

    image: Tensor
    instances: Tensor
    visible: Tensor


def objects(batch: Mapping[str, Any]) -> Scenes:
    """What can be asked for in a batch of any task: its instances, or else the pieces of its foreground.

    A piece is a set of pixels of class 1 that touch, at a side or a corner.

    Introduced in :doc:`/chapters/pocket_models`.
    """
    image = batch["image"]
    if "instances" in batch:
        return Scenes(image, batch["instances"], pad_sequence(batch["visible"], batch_first=True))
    if others := sorted(set(batch["mask"].unique().tolist()) - {0, 1, IGNORE}):
        raise ValueError(f"the mask has a class {others[0]} and the batch no instances: what is an object?")
    pieces = [ndimage.label(mask == 1, structure=np.ones((3, 3))) for mask in batch["mask"].cpu().numpy()]
    instances = torch.from_numpy(np.stack([numbers for numbers, _ in pieces])).to(image.device).long()
    visible = torch.ones(len(image), max(count for _, count in pieces), device=image.device)
    return Scenes(image, instances, visible)


def correction(found: Tensor, truth: Tensor, seeds: Tensor) -> tuple[Tensor, Tensor]:
    """A click where a mask is wrong, any such pixel being equally likely.

    Introduced in :doc:`/chapters/pocket_models`.

    Args:
        found, truth: Masks ``(B, P, H, W)``, bool.
        seeds: ``(B,)``, int32.

    Returns:
        The point ``(B, P, 2)``, and its label ``(B, P)``: 1 where the object was missed, 0 where something
        else was taken for it, -1 (no point) where nothing is wrong.
    """
    wrong = found ^ truth
    point = pixel_of(wrong, seeds, turn=CORRECTION)
    x, y = point.long().unbind(-1)
    width = truth.shape[-1]
    missed = truth.flatten(2).gather(2, (y * width + x)[..., None])[..., 0]
    return point, torch.where(wrong.flatten(2).any(2), missed.long(), -1)


def iou(found: Tensor, truth: Tensor) -> Tensor:
    """Intersection over union of masks ``(…, H, W)``, bool.

    Introduced in :doc:`/chapters/pocket_models`.
    """
    both, either = (found & truth).sum((-2, -1)), (found | truth).sum((-2, -1))
    return both / either.clamp(min=1)


@torch.no_grad()
def answered(sam: Sam, scenes: Scenes, seeds: Tensor, prompts: int = 4) -> dict[str, Tensor]:
    """How well a SAM answers prompts on these scenes, every number ``(B, P)``.

    ``1 click``: IoU of the mask it believes in most, of three. ``best of 3``: of the truly best of them.
    ``2 clicks``: after a second click where that mask was wrong, by its single mask. ``box``: likewise for a
    tight box. ``quality error``: how far its judgement of the first mask was from the truth.
    """
    asked = ask(scenes.instances, scenes.visible, prompts, seeds)
    truth, point = asked["mask"] > 0, asked["point"][:, :, None]
    embedding = sam.embed(scenes.image)

    first = sam.answer(embedding, points=point)
    chosen = first.quality.argmax(-1)
    found = first.of(chosen) > 0
    one = iou(found, truth)
    believed = first.quality.gather(-1, chosen[..., None])[..., 0]

    second, label = correction(found, truth, seeds)
    two = sam.answer(
        embedding,
        points=torch.stack([asked["point"], second], 2),
        labels=torch.stack([torch.ones_like(label), label], 2),
        masks=first.of(chosen, small=True),
        several=False,
    )
    box = sam.answer(embedding, boxes=asked["box"], several=False)
    return {
        "1 click": one,
        "best of 3": iou(first.logits > 0, truth[:, :, None]).amax(-1),
        "2 clicks": iou(two.logits[:, :, 0] > 0, truth),
        "box": iou(box.logits[:, :, 0] > 0, truth),
        "quality error": (believed.float() - one).abs(),
        "instance": asked["instance"],
    }


def scores(sam: Sam, parts: Iterable[Scenes], seed: int = 0) -> dict[str, Tensor]:
    """:func:`answered` on many scenes, part by part; each ``(scenes, P)``, on the CPU.

    Introduced in :doc:`/chapters/pocket_models`.
    """
    found: list[dict[str, Tensor]] = []
    start = seed * 1_000_003
    for part in parts:
        numbers = torch.arange(start, start + len(part.image), dtype=torch.int32, device=part.image.device)
        start += len(part.image)
        found.append({name: values.cpu() for name, values in answered(sam, part, numbers).items()})
    return {name: torch.cat([part[name] for part in found]) for name in found[0]}
