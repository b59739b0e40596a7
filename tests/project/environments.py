"""Small environments for tests: they see chosen packages of the running one, as links, and nothing else.

Folders are real and files are symbolic links, so pip may install, change or remove what it likes in such a
venv: it replaces or removes links, never the files of the environment that runs the tests.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Iterable
from contextlib import suppress
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


def closure(requirements: Iterable[str]) -> dict[str, metadata.Distribution]:
    """Everything that installing these pulls in, as it is installed in the running environment."""
    pending = [Requirement(line) for line in requirements]
    found, asked = {}, set()
    while pending:
        requirement = pending.pop()
        name = canonicalize_name(requirement.name)
        for extra in {"", *requirement.extras} - {extra for known, extra in asked if known == name}:
            asked.add((name, extra))
            found[name] = metadata.distribution(name)
            for child in map(Requirement, found[name].requires or []):
                if child.marker is None or child.marker.evaluate({"extra": extra}):
                    pending.append(child)
    return found


def make_venv(folder: Path, *, with_pip: bool = False) -> Path:
    """An empty virtual environment; returns its Python."""
    venv.create(folder, with_pip=with_pip, symlinks=os.name != "nt")
    return python_of(folder)


def python_of(folder: Path) -> Path:
    """The interpreter of a virtual environment."""
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def site_packages(folder: Path) -> Path:
    """Where a virtual environment keeps its packages."""
    paths = sysconfig.get_paths("venv", vars={"base": str(folder), "platbase": str(folder)})
    return Path(paths["purelib"])


def link(distributions: Iterable[metadata.Distribution], folder: Path) -> None:
    """Put distributions into a virtual environment: their files as links, their metadata as copies."""
    target = site_packages(folder)
    folders = set()
    for distribution in distributions:
        for file in distribution.files:
            # Scripts and shared data lie outside site-packages; nothing here needs them.
            if ".." in file.parts or file.is_absolute():
                continue
            source, place = distribution.locate_file(file), target / file
            if not os.path.exists(source):  # bytecode that was never written
                continue
            if place.parent not in folders:
                place.parent.mkdir(parents=True, exist_ok=True)
                folders.add(place.parent)
            if file.parts[0].endswith(".dist-info"):
                shutil.copy2(source, place)
            else:
                with suppress(FileExistsError):  # packages that share a namespace may share a file
                    os.symlink(source, place)


def installed(folder: Path) -> dict[str, str]:
    """Name and version of what a virtual environment holds."""
    found = metadata.distributions(path=[str(site_packages(folder))])
    return {canonicalize_name(distribution.name): distribution.version for distribution in found}


def clean_environment(**more: str) -> dict[str, str]:
    """The environment variables of this process without those that lead Python to other packages."""
    leads = {"PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "VIRTUAL_ENV", "COVERAGE_PROCESS_START"}
    kept = {name: value for name, value in os.environ.items() if name not in leads}
    return kept | {"PYTHONNOUSERSITE": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1", **more}


def offline(**more: str) -> dict[str, str]:
    """The same, and pip asks nobody: no index, no folder of wheels, no configuration of this machine."""
    nobody = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "", "PIP_CONFIG_FILE": os.devnull}
    return clean_environment(**nobody | more)


def pip_install(python: Path, *arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """`pip install` into a virtual environment, offline, by the pip of the running one."""
    command = [sys.executable, "-m", "pip", "--python", str(python), "install", "-q", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, env=offline(), capture_output=True, text=True)
