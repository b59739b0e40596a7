"""Methods go into models of many kinds, come out again, and are saved: to the last bit."""

import copy
import io
import json
import re
import shutil
from pathlib import Path

import pytest
import small
import tiny_methods
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.utils.checkpoint import checkpoint

from moe_lib.backbones import Sam
from moe_lib.injection import (
    CONFIG,
    WEIGHTS,
    Counts,
    disable,
    inject,
    load_adapter,
    merge,
    remove,
    save_adapter,
    trainable_parameters,
    unmerge,
)
from moe_lib.methods import VPT, Adapter, BitFit, Full, LoRA, Open
from moe_lib.methods.base import Adapted, Method

LINEAR = {"convnext": ("fc1", "fc2")}  # where LoRA goes; elsewhere to qkv


def lora(kind: str, **settings) -> LoRA:
    return LoRA(2, targets=LINEAR.get(kind, ("qkv",)), **settings)


@pytest.fixture(autouse=True)
def no_gradient():
    """Attention takes another kernel, which rounds otherwise, where a gradient is asked for."""
    with torch.no_grad():
        yield


METHODS = {
    "lora": lora,
    "adapter": lambda kind: Adapter(4),
    "bitfit": lambda kind: BitFit(norms=True),
    "full": lambda kind: Full(),
    "open": lambda kind: Open(r".*blocks\.0"),
}


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("kind", small.KINDS)
def test_in_and_out_again(kind, name):
    model, x, method = small.model(kind), small.images(), METHODS[name](kind)
    names, before = list(model.state_dict()), model(x)
    assert inject(model, method) is model
    assert torch.equal(model(x), before)  # nothing has been learnt
    small.disturb(model)
    learnt = model(x)
    assert (learnt - before).abs().max() > 1e-6
    with disable(model) as same:
        assert same is model and torch.equal(model(x), before)
    assert torch.equal(model(x), learnt)
    assert remove(model) is model
    assert torch.equal(model(x), before)
    assert list(model.state_dict()) == names
    assert not any(values.requires_grad for values in model.parameters())
    assert not any(isinstance(module, Adapted) for module in model.modules())


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("kind", small.KINDS)
def test_saved_and_loaded_to_the_last_bit(kind, name, tmp_path):
    model, x, method = small.model(kind), small.images(), METHODS[name](kind)
    inject(model, method)
    small.disturb(model)
    trained = {n: p.clone() for n, p in model.named_parameters() if p.requires_grad}
    save_adapter(model, tmp_path / "kept")
    written = load_file(tmp_path / "kept" / WEIGHTS)
    assert set(written) == set(trained)  # the method's own, and nothing else

    again = small.model(kind)
    load_adapter(again, tmp_path / "kept")  # injects what was saved
    assert torch.equal(again(x), model(x))
    other = inject(small.model(kind), method)
    small.disturb(other, seed=9)
    load_adapter(other, tmp_path / "kept")
    assert torch.equal(other(x), model(x))
    for n, values in other.named_parameters():
        assert values.requires_grad == (n in trained)
        assert n not in trained or torch.equal(values, trained[n])


def test_only_what_the_method_trains_gets_a_gradient():
    with torch.enable_grad():
        model = inject(small.model("vit"), LoRA(2, also="head"))
        small.disturb(model)
        model(small.images()).square().sum().backward()
    got = {name for name, values in model.named_parameters() if values.grad is not None}
    assert got == {n for n, p in model.named_parameters() if p.requires_grad}
    assert got == {f"blocks.{i}.attn.qkv.{n}" for i in (0, 1) for n in "AB"} | {"head.weight", "head.bias"}
    assert all(model.get_parameter(name).grad.abs().max() > 0 for name in got)


