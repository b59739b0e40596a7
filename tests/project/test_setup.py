"""`make setup` says in one line what is missing, does nothing twice, and goes on after an interruption."""

import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import setup_env
from environments import installed
from skeleton import Skeleton
from wheels import ROOT, tiny_wheel

POSIX = pytest.mark.skipif(os.name == "nt", reason="needs a shell and make; Windows has commands of its own")


@pytest.fixture
def bare(tmp_path: Path) -> Skeleton:
    """A small repository in which nothing is installed yet."""
    return Skeleton(tmp_path / "repository")


@pytest.fixture(scope="module")
def once_made(tmp_path_factory: pytest.TempPathFactory) -> Skeleton:
    return Skeleton(tmp_path_factory.mktemp("made") / "repository")


@pytest.fixture
def made(once_made: Skeleton) -> Skeleton:
    """A small repository whose environment is made, and as it should be."""
    once_made.lock("alpha==1.0", "beta==1.0")
    finished = once_made.setup()
    assert finished.returncode == 0, finished.stderr
    assert once_made.ready.exists()
    once_made.installs()
    return once_made


def one_line(finished: subprocess.CompletedProcess[str]) -> str:
    """The message of a command that failed; it must be a single line."""
    assert finished.returncode != 0
    lines = [line for line in finished.stderr.splitlines() if line and not line.startswith("make")]
    assert len(lines) == 1, finished.stderr
    return lines[0]


def shim(folder: Path, name: str, script: str) -> None:
    """A small program that stands in for a Python."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(script, encoding="utf-8")
    (folder / name).chmod(0o755)


def as_python(version: tuple[int, int], skeleton: Skeleton, *arguments: str, path: Path):
    """Run setup_env.py with a Python that believes to be another version."""
    pretend = (
        "import runpy, sys; sys.version_info = (*%r, 0, 'final', 0); sys.argv = sys.argv[1:]; "
        "runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    command = [sys.executable, "-c", pretend % (version,), str(skeleton.script), *arguments]
    environment = skeleton.environment(PATH=str(path))
    return subprocess.run(command, cwd=skeleton.root, env=environment, capture_output=True, text=True)


@pytest.mark.parametrize("version", [(3, 9), (3, 10), (3, 14)])
def test_another_python_is_told_what_to_install(bare: Skeleton, version: tuple[int, int]) -> None:
    message = one_line(as_python(version, bare, path=bare.root / "empty"))
    assert f"needs Python 3.11, 3.12 or 3.13; this is 3.{version[1]}." in message
    assert "Install one of them" in message
    assert "make book PYTHON=" in message
    assert not (bare.root / ".venv").exists()


@POSIX
def test_names_that_lead_nowhere_are_passed_over(bare: Skeleton, tmp_path: Path) -> None:
    fakes = tmp_path / "fakes"
    shim(fakes, "python3.13", "#!/bin/sh\necho 'python3.13: command not found' >&2\nexit 127\n")
    shim(fakes, "python3.12", "#!/nowhere/python\n")
    shim(fakes, "python3.11", "#!/bin/sh\necho 3.10\n")  # the name lies: taking it would never end
    assert "this is 3.10" in one_line(as_python((3, 10), bare, path=fakes))


@POSIX
def test_a_python_further_down_the_path_is_found(bare: Skeleton, tmp_path: Path) -> None:
    shim(tmp_path / "first", "python3.12", "#!/bin/sh\nexit 127\n")
    good = '#!/bin/sh\n[ "$1" = -c ] && echo 3.12 && exit\necho "$@"\nexit 7\n'
    shim(tmp_path / "second", "python3.12", good)
    path = f"{tmp_path / 'first'}{os.pathsep}{tmp_path / 'second'}"
    finished = as_python((3, 10), bare, "--cpu", path=path)
    assert finished.stdout.split() == [str(bare.script), "--cpu"]
    assert finished.returncode == 7


@POSIX
@pytest.mark.parametrize("script", [None, "#!/bin/sh\necho 'python: command not found' >&2\nexit 127\n"])
def test_make_without_a_python_says_so(bare: Skeleton, tmp_path: Path, script: str | None) -> None:
    if script:
        shim(tmp_path, "python", script)
    finished = bare.make("book", f"PYTHON={tmp_path / 'python'}")
    message = one_line(finished)
    assert f"no working '{tmp_path / 'python'}'" in message
    assert "install Python 3.11, 3.12 or 3.13" in message
    assert finished.stdout == ""


def closed_port() -> int:
    """A port of this machine at which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.slow
