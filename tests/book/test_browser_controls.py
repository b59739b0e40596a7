"""Each check of page_checks.py on pages that are wrong on purpose; on an honest page all are silent."""

import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

import page_checks as checks
import pytest
from site_checks import book_pages, own_word
from visit import DESKTOP, PHONE, NoBrowser, Visit, do_without, find_chromium, open_page, serve

ROOT = Path(__file__).resolve().parents[2]
PAGES = book_pages(ROOT)
CHAPTER = next(page for page in PAGES if page.startswith("chapters/"))
ELSEWHERE = "//cdn.example.org/x"

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>A page</title><link rel="icon" href="data:,">
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
  :root {{ background: white; color: black }} :root[data-theme=dark] {{ background: #121212; color: #ced6dd }}
  .toggle-hidden > section {{ display: none }}
</style>
<script>
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const follow = () => document.documentElement.dataset.theme = dark.matches ? "dark" : "light";
  dark.addEventListener("change", follow); follow();
</script></head><body><main><article><h1>A page</h1>
{}
</article></main></body></html>"""
SOLUTION = """<div class="solution {hidden}">
    <p class="admonition-title">Solution {button}</p><section>42</section></div>"""
BUTTON = """<button onclick="this.closest('.solution').classList.{verb}('toggle-hidden')">open</button>"""
FOLDED = SOLUTION.format(hidden="toggle-hidden", button=BUTTON.format(verb="remove"))
DRAWING = '<figure><svg role="img" aria-label="a word" viewBox="0 0 90 20" width="300">{}</svg></figure>'
DOT = "data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7"
HONEST = f"""
    <img src="{DOT}" alt="A dot"> {FOLDED}
    {DRAWING.format('<text y="15" style="fill: currentColor">word</text>')}
    <p>So <span class="math"><mjx-container>x</mjx-container></span>.</p>
    <div style="overflow-x: auto" tabindex="0"><p style="width: 900px">wide, in a box that scrolls</p></div>
"""
one_solution = partial(checks.open_solutions, expected=1)
follows_dark = partial(checks.wrong_theme, theme="dark")


def faint_in_the_dark(visit: Visit) -> list[str]:
    return follows_dark(visit) + checks.faint_figure_text(visit)


CONTROLS = [
    (checks.console_errors, '<script>console.error("spilt")</script>', "spilt"),
    (checks.console_errors, '<script>throw new Error("thrown")</script>', "thrown"),
    (
        checks.console_errors,
        "<script>const a = 1</script><script>const a = 2</script>",
        "already been declared",
    ),
    (checks.outside_requests, f'<img src="http:{ELSEWHERE}" alt="x">', f"http:{ELSEWHERE}"),
    (checks.outside_requests, f'<script src="https:{ELSEWHERE}"></script>', f"https:{ELSEWHERE}"),
    (
        checks.outside_requests,
        f"<style>p {{ background: url(https:{ELSEWHERE}) }}</style><p>x</p>",
        ELSEWHERE,
    ),
    (checks.outside_requests, f'<script>fetch("https:{ELSEWHERE}").catch(() => 0)</script>', ELSEWHERE),
    (checks.outside_requests, f'<script>new WebSocket("ws:{ELSEWHERE}")</script>', f"ws:{ELSEWHERE}"),
    (checks.failed_requests, '<img src="gone.png" alt="x">', "gone.png: "),
    (checks.failed_requests, '<link rel="stylesheet" href="gone.css">', "gone.css: "),
    (checks.sideways_scrolling, '<div class="broad" style="width: 900px">x</div>', "div.broad: its right"),
    (checks.sideways_scrolling, '<div style="width: 900px">x</div>', "px wide and scrolls sideways"),
    (checks.sideways_scrolling, '<p style="overflow: hidden"><b style="padding: 900px">x</b></p>', "b: its"),
    (checks.images_without_words, f'<img src="{DOT}">', "<img"),
    (checks.images_without_words, f'<img src="{DOT}" alt=" ">', "<img"),
    (checks.images_without_words, '<svg role="img"><path d="M0 0"/></svg>', "<svg"),
    (checks.images_without_words, '<figure><svg><path d="M0 0"/></svg></figure>', "<svg"),
    (checks.raw_math, r'<span class="math">\(x^2\)</span>', r"not set by MathJax: \(x^2\)"),
    (
        checks.raw_math,
        '<span class="math"><mjx-container><mjx-merror>\\x</mjx-merror></mjx-container></span>',
        "not set",
    ),
    (follows_dark, '<script>dark.removeEventListener("change", follow)</script>', "dark theme"),
    (checks.axe_violations, '<p style="color: #999; background: white">faint</p>', "serious: color-contrast"),
    (checks.axe_violations, "<button></button>", "critical: button-name"),
    (
        checks.axe_violations,
        '<div role="list"><div role="doc-biblioentry"><a href="#">a book</a></div></div>',
        "critical: aria-required-children",
    ),
    (checks.faint_figure_text, DRAWING.format('<text y="15" fill="#888">faint</text>'), "'faint'"),
    (checks.faint_figure_text, DRAWING.format('<g opacity=".5"><text y="15">thin</text></g>'), "'thin'"),
    (
        checks.faint_figure_text,
        DRAWING.format('<path d="M0 0h90v20h-90z" fill="#333"/><text y="15">on a patch</text>'),
        "'on a patch'",
    ),
    (faint_in_the_dark, DRAWING.format('<text y="15" fill="black">always black</text>'), "'always black'"),
    (one_solution, "", "0 solutions instead of 1"),
    (one_solution, SOLUTION.format(hidden="", button=""), "solution 1 is not folded"),
    (one_solution, SOLUTION.format(hidden="toggle-hidden", button=""), "solution 1 has no button"),
    (
        one_solution,
        SOLUTION.format(hidden="toggle-hidden", button=BUTTON.format(verb="add")),
        "solution 1 does not open",
    ),
]

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("pages")


@pytest.fixture(scope="module")
def home(folder):
    with serve(folder) as address:
        yield address


@pytest.fixture
def show(folder, home, context_of):
    """Open a page with this body, as wide as the check wants it."""

    def show(body: str, size: tuple[int, int] = DESKTOP, file: bool = False) -> Visit:
        (folder / "page.html").write_text(PAGE.format(body), encoding="utf-8")
        start = f"{folder.as_uri()}/" if file else home
        return open_page(context_of(size, "light"), f"{start}page.html", start)

    return show


def name(check: Callable) -> str:
    return getattr(check, "func", check).__name__


@pytest.mark.parametrize("check", dict.fromkeys(check for check, *_ in CONTROLS), ids=name)
def test_an_honest_page_passes(check, show):
    assert not check(show(HONEST, PHONE if check is checks.sideways_scrolling else DESKTOP))


@pytest.mark.parametrize(
    ("check", "body", "words"), CONTROLS, ids=[f"{name(check)}: {words}" for check, _, words in CONTROLS]
)
def test_what_is_wrong_is_reported(check, body, words, show):
    problems = check(show(body, PHONE if check is checks.sideways_scrolling else DESKTOP))
    assert any(words in problem for problem in problems), problems


@pytest.mark.parametrize("scheme", ["http:", "https:"])
def test_a_request_from_a_file_is_noticed_and_does_not_leave_the_machine(scheme, show):
    visit = show(f'<img src="{scheme}{ELSEWHERE}" alt="x">', file=True)
    assert checks.outside_requests(visit) == [f"asked another host: {scheme}{ELSEWHERE}"]
    assert visit.failures == [f"{scheme}{ELSEWHERE}: net::ERR_FAILED"]


@pytest.fixture
def tampered(browser, site, address):
    """Open a page of the real book as it would be with one thing changed in one of its files."""
    view = {"width": DESKTOP[0], "height": DESKTOP[1]}
    context = browser.new_context(viewport=view, color_scheme="dark", reduced_motion="reduce")

    def open_tampered(page: str, file: str, old: str, new: str | Callable, query: str = "") -> Visit:
        text, changes = re.subn(old, new, (site / file).read_text(encoding="utf-8"), flags=re.S)
        assert changes, f"{file} has no {old!r} to change"
        kind = {"html": "text/html", "css": "text/css", "js": "text/javascript"}[file.rpartition(".")[2]]
        context.route(
            lambda url: url.startswith(f"{address}{file}"),
            lambda route: route.fulfill(body=text, content_type=f"{kind}; charset=utf-8"),
        )
        return open_page(context, f"{address}{page}.html{query}", address)

    yield open_tampered
    context.close()


BOOK_CONTROLS = {
    "MathJax is missing": (
        checks.raw_math,
        (CHAPTER, f"{CHAPTER}.html", r"<script[^>]*tex-chtml\.js[^>]*></script>", ""),
        "not set by MathJax",
    ),
    "figures keep the ink of the light theme": (
        checks.faint_figure_text,
        (CHAPTER, f"{CHAPTER}.html", "currentColor", "#222832"),
        "in a drawing",
    ),
    "paragraphs keep the ink of the light theme": (
        checks.axe_violations,
        (PAGES[0], "_static/book.css", r"\Z", "article p { color: #222832 }"),
        "serious: color-contrast",
    ),
    "buttons of a hidden bar are the first ones": (
        checks.dead_menus,
        (
            CHAPTER,
            f"{CHAPTER}.html",
            '<header id="pst-header" class="bd-header" hidden>',
            r'\g<0><i class="primary-toggle"></i><i class="secondary-toggle"></i>',
        ),
        "does not open the menu",
    ),
    "the page has no bar": (
        checks.dead_menus,
        (CHAPTER, f"{CHAPTER}.html", "bd-header-article", "bd-header-elsewhere"),
        "no button for the menu",
    ),
    "a solution is not folded": (
        checks.open_solutions,
        (CHAPTER, f"{CHAPTER}.html", "solution dropdown", "solution"),
        "is not folded at first",
    ),
    "alt texts are gone": (
        checks.images_without_words,
        (CHAPTER, f"{CHAPTER}.html", 'aria-label="[^"]*"', ""),
        "no text for those who cannot see it: <svg",
    ),
    "a wide thing": (
        checks.sideways_scrolling,
        (CHAPTER, f"{CHAPTER}.html", "</h1>", '</h1><div style="width: 900px">x</div>'),
        "scrolls sideways",
    ),
}


@pytest.mark.parametrize(("check", "change", "words"), BOOK_CONTROLS.values(), ids=BOOK_CONTROLS)
def test_a_change_of_the_real_book_is_reported(check, change, words, tampered):
    visit = tampered(*change)
    problems = check(visit, expected=0) if check is checks.open_solutions else check(visit)
    assert any(words in problem for problem in problems), problems


def forget_all_words(script: re.Match) -> str:
    index = json.loads(script[1])
    index |= {key: {} for key in ("alltitles", "indexentries", "terms", "titleterms")}
    return f"Search.setIndex({json.dumps(index)})"


def test_a_search_index_without_the_word_is_reported(tampered):
    query = f"?q={own_word(ROOT, CHAPTER, PAGES)}"
    visit = tampered("search", "searchindex.js", r"Search\.setIndex\((.*)\)", forget_all_words, query)
    (problem,) = checks.search_misses(visit, CHAPTER)
    assert problem.endswith(f"no {CHAPTER} in []")


def test_a_search_that_breaks_is_reported(tampered, monkeypatch):
    monkeypatch.setattr(checks, "WAIT_MS", 500)
    visit = tampered("search", "searchindex.js", r"Search\.setIndex", "Search.setIndexx", "?q=anything")
    (problem,) = checks.search_misses(visit, CHAPTER)
    assert "does not come to an end" in problem


def no_chromium(monkeypatch):
    monkeypatch.delenv("MOE_CHROMIUM", raising=False)
    monkeypatch.setattr("visit.shutil.which", lambda name: None)
    monkeypatch.setattr("visit.sys.platform", "linux")


def test_a_browser_is_found_where_it_was_said_to_be(monkeypatch, tmp_path):
    no_chromium(monkeypatch)
    (own := tmp_path / "chrome").touch()
    assert find_chromium(own) == own
    monkeypatch.setenv("MOE_CHROMIUM", "/nowhere/chromium")
    with pytest.raises(FileNotFoundError, match="MOE_CHROMIUM is '/nowhere/chromium'"):
        find_chromium(own)


def test_without_a_browser_a_reader_skips_and_ci_fails(monkeypatch, tmp_path):
    no_chromium(monkeypatch)
    with pytest.raises(NoBrowser, match=r"apt install chromium.*playwright install chromium"):
        find_chromium(tmp_path / "none")
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="how to"):
        do_without("how to")
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="how to"):
        do_without("how to")
