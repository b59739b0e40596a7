"""The benchmark of the world: medians of interleaved timings, and bars that can be missed."""

import bench_world
import pytest
import torch
from bench_world import bar, bench, table

from moe_lib.worlds.camera import photograph
from moe_lib.worlds.tasks import Task


class Plain(Task):
    """Grey pictures."""

    name, family, classes = "plain", "plain", ("ground", "thing")

    def scene(self, index):
        return self.draws(index).seed()

    def render(self, scenes, device):
        light = torch.full((len(scenes), 3, self.size, self.size), 0.4, device=device)
        mask = torch.zeros(len(scenes), self.size, self.size, dtype=torch.int64, device=device)
        return {"image": photograph(light, seed=torch.tensor(scenes, device=device)), "mask": mask}


class Sensing(Plain):
    """… seen by another sensor."""

    name = "sensing"
    classes = ("ground", "thing", "other")

    def render(self, scenes, device):
        batch = super().render(scenes, device)
        return batch | {"sensors": {"depth": batch["image"]}}


class Told(Plain):
    """… with words."""

    def render(self, scenes, device):
        return super().render(scenes, device) | {"text": ["the thing"] * len(scenes)}


@pytest.mark.parametrize(("task", "expected"), [(Plain, 150), (Sensing, 15), (Told, None)])
def test_the_bars_that_are_asked_for(task, expected):
    assert bar(task(n=1), "cpu") == expected


def test_speeds_are_medians_without_the_first_turn(monkeypatch):
    # Turn by turn: the task, then the training step; the first turn is slow, and one later step is.
    times = iter([9.0, 9.0, 0.1, 0.4, 0.2, 0.4, 0.2, 7.0])
    monkeypatch.setitem(bench_world.BATCH, "cpu", 16)
    monkeypatch.setattr(bench_world, "timed", lambda call, device: next(times))
    found = bench({"plain": Plain(n=1)}, "cpu", 3)
    assert found["step_seconds"] == 0.4
    assert found["images_per_second_in_training"] == 16 / 0.4
    assert found["tasks"]["plain"] == {"scenes_per_second": 16 / 0.2, "share_of_a_step": 0.5, "bar": 150}


def test_every_turn_renders_other_scenes(monkeypatch):
    asked = []
    monkeypatch.setitem(bench_world.BATCH, "cpu", 16)
    monkeypatch.setattr(Plain, "batch", lambda self, indices, device="cpu": asked.append(list(indices)))
    monkeypatch.setattr(Plain, "__getitem__", lambda self, index: {})
    monkeypatch.setattr(bench_world, "training_step", lambda model, device: lambda: None)
    bench({"plain": Plain(n=1)}, "cpu", 1)
    assert asked == [list(range(16)), list(range(16, 32))]


def test_a_real_run_in_small_leaves_the_threads_alone(monkeypatch):
    monkeypatch.setattr(bench_world, "find", {"plain": Plain}.get)
    before = torch.get_num_threads()
    record = bench_world.measure(["plain"], ["cpu"], 1)
    assert torch.get_num_threads() == before
    assert record["environment"]["threads"] == 1
    found = record["devices"]["cpu"]
    assert found["step_seconds"] > 0 < found["tasks"]["plain"]["scenes_per_second"]
    assert "plain" in table(record)


def test_without_segment_anything_another_encoder_takes_the_step(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "segment_anything.modeling", None)
    name, model = bench_world.encoder()
    assert "TransformerEncoder" in name
    assert model(torch.rand(2, 3, 96, 96)).shape == (2, 144, 128)


def test_the_table_says_what_is_met():
    tasks = {
        "roads": {"scenes_per_second": 300.0, "share_of_a_step": 0.1, "bar": 150},
        "glass": {"scenes_per_second": 149.0, "share_of_a_step": 0.2, "bar": 150},
        "referring": {"scenes_per_second": 1.0, "share_of_a_step": 0.2, "bar": None},
    }
    found = {
        "encoder": "an encoder",
        "step_seconds": 0.5,
        "images_per_second_in_training": 32.0,
        "tasks": tasks,
    }
    roads, glass, referring = table({"devices": {"cpu": found}}).splitlines()[2:]
    assert roads.endswith("  met") and "NOT" not in roads
    assert glass.endswith("NOT MET")
    assert "met" not in referring.lower()
