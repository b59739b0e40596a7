"""A chapter that is edited as text, as CONTRIBUTING says, comes back as it was."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from wheels import ROOT

CHAPTER = "chapters/00_larger_scale.ipynb"


def commands() -> list[str]:
    """The lines of CONTRIBUTING that call jupytext."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    return re.findall(r"^jupytext .*$", text, flags=re.M)


def changes(notebook: dict, folder: Path, pyproject: str) -> list[str]:
    """What differs after the round trip: `metadata`, the number of cells, or `cell 0`, `cell 1` …"""
    (folder / "chapters").mkdir(parents=True)
    (folder / "_build").mkdir()
    (folder / "pyproject.toml").write_text(pyproject, encoding="utf-8")
    (folder / CHAPTER).write_text(json.dumps(notebook), encoding="utf-8")
    for command in commands():
        line = [sys.executable, "-m", *shlex.split(command)]
        subprocess.run(line, cwd=folder, check=True, capture_output=True)
    after = json.loads((folder / CHAPTER).read_text(encoding="utf-8"))
    found = [key for key in ("nbformat", "nbformat_minor", "metadata") if after[key] != notebook[key]]
    if len(after["cells"]) != len(notebook["cells"]):
        return [*found, f"{len(after['cells'])} cells"]
    pairs = enumerate(zip(notebook["cells"], after["cells"], strict=True))
    return found + [f"cell {number}" for number, (old, new) in pairs if old != new]


@pytest.fixture
def notebook() -> dict:
    return json.loads((ROOT / CHAPTER).read_text(encoding="utf-8"))


@pytest.fixture
def pyproject() -> str:
    return (ROOT / "pyproject.toml").read_text(encoding="utf-8")


def test_contributing_has_the_way_there_and_the_way_back() -> None:
    there, back = commands()
    assert there.endswith(CHAPTER) and f"--update -o {CHAPTER}" in back


def test_the_round_trip_changes_nothing(notebook: dict, pyproject: str, tmp_path: Path) -> None:
    assert changes(notebook, tmp_path / "as it is", pyproject) == []
    notebook["metadata"].pop("jupytext", None)  # one that was never a text before
    assert changes(notebook, tmp_path / "new", pyproject) == []


@pytest.mark.parametrize(
    ("option", "changed"), [("comment_magics", "cell 0"), ("notebook_metadata_filter", "metadata")]
)
def test_negative_control_without_an_option_something_changes(
    notebook: dict, pyproject: str, tmp_path: Path, option: str, changed: str
) -> None:
    notebook["metadata"].pop("jupytext", None)
    without = re.sub(rf"^{option} = .*\n", "", pyproject, flags=re.M)
    assert without != pyproject
    assert changed in changes(notebook, tmp_path / "root", without)
