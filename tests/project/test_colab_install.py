"""Colab, proven: the first cell of a chapter installs the library there, and leaves torch and numpy alone.

A virtual environment stands in for Colab's: torch and numpy are there already, `google.colab` is imported
before the first cell runs, and there is no repository. The chapter is the committed one but for the address
in its first cell, which is the wheel of this working tree in place of the repository that it will be in.
"""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import nbformat
import pytest
from colab import colab_cell, repository_url
from environments import (
    clean_environment,
    closure,
    installed,
    link,
    make_venv,
    offline,
    pip_install,
    python_of,
    site_packages,
)
from freshness import chapters
from packaging.utils import canonicalize_name
from wheels import runtime, tiny_wheel

OURS_TO_LEAVE = {"torch", "numpy"}
COLAB_BRINGS = ["torch", "torchvision", "numpy", "scipy", "matplotlib", "ipython", "ipykernel"]
STUB = "_google_colab.pth"  # a line that starts with "import" is run whenever this Python starts


def changed(report: dict, names: set[str]) -> list[str]:
    """Which of these packages pip would install, by its report, though they are there already."""
    items = [item["metadata"] for item in report["install"]]
    return sorted(f"{i['name']} {i['version']}" for i in items if canonicalize_name(i["name"]) in names)


def make_colab(folder: Path) -> Path:
    """An environment that has what Colab has, pip included, as links; returns its Python."""
    python = make_venv(folder, with_pip=True)
    link(closure(COLAB_BRINGS).values(), folder)
    stub = site_packages(folder) / "google" / "colab"
    stub.mkdir(parents=True)
    (stub / "__init__.py").write_text("", encoding="utf-8")
    (site_packages(folder) / STUB).write_text("import google.colab\n", encoding="utf-8")
    return python


def state(folder: Path) -> dict[str, tuple]:
    """Of each file of torch and numpy: what it links to, and when that was last written."""
    found = {}
    own = [f"{name}{rest}" for name in OURS_TO_LEAVE for rest in ("/**/*", ".*/**/*", "-*/**/*")]
    for path in (p for pattern in own for p in site_packages(folder).glob(pattern)):
        if path.is_file() and "__pycache__" not in path.parts:
            found[str(path)] = (path.is_symlink() and os.readlink(path), path.stat().st_mtime_ns)
    return found


def for_colab(chapter: Path, wheel: Path) -> nbformat.NotebookNode:
    """The chapter as it stands, with the wheel in place of the repository's address."""
    nb = nbformat.read(chapter, as_version=4)
    assert nb.cells[0].source == colab_cell()
    nb.cells[0].source = nb.cells[0].source.replace(f"git+{repository_url()}", wheel.as_uri())
    return nb


