"""The queue of the difficulty table: what comes first, what waits for what, and what happens to failures."""

from concurrent.futures import Future

import difficulty_queue
import small_unet
from difficulty_queue import Work, Workers, queue
from difficulty_runs import Job

SIZES = {"train": 40, "val": 10, "test": 10, "steps": 3}


class Here:
    """A pool of processes that does everything here and now; ``asked`` is what it was given."""

    def __init__(self):
        self.asked = []

    def submit(self, call, *given):
        self.asked.append((call.__name__, given))
        future = Future()
        try:
            future.set_result(call(*given))
        except Exception as error:
            future.set_exception(error)
        return future


def job(method, images=0, seed=0, task="a", sensors=()):
    return Job(task, method, images, seed, sensors)


WANTED = [
    run
    for task in ("a", "b")
    for run in (
        job("constant", task=task),
        *(job("U-Net", images, seed, task) for seed in range(3) for images in (2000, 200)),
        *(job("U-Net on sensors", 2000, seed, task, ["rgb"]) for seed in range(2)),
    )
]


def test_on_a_processor_what_matters_most_comes_first_and_alone():
    order = queue(reversed(WANTED), side_by_side=False)
    assert all(len(jobs) == 1 for jobs in order)
    shown = [(one.method[:8], one.images, one.seed) for (one,) in order[::2]]
    assert [(one.method[:8], one.images, one.seed) for (one,) in order[1::2]] == shown, "one of each task"
    nets = [("U-Net", 2000, 0), ("U-Net", 200, 0), ("U-Net", 2000, 1), ("U-Net", 2000, 2), ("U-Net", 200, 1)]
    sensors = [("U-Net on", 2000, 0), ("U-Net on", 2000, 1)]
    assert shown == [("constant", 0, 0), *nets, ("U-Net", 200, 2), *sensors]


def test_on_a_gpu_the_networks_of_a_task_and_a_turn_are_trained_side_by_side():
    order = queue(WANTED, side_by_side=True)
    assert sorted(map(len, order)) == [1, 1, 2, 2, 2, 2, 4, 4]
    assert [{one.task for one in jobs} for jobs in order] == [{"a"}, {"b"}] * 4
    turns = [{min(one.seed, 1) for one in jobs} for jobs in order[:6]]
    assert turns == [{0}, {0}, {0}, {0}, {1}, {1}]
    assert all(one.sensors for jobs in order[6:] for one in jobs)
    assert [one for jobs in order for one in jobs if one.task == "a" and not one.seed][:3] == WANTED[:3]


def test_a_run_takes_the_rate_that_seed_0_chose(monkeypatch):
    def perform(jobs, *_):
        return {one: {"rate": max(rates)} if rates else {} for one, rates in jobs.items()}

    def render(*_):
        pass

    monkeypatch.setattr(difficulty_queue, "perform", perform)
    monkeypatch.setattr(difficulty_queue, "render", render)
    work = Work(queue(WANTED, side_by_side=True), {}, SIZES, "cpu")
    workers = Workers(Here(), 1)
    found = {one: result for results in work.do(workers, workers, bool) for one, result in results.items()}
    assert set(found) == set(WANTED) and not work.failed and workers.free == 1
    assert [name for name, _ in workers.pool.asked[:6]] == ["render"] * 6, "scenes come first"
    given = {
        one: rates for name, args in workers.pool.asked if name == "perform" for one, rates in args[0].items()
    }
    for one, rates in given.items():
        expected = () if not one.net else (max(small_unet.RATES),) if one.chooser else small_unet.RATES
        assert rates == expected, one
    assert job("U-Net on sensors", 2000, 1, "a", ["rgb"]).chooser == job("U-Net", 2000)
    assert job("U-Net", 200, 2).chooser == job("U-Net", 200)
    assert job("U-Net", 200).chooser is job("constant").chooser is None


def test_a_run_that_fails_is_tried_step_by_step_and_then_named_with_what_needs_it(monkeypatch, capsys):
    def perform(jobs, sizes, device, recorded):
        if recorded or "b" in {one.task for one in jobs if one.net}:
            raise RuntimeError("out of luck")
        return {one: {"rate": 1e-3} for one in jobs}

    monkeypatch.setattr(difficulty_queue, "perform", perform)
    monkeypatch.setattr(difficulty_queue, "render", lambda *_: None)
    work = Work(queue(WANTED, side_by_side=True), {}, SIZES, "cuda")
    here, there = Workers(Here(), 1), Workers(Here(), 1)
    found = {one for results in work.do(here, there, lambda: True) for one in results}
    assert found == {one for one in WANTED if one.task == "a" or not one.net}
    assert {one for jobs in work.failed for one in jobs} == set(WANTED) - found
    assert (here.free, there.free) == (1, 1)
    errors = capsys.readouterr().err
    assert "once more, step by step" in errors and "going on without" in errors and "out of luck" in errors
