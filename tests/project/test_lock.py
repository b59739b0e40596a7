"""`requirements.lock`: exact versions of everything that `pyproject.toml` asks for, and no address."""

import re
import shutil
import subprocess
import sys
import tomllib
from importlib import metadata
from itertools import pairwise
from pathlib import Path

import pytest
import setup_env
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version
from wheels import ROOT

LINE = re.compile(r"(?P<name>[a-z0-9]+(-[a-z0-9]+)*)==(?P<version>[0-9][\w.]*)( ; (?P<marker>.+))?")

# Where the book promises to run.
PLATFORMS = [
    {"sys_platform": "linux", "platform_system": "Linux", "platform_machine": "x86_64", "os_name": "posix"},
    {"sys_platform": "linux", "platform_system": "Linux", "platform_machine": "aarch64", "os_name": "posix"},
    {"sys_platform": "darwin", "platform_system": "Darwin", "platform_machine": "arm64", "os_name": "posix"},
    {"sys_platform": "win32", "platform_system": "Windows", "platform_machine": "AMD64", "os_name": "nt"},
]
PLACES = [
    platform | {"python_version": f"3.{minor}", "python_full_version": f"3.{minor}.9"}
    for platform in PLATFORMS
    for minor in (11, 12, 13)
]


def asked(pyproject: dict) -> list[Requirement]:
    """Everything that pyproject.toml asks for: the library, its extras, and what builds it."""
    project = pyproject["project"]
    extras = [line for lines in project["optional-dependencies"].values() for line in lines]
    return [
        Requirement(line)
        for line in [*project["dependencies"], *extras, *pyproject["build-system"]["requires"]]
    ]


def locked(lock: str, place: dict[str, str]) -> dict[str, list[str]]:
    """The versions that a lock gives to each package in a place; one each, if the lock is right."""
    found: dict[str, list[str]] = {}
    for match in filter(None, map(LINE.fullmatch, lock.splitlines())):
        if match["marker"] is None or Marker(match["marker"]).evaluate(place):
            found.setdefault(match["name"], []).append(match["version"])
    return found


def form_problems(lock: str) -> list[str]:
    """Lines that are not `name==version ; marker`, or out of order."""
    lines = lock.splitlines()
    found = [f"not name==version: {line}" for line in lines if not LINE.fullmatch(line)]
    names = [line.partition("==")[0] for line in lines]
    return found + [f"{after} stands after {before}" for before, after in pairwise(names) if after < before]


def coverage_problems(lock: str, pyproject: dict) -> list[str]:
    """What is asked for and not locked, or locked to a version that was not asked for."""
    found = []
    for place in PLACES:
        versions = locked(lock, place)
        where = f"on Python {place['python_version']}, {place['sys_platform']} {place['platform_machine']}"
        found += [f"{name} {where}: {' and '.join(v)}" for name, v in versions.items() if len(v) > 1]
        for requirement in asked(pyproject):
            if requirement.marker and not requirement.marker.evaluate(place):
                continue
            name = canonicalize_name(requirement.name)
            if name not in versions:
                found.append(f"{name} is not locked {where}")
            elif not requirement.specifier.contains(versions[name][0], prereleases=True):
                found.append(f"{name} {versions[name][0]} is not {requirement.specifier} {where}")
    return found


@pytest.fixture(scope="module")
def lock() -> str:
    return (ROOT / "requirements.lock").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def pyproject() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_every_line_is_a_name_and_a_version(lock: str) -> None:
    assert len(lock.splitlines()) > 100
    assert form_problems(lock) == []


@pytest.mark.parametrize(
    "line",
    [
        "--index-url https://packages.example.org/simple",
        "--extra-index-url https://packages.example.org/simple",
        "-e .",
        "numpy>=1.26",
        "numpy",
        "numpy==2.*",
        "numpy @ https://packages.example.org/numpy.whl",
        "numpy @ file:///home/somebody/numpy.whl",
        "./wheels/numpy.whl",
        "# numpy==2.3.4",
        "",
    ],
)
def test_any_other_line_is_noticed(line: str) -> None:
    assert f"not name==version: {line}" in form_problems(f"matplotlib==3.11.2\n{line}\ntorch==2.14.1\n")


def test_disorder_is_noticed() -> None:
    assert form_problems("torch==2.14.1\nnumpy==2.3.4\n") == ["numpy stands after torch"]


def test_it_covers_what_pyproject_asks_for_everywhere(lock: str, pyproject: dict) -> None:
    assert coverage_problems(lock, pyproject) == []


SMALL = {
    "build-system": {"requires": ["hatchling>=1.25"]},
    "project": {
        "dependencies": ["numpy>=1.26"],
        "optional-dependencies": {"book": ["jupyter-book>=1.0.4.post1,<2"]},
    },
}
SMALL_LOCK = "hatchling==1.33.0\njupyter-book==1.0.4.post1\nnumpy==2.3.4\n"


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("numpy==2.3.4\n", "", "numpy is not locked on Python 3.11, linux x86_64"),
        ("numpy==2.3.4", "numpy==1.25.0", "numpy 1.25.0 is not >=1.26 on Python 3.11, linux x86_64"),
        ("hatchling==1.33.0\n", "", "hatchling is not locked on Python 3.13, win32 AMD64"),
        ("1.0.4.post1", "2.0.0", "jupyter-book 2.0.0 is not <2,>=1.0.4.post1 on Python 3.12, darwin arm64"),
        ("2.3.4", "2.3.4 ; sys_platform == 'linux'", "numpy is not locked on Python 3.11, darwin arm64"),
        (
            "2.3.4",
            "2.3.4 ; python_full_version < '3.13'",
            "numpy is not locked on Python 3.13, win32 AMD64",
        ),
        (
            "numpy==2.3.4",
            "numpy==2.3.4\nnumpy==2.4.6 ; python_full_version >= '3.12'",
            "numpy on Python 3.12, linux x86_64: 2.3.4 and 2.4.6",
        ),
    ],
)
def test_a_gap_is_noticed(old: str, new: str, problem: str) -> None:
    assert coverage_problems(SMALL_LOCK, SMALL) == []
    assert problem in coverage_problems(SMALL_LOCK.replace(old, new), SMALL)


def test_the_command_that_writes_it_names_no_index() -> None:
    if not shutil.which("make"):
        pytest.skip("there is no make here (Windows)")
    command = ["make", "-n", "lock", f"PYTHON={sys.executable}"]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    (compile_line,) = (line for line in printed.splitlines() if "pip compile" in line)
    words = compile_line.split()
    assert {"pyproject.toml", "--all-extras", "--universal", "--no-emit-index-url", "--no-header"} <= set(
        words
    )
    assert words[words.index("--output-file") + 1] == "requirements.lock"
    assert not [word for word in words if "://" in word or word.startswith("--emit")]


def test_the_environment_of_make_is_the_locked_one(lock: str) -> None:
    if not setup_env.READY.exists() or setup_env.VENV.resolve() != Path(sys.prefix).resolve():
        pytest.skip("these tests do not run in the environment that `make setup` makes")
    wrong = []
    here = locked("\n".join(setup_env.without_gpu(lock.splitlines())), {})
    for name, (version,) in here.items():
        if Version(metadata.version(name)).public != Version(version).public:
            wrong.append(f"{name} is {metadata.version(name)}, locked is {version}")
    assert wrong == []
