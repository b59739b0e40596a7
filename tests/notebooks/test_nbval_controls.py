"""In the project's own configuration, nbval passes what is true and fails what was tampered with.

Two notebooks are run once, as CI runs the chapters. Every cell is a control of its own: most carry committed
outputs that running them does not give.
"""

import copy
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import nbformat
import nbval_figures
import pytest
import sample
from figures import FIGURE_MIME
from freshness import ROOT
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_notebook, new_output

pytestmark = pytest.mark.slow

MARKED = "# NBVAL_CHECK_OUTPUT\n"
LINE = [[0.0, 0.0], [1.0, 0.5], [2.0, 1.0]]


def figure(name: str, data: dict, html: str = "<figure></figure>") -> dict:
    record = {"name": name, "alt": "a line", "caption": "a line", "tol": 0.01, "data": data}
    return {"text/html": html, FIGURE_MIME: record}


def drawing(name: str, data: dict, html: str = "<figure></figure>") -> str:
    """Source of a cell that shows a figure, without the seconds that matplotlib takes."""
    return f"from IPython.display import display\ndisplay({figure(name, data, html)!r}, raw=True)"


def shown(name: str, data: dict, html: str = "<figure></figure>") -> NotebookNode:
    return new_output("display_data", data=figure(name, data, html))


def nudged(by: float) -> dict:
    return {"axes0/line0": [*LINE[:2], [2.0, 1.0 + by]]}


LINES = {"axes0/line0": LINE}
# name: (source, committed outputs, words of the failure or None where the cell should pass)
CELLS = {
    "honest number": (f"{MARKED}print(1 + 1)", [sample.text("2\n")], None),
    "unmarked cell": ("print(1 + 1)", [sample.text("3\n")], None),
    "edited number": (f"{MARKED}print(1 + 1)", [sample.text("3\n")], "outputs differ"),
    "stripped output": (f"{MARKED}print(1 + 1)", [], "outputs differ"),
    "honest figure": (drawing("a", LINES), [shown("a", LINES)], None),
    "figure within its tolerance": (drawing("b", LINES), [shown("b", nudged(0.009))], None),
    "other markup of a marked figure": (
        MARKED + drawing("c", LINES, html="<svg></svg>") + "\nprint(2)",
        [shown("c", LINES), sample.text("2\n")],
        None,
    ),
    "edited number beside a figure": (
        MARKED + drawing("d", LINES) + "\nprint(2)",
        [shown("d", LINES), sample.text("3\n")],
        "outputs differ",
    ),
    "changed figure data": (
        drawing("kernels", LINES),
        [shown("kernels", nudged(0.02))],
        "figure 'kernels', series axes0/line0: largest deviation 0.02 (committed 1.02, re-run 1), allowed",
    ),
    "changed figure data in a marked cell": (
        MARKED + drawing("usage", LINES),
        [shown("usage", nudged(0.02))],
        "figure 'usage', series axes0/line0",
    ),
    "loosened tolerance": (
        drawing("loose", LINES),
        [
            new_output(
                "display_data", data={FIGURE_MIME: {**figure("loose", nudged(0.5))[FIGURE_MIME], "tol": 0.9}}
            )
        ],
        "(tol 0.01)",
    ),
    "stripped figure": (drawing("reach", LINES), [], "figure 'reach' was shown by the re-run, but is not in"),
    "figure no longer drawn": (
        "pass",
        [shown("reach", LINES)],
        "figure 'reach' is in the committed outputs, but",
    ),
    "renamed figure": (drawing("new", LINES), [shown("old", LINES)], "figure 'new' was shown by the re-run"),
    "error": ("1 / 0", [], "Cell execution caused an exception"),
}


