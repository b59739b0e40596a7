"""Build the HTML of the book from the committed notebooks and say where to open it.

    python book/tools/build.py            -> _build/html/index.html

Warnings are errors, and unresolved references are warnings. Nothing is executed here: the notebooks carry
their outputs.
"""

import argparse
import re
import shutil
import subprocess
import sys
from pathlib import Path

import scorecard
from freshness import ROOT, UnreadableNotebook, chapters, read


def build(root: Path = ROOT) -> Path:
    """Build the book and return its first page; raises SystemExit with one line where it cannot."""
    try:
        for path in chapters(root):
            read(path)
        scorecard.write(root)
    except (UnreadableNotebook, ValueError) as error:
        raise SystemExit(f"The book was not built: {error}") from None
    jupyter_book = shutil.which("jupyter-book", path=Path(sys.executable).parent)
    command = [jupyter_book, "build", "-W", "-n", "--keep-going", "-q", str(root)]
    finished = subprocess.run(command, cwd=root, capture_output=True, text=True)
    if finished.returncode:
        # A page that warned is remembered as read; without its memory the next build warns again.
        shutil.rmtree(root / "_build" / ".doctrees", ignore_errors=True)
        raise SystemExit(_explain(finished.stdout + finished.stderr, root))
    return root / "_build" / "html" / "index.html"


def _explain(output: str, root: Path) -> str:
    output = re.sub(r"\x1b\[[0-9;]*m", "", output).replace(f"{root}/", "")
    problems = list(dict.fromkeys(re.findall(r"^.*(?:WARNING|ERROR): .*$", output, flags=re.M)))
    if not problems:
        return f"The book was not built. What Jupyter Book said:\n{output.strip()}"
    return "\n".join([f"The book was not built: {len(problems)} problem(s).", *problems])


def main() -> None:
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    print("Building the book …", flush=True)
    print(f"Done. Open {build().as_uri()}")


if __name__ == "__main__":
    main()
