"""Scenes of anything, and the prompts for them."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from objects_checks import (
    assert_batch_form,
    assert_instances_fit,
    assert_scene_depends_on_its_index_alone,
    assert_splits_share_no_scene,
    assert_visible_share,
)

from moe_lib.worlds import SPLITS
from moe_lib.worlds.generic import AREA, VISIBLE, Generic, box_of, pixel_of, prompts

COUNT = 48


@pytest.fixture(scope="module")
def batch():
    return Generic("train", COUNT, 96).batch(range(COUNT))


def test_batch_form(batch):
    assert_batch_form(batch, 96)
    assert_instances_fit(batch)


def test_scenes():
    assert_scene_depends_on_its_index_alone(Generic)
    assert_splits_share_no_scene(Generic)


def test_three_to_eight_things_that_differ(batch):
    counts = np.bincount([len(boxes) for boxes in batch["boxes"]], minlength=9)
    assert counts[:3].sum() == 0 and (counts[3:] > 0).all() and len(counts) == 9
    assert 0.02 < batch["mask"].float().mean() < 0.12
    assert (batch["instances"] > 0).float().mean() > 0.12
    # Overlaps are common, but most of most things is seen.
    visible = torch.cat(batch["visible"])
    assert 0.2 < (visible < 0.95).float().mean() < 0.7 and visible.median() > 0.8
    assert batch["image"].mean((0, 2, 3)).std() < 0.1 and batch["image"].flatten(1).mean(1).std() > 0.08


def test_the_prompt_asks_for_something_seen(batch):
    for i in range(COUNT):
        number = int(batch["prompted"][i])
        mask, (x, y) = batch["mask"][i], batch["point"][i].long().tolist()
        assert torch.equal(mask == 1, batch["instances"][i] == number)
        assert mask[y, x] == 1
        assert torch.equal(batch["box"][i], batch["boxes"][i][number - 1])
        assert batch["visible"][i][number - 1] >= VISIBLE and mask.sum() >= AREA * 96**2


def test_points_are_not_centres(batch):
    """Over many scenes the points spread over the whole box."""
    low, high = batch["box"][:, :2], batch["box"][:, 2:]
    place = (batch["point"] + 0.5 - low) / (high - low)
    assert place.std(0).min() > 0.15
    assert (place - 0.5).norm(dim=1).max() > 0.4


@pytest.mark.parametrize("index", range(0, 10, 2))
def test_visible_share_against_the_thing_alone(index):
    assert_visible_share(Generic("val", 10, 64), index)


def test_more_prompts(batch):
    asked = prompts(batch, 12, 5)
    assert {key: tuple(value.shape) for key, value in asked.items()} == {
        "instance": (COUNT, 12), "point": (COUNT, 12, 2), "box": (COUNT, 12, 4), "mask": (COUNT, 12, 96, 96)
    }  # fmt: skip
    row = torch.arange(COUNT)[:, None]
    x, y = asked["point"].long().unbind(-1)
    assert torch.equal(batch["instances"][row, y, x], asked["instance"])
    assert asked["mask"][row, torch.arange(12), y, x].all()
    for i in range(COUNT):
        area = torch.bincount(batch["instances"][i].flatten(), minlength=9)[1:]
        good = {
            k + 1 for k, share in enumerate(batch["visible"][i].tolist())
            if share >= VISIBLE and area[k] >= AREA * 96**2
        }  # fmt: skip
        ids = asked["instance"][i].tolist()
        # All of them once before any comes again, and then with another point.
        assert set(ids) == good and set(ids[: len(good)]) == good
        again = asked["point"][i][torch.tensor(ids) == ids[0]]
        assert len(again.unique(dim=0)) > 1 or len(again) == 1


def test_prompts_follow_their_seeds(batch):
    seeds = torch.arange(COUNT, dtype=torch.int32)
    first, again, other = (prompts(batch, 3, s) for s in (seeds, seeds, seeds + 100))
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert (first["point"] != other["point"]).any(-1).float().mean() > 0.9
    part = {key: value[5:9] for key, value in batch.items()}
    assert torch.equal(prompts(part, 3, seeds[5:9])["point"], first["point"][5:9])


def test_no_prompts(batch):
    with pytest.raises(ValueError, match="at least one prompt, got n=0"):
        prompts(batch, 0, 1)


def test_pixels_of_a_region_are_all_equally_likely():
    region = torch.zeros(2, 1, 8, 8, dtype=torch.bool)
    region[0, 0, 2, 3:7], region[1, 0, 1:5, 6] = True, True
    seeds = torch.arange(2, dtype=torch.int32)
    found = torch.stack([pixel_of(region, seeds + 2 * i, turn=7) for i in range(400)])
    x, y = found[:, :, 0].long().unbind(-1)
    assert region[torch.arange(2), 0, y, x].all()
    for places in (x[:, 0], y[:, 1]):  # 4 pixels, 100 times each: less than 60 has odds of one in 10⁶
        assert torch.bincount(places).max() < 145 and torch.bincount(places).sort().values[-4] > 60
    assert torch.equal(pixel_of(region[1:], seeds[1:], turn=7), found[0, 1:])


def test_boxes_of_regions():
    region = torch.zeros(3, 5, 7, dtype=torch.bool)
    region[0, 1:3, 2:6], region[1, 4, 6] = True, True
    assert box_of(region).tolist() == [[2, 1, 6, 3], [6, 4, 7, 5], [0, 0, 0, 0]]


@settings(max_examples=10, deadline=None)
@given(index=st.integers(0, 2**40), size=st.sampled_from((64, 104, 160)), split=st.sampled_from(SPLITS))
def test_any_index_at_any_size(index, size, split):
    small, large = (Generic(split, 1, s).batch([index]) for s in (64, size))
    assert [len(boxes) for boxes in small["boxes"]] == [len(boxes) for boxes in large["boxes"]]
    shares = [(b["instances"] > 0).float().mean() for b in (small, large)]
    assert abs(shares[0] - shares[1]) < 0.02
    x, y = large["point"][0].long().tolist()
    assert large["mask"][0, y, x] == 1
    assert_instances_fit(large)
