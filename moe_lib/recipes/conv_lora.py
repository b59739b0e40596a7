"""The published recipe of Conv-LoRA: a SAM and the folders of a data set → scores on their test pictures.

    python -m moe_lib.recipes.conv_lora polyps --data data/kvasir data/cvc_clinicdb --model vit_h \\
        --checkpoint sam_vit_h_4b8939.pth --method conv_lora --out runs/polyps

`data_scripts` makes the folders. The recipe is that of the published code: AdamW, whose rate falls in a
straight line to 0, decay 1e-4, gradients clipped at 1, four pictures a step that go through the model one by
one, so that the balance of the experts is always that of one picture; mirror images; pictures stretched to
squares; a validation after each epoch, of which the best counts, and ten without a better one end the run. Of
Trans10K the code says nothing: its epochs and the choice among them are ours. A run that was stopped goes on.
"""

import argparse
import json
import math
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import ConcatDataset
from tqdm import tqdm

from moe_lib import backbones, heads, losses, metrics, runs
from moe_lib.adapting import METHODS
from moe_lib.datasets import Augment, DataError, Folder, collate, folder
from moe_lib.injection import inject, save_adapter, trainable_parameters
from moe_lib.results import environment
from moe_lib.routing import balance_loss
from moe_lib.scale import pick_device
from moe_lib.states import written_whole
from moe_lib.train import Recipe, fit

MEASURES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "s_measure": metrics.s_measure,
    "e_measure": metrics.e_measure,
    "weighted_f": partial(metrics.weighted_f, beta2=0.3),  # of the code; the literature has 1
    "iou": metrics.iou,
    "dice": metrics.dice,
    "ber": metrics.ber,
}
BATCH, PATIENCE = 4, 10


@dataclass(frozen=True)
class Task:
    """What is particular to a data set.

    Args:
        epochs: Passes over its training pictures.
        measures: Names of ``MEASURES``; the first one chooses among the epochs. None where there are classes.
        rate: Of AdamW, for the method and for the decoder.
        loss: Of one mask.
        balance: Weight of the balance loss.
    """

    epochs: int
    measures: tuple[str, ...] = ()
    rate: float = 1e-4
    loss: Callable[[Tensor, Tensor], Tensor] = losses.structure
    balance: float = 1.0


TASKS = {
    "polyps": Task(30, ("s_measure", "e_measure")),
    "lesions": Task(30, ("iou", "dice")),
    "camouflage": Task(20, ("s_measure", "e_measure", "weighted_f")),
    "shadows": Task(10, ("ber",), loss=losses.balanced_bce),
    "leaves": Task(30, ("iou", "dice"), rate=3e-4),
    "roads": Task(20, ("iou", "dice"), rate=3e-4),
    "transparent": Task(20, balance=2.0),
}


class Joined:
    """One split of several folders, in the form that :func:`moe_lib.fit` asks for."""

    def __init__(self, parts: Sequence[Folder]):
        if other := [part for part in parts if part.classes != parts[0].classes]:
            raise DataError(
                f"{other[0].root} has the classes {other[0].classes}, and {parts[0].root} "
                f"{parts[0].classes}; should be the same"
            )
        self.parts, self._all = list(parts), ConcatDataset(parts)
        self.classes = parts[0].classes

    def __len__(self) -> int:
        return len(self._all)

    @property
    def epoch(self) -> int:
        return self.parts[0].epoch

    @epoch.setter
    def epoch(self, number: int) -> None:
        for part in self.parts:
            part.epoch = number

    def batch(self, indices: Iterable[int], device: str | torch.device = "cpu") -> dict[str, Any]:
        return collate([self._all[int(i)] for i in indices], device)


