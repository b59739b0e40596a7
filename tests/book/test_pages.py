"""The built book's files: all there, all linked, nothing from elsewhere; each check also on a wrong site."""

import json
import shutil
from pathlib import Path

import pytest
import yaml
from site_checks import (
    book_pages,
    broken_links,
    missing_pages,
    outside_loads,
    page_source,
    toc_pages,
    wrong_launch_links,
)
from visit import built

ROOT = Path(__file__).resolve().parents[2]
PAGES = book_pages(ROOT)
CONFIG = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))


def test_every_page_of_the_contents_is_there(site):
    assert not missing_pages(site, PAGES)


def test_nothing_is_loaded_from_another_host(site):
    assert not outside_loads(site)


def test_every_link_within_the_book_leads_somewhere(site):
    assert not broken_links(site)


@pytest.mark.parametrize("page", PAGES)
def test_colab_and_download_buttons(site, page):
    assert not wrong_launch_links(site, page, page_source(ROOT, page), CONFIG)


def test_the_contents_are_read_in_order_and_to_the_bottom():
    toc = """
        root: a
        parts:
          - chapters:
              - file: b
                sections: [{file: c}]
              - file: d
          - chapters: [{url: "https://example.org"}, {file: e}]
    """
    assert toc_pages(yaml.safe_load(toc)) == ["a", "b", "c", "d", "e"]


# Negative controls: a small site, and what is wrong when one of its files is replaced or (None) missing.

FIRST, SECOND, DOWNLOAD = "book/first.html", "chapters/00_two.html", "_sources/chapters/00_two.ipynb"
NAMES = ["book/first", "chapters/00_two"]
COLAB = "https://colab.research.google.com/github/owner/name/blob/main/chapters/00_two.ipynb"
BUTTONS = (
    '<div class="article-header-buttons"><a href="{}">Colab</a>'
    '<a href="../_sources/chapters/00_two.ipynb">Download</a></div>'
)
HONEST = {
    "index.html": '<meta http-equiv="Refresh" content="0; url=book/first.html" />',
    FIRST: '<link rel="stylesheet" href="../_static/a.css"><h1 id="top">One</h1>'
    '<a href="../chapters/00_two.html#end">two</a> <a href="#top">up</a> <a href="https://example.org">out</a>',
    SECOND: BUTTONS.format(COLAB) + '<p id="end"><a href="../book/first.html">back</a></p>',
    DOWNLOAD: '{"cells": []}',
    "_static/a.css": "p { background: url(a.png) } /* https://example.org */",
    "_static/a.js": '// see "https://example.org"\nimport "./b.js";',
    "searchindex.js": f"Search.setIndex({json.dumps({'docnames': NAMES})})",
    "objects.inv": "",
}
SETTINGS = {
    "repository": {"url": "https://example.org/owner/name", "branch": "main", "path_to_book": ""},
    "launch_buttons": {"colab_url": "https://colab.research.google.com"},
}


def launch_links(site: Path) -> list[str]:
    return [
        problem
        for page, suffix in zip(NAMES, (".md", ".ipynb"), strict=True)
        for problem in wrong_launch_links(site, page, Path(page + suffix), SETTINGS)
    ]


def pages(site: Path) -> list[str]:
    return missing_pages(site, NAMES)


