"""Some streets at some instants, as far as light and geometry go, and what each sensor makes of them."""

from collections.abc import Sequence

import torch
from torch import Tensor

from moe_lib.worlds.street import sensors as sensing
from moe_lib.worlds.street.appearance import classes, paint
from moe_lib.worlds.street.cast import nearest
from moe_lib.worlds.street.heat import temperature
from moe_lib.worlds.street.light import radiance
from moe_lib.worlds.street.scene import Scene
from moe_lib.worlds.street.stage import set_up
from moe_lib.worlds.street.surface import surfaces


class View:
    """What there is to see of ``B`` streets; ``instants`` end with 0, the time of the picture."""

    def __init__(self, scenes: list[Scene], size: int, instants: Sequence[float], device: torch.device):
        self.scenes = scenes
        self.stage = set_up(scenes, size, instants, device)
        hits, self.silhouettes = nearest(self.stage)
        self.surface = surfaces(self.stage, hits)
        self.paint = paint(self.stage, self.surface)
        self.light, self.sun = radiance(self.stage, self.surface, self.paint)

    def picture(self) -> Tensor:
        """The light of the last instant, ``(B, 3, H, W)``."""
        return self.light[:, -len(self.scenes) :].transpose(0, 1)

    def depth(self) -> Tensor:
        """Planar depth in metres, 0 is sky; ``(B, H, W)``."""
        return self._last(self.surface.depth)

    def mask(self) -> Tensor:
        """Classes, ``(B, H, W)``."""
        return self._last(classes(self.surface, self.paint))

    def instances(self) -> Tensor:
        """Numbers of instances, 0 for none; ``(B, H, W)``."""
        nothing = torch.zeros_like(self.surface.depth)
        return self._last(self.surface.painted(nothing, self.surface.solid.get("instance"))).to(torch.int64)

    def sense(self, sensor: str, image: Tensor, *, depth_mode: str = "exact", noisy: bool = True) -> Tensor:
        """The picture of one sensor, ``(B, 3, H, W)``; ``image`` is that of the colour camera."""
        surface, last, scenes = self.surface, self._last, self.scenes
        if sensor == "rgb":
            return image
        if sensor == "depth":
            depth = self.depth()
            if depth_mode == "stereo":
                depth = sensing.stereo(scenes, depth, image, self.stage.focal)
            return sensing.depth(depth, last(surface.normal[1]))
        if sensor == "event":
            light = self.light.mean(0)
            return sensing.event(scenes, light.view(-1, len(scenes), *light.shape[1:]), noisy=noisy)
        if sensor == "lidar":
            meets = sum(last(n) * last(t) for n, t in zip(surface.normal, surface.toward, strict=True))
            albedo = sum(last(a) for a in self.paint.albedo) * (1 / 3)
            return sensing.lidar(scenes, last(surface.distance), albedo, (-meets).clamp(0.05, 1), noisy=noisy)
        warm = temperature(self.stage, surface, self.paint, self.sun)
        return sensing.thermal(scenes, warm, last(surface.distance), noisy=noisy)

    def _last(self, pictures: Tensor) -> Tensor:
        return pictures[-len(self.scenes) :]
