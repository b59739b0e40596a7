"""The referring task: what it shows agrees with what it says, and its splits hold what they promise."""

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_lib.worlds import layers
from moe_lib.worlds.language import FORMS, POLICIES, denoted, forbidden_words, success, tokenise
from moe_lib.worlds.referring import DIALECTS, HELD_OUT, PARTS, Referring

N = 960  # expressions; a multiple of 2 · 4 · 12: pairs, kinds, and 2, 3 or 4 forms of a kind


def told(task, count, start=0):
    """Text, objects, referent's place and form of so many indices."""
    found = []
    for index in range(start, start + count):
        about = task.scene(index).about
        found.append((about["text"], about["things"], about["referent"] - 1, about["form"]))
    return found


@pytest.fixture(scope="module")
def ref():
    return told(Referring(split="val"), N)


def test_kinds_and_forms_are_equally_many(ref):
    kinds = Counter(FORMS[form] for *_, form in ref)
    assert set(kinds) == {"attribute", "absolute", "relation", "context"} and len(set(kinds.values())) == 1
    forms = Counter(form for *_, form in ref)
    for kind in kinds:
        counts = [forms[form] for form in FORMS if FORMS[form] == kind]
        assert max(counts) - min(counts) <= 2


def test_the_referee_agrees(ref):
    for text, things, meant, _ in ref:
        assert denoted(text, things) == denoted(text, things, loose=True) == [meant]


@pytest.mark.parametrize(
    "name", [n for n in POLICIES if n not in ("head phrase", "any mentioned phrase", "bag of words")]
)
def test_a_policy_that_ignores_part_of_the_sentence_fails_on_every_kind(ref, name):
    for kind in ("attribute", "absolute", "relation", "context"):
        cases = [case[:3] for case in ref if FORMS[case[3]] == kind]
        assert success(POLICIES[name], cases) <= 0.40, kind


@pytest.mark.parametrize("name", ["head phrase", "any mentioned phrase", "bag of words"])
def test_knowing_the_attributes_is_not_enough(ref, name):
    cases = [case[:3] for case in ref if FORMS[case[3]] != "attribute"]
    assert success(POLICIES[name], cases) <= 0.40


def test_referents_are_everywhere_alike(ref):
    """Over the nine ninths of the picture, colours, shapes, and the numbers of the instances."""
    objects = [(things[meant], meant, len(things)) for _, things, meant, _ in ref]
    ninths = Counter((int(3 * it.x), int(3 * it.y)) for it, *_ in objects)
    counts = np.array([ninths[x, y] for x in range(3) for y in range(3)])
    classes = np.array([counts[[0, 2, 6, 8]].mean(), counts[[1, 3, 5, 7]].mean(), counts[4]]) / counts.mean()
    chance = 3 / np.sqrt(N / 9) * np.array([0.5, 0.5, 1])
    assert (np.abs(classes - 1) < np.maximum(0.1, chance)).all(), classes
    for values in zip(*((it.colour, it.shape) for it, *_ in objects), strict=True):
        counts = np.array(list(Counter(values).values()))
        assert len(counts) == 6 and np.abs(counts / counts.mean() - 1).max() < 0.25
    place = np.mean([meant / (count - 1) for _, meant, count in objects])
    assert abs(place - 0.5) < 0.04


def test_pairs_share_a_picture_and_differ_in_a_word_and_a_referent():
    task = Referring(split="test", size=64)
    batch = task.batch(range(12))
    for first in range(0, 12, 2):
        assert task.pair(first) == first + 1 and task.pair(first + 1) == first
        one, two = batch["text"][first].split(), batch["text"][first + 1].split()
        assert len(one) == len(two) and sum(a != b for a, b in zip(one, two, strict=True)) == 1
        for key in ("image", "instances"):
            assert torch.equal(batch[key][first], batch[key][first + 1])
        assert not (batch["mask"][first] & batch["mask"][first + 1]).any()
        assert not torch.equal(batch["image"][first], batch["image"][(first + 2) % 12])


def test_masks_boxes_and_objects_agree():
    task = Referring(split="val", size=96)
    batch = task.batch(range(0, 48, 2))
    for k, index in enumerate(range(0, 48, 2)):
        about = task.scene(index).about
        instances, boxes = batch["instances"][k], batch["boxes"][k]
        assert batch["referent"][k] == about["referent"] and batch["form"][k] == about["form"]
        assert batch["kind"][k] == FORMS[about["form"]] and batch["text"][k] == about["text"]
        assert torch.equal(batch["mask"][k], (instances == batch["referent"][k]).long())
        assert len(boxes) == len(about["things"])
        assert (batch["visible"][k] == 1).all(), "objects do not overlap and lie in the picture"
        for number, (thing, box) in enumerate(zip(about["things"], boxes.numpy() / 96, strict=True), start=1):
            middle = (box[:2] + box[2:]) / 2
            assert np.abs(middle - (thing.x, thing.y)).max() < 0.25 * thing.radius + 0.02
            assert 1.3 * thing.radius < (box[2:] - box[:2]).max() < 2.25 * thing.radius + 0.02
            at = int(thing.y * 96), int(thing.x * 96)
            assert (instances[at] == number) == (thing.shape != "ring")  # a ring's middle is ground
    assert tokenise(batch["text"]).shape == (24, 16)


