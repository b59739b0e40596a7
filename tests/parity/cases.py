"""Cases that official code produced: files of arrays, the project's own or those in ``MOE_PARITY``.

``MOE_PARITY=FOLDER pytest tests/parity`` runs every ``FOLDER/<method>/*.npz``.
"""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

FOLDER = Path(os.environ.get("MOE_PARITY") or Path(__file__).parent).expanduser().resolve()


def cases(method: str, has: str) -> pytest.MarkDecorator:
    """Run a test for each file of a method in which an array has this name: its argument ``case``."""
    files = []
    for path in sorted((FOLDER / method).glob("*.npz")):
        with np.load(path) as file:
            if has in file:
                files.append(pytest.param(path, id=path.stem))
    none = pytest.param(
        None, id="none", marks=pytest.mark.skip(f"no {has!r} in {FOLDER.name}/{method}/*.npz")
    )
    return pytest.mark.parametrize("case", files or [none])


def read(path: Path) -> tuple[dict, dict[str, Tensor]]:
    """The configuration of a case, if it has one, and its arrays."""
    with np.load(path, allow_pickle=False) as file:
        arrays = {key: torch.from_numpy(np.asarray(v)) for key, v in file.items() if v.dtype.kind in "biuf"}
        found = next((str(file[key]) for key in ("meta", "config", "config_json") if key in file), "{}")
        return json.loads(found), arrays


def absent(path: Path, name: str) -> set[str]:
    """Names in a list of a case, such as ``train/grad_task_absent``."""
    with np.load(path, allow_pickle=False) as file:
        return set(file[name].tolist())


def close(what: str, found: Tensor, expected: Tensor, relative: float, absolute: float = 0.0) -> None:
    """The largest difference is at most so much of the largest expected number."""
    assert found.shape == expected.shape, f"{what}: {tuple(found.shape)} for {tuple(expected.shape)}"
    difference = float((found.detach() - expected).abs().max())
    bound = relative * float(expected.abs().max()) + absolute
    assert difference <= bound, f"{what} is off by {difference:.3g}, and {bound:.3g} is allowed"
