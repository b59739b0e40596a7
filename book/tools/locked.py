"""Whether what is installed here is what `requirements.lock` says, as far as numbers depend on it."""

import tomllib
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version


def locked_versions(lock: str, place: dict[str, str] | None = None) -> dict[str, str]:
    """Name → version, of the lines of a lock that hold in a place: markers that differ from here."""
    lines = map(Requirement, filter(None, lock.splitlines()))
    return {
        canonicalize_name(line.name): next(iter(line.specifier)).version
        for line in lines
        if line.marker is None or line.marker.evaluate(place)
    }


def differ(installed: str, locked: str) -> bool:
    """Whether two versions differ in more than their build: 2.14.1+cpu is 2.14.1."""
    return Version(installed).public != Version(locked).public


def first_difference(root: Path) -> str | None:
    """The first runtime dependency of the library that is not the locked one; None if all are.

    A root without a lock or without a pyproject.toml has nothing to compare.
    """
    lock, pyproject = Path(root) / "requirements.lock", Path(root) / "pyproject.toml"
    if not (lock.exists() and pyproject.exists()):
        return None
    asked = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]["dependencies"]
    versions = locked_versions(lock.read_text(encoding="utf-8"))
    for name in (canonicalize_name(Requirement(line).name) for line in asked):
        try:
            here = metadata.version(name)
        except metadata.PackageNotFoundError:
            here = None
        if name in versions and (here is None or differ(here, versions[name])):
            return f"a committed run needs {name} {versions[name]}, as locked; installed is {here or 'none'}"
    return None
