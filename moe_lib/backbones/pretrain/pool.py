"""The scenes of pretraining, rendered once by all cores and then held in memory."""

import os
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from moe_lib.backbones.clicks import Scenes
from moe_lib.worlds.cache import places
from moe_lib.worlds.generic import Generic

CHUNK = 64  # scenes rendered at a time
MOST = 16  # objects of a scene


@dataclass(frozen=True)
class Pool:
    """Scenes as they lie in memory.

    ``image`` (n, 3, H, W) and ``instances`` (n, H, W), both uint8; ``visible`` (n, I).
    """

    image: Tensor
    instances: Tensor
    visible: Tensor

    def __len__(self) -> int:
        return len(self.image)

    def to(self, device: torch.device) -> "Pool":
        return Pool(self.image.to(device), self.instances.to(device), self.visible.to(device))

    def scenes(self, rows: Tensor) -> Scenes:
        """These rows ``(B,)``, ready for a model."""
        rows = rows.to(self.image.device)
        image, instances = self.image[rows], self.instances[rows]
        return Scenes(image.float() / 255, instances.long(), self.visible[rows])

    def parts(self, size: int = 64) -> list[Scenes]:
        """All scenes, some at a time."""
        return [self.scenes(rows) for rows in torch.arange(len(self)).split(size)]


def pool(split: str, n: int, size: int = 96, *, folder: str | Path | None = None) -> Pool:
    """The first scenes of the ``generic`` stream, from the cache or rendered with a progress bar."""
    task = Generic(split, n, size)
    name = places.file_name(task, places.code_of(Generic)).removesuffix(places.ENDING)
    path = places.cache_folder(folder) / f"{name}.pool"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(f".{os.getpid()}.tmp")
        save_file(_rendered(task), unfinished)
        unfinished.replace(path)
    return Pool(**load_file(path))


def _rendered(task: Generic) -> dict[str, Tensor]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    n, size = len(task), task.size
    whole = {
        "image": torch.empty(n, 3, size, size, dtype=torch.uint8),
        "instances": torch.empty(n, size, size, dtype=torch.uint8),
        "visible": torch.zeros(n, MOST),
    }
    loader = DataLoader(_Chunks(task), batch_size=None, num_workers=min(cores, -(-n // CHUNK)))
    with tqdm(total=n, desc=f"Rendering {task.split}", unit="scene", delay=2, disable=None) as bar:
        start = 0
        for chunk in loader:
            rows = slice(start, start + len(chunk["image"]))
            for key, values in chunk.items():
                whole[key][rows] = values
            start = rows.stop
            bar.update(len(chunk["image"]))
    return whole


class _Chunks(Dataset):
    """A task, some scenes at a time, in the numbers that a pool keeps."""

    def __init__(self, task: Generic):
        self.task = task

    def __len__(self) -> int:
        return -(-len(self.task) // CHUNK)

    def __getitem__(self, chunk: int) -> dict[str, Tensor]:
        torch.set_num_threads(1)  # there is a process per core
        start = chunk * CHUNK
        batch = self.task.batch(range(start, min(start + CHUNK, len(self.task))))
        visible = torch.zeros(len(batch["image"]), MOST)
        for row, shares in zip(visible, batch["visible"], strict=True):
            row[: len(shares)] = shares
        return {
            "image": (batch["image"] * 255).round().byte(),
            "instances": batch["instances"].byte(),
            "visible": visible,
        }
