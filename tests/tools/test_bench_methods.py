"""The benchmark of the other methods: both forms give the same, and the page says what was measured."""

import json
from functools import partial

import bench_conv_lora
import bench_methods
import pytest
import torch
from bench_methods import FILE, LIBRARY, LITERAL, Compared, bench, once, table
from freshness import ROOT

SMALL = {
    "adaroute": partial(bench_methods.adaroute, channels=12, side=4, batch=2, experts=3),
    "lpmoe": partial(bench_methods.lpmoe, width=32, side=4),
    "sensors": partial(bench_methods.sensors, width=8, side=3, count=3),
    "fusion": partial(bench_methods.fusion, channels=8, side=4, batch=3),
    "one key": partial(bench_methods.one_key, channels=8, side=3),
    "trunk": partial(bench_methods.trunk, batch=1, count=2),
}


@pytest.mark.parametrize("name", SMALL)
def test_both_forms_are_the_same_and_a_step_reaches_the_input(name):
    torch.manual_seed(0)
    compared = SMALL[name]("cpu")
    assert set(compared.forms) == {compared.plain, LITERAL, LIBRARY}
    with torch.no_grad():
        literal, library, plain = (
            compared.forms[form](*compared.inputs) for form in (LITERAL, LIBRARY, compared.plain)
        )
    torch.testing.assert_close(literal, library, rtol=1e-4, atol=1e-4)
    if name != "trunk":  # whose LoRAs begin with nothing
        assert (plain - library).abs().max() > 1e-5
    gradients = []
    for form in (LITERAL, LIBRARY):
        x = compared.inputs[0].clone().requires_grad_()
        compared.forms[form](x, *compared.inputs[1:]).square().sum().backward()
        gradients.append(x.grad)
    torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-3)
    assert gradients[0].any()


def test_times_are_medians_in_turns_without_the_first(monkeypatch):
    times = iter([9.0] * 3 + [1.0, 4.0, 2.0] * 2 + [70.0, 4.0, 2.0])
    monkeypatch.setattr(bench_conv_lora, "timed", lambda call, device, calls: next(times))
    monkeypatch.setattr(bench_methods, "most_held", lambda call, device: 1.0)
    forms = {"plain": lambda x: 3 * x, LITERAL: lambda x: 2 * x, LIBRARY: lambda x: 2 * x + 0.5}
    found = bench(Compared(forms, [torch.ones(2)], "plain", 3.0), "cpu", 3, "tiny")
    assert found["milliseconds"] == {"plain": 1000, LITERAL: 4000, LIBRARY: 2000}
    assert found["difference"] == 0.25 and found["bar"] == 3.0
    text = table({"devices": {"cpu": {"tiny": found}}})
    assert "literal 4000.0 (4.00)" in text and "library 2000.0 (2.00, bar 3.0)" in text
    x = torch.ones(2)
    once(forms["plain"], [x], torch.ones(2))
    assert x.grad is None  # a copy was asked for a gradient


def test_the_page_says_what_was_measured():
    """The table of the page has the ratios of the file."""
    record = json.loads((ROOT / FILE).read_text(encoding="utf-8"))
    assert not record["environment"]["commit"].endswith("-dirty")
    page = (ROOT / "book" / "other_methods.md").read_text(encoding="utf-8")
    assert set(record["devices"]["cpu"]) == set(bench_methods.COMPARED)
    for name, one in record["devices"]["cpu"].items():
        times, held = one["milliseconds"], one["megabytes"]
        cells = [f"{times[form] / times[one['plain']]:.2f}" for form in (LITERAL, LIBRARY)]
        cells += [f"{held[form] / held[one['plain']]:.2f}" for form in (LITERAL, LIBRARY)]
        assert f"| {name} | {one['plain']} | {' | '.join(cells)} |" in page, (name, cells)
        assert one["difference"] < 1e-5
