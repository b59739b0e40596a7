"""A build that cannot succeed says why in a line, and leaves nothing that makes the next one fail too."""

import os
import subprocess
import sys
from pathlib import Path

import build
import pytest
import sample

WARNED = """\
\x1b[91mRunning Jupyter-Book v1.0.4.post1\x1b[0m
\x1b[91m{root}/book/index.md:12: WARNING: 'myst' cross-reference target not found: 'far' [myst.xref]\x1b[0m
{root}/chapters/04.ipynb:3: ERROR: Unknown directive "exercize".
{root}/book/index.md:12: WARNING: 'myst' cross-reference target not found: 'far' [myst.xref]
build finished with problems, 2 warnings.
Traceback (most recent call last):
"""
EXPLAINED = """\
The book was not built: 2 problem(s).
book/index.md:12: WARNING: 'myst' cross-reference target not found: 'far' [myst.xref]
chapters/04.ipynb:3: ERROR: Unknown directive "exercize"."""


@pytest.fixture
def root(tmp_path):
    sample.write(sample.make_chapter(sample.make_repository(tmp_path)), tmp_path)
    (tmp_path / "_build" / ".doctrees").mkdir(parents=True)
    (tmp_path / "_build" / ".doctrees" / "index.doctree").write_bytes(b"read")
    (tmp_path / "book" / "_static").mkdir(parents=True)
    (tmp_path / "book" / "_static" / "book.css").write_text("new")
    return tmp_path


@pytest.fixture
def jupyter_book(monkeypatch):
    """Stands in for Jupyter Book; what it was called with is kept in `calls`."""
    calls = []

    def answer(returncode=0, stdout="", stderr=""):
        class Process:
            def __init__(self, command, **options):
                calls.append((command, options))
                self.stdout = (stdout + stderr).splitlines(keepends=True)

            def wait(self):
                return returncode

        monkeypatch.setattr(build.subprocess, "Popen", Process)
        return calls

    return answer


def test_a_build_is_strict_and_says_where_the_first_page_is(root, jupyter_book):
    calls = jupyter_book()
    assert build.build(root) == root / "_build" / "html" / "index.html"
    [(command, options)] = calls
    assert Path(command[0]).parent == Path(sys.executable).parent, "the environment's own, whatever PATH says"
    assert command[1] == "build" and command[-1] == str(root)
    assert {"-W", "-n", "--keep-going"} <= set(command)
    assert options["cwd"] == root
    assert (root / "book" / "_generated" / "scorecard.md").exists(), "the scorecard is filled before"
    assert (root / "_build" / ".doctrees" / "index.doctree").exists(), "a page that is read stays read"


def test_a_changed_style_arrives_though_no_page_changed(root, jupyter_book):
    jupyter_book()
    built = root / "_build" / "html" / "_static"
    built.mkdir(parents=True)
    (built / "book.css").write_text("old")
    (built / "theme.css").write_text("the theme's own")
    build.build(root)
    assert [(built / name).read_text() for name in ("book.css", "theme.css")] == ["new", "the theme's own"]


def test_a_failed_build_lists_its_problems_and_is_forgotten(root, jupyter_book):
    jupyter_book(1, stdout="reading sources\n", stderr=WARNED.format(root=root))
    with pytest.raises(SystemExit) as error:
        build.build(root)
    assert str(error.value) == EXPLAINED
    assert not (root / "_build" / ".doctrees").exists()


def test_a_failure_without_a_known_problem_shows_all_that_was_said(root, jupyter_book):
    jupyter_book(2, stdout="No module named sphinx_exercise\n")
    with pytest.raises(SystemExit) as error:
        build.build(root)
    assert str(error.value).splitlines() == [
        "The book was not built. The last that Jupyter Book said:",
        "No module named sphinx_exercise",
    ]


def test_a_broken_notebook_is_named_in_one_line_before_anything_is_built(root, jupyter_book):
    calls = jupyter_book()
    (root / "chapters" / "04_broken.ipynb").write_text("{ not json")
    with pytest.raises(
        SystemExit, match=r"^The book was not built: .*04_broken\.ipynb: not a valid notebook"
    ) as error:
        build.build(root)
    assert "\n" not in str(error.value)
    assert calls == []


@pytest.mark.parametrize(
    ("claims", "says"),
    [
        ("title: A\nchapter: b\n", "a.yml: lacks claims"),
        ("title: [A\n", "a.yml: not YAML"),
        ("title: A\nchapter: b\nclaims:\n", "a.yml: claims should be a list"),
    ],
)
def test_a_bad_claim_is_named_in_one_line(root, jupyter_book, claims, says):
    calls = jupyter_book()
    (root / "book" / "claims").mkdir(parents=True)
    (root / "book" / "claims" / "a.yml").write_text(claims)
    with pytest.raises(SystemExit, match=f"^The book was not built: {says}") as error:
        build.build(root)
    assert "\n" not in str(error.value)
    assert calls == []


def test_a_file_that_cannot_be_written_is_named_in_one_line(root, jupyter_book):
    calls = jupyter_book()
    (root / "book" / "_generated").write_text("a file where a folder should be")
    with pytest.raises(SystemExit) as error:
        build.build(root)
    assert str(error.value) == f"The book was not built: {root / 'book' / '_generated'}: File exists"
    assert calls == []


def test_a_file_that_jupyter_book_cannot_write_is_named_in_one_line(root, jupyter_book):
    jupyter_book(1, stdout="Traceback\nPermissionError: [Errno 13] Permission denied: '/b/_build/html'\n")
    with pytest.raises(SystemExit, match=r"^The book was not built: /b/_build/html: Permission denied$"):
        build.build(root)


def test_without_the_library_it_says_what_to_install():
    script = (
        "import runpy, sys; sys.modules['moe_lib'] = None; runpy.run_path(sys.argv[1], run_name='__main__')"
    )
    command = [sys.executable, "-c", script, build.__file__]
    environment = os.environ | {"PYTHONPATH": str(Path(build.__file__).parent)}
    finished = subprocess.run(command, env=environment, capture_output=True, text=True)
    said = "The book was not built: moe_lib is not installed: pip install -e . or make setup\n"
    assert (finished.returncode, finished.stderr) == (1, said)


def test_the_command_says_where_to_open_the_book(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(sys, "argv", ["build.py"])
    monkeypatch.setattr(build, "build", lambda: tmp_path / "index.html")
    build.main()
    assert capsys.readouterr().out.splitlines()[-1] == f"Done. Open {(tmp_path / 'index.html').as_uri()}"
