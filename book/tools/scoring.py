"""Scores of predicted masks, for the table of the world's difficulty.

N images each: truth and prediction are integer class maps ``(N, H, W)``; 255 in the truth is ignored.
"""

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

IGNORE = 255


def foreground_iou(truth: Tensor, predicted: Tensor) -> Tensor:
    """IoU of class 1, image by image: ``(N,)``. Nothing there and nothing found counts 1."""
    counted = truth != IGNORE
    truth, predicted = (truth == 1) & counted, (predicted == 1) & counted
    overlap = (truth & predicted).sum((1, 2))
    union = (truth | predicted).sum((1, 2))
    return torch.where(union > 0, overlap / union.clamp(min=1), 1.0)


def confusion(truth: Tensor, predicted: Tensor, classes: int) -> Tensor:
    """Pixels of true class i that were called j: ``(classes, classes)``."""
    counted = truth != IGNORE
    pair = truth[counted].long() * classes + predicted[counted].long()
    return torch.bincount(pair, minlength=classes**2).view(classes, classes)


def class_iou(truth: Tensor, predicted: Tensor, classes: int) -> Tensor:
    """IoU of each class over all pixels of the data set, NaN for one that never occurs: ``(classes,)``."""
    table = confusion(truth, predicted, classes).double()
    there, called, both = table.sum(1), table.sum(0), table.diag()
    return torch.where(there > 0, both / (there + called - both), torch.nan)


def score(truth: Tensor, predicted: Tensor, classes: int) -> float:
    """The task's one number: with two classes the mean over images of the foreground's IoU, else mIoU."""
    if classes == 2:
        return float(foreground_iou(truth, predicted).mean())
    return float(class_iou(truth, predicted, classes).nanmean())


def objects_f1(instances: Tensor, predicted: Tensor, things: list[int]) -> float:
    """F1 of finding objects (IoU > 0.5) when each connected patch of a thing's class counts as one object.

    Args:
        instances: ``(N, H, W)``, 0 = none.
        predicted: Class maps ``(N, H, W)``.
        things: The classes whose members are counted.
    """
    found, proposed, there = 0, 0, 0
    for truth, classes in zip(instances.numpy(), predicted.numpy(), strict=True):
        there += np.count_nonzero(np.unique(truth))
        for thing in things:
            patches, count = ndimage.label(classes == thing)
            proposed += count
            # Only one object can share more than half of the union with a patch: nothing counts twice.
            for number, window in enumerate(ndimage.find_objects(patches), start=1):
                patch = patches[window] == number
                ids, sizes = np.unique(truth[window][patch], return_counts=True)
                best = int(np.argmax(np.where(ids > 0, sizes, 0)))
                if ids[best] > 0:
                    union = patch.sum() + np.count_nonzero(truth == ids[best]) - sizes[best]
                    found += sizes[best] / union > 0.5
    return 2 * found / max(proposed + there, 1)
