"""Intervals cover what they should, and a verdict follows from an interval and thresholds alone."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from moe_lib import mean_interval, verdict
from moe_lib.stats import compare, probability_of_improvement, sign_flip_p

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


def test_pairs_are_compared_seed_by_seed():
    baseline = np.array([0.50, 0.60, 0.70, 0.80, 0.90, 0.55])
    gains = np.array([0.02, 0.03, 0.01, 0.02, 0.04, 0.03])
    found = compare(baseline + gains, baseline)
    assert found == pytest.approx(
        mean_interval(baseline + gains - baseline)
        | {"p": 2 / 64, "improvement": probability_of_improvement(baseline + gains, baseline)}
    )
    assert 0 < found["low"] < found["estimate"] < found["high"] < 0.04
    with pytest.raises(ValueError, match="as many seeds on both sides, got 3 and 4"):
        compare([1, 2, 3], [1, 2, 3, 4])


@pytest.mark.parametrize("seeds", [2, 3, 5, 8])
def test_the_smallest_p_that_so_many_seeds_can_give(seeds):
    assert sign_flip_p(np.arange(1, seeds + 1)) == pytest.approx(2 / 2**seeds)


def test_every_choice_of_signs_by_hand():
    differences = [0.3, -0.1, 0.4, 0.2]
    means = [np.mean(np.multiply(differences, signs)) for signs in itertools.product((1, -1), repeat=4)]
    as_far = np.mean(np.abs(means) >= np.mean(differences) - 1e-12)
    assert sign_flip_p(differences) == pytest.approx(as_far)
    assert sign_flip_p([0.2, -0.2]) == 1
    assert sign_flip_p([0.0, 0.0, 0.0]) == 1


def test_p_values_without_an_effect_are_level():
    random = np.random.default_rng(0)
    found = np.array([sign_flip_p(random.normal(size=7)) for _ in range(300)])
    assert abs((found <= 0.25).mean() - 0.25) < 0.08 and abs(found.mean() - 0.5) < 0.06


def test_many_seeds_are_drawn_and_give_the_same_every_time():
    differences = np.random.default_rng(1).normal(0.3, 1, size=40)
    assert sign_flip_p(differences) == sign_flip_p(differences)
    assert sign_flip_p(differences) == pytest.approx(stats.ttest_1samp(differences, 0).pvalue, abs=0.01)


def test_improvement_counts_all_pairs():
    assert probability_of_improvement([2, 3], [1, 2]) == pytest.approx((1 + 0.5 + 1 + 1) / 4)
    assert probability_of_improvement([1], [1]) == 0.5
    assert probability_of_improvement([0, 0], [1, 2, 3]) == 0
    a, b = np.random.default_rng(2).normal(size=(2, 9))
    expected = stats.mannwhitneyu(a, b).statistic / 81
    assert probability_of_improvement(a, b) == pytest.approx(expected)


@pytest.mark.parametrize("bad", [[1.0], [1.0, float("nan")], [[1.0, 2.0]], []])
def test_differences_that_are_none(bad):
    with pytest.raises(ValueError, match="needs at least two finite differences, one per seed"):
        sign_flip_p(bad)
    if np.ndim(bad) == 1 and len(bad) != 1:
        with pytest.raises(ValueError, match="needs finite scores on both sides"):
            probability_of_improvement(bad, [1.0])
