"""The numbers in the repository come from a commit, and from the locked versions."""

import copy
import json
from pathlib import Path

import pytest
from locked import differ, locked_versions
from wheels import ROOT

KEPT = sorted((ROOT / "book" / "results").glob("*/*.json"))
SYSTEMS = {"Linux": "linux", "Darwin": "darwin", "Windows": "win32"}


def problems(results: dict, lock: str) -> list[str]:
    """What is wrong with where these numbers come from."""
    made = results["environment"]
    system, machine = made["platform"].split(maxsplit=1)
    place = {
        "python_full_version": made["python"],
        "python_version": ".".join(made["python"].split(".")[:2]),
        "platform_system": system,
        "platform_machine": machine,
        "sys_platform": SYSTEMS[system],
    }
    versions = locked_versions(lock, place)
    found = []
    if made["commit"] is None:
        found.append("made outside a checkout, from no commit")
    elif made["commit"].endswith("-dirty"):
        found.append(f"made from {made['commit']}: commit the library and the lock, then run again")
    for name in ("torch", "numpy"):
        if differ(made[name], versions[name]):
            found.append(f"made with {name} {made[name]}; locked is {versions[name]}")
    return found


@pytest.mark.parametrize("path", KEPT, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_kept_results_come_from_a_commit_and_the_locked_versions(path: Path) -> None:
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    assert problems(json.loads(path.read_text(encoding="utf-8")), lock) == []


LOCK = """\
numpy==2.4.6 ; python_full_version < '3.12'
numpy==2.5.5 ; python_full_version >= '3.12'
torch==2.14.1
"""
GOOD = {
    "environment": {
        "python": "3.11.7",
        "torch": "2.14.1+cu130",
        "numpy": "2.4.6",
        "platform": "Linux x86_64",
        "commit": "9b517ae8501d",
    }
}


def test_good_results_are_good() -> None:
    assert problems(GOOD, LOCK) == []


@pytest.mark.parametrize(
    ("key", "value", "problem"),
    [
        ("commit", None, "made outside a checkout"),
        ("commit", "9b517ae8501d-dirty", "made from 9b517ae8501d-dirty"),
        ("torch", "2.14.0+cu130", "made with torch 2.14.0+cu130; locked is 2.14.1"),
        ("numpy", "2.3.4", "made with numpy 2.3.4; locked is 2.4.6"),
        ("python", "3.12.1", "made with numpy 2.4.6; locked is 2.5.5"),
    ],
)
def test_negative_control_results_of_unknown_origin_are_noticed(key: str, value: str, problem: str) -> None:
    results = copy.deepcopy(GOOD)
    results["environment"][key] = value
    (found,) = problems(results, LOCK)
    assert found.startswith(problem)
