"""Tiny books for the tests of the runner: a library of one line and chapters of a few cells."""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import freshness
import nbformat
import psutil
import run as run_script

RUN = Path(freshness.__file__).with_name("run.py")
PARAMETERS = 'scale = "pocket"\ndevice = "auto"\nseeds = 10\nout = "results"'

# A chapter's last cell: writes its numbers where `moe.save_results` would.
SAVE = """
import json, pathlib
path = pathlib.Path(out) / NAME / f"{scale}.json"
path.parent.mkdir(parents=True, exist_ok=True)
path.write_text(json.dumps({"scale": scale, "seeds": seeds, "device": device, **record}))
"""


def make_root(folder: Path) -> Path:
    """An empty book; its library says 42."""
    root = folder / "a {book} with spaces"  # papermill takes braces in a path for a template
    for name in ("chapters", "book", "moe_lib"):
        (root / name).mkdir(parents=True)
    (root / "moe_lib" / "__init__.py").write_text("ANSWER = 42\n")
    (root / "requirements.lock").write_text("nothing==1.0\n")
    return root


def add_chapter(root: Path, name: str, *sources: str, parameters: bool = True, **metadata) -> Path:
    """A chapter with a title, the parameters cell (unless it shall lack) and code cells; NAME is its name."""
    cells = [
        nbformat.v4.new_markdown_cell(f"# {name}"),
        nbformat.v4.new_code_cell(PARAMETERS, metadata={"tags": ["parameters"] if parameters else []}),
        *(nbformat.v4.new_code_cell(source.strip().replace("NAME", repr(name))) for source in sources),
    ]
    for number, cell in enumerate(cells):
        cell.id = f"cell-{number}"
    path = root / "chapters" / f"{name}.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=metadata), path)
    return path


def command(root: Path, *arguments: object) -> list[str]:
    return [sys.executable, str(RUN), "--root", str(root), *map(str, arguments)]


def run(root: Path, *arguments: object, **environment: str) -> subprocess.CompletedProcess:
    """Run run.py as a user would, from outside the root."""
    return subprocess.run(
        command(root, *arguments),
        cwd=root.parent,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=120,
    )


def results(root: Path, name: str, scale: str = "pocket", folder: str = "book/results") -> dict:
    return json.loads((root / folder / name / f"{scale}.json").read_text())


def printed(path: Path) -> str:
    """All that a notebook printed."""
    cells = [cell for cell in freshness.read(path).cells if cell.cell_type == "code"]
    return "".join(output.get("text", "") for cell in cells for output in cell.outputs)


def files(root: Path) -> dict[str, bytes]:
    """Every file below a root; caches of Python aside."""
    found = (path for path in root.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in found}


def wait_until(condition, seconds: float = 60) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def marked_processes(mark: str) -> list[psutil.Process]:
    """The living processes that have MARK=<mark> in their environment."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("MARK") == mark and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue  # somebody else's, or gone by now
    return found


def parsed(root: Path, *arguments: str) -> argparse.Namespace:
    """What run.py makes of its command line."""
    options = run_script.make_parser().parse_args(["--root", str(root), *arguments])
    run_script.check_options(options)
    return options


def chapter(root: Path, name: str = "00_first") -> nbformat.NotebookNode:
    """A chapter as it stands now."""
    return freshness.read(root / "chapters" / f"{name}.ipynb")
