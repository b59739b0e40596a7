"""The kinds of things and how they are put into a scene."""

import numpy as np
import pytest
import torch
from objects_checks import CPU, alone, draws

from moe_lib.worlds import layers, skins
from moe_lib.worlds.assembly import EYE, PAINTS, SKIN, TRIM, Stage, limbs, spot
from moe_lib.worlds.objects import KINDS

GREY = layers.layer(base=0.5, accent=0.5)
every = pytest.mark.parametrize("name", KINDS)


def put(parts, size=64, *, light=(0, 0, 1), **place) -> tuple[layers.Scene, dict]:
    stage = Stage()
    stage.add(label=0, base=0.2, accent=0.2)
    place = {"centre": (0.5, 0.5), "radius": 0.4, "instance": 1, "depth": 0.5} | place
    stage.put(parts, GREY, GREY, **place)
    scene = stage.scene(light=light)
    return scene, layers.render([scene], size, CPU)


def test_there_are_at_least_twelve_kinds():
    assert len(KINDS) >= 12


@every
def test_a_kind_is_one_instance_that_fills_its_circle(name):
    for index in range(4):
        scene, painted = put(KINDS[name](draws(index)))
        seen = painted["instances"][0] == 1
        y, x = np.nonzero(seen.numpy())
        away = np.hypot((x + 0.5) / 64 - 0.5, (y + 0.5) / 64 - 0.5) / 0.4
        assert 0.6 < away.max() < 1.45
        assert 0.04 < seen.float().mean() < 0.6
        assert torch.equal(painted["label"][0] == 1, seen)
        assert painted["silhouettes"].tolist() == [[int(seen.sum())]]
        assert torch.equal(alone(scene, 1, 64), seen)


@every
def test_a_kind_varies_and_has_few_layers(name):
    shapes = [alone(put(KINDS[name](draws(i)))[0], 1, 64) for i in range(5)]
    assert len(torch.stack(shapes).flatten(1).unique(dim=0)) >= 4
    assert all(len(KINDS[name](draws(i))) <= 4 for i in range(20))


def test_details_own_nothing_and_stay_on_their_thing():
    parts = [limbs(SKIN, (0, 0, 0.1, 0, 0.4, 0.4)), spot(EYE, 0.5, 0, 0.3)]
    with_eye, without = put(parts)[1], put(parts[:1])[1]
    for key in ("label", "instances", "silhouettes"):
        assert torch.equal(with_eye[key], without[key])
    change = (with_eye["radiance"] - without["radiance"]).abs().amax(1)[0]
    thing = without["instances"][0] == 1
    assert change[thing].max() > 0.2 and change[~thing].max() == 0


def test_mirrored_and_turned():
    parts = KINDS["snail"](draws())
    plain = put(parts)[1]["instances"][0]
    assert torch.equal(put(parts, mirrored=True)[1]["instances"][0], plain.flip(1))
    half = put(parts, angle=np.pi)[1]["instances"][0]
    assert (half == plain.flip(0, 1)).float().mean() > 0.995
    moved = put(parts, centre=(0.5 + 8 / 64, 0.5))[1]["instances"][0]
    assert (moved[:, 8:] == plain[:, :-8]).float().mean() > 0.995


def test_things_keep_their_own_strokes():
    """Each of two things with strokes is drawn with its own."""
    stage = Stage()
    stage.add(label=0)
    for number, x in ((1, 0.25), (2, 0.75)):
        bars = [limbs(SKIN, (0, -1 if number == 2 else 0, 0, 1, 0.3, 0.3))]
        stage.put(bars, GREY, GREY, centre=(x, 0.5), radius=0.2, instance=number, depth=0.5)
    picture = layers.render([stage.scene()], 64, CPU)["instances"][0]
    assert set(picture[:, :32].unique().tolist()) == {0, 1} and set(picture[:, 32:].unique().tolist()) == {
        0,
        2,
    }
    assert (picture == 2).sum() > 1.4 * (picture == 1).sum()


def test_only_the_bulk_casts_a_shadow():
    parts = [limbs(TRIM, (0, 0, 0, 1, 0.05, 0.05)), *KINDS["stone"](draws())]
    rows = put(parts, cast=(0.05, 0.05, 0.5))[0].layers
    assert (rows["cast"][:, 2] > 0).tolist() == [False, False, True]


def test_paints_are_left_alone():
    before = PAINTS.copy()
    put(KINDS["bird"](draws()))
    assert np.array_equal(PAINTS, before)


def test_skins_are_various_and_displayable():
    rows = skins.skins(draws(), 400)
    for name in ("base", "accent"):
        assert rows[name].min() >= 0 and rows[name].max() <= 1
    plain = ~rows["wave1"][:, :2].any(1) & (rows["ring"] == 0)
    rings, checks = rows["ring"] > 0, rows["wave2"][:, :2].any(1)
    for share in (plain, rings, checks):
        assert 0.08 < share.mean() < 0.4
    assert not skins.skins(draws(), 200, rings=False)["ring"].any()
    calm, loud = (
        np.abs(r["base"] - r["accent"]).mean() for r in (skins.skins(draws(), 400, calm=True), rows)
    )
    assert calm < 0.8 * loud


def test_colours_by_hue():
    seen = skins.colours(np.array([0, 1 / 3, 2 / 3, 0.1]), np.array([1, 1, 1, 0]), np.array([1, 1, 1, 0.5]))
    assert seen == pytest.approx(np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [0.5**2.2] * 3]), abs=1e-6)


def test_shadows_fall_away_from_the_light():
    for index in range(5):
        lit = skins.lighting(draws(index))
        dx, dy, dark = skins.shadow(lit, 0.1)
        x, y, _ = lit["light"]
        assert dx * x + dy * y < 0 and 0 < dark < 1
