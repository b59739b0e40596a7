"""The folder of a run: a run that was stopped goes on, and none is overwritten or mixed with another."""

import json
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from moe_lib.states import written_whole

ASKED = "run.json"


def check(out: Path, asked: Mapping[str, Any], *, made: Iterable[str], force: bool) -> None:
    """An error where a run would be overwritten, or mixed with another.

    Args:
        asked: What the run is asked for, as JSON can say it.
        made: Names of the files and folders that it makes, the one last that says that it is done.
        force: Remove what an earlier run made, and nothing else, instead.
    """
    made = list(made)
    if force:
        for path in (out / name for name in (*made, ASKED)):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        return
    if (out / made[-1]).exists():
        raise FileExistsError(f"{out} has a finished run; another folder, or --force to begin anew")
    if not (out / ASKED).exists():
        if out.exists() and any(out.iterdir()):
            raise FileExistsError(f"{out} is not empty, and has no run to go on with; name another folder")
        return
    before = json.loads((out / ASKED).read_text(encoding="utf-8"))
    now = json.loads(json.dumps(asked))
    if other := [name for name in now if now[name] != before.get(name)]:
        name = other[0]
        raise FileExistsError(
            f"in {out} lies a run with {name}={before.get(name)!r}, and {now[name]!r} is asked for; another "
            f"folder, or --force to begin anew"
        )


def note(out: Path, asked: Mapping[str, Any]) -> None:
    """Write down what the run is asked for."""
    with written_whole(out / ASKED) as unfinished:
        unfinished.write_text(json.dumps(asked, indent=2) + "\n", encoding="utf-8")
