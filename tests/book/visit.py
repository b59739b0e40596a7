"""Opening pages of the built book in a real browser, and remembering what happened meanwhile."""

import os
import re
import shutil
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Page

NAMES = ["chromium", "chromium-browser", "google-chrome"]
MAC_CHROME = Path("/Applications/Google Chrome.app/Contents/MacOS/Google Chrome")
DESKTOP, PHONE = (1280, 900), (390, 844)

# Pages are local and trusted, and nothing may leave the machine, not even the browser's own errands.
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
]


def built(site: Path) -> Path:
    """The built book; without one the tests fail, since skipping them would look like success."""
    if not (site / "index.html").is_file():
        pytest.fail("build the book first: make book", pytrace=False)
    return site


def do_without(reason: str) -> None:
    """No browser: a reader of the book may go on without these tests, the machine that decides may not."""
    (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(reason)


class NoBrowser(RuntimeError):
    """There is no Chromium; the message says how to get one."""


def find_chromium(own: Path | None = None) -> Path:
    """The Chromium that MOE_CHROMIUM names, one of this machine, or Playwright's `own` if installed."""
    if chosen := os.environ.get("MOE_CHROMIUM"):
        if not shutil.which(chosen):
            raise FileNotFoundError(f"MOE_CHROMIUM is {chosen!r}, and that is no program")
        return Path(shutil.which(chosen))
    candidates = [Path(path) for name in NAMES if (path := shutil.which(name))]
    if sys.platform == "darwin":
        candidates.append(MAC_CHROME)
    candidates += [own] if own else []
    for path in candidates:
        if path.is_file():
            return path
    raise NoBrowser("no Chromium here: `apt install chromium` or `playwright install chromium` gets one")


@contextmanager
def serve(site: Path) -> Iterator[str]:
    """Serve a folder on this machine only; gives the address, ending in a slash."""

    class Handler(SimpleHTTPRequestHandler):
        protocol_version = "HTTP/1.1"  # one connection for many files

        def log_message(self, *_: object) -> None:
            """The browser's record says more than the server's."""

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(site))) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@dataclass
class Visit:
    """An open page and all that happened since it was opened."""

    page: Page
    home: str  # addresses that start like this are the book's own
    errors: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def is_own(self, address: str) -> bool:
        return address.startswith((self.home, "data:", "blob:", "about:"))


def open_page(context: BrowserContext, address: str, home: str) -> Visit:
    """Open a page, wait until its fonts and formulas are there, and let no request leave `home`."""
    page = context.new_page()
    visit = Visit(page, home)
    page.on("console", lambda message: message.type == "error" and visit.errors.append(message.text))
    page.on("pageerror", lambda error: visit.errors.append(str(error)))
    page.on("request", lambda request: visit.requests.append(request.url))
    page.on("websocket", lambda socket: visit.requests.append(socket.url))
    page.on("requestfailed", lambda request: visit.failures.append(f"{request.url}: {request.failure}"))
    page.on(
        "response",
        lambda answer: (
            answer.status >= 400 and visit.failures.append(f"{answer.url}: status {answer.status}")
        ),
    )
    page.route(re.compile(rf"^(?!{re.escape(home)}|data:|blob:|about:)"), lambda route: route.abort())
    page.goto(address)
    page.evaluate("async () => { await window.MathJax?.startup?.promise; await document.fonts.ready; }")
    return visit
