"""Polyps, lesions, leaves and shadows: what each domain promises, and what it says of its mask."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from moe_lib.worlds import SPLITS, layers
from moe_lib.worlds.domains.leaves import Leaves
from moe_lib.worlds.domains.lesions import Lesions
from moe_lib.worlds.domains.polyps import Polyps
from moe_lib.worlds.domains.shadows import Shadows

CPU = torch.device("cpu")
# Least, mean and largest share of foreground over the first scenes.
SHARES = {
    Polyps: (0.005, 0.07, 0.3),
    Lesions: (0.01, 0.13, 0.5),
    Leaves: (0.002, 0.085, 0.3),
    Shadows: (0.003, 0.15, 0.6),
}

every = pytest.mark.parametrize("domain", SHARES, ids=lambda domain: domain.name)


def masks(domain: type, count: int = 40) -> torch.Tensor:
    return domain("train", count, 64).batch(range(count))["mask"]


def painted(task, indices, keep) -> dict[str, torch.Tensor]:
    """The scenes with only the layers for which ``keep(rows)`` is true."""
    scenes = [task.scene(index) for index in indices]
    for scene in scenes:
        scene.layers = scene.layers[keep(scene.layers)]
    return layers.render(scenes, task.size, CPU)


def near(mask: torch.Tensor, pixels: int) -> torch.Tensor:
    """The mask, grown by so many pixels."""
    return torch.nn.functional.max_pool2d(mask[:, None].float(), 2 * pixels + 1, 1, pixels)[:, 0] > 0


@every
def test_batch_form(domain):
    batch = domain("train", 10, 96).batch([3, 4])
    assert batch["image"].shape == (2, 3, 96, 96) and batch["image"].dtype == torch.float32
    assert batch["image"].min() >= 0 and batch["image"].max() <= 1
    assert batch["mask"].shape == (2, 96, 96) and batch["mask"].dtype == torch.int64
    assert batch["mask"].unique().tolist() == [0, 1]
    assert domain.classes[0] == "background" and len(domain.classes) == 2


@every
def test_a_scene_depends_on_its_index_alone(domain):
    task = domain("train", 20, 64)
    together, backwards = task.batch(range(6)), task.batch(range(5, -1, -1))
    for key in ("image", "mask"):
        assert torch.equal(together[key], backwards[key].flip(0))
        assert torch.equal(together[key][4], task.batch([4])[key][0])


@every
@settings(max_examples=8, deadline=None)
@given(index=st.integers(0, 2**40), size=st.sampled_from((64, 96, 136)), split=st.sampled_from(SPLITS))
def test_any_index_at_any_size(domain, index, size, split):
    small, large = domain(split, 1, 64), domain(split, 1, size)
    assert np.array_equal(small.scene(index).layers, large.scene(index).layers)
    shares = [(task.batch([index])["mask"] == 1).float().mean() for task in (small, large)]
    assert shares[0] > 0.001 and abs(shares[0] - shares[1]) < 0.1 * shares[0] + 0.005


@every
def test_splits_share_no_scene(domain):
    pictures = [domain(split, 8, 64).batch(range(8))["mask"] for split in SPLITS]
    assert len(torch.cat(pictures).flatten(1).unique(dim=0)) == 8 * len(SPLITS)


@every
def test_share_of_foreground(domain):
    least, mean, most = SHARES[domain]
    shares = (masks(domain) == 1).float().mean((1, 2))
    assert shares.min() > least and shares.max() < most
    assert shares.mean() == pytest.approx(mean, rel=0.3)


@pytest.mark.parametrize("domain", [Polyps, Lesions, Leaves], ids=lambda domain: domain.name)
def test_the_foreground_is_seen_in_the_picture(domain):
    """Without the foreground's layers the picture differs within the mask, and hardly elsewhere."""
    task = domain("val", 16, 64)
    whole = painted(task, range(16), lambda rows: rows["label"] >= 0)
    bare = painted(task, range(16), lambda rows: rows["label"] != 1)
    change = (whole["radiance"] - bare["radiance"]).abs().amax(1)
    mask = whole["label"] == 1
    assert not (bare["label"] == 1).any()
    assert (change[mask] > 0.01).float().mean() > 0.8
    assert change[~near(mask, 6)].max() < 0.02


