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
    "name resolution|NewConnectionError|Network is unreachable|getaddrinfo|No route to host|timed out"
    "|ProxyError|Connection aborted|Connection broken"
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
    if READY.exists() and READY.read_text() == wanted and venv_python().exists():
        return
    if not os.access(VENV if VENV.exists() else ROOT, os.W_OK):
        sys.exit(
            f"{ROOT} is read-only for you: copy it to a folder of your own, and repeat the command there"
        )
    started = time.monotonic()
    make_venv()
    READY.unlink(missing_ok=True)  # from here on the old answer no longer holds, even if we are interrupted
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
    for version in versions:
        for folder in os.get_exec_path():
            path = shutil.which(f"python{version}", path=folder)
            # A name on the path may be a shim that leads nowhere, or somewhere else: ask it.
            if path and answer(path, "-c", "import sys; print('%d.%d' % sys.version_info[:2])") == version:
                return path
    here = ".".join(map(str, sys.version_info[:2]))
    sys.exit(
        f"The book needs Python {', '.join(versions[:0:-1])} or {versions[0]}; this is {here}. "
        f"Install one of them, or name it: make book PYTHON=/path/to/python{versions[0]}"
    )


def answer(*command):
    """What a command prints, or None where it cannot be run or fails."""
    try:
        asked = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    except OSError:
        return None
    return None if asked.returncode else asked.stdout.decode().strip()


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
    config = VENV / "pyvenv.cfg"
    made_with = config.read_text(encoding="utf-8") if config.exists() else ""
    # Made for this Python, for this very place (its scripts name it), and not interrupted before pip was in?
    right = f"version = {sys.version_info[0]}.{sys.version_info[1]}." in made_with and str(VENV) in made_with
    if right and answer(str(venv_python()), "-m", "pip", "--version"):
        return
    made = subprocess.run(
        [sys.executable, "-m", "venv", "--clear", str(VENV)], capture_output=True, text=True
    )
    if made.returncode:
        said = (made.stdout + made.stderr).strip()
        reason = said.splitlines()[-1] if said else "it said nothing"
        if "ensurepip" in said or "No module named" in said:
            version = f"{sys.version_info[0]}.{sys.version_info[1]}"
            reason = f"its venv module is incomplete. On Debian and Ubuntu: apt install python{version}-venv"
        sys.exit(f"No virtual environment could be made with {sys.executable}: {reason}")


def pip(arguments, total=None):
    """pip install with one line of progress; a failure exits with one line, details in .venv/setup.log."""
    # Most modules are never imported: bytecode is left to be written when one is.
    options = ["--no-input", "--no-compile", "--disable-pip-version-check"]
    command = [str(venv_python()), "-m", "pip", "install", *options, *arguments]
    log, seen = [], 0
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT)
    for line in process.stdout:
        log.append(line)
        if total and line.startswith("Collecting "):
            seen += 1
            say(f"Finding packages {min(seen, total)}/{total}: {line.split()[1].split('==')[0]}")
        elif total and line.startswith("Installing collected packages"):
            say(f"Installing {line.count(',') + 1} packages; this takes a minute or two")
    if process.wait():
        (VENV / "setup.log").write_text("".join(log), encoding="utf-8")
        say("")
        sys.exit(explain("".join(log)))


def explain(log):
    """One line that says what went wrong and what to do."""
    if UNREACHABLE.search(log) and "conflicting dependencies" not in log:
        return (
            "The packages could not be fetched: no package index answers. Connect to the network and repeat "
            "the command; what is installed already is kept. (Details: .venv/setup.log)"
        )
    # pip ends a conflict with an address, and a failed build with "see above": take the line that says more.
    empty = "ResolutionImpossible|Exception:|Failed|Could not build"
    errors = re.findall(rf"^ERROR: (?!{empty})(.+)$", log, flags=re.M)
    errors = errors or re.findall(r"^\s*(\w+Error: .+)$", log, flags=re.M)
    errors = errors or log.strip().splitlines()[-1:] or ["no message"]
    return f"pip could not install the packages: {errors[-1]} (Details: .venv/setup.log)"


def say(text):
    """Progress on one line of a terminal; in a log, a line for each step that ends."""
    if sys.stdout.isatty():
        print(f"\r\033[K{text}", end="", flush=True)
    elif text.startswith(("Installing", "The env")):
        print(text.rstrip(), flush=True)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("\nInterrupted: repeat the command to go on from here.")
