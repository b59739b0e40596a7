"""Losses agree with the official code, with torch, and with the hand; what does not count has no gradient."""

import math

import pytest
import torch
import torch.nn.functional as F
from golden import golden

from moe_lib import losses

BINARY = {
    "bce": losses.bce,
    "dice": losses.dice,
    "focal": losses.focal,
    "structure": losses.structure,
    "structure, weighted": lambda x, y: losses.structure(x, y, weighted_bce=True),
    "balanced": losses.balanced_bce,
}


@pytest.mark.parametrize(
    "logits, expected", [("main", "ohem_main"), ("aux", "ohem_aux"), ("conf", "ohem_conf")]
)
def test_what_the_reference_of_mle_sam_gives(logits, expected):
    arrays = golden("mle_sam/heads_losses_metrics")
    given = arrays["conf_logits"] if logits == "conf" else F.interpolate(
        arrays[f"{logits}_logits"], scale_factor=2, mode="bilinear", align_corners=False
    )  # fmt: skip
    found = losses.ohem(given.double(), arrays["label"])
    assert float(found) == pytest.approx(float(arrays[expected]), rel=1e-5)


def test_cross_entropies_by_torch_and_by_hand():
    logits, mask = torch.randn(3, 5, 6), torch.randint(2, (3, 5, 6))
    expected = F.binary_cross_entropy_with_logits(logits, mask.float(), reduction="none").mean((1, 2))
    torch.testing.assert_close(losses.bce(logits, mask), expected)
    torch.testing.assert_close(losses.focal(logits, mask, gamma=0), expected)
    p = logits.sigmoid()
    by_hand = torch.where(mask == 1, -0.25 * (1 - p) ** 2 * p.log(), -0.75 * p**2 * (1 - p).log())
    torch.testing.assert_close(losses.focal(logits, mask, alpha=0.25), by_hand.mean((1, 2)))


def test_dice_and_focal_of_sure_answers():
    share = torch.tensor([[1.0, 0], [1, 0]])
    sure = 20 * (2 * share - 1)
    assert losses.dice(sure, share) < 1e-4 and losses.focal(sure, share) < 1e-4
    assert losses.dice(-sure, share) == pytest.approx(0.8)  # 1 - (2 · 0 + 1) / (2 + 2 + 1)
    assert losses.focal(torch.zeros(2, 2), share) == pytest.approx(0.25 * math.log(2))


def test_inside_and_outside_weigh_the_same_in_the_balanced_one():
    mask = torch.zeros(1, 10, 10, dtype=torch.int64)
    mask[0, 0, :5] = 1
    logits = torch.zeros(1, 10, 10, requires_grad=True)
    losses.balanced_bce(logits, mask).backward()
    assert logits.grad[mask == 1].sum() == pytest.approx(-float(logits.grad[mask == 0].sum()))
    assert float(losses.balanced_bce(logits.detach(), mask * 0)) == 0  # one side alone has nothing to balance


def test_pixels_near_a_boundary_weigh_more():
    mask = torch.zeros(1, 96, 96, dtype=torch.int64)
    mask[..., :48] = 1
    logits = torch.zeros(1, 96, 96, requires_grad=True)
    losses.structure(logits, mask, weighted_bce=True).sum().backward()
    assert logits.grad[0, 48, 47].abs() > 2.5 * logits.grad[0, 48, 20].abs()


@pytest.mark.parametrize("name", BINARY)
@pytest.mark.parametrize("kind", [torch.int64, torch.uint8])
def test_what_is_ignored_changes_nothing(name, kind):
    mask = torch.randint(2, (2, 8, 8)).to(kind)
    mask[:, 5:] = losses.IGNORE
    logits = torch.randn(2, 8, 8, requires_grad=True)
    loss = BINARY[name](logits, mask).mean()
    loss.backward()
    assert (logits.grad[:, 5:] == 0).all() and (logits.grad[:, :5] != 0).all()
    other = torch.where(mask == losses.IGNORE, 5.0, logits.detach())
    torch.testing.assert_close(BINARY[name](other, mask).mean(), loss.detach())


@pytest.mark.parametrize("name", BINARY)
@pytest.mark.parametrize("value", [0, 1, losses.IGNORE])
def test_finite_for_masks_of_one_kind(name, value):
    logits = (30 * torch.randn(2, 8, 8)).requires_grad_()
    loss = BINARY[name](logits, torch.full((2, 8, 8), value)).mean()
    loss.backward()
    assert loss.isfinite() and logits.grad.isfinite().all()


@pytest.mark.parametrize("name", BINARY)
def test_one_number_per_map(name):
    logits, mask = torch.randn(2, 3, 4, 8, 8), torch.randint(2, (2, 3, 1, 8, 8))
    assert BINARY[name](logits, mask).shape == (() if name == "balanced" else (2, 3, 4))
    assert BINARY[name](logits[:, 0], mask[:, 0]).ndim == (0 if name == "balanced" else 2)


def test_only_hard_pixels_count():
    logits = torch.zeros(1, 2, 4, 4)
    logits[:, 0] = 5.0  # sure of class 0
    label = torch.zeros(1, 4, 4, dtype=torch.int64)
    label[0, 0, :2] = 1  # twice wrongly
    label[0, 3] = losses.IGNORE
    assert float(losses.ohem(logits, label)) == pytest.approx(math.log1p(math.exp(5)))
    label[0, 0, :2] = 0
    easy = math.log1p(math.exp(-5))
    assert float(losses.ohem(logits, label)) == pytest.approx(easy)  # then the hardest of the easy ones
    label[:] = losses.IGNORE
    logits.requires_grad_()
    nothing = losses.ohem(logits, label)
    nothing.backward()
    assert nothing == 0 and (logits.grad == 0).all()


def test_shapes_that_do_not_fit():
    for mask in (torch.ones(2, 8, 8), torch.ones(2, 1, 8, 9), torch.ones(3, 1, 8, 8)):
        with pytest.raises(ValueError, match=r"logits \(2, 1, 8, 8\) and mask .* are not of one shape"):
            losses.dice(torch.zeros(2, 1, 8, 8), mask)
