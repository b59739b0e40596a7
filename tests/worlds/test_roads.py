"""Roads: thin, connected with the frame, not told by their colour, and never under a house."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from objects_checks import (
    CPU,
    assert_batch_form,
    assert_scene_depends_on_its_index_alone,
    assert_splits_share_no_scene,
)
from scipy import ndimage

from moe_lib.worlds import SPLITS, layers
from moe_lib.worlds.domains.roads import Roads


@pytest.fixture(scope="module")
def batch():
    return Roads("train", 40, 96).batch(range(40))


def test_batch_form(batch):
    assert_batch_form(batch, 96)
    assert Roads.classes == ("background", "road")


def test_scenes():
    assert_scene_depends_on_its_index_alone(Roads)
    assert_splits_share_no_scene(Roads)


def test_roads_are_thin(batch):
    """Nowhere is the nearest ground far, but at a few junctions; yet roads are more than specks."""
    for mask in batch["mask"].numpy():
        depth = ndimage.distance_transform_edt(np.pad(mask, 1, mode="edge"))[1:-1, 1:-1][mask == 1]
        assert np.median(depth) <= 2.3 and np.quantile(depth, 0.95) <= 4.5
    shares = (batch["mask"] == 1).float().mean((1, 2))
    assert shares.min() > 0.02 and shares.max() < 0.25 and 0.04 < shares.mean() < 0.11


def test_widths_in_pixels():
    strokes = np.concatenate([Roads("train", 20).scene(i).strokes for i in range(20)])
    widths = []
    for i in range(20):
        scene = Roads("train", 20).scene(i)
        for row in scene.layers[scene.layers["label"] == 1]:
            widths.append(2 * 96 * scene.strokes["width"][row["strokes"][0] : row["strokes"][1]].ravel())
    widths = np.concatenate(widths)
    assert len(strokes) and 1.45 < widths.min() < 2 and 4 < widths.max() < 5.05


def test_a_network_is_one_piece_that_reaches_the_frame():
    """But for what houses hide, which is nothing, and two main roads that need not meet."""
    mask = Roads("train", 30, 128).batch(range(30))["mask"].numpy()
    frame = np.ones((128, 128), bool)
    frame[1:-1, 1:-1] = False
    for picture in mask:
        patches, count = ndimage.label(picture, np.ones((3, 3)))
        sizes = np.bincount(patches.ravel())[1:]
        assert (picture[frame] == 1).any()
        assert count <= 5 and sizes.max() / sizes.sum() > 0.4


def test_trees_and_shadows_hide_no_label():
    task = Roads("train", 12, 96)
    for index in range(12):
        scene = task.scene(index)
        mask = layers.render([scene], 96, CPU)["label"]
        bare = layers.Scene(scene.layers[scene.layers["label"] != layers.KEEP], strokes=scene.strokes)
        assert torch.equal(layers.render([bare], 96, CPU)["label"], mask)
        houses = scene.layers["depth"] == np.float32(0.7)
        without = layers.Scene(scene.layers[~houses], strokes=scene.strokes)
        lost = (layers.render([without], 96, CPU)["label"] != mask).sum()
        assert lost <= 0.02 * mask.sum()  # a corner of a house at most


def test_something_else_has_the_colour_of_the_road():
    """In every scene a field is as bare as the main road, and is not a road."""
    for index in range(10):
        rows = Roads("train", 10).scene(index).layers
        road = rows["base"][rows["label"] == 1][-1]
        others = rows["base"][(rows["label"] == 0) & (rows["radius"].min(1) > 0.05)]
        assert (np.abs(others / road - 1).max(1) < 0.16).any()


@settings(max_examples=10, deadline=None)
@given(index=st.integers(0, 2**40), size=st.sampled_from((64, 120, 192)), split=st.sampled_from(SPLITS))
def test_any_index_at_any_size(index, size, split):
    shares = [(Roads(split, 1, s).batch([index])["mask"] == 1).float().mean() for s in (64, size)]
    assert 0.01 < shares[1] < 0.35 and abs(shares[0] - shares[1]) < 0.02
