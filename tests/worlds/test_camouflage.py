"""Camouflage: the higher the grade the less a thing differs from its ground, and nothing else changes."""

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
from moe_lib.worlds.domains.camouflage import Camouflage

COUNT = 40


@pytest.fixture(scope="module")
def batch():
    return Camouflage("train", COUNT, 96).batch(range(COUNT))


def contrast(batch: dict) -> torch.Tensor:
    """How far the mean colour of the hidden things is from that of a ring around them; ``(B,)``."""
    mask = batch["mask"][:, None].float()
    around = torch.nn.functional.max_pool2d(mask, 17, 1, 8) - mask

    def mean(where):
        return (batch["image"] * where).sum((2, 3)) / where.sum((2, 3))

    return (mean(mask) - mean(around)).norm(dim=1)


def test_batch_form(batch):
    assert_batch_form(batch, 96)
    assert_instances_fit(batch)
    assert torch.equal(batch["mask"] == 1, batch["instances"] > 0)
    assert batch["grade"].shape == (COUNT,) and batch["grade"].dtype == torch.float32


def test_scenes():
    assert_scene_depends_on_its_index_alone(Camouflage)
    assert_splits_share_no_scene(Camouflage)


def test_grades_are_drawn_evenly(batch):
    grade = batch["grade"].sort().values
    assert grade.min() >= 0 and grade.max() <= 1
    assert (grade - torch.linspace(0, 1, COUNT)).abs().max() < 0.25


def test_the_foreground_is_of_moderate_size(batch):
    shares = (batch["mask"] == 1).float().mean((1, 2))
    assert shares.min() > 0.015 and shares.max() < 0.3 and 0.06 < shares.mean() < 0.14
    counts = [len(boxes) for boxes in batch["boxes"]]
    assert set(counts) == {1, 2} and np.mean(counts) < 1.5


def test_contrast_falls_with_the_grade():
    grades = (0.0, 0.25, 0.5, 0.75, 1.0)
    batches = [Camouflage("train", COUNT, 64, grade=g).batch(range(COUNT)) for g in grades]
    means = [float(contrast(b).mean()) for b in batches]
    assert means == sorted(means, reverse=True)
    assert means[-1] < 0.35 * means[0]
    # Only looks change: the masks are the same, and so are grounds far from the things and patches.
    assert all(torch.equal(b["mask"], batches[0]["mask"]) for b in batches)
    assert [b["grade"].unique().tolist() for b in batches] == [[g] for g in grades]


def test_a_hidden_thing_still_leaves_a_trace():
    task = Camouflage("train", 12, 96, grade=1.0)
    scenes = [task.scene(index) for index in range(12)]
    whole = task.render(scenes, torch.device("cpu"))
    for scene in scenes:
        scene.layers = scene.layers[(scene.layers["instance"] == 0) & (scene.layers["on"] == 0)]
        scene.about["count"] = 0
    bare = task.render(scenes, torch.device("cpu"))
    change = (whole["image"] - bare["image"]).abs().mean(1)
    for i in range(12):
        assert change[i][whole["mask"][i] == 1].mean() > 0.02
    assert not bare["mask"].any()


def test_patches_are_no_things_and_fade_with_the_grade():
    def patch_contrast(grade):
        differences = []
        for index in range(20):
            rows = Camouflage("train", 20, grade=grade).scene(index).layers
            ground, patches = rows[0], rows[1:5]
            assert (patches["label"] == 0).all() and (patches["dome"] == 0).all()
            differences.append(np.abs(patches["base"] - ground["base"]).mean())
        return np.mean(differences)

    assert patch_contrast(1.0) < 1e-6 < 0.5 * patch_contrast(0.0)
    assert patch_contrast(0.0) > patch_contrast(0.5) > patch_contrast(0.9)


def test_visible_share_against_the_thing_alone():
    for index in range(3):
        assert_visible_share(Camouflage("val", 4, 64), index)


@pytest.mark.parametrize("grade", [-0.1, 1.5])
def test_grades_out_of_range_are_refused(grade):
    with pytest.raises(ValueError, match=rf"from 0 \(plain to see\) to 1 \(hidden\), got {grade}"):
        Camouflage(grade=grade)


@settings(max_examples=8, deadline=None)
@given(
    index=st.integers(0, 2**40), size=st.sampled_from((64, 120, 192)), split=st.sampled_from(SPLITS),
    grade=st.floats(0, 1),
)  # fmt: skip
def test_any_index_at_any_size(index, size, split, grade):
    small, large = (Camouflage(split, 1, s, grade).batch([index]) for s in (64, size))
    shares = [(b["mask"] == 1).float().mean() for b in (small, large)]
    assert shares[1] > 0.005 and abs(shares[0] - shares[1]) < 0.02
    assert_instances_fit(large)
