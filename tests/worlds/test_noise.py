"""Hashed noise: known values, moments, and an atlas without a seam."""

import numpy as np
import pytest
import torch

from moe_lib.worlds import noise

CPU = torch.device("cpu")
ODD = (374761393, 668265263, 2147483647)


def hashed(coordinates: tuple[int, ...], seed: int) -> int:
    """The same hash in Python's whole numbers."""
    h = seed * 1274126177 + sum(c * odd for c, odd in zip(coordinates, ODD, strict=False))
    h &= 2**32 - 1
    h = ((h ^ (h >> 16)) * 0x7FEB352D) & (2**32 - 1)
    h = ((h ^ (h >> 15)) * 0x846CA68B) & (2**32 - 1)
    h ^= h >> 16
    return h - 2**32 if h >= 2**31 else h


def test_known_values():
    assert noise.hashed(torch.tensor([0, 1, 2]), seed=torch.tensor(0)).tolist() == [0, 2126711127, -821470534]
    assert noise.uniform(torch.tensor(5), torch.tensor(9), seed=torch.tensor(7)).item() == 0.8858645558357239


@pytest.mark.parametrize("place", [(0,), (1, 2), (3, 5, 8), (-4, 7), (2**31 - 1, -(2**31))])
@pytest.mark.parametrize("seed", [0, 1, 2**31 - 1])
def test_it_is_the_hash_that_it_should_be(place, seed):
    assert noise.hashed(*map(torch.tensor, place), seed=torch.tensor(seed)).item() == hashed(place, seed)


def test_moments_and_independence():
    x, y = torch.arange(200).view(1, -1), torch.arange(200).view(-1, 1)
    for seed in (0, 1, 123456789):
        uniform, normal = (draw(x, y, seed=torch.tensor(seed)) for draw in (noise.uniform, noise.normal))
        assert uniform.shape == (200, 200) and uniform.min() >= 0 and uniform.max() < 1
        assert uniform.mean() == pytest.approx(0.5, abs=0.01) and uniform.std() == pytest.approx(
            12**-0.5, abs=0.005
        )
        assert normal.mean() == pytest.approx(0, abs=0.02) and normal.std() == pytest.approx(1, abs=0.02)
        for shifted in (
            uniform.roll(1, 0),
            uniform.roll(1, 1),
            noise.uniform(x, y, seed=torch.tensor(seed + 1)),
        ):
            assert abs(np.corrcoef(uniform.flatten(), shifted.flatten())[0, 1]) < 0.02


def test_pixels_gives_every_scene_its_own_numbers_at_every_size():
    channel, y, x, seed = noise.pixels(torch.tensor([1, 2]), 3, 8, 10)
    small = noise.uniform(channel, y, x, seed=seed)
    assert small.shape == (2, 3, 8, 10) and len(small.unique()) == small.numel()
    large = noise.uniform(*noise.pixels(torch.tensor([2]), 3, 16, 16)[:3], seed=torch.tensor([2]))
    assert torch.equal(small[1], large[0, :, :8, :10])


@pytest.mark.parametrize("dimensions", [2, 3])
def test_value_noise_is_smooth_and_meets_the_lattice(dimensions):
    seed = torch.tensor(4)
    corner = [torch.tensor([3.0, 7.0, -2.0]) for _ in range(dimensions)]
    whole = [c.int() for c in corner]
    assert torch.equal(noise.value_noise(*corner, seed=seed), noise.uniform(*whole, seed=seed))
    at = torch.linspace(-3, 3, 6001)
    along = noise.value_noise(at, *(torch.full_like(at, 0.3) for _ in range(dimensions - 1)), seed=seed)
    assert along.diff().abs().max() < 0.002 and along.std() > 0.1
    assert along.min() >= 0 and along.max() < 1
    assert along[1000::1000].diff().abs().max() > 0.05


def test_the_atlas_has_no_seam():
    side = noise.ATLAS
    at = (torch.arange(side) + 0.5) / side
    for x, y in ((at, torch.zeros(side)), (torch.zeros(side), at)):
        for shift in (-1.0, 1.0, 3.0):
            here = noise.look_up(x.view(1, 1, -1), y.view(1, 1, -1))
            there = noise.look_up((x + shift).view(1, 1, -1), (y - shift).view(1, 1, -1))
            torch.testing.assert_close(here, there, atol=2e-3, rtol=0)
    step = torch.tensor([[[-1e-4, 1e-4]]])
    across = noise.look_up(step, torch.full_like(step, 0.37))[0, :2, 0]
    assert (across[:, 0] - across[:, 1]).abs().max() < 0.01


def test_the_atlas_holds_what_it_says():
    coarse, fine, slope_x, slope_y = noise.atlas(CPU)[0]
    for channel in (coarse, fine):
        assert channel.min() >= 0 and channel.max() < 1 and channel.mean() == pytest.approx(0.5, abs=0.03)
        assert channel.std() > 0.1
    assert (fine[:, 1:] - fine[:, :-1]).abs().mean() > 2 * (coarse[:, 1:] - coarse[:, :-1]).abs().mean()
    torch.testing.assert_close(slope_x[:, :-1], (coarse[:, 1:] - coarse[:, :-1]) * 16)
    torch.testing.assert_close(slope_y[:-1], (coarse[1:] - coarse[:-1]) * 16)


def test_looking_up_finds_texels_and_blends_between_them():
    texel = torch.arange(0, noise.ATLAS, 7)
    at = (texel / noise.ATLAS).view(1, 1, -1)
    picture = noise.atlas(CPU)[0]
    found = noise.look_up(at, at.flip(-1))[0, :, 0]
    torch.testing.assert_close(found, picture[:, texel.flip(0), texel], atol=1e-3, rtol=0)
    half = noise.look_up(at + 0.5 / noise.ATLAS, at.flip(-1))[0, :, 0]
    expected = (picture[:, texel.flip(0), texel] + picture[:, texel.flip(0), texel + 1]) / 2
    torch.testing.assert_close(half, expected, atol=1e-3, rtol=0)


def test_several_normals_of_one_hash_are_independent():
    x, y = torch.arange(200).view(1, 1, 1, -1), torch.arange(200).view(1, 1, -1, 1)
    seed = torch.tensor([0, 1, 123456789]).view(-1, 1, 1, 1)
    found = noise.normals(3, x, y, seed=seed)
    assert found.shape == (3, 3, 200, 200)
    assert torch.equal(noise.normals(2, x, y, seed=seed), found[:, :2])
    rows = found.flatten(2).flatten(0, 1).numpy()  # nine draws: three scenes, three channels
    assert rows.mean(1) == pytest.approx(np.zeros(9), abs=0.02)
    assert rows.std(1) == pytest.approx(np.ones(9), abs=0.02)
    assert np.abs(np.corrcoef(rows) - np.eye(9)).max() < 0.02
