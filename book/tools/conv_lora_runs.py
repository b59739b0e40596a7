"""The kept runs of chapter 04, by the chapter's own code: resumable, several at a time.

    python book/tools/conv_lora_runs.py rates        learning rates, chosen on validation scenes
    python book/tools/conv_lora_runs.py runs         the book's own figures
    python book/tools/conv_lora_runs.py real         four real data sets
    python book/tools/conv_lora_runs.py published    one of them by the paper's recipe
    python book/tools/conv_lora_runs.py list         what is done

They write rates.json, gpu.json, real.json and published.json to book/results/04_conv_lora. The last two need
MOE_DATA=FOLDER with the sets.

Each finished run is a line of a file in --folder, so that a run that was stopped, or killed, goes on where it
was. `rates` chooses learning rates on validation scenes, with a seed that no result uses: the decoder's
first, by itself, then with that rate the one of each method. `runs` trains every arm with every seed.
`real` trains the pocket SAM on the real sets with the rates of a domain of the pocket world that looks alike,
and scores it on their test images; `published` as the paper's code does, of which nothing is cut but the SAM.
"""

import argparse
import json
import multiprocessing
import os
import tempfile
import time
from functools import lru_cache
from pathlib import Path
from types import ModuleType

import torch
from freshness import ROOT
from lift import lift
from tqdm import tqdm

import moe_lib as moe
from moe_lib import datasets
from moe_lib.recipes import conv_lora as recipe
from moe_lib.results import environment

CHAPTER = "04_conv_lora"
NOTEBOOK = ROOT / "chapters" / f"{CHAPTER}.ipynb"
FOLDER = ROOT / "book" / "results" / CHAPTER
BINARY = ("roads", "cells", "polyps", "camouflage")
DOMAINS = (*BINARY, "semantic")
RATE_SEED, RATE_STEPS, RATE_LONG = 100, 60, 240
SIZES = {"steps": 80, "long": 320, "batch_size": 8, "learnt": 400, "tested": 128}
SEEDS = 6
REAL_SEEDS, REAL_ARMS = 3, ("decoder", "LoRA, rank 5", "Conv-LoRA")
REAL = {  # folder: the domain whose rates it takes, and how it is read
    "kvasir_seg_text": ("polyps", {}),
    "dsb2018_nuclei": ("cells", {}),
    "crackforest": ("roads", {}),
    "camvid": ("semantic", {"ignore": (11,)}),  # void
}
PUBLISHED = ("crackforest", "roads")  # the smallest of them, and the task whose recipe it takes


@lru_cache(maxsize=1)
def chapter() -> ModuleType:
    """The chapter's functions, at the scale of the kept run."""
    names = ("train", "score", "trial", "load", "measure", "arms", "plan", "candidates", "rates", "rates_of")
    return lift(NOTEBOOK, *names, compute=["arms"], where=torch.device("cpu"), **SIZES)


@lru_cache(maxsize=1)
def scenes(domain: str) -> dict:
    return chapter().load(domain)


def rate_run(job: tuple[str, str, float, float]) -> dict[str, float]:
    """Validation score of a method with a rate."""
    domain, name, rate, decoder_rate = job
    here = chapter()
    data = scenes(domain)
    steps = RATE_LONG if domain == "semantic" else RATE_STEPS
    model = here.train(domain, here.arms[name], RATE_SEED, data["train"], rate, decoder_rate, steps)
    return {"val": here.score(model, data["val"])}


def kept_run(job: tuple[str, str, int]) -> dict[str, float]:
    domain, arm, seed = job
    return chapter().trial(domain, arm, seed, scenes(domain))[0]


@lru_cache(maxsize=1)
def real_scenes(name: str) -> dict:
    """The splits of a real set, as squares of 96 pixels, read once."""
    root = Path(os.environ["MOE_DATA"]).expanduser() / name
    options = {"size": 96, "fit": "stretch", **REAL[name][1]}
    return {split: Read(datasets.folder(root, split, **options)) for split in ("train", "test")}


