"""How good masks are: classes over a whole data set, and binary masks picture by picture.

Of binary masks every measure takes probabilities and masks, ``(B, H, W)``, and gives a number per picture,
``(B,)`` in float64 on the CPU. Masks are 1 inside, anything else is outside: no pixel is left out, since most
of these measures look at neighbours. They are tested against golden arrays of Conv-LoRA's code and against
values of the package pysodmetrics, which itself is not used: it forces an old NumPy on whoever installs it,
and has NaN for an object in the picture's last corner.
"""

from collections.abc import Callable, Iterable
from functools import wraps

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor
from torchmetrics.functional.classification import multiclass_confusion_matrix

__all__ = [
    "areas",
    "ber",
    "binary_scores",
    "boundary_f",
    "class_iou",
    "confusion",
    "dice",
    "e_measure",
    "iou",
    "mae",
    "mean_iou",
    "overall_iou",
    "s_measure",
    "share_above",
    "weighted_f",
]

IGNORE = 255
TINY = np.spacing(1.0)

PerPicture = Callable[[np.ndarray, np.ndarray], float]


def confusion(predicted: Tensor, mask: Tensor, classes: int) -> Tensor:
    """Pixels by their class (row) and the predicted one (column), ``(C, C)``; add up over a data set.

    Args:
        predicted: Classes, ``(B, H, W)``.
        mask: The same; 255 does not count.
        classes: How many there are, C.

    Introduced in :doc:`/chapters/02_small_changes`.
    """
    return multiclass_confusion_matrix(predicted, mask, classes, ignore_index=IGNORE)


def class_iou(confusion: Tensor) -> Tensor:
    """IoU of each class, ``(C, C)`` → ``(C,)`` in float64; NaN where neither mask nor prediction has it.

    Introduced in :doc:`/chapters/02_small_changes`.
    """
    both = confusion.diagonal().double()
    return both / (confusion.sum(0) + confusion.sum(1) - both)


def mean_iou(confusion: Tensor, *, absent: str = "skip") -> float:
    """Mean of :func:`class_iou`; a class that never occurs is left out ("skip") or counts as 0 ("zero").

    Introduced in :doc:`/chapters/02_small_changes`.
    """
    if absent not in ("skip", "zero"):
        raise ValueError(f"absent is 'skip' or 'zero', got {absent!r}")
    ious = class_iou(confusion)
    return float(ious.nanmean() if absent == "skip" else ious.nan_to_num().mean())


def _per_picture(measure: PerPicture) -> Callable[..., Tensor]:
    """Apply a measure of one picture's float64 probability and bool mask to a batch."""

    @wraps(measure)
    def measured(probability: Tensor, mask: Tensor, **settings: float) -> Tensor:
        if probability.ndim != 3 or probability.shape != mask.shape:
            raise ValueError(
                f"needs probabilities and masks of one shape (B, H, W), got {tuple(probability.shape)} and "
                f"{tuple(mask.shape)}"
            )
        p, g = probability.detach().double().cpu().numpy(), (mask == 1).cpu().numpy()
        if not (p.min() >= 0 and p.max() <= 1):  # so that NaN is refused, too
            raise ValueError(f"probabilities are from 0 to 1, got {p.min():g} to {p.max():g}")
        return torch.tensor(
            [measure(a, b, **settings) for a, b in zip(p, g, strict=True)], dtype=torch.float64
        )

    return measured


@_per_picture
def iou(p: np.ndarray, g: np.ndarray, *, threshold: float = 0.5, empty: float = 0.0) -> float:
    """Intersection over union; ``empty`` where neither mask nor prediction has a pixel.

    Introduced in :doc:`/chapters/02_small_changes`.
    """
    p = p > threshold
    union = (p | g).sum()
    return (p & g).sum() / union if union else empty


def areas(probability: Tensor, mask: Tensor, *, threshold: float = 0.5) -> tuple[Tensor, Tensor]:
    """Pixels in both the prediction and the mask, and in either; ``(B, H, W)`` twice → ``(B,)`` twice.

    Introduced in :doc:`/book/other_methods`.
    """
    if probability.ndim != 3 or probability.shape != mask.shape:
        shapes = f"{tuple(probability.shape)} and {tuple(mask.shape)}"
        raise ValueError(f"needs probabilities and masks of one shape (B, H, W), got {shapes}")
    p, g = probability > threshold, mask == 1
    return (p & g).sum((-2, -1)), (p | g).sum((-2, -1))


