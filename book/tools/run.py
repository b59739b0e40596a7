"""Run chapters through papermill: the runner behind `make notebooks` and `make gpu`.

    python book/tools/run.py                       all chapters that are out of date, at pocket scale
    python book/tools/run.py 00 03 --force         these two, also where nothing has changed
    python book/tools/run.py --scale smoke         does every cell run? seconds per chapter
    python book/tools/run.py 04 --scale gpu --device cuda --seeds 10
    python book/tools/run.py --list                which chapters there are and which are up to date

A pocket run without --device, --seeds and --out is the committed run: on the CPU, with the parameters that
stand in the notebook; its outputs replace those in chapters/. Any other run gets its parameters injected and
goes to _build/runs/<scale>/. Its numbers go to book/results/ at the scales gpu and paper, else to
_build/runs/<scale>/results/. A chapter that fails leaves a .partial.ipynb in _build/runs/<scale>/.

Exit status: 0 all done or up to date, 1 a chapter failed, 2 bad arguments, 130 interrupted.
"""

import argparse
import asyncio
import sys
from pathlib import Path

import freshness
import locked
import nbformat
from runner import Failure, Job, Outcome, run_all

BUDGETS = {"smoke": 20, "pocket": 180, "gpu": 20 * 60, "paper": None}  # seconds per chapter
GRACE = 3  # a limit is there for what hangs; a slow or busy machine may well take three times the budget
SMOKE_SEEDS = 2  # the fewest that have a spread
DEVICES = ("auto", "cpu", "cuda", "mps")


def main(arguments: list[str] | None = None) -> int:
    parser = make_parser()
    options = parser.parse_args(arguments)
    try:
        check_options(options)
        paths = choose(options.chapters, freshness.chapters(options.root))
        device = resolve_device(options)
    except ValueError as error:
        parser.error(str(error))
    if options.scale == "gpu" and device == "cpu" and not options.list:
        print("warning: there is no GPU in use; gpu scale takes hours on a CPU", file=sys.stderr)
    jobs, outcomes = sort_out(paths, device, options)
    if not options.list:
        if jobs and is_committed_run(options) and (difference := locked.first_difference(options.root)):
            print(f"run.py: {difference}; run `make setup`, then `make notebooks`", file=sys.stderr)
            return 1
        try:
            outcomes += asyncio.run(run_all(jobs, options.jobs)) if jobs else []
        except OSError as error:
            where = f"{error.filename}: {error.strerror}" if error.filename else error
            print(f"run.py: {where}", file=sys.stderr)
            return 1
        except (asyncio.CancelledError, KeyboardInterrupt):
            print("interrupted: nothing of the chapters that were running was kept", file=sys.stderr)
            return 130
        summarise(outcomes)
    return int(any(outcome.state == "failed" for outcome in outcomes))


def sort_out(paths: list[Path], device: str, options: argparse.Namespace) -> tuple[list[Job], list[Outcome]]:
    """What has to run, and what became of the chapters that have not: skipped, or failed as they cannot."""
    jobs, outcomes = [], []
    for path in paths:
        try:
            job = plan(path, device, options)
            fresh = is_up_to_date(job)
        except (Failure, freshness.UnreadableNotebook) as error:
            print(f"{path.stem}: {error}", file=sys.stderr)
            outcomes.append(Outcome(path.stem, "failed", note="could not start"))
            continue
        if options.list:
            print(f"{job.name:<28} {'up to date' if fresh else 'to run'}")
        if fresh and not options.force:
            outcomes.append(Outcome(job.name, "skipped", note=f"up to date at scale {job.scale}"))
        else:
            jobs.append(job)
    return jobs, outcomes


def plan(path: Path, device: str, options: argparse.Namespace) -> Job:
    """How this chapter is to run."""
    nb = freshness.read(path)
    if not any(c.cell_type == "code" and "parameters" in c.metadata.get("tags", []) for c in nb.cells):
        raise Failure("no code cell is tagged `parameters`; tag the one that sets scale, device, seeds, out")
    scales = nb.metadata.get("moe_scales", list(BUDGETS))
    if not isinstance(scales, list) or not set(map(str, scales)) <= set(BUDGETS):
        raise Failure(f"metadata moe_scales is {scales!r}; it should be a list from {', '.join(BUDGETS)}")
    if options.scale not in scales:
        raise Failure(f"has no scale {options.scale!r}; possible: {', '.join(scales)}")
    return Job(
        path=path,
        root=options.root,
        scale=options.scale,
        parameters=None if is_committed_run(options) else injected_parameters(options),
        device=device,
        limit=time_limit(nb, device, options),
        code=freshness.code_hash(nb, options.root),
        cells=len(nb.cells),
    )


def is_up_to_date(job: Job) -> bool:
    """Whether an earlier run with the same code and parameters is still there."""
    if job.parameters is None:
        return freshness.is_fresh(freshness.read(job.path), job.root)
    try:
        return freshness.read(job.target).metadata.get("moe", {}).get("run") == job.run
    except freshness.UnreadableNotebook:
        return False


def is_committed_run(options: argparse.Namespace) -> bool:
    """Whether this is the run whose outputs the repository keeps."""
    overridden = (options.device, options.seeds, options.out) != (None, None, None)
    return options.scale == freshness.COMMITTED_SCALE and not overridden


