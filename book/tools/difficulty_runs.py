"""The runs behind the difficulty table: one method on one task, trained and scored."""

import hashlib
import importlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import baselines
import small_unet
import torch
from baselines import Pictures
from code_text import code_only
from scoring import objects_f1, score

from moe_lib.worlds import TASKS, materialise
from moe_lib.worlds.language import FORMS, POLICIES, realise, success

SIZE = 96
SIZES = {"train": 2000, "val": 200, "test": 400, "steps": 3000}
QUICK = {"train": 500, "val": 100, "test": 150, "steps": 500}
SENSOR_SEEDS = 2  # of the six runs for sensors alone and together, which are many
FEW = 200  # images of the smaller training set
SENTENCES = 2000  # for policies, which need no picture
NETS = ("U-Net", "U-Net, words unread", "U-Net on sensors")


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

    @property
    def net(self) -> bool:
        """Whether a network is trained."""
        return self.method in NETS

    @property
    def chooser(self) -> "Job | None":
        """The run whose rate this one takes: seed 0 of the same. None for those that choose or need none."""
        if self.sensors:
            return Job(self.task, "U-Net", self.images)
        return Job(self.task, self.method, self.images) if self.net and self.seed else None


def find(name: str) -> type:
    """The task of this name, or the class at ``module:Class``."""
    if ":" in name:
        module, _, name = name.partition(":")
        return getattr(importlib.import_module(module), name)
    if name not in TASKS:
        raise SystemExit(f"difficulty: no task {name!r}; there are {', '.join(TASKS)}, and module:Class")
    return TASKS[name]


def render(name: str, split: str, n: int) -> None:
    """Put a task's scenes into the cache."""
    materialise(find(name)(split=split, n=n, size=SIZE), progress=False)


def jobs_of(name: str, sizes: dict[str, int], seeds: int, *, extras: bool = True) -> list[Job]:
    """All runs that a task's row needs; ``extras`` are those for words and sensors."""
    task = find(name)
    sample = task(split="val", n=1, size=SIZE).batch([0])
    simple = ["colour clusters"]
    simple += ["threshold"] if len(task.classes) == 2 else []
    simple += ["growing region"] if "point" in sample else []
    simple += ["policies"] if "text" in sample else []
    jobs, many = [Job(name, method) for method in ("constant", *simple)], sizes["train"]
    for seed in range(seeds):
        jobs += [Job(name, "U-Net", many, seed), Job(name, "U-Net", FEW, seed)]
        if "text" in sample and extras:
            jobs.append(Job(name, "U-Net, words unread", many, seed))
        if "sensors" in sample and extras and seed < SENSOR_SEEDS:
            names = tuple(dict.fromkeys(("rgb", *sample["sensors"])))
            looks = [*((sensor,) for sensor in names), names]
            jobs += [Job(name, "U-Net on sensors", many, seed, look) for look in looks]
    return jobs


def perform(
    jobs: Mapping[Job, Sequence[float]], sizes: dict[str, int], device: str = "cpu", recorded: bool = True
) -> dict[Job, dict]:
    """Do runs of one task, its networks side by side: ``{job: {"score", "seconds", …}}`` on test images.

    Args:
        jobs: Each with the rates at which its network may be trained; validation images choose among them.
        sizes: How many images of each split there are, and how many steps.
        device: Where networks are trained.
        recorded: On a GPU, replay steps instead of launching their kernels one by one.
    """
    (task,) = {job.task for job in jobs}
    results = {job: _plain(job, sizes) for job in jobs if not job.net}
    wanted = [(job, rate) for job in jobs if job.net for rate in jobs[job]]
    if not wanted:
        return results
    began = time.perf_counter()
    train, val, test = (load(task, split, sizes[split]) for split in ("train", "val", "test"))
    how = {"steps": sizes["steps"], "device": device, "recorded": recorded}
    trained = small_unet.together([_training(job, rate, train, how) for job, rate in wanted])
    nets = dict(zip(wanted, trained, strict=True))
    for job in filter(lambda job: job.net, jobs):
        rates = {rate: 0.0 for rate in jobs[job]}
        if len(rates) > 1:
            rates = {rate: score(val.mask, nets[job, rate](val), val.classes) for rate in rates}
        rate = chosen(rates)
        results[job] = _scored(job, nets[job, rate](test), train, test) | {"rate": rate}
        if len(rates) > 1:
            results[job]["rates"] = {f"{rate:g}": round(value, 4) for rate, value in rates.items()}
    seconds = (time.perf_counter() - began) / len(wanted)
    return results | {
        job: results[job] | {"seconds": round(seconds * len(jobs[job]), 1)} for job in jobs if job.net
    }


