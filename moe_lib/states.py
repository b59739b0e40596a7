"""Named tensors: how two sets of them differ, in words; and files that are whole or not there."""

import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from torch import Tensor

SHOWN = 3  # names in a message


def differences(expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> str:
    """In which names and shapes one state differs from another, as one sentence; empty where in none."""
    missing = [name for name in expected if name not in found]
    surplus = [name for name in found if name not in expected]
    shaped = [
        f"{name} has {tuple(found[name].shape)} in place of {tuple(expected[name].shape)}"
        for name in expected
        if name in found and found[name].shape != expected[name].shape
    ]
    parts = {"missing": missing, "not expected": surplus, "of another shape": shaped}
    return "; ".join(f"{len(names)} {what}: {some(names)}" for what, names in parts.items() if names)


def some(names: Sequence[str]) -> str:
    """The first few of many names."""
    return ", ".join(names[:SHOWN]) + (" …" if len(names) > SHOWN else "")


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A temporary name to write to, which becomes ``path`` if all goes well and vanishes if not."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=".part")
    os.close(handle)
    try:
        yield Path(temporary)
        os.chmod(temporary, 0o644)  # mkstemp's files are for nobody else
        os.replace(temporary, path)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
