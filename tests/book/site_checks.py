"""What the files of the built book have to fulfil, checked without a browser.

Each check takes what it judges and returns a list of problems; no problems, no list. The tests run the same
functions on the book and on small sites that are wrong on purpose.
"""

import json
import os
import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from urllib.parse import unquote, urlsplit

import yaml
from bs4 import BeautifulSoup, Tag

OUTSIDE = re.compile(r"\s*(?:(?:https?|wss?):)?//", re.IGNORECASE)
CSS_LOAD = re.compile(r"(?:url\(|@import)\s*[\"']?\s*((?:https?:)?//[^\"')\s]+)", re.IGNORECASE)
JS_LOAD = re.compile(
    r"(?:\bimport\s*\(?|\bfrom|\bimportScripts\(|\bfetch\(|\.src\s*=|\bnew\s+(?:Worker|WebSocket|EventSource)\()"
    r"\s*[\"'`]((?:(?:https?|wss?):)?//[^\"'`]+)"
)
# Relations that make a browser load something or connect; "next", "search" and the like only inform.
LOADING_LINKS = {
    *("stylesheet", "preload", "modulepreload", "prefetch", "preconnect", "dns-prefetch", "icon", "manifest")
}
LOADING_HREFS = {"image", "use", "feimage", "base"}


def toc_pages(toc: dict | list) -> list[str]:
    """The pages of a table of contents, in reading order and without suffix; the first is the root."""
    if isinstance(toc, list):
        return [page for entry in toc for page in toc_pages(entry)]
    own = [toc[key] for key in ("root", "file") if key in toc]
    return own + [page for key in ("parts", "chapters", "sections") for page in toc_pages(toc.get(key, []))]


def book_pages(root: Path) -> list[str]:
    return toc_pages(yaml.safe_load((root / "_toc.yml").read_text(encoding="utf-8")))


def page_source(root: Path, page: str) -> Path:
    """The file that a page is made from."""
    return next(path for suffix in (".md", ".ipynb") if (path := root / f"{page}{suffix}").is_file())


def prose(root: Path, page: str) -> str:
    """The text of a page's source without code, in small letters."""
    source = page_source(root, page)
    text = source.read_text(encoding="utf-8")
    if source.suffix == ".ipynb":
        cells = json.loads(text)["cells"]
        text = "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    return text.lower()


def own_word(root: Path, page: str, pages: list[str]) -> str:
    """The most frequent word of a page that no other page has, nor another form of it."""
    elsewhere = "".join(prose(root, other) for other in pages if other != page)
    text = re.sub(r"```.*?```|`[^`]*`|\$[^$]*\$|\{[^}]*\}|\([^)]*\)", " ", prose(root, page), flags=re.S)
    words = re.findall(r"(?<![\w-])[a-z]{7,}(?![\w-])", text)
    words = Counter(word for word in words if word[:5] not in elsewhere)
    assert words, f"{page} has no word of its own to search for"
    return max(words, key=lambda word: (words[word], word))


def missing_pages(site: Path, pages: list[str]) -> list[str]:
    """Pages of the table of contents that were not built, or that the index or the search do not know."""
    found = [f"{page}.html was not built" for page in pages if not (site / f"{page}.html").is_file()]
    first = f"{pages[0]}.html"
    if not (site / "index.html").is_file():
        found.append("there is no index.html")
    elif not re.search(rf"url={re.escape(first)}\b", (site / "index.html").read_text(encoding="utf-8")):
        found.append(f"index.html does not lead to {first}")
    if not (site / "objects.inv").is_file():
        found.append("there is no objects.inv, so other books cannot refer to this one")
    index = site / "searchindex.js"
    known = _searchable(index.read_text(encoding="utf-8")) if index.is_file() else []
    return found + [f"the search does not know {page}" for page in pages if page not in known]


def _searchable(script: str) -> list[str]:
    index = re.fullmatch(r"Search\.setIndex\((.*)\)\s*", script, flags=re.S)
    return json.loads(index[1])["docnames"] if index else []


def outside_loads(site: Path) -> list[str]:
    """Everything in pages, styles and scripts that would be loaded from another host."""
    found = [f"{name}: {load}" for name, page in _pages(site) for load in _page_loads(page)]
    for pattern, suffix in ((CSS_LOAD, "css"), (JS_LOAD, "js")):
        for path in sorted(site.rglob(f"*.{suffix}")):
            loads = pattern.findall(path.read_text(encoding="utf-8"))
            found += [f"{path.relative_to(site)}: loads {address}" for address in loads]
    return found


