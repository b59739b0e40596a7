"""What chapter 02 builds is right: held against the library and against formulas of its own here."""

import pytest
import torch
from freshness import ROOT
from lift import lift
from torch import nn

import moe_lib as moe

CHAPTER = lift(
    ROOT / "chapters" / "02_small_changes.ipynb",
    *(
        "TinyLoRA",
        "TinyAdapter",
        "TinyPrompts",
        "train_only",
        "biases",
        "everything",
        "count_trained",
        "put_in",
    ),
    *("agree", "count", "merged", "share_of_rank", "ConvLoRA2d", "spread"),
)


@pytest.fixture(autouse=True)
def the_same_numbers_every_time():
    torch.manual_seed(0)


@pytest.mark.parametrize(("rank", "alpha"), [(1, None), (3, 6.0), (8, 2.0)])
def test_lora_adds_a_scaled_product(rank, alpha):
    base, x = nn.Linear(12, 7), torch.randn(5, 12)
    layer = CHAPTER.TinyLoRA(base, rank, alpha)
    assert torch.equal(layer(x), base(x))
    nn.init.normal_(layer.B)
    scale = (alpha or rank) / rank
    expected = x @ (base.weight + scale * layer.B @ layer.A).T + base.bias
    torch.testing.assert_close(layer(x), expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(CHAPTER.merged(layer)(x), expected, atol=1e-5, rtol=1e-5)


def test_the_adapter_is_the_librarys():
    mlp = nn.Sequential(nn.Linear(6, 24), nn.GELU(), nn.Linear(24, 6))
    mine, library = CHAPTER.TinyAdapter(mlp, 6, width=5), moe.Adapter(width=5).wrap(mlp, "mlp")
    names = {name: name for name in ("down.weight", "down.bias", "up.weight", "up.bias")}
    assert CHAPTER.agree(mine, library, torch.randn(3, 6), names) < 1e-5


def test_a_disagreement_is_noticed():
    base = nn.Linear(6, 6)
    mine, other = CHAPTER.TinyLoRA(base, 2, alpha=2), CHAPTER.TinyLoRA(base, 2, alpha=3)
    assert CHAPTER.agree(mine, other, torch.randn(3, 6), {"A": "A", "B": "B"}) > 1e-2


def test_prompts_are_the_librarys():
    attention = moe.backbones.sam("pocket").image_encoder.blocks[0].attn
    mine = CHAPTER.TinyPrompts(attention, 128, count=3)
    library = moe.VPT(prompts=3).wrap(attention, "blocks.0.attn")
    assert CHAPTER.agree(mine, library, torch.randn(2, 6, 6, 128), {"prompts": "prompts"}) < 1e-5


def test_only_what_is_wanted_is_trained():
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    assert CHAPTER.count_trained(CHAPTER.train_only(model, CHAPTER.biases)) == 6
    assert CHAPTER.count_trained(CHAPTER.train_only(model, CHAPTER.everything)) == 26


def test_put_in_wraps_every_match_and_freezes_the_rest():
    model = nn.ModuleDict(
        {name: nn.ModuleDict({"qkv": nn.Linear(4, 12), "proj": nn.Linear(4, 4)}) for name in "ab"}
    )
    CHAPTER.put_in(model, ".qkv", CHAPTER.TinyLoRA)
    assert [type(model[name]["qkv"]) for name in "ab"] == [CHAPTER.TinyLoRA] * 2
    assert isinstance(model["a"]["proj"], nn.Linear)
    assert CHAPTER.count_trained(model) == 2 * (4 * 4 + 4 * 12)


@pytest.mark.parametrize(
    ("name", "method", "size"),
    [("LoRA", moe.LoRA(rank=3), 3), ("adapter", moe.Adapter(width=5), 5), ("prompts", moe.VPT(prompts=7), 7)],
)
def test_the_count_of_the_exercise_is_that_of_a_model(name, method, size):
    encoder = moe.backbones.sam("pocket").image_encoder
    assert (
        CHAPTER.count(name, 128, 8, size) == moe.trainable_parameters(moe.inject(encoder, method)).trainable
    )


def test_share_of_rank_is_that_of_the_best_approximation():
    change = torch.randn(9, 6).double()
    u, s, v = torch.linalg.svd(change, full_matrices=False)
    for r in range(1, 7):
        rest = change - (u[:, :r] * s[:r]) @ v[:r]
        expected = 1 - float(rest.square().sum() / change.square().sum())
        assert CHAPTER.share_of_rank(change, r) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(("kernel", "stride", "padding"), [(1, 1, 0), (3, 2, 1), (5, 1, 2)])
def test_lora_of_a_convolution_is_one_convolution(kernel, stride, padding):
    base, x = nn.Conv2d(3, 6, kernel, stride, padding), torch.randn(2, 3, 11, 9)
    layer = CHAPTER.ConvLoRA2d(base, rank=2)
    assert torch.equal(layer(x), base(x))
    nn.init.normal_(layer.B.weight)
    whole = torch.einsum("or,rchw->ochw", layer.B.weight[..., 0, 0], layer.A.weight) + base.weight
    expected = nn.functional.conv2d(x, whole, base.bias, stride, padding)
    torch.testing.assert_close(layer(x), expected, atol=1e-4, rtol=1e-4)


def test_pairs_take_the_noise_of_the_seed_away():
    assert CHAPTER.spread(True) == pytest.approx((2 * 0.01**2 / 5) ** 0.5, rel=0.05)
    assert CHAPTER.spread(False) == pytest.approx((2 * (0.04**2 + 0.01**2) / 5) ** 0.5, rel=0.05)
