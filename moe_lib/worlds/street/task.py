"""``multimodal``: semantic segmentation of streets with five sensors, weather and corner cases."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F

from moe_lib.worlds.street import conditions as weathers
from moe_lib.worlds.street import sensors as sensing
from moe_lib.worlds.street.batches import MERGED, boxes_and_sizes, joined, merged
from moe_lib.worlds.street.scene import Scene, street
from moe_lib.worlds.street.solids import CLASSES
from moe_lib.worlds.street.view import View
from moe_lib.worlds.tasks import Batch, Task


@dataclass(frozen=True)
class Street(Task):
    """Streets seen by several sensors, in any weather.

    Args:
        sensors: Which sensors to render, of ``"rgb"``, ``"depth"``, ``"event"``, ``"lidar"``, ``"thermal"``.
        weather: ``"sun"``, ``"cloud"``, ``"fog"``, ``"rain"`` or ``"night"``; None: they take turns.
        case: ``"none"``, ``"motion_blur"``, ``"over_exposure"``, ``"under_exposure"``, ``"lidar_jitter"`` or
            ``"event_low_res"``; None: they take turns.
        depth_mode: ``"exact"``, or ``"stereo"`` for a depth sensor that fails without texture or light. The
            batch's own ``depth`` is exact in either case.
        merge_moving: Make one class of moving and parked cars, for experiments without events.
        night: ``"hard"``, or ``"spec"`` for a better camera, whose nights are hardly harder than days.
        instants: At how many instants the event camera compares the light. Two are as good as more at telling
            moving cars from parked ones, and quicker; four count a sixth more events.
        samples: Rays per pixel and axis for ``image``; masks always show the ray through the pixel's centre.

    The batch also has ``weather`` and ``case``, lists of str. The same index is the same street, with the
    same labels, whatever the options are.

    Introduced in :doc:`/chapters/pocket_world`.
    """

    sensors: tuple[str, ...] = sensing.SENSORS
    weather: str | None = None
    case: str | None = None
    depth_mode: str = "exact"
    merge_moving: bool = False
    night: str = "hard"
    instants: int = 2
    samples: int = 1

    name: ClassVar[str] = "multimodal"
    family: ClassVar[str] = "street"
    classes: ClassVar[tuple[str, ...]] = CLASSES

    def __post_init__(self):
        super().__post_init__()
        known = ", ".join(sensing.SENSORS)
        unknown = [name for name in self.sensors if name not in sensing.SENSORS]
        if isinstance(self.sensors, str) or unknown or not self.sensors:
            raise ValueError(f"sensors is a tuple of some of {known}; got {self.sensors!r}")
        if len(set(self.sensors)) < len(self.sensors):
            raise ValueError(f"a sensor is named twice: {self.sensors!r}")
        object.__setattr__(self, "sensors", tuple(self.sensors))
        for name, value, possible in (
            ("weather", self.weather, (None, *weathers.WEATHERS)),
            ("case", self.case, (None, *weathers.CASES)),
            ("depth_mode", self.depth_mode, ("exact", "stereo")),
            ("night", self.night, tuple(weathers.NIGHTS)),
        ):
            if value not in possible:
                raise ValueError(f"{name} is one of {', '.join(map(str, possible))}; got {value!r}")
        if not 2 <= self.instants <= 16:
            raise ValueError(f"events need 2 to 16 instants, got instants={self.instants!r}")
        if not 1 <= self.samples <= 4:
            raise ValueError(f"samples is 1 to 4, got {self.samples!r}")
        if self.merge_moving:
            object.__setattr__(self, "classes", MERGED)

    def conditions(self, index: int) -> weathers.Conditions:
        """Under what conditions a scene is seen."""
        weather, case = weathers.turn(index)
        return weathers.conditions(
            self.draws(index, part="conditions"), self.weather or weather, self.case or case, self.night
        )

    def scene(self, index: int) -> Scene:
        return street(self.draws(index), self.conditions(index))

    def render(self, scenes: Sequence[Scene], device: torch.device) -> Batch:
        # Few scenes at a time, so that what is being worked on stays in the processor's cache.
        at_once = 4 if device.type == "cpu" else 128
        at_once = max(1, at_once * 96 * 96 // (self.size * self.samples) ** 2)
        parts = [self._render(list(scenes[i : i + at_once]), device) for i in range(0, len(scenes), at_once)]
        return parts[0] if len(parts) == 1 else joined(parts)

    @torch.no_grad()
    def _render(self, scenes: list[Scene], device: torch.device) -> Batch:
        instants = (
            [k / (self.instants - 1) - 1 for k in range(self.instants)] if "event" in self.sensors else [0]
        )
        view = View(scenes, self.size, instants, device)
        light = view.picture()
        if self.samples > 1:
            light = F.avg_pool2d(View(scenes, self.size * self.samples, [0], device).picture(), self.samples)
        image = sensing.rgb(scenes, light)
        mask, instances = view.mask(), view.instances()
        labels = [torch.from_numpy(scene.labels).to(device) for scene in scenes]
        boxes, pixels = boxes_and_sizes(instances, [len(scene.labels) for scene in scenes])
        if self.merge_moving:
            mask, labels = merged(mask), [merged(part) for part in labels]
        return {
            "image": image,
            "mask": mask,
            "instances": instances,
            "boxes": boxes,
            "labels": labels,
            "visible": [
                seen / size.clamp(min=1) for seen, size in zip(pixels, view.silhouettes, strict=True)
            ],
            "depth": view.depth(),
            "sensors": {name: view.sense(name, image, depth_mode=self.depth_mode) for name in self.sensors},
            "weather": [scene.weather for scene in scenes],
            "case": [scene.case for scene in scenes],
        }