def injected_parameters(options: argparse.Namespace) -> dict:
    """What replaces the values in the parameters cell; seeds only where the chapter does not decide."""
    for_the_book = options.scale in ("gpu", "paper")
    usual = "book/results" if for_the_book else f"_build/runs/{options.scale}/results"
    out = options.out or options.root / usual
    seeds = options.seeds or (SMOKE_SEEDS if options.scale == "smoke" else None)
    values = {"scale": options.scale, "device": options.device or "auto", "out": str(out.resolve())}
    return values | ({"seeds": seeds} if seeds else {})


def time_limit(nb: nbformat.NotebookNode, device: str, options: argparse.Namespace) -> float | None:
    """Seconds this chapter may take: --limit, its own `moe_limits`, or the scale's budget with some grace."""
    if options.limit:
        return options.limit
    if options.scale == "gpu" and device == "cpu":
        return None
    own = nb.metadata.get("moe_limits", {}).get(options.scale)
    if own is not None and not (isinstance(own, int | float) and own > 0):
        raise Failure(f"metadata moe_limits.{options.scale} is {own!r}; it should be a number of seconds")
    budget = BUDGETS[options.scale]
    return own or (budget and budget * GRACE)


def choose(names: list[str], chapters: list[Path]) -> list[Path]:
    """The chapters meant by names, starts of names or paths; all of them if there are none."""
    if not chapters:
        raise ValueError("there are no chapters: chapters/ has no notebook in it")
    chosen = set()
    for name in names:
        found = [path for path in chapters if name == path.stem or Path(name).resolve() == path.resolve()]
        found = found or [path for path in chapters if name and path.stem.startswith(name)]
        if len(found) != 1:
            wrong = f"{name!r} is not unique; it could be" if found else f"no chapter {name!r}; there are"
            raise ValueError(f"{wrong}: {', '.join(path.stem for path in found or chapters)}")
        chosen.update(found)
    return [path for path in chapters if path in chosen or not names]


def resolve_device(options: argparse.Namespace) -> str:
    """Where the chapters will run. torch is asked only where that matters: importing it takes seconds."""
    asked = options.device or "auto"
    if is_committed_run(options) or asked == "cpu":
        return "cpu"
    if asked == "auto" and options.scale in ("smoke", "pocket"):
        return "auto"
    import torch

    present = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    possible = [name for name, there in present.items() if there]
    if asked != "auto" and asked not in possible:
        raise ValueError(
            f"--device {asked}: there is none on this machine; possible: auto, {', '.join(possible)}"
        )
    return possible[0] if asked == "auto" else asked


def summarise(outcomes: list[Outcome]) -> None:
    print()
    for outcome in sorted(outcomes, key=lambda outcome: outcome.name):
        print(f"{outcome.state:<8} {outcome.name:<28} {outcome.seconds:7.1f} s  {outcome.note}".rstrip())
    states = [outcome.state for outcome in outcomes]
    print(", ".join(f"{states.count(state)} {state}" for state in ("done", "skipped", "failed")))


class OneLineParser(argparse.ArgumentParser):
    """Says what is wrong without the usage in front of it."""

    def error(self, message: str) -> None:
        self.exit(2, f"{self.prog}: {message}\n")


def make_parser() -> argparse.ArgumentParser:
    as_written = argparse.RawDescriptionHelpFormatter
    parser = OneLineParser(prog="run.py", description=__doc__, formatter_class=as_written, allow_abbrev=False)
    budgets = ", ".join(f"{scale} {budget * GRACE} s" for scale, budget in BUDGETS.items() if budget)
    add = parser.add_argument
    add("chapters", nargs="*", metavar="CHAPTER", help="name, start of a name (00) or path; default: all")
    add("--scale", default=freshness.COMMITTED_SCALE, help=f"{', '.join(BUDGETS)}; default: %(default)s")
    add("--device", help=f"{', '.join(DEVICES)}; default: cpu for the committed run, else auto")
    add(
        "--seeds",
        type=int,
        metavar="N",
        help=f"repetitions; default: smoke {SMOKE_SEEDS}, else the chapter's",
    )
    add("--out", type=Path, metavar="DIR", help="folder for the numbers; default: as said above")
    add("--jobs", type=int, metavar="N", help="chapters at a time; default: half as many as there are cores")
    add("--limit", type=float, metavar="SECONDS", help=f"limit per chapter; default: {budgets}, paper none")
    add("--force", action="store_true", help="run also what is up to date")
    add("--list", action="store_true", help="run nothing, say what is up to date at this scale")
    add("--root", type=Path, default=freshness.ROOT, help=argparse.SUPPRESS)  # for the tests
    return parser


def check_options(options: argparse.Namespace) -> None:
    """Refuse what cannot be meant, and say what could."""
    options.root = options.root.resolve()
    if options.scale not in BUDGETS:
        raise ValueError(f"unknown scale {options.scale!r}; possible: {', '.join(BUDGETS)}")
    if options.device not in (None, *DEVICES):
        raise ValueError(f"unknown device {options.device!r}; possible: {', '.join(DEVICES)}")
    for name, least in (("seeds", "at least 1"), ("jobs", "at least 1"), ("limit", "more than 0")):
        value = getattr(options, name)
        if value is not None and not value > 0:
            raise ValueError(f"--{name} {value:g}: it must be {least}")


if __name__ == "__main__":
    sys.exit(main())