def execute(nb: nbformat.NotebookNode, python: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a notebook at scale smoke with a kernel of another Python, from an empty folder."""
    kernel = folder / "jupyter" / "kernels" / "colab"
    kernel.mkdir(parents=True)
    argv = [str(python), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    spec = {"argv": argv, "display_name": "Colab", "language": "python"}
    (kernel / "kernel.json").write_text(json.dumps(spec), encoding="utf-8")
    empty = folder / "content"
    empty.mkdir()
    nbformat.write(nb, folder / "chapter.ipynb")
    files = [str(folder / "chapter.ipynb"), str(folder / "executed.ipynb")]
    options = ["--kernel", "colab", "--cwd", str(empty), "-p", "scale", "smoke", "--no-progress-bar"]
    environment = clean_environment(JUPYTER_PATH=str(folder / "jupyter"), IPYTHONDIR=str(folder / "ipython"))
    command = [sys.executable, "-m", "papermill", *files, *options]
    return subprocess.run(command, cwd=empty, env=environment, capture_output=True, text=True, timeout=300)


@dataclass
class Run:
    """A chapter run on the stand-in for Colab: what was there before and after."""

    folder: Path
    before: dict[str, str]
    after: dict[str, str]
    files_before: dict[str, tuple]
    files_after: dict[str, tuple]
    finished: subprocess.CompletedProcess[str]

    @property
    def content(self) -> Path:
        return self.folder / "content"

    def executed(self) -> nbformat.NotebookNode:
        return nbformat.read(self.folder / "executed.ipynb", as_version=4)


@pytest.fixture(scope="module")
def colab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The stand-in for Colab, before anything is installed."""
    folder = tmp_path_factory.mktemp("colab") / "venv"
    make_colab(folder)
    return folder


@pytest.fixture(scope="module")
def elsewhere(colab: Path, tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> Run:
    """The first cell alone, where `google.colab` is not imported: any machine but Colab."""
    folder = tmp_path_factory.mktemp("elsewhere")
    nb = for_colab(chapters()[0], wheel)
    nb.cells = nb.cells[:1]
    stub = site_packages(colab) / STUB
    stub.rename(stub.with_suffix(".off"))
    before, files_before = installed(colab), state(colab)
    finished = execute(nb, python_of(colab), folder)
    stub.with_suffix(".off").rename(stub)
    return Run(folder, before, installed(colab), files_before, state(colab), finished)


@pytest.fixture(scope="module")
def run(elsewhere: Run, colab: Path, tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> Run:
    """A whole chapter on the stand-in for Colab."""
    folder = tmp_path_factory.mktemp("run")
    before, files_before = installed(colab), state(colab)
    finished = execute(for_colab(chapters()[0], wheel), python_of(colab), folder)
    return Run(folder, before, installed(colab), files_before, state(colab), finished)


@pytest.mark.slow
def test_the_chapter_runs_to_its_end(run: Run) -> None:
    assert run.finished.returncode == 0, run.finished.stderr[-3000:]
    code = [cell for cell in run.executed().cells if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in code)
    (results,) = run.content.glob("results/*/smoke.json")
    environment = json.loads(results.read_text(encoding="utf-8"))["environment"]
    assert {name: environment[name] for name in OURS_TO_LEAVE} == {
        n: metadata.version(n) for n in OURS_TO_LEAVE
    }


@pytest.mark.slow
def test_the_first_cell_installed_the_library(run: Run, colab: Path) -> None:
    assert "moe-lib" not in run.before
    assert run.after["moe-lib"] == metadata.version("moe_lib")
    find = "import importlib.util as u; print(u.find_spec('moe_lib').origin)"
    command = [python_of(colab), "-I", "-c", find]
    origin = subprocess.run(
        command, cwd=run.content, capture_output=True, text=True, check=True
    ).stdout.strip()
    assert Path(origin).is_relative_to(site_packages(colab))
    assert not Path(origin).is_symlink()
    printed = "".join(output.get("text", "") for output in run.executed().cells[0].outputs)
    assert "ERROR" not in printed


@pytest.mark.slow
def test_torch_and_numpy_are_as_they_were(run: Run) -> None:
    for name in OURS_TO_LEAVE:
        assert run.after[name] == run.before[name] == metadata.version(name)
    assert len(run.files_before) > 1000
    assert run.files_after == run.files_before


@pytest.mark.slow
def test_nothing_else_was_changed_either(run: Run) -> None:
    assert {name: run.after.get(name) for name in run.before} == run.before


@pytest.mark.slow
def test_anywhere_else_the_first_cell_does_nothing(elsewhere: Run) -> None:
    assert elsewhere.finished.returncode == 0, elsewhere.finished.stderr[-3000:]
    assert elsewhere.executed().cells[0].outputs == []
    assert elsewhere.after == elsewhere.before
    assert "moe-lib" not in elsewhere.after
    assert elsewhere.files_after == elsewhere.files_before


def dry_run(colab: Path, wheel: Path, environment: dict[str, str]) -> dict:
    """What pip would do to install a wheel there."""
    command = [python_of(colab), "-m", "pip", "install", "--dry-run", "-q", "--report", "-", str(wheel)]
    finished = subprocess.run(command, cwd=colab, env=environment, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    return json.loads(finished.stdout)


@pytest.mark.slow
def test_pip_would_change_nothing(colab: Path, tmp_path: Path, wheel: Path) -> None:
    newer = tiny_wheel(tmp_path, "moe_lib", "99.0", runtime(wheel))
    report = dry_run(colab, newer, clean_environment())
    assert changed(report, {"moe-lib"}) == ["moe_lib 99.0"]
    assert changed(report, OURS_TO_LEAVE) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("requirement", "older"),
    [("numpy==1.26.4", "numpy 1.26.4"), ("numpy>=1.26,<2", "numpy 1.26.4"), ("torch~=2.0.0", "torch 2.0.1")],
)
def test_a_wheel_that_holds_them_back_is_noticed(
    colab: Path, tmp_path: Path, requirement: str, older: str
) -> None:
    tiny_wheel(tmp_path / "index", *older.split())
    wheel = tiny_wheel(tmp_path, "moe_lib", "99.0", [requirement])
    report = dry_run(colab, wheel, offline(PIP_FIND_LINKS=str(tmp_path / "index")))
    assert changed(report, OURS_TO_LEAVE) == [older]


def test_pip_cannot_reach_the_files_behind_the_links(tmp_path: Path) -> None:
    (distribution,) = closure(["six"]).values()
    make_venv(tmp_path / "venv")
    link([distribution], tmp_path / "venv")
    copy = site_packages(tmp_path / "venv") / "six.py"
    assert copy.is_symlink()
    original = copy.resolve()
    before = original.read_bytes()
    newer = tiny_wheel(tmp_path / "index", "six", "99.0")
    done = pip_install(python_of(tmp_path / "venv"), newer, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert installed(tmp_path / "venv") == {"six": "99.0"}
    assert copy.read_bytes() == b""
    assert original.read_bytes() == before
