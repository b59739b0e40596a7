"""AdaRoute: its counts, one pool for a stage, its quirks, and what it refuses."""

import pytest
import small
import timm
import torch
from learning import validated
from timm.models.convnext import ConvNeXt
from timm.models.swin_transformer import SwinTransformer
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

import moe_lib as moe
from moe_lib.backbones import Staged
from moe_lib.methods.adaroute import ExpertCenter, RoutedAdapter, RoutedBlocks

SMALL = moe.AdaRoute(rank=4, kernels=(3, 5), hidden=3)


def vit(**options) -> VisionTransformer:
    torch.manual_seed(0)
    sizes = dict(img_size=32, patch_size=8, embed_dim=16, depth=3, num_heads=2, num_classes=5)
    return VisionTransformer(**(sizes | options)).eval()


def swin() -> Staged:
    torch.manual_seed(0)
    model = SwinTransformer(
        32, patch_size=2, embed_dim=8, depths=(1, 1, 2, 1), num_heads=(1, 1, 2, 2), window_size=2,
        num_classes=0,
    )  # fmt: skip
    return Staged(model).eval()


def convnext() -> Staged:
    torch.manual_seed(0)
    return Staged(ConvNeXt(depths=(1, 1, 2, 1), dims=(8, 8, 16, 16), num_classes=0)).eval()


KINDS = {"vit": vit, "swin": swin, "convnext": convnext}


@pytest.mark.parametrize(
    "name, hidden, trained",
    [
        ("swin_base_patch4_window7_224", 16, 5_242_992),
        ("swin_large_patch4_window7_224", 16, 7_302_384),
        ("convnext_base", 16, 6_456_000),
        ("convnext_large", 16, 9_156_096),
        ("convnext_base", 24, 6_630_912),  # of one published configuration, and not of the published count
        ("vit_base_patch16_224", 16, 3_098_340),
    ],
)
def test_the_published_size_to_the_unit(name, hidden, trained):
    with torch.device("meta"):
        model = timm.create_model(name, num_classes=0)
        model = model if name.startswith("vit") else Staged(model)
        moe.inject(model, moe.AdaRoute(hidden=hidden))
    assert moe.trainable_parameters(model).trainable == trained


@pytest.mark.parametrize("kind", KINDS)
def test_one_pool_for_each_stage(kind):
    model = moe.inject(KINDS[kind](), SMALL)
    stages = [m for m in model.modules() if isinstance(m, RoutedBlocks)]
    assert [len(stage) for stage in stages] == ([3] if kind == "vit" else [1, 1, 2, 1])
    for stage in stages:
        assert len(stage.center.down) == len(stage)  # as many experts as blocks
        assert len(stage.adapters) == len(stage) * (2 if kind == "swin" else 1)
    centers = [name for name, _ in model.named_parameters() if ".center." in name]
    assert len(centers) == len(stages) * 4  # registered once


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_not_the_frozen_model_at_first_but_near(kind):
    image, model = torch.rand(2, 3, 32, 32), KINDS[kind]()
    with torch.no_grad():
        before = model(image)
        moe.inject(model, SMALL)
        after = model(image)
        with moe.disable(model):
            again = model(image)
    for a, b, c in zip(*(x if isinstance(x, list) else [x] for x in (before, after, again)), strict=True):
        assert torch.equal(a, c)
        assert 0 < (a - b).norm() < 0.3 * a.norm()


@pytest.mark.parametrize("kind", KINDS)
def test_every_picture_has_gates_of_its_own(kind):
    model = small.disturb(moe.inject(KINDS[kind](), SMALL))
    with moe.watch_routing(model) as records, torch.no_grad():
        model(torch.rand(3, 3, 32, 32))
    assert all(calls[0].shape == ("image", (3,)) and len(calls) == 1 for calls in records.values())
    roles = {name.rpartition(".")[2] for name in records}
    assert roles == {"down", "up", "kernel3", "kernel5"}
    several = [calls[0].gates for calls in records.values() if calls[0].gates.shape[1] > 1]
    assert all((gates[0] - gates[1]).abs().max() > 0 for gates in several)
    assert moe.plots.expert_usage(records)


def test_the_order_of_a_batch_does_not_matter():
    model, image = small.disturb(moe.inject(swin(), SMALL)), torch.rand(3, 3, 32, 32)
    with torch.no_grad():
        whole, turned = model(image), model(image.flip(0))
    for a, b in zip(whole, turned, strict=True):
        torch.testing.assert_close(a, b.flip(0), rtol=1e-4, atol=1e-4)


