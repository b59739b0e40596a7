"""Input that a backbone cannot use is refused in words that help."""

import pytest
import tiny
import torch

from moe_lib.backbones import checks

IMAGES = {
    "a list": ([1], TypeError, "got list"),
    "one picture": (torch.rand(3, 32, 32), ValueError, r"image\[None\]"),
    "channels last": (torch.rand(2, 32, 32, 3), ValueError, r"permute\(0, 3, 1, 2\)"),
    "grey": (torch.rand(2, 1, 32, 32), ValueError, r"\(B, 3, 32, 32\), got \(2, 1, 32, 32\)"),
    "another size": (torch.rand(2, 3, 32, 48), ValueError, "sees 32 × 32 pixels, got 32 × 48"),
    "bytes": (torch.zeros(2, 3, 32, 32, dtype=torch.uint8), TypeError, "image / 255"),
    "up to 255": (torch.rand(2, 3, 32, 32) * 255, ValueError, "divide by 255"),
    "normalised": (torch.randn(2, 3, 32, 32), ValueError, "mean and spread"),
    "none": (torch.rand(0, 3, 32, 32), ValueError, "no pictures"),
    "NaN": (torch.full((2, 3, 32, 32), float("nan")), ValueError, "nan"),
}


@pytest.mark.parametrize(("image", "kind", "words"), IMAGES.values(), ids=IMAGES)
def test_a_picture_that_does_not_fit(image, kind, words):
    with pytest.raises(kind, match=words):
        tiny.sam().embed(image)
    with pytest.raises(kind, match=words):
        tiny.mae()(image, torch.zeros(2, 4, dtype=torch.long))


def test_pictures_that_fit():
    edges = torch.rand(2, 3, 32, 32) * 1.01 - 0.005  # as interpolation leaves them
    assert tiny.sam().embed(edges).shape == (2, 16, 4, 4)


def full(*shape: int, value: float = 3.0) -> torch.Tensor:
    return torch.full(shape, value)


PROMPTS = {
    "points without prompts": ({"points": full(2, 1, 2)}, r"\(B, P, N, 2\), with B = 2.*got \(2, 1, 2\)"),
    "another batch": ({"points": full(3, 1, 1, 2)}, "with B = 2"),
    "labels alone": ({"labels": full(2, 1, 1)}, "no points"),
    "labels of others": ({"points": full(2, 1, 2, 2), "labels": full(2, 1, 1)}, "every point has a label"),
    "a label 2": ({"points": full(2, 1, 1, 2), "labels": full(2, 1, 1, value=2)}, "or -1"),
    "a point outside": ({"points": full(2, 1, 1, 2, value=32)}, r"\(32, 32\) is outside"),
    "a point before": ({"points": full(2, 1, 1, 2, value=-1)}, r"\(-1, -1\) is outside"),
    "a point nowhere": ({"points": full(2, 1, 1, 2, value=float("nan"))}, "is outside"),
    "a box of two": ({"boxes": full(2, 1, 2)}, r"\(B, P, 4\)"),
    "an empty box": ({"boxes": full(2, 1, 4)}, "x0 < x1"),
    "a box outside": ({"boxes": torch.tensor([1.0, 1, 9, 40]).expand(2, 1, 4)}, "32 × 32"),
    "a mask without prompts": ({"masks": full(2, 16, 16)}, "4h, 4w"),
    "uneven": (
        {"points": full(2, 3, 1, 2), "boxes": torch.tensor([1.0, 1, 9, 9]).expand(2, 2, 4)},
        r"\[2, 3\] per picture",
    ),
}


@pytest.mark.parametrize(("given", "words"), PROMPTS.values(), ids=PROMPTS)
def test_prompts_that_do_not_fit(given, words):
    with pytest.raises(ValueError, match=words):
        tiny.sam().answer(torch.zeros(2, 16, 4, 4), **given)


def test_a_point_that_is_none_may_be_anywhere():
    points, labels = full(2, 1, 1, 2, value=-7), full(2, 1, 1, value=-1)
    assert tiny.sam().answer(torch.zeros(2, 16, 4, 4), points=points, labels=labels).quality.shape == (
        2,
        1,
        3,
    )


def test_prompts_of_a_batch():
    batch = {"point": torch.rand(2, 2), "box": torch.rand(2, 4)}
    assert checks.prompts_of(batch, "point")["points"].shape == (2, 1, 1, 2)
    assert checks.prompts_of(batch, "box")["boxes"].shape == (2, 1, 4)
    assert checks.prompts_of(batch, "none") == {}
    with pytest.raises(ValueError, match="'point', 'box' or 'none', got 'text'"):
        checks.prompts_of(batch, "text")
    with pytest.raises(ValueError, match=r"no 'box', only point.*clicks\.objects"):
        checks.prompts_of({"point": batch["point"]}, "box")
