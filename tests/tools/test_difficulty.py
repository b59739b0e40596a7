"""Measuring difficulty: runs that go on where they stopped, devices, and the choice of rates."""

import json
import sys
from contextlib import contextmanager

import difficulty
import difficulty_queue
import difficulty_runs
import pytest
import small_unet
import torch
from difficulty_queue import Workers
from difficulty_runs import Job, chosen, jobs_of, perform
from test_difficulty_queue import Here

TINY = {"train": 40, "val": 10, "test": 10, "steps": 3}


@pytest.fixture
def blocks(monkeypatch, tmp_path):
    """A tiny task in a file of its own, found as blocks:Blocks; returns that name."""
    (tmp_path / "blocks.py").write_text(BLOCKS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("MOE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(difficulty_runs, "SIZE", 64)
    difficulty_runs.load.cache_clear()
    yield "blocks:Blocks"
    difficulty_runs.load.cache_clear()
    sys.modules.pop("blocks", None)


BLOCKS = """
import torch
from moe_lib.worlds.camera import photograph
from moe_lib.worlds.tasks import Task


class Blocks(Task):
    name, family, classes = "blocks", "blocks", ("ground", "block")

    def scene(self, index):
        draws = self.draws(index)
        return draws.integer(4, 40), draws.integer(4, 40), draws.seed()

    def render(self, scenes, device):
        mask = torch.zeros(len(scenes), self.size, self.size, dtype=torch.int64)
        for one, (x, y, _) in zip(mask, scenes):
            one[y : y + 30, x : x + 30] = 1
        light = 0.2 + 0.5 * mask[:, None].float().expand(-1, 3, -1, -1)
        return {"image": photograph(light, seed=torch.tensor([s[2] for s in scenes])), "mask": mask}
"""


@contextmanager
def one_worker(device, processes):
    workers = Workers(Here(), 1)
    yield workers, workers, lambda: False


@pytest.fixture
def measured(blocks, tmp_path, monkeypatch):
    """A file of runs that cost nothing, and a list of the jobs that were done for it."""
    monkeypatch.setattr(difficulty_runs, "FEW", 20)
    monkeypatch.setattr(difficulty, "SIZES", TINY)
    monkeypatch.setattr(difficulty, "workers_for", one_worker)
    done = []

    def perform(jobs, *_):
        done.extend(jobs)
        return {job: {"score": 0.5, "seconds": 1} | ({"rate": 1e-3} if job.net else {}) for job in jobs}

    monkeypatch.setattr(difficulty_queue, "perform", perform)
    path = tmp_path / "difficulty.json"
    difficulty.measure([blocks], 2, path)
    return path, done


def test_a_measurement_keeps_every_run_and_what_made_it(measured):
    path, done = measured
    assert len(done) == 3 + 2 * 2  # constant, threshold, clusters; two sizes with two seeds
    record = json.loads(path.read_text())
    assert {Job(**entry["job"]) for entry in record["runs"]} == set(done)
    (made,) = record["environments"]
    assert (made["threads"], made["sizes"], made["precision"]) == (1, TINY, small_unet.precision())
    assert made["device"].startswith("cpu") and "--device cpu" in made["command"]
    assert {entry["made"] for entry in record["runs"]} == {0}


def test_a_killed_measurement_goes_on_where_it_stopped(measured, blocks):
    path, done = measured
    record = json.loads(path.read_text())
    lost = record["runs"].pop(2)
    record["runs"][0]["code"] = "older"
    record["environments"][0]["torch"] = "2.0"
    path.write_text(json.dumps(record))
    wanted = {Job(**lost["job"]), Job(**record["runs"][0]["job"])}
    done.clear()
    difficulty.measure([blocks], 2, path)
    assert set(done) == wanted
    record = json.loads(path.read_text())
    assert len(record["runs"]) == 7
    versions = {
        Job(**entry["job"]): record["environments"][entry["made"]]["torch"] for entry in record["runs"]
    }
    assert {job for job, version in versions.items() if version != "2.0"} == wanted


def test_a_measurement_with_failures_says_so(blocks, tmp_path, monkeypatch):
    monkeypatch.setattr(difficulty, "SIZES", TINY)
    monkeypatch.setattr(difficulty, "workers_for", one_worker)
    monkeypatch.setattr(difficulty_queue, "perform", lambda *_: 1 / 0)
    with pytest.raises(SystemExit, match=r"are missing: .*constant"):
        difficulty.measure([blocks], 1, tmp_path / "difficulty.json")


# ---- devices


def test_a_gpu_that_is_not_there_is_a_clear_error(monkeypatch):
    monkeypatch.delenv("MOE_DEVICE", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert difficulty.device_of("auto") == difficulty.device_of("cpu") == "cpu"
    with pytest.raises(SystemExit, match="difficulty: device 'cuda' is not to be had on this machine"):
        difficulty.device_of("cuda")


def test_a_gpu_is_taken_where_there_is_one(monkeypatch):
    monkeypatch.delenv("MOE_DEVICE", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert difficulty.device_of("auto") == difficulty.device_of("cuda") == "cuda"
    assert difficulty.device_of("cpu") == "cpu"
    assert small_unet.precision("cuda") == "bfloat16"


# ---- a whole run


def test_a_run_chooses_its_rate_on_validation_images_and_records_both(blocks, monkeypatch):
    monkeypatch.setattr(difficulty_runs, "FEW", 20)
    one, other = Job(blocks, "U-Net", 40), Job(blocks, "U-Net", 20, 1)
    seen = []
    monkeypatch.setattr(
        difficulty_runs, "score", lambda truth, predicted, classes: seen.append(len(truth)) or len(seen) / 10
    )
    sizes = TINY | {"test": 12}
    results = perform({one: (1e-3, 2e-3), other: (5e-3,)}, sizes)
    assert seen == [10, 10, 12, 12], "two rates on validation images, and each run once on test images"
    assert results[one]["rates"] == {"0.001": 0.1, "0.002": 0.2} and results[one]["rate"] == 2e-3
    assert results[other]["rate"] == 5e-3 and "rates" not in results[other]
    assert (results[one]["score"], results[other]["score"]) == (0.3, 0.4)


def test_of_equal_rates_the_smallest_is_chosen():
    assert chosen({3e-3: 0.5, 1e-3: 0.5, 2e-3: 0.4}) == 1e-3
    assert chosen({1e-3: 0.5, 3e-3: 0.51}) == 3e-3


def test_tasks_are_asked_for_what_they_have():
    def methods(name):
        return [one.method for one in jobs_of(name, TINY, 1)]

    assert methods("roads") == ["constant", "colour clusters", "threshold", "U-Net", "U-Net"]
    assert "growing region" in methods("generic") and "threshold" not in methods("panoptic")
    assert {"policies", "U-Net, words unread"} <= set(methods("referring"))
    looks = [one.sensors for one in jobs_of("multimodal", TINY, 3) if one.sensors]
    assert len(looks) == len(set(looks)) * 2 == 12 and max(map(len, looks)) == 5


def test_policies_are_asked_only_what_they_must_fail(monkeypatch):
    monkeypatch.setattr(difficulty_runs, "SENTENCES", 80)
    asked = Job("referring", "policies")
    rates = perform({asked: ()}, TINY)[asked]["policies"]
    assert len(rates) == 9 and "attribute" not in rates["bag of words"] and len(rates["shape only"]) == 4


def test_a_quick_row_of_a_task_that_thresholds_solve(blocks, monkeypatch):
    monkeypatch.setattr(difficulty_runs, "FEW", 20)
    monkeypatch.setattr(difficulty, "QUICK", TINY)
    line = difficulty.quick(blocks)
    assert line.startswith("blocks:Blocks: constant 0.") and "U-Net(40)" in line
    assert "retune: threshold reaches" in line or "retune: colour clusters reaches" in line
