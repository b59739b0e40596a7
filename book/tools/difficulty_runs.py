"""The runs behind the difficulty table: one method on one task, trained and scored."""

import hashlib
import importlib
import time
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import baselines
import small_unet
import torch
from baselines import Pictures
from freshness import code_only
from scoring import objects_f1, score

from moe_lib.worlds import TASKS, materialise

SIZE = 96
SIZES = {"train": 2000, "val": 200, "test": 400, "steps": 1000}
QUICK = {"train": 500, "val": 100, "test": 150, "steps": 500}
SENSOR_SEEDS = 2  # of the six runs for sensors alone and together, which are many
FEW = 200  # images of the smaller training set


@dataclass(frozen=True)
class Job:
    """One run: a method on a task. ``images`` and ``seed`` are of training; ``sensors`` are what is seen."""

    task: str
    method: str
    images: int = 0
    seed: int = 0
    sensors: tuple[str, ...] = ()

    def __post_init__(self):
        object.__setattr__(self, "sensors", tuple(self.sensors))  # JSON brings a list


def find(name: str) -> type:
    """The task of this name, or the class at ``module:Class``."""
    if ":" in name:
        module, _, name = name.partition(":")
        return getattr(importlib.import_module(module), name)
    if name not in TASKS:
        raise SystemExit(f"difficulty: no task {name!r}; there are {', '.join(TASKS)}, and module:Class")
    return TASKS[name]


def render(name: str, sizes: dict[str, int]) -> None:
    """Put a task's scenes into the cache."""
    for split in ("train", "val", "test"):
        materialise(find(name)(split=split, n=sizes[split], size=SIZE), progress=False)


def jobs_of(name: str, sizes: dict[str, int], seeds: int, *, extras: bool = True) -> list[Job]:
    """All runs that a task's row needs; ``extras`` are those for words and sensors."""
    pictures = load(name, "val", sizes["val"])
    jobs = [Job(name, method) for method in ("constant", *simple_methods(pictures))]
    many = sizes["train"]
    for seed in range(seeds):
        jobs += [Job(name, "U-Net", FEW, seed), Job(name, "U-Net", many, seed)]
        if pictures.text and extras:
            jobs.append(Job(name, "U-Net, words unread", many, seed))
        if pictures.sensors and extras and seed < SENSOR_SEEDS:
            looks = [*((sensor,) for sensor in pictures.sensors), tuple(pictures.sensors)]
            jobs += [Job(name, "U-Net on sensors", many, seed, look) for look in looks]
    return jobs


def simple_methods(pictures: Pictures) -> list[str]:
    """The baselines without shapes that such pictures allow."""
    return [
        "colour clusters",
        *(["threshold"] if pictures.classes == 2 else []),
        *(["growing region"] if pictures.point is not None else []),
    ]


def perform(job: Job, sizes: dict[str, int]) -> dict:
    """Do one run: ``{"score", "seconds", …}`` on test images."""
    began = time.perf_counter()
    train, val, test = (load(job.task, split, sizes[split]) for split in ("train", "val", "test"))
    if job.method == "constant":
        predict = baselines.constant(train)
    elif job.method == "threshold":
        predict = baselines.threshold(train)
    elif job.method == "colour clusters":
        predict = baselines.colour_clusters(train, val)
    elif job.method == "growing region":
        predict = baselines.growing_region(train)
    else:
        first = job.seed * job.images % (len(train) - job.images + 1)  # few images are others for each seed
        read = train.text is not None and job.method == "U-Net"
        predict = small_unet.train(
            train.part(slice(first, first + job.images)),
            steps=sizes["steps"],
            seed=job.seed,
            sensors=job.sensors,
            read=read,
        )
    predicted = predict(test)
    result = {"score": round(score(test.mask, predicted, test.classes), 4)}
    if test.instances is not None and test.point is None:
        things = train.mask[train.instances > 0].unique().tolist()
        result["objects"] = round(objects_f1(test.instances, predicted, things), 4)
    if job.sensors:
        result["by"] = {kind: _by(words, test, predicted) for kind, words in test.conditions.items()}
    return result | {"seconds": round(time.perf_counter() - began, 1)}


def _by(words: list[str], test: Pictures, predicted: torch.Tensor) -> dict[str, float]:
    """The score for each weather, or each case."""
    scores = {}
    for word in dict.fromkeys(words):
        rows = torch.tensor([other == word for other in words])
        scores[word] = round(score(test.mask[rows], predicted[rows], test.classes), 4)
    return scores


@lru_cache(maxsize=3)
def load(name: str, split: str, n: int) -> Pictures:
    """The scenes of a split, in memory."""
    stored = materialise(find(name)(split=split, n=n, size=SIZE), progress=False)
    batches = [stored.batch(range(start, min(start + 50, n))) for start in range(0, n, 50)]

    def joined(key: str):
        values = [batch[key] for batch in batches if key in batch]
        if values and isinstance(values[0], torch.Tensor):
            return torch.cat(values)
        return [value for part in values for value in part] or None

    def picture(values: list[torch.Tensor]) -> torch.Tensor:
        return torch.cat([(value * 255).round().byte() for value in values])

    image = picture([batch["image"] for batch in batches])
    names = batches[0].get("sensors", {})
    sensors = {sensor: picture([batch["sensors"][sensor] for batch in batches]) for sensor in names}
    return Pictures(
        image=image,
        mask=joined("mask").byte(),
        classes=len(stored.classes),
        point=joined("point"),
        text=joined("text"),
        instances=joined("instances"),
        sensors={"rgb": image} | sensors if sensors else {},
        conditions={key: joined(key) for key in ("weather", "case") if key in batches[0]},
    )


def recipe() -> str:
    """Hash of the code that trains and scores, so that other code means other runs."""
    files = (Path(module.__file__) for module in (baselines, small_unet, importlib.import_module("scoring")))
    code = "".join(code_only(file.read_text(encoding="utf-8")) for file in (*files, Path(__file__)))
    return hashlib.sha256(code.encode()).hexdigest()[:8]