@pytest.mark.parametrize(
    "targets, expected",
    [
        (("qkv",), ["blocks.0.attn.qkv", "blocks.1.attn.qkv"]),
        ("qkv", ["blocks.0.attn.qkv", "blocks.1.attn.qkv"]),
        ("0.attn.qkv", ["blocks.0.attn.qkv"]),
        ("blocks.0.attn.qkv", ["blocks.0.attn.qkv"]),
        (r"blocks\.1\..*(proj|fc1)", ["blocks.1.attn.proj", "blocks.1.mlp.fc1"]),
        (["head", "0.mlp.fc2"], ["blocks.0.mlp.fc2", "head"]),
    ],
)
def test_targets_are_endings_or_a_regular_expression(targets, expected):
    model = inject(small.model("vit"), LoRA(2, targets=targets))
    assert [name for name, m in model.named_modules() if isinstance(m, Adapted)] == expected


@pytest.mark.parametrize("targets", ["kv", ("qkv", "q_proj"), r"block\.\d+"])
def test_a_target_that_nothing_has_is_named_with_candidates(targets):
    word = (
        {"kv": "kv", r"block\.\d+": r"block\.\d+"}.get(targets, "q_proj")
        if isinstance(targets, str)
        else "q_proj"
    )
    model = small.model("vit")
    state = list(model.state_dict())
    with pytest.raises(ValueError, match=re.escape(repr(word))) as error:
        inject(model, LoRA(2, targets=targets))
    assert "qkv (2)" in str(error.value) and "VisionTransformer" in str(error.value)
    assert list(model.state_dict()) == state


def test_what_cannot_be_injected():
    model = small.model("vit")
    with pytest.raises(TypeError, match=r"moe\.LoRA\(rank=4\), got 'lora'"):
        inject(model, "lora")
    with pytest.raises(ValueError, match="names nothing to adapt and nothing to train"):
        inject(model, Method())
    with pytest.raises(TypeError, match=r"LoRA adapts nn.Linear, and 'blocks.0.norm1' is a LayerNorm"):
        inject(model, LoRA(2, targets="0.norm1"))
    with pytest.raises(
        TypeError, match=r"an adapter stands beside an MLP, and 'blocks.0.norm1' has no nn.Linear"
    ):
        inject(model, Adapter(targets="0.norm1"))
    with pytest.raises(ValueError, match="names nothing to adapt"):
        inject(model, Open())
    with pytest.raises(ValueError, match="no module is named 'mask_decoder'"):
        inject(model, Open("mask_decoder"))
    with pytest.raises(ValueError, match="inject first, then compile"):
        inject(torch.compile(model), LoRA(2))


@pytest.mark.parametrize("outer", [False, True])
def test_a_second_injection_is_an_error(outer):
    model = nn.Sequential(small.model("vit"))
    inject(model[0], LoRA(2))
    with pytest.raises(ValueError, match=r"has LoRA\(.*rank=2.*\) in it already; `remove` takes it out"):
        inject(model if outer else model[0], Adapter())
    remove(model)
    inject(model, Adapter())


@pytest.mark.parametrize(
    "make, targets, kind",
    [
        (lambda: nn.MultiheadAttention(8, 2), "out_proj", "MultiheadAttention"),
        (lambda: nn.TransformerEncoderLayer(8, 2), "out_proj", "TransformerEncoderLayer"),
        (lambda: nn.TransformerEncoderLayer(8, 2), "linear1", "TransformerEncoderLayer"),
        (lambda: nn.Sequential(nn.MultiheadAttention(8, 2)), "0", "MultiheadAttention"),
    ],
)
def test_attention_that_reads_the_weights_of_its_parts_is_refused(make, targets, kind):
    with pytest.raises(
        TypeError, match=f"torch's {kind} reads the weights of its parts and never calls them"
    ):
        inject(make(), LoRA(2, targets=targets))


