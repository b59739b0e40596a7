"""The page of the pocket world: its own functions are right, and its chart shows what was measured."""

import json
from statistics import mean as mean_of

import pytest
import torch
from figures import figures
from freshness import ROOT, read
from lift import lift

from moe_lib import worlds
from moe_lib.worlds.skins import skins

NOTEBOOK = ROOT / "chapters" / "pocket_world.ipynb"
MEASURED = ROOT / "book" / "results" / "pocket_world" / "difficulty.json"
PAGE = lift(
    NOTEBOOK,
    *("first", "survival", "tight_box", "best_threshold_iou", "first_words", "Buttons", "Hidden"),
    size=64,
    where=torch.device("cpu"),
    SENSORS=("rgb", "depth", "event", "lidar", "thermal"),
    skins=skins,
)


def test_first_takes_the_first_scenes_of_a_split():
    batch = PAGE.first("roads", 2, split="val")
    assert torch.equal(batch["mask"], worlds.task("roads", "val", size=64).batch([0, 1])["mask"])


def test_nothing_is_lost_in_the_sun_and_depth_never():
    sun, fog = PAGE.survival("sun", range(2)), PAGE.survival("fog", range(2))
    assert all(value == pytest.approx(1, abs=1e-5) for value in sun.values())
    assert fog["depth"] == pytest.approx(1, abs=1e-5)
    assert fog["rgb"] < 0.95 and fog["lidar"] < 0.95


def test_the_box_ends_after_its_last_pixel():
    mask = torch.zeros(5, 7, dtype=torch.bool)
    mask[1:3, 2:6] = True
    assert PAGE.tight_box(mask) == (2, 1, 6, 3)


def test_one_threshold_of_one_sense_serves_all_pictures():
    ramp = torch.linspace(0, 1, 11).expand(2, 11, 11)
    levels = [0.25, 0.55]
    assert PAGE.best_threshold_iou(ramp, (ramp > 0.55).long(), levels) == 1
    assert PAGE.best_threshold_iou(ramp, (ramp < 0.25).long(), levels) == 1
    either = torch.stack([ramp[0] > 0.55, ramp[0] < 0.55]).long()
    assert PAGE.best_threshold_iou(ramp, either, levels) == pytest.approx(0.5)


@pytest.mark.parametrize("name", ["Buttons", "Hidden"])
def test_a_domain_of_ten_lines_is_a_whole_task(name):
    task = getattr(PAGE, name)("val", n=4, size=64)
    batch = task.batch(range(4))
    assert set(batch["mask"].unique().tolist()) == {0, 1} and len(task.classes) == 2
    assert torch.equal(task[3]["image"], batch["image"][3])


def charted() -> set[tuple[float, int]]:
    """The points of the chart of difficulty, as they stand in the notebook: score and row."""
    found = [f for cell in read(NOTEBOOK).cells for f in figures(cell.get("outputs", []))]
    data = [figure["data"] for figure in found if figure["name"] == "difficulty"]
    points = [
        point for chart in data for name, series in chart.items() if "points" in name for point in series
    ]
    return {(round(score, 4), round(row)) for score, row in points}


def test_the_chart_of_difficulty_shows_the_committed_measurements():
    runs = json.loads(MEASURED.read_text(encoding="utf-8"))["runs"] if MEASURED.exists() else []
    measured = [name for name in worlds.TASKS if any(run["job"]["task"] == name for run in runs)]
    expected = {
        (round(run["score"], 4), measured.index(run["job"]["task"]))
        for run in runs
        if not run["job"]["sensors"] and run["job"]["method"] in ("constant", "U-Net")
    }
    shown = charted()
    assert expected <= shown
    assert {row for _, row in shown} == set(range(len(measured)))


def test_prose_repeats_what_the_street_costs_its_sensors():
    """Fog costs the LiDAR a third and jitter two fifths; blur costs the camera more than any weather does."""
    runs = [run for run in json.loads(MEASURED.read_text())["runs"] if run["job"]["sensors"]]

    def mean(*sensors: str, **condition: str) -> float:
        ((kind, word),) = condition.items()
        return mean_of(run["by"][kind][word] for run in runs if run["job"]["sensors"] == list(sensors))

    weathers = list(runs[0]["by"]["weather"])
    assert 1 - mean("lidar", weather="fog") / mean("lidar", weather="sun") == pytest.approx(1 / 3, abs=0.03)
    assert 1 - mean("lidar", case="lidar_jitter") / mean("lidar", case="none") == pytest.approx(0.4, abs=0.03)
    assert mean("rgb", case="motion_blur") < min(mean("rgb", weather=word) for word in weathers)
    (five,) = {tuple(run["job"]["sensors"]) for run in runs if len(run["job"]["sensors"]) > 1}
    together = [mean(*five, **{kind: word}) for kind in runs[0]["by"] for word in runs[0]["by"][kind]]
    prose = "\n".join(cell.source for cell in read(NOTEBOOK).cells)
    assert f"between {min(together):.2f} and {max(together):.2f}" in prose
    alone = [mean("depth", weather=word) for word in weathers]
    assert all(min(alone) > mean(other, weather=word) for other in set(five) - {"depth"} for word in weathers)
    assert f"{mean_of(alone):.2f} in every weather" in prose and max(alone) - min(alone) < 0.02
