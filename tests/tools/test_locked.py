"""The committed run is made with the locked versions, or not at all."""

from importlib import metadata

import pytest
import run as run_script
from locked import differ, first_difference, locked_versions
from run_fixtures import add_chapter, files, make_root

NUMPY = metadata.version("numpy")
PYPROJECT = '[project]\nname = "moe_lib"\ndependencies = ["ipython>=7", "NumPy>=1.26"]\n'
SAYS = f"a committed run needs numpy 0.1, as locked; installed is {NUMPY}"


@pytest.fixture
def root(tmp_path):
    root = make_root(tmp_path)
    add_chapter(root, "00_a", "1")
    (root / "pyproject.toml").write_text(PYPROJECT)
    (root / "requirements.lock").write_text("numpy==0.1\n")
    return root


def test_the_first_difference_is_named_with_both_versions(root):
    assert first_difference(root) == SAYS


@pytest.mark.parametrize(
    "lock",
    [
        f"numpy=={NUMPY}\n",
        f"numpy==0.1 ; python_full_version < '3'\nnumpy=={NUMPY} ; python_full_version >= '3'\n",
        f"numpy=={NUMPY}\npytest==0.1\n",  # not what a run's numbers depend on
        "",
    ],
)
def test_what_is_as_locked_or_not_locked_is_no_difference(root, lock):
    (root / "requirements.lock").write_text(lock)
    assert first_difference(root) is None


def test_what_is_missing_is_a_difference(root):
    (root / "pyproject.toml").write_text(PYPROJECT.replace("NumPy", "nobody-has-this"))
    (root / "requirements.lock").write_text("nobody-has-this==1.0\n")
    assert first_difference(root).endswith("needs nobody-has-this 1.0, as locked; installed is none")


@pytest.mark.parametrize("name", ["pyproject.toml", "requirements.lock"])
def test_a_root_without_a_lock_or_pyproject_is_not_checked(root, name):
    (root / name).unlink()
    assert first_difference(root) is None


@pytest.mark.parametrize(
    ("installed", "different"), [("2.14.1+cu130", False), ("2.14.1", False), ("2.14.2", True), ("2.15", True)]
)
def test_a_build_for_another_machine_is_the_same_version(installed, different):
    assert differ(installed, "2.14.1") is different


def test_the_versions_of_another_place():
    lock = "numpy==2.4.6 ; python_full_version < '3.12'\nnumpy==2.5.5 ; python_full_version >= '3.12'\n"
    assert locked_versions(lock, {"python_full_version": "3.13.1"}) == {"numpy": "2.5.5"}
    assert locked_versions(lock, {"python_full_version": "3.11.9"}) == {"numpy": "2.4.6"}


def test_a_committed_run_elsewhere_is_refused_in_one_line(root, capsys):
    before = files(root)
    assert run_script.main(["--root", str(root)]) == 1
    assert capsys.readouterr().err == f"run.py: {SAYS}; run `make setup`, then `make notebooks`\n"
    assert files(root) == before


@pytest.mark.parametrize("arguments", [["--list"], ["--scale", "smoke"], ["--seeds", "2"]])
def test_any_other_run_is_free(root, monkeypatch, arguments):
    async def nothing(jobs, workers):
        return []

    monkeypatch.setattr(run_script, "run_all", nothing)
    assert run_script.main(["--root", str(root), *arguments]) == 0
