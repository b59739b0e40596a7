"""Where rendered scenes are kept, under which name, and how files come and go."""

import ast
import hashlib
import io
import json
import os
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path
from threading import get_ident

from moe_lib.worlds.cache.records import MAGIC
from moe_lib.worlds.draws import WORLD
from moe_lib.worlds.tasks import Task

ENDING = ".scenes"
WORLDS = Path(__file__).resolve().parents[1]


def cache_folder(folder: str | Path | None = None) -> Path:
    """``folder``, otherwise what ``MOE_CACHE`` names, otherwise a folder in the user's cache."""
    if named := folder or os.environ.get("MOE_CACHE"):
        return Path(named).expanduser()
    if sys.platform == "win32":
        user = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
    elif sys.platform == "darwin":
        user = Path.home() / "Library" / "Caches"
    else:
        user = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(user) / "moe_lib"


def file_name(task: Task, code: str) -> str:
    """Says what is inside, and with which options, code and format: another world is another name."""
    made_by = [WORLD, MAGIC.decode(), code, type(task).__qualname__, task.options()]
    text = json.dumps(made_by, sort_keys=True, default=str)
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    return f"{task.name}-{task.split}-{task.n}-{task.size}px-{digest}{ENDING}"


def code_of(task: type) -> str | None:
    """Hash of the code that draws a task's scenes; None if that is in no file.

    That is the file of the class and whatever it imports of the world or from beside itself, and so on.
    Comments and docstrings do not count.
    """
    found = [getattr(sys.modules[kind.__module__], "__file__", None) for kind in task.__mro__[:-1]]
    if None in found:
        return None
    waiting, seen = [Path(file).resolve() for file in found], {}
    beside = waiting[0].parent
    while waiting:
        path = waiting.pop()
        if path not in seen:
            source = path.read_text(encoding="utf-8")
            seen[path] = _without_comments(source)
            waiting += _imported(ast.parse(source), path, beside)
    pieces = sorted(f"{path.name}\0{code}" for path, code in seen.items())
    return hashlib.sha256("\0\0".join(pieces).encode()).hexdigest()


def _imported(tree: ast.Module, path: Path, beside: Path) -> list[Path]:
    """Files of the world, and files beside the task, that a file imports."""
    files = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            files += [_file(alias.name, beside) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            folder = path.parents[node.level - 1] if node.level else beside
            module = node.module or ""
            files += [_file(f"{module}.{name.name}", folder) or _file(module, folder) for name in node.names]
    return [file for file in files if file]


def _file(module: str, folder: Path) -> Path | None:
    """The file of a module of the world or of one in ``folder``; None for all others."""
    parts = module.strip(".").split(".")
    if parts[0] == "moe_lib" and parts[1:2] in ([], ["worlds"]):
        folder, parts = WORLDS, parts[2:]  # `import moe_lib` may use any part of the world
    place = folder.joinpath(*parts)
    return next((file for file in (place.with_suffix(".py"), place / "__init__.py") if file.is_file()), None)


def _without_comments(source: str) -> str:
    """The tokens of a file, without comments, docstrings and blank lines."""
    tokens = [(kind, text) for kind, text in _tokens(source) if kind not in (tokenize.COMMENT, tokenize.NL)]
    kept: list[str] = []
    begins = True  # a statement
    for (kind, text), (after, _) in zip(tokens, [*tokens[1:], (None, "")], strict=True):
        docstring = begins and kind == tokenize.STRING and after == tokenize.NEWLINE
        ends = kind == tokenize.NEWLINE
        if not docstring and not (begins and ends):  # the line end of a docstring goes with it
            kept.append("\n" if ends else text.strip())
        begins = docstring or ends or kind in (tokenize.INDENT, tokenize.DEDENT)
    return "\0".join(kept)


def _tokens(source: str) -> Iterator[tuple[int, str]]:
    """Kinds and texts of the tokens, where every Python takes an f-string for one."""
    lines, begun = source.splitlines(keepends=True), []
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        name = tokenize.tok_name[token.type]
        if name == "FSTRING_START":  # from Python 3.12 on
            begun.append(token.start)
        elif name == "FSTRING_END":
            (row, column), (last, end) = begun.pop(), token.end
            if not begun:
                text = "".join(lines[row - 1 : last])
                yield tokenize.STRING, text[column : len(text) - len(lines[last - 1]) + end]
        elif not begun:
            yield token.type, token.string


def check_writable(folder: Path) -> None:
    """Make the folder, and raise an error that says what to do if nothing can be kept there."""
    probe = folder / f".{os.getpid()}.probe"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise OSError(
            f"scenes cannot be kept in {folder} ({error.strerror}); "
            "give another folder=…, or name one in the environment variable MOE_CACHE"
        ) from error


def write(path: Path, file: bytes) -> None:
    """Write under another name and rename: whoever looks sees all of it or nothing, also with two at once."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}-{get_ident()}.tmp")
    try:
        with open(unfinished, "wb") as out:
            out.write(file)
            out.flush()
            os.fsync(out.fileno())
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def kept(folder: str | Path | None = None) -> dict[Path, int]:
    """The rendered data sets that are kept, and the leftovers of killed runs, with their sizes in bytes.

    Introduced in :doc:`/chapters/pocket_world`.
    """
    folder = cache_folder(folder)
    files = [*folder.glob(f"*{ENDING}"), *folder.glob(f".*{ENDING}.*.tmp")]
    return {path: path.stat().st_size for path in sorted(files)}


def clear_cache(folder: str | Path | None = None) -> dict[Path, int]:
    """Remove every rendered data set that is kept, and return what was removed with its size in bytes.

    Introduced in :doc:`/chapters/pocket_world`.
    """
    removed = kept(folder)
    for path in removed:
        path.unlink(missing_ok=True)
    return removed
