"""What stands in a street: the same for ever, as often as planned, and without clues it should not give."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_lib.worlds.street import CASES, CLASSES, SENSORS, WEATHERS, Street
from moe_lib.worlds.street.solids import CLASS, SOLID, STYLE

# Share of the pixels, as calibrated: the layout is to keep every class within a fifth of it.
PLANNED_SHARES = dict(
    road=0.360, sky=0.245, building=0.146, car_moving=0.049, car_parked=0.044, vegetation=0.042,
    sidewalk=0.033, terrain=0.028, pole=0.017, road_marking=0.011, pedestrian=0.008, sign=0.008,
    billboard=0.004, fence=0.004,
)  # fmt: skip


@pytest.fixture(scope="module")
def scenes():
    task = Street(size=64)
    return [task.scene(index) for index in range(300)]


def all_solids(scenes, *styles):
    rows = np.concatenate([scene.solids for scene in scenes])
    return rows[np.isin(rows["style"], [STYLE[name] for name in styles])]


def test_a_scene_depends_on_its_name_alone(scenes):
    other = Street(size=128, weather="night", case="motion_blur", sensors=("rgb",), n=5)
    for index in (17, 3):
        again = other.scene(index)
        assert again.solids.tobytes() == scenes[index].solids.tobytes()
        assert np.array_equal(again.camera, scenes[index].camera) and np.array_equal(
            again.road, scenes[index].road
        )
    assert scenes[3].solids.tobytes() != scenes[4].solids.tobytes()
    assert Street(split="test").scene(3).solids.tobytes() != scenes[3].solids.tobytes()


def test_known_scene_has_not_changed(scenes):
    """A change here is a new world: raise WORLD in draws.py with it."""
    first = scenes[0]
    assert len(first.solids) == 100 and len(first.labels) == 38
    assert np.allclose(first.camera, [2.04053, 0.08091, 0.43749, 0.00367], atol=1e-4)


def test_instances_are_numbered_without_gaps_and_things_only(scenes):
    for scene in scenes[:50]:
        rows = scene.solids
        numbers = np.unique(rows["instance"]).astype(int)
        assert np.array_equal(numbers[numbers > 0], np.arange(len(scene.labels)) + 1)
        named = rows[rows["instance"] > 0]
        assert np.array_equal(scene.labels[named["instance"].astype(int) - 1], named["class"])
        stuff = {CLASS["building"], CLASS["fence"]}
        assert set(rows["class"][rows["instance"] == 0]) <= stuff and not set(named["class"]) & stuff


def test_a_car_is_one_thing_of_several_solids(scenes):
    rows = scenes[0].solids
    car = rows[rows["instance"] == rows["instance"][rows["style"] == STYLE["bodywork"]][0]]
    assert sorted(car["style"]) == sorted(STYLE[s] for s in ("bodywork", "cabin", "tyre", "tyre"))
    assert len(np.unique(car["velocity"], axis=0)) == 1


def test_class_shares_stay_as_planned():
    task = Street(size=64, sensors=("depth",), weather="cloud", case="none")
    count = torch.zeros(len(CLASSES))
    seen = torch.zeros(len(CLASSES))
    for start in range(0, 160, 40):
        mask = task.batch(range(start, start + 40))["mask"].flatten(1)
        here = torch.nn.functional.one_hot(mask, len(CLASSES)).sum(1)
        count += here.sum(0)
        seen += (here > 0).sum(0)
    shares = count / count.sum()
    for name, share in PLANNED_SHARES.items():
        assert shares[CLASS[name]] == pytest.approx(share, rel=0.2, abs=0.0006), name
    rare = seen / 160 < 0.85
    assert set(np.array(CLASSES)[rare.numpy()]) <= {"fence"}


def test_billboards_figures_and_cars_are_there(scenes):
    boards = all_solids(scenes, "car_advert", "person_advert")
    figures = all_solids(scenes, "head")
    figures = figures[figures["class"] == CLASS["billboard"]]
    assert len(boards) > 300 and len(figures) > 100
    assert (boards["class"] == CLASS["billboard"]).all()
    assert not figures["warmth"].any() and not figures["velocity"].any()


def test_moving_and_parked_cars_differ_by_motion_only(scenes):
    cars = all_solids(scenes, "bodywork")
    moving = cars["class"] == CLASS["car_moving"]
    assert moving.mean() == pytest.approx(0.5, abs=0.05)
    assert (np.abs(cars["velocity"][moving, 2]) >= 0.25).all() and not cars["velocity"][~moving].any()
    for what in (cars["warmth"], cars["warmth"] > 0, cars["albedo"].mean(1), cars["turn"][:, 0] > 0):
        gap = what[moving].mean() - what[~moving].mean()
        assert abs(gap) < 4 * np.std(what) * np.sqrt(2 / moving.sum())


def test_cars_on_one_side_do_not_touch(scenes):
    for scene in scenes:
        cars = scene.solids[scene.solids["style"] == STYLE["bodywork"]]
        for way in (-1, 1):
            z = np.sort(cars["centre"][np.sign(cars["turn"][:, 0]) == way, 2])
            assert (np.diff(z) > 4.4).all()


@settings(max_examples=60, deadline=None)
@given(index=st.integers(0, 2**40), split=st.sampled_from(["train", "val", "test", "pretrain"]))
def test_any_scene_is_sound(index, split):
    scene = Street(split=split, size=64).scene(index)
    rows = scene.solids
    assert rows.dtype == SOLID and np.isfinite(rows.view(np.float32)).all()
    assert (rows["half"] > 0).all() and 3 <= (rows["style"] == STYLE["bodywork"]).sum() <= 6
    assert np.allclose((rows["turn"] ** 2).sum(1), 1, atol=1e-6)
    assert ((rows["albedo"] >= 0) & (rows["albedo"] < 1)).all()
    assert np.linalg.norm(scene.sun) == pytest.approx(1) and scene.sun[1] > 0.3
    # The camera stands outside everything, also a window earlier.
    boxes = rows[rows["kind"] == 0]
    assert (np.abs(boxes["centre"][:, 0]) > boxes["half"][:, 0]).sum() + (
        boxes["centre"][:, 2] - boxes["half"][:, 2] > 0.5
    ).sum() >= len(boxes)


def test_weathers_and_cases_take_turns():
    task = Street()
    turns = [(task.conditions(i).weather, task.conditions(i).case) for i in range(80)]
    assert [weather for weather, _ in turns[:5]] == list(WEATHERS)
    for weather in WEATHERS:
        for case in CASES:
            assert turns.count((weather, case)) == (6 if case == "none" else 2)
    assert all(turns[i] == (scene.weather, scene.case) for i in (0, 33) for scene in [task.scene(i)])


def test_conditions_are_drawn_apart_from_the_scene():
    plain, foggy = (Street(weather=w, case="none").conditions(4) for w in ("cloud", "fog"))
    assert plain.seed == foggy.seed and plain.gain == foggy.gain
    assert plain.extinction == 0 and 0.03 <= foggy.extinction <= 0.09
    assert Street(weather="night", case="none").conditions(4).full_well == 60
    assert Street(weather="night", case="none", night="spec").conditions(4).gain == 3.5
    over, under = (Street(weather="cloud", case=c).conditions(4) for c in ("over_exposure", "under_exposure"))
    assert 3 <= over.gain / plain.gain <= 6 and 0.05 <= under.gain / plain.gain <= 0.12


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"weather": "snow"}, "weather is one of None, sun"),
        ({"case": "blur"}, "case is one of"),
        ({"sensors": ("rgb", "radar")}, "radar"),
        ({"sensors": "rgb"}, "sensors is a tuple"),
        ({"sensors": ()}, "sensors is a tuple"),
        ({"sensors": ("rgb", "rgb")}, "named twice"),
        ({"depth_mode": "mono"}, "depth_mode is one of exact, stereo"),
        ({"night": "soft"}, "night is one of hard, spec"),
        ({"instants": 1}, "2 to 16 instants"),
        ({"samples": 9}, "1 to 4"),
    ],
)
def test_wrong_options_are_named(options, says):
    with pytest.raises(ValueError, match=says):
        Street(**options)


def test_options_are_recorded():
    assert Street(sensors=["rgb"]).sensors == ("rgb",)
    assert Street(weather="fog").options()["weather"] == "fog" and Street().sensors == SENSORS
