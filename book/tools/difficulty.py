"""How hard is the pocket world? Every task, from a constant answer to a trained U-Net.

    python book/tools/difficulty.py                  -> book/results/pocket_world/difficulty.json, in an hour
    python book/tools/difficulty.py roads shadows    some tasks, beside what the file holds already
    python book/tools/difficulty.py roads --quick    prints one rough row in a minute, for tuning a task
    python book/tools/difficulty.py moe_lib.worlds.roads:Roads --quick    a task that is not registered yet
    python book/tools/difficulty.py --check          fails where a row of the file breaks the rule

The rule: what can be had without learning shapes is at most 0.6 of what a U-Net reaches that is trained from
scratch with 2,000 images, and that U-Net reaches at most 0.95.

Every run is kept when it is done; a second call does what is missing, and what was done with other code.
"""

import argparse
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

import small_unet
import torch
from difficulty_runs import QUICK, SIZES, Job, find, jobs_of, perform, recipe, render
from difficulty_table import FILE, problems, read, rows, table, write_runs
from freshness import ROOT
from tqdm import tqdm

from moe_lib.results import environment
from moe_lib.worlds import TASKS
from moe_lib.worlds.cache.places import code_of

PROCESSES = 2
# Semantic and instances show panoptic's scenes and masks: their runs would be panoptic's over again.
MEASURED = [name for name in TASKS if name not in ("semantic", "instances")]


def measure(names: list[str], seeds: int, path: Path) -> None:
    """Do every run of these tasks that the file does not hold yet, two at a time, one core each."""
    for name in tqdm(names, desc="Rendering", disable=None):
        render(name, SIZES)
    code = {name: f"{code_of(find(name))[:16]}-{recipe()}" for name in names}
    wanted = {job: code[job.task] for name in names for job in jobs_of(name, SIZES, seeds)}
    record = read(path)
    runs = {Job(**run["job"]): run for run in record["runs"]}
    current = {job for job, of in wanted.items() if job in runs and runs[job]["code"] == of}
    runs = {job: run for job, run in runs.items() if job.task not in names or job in current}
    os.environ["OMP_NUM_THREADS"] = "1"  # for the processes below, which read it when they start
    with (
        ProcessPoolExecutor(PROCESSES, get_context("spawn"), torch.set_num_threads, (1,)) as pool,
        tqdm(total=len(wanted), initial=len(current), desc="Measuring", unit="run", disable=None) as bar,
    ):
        waiting = {pool.submit(perform, job, SIZES): job for job in wanted if job not in current}
        try:
            for done in as_completed(waiting):
                job = waiting[done]
                runs[job] = {"job": vars(job), "code": code[job.task], **done.result()}
                write_runs(path, list(runs.values()), about(seeds))
                bar.update()
        except BaseException:  # an error, or the user's wish: do not go through the rest of the queue
            pool.shutdown(cancel_futures=True)
            raise


def about(seeds: int) -> dict:
    """What the numbers were made with."""
    return {
        "command": f"python book/tools/difficulty.py --seeds {seeds}",
        "sizes": SIZES,
        "environment": environment() | {"threads": 1, "precision": small_unet.precision()},
    }


def quick(name: str) -> str:
    """A rough row of the table: one seed, fewer images, fewer steps."""
    began = time.perf_counter()
    render(name, QUICK)
    runs = [{"job": vars(job), **perform(job, QUICK)} for job in jobs_of(name, QUICK, seeds=1, extras=False)]
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


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("tasks", nargs="*", help="names, or module:Class; all tasks if none is named")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="a rough row; nothing is written")
    parser.add_argument("--check", action="store_true", help="judge the file; nothing is run")
    given = parser.parse_args()
    path = ROOT / FILE
    names = given.tasks or MEASURED
    if given.check:
        wrong = check(path, names)
        print("\n".join(wrong) or f"{len(names)} tasks keep the rule")
        sys.exit(bool(wrong))
    if given.quick:
        torch.set_num_threads(1)
        for name in names:
            print(quick(name), flush=True)
        return
    measure(names, given.seeds, path)
    print(table(read(path)))


if __name__ == "__main__":
    main()
