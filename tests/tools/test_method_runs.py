"""The runs of the other methods: rates on validation scenes, seeds that no rate was chosen with."""

import json
from dataclasses import replace

import method_runs
import pytest
import torch
from method_runs import HEAD, RATE_SEED, RATES, SEEDS, TASKS, best_rates, kept_run

import moe_lib as moe


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


METHODS = {"camouflage": "LPMoE", "semantic": "AdaRoute", "multimodal": "MLE-SAM", "referring": "SERA"}


@pytest.mark.parametrize("task, arm", METHODS.items())
def test_every_method_is_saved_and_shows_its_routing(small, task, arm, tmp_path):
    model = method_runs.trained(task, arm, 0, 1e-3).eval()
    batch = method_runs.scenes(task)[2].batch(range(2))
    with torch.no_grad(), moe.watch_routing(model) as records:
        before = logits_of(model(batch))
    (ax,) = moe.plots.expert_usage(records).axes
    assert len(ax.get_yticks()) == len(records) >= 3
    moe.save_adapter(model, tmp_path / "adapter")
    torch.manual_seed(1)
    again = moe.load_adapter(method_runs.untrained(task, arm), tmp_path / "adapter").eval()
    with torch.no_grad():
        assert torch.equal(logits_of(again(batch)), before)


def logits_of(answer: object) -> torch.Tensor:
    return answer.small if isinstance(answer, moe.heads.Referred) else answer.logits


def test_methods_stand_beside_a_plain_adapter_as_large():
    """AdaRoute's baseline has as many parameters, to two hundredths."""
    sizes = {}
    for arm in ("adapter", "AdaRoute"):
        model = method_runs.moe.inject(TASKS["semantic"].model(), TASKS["semantic"].arms[arm])
        sizes[arm] = method_runs.moe.trainable_parameters(model).trainable
    assert abs(sizes["adapter"] / sizes["AdaRoute"] - 1) < 0.02


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


FOLDER = method_runs.FOLDER


def test_rates_and_scores_are_saved(small, monkeypatch, tmp_path):
    saved = {}

    def here(work, jobs, path, *_):  # another process would not know of the small tasks
        records = {job: {"job": job, "commit": "c", "scores": work(job), "seconds": 0} for job in jobs}
        path.write_text("".join(json.dumps(record) + "\n" for record in records.values()))
        return records

    monkeypatch.setattr(method_runs.shared, "run_all", here)
    monkeypatch.setattr(
        method_runs.shared, "save", lambda what, *rest, chapter: saved.update({what: (*rest, chapter)})
    )
    monkeypatch.setattr(method_runs, "RATES", (1e-3, 3e-3))
    monkeypatch.setattr(method_runs, "SEEDS", 3)
    for what in ("rates", "runs"):
        asked = f"method_runs.py {what} --tasks camouflage --processes 1 --folder {tmp_path}"
        monkeypatch.setattr("sys.argv", asked.split())
        method_runs.main()
    assert (saved["rates"][0], saved["pocket"][0]) == (1, 3)
    rates, scores = saved["rates"][1], saved["pocket"][1]
    assert set(rates) == {
        f"camouflage {arm} {rate}" for arm in (HEAD, "LPMoE") for rate in ("0.001", "0.003")
    }
    assert set(scores) == {
        f"camouflage {arm} {what}" for arm in (HEAD, "LPMoE") for what in ("IoU", "trained")
    }


def test_every_committed_run_is_of_one_commit_that_is_clean():
    for name in ("rates", "runs"):
        records = method_runs.shared.done(FOLDER / f"{name}.jsonl").values()
        assert records and not any(record["commit"].endswith("-dirty") for record in records)
        assert len({record["commit"] for record in records}) == 1


def test_rates_are_the_best_that_were_tried():
    """And inside the candidates: the best is not the last in either direction."""
    tried = method_runs.shared.done(FOLDER / "rates.jsonl")
    used = {job[:2]: job[3] for job in method_runs.shared.done(FOLDER / "runs.jsonl")}
    assert used.keys() == {(task, arm) for task in TASKS for arm in TASKS[task].arms}
    for arm, rate in used.items():
        best = max(RATES, key=lambda rate, arm=arm: method_runs.first_score(tried[*arm, rate]))
        assert rate == best and RATES[0] < rate < RATES[-1]


def test_the_page_shows_the_scores_that_are_kept():
    runs = method_runs.shared.done(FOLDER / "runs.jsonl")
    kept = json.loads((FOLDER / "pocket.json").read_text(encoding="utf-8"))["quantities"]
    for (task, arm, seed, _), record in runs.items():
        for name, value in record["scores"].items():
            assert kept[f"{task} {arm} {name}"][f"seed {seed}"] == pytest.approx(value, abs=1e-6)
    page = (method_runs.ROOT / "book" / "other_methods.md").read_text(encoding="utf-8")
    assert method_runs.table(runs) in page
