"""Make the virtual environment of the book: the locked packages and moe_lib, in .venv.

    python3 book/tools/setup_env.py           on Linux, macOS and Windows; a second call has nothing to do
    python3 book/tools/setup_env.py --cpu     without the CUDA packages (README: CPU builds of torch)

Runs on the bare interpreter, before anything is installed, and says in one line what is missing.
"""

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
VENV = ROOT / ".venv"
READY = VENV / ".ready"
OLDEST, NEWEST = (3, 11), (3, 13)
GPU_PACKAGES = ("nvidia-", "cuda-", "triton==")
UNREACHABLE = re.compile(
    "name resolution|NewConnectionError|Network is unreachable|getaddrinfo|No route to host|timed out|ProxyError"
)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--cpu", action="store_true", help="leave out the packages that only a GPU build of torch needs"
    )
    arguments = parser.parse_args()
    if not OLDEST <= sys.version_info[:2] <= NEWEST:
        sys.exit(subprocess.call([supported_python(), *sys.argv]))
    wanted = fingerprint(arguments.cpu)
    if READY.exists() and READY.read_text() == wanted:
        return
    started = time.monotonic()
    make_venv()
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    if arguments.cpu:
        lock = without_gpu(lock)
    requirements = VENV / "requirements.txt"
    requirements.write_text("\n".join(lock) + "\n", encoding="utf-8")
    pip(["-r", str(requirements)], total=len(lock))
    # hatchling is among the locked packages, so nothing is fetched a second time to build with
    pip(["--no-deps", "--no-build-isolation", "-e", str(ROOT)])
    READY.write_text(wanted)
    say(f"The environment is ready in .venv ({time.monotonic() - started:.0f} s).\n")


def supported_python():
    """Another interpreter on this machine that will do; exits with one line if there is none."""
    versions = [f"{OLDEST[0]}.{minor}" for minor in range(NEWEST[1], OLDEST[1] - 1, -1)]
    for name in (f"python{version}" for version in versions):
        path = shutil.which(name)
        # A name on the path may be a shim that leads nowhere: ask it.
        if path and subprocess.run([path, "-c", ""], capture_output=True).returncode == 0:
            return path
    here = ".".join(map(str, sys.version_info[:2]))
    sys.exit(
        f"The book needs Python {', '.join(sorted(versions)[:-1])} or {max(versions)}; this is {here}. "
        f"Install one of them, or name it: make book PYTHON=/path/to/python{max(versions)}"
    )


def fingerprint(cpu):
    """Of everything that decides what is installed."""
    digest = hashlib.sha256(f"{sys.version_info[:2]} {sys.platform} cpu={cpu} {ROOT}".encode())
    for name in ("requirements.lock", "pyproject.toml"):
        digest.update((ROOT / name).read_bytes())
    return digest.hexdigest()


def without_gpu(lock):
    """The lock without what only a GPU build of torch needs."""
    return [line for line in lock if not line.startswith(GPU_PACKAGES)]


def venv_python():
    return VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def make_venv():
    made_with = (VENV / "pyvenv.cfg").read_text(encoding="utf-8") if (VENV / "pyvenv.cfg").exists() else ""
    if f"version = {sys.version_info[0]}.{sys.version_info[1]}." in made_with and venv_python().exists():
        return
    made = subprocess.run(
        [sys.executable, "-m", "venv", "--clear", str(VENV)], capture_output=True, text=True
    )
    if made.returncode:
        sys.exit(
            f"No virtual environment could be made with {sys.executable}: its venv module is incomplete. "
            f"On Debian and Ubuntu: apt install python{sys.version_info[0]}.{sys.version_info[1]}-venv"
        )


def pip(arguments, total=None):
    """pip install with one line of progress; a failure exits with one line, the story is in .venv/setup.log."""
    command = [
        str(venv_python()),
        "-m",
        "pip",
        "install",
        "--no-input",
        "--disable-pip-version-check",
        *arguments,
    ]
    log, seen = [], 0
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT)
    for line in process.stdout:
        log.append(line)
        if total and line.startswith("Collecting "):
            seen += 1
            say(f"Finding packages {min(seen, total)}/{total}: {line.split()[1].split('==')[0]}")
        elif total and line.startswith("Installing collected packages"):
            say(f"Installing {seen} packages; this takes a minute or two")
    if process.wait():
        (VENV / "setup.log").write_text("".join(log), encoding="utf-8")
        say("")
        sys.exit(explain("".join(log)))


def explain(log):
    """One line that says what went wrong and what to do."""
    if UNREACHABLE.search(log):
        return (
            "The packages could not be fetched: no package index answers. Connect to the network and repeat "
            "the command; what is installed already is kept. (Details: .venv/setup.log)"
        )
    errors = re.findall(r"^ERROR: (.*)$", log, flags=re.M) or log.strip().splitlines()[-1:] or ["no message"]
    return f"pip could not install the packages: {errors[-1]} (Details: .venv/setup.log)"


def say(text):
    """Progress on one line of a terminal; in a log, a line for each step that ends."""
    if sys.stdout.isatty():
        print(f"\r\033[K{text}", end="", flush=True)
    elif text.startswith(("Installing", "The env")):
        print(text.rstrip(), flush=True)


if __name__ == "__main__":
    main()
