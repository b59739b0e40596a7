"""Cells: many, small, touching, some blurred; debris of their colour is none of them."""

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
from scipy import ndimage

from moe_lib.worlds import SPLITS
from moe_lib.worlds.domains.cells import Cells


@pytest.fixture(scope="module")
def batch():
    return Cells("train", 40, 96).batch(range(40))


def test_batch_form(batch):
    assert_batch_form(batch, 96)
    assert_instances_fit(batch)
    assert torch.equal(batch["mask"] == 1, batch["instances"] > 0)


def test_scenes():
    assert_scene_depends_on_its_index_alone(Cells)
    assert_splits_share_no_scene(Cells)


def test_fifteen_to_forty_small_cells(batch):
    counts = [len(boxes) for boxes in batch["boxes"]]
    assert min(counts) >= 15 and max(counts) <= 40 and max(counts) - min(counts) > 15
    boxes = torch.cat(batch["boxes"])
    sides = (boxes[:, 2:] - boxes[:, :2]).amax(1)
    assert sides.median() < 12 and sides.max() < 24
    shares = (batch["mask"] == 1).float().mean((1, 2))
    assert shares.min() > 0.02 and shares.max() < 0.32 and 0.07 < shares.mean() < 0.16


def test_many_cells_touch(batch):
    patches = [ndimage.label(mask)[1] for mask in batch["mask"].numpy()]
    counts = [int((visible > 0).sum()) for visible in batch["visible"]]
    assert 0.35 < np.mean(patches) / np.mean(counts) < 0.85


def test_visible_share_against_the_cell_alone():
    assert_visible_share(Cells("val", 4, 64), 1)


def test_neither_brightness_nor_darkness_tells_cells(batch):
    """Cells are brighter than their surroundings in some scenes and darker in others."""
    grey, mask = batch["image"].mean(1), batch["mask"].bool()
    step = torch.stack([g[m].mean() - g[~m].mean() for g, m in zip(grey, mask, strict=True)])
    assert 0.25 < (step > 0).float().mean() < 0.75
    assert step.abs().median() > 0.02


def test_debris_has_the_cells_colour_and_some_cells_are_blurred():
    soft = []
    for index in range(12):
        rows = Cells("train", 12).scene(index).layers
        cells, rest = rows[rows["label"] == 1], rows[rows["label"] == 0]
        body = np.median(cells["base"] / rest["base"][-1], axis=0)
        assert (rest["hole"] > 0).sum() >= 3 and (rest["strokes"][:, 1] > rest["strokes"][:, 0]).sum() >= 2
        assert body == pytest.approx(np.ones(3), abs=0.3)
        soft.append((cells["soft"] > 0.01).mean())
    assert 0.08 < np.mean(soft) < 0.35


@settings(max_examples=8, deadline=None)
@given(index=st.integers(0, 2**40), size=st.sampled_from((64, 120, 192)), split=st.sampled_from(SPLITS))
def test_any_index_at_any_size(index, size, split):
    small, large = (Cells(split, 1, s).batch([index]) for s in (64, size))
    shares = [(b["mask"] == 1).float().mean() for b in (small, large)]
    assert 0.01 < shares[1] < 0.4 and abs(shares[0] - shares[1]) < 0.02
    assert_instances_fit(large)
