"""Pretrain a pocket model on the world's generic scenes, or on sentences.

    python -m moe_lib.backbones.pretrain sam --minutes 60             on a GPU where there is one
    python -m moe_lib.backbones.pretrain mae --steps 20000 --device cpu
    python -m moe_lib.backbones.pretrain sam --resume                 goes on where a run was stopped
    python -m moe_lib.backbones.pretrain sam --begin FILE             from weights that are there, to train on
    fabric run --devices 2 moe_lib/backbones/pretrain/__main__.py sam --steps 20000     on two devices

What is made is put into one folder: the weights with their card, a log with a line per validation, and the
state from which a stopped run goes on.
"""

import argparse
import json
import os
from dataclasses import asdict, replace
from pathlib import Path

import torch
from lightning_fabric import Fabric
from torch import nn

from moe_lib.backbones import build, checkpoints
from moe_lib.backbones.hierarchical import Joined
from moe_lib.backbones.mae import Mae
from moe_lib.backbones.pretrain.loop import LOG, Plan, Training, planned
from moe_lib.backbones.pretrain.objectives import Painting, Prompting, Restorer
from moe_lib.backbones.pretrain.pool import Pool, pool
from moe_lib.backbones.pretrain.reading import Reader, Reading, Sentences, sentences
from moe_lib.backbones.registry import POCKET, POCKET_GLOBAL
from moe_lib.backbones.sam import Sam
from moe_lib.results import environment
from moe_lib.scale import pick_device
from moe_lib.worlds.cache import places
from moe_lib.worlds.generic import Generic
from moe_lib.worlds.referring import Referring

MODELS = {"sam": POCKET, "sam_global": POCKET_GLOBAL, "mae": POCKET_GLOBAL}
ALONE = ("vit", "text")  # encoders that no decoder is shipped with
MORE = ("hiera", *ALONE)
HELD_OUT = 256  # scenes of each validation


def fresh(plan: Plan) -> nn.Module:
    """An objective around a model that has learnt nothing yet, or around weights that are there."""
    torch.manual_seed(plan.seed)
    if plan.model == "hiera":
        hiera = build.hiera(weights=False)
        model = Sam(replace(POCKET, channels=hiera.channels))
        model.image_encoder = Joined(hiera)
    elif plan.model == "vit":
        model = Restorer(build.vit(weights=False))
    elif plan.model == "text":
        model = Reader(build.text(weights=False))
    else:
        sizes = MODELS[plan.model]
        model = Mae(sizes) if plan.model == "mae" else Sam(sizes)
        nn.init.trunc_normal_(model.image_encoder.pos_embed, std=0.02)
    if plan.begin:
        checkpoints.load(kept(model), plan.begin)
    if isinstance(model, Reader):
        return Reading(model)
    return Prompting(model, plan.prompts) if isinstance(model, Sam) else Painting(model)


def kept(model: nn.Module) -> nn.Module:
    """The part whose weights are shipped: encoders without what they were asked through."""
    if isinstance(model, (Restorer, Reader)):
        return model.vit if isinstance(model, Restorer) else model.text
    encoder = model.image_encoder
    return encoder.hiera if isinstance(encoder, Joined) else model


def learnt_from(model: str, split: str, n: int) -> Pool | Sentences:
    """What a model is trained on, or measured with."""
    return sentences(split, n) if model == "text" else pool(split, n)


def main() -> None:
    given = _parser().parse_args()
    folder = given.out or Path("pretrained", given.model)
    plan = planned(folder) if given.resume else None
    if given.resume and plan is None:
        raise SystemExit(f"pretrain: nothing to resume in {folder}; without --resume a run is begun there")
    if plan and plan.model != given.model:
        raise SystemExit(f"pretrain: the run in {folder} is of {plan.model}, not of {given.model}")
    if not given.resume and folder.exists() and any(folder.iterdir()):
        raise SystemExit(f"pretrain: {folder} is not empty; --resume goes on with it, --out names another")
    fabric = _fabric(given.device)
    folder.mkdir(parents=True, exist_ok=True)
    count = plan.scenes if plan else given.scenes
    if fabric.is_global_zero and given.model != "text":  # the others find them rendered
        pool("pretrain", count)
        pool("pretrain_val", HELD_OUT)
    fabric.barrier()
    scenes = learnt_from(given.model, "pretrain", count)
    held_out = learnt_from(given.model, "pretrain_val", HELD_OUT)
    plan = plan or _plan(given, fabric)
    training = Training(fabric, plan, fresh(plan), scenes, held_out, folder, recorded=given.record)
    if not plan.steps:
        training.find_pace(given.minutes)
    fabric.print(f"{plan.model}: {training.plan.steps} steps of {plan.batch} scenes on {fabric.device}")
    model = training.run(every=given.every)
    if fabric.is_global_zero:
        path = folder / f"{plan.model}.safetensors"
        checkpoints.save(kept(model), path, _card(training, given))
        print(f"{path}; a copy in moe_lib/weights makes it the library's own")


