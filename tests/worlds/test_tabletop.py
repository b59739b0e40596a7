"""The tabletop: labels, instances and segments agree with each other; no single cue names a thing."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_lib.worlds.tabletop import (
    DOMAINS,
    SHAPES,
    STUFF_IDS,
    TEXTURES,
    Instances,
    Panoptic,
    Semantic,
    segments_of,
)

STUFF = Semantic.stuff


@pytest.fixture(scope="module")
def batch():
    return Panoptic(split="val", size=64).batch(range(24))


def test_there_are_enough_classes_and_each_needs_shape_and_texture():
    names = Semantic.classes[STUFF:]
    assert len(names) >= 8
    assert {tuple(name.split()) for name in names} == {(t, s) for t in TEXTURES for s in SHAPES}
    assert len(SHAPES) >= 3 and len(TEXTURES) >= 3


def test_every_class_is_seen_about_as_often():
    scenes = [Semantic(split="val").scene(i) for i in range(300)]
    labels = np.concatenate([s.layers["label"] for s in scenes])
    things = np.bincount(labels[labels >= STUFF], minlength=len(Semantic.classes))[STUFF:]
    stuff = np.bincount(labels[labels < STUFF])
    assert things.min() > 0.75 * things.mean()
    assert stuff.min() > 0.9 * stuff.mean()


def test_no_single_cue_tells_the_class():
    """Shape, texture, colour, or size alone, from the truth itself, with a nearest-neighbour classifier."""
    rows, about = [], []
    for i in range(300):
        scene = Semantic(split="val").scene(i)
        rows.append(scene.layers[scene.layers["instance"] > 0])
        about.append(np.stack([scene.about["shape"], scene.about["texture"]], 1))
    rows, about = np.concatenate(rows), np.concatenate(about).astype(float)
    label = rows["label"]
    cues = {
        "shape": about[:, :1],
        "texture": about[:, 1:],
        "colour": np.concatenate([rows["base"], rows["accent"]], 1),
        "silhouette": np.concatenate([about[:, :1], rows["radius"], rows["centre"]], 1),
        "both": about,
    }
    assert max(np.bincount(label)) / len(label) < 0.2
    half = len(label) // 2
    right = {}
    for name, cue in cues.items():
        away = ((cue[half:, None] - cue[None, :half]) ** 2).sum(2) + 1e-6 * np.arange(half)[None] / half
        votes = label[:half][np.argsort(away, axis=1)[:, :15]]
        guess = [np.bincount(vote).argmax() for vote in votes]
        right[name] = np.mean(np.array(guess) == label[half:])
    assert right.pop("both") > 0.99  # the two together are all that is needed
    assert max(right.values()) <= 0.5, right


def test_boxes_masks_labels_and_visible_shares_agree(batch):
    for k in range(len(batch["image"])):
        instances, mask = batch["instances"][k], batch["mask"][k]
        boxes, labels, visible = batch["boxes"][k], batch["labels"][k], batch["visible"][k]
        assert len(boxes) == len(labels) == len(visible) >= 3
        assert ((instances > 0) == (mask >= STUFF)).all()
        for i in range(len(boxes)):
            mine = instances == i + 1
            assert mine.any(), "a thing is hidden altogether"
            assert (mask[mine] == labels[i]).all()
            ys, xs = torch.nonzero(mine, as_tuple=True)
            assert boxes[i].tolist() == [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]
            assert 0.05 < visible[i] <= 1


def test_nearer_things_are_in_front(batch):
    """Later things are nearer, each shows its own depth, and the last one is whole."""
    hidden = 0
    for instances, depth, visible in zip(batch["instances"], batch["depth"], batch["visible"], strict=True):
        count = len(visible)
        depths = [depth[instances == i + 1].unique() for i in range(count)]
        assert all(len(d) == 1 for d in depths)
        assert all(a > b for a, b in pairwise(depths))
        assert (depth[instances == 0] > depths[0]).all()
        assert visible[-1] == 1
        hidden += int((visible < 0.98).sum())
    assert hidden > 12  # things do overlap


def test_segments_cover_the_picture_once(batch):
    for k, segments in enumerate(batch["segments"]):
        panoptic, mask = batch["panoptic"][k], batch["mask"][k]
        assert int(segments[:, 3].sum()) == panoptic.numel()
        assert sorted(panoptic.unique().tolist()) == sorted(segments[:, 0].tolist())
        for number, kind, thing, area in segments.tolist():
            here = panoptic == number
            assert int(here.sum()) == area
            assert (mask[here] == kind).all()
            assert thing == (kind >= STUFF) == (number < STUFF_IDS)


def test_segments_of_a_known_picture():
    mask = torch.tensor([[0, 0, 4], [2, 4, 4]])
    instances = torch.tensor([[0, 0, 1], [0, 3, 1]])
    assert segments_of(mask, instances).tolist() == [
        [1, 4, 1, 2],
        [3, 4, 1, 1],
        [STUFF_IDS, 0, 0, 2],
        [STUFF_IDS + 2, 2, 0, 1],
    ]


def test_the_three_tasks_show_the_same_scenes():
    seen = [task(split="test", size=64).batch([3, 8]) for task in (Semantic, Instances, Panoptic)]
    for other in seen[1:]:
        assert torch.equal(seen[0]["image"], other["image"]) and torch.equal(seen[0]["mask"], other["mask"])
    assert set(seen[0]) == {"image", "mask"}
    assert set(seen[2]) - set(seen[1]) == {"panoptic", "segments"}


def test_a_scene_depends_on_its_index_only():
    task = Panoptic(split="train", size=64)
    alone, together = task.batch([7]), task.batch([2, 7, 11, 7])
    for key in ("image", "mask", "instances"):
        assert torch.equal(alone[key][0], together[key][1])
        assert torch.equal(together[key][1], together[key][3])
    assert not torch.equal(alone["mask"][0], together["mask"][0])
    other = Panoptic(split="val", size=64).batch([7])
    assert not torch.equal(alone["mask"], other["mask"])


def test_the_same_scene_at_every_size():
    small, large = (Panoptic(split="val", size=size).batch(range(4)) for size in (64, 128))
    for a, b in zip(small["boxes"], large["boxes"], strict=True):
        assert len(a) == len(b) and (2 * a - b).abs().max() <= 3
    middle = large["mask"][:, ::2, ::2]
    assert (middle == small["mask"]).float().mean() > 0.95


def test_domains_change_the_look_and_nothing_else():
    batches = {domain: Instances(split="val", size=64, domain=domain).batch(range(8)) for domain in DOMAINS}
    day = batches.pop("day")
    for other in batches.values():
        assert torch.equal(day["mask"], other["mask"]) and torch.equal(day["instances"], other["instances"])
        assert (day["image"] - other["image"]).abs().mean() > 0.05
    with pytest.raises(ValueError, match="unknown domain 'night'; possible: day, dusk, print"):
        Semantic(domain="night")


def test_conditional_swaps_names_where_the_light_is_cool():
    plain, ruled = Semantic(split="val", size=64), Semantic(split="val", size=64, conditional=True)
    a, b = plain.batch(range(16)), ruled.batch(range(16))
    assert torch.equal(a["image"], b["image"])
    warm = [plain.scene(i).about["warm"] for i in range(16)]
    assert 3 < sum(warm) < 13
    turned = {"striped": "dotted", "dotted": "striped"}
    names = [" ".join(turned.get(word, word) for word in name.split()) for name in Semantic.classes]
    instead = torch.tensor([Semantic.classes.index(name) for name in names])
    for k in range(16):
        was, now = a["mask"][k], b["mask"][k]
        assert torch.equal(now, was if warm[k] else instead[was])
    assert any(not torch.equal(a["mask"][k], b["mask"][k]) for k in range(16))


def test_a_plain_probe_reads_the_light_from_the_mean_colour():
    task = Semantic(split="val", size=64)
    colour = task.batch(range(120))["image"].mean((2, 3)).double()
    warm = torch.tensor([task.scene(i).about["warm"] for i in range(120)]).double()
    inputs = torch.cat([colour, torch.ones(120, 1)], 1)
    weights = torch.linalg.lstsq(inputs[:60], 2 * warm[:60, None] - 1).solution
    right = ((inputs[60:] @ weights)[:, 0] > 0) == (warm[60:] > 0)
    assert right.double().mean() >= 0.95


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 2**62), st.sampled_from(["pretrain", "train", "test"]), st.sampled_from(sorted(DOMAINS))
)
def test_any_scene_is_sound(index, split, domain):
    scene = Semantic(split=split, domain=domain, conditional=True).scene(index)
    rows = scene.layers[scene.layers["instance"] > 0]
    assert 3 <= len(rows) <= 7 and 2 <= len(scene.layers) - len(rows) <= 3
    assert ((rows["radius"] * 128 >= 8) & (rows["radius"] * 128 <= 20.01)).all()  # diameters, of 64 pixels
    assert (np.diff(rows["depth"]) < 0).all()
    assert ((rows["label"] >= STUFF) & (rows["label"] < len(Semantic.classes))).all()
    assert (scene.layers["base"] >= 0).all() and np.isfinite(scene.layers["accent"]).all()
