"""What a backbone says about input that it cannot use.

Values are looked at where looking is possible: not while a graph is compiled or recorded.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

BEYOND = 0.01  # how far a picture may leave [0, 1], as enlarged ones do at an edge


def image(image: Tensor, size: int) -> None:
    """Refuse what is not a float batch of square pictures in [0, 1]."""
    if not isinstance(image, Tensor):
        raise TypeError(f"a batch of pictures is a tensor, got {type(image).__name__}")
    if image.ndim == 3:
        raise ValueError(
            f"expected a batch (B, 3, {size}, {size}), got one picture {shape(image)}: image[None]"
        )
    if image.ndim != 4 or image.shape[1] != 3:
        turned = ": channels come first, image.permute(0, 3, 1, 2)" if image.shape[-1:] == (3,) else ""
        raise ValueError(f"expected pictures (B, 3, {size}, {size}), got {shape(image)}{turned}")
    if image.shape[2:] != (size, size):
        raise ValueError(
            f"this model sees {size} × {size} pixels, got {image.shape[2]} × {image.shape[3]}: resize with "
            f"F.interpolate(image, ({size}, {size})), or pad what is not square"
        )
    if not len(image):
        raise ValueError("a batch of no pictures")
    if not image.is_floating_point():
        raise TypeError(
            f"pictures are floats in [0, 1], got {image.dtype}: image / 255 where it counts to 255"
        )
    if _can_look(image):
        low, high = (float(value) for value in image.detach().aminmax())
        if not (low >= -BEYOND and high <= 1 + BEYOND):  # NaN is neither
            guess = "divide by 255" if low >= 0 and high > 2 else "the model itself takes mean and spread out"
            raise ValueError(f"pictures are in [0, 1], got values from {low:.3g} to {high:.3g}: {guess}")


def prompts(
    size: int, count: int, points: Tensor | None, labels: Tensor | None, boxes: Tensor | None,
    masks: Tensor | None,
) -> Tensor | None:  # fmt: skip
    """Refuse prompts that do not fit; the labels of the points, all 1 where none are given.

    Args:
        size: Pixels a side of the picture.
        count: Pictures.
        points, labels, boxes, masks: As :meth:`Sam.answer` takes them.
    """
    if points is None and labels is not None:
        raise ValueError("labels say what points mean, and there are no points")
    if points is not None:
        _shaped("points", points, count, "(B, P, N, 2)", points.ndim == 4 and points.shape[-1] == 2)
        if labels is None:
            labels = torch.ones(points.shape[:-1], dtype=torch.int64, device=points.device)
        if labels.shape != points.shape[:-1]:
            raise ValueError(f"every point has a label: points {shape(points)}, labels {shape(labels)}")
    if boxes is not None:
        _shaped("boxes", boxes, count, "(B, P, 4)", boxes.ndim == 3 and boxes.shape[-1] == 4)
    if masks is not None:
        _shaped("masks", masks, count, "(B, P, 4h, 4w)", masks.ndim == 4)
    numbers = {len(part[0]) for part in (points, boxes, masks) if part is not None and len(part)}
    if len(numbers) > 1:
        raise ValueError(
            f"as many points, boxes and masks as there are prompts, got {sorted(numbers)} per picture"
        )
    _values(size, points, labels, boxes)
    return labels


def prompts_of(batch: Mapping[str, Any], prompt: str) -> dict[str, Tensor]:
    """The prompts that a batch holds, one per picture."""
    if prompt not in ("point", "box", "none"):
        raise ValueError(f"prompt is 'point', 'box' or 'none', got {prompt!r}")
    if prompt == "none":
        return {}
    if prompt not in batch:
        raise ValueError(
            f"the batch has no {prompt!r}, only {', '.join(batch)}: the task generic has one, "
            "and moe_lib.backbones.clicks.objects makes scenes to ask for of any task"
        )
    return (
        {"points": batch["point"][:, None, None]} if prompt == "point" else {"boxes": batch["box"][:, None]}
    )


def shape(values: Tensor) -> str:
    """The shape of a tensor, as it is written."""
    return str(tuple(values.shape))


def _shaped(name: str, values: Tensor, count: int, form: str, fits: bool) -> None:
    if not fits or len(values) != count:
        raise ValueError(f"{name} are {form}, with B = {count} for these pictures, got {shape(values)}")


def _values(size: int, points: Tensor | None, labels: Tensor | None, boxes: Tensor | None) -> None:
    if points is not None and _can_look(points):
        if ((labels < -1) | (labels > 1)).any():
            raise ValueError(
                f"labels are 1 (on it), 0 (beside it) or -1 (no point), got {labels.unique().tolist()}"
            )
        outside = ~((points >= 0) & (points < size)).all(-1) & (labels >= 0)
        if outside.any():
            x, y = points[outside][0].tolist()
            raise ValueError(f"point ({x:g}, {y:g}) is outside of a picture of {size} × {size} pixels")
    if boxes is not None and _can_look(boxes):
        low, high = boxes[..., :2], boxes[..., 2:]
        wrong = ~((low >= 0) & (low < high) & (high <= size)).all(-1)
        if wrong.any():
            found = ", ".join(f"{value:g}" for value in boxes[wrong][0].tolist())
            raise ValueError(
                f"box ({found}) is none of a picture of {size} × {size} pixels: expected x0 < x1 and "
                "y0 < y1, all inside"
            )


def _can_look(values: Tensor) -> bool:
    if torch.compiler.is_compiling() or values.is_meta:
        return False
    return not (values.is_cuda and torch.cuda.is_current_stream_capturing())
