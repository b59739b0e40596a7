"""The layered renderer: who owns which pixel, and what can and cannot change that."""

import hashlib

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from painting import CPU, OUTLINES, busy, paint, slowly

from moe_lib.worlds import layers, outlines
from moe_lib.worlds.layers import layer


def same(one: dict, other: dict) -> None:
    for name in one:
        assert torch.equal(one[name], other[name]), name


@settings(max_examples=12, deadline=None)
@given(index=st.integers(0, 10**6), size=st.sampled_from((64, 104, 136)))
def test_masks_agree_with_a_slow_evaluation(index, size):
    scene = busy(index)
    painted, expected = layers.render([scene], size, CPU), slowly(scene, size)
    for name in ("label", "instances"):
        assert (painted[name][0].numpy() != expected[name]).mean() < 0.001


def test_the_world_is_the_same_on_every_machine():
    """A change of these masks is a new version of the world (``draws.WORLD``)."""
    painted = layers.render([busy(index) for index in range(4)], 96, CPU)
    masks = torch.stack([painted["label"], painted["instances"]]).numpy().astype(np.uint8)
    assert hashlib.sha256(masks.tobytes()).hexdigest()[:16] == "9fd77e8d9945af5a"


@pytest.mark.parametrize("chunk", [1, 8])
def test_a_scene_does_not_depend_on_its_batch(chunk):
    scenes = [busy(index, count=5 + index % 7) for index in range(40)]
    whole = layers.render(scenes, 64, CPU)
    assert whole["silhouettes"].shape[1] == max(scene.layers["instance"].max() for scene in scenes)
    for start in range(0, 40, chunk):
        part = layers.render(scenes[start : start + chunk], 64, CPU)
        for name, values in part.items():
            expected = whole[name][start : start + chunk]
            if name == "silhouettes":
                assert not expected[:, values.shape[1] :].any()
                expected = expected[:, : values.shape[1]]
            assert torch.equal(values, expected), name


def test_masks_do_not_depend_on_the_number_of_threads():
    scenes, before = [busy(index) for index in range(4)], torch.get_num_threads()
    try:
        painted = []
        for threads in (1, 2):
            torch.set_num_threads(threads)
            painted.append(layers.render(scenes, 136, CPU))
    finally:
        torch.set_num_threads(before)
    for name in ("label", "instances", "silhouettes", "depth"):
        assert torch.equal(painted[0][name], painted[1][name]), name
    torch.testing.assert_close(painted[0]["radiance"], painted[1]["radiance"], atol=1e-4, rtol=0)


def test_windows_change_nothing(monkeypatch):
    scenes = [busy(index) for index in range(8)]
    small = layers.render(scenes, 96, CPU)

    def whole(lines, strokes, drawn, size):
        return np.zeros((len(lines), 2), np.int64), np.where(lines["opacity"] > 0, size, 0)

    monkeypatch.setattr(layers, "_bounds", whole)
    same(small, layers.render(scenes, 96, CPU))


@pytest.mark.parametrize("number", range(len(OUTLINES)))
def test_a_mask_covers_the_same_share_at_every_size(number):
    row = layer(outline=OUTLINES[number], centre=(0.52, 0.47), radius=(0.4, 0.3), turn=(0.6, 0.8), label=1)
    shares = [paint(row, size=size)["label"].float().mean() for size in (64, 128, 256)]
    assert max(shares) - min(shares) < 0.006 and min(shares) > 0.05


def test_the_later_layer_owns_the_pixel():
    far, near = (
        layer(radius=0.3, label=1, instance=1, depth=0.9),
        layer(radius=0.2, label=2, instance=2, depth=0.4),
    )
    covered, covering = paint(far, near), paint(near, far)
    assert (covered["label"] == 2).sum() == (covered["instances"] == 2).sum() > 0
    assert not (covering["label"] == 2).any() and (covering["label"] == 1).any()
    assert covered["depth"][32, 32] == pytest.approx(0.4) and covered["depth"][0, 0] == 0


def test_a_layer_that_keeps_labels_colours_and_owns_nothing():
    below = layer(radius=0.3, label=2, instance=1, depth=0.7)
    veil = layer(base=(1, 0, 0), label=layers.KEEP, instance=5, depth=0.1)
    bare, veiled = paint(below), paint(below, veil)
    for name in ("label", "instances", "depth"):
        assert torch.equal(bare[name], veiled[name])
    assert veiled["silhouettes"][4] == 0
    assert veiled["radiance"][:, 5, 5].tolist() == [1, 0, 0]


