"""What is in a scene: random numbers that depend on the scene's name and on nothing else.

A scene is named by (world version, family, split, index). Its numbers come from a counter-based generator
:cite:`salmon2011philox` with that name as the key, so the thousandth scene is the same whether or not 999
others were made before it, in any batch, thread or process.

Only the raw 64-bit words of NumPy's Philox are used: these are promised to stay as they are, while the
recipes that turn them into numbers may change between versions of NumPy; so the recipes are here.
"""

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np

WORLD = 1  # version of the world: a new one is a new set of scenes
SPLITS = ("pretrain", "pretrain_val", "train", "val", "test")

_BLOCK = 256  # raw words fetched at a time


class Draws:
    """Random numbers of one scene.

    Args:
        family: Which kind of scene; tasks that share their scenes share the family.
        split: One of ``SPLITS``. No two splits, and no two families, share a scene.
        index: Number of the scene within its split, from 0.
        part: Numbers for another purpose of the same scene, which leave the scene's own untouched.

    Introduced in :doc:`/chapters/pocket_world`.
    """

    def __init__(self, family: str, split: str, index: int, *, part: str = "scene"):
        if split not in SPLITS:
            raise ValueError(f"unknown split {split!r}; possible: {', '.join(SPLITS)}")
        if not 0 <= index < 2**63:
            raise ValueError(f"a scene's index is a whole number from 0 on, got {index!r}")
        key = np.array([stream(family, split, part), index], dtype=np.uint64)
        self._words = np.random.Philox(key=key)
        self._block, self._used = np.empty(0), 0

    def uniform(self, low: float = 0.0, high: float = 1.0, size: int | tuple[int, ...] | None = None):
        """Evenly between ``low`` and ``high``: a float, or an array of the given size."""
        if size is None:
            return low + (high - low) * float(self._take(1)[0])
        return low + (high - low) * self._take(int(np.prod(size))).reshape(size)

    def normal(self, mean: float = 0.0, sd: float = 1.0, size: int | tuple[int, ...] | None = None):
        """Nearly Gaussian: twelve uniform numbers added, so that no logarithm's rounding matters."""
        count = 1 if size is None else int(np.prod(size))
        values = mean + sd * (self._take(12 * count).reshape(count, 12).sum(1) - 6)
        return float(values[0]) if size is None else values.reshape(size)

    def integer(self, low: int, high: int) -> int:
        """A whole number, ``low`` ≤ number < ``high``."""
        if high <= low:
            raise ValueError(f"no whole number lies in [{low}, {high})")
        return low + int((high - low) * float(self._take(1)[0]))

    def chance(self, p: float) -> bool:
        """True with probability ``p``."""
        return bool(self._take(1)[0] < p)

    def choice(self, items: Sequence[Any]) -> Any:
        """One of the items, each as likely."""
        return items[self.integer(0, len(items))]

    def shuffled(self, items: Sequence[Any]) -> list[Any]:
        """The items in a random order."""
        order = np.argsort(self._take(len(items)), kind="stable")
        return [items[i] for i in order]

    def seed(self) -> int:
        """A seed for noise that is drawn pixel by pixel (``moe_lib.worlds.noise``)."""
        return self.integer(0, 2**31)

    def _take(self, count: int) -> np.ndarray:
        """The next numbers in [0, 1), 53 bits each; ``(count,)``."""
        if self._used + count > len(self._block):
            fresh = self._words.random_raw(max(_BLOCK, count)) >> np.uint64(11)
            self._block = np.concatenate([self._block[self._used :], fresh * 2.0**-53])
            self._used = 0
        self._used += count
        return self._block[self._used - count : self._used]


def stream(family: str, split: str, part: str = "scene") -> int:
    """The first word of a scene's key: one number per world version, family, split and part."""
    name = f"{WORLD}/{family}/{split}/{part}"
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little")