def _fabric(device: str) -> Fabric:
    """On one device, or on those that ``fabric run`` was told to use."""
    if int(os.environ.get("LT_CLI_USED", 0)):
        return Fabric()  # whose processes run already
    where = pick_device(device)
    precision = "bf16-mixed" if where.type == "cuda" else "32-true"
    fabric = Fabric(accelerator=where.type, devices=1, precision=precision)
    fabric.launch()
    return fabric


def _plan(given: argparse.Namespace, fabric: Fabric) -> Plan:
    """What was asked for."""
    if given.frozen_encoder and given.model in ALONE:
        raise SystemExit(f"pretrain: {given.model} is an encoder alone; nothing of it is left to train")
    asked = {
        name: getattr(given, name)
        for name in ("model", "batch", "scenes", "rate", "prompts", "frozen_encoder", "begin", "seed")
        if getattr(given, name) is not None
    }
    plan = Plan(steps=given.steps or 0, **asked)
    if plan.batch % fabric.world_size:
        raise SystemExit(f"pretrain: {plan.batch} scenes cannot be shared by {fabric.world_size} processes")
    return plan


def _card(training: Training, given: argparse.Namespace) -> dict:
    """How the weights were made."""
    log = [json.loads(line) for line in (training.folder / LOG).read_text(encoding="utf-8").splitlines()]
    before = checkpoints.read_card(training.plan.begin) if training.plan.begin else {}
    images, hours = training.step * training.plan.batch, training.seconds / 3600
    return {
        "model": training.plan.model,
        "task": "sentences, split pretrain" if given.model == "text" else "generic, split pretrain, 96 px",
        "world": places.code_of(Referring if given.model == "text" else Generic)[:16],
        "plan": asdict(training.plan),
        "images": images + before.get("images", 0),
        "hours": round(hours + before.get("hours", 0), 3),
        "processes": training.fabric.world_size,
        "precision": training.fabric._precision.precision,
        "held_out": {key: value for key, value in log[-1].items() if key.startswith("held-out")},
        "environment": environment(training.fabric.device),
        **({"before": before} if before else {}),
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m moe_lib.backbones.pretrain", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    add = parser.add_argument
    add("model", choices=(*MODELS, *MORE), help="which of the pocket models; `available()` lists them")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--minutes", type=float, default=60, help="how long it may take (default: 60)")
    length.add_argument("--steps", type=int, help="how many steps, instead")
    add("--device", default="auto", help="auto, cpu, cuda or mps")
    add("--out", type=Path, help="folder of what is made (default: pretrained/MODEL)")
    add("--resume", action="store_true", help="go on with the run in that folder, as it was planned")
    add("--batch", type=int, help=f"scenes of a step (default: {Plan.batch})")
    add("--scenes", type=int, default=Plan.scenes, help=f"scenes to learn from (default: {Plan.scenes})")
    add("--rate", type=float, help=f"largest learning rate (default: {Plan.rate})")
    add("--prompts", type=int, help=f"prompts per scene, an even number (default: {Plan.prompts})")
    add("--begin", help="weights to begin with, as an earlier run of the same model wrote them")
    add("--seed", type=int, help=f"of everything that is random (default: {Plan.seed})")
    add("--every", type=int, default=0, help="steps between validations (default: a twentieth of all)")
    add("--frozen-encoder", action="store_true", help="train the decoder on an untrained encoder: a control")
    add("--record", action="store_true", help="record the step and replay it: several times as fast on a GPU")
    return parser


if __name__ == "__main__":
    main()
