"""SERA: its counts, what can learn and what cannot, where experts stand, and what it refuses."""

import copy

import pytest
import small
import timm
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

import moe_lib as moe
from moe_lib import backbones, heads, metrics, routing
from moe_lib.backbones import PlainVit, Said, TextEncoder
from moe_lib.backbones.words import TextBlock
from moe_lib.heads.referring import OneKey
from moe_lib.methods.aligner import Aligner, Look, TextAdapter
from moe_lib.methods.sera import AlignedMlp, AlignedText, Experts, FusedMaps
from moe_lib.methods.sera_fusion import KERNELS, Boundary, Context, Filter, Fusion
from moe_lib.worlds.language import VOCABULARY, tokenise

TEXTS = ["the red circle", "the blue star on the left", "the small ring"]
SMALL = dict(words=32, rank=16, text_rank=16, heads=4, hidden=8, also=heads.REFERRING)


def referrer(vit: nn.Module | None = None, **method) -> heads.Referrer:
    """A small one, with SERA in it, unless ``method`` is ``inject=False``."""
    torch.manual_seed(0)
    vit = vit or VisionTransformer(
        img_size=32, patch_size=8, embed_dim=24, depth=6, num_heads=4, reg_tokens=2, no_embed_class=True,
        init_values=0.1, num_classes=0, global_pool="",
    )  # fmt: skip
    text = TextEncoder(
        tokenise, end=VOCABULARY.index("<end>"), vocabulary=len(VOCABULARY), length=16, width=32, depth=2,
        heads=4,
    )  # fmt: skip
    model = heads.Referrer(PlainVit(vit), text, heads=4, layers=1)
    if method.pop("inject", True):
        moe.inject(model, moe.SERA(**{**SMALL, **method}))
    return model.eval()


def batch() -> dict:
    torch.manual_seed(1)
    mask = torch.zeros(3, 32, 32, dtype=torch.long)
    mask[:, 8:20, 8:20] = 1
    return {"image": torch.rand(3, 3, 32, 32), "text": TEXTS, "mask": mask}


def loss_of(model: heads.Referrer, given: dict) -> Tensor:
    return heads.referring_loss(model(given), given["mask"]) + routing.balance_loss(model)


def count(part: nn.Module, which=lambda name, values: True) -> int:
    return sum(values.numel() for name, values in part.named_parameters() if which(name, values))


def test_the_published_size_to_the_unit():
    with torch.device("meta"):
        vit = timm.create_model("vit_base_patch14_reg4_dinov2", num_classes=0)
        model = heads.Referrer(PlainVit(vit), TextEncoder())
    assert count(model.text_encoder) == 63_428_097
    # The published file also has a token for hidden patches and a place of the class token, which timm drops.
    assert count(model.picture_encoder) == 86_583_552 - 2 * 768
    assert count(model.neck) == 10_114_560 and count(model.decoder) == 7_899_136
    assert count(model.projector) == 4_788_737
    for stage, adapter in (("none", 382_896), ("soft", 386_226)):
        with torch.device("meta"):
            adapted = moe.inject(copy.deepcopy(model), moe.SERA(stage=stage, also=heads.REFERRING))
        every = [m for m in adapted.modules() if isinstance(m, AlignedMlp)]
        assert [count(m.adapter) for m in every] == [adapter] * 6
        assert count(adapted.text_encoder, lambda n, v: ".adapter." in n) == 6 * 69_720
        own = [
            count(part, lambda n, v: v.requires_grad and ".adapter." not in n)
            for part in (adapted.picture_encoder, adapted.text_encoder)
        ]
        assert own == [122_112, 80_896] and sum(own) == 203_008
    experts = adapted.neck.enter.fusions[0].experts
    assert [count(e) for e in experts.values()] == [1_536, 2_102_784, 786_944, 524_800]
    assert count(adapted.neck.enter.fusions[0].router) == 66_180
    fusions = 3 * (1_536 + 2_102_784 + 786_944 + 524_800 + 66_180)
    head = 10_114_560 + 7_899_136 + 4_788_737
    adapters = 6 * 386_226 + 6 * 69_720
    assert moe.trainable_parameters(adapted).trainable == adapters + 203_008 + head + fusions


