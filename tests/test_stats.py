"""Intervals cover what they should, and a verdict follows from an interval and thresholds alone."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from moe_lib import mean_interval, verdict

INF = math.inf
RUNS = [0.31, 0.29, 0.35, 0.30, 0.33, 0.60, 0.28]


@given(st.lists(st.integers(-(10**6), 10**6).map(lambda i: i / 1000), min_size=3, max_size=12))
@settings(max_examples=40, deadline=None)
def test_the_interval_lies_between_the_runs_and_holds_their_mean(values):
    interval = mean_interval(values, resamples=499)
    slack = 1e-9 * max(map(abs, values))
    assert min(values) - slack <= interval["low"] <= interval["estimate"] + slack
    assert interval["estimate"] - slack <= interval["high"] <= max(values) + slack
    assert interval["estimate"] == pytest.approx(math.fsum(values) / len(values), abs=slack)


def test_the_interval_is_scipys():
    rng = np.random.default_rng(5)
    reference = stats.bootstrap(
        (RUNS,), np.mean, confidence_level=0.95, n_resamples=2000, method="BCa", rng=rng
    ).confidence_interval
    interval = mean_interval(RUNS, resamples=2000, seed=5)
    assert (interval["low"], interval["high"]) == (reference.low, reference.high)
    assert interval["estimate"] == pytest.approx(np.mean(RUNS))


def test_the_interval_leans_towards_the_outlier():
    interval = mean_interval(RUNS)
    assert interval["high"] - interval["estimate"] > 1.5 * (interval["estimate"] - interval["low"]) > 0


def test_the_same_runs_give_the_same_interval_until_the_seed_changes():
    assert mean_interval(RUNS) == mean_interval(torch.tensor(RUNS, dtype=torch.double))
    assert mean_interval(RUNS, seed=0) != mean_interval(RUNS, seed=1)


@pytest.mark.parametrize("values", [[2.0] * 3, [0.0] * 5, [0.1] * 7, [1, 1, 1 + 3e-16, 1], [-1e9] * 3])
def test_equal_runs_give_a_point(values):
    interval = mean_interval(values)
    assert interval["low"] == interval["estimate"] == interval["high"] == pytest.approx(values[0])


def test_nearly_equal_runs_still_have_a_spread():
    interval = mean_interval([1, 1 + 1e-9, 1 + 2e-9])
    assert interval["low"] < interval["estimate"] < interval["high"]


def test_95_percent_intervals_cover_about_95_percent():
    """Of 300 samples of 20 normal numbers. By chance alone the share is off by 0.013 (one standard error)."""
    samples = np.random.default_rng(0).normal(3, 2, size=(300, 20))
    intervals = [mean_interval(sample, resamples=500) for sample in samples]
    assert 0.88 < np.mean([i["low"] <= 3 <= i["high"] for i in intervals]) < 0.98
    assert np.mean([i["high"] < 3 for i in intervals]) < 0.07
    assert np.mean([i["low"] > 3 for i in intervals]) < 0.07


@pytest.mark.parametrize(
    "values", [[], [1.0, 2.0], 3.0, [1, 2, math.nan], [1, 2, INF], [[1, 2, 3], [4, 5, 6]], [[1], [2], [3]]]
)
def test_what_is_no_series_of_three_numbers_is_refused(values):
    with pytest.raises(ValueError, match=r"at least three finite numbers, one per seed; got array"):
        mean_interval(values)


def word(low, high, side="above", good=0.5, other="below", bad=0.1):
    return verdict(low, high, supported={side: good}, contradicted={other: bad})


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.6, 0.9, "supported"),
        (0.51, 0.51, "supported"),
        (0.6, INF, "supported"),
        (0.5, 0.9, "inconclusive"),  # touches the threshold
        (0.4, 0.9, "inconclusive"),
        (0.2, 0.4, "inconclusive"),  # between the thresholds
        (0.0, 0.9, "inconclusive"),  # over both
        (-INF, INF, "inconclusive"),
        (0.0, 0.1, "inconclusive"),  # touches the threshold
        (0.1, 0.1, "inconclusive"),
        (0.0, 0.09, "contradicted"),
        (-INF, 0.0, "contradicted"),
    ],
)
def test_the_whole_interval_has_to_lie_beyond_a_threshold(low, high, expected):
    assert word(low, high) == expected
    assert word(-high, -low, "below", -0.5, "above", -0.1) == expected  # the same claim, told the other way


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(1.1, 2, "supported"), (1, 2, "inconclusive"), (0, 1, "inconclusive"), (0, 0.9, "contradicted")],
)
def test_one_threshold_can_serve_both_sides(low, high, expected):
    assert word(low, high, good=1, bad=1) == expected
    assert word(low, high, "below", 1, "above", 1) == {
        "supported": "contradicted",
        "contradicted": "supported",
    }.get(expected, expected)


@given(st.floats(-10, 10), st.floats(0, 10), st.floats(-10, 10), st.floats(0, 10))
def test_a_wider_interval_never_says_more(low, width, threshold, gap):
    thresholds = {"good": threshold + gap, "bad": threshold}
    narrow = word(low, low + width, **thresholds)
    assert word(low - 1, low + width + 1, **thresholds) in (narrow, "inconclusive")


@pytest.mark.parametrize(
    ("supported", "contradicted"),
    [
        ({"above": 0.5}, {"below": 0.6}),
        ({"below": 0.5}, {"above": 0.4}),
        ({"above": 0.5}, {"above": 0.9}),
        ({"below": 0.5}, {"below": 0.1}),
        ({"above": math.nan}, {"below": 0.1}),
    ],
)
def test_thresholds_that_both_claim_a_value_are_refused(supported, contradicted):
    with pytest.raises(ValueError, match="thresholds overlap") as error:
        verdict(0, 1, supported=supported, contradicted=contradicted)
    assert str(supported) in str(error.value) and str(contradicted) in str(error.value)


@pytest.mark.parametrize(("low", "high"), [(1, 0), (math.nan, 1), (0, math.nan)])
def test_an_interval_the_wrong_way_round_is_refused(low, high):
    with pytest.raises(ValueError, match=f"from low to high, got low={low}, high={high}"):
        word(low, high)


@pytest.mark.parametrize("bad", [{}, {"over": 1}, {"above": 1, "below": 0}, 0.5, "above"])
@pytest.mark.parametrize("side", ["supported", "contradicted"])
def test_what_is_no_threshold_is_refused(side, bad):
    thresholds = {"supported": {"above": 1}, "contradicted": {"below": 1}, side: bad}
    with pytest.raises(ValueError) as error:
        verdict(0, 1, **thresholds)
    assert str(error.value) == f'a threshold is {{"above": x}} or {{"below": x}}, got {bad!r}'