def _pages(site: Path) -> Iterator[tuple[str, BeautifulSoup]]:
    for path in sorted(site.rglob("*.html")):
        name = path.relative_to(site).as_posix()
        if not name.startswith("_static/"):  # templates of the theme, not pages
            yield name, _parse(path, path.stat().st_mtime_ns)


@cache
def _parse(path: Path, written: int) -> BeautifulSoup:
    return BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")


def _page_loads(page: BeautifulSoup) -> Iterator[str]:
    for tag in page.find_all(True):
        for attribute, address in _loaded(tag):
            if OUTSIDE.match(address):
                yield f"<{tag.name} {attribute}> loads {address.strip()}"
        for address in CSS_LOAD.findall(tag.get("style", "")):
            yield f"<{tag.name} style> loads {address}"
    for style in page.find_all("style"):
        yield from (f"<style> loads {address}" for address in CSS_LOAD.findall(style.get_text()))
    for script in page.find_all("script", src=False):
        yield from (f"<script> loads {address}" for address in JS_LOAD.findall(script.get_text()))


def _loaded(tag: Tag) -> Iterator[tuple[str, str]]:
    """The attributes of a tag that a browser follows by itself, with the addresses in them."""
    for attribute in ("src", "poster", "background", "data"):
        if attribute in tag.attrs and (attribute != "data" or tag.name == "object"):
            yield attribute, tag[attribute]
    for choice in tag.get("srcset", "").split(", "):
        yield "srcset", choice
    relations = {relation.lower() for relation in tag.get("rel", [])} if tag.name == "link" else set()
    for attribute in ("href", "xlink:href"):
        if attribute in tag.attrs and (tag.name in LOADING_HREFS or relations & LOADING_LINKS):
            yield attribute, tag[attribute]
    if tag.name == "meta" and tag.get("http-equiv", "").lower() == "refresh":
        yield "refresh", tag.get("content", "").partition("=")[2]


def broken_links(site: Path) -> list[str]:
    """Links, pictures, styles and scripts of the pages that point to what is not there."""
    pages = dict(_pages(site))
    anchors = {name: _anchors(page) for name, page in pages.items()}
    found = []
    for name, page in pages.items():
        for tag in page.select("a[href], link[href], img[src], script[src]"):
            address = tag.get("href", tag.get("src"))
            parts = urlsplit(address)
            if parts.scheme or parts.netloc:
                continue
            path = (site / name).parent / unquote(parts.path) if parts.path else site / name
            path = Path(os.path.normpath(path))
            target = path.relative_to(site).as_posix() if path.is_relative_to(site) else None
            if target is None or not path.is_file():
                found.append(f"{name}: {address} is not there")
            elif parts.fragment and target in pages and unquote(parts.fragment) not in anchors[target]:
                found.append(f"{name}: {address}: no such anchor in {target}")
    return list(dict.fromkeys(found))


def _anchors(page: BeautifulSoup) -> set[str]:
    return {tag["id"] for tag in page.select("[id]")} | {tag["name"] for tag in page.select("a[name]")}


def wrong_launch_links(site: Path, page: str, source: Path, config: dict) -> list[str]:
    """The Colab and the download button: on notebook pages right, on other pages no Colab button."""
    html = _parse(path := site / f"{page}.html", path.stat().st_mtime_ns)
    buttons = [link["href"] for link in html.select(".article-header-buttons a[href]")]
    colab = [link for link in buttons if "colab" in link]
    repository = config["repository"]
    owner_and_name = urlsplit(repository["url"]).path.strip("/")
    notebook = "/".join(part for part in (repository.get("path_to_book"), f"{page}.ipynb") if part)
    service = config["launch_buttons"]["colab_url"]
    right = f"{service}/github/{owner_and_name}/blob/{repository['branch']}/{notebook}"
    if source.suffix != ".ipynb":
        return [f"{page} is no notebook and has a Colab button: {link}" for link in colab]
    found = [] if colab == [right] else [f"{page}: Colab leads to {colab or 'nowhere'}; right were {right}"]
    downloads = [link for link in buttons if link.endswith(f"{source.name}") and not urlsplit(link).scheme]
    if len(downloads) != 1:
        found.append(f"{page}: {len(downloads)} download buttons for {source.name} instead of 1")
    return found + [
        f"{page}: the download {link} is no notebook"
        for link in downloads
        if not _is_notebook((site / f"{page}.html").parent / link)
    ]


def _is_notebook(path: Path) -> bool:
    try:
        return "cells" in json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
