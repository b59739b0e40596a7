"""What several files of this folder share: the wheel of the working tree, built once."""

from pathlib import Path

import pytest
from filelock import FileLock
from wheels import ROOT, build_wheel


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """The wheel of `moe_lib`; under xdist the first worker builds it and the others wait."""
    base = tmp_path_factory.getbasetemp()
    folder = (base if worker_id == "master" else base.parent) / "wheel"
    with FileLock(f"{folder}.lock"):
        return next(folder.glob("*.whl"), None) or build_wheel(ROOT, folder)
