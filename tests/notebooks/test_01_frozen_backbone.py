"""What chapter 01 builds is right: held against timm, segment-anything, formulas and brute force."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from freshness import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st
from lift import lift
from segment_anything.modeling.image_encoder import Attention, window_partition
from timm.models.vision_transformer import Block

CHAPTER = lift(
    ROOT / "chapters" / "01_frozen_backbone.ipynb",
    *("patches_of", "heads_of", "attention", "TinyBlock", "windows_of", "with_positions"),
    *("pair_distances", "mean_distance", "ridge", "predict", "standard", "balanced_accuracy", "majority"),
    *("smooth", "pairs", "effective_tokens", "ridge_by_rows", "fit_to_noise", "share_of_place"),
)


@pytest.fixture(autouse=True)
def the_same_numbers_every_time():
    torch.manual_seed(0)


@pytest.mark.parametrize(("height", "width", "p"), [(8, 12, 4), (6, 6, 3)])
def test_patches_are_those_that_a_convolution_sees(height, width, p):
    image, kernel = torch.randn(2, 3, height, width), torch.randn(5, 3, p, p)
    expected = F.conv2d(image, kernel, stride=p).permute(0, 2, 3, 1)
    torch.testing.assert_close(
        CHAPTER.patches_of(image, p) @ kernel.flatten(1).T, expected, atol=1e-4, rtol=0
    )


@pytest.mark.parametrize(("dim", "heads", "tokens"), [(24, 4, 10), (16, 1, 7), (12, 3, 1)])
def test_the_block_is_timms(dim, heads, tokens):
    mine, theirs = CHAPTER.TinyBlock(dim, heads), Block(dim, heads, qkv_bias=True)
    state = theirs.state_dict()
    for name in state:
        own = name.replace("attn.", "").replace("mlp.", "")
        state[name] = mine.state_dict()[own]
    theirs.load_state_dict(state)
    x = torch.randn(2, tokens, dim)
    torch.testing.assert_close(mine(x), theirs(x), atol=1e-5, rtol=1e-5)


@given(h=st.integers(1, 9), w=st.integers(1, 9), s=st.integers(1, 5))
@settings(max_examples=20, deadline=None)
def test_windows_are_segment_anythings(h, w, s):
    grid = torch.randn(2, h, w, 3)
    torch.testing.assert_close(CHAPTER.windows_of(grid, s), window_partition(grid, s)[0])


@pytest.mark.parametrize(("h", "w"), [(4, 6), (5, 3)])
def test_attention_with_positions_is_segment_anythings(h, w):
    layer = Attention(16, 2, use_rel_pos=True, input_size=(h, w))
    for values in layer.parameters():
        torch.nn.init.normal_(values, std=0.3)
    x = torch.randn(2, h, w, 16)
    found, maps = CHAPTER.with_positions(x, layer)
    torch.testing.assert_close(found, layer(x), atol=1e-4, rtol=1e-4)
    assert maps.shape == (2, 2, h * w, h * w)


def test_mean_distance_by_brute_force():
    maps = torch.rand(2, 3, 6, 6).softmax(-1)
    found = CHAPTER.mean_distance(maps, 2, 3)
    for b in range(2):
        for head in range(3):
            total = sum(
                float(maps[b, head, i, j]) * math.hypot(i // 3 - j // 3, i % 3 - j % 3)
                for i in range(6)
                for j in range(6)
            )
            assert float(found[b, head]) == pytest.approx(total / 6, rel=1e-5)


@pytest.mark.parametrize(
    ("side", "known"), [(4, 2.01), (7, 3.61), (8, 4.14), (14, 7.28), (16, 8.33), (64, 33.37)]
)
def test_the_reference_lines(side, known):
    assert float(CHAPTER.pair_distances(side, side).mean()) == pytest.approx(known, abs=0.005)


@pytest.mark.parametrize("strength", [1e-4, 0.1, 5.0])
def test_ridge_is_where_the_gradient_is_zero(strength):
    x, y = torch.randn(40, 5).double(), torch.randn(40, 2).double()
    weights = CHAPTER.ridge(x, y, strength).requires_grad_()
    error = (CHAPTER.predict(x, weights) - y).square().sum()
    (error + strength * 40 * weights[:-1].square().sum()).backward()
    assert weights.grad.abs().max() < 1e-9


def test_both_roads_of_ridge_meet():
    x, y = torch.randn(40, 5).double(), torch.randn(40, 2).double()
    x, y = x - x.mean(0), y - y.mean(0)
    torch.testing.assert_close(CHAPTER.ridge_by_rows(x, y, 0.2), CHAPTER.ridge(x, y, 0.2)[:-1])


def test_balanced_accuracy_weighs_classes_alike():
    truth, found = torch.tensor([0] * 8 + [1] * 2), torch.tensor([0] * 8 + [0, 1])
    assert CHAPTER.balanced_accuracy(found, truth, range(2)) == pytest.approx(0.75)


def test_majority_is_the_most_frequent_class_of_a_patch():
    mask = torch.zeros(1, 4, 4, dtype=torch.long)
    mask[0, :2, 2:] = 3
    mask[0, 2, 2] = 3
    assert CHAPTER.majority(mask, p=2, classes=4).tolist() == [[[0, 3], [0, 0]]]


def test_standard_uses_the_training_set_alone():
    train, test = torch.randn(100, 3) * 4 + 2, torch.randn(50, 3)
    a, b = CHAPTER.standard(train, test)
    torch.testing.assert_close(a.mean(0), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(b, (test - train.mean(0)) / train.std(0), atol=1e-4, rtol=1e-4)


@given(side=st.integers(1, 30), window=st.integers(1, 9))
@settings(max_examples=30, deadline=None)
def test_pairs_are_counted_on_real_windows(side, window):
    real = CHAPTER.windows_of(torch.zeros(1, side, side, 1), window)
    assert CHAPTER.pairs(side, window) == len(real) * window**4
    assert CHAPTER.pairs(side, 0) == side**4


def test_effective_tokens_is_between_one_and_all():
    maps = torch.randn(2, 3, 9, 9).softmax(-1)
    found = CHAPTER.effective_tokens(maps)
    assert found.shape == (2, 3) and ((found > 1) & (found < 9)).all()
    entropy = torch.distributions.Categorical(maps.double()).entropy()
    np.testing.assert_allclose(found, entropy.exp().mean(-1), rtol=1e-4)


def test_share_of_place_of_a_sum():
    place, picture = torch.randn(1, 500, 8), torch.randn(400, 500, 8)
    assert CHAPTER.share_of_place(2 * place + picture) == pytest.approx(0.8, abs=0.02)


def test_a_probe_fits_noise_only_where_it_has_room():
    assert CHAPTER.fit_to_noise(50, 64) == 1.0
    assert CHAPTER.fit_to_noise(5000, 8) < 0.56
