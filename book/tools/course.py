"""Cut a student's version of the chapters: the same notebooks without outputs and without solutions.

    python book/tools/course.py [CHAPTER …]      -> _build/course/, all chapters by default

What stands between `# BEGIN SOLUTION` and `# END SOLUTION` gives way to a line that says where to write; the
checks below it stay, so a student sees at once whether the answer holds. The instructor's version is the
chapter itself.
"""

import argparse
import re
import sys
from pathlib import Path

import nbformat
from freshness import ROOT, chapters, read
from run import choose

SOLUTION = re.compile(r"^([ \t]*)# BEGIN SOLUTION[ \t]*\n.*?^[ \t]*# END SOLUTION[ \t]*$", re.S | re.M)
BLANK = r'\1raise NotImplementedError("write your solution here")'


def student_version(nb: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """The notebook a student starts from; the one given stays as it is."""
    student = nbformat.from_dict(nb)
    student.metadata.pop("moe", None)  # it speaks of outputs that are gone
    student.cells = [cell for cell in student.cells if not _is_fold(cell)]
    for cell in student.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
            cell.source = SOLUTION.sub(BLANK, cell.source)
    return student


def write(paths: list[Path], root: Path = ROOT) -> list[Path]:
    """Write the student's versions and return where they are."""
    folder = root / "_build" / "course"
    folder.mkdir(parents=True, exist_ok=True)
    for path in paths:
        nbformat.write(student_version(read(path)), folder / path.name)
    return [folder / path.name for path in paths]


def _is_fold(cell: nbformat.NotebookNode) -> bool:
    """Whether a cell only folds a solution on the page."""
    return (
        cell.cell_type == "markdown"
        and re.match(r"[`:]{3,}\{solution-(start|end)\}", cell.source) is not None
    )


def main(arguments: list[str] | None = None, root: Path = ROOT) -> None:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    told = "name, start of a name (00) or path; default: all"
    parser.add_argument("chapters", nargs="*", metavar="CHAPTER", help=told)
    names = parser.parse_args(arguments).chapters
    try:
        for path in write(choose(names, chapters(root)), root):
            print(path.relative_to(root))
    except ValueError as error:
        sys.exit(f"course: {error}")


if __name__ == "__main__":
    main()
