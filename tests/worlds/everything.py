"""A task with one of each kind of entry in its batches, for the tests of the cache."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from moe_lib.worlds import camera
from moe_lib.worlds.tasks import Task


@dataclass(frozen=True)
class Everything(Task):
    """Its colours leave the camera's range, so that clipping is there too."""

    size: int = 64
    loud: bool = True

    name: ClassVar[str] = "everything"
    family: ClassVar[str] = "everything"
    classes: ClassVar[tuple[str, ...]] = ("ground", "spot")

    def scene(self, index):
        draws = self.draws(index)
        return {
            "seed": draws.seed(),
            "light": draws.uniform(0, 2, (3, self.size, self.size)),
            "count": draws.integer(0, 4),
            "index": index,
        }

    def render(self, scenes, device):
        light = torch.tensor(
            np.stack([scene["light"] for scene in scenes]), dtype=torch.float32, device=device
        )
        seed = torch.tensor([scene["seed"] for scene in scenes], device=device)
        image = camera.photograph(light * (1 if self.loud else 0.2), seed=seed)
        mask = (light[:, 0] > 1).long()
        mask[:, 0, 0] = 255
        counts = [scene["count"] for scene in scenes]
        return {
            "image": image,
            "mask": mask,
            "instances": (light[:, 1] * 500).long() - 1,
            "sensors": {"rgb": image, "lidar": light.clamp(0, 1)},
            "depth": light[:, 2] * 60,
            "boxes": [torch.rand(c, 4, generator=torch.Generator().manual_seed(c)) for c in counts],
            "labels": [torch.arange(c) for c in counts],
            "point": light[:, :2, 0, 0] * 30,
            "gain": light[:, 0, 0, 0],
            "day": light[:, 0, 0, 0] > 1,
            "text": [f"the scene “{scene['index']}”" for scene in scenes],
        }


def assert_equal(stored, live, *, coarse=("lidar", "depth"), key=""):
    """Equal in type, shape and every bit, except that sensors and depth may be rounded."""
    if isinstance(live, dict):
        assert list(stored) == list(live)
        for name in live:
            assert_equal(stored[name], live[name], coarse=coarse, key=name)
    elif isinstance(live, list):
        assert len(stored) == len(live)
        for one, other in zip(stored, live, strict=True):
            assert_equal(one, other, coarse=coarse, key=key)
    elif isinstance(live, torch.Tensor):
        assert (stored.dtype, stored.shape) == (live.dtype, live.shape), key
        if key in coarse:
            torch.testing.assert_close(
                stored, live, atol=1 / 510 + 1e-6 if key == "lidar" else 0.0, rtol=6e-4
            )
        else:
            assert torch.equal(stored, live), key
    else:
        assert stored == live
