"""Run one notebook in a process of its own; `run.py` starts it, one per chapter.

The order comes as one line of JSON on standard input, and what happens goes out as lines of JSON:

    → {"source": …, "copy": …, "cwd": …, "parameters": {…} or null}
    ← {"cell": 3, "line": "x = 1"}     a cell starts; its number in the chapter and its first line of code
    ← {"done": 12.3}                   all cells ran, in so many seconds
    ← {"failed": "ValueError: …"}      the cell that was named last failed

Standard input stays open as long as `run.py` lives. When it closes, the worker ends, and its kernel with it.
"""

import contextlib
import json
import os
import re
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import nbformat
import psutil

Report = Callable[..., None]
KERNELSPEC = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
LONGEST_MESSAGE = 400


def main() -> None:
    report = event_channel()
    order = json.loads(sys.stdin.readline())
    threading.Thread(target=end_with_parent, daemon=True).start()
    try:
        seconds = execute(order, report)
    except Exception as error:  # whatever went wrong, the parent gets one line about it
        report(failed=one_line(error))
    else:
        report(done=seconds)


def execute(order: dict, report: Report) -> float:
    """Run the notebook through papermill, keeping a copy with the outputs so far; the seconds it took."""
    import papermill  # heavy; run.py imports this file too and can do without
    from papermill.engines import papermill_engines

    papermill_engines.register("reporting", reporting_engine(order, report))
    tempfile.tempdir = os.path.dirname(order["copy"])  # for the kernel's connection file: it gets cleared
    source = order["source"].replace("{", "{{").replace("}", "}}")  # papermill takes paths for templates
    started = time.monotonic()
    papermill.execute_notebook(
        source, None, parameters=order["parameters"], cwd=order["cwd"], engine_name="reporting",
        kernel_name="python3", language="python", progress_bar=False, record_timing=False,
    )  # fmt: skip
    return time.monotonic() - started


def reporting_engine(order: dict, report: Report) -> type:
    """papermill's own engine, which also reports each cell and keeps the copy readable at any instant."""
    from papermill.engines import NBClientEngine

    copy = Path(order["copy"])
    chapter = nbformat.read(order["source"], as_version=4)
    number = {cell.id: index for index, cell in enumerate(chapter.cells)}  # papermill injects one more cell

    def save(nb: nbformat.NotebookNode) -> None:
        unfinished = copy.with_suffix(".tmp")
        unfinished.write_text(nbformat.writes(nb), encoding="utf-8")
        unfinished.replace(copy)

    def announce(cell: nbformat.NotebookNode, cell_index: int) -> None:
        if cell.id in number:
            report(cell=number[cell.id], line=first_line(cell))

    class ReportingEngine(NBClientEngine):
        @classmethod
        def execute_managed_notebook(cls, nb_man, kernel_name, **options):
            nb_man.save = lambda **_: save(nb_man.nb)
            return super().execute_managed_notebook(nb_man, kernel_name, on_cell_start=announce, **options)

    return ReportingEngine


def committed_form(nb: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Clean an executed notebook in place: only what a reader sees stays, in a form that does not vary."""
    for key in ("papermill", "widgets", "moe"):
        nb.metadata.pop(key, None)
    nb.metadata["kernelspec"] = dict(KERNELSPEC)
    nb.metadata["language_info"] = {"name": "python"}
    count = 0
    for cell in nb.cells:
        for key in ("papermill", "execution", "ExecuteTime"):
            cell.metadata.pop(key, None)
        if not cell.metadata.get("tags", True):  # papermill gives every cell a list of tags
            del cell.metadata["tags"]
        if cell.cell_type == "code":
            cell.outputs = merge_streams(cell.outputs)
            if cell.execution_count is not None:
                cell.execution_count = count = count + 1
            for output in cell.outputs:
                if output.output_type == "execute_result":
                    output.execution_count = cell.execution_count
    return nb


def merge_streams(outputs: list[nbformat.NotebookNode]) -> list[nbformat.NotebookNode]:
    """Join neighbouring pieces of one stream: how print is cut into messages is a matter of timing."""
    merged = []
    for output in outputs:
        before = merged[-1] if merged else {}
        if output.output_type == "stream" and before.get("name") == output.name:
            before.text += output.text
        else:
            merged.append(output)
    return merged


def first_line(cell: nbformat.NotebookNode) -> str:
    """The first line of a code cell that says what it does; a comment only where there is nothing else."""
    if cell.cell_type != "code":
        return ""
    lines = [line.strip() for line in cell.source.splitlines() if line.strip()]
    line = next((line for line in lines if not line.startswith("#")), lines[0] if lines else "")
    return line if len(line) <= 60 else line[:59] + "…"


def one_line(error: Exception) -> str:
    """An exception, or the one that papermill met in a cell, as `Name: message` on one line."""
    name, message = getattr(error, "ename", type(error).__name__), getattr(error, "evalue", str(error))
    text = " ".join(re.sub(r"\x1b\[[\d;]*m", "", f"{name}: {message}").split()).removesuffix(":")
    return text if len(text) <= LONGEST_MESSAGE else text[: LONGEST_MESSAGE - 1] + "…"


def stop_tree(pid: int) -> None:
    """Kill a process and all its descendants.

    Killing the process group is not enough, as Jupyter gives each kernel a group of its own. Every process
    is frozen before its children are counted, so none can slip away meanwhile.
    """

    def freeze(process: psutil.Process) -> list[psutil.Process]:
        process.suspend()
        family = [process]
        for child in process.children():
            with contextlib.suppress(psutil.NoSuchProcess):
                family += freeze(child)
        return family

    with contextlib.suppress(psutil.NoSuchProcess):
        for process in freeze(psutil.Process(pid)):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()


def end_with_parent() -> None:
    """Wait until `run.py` is gone, however it went, then leave nothing running."""
    sys.stdin.read()
    for child in psutil.Process().children():
        stop_tree(child.pid)
    os._exit(1)


def event_channel() -> Report:
    """Keep standard output for events; what the kernel itself prints there goes to standard error."""
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")  # dup: a kernel does not inherit it
    os.dup2(2, 1)

    def report(**event) -> None:
        print(json.dumps(event), file=channel, flush=True)

    return report


if __name__ == "__main__":
    main()
