"""Rules of the lint about what an author writes: the file, the text, the code, the exercises."""

import json
import re
from collections import Counter
from pathlib import Path

from cells import RUN, Found, Rule, all_headings, calls, code_cells, literals, markdown_cells, root_of, tags
from colab import COLAB_TAGS, colab_cell
from freshness import COMMITTED_SCALE
from nbformat import NotebookNode
from prose import pictures_without_alt

LARGEST = 2_000_000  # bytes
BOOK_TAGS = {
    "code": {"colab", "parameters", "injected-parameters", "solution", "check"},
    "markdown": {"exercise"},
}
PAGE_TAGS = {
    *("hide-input", "hide-output", "hide-cell", "remove-input", "remove-output", "remove-cell"),
    *("full-width", "margin", "scroll-output"),
}
PARAMETERS = {
    "scale": (lambda value: value == COMMITTED_SCALE, f'"{COMMITTED_SCALE}"'),
    "device": (lambda value: value in ("auto", "cpu", "cuda", "mps"), '"auto", "cpu", "cuda" or "mps"'),
    "seeds": (lambda value: type(value) is int and value > 0, "a whole number, 1 or more"),
    "out": (lambda value: isinstance(value, str) and value.strip() != "", "the name of a folder"),
}
SHELL = {"!", "%sx", "%system", "%%!", "%%bash", "%%cmd", "%%script", "%%sh", "%%sx", "%%system", "os.system"}
INSTALLERS = {"%pip", "%conda", "%mamba", "%micromamba", "%uv"}


def valid_format(nb: NotebookNode, path: Path) -> Found:
    # As plain JSON, because nbformat silently mends missing and repeated ids when it reads.
    raw = json.loads(path.read_text(encoding="utf-8"))
    version = (raw["nbformat"], raw["nbformat_minor"])
    if version < (4, 5):
        yield None, f"nbformat {version[0]}.{version[1]}, where cells have no ids; save it as 4.5 or newer"
        return
    uses = Counter(cell.get("id") for cell in raw["cells"])
    for index, cell in enumerate(raw["cells"]):
        if not cell.get("id"):
            yield index, "has no id; open and save the notebook in JupyterLab"
        elif uses[cell["id"]] > 1:
            yield index, f"id {cell['id']!r} belongs to {uses[cell['id']]} cells; give each its own"


def small_enough(nb: NotebookNode, path: Path) -> Found:
    size = path.stat().st_size
    if size >= LARGEST:
        yield (
            None,
            f"{size / 1e6:.1f} MB, should be less than {LARGEST / 1e6:g}; show fewer or simpler figures",
        )


def clean_metadata(nb: NotebookNode, path: Path) -> Found:
    for index, metadata in [(None, nb.metadata), *((i, cell.metadata) for i, cell in enumerate(nb.cells))]:
        for key in sorted({"widgets", "papermill", "execution"} & set(metadata)):
            yield index, f"metadata.{key} is left over from a run; {RUN}"
    if (name := nb.metadata.get("kernelspec", {}).get("name")) != "python3":
        yield None, f"metadata.kernelspec.name is {name!r}; it should be 'python3', which everybody has"


def known_tags(nb: NotebookNode, path: Path) -> Found:
    for index, cell in enumerate(nb.cells):
        known = BOOK_TAGS.get(cell.cell_type, set()) | PAGE_TAGS
        for tag in tags(cell):
            if tag not in known:
                yield (
                    index,
                    f"a {cell.cell_type} cell cannot have tag {tag!r}; possible: {', '.join(sorted(known))}",
                )


def colab_cell_first(nb: NotebookNode, path: Path) -> Found:
    first = nb.cells[0] if nb.cells else NotebookNode(cell_type="", source="")
    is_right = first.cell_type == "code" and first.source == colab_cell(root_of(path))
    if not is_right or sorted(tags(first)) != sorted(COLAB_TAGS):
        yield 0, "should be the Colab cell, with its tags; run `python book/tools/colab.py`"


def one_title(nb: NotebookNode, path: Path) -> Found:
    found = all_headings(nb)
    if not found or found[0][:2] != (1, 1):
        yield 1, "should begin with the title of the chapter: # …"
        return
    for index, level, text in found[1:]:
        if level == 1:
            yield index, f"a second title, {text!r}; use ## or smaller"


def sections_present(nb: NotebookNode, path: Path) -> Found:
    present = {text.lower() for _, level, text in all_headings(nb) if level > 1}
    for section in ("Objectives", "Exercises"):
        if section.lower() not in present:
            yield None, f"no heading “{section}”; write the section"


