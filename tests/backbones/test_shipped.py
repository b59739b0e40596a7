"""The weights that travel with the library: small, frozen, loadable without a network, and good enough."""

import json
import subprocess
import sys
from functools import cache

import pytest
import torch

from moe_lib import backbones
from moe_lib.backbones import checkpoints, registry
from moe_lib.backbones.clicks import answered, objects, scores
from moe_lib.backbones.pretrain.reading import sentences
from moe_lib.worlds import Generic

SHIPPED = [card for card in registry.CARDS if card.shipped]
IDS = [f"{card.family}-{card.name}" for card in SHIPPED]
PROMPTED = {"pocket": 0.6, "pocket_global": 0.6}  # IoU of one click that may be expected


@cache
def scenes() -> dict:
    return Generic("pretrain_val", 32, 96).batch(range(32))


@pytest.mark.parametrize("card", SHIPPED, ids=IDS)
def test_weights_are_small_frozen_and_described(card):
    assert card.path.stat().st_size < 8e6
    model = getattr(backbones, card.family)(card.name)
    assert not model.training and not any(values.requires_grad for values in model.parameters())
    found = checkpoints.read_card(card.path)
    world = "sentences" if card.family == "text" else "generic"
    assert found["task"].startswith(f"{world}, split pretrain") and found["images"] > 0
    assert set(found["environment"]) >= {"commit", "device", "torch"} and found["plan"]["seed"] == 0


@pytest.mark.parametrize("name", PROMPTED)
def test_a_click_finds_the_object(name):
    found = scores(backbones.sam(name), [objects(scenes())])
    assert found["1 click"].mean() > PROMPTED[name]
    assert found["box"].mean() > found["1 click"].mean()
    assert found["best of 3"].mean() >= found["1 click"].mean()


def test_control_an_untrained_model_does_not():
    torch.manual_seed(0)
    assert scores(backbones.sam("pocket", weights=False).eval(), [objects(scenes())])["1 click"].mean() < 0.3


@torch.no_grad()
def test_half_precision_of_the_file_costs_nothing():
    """The weights are stored in half precision; rounding them so once more changes nothing, bf16 little."""
    sam, batch = backbones.sam(), objects(scenes())
    seeds = torch.arange(32, dtype=torch.int32)
    full = answered(sam, batch, seeds)
    assert all(torch.equal(v, v.half().float()) for v in sam.state_dict().values())
    with torch.autocast("cpu", torch.bfloat16):
        half = answered(sam, batch, seeds)
    assert abs(full["1 click"].mean() - half["1 click"].mean()) < 0.02


@torch.no_grad()
def test_the_autoencoder_paints_better_than_grey():
    mae, batch = backbones.mae(), scenes()
    loss = mae.loss(batch["image"], mae.keep(torch.arange(32, dtype=torch.int32)))
    assert loss.mean() < 0.75  # the patches' own mean would make about 1


def test_every_log_that_is_kept_belongs_to_a_shipped_model_or_the_control():
    files = [registry.WEIGHTS / name for name in ("training.json", "encoders.json")]
    runs = [run for file in files for run in json.loads(file.read_text(encoding="utf-8"))["runs"]]
    assert {run["job"] for run in runs} == {card.path.stem for card in SHIPPED} | {"control"}


@torch.no_grad()
def test_the_hierarchical_encoder_sees_more_than_an_untrained_one():
    """How much of each cell is an object, by a linear layer that was fitted on half of the scenes."""
    torch.manual_seed(0)
    batch = scenes()
    inside = (batch["instances"] > 0).float()[:, None]
    truth = torch.nn.functional.avg_pool2d(inside, 8).flatten()

    def error(model) -> float:
        x = model(batch["image"])[1].permute(0, 2, 3, 1).flatten(0, 2)
        x = torch.cat([x, torch.ones(len(x), 1)], 1)
        half = len(x) // 2
        fitted = torch.linalg.lstsq(x[:half], truth[:half, None]).solution
        return float((x[half:] @ fitted - truth[half:, None]).square().mean())

    assert error(backbones.hiera()) < 0.8 * error(backbones.hiera(weights=False).eval())


def test_the_log_of_the_vit_says_that_it_learnt():
    """Its layer that paints is not shipped. Grey would make a loss of about 1."""
    file = registry.WEIGHTS / "encoders.json"
    runs = {run["job"]: run for run in json.loads(file.read_text(encoding="utf-8"))["runs"]}
    losses = [line["held-out loss"] for line in runs["vit"]["log"]]
    assert losses[-1] < 0.65 and losses[-1] <= min(losses) + 1e-3


@torch.no_grad()
def test_the_text_encoder_tells_forms_of_sentences_apart():
    """Sentences that differ in their form are further apart than those that do not."""
    given = sentences("val", 120)
    said = torch.nn.functional.normalize(backbones.text()(given.tokens).sentence, dim=1)
    alike, same = said @ said.T, given.form[:, None] == given.form
    assert alike[same].mean() > alike[~same].mean() + 0.3


SCRIPT = """
import socket, sys
def refuse(*_, **__): raise AssertionError("a network was asked for")
socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
import moe_lib
assert "torchvision" not in sys.modules, "importing the library brings torchvision"
print(moe_lib.backbones.sam().sizes.width, moe_lib.backbones.mae().sizes.width)
"""


def test_no_network_is_asked_for():
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "128 128\n"
