"""A notebook is fresh while what produced it and what it shows are as they were; a comment does not count."""

import ast
import inspect
import json
import shutil
import textwrap
from pathlib import Path

import pytest
import sample
from freshness import UnreadableNotebook, chapters, code_hash, code_only, is_fresh, outputs_hash, read, stamp
from hypothesis import given
from hypothesis import strategies as st
from nbformat.v4 import new_code_cell

ROOT = Path(__file__).resolve().parents[2]
REAL_FILES = [
    *sorted((ROOT / "moe_lib").rglob("*.py")),
    *(Path(inspect.getfile(module)) for module in (ast, inspect, json.decoder, textwrap, shutil)),
]
PLAIN = '''
import math

def norm(x):
    y = x * x
    return math.sqrt(y)

class Layer:
    text = """first

  third # of three"""
'''


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("import math\n", "import math  # for the root\n"),
        ("import math\n", "# a comment of its own\nimport math\n"),
        ("import math\n", '"""About the module.\n\nLong.\n"""\n\nimport math\n'),
        ("def norm(x):\n", 'def norm(x):\n    """Of a vector."""\n'),
        (
            "def norm(x):\n",
            "def norm(x):\n    '''Of a vector.\n\n    Args:\n        x: Ä vector.\n    '''  # done\n",
        ),
        ("def norm(x):\n", 'def norm(x):\n    (  # why not\n        "Of a "\n\n        "vector."\n    )\n'),
        ("class Layer:\n", 'class Layer:\n    """One layer."""\n\n'),
        ("x * x\n", "x * x   \n\n\n    # squared\n"),
        ("\n    return", "\n\t\n    return"),
        ("\n", "\r\n"),
    ],
)
def test_comments_docstrings_and_space_do_not_count(old, new):
    changed = PLAIN.replace(old, new)
    assert changed != PLAIN
    assert code_only(changed) == code_only(PLAIN)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("x * x", "x + x"),
        ("x * x", "x  * x"),
        ("    return", "return"),
        ('"""first\n\n', '"""first\n'),
        ('"""first\n', '"""first \n'),
        ("third # of", "third of"),
        ("import math\n", "import math\n'not the first statement'\n"),
        ("def norm(x):\n", 'def norm(x, text="Of a vector."):\n'),
    ],
)
def test_code_and_the_inside_of_strings_count(old, new):
    changed = PLAIN.replace(old, new)
    assert changed != PLAIN
    assert code_only(changed) != code_only(PLAIN)


@pytest.mark.parametrize(
    ("source", "kept"),
    [
        ('x = "#1"  # one', 'x = "#1"'),
        ("x = '''#1\n#2'''  # two", "x = '''#1\n#2'''"),
        ('x = f"#{y}" # three', 'x = f"#{y}"'),
        ('x = f"""a\n\n{y}  \n"""  # four\n\n', 'x = f"""a\n\n{y}  \n"""'),
        ('f(\n    "a"  # first half\n\n    "b"  \n)', 'f(\n    "a"\n    "b"\n)'),
        ('x = "a\x0cb"  # form feed\n\ny = 1', 'x = "a\x0cb"\ny = 1'),
        ("x = 'é'; y = 'ü'  # ö", "x = 'é'; y = 'ü'"),
        ('def f():\n    """doc"""; return 1', 'def f():\n    """doc"""; return 1'),
        ('def f(): """doc"""', 'def f(): """doc"""'),
        ("", ""),
        ("# nothing else", ""),
    ],
)
def test_what_is_kept(source, kept):
    assert code_only(source) == kept


@pytest.mark.parametrize(
    "source", ["%%time\nx = 1  # one\n", "!ls  # files\n\n", "x = (", "x = '''open\n", "if x:\ny"]
)
def test_what_is_not_plain_python_counts_as_it_stands(source):
    assert code_only(source) == source


def without_docstrings(source: str) -> str:
    tree = ast.parse(source)
    for node in ast.walk(tree):
        documented = isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        if documented and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return ast.dump(tree)