def pictures_described(nb: NotebookNode, path: Path) -> Found:
    for index, cell in markdown_cells(nb):
        for picture in pictures_without_alt(cell.source):
            yield index, f"{picture[:60]!r} has no alt text; say what the picture shows"


def parameters_cell(nb: NotebookNode, path: Path) -> Found:
    tagged = [(index, cell) for index, cell in code_cells(nb) if "parameters" in tags(cell)]
    if len(tagged) != 1:
        yield None, f"{len(tagged)} code cells are tagged `parameters`; there should be one"
        return
    index, cell = tagged[0]
    given = literals(cell)
    if given is None:
        yield index, "a parameters cell only assigns literal values, so that a run can replace them"
        return
    for name, (is_right, right) in PARAMETERS.items():
        if name not in given:
            yield index, f"parameter {name} is missing; it should be {right}"
        elif not is_right(given[name]):
            yield index, f"parameter {name} is {given[name]!r}; it should be {right}"


def not_injected(nb: NotebookNode, path: Path) -> Found:
    for index, cell in enumerate(nb.cells):
        if "injected-parameters" in tags(cell):
            yield index, f"holds the parameters of some run; delete it and {RUN}"


def no_shell(nb: NotebookNode, path: Path) -> Found:
    for index, cell in code_cells(nb):
        for command in sorted(calls(cell, inside_definitions=True) & SHELL):
            yield index, f"runs a shell command ({command}), which not every machine has; write it in Python"


def no_installing(nb: NotebookNode, path: Path) -> Found:
    written_out = r"""\b(pip3?|conda|mamba)\b[\s"',]+install\b|^\s*(import|from) (pip|conda)\b"""
    for index, cell in code_cells(nb):
        if index == 0:
            continue  # the Colab cell has a rule of its own
        installs = calls(cell, inside_definitions=True) & INSTALLERS
        if installs or re.search(written_out, cell.source, re.M):
            yield index, "installs something; only the Colab cell may, pyproject.toml names what is needed"


def exercises_complete(nb: NotebookNode, path: Path) -> Found:
    starts = [index for index, _ in markdown_cells(nb) if "exercise" in tags(nb.cells[index])]
    if not starts:
        yield None, "no exercise; add a markdown cell tagged `exercise`, its `solution` and its `check`"
    for index, cell in code_cells(nb):
        for role in {"solution", "check"} & set(tags(cell)):
            if not starts or index < starts[0]:
                yield index, f"tagged `{role}`, but no cell above is tagged `exercise`"
    for start, end in zip(starts, [*starts[1:], len(nb.cells)], strict=True):
        if "{exercise}" not in nb.cells[start].source:
            yield start, "tagged `exercise`; it should hold a ```{exercise} directive"
        roles = [role for cell in nb.cells[start:end] for role in ("solution", "check") if role in tags(cell)]
        if roles[:1] != ["solution"] or roles[-1:] != ["check"]:
            yield start, "an exercise is followed by a cell tagged `solution` and then by one tagged `check`"


def solutions_marked(nb: NotebookNode, path: Path) -> Found:
    for index, cell in code_cells(nb):
        marks = re.findall(r"^\s*# (BEGIN|END) SOLUTION\s*$", cell.source, re.M)
        if "solution" in tags(cell) and (not marks or marks != ["BEGIN", "END"] * (len(marks) // 2)):
            yield index, "a solution stands between the lines `# BEGIN SOLUTION` and `# END SOLUTION`"
        elif "solution" not in tags(cell) and marks:
            yield index, "has solution markers, but not the tag `solution`"


def solutions_folded(nb: NotebookNode, path: Path) -> Found:
    fold = re.compile(r"\{solution-start\}.*(?:\n\s*:.*)*?\n\s*:class:.*\bdropdown\b|\{solution-end\}")
    is_folded = False
    for index, cell in enumerate(nb.cells):
        if cell.cell_type == "markdown":
            for directive in fold.findall(cell.source):
                is_folded = directive != "{solution-end}"
        elif "solution" in tags(cell) and not is_folded:
            yield (
                index,
                "not folded; it goes between {solution-start} with `:class: dropdown` and {solution-end}",
            )
        elif "check" in tags(cell) and is_folded:
            yield index, "the check is folded away with the solution; put {solution-end} above it"


RULES: list[Rule] = [
    valid_format,
    small_enough,
    clean_metadata,
    known_tags,
    colab_cell_first,
    one_title,
    sections_present,
    pictures_described,
    parameters_cell,
    not_injected,
    no_shell,
    no_installing,
    exercises_complete,
    solutions_marked,
    solutions_folded,
]
