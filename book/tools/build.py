"""Build the HTML of the book from the committed notebooks and say where to open it.

    python book/tools/build.py            -> _build/html/index.html

Warnings are errors, and unresolved references are warnings. Nothing is executed here: the notebooks carry
their outputs.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from freshness import ROOT, UnreadableNotebook, chapters, read
from tqdm import tqdm

try:
    import difficulty_table
    import scorecard
except ModuleNotFoundError as error:
    missing = error.name.partition(".")[0]
    sys.exit(f"The book was not built: {missing} is not installed: pip install -e . or make setup")


def build(root: Path = ROOT) -> Path:
    """Build the book and return its first page; raises SystemExit with one line where it cannot."""
    try:
        return _build(root)
    except OSError as error:
        where = f"{error.filename}: {error.strerror}" if error.filename else error
        raise SystemExit(f"The book was not built: {where}") from None


def _build(root: Path) -> Path:
    try:
        for path in chapters(root):
            read(path)
        scorecard.write(root)
        difficulty_table.write(root)
    except (UnreadableNotebook, ValueError) as error:
        raise SystemExit(f"The book was not built: {error}") from None
    status, said = run_jupyter_book(root)
    if status:
        # A page that warned is remembered as read; without its memory the next build warns again.
        shutil.rmtree(root / "_build" / ".doctrees", ignore_errors=True)
        raise SystemExit(_explain(said, root))
    # Sphinx copies static files only when some page has changed.
    html = root / "_build" / "html"
    shutil.copytree(root / "book" / "_static", html / "_static", dirs_exist_ok=True)
    return html / "index.html"


def run_jupyter_book(root: Path) -> tuple[int, str]:
    """Run Jupyter Book with a progress bar; its exit status, and all that it said."""
    program = shutil.which("jupyter-book", path=Path(sys.executable).parent)
    if not program:
        raise SystemExit(f"The book was not built: {sys.executable} has no Jupyter Book; run `make setup`")
    process = subprocess.Popen(
        [program, "build", "-W", "-n", "--keep-going", str(root)],
        cwd=root,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
    )
    said = []
    shape = "{desc} |{bar:30}| {elapsed}"
    with tqdm(total=200, desc="Building the book", bar_format=shape, disable=None, leave=False) as bar:
        for line in process.stdout:
            said.append(line)
            if match := re.search(r"(reading|writing).*\[ *(\d+)%\]", line):
                bar.n = int(match[2]) + (100 if match[1] == "writing" else 0)
                bar.refresh()
    return process.wait(), "".join(said)


def _explain(output: str, root: Path) -> str:
    output = re.sub(r"\x1b\[[0-9;]*m", "", output).replace(f"{root}/", "")
    problems = list(dict.fromkeys(re.findall(r"^.*(?:WARNING|ERROR): .*$", output, flags=re.M)))
    if refused := re.findall(r"(?:Permission|OS)Error: \[Errno -?\d+\] (.+): '(.+)'$", output, flags=re.M):
        return f"The book was not built: {refused[-1][1]}: {refused[-1][0]}"
    if not problems:
        last_words = "\n".join(output.strip().splitlines()[-20:])
        return f"The book was not built. The last that Jupyter Book said:\n{last_words}"
    return "\n".join([f"The book was not built: {len(problems)} problem(s).", *problems])


def main() -> None:
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    if not sys.stderr.isatty():
        print("Building the book …", flush=True)
    print(f"Done. Open {build().as_uri()}")


if __name__ == "__main__":
    main()
