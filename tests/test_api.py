"""Every public name can be found: in the library, in a chapter, on the reference page."""

import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import moe_lib
from moe_lib import explorer
from moe_lib.backbones import clicks

ROOT = Path(__file__).resolve().parents[1]
REFERENCE = (ROOT / "book" / "reference.md").read_text(encoding="utf-8")
CHAPTERS = {path.stem for path in (ROOT / "chapters").glob("*.ipynb")}
COMING = ":doc:`/book/other_methods`"  # stands for the chapters that are still to be written


def docstring_problem(thing: object, chapters: set[str]) -> str | None:
    """What is wrong with the docstring of a public name, or None."""
    text = vars(thing).get("__doc__") if inspect.isclass(thing) else inspect.getdoc(thing)
    if not text:
        return "has no docstring"
    if isinstance(thing, type) and issubclass(thing, Exception):
        return None  # it is introduced with the function that raises it
    named = re.findall(r"Introduced in :doc:`/chapters/([\w-]+)`", text)
    if f"Introduced in {COMING}" in text and not named:
        return None
    if not named:
        return "does not say which chapter introduces it"
    unknown = sorted(set(named) - chapters)
    return f"names a chapter that does not exist: {', '.join(unknown)}" if unknown else None


PACKAGES = [
    moe_lib, moe_lib.backbones, clicks, moe_lib.datasets, explorer, moe_lib.heads, moe_lib.losses,
    moe_lib.metrics, moe_lib.pictures, moe_lib.plots, moe_lib.routing, moe_lib.worlds,
]  # fmt: skip
PUBLIC = {
    f"{package.__name__}.{name}": getattr(package, name)
    for package in PACKAGES
    for name in package.__all__
    if callable(getattr(package, name))
}


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_name_exists_with_a_docstring_that_leads_to_its_chapter(name):
    assert docstring_problem(PUBLIC[name], CHAPTERS) is None


def nothing_said(): ...


def no_chapter():
    """Of no chapter."""


def wrong_chapter():
    """Introduced in :doc:`/chapters/77_nowhere`."""


class Silent(ValueError): ...


@pytest.mark.parametrize(
    ("thing", "problem"),
    [
        (nothing_said, "has no docstring"),
        (Silent, "has no docstring"),
        (no_chapter, "does not say which chapter introduces it"),
        (wrong_chapter, "names a chapter that does not exist: 77_nowhere"),
    ],
)
def test_control_a_docstring_that_leads_nowhere_is_noticed(thing, problem):
    assert docstring_problem(thing, CHAPTERS) == problem


def documented(page: str) -> list[str]:
    """Full names of what the page documents."""
    names, module = [], ""
    for directive, argument in re.findall(r"^\.\. (currentmodule|auto\w+):: ([\w.]+)$", page, flags=re.M):
        if directive == "currentmodule":
            module = argument
        else:
            names.append(f"{module}.{argument}")
    return names


def test_the_reference_page_has_every_public_name_once_and_no_other():
    assert sorted(documented(REFERENCE)) == sorted(PUBLIC)


def test_control_a_name_that_left_the_reference_page_is_noticed():
    assert "moe_lib.expect" in documented(REFERENCE)
    assert "moe_lib.expect" not in documented(REFERENCE.replace(".. autofunction:: expect\n", ""))


def test_control_a_name_of_another_module_is_another_name():
    page = ".. currentmodule:: a\n.. autofunction:: f\n\n.. currentmodule:: a.b\n.. autofunction:: f\n"
    assert documented(page) == ["a.f", "a.b.f"]


@pytest.mark.parametrize("package", [moe_lib, moe_lib.datasets, moe_lib.worlds], ids=lambda p: p.__name__)
def test_nothing_is_public_that_is_not_listed(package):
    visible = {
        name
        for name, thing in vars(package).items()
        if not name.startswith("_") and not inspect.ismodule(thing)
    }
    listed = {name for name in package.__all__ if not inspect.ismodule(getattr(package, name))}
    assert visible <= listed
    assert all(hasattr(package, name) for name in listed)  # some are imported when they are asked for
    assert len(package.__all__) == len(set(package.__all__))


OFFLINE = """
import sys

def refuse_sockets(event, arguments):
    if event.startswith("socket."):
        raise SystemExit(f"{event} during the import")

sys.addaudithook(refuse_sockets)
import moe_lib
from moe_lib import explorer
from moe_lib.backbones import clicks
print(*sorted({name.partition(".")[0] for name in sys.modules}))
"""


def test_importing_needs_no_network_and_nothing_of_the_book():
    run = subprocess.run([sys.executable, "-c", OFFLINE], capture_output=True, text=True, cwd=ROOT)
    assert run.returncode == 0, run.stderr
    loaded = set(run.stdout.split())
    assert {"moe_lib", "torch"} <= loaded
    book = {
        "IPython",
        "ipykernel",
        "jupyter_book",
        "jupyter_client",
        "nbformat",
        "papermill",
        "sphinx",
        "yaml",
    }
    assert loaded & book == set()
    assert run.stderr == "", "importing is silent"


def test_control_a_connection_would_be_noticed():
    script = OFFLINE.replace("import moe_lib", "import socket; socket.create_connection(('127.0.0.1', 9))")
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (run.returncode, run.stderr.strip()) == (1, "socket.getaddrinfo during the import")
