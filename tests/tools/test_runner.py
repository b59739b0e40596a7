"""Runs that go well: what is kept and in what form, what is skipped, what is shown meanwhile."""

import dataclasses
import os
import re
import subprocess
import sys
from pathlib import Path

import freshness
import nbformat
import pytest
import run as run_script
import runner
from run_fixtures import SAVE, add_chapter, chapter, command, files, make_root, parsed, printed, results, run
from worker import committed_form

CORES = runner.core_count()
SURROUNDINGS = """
import os, time
record = {"began": time.time(), **{key: os.environ.get(key) for key in (
    "CUDA_VISIBLE_DEVICES", "TQDM_DISABLE", "PYTHONHASHSEED", "OMP_NUM_THREADS", "MPLBACKEND")}}
"""
TALK = """
import sys, moe_lib
for word in ("one", "two"):
    print(word, flush=True)
    time.sleep(0.1)
    sys.stdout.flush()
moe_lib.ANSWER
"""


@pytest.fixture(scope="module")
def committed(tmp_path_factory):
    """Two chapters with stale traces of other tools in them, run one after the other."""
    root = make_root(tmp_path_factory.mktemp("committed"))
    dirt = {
        "kernelspec": {"name": "somebody-elses", "display_name": "x", "language": "python"},
        "language_info": {"name": "python", "version": "2.7"},
        "widgets": {"application/vnd.jupyter.widget-state+json": {}},
        "moe_limits": {"pocket": 100},
        "moe_scales": ["smoke", "pocket"],
    }
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        pass
    (root / "_build" / "runs" / f".work-{gone.pid}-x" / "00_first").mkdir(parents=True)  # of a killed run
    for name in ("00_first", "01_second"):
        add_chapter(root, name, SURROUNDINGS, TALK, SAVE + '\nrecord["ended"] = time.time()' + SAVE, **dirt)
    before = files(root)
    finished = run(root, "--jobs", 1, CUDA_VISIBLE_DEVICES="0", MPLBACKEND="agg")
    assert finished.returncode == 0, finished.stderr
    return root, before, finished


def test_committed_run_replaces_the_chapter_and_stamps_it(committed):
    root, before, _ = committed
    nb = chapter(root)
    assert freshness.is_fresh(nb, root)
    assert (nb.metadata.moe.scale, nb.metadata.moe.device) == ("pocket", "cpu")
    assert 0 < nb.metadata.moe.seconds < 100
    old = nbformat.reads(before["chapters/00_first.ipynb"].decode(), as_version=4)
    assert [(c.id, c.cell_type, c.source) for c in nb.cells] == [
        (c.id, c.cell_type, c.source) for c in old.cells
    ]


def test_committed_run_is_clean(committed):
    root, *_ = committed
    nb = chapter(root)
    assert set(nb.metadata) == {"kernelspec", "language_info", "moe", "moe_limits", "moe_scales"}
    assert nb.metadata.language_info == {"name": "python"}
    assert nb.metadata.kernelspec.name == "python3"
    assert [dict(cell.metadata) for cell in nb.cells] == [{}, {"tags": ["parameters"]}, {}, {}, {}]
    assert [cell.get("execution_count") for cell in nb.cells] == [None, 1, 2, 3, 4]
    talk, answer = nb.cells[3].outputs
    assert (talk.name, talk.text) == ("stdout", "one\ntwo\n")
    assert (answer.execution_count, answer.data["text/plain"]) == (3, "42")


def test_committed_run_makes_only_the_results_besides(committed):
    root, before, _ = committed
    assert set(files(root)) - set(before) == {
        f"book/results/{n}/pocket.json" for n in ("00_first", "01_second")
    }
    assert not list((root / "_build" / "runs").iterdir())


def test_kernels_get_the_notebooks_parameters_and_a_settled_environment(committed):
    root, *_ = committed
    record = results(root, "00_first")
    assert (record["scale"], record["seeds"], record["device"]) == ("pocket", 10, "auto")
    assert (record["CUDA_VISIBLE_DEVICES"], record["TQDM_DISABLE"], record["PYTHONHASHSEED"]) == (
        "",
        "1",
        "0",
    )
    assert record["OMP_NUM_THREADS"] == str(CORES)
    assert record["MPLBACKEND"] == "agg"  # left as it was


def test_one_job_runs_one_after_the_other(committed):
    root, *_ = committed
    first, second = results(root, "00_first"), results(root, "01_second")
    assert first["ended"] < second["began"]


