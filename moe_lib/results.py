"""Numbers behind figures and verdicts, written with everything needed to make them again."""

import json
import math
import os
import platform
import re
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

import torch

from moe_lib.stats import mean_interval

_STARTED = time.perf_counter()  # a chapter imports the library in its first cells


def environment(device: str | torch.device = "cpu") -> dict:
    """What a run was made with: versions, machine, device, threads, commit, date.

    A copy of the library outside any checkout has no commit of its own; it takes the one that the environment
    variable ``MOE_COMMIT`` names.

    Introduced in :doc:`/chapters/00_larger_scale`.
    """
    device = torch.device(device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    return {
        "python": platform.python_version(),
        **{package: metadata.version(package) for package in ("torch", "numpy", "moe_lib")},
        "platform": f"{platform.system()} {platform.machine()}",
        "device": f"{device.type} ({name})",
        "threads": torch.get_num_threads(),
        "commit": _commit(),
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
    }


def save_results(
    out: str | Path,
    *,
    chapter: str,
    scale: str,
    seeds: int,
    quantities: Mapping[str, Mapping[str, float]],
    device: str | torch.device = "cpu",
) -> Path:
    """Write a chapter's numbers to ``<out>/<chapter>/<scale>.json`` and return the path.

    Args:
        out: The folder of results, a chapter's ``out`` parameter.
        chapter: Name of the notebook without its ending.
        scale: The scale of the run.
        seeds: How many seeds the numbers rest on.
        quantities: Name → ``{"estimate": …, "low": …, "high": …}``; the book's claims refer to these names.
        device: Where it ran.

    Introduced in :doc:`/chapters/00_larger_scale`.
    """
    for name, quantity in quantities.items():
        missing = {"estimate", "low", "high"} - set(quantity)
        if missing:
            raise ValueError(
                f"quantity {name!r} lacks {', '.join(sorted(missing))}; it has {', '.join(quantity)}"
            )
        for key, number in quantity.items():
            if not math.isfinite(number):  # JSON has no word for it, and no verdict can be drawn from it
                raise ValueError(f"quantity {name!r}: {key} is {number!r}; it should be a finite number")
    record = {
        "chapter": chapter,
        "scale": scale,
        "seeds": seeds,
        "seconds": round(time.perf_counter() - _STARTED, 1),
        "quantities": {
            name: {key: float(f"{number:.6g}") for key, number in quantity.items()}
            for name, quantity in quantities.items()
        },
        "environment": environment(device),
    }
    path = Path(out) / chapter / f"{scale}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(f".{os.getpid()}.tmp")
    try:
        unfinished.write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        unfinished.replace(path)  # a killed run leaves the old numbers or the new ones, never half of them
    finally:
        unfinished.unlink(missing_ok=True)
    return path


def load_results(out: str | Path, *, chapter: str, scale: str) -> dict | None:
    """The numbers that an earlier run wrote, or ``None`` where there was no such run.

    Introduced in :doc:`/chapters/00_larger_scale`.
    """
    path = Path(out) / chapter / f"{scale}.json"
    if not path.exists():
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: not JSON ({error})") from None


def kept_results(chapter: str, scale: str = "gpu") -> dict | None:
    """The numbers that the book keeps of a larger run, or ``None``: of such a run, or of the book itself.

    Introduced in :doc:`/chapters/02_small_changes`.
    """
    return load_results(Path(__file__).parents[1] / "book" / "results", chapter=chapter, scale=scale)


def quantity(values: Sequence[float]) -> dict[str, float]:
    """Runs with several seeds as :func:`save_results` takes them: mean, interval, and each value.

    Introduced in :doc:`/chapters/02_small_changes`.
    """
    return mean_interval(values) | {f"seed {i}": float(value) for i, value in enumerate(values)}


def seed_values(quantity: Mapping[str, float]) -> list[float]:
    """The values of the seeds, out of what :func:`quantity` made.

    Introduced in :doc:`/chapters/02_small_changes`.
    """
    return [value for key, value in quantity.items() if key.startswith("seed ")]


def tried(results: Mapping, name: str, rates: Sequence[float], best: Callable = max) -> tuple[float, str]:
    """The best of the learning rates that ``book/tools/rates.py`` scored for a method, and a line about all.

    Introduced in :doc:`/chapters/02_small_changes`.
    """
    scores = {rate: results["quantities"][f"{name} {rate:g}"]["estimate"] for rate in rates}
    won = best(scores, key=scores.get)
    words = (f"{rate:g}:\N{NO-BREAK SPACE}{score:.3f}" for rate, score in scores.items())
    return won, " · ".join(f"**{w}**" if rate == won else w for rate, w in zip(scores, words, strict=True))


def _commit() -> str | None:
    """The commit of the checkout this runs in, marked where the library differs from it.

    Outside a checkout it is what ``MOE_COMMIT`` says, or None. A chapter's own code is not asked about: its
    outputs carry the hash of that.
    """
    here = Path(__file__).resolve().parent

    def git(*arguments: str) -> str:
        command = ["git", *arguments]
        return subprocess.run(
            command, cwd=here, capture_output=True, text=True, timeout=10, check=True
        ).stdout.strip()

    try:
        commit = git("rev-parse", "--short=12", "HEAD")
        changed = git("status", "--porcelain", "--", ".", "../requirements.lock")
    except (OSError, subprocess.SubprocessError):
        return _stated_commit()
    return f"{commit}-dirty" if changed else commit


def _stated_commit() -> str | None:
    stated = os.environ.get("MOE_COMMIT")
    if not stated:
        return None
    if not re.fullmatch(r"[0-9a-f]{12,40}(-dirty)?", stated):
        raise ValueError(f"MOE_COMMIT is {stated!r}; it should be a commit, 12 to 40 hexadecimal digits")
    return stated[:12] + "-dirty" * stated.endswith("-dirty")