def test_a_ring_is_a_ring():
    rows = np.repeat(layers.layer(label=1, instance=1, radius=0.4)[None], 2)
    rows["hole"] = 0, 0.5
    rows["centre"][1] = rows["centre"][0] = 0.5
    full, ring = (
        layers.render([layers.Scene(row[None])], 128, torch.device("cpu"))["instances"][0] for row in rows
    )
    ys, xs = np.mgrid[:128, :128]
    away = np.hypot((xs + 0.5) / 128 - 0.5, (ys + 0.5) / 128 - 0.5)
    for picture, inside in ((full, away < 0.4), (ring, (away < 0.4) & (away > 0.2))):
        assert np.mean(picture.numpy() != inside) < 0.01


def test_striped_and_plain_look_so():
    """Along an object's middle the light changes much if it is striped, and little if it is plain."""
    change = {"striped": [], "plain": []}
    task = Referring(split="val", size=128)
    batch = task.batch(range(0, 40, 2))
    for k, index in enumerate(range(0, 40, 2)):
        for number, thing in enumerate(task.scene(index).about["things"], start=1):
            inside = batch["instances"][k] == number
            if thing.size == "big" and thing.shape in ("circle", "square"):
                change[thing.fill].append(float(batch["image"][k].mean(0)[inside].std()))
    assert np.mean(change["striped"]) > 1.5 * np.mean(change["plain"])


def test_plus_has_no_word_of_place():
    cases = told(Referring(split="val", dialect="plus"), 160)
    assert not any(forbidden_words(text) for text, *_ in cases)
    assert {FORMS[form] for *_, form in cases} == {"attribute", "context"}
    assert {form for *_, form in cases} == {"phrase", "thing", "only", "next", "superlative", "far", "same"}


def test_refg_is_long():
    cases = told(Referring(split="val", dialect="refg"), 120)
    lengths = [len(text.split()) for text, *_ in cases]
    assert min(lengths) >= 8 and max(lengths) <= 14
    kinds = Counter(FORMS[form] for *_, form in cases)
    assert kinds == {"two-hop": 60, "relation": 60}
    hops = [case[:3] for case in cases if case[3] == "two-hop"]
    for name in ("head phrase", "nearest word", "shape only", "bag of words"):
        assert success(POLICIES[name], hops) <= 0.45


@pytest.mark.parametrize("part", ["testA", "testB"])
def test_parts_refer_to_their_shapes(part):
    cases = told(Referring(split="test", part=part), 120)
    assert {things[meant].shape for _, things, meant, _ in cases} == set(PARTS[part])


def test_held_out_pairs_are_referred_to_only_when_asked_for(ref):
    assert len(HELD_OUT) == len({c for c, _ in HELD_OUT}) == len({s for _, s in HELD_OUT}) == 6
    usual = {(things[meant].colour, things[meant].shape) for _, things, meant, _ in ref}
    assert usual.isdisjoint(HELD_OUT) and len(usual) == 30
    cases = told(Referring(split="test", held_out=True), 96)
    assert {(things[meant].colour, things[meant].shape) for _, things, meant, _ in cases} == HELD_OUT


def test_a_scene_depends_on_its_index_only():
    task = Referring(split="train", size=64)
    together = task.batch([2, 9, 4])
    alone = Referring(split="train", size=64, n=7).batch([9])
    assert alone["text"][0] == together["text"][1]
    for key in ("image", "mask", "instances", "referent"):
        assert torch.equal(alone[key][0], together[key][1])
    large = Referring(split="train", size=128).batch([9])
    assert large["text"] == alone["text"]
    assert (large["mask"][:, ::2, ::2] == alone["mask"]).float().mean() > 0.98


def test_splits_parts_and_dialects_are_disjoint():
    tasks = [Referring(split=split) for split in ("pretrain", "train", "val", "test")]
    tasks += [Referring(split="test", dialect=d) for d in DIALECTS if d != "ref"]
    tasks += [Referring(split="test", part="testA"), Referring(split="test", held_out=True)]
    scenes = [tuple(task.situation(index).things) for task in tasks for index in range(0, 16, 2)]
    assert len(set(scenes)) == len(scenes)


def test_unknown_options_are_refused():
    with pytest.raises(ValueError, match="unknown dialect 'long'; possible: ref, plus, refg"):
        Referring(dialect="long")
    with pytest.raises(ValueError, match="unknown part 'testC'; possible: all, testA, testB"):
        Referring(part="testC")


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 2**40), st.sampled_from(["pretrain", "train", "test"]), st.sampled_from(["ref", "plus"]),
    st.sampled_from(sorted(PARTS)),
)  # fmt: skip
def test_any_scene_is_sound(index, split, dialect, part):
    scene = Referring(split=split, dialect=dialect, part=part).scene(index)
    rows = scene.layers[scene.layers["instance"] > 0]
    about = scene.about
    assert rows["instance"].tolist() == list(range(1, len(about["things"]) + 1))
    assert denoted(about["text"], about["things"]) == [about["referent"] - 1]
    assert len(about["text"].split()) <= 14
    assert np.isfinite(scene.layers["base"]).all() and (scene.layers["base"] >= 0).all()
