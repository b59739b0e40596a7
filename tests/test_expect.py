"""A promised number prints one stable line where it holds, and stops the notebook where it does not."""

import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from moe_lib import Unexpected, expect

NUMBERS = st.floats(-1e6, 1e6)


def printed(capsys, value, **expectation):
    expect("reach", value, **expectation)
    return capsys.readouterr().out


@pytest.mark.parametrize(
    ("value", "expectation", "line"),
    [
        (0.5, {"near": 0.5, "tol": 0}, "✓ reach: 0.5 ± 0\n"),
        (0.2764, {"near": 0.28, "tol": 0.01}, "✓ reach: 0.28 ± 0.01\n"),
        (3, {"above": 2.5}, "✓ reach: above 2.5\n"),
        (-3, {"below": 1e-7}, "✓ reach: below 1e-07\n"),
        (0.5, {"above": 0, "below": 1}, "✓ reach: above 0 and below 1\n"),
        (9, {"near": 9, "tol": 0.5, "above": 8, "below": 10}, "✓ reach: 9 ± 0.5 and above 8 and below 10\n"),
        (math.inf, {"above": 1}, "✓ reach: above 1\n"),
    ],
)
def test_a_number_that_holds_prints_the_expectation(capsys, value, expectation, line):
    assert printed(capsys, value, **expectation) == line


def test_the_line_does_not_depend_on_the_value(capsys):
    lines = {printed(capsys, value, near=1, tol=0.5, above=0) for value in (0.5, 0.9, 1, 1.1234567, 1.5)}
    assert len(lines) == 1


@pytest.mark.parametrize(
    ("value", "expectation", "message"),
    [
        (1.51, {"near": 1, "tol": 0.5}, "reach is 1.51, expected 1 ± 0.5"),
        (0.49, {"near": 1, "tol": 0.5}, "reach is 0.49, expected 1 ± 0.5"),
        (2, {"above": 2}, "reach is 2, expected above 2"),
        (2, {"below": 2}, "reach is 2, expected below 2"),
        (5, {"above": 0, "below": 1}, "reach is 5, expected above 0 and below 1"),
        (-5, {"above": 0, "below": 1}, "reach is -5, expected above 0 and below 1"),
        (5, {"near": 5, "tol": 1, "below": 5}, "reach is 5, expected 5 ± 1 and below 5"),
        (math.inf, {"near": 1, "tol": 0.5}, "reach is inf, expected 1 ± 0.5"),
        (-math.inf, {"above": 1}, "reach is -inf, expected above 1"),
        (math.inf, {"near": math.inf, "tol": 1}, "reach is inf, expected inf ± 1"),
    ],
)
def test_a_number_that_is_off_names_value_and_expectation(capsys, value, expectation, message):
    with pytest.raises(Unexpected) as error:
        expect("reach", value, **expectation)
    assert str(error.value) == message
    assert capsys.readouterr().out == ""


def test_unexpected_is_a_failed_assertion():
    assert issubclass(Unexpected, AssertionError)


@pytest.mark.parametrize(
    "expectation",
    [{"near": 0, "tol": 1}, {"near": 0, "tol": math.inf}, {"above": -math.inf}, {"below": math.inf}],
)
def test_nan_never_holds(expectation):
    with pytest.raises(Unexpected, match="reach is nan"):
        expect("reach", math.nan, **expectation)


@given(value=NUMBERS, near=NUMBERS, tol=st.floats(0, 1e6))
def test_near_holds_exactly_within_tol(value, near, tol):
    if abs(value - near) <= tol:
        expect("reach", value, near=near, tol=tol)
    else:
        with pytest.raises(Unexpected):
            expect("reach", value, near=near, tol=tol)


@given(value=NUMBERS, bound=NUMBERS)
def test_a_value_is_on_one_side_of_a_bound_or_on_it(value, bound):
    def holds(**expectation):
        try:
            expect("reach", value, **expectation)
        except Unexpected:
            return False
        return True

    assert (holds(above=bound), holds(below=bound)) == (value > bound, value < bound)


@pytest.mark.parametrize(
    "one",
    [torch.tensor(1.0), torch.ones(1, 1), torch.tensor(1), np.float32(1), torch.ones((), requires_grad=True)],
    ids=["scalar", "one element", "integer", "numpy", "with gradient"],
)
def test_one_element_of_any_kind_is_a_number_and_makes_no_noise(capsys, one):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert printed(capsys, one, near=1, tol=0) == "✓ reach: 1 ± 0\n"


@pytest.mark.parametrize(
    ("value", "expectation", "says"),
    [
        (1, {}, "say what is expected"),
        (1, {"near": 3}, "near=3, tol=None"),
        (1, {"tol": 0.25}, "near=None, tol=0.25"),
        (1, {"tol": 0.25, "above": 0}, "near=None, tol=0.25"),
        (1, {"near": 1, "tol": -0.25}, "tol is -0.25; it should be zero or positive"),
        (1, {"near": 1, "tol": math.nan}, "tol is nan"),
        (torch.ones(2), {"above": 0}, r"needs one number, got tensor\(\[1., 1.\]\)"),
        (None, {"above": 0}, "needs one number, got None"),
        ("many", {"above": 0}, "needs one number, got 'many'"),
    ],
)
def test_an_expectation_that_makes_no_sense_is_refused(value, expectation, says):
    with pytest.raises(ValueError, match=f"reach.*{says}"):
        expect("reach", value, **expectation)
