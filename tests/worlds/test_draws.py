"""The random numbers of scenes: known values, moments, and streams that never meet."""

import itertools
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe_lib.worlds import SPLITS, Draws
from moe_lib.worlds.draws import stream


def philox(key: tuple[int, int], count: int) -> list[int]:
    """Philox4x64-10 as its authors describe it, in Python's whole numbers; blocks are counted from 1."""
    full, words = 2**64 - 1, []
    for block in itertools.count(1):
        if len(words) >= count:
            return words[:count]
        (a, b, c, d), (k0, k1) = (block, 0, 0, 0), key
        for _ in range(10):
            left, right = 0xD2E7470EE14C6C93 * a, 0xCA5A826395121157 * c
            a, b, c, d = (right >> 64) ^ b ^ k0, right & full, (left >> 64) ^ d ^ k1, left & full
            k0, k1 = (k0 + 0x9E3779B97F4A7C15) & full, (k1 + 0xBB67AE8584CAA73B) & full
        words += [a, b, c, d]


@pytest.mark.parametrize("index", [0, 7, 2**63 - 1])
def test_numbers_are_philox_words_of_the_scene_s_name(index):
    expected = [(word >> 11) * 2.0**-53 for word in philox((stream("shapes", "val"), index), 600)]
    draws = Draws("shapes", "val", index)
    assert draws.uniform(size=250).tolist() == expected[:250]
    assert [draws.uniform() for _ in range(10)] == expected[250:260]
    assert draws.uniform(size=(2, 170)).ravel().tolist() == expected[260:]


def test_known_values():
    """The world must be the same on every machine and after every change that is not a new version of it."""
    assert stream("roads", "train") == 11148110195165529109
    draws = Draws("roads", "train", 3)
    assert draws.uniform() == 0.9547468712150583
    assert draws.normal() == -1.0769070142270074
    assert (draws.integer(0, 1000), draws.chance(0.5), draws.seed()) == (756, False, 1140561274)
    assert draws.choice("abcdefgh") == "d"
    assert draws.shuffled(range(8)) == [0, 3, 1, 7, 5, 4, 6, 2]


def test_no_two_streams_meet():
    families = (
        "generic",
        "street",
        "tabletop",
        "roads",
        "cells",
        "polyps",
        "lesions",
        "leaves",
        "shadows",
        "camouflage",
        "glass",
    )
    names = list(itertools.product(families, SPLITS, ("scene", "camera", "words")))
    assert len({stream(*name) for name in names}) == len(names)
    firsts = {
        Draws(family, split, index, part=part).uniform() for family, split, part in names for index in (0, 1)
    }
    assert len(firsts) == 2 * len(names)


def test_family_split_and_part_are_told_apart():
    assert stream("a/train", "val") != stream("a", "train", "val")
    assert stream("ab", "train") != stream("a", "train")


@given(st.integers(0, 2**63 - 1))
def test_a_scene_is_the_same_whenever_it_is_drawn(index):
    assert (
        Draws("x", "test", index).uniform(size=3).tolist()
        == Draws("x", "test", index).uniform(size=3).tolist()
    )


def test_another_process_draws_the_same():
    code = "from moe_lib.worlds import Draws; print(Draws('x', 'test', 5).normal(size=3).tolist())"
    seen = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert seen.strip() == str(Draws("x", "test", 5).normal(size=3).tolist())


def test_moments():
    draws = Draws("moments", "train", 0)
    uniform, normal = draws.uniform(-1, 3, 40_000), draws.normal(2, 0.5, 40_000)
    assert uniform.min() >= -1 and uniform.max() < 3
    assert uniform.mean() == pytest.approx(1, abs=0.03) and uniform.std() == pytest.approx(
        4 / 12**0.5, abs=0.02
    )
    assert normal.mean() == pytest.approx(2, abs=0.01) and normal.std() == pytest.approx(0.5, abs=0.01)
    standard = (normal - 2) / 0.5
    assert (standard**3).mean() == pytest.approx(0, abs=0.05)
    assert (np.abs(standard) < 1).mean() == pytest.approx(0.683, abs=0.01)
    assert abs(np.corrcoef(uniform[:-1], uniform[1:])[0, 1]) < 0.02


def test_whole_numbers_choices_and_chances():
    draws = Draws("choices", "train", 0)
    numbers = np.bincount([draws.integer(2, 5) for _ in range(3000)], minlength=6)
    assert numbers[[0, 1, 5]].sum() == 0 and (abs(numbers[2:5] - 1000) < 120).all()
    assert np.mean([draws.chance(0.2) for _ in range(3000)]) == pytest.approx(0.2, abs=0.03)
    assert not any(draws.chance(0) for _ in range(100)) and all(draws.chance(1) for _ in range(100))
    assert {draws.choice("abc") for _ in range(60)} == set("abc")
    places = np.mean([draws.shuffled([0, 1, 2, 3]) for _ in range(2000)], axis=0)
    assert places == pytest.approx([1.5] * 4, abs=0.1)
    assert sorted(draws.shuffled("hello")) == sorted("hello")
    assert all(0 <= draws.seed() < 2**31 for _ in range(100))


@pytest.mark.parametrize("index", [-1, 2**63])
def test_an_index_out_of_range_is_refused(index):
    with pytest.raises(ValueError, match=str(index)):
        Draws("x", "train", index)


def test_other_mistakes_are_refused():
    with pytest.raises(ValueError, match=r"'training'.*pretrain, pretrain_val, train, val, test"):
        Draws("x", "training", 0)
    with pytest.raises(ValueError, match=r"\[4, 4\)"):
        Draws("x", "train", 0).integer(4, 4)
