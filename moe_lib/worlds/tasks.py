"""What a task is: a stream of scenes, a list of classes, and one batch form.

Batch form: ``image`` float32 (B, 3, H, W) in [0, 1]; ``mask`` int64 (B, H, W), 255 = ignore; and where the
task has them ``instances``, ``boxes``, ``labels``, ``visible``, ``depth``, ``sensors``, ``text``, ``point``.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from moe_lib.worlds.draws import SPLITS, Draws

Batch = dict[str, Any]
SMALLEST, LARGEST = 64, 256  # pixels a side


@dataclass(frozen=True)
class Task:
    """A stream of scenes of one kind; the base of every task of the world.

    Args:
        split: ``"train"``, ``"val"`` or ``"test"``; ``"pretrain"`` and ``"pretrain_val"`` for pretraining. No
            scene is in two splits.
        n: How many scenes the data set has. The stream has no end: any index may be asked for.
        size: Pixels a side, 64 to 256. The same index is the same scene at every size.

    A subclass gives ``name``, ``family``, ``classes``, :meth:`scene` and :meth:`render`; further options of
    the task are further fields.

    Introduced in :doc:`/chapters/pocket_world`.
    """

    split: str = "train"
    n: int = 1000
    size: int = 96

    name: ClassVar[str]
    family: ClassVar[str]  # tasks of one family show the same scenes
    classes: ClassVar[tuple[str, ...]]

    def __post_init__(self):
        if self.split not in SPLITS:
            raise ValueError(f"unknown split {self.split!r}; possible: {', '.join(SPLITS)}")
        if self.n < 1:
            raise ValueError(f"a data set has at least one scene, got n={self.n!r}")
        if not SMALLEST <= self.size <= LARGEST or self.size % 8:
            raise ValueError(f"size is {SMALLEST} to {LARGEST} pixels in steps of 8, got {self.size!r}")

    def draws(self, index: int, *, part: str = "scene") -> Draws:
        """The random numbers of a scene."""
        return Draws(self.family, self.split, index, part=part)

    def scene(self, index: int) -> Any:
        """What is in a scene, decided by NumPy alone."""
        raise NotImplementedError

    def render(self, scenes: Sequence[Any], device: torch.device) -> Batch:
        """The batch that shows these scenes, rendered by torch."""
        raise NotImplementedError

    def batch(self, indices: Iterable[int], device: str | torch.device = "cpu") -> Batch:
        """The scenes of these indices as one batch."""
        indices = [int(index) for index in indices]
        if not indices:
            raise ValueError("a batch needs at least one index")
        return self.render([self.scene(index) for index in indices], torch.device(device))

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, index: int) -> Batch:
        """One scene, without the batch axis."""
        if not -self.n <= index < self.n:
            raise IndexError(f"scene {index} of {self.n}")
        return unbatched(self.batch([index % self.n]))

    def options(self) -> dict[str, Any]:
        """Everything that decides what the scenes look like, for a cache or a record of results."""
        return {"task": self.name, **asdict(self)}


def unbatched(batch: Batch) -> Batch:
    """The only sample of a batch of one."""

    def first(value: Any) -> Any:
        return {k: first(v) for k, v in value.items()} if isinstance(value, dict) else value[0]

    return {key: first(value) for key, value in batch.items()}


def boxes_of(instances: Tensor, count: int) -> Tensor:
    """Tight boxes of the ids 1 … ``count`` in ``(…, H, W)``: ``(…, count, 4)``.

    A box is x0, y0, x1, y1, ends exclusive; zeros for an instance of which nothing is seen.
    """
    height, width = instances.shape[-2:]
    ids = instances.flatten(-2)  # (…, pixels)
    place = torch.arange(height * width, device=ids.device)
    first, last = [], []
    for at, end in ((place % width, width), (place // width, height)):
        unseen, at = ids.new_full((*ids.shape[:-1], count + 1), end), at.expand_as(ids)
        first.append(unseen.scatter_reduce(-1, ids, at, "amin"))
        last.append((unseen * 0).scatter_reduce(-1, ids, at + 1, "amax"))
    boxes = torch.stack([*first, *last], -1)[..., 1:, :]
    return torch.where(boxes[..., 2:3] > 0, boxes, 0).float()