def real_chapter(root: Path) -> tuple[NotebookNode, dict[str, str | None]]:
    """The sample chapter, whose outputs are right, and after it cells with `moe_lib` that went wrong."""
    chapter = sample.make_chapter(sample.make_repository(root))
    expected: dict[str, str | None] = {}
    for index, cell in enumerate(chapter.cells):
        if cell.cell_type == "code":
            expected[f"sample cell {index}"] = None
    off = copy.deepcopy(sample.cell_with(chapter, "moe.expect"))
    off.source = off.source.replace("0.25", "0.3")
    off.outputs[0].text = off.outputs[0].text.replace("0.25", "0.3")
    expected["moe.expect that is off"] = "square of a half is 0.25, expected 0.3 ± 0.01"
    swapped = copy.deepcopy(sample.cell_with(chapter, "moe.show"))
    swapped.outputs[0]["data"][FIGURE_MIME]["data"]["axes0/line0"][3][1] = 8.0
    expected["swapped data of moe.show"] = "figure 'squares', series axes0/line0: largest deviation 1"
    for number, cell in enumerate((off, swapped)):
        cell["id"] = f"damaged-{number}"
        chapter.cells.append(cell)
    return chapter, expected


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str | None, str | None]]:
    """Control → (what its failure should say, what it says); None stands for passing."""
    root = tmp_path_factory.mktemp("controls")
    chapter, expected = real_chapter(root)
    cells = [new_code_cell(source, outputs=shown, execution_count=1) for source, shown, _ in CELLS.values()]
    nbformat.write(new_notebook(cells=cells), root / "chapters" / "00_tiny.ipynb")
    nbformat.write(chapter, root / "chapters" / "01_real.ipynb")
    expected = {name: words for name, (_, _, words) in CELLS.items()} | expected
    said = run_nbval(root / "chapters", report=root / "report.xml")
    assert len(said) == len(expected)
    return {name: (words, text) for (name, words), text in zip(expected.items(), said, strict=True)}


def run_nbval(folder: Path, report: Path) -> list[str | None]:
    """What CI does with chapters/, done to a folder: the failure, or None, of every code cell, in order."""
    configured = ["-c", "pyproject.toml", "--rootdir", ".", "--color", "no", f"--junitxml={report}"]
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_XDIST")}
    run = subprocess.run(
        [sys.executable, "-m", "pytest", *configured, "--nbval-lax", folder, "-n", "2", "--dist", "loadfile"],
        cwd=ROOT,
        env=inherited,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert run.returncode == pytest.ExitCode.TESTS_FAILED, run.stdout + run.stderr
    cells = {}
    for case in ElementTree.parse(report).iter("testcase"):
        failure = case.find("failure")
        position = (case.get("classname"), int(case.get("name").removeprefix("Cell ")))
        cells[position] = None if failure is None else failure.get("message") + (failure.text or "")
    return [cells[position] for position in sorted(cells)]


DAMAGED = ["moe.expect that is off", "swapped data of moe.show"]


@pytest.mark.parametrize("control", [*CELLS, *DAMAGED])
def test_cell(outcomes: dict, control: str) -> None:
    expected, said = outcomes[control]
    if expected is None:
        assert said is None, said
    else:
        assert said is not None, "the tampered cell passed"
        assert expected in said


def test_sample_chapter_is_true(outcomes: dict) -> None:
    honest = {name: said for name, (expected, said) in outcomes.items() if name.startswith("sample")}
    assert len(honest) == 9
    assert set(honest.values()) == {None}, honest


def options(**given: object) -> SimpleNamespace:
    usual = {"nbval": False, "nbval_lax": True, "nbval_kernel_name": None, "nbval_current_env": False}
    return SimpleNamespace(option=SimpleNamespace(**(usual | given)))


def test_kernels_run_in_the_environment_of_pytest() -> None:
    config = options()
    nbval_figures.pytest_configure(config)
    assert config.option.nbval_current_env


def test_cells_of_a_chapter_may_not_be_spread_over_workers() -> None:
    nbval_figures.pytest_configure(options(dist="loadfile"))
    nbval_figures.pytest_configure(options(nbval_lax=False, dist="load"))
    with pytest.raises(pytest.UsageError, match="--dist loadfile"):
        nbval_figures.pytest_configure(options(dist="load"))