def test_a_part_of_a_model_is_found_from_the_whole(tmp_path):
    sam = tiny_methods.sam()
    x = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    before = sam.embed(x)
    inject(sam.image_encoder, LoRA(2))
    assert sam.mask_decoder.iou_token.weight.requires_grad  # lies outside, and stays as it was
    small.disturb(sam.image_encoder)
    learnt = sam.embed(x)
    with disable(sam):
        assert torch.equal(sam.embed(x), before)
    save_adapter(sam, tmp_path)
    assert json.loads((tmp_path / CONFIG).read_text())["inside"] == "image_encoder"
    assert all(name.startswith("blocks.") for name in load_file(tmp_path / WEIGHTS))
    again = load_adapter(tiny_methods.sam(), tmp_path)
    assert torch.equal(again.embed(x), learnt)
    assert torch.equal(
        load_adapter(inject(tiny_methods.sam().image_encoder, LoRA(2)), tmp_path)(sam.normalised(x)), learnt
    )
    with pytest.raises(
        ValueError, match="belongs into 'image_encoder', and a VisionTransformer has no such part"
    ):
        load_adapter(small.model("vit"), tmp_path)


def test_two_parts_have_to_be_named():
    model = nn.ModuleList([inject(small.model("vit"), LoRA(2)) for _ in range(2)])
    with pytest.raises(ValueError, match="2 parts of this ModuleList have a method: name one of them"):
        save_adapter(model, "unused")
    with pytest.raises(ValueError, match="nothing was injected into this Linear"):
        remove(nn.Linear(2, 2))


def test_the_sentence_that_users_of_peft_know():
    model = inject(nn.Sequential(nn.Linear(1000, 3000), nn.Linear(3000, 1000)), LoRA(8, targets="0"))
    counts = trainable_parameters(model)
    assert counts == Counts(trainable=32_000, all=6_036_000)
    assert str(counts) == "trainable params: 32,000 || all params: 6,036,000 || trainable%: 0.5302"
    assert trainable_parameters(nn.Identity()).percent == 0
    assert Counts(trainable=1, all=1).percent == 100


def test_a_layer_that_stands_in_two_places_has_one_wrapper():
    shared = nn.Linear(4, 4)
    model = nn.ModuleDict({"a": shared, "b": nn.Sequential(shared)})
    inject(model, LoRA(2, targets=("a", "b.0")))
    assert model["a"] is model["b"][0] and model["a"].base is shared
    remove(model)
    assert model["a"] is shared and model["b"][0] is shared


def test_adapted_parts_of_an_adapted_part(tmp_path):
    """Inside and outside at once: both are saved, both go away."""
    model, x = small.model("vit"), small.images()
    before = model(x)
    inject(model, tiny_methods.Nested())
    assert torch.equal(model(x), before)
    small.disturb(model)
    save_adapter(model, tmp_path)
    assert len(load_file(tmp_path / WEIGHTS)) == 2 * (1 + 2 * 2 + 1)  # per block: gain, two LoRAs, a bias
    again = inject(small.model("vit"), tiny_methods.Nested())
    small.disturb(again, seed=7)
    assert torch.equal(load_adapter(again, tmp_path)(x), model(x))
    with disable(model):
        assert torch.equal(model(x), before)
    remove(model)
    assert torch.equal(model(x), before)
    with pytest.raises(
        ValueError, match=r"is of 'Nested', and moe_lib has .*LoRA.*of your own is injected before"
    ):
        load_adapter(model, tmp_path)


def test_buffers_of_opened_parts_are_saved(tmp_path):
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)).train()
    inject(model, Open("1"))
    model(small.images())
    save_adapter(model, tmp_path)
    fresh = load_adapter(nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)), tmp_path)
    assert torch.equal(fresh[1].running_mean, model[1].running_mean) and fresh[1].running_mean.abs().max() > 0
    assert fresh[1].num_batches_tracked == 1


def test_buffers_of_parts_that_are_not_opened_are_left_out(tmp_path):
    model = nn.Sequential(nn.BatchNorm2d(4))
    model.scale = nn.Parameter(torch.ones(()))
    save_adapter(inject(model, tiny_methods.Scale()), tmp_path)
    assert set(load_file(tmp_path / WEIGHTS)) == {"scale"}


