"""pytest plugin: nbval re-runs a chapter, this compares what its figures drew.

    pytest --nbval-lax chapters -n 2 --dist loadfile      (pyproject.toml adds `-p nbval_figures`)

nbval compares the printed outputs of marked cells to the letter and never looks at pictures. With this plugin
every cell's figures, marked or not, are compared by their data and within their tolerance, and are kept out
of nbval's own comparison, where their HTML would differ between versions of matplotlib.
"""

import pytest
from figures import FIGURE_MIME, differences, figures
from nbval.plugin import IPyNbCell


def pytest_configure(config: pytest.Config) -> None:
    options = config.option
    if not (getattr(options, "nbval", False) or getattr(options, "nbval_lax", False)):
        return
    if not options.nbval_kernel_name:
        options.nbval_current_env = True  # the installed `python3` kernel may belong to another environment
    if getattr(options, "dist", "no") not in {"no", "loadfile"}:
        raise pytest.UsageError("all cells of a chapter share one kernel: run with `--dist loadfile`")


def pytest_itemcollected(item: pytest.Item) -> None:
    if isinstance(item, IPyNbCell):
        compare = item.compare_outputs
        item.compare_outputs = lambda test, ref: compare(_without_figures(test), _without_figures(ref))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item):
    result = yield
    if isinstance(item, IPyNbCell):
        found = differences(figures(item.cell.outputs), figures(item.test_outputs or []))
        if found:
            item.raise_cell_error("Figures differ from the committed ones", "\n".join(found))
    return result


def _without_figures(outputs: list) -> list:
    return [output for output in outputs if FIGURE_MIME not in output.get("data", {})]
