"""What the domains build their scenes from: a stack of layers, colours, blobs and lines."""

import numpy as np

from moe_lib.worlds import layers, outlines
from moe_lib.worlds.draws import Draws


class Stack:
    """The layers of a scene, gathered from the back to the front."""

    def __init__(self):
        self.rows: list[np.ndarray] = []
        self.strokes: list[np.ndarray] = []
        self._drawn = 0

    def add(self, count: int = 1, **values) -> None:
        """So many layers; each value is one for all, or one for each of them."""
        rows = np.repeat(layers.layer()[None], count)
        for name, value in values.items():
            rows[name] = value
        self.rows.append(rows)

    def draw(self, strokes: np.ndarray, **values) -> None:
        """One layer, the union of these strokes."""
        start, self._drawn = self._drawn, self._drawn + len(strokes)
        self.strokes.append(strokes)
        self.add(strokes=(start, self._drawn), **values)

    def scene(self, **settings) -> layers.Scene:
        rows, strokes = layers.joined(self.rows, layers.LAYER), layers.joined(self.strokes, layers.STROKE)
        return layers.Scene(rows, strokes=strokes, **settings)


def linear(*colour: float) -> np.ndarray:
    """The radiance that the camera shows as this colour, 0 to 1."""
    return np.asarray(colour, float) ** 2.2


def heading(angle: float | np.ndarray) -> np.ndarray:
    """The unit vector of an angle, clockwise from the right; ``(…, 2)``."""
    return np.stack([np.cos(angle), np.sin(angle)], -1)


def blobs(draws: Draws, count: int, rough: float, waves: int = 5) -> np.ndarray:
    """Irregular outlines, the finer a bump the smaller; ``(count, STEPS)``."""
    sizes = rough * draws.uniform(-1, 1, (count, waves)) / np.arange(1, waves + 1)
    return outlines.blob(sizes, draws.uniform(0, 2 * np.pi, (count, waves)))


def noise_at(draws: Draws, scale: float) -> dict:
    """Where a layer looks into the noise: this share of it spans the canvas, turned at random."""
    cos, sin = scale * heading(draws.uniform(0, 2 * np.pi))
    return {"speckle": (cos, -sin, sin, cos), "shift": draws.uniform(0, 1, 2)}


def line(points: np.ndarray, widths: np.ndarray) -> np.ndarray:
    """Strokes through points ``(K, 2)`` with these half widths at the points, ``(K,)``."""
    return segments(points[:-1], points[1:], widths[:-1], widths[1:])


def segments(start: np.ndarray, end: np.ndarray, first, last=None) -> np.ndarray:
    """Strokes from ``start`` to ``end``, ``(K, 2)`` each, with these half widths at their ends."""
    strokes = np.empty(len(start), layers.STROKE)
    strokes["start"], strokes["end"] = start, end
    strokes["width"][:, 0], strokes["width"][:, 1] = first, first if last is None else last
    return strokes
