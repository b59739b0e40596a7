"""The image encoder against segment-anything's own: the same names, results and gradients."""

import copy
from functools import partial

import pytest
import torch
from segment_anything.modeling import ImageEncoderViT
from torch import nn

from moe_lib.backbones import encoder
from moe_lib.backbones.encoder import FusedAttention, ImageEncoder

SIZES = {
    "windows": {"window_size": 3, "global_attn_indexes": (1,), "use_rel_pos": True},
    "padded windows": {"window_size": 4, "global_attn_indexes": (1,), "use_rel_pos": True},
    "global": {"use_rel_pos": True},
    "no relative positions": {},
    "another size than the model's": {"use_rel_pos": True, "use_abs_pos": False, "img_size": 32},
}


def pair(**options) -> tuple[ImageEncoderViT, ImageEncoder]:
    """segment-anything's encoder and ours, with the same weights, none of them zero."""
    sizes = {
        "img_size": 48, "patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 3, "out_chans": 8,
        "norm_layer": partial(nn.LayerNorm, eps=1e-6),
    }  # fmt: skip
    torch.manual_seed(0)
    theirs = ImageEncoderViT(**sizes | options)
    for parameter in theirs.parameters():
        nn.init.normal_(parameter, std=0.3)
    ours = ImageEncoder(**sizes | options)
    ours.load_state_dict(theirs.state_dict())
    return theirs, ours


def error(found: torch.Tensor, expected: torch.Tensor) -> float:
    """The largest deviation, relative to the largest value."""
    return ((found - expected).abs().max() / expected.abs().max()).item()


def assert_alike(theirs: nn.Module, ours: nn.Module, image: torch.Tensor) -> None:
    """Results, gradients of the picture and of every parameter agree."""
    images = [image.clone().requires_grad_() for _ in range(2)]
    results = [model(given) for model, given in zip((theirs, ours), images, strict=True)]
    assert error(results[1], results[0]) < 1e-5
    weights = torch.randn_like(results[0])
    for result in results:
        (result * weights).sum().backward()
    assert error(images[1].grad, images[0].grad) < 1e-5
    for (name, expected), found in zip(theirs.named_parameters(), ours.parameters(), strict=True):
        if not name.endswith("attn.qkv.bias"):
            assert error(found.grad, expected.grad) < 1e-5, name
        else:  # a third of it, the keys' bias, has gradient zero but for rounding
            assert (found.grad - expected.grad).abs().max() < 1e-5 * expected.grad.abs().max(), name


@pytest.mark.parametrize("options", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("most", [encoder.MOST_IN_A_MAP, 0], ids=["map of biases", "appended"])
def test_results_and_gradients_are_segment_anythings(options, most, monkeypatch):
    monkeypatch.setattr(encoder, "MOST_IN_A_MAP", most)
    assert_alike(*pair(**options), torch.randn(2, 3, 48, 48))


def test_a_picture_need_not_be_square_where_the_original_takes_it():
    theirs, ours = pair(use_rel_pos=True, use_abs_pos=False, window_size=3, global_attn_indexes=(1,))
    assert_alike(theirs, ours, torch.randn(2, 3, 48, 80))


def test_control_another_order_of_rows_and_columns_is_noticed(monkeypatch):
    theirs, ours = pair(use_rel_pos=True)
    monkeypatch.setattr(encoder, "_table", lambda offsets, size: offsets.unfold(0, size, 1))
    with pytest.raises(AssertionError):
        assert_alike(theirs, ours, torch.randn(2, 3, 48, 48))


def test_names_and_shapes_are_segment_anythings():
    theirs, ours = pair(use_rel_pos=True, window_size=3)
    shapes = [{name: value.shape for name, value in model.state_dict().items()} for model in (theirs, ours)]
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize("relative", [True, False])
@pytest.mark.parametrize("most", [encoder.MOST_IN_A_MAP, 0], ids=["map of biases", "appended"])
def test_maps_are_the_probabilities_that_the_forward_uses(relative, most, monkeypatch):
    monkeypatch.setattr(encoder, "MOST_IN_A_MAP", most)
    _, ours = pair(use_rel_pos=relative)
    attention = ours.blocks[0].attn
    x = torch.randn(2, 6, 6, 24)
    maps = attention.maps(x)
    assert maps.shape == (2, 3, 36, 36)
    torch.testing.assert_close(maps.sum(-1), torch.ones(2, 3, 36))
    value = attention.qkv(x).view(2, 36, 3, 3, 8)[:, :, 2].transpose(1, 2)  # (B, heads, N, d)
    expected = attention.proj((maps @ value).transpose(1, 2).reshape(2, 6, 6, 24))
    torch.testing.assert_close(attention(x), expected, rtol=1e-4, atol=1e-5)


def test_tokens_are_what_the_neck_is_given():
    _, ours = pair(use_rel_pos=True)
    image = torch.randn(1, 3, 48, 48)
    tokens = ours.tokens(image)
    assert tokens.shape == (1, 6, 6, 24)
    torch.testing.assert_close(ours.neck(tokens.permute(0, 3, 1, 2)), ours(image))


class Doubled(nn.Linear):
    """Stands for an adapter in place of a layer."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 2 * super().forward(x)


def test_the_projection_to_queries_keys_and_values_can_be_replaced():
    models = pair(use_rel_pos=True, window_size=3)
    for model in models:
        for block in model.blocks:
            block.attn.qkv.__class__ = Doubled
    assert_alike(*models, torch.randn(2, 3, 48, 48))


def test_a_copy_and_another_precision_work():
    _, ours = pair(use_rel_pos=True)
    image = torch.randn(1, 3, 48, 48)
    before = ours(image)
    twin = copy.deepcopy(ours).double()
    assert all(isinstance(block.attn, FusedAttention) for block in twin.blocks)
    assert error(twin(image.double()), before.double()) < 1e-5
    with torch.autocast("cpu", torch.bfloat16):
        assert error(ours(image).float(), before) < 0.1


def test_it_compiles_without_a_break():
    _, ours = pair(use_rel_pos=True, window_size=4, global_attn_indexes=(1,))
    image = torch.randn(2, 3, 48, 48)
    compiled = torch.compile(ours, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(image), ours(image))