def run(
    sam: backbones.Sam, task: str | Task, data: Sequence[str | Path], out: str | Path, *,
    method: str = "conv_lora", epochs: int | None = None, seed: int = 0, ignore: Sequence[int] = (),
    device: str = "auto", devices: int = 1, precision: str | None = None, force: bool = False,
) -> dict[str, dict[str, float]] | None:  # fmt: skip
    """Train as published; the scores by folder and measure, or None if the run was interrupted.

    Args:
        sam: With its weights; the method goes into it.
        task: A name of ``TASKS``, or one of your own.
        data: Folders with the splits train, val and test. Training joins them, each is tested by itself.
        out: Gets ``scores.json``, ``adapter/`` and ``training/``, from which a run that was stopped goes on.
        method: A name of :data:`moe_lib.adapting.METHODS`.
        epochs: In place of the published number.
        ignore: Class ids that do not count.
        devices: How many GPUs; more than one needs a script that each of them runs, such as this file.
        precision: As :func:`moe_lib.fit` has it; left out, fp16 on a GPU, as published.
        force: Begin anew, over what is there.

    Introduced in :doc:`/chapters/04_conv_lora`.
    """
    name, task, out = task if isinstance(task, str) else "own", _task(task), Path(out).expanduser()
    if method not in METHODS:
        raise ValueError(f"method is one of {', '.join(METHODS)}; got {method!r}")
    asked = {
        "task": name, "data": [str(root) for root in data], "method": method, "epochs": epochs or task.epochs,
        "seed": seed, "ignore": list(ignore), "sam": asdict(sam.sizes),
    }  # fmt: skip
    runs.check(out, asked, made=("adapter", "training", "scores.json"), force=force)
    read = partial(_read, data, size=sam.sizes.image, ignore=ignore)
    learnt, held_out = Joined(read("train", mirrored=True)), Joined(read("val"))
    parts = read("test")
    called = [part.root.name for part in parts]
    tests = {part.root.name if called.count(part.root.name) == 1 else str(part.root): part for part in parts}
    torch.manual_seed(seed)
    model = heads.SemanticSam(sam, _classes(task, learnt))
    inject(model, METHODS[method]())
    runs.note(out, asked)
    if precision is None and pick_device(device).type == "cuda":
        precision = "16-mixed"
    fitted = fit(
        model, learnt, partial(loss, task), recipe(task, len(learnt), epochs, seed),
        held_out=held_out, score=partial(validated, task), folder=out / "training",
        device=device, devices=devices, precision=precision, label=method,
    )  # fmt: skip
    if fitted.interrupted or not _first():
        return None
    scores = {name: tested(task, model, part) for name, part in tests.items()}
    save_adapter(model, out / "adapter")
    kept = {
        "scores": scores, "asked": asked, "trained": str(trainable_parameters(model)),
        "history": fitted.history, "seconds": round(fitted.seconds, 1), "devices": devices,
        "precision": precision, "environment": environment(model.pixel_mean.device),
    }  # fmt: skip
    with written_whole(out / "scores.json") as unfinished:
        unfinished.write_text(json.dumps(kept, indent=2) + "\n", encoding="utf-8")
    return scores


def recipe(task: Task, pictures: int, epochs: int | None = None, seed: int = 0) -> Recipe:
    """The published one for so many training pictures."""
    steps = math.ceil(pictures / BATCH)
    return Recipe(
        steps=steps * (epochs or task.epochs), batch=BATCH, at_once=1, rate=task.rate, warmup=0, fall="line",
        decay=1e-4, clip=1.0, eps=1e-6, seed=seed, every=steps, patience=PATIENCE,
    )  # fmt: skip


def loss(task: Task, model: nn.Module, batch: dict[str, Any]) -> dict[str, Tensor]:
    """Of one mask or of a set of them, and the balance of the experts."""
    answer = model(batch)
    if answer.classes is None:
        aim = task.loss(answer.logits[:, 0].float(), batch["mask"]).mean()
    else:
        aim = heads.set_loss(answer, batch["mask"])["loss"]
    balance = task.balance * balance_loss(model)
    return {"loss": aim + balance, "task": aim, "balance": balance}


def validated(task: Task, model: nn.Module, batch: dict[str, Any]) -> dict[str, Tensor]:
    """What chooses among epochs, of each picture: more is better."""
    answer, mask = model(batch), batch["mask"]
    if answer.classes is None:
        name = task.measures[0]
        values = MEASURES[name](answer.probabilities()[:, 0].float(), mask)
        return {f"minus_{name}": -values} if name == "ber" else {name: values}
    found = zip(answer.labels(), mask, strict=True)
    counted = [metrics.confusion(f[None], m[None], model.classes) for f, m in found]
    return {"mean_iou_of_pictures": torch.tensor([metrics.mean_iou(one) for one in counted])}


