"""The official code of Conv-LoRA: its layer, its SAM, its losses and metrics."""

import re

import numpy as np
import pytest
import tiny_sam
import torch
from cases import absent, cases, close, read

import moe_lib as moe
from moe_lib import losses, metrics

LAYER = dict(relative=1e-5, absolute=1e-7)
SAM, SAM_GRADIENT = 2e-5, 1e-3
MODES = pytest.mark.parametrize("mode", ["eval", "train"])


@MODES
@cases("conv_lora", has="param/lora_A")
def test_layer(case, mode):
    meta, arrays = read(case)
    if mode not in meta["modes"]:
        pytest.skip(f"{case.name} has no {mode}")
    state = {name[len("param/") :]: v for name, v in arrays.items() if name.startswith("param/")}
    layer = moe.ConvLoRALinear.from_official(
        state, rank=meta["r"], alpha=meta["alpha"], experts=meta["experts"], top_k=meta["top_k"],
        multiply_by_gates=meta["multiply_by_gates"],
    ).train(mode == "train")  # fmt: skip
    x = arrays["in/x"].clone().requires_grad_()
    grid = None if x.ndim == 4 else tuple(arrays[f"{mode}/bottleneck"].shape[-2:])
    out = layer(x, grid, arrays["train/noise"] if mode == "train" else None)
    balance, decision = moe.balance_loss(layer), layer.routing
    loss = (out * arrays["in/R"]).sum()
    found = {
        "out": out, "frozen_out": layer.base(x), "aux": balance, "task_loss": loss,
        "gates": decision.gates, "clean_logits": decision.logits, "importance": decision.importance,
        "load": decision.load,
    }  # fmt: skip
    if mode == "train":
        found |= {"noisy_logits": decision.noisy, "prob_in_top_k": decision.prob_in_top_k}
    for name, values in found.items():
        close(name, values, arrays[f"{mode}/{name}"], **LAYER)

    for kind, value in (("task", loss), ("aux", balance)):
        layer.zero_grad()
        x.grad = None
        if value.requires_grad:
            value.backward(retain_graph=True)
        gradients = official_gradients(layer) | {"x": x.grad}
        never = absent(case, f"{mode}/grad_{kind}_absent")
        for name, gradient in gradients.items():
            if "gating" in name and name in never:
                assert gradient is None, f"{kind}: {name} should have no gradient at all"
            gradient = (
                torch.zeros_like(arrays[f"{mode}/grad_{kind}/{name}"]) if gradient is None else gradient
            )
            close(f"gradient of {name}, {kind}", gradient, arrays[f"{mode}/grad_{kind}/{name}"], **LAYER)


def official_gradients(layer):
    """Gradients by the official names."""
    named = {
        "lora_A": layer.A.grad, "lora_B": layer.B.grad,
        "lora_moe_gating.w_gate": layer.w_gate.grad, "lora_moe_gating.w_noise": layer.w_noise.grad,
    }  # fmt: skip
    for what in ("weight", "bias"):
        stacked = getattr(layer.experts, what)
        gradient = torch.zeros_like(stacked) if stacked.grad is None else stacked.grad
        named |= {f"lora_moe_experts.{i}.0.{what}": one for i, one in enumerate(gradient)}
    return named


@MODES
@cases("conv_lora", has="param/model.vision_encoder.pos_embed")
def test_whole_sam(case, mode, monkeypatch):
    meta, arrays = read(case)
    official = {name[len("param/") :]: v for name, v in arrays.items() if name.startswith("param/")}
    model = tiny_sam.build(meta, official).train(mode == "train")
    encoder, image = model.image_encoder, arrays["in/pixel_values"]
    monkeypatch.setattr(model, "normalised", lambda image: image)  # it is normalised already
    monkeypatch.setattr("moe_lib.backbones.checks.image", lambda *_: None)
    layers = [block.attn.qkv for block in encoder.blocks]
    hidden = []
    for i, block in enumerate(encoder.blocks):
        block.register_forward_hook(lambda _m, inputs, output: hidden.append((inputs[0], output)))
        if mode == "train":
            own, noise = layers[i].forward, arrays[f"train/noise/block{i}"]
            monkeypatch.setattr(layers[i], "forward", lambda x, own=own, noise=noise: own(x, None, noise))
    with moe.watch_routing(model) as routing:
        answer = model(image)
    close("logits", answer.logits, arrays[f"{mode}/logits"], SAM)
    close("balance", moe.balance_loss(model), arrays[f"{mode}/aux"], SAM)
    for i, layer in enumerate(layers):
        close(f"gates {i}", layer.routing.gates, arrays[f"{mode}/gates/block{i}"], SAM)
        close(f"balance {i}", layer.balance, arrays[f"{mode}/aux/block{i}"], SAM)
    kinds = [calls[0].shape[0] for calls in routing.values()]
    assert kinds == ["image" if i in meta["global_idx"] else "window" for i in range(len(layers))]
    if mode == "eval":
        for i, (entering, leaving) in enumerate(hidden):
            close(f"input of block {i}", entering, arrays[f"eval/hidden/{i}"], SAM)
            close(f"output of block {i}", leaving, arrays[f"eval/hidden/{i + 1}"], SAM)
        close("embedding", model.embed(image), arrays["eval/image_embeddings"], SAM)

    model.zero_grad()
    (answer.logits * arrays["in/R"]).sum().backward()
    never = absent(case, f"{mode}/grad_task_absent")
    prefix = f"{mode}/grad_task/"
    expected = {name[len(prefix) :]: v for name, v in arrays.items() if name.startswith(prefix)}
    assert len(expected) > 50
    # Some are zero but for rounding, such as those of the keys' biases, which a softmax does not feel.
    rounding = 1e-6 * max(float(gradient.abs().max()) for gradient in expected.values())
    for name, gradient in expected.items():
        close(f"gradient of {name}", gradient_of(model, name), gradient, SAM_GRADIENT, rounding)
    for name in never:
        gradient = gradient_of(model, name)
        assert gradient is None or not gradient.any(), name


