"""A picture to point at holds where every token looks, and how far."""

import base64
import io
import re

import numpy as np
import pytest
import torch
from PIL import Image
from showing import packed, shown

from moe_lib import explorer
from moe_lib.plots import FIGURE_MIME

WORDS = {"name": "looks", "alt": "A grey square and where its tokens look.", "caption": "Point at it."}
IMAGE = torch.rand(3, 24, 24)


def neighbours() -> torch.Tensor:
    """Two blocks on 3 × 3 tokens: each looks at itself, or at the last one and half as much at itself."""
    itself, last = torch.eye(9), torch.zeros(9, 9)
    last[:, 8] = 1
    return torch.stack([itself, (2 * last + itself) / 3])


def test_levels_are_relative_to_the_largest_weight(monkeypatch):
    page = shown(monkeypatch, explorer.attention, IMAGE, {"a": neighbours()}, **WORDS)["text/html"]
    found = packed(page)
    first, second = found["levels"]
    assert len(first) == len(second) == 81 and found["side"] == 3 and found["titles"] == ["a"]
    assert first[:9] == "f00000000" and first[9:18] == "0f0000000"
    assert second[:9] == "80000000f" and second[72:] == "00000000f"


def test_distances_are_means_by_weight(monkeypatch):
    far = packed(shown(monkeypatch, explorer.attention, IMAGE, {"a": neighbours()}, **WORDS)["text/html"])
    (blocks,) = far["distances"]
    assert blocks[0] == [0.0] * 9
    assert blocks[1][0] == pytest.approx(2 / 3 * 8**0.5, abs=0.05) and blocks[1][8] == 0


def test_before_anybody_points_the_first_token_is_drawn(monkeypatch):
    maps = {"a": neighbours(), "b": neighbours().flip(0)}
    page = shown(monkeypatch, explorer.attention, IMAGE, maps, first=4, **WORDS)["text/html"]
    bitmaps = re.findall(r'class="moe-map"[^>]*href="data:image/bmp;base64,([^"]+)"', page)
    assert len(bitmaps) == 4
    seen = [np.array(Image.open(io.BytesIO(base64.b64decode(data)))) for data in bitmaps]
    assert seen[0].tolist() == [[0, 0, 0], [0, 15, 0], [0, 0, 0]]
    assert seen[1][2, 2] == 15 and seen[1][1, 1] == 8
    np.testing.assert_array_equal(seen[2:], seen[1::-1])
    assert 'x="32.0000" y="32.0000" width="32.0000"' in page  # the frame in the picture


def test_the_script_continues_the_bitmaps_of_the_drawing(monkeypatch):
    """What it puts before its rows is what a whole file begins with."""
    page = shown(monkeypatch, explorer.attention, IMAGE, {"a": neighbours()}, **WORDS)["text/html"]
    whole = base64.b64decode(re.search(r"data:image/bmp;base64,([^\"]+)", page)[1])
    head = base64.b64decode(packed(page)["head"])
    assert whole.startswith(head) and len(whole) - len(head) == 3 * 4  # rows fill up to four bytes
    assert whole[len(head) :] == bytes([0, 0, 0, 0, 0, 0, 0, 0, 15, 0, 0, 0])  # from below


def test_a_re_run_is_compared_by_where_is_looked(monkeypatch):
    record = shown(monkeypatch, explorer.attention, IMAGE, {"a": neighbours()}, **WORDS)[FIGURE_MIME]
    assert set(record["data"]) == {"axes0/image0", "axes0/image1"}
    assert record["data"]["axes0/image0"] == [[pytest.approx(1 / 9, abs=1e-6)] * 3] * 3
    assert record["data"]["axes0/image1"][2][2] == pytest.approx(19 / 27, abs=1e-6)


@pytest.mark.parametrize(
    ("maps", "first", "words"),
    [
        ({}, 0, r"got \[\]"),
        ({"a": torch.eye(8)[None]}, 0, r"N a square number, got \[\(1, 8, 8\)\]"),
        ({"a": torch.eye(9)[None], "b": torch.eye(4)[None]}, 0, r"\(1, 4, 4\), \(1, 9, 9\)"),
        ({"a": torch.eye(9)[None]}, 9, "first is 9, of 9 tokens"),
    ],
)
def test_what_does_not_fit_is_refused(monkeypatch, maps, first, words):
    with pytest.raises(ValueError, match=words):
        shown(monkeypatch, explorer.attention, IMAGE, maps, first=first, **WORDS)
