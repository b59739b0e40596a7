"""The layered renderer: colour, light, shadow and glass."""

import pytest
import torch
from painting import paint

from moe_lib.worlds.layers import layer


def test_a_plain_layer_is_flat_grey():
    assert (paint(layer())["radiance"] == 0.5).all()


@pytest.mark.parametrize("light", [(0, 0, 1), (-0.7, 0.4, 0.5), (0.9, 0.9, 0.3)])
def test_a_flat_surface_is_as_bright_whatever_the_light(light):
    painted = paint(layer(base=0.4), layer(radius=0.2, dome=0.9, label=1), light=light)
    torch.testing.assert_close(painted["radiance"][:, :5], torch.full((3, 5, 64), 0.4))


@pytest.mark.parametrize("way", [(-1, 0), (1, 0), (0, -1), (0, 1)])
def test_a_dome_is_bright_towards_the_light(way):
    painted = paint(layer(radius=0.4, dome=0.9, label=1), light=(*way, 0.7))["radiance"][0]
    x, y = (int(32 + 15 * w) for w in way)
    assert painted[y, x] > 1.3 * painted[63 - y, 63 - x]
    hollow = paint(layer(radius=0.4, dome=-0.9, label=1), light=(*way, 0.7))["radiance"][0]
    assert hollow[y, x] < 0.8 * hollow[63 - y, 63 - x]


def test_a_domed_stroke_is_round_across_its_own_middle_line():
    tube = [((0.2, 0.7), (0.8, 0.7), (0.1, 0.1))]
    painted = paint(layer(strokes=(0, 1), dome=0.9, label=1), strokes=tube, light=(0, -1, 0.7))["radiance"][0]
    above, below = painted[40, 20:44], painted[49, 20:44]
    assert (above > 1.3 * below).all() and above.std() < 0.01


def test_gloss_shines_where_the_surface_faces_the_light():
    painted = paint(layer(base=0.2, radius=0.4, dome=0.9, gloss=0.8, label=1), light=(0, 0, 1))["radiance"][0]
    assert painted[32, 32] == pytest.approx(1.0, abs=0.02) and painted[32, 9] < 0.2


def test_relief_varies_brightness_but_not_its_mean():
    painted = paint(layer(base=0.4, relief=0.4), light=(-0.5, -0.5, 0.7), size=128)["radiance"][0]
    assert painted.std() > 0.01 and painted.mean() == pytest.approx(0.4, abs=0.03)


def test_multiply_tints_what_is_below():
    ground = layer(base=(0.8, 0.4, 0.2), accent=(0.1, 0.5, 0.9), wave1=(4, 2, 0))
    shade = layer(radius=0.3, base=(0.5, 0.25, 0.75), multiply=1)
    bare, shaded = paint(ground)["radiance"], paint(ground, shade)["radiance"]
    core, rim = slice(20, 44), slice(0, 8)
    torch.testing.assert_close(
        shaded[:, core, core] / bare[:, core, core],
        torch.tensor([0.5, 0.25, 0.75]).view(3, 1, 1).expand(3, 24, 24),
    )
    assert torch.equal(shaded[:, rim], bare[:, rim])


def test_opacity_and_soft_edges_blend():
    ground, disc = layer(base=0.0), layer(radius=0.25, base=1.0, opacity=0.6, soft=0.2)
    row = paint(ground, disc, size=128)["radiance"][0, 64]
    assert row[64] == pytest.approx(0.6, abs=1e-5) and row[0] == 0
    assert row[64 + 32] == pytest.approx(0.3, abs=0.02)  # half way on the edge itself
    assert (row[64:].diff() <= 1e-6).all() and ((row > 0.05) & (row < 0.55)).sum() > 20


def test_a_shadow_falls_where_it_is_cast():
    ground = layer(base=0.8, label=0)
    box = {"radius": 0.12, "centre": (0.4, 0.4), "base": 0.3, "label": 1}
    bare, cast = (
        paint(ground, layer(**box, cast=shadow))["radiance"][0] for shadow in ((0, 0, 0), (0.15, 0.15, 0.5))
    )
    assert cast[38, 38] == pytest.approx(0.4, abs=0.02)
    assert cast[25, 25] == bare[25, 25] and cast[12, 12] == bare[12, 12]  # neither on the box nor before it
    assert (cast <= bare).all() and cast[0, 0] == bare[0, 0]


def test_shadows_do_not_change_masks():
    rows = [layer(base=0.8, label=0), layer(radius=0.2, label=1, instance=1, cast=(0.1, 0.1, 0.6))]
    shaded = paint(*rows)
    rows[1]["cast"] = 0
    bare = paint(*rows)
    assert torch.equal(shaded["label"], bare["label"]) and torch.equal(
        shaded["silhouettes"], bare["silhouettes"]
    )


def test_glass_displaces_what_is_seen_at_its_rim():
    stripes = layer(base=0.0, accent=1.0, wave1=(8, 0, 0))
    glass = layer(radius=0.3, base=1.0, refract=(0.06, 0), label=1)
    bare, seen = paint(stripes, size=128)["radiance"][0], paint(stripes, glass, size=128)["radiance"][0]
    assert torch.allclose(bare[64, 60:68], seen[64, 60:68], atol=0.1)  # next to nothing in the middle
    # A pixel at x shows what lies 0.06 · rim² further out.
    x = 64 + 30
    rim = (x + 0.5 - 64) / 128 / 0.3
    assert seen[64, x] == pytest.approx(float(bare[64, int(x + 0.5 + 128 * 0.06 * rim**2)]), abs=0.02)
    assert torch.equal(seen[:, :20], bare[:, :20])


def test_patterns_repeat_as_often_as_told():
    stripes = paint(layer(base=0.0, accent=1.0, wave1=(4, 0, 0), sharp=9))["radiance"][0, 32]
    assert (stripes.diff().sign() == 1).any() and ((stripes > 0.5).int().diff() == 1).sum() == 4
    rings = paint(layer(base=0.0, accent=1.0, ring=3, radius=0.5, sharp=9))["radiance"][0, 32, 32:]
    assert ((rings > 0.5).int().diff() == 1).sum() == 3
    squares = paint(layer(base=0.0, accent=1.0, wave1=(4, 0, 0), wave2=(0, 4, 0), sharp=9))["radiance"][0]
    assert (squares > 0.5).float().mean() == pytest.approx(
        0.153, abs=0.02
    )  # where two triangle waves' product is over ½


def test_grain_and_warp_move_with_the_place_in_the_noise():
    pictures = [
        paint(layer(base=0.5, accent=0.2, wave1=(3, 1, 0), warp=1, grain=0.4, shift=s))["radiance"]
        for s in ((0, 0), (0.3, 0.1))
    ]
    assert (pictures[0] - pictures[1]).abs().mean() > 0.02
    assert pictures[0].mean() == pytest.approx(float(pictures[1].mean()), rel=0.1)


def test_the_vignette_darkens_the_corners():
    painted = paint(layer(base=0.6), vignette=1.0, size=128)["radiance"][0]
    assert painted[64, 64] == pytest.approx(0.6, abs=1e-3) and painted[0, 0] == pytest.approx(0.3, abs=0.01)
    assert painted[0, 64] == pytest.approx(0.6 * 0.75, abs=0.01)


def test_colours_stay_positive():
    row = layer(base=0.05, dome=0.9, relief=0.9, grain=1, radius=0.4)
    radiance = paint(row)["radiance"]
    assert torch.isfinite(radiance).all() and radiance.min() >= 0
