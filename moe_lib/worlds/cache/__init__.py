"""Scenes rendered once and kept: a data set on disk that hands out the batches its task would render."""

import warnings
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from moe_lib.worlds.cache import places
from moe_lib.worlds.cache.places import clear_cache, kept
from moe_lib.worlds.cache.records import NotWhole, from_bytes, pack, to_bytes, unpack
from moe_lib.worlds.tasks import Batch, Task, unbatched

__all__ = ["Stored", "clear_cache", "kept", "materialise"]

CHUNK = 64  # scenes rendered at a time: the more, the less each costs; the fewer, the finer the bar


@dataclass(frozen=True, eq=False, repr=False)
class Stored:
    """A task's scenes, rendered; used like the :class:`~moe_lib.worlds.Task` itself.

    Everything is equal to the live task's, bit for bit, except ``sensors``, which are kept with 8 bits, and
    ``depth``, kept as float16. Made by :func:`materialise`.

    Introduced in :doc:`/chapters/pocket_world`.
    """

    task: Task
    records: list[bytes]
    layout: list[list]

    @property
    def name(self) -> str:
        return self.task.name

    @property
    def classes(self) -> tuple[str, ...]:
        return self.task.classes

    def options(self) -> dict[str, Any]:
        """The task's options: everything that decides what the scenes look like."""
        return self.task.options()

    def batch(self, indices: Iterable[int], device: str | torch.device = "cpu") -> Batch:
        """The scenes of these indices as one batch."""
        indices = [int(index) for index in indices]
        if not indices:
            raise ValueError("a batch needs at least one index")
        if outside := [index for index in indices if not 0 <= index < len(self)]:
            raise IndexError(f"scene {outside[0]} of {len(self)} stored ones")
        return unpack([self.records[index] for index in indices], self.layout, torch.device(device))

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> Batch:
        """One scene, without the batch axis."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"scene {index} of {len(self)}")
        return unbatched(self.batch([index % len(self)]))

    def __repr__(self) -> str:
        return f"Stored({self.task!r}, {sum(map(len, self.records)) / 1e6:.1f} MB)"


def materialise(
    task: Task | str, split: str | None = None, n: int | None = None, *, folder: str | Path | None = None,
    progress: bool = True, **options: Any,
) -> Stored:  # fmt: skip
    """Render a task's scenes once and keep them; the next call opens what was kept.

    Args:
        task: A task, or the name of one: ``materialise("roads", "train", 800, size=96)``.
        split, n, options: Of the task, where it is given by name.
        folder: Where to keep it; otherwise the folder that ``MOE_CACHE`` names, or the user's cache folder.
        progress: Show a progress bar if it takes more than two seconds, unless ``TQDM_DISABLE`` is 1.

    A kept data set is found again as long as the task's options and the code that draws its scenes are the
    same; one that is damaged is rendered anew. A task whose code is in no file, such as one defined in a
    notebook, is rendered but not kept.

    Introduced in :doc:`/chapters/pocket_world`.
    """
    task = _given(task, split, n, options)
    code = places.code_of(type(task))
    if code is None:
        return Stored(task, *_rendered(task, progress))
    folder = places.cache_folder(folder)
    path = folder / places.file_name(task, code)
    try:
        return Stored(task, *from_bytes(path.read_bytes()))
    except (FileNotFoundError, NotADirectoryError):
        pass
    except NotWhole as problem:
        warnings.warn(f"{path}: {problem}; rendering these scenes anew", stacklevel=2)
    places.check_writable(folder)
    records, layout = _rendered(task, progress)
    try:
        places.write(path, to_bytes(records, layout))
    except OSError as error:
        warnings.warn(
            f"{path} could not be written ({error.strerror}); these scenes are not kept", stacklevel=2
        )
    return Stored(task, records, layout)


def _given(task: Task | str, split: str | None, n: int | None, options: dict[str, Any]) -> Task:
    if isinstance(task, Task):
        if split is not None or n is not None or options:
            raise ValueError(f"{task!r} has its split, n and options already")
        return task
    from moe_lib.worlds import catalogue  # whose tasks this package must not need in order to be imported

    if split is None or n is None:
        raise ValueError(f"a task given by name needs a split and n: materialise({task!r}, 'train', 800)")
    return catalogue.task(task, split, n, **options)


def _rendered(task: Task, progress: bool) -> tuple[list[bytes], list[list]]:
    """All scenes, on all cores: by threads, since a task defined in a notebook reaches no other process."""

    def chunk(start: int) -> tuple[list[bytes], list[list]]:
        return pack(task.batch(range(start, min(start + CHUNK, task.n))))

    records: list[bytes] = []
    layout: list[list] = []
    with _one_core_each() as pool, _bar(task, progress) as bar:
        for packed, here in pool.map(chunk, range(0, task.n, CHUNK)):
            layout = layout or here
            if here != layout:
                raise ValueError(f"the batches of {task!r} differ in what they hold: {layout}, then {here}")
            records += packed
            bar.update(len(packed))
    return records, layout


@contextmanager
def _one_core_each() -> Iterator[ThreadPoolExecutor]:
    """A pool with a thread per core, each of which lets torch use that core only."""
    threads_of_torch = torch.get_num_threads()
    pool = ThreadPoolExecutor(threads_of_torch, initializer=torch.set_num_threads, initargs=(1,))
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads_of_torch)


def _bar(task: Task, progress: bool):
    """A progress bar that shows itself after two seconds; TQDM_DISABLE=1 in the environment keeps it away."""
    try:
        from tqdm import tqdm
    except ModuleNotFoundError:
        progress = False
    if not progress:
        return nullcontext(SimpleNamespace(update=lambda count: None))
    return tqdm(total=task.n, desc=f"Rendering {task.name}, {task.split}", unit="scene", delay=2, leave=False)
