"""How hard is the pocket world? Every task, from a constant answer to a trained U-Net.

    python book/tools/difficulty.py                  -> book/results/pocket_world/difficulty.json, in a night
    python book/tools/difficulty.py --device cuda    the same on a GPU, in minutes
    python book/tools/difficulty.py roads shadows    some tasks, beside what the file holds already
    python book/tools/difficulty.py roads --quick    prints one rough row in a minute, for tuning a task
    python book/tools/difficulty.py moe_lib.worlds.roads:Roads --quick    a task that is not registered yet
    python book/tools/difficulty.py --check          fails where a row of the file breaks the rule

The rule: what can be had without learning shapes is at most 0.6 of what a U-Net reaches that is trained from
scratch with 2,000 images, and that U-Net reaches at most 0.95. A task with words has a rule of its own, which
stands under its rows in the table.

Every run is kept when it is done; a second call does what is missing, and what was done with other code.
"""

import argparse
import os
import signal
import sys
import time
from pathlib import Path

import small_unet
import torch
from difficulty_queue import Work, queue, workers_for
from difficulty_runs import QUICK, SIZES, Job, find, jobs_of, perform, recipe, render
from difficulty_table import FILE, problems, read, rows, table, write_runs
from tqdm import tqdm

from moe_lib.results import environment
from moe_lib.scale import pick_device
from moe_lib.worlds import TASKS
from moe_lib.worlds.cache.places import code_of

ROOT = Path(__file__).resolve().parents[2]
# Semantic and instances show panoptic's scenes and masks: their runs would be panoptic's over again.
MEASURED = [name for name in TASKS if name not in ("semantic", "instances")]


def measure(names: list[str], seeds: int, path: Path, *, device: str = "cpu", processes: int = 2) -> None:
    """Do every run of these tasks that the file does not hold yet."""
    code = {name: f"{code_of(find(name))[:16]}-{recipe()}" for name in names}
    wanted = {job: code[job.task] for name in names for job in jobs_of(name, SIZES, seeds)}
    record = read(path)
    runs = {Job(**run["job"]): run for run in record["runs"]}
    current = {job for job, of in wanted.items() if job in runs and runs[job]["code"] == of}
    runs = {job: run for job, run in runs.items() if job.task not in names or job in current}
    made = [*record.get("environments", []), about(seeds, device)]
    waiting = queue([job for job in wanted if job not in current], side_by_side=device == "cuda")
    work = Work(waiting, {job: runs[job] for job in current}, SIZES, device)
    with (
        workers_for(device, processes) as places,
        tqdm(total=len(wanted), initial=len(current), desc="Measuring", unit="run", disable=None) as bar,
    ):
        for results in work.do(*places):
            for job, result in results.items():
                runs[job] = {"job": vars(job), "code": code[job.task], "made": len(made) - 1, **result}
            write_runs(path, list(runs.values()), made)
            bar.update(len(results))
    if work.failed:
        raise SystemExit(f"difficulty: {len(work.failed)} of {len(waiting)} are missing: {work.failed}")


def about(seeds: int, device: str) -> dict:
    """What runs of this call are made with; ``device`` trains the networks, the processor does the rest."""
    return {
        "command": f"python book/tools/difficulty.py --seeds {seeds} --device {device}",
        "sizes": SIZES,
        **environment(device),
        "threads": 1,
        "precision": small_unet.precision(device),
    }


def quick(name: str, device: str = "cpu") -> str:
    """A rough row of the table: one seed, fewer images, fewer steps, one rate."""
    began = time.perf_counter()
    for split in ("train", "val", "test"):
        render(name, split, QUICK[split])
    jobs = {job: (small_unet.RATE,) for job in jobs_of(name, QUICK, seeds=1, extras=False)}
    runs = [{"job": vars(job), **result} for job, result in perform(jobs, QUICK, device).items()]
    (row,) = rows(runs)
    parts = [f"{method} {score:.3f}" for method, score in row.scores.items()]
    words = ", ".join(problems(row)) or "fine"
    ratio = f"{row.simple_method} / U-Net = {row.ratio:.2f}"
    return f"{name}: {' | '.join(parts)} | {ratio}: {words}   ({time.perf_counter() - began:.0f} s)"


def check(path: Path, names: list[str]) -> list[str]:
    """What is wrong with the file: tasks that break the rule or are not in it."""
    found = {row.task: problems(row) for row in rows(read(path)["runs"])}
    wrong = [f"{name}: {problem}" for name in names for problem in found.get(name, ["not measured"])]
    return wrong


def device_of(name: str) -> str:
    """``cpu`` or ``cuda``; ``auto`` takes a GPU where there is one."""
    if name == "auto":
        return "cuda" if pick_device().type == "cuda" else "cpu"
    try:
        return pick_device(name).type
    except ValueError as error:
        raise SystemExit(f"difficulty: {error}") from None


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("tasks", nargs="*", help="names, or module:Class; all tasks if none is named")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="trains networks")
    parser.add_argument(
        "--processes", type=int, default=os.cpu_count(),
        help="how many work at a time, on one core each; those that train on a GPU come on top",
    )  # fmt: skip
    parser.add_argument("--quick", action="store_true", help="a rough row; nothing is written")
    parser.add_argument("--check", action="store_true", help="judge the file; nothing is run")
    return parser.parse_args()


def main() -> None:
    given = arguments()
    path = ROOT / FILE
    names = given.tasks or MEASURED
    if given.check:
        wrong = check(path, names)
        print("\n".join(wrong) or f"{len(names)} tasks keep the rule")
        sys.exit(bool(wrong))
    device = device_of(given.device)
    if given.quick:
        torch.set_num_threads(1)
        for name in names:
            print(quick(name, device), flush=True)
        return
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # as an error does, it ends the processes too
    measure(names, given.seeds, path, device=device, processes=given.processes)
    print(table(read(path)))


if __name__ == "__main__":
    main()
