"""The benchmark of the encoder: medians of interleaved timings of two models that give the same."""

import bench_backbone
import pytest
import torch
from bench_backbone import bench, table


def test_speeds_are_medians_without_the_first_turn(monkeypatch):
    # Turn by turn: forward of both, then both ways of both; the first turn is slow, and one later call is.
    times = iter([9.0] * 4 + [1.0, 2.0, 4.0, 8.0] + [1.0, 2.0, 4.0, 8.0] + [70.0, 2.0, 4.0, 8.0])
    asked = []
    monkeypatch.setattr(bench_backbone, "timed", lambda call, device: asked.append(call) or next(times))
    found = bench("cpu", 3)
    assert found["batch"] == 16 and found["largest_difference"] < 1e-4
    speed = found["images_per_second"]
    assert speed["forward"] == {"ours": 16, "segment-anything": 4}
    assert speed["forward and backward"] == {"ours": 8, "segment-anything": 2}
    assert len(set(map(id, asked[:4]))) == 4 and asked[:4] == asked[4:8]


def test_what_is_timed_is_what_adapters_need():
    encoder = bench_backbone.theirs()
    bench_backbone.both_ways(encoder, torch.rand(1, 3, 96, 96))
    assert all(values.grad is None for values in encoder.parameters())
    assert bench_backbone.timed(lambda: None, "cpu") >= 0


@pytest.mark.parametrize("real", [{}, {"vit_b": {"milliseconds": 7.5, "megabytes": 1234}}])
def test_the_table(real):
    speed = {"forward": {"ours": 300.0, "segment-anything": 200.0}}
    text = table({"devices": {"cpu": {"batch": 16, "images_per_second": speed}}, "real": real})
    assert "300  segment-anything 200  1.50 ×, bar 120" in text
    assert ("vit_b: 7.5 ms, 1,234 MB" in text) is bool(real)
