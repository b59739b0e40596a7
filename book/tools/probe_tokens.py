"""What do the tokens of frozen encoders know of the object that they lie on? A linear layer reads them.

    python book/tools/probe_tokens.py        -> book/results/other_methods/probe.json

On pictures of the referring world: colour and shape, six of each, of the object that covers most of a patch.
The layer is fitted on tokens of the training split and asked about those of the validation split.
"""

import json
from pathlib import Path

import torch
import torch.nn.functional as F
from difficulty_table import ROOT
from torch import Tensor, nn

import moe_lib as moe
from moe_lib import backbones
from moe_lib.backbones import PlainVit
from moe_lib.results import environment
from moe_lib.worlds.language import COLOURS, SHAPES

FILE = Path("book/results/other_methods/probe.json")
PATCH, COVERED = 8, 0.6  # pixels; share of a patch that an object must cover
LEARNT, ASKED = 250, 120  # pictures
WORDS = {"colour": COLOURS, "shape": SHAPES}
ENCODERS = {
    "vit": backbones.vit,
    "vit, untrained": lambda: backbones.vit(weights=False).eval(),
    "mae": lambda: PlainVit(backbones.mae().image_encoder),
    "sam": lambda: PlainVit(backbones.sam().image_encoder),
}


def patches(split: str, count: int) -> tuple[Tensor, dict[str, Tensor]]:
    """Pictures, and of each patch the number of its object's colour and shape, -1 where there is none."""
    task = moe.worlds.task("referring", split, 2 * count)
    rows = range(0, 2 * count, 2)  # the other half shows the same pictures
    batch, labels = task.batch(rows), {}
    for what, words in WORDS.items():
        masks = []
        for row, instances in zip(rows, batch["instances"], strict=True):
            numbers = [words.index(getattr(thing, what)) + 1 for thing in task.situation(row).things]
            masks.append(torch.tensor([0, *numbers])[instances])
        each = F.one_hot(torch.stack(masks), len(words) + 1).permute(0, 3, 1, 2).float()
        share, best = F.avg_pool2d(each, PATCH).flatten(2).max(1)
        labels[what] = torch.where(share > COVERED, best - 1, -1)
    return batch["image"], labels


@torch.no_grad()
def tokens(encoder: PlainVit, images: Tensor) -> Tensor:
    """What leaves the last block, ``(B, N, D)``."""
    found = []
    for part in images.split(50):
        x, besides, grid = encoder.enter(part)
        for i in range(encoder.depth):
            x, besides = encoder.block(i, x, besides, grid)
        found.append(encoder.norm(x))
    return torch.cat(found)


def right(learnt: Tensor, truth: Tensor, asked: Tensor, answers: Tensor) -> float:
    """Share of right answers of a linear layer, fitted on tokens ``(n, D)`` and their labels ``(n,)``."""
    mean, std = learnt.mean(0), learnt.std(0) + 1e-6
    layer = nn.Linear(learnt.shape[1], int(truth.max()) + 1)
    optimiser = torch.optim.LBFGS(layer.parameters(), max_iter=100)

    def loss() -> Tensor:
        optimiser.zero_grad()
        value = F.cross_entropy(layer((learnt - mean) / std), truth) + 1e-3 * layer.weight.square().sum()
        value.backward()
        return value

    optimiser.step(loss)
    return float((layer((asked - mean) / std).argmax(1) == answers).float().mean())


def main() -> None:
    torch.set_num_threads(1)
    began, found = environment("cpu"), {}
    (images, labels), (others, answers) = patches("train", LEARNT), patches("val", ASKED)
    for name, build in ENCODERS.items():
        torch.manual_seed(0)
        encoder = build()
        learnt, asked = tokens(encoder, images), tokens(encoder, others)
        found[name] = {}
        for what in WORDS:
            here, there = labels[what] >= 0, answers[what] >= 0
            found[name][what] = right(learnt[here], labels[what][here], asked[there], answers[what][there])
        print(f"{name:16}" + "  ".join(f"{what} {share:.3f}" for what, share in found[name].items()))
    record = {"command": "python book/tools/probe_tokens.py", "environment": began, "right": found}
    path = ROOT / FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
