"""Geometry: against an independent slow intersector, closed forms, and itself without any short cut."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_lib.worlds.street import CLASSES, Street
from moe_lib.worlds.street.cast import contact, directions, nearest
from moe_lib.worlds.street.shadow import shadows
from moe_lib.worlds.street.solids import BALL, BOX, CLASS, HULL, POST, WHEEL
from moe_lib.worlds.street.stage import GROUND, SKY, set_up
from moe_lib.worlds.street.surface import surfaces

CPU = torch.device("cpu")
FAST = {"sensors": ("depth",), "weather": "cloud", "case": "none"}


def staged(indices, size=64, instants=(0.0,), **options):
    task = Street(size=size, **(FAST | options))
    return set_up([task.scene(i) for i in indices], size, instants, CPU)


def slow_rays(scene, size):
    """Unit rays in float64, ``(size², 3)``, and the length that planar depth 1 has along them."""
    _, pitch, _, _ = scene.camera
    focal = size / 2 / np.tan(np.deg2rad(29))
    v, u = np.mgrid[:size, :size] + 0.5
    right, up = (u - size / 2) / focal, (size / 2 - v) / focal
    rays = np.stack([right, up * np.cos(pitch) - np.sin(pitch), up * np.sin(pitch) + np.cos(pitch)], -1)
    rays = rays.reshape(-1, 3)
    length = np.linalg.norm(rays, axis=1)
    return rays / length[:, None], length


def slow_hit(solid, origin, rays):
    """Distance at which rays enter one solid, inf if they do not: half-spaces and quadrics, one by one."""
    cos, sin = map(float, solid["turn"])
    spin = np.array([[cos, 0, -sin], [0, 1, 0], [sin, 0, cos]])
    o, d = spin @ (origin - solid["centre"].astype(float)), rays @ spin.T
    half = solid["half"].astype(float)
    near, far = np.full(len(d), -np.inf), np.full(len(d), np.inf)

    def below(plane, limit):  # plane · x ≤ limit
        nonlocal near, far
        plane = np.array(plane, float)
        speed, t = d @ plane, (limit - o @ plane) / (d @ plane)
        near = np.where(speed < 0, np.maximum(near, t), near)
        far = np.where(speed > 0, np.minimum(far, t), far)

    def round_about(axes, radius):
        nonlocal near, far
        a, b = (d[:, axes] ** 2).sum(1), (d[:, axes] * o[axes]).sum(1)
        disc = b * b - a * ((o[axes] ** 2).sum() - radius**2)
        root = np.sqrt(np.maximum(disc, 0)) / a
        near = np.where(disc > 0, np.maximum(near, -b / a - root), np.inf)
        far = np.where(disc > 0, np.minimum(far, -b / a + root), -np.inf)

    kind = int(solid["kind"])
    if kind == BALL:
        round_about([0, 1, 2], half[0])
    else:
        caps = {POST: [1], WHEEL: [0], BOX: [0, 1, 2], HULL: [1]}[kind]
        for axis in caps:
            below(np.eye(3)[axis], half[axis])
            below(-np.eye(3)[axis], half[axis])
        if kind == POST:
            round_about([0, 2], half[0])
        if kind == WHEEL:
            round_about([1, 2], half[1])
        if kind == HULL:
            for axis, lean in ((0, float(solid["lean"][0])), (2, float(solid["lean"][1]))):
                for sign in (-1, 1):  # from (half, bottom) to (half - lean, top)
                    plane = sign * np.eye(3)[axis] + np.array([0, lean / (2 * half[1]), 0])
                    below(plane, half[axis] - lean / 2)
    return np.where((near < far) & (near > 1e-3), near, np.inf)


def slow_picture(scene, size):
    """Class, instance and planar depth of every pixel by trying everything, in float64."""
    rays, length = slow_rays(scene, size)
    origin = np.array([0.0, scene.camera[0], 0.0])
    with np.errstate(divide="ignore", invalid="ignore"):
        ground = np.where(rays[:, 1] < 0, -origin[1] / rays[:, 1], np.inf)
        ground[ground / length > 150] = np.inf
        hits = np.stack([ground, *(slow_hit(solid, origin, rays) for solid in scene.solids)])
    which, distance = hits.argmin(0), hits.min(0)
    place = origin + rays * np.where(np.isfinite(distance), distance, 0)[:, None]
    width, pavement, shift, bend, _ = scene.road.astype(float)
    aside = np.abs(place[:, 0] - shift - bend * place[:, 2] ** 2)
    label = np.select([aside < width / 2, aside < width / 2 + pavement], [CLASS["road"], CLASS["sidewalk"]],
                      CLASS["terrain"])  # fmt: skip
    line = ((aside < 0.09) & (place[:, 2] % 4 < 2)) | (np.abs(aside - width / 2 + 0.25) < 0.08)
    label[line] = CLASS["road_marking"]
    solids = np.concatenate([scene.solids[:1], scene.solids])  # place 0 is the ground
    label = np.where(which > 0, solids["class"][which], label)
    label[~np.isfinite(distance)] = CLASS["sky"]
    instance = np.where((which > 0) & np.isfinite(distance), solids["instance"][which], 0)
    depth = np.where(np.isfinite(distance), distance / length, 0)
    return (a.reshape(size, size) for a in (label, instance, depth))


@pytest.mark.parametrize(("index", "size"), [(0, 64), (5, 64), (21, 96)])
def test_an_independent_ray_caster_sees_the_same(index, size):
    task = Street(size=size, **FAST)
    batch = task.batch([index])
    label, instance, depth = slow_picture(task.scene(index), size)
    assert (batch["mask"][0].numpy() == label).mean() > 0.999
    assert (batch["instances"][0].numpy() == instance).mean() > 0.999
    close = np.isclose(batch["depth"][0].numpy(), depth, rtol=1e-3, atol=1e-3)
    assert close.mean() > 0.999


@settings(max_examples=6, deadline=None)
@given(index=st.integers(0, 10**6), size=st.sampled_from([64, 72, 96]))
def test_culling_changes_nothing(index, size):
    stage = staged([index, index + 1], size, instants=(-1.0, 0.0))
    (hits, shapes), (all_hits, all_shapes) = nearest(stage), nearest(stage, cull=False)
    assert torch.equal(hits.row, all_hits.row) and torch.equal(hits.depth, all_hits.depth)
    assert all(map(torch.equal, shapes, all_shapes))


def test_culling_changes_no_shadow():
    stage = staged(range(3), instants=(-1.0, 0.0))
    surface = surfaces(stage, nearest(stage)[0])
    views = np.array([0, 2, 5])
    pick = lambda vector: tuple(part[views] for part in vector)  # noqa: E731
    sunny = ~surface.sky[views]
    some = shadows(stage, views, pick(surface.point), pick(surface.normal), sunny)
    every = shadows(stage, views, pick(surface.point), pick(surface.normal), sunny, cull=False)
    assert torch.equal(some, every) and 0.02 < some.float().mean() < 0.9
    assert torch.equal(contact(stage) * surface.ground, contact(stage, cull=False) * surface.ground)


def test_shadows_lie_where_a_slow_ray_to_the_sun_is_blocked():
    stage = staged([4])
    surface = surfaces(stage, nearest(stage)[0])
    scene, lit = stage.scenes[0], surface.ground
    found = shadows(stage, np.array([0]), surface.point, surface.normal, lit)[lit]
    places = torch.stack([p[lit] for p in surface.point], 1).double().numpy() + np.array([0, 0.02, 0])
    for k in range(0, len(places), 97):
        rays = scene.sun[None].astype(float)
        with np.errstate(divide="ignore", invalid="ignore"):
            blocked = any(np.isfinite(slow_hit(solid, places[k], rays)[0]) for solid in scene.solids)
        assert blocked == bool(found[k])


def test_depth_of_the_ground_is_its_closed_form():
    stage = staged([1, 2], size=96)
    hits, _ = nearest(stage)
    focal = 96 / 2 / np.tan(np.deg2rad(29))
    line = (48 - (np.arange(96) + 0.5)) / focal
    for view, scene in enumerate(stage.scenes):
        height, pitch = scene.camera[:2]
        expected = height / (np.sin(pitch) - line * np.cos(pitch))
        ground = hits.row[view].numpy() == GROUND
        assert ground.any()
        assert np.allclose(
            hits.depth[view].numpy()[ground], np.repeat(expected, 96).reshape(96, 96)[ground], rtol=1e-4
        )


def test_depth_is_range_over_the_length_of_the_ray():
    stage = staged([3])
    surface = surfaces(stage, nearest(stage)[0])
    length = sum(d * d for d in directions(stage)).sqrt()
    assert torch.allclose(surface.depth * length, surface.distance)
    eye = stage.eye.view(3, 1, 1, 1)
    away = (torch.stack(surface.point) - eye).square().sum(0).sqrt()
    assert torch.allclose(away, surface.distance, rtol=1e-4, atol=1e-4)


def test_normals_are_unit_vectors_that_face_the_camera():
    stage = staged(range(4))
    surface = surfaces(stage, nearest(stage)[0])
    solid = surface.depth > 0
    length = sum(n * n for n in surface.normal)[solid]
    assert torch.allclose(length, torch.ones_like(length), atol=1e-4)
    facing = -sum(n * t for n, t in zip(surface.normal, surface.toward, strict=True))[solid]
    assert (facing > -1e-3).float().mean() > 0.999


def test_sky_is_what_nothing_hits():
    stage = staged([0])
    hits, _ = nearest(stage)
    assert torch.equal(hits.depth.isinf(), hits.row == SKY)


@pytest.mark.parametrize("size", [64, 88])
def test_masks_do_not_depend_on_threads_batches_or_order(size):
    task = Street(size=size, sensors=("depth",))
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = task.batch(range(8))
        torch.set_num_threads(2)
        two = task.batch(range(8))
    finally:
        torch.set_num_threads(before)
    mixed = task.batch([6, 0, 3])
    alone = task.batch([3])
    for name in ("mask", "instances", "depth"):
        assert torch.equal(one[name], two[name])
        assert torch.equal(mixed[name], one[name][[6, 0, 3]]) and torch.equal(alone[name][0], one[name][3])


def test_the_same_street_at_every_size():
    small, large = (Street(size=size, **FAST).batch(range(4)) for size in (64, 192))
    assert all(map(torch.equal, small["labels"], large["labels"]))
    middle = large["mask"][:, 1::3, 1::3]  # 192 / 64 is odd: these rays are the same
    assert (small["mask"] == middle).float().mean() > 0.999


def test_things_move_between_instants():
    stage = staged([2], instants=(-1.0, 0.0))
    hits, _ = nearest(stage)
    cls = stage.table[1][hits.row]
    assert (cls[0] != cls[1]).any()  # the camera and the cars have moved
    assert len(CLASSES) == 14
