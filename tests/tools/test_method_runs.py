"""The runs of the other methods: rates on validation scenes, seeds that no rate was chosen with."""

import json
from dataclasses import replace

import conv_lora_runs
import method_runs
import pytest
import torch
from freshness import ROOT
from method_runs import FOLDER, HEAD, RATE_SEED, RATES, SEEDS, TASKS, best_rates, kept_run


@pytest.fixture
def small(monkeypatch):
    """Every task in a step or two."""
    few = {
        name: replace(task, steps=2, batch=2, learnt=8, tested=4 if name != "multimodal" else 2)
        for name, task in TASKS.items()
    }
    monkeypatch.setattr(method_runs, "TASKS", few)
    method_runs.scenes.cache_clear()
    yield
    method_runs.scenes.cache_clear()


@pytest.mark.parametrize("task, arm", [(task, arm) for task in TASKS for arm in TASKS[task].arms])
def test_every_arm_trains_and_is_scored(small, task, arm):
    threads = torch.get_num_threads()
    found = kept_run((task, arm, 0, 1e-3))
    assert torch.get_num_threads() == threads
    assert found.pop("trained") > 0
    assert found and all(0 <= value <= 1 for value in found.values())
    assert ("mIoU, one missing" in found) == (task == "multimodal")


def test_methods_stand_beside_a_plain_adapter_as_large():
    """AdaRoute's baseline has as many parameters, to a hundredth."""
    sizes = {}
    for arm in ("adapter", "AdaRoute"):
        model = method_runs.moe.inject(TASKS["semantic"].model(), TASKS["semantic"].arms[arm])
        sizes[arm] = method_runs.moe.trainable_parameters(model).trainable
    assert abs(sizes["adapter"] / sizes["AdaRoute"] - 1) < 0.01


def test_the_best_rate_is_that_of_the_best_validation_score(monkeypatch, tmp_path):
    scores = {rate: 0.5 - abs(rate - RATES[1]) for rate in RATES}
    monkeypatch.setattr(
        method_runs.shared,
        "run_all",
        lambda work, jobs, *_: {job: {"scores": {"IoU": scores[job[2]], "other": -job[2]}} for job in jobs},
    )
    found = best_rates(["camouflage"], 1, tmp_path)
    assert found == {("camouflage", arm): RATES[1] for arm in TASKS["camouflage"].arms}
    assert RATE_SEED not in range(SEEDS) and HEAD in TASKS["camouflage"].arms


def test_every_committed_run_is_of_one_commit_that_is_clean():
    for name in ("rates", "runs"):
        records = conv_lora_runs.done(FOLDER / f"{name}.jsonl").values()
        assert records and not any(record["commit"].endswith("-dirty") for record in records)
        assert len({record["commit"] for record in records}) == 1


def test_the_page_shows_every_score_that_is_kept():
    kept = json.loads((FOLDER / "pocket.json").read_text(encoding="utf-8"))["quantities"]
    page = (ROOT / "book" / "other_methods.md").read_text(encoding="utf-8")
    for task in TASKS:
        for arm in TASKS[task].arms:
            scores = [q for name, q in kept.items() if name.startswith(f"{task} {arm} ") and "IoU" in name]
            assert scores
            for quantity in scores:
                values = ", ".join(f"{value:.3f}" for value in method_runs.moe.seed_values(quantity))
                assert f"| {values} |" in page, (task, arm, values)
