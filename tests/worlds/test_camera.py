"""The camera: exposure, noise, and the eight bits that a cache can keep."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_lib.worlds import camera


def grey(level: float, count: int = 1, size: int = 64) -> torch.Tensor:
    return torch.full((count, 3, size, size), level)


SEED = torch.tensor([5])


def test_develop_is_gamma_where_there_is_light_enough():
    image = camera.develop(grey(0.25), seed=SEED, full_well=1e9, read_noise=0.0)
    torch.testing.assert_close(image, grey(0.25 ** (1 / 2.2)), atol=1e-3, rtol=0)
    assert (camera.develop(grey(7.0), seed=SEED, full_well=1e9) == 1).all()


@settings(max_examples=20, deadline=None)
@given(st.floats(0.02, 1), st.floats(0.1, 2), st.floats(1.05, 3))
def test_more_exposure_is_brighter(level, exposure, more):
    dim, bright = (
        camera.develop(grey(level), seed=SEED, exposure=e, full_well=1e6).mean()
        for e in (exposure, exposure * more)
    )
    assert bright >= dim and (bright > dim or dim == 1)


def test_exposure_belongs_to_its_scene():
    image = camera.develop(
        grey(0.2, 2),
        seed=torch.tensor([1, 1]),
        exposure=torch.tensor([1.0, 2.0]),
        full_well=torch.tensor([1e9, 1e9]),
    )
    assert image.mean((1, 2, 3)).tolist() == pytest.approx([0.2 ** (1 / 2.2), 0.4 ** (1 / 2.2)], abs=2e-3)


def test_shot_noise_falls_with_the_full_well_as_it_should():
    spread = [
        (camera.develop(grey(0.4), seed=SEED, full_well=well, read_noise=0.0) ** 2.2).std().item()
        for well in (200, 800, 3200)
    ]
    assert spread == pytest.approx([(0.4 / well) ** 0.5 for well in (200, 800, 3200)], rel=0.05)
    dark = (camera.develop(grey(0.1), seed=SEED, full_well=1e9, read_noise=0.02) ** 2.2).std()
    assert dark == pytest.approx(0.02, rel=0.05)


def test_noise_is_the_scene_s_own():
    one, again, other = (camera.develop(grey(0.4), seed=torch.tensor([s])) for s in (1, 1, 2))
    assert torch.equal(one, again) and not torch.equal(one, other)
    both = camera.develop(grey(0.4, 2), seed=torch.tensor([2, 1]))
    assert torch.equal(both[1], one[0])


def test_planes_are_those_of_a_jpeg():
    image = torch.zeros(1, 3, 64, 64)
    image[:, 0] = 1.0  # pure red
    luma, chroma = camera.encode(image)
    assert (luma.dtype, luma.shape) == (torch.uint8, (1, 64, 64)) and (chroma.dtype, chroma.shape) == (
        torch.uint8,
        (1, 2, 32, 32),
    )
    assert luma.unique().tolist() == [76] and chroma[:, 0].unique().tolist() == [
        85
    ]  # 255 · 0.299 and 128 − 43
    assert chroma[:, 1].unique().tolist() == [255]  # 255.5, which does not fit
    assert camera.encode(grey(0.5))[1].unique().tolist() == [128]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 255), st.integers(0, 255), st.integers(0, 255))
def test_even_colours_survive(red, green, blue):
    image = torch.tensor([red, green, blue]).view(1, 3, 1, 1).expand(1, 3, 64, 64) / 255
    assert (camera.decode(*camera.encode(image)) - image).abs().max() <= 2.5 / 255


def test_brightness_keeps_every_pixel_and_colour_every_other():
    checks = (torch.arange(64).view(1, -1) + torch.arange(64).view(-1, 1)) % 2
    image = checks.expand(1, 3, 64, 64).float()
    assert (camera.decode(*camera.encode(image)) - image).abs().max() < 2 / 255
    red = torch.zeros(1, 3, 64, 64)
    red[:, 0, :, ::2] = 1
    seen = camera.decode(*camera.encode(red))
    assert (seen[0, 0, 20, 20] - seen[0, 0, 20, 21]).abs() < 0.4  # luma alone tells the columns apart


@given(st.integers(0, 2**31 - 1))
@settings(max_examples=15, deadline=None)
def test_a_photograph_is_exactly_what_its_planes_give(seed):
    generator = torch.Generator().manual_seed(seed)
    radiance = torch.rand(2, 3, 64, 64, generator=generator) * 1.5
    image = camera.photograph(radiance, seed=torch.tensor([seed, 1]))
    assert image.min() >= 0 and image.max() <= 1
    assert torch.equal(camera.decode(*image.planes), image)
    parts = [camera.photograph(radiance[i : i + 1], seed=torch.tensor([s])) for i, s in enumerate((seed, 1))]
    joined = camera.joined(parts)
    assert torch.equal(joined, image) and all(
        torch.equal(a, b) for a, b in zip(joined.planes, image.planes, strict=True)
    )


def test_pictures_without_planes_join_too():
    assert not hasattr(camera.joined([grey(0.1), grey(0.2)]), "planes")
