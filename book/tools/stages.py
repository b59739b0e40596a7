"""How the comparison of chapter 01 moves while its two encoders are trained on.

    python book/tools/stages.py FILE ...        -> book/results/01_frozen_backbone/stages.json

A FILE holds weights of `sam_global` or of `mae`; its card says which, and after how many pictures. Those that
were shipped once are in the history of `moe_lib/weights`; `mae` after 720,000 pictures never was, and has to
be trained again, or left out. What is measured is what the chapter itself measures at its pocket scale,
by its own functions.
"""

import argparse
from pathlib import Path

import torch
from freshness import ROOT
from lift import lift
from torch import nn
from tqdm import tqdm

import moe_lib as moe
from moe_lib import backbones, worlds
from moe_lib.backbones import checkpoints

CHAPTER = "01_frozen_backbone"
IMAGES, PROBED, SEEDS = 128, 100, 5  # as at the chapter's pocket scale
BUILT = {
    "sam_global": ("masks", lambda path: backbones.sam("pocket_global", path)),
    "mae": ("MAE", lambda path: backbones.mae("pocket", path)),
}


def measured(encoders: dict[str, nn.Module], images: int, probed: int, seeds: int) -> dict[str, dict]:
    """Of each: the distance of its deep layers, and how much a probe of its last layer gets right."""
    sam = next(iter(encoders.values()))
    chapter = lift(
        ROOT / "chapters" / f"{CHAPTER}.ipynb", "distances", "features", "knows",
        encoders=encoders, generic=worlds.task("generic", "test"), where=torch.device("cpu"),
        mean=sam.pixel_mean, std=sam.pixel_std,
    )  # fmt: skip
    train = worlds.materialise(worlds.task("semantic", "train", seeds * probed))
    test = worlds.materialise(worlds.task("semantic", "test", probed))
    found = {}
    for name, model in tqdm(encoders.items(), desc="Probing"):
        deep = chapter.distances(model, images)[4:].mean((0, 2))
        found[f"{name} distance"] = moe.mean_interval(deep.tolist())
        asked, answers = chapter.features(test, range(probed), name)
        right = []
        for seed in range(seeds):
            learnt, truth = chapter.features(train, range(seed * probed, (seed + 1) * probed), name)
            right.append(chapter.knows(learnt[-1], truth, asked[-1], answers))
        for what, values in zip(("foreground", "class"), zip(*right, strict=True), strict=True):
            found[f"{name} {what}"] = moe.quantity(values)
    return found


def opened(path: Path) -> tuple[str, nn.Module]:
    """The name of a stage (``"MAE 400000"``), and its model."""
    card = checkpoints.read_card(path)
    if card["model"] not in BUILT:
        raise SystemExit(f"stages: {path} is of {card['model']}; what is compared is {', '.join(BUILT)}")
    name, build = BUILT[card["model"]]
    return f"{name} {card['images']}", build(path)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="weights, in any order")
    encoders = dict(opened(path) for path in parser.parse_args().files)
    quantities = measured(encoders, IMAGES, PROBED, SEEDS)
    out = ROOT / "book" / "results"
    moe.save_results(out, chapter=CHAPTER, scale="stages", seeds=SEEDS, quantities=quantities)


if __name__ == "__main__":
    main()
