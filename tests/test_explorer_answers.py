"""A picture to click on holds every answer: outlines are right, masks stand in the model's order."""

import re

import numpy as np
import pytest
import torch
from matplotlib.path import Path as Line
from showing import packed, shown

from moe_lib import explorer
from moe_lib.explorer import page
from moe_lib.explorer.answers import FINE, outline
from moe_lib.plots import FIGURE_MIME

WORDS = {"name": "trial", "alt": "Two grey squares, one of which answers.", "caption": "Point at it."}


def drawn(outline: str, side: int = 48) -> np.ndarray:
    """The cells whose middle an outline contains, by the even-odd rule."""
    middle = (np.arange(side) + 0.5) * page.SIDE * FINE / side
    places = np.stack(np.meshgrid(middle, middle), -1).reshape(-1, 2)
    inside = np.zeros(side * side, dtype=int)
    for start, steps in re.findall(r"M(\S+ ?\S+?)l([^z]*)z", outline):
        corners = [numbers(start), *numbers(steps).reshape(-1, 2)]
        inside += Line(np.cumsum(corners, 0)).contains_points(places)
    return (inside % 2 == 1).reshape(side, side)


def numbers(words: str) -> np.ndarray:
    return np.array(re.findall(r"-?\d+", words), dtype=int)


def logits_of(*boxes: tuple[int, int, int, int]) -> torch.Tensor:
    """Masks that are one box each: first row, first column, last row, last column, of 48."""
    masks = torch.full((len(boxes), 48, 48), -5.0)
    for mask, (top, left, bottom, right) in zip(masks, boxes, strict=True):
        mask[top:bottom, left:right] = 5
    return masks


@pytest.fixture
def given():
    """Two pictures, four clicks each, three boxes for every click; the second is believed in most."""
    boxes = [(0, 0, 10, 10), (10, 4, 30, 40), (40, 40, 48, 48)]
    logits = logits_of(*boxes).expand(2, 4, 3, 48, 48).clone()
    quality = torch.tensor([0.2, 0.9, 0.5]).expand(2, 4, 3).clone()
    quality[0, 3, 1] = 0.95
    return torch.rand(2, 3, 96, 96), logits, quality, ["left <1>", "right"]


@pytest.mark.parametrize("box", [(5, 8, 20, 40), (0, 0, 48, 48), (0, 30, 12, 48), (20, 20, 23, 23)])
def test_an_outline_contains_what_the_mask_marks(box):
    (logits,) = logits_of(box)
    found = drawn(outline(logits.numpy()))
    np.testing.assert_array_equal(found, logits.numpy() > 0)


def test_an_outline_has_holes_and_islands():
    (logits,) = logits_of((4, 4, 30, 30))
    logits[10:20, 10:20] = -5
    logits[40:46, 40:46] = 5
    found = drawn(outline(logits.numpy()))
    np.testing.assert_array_equal(found, logits.numpy() > 0)


def test_a_curved_outline_is_near_to_the_mask():
    rows, columns = np.mgrid[:48, :48]
    logits = 15 - np.hypot(rows - 20, columns - 25)
    wrong = drawn(outline(logits)) ^ (logits > 0)
    assert wrong.sum() < 0.02 * (logits > 0).sum()


def test_nothing_has_no_outline():
    assert outline(np.full((48, 48), -1.0)) == ""


def test_clicks_are_amid_their_squares():
    at = explorer.clicks(4, 96)
    assert at.shape == (16, 2) and at[0].tolist() == [11.5, 11.5]  # pixel 0 reaches from -0.5 to 0.5
    assert at[1].tolist() == [35.5, 11.5] and at[4].tolist() == [11.5, 35.5]  # column first, row by row


def test_masks_stand_in_the_order_of_their_guesses(monkeypatch, given):
    found = packed(shown(monkeypatch, explorer.explore, *given, **WORDS)["text/html"])
    assert found["guesses"][1][0] == [0.9, 0.5, 0.2] and found["side"] == 2
    first, second, third = (drawn(outline) for outline in found["outlines"][1][0])
    assert first[20, 20] and second[44, 44] and third[4, 4] and not first[4, 4]


def test_it_begins_with_the_click_that_the_model_is_surest_of(monkeypatch, given):
    page = shown(monkeypatch, explorer.explore, *given, **WORDS)["text/html"]
    assert packed(page)["first"] == 3
    assert 'cx="72.0" cy="72.0"' in page  # the middle of the last of four squares
    assert [float(g) for g in re.findall(r'class="moe-guess"[^>]*>([\d.]+)<', page)] == [0.95, 0.5, 0.2]
    assert page.count(packed(page)["outlines"][0][3][0]) == 2  # large, and first of the small ones


def test_it_is_a_figure_with_its_words_and_its_data(monkeypatch, given):
    bundle = shown(monkeypatch, explorer.explore, *given, **WORDS)
    assert bundle["image/jpeg"][:2] == b"\xff\xd8" and bundle["text/plain"] == "<figure trial>"
    page, record = bundle["text/html"], bundle[FIGURE_MIME]
    assert f'role="img" aria-label="{WORDS["alt"]}"' in page
    assert "left &lt;1&gt;</text>" in page and 'id="figure-trial"' in page
    assert record["tol"] == 0.1 and set(record["data"]) == {"axes0/image0", "axes1/image0"}
    share = np.array(record["data"]["axes0/image0"])
    assert share.shape == (12, 12) and share[5, 5] == pytest.approx(1 / 3, abs=1e-4)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda i, lo, q, t: (i, lo[:, :3], q[:, :3], t), r"logits \(2, 3, 3, 48, 48\)"),
        (lambda i, lo, q, t: (i, lo[:, :, :2], q[:, :, :2], t), "three masks for each click"),
        (lambda i, lo, q, t: (i, lo, q[:, :1], t), r"quality \(2, 1, 3\)"),
        (lambda i, lo, q, t: (i, lo, q, t[:1]), "2 pictures, answers to 2, 1 titles"),
    ],
)
def test_what_does_not_fit_is_refused(monkeypatch, given, change, words):
    with pytest.raises(ValueError, match=words):
        shown(monkeypatch, explorer.explore, *change(*given), **WORDS)


def test_a_figure_without_words_is_refused(monkeypatch, given):
    with pytest.raises(ValueError, match="too short to tell"):
        shown(monkeypatch, explorer.explore, *given, **WORDS | {"alt": "short"})
