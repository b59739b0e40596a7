"""Do the other methods learn on their own tasks of the pocket world, beside a head on the frozen encoder?

    python book/tools/method_runs.py rates       learning rates, chosen on validation scenes
    python book/tools/method_runs.py runs        every arm with every seed
    python book/tools/method_runs.py table       their scores as the page shows them
    python book/tools/method_runs.py list        what is done

They write rates.json and pocket.json to book/results/other_methods. `rates` uses a seed that no result uses,
and tries as many rates for the head alone as for the methods. Each finished run is a line of a file, so that
a run that was stopped goes on where it was.
"""

import argparse
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import conv_lora_runs as shared
import torch
import torch.nn.functional as F
from freshness import ROOT
from torch import Tensor, nn

import moe_lib as moe
from moe_lib import backbones, heads, losses, metrics
from moe_lib.backbones import PlainVit
from moe_lib.routing import balance_loss

NAME = "other_methods"
FOLDER = ROOT / "book" / "results" / NAME
RATES, RATE_SEED, SEEDS = (3e-4, 1e-3, 3e-3, 1e-2, 3e-2), 100, 3
SENSORS = ("rgb", "depth", "event", "lidar")
HEAD = "head alone"


@dataclass(frozen=True)
class Task:
    """What a method is for: scenes, a model, and the arms that are put into it."""

    scenes: str
    model: Callable[[], nn.Module]
    arms: dict[str, moe.Method]
    loss: Callable
    score: Callable
    steps: int
    batch: int
    learnt: int = 400
    tested: int = 128


def dense_loss(model: nn.Module, batch: dict) -> Tensor:
    logits, mask = model(batch).logits, batch["mask"]
    if model.classes > 1:
        return F.cross_entropy(logits, mask, ignore_index=255) + balance_loss(model)
    task = losses.bce(logits[:, 0], mask) + losses.dice(logits[:, 0], mask)
    return task.mean() + balance_loss(model)


def dense_score(model: nn.Module, batch: dict) -> dict[str, Tensor]:
    answer, mask = model(batch), batch["mask"]
    if model.classes == 1:
        return {"IoU": metrics.iou(answer.probabilities()[:, 0], mask)}
    return {"mIoU": of_each(answer.labels(), mask, model.classes)}


def of_each(labels: Tensor, mask: Tensor, classes: int) -> Tensor:
    """Mean IoU of the classes that occur in each picture, ``(B,)``."""
    pairs = zip(labels, mask, strict=True)
    return torch.tensor([metrics.mean_iou(metrics.confusion(a[None], b[None], classes)) for a, b in pairs])


def referring_loss(model: nn.Module, batch: dict) -> Tensor:
    """The published loss, and Dice: objects are a hundredth of a picture, and it alone finds none."""
    answer, mask = model(batch), batch["mask"]
    small = F.interpolate(mask[:, None].float(), answer.small.shape[-2:], mode="area")
    dice = losses.dice(answer.small[:, 0], small[:, 0]).mean()
    return heads.referring_loss(answer, mask) + dice + balance_loss(model)


def referring_score(model: nn.Module, batch: dict) -> dict[str, Tensor]:
    inside = model(batch).probabilities()[:, 0]
    return {"IoU": metrics.iou(inside, batch["mask"], threshold=heads.referring.THRESHOLD)}


def sensor_loss(model: nn.Module, batch: dict) -> Tensor:
    """A quarter of the sensors is missing, another one in every picture."""
    count = len(batch["image"])
    there = torch.rand(count, len(SENSORS)) > 0.25
    there[torch.arange(count), torch.randint(len(SENSORS), (count,))] = True  # at least one is there
    given = {**batch, "available": there.to(batch["image"].device)}
    return heads.sensor_loss(model(given), batch["mask"], by=F.cross_entropy) + balance_loss(model)


