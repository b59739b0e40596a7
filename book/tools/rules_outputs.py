"""Rules of the lint about what a notebook shows, and whether that is what its code produced."""

import html
import re
from collections import Counter
from pathlib import Path

from cells import MARKER, RUN, Found, Rule, calls, code_cells, is_marked, outputs, root_of, strings
from figures import FIGURE_MIME, figures
from freshness import COMMITTED_SCALE, code_hash, outputs_hash
from nbformat import NotebookNode

SHORTEST_ALT = 30  # characters
SHOWING = {"show", "moe.show", "explorer.attention", "explorer.explore"}
WIDGETS = "application/vnd.jupyter.widget"
# "/home/me", "file:///tmp/x", "C:\Users", but not the end of a longer word or of a web address.
ABSOLUTE_PATH = re.compile(
    r"(?<![\w.~-])(?<!:/)/(?:home|Users|root|tmp|content|mnt|private|var/folders)/[^\s\"'<>]*"
    r"|\b[A-Z]:\\+\w[^\s\"'<>]*"
)


def executed_in_order(nb: NotebookNode, path: Path) -> Found:
    filled = [(index, cell) for index, cell in code_cells(nb) if cell.source.strip()]
    for due, (index, cell) in enumerate(filled, start=1):
        if cell.execution_count != due:
            count = cell.execution_count
            was = "not executed" if count is None else f"execution count {count}"
            yield index, f"{was} where {due} is due; {RUN}"
            return


def no_errors(nb: NotebookNode, path: Path) -> Found:
    for index, output in outputs(nb):
        if output.output_type == "error":
            yield index, f"ends in {output.ename}: {output.evalue}; mend the cell and {RUN}"


def no_stderr(nb: NotebookNode, path: Path) -> Found:
    for index, output in outputs(nb):
        if output.output_type == "stream" and output.name == "stderr":
            first = (output.text.strip().splitlines() or [""])[0]
            yield index, f"noise on stderr ({first[:60]}); silence its cause and {RUN}"


def no_widgets(nb: NotebookNode, path: Path) -> Found:
    for index, output in outputs(nb):
        if any(mime.startswith(WIDGETS) for mime in output.get("data", {})):
            yield index, "a widget, which a page cannot show; print or draw instead"


def outputs_present(nb: NotebookNode, path: Path) -> Found:
    for index, cell in code_cells(nb):
        if is_marked(cell) and not cell.outputs:
            yield index, f"outputs missing where marked {MARKER}; {RUN}"
        elif calls(cell) & SHOWING and not figures(cell.outputs):
            yield index, f"calls {min(calls(cell) & SHOWING)}, but its figure is missing; {RUN}"


def expectations_marked(nb: NotebookNode, path: Path) -> Found:
    for index, cell in code_cells(nb):
        printed = "".join(output.text for output in cell.outputs if output.output_type == "stream")
        expects = calls(cell) & {"expect", "moe.expect"} or re.search(r"^✓ ", printed, re.M)
        if expects and not is_marked(cell):
            yield index, f"moe.expect in a cell that nbval does not compare; make {MARKER} its first line"


def markers_understood(nb: NotebookNode, path: Path) -> Found:
    for index, cell in code_cells(nb):
        for number, line in enumerate(cell.source.splitlines()):
            if "nbval" in line.lower() and (number, line) != (0, MARKER):
                yield index, f"{line.strip()!r}: nbval is told one thing only, {MARKER}, on the first line"


def no_absolute_paths(nb: NotebookNode, path: Path) -> Found:
    repository = str(root_of(path))
    for index, place in [(None, nb.metadata), *enumerate(nb.cells)]:
        for text in strings(place):
            text = re.sub(r"base64,[\w+/=\s]+", "", text)
            if index is not None and nb.cells[index].cell_type == "markdown":
                text = re.sub(r"\$[^$]+\$", "", text)  # in a formula, f:\mathbb{R} is no drive
            match = ABSOLUTE_PATH.search(text)
            if match or repository in text:
                shown = match[0] if match else repository
                yield index, f"{shown[:60]!r} is a path of one machine; use a relative one"
                break


def figures_described(nb: NotebookNode, path: Path) -> Found:
    names = Counter(figure.get("name") for _, cell in code_cells(nb) for figure in figures(cell.outputs))
    for index, output in outputs(nb):
        data = output.get("data", {})
        if FIGURE_MIME in data:
            figure = data[FIGURE_MIME]
            for reason in _flaws(figure, data.get("text/html", ""), names[figure.get("name")]):
                yield index, f"figure {figure.get('name')!r}{reason}"
        elif _is_picture(data):
            yield index, "a picture without alt text; show it with moe.show(fig, name=…, alt=…, caption=…)"


def _flaws(figure: dict, page: str, uses: int) -> list[str]:
    """What a figure lacks, each as the end of a sentence that begins with the figure's name."""
    alt, tol = str(figure.get("alt", "")), figure.get("tol")
    label = re.search(r'<svg\b[^>]*\brole="img"[^>]*\baria-label="([^"]*)"', page)
    spoken = html.unescape(label[1]) if label else None
    flaws = {
        f": {uses} figures have this name; give each its own": not figure.get("name") or uses > 1,
        f": alt text {alt!r} is too short; say what the picture shows": len(alt.strip()) < SHORTEST_ALT,
        f": the aria-label of its picture is not its alt text; {RUN}": spoken != alt,
        " has no caption; say what to look at": not str(figure.get("caption", "")).strip(),
        " has no data that a re-run could be compared with; draw with matplotlib": not figure.get("data"),
        f": tol is {tol!r}; it should be a share of the range, at least 0 and below 1": not (
            isinstance(tol, int | float) and 0 <= tol < 1
        ),
    }
    return [flaw for flaw, there in flaws.items() if there]


def _is_picture(data: dict) -> bool:
    page = data.get("text/html", "")
    return any(mime.startswith("image/") or mime == "application/pdf" for mime in data) or bool(
        re.search(r"<(img|svg|canvas|iframe|object|embed|video)\b", page, re.I)
    )


def fresh(nb: NotebookNode, path: Path) -> Found:
    made = nb.metadata.get("moe")
    if not made:
        yield None, f"nothing says what produced its outputs; {RUN}"
        return
    if made.get("scale") != COMMITTED_SCALE:
        yield None, f"made at scale {made.get('scale')!r}, where {COMMITTED_SCALE!r} is committed; {RUN}"
    if made.get("code") != code_hash(nb, root_of(path)):
        yield None, f"stale: its code, moe_lib or requirements.lock changed since it was run; {RUN}"
    if made.get("outputs") != outputs_hash(nb):
        yield None, f"outputs were edited since it was run; {RUN}"


RULES: list[Rule] = [
    executed_in_order,
    no_errors,
    no_stderr,
    no_widgets,
    outputs_present,
    expectations_marked,
    markers_understood,
    no_absolute_paths,
    figures_described,
    fresh,
]
