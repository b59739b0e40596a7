"""The baselines do what their papers say, and train what they name."""

import pytest
import small
import torch
import torch.nn.functional as F
from torch import nn

from moe_lib.backbones import encoder
from moe_lib.injection import inject, trainable_parameters
from moe_lib.methods import VPT, Adapter, BitFit, Full, Open


def trained(model: nn.Module) -> set[str]:
    return {name for name, values in model.named_parameters() if values.requires_grad}


def test_an_adapter_is_a_bottleneck_beside_the_mlp():
    model = inject(small.model("vit"), Adapter(4, scale=0.5))
    small.disturb(model)
    mlp, x = model.blocks[0].mlp, torch.randn(2, 5, 24)
    down, up = mlp.down, mlp.up
    hidden = (x @ down.weight.mT + down.bias).clamp(min=0)
    torch.testing.assert_close(mlp(x), mlp.base(x) + 0.5 * (hidden @ up.weight.mT + up.bias))
    assert trainable_parameters(model).trainable == 2 * (24 * 4 + 4 + 4 * 24 + 24)
    assert all(".mlp.down." in name or ".mlp.up." in name for name in trained(model))


@pytest.mark.parametrize(
    "kind, adapters", [("vit", 2), ("swin", 2), ("convnext", 4), ("sam", 2), ("ours", 2)]
)
def test_an_adapter_in_every_block(kind, adapters):
    model = inject(small.model(kind), Adapter(4))
    assert sum(name.endswith("mlp.up") for name, _ in model.named_modules()) == adapters


def test_prompts_are_tokens_that_do_not_leave_the_block():
    model = inject(small.model("vit"), VPT(3))
    small.disturb(model)
    attention, x = model.blocks[1].attn, torch.randn(2, 5, 24)
    prompts = F.layer_norm(attention.prompts, (24,))
    expected = attention.base(torch.cat([prompts.expand(2, 3, 24), x], 1))[
        :, 3:
    ]  # their place does not matter
    torch.testing.assert_close(attention(x), expected)
    assert trained(model) == {"blocks.0.attn.prompts", "blocks.1.attn.prompts"}
    assert trainable_parameters(model).trainable == 2 * 3 * 24


@pytest.mark.parametrize("most", [1024, 0])
def test_prompts_in_an_encoder_with_places_and_windows(most, monkeypatch):
    """Written out: an attention over all tokens, in which prompts have no bias of place."""
    monkeypatch.setattr(encoder, "MOST_IN_A_MAP", most)  # both ways of adding the places
    model = small.model("ours")
    attention, x = model.blocks[1].attn, torch.randn(2, 8, 8, 24)
    layer = VPT(3).wrap(attention, "blocks.1.attn")
    small.disturb(layer)
    tokens = F.layer_norm(layer.prompts, (24,))
    q, k, v = attention._heads(x)
    _, more_k, more_v = (part.expand(2, -1, -1, -1) for part in attention._heads(tokens[None, None]))
    said, place = attention._positions(q, 8, 8)
    logits = torch.cat([q @ k.mT * attention.scale + said @ place, q @ more_k.mT * attention.scale], -1)
    out = (logits.softmax(-1) @ torch.cat([v, more_v], 2)).transpose(1, 2).reshape(2, 8, 8, 24)
    torch.testing.assert_close(layer(x), attention.proj(out), rtol=1e-5, atol=1e-5)
    assert not torch.allclose(layer(x), attention(x))


def test_prompts_reach_every_window():
    model, x = small.model("ours"), small.images()
    before = model.tokens(x)
    inject(model, VPT(2, targets="blocks.0.attn"))  # with windows of 3, on a grid of 8
    assert ((model.tokens(x) - before).abs().amax(-1) > 0).all()


def test_where_prompts_cannot_go():
    with pytest.raises(
        TypeError, match=r"VPT prompts moe_lib's encoder of SAM, and 'blocks.0.attn' is segment-any"
    ):
        inject(small.model("sam"), VPT())
    with pytest.raises(
        TypeError, match=r"VPT prompts an attention with a layer qkv, and 'blocks.0.mlp' has none"
    ):
        inject(small.model("vit"), VPT(targets="blocks.0.mlp"))
    model = inject(small.model("vit"), VPT())
    with pytest.raises(ValueError, match=r"VPT needs tokens as \(B, N, D\), got \(1, 2, 2, 24\)"):
        model.blocks[0].attn(torch.zeros(1, 2, 2, 24))
    with pytest.raises(ValueError, match="cannot say what attn_mask means for its prompts"):
        model.blocks[0].attn(torch.zeros(1, 4, 24), attn_mask=torch.zeros(4, 4))


def test_biases_and_norms():
    model = inject(small.model("vit"), BitFit())
    every = {name for name, _ in model.named_parameters()}
    assert trained(model) == {name for name in every if name.endswith("bias")}
    with_norms = inject(small.model("vit"), BitFit(norms=True))
    assert trained(with_norms) == trained(model) | {name for name in every if "norm" in name}
    assert len(trained(with_norms)) - len(trained(model)) == 2 * 2 + 1  # two in each block, one at the end
    sam = inject(small.model("ours"), BitFit(norms=True))
    assert {"neck.1.weight", "neck.3.weight"} < trained(sam)  # SAM's own class of norm


def test_all_and_parts():
    model = inject(small.model("vit"), Full())
    assert trained(model) == {name for name, _ in model.named_parameters()}
    assert trainable_parameters(model).percent == 100
    model = inject(small.model("vit"), Open(("head", "blocks.1")))
    assert trained(model) == {n for n, _ in model.named_parameters() if n.startswith(("head.", "blocks.1."))}


@pytest.mark.parametrize("method", [Adapter, VPT])
@pytest.mark.parametrize("value", [0, -1, 1.5])
def test_settings_that_make_no_sense(method, value):
    with pytest.raises(ValueError, match=rf"whole number from 1, got {value}"):
        method(value)
