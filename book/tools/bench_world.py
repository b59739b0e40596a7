"""How fast is the pocket world? Scenes per second of every task, beside a training step of an encoder.

    python book/tools/bench_world.py                -> book/results/pocket_world/bench.json
    python book/tools/bench_world.py --tasks roads glass --repeats 3 --device cpu

Everything is timed in turns in one run, so that a machine busy with other things slows all of it alike; the
numbers are medians. On the CPU one thread is used, and its own time counts: scenes per second and core.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from difficulty_runs import find
from difficulty_table import ROOT
from torch import nn

from moe_lib.results import environment
from moe_lib.worlds import TASKS

FILE = Path("book/results/pocket_world/bench.json")
SIZE, STEP = 96, 16  # pixels a side; images of a training step
BATCH = {"cpu": 128, "cuda": 256}
# Scenes per second that are asked for: of pictures with two classes, and of the street with all its sensors.
BARS = {"cpu": {"plain": 150, "sensors": 15}, "cuda": {"plain": 5000, "sensors": 500}}


def encoder() -> tuple[str, nn.Module]:
    """A pocket encoder, segment-anything's where that is installed: its name and the model."""
    try:
        from segment_anything.modeling import ImageEncoderViT
    except ModuleNotFoundError:
        layer = nn.TransformerEncoderLayer(128, 4, 512, dropout=0.0, batch_first=True)
        patches = nn.Sequential(nn.Conv2d(3, 128, 8, 8), nn.Flatten(2))
        return "torch's TransformerEncoder", nn.Sequential(
            patches, _Turned(), nn.TransformerEncoder(layer, 8)
        )
    return "segment-anything's ImageEncoderViT", ImageEncoderViT(
        img_size=SIZE, patch_size=8, embed_dim=128, depth=8, num_heads=4, out_chans=64, use_rel_pos=True
    )


class _Turned(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mT


def training_step(model: nn.Module, device: str) -> Callable[[], None]:
    """One forward and backward pass."""
    model = model.to(device)
    images = torch.rand(STEP, 3, SIZE, SIZE, device=device)

    def step() -> None:
        model.zero_grad()
        model(images).square().mean().backward()

    return step


def bench(tasks: dict, device: str, repeats: int) -> dict:
    """Seconds of everything, in turns; a table of medians."""
    name, model = encoder()
    step = training_step(model, device)
    batch = BATCH[device]
    seconds: dict[str, list[float]] = {name: [] for name in (*tasks, "step")}
    for turn in range(repeats + 1):  # the first turn warms up
        for task in tasks:
            data, start = tasks[task], turn * batch
            seconds[task].append(timed(lambda: data.batch(range(start, start + batch), device), device))  # noqa: B023
        seconds["step"].append(timed(step, device))
    median = {what: statistics.median(times[1:]) for what, times in seconds.items()}
    return {
        "encoder": name,
        "step_seconds": round(median["step"], 5),
        "images_per_second_in_training": round(STEP / median["step"], 1),
        "tasks": {
            task: {
                "scenes_per_second": round(batch / median[task], 1),
                "share_of_a_step": round(median[task] / batch * STEP / median["step"], 3),
                "bar": bar(tasks[task], device),
            }
            for task in tasks
        },
    }


def timed(call: Callable[[], object], device: str) -> float:
    """Seconds of a call; on a CPU those that its one thread was given, whatever else the machine does."""
    if device == "cpu":
        began = time.process_time()
        call()
        return time.process_time() - began
    torch.cuda.synchronize()
    began = time.perf_counter()
    call()
    torch.cuda.synchronize()
    return time.perf_counter() - began


def bar(task, device: str) -> int | None:
    """What is asked of a task: of those with sensors, and of the ones with two classes and no words."""
    entries = task[0]
    if "sensors" in entries:
        return BARS[device]["sensors"]
    return BARS[device]["plain"] if len(task.classes) == 2 and "text" not in entries else None


def table(record: dict) -> str:
    """What was measured, to be read."""
    lines = []
    for device, found in record["devices"].items():
        lines += [
            f"{device}: a training step of {STEP} images at {SIZE} px takes "
            f"{1000 * found['step_seconds']:.0f} ms ({found['encoder']}, "
            f"{found['images_per_second_in_training']:.0f} images/s)",
            f"{'task':<14}{'scenes/s':>10}{'of a step':>11}{'bar':>7}",
        ]
        for name, task in found["tasks"].items():
            met = (
                ""
                if task["bar"] is None
                else ("  met" if task["scenes_per_second"] >= task["bar"] else "  NOT MET")
            )
            speed, share = f"{task['scenes_per_second']:.0f}", f"{task['share_of_a_step']:.0%}"
            lines.append(f"{name:<14}{speed:>10}{share:>11}{task['bar'] or '–':>7}{met}")
    return "\n".join(lines)


def measure(names: list[str], devices: list[str], repeats: int) -> dict:
    """The whole record."""
    tasks = {name: find(name)(split="train", n=10**6, size=SIZE) for name in names}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        found = {device: bench(tasks, device, repeats) for device in devices}
        made = environment(devices[-1])
    finally:
        torch.set_num_threads(threads)
    command = "python book/tools/bench_world.py"
    return {"command": command, "size": SIZE, "repeats": repeats, "environment": made, "devices": found}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    present = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    parser.add_argument("--device", choices=present, help="only this one; otherwise all there are")
    parser.add_argument("--repeats", type=int, default=11)
    parser.add_argument(
        "--tasks", nargs="+", help="names, or module:Class; otherwise all, and the file is written"
    )
    given = parser.parse_args()
    record = measure(given.tasks or list(TASKS), [given.device] if given.device else present, given.repeats)
    print(table(record))
    if not given.tasks:
        path = ROOT / FILE
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
