"""Show how far the chapters are: a bar for each on a terminal, a line per start and finish anywhere else."""

import asyncio
import shutil
import sys
import time

from tqdm import tqdm

BAR = "{desc:<28} |{bar:30}| {n_fmt}/{total_fmt} cells{postfix}"


class Progress:
    """Counts the cells of several chapters that run at once.

    Args:
        cells: Name of a chapter → how many cells it has.
    """

    def __init__(self, cells: dict[str, int]) -> None:
        self.cells = cells
        self.started: dict[str, float] = {}
        self.bars: dict[str, tqdm] = {}
        if sys.stderr.isatty():
            width, height = shutil.get_terminal_size()
            shape = {"bar_format": BAR, "ncols": width, "nrows": height, "file": sys.stderr}
            for row, (name, total) in enumerate(cells.items()):
                self.bars[name] = tqdm(total=total, desc=name, position=row, **shape)

    def start(self, name: str, detail: str) -> None:
        self.started[name] = time.monotonic()
        if not self.bars:
            print(f"start    {name} ({detail})", flush=True)

    def reach(self, name: str, cell: int) -> None:
        """All cells before this one are done."""
        if self.bars:
            self.bars[name].n = cell
            self._refresh(name)

    def finish(self, name: str, state: str) -> None:
        seconds = time.monotonic() - self.started.pop(name)
        total = self.cells[name]
        if self.bars:
            self.bars[name].n = total if state == "done" else self.bars[name].n
            self.bars[name].set_postfix_str(f"{seconds:.1f} s, {state}")
        else:
            cells = f", {total}/{total} cells" if state == "done" else ""
            print(f"{state:<8} {name} ({seconds:.1f} s{cells})", flush=True)

    def say(self, message: str) -> None:
        """A line on standard error that leaves the bars whole."""
        tqdm.write(message, file=sys.stderr)

    async def tick(self) -> None:
        """Keep the seconds running while a cell takes its time."""
        while self.bars:
            for name in self.started:
                self._refresh(name)
            await asyncio.sleep(1)

    def close(self) -> None:
        for bar in self.bars.values():
            bar.close()

    def _refresh(self, name: str) -> None:
        self.bars[name].set_postfix_str(f"{time.monotonic() - self.started[name]:.0f} s")