def test_without_a_network_it_says_so_and_how_to_go_on(bare: Skeleton) -> None:
    no_network = bare.index(f"http://127.0.0.1:{closed_port()}/simple")
    finished = bare.setup(environment=no_network)
    message = one_line(finished)
    assert "no package index answers" in message
    assert "Connect to the network and repeat the command" in message
    assert finished.stdout == ""
    assert "NewConnectionError" in (bare.root / ".venv" / "setup.log").read_text(encoding="utf-8")
    assert not bare.ready.exists()
    assert bare.setup().returncode == 0
    assert bare.ready.exists()


def test_what_pip_says_about_a_conflict_is_passed_on(made: Skeleton) -> None:
    made.lock("alpha==1.0", "beta==2.0")
    message = one_line(made.setup())
    assert message.startswith("pip could not install the packages: ")
    assert "alpha==1.0" in message
    assert "conflicting dependencies" in message


def test_what_pip_says_about_a_missing_version_is_passed_on(made: Skeleton) -> None:
    made.lock("alpha==3.0")
    assert "No matching distribution found for alpha==3.0" in one_line(made.setup())


def test_a_hiccup_of_the_network_does_not_hide_a_conflict() -> None:
    hiccup = "WARNING: Retrying after connection broken by 'ReadTimeoutError(Read timed out.)': /alpha/\n"
    conflict = (
        "ERROR: Cannot install alpha==1.0 and beta==2.0 because these package versions have conflicting "
        "dependencies.\nERROR: ResolutionImpossible: for help visit https://pip.example.org\n"
    )
    assert "no package index answers" in setup_env.explain(hiccup)
    message = setup_env.explain(hiccup + conflict)
    assert "Cannot install alpha==1.0 and beta==2.0 because" in message
    assert "\n" not in message


def test_a_failed_build_says_why(made: Skeleton) -> None:
    backend = made.root / "backend.py"
    whole = backend.read_text(encoding="utf-8")
    damaged = whole.replace("    info =", "    import nobody_has_this\n    info =")
    backend.write_text(damaged, encoding="utf-8")
    made.ready.unlink()
    message = one_line(made.setup())
    backend.write_text(whole, encoding="utf-8")
    assert "ModuleNotFoundError: No module named 'nobody_has_this'" in message


def test_the_second_call_does_nothing(made: Skeleton) -> None:
    before = made.ready.stat().st_mtime_ns
    finished = made.setup()
    assert (finished.returncode, finished.stdout, finished.stderr) == (0, "", "")
    assert not made.installs()
    assert made.ready.stat().st_mtime_ns == before


def test_a_changed_lock_is_installed(made: Skeleton) -> None:
    tiny_wheel(made.packages, "alpha", "2.0")
    made.lock("alpha==2.0", "beta==2.0")
    finished = made.setup()
    assert finished.returncode == 0, finished.stderr
    assert "The environment is ready in .venv" in finished.stdout
    assert made.installs()
    versions = installed(made.root / ".venv")
    assert (versions["alpha"], versions["beta"], versions["moe-lib"]) == ("2.0", "2.0", "0.1.0")


def test_after_a_failed_change_the_old_lock_is_not_taken_for_installed(made: Skeleton) -> None:
    made.lock("alpha==3.0")
    assert made.setup().returncode != 0
    made.lock("alpha==1.0", "beta==1.0")
    made.installs()
    assert made.setup().returncode == 0
    assert made.installs()


