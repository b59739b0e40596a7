"""Whether the book's own settings and command refuse what is broken: a book of two pages, built with them."""

import re
import shutil
from pathlib import Path

import pytest
import yaml
from build import build

ROOT = Path(__file__).resolve().parents[2]
TOC = {"format": "jb-book", "root": "book/index", "chapters": [{"file": "book/second"}]}
FIRST = (
    "(here)=\n# First\n\nTo the [second](second.md) by {cite}`someone2020`, and to the end: {ref}`there`.\n"
)
SECOND = "# Second\n\n(there)=\n## References\n\nBack to {ref}`here`.\n\n```{bibliography}\n```\n"
BIBLIOGRAPHY = "@misc{someone2020, author = {Some One}, title = {A title}, year = {2020}}\n"


@pytest.fixture
def book(tmp_path) -> Path:
    """A folder with the real settings and style, and two honest pages; everything resolves."""
    root = tmp_path / "repository"
    shutil.copytree(ROOT / "book" / "_static", root / "book" / "_static")
    shutil.copytree(ROOT / "book" / "tools", root / "book" / "tools")
    shutil.copy(ROOT / "_config.yml", root)
    (root / "_toc.yml").write_text(yaml.safe_dump(TOC), encoding="utf-8")
    pages = {"index.md": FIRST, "second.md": SECOND, "references.bib": BIBLIOGRAPHY}
    for name, text in pages.items():
        (root / "book" / name).write_text(text, encoding="utf-8")
    (root / "chapters").mkdir()
    return root


def append(path: Path, text: str) -> None:
    path.write_text(path.read_text(encoding="utf-8") + text, encoding="utf-8")


def refusal(root: Path) -> str:
    with pytest.raises(SystemExit) as refused:
        build(root)
    return str(refused.value)


def test_an_honest_book_is_built(book):
    assert build(book).is_file()
    first = (book / "_build" / "html" / "book" / "index.html").read_text(encoding="utf-8")
    assert 'href="second.html#there"' in first
    assert re.search(r'href="second.html#id\d+"[^>]*>One, 2020<', first)


def test_a_broken_reference_is_named_again_and_again(book):
    """Sphinx reads only what has changed: without care a second build would find nothing wrong."""
    append(book / "book" / "second.md", "\nTo {ref}`nowhere-at-all`, by {py:func}`moe_lib.no_such_thing`.\n")
    first = refusal(book)
    assert re.search(r"book/second\.md:\d+: WARNING: .*nowhere-at-all", first)
    assert re.search(r"book/second\.md:\d+: WARNING: .*moe_lib\.no_such_thing", first)  # nitpicky: -n
    assert refusal(book) == first


def test_an_unknown_source_is_named(book):
    append(book / "book" / "second.md", "\nAs {cite}`nobody1999` showed, see [this](gone.md).\n")
    message = refusal(book)
    assert re.search(r"book/second\.md:\d+: WARNING: .*nobody1999", message)
    assert re.search(r"book/second\.md:\d+: WARNING: .*gone\.md", message)


def test_a_page_of_the_contents_that_is_not_there_is_named(book):
    toc = TOC | {"chapters": [{"file": "book/second"}, {"file": "book/third"}]}
    (book / "_toc.yml").write_text(yaml.safe_dump(toc), encoding="utf-8")
    assert "book/third" in refusal(book)
