"""The difficulty table: its rule, its text, and runs that go on where they were stopped."""

import json
import sys
from pathlib import Path

import baselines
import difficulty
import difficulty_runs
import difficulty_table
import pytest
from difficulty_runs import Job
from difficulty_table import Row, problems, rows, table, write_runs
from scoring import score
from test_baselines import squares

TINY = {"train": 40, "val": 10, "test": 10, "steps": 3}


# ---- the table and the rule


def run(method, value, images=0, seed=0, sensors=(), task="roads", **more):
    job = {"task": task, "method": method, "images": images, "seed": seed, "sensors": list(sensors)}
    return {"job": job, "code": "c", "score": value, "seconds": 30.0} | more


def runs(threshold=0.3, few=0.6, many=0.8, task="roads"):
    nets = [run("U-Net", few + s / 100, 200, s, task=task) for s in range(3)]
    nets += [run("U-Net", many + s / 100, 2000, s, task=task) for s in range(3)]
    plain = {"constant": 0.1, "threshold": threshold, "colour clusters": 0.2}
    return [*(run(method, value, task=task) for method, value in plain.items()), *nets]


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({}, []),
        ({"threshold": 0.48}, []),
        ({"threshold": 0.5}, ["retune: threshold reaches 0.62 of the U-Net"]),
        ({"many": 0.95}, ["retune: the U-Net reaches 0.960"]),
    ],
)
def test_the_rule(values, problem):
    (row,) = rows(runs(**values))
    assert isinstance(row, Row) and problems(row) == problem


def test_a_task_that_thresholds_solve_breaks_the_rule():
    train, test = squares(), squares(10, seed=1)
    solved = score(test.mask, baselines.threshold(train)(test), 2)
    (row,) = rows(runs(threshold=solved))
    assert problems(row)


MADE = {"device": "cpu (x86)", "torch": "2.14", "date": "2026-01-01", "commit": "abc"}


def test_the_table_shows_each_task_once_with_its_seeds():
    text = table({"runs": runs() + runs(0.7, task="glass"), "command": "c", "environment": MADE})
    assert "| roads | 0.10 | 0.30 (threshold) | 0.61 (0.60–0.62) | 0.81 (0.80–0.82) | 0.37 | ✓ |" in text
    assert "| glass | 0.10 | 0.70 (threshold) | 0.61 (0.60–0.62) | 0.81 (0.80–0.82) | 0.86 | retune |" in text
    assert "3 seeds" in text and "cpu (x86)" in text
    assert "not been measured" in table({"runs": []})


def test_the_table_shows_words_objects_and_sensors_by_condition():
    by = {"weather": {"sun": 0.5, "night": 0.3}}
    more = [
        *(run("U-Net on sensors", 0.4, 2000, s, ["rgb"], by=by) for s in range(3)),
        *(run("U-Net on sensors", 0.6, 2000, s, ["rgb", "lidar"], by=by) for s in range(3)),
        *(run("U-Net, words unread", 0.2, 2000, s) for s in range(3)),
    ]
    plain = [one | {"objects": 0.5} for one in runs()]
    text = table({"runs": plain + more, "command": "c", "environment": MADE})
    assert "| rgb | 0.40 (0.40–0.40) | 0.50 | 0.30 |" in text
    assert "| all sensors | 0.60 (0.60–0.60) | 0.50 | 0.30 |" in text
    assert "| roads, by weather | all | sun | night |" in text
    assert "| roads | 0.20 (0.20–0.20) | 0.81 (0.80–0.82) |" in text
    assert "| roads | 0.50 (0.50–0.50) | 0.50 (0.50–0.50) |" in text


def test_a_part_of_the_page_is_made_and_left_alone_when_nothing_changed(tmp_path):
    path = difficulty_table.write(tmp_path)
    assert "not been measured" in path.read_text()
    write_runs(tmp_path / difficulty_table.FILE, runs(), {"command": "c", "environment": MADE})
    assert "| roads |" in difficulty_table.write(tmp_path).read_text()
    before = path.stat().st_mtime_ns
    assert difficulty_table.write(tmp_path).stat().st_mtime_ns == before


# ---- the runs


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


def test_a_killed_measurement_goes_on_where_it_stopped(blocks, tmp_path, monkeypatch):
    monkeypatch.setattr(difficulty_runs, "FEW", 20)
    monkeypatch.setattr(difficulty, "SIZES", TINY)
    monkeypatch.setattr(difficulty, "ProcessPoolExecutor", Here)
    path = tmp_path / "difficulty.json"
    done = []
    monkeypatch.setattr(
        difficulty, "perform", lambda job, sizes: done.append(job) or {"score": 0.5, "seconds": 1}
    )
    difficulty.measure([blocks], 2, path)
    assert len(done) == 3 + 2 * 2  # constant, threshold, clusters; two sizes with two seeds
    record = json.loads(path.read_text())
    assert {Job(**entry["job"]) for entry in record["runs"]} == set(done)
    assert record["environment"]["threads"] == 1 and record["sizes"] == TINY

    lost = record["runs"].pop(2)
    record["runs"][0]["code"] = "older"
    path.write_text(json.dumps(record))
    wanted = {Job(**lost["job"]), Job(**record["runs"][0]["job"])}
    done.clear()
    difficulty.measure([blocks], 2, path)
    assert set(done) == wanted
    assert len(json.loads(path.read_text())["runs"]) == 7


class Here:
    """A pool of processes that does everything here and now."""

    def __init__(self, *_):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def submit(self, call, *given):
        from concurrent.futures import Future

        future = Future()
        future.set_result(call(*given))
        return future


def test_a_quick_row_of_a_task_that_thresholds_solve(blocks, monkeypatch):
    monkeypatch.setattr(difficulty_runs, "FEW", 20)
    monkeypatch.setattr(difficulty, "QUICK", TINY)
    line = difficulty.quick(blocks)
    assert line.startswith("blocks:Blocks: constant 0.") and "U-Net(40)" in line
    assert "retune: threshold reaches" in line or "retune: colour clusters reaches" in line


def test_the_check_names_what_breaks_the_rule_and_what_is_missing(tmp_path):
    path = tmp_path / "difficulty.json"
    write_runs(path, runs() + runs(0.7, task="glass"), {"command": "c", "environment": MADE})
    wrong = difficulty.check(path, ["roads", "glass", "cells"])
    assert wrong == ["glass: retune: threshold reaches 0.86 of the U-Net", "cells: not measured"]
    assert difficulty.check(Path(tmp_path / "none.json"), ["roads"]) == ["roads: not measured"]
