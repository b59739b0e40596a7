"""What the runner decides before anything runs: chapters, parameters, places, limits, devices."""

from pathlib import Path

import nbformat
import pytest
import run as run_script
from run_fixtures import add_chapter, make_root, parsed


@pytest.mark.parametrize(
    "arguments, expected",
    [
        (["--scale", "gpu"], {"scale": "gpu", "device": "auto", "out": "book/results"}),
        (
            ["--scale", "paper", "--seeds", "3"],
            {"scale": "paper", "device": "auto", "seeds": 3, "out": "book/results"},
        ),
        (["--device", "cpu"], {"scale": "pocket", "device": "cpu", "out": "_build/runs/pocket/results"}),
        (
            ["--seeds", "4"],
            {"scale": "pocket", "device": "auto", "seeds": 4, "out": "_build/runs/pocket/results"},
        ),
        (
            ["--scale", "smoke"],
            {"scale": "smoke", "device": "auto", "seeds": 2, "out": "_build/runs/smoke/results"},
        ),
        ([], None),
    ],
)
def test_parameters_and_places_of_each_kind_of_run(tmp_path, arguments, expected):
    root = make_root(tmp_path)
    path = add_chapter(root, "00_a", "1")
    job = run_script.plan(path, "cpu", parsed(root, *arguments))
    if expected is None:
        assert (job.parameters, job.target, job.results) == (None, path, root / "book/results/00_a")
    else:
        assert job.parameters == expected | {"out": str(root / expected["out"])}
        assert job.target == root / "_build" / "runs" / expected["scale"] / "00_a.ipynb"
        assert job.results == root / expected["out"] / "00_a"


def test_out_is_taken_from_where_the_user_stands(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run_script.injected_parameters(parsed(tmp_path, "--out", "here"))["out"] == str(tmp_path / "here")


@pytest.mark.parametrize(
    "arguments, device, own, expected",
    [
        (["--scale", "smoke"], "auto", {}, 60),
        ([], "cpu", {}, 540),
        ([], "cpu", {"pocket": 300}, 300),
        ([], "cpu", {"smoke": 5}, 540),
        (["--limit", "7"], "cpu", {"pocket": 300}, 7),
        (["--scale", "gpu"], "cuda", {}, 3600),
        (["--scale", "gpu"], "cpu", {"gpu": 10}, None),
        (["--scale", "gpu", "--limit", "7"], "cpu", {}, 7),
        (["--scale", "paper"], "cuda", {}, None),
    ],
)
def test_time_limits(tmp_path, arguments, device, own, expected):
    nb = nbformat.v4.new_notebook(metadata={"moe_limits": own})
    assert run_script.time_limit(nb, device, parsed(tmp_path, *arguments)) == expected


def test_gpu_scale_on_a_cpu_is_warned_about(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(run_script, "run_all", None)  # there is nothing to run
    root = make_root(tmp_path)
    (root / "chapters" / "00_broken.ipynb").write_text("{")
    run_script.main(["--root", str(root), "--scale", "gpu", "--device", "cpu"])
    assert "hours on a CPU" in capsys.readouterr().err
    run_script.main(["--root", str(root), "--scale", "smoke", "--device", "cpu"])
    assert "hours on a CPU" not in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments, expected",
    [
        (["--scale", "nonsense"], "unknown scale 'nonsense'; possible: smoke, pocket, gpu, paper"),
        (["--device", "tpu"], "unknown device 'tpu'; possible: auto, cpu, cuda, mps"),
        (["99"], "no chapter '99'; there are: 00_a, 01_b, 01_c"),
        ([""], "no chapter ''; there are: 00_a, 01_b, 01_c"),
        (["00", "01"], "'01' is not unique; it could be: 01_b, 01_c"),
        (["--seeds", "0"], "--seeds 0: it must be at least 1"),
        (["--jobs", "-1"], "--jobs -1: it must be at least 1"),
        (["--limit", "0"], "--limit 0: it must be more than 0"),
        (["--limit", "nan"], "--limit nan: it must be more than 0"),
        (["--seeds", "many"], "argument --seeds: invalid int value: 'many'"),
    ],
)
def test_bad_arguments_are_one_line_that_lists_what_is_possible(tmp_path, capsys, arguments, expected):
    root = make_root(tmp_path)
    for name in ("00_a", "01_b", "01_c"):
        add_chapter(root, name, "1")
    with pytest.raises(SystemExit) as exit_:
        run_script.main(["--root", str(root), *arguments])
    assert exit_.value.code == 2
    assert capsys.readouterr().err == f"run.py: {expected}\n"


def test_no_chapters(tmp_path, capsys):
    with pytest.raises(SystemExit):
        run_script.main(["--root", str(make_root(tmp_path))])
    assert capsys.readouterr().err == "run.py: there are no chapters: chapters/ has no notebook in it\n"


@pytest.mark.parametrize("there, possible", [([], "cpu"), (["mps"], "mps, cpu")])
def test_a_missing_gpu_is_said_with_what_is_there(tmp_path, monkeypatch, capsys, there, possible):
    root = machine_with(there, tmp_path, monkeypatch)
    with pytest.raises(SystemExit) as exit_:
        run_script.main(["--root", str(root), "--device", "cuda"])
    assert exit_.value.code == 2
    expected = f"run.py: --device cuda: there is none on this machine; possible: auto, {possible}\n"
    assert capsys.readouterr().err == expected


@pytest.mark.parametrize(
    "there, arguments, expected",
    [
        (["cuda"], [], "cpu"),  # the committed run
        (["cuda"], ["--device", "cuda"], "cuda"),
        (["cuda", "mps"], ["--device", "mps"], "mps"),
        (["cuda"], ["--scale", "gpu"], "cuda"),
        (["mps"], ["--scale", "paper"], "mps"),
        ([], ["--scale", "gpu"], "cpu"),
        (["cuda"], ["--scale", "gpu", "--device", "cpu"], "cpu"),
        (["cuda"], ["--scale", "smoke"], "auto"),
    ],
)
def test_the_device_that_will_be_used(tmp_path, monkeypatch, there, arguments, expected):
    root = machine_with(there, tmp_path, monkeypatch)
    assert run_script.resolve_device(parsed(root, *arguments)) == expected


def machine_with(gpus: list[str], tmp_path: Path, monkeypatch) -> Path:
    """A root on a machine where torch finds these."""
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: "cuda" in gpus)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: "mps" in gpus)
    root = make_root(tmp_path)
    add_chapter(root, "00_a", "1")
    return root


