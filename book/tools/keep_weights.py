"""Make what `pretrain` wrote the library's own: weights, their logs, and the table in their README.

    python book/tools/keep_weights.py pretrained/sam pretrained/mae
    python book/tools/keep_weights.py pretrained/control     of an encoder that was frozen only the log

A run that went on from shipped weights (`--begin`) continues their log. Chapters and kept results that use
the model are out of date afterwards; CONTRIBUTING.md says what is to be run.
"""

import argparse
import json
import re
from dataclasses import fields, replace
from pathlib import Path

from tqdm import tqdm

from moe_lib.backbones import checkpoints, registry
from moe_lib.backbones.pretrain.__main__ import HELD_OUT, fresh, kept
from moe_lib.backbones.pretrain.loop import Plan
from moe_lib.backbones.pretrain.pool import pool
from moe_lib.train import LOG

IN_TRAINING = ("sam", "sam_global", "mae", "control")  # others are in encoders.json
FROM_CARD = ("plan", "images", "hours", "processes", "precision", "world", "held_out")
SCORES = ("1 click", "2 clicks", "box")


def keep(folder: Path, weights: Path = registry.WEIGHTS) -> str:
    """Take a finished run over; what it is called in the record."""
    files = list(folder.glob("*.safetensors"))
    if len(files) != 1:
        raise SystemExit(
            f"keep_weights: {folder} holds {len(files)} files of weights; a finished run holds one"
        )
    card = checkpoints.read_card(files[0])
    plan = Plan(**card["plan"])
    job = "control" if plan.frozen_encoder else plan.model
    path = weights / ("training.json" if job in IN_TRAINING else "encoders.json")
    record = json.loads(path.read_text(encoding="utf-8"))
    runs = {run["job"]: run for run in record["runs"]}
    run = {
        "job": job, "made": len(record["environments"]), "command": command(plan, card),
        **{name: card[name] for name in FROM_CARD},
    }  # fmt: skip
    if scores := half_scores(files[0], plan):
        run["held_out_half"] = card["held_out_half"] = scores
    log = [json.loads(line) for line in (folder / LOG).read_text(encoding="utf-8").splitlines()]
    if plan.begin:
        earlier = runs.get(job, {"images": 0})
        own = plan.steps * plan.batch
        if earlier["images"] + own != card["images"]:
            raise SystemExit(
                f"keep_weights: {folder} saw {own:,} of {card['images']:,} pictures itself, and the "
                f"record of {job} is of {earlier['images']:,}: it began from other weights"
            )
        log = earlier.pop("log") + [continued(line, earlier) for line in log]
        run["before"] = earlier
    runs[job] = run | {"log": log}
    write(path, [*record["environments"], card["environment"]], list(runs.values()))
    if job != "control":
        model = kept(fresh(replace(plan, begin="")).model)
        checkpoints.load(model, files[0])
        checkpoints.save(model, weights / f"{plan.model}.safetensors", card)
        tabulate(weights / "README.md", run)
    return job


def command(plan: Plan, card: dict) -> str:
    """What to type for the same run."""
    words = [
        f"--{field.name.replace('_', '-')} {value}".removesuffix(" True")
        for field in fields(Plan)[1:]
        if (value := getattr(plan, field.name)) != field.default
    ]
    kind = card["environment"]["device"].split()[0]
    if card["processes"] == 1:
        return " ".join(["python -m moe_lib.backbones.pretrain", plan.model, *words, f"--device {kind}"])
    alike = f"fabric run --accelerator {kind} --devices {card['processes']} --precision {card['precision']}"
    return " ".join([alike, "moe_lib/backbones/pretrain/__main__.py", plan.model, *words])


def half_scores(file: Path, plan: Plan, scenes: int = HELD_OUT) -> dict[str, float]:
    """How the weights do as they lie in the file; nothing for encoders whose decoder is not in it."""
    objective = fresh(replace(plan, begin=""))
    if kept(objective.model) is not objective.model:
        return {}
    checkpoints.load(objective.model, file)
    found = objective.measured(objective.model.eval(), pool("pretrain_val", scenes))
    return {name: float(f"{value:.5g}") for name, value in found.items()}


def continued(line: dict, earlier: dict) -> dict:
    """A line of the log of a run that went on, counted from the beginning of all."""
    seconds = round(3600 * earlier["hours"] + line["seconds"], 1)
    return line | {"images": earlier["images"] + line["images"], "seconds": seconds}


def write(path: Path, environments: list[dict], runs: list[dict]) -> None:
    """Write the record; environments that made nothing any more are left out."""

    def parts(run: dict) -> list[dict]:
        return [run, *(parts(run["before"]) if "before" in run else [])]

    every = [part for run in runs for part in parts(run)]
    used = sorted({part["made"] for part in every})
    for part in every:
        part["made"] = used.index(part["made"])
    record = {"environments": [environments[number] for number in used], "runs": runs}
    path.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def tabulate(path: Path, run: dict) -> None:
    """Put the run's numbers into its row of the table."""
    scores = [run["held_out"].get(f"held-out {name}") for name in SCORES]
    cells = [f" {run['images']:,} ", *(" " if score is None else f" {score:.3f} " for score in scores)]
    row = re.compile(rf"^(\| `{run['job']}\.safetensors` \| [^|]+ \|).*$", re.M)
    text, rows = row.subn(lambda m: m[1] + "|".join(cells) + "|", path.read_text("utf-8"))
    if rows != 1:
        raise SystemExit(f"keep_weights: {path} has no row for {run['job']}")
    path.write_text(text, encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", nargs="+", type=Path, help="what pretrain was told as --out")
    for folder in tqdm(parser.parse_args().folders, desc="Scoring", delay=2):
        tqdm.write(f"{folder}: kept as {keep(folder)}")


if __name__ == "__main__":
    main()