@pytest.mark.parametrize(
    "tune, vit, text", [("ln", 38_400, 25_600), ("bias", 102_912, 68_096), ("none", 0, 0)]
)
def test_what_is_tuned_of_the_encoders(tune, vit, text):
    with torch.device("meta"):
        model = heads.Referrer(
            PlainVit(timm.create_model("vit_base_patch14_reg4_dinov2", num_classes=0)), TextEncoder()
        )
        moe.inject(model, moe.SERA(tune=tune))
    for part, expected in ((model.picture_encoder, vit), (model.text_encoder, text)):
        assert count(part, lambda n, v: v.requires_grad and ".adapter." not in n) == expected
    assert not any(v.requires_grad for part in (model.decoder, model.projector) for v in part.parameters())


def test_the_text_encoder_may_be_left_as_it_is():
    text = referrer(tune_text=False).text_encoder
    assert not count(text, lambda n, v: v.requires_grad and ".adapter." not in n)


@pytest.mark.parametrize("softmax, learns", [("after", False), ("before", True)])
def test_one_expert_starves_its_router(softmax, learns):
    """With one kept of four the gate is 1: the task says nothing to the router, the balance does."""
    model = referrer(k=1, softmax=softmax, losses=(0, 0, 0)).train()
    loss_of(model, batch()).backward()
    given = [any(p.grad.any() for p in f.router.parameters()) for f in model.neck.enter.fusions]
    assert given == [learns] * 3
    model = referrer(k=1).train()
    loss_of(model, batch()).backward()
    assert all(f.router[2].weight.grad.any() for f in model.neck.enter.fusions)


def test_all_experts_kept_are_evenly_loaded():
    """Then nothing that counts choices can change, and its loss is left out."""
    fusion = Fusion(8, weights=(0, 0, 1)).train()
    fusion(torch.randn(5, 8, 4, 4))
    assert fusion.routing.counts.tolist() == [5] * 4
    assert float(routing.load_loss(fusion.routing)) == 0 and not fusion.balance.any()
    assert routing.switch_loss(fusion.routing).item() == pytest.approx(1)


def test_attention_to_one_key_is_a_gate_of_channels():
    torch.manual_seed(0)
    attention, said = OneKey(16, 4, batch_first=True), torch.randn(2, 1, 16)
    nn.init.normal_(attention.in_proj_bias)
    queries = torch.randn(2, 9, 16)
    literal = nn.MultiheadAttention.forward(attention, queries, said, said)[0]
    torch.testing.assert_close(literal, attention(said).expand_as(literal))
    literal.square().sum().backward()
    assert attention.in_proj_weight.grad[:32].abs().max() < 1e-5  # queries and keys; rounding, no more
    assert attention.in_proj_weight.grad[32:].abs().max() > 1e-2


def test_a_look_at_one_word_is_the_same_everywhere():
    torch.manual_seed(0)
    look, x = Look(16, 8, 16, 4).eval(), torch.randn(1, 9, 16)
    one, two = look(x, torch.randn(1, 1, 8)), look(x, torch.randn(1, 2, 8))
    torch.testing.assert_close(one, one[:, :1].expand_as(one))
    assert (two - two[:, :1]).abs().max() > 1e-3


@pytest.mark.parametrize("reads", ["picture", "sentence"])
def test_the_first_router_does_not_know_what_is_said(reads):
    """Its tokens have not met a word; unless it reads the sentence. A later one's have."""
    model, given = small.disturb(referrer(reads=reads)), batch()
    given["image"] = given["image"][:1].expand(3, -1, -1, -1)  # one picture, three sentences
    with moe.watch_routing(model) as records, torch.no_grad():
        model(given)
    gates = [calls[0].gates for name, calls in records.items() if "stage" in name]
    spread = [float((g - g[:1]).abs().max()) for g in gates]
    assert (spread[0] > 1e-6) == (reads == "sentence")
    assert spread[1] > 1e-6


def test_gates_sum_to_one_over_as_many_as_are_kept():
    for k in (1, 2, 3, 4):
        fusion = small.disturb(Fusion(8, k=k).eval())
        gates = fusion.decided(torch.randn(6, 8, 4, 4))
        assert ((gates > 0).sum(1) == k).all()
        torch.testing.assert_close(gates.sum(1), torch.ones(6))
    torch.testing.assert_close(gates, fusion.routing.logits.softmax(1))


