"""The kept runs of chapter 04: what is done is not done again, what was cut short is; one commit for all."""

import dataclasses
import json

import conv_lora_runs as runs
import numpy as np
import pytest
from PIL import Image


def double(job):
    return {"test": 2.0 * job[1]}


@pytest.fixture
def serial(monkeypatch):
    """No processes of their own; what was asked for, in order."""
    asked = []

    class Pool:
        def __init__(self, processes): ...
        def __enter__(self):
            return self

        def __exit__(self, *_): ...

        def imap_unordered(self, work, tasks):
            for task in tasks:
                asked.append(task[1])
                yield work(task)

    monkeypatch.setattr(runs.multiprocessing, "get_context", lambda how: type("Context", (), {"Pool": Pool}))
    return asked


def test_finished_runs_are_kept_and_not_done_again(serial, tmp_path):
    path, jobs = tmp_path / "deep" / "runs.jsonl", [("a", 1), ("b", 2)]
    first = runs.run_all(double, jobs[:1], path, 1, "runs")
    assert first["a", 1]["scores"] == {"test": 2.0} and first["a", 1]["seconds"] >= 0
    with path.open("a") as log:
        log.write('{"job": ["b", 2], "scor')  # killed while it wrote
    found = runs.run_all(double, jobs, path, 1, "runs")
    assert serial == jobs and [found[job]["scores"]["test"] for job in jobs] == [2.0, 4.0]
    assert runs.run_all(double, jobs[::-1], path, 1, "runs") == {job: found[job] for job in jobs}
    assert serial == jobs


def test_numbers_in_jobs_come_back_as_they_went(serial, tmp_path):
    job = ("roads", "LoRA, rank 5", 3e-3, 1e-3)
    runs.run_all(lambda job: {"val": 0.5}, [job], tmp_path / "r.jsonl", 1, "rates")
    assert list(runs.done(tmp_path / "r.jsonl")) == [job]


@pytest.fixture
def results(monkeypatch, tmp_path):
    monkeypatch.setattr(runs, "ROOT", tmp_path)
    return tmp_path / "book" / "results" / runs.CHAPTER


def test_results_say_which_commit_and_how_long(results):
    records = {
        ("a", 1): {"commit": "0123456789ab", "seconds": 2.0},
        ("b",): {"commit": "0123456789ab", "seconds": 3},
    }
    runs.save("gpu", 6, {"q": {"estimate": 1, "low": 0, "high": 2}}, records)
    kept = json.loads((results / "gpu.json").read_text())
    assert kept["environment"]["commit"] == "0123456789ab" and kept["seconds"] == 5 and kept["seeds"] == 6
    records["c",] = {"commit": "ffffffffffff", "seconds": 1}
    with pytest.raises(SystemExit, match="one commit is asked for"):
        runs.save("gpu", 6, {"q": {"estimate": 1, "low": 0, "high": 2}}, records)


def test_the_decoders_rate_comes_first_and_is_given_to_the_others(results, monkeypatch, tmp_path, capsys):
    asked = []

    def run_all(work, jobs, path, processes, label):
        assert work is runs.rate_run
        asked.append(jobs)
        best = {"decoder": 3e-3, "LoRA, rank 5": 1e-3, "Conv-LoRA": 1e-2}
        return {
            job: {"scores": {"val": -abs(job[2] - best[job[1]])}, "commit": "0123456789ab", "seconds": 1}
            for job in jobs
        }

    monkeypatch.setattr(runs, "run_all", run_all)
    runs.choose_rates(tmp_path, 1)
    assert {job[1] for job in asked[0]} == {"decoder"} and all(job[2] == job[3] for job in asked[0])
    assert {job[3] for job in asked[1]} == {3e-3} and {job[1] for job in asked[1]} == {
        "LoRA, rank 5",
        "Conv-LoRA",
    }
    kept = json.loads((results / "rates.json").read_text())
    assert set(kept["quantities"]) == {f"{d} {n} {r:g}" for d, n, r, _ in (*asked[0], *asked[1])}
    assert '"Conv-LoRA": 0.01' in capsys.readouterr().out


def test_the_chapters_own_code_is_what_runs(monkeypatch, tmp_path):
    monkeypatch.setenv("MOE_CACHE", str(tmp_path))
    here = runs.chapter()
    assert set(here.plan) == set(runs.DOMAINS)
    assert all(here.rates[d][name] in here.candidates[name] for d in runs.DOMAINS for name in here.candidates)
    monkeypatch.setattr(here, "steps", 1)
    few = runs.moe.worlds.task("cells", "train", 8)
    monkeypatch.setattr(here, "load", lambda domain: dict.fromkeys(("train", "val", "test"), few))
    runs.scenes.cache_clear()
    scores = runs.kept_run(("cells", "ratio 2", 0))
    runs.scenes.cache_clear()
    assert set(scores) == {"test", "val", "distance", "used", "bits"}
    assert scores["used"] == 1 and scores["bits"] == 0, "there is nothing to choose"


def test_every_committed_run_is_of_one_commit_that_is_clean():
    for name in ("rates", "runs", "real", "published"):
        records = runs.done(runs.FOLDER / f"{name}.jsonl")
        assert records and len({record["commit"] for record in records.values()}) == 1
        assert not any(record["commit"].endswith("-dirty") for record in records.values())


@pytest.fixture
def cracks(monkeypatch, tmp_path):
    """A folder like the real one, of noise."""
    root = tmp_path / "crackforest"
    for split in ("train", "val", "test"):
        for kind in ("images", "masks"):
            (root / split / kind).mkdir(parents=True)
        for i in range(3):
            pixels = np.random.default_rng(i).integers(0, 256, (20, 30, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / split / "images" / f"{i}.png")
            Image.fromarray(pixels[..., 0] // 128).save(root / split / "masks" / f"{i}.png")
    (root / "classes.txt").write_text("0 background\n1 crack\n")
    monkeypatch.setenv("MOE_DATA", str(tmp_path))


def test_real_sets_go_through_the_same_code(monkeypatch, cracks):
    monkeypatch.setitem(runs.SIZES, "steps", 1)
    scores = runs.real_run(("crackforest", "LoRA, rank 5", 0))
    assert scores.keys() == {"test"} and 0 <= scores["test"] <= 1


def test_the_papers_recipe_is_that_of_the_library(monkeypatch, cracks, serial, tmp_path, results):
    tasks = runs.recipe.TASKS
    monkeypatch.setitem(tasks, "roads", dataclasses.replace(tasks["roads"], epochs=1))
    scores = runs.published_run(("crackforest", "conv_lora", 0))
    assert scores.keys() == {"iou", "dice"} and all(0 <= value <= 1 for value in scores.values())
    monkeypatch.setattr(runs, "published_run", lambda job: {"iou": 0.1 * job[2], "dice": 0.5})
    runs.keep_published(tmp_path / "kept", 1)
    assert serial == [("crackforest", m, s) for m in ("decoder", "lora", "conv_lora") for s in range(3)]
    kept = json.loads((results / "published.json").read_text())
    assert kept["quantities"]["crackforest lora iou"]["estimate"] == pytest.approx(0.1)


def test_without_the_data_one_is_told(monkeypatch, tmp_path):
    monkeypatch.delenv("MOE_DATA", raising=False)
    for keep in (runs.keep_real, runs.keep_published):
        with pytest.raises(SystemExit, match="MOE_DATA should name the folder"):
            keep(tmp_path, 1)