def test_one_polyp_is_one_patch():
    task = Polyps("train", 80, 96)
    mask = task.batch(range(80))["mask"].numpy()
    for index, picture in enumerate(mask):
        patches = ndimage.label(picture, np.ones((3, 3)))[1]
        assert 1 <= patches <= task.scene(index).about["polyps"] <= 2
    assert 3 < sum(task.scene(index).about["polyps"] == 2 for index in range(80)) < 30


def test_polyps_lie_within_the_endoscope_s_view():
    """What the dark corners cover is nobody's polyp."""
    task = Polyps("train", 40, 64)
    corners = painted(task, range(40), lambda rows: rows["hole"] > 0)["label"]
    batch = task.batch(range(40))
    assert batch["mask"][:, 0, 0].max() == 0
    dark = batch["image"].amax(1) < 0.02
    assert not (dark & (corners == 0) & (batch["mask"] == 1)).any()


def test_one_lesion_is_one_patch_near_the_middle():
    for picture in masks(Lesions).numpy():
        assert ndimage.label(picture, np.ones((3, 3)))[1] == 1
        assert np.abs(np.array(ndimage.center_of_mass(picture)) / 64 - 0.5).max() < 0.35


def test_hairs_leave_the_lesion_whole():
    task = Lesions("train", 60, 64)
    without = painted(task, range(60), lambda rows: rows["label"] != layers.KEEP)["label"]
    assert torch.equal(without, task.batch(range(60))["mask"])


def test_every_spot_lies_on_the_leaf():
    task = Leaves("train", 40, 64)
    spots = task.batch(range(40))["mask"] == 1
    leaf = (
        painted(task, range(40), lambda rows: (rows["instance"] == 1) & (rows["on"] == 0))["instances"] == 1
    )
    assert not (spots & ~leaf).any()
    assert 0.15 < leaf.float().mean() < 0.6


def test_a_leaf_has_one_to_twenty_spots():
    task = Leaves("train", 200, 64)
    counts = [(task.scene(index).layers["label"] == 1).sum() for index in range(200)]
    assert min(counts) == 1 and max(counts) == 20


def test_spots_on_other_leaves_do_not_count():
    task = Leaves("train", 60, 64)
    other = painted(task, range(60), lambda rows: (rows["instance"] == 2) | (rows["label"] == 1))
    assert (other["instances"] == 2).any() and not ((other["instances"] == 2) & (other["label"] == 1)).any()


def test_shadows_darken_and_change_nothing_else():
    task = Shadows("train", 30, 96)

    def ground(rows, *labels):  # before anything is put on it
        return (np.arange(len(rows)) <= np.flatnonzero(rows["label"] == 1)[0]) & np.isin(
            rows["label"], labels
        )

    shaded = painted(task, range(30), lambda rows: ground(rows, 0, 1))
    sunny = painted(task, range(30), lambda rows: ground(rows, 0))
    ratio = (shaded["radiance"] / sunny["radiance"].clamp(1e-4)).amax(1)
    mask = shaded["label"] == 1
    assert ratio.max() <= 1.0001
    assert (ratio[mask] < 0.9).float().mean() > 0.97
    elsewhere = ~near(mask, 3)[:, 3:-3, 3:-3]  # at the picture's edge lie soft rims of shadows outside it
    assert ratio[:, 3:-3, 3:-3][elsewhere].min() > 0.999
    # What stands on the ground takes from the shadow's mask and adds nothing to it.
    assert not ((task.batch(range(30))["mask"] == 1) & ~mask).any()


def test_shadows_that_meet_are_no_darker():
    task = Shadows("train", 60, 64)
    assert all((task.scene(index).layers["label"] == 1).sum() == 1 for index in range(60))
