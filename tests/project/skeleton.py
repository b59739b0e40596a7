"""A repository with just enough in it for `make setup`: for tests of what happens when something is missing.

Its packages are tiny wheels in a folder, and it builds itself, so nothing is fetched and nothing of the
running environment is used but its Python.
"""

import shutil
import subprocess
import sys
from pathlib import Path

from environments import offline
from wheels import ROOT, tiny_wheel

Finished = subprocess.CompletedProcess[str]

PYPROJECT = """\
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]

[project]
name = "moe_lib"
version = "0.1.0"
"""

# The smallest build backend that pip can install in place with.
BACKEND = """\
import zipfile

def build_editable(wheel_directory, config_settings=None, metadata_directory=None):
    info = "moe_lib-0.1.0.dist-info"
    with zipfile.ZipFile(f"{wheel_directory}/moe_lib-0.1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("moe_lib.pth", __file__.rpartition("/")[0])
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\\nName: moe_lib\\nVersion: 0.1.0\\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr(f"{info}/RECORD", "")
    return "moe_lib-0.1.0-py3-none-any.whl"
"""


class Skeleton:
    """The small repository, and what one does with it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.packages = root / "packages"
        (root / "book" / "tools").mkdir(parents=True)
        (root / "moe_lib").mkdir()
        (root / "moe_lib" / "__init__.py").write_text("", encoding="utf-8")
        shutil.copy(ROOT / "book" / "tools" / "setup_env.py", self.script)
        shutil.copy(ROOT / "Makefile", root / "Makefile")
        (root / "backend.py").write_text(BACKEND, encoding="utf-8")
        (root / "pyproject.toml").write_text(PYPROJECT, encoding="utf-8")
        tiny_wheel(self.packages, "alpha", "1.0")
        tiny_wheel(self.packages, "beta", "1.0", ["alpha<2"])
        tiny_wheel(self.packages, "beta", "2.0", ["alpha>=2"])
        self.lock("alpha==1.0", "beta==1.0")

    @property
    def script(self) -> Path:
        return self.root / "book" / "tools" / "setup_env.py"

    @property
    def ready(self) -> Path:
        return self.root / ".venv" / ".ready"

    def lock(self, *lines: str) -> None:
        """Write the lock."""
        (self.root / "requirements.lock").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")

    def environment(self, **more: str) -> dict[str, str]:
        """pip looks into the folder of tiny wheels and nowhere else."""
        return offline(**{"PIP_FIND_LINKS": str(self.packages)} | more)

    def index(self, address: str) -> dict[str, str]:
        """pip asks an index, as it does on a reader's machine, but does not wait long for its answer."""
        nothing = {"PIP_NO_INDEX": "", "PIP_FIND_LINKS": "", "PIP_EXTRA_INDEX_URL": ""}
        return self.environment(**nothing, PIP_INDEX_URL=address, PIP_RETRIES="1", PIP_TIMEOUT="60")

    def setup(self, *arguments: str, environment: dict[str, str] | None = None) -> Finished:
        """Run setup_env.py."""
        return self._run([sys.executable, str(self.script), *arguments], environment or self.environment())

    def installs(self) -> bool:
        """Whether the set-up gave pip something to install since the last time somebody asked."""
        given = self.root / ".venv" / "requirements.txt"
        found = given.exists()
        given.unlink(missing_ok=True)
        return found

    def make(self, *arguments: str) -> Finished:
        """Run make in it."""
        not_nested = {k: v for k, v in self.environment().items() if not k.startswith("MAKE")}
        return self._run(["make", *arguments], not_nested)

    def _run(self, command: list[str], environment: dict[str, str]) -> Finished:
        return subprocess.run(
            command, cwd=self.root, env=environment, capture_output=True, text=True, timeout=120
        )