# What a wrong file says.


@pytest.fixture
def kept(tmp_path) -> Path:
    return save_adapter(inject(small.model("vit"), LoRA(2)), tmp_path / "kept")


def test_an_adapter_of_another_model_explains_the_difference(kept):
    other = small.KINDS["ours"]()
    with pytest.raises(ValueError, match=r"does not fit this model: 4 of another shape") as error:
        small.SIZES | {"embed_dim": 12}
        wide = type(other)(**small.SIZES | {"embed_dim": 12, "num_heads": 2})
        load_adapter(wide, kept)
    assert "blocks.0.attn.qkv.A has (1, 2, 24) in place of (1, 2, 12)" in str(error.value)
    assert not any(isinstance(m, Adapted) for m in wide.modules())  # as if nothing had been tried
    deeper = type(other)(**small.SIZES | {"depth": 3})
    with pytest.raises(ValueError, match=r"does not fit this model: 2 missing: blocks.2.attn.qkv.A"):
        load_adapter(deeper, kept)


@pytest.mark.parametrize("method, said", [(LoRA(3), "'rank': 3"), (Adapter(), "Adapter")])
def test_an_adapter_of_another_method(kept, method, said):
    model = inject(small.model("vit"), method)
    small.disturb(model)
    before = model(small.images())
    with pytest.raises(ValueError, match=rf"of another method: .*'rank': 2.* and here .*{said}"):
        load_adapter(model, kept)
    assert torch.equal(model(small.images()), before)


def test_folders_that_are_no_adapter(kept, tmp_path):
    model = small.model("vit")
    with pytest.raises(FileNotFoundError, match=rf"no .*{CONFIG}; an adapter is {CONFIG} and {WEIGHTS}"):
        load_adapter(model, tmp_path / "none")
    (kept / CONFIG).write_text("{")
    with pytest.raises(ValueError, match=f"{CONFIG} is damaged"):
        load_adapter(model, kept)
    (kept / CONFIG).write_text('{"peft_type": "LORA"}')
    with pytest.raises(
        ValueError, match=r"should have method, settings and inside; it is {'peft_type': 'LORA'}"
    ):
        load_adapter(model, kept)
    shutil.rmtree(kept)
    save_adapter(inject(small.model("vit"), LoRA(2)), kept)
    whole = (kept / WEIGHTS).read_bytes()
    (kept / WEIGHTS).write_bytes(whole[:100])
    with pytest.raises(ValueError, match=f"{WEIGHTS} is damaged or incomplete"):
        load_adapter(model, kept)
    save_file({"blocks.0.attn.qkv.A": torch.zeros(1, 2, 24)}, kept / WEIGHTS)
    with pytest.raises(ValueError, match=r"3 missing: blocks\.0\.attn\.qkv\.B"):
        load_adapter(model, kept)
    with pytest.raises(ValueError, match="is a file; an adapter is saved to a folder"):
        save_adapter(inject(model, LoRA(2)), kept / WEIGHTS)


def test_nothing_is_left_of_a_save_that_fails(kept, monkeypatch):
    before = (kept / WEIGHTS).read_bytes()
    model = inject(small.model("vit"), LoRA(2))
    small.disturb(model)

    def full(*_):
        raise OSError("no space left")

    monkeypatch.setattr("moe_lib.injection.save_file", full)
    with pytest.raises(OSError, match="no space left"):
        save_adapter(model, kept)
    assert {path.name for path in kept.iterdir()} == {WEIGHTS, CONFIG}
    assert (kept / WEIGHTS).read_bytes() == before


# Merging.


