"""Does a method learn? A sketch of a training on camouflage, beside one of the head alone."""

import torch

import moe_lib as moe
from moe_lib import heads, losses, metrics
from moe_lib.backbones import PlainVit
from moe_lib.methods.base import Method


def loss(model, batch):
    logits = model(batch).logits[:, 0]
    return (losses.bce(logits, batch["mask"]) + losses.dice(logits, batch["mask"])).mean()


def score(model, batch):
    return {"iou": metrics.iou(model(batch).probabilities()[:, 0], batch["mask"])}


def validated(method: Method, channels: int, steps: int) -> float:
    """IoU on held-out scenes, of the pocket SAM's encoder with a head for so many channels."""
    torch.manual_seed(0)
    backbone = PlainVit(moe.backbones.sam("pocket").image_encoder)
    model = moe.inject(heads.Segmenter(backbone, heads.PyramidHead(channels)), method)
    recipe = moe.Recipe(steps=steps, batch=6, rate=2e-3, every=steps)
    moe.fit(model, moe.worlds.materialise("camouflage", "train", 60), loss, recipe, device="cpu")
    return moe.evaluate(model, moe.worlds.materialise("camouflage", "val", 32), score)["iou"]
