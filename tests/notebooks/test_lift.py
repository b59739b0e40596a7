"""Definitions come out of a notebook without the notebook being run."""

import inspect
import traceback
from pathlib import Path

import nbformat
import pytest
from lift import lift, python_source
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

CELLS = [
    'import sys\n\nif "google.colab" in sys.modules:\n    %pip install -q moe_lib',
    "import math\nfrom dataclasses import dataclass\n!ls",
    "EPSILON = 1e-6  # of a norm\nwidths = [k * 2 for k in (1, 2)]\nk = 3",
    'raise RuntimeError("the notebook was run")',
    'def norm(x):\n    """Of a list."""\n    return math.sqrt(sum(v * v for v in x)) + EPSILON',
    "def unit(x):\n    return [v / norm(x) for v in x]",
    "@dataclass\nclass Config:\n    rank: int = k\n    def double(self, model): return self.rank * 2, model",
    "class Wider(Config):\n    widths = widths",
    'model = open("weights.bin")\nlayers = model.layers',
    "def predict(x):\n    return model(x)",
    "def first_layer():\n    return layers[0]",
    "def version():\n    return 1",
    "def version():\n    return 2",
    "norm_of_three = norm([3])\nfor size in widths:\n    print(size)",
    "%%time\ndef hidden():\n    pass",
]


@pytest.fixture
def notebook(tmp_path: Path) -> Path:
    path = tmp_path / "04_tiny.ipynb"
    nbformat.write(new_notebook(cells=[new_markdown_cell("# Tiny"), *map(new_code_cell, CELLS)]), path)
    return path


def test_function_comes_with_what_it_uses(notebook: Path) -> None:
    chapter = lift(notebook, "unit")
    assert chapter.unit([3.0, 4.0]) == pytest.approx([0.6, 0.8], abs=1e-6)
    assert chapter.EPSILON == 1e-6
    assert not hasattr(chapter, "Config")


def test_class_comes_with_its_base_and_its_defaults(notebook: Path) -> None:
    chapter = lift(notebook, "Wider")
    assert chapter.Wider().double("m") == (6, "m")
    assert chapter.Wider.widths == [2, 4]


def test_several_names_and_constants(notebook: Path) -> None:
    chapter = lift(str(notebook), "norm", "widths")
    assert chapter.norm([0]) == chapter.EPSILON
    assert chapter.widths == [2, 4]


def test_last_definition_counts(notebook: Path) -> None:
    assert lift(notebook, "version").version() == 2


def test_missing_name_lists_what_there_is(notebook: Path) -> None:
    with pytest.raises(LookupError) as error:
        lift(notebook, "norm", "nrom", "hidden")
    assert str(error.value) == (
        "04_tiny.ipynb does not define nrom, hidden; it defines: "
        "EPSILON, widths, k, norm, unit, Config, Wider, layers, predict, first_layer, version"
    )


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "predict",
            r"04_tiny.ipynb: predict uses 'model', which only running cell 9 computes; give it: ",
        ),
        ("first_layer", "layers uses 'model'"),
    ],
)
def test_what_only_a_run_computes_has_to_be_given(notebook: Path, name: str, message: str) -> None:
    with pytest.raises(LookupError, match=message):
        lift(notebook, name)


def test_given_values_take_the_place_of_computed_and_constant_ones(notebook: Path) -> None:
    assert lift(notebook, "predict", model=abs).predict(-3) == 3
    assert lift(notebook, "first_layer", layers=["stem"]).first_layer() == "stem"
    assert lift(notebook, "norm", EPSILON=1.0).norm([0]) == 1


def test_what_may_be_computed_is_computed(notebook: Path) -> None:
    chapter = lift(notebook, "norm_of_three", compute=["norm_of_three"])
    assert chapter.norm_of_three == pytest.approx(3)
    with pytest.raises(LookupError, match="does not define norm_of_three"):
        lift(notebook, "norm_of_three")


def test_nothing_asked_for_is_an_error(notebook: Path) -> None:
    with pytest.raises(ValueError, match="name what to lift"):
        lift(notebook)


def test_names_of_a_notebook_do_not_leak_into_the_next(notebook: Path) -> None:
    lift(notebook, "norm").EPSILON = 5
    assert lift(notebook, "norm").EPSILON == 1e-6


def test_tracebacks_and_source_show_the_cell(notebook: Path) -> None:
    chapter = lift(notebook, "norm")
    assert '"""Of a list."""' in inspect.getsource(chapter.norm)
    with pytest.raises(TypeError) as error:
        chapter.norm(3)
    last = traceback.extract_tb(error.value.__traceback__)[-1]
    assert last.filename == f"{notebook}:cell 5"
    assert last.line == "return math.sqrt(sum(v * v for v in x)) + EPSILON"


def test_broken_cell_is_named(tmp_path: Path) -> None:
    path = tmp_path / "05_broken.ipynb"
    nbformat.write(new_notebook(cells=[new_code_cell("def f():\n    return (")]), path)
    with pytest.raises(SyntaxError, match=r"05_broken.ipynb: cell 0: .* in line 2"):
        lift(path, "f")


def test_magics_become_calls() -> None:
    source = python_source("if here:\n    %pip install x\nfiles = !ls\n!ls\nprint(1)")
    compile(source, "cell", "exec")
    assert source.count("get_ipython()") == 3
    assert "print(1)" in source.splitlines()