def test_gains_begin_at_the_map_itself_and_learn():
    torch.manual_seed(0)
    x = torch.randn(4, 8, 5, 5)
    fusion = Fusion(8, gains=True, k=2).train()
    out = fusion(x)
    assert torch.equal(out, x)
    out.square().sum().backward()
    assert fusion.gains.grad.any()


def test_control_weights_of_zero_before_a_relu_never_learn():
    """Why gains do it, and not weights of 0 in the last convolution."""
    expert = Boundary(4)
    nn.init.zeros_(expert.mix.weight), nn.init.zeros_(expert.mix.bias)
    expert(torch.randn(2, 4, 5, 5)).sum().backward()
    assert not expert.mix.weight.grad.any() and not expert.mix.bias.grad.any()


def test_the_order_of_experts_does_not_matter():
    torch.manual_seed(0)
    names, turned = moe.SERA().fusion, (2, 0, 3, 1)
    one, two = Fusion(8, names, k=2).eval(), Fusion(8, [names[i] for i in turned], k=2).eval()
    for name in names:
        two.experts[name].load_state_dict(one.experts[name].state_dict())
    two.router.load_state_dict(one.router.state_dict())
    for key in ("weight", "bias"):
        getattr(two.router[2], key).data = getattr(one.router[2], key)[list(turned)].clone()
    x = torch.randn(5, 8, 4, 4)
    torch.testing.assert_close(one(x), two(x))


def test_softmax_before_the_choice_scales_the_map_too():
    """Every expert contains the map: where gates do not sum to 1, neither does what is left of it."""
    torch.manual_seed(0)
    fusion, x = Fusion(8, k=2, softmax="before").eval(), torch.randn(3, 8, 4, 4)
    experts = [lambda rows, e=e: rows + e(rows) for e in fusion.experts.values()]
    found = fusion(x)
    torch.testing.assert_close(found, routing.dispatch(x, fusion.routing, experts), rtol=1e-4, atol=1e-5)
    assert (fusion.routing.gates.sum(1) < 0.99).all()


@pytest.mark.parametrize("how", ["fixed", "learnt"])
def test_filters_see_slopes_and_nothing_in_an_even_map(how):
    ramp = 0.7 * torch.arange(6.0).expand(1, 2, 5, 6)
    for kernel in ("sobel x", "sobel y", "laplacian"):
        assert Filter(kernel, 2, how)(torch.full((1, 2, 5, 6), 2.5)).abs().max() < 1e-5
    torch.testing.assert_close(Filter("sobel x", 2, how)(ramp)[..., 1:-1], torch.full((1, 2, 5, 4), 5.6))
    assert (count(Filter("blur", 2, how)) > 0) == (how == "learnt")


def test_random_filters_are_saved_and_fixed_ones_need_not_be():
    assert not Filter("blur", 2).state_dict() and list(Filter("blur", 2, "random").state_dict()) == ["kernel"]


def test_random_filters_are_as_strong_as_the_fixed_ones():
    for name in KERNELS:
        fixed, drawn = (Filter(name, 1, how).kernel for how in ("fixed", "random"))
        torch.testing.assert_close(drawn.norm(), fixed.norm())
        assert not torch.allclose(drawn, fixed)


def test_corners_of_the_plane():
    grid = heads.coordinates(3, 5)
    assert grid[:, 0, 0].tolist() == [-1, -1] and grid[:, 0, -1].tolist() == [1, -1]
    assert heads.coordinates(2, 4, inside=True)[0, 0].tolist() == [-0.75, -0.25, 0.25, 0.75]


def test_switched_off_it_is_the_frozen_model():
    given, plain = batch(), referrer(inject=False)
    model = small.disturb(referrer(), amount=0.2)
    with torch.no_grad():
        adapted = model(given).small
        with moe.disable(model):
            off = model(given).small
    with torch.no_grad():
        assert torch.equal(off, plain(given).small)
    assert (adapted - off).abs().max() > 1e-3


