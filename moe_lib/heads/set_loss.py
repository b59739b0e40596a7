"""A loss for masks without an order: each true mask is matched with one that was predicted
:cite:`cheng2022mask2former`.

Shapes: B images, Q predicted masks, T true ones of an image, P points at which they are compared, K classes.
"""

import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from moe_lib.heads.semantic import Segments
from moe_lib.losses import IGNORE

OVERSAMPLED, UNCERTAIN = 3, 0.75  # points drawn per point kept; share of these that is kept for being unsure


def set_loss(
    answer: Segments, mask: Tensor, *, weights: tuple[float, float, float] = (10, 5, 5),
    costs: tuple[float, float, float] = (2, 5, 5), no_object: float = 0.1, points: int = 12_544,
) -> dict[str, Tensor]:  # fmt: skip
    """Class, cross-entropy and Dice of predicted masks, each against the true one that it is matched with.

    Args:
        answer: With classes.
        mask: Classes of the pixels ``(B, H, W)``; 255 does not count. The pixels of a class are one mask.
        weights: Of the three in the loss.
        costs: Of the three in the matching.
        no_object: Weight of those whose class should be no object.
        points: At how many places masks are compared; all pixels, if they are no more. Of those for the loss,
            three quarters are where a mask is least sure, among three times as many.

    Returns:
        ``"loss"``, and its parts ``"class"``, ``"mask"`` and ``"dice"`` without their weights.

    Introduced in :doc:`/chapters/04_conv_lora`.
    """
    if answer.classes is None:
        raise ValueError("the answer has no classes: train one mask with a loss for masks, such as structure")
    if mask.ndim != 3 or answer.logits.shape[-2:] != mask.shape[-2:] or len(mask) != len(answer.logits):
        raise ValueError(f"logits {tuple(answer.logits.shape)} do not fit the mask {tuple(mask.shape)}")
    pairs = matched(answer, mask, costs=costs, points=points)
    nothing = answer.classes.shape[-1] - 1
    target, compared = torch.full(answer.classes.shape[:2], nothing, device=mask.device), []
    for image, (query, label) in enumerate(pairs):
        target[image, query] = label
        if len(query):
            compared.append(_compare(answer, mask, image, query, label, points))
    weight = torch.ones(nothing + 1, device=mask.device)
    weight[nothing] = no_object
    parts = {"class": F.cross_entropy(answer.classes.float().mT, target, weight)}
    both = torch.cat(compared, 1).mean(1) if compared else answer.logits.sum() * answer.logits.new_zeros(2)
    parts |= {"mask": both[0], "dice": both[1]}
    return {"loss": sum(w * part for w, part in zip(weights, parts.values(), strict=True)), **parts}


@torch.no_grad()
def matched(
    answer: Segments, mask: Tensor, *, costs: tuple[float, float, float] = (2, 5, 5), points: int = 12_544
) -> list[tuple[Tensor, Tensor]]:
    """For each image, which predicted masks go with which classes, at the least cost: two of ``(T,)``.

    Introduced in :doc:`/chapters/04_conv_lora`.
    """
    found, known = [], answer.classes.shape[-1] - 1
    for image, truth in enumerate(mask):
        labels = truth.unique()
        labels = labels[labels != IGNORE]
        if wrong := labels[(labels < 0) | (labels >= known)].tolist():
            raise ValueError(f"the mask has class {wrong[0]}, and the model has 0 to {known - 1}")
        places = torch.rand(points, 2, device=mask.device) if truth.numel() > points else None
        logits = _read(answer, image, slice(None), places)  # (Q, P)
        inside, counts = _truth(truth, labels, places)  # (T, P), (P,)
        surprise_in, surprise_out = F.softplus(-logits) * counts, F.softplus(logits) * counts
        bce = (surprise_in @ inside.mT + surprise_out @ (1 - inside).mT) / counts.sum().clamp(min=1)
        p = logits.sigmoid() * counts
        both, all_ = p @ inside.mT, p.sum(1, keepdim=True) + (inside * counts).sum(1)
        dice = 1 - (2 * both + 1) / (all_ + 1)
        likely = answer.classes[image].float().softmax(-1)[:, labels]
        cost = costs[1] * bce + costs[2] * dice - costs[0] * likely  # (Q, T)
        # What is not finite is refused by scipy; the loss will be so, too, and say it.
        rows, columns = linear_sum_assignment(cost.nan_to_num(1e9, 1e9, -1e9).cpu().numpy())
        query, which = (torch.as_tensor(index, device=mask.device) for index in (rows, columns))
        found.append((query, labels[which]))
    return found


def _compare(answer: Segments, mask: Tensor, image: int, query: Tensor, label: Tensor, points: int) -> Tensor:
    """Cross-entropy and Dice of matched masks, ``(2, T)``."""
    places = _unsure(answer, image, query, points) if mask[image].numel() > points else None
    logits = _read(answer, image, query, places)
    inside, counts = _truth(mask[image], label, places)
    bce = F.binary_cross_entropy_with_logits(logits, inside, reduction="none") * counts
    p = logits.sigmoid() * counts
    dice = 1 - (2 * (p * inside).sum(1) + 1) / (p.sum(1) + (inside * counts).sum(1) + 1)
    return torch.stack([bce.sum(1) / counts.expand_as(bce).sum(1).clamp(min=1), dice])


def _read(answer: Segments, image: int, query: Tensor | slice, places: Tensor | None) -> Tensor:
    """Logits ``(T, P)`` of some masks at places in [0, 1]², ``(P, 2)`` or, for each mask, ``(T, P, 2)``."""
    if places is None:
        return answer.logits[image, query].float().flatten(1)
    small = answer.small[image, query].float()
    grid = (2 * places - 1).expand(len(small), -1, -1)[:, None]
    return F.grid_sample(small[:, None], grid, padding_mode="border", align_corners=False)[:, 0, 0]


def _truth(mask: Tensor, labels: Tensor, places: Tensor | None) -> tuple[Tensor, Tensor]:
    """Whether places are inside ``(T, P)``, and whether they count, ``(P,)`` or ``(T, P)``."""
    if places is None:
        there = mask.flatten()
    else:
        size = torch.tensor(mask.shape[::-1], device=mask.device)
        column, row = (places * size).long().clamp(max=size - 1).unbind(-1)
        there = mask[row, column]
    return (there == labels[:, None]).float(), (there != IGNORE).float()


@torch.no_grad()
def _unsure(answer: Segments, image: int, query: Tensor, points: int) -> Tensor:
    """Places for each mask ``(T, P, 2)``, most of them where its logit is near 0."""
    drawn = torch.rand(len(query), OVERSAMPLED * points, 2, device=answer.small.device)
    kept = int(UNCERTAIN * points)
    order = _read(answer, image, query, drawn).abs().topk(kept, largest=False).indices
    rest = torch.rand(len(query), points - kept, 2, device=drawn.device)
    return torch.cat([drawn.take_along_dim(order[..., None], 1), rest], 1)
