"""Run several chapters at once, each in a worker process, and keep what one makes only if it went well."""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import freshness
import nbformat
import psutil
from progress import Progress
from worker import committed_form, stop_tree

WORKER = Path(__file__).with_name("worker.py")
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)


class Failure(Exception):
    """A chapter did not work out; the message says why in one line."""


@dataclass(frozen=True)
class Job:
    """One chapter at one scale, and where the things it makes will go."""

    path: Path
    root: Path
    scale: str
    parameters: dict | None  # None: the committed run, in place
    device: str
    limit: float | None  # seconds
    code: str  # hash of everything that decides the outputs
    cells: int

    @property
    def name(self) -> str:
        return self.path.stem

    @property
    def folder(self) -> Path:
        return self.root / "_build" / "runs" / self.scale

    @property
    def target(self) -> Path:
        return self.path if self.parameters is None else self.folder / self.path.name

    @property
    def partial(self) -> Path:
        return self.folder / f"{self.name}.partial.ipynb"

    @property
    def results(self) -> Path:
        out = self.root / "book" / "results" if self.parameters is None else Path(self.parameters["out"])
        return out / self.name

    @property
    def run(self) -> dict:
        """What decides whether an earlier run still holds."""
        return {"code": self.code, "parameters": self.parameters, "device": self.device}


@dataclass(frozen=True)
class Outcome:
    """What became of a chapter."""

    name: str
    state: str  # "done", "skipped" or "failed"
    seconds: float = 0.0
    note: str = ""