def test_progress_is_a_line_per_start_and_finish_and_a_summary(committed):
    lines = committed[2].stdout.splitlines()
    told = "\n".join(re.sub(r"\d+\.\d s", "T", line) for line in lines)
    starts = f"(scale pocket, threads {CORES}, limit 100 s)"
    assert told == "\n".join(
        [
            f"start    00_first {starts}",
            "done     00_first (T, 5/5 cells)",
            f"start    01_second {starts}",
            "done     01_second (T, 5/5 cells)",
            "",
            "done     00_first                         T",
            "done     01_second                        T",
            "2 done, 0 skipped, 0 failed",
        ]
    )


def listed(root: Path, capsys, *arguments: str) -> dict[str, str]:
    """What --list says of each chapter."""
    capsys.readouterr()
    assert run_script.main(["--root", str(root), "--list", *arguments]) == 0
    return dict(re.findall(r"^(\w+) +(up to date|to run)$", capsys.readouterr().out, re.M))


def test_what_is_up_to_date_is_skipped_until_something_changes(committed, capsys):
    root, *_ = committed
    before = files(root)
    again = run(root)
    assert again.returncode == 0
    assert re.findall(r"skipped +(\w+) .* up to date", again.stdout) == ["00_first", "01_second"]
    assert files(root) == before
    forced, _ = run_script.sort_out(freshness.chapters(root), "cpu", parsed(root, "--force"))
    assert [job.name for job in forced] == ["00_first", "01_second"]

    path = root / "chapters" / "00_first.ipynb"
    nb = chapter(root)
    nb.cells[3].source += " + 1"
    nbformat.write(nb, path)
    changed = run(root)
    assert re.findall(r"^(done|skipped) +(\w+) +\d", changed.stdout, re.M) == [
        ("done", "00_first"),
        ("skipped", "01_second"),
    ]
    assert chapter(root).cells[3].outputs[1].data["text/plain"] == "43"

    (root / "moe_lib" / "__init__.py").write_text("ANSWER = 50\n")
    run(root, "00")
    assert chapter(root).cells[3].outputs[1].data["text/plain"] == "51"
    assert freshness.is_fresh(chapter(root), root)
    assert listed(root, capsys) == {"00_first": "up to date", "01_second": "to run"}


def test_a_smoke_run_injects_its_parameters_and_leaves_the_chapter(tmp_path, capsys):
    root = make_root(tmp_path)
    add_chapter(root, "00_a", "record = {}\nprint(scale, seeds)", SAVE)
    add_chapter(root, "01_b", "1 / 0")
    before = files(root)
    finished = run(root, "--scale", "smoke")
    message = "01_b: cell 2 (`1 / 0`): ZeroDivisionError: division by zero\n"  # not 3: one cell was injected
    assert (finished.returncode, finished.stderr) == (1, message)
    after = files(root)
    assert {name: after[name] for name in before} == before
    runs = "_build/runs/smoke"
    made = {f"{runs}/00_a.ipynb", f"{runs}/results/00_a/smoke.json", f"{runs}/01_b.partial.ipynb"}
    assert set(after) - set(before) == made
    record = results(root, "00_a", "smoke", f"{runs}/results")
    assert (record["scale"], record["seeds"], record["device"]) == ("smoke", 2, "auto")
    target = root / runs / "00_a.ipynb"
    assert printed(target) == "smoke 2\n"
    nb = freshness.read(target)
    assert nb.cells[2].metadata.tags == ["injected-parameters"]
    assert "papermill" not in nb.metadata and nb.metadata.moe.scale == "smoke"

    def state(*arguments: str) -> str:
        return listed(root, capsys, *arguments)["00_a"]

    assert state("--scale", "smoke") == "up to date"
    assert state("--scale", "smoke", "--seeds", "3") == "to run"
    assert state("--scale", "smoke", "--device", "cpu") == "to run"
    assert state("--scale", "pocket") == "to run"
    (root / "moe_lib" / "__init__.py").write_text("ANSWER = 1\n")
    assert state("--scale", "smoke") == "to run"


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="needs a pseudo-terminal")
def test_chapters_run_at_the_same_time_with_a_bar_each(tmp_path):
    root = make_root(tmp_path)
    meet = """
import pathlib, time
record = {"began": time.time()}
pathlib.Path(NAME).touch()
while not all(pathlib.Path(name).exists() for name in ("00_a", "01_b")):
    assert time.time() < record["began"] + 40, "the other chapter does not run"
    time.sleep(0.05)
record["ended"] = time.time()
"""
    for name in ("00_a", "01_b"):
        add_chapter(root, name, meet, SAVE)
    terminal, stderr = os.openpty()
    environment = os.environ | {"COLUMNS": "100", "LINES": "40"}
    environment.pop("TQDM_DISABLE", None)
    with subprocess.Popen(
        command(root, "--jobs", 2), env=environment, stdout=subprocess.PIPE, stderr=stderr, text=True
    ) as process:
        os.close(stderr)
        shown = b""
        while chunk := read_terminal(terminal):
            shown += chunk
        out = process.stdout.read()
    os.close(terminal)
    assert process.returncode == 0, shown.decode()
    a, b = results(root, "00_a"), results(root, "01_b")
    assert max(a["began"], b["began"]) < min(a["ended"], b["ended"])
    for name in ("00_a", "01_b"):
        assert re.search(rf"{name} +\|[^\r\n]*\| 0/4 cells", shown.decode())
        assert re.search(rf"{name} +\|[^\r\n]*\| 4/4 cells, \d+\.\d s, done", shown.decode())
    assert "start" not in out and out.splitlines()[-1] == "2 done, 0 skipped, 0 failed"


