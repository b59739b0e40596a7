"""The order of the runs behind the difficulty table, and the processes that do them."""

import multiprocessing
import os
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from multiprocessing import get_context

import small_unet
import torch
from difficulty_runs import Job, perform, render

ON_GPU = 4  # processes that share it: while one loads and scores, others train
Jobs = tuple[Job, ...]  # done together: runs of one task, with networks or without


def queue(wanted: Iterable[Job], *, side_by_side: bool) -> list[Jobs]:
    """What is done at a time, in order: simple methods and seed 0 of every task, other seeds, sensors.

    Args:
        wanted: The runs.
        side_by_side: Train all networks of a task and a turn at the same time, as suits a GPU.
    """
    wanted = list(wanted)
    tasks = list(dict.fromkeys(job.task for job in wanted))

    def turn(job: Job) -> tuple:
        return (2 if job.sensors else min(job.seed, 1), job.net)

    def group(job: Job) -> tuple:
        if job.net and not side_by_side:
            return (*turn(job), -job.images, job.seed, tasks.index(job.task), job.method, job.sensors)
        return (*turn(job), tasks.index(job.task))

    return [tuple(jobs) for _, jobs in groupby(sorted(wanted, key=group), key=group)]


@dataclass
class Workers:
    """A pool of processes, and how many of them are free."""

    pool: ProcessPoolExecutor
    free: int


class Work:
    """The queue being done: scenes first, and every run when there is what it needs.

    Args:
        waiting: What :func:`queue` returns.
        known: The results that there are already.
        sizes: How many scenes each split has, and how many steps a training.
        device: Where networks are trained.
    """

    def __init__(self, waiting: list[Jobs], known: dict[Job, dict], sizes: dict[str, int], device: str):
        self.waiting, self.known, self.sizes, self.device = list(waiting), dict(known), sizes, device
        names = dict.fromkeys(job.task for jobs in waiting for job in jobs)
        self.unrendered = [(name, split) for split in ("train", "val", "test") for name in names]
        self.rendering: set[tuple[str, str]] = set()
        self.running: dict[Future, tuple[Workers, tuple, bool]] = {}
        self.failed: list[tuple] = []

    def do(self, here: Workers, there: Workers, recorded: Callable[[], bool]) -> Iterator[dict[Job, dict]]:
        """Do everything; ``there`` networks are trained. Hands over results as they come."""
        self._start(here, there, recorded)
        while self.running:
            done, _ = wait(self.running, return_when=FIRST_COMPLETED)
            for future in done:
                workers, what, was_recorded = self.running.pop(future)
                workers.free += 1
                if error := future.exception():
                    self._complain(what, error, again=was_recorded)
                    if was_recorded:
                        self._perform(workers, what, recorded=False)
                elif isinstance(what[0], Job):
                    self.known.update(future.result())
                    yield future.result()
                else:
                    self.rendering.remove(what)
            self._start(here, there, recorded)
        self.failed += self.waiting  # what waits for a run that failed

    def _start(self, here: Workers, there: Workers, recorded: Callable[[], bool]) -> None:
        while here.free > 0 and self.unrendered:
            what = self.unrendered.pop(0)
            self.rendering.add(what)
            self._submit(here, what, render, *what, self.sizes[what[1]])
        for jobs in filter(self._ready, list(self.waiting)):
            workers = there if jobs[0].net else here
            if workers.free > 0:
                self.waiting.remove(jobs)
                self._perform(workers, jobs, recorded=jobs[0].net and recorded())

    def _perform(self, workers: Workers, jobs: Jobs, *, recorded: bool) -> None:
        given = {job: self._rates(job) for job in jobs}
        self._submit(workers, jobs, perform, given, self.sizes, self.device, recorded, recorded=recorded)

    def _submit(self, workers: Workers, what: tuple, call: Callable, *given, recorded: bool = False) -> None:
        workers.free -= 1
        self.running[workers.pool.submit(call, *given)] = workers, what, recorded

    def _ready(self, jobs: Jobs) -> bool:
        """Whether its scenes are there, and the rates that it takes from other runs."""
        missing = {name for name, _ in (*self.unrendered, *self.rendering)}
        choosers = {job.chooser for job in jobs} - {None}
        return jobs[0].task not in missing and choosers <= set(self.known)

    def _rates(self, job: Job) -> tuple[float, ...]:
        """At what rates it may train: one that is known, or those to choose from."""
        if not job.net:
            return ()
        return (self.known[job.chooser]["rate"],) if job.chooser else small_unet.RATES

    def _complain(self, what: tuple, error: BaseException, *, again: bool) -> None:
        then = "once more, step by step" if again else "going on without"
        print(f"difficulty: {what[0]} failed; {then}", file=sys.stderr)
        traceback.print_exception(error)
        if not again:
            self.failed.append(what)


@contextmanager
def workers_for(device: str, processes: int) -> Iterator[tuple[Workers, Workers, Callable[[], bool]]]:
    """Processes for what a processor does, those that train, and whether these may record their steps.

    An error, or the user's wish, ends them at once.
    """
    os.environ["OMP_NUM_THREADS"] = "1"  # for the processes, which read it when they start
    start = {"mp_context": get_context("spawn"), "initializer": torch.set_num_threads, "initargs": (1,)}
    here = there = Workers(ProcessPoolExecutor(processes, **start), processes)
    tried = None
    if device == "cuda":
        there = Workers(ProcessPoolExecutor(ON_GPU, **start), ON_GPU)
        trial = ProcessPoolExecutor(1, **start)  # of its own: a failed recording may leave a process unsound
        tried = trial.submit(small_unet.recording_is_true, device)
        trial.shutdown(wait=False)
    try:
        yield here, there, lambda: tried is not None and _holds(tried)
    except BaseException:
        for child in multiprocessing.active_children():
            child.terminate()
        raise
    finally:
        for workers in (here, there):
            workers.pool.shutdown(cancel_futures=True)


@cache
def _holds(tried: Future) -> bool:
    error = tried.exception()
    if error or not tried.result():
        print(f"difficulty: recorded steps are not to be trusted here ({error}); slower", file=sys.stderr)
    return not error and tried.result()