async def run_all(jobs: list[Job], workers: int | None) -> list[Outcome]:
    """Run the jobs, some at a time. A signal such as Ctrl-C cancels it and stops every worker and kernel."""
    cores = core_count()
    workers = min(workers or max(1, cores // 2), len(jobs))
    threads = max(1, cores // workers)
    slots = asyncio.Semaphore(workers)
    progress = Progress({job.name: job.cells for job in jobs})
    cancel_on_signals()
    ticking = asyncio.create_task(progress.tick())
    base = jobs[0].root / "_build" / "runs"
    base.mkdir(parents=True, exist_ok=True)
    remove_leftovers(base)
    mine = f".work-{os.getpid()}-"
    try:
        with tempfile.TemporaryDirectory(prefix=mine, dir=base, ignore_cleanup_errors=True) as scratch:
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(run_chapter(job, Path(scratch), threads, slots, progress))
                    for job in jobs
                ]
    finally:
        ticking.cancel()
        progress.close()
    return [task.result() for task in tasks]


def remove_leftovers(base: Path) -> None:
    """Remove the work folders of runs that were killed before they could do it themselves."""
    for folder in base.glob(".work-*"):
        owner = folder.name.split("-")[1]
        if not (owner.isdecimal() and psutil.pid_exists(int(owner))):
            shutil.rmtree(folder, ignore_errors=True)


async def run_chapter(
    job: Job, scratch: Path, threads: int, slots: asyncio.Semaphore, progress: Progress
) -> Outcome:
    """Run one chapter as soon as there is a slot; what goes wrong is reported and ends only this chapter."""
    async with slots:
        desk = scratch / job.name  # everything unfinished lies here
        desk.mkdir()
        limit = "no time limit" if job.limit is None else f"limit {job.limit:g} s"
        progress.start(job.name, f"scale {job.scale}, threads {threads}, {limit}")
        started = time.monotonic()
        source = job.path.read_bytes()
        try:
            with results_only_if_done(job):
                seconds = await execute(job, desk, kernel_environment(job, desk, threads), progress)
                publish(job, desk / job.path.name, source, seconds)
        except (Failure, OSError, freshness.UnreadableNotebook) as error:
            progress.say(f"{job.name}: {error}")
            state, note = "failed", keep_partial(job, desk / job.path.name)
        else:
            state, note = "done", ""
        progress.finish(job.name, state)
        return Outcome(job.name, state, time.monotonic() - started, note)


async def execute(job: Job, desk: Path, environment: dict[str, str], progress: Progress) -> float:
    """Have a worker run the chapter and follow its events; the seconds it took."""
    order = {
        "source": str(job.path),
        "copy": str(desk / job.path.name),
        "cwd": str(job.root / "book"),  # so that out = "results" means book/results
        "parameters": job.parameters,
    }
    log = desk / "log.txt"
    pipe = asyncio.subprocess.PIPE
    with log.open("wb") as stderr:
        worker = await asyncio.create_subprocess_exec(
            sys.executable, str(WORKER), stdin=pipe, stdout=pipe, stderr=stderr, env=environment,
            start_new_session=True,  # a Ctrl-C at the terminal reaches run.py only, and that ends the rest
        )  # fmt: skip
    place = "start-up"
    try:
        worker.stdin.write(json.dumps(order).encode() + b"\n")
        async with asyncio.timeout(job.limit):
            async for line in worker.stdout:
                event = json.loads(line)
                if "done" in event:
                    return event["done"]
                if "failed" in event:
                    raise Failure(f"{place}: {event['failed']}")
                place = f"cell {event['cell']}" + (f" (`{event['line']}`)" if event["line"] else "")
                progress.reach(job.name, event["cell"])
    except TimeoutError:
        raise Failure(f"ran past its limit of {job.limit:g} s in {place}; --limit sets another") from None
    finally:
        if worker.returncode is None:
            stop_tree(worker.pid)
        await worker.wait()
    last_words = (log.read_text(errors="replace").strip().splitlines() or ["it said nothing"])[-1]
    raise Failure(f"{place}: its worker ended with status {worker.returncode} ({last_words})")


def publish(job: Job, executed: Path, source: bytes, seconds: float) -> None:
    """Clean the executed notebook, stamp it and put it in its place, unless the sources changed meanwhile."""
    if job.path.read_bytes() != source:
        raise Failure("was edited while it ran, so its outputs were not kept; run it again")
    nb = committed_form(freshness.read(executed))
    freshness.stamp(nb, scale=job.scale, device=job.device, seconds=seconds, root=job.root)
    if nb.metadata["moe"]["code"] != job.code:
        raise Failure("moe_lib or the lock changed while it ran, so its outputs were not kept; run it again")
    if job.parameters is not None:
        nb.metadata["moe"]["run"] = job.run
    write_atomic(job.target, (nbformat.writes(nb) + "\n").encode())
    job.partial.unlink(missing_ok=True)


def keep_partial(job: Job, executed: Path) -> str:
    """Keep what a failed chapter got done; a note that says where."""
    try:
        nb = committed_form(freshness.read(executed))
    except freshness.UnreadableNotebook:
        return "nothing was run"
    try:
        write_atomic(job.partial, (nbformat.writes(nb) + "\n").encode())
    except OSError as error:
        return f"nothing was kept: {error}"
    return f"see {job.partial.relative_to(job.root)}"


@contextlib.contextmanager
def results_only_if_done(job: Job) -> Iterator[None]:
    """Put the chapter's results back as they were if it does not end well: they belong to the notebook."""

    def files() -> set[Path]:
        return {path for path in job.results.glob(f"*{job.scale}*") if path.is_file()}  # unfinished ones, too

    before = {path: path.read_bytes() for path in files()}
    existed = job.results.exists()
    try:
        yield
    except BaseException:
        for path in files() - set(before):
            path.unlink()
        for path, content in before.items():
            if not path.exists() or path.read_bytes() != content:
                write_atomic(path, content)
        if not existed:
            with contextlib.suppress(OSError):  # it may hold something else by now
                job.results.rmdir()
        raise


def kernel_environment(job: Job, desk: Path, threads: int) -> dict[str, str]:
    """What worker and kernel see: their share of the cores, nothing of the user's own Jupyter set-up."""
    environment = os.environ | dict.fromkeys(THREAD_VARIABLES, str(threads)) | {
        # Threads that always spin while they wait make a busy machine five times slower; ones that never do,
        # an idle one twice.
        "GOMP_SPINCOUNT": "10000",
        "TQDM_DISABLE": "1",
        "PYTHONHASHSEED": "0",
        "IPYTHONDIR": str(desk / "ipython"),  # start-up files must not leak into outputs
        "JUPYTER_RUNTIME_DIR": str(desk / "jupyter"),
        "JUPYTER_PREFER_ENV_PATH": "1",  # this environment's kernel, not one of the same name at home
    }  # fmt: skip
    if job.device == "cpu":
        environment |= {"CUDA_VISIBLE_DEVICES": "", "MOE_DEVICE": "cpu"}
    # This root's library goes first, as its hash gets stamped; an editable install means the same files.
    paths = [str(job.root), *filter(None, [os.environ.get("PYTHONPATH")])]
    return environment | {"PYTHONPATH": os.pathsep.join(paths)}


def write_atomic(path: Path, content: bytes) -> None:
    """Write a file so that at any instant the old content or the new one is there, also after a power cut."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with unfinished.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def cancel_on_signals() -> None:
    """Let signals cancel the running task, once: a second Ctrl-C must not cut the cleaning-up short."""
    task = asyncio.current_task()

    def stop() -> None:
        if not task.cancelling():
            task.cancel()

    with contextlib.suppress(AttributeError, NotImplementedError):  # on Windows asyncio itself handles Ctrl-C
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:  # nohup wants it ignored
                asyncio.get_running_loop().add_signal_handler(number, stop)


def core_count() -> int:
    """The cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