@POSIX
def test_an_interrupted_setup_goes_on_where_it_was(made: Skeleton) -> None:
    made.ready.unlink()
    made.lock("beta==2.0", "alpha==2.0", "gamma==1.0")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(60)
        environment = made.index(f"http://127.0.0.1:{silent.getsockname()[1]}/simple")
        process = subprocess.Popen(
            [sys.executable, str(made.script)], cwd=made.root, env=environment, start_new_session=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            # Where these tests run in the background, SIGINT may be ignored, and children inherit that.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )  # fmt: skip
        silent.accept()  # pip asks, and nobody ever answers
        os.killpg(process.pid, signal.SIGINT)  # what Ctrl-C does
        out, err = process.communicate(timeout=60)
    message = one_line(subprocess.CompletedProcess([], process.returncode, out, err))
    assert message == "Interrupted: repeat the command to go on from here."
    assert not made.ready.exists()
    made.lock("alpha==1.0", "beta==1.0")
    assert made.setup().returncode == 0
    assert made.ready.exists()


@pytest.mark.slow
def test_an_environment_without_pip_is_made_anew(made: Skeleton) -> None:
    for folder in (made.root / ".venv").glob("**/site-packages/pip"):
        shutil.rmtree(folder)
    made.ready.unlink()
    finished = made.setup()
    assert finished.returncode == 0, finished.stderr


@pytest.mark.slow
def test_in_a_repository_that_was_moved_the_environment_is_made_anew(made: Skeleton, tmp_path: Path) -> None:
    # The scripts in .venv/bin name the place where they were installed.
    shutil.copytree(made.root, tmp_path / "moved", symlinks=True)
    command = [sys.executable, str(tmp_path / "moved" / "book" / "tools" / "setup_env.py")]
    finished = subprocess.run(command, env=made.environment(), capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    config = (tmp_path / "moved" / ".venv" / "pyvenv.cfg").read_text(encoding="utf-8")
    assert str(tmp_path / "moved") in config
    assert str(made.root) not in config


def test_an_incomplete_python_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(setup_env, "VENV", tmp_path / ".venv")
    for said in (
        "was not created successfully because ensurepip is not\navailable.\n",
        "No module named venv",
    ):
        failed = subprocess.CompletedProcess([], 1, said, "")
        monkeypatch.setattr(setup_env.subprocess, "run", lambda *_, failed=failed, **__: failed)
        with pytest.raises(SystemExit, match=r"venv module is incomplete.* apt install python3\.\d+-venv$"):
            setup_env.make_venv()


def test_any_other_word_of_venv_is_passed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(setup_env, "VENV", tmp_path / ".venv")
    failed = subprocess.CompletedProcess([], 1, "", "warning\nError: [Errno 28] No space left on device\n")
    monkeypatch.setattr(setup_env.subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(
        SystemExit, match=r"^No virtual .* with .*: Error: \[Errno 28\] No space left on device$"
    ):
        setup_env.make_venv()


def test_a_checkout_that_is_read_only_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(setup_env, "VENV", tmp_path / ".venv")
    monkeypatch.setattr(setup_env, "READY", tmp_path / ".venv" / ".ready")
    monkeypatch.setattr(setup_env.os, "access", lambda *_: False)  # root could write whatever the rights say
    monkeypatch.setattr(setup_env, "make_venv", lambda: pytest.fail("it tried all the same"))
    monkeypatch.setattr(sys, "argv", ["setup_env.py"])
    with pytest.raises(SystemExit, match=r"is read-only for you: copy it to a folder of your own") as error:
        setup_env.main()
    assert str(ROOT) in str(error.value) and "\n" not in str(error.value)


def test_without_a_gpu_the_gpu_packages_are_left_out(made: Skeleton) -> None:
    made.lock("alpha==1.0", "cuda-toolkit==1.0", "nvidia-cublas==1.0", "triton==1.0")
    assert one_line(made.setup())
    finished = made.setup("--cpu")
    assert finished.returncode == 0, finished.stderr
    assert (made.root / ".venv" / "requirements.txt").read_text(encoding="utf-8") == "alpha==1.0\n"


def test_of_the_real_lock_only_what_linux_alone_asks_for_is_left_out() -> None:
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    left_out = set(lock) - set(setup_env.without_gpu(lock))
    assert left_out == {line for line in lock if "sys_platform == 'linux'" in line}
    assert len(left_out) > 10


def test_a_broken_notebook_is_named(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "book" / "tools", tmp_path / "book" / "tools")
    (tmp_path / "chapters").mkdir()
    (tmp_path / "chapters" / "07_broken.ipynb").write_text('{"cells": [', encoding="utf-8")
    command = [sys.executable, str(tmp_path / "book" / "tools" / "build.py")]
    message = one_line(subprocess.run(command, cwd=tmp_path, capture_output=True, text=True))
    assert message.startswith("The book was not built: ")
    assert "chapters/07_broken.ipynb: not a valid notebook" in message
    assert message.endswith("git checkout -- chapters/07_broken.ipynb")