def sensor_score(model: nn.Module, batch: dict) -> dict[str, Tensor]:
    """With all sensors, and the mean over each of them missing."""
    mask, classes = batch["mask"], model.classes
    without = []
    for name in SENSORS:
        some = {key: x for key, x in batch["sensors"].items() if key != name}
        without.append(of_each(model({**batch, "sensors": some}).labels(), mask, classes))
    return {
        "mIoU": of_each(model(batch).labels(), mask, classes),
        "mIoU, one missing": torch.stack(without).mean(0),
    }


def camouflage_model() -> nn.Module:
    vit = PlainVit(backbones.sam("pocket").image_encoder)
    return heads.Segmenter(vit, heads.PyramidHead(vit.width))


def lpmoe_model() -> nn.Module:
    vit = PlainVit(backbones.sam("pocket").image_encoder)
    return heads.Segmenter(vit, heads.PyramidHead(vit.width // 4))


def semantic_model() -> nn.Module:
    vit = PlainVit(backbones.sam("pocket").image_encoder)
    return heads.Segmenter(vit, heads.PyramidHead(vit.width, 12))


def referring_model() -> nn.Module:
    vit = PlainVit(backbones.sam("pocket").image_encoder)
    return heads.Referrer(vit, backbones.text(), heads=4, layers=1)


def sensor_model() -> nn.Module:
    small = {"heads": 4, "inside": 128, "depth": 1}
    return heads.SensorSam(backbones.hiera(), SENSORS, 14, 96, decoder=small)


SERA = moe.SERA(words=64, rank=32, text_rank=32, heads=4, hidden=32, gains=True, also=heads.REFERRING)
TASKS = {
    "camouflage": Task(
        "camouflage", camouflage_model,
        {HEAD: moe.Open("head"), "LPMoE": moe.LPMoE(planes=16, heads=4, also="head")},
        dense_loss, dense_score, steps=160, batch=8,
    ),
    "semantic": Task(
        "semantic", semantic_model,
        {
            HEAD: moe.Open("head"),
            "adapter": moe.Adapter(40, targets=r".*blocks\.\d+\.mlp", also="head"),
            "AdaRoute": moe.AdaRoute(rank=16, hidden=8, also="head"),
        },
        dense_loss, dense_score, steps=200, batch=8,
    ),
    "multimodal": Task(
        "multimodal", sensor_model,
        {HEAD: moe.Open(heads.SENSED), "MLE-SAM": moe.MLESAM(SENSORS, rank=8, also=heads.SENSED)},
        sensor_loss, sensor_score, steps=240, batch=4, learnt=300, tested=64,
    ),
    "referring": Task(
        "referring", referring_model,
        {
            HEAD: moe.Open(heads.REFERRING),
            "DETRIS": replace(SERA, stage="none", fusion=(), tune="none", mask_padding=False,
                              targets=r"(.*\.)?(blocks\.\d*[13579]\.mlp|resblocks\.\d*[13579])"),
            "SERA": SERA,
        },
        referring_loss, referring_score, steps=260, batch=16, learnt=4000,
    ),
}  # fmt: skip


@lru_cache(maxsize=1)
def scenes(task: str) -> tuple:
    """Of training, of validation, of the test."""
    sizes = {"train": TASKS[task].learnt, "val": TASKS[task].tested, "test": TASKS[task].tested}
    return tuple(moe.worlds.materialise(TASKS[task].scenes, split, n) for split, n in sizes.items())


def untrained(task: str, arm: str) -> nn.Module:
    """A model without the method of the arm: frozen encoders, and a head."""
    return (lpmoe_model if arm == "LPMoE" else TASKS[task].model)()


def trained(task: str, arm: str, seed: int, rate: float) -> nn.Module:
    """An arm, after its steps."""
    here = TASKS[task]
    torch.manual_seed(seed)
    model = moe.inject(untrained(task, arm), here.arms[arm])
    recipe = moe.Recipe(steps=here.steps, batch=here.batch, rate=rate, seed=seed, every=here.steps)
    moe.fit(model, scenes(task)[0], here.loss, recipe, device="cpu")
    return model


def rate_run(job: tuple[str, str, float]) -> dict[str, float]:
    """Validation scores with a rate."""
    task, arm, rate = job
    model = trained(task, arm, RATE_SEED, rate)
    return moe.evaluate(model, scenes(task)[1], TASKS[task].score, batch=16)


def kept_run(job: tuple[str, str, int, float]) -> dict[str, float]:
    """Test scores of a seed, and what they cost."""
    task, arm, seed, rate = job
    model = trained(task, arm, seed, rate)
    found = moe.evaluate(model, scenes(task)[2], TASKS[task].score, batch=16)
    return {**found, "trained": moe.trainable_parameters(model).trainable}


def first_score(record: dict) -> float:
    return next(iter(record["scores"].values()))


def best_rates(tasks: list[str], processes: int, folder: Path) -> dict[tuple[str, str], float]:
    """The rate of each arm, by the first score on validation scenes."""
    arms = [(task, arm) for task in tasks for arm in TASKS[task].arms]
    jobs = [(*arm, rate) for arm in arms for rate in RATES]
    found = shared.run_all(rate_run, jobs, folder / "rates.jsonl", processes, "rates")
    return {arm: max(RATES, key=lambda rate: first_score(found[*arm, rate])) for arm in arms}


def table(records: dict[tuple, dict]) -> str:
    """A line for each arm and score, its seeds side by side."""
    lines = ["| task | arm | three seeds | trained | rate |", "|---|---|---|--:|--:|"]
    for task, here in TASKS.items():
        found = {arm: [job for job in records if job[:2] == (task, arm)] for arm in here.arms}
        for score in (name for name in records[found[HEAD][0]]["scores"] if name != "trained"):
            for arm, jobs in found.items():
                runs = [records[job]["scores"] for job in sorted(jobs)]
                values = ", ".join(f"{run[score]:.3f}" for run in runs)
                whole = f"{arm}|{values}".replace(" ", "\N{NO-BREAK SPACE}")  # on one line
                trained, rate = runs[0]["trained"], jobs[0][3]
                lines.append(f"| {task}, {score} |{whole}| {trained:,} | {rate:g} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("rates", "runs", "table", "list"))
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS), help="some of them")
    parser.add_argument("--processes", type=int, default=os.cpu_count(), help="one thread each")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where runs are kept (%(default)s)")
    given = parser.parse_args()
    if given.what == "list":
        for name in ("rates", "runs"):
            records = shared.done(given.folder / f"{name}.jsonl")
            minutes = sum(record["seconds"] for record in records.values()) / 60
            print(f"{name}: {len(records)} done, {minutes:.0f} minutes of one thread")
        return
    if given.what == "table":
        print(table(shared.done(given.folder / "runs.jsonl")))
        return
    for task in given.tasks:  # rendered once, and not by every process
        scenes(task)
    rates = best_rates(given.tasks, given.processes, given.folder)
    records = shared.done(given.folder / "rates.jsonl")
    if given.what == "rates":
        quantities = {
            f"{task} {arm} {rate:g}": dict.fromkeys(("estimate", "low", "high"), first_score(one))
            for (task, arm, rate), one in records.items()
        }
        shared.save("rates", 1, quantities, records, chapter=NAME)
        for (task, arm), rate in rates.items():
            print(f"{task:12} {arm:12} {rate:g}")
        return
    jobs = [(*arm, seed, rate) for seed in range(SEEDS) for arm, rate in rates.items()]
    records = shared.run_all(kept_run, jobs, given.folder / "runs.jsonl", given.processes, "runs")
    values: dict[str, list[float]] = {}
    for (task, arm, _, _), record in records.items():
        for name, value in record["scores"].items():
            values.setdefault(f"{task} {arm} {name}", []).append(value)
    quantities = {name: moe.quantity(each) for name, each in values.items()}
    shared.save("pocket", SEEDS, quantities, records, chapter=NAME)


if __name__ == "__main__":
    main()
