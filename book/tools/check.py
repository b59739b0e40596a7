"""The notebook lint: what a committed chapter must be, besides correct.

    python book/tools/check.py                          every chapter
    python book/tools/check.py chapters/NAME.ipynb …    only these

Prints one line for each problem, with what to do about it; exit status 1 if there is any. A rule is a small
function that takes a notebook and its path and yields (cell number or None, what is wrong); the rules stand
in rules_source.py and rules_outputs.py. Cells are counted from 0, as in Python.
"""

import argparse
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import rules_outputs
import rules_source
from cells import Rule
from freshness import ROOT, UnreadableNotebook, chapters, read

RULES: list[Rule] = [*rules_source.RULES, *rules_outputs.RULES]


class Problem(NamedTuple):
    """One thing that is wrong with a notebook."""

    rule: str
    notebook: str
    cell: int | None
    text: str

    def __str__(self) -> str:
        place = "" if self.cell is None else f" cell {self.cell}:"
        return f"{self.notebook}:{place} {self.text}"


def problems(path: Path) -> Iterator[Problem]:
    """Everything the rules find in a notebook."""
    path = Path(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about ids that nbformat mends: valid_format says so
            nb = read(path)
    except UnreadableNotebook as error:
        yield Problem("readable", path.stem, None, str(error))
        return
    for rule in RULES:
        found = [Problem(rule.__name__, path.stem, cell, text) for cell, text in rule(nb, path)]
        yield from found
        if found and rule is rules_source.valid_format:
            return  # the other rules rely on it


def main(arguments: list[str] | None = None, root: Path = ROOT) -> int:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("notebooks", nargs="*", type=Path, metavar="NOTEBOOK", help="default: every chapter")
    paths = parser.parse_args(arguments).notebooks or chapters(root)
    if not paths:
        print("check: there is no notebook in chapters/; name one, or run this in a complete checkout")
        return 1
    found = [problem for path in paths for problem in problems(path)]
    for problem in found:
        print(problem)
    if found:
        faulty = len({problem.notebook for problem in found})
        print(f"check: {_count(found, 'problem')} in {faulty} of {_count(paths, 'notebook')}")
        return 1
    print(f"check: {_count(paths, 'notebook')}, no problems")
    return 0


def _count(things: list, name: str) -> str:
    return f"{len(things)} {name}{'' if len(things) == 1 else 's'}"


if __name__ == "__main__":
    sys.exit(main())