def overall_iou(intersection: Tensor, union: Tensor) -> float:
    """IoU of all pictures' pixels together, from :func:`areas`: large objects decide.

    The mean of the pictures' own IoU is another number, and often printed beside it under the same name.

    Introduced in :doc:`/book/other_methods`.
    """
    return float(intersection.sum() / union.sum())


def share_above(ious: Tensor, at: float) -> float:
    """Share of the pictures whose IoU is above a bound, not on it: "Pr@0.5" and its like.

    Introduced in :doc:`/book/other_methods`.
    """
    return float((ious > at).double().mean())


@_per_picture
def dice(p: np.ndarray, g: np.ndarray, *, threshold: float = 0.5, empty: float = 0.0) -> float:
    """Twice the intersection over the sum of both areas; ``empty`` as in :func:`iou`.

    Introduced in :doc:`/chapters/02_small_changes`.
    """
    p = p > threshold
    total = p.sum() + g.sum()
    return 2 * (p & g).sum() / total if total else empty


@_per_picture
def ber(p: np.ndarray, g: np.ndarray, *, threshold: float = 125 / 255) -> float:
    """Balanced error: 1 - the mean of both classes' recalls, of which one is 0 for a class without pixels.

    Introduced in :doc:`/chapters/02_small_changes`.
    """
    p = p > threshold
    recalls = [(p & g).sum() / max(g.sum(), 1), (~p & ~g).sum() / max((~g).sum(), 1)]
    return 1 - sum(recalls) / 2


@_per_picture
def mae(p: np.ndarray, g: np.ndarray) -> float:
    """Mean absolute error, once the probabilities of each picture are stretched over [0, 1].

    Introduced in :doc:`/chapters/02_small_changes`.
    """
    return np.abs(_stretched(p) - g).mean()


@_per_picture
def s_measure(p: np.ndarray, g: np.ndarray, *, alpha: float = 0.5) -> float:
    """Likeness of structure, by object and by region :cite:`fan2017smeasure`; probabilities are stretched.

    Introduced in :doc:`/chapters/02_small_changes`.
    """
    p, share = _stretched(p), g.mean()
    if share in (0, 1):
        return p.mean() if share else 1 - p.mean()
    by_object = share * _level(p[g]) + (1 - share) * _level(1 - p[~g])
    row, column = (round(c) + 1 for c in np.argwhere(g).mean(0))  # where four regions meet
    by_region = 0.0
    for rows in (slice(row), slice(row, None)):
        for columns in (slice(column), slice(column, None)):
            part = p[rows, columns], g[rows, columns].astype(float)
            by_region += part[0].size / p.size * _likeness(*part)
    return max(0.0, alpha * by_object + (1 - alpha) * by_region)


def _level(x: np.ndarray) -> float:
    """1 where all of x is 1, and less the lower and the more uneven it is."""
    spread = x.std(ddof=1) if x.size > 1 else 0.0
    return 2 * x.mean() / (x.mean() ** 2 + 1 + spread + TINY)


def _likeness(p: np.ndarray, g: np.ndarray) -> float:
    """Structural similarity of two regions."""
    if not p.size:
        return 0.0
    rest = max(p.size - 1, 1)
    a, b = p - p.mean(), g - g.mean()
    variances = ((a**2).sum() + (b**2).sum()) / rest
    top = 4 * p.mean() * g.mean() * (a * b).sum() / rest
    bottom = (p.mean() ** 2 + g.mean() ** 2) * variances
    if top:
        return top / (bottom + TINY)
    return 0.0 if bottom else 1.0


@_per_picture
def e_measure(p: np.ndarray, g: np.ndarray, *, at: str = "mean") -> float:
    """Enhanced alignment of the cut prediction with the mask :cite:`fan2018emeasure`; stretched first.

    ``at`` is the "mean" over 256 thresholds, their "max", or "adaptive": at twice the mean probability.

    Introduced in :doc:`/chapters/02_small_changes`.
    """
    if at not in ("mean", "max", "adaptive"):
        raise ValueError(f"at is 'mean', 'max' or 'adaptive', got {at!r}")
    p = _stretched(p)
    if at == "adaptive":
        cut = p >= min(2 * p.mean(), 1)
        return float(_alignment(np.array([(cut & g).sum()]), np.array([(cut & ~g).sum()]), g)[0])
    curve = alignment_curve(p, g)
    return curve.mean() if at == "mean" else curve.max()