@pytest.mark.parametrize(
    "options, routers, fusions",
    [
        ({}, 6, 3), ({"shared": True}, 4, 1), ({"before": True}, 6, 3), ({"stage": "static"}, 6, 3),
        ({"gate": "static"}, 6, 3), ({"targets": r".*\.blocks\.\d*[13579]\.mlp|neck"}, 4, 1),
        ({"targets": r".*\.blocks\.\d*[13579]\.mlp"}, 3, 0), ({"separable": True, "normed": False}, 6, 3),
        ({"dense_branches": False, "rich": False}, 6, 3), ({"filters": "random", "fusion": ("shape",)}, 6, 3),
    ],
)  # fmt: skip
def test_where_experts_stand(options, routers, fusions, tmp_path):
    model, given = referrer(**options).train(), batch()
    with moe.watch_routing(model) as records:
        loss_of(model, given).backward()
    assert len(records) == routers
    assert len([m for m in model.modules() if isinstance(m, Fusion)]) == fusions
    unused = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert not unused
    if options.get("before"):
        assert model.neck.enter.fusions[0].router[0].in_features == 24
    moe.save_adapter(small.disturb(model).eval(), tmp_path)
    fresh = moe.load_adapter(referrer(inject=False), tmp_path).eval()
    with torch.no_grad():
        assert torch.equal(fresh(given).small, model(given).small)


def test_words_are_forgotten_when_the_model_is_done():
    """What a layer is told is part of a graph: not to be kept, nor copied, nor met by a later picture."""
    model, given = referrer().train(), batch()
    model(given)
    layers = [m for m in model.modules() if isinstance(m, (AlignedMlp, FusedMaps))]
    assert len(layers) == 4 and all(layer.told is None for layer in layers)
    copy.deepcopy(model)
    with pytest.raises(ValueError, match="are no whole number of patches"):
        model({**given, "image": torch.rand(3, 3, 30, 30)})
    assert all(layer.told is None for layer in layers)
    with pytest.raises(RuntimeError, match="hears the words from heads"):
        model.picture_encoder.vit(given["image"])


def test_padding_is_no_word_unless_it_is_asked_for():
    given = batch()
    tokens = tokenise(TEXTS, 16)
    for masked in (True, False):
        model = referrer(mask_padding=masked, targets=r".*\.blocks\.\d*[13579]\.mlp")
        with torch.no_grad():
            long, short = (model({**given, "tokens": t}).small for t in (tokens, tokens[:, :9]))
        assert ((long - short).abs().max() < 1e-4) == masked


def test_it_learns_with_the_encoder_of_sam():
    """Whose blocks keep the tokens as a grid, without any besides."""
    sam = backbones.sam("pocket").image_encoder
    torch.manual_seed(0)
    model = referrer(vit=sam).train()
    given = {"image": torch.rand(3, 3, 96, 96), "text": TEXTS}
    given["mask"] = (given["image"].mean(1) > 0.5).long()
    values, optimiser = [], torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], 1e-3)
    for _ in range(8):
        loss = loss_of(model, given)
        optimiser.zero_grad(), loss.backward(), optimiser.step()
        values.append(float(loss.detach()))
    assert values[-1] < values[0]
    answer = model.eval()(given)
    assert answer.labels().shape == (3, 96, 96) and answer.small.shape == (3, 1, 48, 48)
    assert answer.probabilities().min() >= 0 and answer.probabilities().max() <= 1


def test_taps_are_thirds_and_can_be_chosen():
    model, given = referrer(inject=False), batch()
    with torch.no_grad():
        said = model.text_encoder(TEXTS)
        maps = model.picture_encoder(given["image"], said)
        x, besides, grid = model.picture_encoder.vit.enter(given["image"])
        for i in range(2):
            x, besides = model.picture_encoder.vit.block(i, x, besides, grid)
    assert model.picture_encoder.taps == (2, 4) and len(maps) == 3
    torch.testing.assert_close(maps[0], x.mT.unflatten(-1, grid))
    for taps in ((3, 9), (0, 3), (4, 3), (3,)):
        with pytest.raises(ValueError, match="taps are two, after 1 to 6 blocks"):
            heads.GuidedEncoder(model.picture_encoder.vit, taps)


def test_the_text_encoder_is_causal_and_knows_where_a_sentence_ends():
    text = small.disturb(referrer(inject=False).text_encoder)
    said = text(TEXTS)
    assert isinstance(said, Said) and said.words.shape == (3, 16, 32)
    ends = [len(t.split()) + 1 for t in TEXTS]
    assert (~said.padding).sum(1).tolist() == [end + 1 for end in ends]
    expected = torch.stack([said.words[i, end] for i, end in enumerate(ends)]) @ text.text_projection
    torch.testing.assert_close(said.sentence, expected)
    other = text(["the red star", *TEXTS[1:]])
    torch.testing.assert_close(other.words[0, :3], said.words[0, :3])  # they differ in the word after
    assert (other.words[0, 3] - said.words[0, 3]).abs().max() > 1e-3


