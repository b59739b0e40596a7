"""The difficulty table: its rule, its text, and its file."""

from pathlib import Path

import baselines
import difficulty
import difficulty_table
import pytest
from difficulty_table import Row, problems, rows, write_runs
from scoring import score
from test_baselines import squares


def run(method, value, images=0, seed=0, sensors=(), task="roads", **more):
    job = {"task": task, "method": method, "images": images, "seed": seed, "sensors": list(sensors)}
    return {"job": job, "code": "c", "made": 0, "score": value, "seconds": 30.0} | more


def table(record):
    """The table as it reads."""
    return difficulty_table.table(record).replace("\N{WORD JOINER}", "")


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


POLICIES = {"head phrase": {"relation": 0.3}, "nearest word": {"attribute": 0.25, "relation": 0.39}}


@pytest.mark.parametrize(
    ("rate", "unread", "many", "problem"),
    [
        (0.4, 0.3, 0.4, []),  # the threshold reaches 0.75 of this U-Net, which is not what counts
        (0.41, 0.3, 0.4, ["retune: nearest word is right for 0.410 of the relation sentences"]),
        (0.4, 0.51, 0.6, ["retune: the U-Net reaches 0.510 without reading"]),
        (0.4, 0.3, 0.96, ["retune: the U-Net reaches 0.970"]),
    ],
)
def test_a_task_with_words_has_a_rule_of_its_own(rate, unread, many, problem):
    policies = POLICIES | {"nearest word": {"attribute": 0.25, "relation": rate}}
    more = [
        run("policies", rate, policies=policies),
        *(run("U-Net, words unread", unread, 2000, s) for s in range(3)),
    ]
    (row,) = rows(runs(many=many) + more)
    assert problems(row) == problem


MADE = {
    "command": "c", "sizes": {"steps": 3000}, "device": "cpu (x86)", "precision": "float32", "torch": "2.14",
    "date": "2026-01-01", "commit": "abc",
}  # fmt: skip


def record(*runs, **made):
    return {"environments": [MADE | made], "runs": list(runs)}


def test_the_table_shows_each_task_once_with_its_seeds():
    text = table(record(*runs(), *runs(0.7, task="glass")))
    assert "| roads | 0.10 | 0.30 (threshold) | 0.61 (0.60–0.62) | 0.81 (0.80–0.82) | 0.37 | ✓ |" in text
    assert "| glass | 0.10 | 0.70 (threshold) | 0.61 (0.60–0.62) | 0.81 (0.80–0.82) | 0.86 | broken |" in text
    assert "Mean and range over 3 seeds. The" in text
    assert "`c`: 18 runs, 9 minutes of one process, 3,000 steps; cpu (x86), float32, torch 2.14," in text
    assert "not been measured" in table({"runs": []})


def test_the_table_shows_words_objects_and_sensors_by_condition():
    by = {"weather": {"sun": 0.5, "night": 0.3}}
    more = [
        *(run("U-Net on sensors", 0.4, 2000, s, ["rgb"], by=by) for s in range(3)),
        *(run("U-Net on sensors", 0.6, 2000, s, ["rgb", "lidar"], by=by) for s in range(3)),
        *(run("U-Net, words unread", 0.2, 2000, s) for s in range(3)),
    ]
    plain = [one | {"objects": 0.5} for one in runs()]
    more.append(run("policies", 0.39, policies=POLICIES))
    text = table(record(*plain, *more))
    assert "| rgb | 0.40 (0.40–0.40) | 0.50 | 0.30 |" in text
    assert "| all sensors | 0.60 (0.60–0.60) | 0.50 | 0.30 |" in text
    assert "| roads, by weather | all | sun | night |" in text
    assert "| roads | 0.20 (0.20–0.20) | 0.81 (0.80–0.82) |" in text
    assert "| by its words | ✓ |" in text and "*roads* is not judged by the ratio" in text
    assert "| roads, by policy | relation | attribute |" in text and "| head phrase | 0.30 | – |" in text
    assert "| roads | 0.50 (0.50–0.50) | 0.50 (0.50–0.50) |" in text


def test_tasks_stand_in_the_order_of_the_catalogue_and_all_sensors_last():
    found = [*runs(task="new"), *runs(task="glass"), *runs(task="roads")]
    assert [row.task for row in rows(found)] == ["roads", "glass", "new"]
    by = {"weather": {"sun": 0.5}}
    looks = [run("U-Net on sensors", 0.4, 2000, 0, look, by=by) for look in (["rgb", "lidar"], ["rgb"])]
    text = table(record(*runs(), *looks))
    assert text.index("| rgb |") < text.index("| all sensors |")


def test_ranges_stay_on_a_line_and_long_headings_do_not():
    by = {"case": {"motion_blur": 0.5}}
    sensors = [run("U-Net on sensors", 0.4, 2000, 0, ["rgb"], by=by)]
    text = difficulty_table.table(record(*runs(), *sensors))
    assert "0.61 (0.60–\N{WORD JOINER}0.62)" in text and "| roads, by case | all | motion blur |" in text


def test_the_table_says_how_many_seeds_a_range_is_of():
    one = [run("U-Net", 0.5, images, task="glass") for images in (200, 2000)]
    text = table(record(*runs(), *one))
    assert "Mean and range over 3 seeds; where there is no range, one seed." in text
    by = {"weather": {"sun": 0.5}}
    two = [run("U-Net on sensors", 0.4, 2000, seed, ["rgb"], by=by) for seed in range(2)]
    text = table(record(*runs(), *two))
    assert "Mean and range over 3 seeds, of single sensors and all together over 2. The" in text


def test_a_part_of_the_page_is_made_and_left_alone_when_nothing_changed(tmp_path):
    path = difficulty_table.write(tmp_path)
    assert "not been measured" in path.read_text()
    write_runs(tmp_path / difficulty_table.FILE, runs(), [MADE])
    assert "| roads |" in difficulty_table.write(tmp_path).read_text()
    before = path.stat().st_mtime_ns
    assert difficulty_table.write(tmp_path).stat().st_mtime_ns == before


def test_every_call_that_made_runs_is_named_and_no_other(tmp_path):
    old, unused, new = MADE, MADE | {"device": "tpu"}, MADE | {"device": "cuda (Fast)", "torch": "2.11"}
    path = tmp_path / "difficulty.json"
    write_runs(path, [one | {"made": 2 * i % 4} for i, one in enumerate(runs())], [old, unused, new])
    kept = difficulty_table.read(path)
    assert kept["environments"] == [old, new]
    assert [one["made"] for one in kept["runs"]] == [i % 2 for i in range(9)]
    text = table(kept)
    assert "5 runs" in text and "cpu (x86)" in text and "4 runs" in text and "cuda (Fast)" in text
    assert "tpu" not in text


def test_the_check_names_what_breaks_the_rule_and_what_is_missing(tmp_path):
    path = tmp_path / "difficulty.json"
    write_runs(path, runs() + runs(0.7, task="glass"), [MADE])
    wrong = difficulty.check(path, ["roads", "glass", "cells"])
    assert wrong == ["glass: retune: threshold reaches 0.86 of the U-Net", "cells: not measured"]
    assert difficulty.check(Path(tmp_path / "none.json"), ["roads"]) == ["roads: not measured"]
