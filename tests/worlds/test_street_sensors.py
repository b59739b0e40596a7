"""Every sensor shows what it should, and every condition touches what it may touch and nothing else."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from moe_lib.worlds.street import CASES, SENSORS, WEATHERS, Street
from moe_lib.worlds.street import sensors as sensing
from moe_lib.worlds.street.conditions import TOUCHES
from moe_lib.worlds.street.solids import CLASS, STYLE
from moe_lib.worlds.street.view import View

CPU = torch.device("cpu")


def seen(scene, instants=(-1.0, 0.0), size=64):
    return View([scene], size, instants, CPU)


def events(scene, instants=(-1.0, 0.0)):
    view = seen(scene, instants)
    return view.sense("event", torch.zeros(1, 3, 64, 64), noisy=False)[0]


def still(scene):
    """The same scene without any motion, of the camera or of what it sees."""
    solids = scene.solids.copy()
    solids["velocity"] = 0
    return replace(scene, solids=solids, camera=scene.camera * (1, 1, 0, 0))


@pytest.mark.parametrize("weather", WEATHERS)
def test_no_motion_and_no_noise_means_no_events(weather):
    scene = Street(weather=weather, case="none").scene(8)
    assert events(scene).any()
    assert not events(still(scene), (-1.0, -0.5, 0.0)).any()


def test_events_change_sign_with_the_direction_of_motion():
    scene = still(Street(weather="cloud", case="none").scene(8))
    cars = scene.solids["style"] == STYLE["bodywork"]
    there, back = scene.solids.copy(), scene.solids.copy()
    there["velocity"][cars, 0], back["velocity"][cars, 0] = 0.4, -0.4
    back["centre"][cars, 0] -= 0.4  # starts where the other ends
    there, back = (events(replace(scene, solids=solids)) for solids in (there, back))
    assert there[0].sum() > 5 and there[1].sum() > 5
    assert (there[[1, 0]] == back[:2]).float().mean() > 0.999


def test_event_channels_agree():
    event = Street(size=64, sensors=("event",)).batch(range(5))["sensors"]["event"]
    assert torch.equal(event[:, 2] > 0, event[:, :2].amax(1) > 0)
    quarters = event[:, :2] * 4
    assert (quarters - quarters.round()).abs().max() < 0.02


def test_lidar_without_noise_is_the_range_at_its_rays():
    view = seen(Street(weather="cloud", case="none").scene(3))
    picture = view.sense("lidar", torch.zeros(1, 3, 64, 64), noisy=False)[0]
    distance = view.surface.distance[-1]
    sent = sensing.beams(64, CPU)
    back = sent & (distance > 0) & (distance < 60)
    assert torch.equal(picture[2] > 0, back)
    assert (picture[0] - 8 / (8 + distance))[back].abs().max() <= 0.5 / 255 + 1e-6
    assert not picture[:, ~back].any()


@pytest.mark.parametrize("size", [64, 96, 128])
def test_lidar_is_sparse(size):
    sent = sensing.beams(size, CPU)
    assert sent.any(1).sum() == sensing.BEAMS and 0.08 < sent.float().mean() < 0.2


def test_depth_sensor_shows_exact_depth():
    batch = Street(size=64, sensors=("depth",), weather="night", case="none").batch([0, 1])
    shown, depth = batch["sensors"]["depth"], batch["depth"]
    assert torch.equal(shown[:, 2] > 0, depth > 0)
    assert torch.equal(depth > 0, batch["mask"] != CLASS["sky"])
    assert (shown[:, 0] - 8 / (8 + depth))[depth > 0].abs().max() <= 0.5 / 255 + 1e-6


def test_stereo_depth_fails_far_away_and_at_night():
    def errors(weather):
        stereo = Street(size=64, sensors=("depth",), depth_mode="stereo", weather=weather, case="none").batch(
            range(6)
        )
        exact = stereo["depth"]
        shown = stereo["sensors"]["depth"]
        valid = shown[:, 2] > 0
        off = (shown[:, 0] - 8 / (8 + exact)).abs()
        return (
            valid[exact > 0].float().mean(),
            off[valid & (exact < 8)].mean(),
            off[valid & (exact > 20)].mean(),
        )

    found, near, far = errors("cloud")
    assert 0.3 < found < 0.97 and far > 2 * near
    assert errors("fog")[0] < found


def test_people_are_warm_and_figures_are_not():
    task = Street(size=96, weather="night", case="none", sensors=("thermal",))
    people, figures, walls = [], [], []
    for start in range(0, 40, 8):
        batch = task.batch(range(start, start + 8))
        for b, scene in enumerate(task.scene(i) for i in range(start, start + 8)):
            heat = batch["sensors"]["thermal"][b, 0]
            of_figure = scene.solids["style"] == STYLE["cloth"]
            standing = set(scene.solids["instance"][of_figure].astype(int))
            walls.append(heat[batch["mask"][b] == CLASS["building"]].mean())
            for number in standing:
                here = batch["instances"][b] == number
                if here.sum() >= 12:
                    label = int(batch["labels"][b][number - 1])
                    (people if label == CLASS["pedestrian"] else figures).append(heat[here].mean())
    people, figures, walls = (torch.stack(found).nanmean() for found in (people, figures, walls))
    assert people > walls + 0.15 and abs(figures - walls) < 0.08


def test_a_hot_sun_hides_people_from_the_thermal_camera():
    def contrast(weather):
        batch = Street(size=96, weather=weather, case="none", sensors=("thermal",)).batch(range(16))
        heat, mask = batch["sensors"]["thermal"][:, 0], batch["mask"]
        other = (mask == CLASS["building"]) | (mask == CLASS["road"]) | (mask == CLASS["sidewalk"])
        people = heat[mask == CLASS["pedestrian"]].mean()
        return ((people - heat[other].mean()).abs() / heat[other].std()).item()

    contrasts = {weather: contrast(weather) for weather in ("sun", "night", "fog")}
    assert contrasts["sun"] < 0.5 * min(contrasts["night"], contrasts["fog"])


def test_same_labels_in_every_weather_but_other_pictures():
    batches = {w: Street(size=64, weather=w, case="none").batch([2, 5]) for w in WEATHERS}
    for weather in WEATHERS[1:]:
        for name in ("mask", "instances", "depth"):
            assert torch.equal(batches["sun"][name], batches[weather][name])
        assert all(map(torch.equal, batches["sun"]["visible"], batches[weather]["visible"]))
        change = (batches["sun"]["image"] - batches[weather]["image"]).abs().mean()
        assert change > 0.03, weather
    for weather in ("fog", "rain"):
        assert not torch.equal(batches["cloud"]["sensors"]["lidar"], batches[weather]["sensors"]["lidar"])
    assert torch.equal(batches["fog"]["sensors"]["depth"], batches["sun"]["sensors"]["depth"])


@pytest.mark.parametrize("case", CASES[1:])
def test_a_case_touches_its_own_sensor_only(case):
    plain = Street(size=64, weather="cloud", case="none").batch([4])
    spoilt = Street(size=64, weather="cloud", case=case).batch([4])
    for name in SENSORS:
        same = torch.equal(plain["sensors"][name], spoilt["sensors"][name])
        assert same == (name != TOUCHES[case]), name
    assert torch.equal(plain["mask"], spoilt["mask"]) and torch.equal(plain["depth"], spoilt["depth"])
    assert spoilt["case"] == [case] and plain["weather"] == spoilt["weather"] == ["cloud"]


def test_exposure_and_blur_do_what_their_names_say():
    image = {c: Street(size=64, weather="cloud", case=c).batch([1, 9])["image"] for c in CASES}
    assert image["over_exposure"].mean() > image["none"].mean() + 0.1
    assert image["under_exposure"].mean() < 0.6 * image["none"].mean()
    step = {c: (i[..., 1:] - i[..., :-1]).abs().mean() for c, i in image.items()}
    assert step["motion_blur"] < 0.7 * step["none"]


def test_coarse_events_come_in_squares_of_four():
    event = Street(size=64, case="event_low_res", sensors=("event",)).batch([0])["sensors"]["event"][0]
    assert torch.equal(event, event[:, ::4, ::4].repeat_interleave(4, 1).repeat_interleave(4, 2))


def test_jittered_lidar_shows_another_place():
    scene = Street(case="lidar_jitter", weather="cloud").scene(0)
    shift = replace(scene.conditions, jitter=(0.0, 4 / 64))
    straight = replace(scene.conditions, jitter=(0.0, 0.0))
    moved, plain = (
        seen(replace(scene, conditions=c)).sense("lidar", torch.zeros(1, 3, 64, 64), noisy=False)[0]
        for c in (shift, straight)
    )
    assert torch.equal(moved[:, :, 4:], plain[:, :, :-4]) and not moved[:, :, :4].any()


def test_only_what_is_asked_for_is_rendered():
    full = Street(size=64).batch([7])
    part = Street(size=64, sensors=("lidar", "rgb")).batch([7])
    assert list(part["sensors"]) == ["lidar", "rgb"] and set(full["sensors"]) == set(SENSORS)
    for name in ("lidar", "rgb"):
        assert torch.allclose(part["sensors"][name], full["sensors"][name], atol=1.5 / 255)


def test_pictures_have_256_levels_and_no_gaps_in_range():
    batch = Street(size=64).batch(range(10))
    for name, picture in batch["sensors"].items():
        assert picture.shape == (10, 3, 64, 64) and picture.dtype == torch.float32
        assert picture.min() >= 0 and picture.max() <= 1 and picture.isfinite().all(), name
        if name != "rgb":  # the camera's own levels are those of its luma and chroma
            assert np.allclose(picture * 255, (picture * 255).round(), atol=1e-3)
    assert torch.equal(batch["image"], batch["sensors"]["rgb"])