@pytest.mark.parametrize("slices", [None, "qv", "k"])
@pytest.mark.parametrize("kind", ["vit", "swin", "ours"])
def test_merged_it_gives_the_same_and_unmerged_it_is_as_before(kind, slices):
    model, x = inject(small.model(kind), LoRA(2, alpha=3, slices=slices)), small.images()
    small.disturb(model)
    weights = {n: p.clone() for n, p in model.named_parameters()}
    with disable(model):
        frozen = model(x)
    apart = model(x)
    assert merge(model) is model
    assert all(m.merged for m in model.modules() if isinstance(m, Adapted))
    once = {n: p.clone() for n, p in model.named_parameters()}
    torch.testing.assert_close(model(x), apart, rtol=1e-5, atol=1e-5)
    merge(model)  # again changes nothing
    assert all(torch.equal(p, once[n]) for n, p in model.named_parameters())
    with disable(model):
        assert torch.equal(model(x), frozen)
    assert all(torch.equal(p, once[n]) for n, p in model.named_parameters())
    unmerge(model), unmerge(model)
    assert all(torch.equal(p, weights[n]) for n, p in model.named_parameters())
    assert torch.equal(model(x), apart)


def test_merging_what_is_not_finite_changes_nothing():
    model = inject(small.model("vit"), LoRA(2))
    small.disturb(model)
    model.blocks[1].attn.qkv.B.data[0, 3, 1] = float("nan")
    before = {n: p.clone() for n, p in model.named_parameters()}
    with pytest.raises(
        ValueError, match=r"weight of 'blocks.1.attn.qkv' would not be finite; nothing was merged"
    ):
        merge(model)
    assert not model.blocks[0].attn.qkv.merged
    assert all(torch.equal(p.nan_to_num(), before[n].nan_to_num()) for n, p in model.named_parameters())


@pytest.mark.parametrize(
    "method, why",
    [
        (Adapter(), "Adapter cannot be merged: it does what depends on its input"),
        (VPT(), "VPT cannot be merged: it does what depends on its input"),
        (BitFit(), "BitFit cannot be merged: it trains the model's own weights"),
        (Full(), "Full cannot be merged: it trains the model's own weights"),
    ],
)
def test_the_rest_cannot_be_merged(method, why):
    with pytest.raises(TypeError, match=why):
        merge(inject(small.model("vit"), method))


def test_loading_and_removing_while_merged(kept):
    model, x = inject(small.model("vit"), LoRA(2)), small.images()
    with disable(model):
        frozen = model(x)
    small.disturb(model)
    merge(model)
    load_adapter(model, kept)  # of an untrained one
    assert all(m.merged for m in model.modules() if isinstance(m, Adapted))
    assert torch.equal(model(x), frozen)
    small.disturb(unmerge(model))
    merge(model)
    assert torch.equal(remove(model)(x), frozen)


# In the hands of torch.

EVERY = [LoRA(2), LoRA(2, slices="qv", dropout=0.5), Adapter(4), VPT(3), BitFit(), Full(), Open("head")]


@pytest.mark.parametrize("method", EVERY, ids=repr)
def test_copies_are_apart_and_equal(method):
    model, x = inject(small.model("vit"), method), small.images()
    small.disturb(model)
    out, twin = model(x), copy.deepcopy(model)
    assert torch.equal(twin(x), out)
    small.disturb(twin, seed=5)
    assert torch.equal(model(x), out) and not torch.equal(twin(x), out)
    with disable(model), disable(twin):
        assert torch.equal(twin(x), model(x))
    remove(twin)
    assert torch.equal(model(x), out)
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    assert torch.equal(torch.load(file, weights_only=False)(x), out)


@pytest.mark.parametrize("method", EVERY, ids=repr)
def test_a_state_dict_goes_to_a_model_with_the_same_method(method):
    model, x = inject(small.model("vit"), method), small.images()
    small.disturb(model)
    other = inject(small.model("vit", seed=4), method)
    other.load_state_dict(model.state_dict())
    assert torch.equal(other(x), model(x))


@pytest.mark.parametrize("method", EVERY, ids=repr)
def test_to_another_precision_and_back(method):
    model, x = inject(small.model("vit"), method), small.images()
    small.disturb(model)
    out = model(x)
    assert (model.double()(x.double()) - out).abs().max() < 1e-4
    with disable(model):
        assert model(x.double()).dtype == torch.float64
    model.float()
    torch.testing.assert_close(model(x), out)