@torch.no_grad()
def tested(task: Task, model: heads.SemanticSam, data: Folder) -> dict[str, float]:
    """Scores on the squares that the model sees; of classes, intersections and unions of the whole split."""
    device, sums, counted = model.pixel_mean.device, {name: [] for name in task.measures}, 0
    for i in tqdm(range(len(data)), desc=f"Testing {data.root.name}", delay=2):
        batch = data.batch([i], device)
        answer = model(batch)
        if answer.classes is None:
            for name, values in sums.items():
                values.append(MEASURES[name](answer.probabilities()[:, 0].float(), batch["mask"]))
        else:
            counted = counted + metrics.confusion(answer.labels(), batch["mask"], model.classes)
    if isinstance(counted, Tensor):
        return {
            "mean_iou": metrics.mean_iou(counted, absent="zero"),
            "accuracy": float(counted.diagonal().sum() / counted.sum()),
        }
    return {name: float(torch.cat(values).mean()) for name, values in sums.items()}


def _task(task: str | Task) -> Task:
    if isinstance(task, str) and task not in TASKS:
        raise ValueError(f"task is one of {', '.join(TASKS)}, or a Task of your own; got {task!r}")
    return TASKS[task] if isinstance(task, str) else task


def _classes(task: Task, data: Joined) -> int:
    """1 where one mask is to be found, else the number of classes."""
    count = len(data.classes)
    if bool(task.measures) != (count == 2):
        what = "two classes, background and object" if task.measures else "more than two"
        raise DataError(f"{data.parts[0].root} has {count} classes; this task is one of {what}")
    return 1 if task.measures else count


def _read(
    data: Sequence[str | Path], split: str, *, size: int, ignore: Sequence[int], mirrored: bool = False
) -> list[Folder]:
    if not data:
        raise ValueError("no folder is named")
    change = Augment(flip=0.5, scale=(1, 1), jitter=0) if mirrored else None
    options = {"size": size, "fit": "stretch", "resample": "bicubic", "augment": change, "ignore": ignore}
    return [folder(Path(root).expanduser(), split, **options) for root in data]


def _first() -> bool:
    """Whether this is the process that writes."""
    there = torch.distributed.is_available() and torch.distributed.is_initialized()
    return not there or torch.distributed.get_rank() == 0


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m moe_lib.recipes.conv_lora", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("--data", nargs="+", required=True, metavar="DIR", help="folders of data_scripts")
    parser.add_argument("--out", required=True, metavar="DIR", help="for scores, adapter and state")
    parser.add_argument("--model", default="vit_h", help="vit_b, vit_l, vit_h or pocket (%(default)s)")
    parser.add_argument("--checkpoint", metavar="FILE", help="weights of a real SAM")
    parser.add_argument("--method", default="conv_lora", help=", ".join(METHODS) + " (%(default)s)")
    parser.add_argument("--epochs", type=int, help="in place of the published number")
    parser.add_argument("--seed", type=int, default=0, help="of all that is random (%(default)s)")
    parser.add_argument("--ignore", type=int, nargs="*", default=(), help="class ids that do not count")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or mps (%(default)s)")
    parser.add_argument("--devices", type=int, default=1, help="how many of them (%(default)s)")
    parser.add_argument("--precision", help="32-true, bf16-mixed, 16-mixed; on a GPU the last, as published")
    parser.add_argument("--force", action="store_true", help="overwrite what is there")
    given = vars(parser.parse_args(arguments))
    try:
        sam = backbones.sam(given.pop("model"), given.pop("checkpoint"))
        scores = run(sam, **given)
    except (ValueError, OSError) as error:  # a DataError is a ValueError
        print(f"✗ {error}", file=sys.stderr)
        return 1
    if scores is not None:
        for name, values in scores.items():
            print(f"{name}: " + ", ".join(f"{key} {value:.4f}" for key, value in values.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
