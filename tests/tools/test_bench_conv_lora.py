"""The benchmark of Conv-LoRA: four layers of the same weights, timed in turns, and memory that is held."""

import json

import bench_conv_lora
import pytest
import torch
from bench_conv_lora import FILE, bench, difference, layers, most_held, once, table
from freshness import ROOT


def test_the_layers_are_the_same_where_they_should_be():
    made = layers(16, "cpu")
    assert list(made) == ["linear", "LoRA", "literal", "fast"]
    x = torch.randn(3, 6, 6, 16)
    outs = {name: layer.eval()(x) for name, layer in made.items()}
    torch.testing.assert_close(outs["literal"], outs["fast"], rtol=1e-4, atol=1e-4)
    assert (outs["fast"] - outs["linear"]).abs().max() > 0.1
    assert 0 < difference(made, x) < 1e-5


def test_a_step_reaches_the_input_and_the_router_and_not_the_frozen_map():
    made = layers(16, "cpu")
    for name in ("literal", "fast"):
        once(made[name], torch.randn(3, 6, 6, 16), torch.randn(3, 6, 6, 48))
        assert made[name].w_gate.grad.any() and made[name].A.grad.any()
        assert made[name].base.weight.grad is None


def test_times_are_medians_in_turns_without_the_first(monkeypatch):
    names = ["linear", "LoRA", "literal", "fast"]
    times = iter([9.0] * 4 + [1.0, 2.0, 4.0, 3.0] * 2 + [70.0, 2.0, 4.0, 3.0])
    asked = []

    def timed(call, device, calls):
        asked.append((call, calls))
        return next(times)

    monkeypatch.setattr(bench_conv_lora, "timed", timed)
    monkeypatch.setattr(bench_conv_lora, "most_held", lambda call, device: 1.0)
    found = bench((2, 4, 8), "cpu", 3, "tiny")
    assert found["milliseconds"] == dict(zip(names, (1000, 2000, 4000, 3000), strict=True))
    assert len({id(call) for call, _ in asked[:4]}) == 4
    assert [id(call) for call, _ in asked[:4]] == [id(call) for call, _ in asked[4:8]]
    assert found["repeats"] == 3 and found["difference"] < 1e-5


def test_memory_is_the_most_that_was_held_at_once():
    def one_after_the_other():
        for _ in range(3):
            torch.ones(1_000_000)

    def together():
        return [torch.ones(1_000_000) for _ in range(3)]

    assert most_held(one_after_the_other, "cpu") == pytest.approx(4, abs=0.5)
    assert most_held(together, "cpu") == pytest.approx(12, abs=0.5)


def test_the_table():
    one = {
        "milliseconds": {"linear": 1.0, "LoRA": 2.0, "literal": 8.0, "fast": 3.0},
        "megabytes": {"linear": 1.0, "LoRA": 10.0, "literal": 20.0, "fast": 11.0},
    }
    text = table({"devices": {"cpu": {"pocket, 12 × 12": one, "ViT-L, 64 × 64": one}}})
    assert "literal      8.00 (4.00)" in text and "(1.50, bar 1.6)" in text and "(1.50, bar 1.02)" in text
    assert "memory 1.100 of LoRA's, bar 1.05" in text


def test_the_chapter_says_what_was_measured():
    """The numbers in the text of chapter 04 are those of the file."""
    record = json.loads((ROOT / FILE).read_text(encoding="utf-8"))
    assert not record["environment"]["commit"].endswith("-dirty")
    kept = record["devices"]["cpu"]
    notebook = (ROOT / "chapters" / "04_conv_lora.ipynb").read_text(encoding="utf-8")

    def over_lora(form, what):
        ratios = {name: row[what][form] / row[what]["LoRA"] for name, row in kept.items()}
        pocket = [ratio for name, ratio in ratios.items() if name.startswith("pocket")]
        large = [ratio for name, ratio in ratios.items() if not name.startswith("pocket")]
        assert len(pocket) == 1 and len(large) == 8
        return f"{pocket[0]:.2f}", f"{min(large):.2f}", f"{max(large):.2f}"

    fast, literal = over_lora("fast", "milliseconds"), over_lora("literal", "milliseconds")
    memory = over_lora("fast", "megabytes")
    assert (
        f"takes {fast[0]} times as long as LoRA at pocket size, where the literal one takes {literal[0]}"
        in notebook
    )
    assert f"{fast[1]} to {fast[2]} times at eight sizes" in notebook
    assert f"the literal one {literal[1]} to {literal[2]}." in notebook
    assert memory[1] == memory[2]
    assert f"needs {memory[0]} times LoRA's memory at pocket size, and {memory[1]} at the others" in notebook