def write(site: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        (site / name).parent.mkdir(parents=True, exist_ok=True)
        (site / name).write_text(content, encoding="utf-8")
    return site


def test_an_honest_site_passes(tmp_path):
    site = write(tmp_path, HONEST)
    assert [check(site) for check in (pages, outside_loads, broken_links, launch_links)] == [[]] * 4


OUT = "//cdn.example.org/x"
CONTROLS = [
    (pages, SECOND, None, "chapters/00_two.html was not built"),
    (pages, "index.html", None, "no index.html"),
    (
        pages,
        "index.html",
        '<meta http-equiv="Refresh" content="0; url=a.html">',
        "does not lead to book/first",
    ),
    (pages, "objects.inv", None, "no objects.inv"),
    (pages, "searchindex.js", None, "the search does not know book/first"),
    (pages, "searchindex.js", 'Search.setIndex({"docnames": ["book/first"]})', "not know chapters/00_two"),
    (broken_links, FIRST, '<a href="gone.html">?</a>', "gone.html is not there"),
    (broken_links, FIRST, '<a href="../chapters/00_two.html#beginning">?</a>', "no such anchor"),
    (broken_links, FIRST, '<a href="#nowhere">?</a>', "no such anchor"),
    (broken_links, FIRST, '<img src="gone.png">', "gone.png is not there"),
    (broken_links, FIRST, '<a href="../../../elsewhere.html">?</a>', "is not there"),
    (outside_loads, FIRST, f'<script src="https:{OUT}"></script>', "<script src> loads"),
    (outside_loads, FIRST, f'<img src="{OUT}">', "<img src> loads //"),
    (outside_loads, FIRST, f'<img srcset="a.png 1x, https:{OUT} 2x">', "<img srcset>"),
    (outside_loads, FIRST, f'<link rel="stylesheet" href="{OUT}">', "<link href> loads"),
    (outside_loads, FIRST, f'<link rel="preconnect" href="https:{OUT}">', "<link href> loads"),
    (outside_loads, FIRST, f'<object data="https:{OUT}"></object>', "<object data> loads"),
    (outside_loads, FIRST, f'<svg><image xlink:href="http:{OUT}"/></svg>', "<image xlink:href>"),
    (outside_loads, FIRST, f'<p style="background: url(https:{OUT})">', "<p style> loads"),
    (outside_loads, FIRST, f"<style>@import '{OUT}';</style>", "<style> loads"),
    (outside_loads, FIRST, f'<script type="module">import "https:{OUT}"</script>', "<script> loads"),
    (outside_loads, FIRST, f'<script>fetch("https:{OUT}")</script>', "<script> loads"),
    (outside_loads, "index.html", f'<meta http-equiv="refresh" content="0; url=https:{OUT}">', "refresh"),
    (outside_loads, "_static/a.css", f'@import "https:{OUT}";', "_static/a.css: loads https:"),
    (outside_loads, "_static/a.css", f"@font-face {{ src: url({OUT}) }}", "_static/a.css: loads //cdn"),
    (outside_loads, "_static/a.js", f'import {{ x }} from "https:{OUT}";', "_static/a.js: loads https:"),
    (launch_links, SECOND, BUTTONS.format(COLAB.replace("00", "01")), "Colab leads to"),
    (launch_links, SECOND, BUTTONS.format(COLAB.replace("owner", "other")), "Colab leads to"),
    (launch_links, SECOND, "", "Colab leads to nowhere"),
    (launch_links, SECOND, "", "0 download buttons"),
    (launch_links, FIRST, BUTTONS.format(COLAB), "is no notebook and has a Colab button"),
    (launch_links, DOWNLOAD, None, "the download ../_sources"),
    (launch_links, DOWNLOAD, "<html>", "the download ../_sources"),
]


@pytest.mark.parametrize(
    ("check", "name", "content", "words"),
    CONTROLS,
    ids=[f"{check.__name__}: {words}" for check, *_, words in CONTROLS],
)
def test_what_is_wrong_is_reported(check, name, content, words, tmp_path):
    site = write(tmp_path, HONEST)
    if content is None:
        (site / name).unlink()
    else:
        write(site, {name: content})
    problems = check(site)
    assert any(words in problem for problem in problems), problems


def test_a_page_removed_from_the_real_book_is_missed(site, tmp_path):
    for name in ("index.html", "objects.inv", "searchindex.js", *(f"{page}.html" for page in PAGES[:-1])):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(site / name, tmp_path / name)
    assert missing_pages(tmp_path, PAGES) == [f"{PAGES[-1]}.html was not built"]


def test_without_a_built_book_the_tests_fail(tmp_path):
    with pytest.raises(pytest.fail.Exception, match="build the book first: make book"):
        built(tmp_path)
