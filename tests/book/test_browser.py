"""Every page of the book in a browser: served on a desktop, light and dark; from a file on a phone."""

import base64
import io
import re
from pathlib import Path

import numpy as np
import page_checks as checks
import pytest
from PIL import Image
from showing import packed
from site_checks import book_pages, own_word, prose
from visit import DESKTOP, PHONE, open_page

ROOT = Path(__file__).resolve().parents[2]
PAGES = book_pages(ROOT)
GLOSSARY = "book/glossary"
CHAPTER = next(page for page in PAGES if page.startswith("chapters/"))

pytestmark = pytest.mark.browser


@pytest.fixture(params=["server", "file"])
def home(request, site) -> str:
    """Where the pages come from: both ways to read the book."""
    return request.getfixturevalue("address") if request.param == "server" else f"{site.as_uri()}/"


def solutions(page: str) -> int:
    return len(re.findall(r"^[`:]{3,}\{solution(?:-start)?\}", prose(ROOT, page), flags=re.M))


@pytest.mark.parametrize("page", PAGES)
def test_on_a_desktop_light_and_dark(page, context_of, address):
    visit = open_page(context_of(DESKTOP, "light"), f"{address}{page}.html", address)
    problems = [
        *checks.wrong_theme(visit, "light"),
        *checks.images_without_words(visit),
        *checks.raw_math(visit),
        *(f"light: {problem}" for problem in checks.axe_violations(visit) + checks.faint_figure_text(visit)),
        *checks.wrong_theme(visit, "dark"),
        *(f"dark: {problem}" for problem in checks.axe_violations(visit) + checks.faint_figure_text(visit)),
        *checks.console_errors(visit),
        *checks.outside_requests(visit),
        *checks.failed_requests(visit),
    ]
    visit.page.close()
    assert not problems, "\n".join(problems)


@pytest.mark.parametrize("page", PAGES)
def test_from_a_file_on_a_phone(page, context_of, site):
    home = f"{site.as_uri()}/"
    visit = open_page(context_of(PHONE, "dark"), f"{home}{page}.html", home)
    problems = [
        *checks.sideways_scrolling(visit),
        *checks.dead_menus(visit),
        *checks.raw_math(visit),
        *checks.open_solutions(visit, solutions(page)),
        *checks.console_errors(visit),
        *checks.outside_requests(visit),
        *checks.failed_requests(visit),
    ]
    visit.page.close()
    assert not problems, "\n".join(problems)


@pytest.mark.parametrize("page", [GLOSSARY, CHAPTER])
def test_search_finds_a_word(page, home, context_of):
    word = own_word(ROOT, page, PAGES)
    visit = open_page(context_of(DESKTOP, "light"), f"{home}search.html?q={word}", home)
    problems = checks.search_misses(visit, page) + checks.outside_requests(visit)
    visit.page.close()
    assert not problems, "\n".join(problems)


def test_the_index_leads_to_the_first_page(home, context_of):
    page = context_of(DESKTOP, "light").new_page()
    page.goto(f"{home}index.html")
    page.wait_for_url(f"{home}{PAGES[0]}.html")
    page.close()


def pointed(visit, figure: str):
    """A figure, what takes its reader's keys, and a function that points at a place of its picture."""
    figure = visit.page.locator(f"#figure-{figure}")
    figure.scroll_into_view_if_needed()
    box = figure.locator(".moe-field").bounding_box()

    def point(x: float, y: float) -> None:
        visit.page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"])

    return figure, figure.get_by_role("group"), point


def test_a_picture_answers_who_points_at_it(home, context_of):
    visit = open_page(context_of(DESKTOP, "light"), f"{home}chapters/pocket_models.html", home)
    figure, keys, point = pointed(visit, "click-yourself")
    large = figure.locator(".moe-view").first

    def seen() -> tuple[str, str, tuple[float, float], list[str]]:
        dot = large.locator("circle")
        return (
            large.locator("use").get_attribute("href"),
            large.locator("path").get_attribute("d"),
            (float(dot.get_attribute("cx")), float(dot.get_attribute("cy"))),
            figure.locator(".moe-guess").all_text_contents(),
        )

    point(0.05, 0.05)
    first = seen()
    point(0.55, 0.8)
    second = seen()
    answers = packed(figure.inner_html())
    for (_, border, _, guesses), square in ((first, 0), (second, 9 * 12 + 6)):  # row by row
        assert border == answers["outlines"][0][square][0]
        assert [float(guess) for guess in guesses] == answers["guesses"][0][square]
    assert (first[2], second[2]) == ((4, 4), (52, 76))  # amid squares of 8
    assert first[0] == second[0] and first[1] != second[1] and first[3] != second[3]
    point(1.2, 0.5)
    assert seen() == second  # beside it nothing happens
    figure.locator(".moe-choice").nth(3).click()
    other = seen()
    assert other[0] != first[0] and other[1] != second[1] and other[2] == second[2]

    keys.press("ArrowLeft")
    told = figure.get_by_role("status").text_content()
    assert seen()[2] == (44, 76) and told.startswith("Row 10, column 6 of 12: cells 0, guesses 0.")
    keys.press(" ")
    assert seen()[0] not in (first[0], other[0])
    for _ in range(12):
        keys.press("ArrowDown")
    assert seen()[2] == (44, 92)  # it stays inside
    assert figure.get_by_role("status").text_content().startswith("Row 12, column 6")
    point(0.05, 0.05)
    assert seen()[2] == (4, 4)
    assert figure.get_by_role("status").text_content() == ""  # words of another square would be wrong
    assert checks.console_errors(visit) == []
    visit.page.close()


def test_a_picture_shows_where_a_token_looks(home, context_of):
    visit = open_page(context_of(DESKTOP, "light"), f"{home}chapters/01_frozen_backbone.html", home)
    figure, keys, point = pointed(visit, "looks")
    maps, marks, numbers = (figure.locator(f".moe-{what}") for what in ("map", "mark", "far"))

    def seen() -> tuple[list[str], list[str]]:
        return [one.get_attribute("href") for one in maps.all()], numbers.all_text_contents()

    begin = seen()
    assert "Awesome" not in numbers.first.evaluate("(text) => getComputedStyle(text).fontFamily")
    assert numbers.first.bounding_box()["width"] > 10  # seen, not only there
    assert len(begin[0]) == len(begin[1]) == 3 * 8 and marks.count() == 1 + 3 * 8
    point(0.05, 0.05)
    corner = seen()
    assert corner[0] != begin[0] and {*corner[0]}.isdisjoint(begin[0])
    assert float(marks.first.get_attribute("x")) == float(marks.first.get_attribute("y")) == 0
    keys.press("ArrowRight")
    assert seen()[0] != corner[0] and float(marks.first.get_attribute("x")) == 8
    assert figure.get_by_role("status").text_content().startswith("Row 1, column 2 of 12: mean distance")
    whole = packed(figure.inner_html())
    for levels, address in zip(whole["levels"], seen()[0], strict=True):
        drawn = np.array(Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2]))))
        assert [int(level, 16) for level in levels[144:288]] == drawn.flatten().tolist()  # of token 1
    loaded = "async (map) => { const i = new Image(); i.src = map.getAttribute('href'); await i.decode(); }"
    maps.first.evaluate(loaded)  # and to the browser, too, it is a picture
    assert checks.console_errors(visit) == []
    visit.page.close()
