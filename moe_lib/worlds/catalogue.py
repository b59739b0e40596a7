"""Every task of the world, by name."""

from dataclasses import fields
from typing import Any

from moe_lib.worlds.domains.camouflage import Camouflage
from moe_lib.worlds.domains.cells import Cells
from moe_lib.worlds.domains.glass import Glass
from moe_lib.worlds.domains.leaves import Leaves
from moe_lib.worlds.domains.lesions import Lesions
from moe_lib.worlds.domains.polyps import Polyps
from moe_lib.worlds.domains.roads import Roads
from moe_lib.worlds.domains.shadows import Shadows
from moe_lib.worlds.generic import Generic
from moe_lib.worlds.referring import Referring
from moe_lib.worlds.street import Street
from moe_lib.worlds.tabletop import Instances, Panoptic, Semantic
from moe_lib.worlds.tasks import Task

DOMAINS: tuple[type[Task], ...] = (Roads, Cells, Polyps, Lesions, Leaves, Shadows, Camouflage, Glass)
"""The binary special domains."""

TASKS: dict[str, type[Task]] = {
    kind.name: kind for kind in (Generic, *DOMAINS, Semantic, Instances, Panoptic, Street, Referring)
}
"""Name → task."""


def task(name: str, split: str = "train", n: int = 1000, size: int = 96, **options: Any) -> Task:
    """A task by its name: ``task("roads", "val", 200, size=96)``.

    Args:
        name: One of ``TASKS``: generic; roads, cells, polyps, lesions, leaves, shadows, camouflage, glass;
            semantic, instances, panoptic; multimodal; referring.
        split, n, size: As for every :class:`Task`.
        options: Of that task, such as ``grade`` of camouflage or ``weather`` of multimodal.

    Introduced in :doc:`/chapters/pocket_world`.
    """
    if name not in TASKS:
        raise ValueError(f"unknown task {name!r}; possible: {', '.join(TASKS)}")
    try:
        return TASKS[name](split=split, n=n, size=size, **options)
    except TypeError as error:
        possible = sorted({field.name for field in fields(TASKS[name])} - {"split", "n", "size"})
        raise TypeError(f"{error}; options of {name!r}: {', '.join(possible) or 'none'}") from None
