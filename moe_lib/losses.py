"""Losses for masks. Of a map they give one number per map, ``(…, H, W)`` → ``(…)``: train on their mean.

Logits are positive inside. A mask is 1 inside, 0 outside and 255 where it does not count, as whole numbers
or booleans; or it is a share of each pixel, as real numbers.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = [
    "balanced_bce",
    "bce",
    "dice",
    "focal",
    "ohem",
    "structure",
]

IGNORE = 255


def bce(logits: Tensor, mask: Tensor) -> Tensor:
    """Binary cross-entropy, the mean over the pixels that count.

    Introduced in :doc:`/chapters/02_small_changes`.
    """
    target, counts = _target(logits, mask)
    return _mean(F.binary_cross_entropy_with_logits(logits, target, reduction="none"), counts)


def dice(logits: Tensor, mask: Tensor) -> Tensor:
    """One minus soft Dice: 1 - (2 Σ p·g + 1) / (Σ p + Σ g + 1).

    Introduced in :doc:`/chapters/02_small_changes`.
    """
    target, counts = _target(logits, mask)
    inside = logits.sigmoid() * counts
    both, all_ = (inside * target).sum((-2, -1)), (inside + target * counts).sum((-2, -1))
    return 1 - (2 * both + 1) / (all_ + 1)


def focal(logits: Tensor, mask: Tensor, *, gamma: float = 2.0, alpha: float | None = None) -> Tensor:
    """Cross-entropy in which a pixel counts by how wrong it is, ``|p - g| ** gamma``.

    ``alpha`` is the weight of what lies inside, and 1 - alpha of what lies outside; left out, both have 1.

    Introduced in :doc:`/chapters/02_small_changes`.
    """
    target, counts = _target(logits, mask)
    surprise = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    loss = surprise * (logits.sigmoid() - target).abs() ** gamma
    if alpha is not None:
        loss = loss * (alpha * target + (1 - alpha) * (1 - target))
    return _mean(loss, counts)


def structure(logits: Tensor, mask: Tensor, *, weighted_bce: bool = False, window: int = 31) -> Tensor:
    """Cross-entropy and soft IoU in which pixels near a boundary weigh more, up to six times as much.

    In the code of Conv-LoRA, and in that it comes from, the cross-entropy is not weighted: an old flag of
    PyTorch takes effect where the weights should. That is the default here; ``weighted_bce`` has what was
    meant.

    Introduced in :doc:`/chapters/02_small_changes`.
    """
    target, counts = _target(logits, mask)
    flat = target.reshape(-1, 1, *target.shape[-2:])
    near = F.avg_pool2d(flat, window, stride=1, padding=window // 2).reshape(target.shape)
    weights = (1 + 5 * (near - target).abs()) * counts
    surprise = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    inside = logits.sigmoid()
    both, all_ = ((part * weights).sum((-2, -1)) for part in (inside * target, inside + target))
    iou = 1 - (both + 1) / (all_ - both + 1)
    return _mean(surprise, weights if weighted_bce else counts) + iou


def balanced_bce(logits: Tensor, mask: Tensor) -> Tensor:
    """Cross-entropy in which inside and outside weigh the same, whatever their areas in the batch; ``()``.

    Introduced in :doc:`/chapters/02_small_changes`.
    """
    target, counts = _target(logits, mask)
    inside, outside = (target * counts).sum(), ((1 - target) * counts).sum()
    total = (inside + outside).clamp(min=1)
    weights = (target * outside + (1 - target) * inside) / total * counts
    return (F.binary_cross_entropy_with_logits(logits, target, reduction="none") * weights).sum() / total


def ohem(logits: Tensor, mask: Tensor, *, threshold: float = 0.7, least: float = 1 / 16) -> Tensor:
    """Cross-entropy of the hard pixels only: ``(B, C, H, W)`` and ``(B, H, W)`` → ``()``.

    Hard are those whose class has a probability below the threshold; if they are fewer than a share ``least``
    of all that count, that share with the largest losses is taken. Nothing counts: 0.

    Introduced in :doc:`/chapters/02_small_changes`.
    """
    losses = F.cross_entropy(logits, mask, ignore_index=IGNORE, reduction="none")[mask != IGNORE]
    if not len(losses):
        return logits.sum() * 0
    hard = losses[losses > -math.log(threshold)]
    few = int(len(losses) * least)
    return hard.mean() if len(hard) >= max(few, 1) else losses.topk(max(few, 1)).values.mean()


def _target(logits: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """The mask as real numbers, and 1 for every pixel that counts; both as large as the logits."""
    if logits.ndim != mask.ndim or any(
        m not in (1, n) for m, n in zip(mask.shape, logits.shape, strict=True)
    ):
        raise ValueError(f"logits {tuple(logits.shape)} and mask {tuple(mask.shape)} are not of one shape")
    if mask.is_floating_point():
        target, counts = mask.to(logits), torch.ones_like(mask)
    else:
        target, counts = (mask == 1).to(logits), (mask != IGNORE).to(logits)
    return target.expand_as(logits), counts.expand_as(logits)


def _mean(values: Tensor, weights: Tensor) -> Tensor:
    return (values * weights).sum((-2, -1)) / weights.sum((-2, -1)).clamp(min=1e-9)
