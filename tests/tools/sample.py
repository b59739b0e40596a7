"""A small chapter with everything that a chapter has, for tests to break.

Its outputs are written out here, as running it with the real `moe_lib` makes them: tests/notebooks re-runs it
with nbval and finds no difference.
"""

import base64
import struct
import zlib
from pathlib import Path

import nbformat
from colab import COLAB_TAGS, colab_cell
from figures import FIGURE_MIME
from freshness import stamp
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

NAME = "99_sample"
ALT = "A line that climbs from 0 at x = 0 to 9 at x = 3, steeper & steeper."
CAPTION = "The squares of 0 to 3, computed by the chapter's own function."
DATA = {"axes0/line0": [[0.0, 0.0], [1.0, 1.0], [2.0, 4.0], [3.0, 9.0]]}
PIXEL_COLOURS = {"black": b"\0\0\0", "white": b"\xff\xff\xff"}


def make_repository(root: Path) -> Path:
    """A repository with as much in it as a chapter depends on; returns its root."""
    files = {
        "_config.yml": "repository:\n  url: https://example.org/books/experts\n",
        "requirements.lock": "numpy==2.3.4\n",
        "moe_lib/__init__.py": '"""A library."""\n\nANSWER = 42\n',
    }
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content, encoding="utf-8")
    (root / "chapters").mkdir()
    return root


def make_chapter(root: Path) -> NotebookNode:
    """The chapter, valid in every respect and stamped; not yet written."""
    cells = [
        new_code_cell(colab_cell(root), metadata={"tags": list(COLAB_TAGS)}),
        new_markdown_cell("(sample)=\n# A small chapter\n\nIt squares numbers."),
        new_markdown_cell("## Objectives\n\nAfter this page you can square a number."),
        new_code_cell('scale = "pocket"  # of the run\ndevice = "auto"\nseeds = 2\nout = "results"'),
        new_code_cell("import matplotlib.pyplot as plt\n\nimport moe_lib as moe"),
        new_code_cell('def square(x):\n    """Of one number."""\n    return x * x'),
        new_code_cell(
            "# NBVAL_CHECK_OUTPUT\nprint([square(x) for x in range(4)])", outputs=[text("[0, 1, 4, 9]\n")]
        ),
        new_code_cell(
            '# NBVAL_CHECK_OUTPUT\nmoe.expect("square of a half", square(0.5), near=0.25, tol=0.01)',
            outputs=[text("✓ square of a half: 0.25 ± 0.01\n")],
        ),
        new_markdown_cell("## Look inside\n\n![A drawing of a square whose sides are named x](square.svg)"),
        new_code_cell(
            "fig, ax = plt.subplots()\nax.plot([square(x) for x in range(4)])\n"
            f"moe.show(fig, name={'squares'!r}, alt={ALT!r},\n         caption={CAPTION!r})",
            outputs=[figure()],
        ),
        new_markdown_cell("## Exercises"),
        new_markdown_cell(
            "```{exercise} Cubes\n:label: ex-cube\n\nWrite `cube(x)`.\n```",
            metadata={"tags": ["exercise"]},
        ),
        new_markdown_cell("````{solution-start} ex-cube\n:class: dropdown\n````"),
        new_code_cell(
            "def cube(x):\n    # BEGIN SOLUTION\n    return x * square(x)\n    # END SOLUTION",
            metadata={"tags": ["solution"]},
        ),
        new_markdown_cell("````{solution-end}\n````"),
        new_code_cell(
            '# NBVAL_CHECK_OUTPUT\nassert cube(2) == 8, "did you multiply twice?"\nprint("right for 2")',
            outputs=[text("right for 2\n")],
            metadata={"tags": ["check"]},
        ),
    ]
    cells[3].metadata["tags"] = ["parameters"]
    for index, cell in enumerate(cells):
        cell["id"] = f"cell-{index}"
    for count, cell in enumerate((cell for cell in cells if cell.cell_type == "code"), start=1):
        cell.execution_count = count
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nb = new_notebook(cells=cells, metadata={"kernelspec": kernel, "language_info": {"name": "python"}})
    stamp(nb, scale="pocket", device="cpu", seconds=1.0, root=root)
    return nb


def write(nb: NotebookNode, root: Path) -> Path:
    """Put a notebook among the chapters of a repository."""
    path = root / "chapters" / f"{NAME}.ipynb"
    nbformat.write(nb, path)
    return path


def cell_with(nb: NotebookNode, words: str) -> NotebookNode:
    """The one cell whose source contains these words."""
    (cell,) = (cell for cell in nb.cells if words in cell.source)
    return cell


def text(printed: str, name: str = "stdout") -> NotebookNode:
    return new_output("stream", name=name, text=printed)


def figure(name: str = "squares") -> NotebookNode:
    """What `moe.show` displays, with a simpler drawing."""
    label = ALT.replace("&", "&amp;")
    drawing = f'<svg viewBox="0 0 3 9" role="img" aria-label="{label}"><path d="M0 9 1 8 2 5 3 0"/></svg>'
    page = f'<figure id="figure-{name}">{drawing}<figcaption>{CAPTION}</figcaption></figure>'
    data = {
        "text/plain": f"<figure {name}>",
        "text/html": page,
        "image/png": png("black"),
        FIGURE_MIME: {"name": name, "alt": ALT, "caption": CAPTION, "tol": 1e-3, "data": dict(DATA)},
    }
    return new_output("display_data", data=data)


def png(colour: str) -> str:
    """A picture of one pixel, as a notebook keeps it."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + check

    header = struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0)
    pixels = zlib.compress(b"\0" + PIXEL_COLOURS[colour])
    raw = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    return base64.b64encode(raw).decode() + "\n"
