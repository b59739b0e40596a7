"""Glass bends what is seen through it; hoops and pictures do not."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from objects_checks import (
    CPU,
    assert_batch_form,
    assert_instances_fit,
    assert_scene_depends_on_its_index_alone,
    assert_splits_share_no_scene,
    assert_visible_share,
)

from moe_lib.worlds import SPLITS, layers
from moe_lib.worlds.domains.glass import Glass

COUNT = 24


@pytest.fixture(scope="module")
def batch():
    return Glass("train", COUNT, 96).batch(range(COUNT))


def radiance(change, count=COUNT, size=96) -> dict:
    """The first scenes, painted after ``change(rows)`` has been at their layers."""
    scenes = [Glass("train", COUNT).scene(index) for index in range(count)]
    for scene in scenes:
        scene.layers = change(scene.layers)
    return layers.render(scenes, size, CPU)


def test_batch_form(batch):
    assert_batch_form(batch, 96)
    assert_instances_fit(batch)
    assert torch.equal(batch["mask"] == 1, batch["instances"] > 0)


def test_scenes():
    assert_scene_depends_on_its_index_alone(Glass)
    assert_splits_share_no_scene(Glass)


def test_one_or_two_of_moderate_size(batch):
    counts = [len(boxes) for boxes in batch["boxes"]]
    assert set(counts) == {1, 2}
    shares = (batch["mask"] == 1).float().mean((1, 2))
    assert shares.min() > 0.03 and shares.max() < 0.5 and 0.1 < shares.mean() < 0.3


def test_glass_changes_the_picture_inside_itself_only():
    whole = radiance(lambda rows: rows)
    bare = radiance(lambda rows: rows[(rows["label"] != 1) & ((rows["on"] == 0) | (rows["on"] > 2))])
    mask = whole["label"] == 1
    assert not (bare["label"] == 1).any()
    change = (whole["radiance"] - bare["radiance"]).abs().amax(1)
    for inside, here in zip(change, mask, strict=True):
        assert (inside[here] > 0.01).float().mean() > 0.6
    edge = torch.nn.functional.max_pool2d(mask[:, None].float(), 5, 1, 2)[:, 0] > 0
    assert change[~edge].max() == 0


def test_it_is_by_refraction():
    """Clear glass without tint, rim, shading and reflections still moves what is behind it."""

    def clear(rows, bend):
        rows = rows[(rows["on"] == 0) | (rows["on"] > 2)].copy()
        glass = rows["label"] == 1
        for name, value in (("base", 1), ("accent", 1), ("dome", 0), ("gloss", 0), ("grain", 0), ("ring", 0)):
            rows[name][glass] = value
        rows["refract"][glass] *= bend
        rows["refract"][glass] += 1e-7  # stays glass
        return rows

    bent, straight = radiance(lambda rows: clear(rows, 1)), radiance(lambda rows: clear(rows, 0))
    none = radiance(lambda rows: rows[(rows["label"] != 1) & ((rows["on"] == 0) | (rows["on"] > 2))])
    mask = bent["label"] == 1
    moved = (bent["radiance"] - none["radiance"]).abs().amax(1)
    still = (straight["radiance"] - none["radiance"]).abs().amax(1)
    assert moved[mask].mean() > 0.03
    assert still[mask].mean() < 0.1 * moved[mask].mean()


def test_every_scene_has_a_hoop_and_a_picture_that_are_not_glass():
    for index in range(COUNT):
        rows = Glass("train", COUNT).scene(index).layers
        hoops, frames = rows[rows["hole"] > 0.85], rows[rows["hole"] == np.float32(0.8)]
        assert len(hoops) == len(frames) == 1 and not hoops["label"].any() and not frames["label"].any()
        assert (rows["refract"].any(1) == (rows["label"] == 1)).all()
        assert len(rows[(rows["instance"] >= 10)]) >= 2  # and opaque things behind it


def test_glass_is_in_front():
    for index in range(3):
        assert_visible_share(Glass("val", 4, 64), index)
    batch = Glass("val", 8, 64).batch(range(8))
    front, rest = (batch["depth"][batch["mask"] == value] for value in (1, 0))
    assert front.max() < rest.min()


@settings(max_examples=8, deadline=None)
@given(index=st.integers(0, 2**40), size=st.sampled_from((64, 120, 192)), split=st.sampled_from(SPLITS))
def test_any_index_at_any_size(index, size, split):
    small, large = (Glass(split, 1, s).batch([index]) for s in (64, size))
    shares = [(b["mask"] == 1).float().mean() for b in (small, large)]
    assert shares[1] > 0.02 and abs(shares[0] - shares[1]) < 0.03
    assert_instances_fit(large)
