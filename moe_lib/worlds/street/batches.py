"""Batches of streets: boxes, joining, merged classes, and sensors that go missing."""

from collections.abc import Sequence

import torch
from torch import Tensor

from moe_lib.worlds import camera
from moe_lib.worlds.street.solids import CLASS, CLASSES
from moe_lib.worlds.tasks import Batch

MERGED = tuple("car" if name == "car_parked" else name for name in CLASSES if name != "car_moving")


def keep_sensors(batch: Batch, kept: Sequence[str], missing: str = "drop") -> Batch:
    """The batch as it is when only some of its sensors work.

    Args:
        batch: A batch with ``sensors``.
        kept: The sensors that are left.
        missing: ``"drop"`` takes the others away; ``"zero"`` keeps them as black pictures. Scores under
            the two conventions differ and must not share a table.

    ``image`` is the picture of ``rgb``: it goes black, or away, with it.

    Introduced in :doc:`/chapters/pocket_world`.
    """
    sensors = batch["sensors"]
    unknown = [name for name in kept if name not in sensors]
    if isinstance(kept, str) or unknown or not kept:
        raise ValueError(f"kept is a list of some of {', '.join(sensors)}; got {kept!r}")
    if missing not in ("drop", "zero"):
        raise ValueError(f"missing is 'drop' or 'zero', got {missing!r}")
    found = dict(batch)
    if missing == "drop":
        found["sensors"] = {name: picture for name, picture in sensors.items() if name in kept}
    else:
        found["sensors"] = {n: p if n in kept else torch.zeros_like(p) for n, p in sensors.items()}
    if "rgb" not in kept and "image" in found:
        if missing == "drop":
            del found["image"]
        else:
            found["image"] = torch.zeros_like(found["image"])
    return found


def merged(classes: Tensor) -> Tensor:
    """Numbers in ``CLASSES`` → numbers in ``MERGED``, where parked and moving cars are one class."""
    return classes - (classes >= CLASS["car_moving"]).to(classes.dtype)


def boxes_and_sizes(instances: Tensor, counts: list[int]) -> tuple[list[Tensor], list[Tensor]]:
    """Tight boxes ``(n, 4)`` and visible pixels ``(n,)`` of each street's instances; zeros for the unseen.

    ``instances`` is ``(B, H, W)``; street ``b`` has the numbers 1 … ``counts[b]``.
    """
    size, device, total = instances.shape[-1], instances.device, sum(counts)
    first = torch.tensor([sum(counts[:b]) for b in range(len(counts))], device=device).view(-1, 1, 1)
    place = torch.where(instances > 0, instances - 1 + first, total).flatten()
    here = torch.arange(size, device=device)
    column = here.expand_as(instances).flatten()
    line = here[:, None].expand_as(instances).flatten()

    def extreme(values: Tensor, start: int, how: str) -> Tensor:
        found = torch.full((total + 1,), start, device=device)
        return found.scatter_reduce_(0, place, values, how)[:total]

    pixels = torch.zeros(total + 1, dtype=torch.int64, device=device)
    pixels = pixels.scatter_add_(0, place, torch.ones_like(place))[:total]
    low = [extreme(values, size, "amin") for values in (column, line)]
    high = [extreme(values, -1, "amax") + 1 for values in (column, line)]
    boxes = torch.where(pixels[:, None] > 0, torch.stack([*low, *high], 1), 0).float()
    return list(boxes.split(counts)), list(pixels.split(counts))


def joined(parts: list[Batch]) -> Batch:
    """Several batches as one."""

    def join(values: list):
        if isinstance(values[0], dict):
            return {name: join([value[name] for value in values]) for name in values[0]}
        if isinstance(values[0], Tensor):
            return camera.joined(values)
        return [item for value in values for item in value]

    return join(parts)
