"""Runs that go wrong or are interrupted: what is said, what stays, and that nothing goes on running."""

import dataclasses
import os
import re
import signal
import subprocess
import uuid

import freshness
import nbformat
import pytest
import run as run_script
import runner
from run_fixtures import (
    SAVE,
    add_chapter,
    chapter,
    command,
    files,
    make_root,
    marked_processes,
    parsed,
    printed,
    results,
    run,
    wait_until,
)


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """One chapter that works among many that do not."""
    root = make_root(tmp_path_factory.mktemp("mixed"))
    record = 'record = {"half": True}'
    fail = '# NBVAL_CHECK_OUTPUT\n\nraise ValueError("first\\nsecond " + "long " * 200)'
    add_chapter(root, "00_fails", record, 'print("before")' + SAVE, fail, 'print("after")')
    add_chapter(root, "01_works", record, SAVE)
    hang = "import subprocess, sys\nsubprocess.run([sys.executable, '-c', 'import time; time.sleep(300)'])"
    add_chapter(root, "02_hangs", record, SAVE + 'print("before")', hang, moe_limits={"pocket": 15})
    add_chapter(root, "03_bare", "1", parameters=False)
    (root / "chapters" / "04_broken.ipynb").write_text("{")
    edit = "p = __import__('pathlib').Path('../chapters/05_edited.ipynb'); p.write_text(p.read_text() + ' ')"
    add_chapter(root, "05_edited", edit)
    add_chapter(root, "06_worker_dies", "import os, signal", "os.kill(os.getppid(), signal.SIGKILL)")
    add_chapter(root, "07_kernel_dies", "__import__('os')._exit(3)")
    add_chapter(root, "08_odd_limit", "1", moe_limits={"pocket": "long"})
    (root / "book" / "results" / "00_fails").mkdir(parents=True)
    (root / "book" / "results" / "00_fails" / "pocket.json").write_text("what was there")
    before = files(root)
    mark = uuid.uuid4().hex
    finished = run(root, "--jobs", 3, MARK=mark)
    return root, before, finished, mark


def message(mixed, name: str) -> str:
    """The one line about a chapter on standard error."""
    (line,) = [line for line in mixed[2].stderr.splitlines() if line.startswith(f"{name}:")]
    return line.removeprefix(f"{name}: ")


def test_a_failure_names_chapter_cell_and_error_in_one_line(mixed):
    text = message(mixed, "00_fails")
    assert text.startswith(
        'cell 4 (`raise ValueError("first\\nsecond " + "long " * 200)`): ValueError: first second long'
    )
    assert len(text) < 500
    assert len(mixed[2].stderr.splitlines()) == 8, mixed[2].stderr


def test_the_others_go_on_and_the_exit_status_tells(mixed):
    root, _, finished, _ = mixed
    assert finished.returncode == 1
    assert results(root, "01_works")["half"] is True
    assert freshness.is_fresh(chapter(root, "01_works"), root)
    assert finished.stdout.splitlines()[-1] == "1 done, 0 skipped, 8 failed"


def test_a_failure_keeps_the_partial_notebook_and_leaves_the_rest(mixed):
    root, before, finished, _ = mixed
    partial = root / "_build" / "runs" / "pocket" / "00_fails.partial.ipynb"
    assert printed(partial) == "before\n"
    cells = freshness.read(partial).cells
    assert [output.output_type for output in cells[4].outputs] == ["error"]
    assert "papermill" not in partial.read_text()
    assert re.search(r"failed   00_fails .* see _build/runs/pocket/00_fails\.partial\.ipynb", finished.stdout)
    after = files(root)
    untouched = set(before) - {"chapters/01_works.ipynb", "chapters/05_edited.ipynb"}
    assert {name: after[name] for name in untouched} == {name: before[name] for name in untouched}
    runs = "_build/runs/pocket"
    stems = ("00_fails", "02_hangs", "05_edited", "06_worker_dies", "07_kernel_dies")
    assert set(after) - set(before) == {
        "book/results/01_works/pocket.json",
        *(f"{runs}/{stem}.partial.ipynb" for stem in stems),
    }


def test_a_chapter_past_its_limit_is_stopped(mixed):
    root, _, finished, mark = mixed
    assert message(mixed, "02_hangs").startswith(
        "ran past its limit of 15 s in cell 4 (`import subprocess, sys`)"
    )
    assert printed(root / "_build" / "runs" / "pocket" / "02_hangs.partial.ipynb") == "before\n"
    seconds = float(re.search(r"failed   02_hangs +(\d+\.\d) s", finished.stdout)[1])
    assert 15 <= seconds < 40
    assert wait_until(lambda: not marked_processes(mark), 10), marked_processes(mark)