def test_chapters_by_name_start_file_and_path(tmp_path, monkeypatch):
    paths = [tmp_path / "chapters" / f"{stem}.ipynb" for stem in ("01", "01_b", "02_c")]
    monkeypatch.chdir(tmp_path)
    assert run_script.choose([], paths) == paths
    assert run_script.choose(["02", "01"], paths) == [paths[0], paths[2]]  # a whole name is no mere start
    assert run_script.choose(["02_c", "02"], paths) == [paths[2]]
    assert run_script.choose(["chapters/01_b.ipynb"], paths) == [paths[1]]


def test_a_scale_that_a_chapter_does_not_have_is_refused_and_the_others_go_on(tmp_path, capsys):
    root = make_root(tmp_path)
    add_chapter(root, "00_a", "1", moe_scales=["smoke", "pocket", "gpu"])
    add_chapter(root, "01_b", "1")
    paths = sorted((root / "chapters").iterdir())
    jobs, outcomes = run_script.sort_out(paths, "cpu", parsed(root, "--scale", "paper"))
    assert ([job.name for job in jobs], [o.state for o in outcomes]) == (["01_b"], ["failed"])
    assert capsys.readouterr().err == "00_a: has no scale 'paper'; possible: smoke, pocket, gpu\n"
    assert run_script.main(["--root", str(root), "00", "--scale", "paper"]) == 1
    assert not (root / "_build").exists() and not (root / "book" / "results").exists()
    assert len(run_script.sort_out(paths, "cpu", parsed(root, "--scale", "gpu"))[0]) == 2


@pytest.mark.parametrize("scales", ["smoke", ["smoke", "large"], [3], {"smoke": 1}])
def test_scales_that_cannot_be_are_named(tmp_path, scales):
    root = make_root(tmp_path)
    path = add_chapter(root, "00_a", "1", moe_scales=scales)
    with pytest.raises(run_script.Failure, match=r"moe_scales is .*; it should be a list from smoke, pocket"):
        run_script.plan(path, "cpu", parsed(root, "--scale", "smoke"))


def test_a_folder_that_cannot_be_made_is_named_in_one_line(tmp_path, capsys):
    root = make_root(tmp_path)
    add_chapter(root, "00_a", "1")
    (root / "_build").write_text("a file where a folder should be")
    assert run_script.main(["--root", str(root), "--scale", "smoke"]) == 1
    assert capsys.readouterr().err == f"run.py: {root / '_build' / 'runs'}: Not a directory\n"


def test_help_says_what_there_is():
    text = run_script.make_parser().format_help()
    options = ["--scale", "--device", "--seeds", "--out", "--jobs", "--limit", "--force", "--list"]
    for said in (*options, "_build/runs", "book/results", "smoke, pocket, gpu, paper"):
        assert said in text
    assert "--root" not in text
