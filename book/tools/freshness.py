"""Which notebooks are true to their sources: hashes of what produced a notebook and of what it shows.

A chapter is *fresh* when neither its code, nor `moe_lib`, nor the lock has changed since it was run, and
nobody has touched its outputs since. The runner stamps both hashes; the lint and the runner compare them.
"""

import hashlib
import json
from pathlib import Path

import nbformat
from code_text import code_only

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
    for path in sorted(p for p in library.rglob("*") if p.suffix in {".py", ".js", ".safetensors"}):
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


def _feed(digest, name: str, content: bytes) -> None:
    # Lengths keep two neighbouring pieces from passing for one other pair.
    digest.update(f"{name}\0{len(content)}\0".encode() + content)
