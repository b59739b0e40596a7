"""The base of every task that is painted in layers."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from moe_lib.worlds import camera, layers
from moe_lib.worlds.tasks import Batch, Task, boxes_of


@dataclass(frozen=True)
class Layered(Task):
    """A task whose scenes are painted in layers: a subclass says what is in a :class:`Scene`, and no more.

    Introduced in :doc:`/chapters/pocket_world`.
    """

    def scene(self, index: int) -> layers.Scene:
        raise NotImplementedError

    def render(self, scenes: Sequence[layers.Scene], device: torch.device) -> Batch:
        painted = layers.render(scenes, self.size, device)
        return {"image": self.photograph(painted, scenes), "mask": painted["label"]}

    def photograph(self, painted: dict, scenes: Sequence[layers.Scene]) -> torch.Tensor:
        device = painted["radiance"].device
        return camera.photograph(
            painted["radiance"],
            seed=torch.tensor([scene.seed for scene in scenes], dtype=torch.int32, device=device),
            exposure=torch.tensor([scene.exposure for scene in scenes], device=device),
            full_well=torch.tensor([scene.full_well for scene in scenes], device=device),
        )


def things(painted: dict, counts: Sequence[int]) -> Batch:
    """``instances``, ``boxes``, ``visible`` and ``depth`` of a painted batch with so many instances each."""
    instances, whole, most = painted["instances"], painted["silhouettes"], max(counts)
    ids = instances.flatten(1)
    seen = ids.new_zeros(len(ids), most + 1).scatter_add_(1, ids, torch.ones_like(ids))[:, 1:]
    whole = F.pad(whole, (0, max(0, most - whole.shape[1])))[:, :most]
    every = {"boxes": boxes_of(instances, most), "visible": seen / whole.clamp(1)}
    parts = {
        key: [row[:count] for row, count in zip(rows, counts, strict=True)] for key, rows in every.items()
    }
    return {"instances": instances, **parts, "depth": painted["depth"]}
