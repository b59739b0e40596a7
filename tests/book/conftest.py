"""The built book, served and opened."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright
from visit import ARGUMENTS, NoBrowser, built, do_without, find_chromium, serve

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def site() -> Path:
    return built(ROOT / "_build" / "html")


@pytest.fixture(scope="session")
def address(site) -> Iterator[str]:
    with serve(site) as address:
        yield address


# For a module and no longer: while Playwright runs, nothing else in the process may start an event loop,
# and the tests of notebooks do.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        try:
            path = find_chromium(own=Path(playwright.chromium.executable_path))
        except NoBrowser as error:
            do_without(str(error))
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def context_of(browser) -> Iterator[Callable]:
    """Contexts by size of the window and theme, each made once so that its cache serves many pages."""
    contexts = {}

    def get(size: tuple[int, int], theme: str):
        if (size, theme) not in contexts:
            view = {"width": size[0], "height": size[1]}
            # Without motion a change of theme is complete at once.
            contexts[size, theme] = browser.new_context(
                viewport=view, color_scheme=theme, reduced_motion="reduce"
            )
        return contexts[size, theme]

    yield get
    for context in contexts.values():
        context.close()
