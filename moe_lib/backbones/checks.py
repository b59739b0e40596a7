"""What a backbone says about input that it cannot use."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


def image(image: Tensor, size: int) -> None:
    """Refuse what is not a float batch of square pictures in [0, 1]."""


def prompts(
    size: int, count: int, points: Tensor | None, labels: Tensor | None, boxes: Tensor | None,
    masks: Tensor | None,
) -> Tensor | None:  # fmt: skip
    """Refuse prompts that do not fit; the labels of the points, all 1 where none are given."""
    if points is not None and labels is None:
        labels = torch.ones(points.shape[:-1], dtype=torch.int64, device=points.device)
    return labels


def prompts_of(batch: Mapping[str, Any], prompt: str) -> dict[str, Tensor]:
    """The prompts that a batch holds, one per picture."""
    if prompt == "point":
        return {"points": batch["point"][:, None, None]}
    if prompt == "box":
        return {"boxes": batch["box"][:, None]}
    return {}
