"""Which notebooks are true to their sources: hashes of what produced a notebook and of what it shows.

A chapter is *fresh* when neither its code, nor `moe_lib`, nor the lock has changed since it was run, and
nobody has touched its outputs since. The runner stamps both hashes; the lint and the runner compare them.
"""

import ast
import hashlib
import io
import json
import tokenize
from pathlib import Path

import nbformat

ROOT = Path(__file__).resolve().parents[2]
COMMITTED_SCALE = "pocket"
NO_OUTCOME = {"colab", "injected-parameters"}  # tags of cells that do not decide what the others show


class UnreadableNotebook(ValueError):
    """The file is not a notebook; the message names the file and the reason in one line."""


def chapters(root: Path = ROOT) -> list[Path]:
    """The notebooks of the book, in reading order."""
    return sorted((Path(root) / "chapters").glob("*.ipynb"))


def read(path: Path) -> nbformat.NotebookNode:
    """Read a notebook, or say in one line why that is impossible."""
    try:
        nb = nbformat.reads(Path(path).read_text(encoding="utf-8"), as_version=4)
        nbformat.validate(nb)
    except FileNotFoundError:
        raise UnreadableNotebook(f"{path}: no such notebook") from None
    except OSError as error:
        raise UnreadableNotebook(f"{path}: cannot be read ({error.strerror})") from None
    except (AttributeError, KeyError, TypeError):
        raise _invalid(path, "JSON that is not laid out as one") from None
    except (ValueError, nbformat.ValidationError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise _invalid(path, reason) from None
    return nb


def _invalid(path: Path, reason: str) -> UnreadableNotebook:
    path = Path(path)
    if path.resolve().parent.name == "chapters":  # as git calls it in the root, where commands are typed
        path = Path("chapters") / path.name
    return UnreadableNotebook(
        f"{path}: not a valid notebook ({reason}); mend it, or take the last committed version: "
        f"git checkout -- {path}"
    )


def code_hash(nb: nbformat.NotebookNode, root: Path = ROOT) -> str:
    """Hash of everything that decides a notebook's outputs: its code, the library, the lock.

    Comments and docstrings do not count, so that mending a sentence in the library does not make ten
    chapters stale; nor does the Colab cell, so that a fork with an address of its own stays fresh.
    """
    root = Path(root)
    digest = hashlib.sha256()
    for cell in nb.cells:
        if cell.cell_type == "code" and not NO_OUTCOME & set(cell.metadata.get("tags", [])):
            _feed(digest, "cell", code_only(cell.source).encode())
    library = root / "moe_lib"
    for path in sorted(p for p in library.rglob("*") if p.suffix in {".py", ".safetensors"}):
        content = path.read_bytes()
        if path.suffix == ".py":
            content = code_only(content.decode()).encode()
        _feed(digest, path.relative_to(root).as_posix(), content)
    lock = root / "requirements.lock"
    _feed(digest, "lock", lock.read_bytes() if lock.exists() else b"")
    return digest.hexdigest()


def outputs_hash(nb: nbformat.NotebookNode) -> str:
    """Hash of what a notebook shows: every output and every execution count."""
    shown = [[cell.id, cell.execution_count, cell.outputs] for cell in nb.cells if cell.cell_type == "code"]
    return hashlib.sha256(json.dumps(shown, sort_keys=True).encode()).hexdigest()


def stamp(nb: nbformat.NotebookNode, *, scale: str, device: str, seconds: float, root: Path = ROOT) -> None:
    """Write into the notebook what produced it."""
    nb.metadata["moe"] = {
        "code": code_hash(nb, root),
        "outputs": outputs_hash(nb),
        "scale": scale,
        "device": device,
        "seconds": round(seconds, 1),
    }


def is_fresh(nb: nbformat.NotebookNode, root: Path = ROOT) -> bool:
    """Whether the committed outputs are what the present sources produced."""
    made = nb.metadata.get("moe", {})
    return (
        made.get("scale") == COMMITTED_SCALE
        and made.get("code") == code_hash(nb, root)
        and made.get("outputs") == outputs_hash(nb)
    )


def code_only(source: str) -> str:
    """Python source without comments, docstrings, blank lines and trailing space.

    Text is cut out rather than unparsed, because `ast.unparse` differs between Python versions and the
    hash must not. What cannot be parsed (a cell with a magic) counts as it stands.
    """
    source = source.replace("\r\n", "\n").replace("\r", "\n")  # as Python reads it
    try:
        tree = ast.parse(source)
        tokens = list(tokenize.generate_tokens(io.StringIO(source).readline))
    except (SyntaxError, tokenize.TokenError):
        return source
    lines = source.split("\n")  # not splitlines: to Python a form feed ends no line
    for token in tokens:
        if token.type == tokenize.COMMENT:
            row, column = token.start
            lines[row - 1] = lines[row - 1][:column]
    inside_text = _rows_inside_text(tokens)
    for docstring in filter(None, map(_docstring, ast.walk(tree))):
        first, last = docstring.lineno - 1, docstring.end_lineno
        before = lines[first].encode()[: docstring.col_offset]
        after = lines[last - 1].encode()[docstring.end_col_offset :]
        if not before.strip() and not after.strip():
            lines[first:last] = [""] * (last - first)
            inside_text.difference_update(range(docstring.lineno, last))
    return "\n".join(
        line if row in inside_text else line.rstrip()
        for row, line in enumerate(lines, start=1)
        if line.strip() or row in inside_text
    )


def _rows_inside_text(tokens: list[tokenize.TokenInfo]) -> set[int]:
    """Rows that end within a string: their blank lines and trailing spaces are content."""
    rows, begun = set(), []
    for token in tokens:
        kind = tokenize.tok_name[token.type]
        if kind == "STRING":
            rows.update(range(token.start[0], token.end[0]))
        elif kind == "FSTRING_START":  # from Python 3.12 on, an f-string is several tokens
            begun.append(token.start[0])
        elif kind == "FSTRING_END":
            rows.update(range(begun.pop(), token.end[0]))
    return rows


def _docstring(node: ast.AST) -> ast.Expr | None:
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    if isinstance(node, documented) and ast.get_docstring(node, clean=False) is not None:
        return node.body[0]
    return None


def _feed(digest, name: str, content: bytes) -> None:
    # Lengths keep two neighbouring pieces from passing for one other pair.
    digest.update(f"{name}\0{len(content)}\0".encode() + content)
