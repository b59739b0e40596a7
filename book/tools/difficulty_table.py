"""From the runs of `difficulty.py` to the table of the page on the pocket world.

python book/tools/difficulty_table.py        writes book/_generated/difficulty.md, which the page includes
"""

import argparse
import json
import os
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from freshness import ROOT
from generated import write_part

FILE = Path("book/results/pocket_world/difficulty.json")
LARGEST_RATIO, LARGEST_SCORE = 0.6, 0.95
LABELS = {"panoptic": "semantic, instances, panoptic"}  # the same scenes and masks
SIMPLE = ("threshold", "colour clusters", "growing region")


@dataclass
class Row:
    """A task's runs: ``runs[method, images, sensors]`` is one run per seed."""

    task: str
    runs: dict[tuple, list[dict]]

    def scores_of(self, method: str, images: int = 0, sensors: tuple[str, ...] = ()) -> list[float]:
        return [run["score"] for run in self.runs.get((method, images, sensors), [])]

    @property
    def sizes(self) -> list[int]:
        """The numbers of training images, ascending."""
        return sorted({images for method, images, _ in self.runs if method == "U-Net"})

    @property
    def scores(self) -> dict[str, float]:
        """The main methods and their means."""
        plain = {m: float(np.mean(self.scores_of(m))) for m in ("constant", *SIMPLE) if self.scores_of(m)}
        nets = {f"U-Net({images})": float(np.mean(self.scores_of("U-Net", images))) for images in self.sizes}
        return plain | nets

    @property
    def simple_method(self) -> str:
        """The strongest that learns no shapes."""
        return max((method for method in SIMPLE if method in self.scores), key=self.scores.get)

    @property
    def best(self) -> float:
        """What the U-Net reaches with all images."""
        return self.scores[f"U-Net({self.sizes[-1]})"]

    @property
    def ratio(self) -> float:
        return self.scores[self.simple_method] / max(self.best, 1e-9)


def rows(runs: Iterable[dict]) -> list[Row]:
    """The runs, sorted by task; tasks whose runs are not complete are left out."""
    by_task: dict[str, dict] = defaultdict(lambda: defaultdict(list))
    for run in sorted(runs, key=lambda run: run["job"]["seed"]):
        job = run["job"]
        by_task[job["task"]][job["method"], job["images"], tuple(job["sensors"])].append(run)
    found = [Row(task, dict(runs)) for task, runs in by_task.items()]
    return [
        row for row in found if {"constant", "colour clusters"} <= set(row.scores) and len(row.sizes) == 2
    ]


def problems(row: Row) -> list[str]:
    """How a task breaks the rule."""
    found = []
    if row.ratio > LARGEST_RATIO:
        found.append(f"retune: {row.simple_method} reaches {row.ratio:.2f} of the U-Net")
    if row.best > LARGEST_SCORE:
        found.append(f"retune: the U-Net reaches {row.best:.3f}")
    return found


def table(record: dict) -> str:
    """The whole part of the page, as MyST markdown."""
    found = rows(record["runs"])
    if not found:
        return "The tasks have not been measured yet.\n"
    parts = [_main(found)]
    parts += [_objects(found), _words(found)]
    parts += [_conditions(row, kind) for row in found for kind in _kinds(row)]
    return "\n\n".join(part for part in (*parts, _made_by(record)) if part) + "\n"


def _main(found: list[Row]) -> str:
    few, many = found[0].sizes
    head = (
        "Task",
        "Constant",
        "Without shapes",
        f"U-Net, {few} images",
        f"U-Net, {many:,} images",
        "Ratio",
        "",
    )
    lines = []
    for row in found:
        simple = f"{row.scores[row.simple_method]:.2f} ({row.simple_method})"
        nets = [_spread(row.scores_of("U-Net", images)) for images in row.sizes]
        verdict = "retune" if problems(row) else "✓"
        lines.append(
            (
                LABELS.get(row.task, row.task),
                f"{row.scores['constant']:.2f}",
                simple,
                *nets,
                f"{row.ratio:.2f}",
                verdict,
            )
        )
    return _grid(head, lines)


def _objects(found: list[Row]) -> str:
    """How well connected patches of the prediction are objects."""
    lines = []
    for row in found:
        runs = [row.runs["U-Net", images, ()] for images in row.sizes]
        if all("objects" in run for part in runs for run in part):
            lines.append((row.task, *(_spread([run["objects"] for run in part]) for part in runs)))
    few, many = found[0].sizes
    return lines and _grid(("Objects found (F1)", f"U-Net, {few} images", f"U-Net, {many:,} images"), lines)


def _words(found: list[Row]) -> str:
    lines = []
    for row in found:
        many = row.sizes[-1]
        if unread := row.scores_of("U-Net, words unread", many):
            lines.append((row.task, _spread(unread), _spread(row.scores_of("U-Net", many))))
    return lines and _grid(("Words", "Not read", "Read as a bag"), lines)


def _kinds(row: Row) -> list[str]:
    """What its scenes differ in that sensors feel: weather, case."""
    return list(dict.fromkeys(kind for part in row.runs.values() for kind in part[0].get("by", {})))


def _conditions(row: Row, kind: str) -> str:
    """Each sensor alone, and all of them, in every condition."""
    looks = {look: part for (method, _, look), part in row.runs.items() if method == "U-Net on sensors"}
    words = list(next(iter(looks.values()))[0]["by"][kind])
    lines = []
    for look, part in looks.items():
        means = [np.mean([run["by"][kind][word] for run in part]) for word in words]
        name = "all sensors" if len(look) > 1 else look[0]
        lines.append((name, _spread([run["score"] for run in part]), *(f"{mean:.2f}" for mean in means)))
    return _grid((f"{row.task}, by {kind}", "all", *words), lines)


def _made_by(record: dict) -> str:
    made = record["environment"]
    seeds = len({run["job"]["seed"] for run in record["runs"]})
    minutes = sum(run["seconds"] for run in record["runs"]) / 60
    return (
        f"{seeds} seeds, mean and range; `{record['command']}`, {minutes:.0f} minutes of one core; "
        f"{made['device']}, torch {made['torch']}, {made['date']}, commit {made['commit']}."
    )


def _spread(values: list[float]) -> str:
    mean = f"{np.mean(values):.2f}"
    return mean if len(values) == 1 else f"{mean} ({min(values):.2f}–{max(values):.2f})"


def _grid(head: tuple[str, ...], lines: list[tuple[str, ...]]) -> str:
    ruler = "|---" + "|--:" * (len(head) - 1) + "|"
    return "\n".join([f"| {' | '.join(head)} |", ruler, *(f"| {' | '.join(line)} |" for line in lines)])


def read(path: Path) -> dict:
    """The file of runs; without one, no runs."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"runs": []}


def write_runs(path: Path, runs: list[dict], about: dict) -> None:
    """Write the file so that a killed run leaves the old one or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = ",\n    ".join(
        json.dumps(run, ensure_ascii=False) for run in runs
    )  # a run a line: readable changes
    head = json.dumps(about, indent=2, ensure_ascii=False)[:-2]
    unfinished = path.with_suffix(f".{os.getpid()}.tmp")
    unfinished.write_text(f'{head},\n  "runs": [\n    {lines}\n  ]\n}}\n', encoding="utf-8")
    unfinished.replace(path)


def write(root: Path = ROOT) -> Path:
    """Write the page's part."""
    return write_part(root, "difficulty", table(read(Path(root) / FILE)))


if __name__ == "__main__":
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    print(write().relative_to(ROOT))