@pytest.mark.parametrize("method", EVERY, ids=repr)
def test_a_half_precision_model_trains_its_method_in_full(method):
    model = inject(small.model("vit").bfloat16(), method)
    small.disturb(model)
    own = {p.dtype for m in model.modules() if isinstance(m, Adapted) for p in m.parameters(recurse=False)}
    assert own <= {torch.float32}
    assert model(small.images().bfloat16()).dtype == torch.bfloat16


@pytest.mark.parametrize("method", EVERY, ids=repr)
def test_under_autocast(method):
    model, x = inject(small.model("vit"), method).train(), small.images()
    small.disturb(model.eval())
    with torch.enable_grad(), torch.autocast("cpu", torch.bfloat16):
        out = model(x)
        out.float().square().sum().backward()
    assert (out.float() - model(x)).abs().max() < 0.05 * model(x).abs().max()
    for name, values in model.named_parameters():
        assert not values.requires_grad or (
            values.grad.dtype == values.dtype and values.grad.isfinite().all()
        ), name


@pytest.mark.parametrize("method", EVERY, ids=repr)
def test_with_gradient_checkpoints(method):
    model, x = inject(small.model("vit"), method), small.images()
    small.disturb(model)
    plain = gradients(model, model.forward, x)
    assert plain
    kept = gradients(model, lambda x: checkpoint(model, x, use_reentrant=False), x)
    assert plain.keys() == kept.keys()
    for name, values in plain.items():
        torch.testing.assert_close(kept[name], values)


def gradients(model: nn.Module, forward, x: torch.Tensor) -> dict[str, torch.Tensor]:
    model.zero_grad()
    with torch.enable_grad():
        forward(x).square().sum().backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.slow
@pytest.mark.parametrize("method", [LoRA(2, slices="qv"), Adapter(4), VPT(3), BitFit()], ids=repr)
def test_compiled(method, tmp_path):
    model, x = inject(small.model("vit"), method), small.images()
    with disable(model):
        frozen = model(x)
    small.disturb(model)
    plain = gradients(model, model.forward, x)
    compiled = torch.compile(model, backend="aot_eager")
    torch.testing.assert_close(compiled(x), model(x))
    found = gradients(model, compiled, x)
    assert found.keys() == plain.keys()
    for name, values in plain.items():
        torch.testing.assert_close(found[name], values, rtol=1e-4, atol=1e-5)
    with disable(compiled):
        torch.testing.assert_close(compiled(x), frozen)
    torch.testing.assert_close(compiled(x), model(x))
    save_adapter(compiled, tmp_path)
    assert torch.equal(load_adapter(small.model("vit"), tmp_path)(x), model(x))


@pytest.mark.parametrize("training", [True, False])
def test_the_mode_of_a_module_is_that_of_what_replaces_it(training):
    model = inject(small.model("vit").train(training), LoRA(2, dropout=0.9))
    assert all(module.training == training for module in model.modules())


def test_a_switched_off_model_cannot_be_trained_by_mistake():
    """Values that were swapped below a graph make its backward pass an error, not a wrong gradient."""
    model, x = inject(small.model("vit"), Full()), small.images()
    small.disturb(model)
    with torch.enable_grad():
        with disable(model):
            out = model(x)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            out.sum().backward()


def test_pocket_sam_learns_and_forgets(tmp_path):
    sam = Sam(tiny_methods.SIZES).eval()
    inject(sam, LoRA(2, targets=("qkv", "lin1"), also="mask_decoder"))
    assert {n.split(".")[0] for n, p in sam.named_parameters() if p.requires_grad} == {
        "image_encoder",
        "mask_decoder",
    }
    save_adapter(sam, tmp_path)
    size = (tmp_path / WEIGHTS).stat().st_size
    assert size < 4 * trainable_parameters(sam).trainable + 20_000
