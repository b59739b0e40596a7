"""A chapter says a number where it changes, and asks for a device in one word."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from moe_lib import at_scale, pick_device
from moe_lib.scale import SCALES


@pytest.mark.parametrize(
    ("scale", "value"), [("smoke", 10), ("pocket", 500), ("gpu", 500), ("paper", 90_000)]
)
def test_a_scale_takes_its_own_value_or_the_next_smaller_scales(scale, value):
    assert at_scale(scale, smoke=10, pocket=500, paper=90_000) == value


@given(st.sets(st.sampled_from(SCALES)), st.sampled_from(SCALES))
def test_never_a_larger_scale_than_asked_for(named, scale):
    choices = {name: SCALES.index(name) for name in named}
    smaller = [index for index in choices.values() if index <= SCALES.index(scale)]
    if smaller:
        assert at_scale(scale, **choices) == max(smaller)
    else:
        with pytest.raises(ValueError, match=f"nothing is said for scale '{scale}' or a smaller one"):
            at_scale(scale, **choices)


def test_a_value_that_is_false_is_a_value():
    assert at_scale("gpu", smoke=5, pocket=0) == 0
    assert at_scale("gpu", smoke=5, gpu=None) is None


@pytest.mark.parametrize(
    ("choices", "there"), [({"gpu": 1, "paper": 2}, "only for gpu, paper"), ({}, "only for none")]
)
def test_no_value_says_which_there_are(choices, there):
    with pytest.raises(ValueError, match=f"scale 'pocket' or a smaller one, {there}"):
        at_scale("pocket", **choices)


@pytest.mark.parametrize(
    ("scale", "choices", "unknown"),
    [
        ("huge", {"smoke": 1}, "huge"),
        ("smoke", {"smoke": 1, "tiny": 2}, "tiny"),
        ("Pocket", {"smoke": 1}, "Pocket"),
    ],
)
def test_an_unknown_scale_lists_the_possible_ones(scale, choices, unknown):
    with pytest.raises(ValueError) as error:
        at_scale(scale, **choices)
    assert str(error.value) == f"unknown scale '{unknown}'; possible: smoke, pocket, gpu, paper"


@pytest.fixture
def machine(monkeypatch):
    """Pretend that a machine has some accelerators and no others."""
    monkeypatch.delenv("MOE_DEVICE", raising=False)  # `make test` sets it

    def has(*kinds):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: "cuda" in kinds)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: "mps" in kinds)

    return has


@pytest.mark.parametrize(
    ("there", "taken"), [((), "cpu"), (("cuda",), "cuda"), (("mps",), "mps"), (("mps", "cuda"), "cuda")]
)
def test_auto_takes_the_gpu_that_is_there(machine, there, taken):
    machine(*there)
    assert pick_device("auto") == pick_device() == torch.device(taken)


@pytest.mark.parametrize("device", ["cpu", "cuda", "cuda:0", "mps", torch.device("cpu")])
def test_a_device_that_is_there_is_the_one_asked_for(machine, device):
    machine("cuda", "mps")
    assert pick_device(device) == torch.device(device)


@pytest.mark.parametrize(
    ("device", "there", "possible"),
    [
        ("cuda", (), "auto, cpu"),
        ("cuda:1", (), "auto, cpu"),
        ("mps", ("cuda",), "auto, cpu, cuda"),
        ("tpu", ("cuda", "mps"), "auto, cpu, cuda, mps"),
        ("", (), "auto, cpu"),
    ],
)
def test_a_device_that_is_not_there_lists_the_possible_ones(machine, device, there, possible):
    machine(*there)
    with pytest.raises(
        ValueError, match=f"device '{device}' is not to be had .*; possible here: {possible}$"
    ):
        pick_device(device)


def test_auto_takes_what_the_environment_names(machine, monkeypatch):
    machine("cuda")
    monkeypatch.setenv("MOE_DEVICE", "cpu")
    assert pick_device("auto") == torch.device("cpu")
    assert pick_device("cuda") == torch.device("cuda"), "who names a device gets it"
    monkeypatch.setenv("MOE_DEVICE", "mps")
    with pytest.raises(ValueError, match="'mps' is not to be had"):
        pick_device("auto")
