"""What the rules of the lint share: small questions about a notebook and its cells."""

import ast
from collections.abc import Callable, Iterator
from pathlib import Path

from freshness import ROOT
from lift import python_source
from nbformat import NotebookNode
from prose import headings

Found = Iterator[tuple[int | None, str]]  # cell number, or None for the whole notebook; what is wrong
Rule = Callable[[NotebookNode, Path], Found]

MARKER = "# NBVAL_CHECK_OUTPUT"
RUN = "run `make notebooks`"


def root_of(path: Path) -> Path:
    """The repository that a chapter belongs to; ours for a notebook that lies elsewhere."""
    root = Path(path).resolve().parents[1]
    return root if (root / "_config.yml").exists() else ROOT


def tags(cell: NotebookNode) -> list[str]:
    return list(cell.get("metadata", {}).get("tags", []))


def code_cells(nb: NotebookNode) -> list[tuple[int, NotebookNode]]:
    return [(index, cell) for index, cell in enumerate(nb.cells) if cell.cell_type == "code"]


def markdown_cells(nb: NotebookNode) -> list[tuple[int, NotebookNode]]:
    return [(index, cell) for index, cell in enumerate(nb.cells) if cell.cell_type == "markdown"]


def outputs(nb: NotebookNode) -> list[tuple[int, NotebookNode]]:
    """Every output with the number of its cell."""
    return [(index, output) for index, cell in code_cells(nb) for output in cell.outputs]


def all_headings(nb: NotebookNode) -> list[tuple[int, int, str]]:
    """Cell number, level and text of every heading."""
    return [(index, *heading) for index, cell in markdown_cells(nb) for heading in headings(cell.source)]


def is_marked(cell: NotebookNode) -> bool:
    """Whether nbval compares the outputs of this cell."""
    return cell.source.splitlines()[:1] == [MARKER]


def calls(cell: NotebookNode, *, inside_definitions: bool = False) -> set[str]:
    """What a cell calls: ``moe.show``, ``%pip``, ``%%bash``, and ``!`` for a shell command.

    Without ``inside_definitions`` only what happens when the cell runs, not what its functions would do.
    """
    try:
        waiting: list[ast.AST] = [ast.parse(python_source(cell.source))]
    except SyntaxError:
        return set()  # such a cell has no outputs, or an error among them: other rules speak up
    found = set()
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) and not inside_definitions:
            continue
        if isinstance(node, ast.Call):
            found.add(_called(node))
        waiting.extend(ast.iter_child_nodes(node))
    return found


def literals(cell: NotebookNode) -> dict | None:
    """Name → value where a cell does nothing but assign literal values, else None."""
    try:
        return {line.targets[0].id: ast.literal_eval(line.value) for line in ast.parse(cell.source).body}
    except (SyntaxError, ValueError, AttributeError):
        return None


def strings(node: object) -> Iterator[str]:
    """Every text in a piece of a notebook, at any depth; pictures made of bytes are left out."""
    if isinstance(node, str):
        yield node
    elif isinstance(node, list | tuple):
        for item in node:
            yield from strings(item)
    elif isinstance(node, dict):
        for key, item in node.items():
            if not key.startswith("image/") or key == "image/svg+xml":
                yield from strings(item)


def _called(node: ast.Call) -> str:
    name = ast.unparse(node.func)
    first = node.args[0].value if node.args and isinstance(node.args[0], ast.Constant) else ""
    magics = {
        "get_ipython().system": "!",
        "get_ipython().getoutput": "!",
        "get_ipython().run_line_magic": f"%{first}",
        "get_ipython().run_cell_magic": f"%%{first}",
    }
    return magics.get(name, name)
