"""What an open page has to fulfil. Each check takes a visit and returns a list of problems.

The tests run the same functions on the pages of the book and on small pages that are wrong on purpose.
"""

from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

import axe_playwright_python
from playwright.sync_api import TimeoutError as TooLate
from visit import PHONE, Visit

AXE = Path(axe_playwright_python.__file__).with_name("axe.min.js")
SCRIPTS = Path(__file__).parent / "scripts"
GRAVE = {"serious", "critical"}
LEGIBLE = 4.5  # contrast that WCAG asks of text, level AA
WAIT_MS = 20_000


@cache
def script(name: str) -> str:
    return (SCRIPTS / f"{name}.js").read_text(encoding="utf-8")


def console_errors(visit: Visit) -> list[str]:
    return [f"console: {error}" for error in visit.errors]


def outside_requests(visit: Visit) -> list[str]:
    return [f"asked another host: {address}" for address in visit.requests if not visit.is_own(address)]


def failed_requests(visit: Visit) -> list[str]:
    return [f"could not load {failure}" for failure in visit.failures if visit.is_own(failure)]


def sideways_scrolling(visit: Visit) -> list[str]:
    """At a phone's width nothing may stick out to the right, unless it scrolls in a box of its own."""
    if visit.page.viewport_size["width"] != PHONE[0]:
        visit.page.set_viewport_size({"width": PHONE[0], "height": PHONE[1]})
    found = visit.page.evaluate(script("overflow"))
    problems = [f"{widest}: its right edge is at {edge} px" for widest, edge in found["widest"]]
    if found["width"] > PHONE[0]:
        problems.append(f"the page is {found['width']} px wide and scrolls sideways")
    return problems


def dead_menus(visit: Visit) -> list[str]:
    """On a phone, menu and contents hide behind buttons of the page's own bar; each opens with a click."""
    visit.page.set_viewport_size({"width": PHONE[0], "height": PHONE[1]})
    found = []
    for menu, name in (("primary", "menu"), ("secondary", "contents")):
        button = visit.page.locator(f".bd-header-article .{menu}-toggle:visible")
        if not button.count():
            if menu == "primary":  # a page without headings has no contents
                found.append(f"no button for the {name}")
            continue
        button.first.click()
        try:
            visit.page.locator(f"#pst-{menu}-sidebar-modal[open]").wait_for(timeout=WAIT_MS / 10)
        except TooLate:
            found.append(f"the button does not open the {name}")
        visit.page.keyboard.press("Escape")
    return found


def images_without_words(visit: Visit) -> list[str]:
    return [f"no text for those who cannot see it: {tag}" for tag in visit.page.evaluate(script("wordless"))]


def raw_math(visit: Visit) -> list[str]:
    """Formulas that MathJax did not set, or could not."""
    return visit.page.evaluate(
        """() => [...document.querySelectorAll('.math')]
            .filter(math => !math.querySelector('mjx-container') || math.querySelector('mjx-merror'))
            .map(math => `not set by MathJax: ${math.textContent.trim().slice(0, 80)}`)"""
    )


def wrong_theme(visit: Visit, theme: str) -> list[str]:
    """Switch to a theme as the reader's system would, and see whether the page follows."""
    visit.page.emulate_media(color_scheme=theme)
    try:
        visit.page.wait_for_function(
            "theme => document.documentElement.dataset.theme === theme", arg=theme, timeout=WAIT_MS / 10
        )
    except TooLate:
        return [f"does not follow the system's {theme} theme"]
    return []


def axe_violations(visit: Visit) -> list[str]:
    """Serious and critical violations that axe-core finds, with their first places."""
    visit.page.evaluate(AXE.read_text(encoding="utf-8"))
    # preload would fetch the styles once more, which file:// forbids and no rule of ours needs
    result = visit.page.evaluate("axe.run(document, {resultTypes: ['violations'], preload: false})")
    return [
        f"axe, {violation['impact']}: {violation['id']} at {node['target']}: {node['failureSummary']}"
        for violation in result["violations"]
        if violation["impact"] in GRAVE
        for node in violation["nodes"][:5]
    ]


def faint_figure_text(visit: Visit) -> list[str]:
    """Text in drawings too close in colour to what lies behind it; axe does not look into drawings."""
    return [
        f"contrast {ratio:.2f} in a drawing: {text!r}"
        for text, ratio in visit.page.evaluate(script("contrast"))
        if ratio < LEGIBLE
    ]


def open_solutions(visit: Visit, expected: int) -> list[str]:
    """Solutions are there, folded at first, and open with a click."""
    solutions = visit.page.locator("div.solution").all()
    found = [] if len(solutions) == expected else [f"{len(solutions)} solutions instead of {expected}"]
    for number, solution in enumerate(solutions, start=1):
        content = solution.locator(":scope > section").first
        button = solution.locator(":scope > .admonition-title button")
        if content.is_visible():
            found.append(f"solution {number} is not folded at first")
        elif not button.count():
            found.append(f"solution {number} has no button that opens it")
        else:
            button.click()
            if not content.is_visible():
                found.append(f"solution {number} does not open by a click")
    return found


def search_misses(visit: Visit, page: str) -> list[str]:
    """On an open page of search results: is this page among them?"""
    word = urlsplit(visit.page.url).query
    finished = "() => document.querySelector('#search-results h2')?.textContent === 'Search Results'"
    try:
        visit.page.wait_for_function(finished, timeout=WAIT_MS)
    except TooLate:
        return [f"search for {word} does not come to an end"]
    links = visit.page.locator("#search-results li > a").evaluate_all(
        "links => links.map(link => link.getAttribute('href'))"
    )
    found = any(f"{page}.html" in link for link in links)
    return [] if found else [f"search for {word}: no {page} in {links}"]
