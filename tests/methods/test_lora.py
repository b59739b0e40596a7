"""LoRA is what peft's LoRA is, forward and backward, and counts as arithmetic says."""

import peft
import pytest
import small
import torch
from torch import nn

from moe_lib.backbones import sam
from moe_lib.injection import inject, trainable_parameters
from moe_lib.methods import LoRA
from moe_lib.methods.lora import LoRALinear


def pair(rank: int, alpha: float, kind: str = "vit") -> tuple[nn.Module, nn.Module]:
    """Ours and peft's, with the same random numbers in the same places."""
    targets = ["qkv", "lin1" if kind == "ours" else "fc1"]
    ours = inject(small.model(kind), LoRA(rank, alpha, targets=targets))
    config = peft.LoraConfig(r=rank, lora_alpha=alpha, target_modules=targets)
    theirs = peft.get_peft_model(small.model(kind), config).eval()
    small.disturb(ours)
    own = dict(ours.named_modules())
    with torch.no_grad():
        for name, module in theirs.base_model.model.named_modules():
            if isinstance(module, peft.tuners.lora.Linear):
                module.lora_A["default"].weight.copy_(own[name].A[0])
                module.lora_B["default"].weight.copy_(own[name].B[0])
    return ours, theirs


@pytest.mark.parametrize("rank, alpha", [(1, 1), (4, 8), (3, 32)])
@pytest.mark.parametrize("kind", ["vit", "swin", "ours"])
def test_peft_gives_the_same_forward_and_backward(rank, alpha, kind):
    ours, theirs = (model.double() for model in pair(rank, alpha, kind))
    x = small.images().double()
    out, expected = ours(x), theirs(x)
    torch.testing.assert_close(out, expected, rtol=1e-10, atol=1e-10)
    weights = torch.randn(out.shape, generator=torch.Generator().manual_seed(3))
    for result in (out, expected):
        (result * weights).mean().backward()
    compared = 0
    own = dict(ours.named_modules())
    for name, module in theirs.base_model.model.named_modules():
        if isinstance(module, peft.tuners.lora.Linear):
            for letter, part in (("A", module.lora_A), ("B", module.lora_B)):
                gradient = getattr(own[name], letter).grad[0]
                torch.testing.assert_close(gradient, part["default"].weight.grad, rtol=1e-9, atol=1e-10)
                assert gradient.abs().max() > 0
                compared += 1
    assert compared == 2 * 2 * 2


def test_peft_counts_the_same_and_says_it_the_same_way(capsys):
    ours, theirs = pair(4, 8)
    theirs.print_trainable_parameters()
    assert capsys.readouterr().out.strip() == str(trainable_parameters(ours))


def test_peft_merges_into_the_same_weights():
    ours, theirs = pair(4, 8)
    merged = theirs.merge_and_unload()
    for module in ours.modules():
        if isinstance(module, LoRALinear):
            module.merge()
    for block, other in zip(ours.blocks, merged.blocks, strict=True):
        torch.testing.assert_close(block.attn.qkv.base.weight, other.attn.qkv.weight, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("slices", ["q", "v", "qv", "vq", "kv", "qkv"])
def test_slices_are_layers_of_their_own(slices):
    """Of a fused layer: what is not chosen stays, and each chosen slice is a LoRA on a third of the layer."""
    torch.manual_seed(0)
    fused = nn.Linear(8, 24)
    layer = LoRA(2, alpha=6, slices=slices).wrap(fused, "attn.qkv")
    small.disturb(layer)
    x = torch.randn(3, 4, 8)
    out, before = layer(x).chunk(3, -1), fused(x).chunk(3, -1)
    for number, letter in enumerate("qkv"):
        if letter not in slices:
            assert torch.equal(out[number], before[number])
            continue
        place = sorted(slices, key="qkv".index).index(letter)
        change = 3 * x @ layer.A[place].mT @ layer.B[place].mT
        torch.testing.assert_close(out[number], before[number] + change)
    torch.testing.assert_close(
        nn.functional.linear(x, fused.weight + layer.delta(), fused.bias), torch.cat(out, -1)
    )
    assert f"slices={''.join(sorted(slices, key='qkv'.index))}" in repr(layer)


def test_slices_concern_fused_layers_only():
    model = inject(small.model("vit"), LoRA(2, slices="qv", targets=("qkv", "attn.proj")))
    attention = model.blocks[0].attn
    assert attention.qkv.A.shape == (2, 2, 24) and attention.qkv.B.shape == (2, 24, 2)
    assert attention.proj.A.shape == (1, 2, 24) and attention.proj.slices is None


@pytest.mark.parametrize("name, width, depth", [("vit_b", 768, 12), ("vit_l", 1024, 24), ("vit_h", 1280, 32)])
@pytest.mark.parametrize("slices", [None, "qv"])
def test_what_rank_three_costs_in_a_real_sam(name, width, depth, slices):
    """12 · d · N, whether one pair of matrices serves the fused layer or two pairs serve query and value."""
    with torch.device("meta"):
        encoder = sam(name, weights=False).image_encoder
        inject(encoder, LoRA(3, slices=slices))
    assert trainable_parameters(encoder).trainable == 12 * width * depth


def test_dropout_is_for_training():
    torch.manual_seed(0)
    layer = LoRA(2, dropout=0.5, targets="fc").wrap(nn.Linear(64, 8), "fc")
    small.disturb(layer)
    x = torch.randn(5, 64)
    assert not torch.equal(layer.train()(x), layer(x))
    assert torch.equal(layer.eval()(x), layer(x))
    whole = torch.stack([layer.train()(x) for _ in range(4000)]).mean(0)
    torch.testing.assert_close(whole, layer.eval()(x), rtol=0, atol=0.1)


def test_a_begins_as_peft_begins_it():
    """Uniform in ± 1 / √D: Kaiming's range with the slope √5 that both take."""
    torch.manual_seed(0)
    layer = LoRALinear(nn.Linear(400, 6), 50)
    bound = 400**-0.5
    assert layer.B.abs().max() == 0
    assert 0.99 * bound < layer.A.abs().max() <= bound
    assert abs(layer.A.std() - bound / 3**0.5) < 0.02 * bound


@pytest.mark.parametrize(
    "settings, said",
    [
        ({"rank": 0}, "the rank is a whole number from 1, got 0"),
        ({"rank": 2.0}, "the rank is a whole number from 1, got 2.0"),
        ({"alpha": float("nan")}, "alpha is a finite number, got nan"),
        ({"dropout": 1.0}, "dropout is a share from 0 to below 1, got 1.0"),
        ({"slices": "qq"}, "slices are some of q, k and v, such as 'qv'; got 'qq'"),
        ({"slices": ""}, "slices are some of q, k and v"),
        ({"slices": "x"}, "slices are some of q, k and v"),
    ],
)
def test_settings_that_make_no_sense(settings, said):
    with pytest.raises(ValueError, match=said):
        LoRA(**settings)


def test_a_layer_without_three_slices():
    with pytest.raises(ValueError, match="'qkv' gives 10 numbers, no query, key and value of one size"):
        LoRA(2, slices="q").wrap(nn.Linear(4, 10), "qkv")
