"""Resizing, padding and augmentation move image, mask, depth and boxes alike."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tiny_sets import save

from moe_lib.datasets import Augment, DepthFormat, folder
from moe_lib.datasets.geometry import Placement, jittered, plain, randomly, renumbered, tight_boxes

METRES = DepthFormat(bits=8, per_metre=100)
RESAMPLED = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


def test_padding(street):
    sample = folder(street, "train", size=60, depth=METRES)[0]  # 30 × 20 → 60 × 40
    assert (sample["mask"][40:] == 255).all() and (sample["mask"][:40] != 255).all()
    assert (sample["image"][:, 40:] == 0).all() and (sample["depth"][40:] == 0).all()
    assert sample["depth"][:40].unique().tolist() == pytest.approx([0.51])


def test_stretching_pads_nothing(street):
    assert (folder(street, "train", size=50, fit="stretch")[0]["mask"] != 255).all()


def test_nearest_doubles_and_halves_exactly():
    ids = torch.randint(0, 9, (6, 8))
    double = Placement(12, 16, (12, 16)).nearest(ids, 0)
    assert torch.equal(double, ids.repeat_interleave(2, 0).repeat_interleave(2, 1))
    assert torch.equal(Placement(6, 8, (6, 8)).nearest(double, 0), ids)


def test_bilinear_and_nearest_agree_where_pixels_are():
    """A ramp resized both ways: half a pixel of disagreement would show."""
    ramp = torch.arange(40.0).expand(40, 40)
    for size in (27, 64, 80, 120):
        place = Placement(size, size, (size, size))
        smooth, nearest = place.smooth(ramp[None])[0], place.nearest(ramp, 0)
        inside = slice(4, -4)
        assert (smooth - nearest)[inside, inside].abs().max() <= 0.5 * max(1, 40 / size) + 1e-4
        assert (smooth - nearest)[inside, inside].mean().abs() < 0.05


def test_antialiasing():
    checker = ((torch.arange(64)[:, None] + torch.arange(64)) % 2).float()[None]
    assert (Placement(16, 16, (16, 16)).smooth(checker)[:, 2:-2, 2:-2] - 0.5).abs().max() < 0.05


@pytest.fixture
def marked(tmp_path):
    """Class, depth and colour of a pixel are the same number: comparable after any change."""
    root = tmp_path / "marked"
    y, x = np.mgrid[:48, :64]
    number = (y // 8 * 8 + x // 8).astype(np.uint8)  # 48 fields of 8 × 8
    save(root, "train/images/a.png", np.stack([number * 5] * 3, -1))
    save(root, "train/masks/a.png", number)
    save(root, "train/depths/a.png", number)
    (root / "classes.txt").write_text("".join(f"{i} field {i}\n" for i in range(48)))
    return root


def test_augmentation_keeps_everything_aligned(marked):
    data = folder(marked, "train", size=56, depth=METRES, augment=Augment(jitter=0, scale=(0.6, 2)))
    seen = set()
    for data.epoch in range(12):
        sample = data[0]
        mask, valid = sample["mask"], sample["mask"] != 255
        assert torch.equal((sample["depth"] * 100).round().long()[valid], mask[valid])
        assert (sample["depth"][~valid] == 0).all() and (sample["image"][:, ~valid] == 0).all()
        colour = sample["image"][0] * 255 / 5
        near = (colour - mask).abs()[valid]
        assert near.median() < 0.2 and (near < 1).float().mean() > 0.6  # all but the borders between fields
        seen.add((int(mask[28, 28]), float(valid.float().mean())))
    assert len(seen) > 8


def test_pictures_may_be_resized_by_cubes(marked):
    """As Pillow has it, which antialiases too; masks do not change."""
    kinds = {how: folder(marked, "train", size=24, fit="stretch", resample=how)[0] for how in RESAMPLED}
    assert torch.equal(kinds["bilinear"]["mask"], kinds["bicubic"]["mask"])
    file = next((marked / "train" / "images").iterdir())
    for how, pillow in RESAMPLED.items():
        with Image.open(file) as picture:
            expected = np.asarray(picture.convert("RGB").resize((24, 24), pillow), np.float32) / 255
        off = np.abs(kinds[how]["image"].permute(1, 2, 0).numpy() - expected).max()
        assert off < 1.5 / 255
    assert (kinds["bilinear"]["image"] - kinds["bicubic"]["image"]).abs().max() > 2 / 255
    with pytest.raises(ValueError, match="resample is 'lanczos'"):
        folder(marked, "train", resample="lanczos")


def test_boxes_stay_tight(things):
    data = folder(things, "train", instances=True, size=40, augment=Augment(scale=(0.5, 2.5)))
    counts = set()
    for data.epoch in range(20):
        sample = data[0]
        counts.add(len(sample["boxes"]))
        assert sample["instances"].max() == len(sample["boxes"])
        for i, (x0, y0, x1, y1) in enumerate(sample["boxes"].int().tolist(), 1):
            here = sample["instances"] == i
            assert here[y0:y1, x0:x1].sum() == here.sum() > 0
            assert here[y0].any() and here[y1 - 1].any() and here[:, x0].any() and here[:, x1 - 1].any()
        assert torch.equal(sample["mask"] == 1, sample["instances"] > 0)
    assert counts == {0, 1, 2} or counts == {1, 2}


def test_same_seed_epoch_and_index_give_the_same(street):
    first, second = (folder(street, "train", size=24, augment=True) for _ in range(2))
    other = folder(street, "train", size=24, augment=Augment(seed=1))
    first.epoch = second.epoch = other.epoch = 3
    second[1]  # whatever was asked before
    assert torch.equal(first[0]["image"], second[0]["image"]) and torch.equal(
        first[0]["mask"], second[0]["mask"]
    )
    assert not torch.equal(first[0]["image"], other[0]["image"])
    assert torch.equal(first[-1]["image"], second[1]["image"])
    second.epoch = 4
    assert not torch.equal(first[0]["image"], second[0]["image"])


def test_half_of_the_samples_are_mirrored():
    base, random = Placement(20, 20, (20, 20)), np.random.default_rng(0)
    flips = sum(randomly(base, Augment(), random).flip for _ in range(400))
    assert 160 < flips < 240
    assert not any(randomly(base, Augment(flip=0), random).flip for _ in range(50))


def test_jitter_changes_the_image_only(street):
    plainly = folder(street, "train", size=30)[0]
    jittered = folder(street, "train", size=30, augment=Augment(flip=0, scale=(1, 1), jitter=0.3))[0]
    assert torch.equal(plainly["mask"], jittered["mask"])
    assert (plainly["image"] - jittered["image"]).abs().max() > 0.02
    assert jittered["image"].min() >= 0 and jittered["image"].max() <= 1


@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(3, 40), width=st.integers(3, 40), size=st.integers(8, 48), seed=st.integers(0, 10**6)
)
def test_any_size_any_seed(height, width, size, seed):
    """The window always has the asked size and shows one rectangle of the picture, in order."""
    base = plain(height, width, size, "pad")
    assert max(base.height, base.width) == size
    place = randomly(base, Augment(scale=(0.5, 3)), np.random.default_rng(seed))
    ids = torch.arange(height * width).reshape(height, width)
    out = place.nearest(ids, -1)
    assert out.shape == (size, size) and (out >= 0).any()
    seen = out[(out >= 0).any(1)][:, (out >= 0).any(0)]
    assert (seen >= 0).all()  # a rectangle without holes
    columns = seen[0] % width
    steps = columns.diff()
    assert (steps <= 0).all() if place.flip else (steps >= 0).all()


def test_boxes_and_numbers_of_nothing():
    empty = torch.zeros(5, 5, dtype=torch.int64)
    assert tight_boxes(empty, 0).shape == (0, 4) and renumbered(empty)[1] == []


@pytest.mark.parametrize(
    ("options", "message"),
    [({"flip": 2}, "flip is 2"), ({"scale": (2, 1)}, "scale is"), ({"jitter": 1}, "jitter is 1")],
)
def test_wrong_augmentations(options, message):
    with pytest.raises(ValueError, match=message):
        Augment(**options)


@pytest.mark.parametrize("colours", [False, True])
def test_colours_change_only_where_they_may(colours):
    """Brightness and contrast are one straight line for all channels; saturation is not."""
    image = 0.4 + 0.2 * torch.rand(3, 8, 8)
    changed = jittered(image, 0.3, np.random.default_rng(1), colours=colours)
    line = np.polyfit(image.flatten(), changed.flatten(), 1)
    away = np.abs(np.polyval(line, image.flatten()) - changed.flatten().numpy()).max()
    assert (away > 0.005) if colours else (away < 1e-5)
