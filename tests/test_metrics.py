"""Measures agree with DELIVER's conventions, with pysodmetrics, and with the hand."""

import math

import pytest
import torch
from golden import golden

from moe_lib import metrics

SOD = golden("pysodmetrics")


def test_mean_iou_counts_what_never_occurs_as_asked():
    found = torch.tensor([[5, 1, 0], [2, 7, 1], [0, 1, 3]])
    expected = pytest.approx((5 / 8 + 7 / 12 + 3 / 5) / 3)
    assert metrics.mean_iou(found) == expected  # here all occur
    assert metrics.mean_iou(found, absent="zero") == expected
    more = torch.nn.functional.pad(found, (0, 1, 0, 1))
    assert metrics.mean_iou(more) == expected
    assert metrics.mean_iou(more, absent="zero") * 4 / 3 == expected


@pytest.mark.parametrize("case, logits", [("sum", "sum_logits_up"), ("conf", "conf_logits")])
def test_both_conventions_on_deliver(case, logits):
    arrays = golden("mle_sam/heads_losses_metrics")
    found = metrics.confusion(arrays[logits].argmax(1), arrays["label"], arrays[logits].shape[1])
    assert torch.equal(found, arrays[f"hist_{case}"])
    torch.testing.assert_close(metrics.class_iou(found), arrays[f"iou_{case}"].double(), equal_nan=True)
    for absent, name in (("zero", "zero"), ("skip", "nan")):
        expected = float(arrays[f"miou_{name}_{case}"])
        assert 100 * metrics.mean_iou(found, absent=absent) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(
    "name, measured",
    [
        ("s_measure", metrics.s_measure),
        ("e_mean", metrics.e_measure),
        ("e_max", lambda p, g: metrics.e_measure(p, g, at="max")),
        ("e_adaptive", lambda p, g: metrics.e_measure(p, g, at="adaptive")),
        ("weighted_f_1", metrics.weighted_f),
        ("weighted_f_03", lambda p, g: metrics.weighted_f(p, g, beta2=0.3)),
        ("mae", metrics.mae),
    ],
)
def test_what_pysodmetrics_gives(name, measured):
    """Also for empty and full masks and predictions, single pixels, exact and opposite ones."""
    found, expected = measured(SOD["probability"], SOD["mask"]), SOD[name]
    known = expected.isfinite()
    assert known.sum() == len(known) - (
        name == "s_measure"
    )  # of one mask in the last corner it does not know
    torch.testing.assert_close(found[known], expected[known], rtol=0, atol=1e-9)
    assert found.isfinite().all() and found.dtype == torch.float64


def boxes(*corners: tuple[int, int, int, int]) -> torch.Tensor:
    """A mask of 20 × 20 for each box."""
    masks = torch.zeros(len(corners), 20, 20, dtype=torch.int64)
    for mask, (x0, y0, x1, y1) in zip(masks, corners, strict=True):
        mask[y0:y1, x0:x1] = 1
    return masks


def test_overlaps_by_hand():
    found, truth = (
        boxes((0, 0, 4, 4), (0, 0, 4, 4), (0, 0, 0, 0)).double(),
        boxes((2, 0, 6, 4), (8, 8, 9, 9), (0, 0, 0, 0)),
    )
    assert metrics.iou(found, truth).tolist() == pytest.approx([8 / 24, 0, 0])
    assert metrics.dice(found, truth).tolist() == pytest.approx([16 / 32, 0, 0])
    assert metrics.iou(found, truth, empty=1)[2] == metrics.dice(found, truth, empty=1)[2] == 1
    assert metrics.iou(0.4 * found, truth, threshold=0.3)[0] == pytest.approx(8 / 24)
    assert metrics.iou(0.4 * found, truth)[0] == 0
    # Recalls: 8 of 16 inside; 376 of 384 outside. An empty mask has recall 0 and 1.
    assert metrics.ber(found, truth).tolist() == pytest.approx(
        [1 - (0.5 + 376 / 384) / 2, 1 - (383 / 399) / 2, 0.5]
    )


def test_boundaries_match_within_a_tolerance():
    truth = boxes((4, 4, 12, 12))
    off = {shift: boxes((4 + shift, 4, 12 + shift, 12)).double() for shift in (0, 1, 2, 3)}
    assert metrics.boundary_f(off[0], truth) == 1
    assert metrics.boundary_f(off[1], truth) == 1  # one pixel of a diagonal of 28 is within .008, rounded up
    two = metrics.boundary_f(off[2], truth)
    assert 0.5 < two < 1 and metrics.boundary_f(off[3], truth) < two
    assert metrics.boundary_f(off[2], truth, tolerance=0.06) == 1
    # By hand, without any tolerance: 28 pixels each, of which the rows share 2 × 6 and the columns nothing.
    assert float(metrics.boundary_f(off[2], truth, tolerance=0)) == pytest.approx(12 / 28)
    nothing = torch.zeros(1, 20, 20)
    assert metrics.boundary_f(nothing, nothing.long()) == 1
    assert metrics.boundary_f(nothing, truth) == metrics.boundary_f(off[0], nothing.long()) == 0
    assert metrics.boundary_f(boxes((15, 15, 19, 19)).double(), truth) == 0


def test_a_shape_that_touches_the_frame_has_no_boundary_there():
    whole = torch.ones(1, 20, 20)
    assert metrics.boundary_f(whole, whole.long()) == 1  # neither has a boundary
    assert metrics.boundary_f(whole, boxes((0, 0, 20, 10))) == 0


def test_ignored_pixels_are_outside_and_do_not_enter_the_confusion():
    mask = torch.tensor([[[0, 1, 255], [1, 1, 255]]])
    predicted = torch.tensor([[[0, 1, 1], [0, 1, 0]]])
    assert metrics.confusion(predicted, mask, 2).tolist() == [[1, 0], [1, 2]]
    assert metrics.iou(predicted.double(), mask)[0] == pytest.approx(2 / 4)


def test_several_at_once():
    p, g = SOD["probability"], SOD["mask"]
    found = metrics.binary_scores(p, g, ["iou", "mae"])
    assert list(found) == ["iou", "mae"] and torch.equal(found["iou"], metrics.iou(p, g))
    assert set(metrics.binary_scores(p, g)) == set(metrics.MEASURES) and len(metrics.MEASURES) == 8
    better = metrics.binary_scores(g[:1].double(), g[:1])
    assert all(
        math.isclose(better[name], 0 if name in ("ber", "mae") else 1, abs_tol=0.002) for name in better
    )


def test_bad_input():
    p, g = torch.rand(2, 4, 4), torch.ones(2, 4, 4)
    with pytest.raises(ValueError, match=r"one shape \(B, H, W\), got \(2, 1, 4, 4\) and \(2, 4, 4\)"):
        metrics.iou(p[:, None], g)
    with pytest.raises(ValueError, match="probabilities are from 0 to 1, got -3 to"):
        metrics.mae(torch.where(p == p.min(), -3, p), g)
    with pytest.raises(ValueError, match="probabilities are from 0 to 1, got nan"):
        metrics.mae(p * float("nan"), g)
    with pytest.raises(ValueError, match="there is no measure 'auc'; known are iou, dice"):
        metrics.binary_scores(p, g, ["auc"])
    with pytest.raises(ValueError, match="absent is 'skip' or 'zero', got 'nan'"):
        metrics.mean_iou(torch.eye(2), absent="nan")
    with pytest.raises(ValueError, match="at is 'mean', 'max' or 'adaptive', got 'median'"):
        metrics.e_measure(p, g, at="median")