def alignment_curve(p: np.ndarray, g: np.ndarray) -> np.ndarray:
    """Enhanced alignment at every threshold from 255 down to 0, ``(256,)``; ``p`` in [0, 1], ``g`` bool."""
    levels = (p * 255).astype(np.uint8)
    hits, alarms = (np.bincount(levels[part], minlength=256)[::-1].cumsum() for part in (g, ~g))
    return _alignment(hits, alarms, g)


def _alignment(hits: np.ndarray, alarms: np.ndarray, g: np.ndarray) -> np.ndarray:
    """Enhanced alignment of cut predictions, of which only the areas inside and outside the mask matter."""
    inside, total = g.sum(), g.size
    area = hits + alarms
    if inside == 0:
        aligned = total - area
    elif inside == total:
        aligned = area
    else:
        aligned = 0.0
        for cut, true, count in (
            (1, 1, hits), (1, 0, alarms), (0, 1, inside - hits), (0, 0, total - inside - alarms)
        ):  # fmt: skip
            a, b = cut - area / total, true - inside / total
            aligned = aligned + count * (1 + 2 * a * b / (a * a + b * b + TINY)) ** 2 / 4
    return aligned / (total - 1 + TINY)


@_per_picture
def weighted_f(p: np.ndarray, g: np.ndarray, *, beta2: float = 1.0) -> float:
    """F-measure in which errors near the object weigh less :cite:`margolin2014weightedf`; stretched first.

    Literature on camouflaged objects takes a ``beta2`` of 1, Conv-LoRA's code 0.3.

    Introduced in :doc:`/chapters/02_small_changes`.
    """
    if not g.any():
        return 0.0
    error = np.abs(_stretched(p) - g)
    distance, nearest = ndimage.distance_transform_edt(~g, return_indices=True)
    spread = ndimage.convolve(error[tuple(nearest)], _GAUSSIAN, mode="constant")
    forgiven = np.where(g & (spread < error), spread, error)  # what its surroundings make good
    weight = np.where(g, 1, 2 - 0.5 ** (distance / 5))
    missed, alarms = forgiven[g].sum(), (forgiven * weight)[~g].sum()
    hits = g.sum() - missed
    precision, recall = hits / (hits + alarms + TINY), 1 - missed / g.sum()
    return (1 + beta2) * recall * precision / (recall + beta2 * precision + TINY)


@_per_picture
def boundary_f(p: np.ndarray, g: np.ndarray, *, tolerance: float = 0.008, threshold: float = 0.5) -> float:
    """F-measure of the boundaries' pixels, which match where they are near enough :cite:`perazzi2016davis`.

    ``tolerance`` is a share of the picture's diagonal, rounded up to whole pixels.

    Introduced in :doc:`/chapters/02_small_changes`.
    """
    outlines = [shape & ~ndimage.binary_erosion(shape, border_value=1) for shape in (p > threshold, g)]
    if not all(outline.any() for outline in outlines):
        return float(outlines[0].any() == outlines[1].any())
    reach = np.ceil(tolerance * np.hypot(*p.shape))
    met = [
        (ndimage.distance_transform_edt(~other)[outline] <= reach).mean()
        for outline, other in (outlines, outlines[::-1])
    ]
    return 2 * met[0] * met[1] / (met[0] + met[1]) if sum(met) else 0.0


def _stretched(p: np.ndarray) -> np.ndarray:
    low, high = p.min(), p.max()
    return (p - low) / (high - low) if high > low else p


def _gaussian(size: int = 7, sigma: float = 5.0) -> np.ndarray:
    line = np.exp(-((np.arange(size) - size // 2) ** 2) / (2 * sigma**2))
    return np.outer(line, line) / line.sum() ** 2


_GAUSSIAN = _gaussian()
MEASURES = {f.__name__: f for f in (iou, dice, ber, mae, s_measure, e_measure, weighted_f, boundary_f)}


def binary_scores(probability: Tensor, mask: Tensor, measures: Iterable[str] = MEASURES) -> dict[str, Tensor]:
    """Several measures of a batch by name, ``(B,)`` each.

    Introduced in :doc:`/chapters/02_small_changes`.
    """
    measures = list(measures)
    if unknown := [name for name in measures if name not in MEASURES]:
        raise ValueError(f"there is no measure {unknown[0]!r}; known are {', '.join(MEASURES)}")
    return {name: MEASURES[name](probability, mask) for name in measures}