def gradient_of(model, official):
    if found := re.fullmatch(r"(.*)\.lora_moe_experts\.(\d+)\.0\.(weight|bias)", official):
        return model.get_parameter(f"{tiny_sam.ours(found[1])}.experts.{found[3]}").grad[int(found[2])]
    return model.get_parameter(tiny_sam.ours(official)).grad


@pytest.mark.parametrize(
    "name, loss",
    [
        ("structure_loss", losses.structure),
        ("structure_loss_if_bce_were_weighted", lambda x, y: losses.structure(x, y, weighted_bce=True)),
        ("balanced_bce", losses.balanced_bce),
    ],
)
@cases("conv_lora", has="structure_loss")
def test_losses(case, name, loss):
    _, arrays = read(case)
    logits = arrays["in/logits"].clone().requires_grad_()
    value = loss(logits, arrays["in/target"]).mean()
    value.backward()
    assert value.item() == pytest.approx(float(arrays[name]), rel=1e-6)
    if f"{name}/grad" in arrays:
        close("gradient", logits.grad, arrays[f"{name}/grad"], 1e-5)
    assert loss(logits, arrays["in/target"].long()).mean().item() == pytest.approx(value.item())


@pytest.mark.parametrize(
    "name, measured",
    [
        ("s_measure", metrics.s_measure),
        ("e_measure_mean", metrics.e_measure),
        ("weighted_f", lambda p, g: metrics.weighted_f(p, g, beta2=0.3)),
        ("mae", metrics.mae),
        ("ber", metrics.ber),
        ("iou_binary", metrics.iou),
    ],
)
@cases("conv_lora", has="metric/s_measure")
def test_metrics(case, name, measured):
    _, arrays = read(case)
    found = measured(arrays["in/prob"][:, 0], arrays["in/target"][:, 0])
    torch.testing.assert_close(found, arrays[f"metric_per_image/{name}"].double(), rtol=0, atol=1e-6)
    assert float(found.mean()) == pytest.approx(float(arrays[f"metric/{name}"]), abs=1e-6)


@cases("conv_lora", has="metric/e_curve")
def test_curve_of_alignment(case):
    _, arrays = read(case)
    probability, mask = arrays["in/prob"][:, 0], arrays["in/target"][:, 0]
    curves = [
        metrics.alignment_curve(metrics._stretched(p), g == 1)
        for p, g in zip(probability.numpy(), mask.numpy(), strict=True)
    ]
    np.testing.assert_allclose(np.mean(curves, 0), arrays["metric/e_curve"], atol=1e-6)
    adaptive = metrics.e_measure(probability, mask, at="adaptive")
    assert float(adaptive.mean()) == pytest.approx(float(arrays["metric/e_adaptive"]), abs=1e-6)


@cases("conv_lora", has="metric/miou_multiclass")
def test_mean_iou(case):
    _, arrays = read(case)
    scores, label = arrays["in/semantic"], arrays["in/semantic_label"][:, 0]
    found = metrics.confusion(scores.argmax(1), label, scores.shape[1])
    assert found.diagonal().tolist() == arrays["metric/inter"].tolist()
    union = found.sum(0) + found.sum(1) - found.diagonal()
    assert union.tolist() == arrays["metric/union"].tolist()
    expected = pytest.approx(float(arrays["metric/miou_multiclass"]), abs=1e-6)
    assert metrics.mean_iou(found, absent="zero") == expected