def with_empty_bodies(code: str) -> str:
    """A definition of which nothing but the docstring was there is left without a body: give it one."""
    lines = code.split("\n")
    for row, (line, after) in enumerate(zip(lines, [*lines[1:], ""], strict=True)):
        indent, next_indent = (len(text) - len(text.lstrip()) for text in (line, after))
        definition = line.lstrip().startswith(("class ", "def ")) and line.endswith(":")
        if definition and (next_indent <= indent or not after):
            lines[row] += " pass"
    return "\n".join(lines)


@pytest.mark.parametrize("path", REAL_FILES, ids=lambda path: path.stem)
def test_real_files_keep_their_meaning_and_lose_every_comment(path):
    source = path.read_text(encoding="utf-8")
    code = code_only(source)
    # of a module that is nothing but its docstring, nothing is left
    assert without_docstrings(with_empty_bodies(code) or "pass") == without_docstrings(source)
    assert code_only(code) == code
    assert len(code) < len(source)


PIECES = [
    *("x = 1", "# c", "", "  ", "y = '#'  # c", "    return 1  ", "def f():\n    '''d'''  # c"),
    *('s = """a  ', 'b"""', 'b"""  # c', 'f("a",  # c', '  "b")'),
]


@given(st.lists(st.sampled_from(PIECES), max_size=8).map("\n".join))
def test_any_mixture_keeps_its_meaning_and_a_second_pass_finds_nothing_more(source):
    code = code_only(source)
    assert code_only(code) == code
    try:
        ast.parse(source)
    except SyntaxError:
        assert code == source
    else:
        assert without_docstrings(with_empty_bodies(code)) == without_docstrings(source)


@pytest.fixture
def root(tmp_path):
    """A small repository with one fresh chapter and weights."""
    sample.make_repository(tmp_path)
    (tmp_path / "moe_lib" / "weights").mkdir()
    (tmp_path / "moe_lib" / "weights" / "sam.safetensors").write_bytes(b"\0\1")
    return tmp_path


@pytest.fixture
def nb(root):
    return sample.make_chapter(root)


def library(root: Path, file: str = "__init__.py") -> Path:
    return root / "moe_lib" / file


def add_to(nb, words: str, code: str) -> None:
    sample.cell_with(nb, words).source += code


def swap_cells(nb, root):
    nb.cells[-1], nb.cells[-3] = nb.cells[-3], nb.cells[-1]


def move_code_between_cells(nb, root):
    cell, after = sample.cell_with(nb, "def square"), sample.cell_with(nb, "print([square")
    cell.source, after.source = f"{cell.source}\n{after.source}", ""


STALE = {
    "library code": lambda nb, root: library(root).write_text("ANSWER = 43\n"),
    "new module": lambda nb, root: library(root, "more.py").write_text(""),
    "renamed module": lambda nb, root: library(root).rename(library(root, "other.py")),
    "weights": lambda nb, root: library(root, "weights/sam.safetensors").write_bytes(b"\0\2"),
    "a script of a figure": lambda nb, root: library(root, "weights/new.js").write_text("() => 1"),
    "lock": lambda nb, root: (root / "requirements.lock").write_text("numpy==2.4.0\n"),
    "no lock": lambda nb, root: (root / "requirements.lock").unlink(),
    "cell code": lambda nb, root: add_to(nb, "def square", " + 0"),
    "new cell": lambda nb, root: nb.cells.append(new_code_cell("")),
    "order of cells": swap_cells,
    "code in another cell": move_code_between_cells,
}
STILL_FRESH = {
    "library comment": lambda nb, root: library(root).write_text(
        '"""Word."""\n\n# and\nANSWER = 42  # more\n'
    ),
    "library notes": lambda nb, root: library(root, "weights/README.md").write_text("# Weights\n"),
    "cell comment": lambda nb, root: add_to(nb, "def square", "  # squared"),
    "prose": lambda nb, root: add_to(nb, "# A small chapter", " Really."),
    "repository's address": lambda nb, root: add_to(nb, "import sys", "\nprint('a fork')"),
    "tags": lambda nb, root: nb.cells[4].metadata.update(tags=["hide-input"]),
}


@pytest.mark.parametrize("change", STALE.values(), ids=STALE)
def test_whatever_decides_the_outputs_makes_them_stale(nb, root, change):
    before = code_hash(nb, root)
    assert is_fresh(nb, root)
    change(nb, root)
    assert code_hash(nb, root) != before
    assert not is_fresh(nb, root)