class Read:
    """A set of files, decoded once and kept in memory."""

    def __init__(self, files: datasets.Folder):
        self.classes = files.classes
        self.kept = files.batch(range(len(files)))

    def __len__(self) -> int:
        return len(self.kept["image"])

    def batch(self, indices, device="cpu") -> dict:
        rows = torch.as_tensor(indices)
        return {key: self.kept[key][rows].to(device) for key in ("image", "mask")}


def real_run(job: tuple[str, str, int]) -> dict[str, float]:
    """Test score of an arm on a real set."""
    name, arm, seed = job
    here, (domain, _) = chapter(), REAL[name]
    data = real_scenes(name)
    steps = SIZES["long" if domain == "semantic" else "steps"]
    model = here.train(domain, here.arms[arm], seed, data["train"], *here.rates_of(domain, arm), steps)
    return {"test": here.score(model, data["test"])}


def published_run(job: tuple[str, str, int]) -> dict[str, float]:
    """Test scores of a method that was trained by the paper's recipe, of which nothing is cut but the SAM."""
    name, method, seed = job
    root = Path(os.environ["MOE_DATA"]).expanduser() / name
    with tempfile.TemporaryDirectory() as out:
        sam = moe.backbones.sam("pocket")
        return recipe.run(sam, PUBLISHED[1], [root], out, method=method, seed=seed, device="cpu")[name]


def worker(task: tuple) -> tuple[tuple, dict]:
    work, job = task
    torch.set_num_threads(1)
    began = time.perf_counter()
    scores = work(job)
    return job, {"scores": scores, "seconds": round(time.perf_counter() - began, 1)}


def done(path: Path) -> dict[tuple, dict]:
    """Finished runs; a line that a kill cut short does not count."""
    found = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            record = json.loads(line)
        except ValueError:
            continue
        found[tuple(record["job"])] = record
    return found


def run_all(work, jobs: list[tuple], path: Path, processes: int, label: str) -> dict[tuple, dict]:
    """Do the jobs that are not done, and give back all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    finished = done(path)
    if path.exists() and not path.read_bytes().endswith(b"\n"):  # cut short by a kill
        path.write_bytes(path.read_bytes().rpartition(b"\n")[0] + b"\n")
    commit = environment("cpu")["commit"]
    todo = [job for job in jobs if job not in finished]
    if todo:
        with (
            multiprocessing.get_context("spawn").Pool(processes) as pool,
            path.open("a", encoding="utf-8") as log,
        ):
            results = pool.imap_unordered(worker, [(work, job) for job in todo])
            for job, record in tqdm(results, total=len(jobs), initial=len(jobs) - len(todo), desc=label):
                finished[job] = {"job": list(job), "commit": commit, **record}
                log.write(json.dumps(finished[job], ensure_ascii=False) + "\n")
                log.flush()
    return {job: finished[job] for job in jobs}


def choose_rates(folder: Path, processes: int) -> None:
    here, path = chapter(), folder / "rates.jsonl"
    first = [(d, "decoder", r, r) for d in DOMAINS for r in here.candidates["decoder"]]
    found = run_all(rate_run, first, path, processes, "decoder")
    best = {
        d: max(here.candidates["decoder"], key=lambda r, d=d: val(found[d, "decoder", r, r])) for d in DOMAINS
    }
    rest = [
        (d, name, r, best[d]) for d in DOMAINS for name in here.candidates if name != "decoder"
        for r in here.candidates[name]
    ]  # fmt: skip
    found |= run_all(rate_run, rest, path, processes, "methods")
    quantities = {
        f"{d} {name} {r:g}": dict.fromkeys(("estimate", "low", "high"), val(record))
        for (d, name, r, _), record in found.items()
    }
    save("rates", 1, quantities, found)
    for d in DOMAINS:
        mine = {
            name: {r: quantities[f"{d} {name} {r:g}"]["estimate"] for r in some}
            for name, some in here.candidates.items()
        }
        print(f'    "{d}": {{')
        for name, scores in mine.items():
            print(f'        "{name}": {max(scores, key=scores.get):g},  # {scores}')
        print("    },")


def val(record: dict) -> float:
    return record["scores"]["val"]


def keep_runs(folder: Path, processes: int, seeds: int) -> None:
    """Every arm with every seed; the claims' quantities, and all scores they come from."""
    here = chapter()
    jobs = [(d, arm, seed) for seed in range(seeds) for d in DOMAINS for arm in here.plan[d]]
    records = run_all(kept_run, jobs, folder / "runs.jsonl", processes, "runs")
    found: dict[tuple[str, str], list[dict]] = {}
    for (domain, arm, _), record in records.items():  # in the order of the seeds
        found.setdefault((domain, arm), []).append(record["scores"])
    quantities = {name: moe.quantity(list(values)) for name, values in here.measure(found).items()}
    for (domain, arm), runs in found.items():
        for what in runs[0]:
            quantities[f"{domain} {arm} {what}"] = moe.quantity([run[what] for run in runs])
    save("gpu", seeds, quantities, records)