def test_without_kernels_the_bottleneck_counts_twice():
    """A quirk of the released code."""
    method = moe.AdaRoute(rank=3, kernels=(), hidden=2)
    torch.manual_seed(0)
    adapter, center = RoutedAdapter(6, method, 2), ExpertCenter(6, method, 2)
    x = torch.randn(2, 12, 6)

    def near(conv: nn.Conv2d, tokens: Tensor) -> Tensor:
        return conv(tokens.mT.unflatten(-1, (3, 4))).flatten(2).mT

    u = x + adapter.gamma * adapter.norm(x)
    u = u + near(adapter.before, u)
    down, up = adapter.mixed(u, center)
    m = 2 * u @ down.mT
    y = nn.functional.gelu(m + adapter.mix(m)) @ up.mT
    y = y + near(adapter.after, y)
    torch.testing.assert_close(adapter(x, center, (3, 4)), x + y)  # scales are 1 at first, offsets 0


def test_one_kernel_has_a_choice_of_scales_that_learns_nothing():
    method = moe.AdaRoute(rank=3, kernels=(3,), hidden=2)
    adapter, center = RoutedAdapter(6, method, 2), ExpertCenter(6, method, 2)
    adapter(torch.randn(2, 12, 6), center, (3, 4)).sum().backward()
    assert adapter.attention.weight.grad is None and adapter.again.numel() == 0


@pytest.mark.parametrize("pool, dead", [("token", True), ("avg", False)])
def test_the_last_adapter_of_a_vit_that_reads_its_class_token_is_dead(pool, dead):
    """The token passes by the adapters, and no block comes after the last of them."""
    model = small.disturb(moe.inject(vit(global_pool=pool), SMALL))
    model(torch.rand(2, 3, 32, 32)).square().sum().backward()
    last, first = model.blocks.adapters[-1], model.blocks.adapters[0]
    gradients = [values.grad for values in last.parameters()]
    assert all(g is None or not g.any() for g in gradients) == dead
    assert first.mix.weight.grad.any()


def test_tokens_besides_the_picture_pass_by():
    model = moe.inject(vit(reg_tokens=2), SMALL)
    kept = []
    model.blocks.base[-1].register_forward_hook(lambda _m, _i, out: kept.append(out[:, :3]))
    with torch.no_grad():
        left = model.forward_features(torch.rand(2, 3, 32, 32))
    torch.testing.assert_close(left[:, :3], model.norm(kept[0]))


def test_it_is_saved_and_loaded_with_the_norms_of_the_stages(tmp_path):
    model, image = small.disturb(moe.inject(convnext(), SMALL)), torch.rand(2, 3, 32, 32)
    moe.save_adapter(model, tmp_path)
    fresh = moe.load_adapter(convnext(), tmp_path).eval()
    with torch.no_grad():
        assert all(map(torch.equal, fresh(image), model(image)))
    assert fresh.stage_norms[0].weight.requires_grad


def test_temperature_may_be_learnt():
    model = moe.inject(vit(), moe.AdaRoute(rank=4, kernels=(3,), hidden=3, temperature=True, shortcut=False))
    adapter = small.disturb(model).blocks.adapters[0]
    model(torch.rand(2, 3, 32, 32)).square().sum().backward()
    assert adapter.logit_scale.grad.abs().sum() > 0 and adapter.short_scale is None


@pytest.mark.slow
def test_it_learns_more_than_its_head_alone():
    alone = validated(moe.Open("head"), 128, steps=60)
    with_it = validated(moe.AdaRoute(rank=16, kernels=(3, 5), hidden=8, also="head"), 128, steps=60)
    assert with_it > alone + 0.01


def test_what_does_not_fit_is_said():
    with pytest.raises(ValueError, match="no module is named"):
        moe.inject(nn.Sequential(nn.Linear(2, 2)), SMALL)
    model = nn.Module()
    model.blocks = nn.Sequential(nn.Linear(2, 2))
    with pytest.raises(TypeError, match="knows blocks of ViT, Swin and ConvNeXt; got a Linear"):
        moe.inject(model, SMALL)
    model.blocks = nn.Linear(2, 2)
    with pytest.raises(TypeError, match="a sequence of blocks, and 'blocks' is a Linear"):
        moe.inject(model, SMALL)
    with pytest.raises(ValueError, match=r"12 tokens do not lie on a grid of \(3, 3\)"):
        RoutedAdapter(6, SMALL, 2)(torch.randn(1, 12, 6), ExpertCenter(6, SMALL, 2), (3, 3))
    with pytest.raises(ValueError, match="kernels have an odd number of rows, got 4"):
        moe.AdaRoute(kernels=(3, 4))
    with pytest.raises(ValueError, match="experts is a whole number from 1, got 0"):
        moe.AdaRoute(experts=0)
    with pytest.raises(TypeError, match="stages are those of timm's Swin or ConvNeXt"):
        Staged(nn.Linear(2, 2))
