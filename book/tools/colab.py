"""Carry the repository's address from `_config.yml` to every place that needs it.

    python book/tools/colab.py            write it: first cells, README, CITATION.cff, pyproject.toml
    python book/tools/colab.py --check    only say where it is not right; exit status 1 if anywhere

The first cell of a chapter installs `moe_lib` on Colab and does nothing anywhere else. It names no version
of torch or numpy, and `moe_lib` asks for lower bounds only, so pip leaves Colab's own as they are.
"""

import argparse
import copy
import re
import sys
import tomllib
from pathlib import Path

import nbformat
import yaml
from freshness import ROOT, UnreadableNotebook, chapters, read

COLAB_TAGS = ["colab", "remove-cell"]
FILES = ["README.md", "CITATION.cff", "pyproject.toml"]


def repository_url(root: Path = ROOT) -> str:
    """The address of the repository, from the only file that states it."""
    config = yaml.safe_load((Path(root) / "_config.yml").read_text(encoding="utf-8"))
    url = str(((config or {}).get("repository") or {}).get("url", "")).rstrip("/")
    if not re.fullmatch(r"https://[\w.-]+/[\w.-]+/[\w.-]+", url):
        raise SystemExit(
            f"_config.yml: repository.url is {url!r}; it should look like https://github.com/owner/name"
        )
    return url


def colab_cell(root: Path = ROOT) -> str:
    """The source of the first cell of every chapter."""
    return (
        "import sys\n"
        "\n"
        'if "google.colab" in sys.modules:  # elsewhere it is installed already\n'
        f'    %pip install -q "moe_lib @ git+{repository_url(root)}"'
    )


def with_colab_cell(nb: nbformat.NotebookNode, root: Path = ROOT) -> nbformat.NotebookNode:
    """Put the Colab cell first, replacing the one that is there."""
    if not nb.cells or "colab" not in nb.cells[0].metadata.get("tags", []):
        nb.cells.insert(0, nbformat.v4.new_code_cell())
    nb.cells[0].source = colab_cell(root)
    nb.cells[0].metadata["tags"] = list(COLAB_TAGS)
    return nb


def written_url(root: Path = ROOT) -> str:
    """The address that was last carried over: pyproject.toml remembers it."""
    project = tomllib.loads((Path(root) / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return project["urls"]["Repository"]


def _whole(url: str) -> re.Pattern:
    """The address itself, not the beginning of a longer one."""
    return re.compile(re.escape(url) + r"(?![\w-])")


def main(arguments: list[str] | None = None, root: Path = ROOT) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="change nothing, report what is out of step")
    check = parser.parse_args(arguments).check
    wrong = []
    for path in chapters(root):
        try:
            before = read(path)
        except UnreadableNotebook as error:
            raise SystemExit(str(error)) from None
        after = with_colab_cell(copy.deepcopy(before), root)
        if before != after:
            wrong.append(path)
            if not check:
                nbformat.write(after, path)
    old, new = written_url(root), repository_url(root)
    for path in (root / name for name in FILES if (root / name).exists()):
        text = path.read_text(encoding="utf-8")
        carried = _whole(old).sub(new, text)
        if not _whole(new).search(carried):
            raise SystemExit(
                f"{path.name}: does not carry {new}, nor the address before it; write it in by hand"
            )
        if carried != text:
            wrong.append(path)
            if not check:
                path.write_text(carried, encoding="utf-8")
    for path in wrong:
        print(f"{path.relative_to(root)}: {'does not carry' if check else 'now carries'} {new}")
    return int(check and bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
