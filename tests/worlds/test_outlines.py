"""Silhouettes against the shapes that they stand for."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_lib.worlds import outlines


def area(outline: np.ndarray) -> float:
    """Of the polygon through the table's entries."""
    points = corners(outline)
    x, y = points.T
    return 0.5 * abs(np.sum(x * np.roll(y, -1) - y * np.roll(x, -1)))


def corners(outline: np.ndarray) -> np.ndarray:
    unit = outlines.directions()
    return unit * (outline / np.abs(unit).sum(1))[:, None]


def test_directions_go_once_around_by_the_pseudo_angle():
    unit = outlines.directions()
    assert np.linalg.norm(unit, axis=1) == pytest.approx(1)
    angles = np.unwrap(np.arctan2(unit[:, 1], unit[:, 0]))
    assert (np.diff(angles) > 0).all() and angles[-1] - angles[0] < 2 * np.pi
    for quarter, axis in enumerate([(1, 0), (0, 1), (-1, 0), (0, -1)]):
        assert unit[quarter * outlines.STEPS // 4] == pytest.approx(axis, abs=1e-12)
    # The share of |y| in |x| + |y| grows evenly within the first quarter, and falls within the second.
    share = np.abs(unit[:, 1]) / np.abs(unit).sum(1)
    assert np.diff(share[:33]) == pytest.approx(4 / outlines.STEPS) and np.diff(
        share[32:65]
    ) == pytest.approx(-4 / outlines.STEPS)


def test_polar_is_the_radius_in_each_direction():
    lengths = np.linalg.norm(corners(outlines.polar(lambda a: 1 + 0.3 * np.cos(a))), axis=1)
    assert lengths == pytest.approx(1 + 0.3 * outlines.directions()[:, 0], rel=1e-6)


@pytest.mark.parametrize(
    ("outline", "exact"),
    [
        (outlines.disc(), np.pi),
        (outlines.regular(3), 3 * np.sqrt(3) / 4),
        (outlines.regular(4), 2),
        (outlines.regular(6), 3 * np.sqrt(3) / 2),
        (outlines.polygon(np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)])), 4),
        (outlines.star(5, 0.45), 5 * 0.45 * np.sin(np.pi / 5)),
        (outlines.star(7, 0.6), 7 * 0.6 * np.sin(np.pi / 7)),
        (outlines.cross(0.38), 2 * 2 * 0.76 - 0.76**2),
        (outlines.superellipse(2), np.pi),
        (outlines.superellipse(60), 4),
    ],
)  # fmt: skip
def test_areas(outline, exact):
    assert outline.shape == (outlines.STEPS,) and outline.dtype == np.float32
    assert area(outline) == pytest.approx(exact, rel=0.02)


@pytest.mark.parametrize("sides", [3, 4, 5, 8])
def test_a_regular_polygon_lies_between_its_circles_with_a_corner_on_top(sides):
    lengths = np.linalg.norm(corners(outlines.regular(sides)), axis=1)
    assert np.cos(np.pi / sides) - 1e-6 <= lengths.min() and lengths.max() <= 1 + 1e-6
    assert lengths[3 * outlines.STEPS // 4] == pytest.approx(1)  # y points down, so this is up


@settings(max_examples=60)
@given(st.lists(st.floats(0.3, 1), min_size=5, max_size=9), st.floats(0, 6))
def test_a_polygon_s_entries_lie_on_its_edges(reaches, turn):
    at = turn + np.arange(len(reaches)) * 2 * np.pi / len(reaches)
    polygon = np.array(reaches)[:, None] * np.stack([np.cos(at), np.sin(at)], 1)
    ahead = np.roll(polygon, -1, axis=0)
    for point in corners(outlines.polygon(polygon)):
        edge, to = ahead - polygon, point - polygon
        share = np.clip((edge * to).sum(1) / (edge**2).sum(1), 0, 1)[:, None]
        assert np.linalg.norm(to - share * edge, axis=1).min() < 1e-5


def test_a_polygon_around_something_else_is_refused():
    with pytest.raises(ValueError, match="origin"):
        outlines.polygon(np.array([(1, 1), (2, 1), (2, 2)]))


def test_blobs_made_together_are_those_made_alone():
    amplitudes, phases = np.random.default_rng(0).random((2, 3, 6, 4))
    together = outlines.blob(0.2 * amplitudes, 6 * phases)
    assert together.shape == (3, 6, outlines.STEPS) and together.dtype == np.float32
    for i, j in np.ndindex(3, 6):
        assert np.array_equal(together[i, j], outlines.blob(0.2 * amplitudes[i, j], 6 * phases[i, j]))


def test_blobs():
    assert np.array_equal(outlines.blob([], []), outlines.disc())
    wavy = np.linalg.norm(corners(outlines.blob([0, 0.2], [0, 0])), axis=1)
    assert wavy == pytest.approx(1 + 0.2 * np.cos(3 * np.arctan2(*outlines.directions().T[::-1])), rel=1e-5)
    assert np.linalg.norm(corners(outlines.blob([3.0], [0])), axis=1).min() == pytest.approx(0.2)


def test_leaf_and_dome_have_the_shapes_that_they_are_named_for():
    leaf = corners(outlines.leaf(0.5, 0.3))
    assert leaf[0] == pytest.approx((1.3, 0)) and np.ptp(leaf[:, 1]) < 0.65 * np.ptp(leaf[:, 0])
    assert leaf[:, 1] == pytest.approx(-leaf[::-1, 1][np.r_[-1, :127]], abs=1e-6)
    dome = corners(outlines.dome(0.15))
    assert dome[:, 1].min() == pytest.approx(-1) and dome[:, 1].max() == pytest.approx(0.15, abs=1e-6)
    assert np.linalg.norm(dome[65:127], axis=1) == pytest.approx(1)


def test_every_outline_is_positive_and_finite():
    for outline in (
        outlines.leaf(0.2, 0.9),
        outlines.cross(0.1),
        outlines.star(9, 0.1),
        outlines.dome(0.02),
        outlines.superellipse(0.6),
    ):
        assert np.isfinite(outline).all() and (outline > 0).all()
