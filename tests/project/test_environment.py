"""`environment.yml` asks conda users for what `pyproject.toml` asks of everybody else."""

import copy
import tomllib
from collections.abc import Iterable
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
EXTRAS = ("book", "data", "dev")


def by_name(lines: Iterable[str]) -> dict[str, Requirement]:
    """Requirements by their normalised name; the same name with two different demands is an error."""
    found: dict[str, Requirement] = {}
    for line in lines:
        requirement = Requirement(line)
        name = canonicalize_name(requirement.name)
        if found.setdefault(name, requirement) != requirement:
            raise ValueError(f"{name} is asked for as '{found[name]}' and as '{requirement}'")
    return found


def project_requirements(project: dict) -> dict[str, Requirement]:
    """What the package and its extras ask for, from the `[project]` table."""
    extras = project["optional-dependencies"]
    lines = [*project["dependencies"], *(line for extra in EXTRAS for line in extras[extra])]
    found = by_name(lines)
    found.pop(canonicalize_name(project["name"]), None)  # an extra may name another one as moe_lib[book]
    return found


def conda_requirements(environment: dict) -> tuple[dict[str, Requirement], dict[str, Requirement], list[str]]:
    """What conda itself installs, what its pip section installs, and that section's options (`-e .`)."""
    entries = environment["dependencies"]
    pip = [line for entry in entries if isinstance(entry, dict) for line in entry["pip"]]
    options = [line for line in pip if line.startswith("-")]
    conda = by_name(entry for entry in entries if isinstance(entry, str))
    return conda, by_name(line for line in pip if not line.startswith("-")), options


def differences(environment: dict, project: dict) -> list[str]:
    """Every way in which the two files are out of step, one sentence each."""
    conda, pip, options = conda_requirements(environment)
    wanted = project_requirements(project)
    found = [f"environment.yml lacks {wanted[name]}" for name in sorted(wanted.keys() - pip.keys())]
    found += [
        f"environment.yml has {pip[name]}, pyproject.toml does not"
        for name in sorted(pip.keys() - wanted.keys())
    ]
    for name in sorted(wanted.keys() & pip.keys()):
        if wanted[name] != pip[name]:
            found.append(f"environment.yml says {pip[name]}, pyproject.toml says {wanted[name]}")
    python = conda["python"].specifier if "python" in conda else SpecifierSet()
    if python != SpecifierSet(project["requires-python"]):
        found.append(
            f"environment.yml says python {python}, pyproject.toml says {project['requires-python']}"
        )
    if "pip" not in conda:
        found.append("environment.yml does not ask conda for pip, which installs all the rest")
    if options != ["-e ."]:
        found.append(
            f"environment.yml should install moe_lib itself by '-e .' and nothing else by options: {options}"
        )
    return found


@pytest.fixture
def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.fixture
def environment() -> dict:
    return yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))


def test_environment_is_in_step_with_pyproject(environment, project):
    assert differences(environment, project) == []


def test_no_package_is_listed_twice(environment):
    pip = next(entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict))
    names = [canonicalize_name(Requirement(line).name) for line in pip if not line.startswith("-")]
    assert len(names) == len(set(names))


def pip_section(environment: dict) -> list[str]:
    return next(entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict))


def change_a_bound(environment: dict) -> None:
    lines = pip_section(environment)
    at = next(i for i, line in enumerate(lines) if line.startswith("torch>="))
    lines[at] = "torch>=1.0"


def drop_a_package(environment: dict) -> None:
    lines = pip_section(environment)
    lines[:] = [line for line in lines if not line.startswith("nbval")]


def add_a_package(environment: dict) -> None:
    pip_section(environment).append("left-over>=1.0")


def drop_a_bound(environment: dict) -> None:
    lines = pip_section(environment)
    lines[:] = ["numpy" if line.startswith("numpy") else line for line in lines]


def widen_python(environment: dict) -> None:
    entries = environment["dependencies"]
    entries[:] = ["python >=3.9" if str(entry).startswith("python ") else entry for entry in entries]


def forget_pip(environment: dict) -> None:
    environment["dependencies"].remove("pip")


def forget_the_library(environment: dict) -> None:
    pip_section(environment).remove("-e .")


@pytest.mark.parametrize(
    ("tamper", "message"),
    [
        (change_a_bound, "says torch>=1.0"),
        (drop_a_bound, "says numpy,"),
        (drop_a_package, "lacks nbval"),
        (add_a_package, "has left-over>=1.0"),
        (widen_python, "says python >=3.9"),
        (forget_pip, "does not ask conda for pip"),
        (forget_the_library, "'-e .'"),
    ],
)
def test_negative_control_a_difference_is_noticed(environment, project, tamper, message):
    changed = copy.deepcopy(environment)
    tamper(changed)
    found = differences(changed, project)
    assert len(found) == 1 and message in found[0]


def test_negative_control_a_new_requirement_of_the_package_is_noticed(environment, project):
    changed = copy.deepcopy(project)
    changed["optional-dependencies"]["dev"].append("newcomer>=2")
    assert differences(environment, changed) == ["environment.yml lacks newcomer>=2"]


def test_negative_control_two_demands_for_one_package_are_refused():
    with pytest.raises(ValueError, match="pillow is asked for as"):
        by_name(["pillow>=10", "Pillow>=11"])


def test_spelling_and_order_do_not_count():
    assert by_name(["PyYAML >=6.0, <7"])["pyyaml"].specifier == SpecifierSet("<7,>=6.0")
