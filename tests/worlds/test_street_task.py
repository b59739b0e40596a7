"""The task: batch form, boxes and visible shares, merged classes, missing sensors."""

import pytest
import torch

from moe_lib.worlds.street import CLASSES, SENSORS, Street, keep_sensors
from moe_lib.worlds.street.solids import CLASS
from moe_lib.worlds.tasks import boxes_of


@pytest.fixture(scope="module")
def batch():
    return Street(size=64).batch(range(6))


def test_batch_form(batch):
    assert batch["image"].shape == (6, 3, 64, 64) and batch["image"].dtype == torch.float32
    assert batch["mask"].shape == (6, 64, 64) and batch["mask"].dtype == torch.int64
    assert batch["instances"].dtype == torch.int64 and batch["depth"].dtype == torch.float32
    assert (
        batch["weather"] == ["sun", "cloud", "fog", "rain", "night", "sun"] and batch["case"] == ["none"] * 6
    )
    assert batch["mask"].min() >= 0 and batch["mask"].max() < len(CLASSES)
    assert all(len(batch[name]) == 6 for name in ("boxes", "labels", "visible"))
    assert all(
        box.dtype == share.dtype == torch.float32
        for box, share in zip(batch["boxes"], batch["visible"], strict=True)
    )
    one = Street(size=64)[4]
    assert one["weather"] == "night" and torch.equal(one["mask"], batch["mask"][4])
    assert torch.equal(one["boxes"], batch["boxes"][4])


def test_boxes_are_tight(batch):
    for instances, boxes in zip(batch["instances"], batch["boxes"], strict=True):
        assert torch.equal(boxes, boxes_of(instances, len(boxes)))


def test_labels_are_the_classes_of_the_instances(batch):
    for mask, instances, labels in zip(batch["mask"], batch["instances"], batch["labels"], strict=True):
        thing = instances > 0
        assert torch.equal(labels[instances[thing] - 1], mask[thing])
        stuff = [
            CLASS[n] for n in ("road", "road_marking", "sidewalk", "terrain", "building", "fence", "sky")
        ]
        assert torch.equal(thing, ~torch.isin(mask, torch.tensor(stuff)))


def test_visible_share_is_consistent(batch):
    for instances, visible in zip(batch["instances"], batch["visible"], strict=True):
        pixels = torch.bincount(instances.flatten(), minlength=len(visible) + 1)[1:]
        assert torch.equal(visible > 0, pixels > 0)
        assert visible.max() <= 1 and visible.min() >= 0
    shares = torch.cat(batch["visible"])
    assert (shares == 1).any() and ((shares > 0) & (shares < 0.9)).any()


def test_what_stands_alone_is_wholly_visible():
    task = Street(size=64, sensors=("depth",))
    scene = task.scene(0)
    labels = scene.labels
    # Take away all but one instance and the share of it that is seen can only be all of it.
    kept = int((task.batch([0])["visible"][0] > 0).nonzero()[0]) + 1
    solids = scene.solids[scene.solids["instance"] == kept].copy()
    solids["instance"] = 1
    alone = type(scene)(
        solids, labels[kept - 1 : kept], scene.road, scene.camera, scene.sun, scene.lamps, scene.conditions
    )
    batch = task.render([alone], torch.device("cpu"))
    assert batch["visible"][0].tolist() == [1.0]


def test_same_call_same_bits(batch):
    again = Street(size=64).batch(range(6))
    assert torch.equal(again["image"], batch["image"])
    assert all(torch.equal(again["sensors"][name], batch["sensors"][name]) for name in SENSORS)


def test_a_scene_looks_the_same_in_any_batch(batch):
    alone = Street(size=64).batch([3])
    for name in SENSORS:
        off = (alone["sensors"][name][0] - batch["sensors"][name][3]).abs()
        assert (off > 1.5 / 255).float().mean() < 1e-3, name


def test_more_rays_smooth_the_picture_and_nothing_else():
    one, four = (Street(size=64, weather="cloud", case="none", samples=s).batch([1]) for s in (1, 2))
    assert torch.equal(one["mask"], four["mask"])
    assert torch.equal(one["sensors"]["event"], four["sensors"]["event"])
    off = (one["image"] - four["image"]).abs().mean()
    assert 0.002 < off < 0.05
    rough = [(b["image"][..., 1:] - b["image"][..., :-1]).abs().mean() for b in (one, four)]
    assert rough[1] < rough[0]


def test_merged_cars():
    plain, merged = Street(size=64), Street(size=64, merge_moving=True)
    assert len(merged.classes) == 13 and "car" in merged.classes and len(Street.classes) == 14
    before, after = plain.batch([0, 1]), merged.batch([0, 1])
    names = [merged.classes[k] for k in range(13)]
    for old, new in zip(
        before["mask"].unique().tolist(),
        [after["mask"][before["mask"] == k].unique() for k in before["mask"].unique()],
        strict=True,
    ):
        expected = "car" if CLASSES[old].startswith("car_") else CLASSES[old]
        assert [names[int(k)] for k in new] == [expected]
    assert {names[int(k)] for k in after["labels"][0]} <= set(names)
    assert torch.equal(before["instances"], after["instances"])


def test_keep_sensors_drop_and_zero(batch):
    dropped = keep_sensors(batch, ["depth", "event"])
    assert list(dropped["sensors"]) == ["depth", "event"] and "image" not in dropped
    zeroed = keep_sensors(batch, ["depth", "event"], missing="zero")
    assert list(zeroed["sensors"]) == list(SENSORS)
    assert not zeroed["sensors"]["rgb"].any() and not zeroed["image"].any()
    assert torch.equal(zeroed["sensors"]["event"], batch["sensors"]["event"])
    assert batch["image"].any() and set(batch["sensors"]) == set(SENSORS)  # the batch given is left as it was
    assert "image" in keep_sensors(batch, ["rgb"])


@pytest.mark.parametrize(
    ("kept", "missing", "says"),
    [
        (["radar"], "drop", "radar"),
        ([], "drop", "kept is"),
        ("rgb", "drop", "kept is"),
        (["rgb"], "fill", "'zero'"),
    ],
)
def test_keep_sensors_checks_what_it_is_given(batch, kept, missing, says):
    with pytest.raises(ValueError, match=says):
        keep_sensors(batch, kept, missing)