def chosen(scores: dict[float, float]) -> float:
    """The rate that did best on validation images; of equals the smallest."""
    return max(sorted(scores), key=scores.get)


def _training(job: Job, rate: float, train: Pictures, how: dict) -> small_unet.Training:
    first = job.seed * job.images % (len(train) - job.images + 1)  # few images are others for each seed
    return small_unet.Training(
        train.part(slice(first, first + job.images)),
        seed=job.seed,
        sensors=job.sensors,
        read=train.text is not None and job.method == "U-Net",
        rate=rate,
        **how,
    )


def _plain(job: Job, sizes: dict[str, int]) -> dict:
    """A run that trains no network."""
    began = time.perf_counter()
    if job.method == "policies":
        result = _policies(job.task)
    else:
        train, val, test = (load(job.task, split, sizes[split]) for split in ("train", "val", "test"))
        fit = {
            "constant": lambda: baselines.constant(train),
            "threshold": lambda: baselines.threshold(train),
            "colour clusters": lambda: baselines.colour_clusters(train, val),
            "growing region": lambda: baselines.growing_region(train),
        }[job.method]
        result = _scored(job, fit()(test), train, test)
    return result | {"seconds": round(time.perf_counter() - began, 1)}


def _scored(job: Job, predicted: torch.Tensor, train: Pictures, test: Pictures) -> dict:
    result = {"score": round(score(test.mask, predicted, test.classes), 4)}
    if test.instances is not None and test.point is None and test.text is None:
        things = train.mask[train.instances > 0].unique().tolist()
        result["objects"] = round(objects_f1(test.instances, predicted, things), 4)
    if job.sensors:
        result["by"] = {kind: _by(words, test, predicted) for kind, words in test.conditions.items()}
    return result


def _by(words: list[str], test: Pictures, predicted: torch.Tensor) -> dict[str, float]:
    """The score for each weather, or each case."""
    scores = {}
    for word in dict.fromkeys(words):
        rows = torch.tensor([other == word for other in words])
        scores[word] = round(score(test.mask[rows], predicted[rows], test.classes), 4)
    return scores


def _policies(name: str) -> dict:
    """How often each policy that ignores part of a sentence names the right object, by kind of sentence.

    The score is the best of them. What knows all attributes is not asked about sentences of attributes alone.
    """
    task, cases = find(name)("test", n=SENTENCES), {}
    for index in range(SENTENCES):
        said = task.situation(index)
        expression, meant = said.expressions[index % 2], said.referents[index % 2]
        cases.setdefault(FORMS[expression.form], []).append((realise(expression), said.things, meant))
    rates = {
        policy: {kind: round(success(guess, cases[kind]), 4) for kind in cases}
        for policy, guess in POLICIES.items()
    }
    for policy in ("head phrase", "any mentioned phrase", "bag of words"):
        del rates[policy]["attribute"]
    return {"score": max(rate for kinds in rates.values() for rate in kinds.values()), "policies": rates}


@lru_cache(maxsize=3)
def load(name: str, split: str, n: int) -> Pictures:
    """The scenes of a split, in memory."""
    stored = materialise(find(name)(split=split, n=n, size=SIZE), progress=False)
    parts = [_bytes(stored.batch(range(start, min(start + 50, n)))) for start in range(0, n, 50)]

    def joined(key: str):
        values = [part[key] for part in parts if key in part]
        if values and isinstance(values[0], torch.Tensor):
            return torch.cat(values)
        return [value for part in values for value in part] or None

    sensors = [key for key in parts[0] if key.startswith("sensors/")]
    return Pictures(
        classes=len(stored.classes),
        sensors={key.removeprefix("sensors/"): joined(key) for key in sensors},
        conditions={key: joined(key) for key in ("weather", "case") if key in parts[0]},
        **{key: joined(key) for key in ("image", "mask", "point", "text", "instances")},
    )


def _bytes(batch: dict) -> dict:
    """What is used of a batch, its pictures as bytes."""

    def picture(values: torch.Tensor) -> torch.Tensor:
        return (values * 255).round().byte()

    kept = {key: batch[key] for key in ("point", "text", "instances", "weather", "case") if key in batch}
    kept |= {"image": picture(batch["image"]), "mask": batch["mask"].byte()}
    if "sensors" in batch:
        seen = {"rgb": batch["image"]} | batch["sensors"]
        kept |= {f"sensors/{sensor}": picture(values) for sensor, values in seen.items()}
    return kept


def recipe() -> str:
    """Hash of the code that trains and scores, so that other code means other runs."""
    files = (Path(module.__file__) for module in (baselines, small_unet, importlib.import_module("scoring")))
    code = "".join(code_only(file.read_text(encoding="utf-8")) for file in (*files, Path(__file__)))
    return hashlib.sha256(code.encode()).hexdigest()[:8]
