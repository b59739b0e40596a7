"""The numbers in the repository come from a commit, and from versions that are locked or at least named."""

import copy
import json
import re
from pathlib import Path

import pytest
from locked import differ, locked_versions
from wheels import ROOT

KEPT = [
    *sorted((ROOT / "book" / "results").glob("*/*.json")),
    ROOT / "moe_lib" / "weights" / "training.json",
    ROOT / "moe_lib" / "weights" / "encoders.json",
]
SYSTEMS = {"Linux": "linux", "Darwin": "darwin", "Windows": "win32"}


def problems(results: dict, lock: str) -> list[str]:
    """What is wrong with where these numbers come from."""
    if "environments" not in results:
        return problems_of(results["environment"], lock)
    made = results["environments"]
    found = [problem for one in made for problem in problems_of(one, lock)]
    strangers = [run["job"] for run in results["runs"] if run.get("made") not in range(len(made))]
    return found + [f"nothing says what made {job}" for job in strangers]


def problems_of(made: dict, lock: str) -> list[str]:
    """What is wrong with what one call of a program was made with.

    Only on a processor must the versions be the locked ones: a GPU has a build of torch for its driver.
    """
    found = []
    if made["commit"] is None:
        found.append("made outside a checkout, from no commit")
    elif made["commit"].endswith("-dirty"):
        found.append(f"made from {made['commit']}: commit the library and the lock, then run again")
    device = re.fullmatch(r"(cpu|cuda) \((.+)\)", made["device"])
    if not device:
        found.append(f"made on {made['device']!r}, which does not name a device")
    return found + (_unnamed(made) if device and device[1] == "cuda" else _not_locked(made, lock))


def _not_locked(made: dict, lock: str) -> list[str]:
    system, machine = made["platform"].split(maxsplit=1)
    place = {
        "python_full_version": made["python"],
        "python_version": ".".join(made["python"].split(".")[:2]),
        "platform_system": system,
        "platform_machine": machine,
        "sys_platform": SYSTEMS[system],
    }
    versions = locked_versions(lock, place)
    return [
        f"made with {name} {made[name]}; locked is {versions[name]}"
        for name in ("torch", "numpy")
        if differ(made[name], versions[name])
    ]


def _unnamed(made: dict) -> list[str]:
    return [
        f"made on a GPU with {name} {made.get(name)!r}, which is no version"
        for name in ("python", "torch", "numpy")
        if not re.match(r"\d+\.\d+", made.get(name) or "")
    ]


@pytest.mark.parametrize("path", KEPT, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_kept_results_come_from_a_commit_and_known_versions(path: Path) -> None:
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
        "device": "cpu (x86_64)",
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
        ("device", "cuda", "made on 'cuda', which does not name a device"),
        ("device", "cuda ()", "made on 'cuda ()', which does not name a device"),
    ],
)
def test_negative_control_results_of_unknown_origin_are_noticed(key: str, value: str, problem: str) -> None:
    results = copy.deepcopy(GOOD)
    results["environment"][key] = value
    (found,) = problems(results, LOCK)
    assert found.startswith(problem)


ON_GPU = GOOD["environment"] | {"device": "cuda (NVIDIA H100)", "torch": "2.11.0+cu130", "numpy": "2.5.2"}


def test_a_gpu_may_have_its_own_versions() -> None:
    assert problems({"environment": ON_GPU}, LOCK) == []
    assert len(problems({"environment": ON_GPU | {"device": "cpu (x86_64)"}}, LOCK)) == 2


@pytest.mark.parametrize(
    ("key", "value", "problem"),
    [
        ("commit", None, "made outside a checkout"),
        ("commit", "9b517ae8501d-dirty", "made from 9b517ae8501d-dirty"),
        ("torch", None, "made on a GPU with torch None, which is no version"),
        ("numpy", "newest", "made on a GPU with numpy 'newest', which is no version"),
    ],
)
def test_negative_control_a_gpu_does_not_excuse_everything(key: str, value: str, problem: str) -> None:
    (found,) = problems({"environment": ON_GPU | {key: value}}, LOCK)
    assert found.startswith(problem)


def test_every_run_of_several_calls_names_what_made_it() -> None:
    cpu = GOOD["environment"]
    runs = [{"job": "first", "made": 0}, {"job": "second", "made": 1}]
    assert problems({"environments": [cpu, ON_GPU], "runs": runs}, LOCK) == []


@pytest.mark.parametrize("made", [{}, {"made": 2}, {"made": None}, {"made": -1}])
def test_negative_control_a_run_that_nothing_made_is_noticed(made: dict) -> None:
    results = {"environments": [GOOD["environment"], ON_GPU], "runs": [{"job": "third"} | made]}
    assert problems(results, LOCK) == ["nothing says what made third"]


def test_negative_control_each_of_several_calls_is_looked_at() -> None:
    loose = GOOD["environment"] | {"torch": "2.11.0"}
    (found,) = problems({"environments": [ON_GPU, loose], "runs": []}, LOCK)
    assert found == "made with torch 2.11.0; locked is 2.14.1"
