"""The Makefile: every target says what it does, and `make test` runs everything that CI runs."""

import os
import re
import subprocess
import sys

import pytest
from wheels import ROOT

pytestmark = pytest.mark.skipif(os.name == "nt", reason="there is no make; the README gives the commands")

MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")


def make(*arguments: str) -> str:
    """What make prints."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    command = ["make", *arguments, f"PYTHON={sys.executable}"]
    finished = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


def targets(makefile: str) -> set[str]:
    return set(re.findall(r"^([a-z][\w-]*):(?!=)", makefile, flags=re.M))


def helpless(makefile: str, help_text: str) -> set[str]:
    """Targets that the help does not name, or names without a word of what they do."""
    return {target for target in targets(makefile) if not re.search(rf"make {target}\s+\w.+", help_text)}


def test_every_target_is_in_the_help() -> None:
    assert {"book", "test", "notebooks", "gpu", "lab", "lint", "clean"} <= targets(MAKEFILE)
    assert helpless(MAKEFILE, make("help")) == set()


def test_a_target_without_help_is_noticed() -> None:
    more = "deploy: setup\n\techo\n\nempty: ## \n\techo\n"
    assert helpless(MAKEFILE + more, make("help") + "  make empty      \n") == {"deploy", "empty"}


def test_help_is_what_make_alone_prints() -> None:
    assert make() == make("help")


def test_no_target_is_mistaken_for_a_file() -> None:
    phony = re.search(r"^\.PHONY: (.*)$", MAKEFILE, flags=re.M)[1].split()
    assert set(phony) == targets(MAKEFILE)


def test_make_test_sets_up_lints_builds_and_tests() -> None:
    printed = make("-n", "test")
    steps = [
        "setup_env.py",
        "ruff check .",
        "ruff format --check .",
        "colab.py --check",
        "tools/check.py",
        "tools/build.py",
        "-m pytest -n auto",
    ]
    places = [printed.find(step) for step in steps]
    assert -1 not in places, dict(zip(steps, places, strict=True))
    assert places == sorted(places)
    tested = next(line for line in printed.splitlines() if "-m pytest" in line).split()
    assert {"tests", "chapters"} <= set(tested)


def test_make_book_sets_up_and_builds() -> None:
    printed = make("-n", "book")
    assert 0 <= printed.find("setup_env.py") < printed.find("tools/build.py")


@pytest.mark.parametrize(("cpu", "expected"), [("CPU=1", True), ("CPU=", False)])
def test_cpu_reaches_the_setup(cpu: str, expected: bool) -> None:
    assert ("setup_env.py --cpu" in make("-n", "setup", cpu)) is expected


def test_clean_removes_every_cache_and_keeps_the_environment() -> None:
    removed = make("-n", "clean").split()
    assert {"_build", ".pytest_cache", ".hypothesis", ".ruff_cache"} <= set(removed)
    assert ".venv" not in removed


def test_the_cells_of_every_chapter_are_among_the_tests() -> None:
    # `make test` names the folder; nbval must be switched on for pytest to see anything in it.
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "chapters"]
    collected = subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout
    for chapter in sorted((ROOT / "chapters").glob("*.ipynb")):
        assert f"{chapter.name}::Cell" in collected


def test_ci_runs_make_test() -> None:
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    assert script[-1].split()[-2:] == ["make", "test"]
    assert "set -euo pipefail" in script
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
