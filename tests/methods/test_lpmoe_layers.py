"""Controllable-LPMoE: its counts, what holds before training, its quirks, and what it refuses."""

import pytest
import torch
import torch.nn.functional as F
from learning import validated
from timm.models.beit import Beit
from timm.models.vision_transformer import VisionTransformer
from torch import nn

import moe_lib as moe
from moe_lib import heads
from moe_lib.backbones import PlainVit
from moe_lib.deformable import DeformableAttention, references
from moe_lib.methods.local_priors import Gate, LocalPriors, Mixture, haar, unhaar
from moe_lib.methods.lpmoe import Extract, Inject, ScaleFFN

SMALL = dict(planes=8, heads=2, points=2)


def vit(**options) -> PlainVit:
    torch.manual_seed(0)
    sizes = dict(img_size=64, patch_size=16, embed_dim=16, depth=4, num_heads=2, num_classes=0)
    return PlainVit(VisionTransformer(**(sizes | options))).eval()


def segmenter(backbone: PlainVit, **options) -> heads.Segmenter:
    torch.manual_seed(1)
    model = heads.Segmenter(backbone, heads.PyramidHead(backbone.width // 4, width=8))
    return moe.inject(model, moe.LPMoE(**(SMALL | options), also="head"))


def count(module: nn.Module) -> int:
    return sum(values.numel() for values in module.parameters())


# Counts.


def test_the_published_size_to_the_unit():
    with torch.device("meta"):
        beit = Beit(
            img_size=512, embed_dim=1024, depth=24, num_heads=16, init_values=1e-5, use_abs_pos_emb=False,
            use_rel_pos_bias=True, num_classes=0,
        )  # fmt: skip
        unused = count(beit.fc_norm)  # timm's last norm; the published model has none
        model = heads.Segmenter(PlainVit(beit), heads.Mask2FormerHead(256))
        frozen = count(beit) - unused
        moe.inject(model, moe.LPMoE(also="head"))
    assert moe.trainable_parameters(model).trainable == 23_360_023
    assert frozen == 304_647_680 and frozen + 23_360_023 + 1536 == 328_009_239  # with its fixed Haar taps
    net, head = model.backbone, model.head
    parts = {"priors": 224_868, "up": 4_195_328, "reduce": 262_144, "norms": 8192}
    assert {name: count(net.get_submodule(name)) for name in parts} == parts
    assert count(net.priors.mixture) == 45_220
    assert [count(expert) for expert in net.priors.mixture.experts] == [6832, 12_416, 13_328, 12_384]
    assert count(net.inject[0]) == 1_645_632 and count(net.extract[0]) == 1_781_704
    assert count(net.inject[0].attention) == 1_640_512 and count(net.extract[0].ffn) == 528_648
    assert (count(head.pixels), count(head.layers) + count(head.norm)) == (469_888, 898_112)
    # "Fewer than 0.1 %" is the extractor alone; the whole is seventy times more.
    assert 100 * 224_868 / frozen < 0.1 < 7.1 < 100 * 23_360_023 / 328_009_239 < 7.2


# Before training.


@pytest.mark.parametrize("kind", ["vit", "beit", "sam"])
def test_the_frozen_tokens_are_untouched_at_first(kind):
    """Bit for bit, block after block."""
    if kind == "sam":
        backbone, image = PlainVit(moe.backbones.sam("pocket").image_encoder), torch.rand(2, 3, 96, 96)
    elif kind == "vit":
        backbone, image = vit(reg_tokens=2), torch.rand(2, 3, 64, 64)
    else:
        torch.manual_seed(0)
        beit = Beit(64, embed_dim=16, depth=4, num_heads=2, num_classes=0, use_rel_pos_bias=True)
        backbone, image = PlainVit(beit).eval(), torch.rand(2, 3, 64, 64)
    left = []
    for block in backbone.vit.blocks:
        block.register_forward_hook(lambda _m, _i, out: left.append(out))
    with torch.no_grad():
        backbone(image)
        before, left[:] = list(left), []
        model = segmenter(backbone).eval()
        model(image)
        assert len(left) == len(before) and all(map(torch.equal, left, before))
        model.backbone.inject[0].gamma += 0.1
        left.clear()
        model(image)
    assert not torch.equal(left[0], before[0])


def test_at_first_only_gamma_learns_of_what_is_injected():
    model = segmenter(vit()).train()
    model(torch.rand(2, 3, 64, 64)).logits.square().mean().backward()
    for inject in model.backbone.inject:
        assert inject.gamma.grad.abs().sum() > 0
        others = [values.grad for name, values in inject.named_parameters() if name != "gamma"]
        assert not any(g is not None and g.any() for g in others)
    assert model.backbone.priors.downs[0].conv.weight.grad.abs().sum() > 0
    assert all(values.grad is None for values in model.backbone.base.parameters())


@pytest.mark.parametrize("kind, levels, mass", [(Inject, 3, 1 / 12), (Extract, 1, 1 / 4)])
def test_the_attention_has_little_mass_at_first(kind, levels, mass):
    module = kind(16, moe.LPMoE(heads=2, points=4))
    sizes = [(4, 4), (2, 2), (1, 1)][:levels]
    v = torch.randn(2, sum(h * w for h, w in sizes), 16)
    weights = module.attention.attention(torch.randn(2, 5, 16), v)
    torch.testing.assert_close(weights.sum((-2, -1)), torch.full((2, 5, 2), mass))
    usual = kind(16, moe.LPMoE(heads=2, points=4, renormalise=True)).attention
    torch.testing.assert_close(usual.attention(torch.randn(2, 5, 16), v).sum((-2, -1)), torch.ones(2, 5, 2))


# Its parts.


@pytest.mark.parametrize("cosine", ["sum", "mean"])
def test_the_cosine_factor_needs_no_map_of_all_pairs(cosine):
    torch.manual_seed(0)
    made = DeformableAttention(8, 2, 3, 1, cosine=cosine).double()
    nn.init.normal_(made.weights.weight, std=0.1)
    q, v = torch.randn(2, 7, 8, dtype=torch.float64), torch.randn(2, 6, 8, dtype=torch.float64)
    t = F.normalize(q, dim=-1) @ F.normalize(v, dim=-1).mT @ v  # as it is written
    expected = made.weights(t / 6 if cosine == "mean" else t)
    torch.testing.assert_close(made._said_of_similar(q, v), expected, rtol=1e-6, atol=1e-7)


def test_deformable_attention_reads_where_it_looks():
    """Against a loop over queries, heads, levels and points, and the four cells around each."""
    torch.manual_seed(0)
    made = DeformableAttention(8, 2, 3, 2, ratio=0.5).double()
    nn.init.normal_(made.offsets.weight, std=0.2)
    nn.init.normal_(made.weights.weight, std=0.2)
    sizes = [(4, 6), (2, 3)]
    q, v = torch.randn(1, 5, 8).double(), torch.randn(1, 30, 8).double()
    places = references([(5, 1)], q)
    where = made.offsets(q).view(5, 2, 2, 3, 2)
    weights, values, out = (
        made.attention(q, v)[0],
        made.value(v)[0].view(30, 2, 2),
        torch.zeros(5, 2, 2).double(),
    )
    for i, m, level, p in torch.cartesian_prod(*map(torch.arange, (5, 2, 2, 3))).tolist():
        h, w = sizes[level]
        x, y = (places[i] * torch.tensor([w, h]) + where[i, m, level, p] - 0.5).tolist()
        for cx in (int(x // 1), int(x // 1) + 1):
            for cy in (int(y // 1), int(y // 1) + 1):
                if 0 <= cx < w and 0 <= cy < h:
                    near = (1 - abs(x - cx)) * (1 - abs(y - cy)) * weights[i, m, level, p]
                    out[i, m] += near * values[(0, 24)[level] + cy * w + cx, m]
    torch.testing.assert_close(made(q, v, places, sizes)[0], made.out(out.flatten(1)))


@pytest.mark.parametrize("size", [(4, 6), (5, 7), (1, 1)])
def test_the_haar_bands_hold_the_map(size):
    x = torch.randn(2, 3, *size)
    bands = haar(x)
    assert bands.shape == (2, 12, (size[0] + 1) // 2, (size[1] + 1) // 2)
    torch.testing.assert_close(unhaar(bands)[..., : size[0], : size[1]], x)
    torch.testing.assert_close(bands.square().sum(), x.square().sum())  # orthonormal


def test_the_ffn_only_weakens():
    ffn = ScaleFFN(16)
    for values in ffn.parameters():
        nn.init.normal_(values, std=2.0)
    factor = ffn.factor(torch.randn(5, 4, 6, 6) * 3)
    assert ((factor > 0) & (factor < 1)).all()


def test_gates_are_one_decision_per_picture_and_scale():
    priors = LocalPriors(8, 16).eval()
    with moe.watch_routing(priors) as records:
        priors(torch.rand(3, 3, 64, 64))
    assert [record.shape for record in records["mixture.gate"]] == [("image", (3,))] * 4
    gates = torch.stack([record.gates for record in records["mixture.gate"]])
    torch.testing.assert_close(gates.sum(-1), torch.ones(4, 3))
    assert (gates - 0.25).abs().max() < 0.05  # begins near a quarter each


def test_the_residual_can_only_add():
    mixture = Mixture(8).eval()
    assert (mixture(torch.randn(2, 8, 8, 8)) >= 0).all()


def test_shared_statistics_fit_no_scale():
    """Eval differs from train more than where every scale has statistics of its own."""
    off = {}
    for norm in ("batch", "batch per scale"):
        torch.manual_seed(0)
        priors, image = LocalPriors(16, 16, norm=norm), torch.rand(8, 3, 64, 64)
        found = []
        priors.mixture.register_forward_hook(lambda _m, _i, out, found=found: found.append(out.detach()))
        with torch.no_grad():
            for _ in range(150):
                priors(image)
            found.clear()
            priors(image)
            trained, found[:] = list(found), []
            priors.eval()(image)
        off[norm] = [float((a - b).norm() / a.norm()) for a, b in zip(trained, found, strict=True)]
    assert all(a > 2 * b for a, b in zip(off["batch"], off["batch per scale"], strict=True)), off
    assert len(priors.mixture.experts[0].enter.norms) == 4


# As every method.


def test_it_is_saved_loaded_removed(tmp_path):
    image, frozen = torch.rand(2, 3, 64, 64), vit()
    model = segmenter(frozen).eval()
    with torch.no_grad():
        for values in model.parameters():
            if values.requires_grad:
                values.add_(0.1 * torch.randn_like(values))
        expected = model(image).logits
        moe.save_adapter(model, tmp_path)
        fresh = heads.Segmenter(vit(), heads.PyramidHead(4, width=8))
        moe.load_adapter(fresh, tmp_path)
        assert torch.equal(fresh.eval()(image).logits, expected)
        moe.remove(fresh)
        assert type(fresh.backbone) is PlainVit
        assert all(map(torch.equal, fresh.backbone(image), vit()(image)))


@pytest.mark.parametrize("head", ["pyramid", "mask2former"])
def test_it_trains_with_either_head(head):
    torch.manual_seed(0)
    backbone = vit()
    if head == "pyramid":
        made = heads.PyramidHead(4, 2, width=8)
    else:
        made = heads.Mask2FormerHead(
            4, 2, width=8, heads=2, queries=5, layers=(1, 3), widths=(8, 8)
        )  # fmt: skip
    model = moe.inject(heads.Segmenter(backbone, made), moe.LPMoE(**SMALL, also="head")).train()
    mask = torch.zeros(2, 64, 64, dtype=torch.long)
    mask[:, 16:40, 16:40] = 1
    answer = model({"image": torch.rand(2, 3, 64, 64)})
    assert answer.logits.shape[-2:] == (64, 64) and answer.labels().shape == mask.shape
    if head == "pyramid":
        loss = F.cross_entropy(answer.logits, mask)
    else:
        assert len(answer.before) == 3
        loss = sum(heads.set_loss(part, mask)["loss"] for part in (*answer.before, answer))
    loss.backward()
    missing = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert not missing


def test_a_query_that_sees_nothing_sees_everything():
    hidden = heads.Mask2FormerHead._hidden(
        torch.tensor([[[[-1.0, -1], [-1, -1]], [[-1.0, 1], [-1, -1]]]]), (2, 2)
    )
    assert hidden.tolist() == [[[False] * 4, [True, False, True, True]]]


@pytest.mark.slow
def test_it_learns_more_than_its_head_alone():
    alone = validated(moe.Open("head"), 128, steps=40)
    with_it = validated(moe.LPMoE(planes=16, heads=4, also="head"), 32, steps=40)
    assert with_it > alone + 0.01


# What is refused.


def test_what_does_not_fit_is_said():
    with pytest.raises(TypeError, match=r"LPMoE stands beside a .*, and 'backbone' is a Linear"):
        moe.inject(heads.Segmenter(nn.Linear(2, 2), heads.PyramidHead(4)), moe.LPMoE(**SMALL, also="head"))
    with pytest.raises(ValueError, match="5 blocks has no 4 equal parts"):
        segmenter(vit(depth=5))
    with pytest.raises(ValueError, match="patches of 16 pixels, or of 8, and not of 32"):
        segmenter(vit(patch_size=32))
    with pytest.raises(ValueError, match="sides that are multiples of 32, got 48 × 64"):
        segmenter(vit(dynamic_img_size=False, img_size=(48, 64)))(torch.rand(1, 3, 48, 64))
    with pytest.raises(ValueError, match="no whole number of patches of 16"):
        vit()(torch.rand(1, 3, 60, 64))
    with pytest.raises(ValueError, match=r"pictures are \(B, 3, H, W\)"):
        vit()(torch.rand(3, 64, 64))
    with pytest.raises(TypeError, match="a plain ViT is timm's"):
        PlainVit(nn.Linear(2, 2))
    with pytest.raises(ValueError, match=r"maps of \[16, 16, 16, 16\] channels and gets \[4, 4, 4, 4\]"):
        model = heads.Segmenter(vit(), heads.PyramidHead(16))
        moe.inject(model, moe.LPMoE(**SMALL, also="head"))(torch.rand(1, 3, 64, 64))


@pytest.mark.parametrize(
    "options, message",
    [
        ({"planes": 6}, "planes are a multiple of 4, got 6"),
        ({"kinds": ("depthwise", "haar")}, "got 'haar'"),
        ({"kinds": ()}, "got none"),
        ({"norm": "layer"}, "norm is one of batch, batch per scale, group; got 'layer'"),
        ({"cosine": "max"}, "cosine is one of sum, mean, none; got 'max'"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        moe.LPMoE(**options)


def test_heads_must_share_the_channels():
    with pytest.raises(ValueError, match="8 channels of values cannot be shared by 3 heads"):
        segmenter(vit(), heads=3)


def test_gates_need_no_batch():
    assert Gate(4, 3)(torch.rand(1, 4, 2, 2)).shape == (1, 3)