def keep_real(folder: Path, processes: int) -> None:
    jobs = [(name, arm, seed) for name in REAL for arm in REAL_ARMS for seed in range(REAL_SEEDS)]
    keep_on_pictures("real", real_run, jobs, folder, processes)


def keep_published(folder: Path, processes: int) -> None:
    methods = ("decoder", "lora", "conv_lora")
    jobs = [(PUBLISHED[0], method, seed) for method in methods for seed in range(REAL_SEEDS)]
    keep_on_pictures("published", published_run, jobs, folder, processes)


def keep_on_pictures(what: str, work, jobs: list[tuple], folder: Path, processes: int) -> None:
    if not os.environ.get("MOE_DATA"):
        raise SystemExit("MOE_DATA should name the folder with " + ", ".join(REAL))
    records = run_all(work, jobs, folder / f"{what}.jsonl", processes, what)
    found: dict[str, list[float]] = {}
    for (name, arm, _), record in records.items():
        for measure, value in record["scores"].items():
            found.setdefault(f"{name} {arm} {measure}", []).append(value)
    quantities = {name: moe.quantity(values) for name, values in found.items()}
    save(what, REAL_SEEDS, quantities, records)


def save(
    scale: str, seeds: int, quantities: dict, records: dict[tuple, dict], chapter: str = CHAPTER
) -> None:  # fmt: skip
    """Results with the commit that the runs were made from, and the time that all of them took."""
    commits = {record["commit"] for record in records.values()}
    if len(commits) > 1:
        raise SystemExit(f"the runs were made from {', '.join(sorted(commits))}: one commit is asked for")
    results = ROOT / "book" / "results"
    path = moe.save_results(results, chapter=chapter, scale=scale, seeds=seeds, quantities=quantities)
    record = json.loads(path.read_text(encoding="utf-8"))
    record["seconds"] = round(sum(one["seconds"] for one in records.values()), 1)
    record["environment"] |= {"commit": commits.pop(), "threads": 1}
    path.write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("rates", "runs", "real", "published", "list"))
    parser.add_argument("--processes", type=int, default=os.cpu_count(), help="one thread each")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument(
        "--folder", type=Path, default=FOLDER, help="where finished runs are kept (%(default)s)"
    )
    given = parser.parse_args()
    if given.what == "rates":
        choose_rates(given.folder, given.processes)
    elif given.what == "runs":
        keep_runs(given.folder, given.processes, given.seeds)
    elif given.what == "real":
        keep_real(given.folder, given.processes)
    elif given.what == "published":
        keep_published(given.folder, given.processes)
    else:
        for name in ("rates", "runs", "real", "published"):
            records = done(given.folder / f"{name}.jsonl")
            minutes = sum(record["seconds"] for record in records.values()) / 60
            print(f"{name}: {len(records)} done, {minutes:.0f} minutes of one thread")


if __name__ == "__main__":
    main()
