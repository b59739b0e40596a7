"""The scripts are no package: they are run from their folder, and so are found there."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "data_scripts"))

from unkind_server import UnkindServer


@pytest.fixture
def server():
    with UnkindServer() as running:
        yield running
