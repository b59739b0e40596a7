"""The four scales at which a chapter runs, and the device it runs on."""

import os
from typing import Any

import torch

SCALES = ("smoke", "pocket", "gpu", "paper")


def at_scale(scale: str, **choices: Any) -> Any:
    """The value that belongs to a scale: ``at_scale(scale, smoke=10, pocket=500, gpu=5000)``.

    A scale that is not named takes the next smaller one that is, so a chapter states a number only where
    it changes.

    Introduced in :doc:`/chapters/00_larger_scale`.
    """
    _check_scale(scale)
    for name in choices:
        _check_scale(name)
    smaller_first = SCALES[: SCALES.index(scale) + 1]
    for name in reversed(smaller_first):
        if name in choices:
            return choices[name]
    raise ValueError(
        f"nothing is said for scale {scale!r} or a smaller one, only for {', '.join(choices) or 'none'}"
    )


def pick_device(device: str = "auto") -> torch.device:
    """The device to run on: ``"auto"`` takes what MOE_DEVICE names, or else a GPU where there is one.

    Introduced in :doc:`/chapters/00_larger_scale`.
    """
    if device == "auto":
        device = os.environ.get(
            "MOE_DEVICE", "auto"
        )  # the runner's word: committed outputs are made on a CPU
    present = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if device == "auto":
        return torch.device(next(name for name in ("cuda", "mps", "cpu") if present[name]))
    kind = str(device).split(":")[0]
    if not present.get(kind, False):
        here = ", ".join(["auto", *(name for name, there in present.items() if there)])
        raise ValueError(f"device {device!r} is not to be had on this machine; possible here: {here}")
    return torch.device(device)


def _check_scale(scale: str) -> None:
    if scale not in SCALES:
        raise ValueError(f"unknown scale {scale!r}; possible: {', '.join(SCALES)}")
