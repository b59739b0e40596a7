"""Parts of pages that are made from results when the book is built."""

from pathlib import Path


def write_part(root: Path, name: str, text: str) -> Path:
    """Write ``book/_generated/<name>.md``, and only when it changed: builds stay incremental."""
    path = Path(root) / "book" / "_generated" / f"{name}.md"
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return path