def test_a_checkpoint_of_clip_has_these_names():
    """Names and shapes of the text half of CLIP ViT-B/16."""
    with torch.device("meta"):
        state = TextEncoder().state_dict()
    block = "transformer.resblocks.11."
    shapes = {
        "token_embedding.weight": (49408, 512), "positional_embedding": (77, 512),
        "text_projection": (512, 512), "logit_scale": (), "ln_final.bias": (512,),
        f"{block}attn.in_proj_weight": (1536, 512), f"{block}attn.in_proj_bias": (1536,),
        f"{block}attn.out_proj.weight": (512, 512), f"{block}ln_1.weight": (512,),
        f"{block}mlp.c_fc.weight": (2048, 512), f"{block}mlp.c_proj.bias": (512,),
    }  # fmt: skip
    assert {name: tuple(state[name].shape) for name in shapes} == shapes
    assert len(state) == 6 - 1 + 1 + 12 * 12


def test_overall_and_mean_iou_agree_on_equal_unions():
    probability = torch.zeros(2, 4, 4)
    mask = torch.zeros(2, 4, 4, dtype=torch.long)
    mask[:, :2] = 1
    probability[0, :2], probability[1, :1] = 1.0, 1.0
    both, either = metrics.areas(probability, mask)
    ious = metrics.iou(probability, mask)
    assert either.tolist() == [8, 8]
    assert metrics.overall_iou(both, either) == pytest.approx(float(ious.mean())) == 0.75
    assert metrics.share_above(ious, 0.5) == 0.5 and metrics.share_above(ious, 0.49) == 1
    with pytest.raises(ValueError, match="masks of one shape"):
        metrics.areas(probability, mask[:1])