@pytest.mark.parametrize(
    "name, expected",
    [
        ("03_bare", "no code cell is tagged `parameters`"),
        ("04_broken", "not a valid notebook"),
        ("05_edited", "was edited while it ran"),
        (
            "06_worker_dies",
            "cell 3 (`os.kill(os.getppid(), signal.SIGKILL)`): its worker ended with status -9",
        ),
        ("07_kernel_dies", "cell 2 (`__import__('os')._exit(3)`): DeadKernelError: Kernel died"),
        ("08_odd_limit", "metadata moe_limits.pocket is 'long'; it should be a number of seconds"),
    ],
)
def test_other_failures_are_one_clear_line(mixed, name, expected):
    assert expected in message(mixed, name)


def test_an_edit_during_the_run_survives(mixed):
    root, before, *_ = mixed
    name = "chapters/05_edited.ipynb"
    assert files(root)[name] == before[name] + b" "


def test_a_later_success_removes_the_partial(mixed):
    root, *_ = mixed
    partial = root / "_build" / "runs" / "pocket" / "05_edited.partial.ipynb"
    assert partial.exists()
    nb = chapter(root, "05_edited")
    nb.cells[2].source = "1 + 1"
    nbformat.write(nb, root / "chapters" / "05_edited.ipynb")
    assert run(root, "05").returncode == 0
    assert not partial.exists()


def test_outputs_are_not_kept_if_the_library_changed_meanwhile(tmp_path):
    root = make_root(tmp_path)
    path = add_chapter(root, "00_a", "1")
    job = run_script.plan(path, "cpu", parsed(root))
    source = path.read_bytes()
    (root / "moe_lib" / "__init__.py").write_text("ANSWER = 1\n")
    with pytest.raises(runner.Failure, match="moe_lib or the lock changed while it ran"):
        runner.publish(job, path, source, 1.0)
    assert path.read_bytes() == source
    now = dataclasses.replace(job, code=freshness.code_hash(freshness.read(path), root))
    runner.publish(now, path, source, 1.0)
    assert path.read_bytes() != source


def test_a_partial_notebook_that_cannot_be_kept_ends_no_other_chapter(tmp_path):
    root = make_root(tmp_path)
    job = run_script.plan(add_chapter(root, "00_a", "1"), "cpu", parsed(root))
    job.partial.mkdir(parents=True)
    assert re.match(r"nothing was kept: .*00_a\.partial\.ipynb", runner.keep_partial(job, job.path))


@pytest.fixture
def under_way(tmp_path):
    """A run of two chapters that have replaced their results and now wait, each with a process of its own."""
    root = make_root(tmp_path)
    wait = "import subprocess, sys\nsubprocess.run([sys.executable, '-c', 'import time; time.sleep(300)'])"
    for name in ("00_a", "01_b"):
        add_chapter(root, name, 'record = {}\nprint("hello")', SAVE, wait)
    old = root / "book" / "results" / "00_a" / "pocket.json"
    old.parent.mkdir(parents=True)
    old.write_text("old")
    before = files(root)
    mark = uuid.uuid4().hex
    (tmp_path / "temporary").mkdir()
    environment = os.environ | {"MARK": mark, "TMPDIR": str(tmp_path / "temporary")}
    # Tests that were started in a shell's background ignore a Ctrl-C, and so would what they start.
    heeded = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(
        command(root, "--jobs", 2), env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    signal.signal(signal.SIGINT, heeded)

    def waiting() -> bool:
        sleepers = [p for p in marked_processes(mark) if "import time; time.sleep(300)" in p.cmdline()]
        return len(sleepers) == 2

    try:
        assert wait_until(waiting), process.poll()
        assert old.read_text() != "old"
        yield root, before, process, mark
    finally:
        process.kill()
        process.communicate()
        for left in marked_processes(mark):
            left.kill()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_leaves_everything_as_it_was(under_way, number):
    root, before, process, mark = under_way
    assert len(marked_processes(mark)) >= 7  # run.py; two workers, kernels and processes of kernels
    process.send_signal(number)
    process.send_signal(number)  # an impatient second one must not cut the cleaning short
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.splitlines() == ["interrupted: nothing of the chapters that were running was kept"]
    assert "done" not in out
    assert wait_until(lambda: not marked_processes(mark), 5), marked_processes(mark)
    assert files(root) == before
    assert not list((root / "_build" / "runs").iterdir())
    assert not (root / "book" / "results" / "01_b").exists()
    assert not list((root.parent / "temporary").iterdir())


def test_workers_and_kernels_end_even_if_the_runner_is_killed(under_way):
    root, before, process, mark = under_way
    process.kill()
    process.wait()
    assert wait_until(lambda: not marked_processes(mark), 15), marked_processes(mark)
    after = files(root)
    chapters = [name for name in before if name.startswith("chapters/")]
    assert [after[name] for name in chapters] == [before[name] for name in chapters]