def read_terminal(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 4096)
    except OSError:  # Linux says so when the other end has closed
        return b""


def test_threads_and_paths_of_a_kernel(tmp_path, monkeypatch):
    root = make_root(tmp_path)
    job = run_script.plan(add_chapter(root, "00_a", "1"), "auto", parsed(root, "--scale", "smoke"))
    monkeypatch.setenv("PYTHONPATH", "mine")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    environment = runner.kernel_environment(job, tmp_path, 3)
    assert {environment[name] for name in runner.THREAD_VARIABLES} == {"3"}
    assert environment["PYTHONPATH"].split(os.pathsep) == [str(root), "mine"]
    assert environment["CUDA_VISIBLE_DEVICES"] == "0"  # only what runs on the CPU has it hidden
    on_cpu = runner.kernel_environment(dataclasses.replace(job, device="cpu"), tmp_path, 3)
    assert on_cpu["CUDA_VISIBLE_DEVICES"] == ""


def test_committed_form():
    def stream(name: str, text: str):
        return nbformat.v4.new_output("stream", name=name, text=text)

    result = nbformat.v4.new_output("execute_result", data={"text/plain": "1"}, execution_count=9)
    nb = nbformat.v4.new_notebook(
        metadata={"papermill": {}, "widgets": {}, "moe": {"code": "old"}, "title": "kept"},
        cells=[
            nbformat.v4.new_code_cell("", execution_count=None),
            nbformat.v4.new_code_cell(
                "a",
                execution_count=7,
                outputs=[
                    stream("stdout", "a"),
                    stream("stdout", "b"),
                    stream("stderr", "c"),
                    stream("stdout", "d"),
                ],
                metadata={"papermill": {}, "execution": {}, "ExecuteTime": {}, "tags": []},
            ),
            nbformat.v4.new_code_cell("b", execution_count=9, outputs=[result], metadata={"tags": ["check"]}),
        ],
    )
    committed_form(nb)
    assert set(nb.metadata) == {"title", "kernelspec", "language_info"}
    assert [cell.execution_count for cell in nb.cells] == [None, 1, 2]
    assert [(out.name, out.text) for out in nb.cells[1].outputs] == [
        ("stdout", "ab"),
        ("stderr", "c"),
        ("stdout", "d"),
    ]
    assert nb.cells[2].outputs[0].execution_count == 2
    assert [dict(cell.metadata) for cell in nb.cells] == [{}, {}, {"tags": ["check"]}]


def test_only_what_no_living_run_owns_is_left_over(tmp_path):
    for name in (f".work-{os.getpid()}-mine", ".work-old_name", ".work-999999999-x", "smoke"):
        (tmp_path / name / "desk").mkdir(parents=True)
    runner.remove_leftovers(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {f".work-{os.getpid()}-mine", "smoke"}


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "a.ipynb"
    path.write_text("old")
    monkeypatch.setattr(runner.os, "fsync", lambda _: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        runner.write_atomic(path, b"new")
    assert files(tmp_path) == {"a.ipynb": b"old"}