def test_what_does_not_fit_is_said():
    given, model = batch(), referrer()
    with pytest.raises(ValueError, match="text 1 is empty: it refers to nothing"):
        model({**given, "text": ["the ring", " ", "the star"]})
    with pytest.raises(ValueError, match="has 20 words; with length=16 at most 14 fit"):
        model({**given, "text": ["the ring", "the star", "the " * 20]})
    with pytest.raises(ValueError, match="17 tokens are too long a sentence: at most 16"):
        model({**given, "tokens": torch.ones(3, 17, dtype=torch.long)})
    with pytest.raises(ValueError, match="sentence 0 has no words between its start and an end"):
        model({**given, "tokens": torch.ones(3, 8, dtype=torch.long)})
    with pytest.raises(ValueError, match="tokens are from 0 to"):
        model({**given, "tokens": torch.full((3, 8), 999)})
    with pytest.raises(ValueError, match="3 pictures and 2 sentences"):
        model({**given, "text": TEXTS[:2]})
    with pytest.raises(ValueError, match="without `tokenise`, and reads tokens only"):
        TextEncoder(width=32, depth=1, heads=4)(["the ring"])
    with pytest.raises(ValueError, match="words have 32 channels, and the method is for 512"):
        moe.inject(referrer(inject=False), moe.SERA())
    with pytest.raises(ValueError, match="SERA is for heads"):
        moe.inject(nn.ModuleDict({"neck": heads.Neck(8, 8, 8, 2)}), moe.SERA(targets="neck"))
    with pytest.raises(TypeError, match=r"'decoder\.norm' is a LayerNorm"):
        moe.inject(referrer(inject=False), moe.SERA(words=32, targets="decoder.norm"))
    with pytest.raises(ValueError, match=r"no expert for 'neck\.enter': leave that out of the targets"):
        moe.inject(referrer(inject=False), moe.SERA(words=32, fusion=()))
    for wrong, words in (
        ({"k": 5}, "k is a whole number from 1 to 4 experts, got 5"), ({"rank": 20}, "rank is a multiple of"),
        ({"fusion": ("edge",)}, "experts of the neck are .*got 'edge'"), ({"tune": "all"}, "tune is one of"),
        ({"fusion": ("shape", "shape")}, "is there once"), ({"stage": "hard"}, "stage is one of soft"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=words):
            moe.SERA(**wrong)


def test_the_two_experts_of_an_adapter_are_as_written():
    torch.manual_seed(0)
    stage = Experts(16, moe.SERA(rank=16, inside=(0.3, 0.1), mix=(0.25, 0.15)), 8).eval()
    small.disturb(stage, amount=0.3)
    for norm in stage.norms:
        norm.running_mean.normal_(), norm.running_var.uniform_(0.5, 2)
    rich, plain = torch.randn(2, 2, 16, 5, 5)
    assert {norm.eps for norm in stage.norms} == {1e-3}  # as in the branches beside them
    spatial = torch.relu(stage.norms[0](stage.near[0](rich))) + 0.3 * rich
    boundary = torch.relu(stage.norms[1](rich + 0.1 * stage.near[1](rich)))
    w = stage.router(rich.mean((2, 3))).softmax(1)[..., None, None]
    expected = rich + 0.25 * w[:, :1, 0, None] * spatial + 0.15 * w[:, 1:, 0, None] * boundary
    torch.testing.assert_close(stage(rich, plain), expected)


@pytest.mark.parametrize(
    "make",
    [lambda: Aligner(64, 48, 64), lambda: TextAdapter(64, 64), lambda: Experts(256, moe.SERA(), 8)],
)
def test_weights_are_drawn_as_in_detris(make):
    """Variance 2 / fan-in, biases 0."""
    torch.manual_seed(0)
    for layer in make().modules():
        if isinstance(layer, (nn.Linear, nn.Conv1d, nn.Conv2d)) and len(layer.weight) > 2:
            assert layer.weight.std().item() == pytest.approx((2 / layer.weight[0].numel()) ** 0.5, rel=0.15)
            assert not layer.bias.any()


def test_the_contextual_expert_is_two_residuals_less_the_map():
    torch.manual_seed(0)
    expert, x = small.disturb(Context(16, 4)), torch.randn(2, 16, 3, 4)
    t = x.flatten(2).mT
    y = expert.norms[0](t)
    t = t + expert.attention(y, y, y)[0]
    t = t + expert.feed(expert.norms[1](t))
    torch.testing.assert_close(x + expert(x), t.mT.unflatten(-1, (3, 4)))


def test_noise_and_losses_are_for_training_only():
    fusion, x = small.disturb(Fusion(8, k=2)), torch.randn(64, 8, 3, 3)
    assert fusion.weights == moe.SERA().losses == (1e-3, 1e-2, 1e-2)
    torch.manual_seed(0)
    one, two = (fusion.train().decided(x) for _ in range(2))
    assert not torch.equal(one, two) and fusion.balance > 0
    spread = (fusion.routing.noisy - fusion.routing.logits).std().item()
    assert spread == pytest.approx(1 / 4, abs=0.05)
    one, two = (fusion.eval().decided(x) for _ in range(2))
    assert torch.equal(one, two) and fusion.balance is None


def test_a_block_of_text_is_the_usual_one_and_its_adapter_stands_beside_the_mlp():
    """Against torch's own layer, with the activation of CLIP."""
    torch.manual_seed(0)
    block, x = small.disturb(TextBlock(16, 4)).eval(), torch.randn(2, 6, 16)
    torchs = nn.TransformerEncoderLayer(
        16, 4, 64, 0.0, lambda h: h * (1.702 * h).sigmoid(), batch_first=True, norm_first=True
    ).eval()
    names = {"attn": "self_attn", "ln_1": "norm1", "ln_2": "norm2", "mlp.c_fc": "linear1"}
    names |= {"mlp.c_proj": "linear2"}
    for ours, theirs in names.items():
        torchs.get_submodule(theirs).load_state_dict(block.get_submodule(ours).state_dict())
    causal = nn.Transformer.generate_square_subsequent_mask(6)
    torch.testing.assert_close(block(x), torchs(x, src_mask=causal))
    adapted = AlignedText(block, moe.SERA(text_rank=16)).eval()
    half = block.attended(x)
    expected = block(x) + 0.2 * adapted.adapter(half)
    torch.testing.assert_close(adapted(x), expected)
    assert (adapted.adapter(half) - adapted.adapter(block.ln_2(half))).abs().max() > 1e-3