def test_an_invisible_layer_does_nothing():
    rows = [layer(base=0.3, label=1), layer(opacity=0, label=2, instance=1, cast=(0.1, 0.1, 0.9))]
    painted = paint(*rows)
    assert (painted["label"] == 1).all() and (painted["radiance"] == painted["radiance"][0, 0, 0]).all()


@pytest.mark.parametrize("index", range(6))
def test_silhouettes_are_what_instances_cover_when_painted_alone(index):
    scene = busy(index)
    scene.layers["on"] = 0
    painted = layers.render([scene], 64, CPU)["silhouettes"][0]
    for instance in range(1, len(painted) + 1):
        alone = layers.Scene(scene.layers[scene.layers["instance"] == instance], strokes=scene.strokes)
        expected = (
            (layers.render([alone], 64, CPU)["instances"] == instance).sum() if len(alone.layers) else 0
        )
        assert painted[instance - 1] == expected


def test_parts_of_one_instance_count_once():
    parts = [layer(radius=0.2, centre=(x, 0.5), label=1, instance=1) for x in (0.45, 0.55)]
    painted = paint(*parts, layer(radius=0.1, label=2, instance=2))
    assert (
        painted["silhouettes"][0]
        == (paint(*parts)["instances"] == 1).sum()
        > (painted["instances"] == 1).sum()
    )


def test_on_paints_on_one_instance_only():
    leaf = layer(radius=0.25, centre=(0.4, 0.5), label=0, instance=3, base=0.2)
    spot = layer(radius=0.25, centre=(0.6, 0.5), label=1, on=3, base=(0.9, 0.1, 0.1), soft=0.1)
    painted, bare = paint(layer(base=0.5, label=0), leaf, spot), paint(layer(base=0.5, label=0), leaf)
    outside = bare["instances"] != 3
    assert (painted["label"] == 1).any() and not ((painted["label"] == 1) & outside).any()
    assert torch.equal(painted["radiance"][:, outside], bare["radiance"][:, outside])


def test_a_hole_leaves_the_middle_out():
    painted = paint(layer(label=0), layer(radius=0.4, hole=0.5, label=1), size=256)["label"]
    assert painted.float().mean() == pytest.approx(np.pi * 0.4**2 * 0.75, rel=0.01)
    assert painted[128, 128] == 0 and painted[128, 128 + 77] == 1


def test_strokes_cover_what_they_should():
    stick = ((0.3, 0.3), (0.7, 0.6), (0.05, 0.05))
    painted = paint(layer(strokes=(0, 1), label=1), strokes=[stick], size=256)["label"].float()
    assert painted.mean() == pytest.approx(2 * 0.05 * 0.5 + np.pi * 0.05**2, rel=0.01)
    cone = ((0.3, 0.4), (0.7, 0.4), (0.08, 0.02))
    widths = (
        paint(layer(strokes=(0, 1), label=1), strokes=[cone], size=256)["label"].sum(0)[[90, 128, 166]] / 512
    )
    assert widths.tolist() == pytest.approx([0.072, 0.05, 0.028], abs=0.004)


def test_a_union_of_strokes_is_the_union():
    sticks = [
        ((0.1, 0.2), (0.9, 0.7), (0.04, 0.02)),
        ((0.8, 0.1), (0.3, 0.9), (0.03, 0.05)),
        ((0.5, 0.5), (0.5, 0.5), (0.1, 0.1)),
    ]
    both = paint(layer(strokes=(0, 3), label=1), strokes=sticks)["label"]
    single = [paint(layer(strokes=(i, i + 1), label=1), strokes=sticks)["label"] for i in range(3)]
    assert torch.equal(both, torch.stack(single).amax(0)) and both.any()


def test_an_empty_scene_is_black_background():
    painted = layers.render([layers.Scene(np.zeros(0, layers.LAYER)), busy(0)], 64, CPU)
    assert not painted["label"][0].any() and not painted["radiance"][0].any() and painted["label"][1].any()


@settings(max_examples=20, deadline=None)
@given(count=st.integers(0, 4), length=st.integers(0, 5))
def test_joined_is_concatenate(count, length):
    parts = [busy(k).layers[:length] for k in range(count)]
    joined = layers.joined(parts, layers.LAYER)
    assert joined.dtype == layers.LAYER and np.array_equal(
        joined, np.concatenate([np.zeros(0, layers.LAYER), *parts])
    )


def test_star_keeps_its_points():
    """An outline's fine corners survive the table, the turn and the window."""
    row = layer(outline=outlines.star(5, 0.4), radius=0.45, label=1)
    exact = 5 * 0.4 * np.sin(np.pi / 5) * 0.45**2
    assert paint(row, size=256)["label"].float().mean() == pytest.approx(exact, rel=0.02)
