"""The figures among a notebook's outputs, and whether two runs drew the same data.

`moe.show` puts the data of a picture beside the picture. Pixels differ with every version of matplotlib and
every font; the data do not, so they are what a re-run is compared by.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator

import numpy as np

FIGURE_MIME = "application/vnd.moe.figure+json"

_ROUNDING = 1e-5  # moe.show keeps 6 significant digits: the last may fall either way
_SMALLEST_SCALE = 1e-12


def figures(outputs: Iterable[dict]) -> list[dict]:
    """The records that `moe.show` left in the outputs of a cell: name, alt, caption, tol, data."""
    return [output["data"][FIGURE_MIME] for output in outputs if FIGURE_MIME in output.get("data", {})]


def differences(committed: list[dict], fresh: list[dict]) -> list[str]:
    """What a re-run drew differently, one line each, naming figure, series, deviation and tolerance.

    The tolerance is the figure's `tol` times the range in which a reader sees a series move: for lines,
    points and areas that of all in their axes, for images that of all in the figure, else its own. Each
    coordinate has its own range, so that a long x axis does not loosen y. What has no range (one dot, a
    level line) is compared relative to its size. Missing values must be missing in both.
    """
    return [*_names(committed, fresh), *_data(committed, fresh)]


def _names(committed: list[dict], fresh: list[dict]) -> Iterator[str]:
    before, now = ([figure["name"] for figure in run] for run in (committed, fresh))
    for name in sorted({*before, *now}):
        if now.count(name) < before.count(name):
            yield f"figure {name!r} is in the committed outputs, but the re-run did not show it"
        elif now.count(name) > before.count(name):
            yield f"figure {name!r} was shown by the re-run, but is not in the committed outputs"


def _data(committed: list[dict], fresh: list[dict]) -> Iterator[str]:
    drawn = {figure["name"]: figure for figure in fresh}
    for figure in committed:
        if figure["name"] not in drawn:
            continue
        other = drawn[figure["name"]]
        tol = min(figure["tol"], other["tol"])
        old, new = figure["data"], other["data"]
        shown = _shown(old)
        for series in sorted({*old, *new}):
            where = f"figure {figure['name']!r}, series {series}"
            if series not in new:
                yield f"{where}: in the committed outputs, but not drawn by the re-run"
            elif series not in old:
                yield f"{where}: drawn by the re-run, but not in the committed outputs"
            elif reason := _deviation(old[series], new[series], tol, shown[_together(series)]):
                yield f"{where}: {reason}"


def _together(series: str) -> str:
    """What has a range in common with a series."""
    axes, _, kind = series.partition("/")
    if kind.startswith("image"):
        return "images"
    return axes if kind.startswith(("line", "points", "area")) else series


def _shown(data: dict[str, list]) -> dict[str, list]:
    """The values that share a range: places of lines, points and areas, pixels of images, the rest alone."""
    shown = defaultdict(list)
    for series, values in data.items():
        flat = _together(series) == "images"
        shown[_together(series)] += [value for row in values for value in row] if flat else values
    return shown


def _deviation(old: list, new: list, tol: float, shown: list) -> str | None:
    """Why two series are not the same within a share of the range of what is shown, or None."""
    try:
        # A missing value, None, becomes NaN.
        old, new, shown = (np.array(values, dtype=float) for values in (old, new, shown))
    except (TypeError, ValueError):
        return None if old == new else "differs, and is not a table of numbers"
    if old.shape != new.shape:
        return f"shape {old.shape} committed, {new.shape} in the re-run"
    if old.size == 0:
        return None
    if (missing := np.isnan(old) != np.isnan(new)).any():
        return f"{missing.sum()} values are missing in one run and present in the other"
    allowed = tol * _scale(shown) + _ROUNDING * np.abs(old)
    with np.errstate(invalid="ignore"):
        deviation = np.abs(np.where(old == new, 0, new - old))  # infinities that agree deviate by nothing
    deviation, allowed = (np.where(np.isnan(old), 0, values) for values in (deviation, allowed))
    excess = deviation - allowed
    if (excess <= 0).all():
        return None
    worst = np.unravel_index(np.argmax(excess), old.shape)
    return (
        f"largest deviation {deviation[worst]:.3g} (committed {old[worst]:.6g}, re-run {new[worst]:.6g}), "
        f"allowed {allowed[worst]:.3g} (tol {tol:g})"
    )


def _scale(values: np.ndarray) -> np.ndarray:
    """The range that a tolerance refers to: of all values, or of each coordinate (column) on its own."""
    along = None if values.ndim < 2 else 0
    finite = np.where(np.isfinite(values), values, np.nan)
    filled = np.where(np.isnan(finite).all(axis=along, keepdims=True), 0, finite)
    extent = np.nanmax(filled, axis=along, keepdims=True) - np.nanmin(filled, axis=along, keepdims=True)
    size = np.nanmax(np.abs(filled), axis=along, keepdims=True)
    return np.maximum(np.where(extent > 0, extent, size), _SMALLEST_SCALE)