@pytest.mark.parametrize("change", STILL_FRESH.values(), ids=STILL_FRESH)
def test_what_decides_no_output_leaves_them_fresh(nb, root, change):
    change(nb, root)
    assert is_fresh(nb, root)


def test_parameters_that_a_run_put_in_are_not_the_chapters_code(nb, root):
    nb.cells.insert(4, new_code_cell("seeds = 3", metadata={"tags": ["injected-parameters"]}))
    assert code_hash(nb, root) == nb.metadata.moe.code


def printing(nb):
    return sample.cell_with(nb, "print([square")


def picture(nb):
    return sample.cell_with(nb, "moe.show").outputs[0]["data"]


TOUCHED = {
    "edited number": lambda nb: printing(nb).outputs[0].update(text="[0, 1, 4, 8]\n"),
    "stripped output": lambda nb: printing(nb).update(outputs=[]),
    "execution count": lambda nb: printing(nb).update(execution_count=99),
    "another picture": lambda nb: picture(nb).update({"image/png": "iVBORw0KGgo=\n"}),
    "picture's data": lambda nb: picture(nb)[sample.FIGURE_MIME].update(data={}),
    "another scale": lambda nb: nb.metadata.moe.update(scale="gpu"),
    "another code": lambda nb: nb.metadata.moe.update(code="0" * 64),
    "no stamp": lambda nb: nb.metadata.pop("moe"),
}


@pytest.mark.parametrize("damage", TOUCHED.values(), ids=TOUCHED)
def test_touched_outputs_are_not_fresh(nb, root, damage):
    damage(nb)
    assert not is_fresh(nb, root)


def test_a_stamp_says_what_was_run_and_how(nb, root):
    stamp(nb, scale="pocket", device="cuda", seconds=12.345, root=root)
    code, outputs = code_hash(nb, root), outputs_hash(nb)
    assert nb.metadata.moe == {
        "code": code, "outputs": outputs, "scale": "pocket", "device": "cuda", "seconds": 12.3
    }  # fmt: skip
    assert is_fresh(nb, root)


def test_only_runs_at_the_committed_scale_are_fresh(nb, root):
    stamp(nb, scale="smoke", device="cpu", seconds=1, root=root)
    assert not is_fresh(nb, root)


def test_a_fresh_notebook_stays_fresh_on_disk(nb, root):
    assert is_fresh(read(sample.write(nb, root)), root)


def test_chapters_are_the_notebooks_in_reading_order(root):
    for name in ("10_last", "02_b", "01_a"):
        (root / "chapters" / f"{name}.ipynb").write_text("{}")
    (root / "chapters" / "notes.md").write_text("")
    (root / "chapters" / "results").mkdir()
    (root / "chapters" / "results" / "03_c.ipynb").write_text("{}")
    assert [path.stem for path in chapters(root)] == ["01_a", "02_b", "10_last"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "no such notebook"),
        ("{ not json", "does not appear to be JSON"),
        ("", "does not appear to be JSON"),
        ("[]", "JSON that is not laid out as one"),
        ("null", "JSON that is not laid out as one"),
        (
            '{"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": 3}',
            "JSON that is not laid out as one",
        ),
        ('{"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": [{}]}', "missing an expected key"),
        ('{"name": "a package"}', "missing a key: cells"),
        ('{"nbformat": 99, "metadata": {}, "cells": []}', "Unsupported nbformat version 99"),
        ("\0", "does not appear to be JSON"),
    ],
)
def test_what_cannot_be_read_is_named_in_one_line_with_the_reason(tmp_path, content, reason):
    path = tmp_path / "04.ipynb"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UnreadableNotebook) as error:
        read(path)
    assert str(error.value).startswith(f"{path}: ") and reason in str(error.value)
    assert "\n" not in str(error.value)
    remedy = f"; mend it, or take the last committed version: git checkout -- {path}"
    assert str(error.value).endswith(remedy) is (content is not None)


def test_bytes_that_are_no_text_and_folders_are_no_notebooks(tmp_path):
    (tmp_path / "04.ipynb").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UnreadableNotebook, match=r"04\.ipynb: not a valid notebook .*utf-8"):
        read(tmp_path / "04.ipynb")
    with pytest.raises(UnreadableNotebook, match="cannot be read"):
        read(tmp_path)
