"""The set loss: matching against every permutation, values against the hand, gradients where they belong."""

from itertools import permutations

import pytest
import torch
import torch.nn.functional as F

from moe_lib.heads import Segments, matched, set_loss


def case(queries=4, classes=3, size=12, seed=0, ignore=False):
    torch.manual_seed(seed)
    small = torch.randn(2, queries, size, size, requires_grad=True)
    logits = torch.randn(2, queries, size, size, requires_grad=True)
    answer = Segments(logits, torch.randn(2, queries, classes + 1, requires_grad=True), small)
    mask = torch.randint(classes, (2, size, size))
    mask[1][mask[1] == 1] = 0  # a class that one image does not have
    if ignore:
        mask[0, :3] = 255
    return answer, mask


def costs(answer, mask, image, label, weights=(2, 5, 5)):
    """What it would cost to take each mask for a class, ``(Q,)``."""
    counts = (mask[image] != 255).flatten()
    truth = (mask[image] == label).float().flatten()[counts]
    found = []
    for logits, classes in zip(answer.logits[image].flatten(1), answer.classes[image], strict=True):
        p = logits[counts].sigmoid()
        dice = 1 - (2 * (p * truth).sum() + 1) / (p.sum() + truth.sum() + 1)
        bce = F.binary_cross_entropy_with_logits(logits[counts], truth)
        found.append(weights[1] * bce + weights[2] * dice - weights[0] * classes.softmax(-1)[label])
    return torch.stack(found).detach()


@pytest.mark.parametrize("ignore", [False, True])
def test_the_matching_is_the_cheapest_of_all(ignore):
    answer, mask = case(ignore=ignore)
    for image, (query, label) in enumerate(matched(answer, mask)):
        present = [k for k in range(3) if (mask[image] == k).any()]
        assert sorted(label.tolist()) == present and len(set(query.tolist())) == len(present)
        price = {k: costs(answer, mask, image, k) for k in present}
        cheapest = min(
            sum(float(price[k][q]) for k, q in zip(present, chosen, strict=True))
            for chosen in permutations(range(4), len(present))
        )
        mine = sum(float(price[int(k)][q]) for q, k in zip(query, label, strict=True))
        assert mine == pytest.approx(cheapest, abs=1e-5)


@pytest.mark.parametrize("ignore", [False, True])
def test_the_loss_by_hand(ignore):
    answer, mask = case(ignore=ignore)
    found = set_loss(answer, mask)
    bce, dice, target = [], [], torch.full((2, 4), 3)
    for image, (query, label) in enumerate(matched(answer, mask)):
        counts = (mask[image] != 255).flatten()
        for q, k in zip(query.tolist(), label.tolist(), strict=True):
            target[image, q] = k
            logits = answer.logits[image, q].flatten()[counts]
            truth = (mask[image] == k).float().flatten()[counts]
            p = logits.sigmoid()
            bce.append(F.binary_cross_entropy_with_logits(logits, truth))
            dice.append(1 - (2 * (p * truth).sum() + 1) / (p.sum() + truth.sum() + 1))
    weight = torch.tensor([1, 1, 1, 0.1])
    losses = F.cross_entropy(answer.classes.flatten(0, 1), target.flatten(), reduction="none")
    each = weight[target.flatten()]
    expected = {"class": (losses * each).sum() / each.sum(), "mask": sum(bce) / 5, "dice": sum(dice) / 5}
    assert len(bce) == 5
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value)
    total = 10 * expected["class"] + 5 * expected["mask"] + 5 * expected["dice"]
    torch.testing.assert_close(found["loss"], total)


def test_points_are_drawn_where_a_mask_is_least_sure():
    torch.manual_seed(0)
    one = F.interpolate(torch.randn(1, 1, 6, 6), 24, mode="bicubic") * 3
    small = torch.cat([one, -one, torch.randn(1, 1, 24, 24)], 1)
    logits = F.interpolate(small, 96, mode="bilinear", align_corners=False)
    answer = Segments(logits, torch.randn(1, 3, 3), small)
    mask = (logits[:, 1] > 0).long()  # which the first two masks get right: unsure is where the loss is
    every = set_loss(answer, mask)
    some = [set_loss(answer, mask, points=4000) for _ in range(5)]
    for one in (matched(answer, mask), matched(answer, mask, points=4000)):
        assert [part.tolist() for part in one[0]] == [[0, 1], [0, 1]]
    assert 1.5 < min(float(s["mask"] / every["mask"]) for s in some) < 2.5
    assert len({float(s["mask"]) for s in some}) == 5
    torch.testing.assert_close(some[0]["class"], every["class"])


def test_it_reaches_masks_that_are_matched_and_no_others():
    answer, mask = case()
    set_loss(answer, mask)["loss"].backward()
    for image, (query, _) in enumerate(matched(answer, mask)):
        touched = answer.logits.grad[image].flatten(1).abs().amax(1) > 0
        assert touched.nonzero()[:, 0].tolist() == sorted(query.tolist())
    assert (answer.classes.grad.abs().amax(-1) > 0).all()


def test_an_image_of_nothing_but_ignored_pixels_counts_for_the_classes_only():
    answer, mask = case()
    found = set_loss(answer, torch.full_like(mask, 255))
    assert found["mask"] == 0 and found["dice"] == 0 and found["class"] > 0
    found["loss"].backward()
    assert answer.logits.grad.isfinite().all()


def test_more_classes_than_masks_leave_some_out():
    answer, mask = case(queries=2)
    assert [len(query) for query, _ in matched(answer, mask)] == [2, 2]
    assert set_loss(answer, mask)["loss"].isfinite()


def test_it_trains_tokens_that_begin_alike():
    torch.manual_seed(0)
    mask = torch.zeros(1, 12, 12, dtype=torch.int64)
    mask[:, :, 6:], mask[:, :4] = 1, 2
    logits = torch.zeros(1, 5, 12, 12, requires_grad=True)
    classes = torch.zeros(1, 5, 4, requires_grad=True)
    optimiser = torch.optim.Adam([logits, classes], lr=0.3)
    for _ in range(60):
        optimiser.zero_grad()
        set_loss(Segments(logits, classes, logits), mask)["loss"].backward()
        optimiser.step()
    assert (Segments(logits, classes, logits).labels() == mask).float().mean() > 0.99


def test_it_is_refused_with_a_reason():
    answer, mask = case()
    with pytest.raises(ValueError, match="no classes: train one mask"):
        set_loss(Segments(answer.logits, None, answer.small), mask)
    with pytest.raises(ValueError, match="do not fit the mask"):
        set_loss(answer, mask[:, :5])
    with pytest.raises(ValueError, match="class 3, and the model has 0 to 2"):
        set_loss(answer, torch.full_like(mask, 3))
