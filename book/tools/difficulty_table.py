"""From the runs of `difficulty.py` to the table of the page on the pocket world.

python book/tools/difficulty_table.py        writes book/_generated/difficulty.md, which the page includes
"""

import argparse
import json
import os
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from generated import write_part

from moe_lib.worlds import TASKS

ROOT = Path(__file__).resolve().parents[2]
FILE = Path("book/results/pocket_world/difficulty.json")
LARGEST_RATIO, LARGEST_SCORE = 0.6, 0.95
LARGEST_POLICY, LARGEST_UNREAD = 0.4, 0.5  # of a task with words
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

    @property
    def policies(self) -> dict[str, dict[str, float]]:
        """Of a task with words: policy → kind of sentence → how often it is right; empty of all others."""
        (run,) = self.runs.get(("policies", 0, ()), [{}])
        return run.get("policies", {})


def rows(runs: Iterable[dict]) -> list[Row]:
    """The runs by task, in the order of the catalogue; tasks whose runs are not complete are left out."""
    by_task: dict[str, dict] = defaultdict(lambda: defaultdict(list))
    for run in sorted(runs, key=lambda run: run["job"]["seed"]):
        job = run["job"]
        by_task[job["task"]][job["method"], job["images"], tuple(job["sensors"])].append(run)
    known = [*TASKS, *by_task]  # a task that is not registered yet comes last
    found = [Row(task, dict(by_task[task])) for task in sorted(by_task, key=known.index)]
    return [
        row for row in found if {"constant", "colour clusters"} <= set(row.scores) and len(row.sizes) == 2
    ]


def problems(row: Row) -> list[str]:
    """How a task breaks the rule."""
    found = []
    if row.policies:
        found += _problems_with_words(row)
    elif row.ratio > LARGEST_RATIO:
        found.append(f"retune: {row.simple_method} reaches {row.ratio:.2f} of the U-Net")
    if row.best > LARGEST_SCORE:
        found.append(f"retune: the U-Net reaches {row.best:.3f}")
    return found


def _problems_with_words(row: Row) -> list[str]:
    found = [
        f"retune: {policy} is right for {rate:.3f} of the {kind} sentences"
        for policy, kinds in row.policies.items()
        for kind, rate in kinds.items()
        if rate > LARGEST_POLICY
    ]
    unread = row.scores_of("U-Net, words unread", row.sizes[-1])
    if unread and np.mean(unread) > LARGEST_UNREAD:
        found.append(f"retune: the U-Net reaches {np.mean(unread):.3f} without reading")
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
    nets = f"U-Net, {few} images", f"U-Net, {many:,} images"
    lines = []
    for row in found:
        simple = f"{row.scores[row.simple_method]:.2f} ({row.simple_method})"
        ratio = "by its words" if row.policies else f"{row.ratio:.2f}"
        lines.append(
            (
                LABELS.get(row.task, row.task),
                f"{row.scores['constant']:.2f}",
                simple,
                *(_spread(row.scores_of("U-Net", images)) for images in row.sizes),
                ratio,
                "broken" if problems(row) else "✓",
            )
        )
    return _grid(("Task", "Constant", "Without shapes", *nets, "Ratio", "Rule"), lines)


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
    """What is had without reading, or by reading in part; and why this is what is judged."""
    parts = []
    for row in found:
        many = row.sizes[-1]
        if unread := row.scores_of("U-Net, words unread", many):
            line = (row.task, _spread(unread), _spread(row.scores_of("U-Net", many)))
            parts.append(_grid(("Words", "Not read", "Read as a bag"), [line]))
        if row.policies:
            kinds = list(dict.fromkeys(kind for rates in row.policies.values() for kind in rates))
            lines = [
                (policy, *(f"{rates[kind]:.2f}" if kind in rates else "–" for kind in kinds))
                for policy, rates in row.policies.items()
            ]
            parts += [_grid((f"{row.task}, by policy", *kinds), lines), WHY.format(task=row.task)]
    return "\n\n".join(parts)


WHY = f"""\
*{{task}}* is not judged by the ratio: a U-Net of this size, to which words are a bag, need not learn to
read, and the ratio would say more about it than about the sentences. What is judged is whether the whole
sentence is needed. No policy that knows the true objects but ignores part of the sentence may be right
more often than {LARGEST_POLICY} (a dash: what it reads is all that such a sentence has). And a U-Net that
does not read may reach {LARGEST_UNREAD} at most: every picture comes with two sentences that mean
different objects, so whoever only looks is right half of the time at best."""


