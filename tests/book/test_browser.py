"""Every page of the book in a browser: served on a desktop, light and dark; from a file on a phone."""

import re
from pathlib import Path

import page_checks as checks
import pytest
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


def test_a_picture_answers_who_points_at_it(home, context_of):
    visit = open_page(context_of(DESKTOP, "light"), f"{home}chapters/pocket_models.html", home)
    figure = visit.page.locator("#figure-click-yourself")
    figure.scroll_into_view_if_needed()
    large = figure.locator(".view").first
    box = large.locator("use").bounding_box()

    def seen() -> tuple[str, str, float, float, str]:
        dot = large.locator("circle")
        at = (float(dot.get_attribute(which)) for which in ("cx", "cy"))
        picture = large.locator("use").get_attribute("href")
        guesses = " ".join(figure.locator(".guess").all_text_contents())
        return picture, large.locator("path").get_attribute("d"), *at, guesses

    def point(x: float, y: float):
        visit.page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"])
        return seen()

    first, second = point(0.05, 0.05), point(0.55, 0.8)
    assert first[2:4] == (4, 4) and second[2:4] == (52, 76)  # amid squares of 8
    assert first[1] != second[1] and first[4] != second[4] and first[0] == second[0]
    assert point(1.2, 0.5) == second  # beside it nothing happens
    figure.locator(".choice").nth(3).click()
    other = seen()
    assert other[0] != first[0] and other[1] != second[1] and other[2:4] == second[2:4]

    field, told = figure.get_by_role("group"), figure.get_by_role("status")
    field.press("ArrowLeft")
    assert seen()[2:4] == (44, 76) and "row 10, column 6 of 12" in told.text_content()
    field.press(" ")
    assert seen()[0] not in (first[0], other[0])
    for _ in range(12):
        field.press("ArrowDown")
    assert seen()[2:4] == (44, 92)  # it stays inside
    assert checks.console_errors(visit) == []
    visit.page.close()
