"""Sheets show every picture in its place, masks in their colours, lines outside what they mark."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from moe_lib.pictures import coloured, outlined, sheet


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def test_a_sheet_shows_each_picture_in_its_place():
    greys = torch.tensor([0.2, 0.6, 1.0]).view(3, 1, 1).expand(3, 50, 50)
    fig = sheet({"a": greys, "b": torch.zeros(3, 3, 20, 20)}, titles=("x", "y", "z"))
    upper, lower = (ax.images[0].get_array() for ax in fig.axes)
    assert upper.shape == (50, 3 * 50 + 2 * 2, 4) and lower.shape == (20, 3 * 20 + 2, 4)
    np.testing.assert_array_equal(upper[25, [25, 77, 129], 0], [51, 153, 255])
    np.testing.assert_array_equal(upper[25, [25, 50, 51, 77], 3], [255, 0, 0, 255])  # gaps are clear
    written = [text.get_text() for ax in fig.axes for text in ax.texts]
    assert written == ["a", "x", "y", "z", "b"]


def test_pictures_keep_their_proportions():
    fig = sheet({"a": torch.zeros(4, 30, 60), "b": torch.zeros(4, 3, 64, 64)}, titles="wxyz")
    fig.canvas.draw()
    for ax, (height, width) in zip(fig.axes, [(30, 4 * 60 + 3 * 2), (64, 4 * 64 + 3 * 3)], strict=True):
        box = ax.get_window_extent()
        assert box.height / box.width == pytest.approx(height / width, rel=0.03)


def test_a_sheet_without_labels_uses_the_whole_width():
    fig = sheet({"": torch.zeros(2, 8, 8)})
    assert fig.axes[0].get_position().x0 == 0


@pytest.mark.parametrize(
    ("rows", "titles", "words"),
    [
        ({}, (), "a sheet needs rows"),
        ({"a": torch.zeros(2, 8, 8), "b": torch.zeros(3, 8, 8)}, (), r"equally many pictures, got \[2, 3\]"),
        ({"a": torch.zeros(2, 8, 8)}, ("x",), "1 titles for 2 columns"),
        ({"a": torch.zeros(2, 4, 8, 8)}, (), r"got \(2, 4, 8, 8\)"),
    ],
)
def test_a_wrong_sheet_is_refused_with_the_reason(rows, titles, words):
    with pytest.raises(ValueError, match=words):
        sheet(rows, titles=titles)


def test_classes_have_colours_of_their_own_and_ignored_pixels_are_white():
    mask = torch.arange(15).view(1, 3, 5).repeat(2, 1, 1)
    mask[1, 0, 0] = 255
    colours = coloured(mask, 15)
    assert colours.shape == (2, 3, 3, 5)
    assert len({tuple(c.tolist()) for c in colours[0].flatten(1).T}) == 15
    assert colours[1, :, 0, 0].tolist() == [1, 1, 1]
    torch.testing.assert_close(coloured(mask[:1, :1], 15), coloured(mask[:1, :1]))


def test_a_line_lies_outside_what_it_marks():
    image = torch.full((1, 3, 9, 9), 0.5)
    mask = torch.zeros(1, 9, 9, dtype=torch.int64)
    mask[0, 4, 4], mask[0, 0, 0] = 1, 255
    picture = outlined(image, mask, colour="#ff0000")
    assert picture[0, :, 4, 4].tolist() == [0.5] * 3, "what is marked stays as it is"
    assert picture[0, :, 3, 3].tolist() == [1, 0, 0]
    assert picture[0, 0, 2, 2] < 0.2, "a dark line around the bright one"
    assert picture[0, :, 0, 0].tolist() == [0.5] * 3, "an ignored pixel is not marked"


def test_an_outline_of_another_size_is_refused():
    with pytest.raises(ValueError, match=r"\(8, 8\) and masks of \(9, 9\)"):
        outlined(torch.zeros(1, 3, 8, 8), torch.zeros(1, 9, 9))