def _kinds(row: Row) -> list[str]:
    """What its scenes differ in that sensors feel: weather, case."""
    return list(dict.fromkeys(kind for part in row.runs.values() for kind in part[0].get("by", {})))


def _conditions(row: Row, kind: str) -> str:
    """Each sensor alone, and all of them, in every condition."""
    looks = {look: part for (method, _, look), part in row.runs.items() if method == "U-Net on sensors"}
    words = list(next(iter(looks.values()))[0]["by"][kind])
    lines = []
    for look, part in sorted(looks.items(), key=lambda item: len(item[0])):  # all of them at last
        means = [np.mean([run["by"][kind][word] for run in part]) for word in words]
        name = "all sensors" if len(look) > 1 else look[0]
        lines.append((name, _spread([run["score"] for run in part]), *(f"{mean:.2f}" for mean in means)))
    return _grid((f"{row.task}, by {kind}", "all", *(word.replace("_", " ") for word in words)), lines)


def _made_by(record: dict) -> str:
    """What the numbers rest on, and what made them: one line for each call that made some."""
    parts = [f"{_seeds(record['runs'])} The U-Net's rate was chosen by seed 0 on validation images."]
    for number, made in enumerate(record["environments"]):
        runs = [run for run in record["runs"] if run["made"] == number]
        minutes = sum(run["seconds"] for run in runs) / 60
        parts.append(
            f"`{made['command']}`: {len(runs)} runs, {minutes:.0f} minutes of one process, "
            f"{made['sizes']['steps']:,} steps; {made['device']}, {made['precision']}, "
            f"torch {made['torch']}, {made['date']}, commit {made['commit']}."
        )
    return "\n\n".join(parts)


def _seeds(runs: list[dict]) -> str:
    """How many seeds a range is of: those of sensors are fewer, and a task may wait for its other seeds."""
    counts = {False: Counter(), True: Counter()}  # runs of each training; of sensors apart
    for run in runs:
        job = run["job"]
        if job["method"].startswith("U-Net"):
            counts[bool(job["sensors"])][job["task"], job["method"], job["images"], *job["sensors"]] += 1
    plain, sensors = (set(found.values()) for found in (counts[False], counts[True]))
    text = f"Mean and range over {max(plain)} seeds"
    text += f", of single sensors and all together over {max(sensors)}" if sensors - plain else ""
    return text + ("; where there is no range, one seed." if 1 in plain | sensors else ".")


def _spread(values: list[float]) -> str:
    mean = f"{np.mean(values):.2f}"
    if len(values) == 1:
        return mean
    return f"{mean} ({min(values):.2f}–\N{WORD JOINER}{max(values):.2f})"  # a range on one line


def _grid(head: tuple[str, ...], lines: list[tuple[str, ...]]) -> str:
    ruler = "|---" + "|--:" * (len(head) - 1) + "|"
    return "\n".join([f"| {' | '.join(head)} |", ruler, *(f"| {' | '.join(line)} |" for line in lines)])


def read(path: Path) -> dict:
    """The file of runs; without one, no runs."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"runs": []}


def write_runs(path: Path, runs: list[dict], environments: list[dict]) -> None:
    """Write the file so that a killed run leaves the old one or the new one.

    Each run names what made it by its place in ``environments``; those that made none of them are left out.
    """
    used = [number for number in range(len(environments)) if any(run["made"] == number for run in runs)]
    head = json.dumps([environments[number] for number in used], indent=2, ensure_ascii=False)
    runs = [run | {"made": used.index(run["made"])} for run in runs]
    lines = ",\n    ".join(json.dumps(run, ensure_ascii=False) for run in runs)  # a run a line
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(f".{os.getpid()}.tmp")
    text = f'{{\n"environments": {head},\n"runs": [\n    {lines}\n]\n}}\n'
    unfinished.write_text(text, encoding="utf-8")
    unfinished.replace(path)


def write(root: Path = ROOT) -> Path:
    """Write the page's part."""
    return write_part(root, "difficulty", table(read(Path(root) / FILE)))


if __name__ == "__main__":
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    print(write().relative_to(ROOT))
