"""Silhouettes: a closed outline around the origin, as a table of how far it reaches in each direction.

Directions are counted by a *pseudo-angle* in [0, 4): a quarter turn is 1, and within a quarter the angle
grows with |y| / (|x| + |y|). Like the length |x| + |y| that goes with it, it needs no trigonometric function,
so torch finds the same pixels inside on every device. A table holds that length at ``STEPS`` pseudo-angles.
"""

from collections.abc import Callable

import numpy as np

STEPS = 128

Outline = np.ndarray  # (STEPS,) float32, about 1 in Euclidean length


def directions() -> np.ndarray:
    """The unit vectors of a table's entries; ``(STEPS, 2)``."""
    quarter, part = np.divmod(np.arange(STEPS) * 4 / STEPS, 1)
    corner = np.stack([1 - part, part], 1)  # on the diamond |x| + |y| = 1
    for turn in range(1, 4):
        here = quarter == turn
        corner[here] = corner[here] @ np.linalg.matrix_power(np.array([[0, 1], [-1, 0]]), turn)
    return corner / np.linalg.norm(corner, axis=1, keepdims=True)


_DIRECTIONS = directions()
_ANGLES = np.arctan2(_DIRECTIONS[:, 1], _DIRECTIONS[:, 0])
_DIAMOND = np.abs(_DIRECTIONS).sum(1)  # from Euclidean length to |x| + |y|


def polar(radius: Callable[[np.ndarray], np.ndarray]) -> Outline:
    """From the radius as a function of the angle (radians, clockwise on the screen)."""
    return (radius(_ANGLES) * _DIAMOND).astype(np.float32)


def polygon(corners: np.ndarray) -> Outline:
    """From corners ``(K, 2)`` in order; every ray from the origin must meet the outline once."""
    start, end = np.asarray(corners, float), np.roll(corners, -1, axis=0)
    edge = end - start
    # Ray t·d meets start + s·edge: t = (start × edge) / (d × edge), s = (start × d) / (d × edge).
    across = _cross(_DIRECTIONS[:, None], edge[None])
    with np.errstate(divide="ignore", invalid="ignore"):
        reach = _cross(start, edge)[None] / across
        share = _cross(start[None], _DIRECTIONS[:, None]) / across
    met = (reach > 0) & (share > -1e-9) & (share < 1 + 1e-9)
    if not met.any(1).all():
        raise ValueError("the origin must lie inside the polygon")
    return (np.where(met, reach, 0).max(1) * _DIAMOND).astype(np.float32)


def disc() -> Outline:
    """The unit circle."""
    return polar(np.ones_like)


def regular(sides: int) -> Outline:
    """A regular polygon whose corners lie on the unit circle, one of them at the top."""
    at = np.arange(sides) * 2 * np.pi / sides - np.pi / 2
    return polygon(np.stack([np.cos(at), np.sin(at)], 1))


def star(points: int, inner: float = 0.45) -> Outline:
    """A star; ``inner`` is the radius of its notches."""
    at = np.arange(2 * points) * np.pi / points - np.pi / 2
    reach = np.where(np.arange(2 * points) % 2 == 0, 1.0, inner)
    return polygon(reach[:, None] * np.stack([np.cos(at), np.sin(at)], 1))


def cross(arm: float = 0.38) -> Outline:
    """A plus sign; ``arm`` is half the width of its bars."""
    a = arm
    right_to_left = [(1, -a), (1, a), (a, a), (a, 1), (-a, 1), (-a, a), (-1, a), (-1, -a)]
    return polygon(np.array([*right_to_left, (-a, -a), (-a, -1), (a, -1), (a, -a)], float))


def superellipse(power: float = 4.0) -> Outline:
    """Between a circle (2) and a square (large)."""
    return polar(lambda a: (np.abs(np.cos(a)) ** power + np.abs(np.sin(a)) ** power) ** (-1 / power))


def leaf(pinch: float = 0.55, point: float = 0.35) -> Outline:
    """A leaf along x: ``pinch`` times as wide as long, its tip drawn out by ``point``."""

    def radius(a: np.ndarray) -> np.ndarray:
        along, over = np.cos(a), np.abs(np.sin(a))
        width = pinch * (1 + 0.25 * along)
        return (
            1
            / np.maximum((np.abs(along) ** 1.3 + (over / width) ** 1.3) ** (1 / 1.3), 1e-6)
            * (1 + point * np.maximum(along, 0) ** 12)
        )

    return polar(radius)


def blob(amplitudes: np.ndarray, phases: np.ndarray) -> Outline:
    """A rounded irregular shape: waves of 2, 3, 4 … periods around a circle, of these sizes and phases.

    ``(…, waves)`` → ``(…, STEPS)``: many blobs are made at once as fast as one.
    """
    amplitudes, phases = np.asarray(amplitudes)[..., None], np.asarray(phases)[..., None]

    def radius(a: np.ndarray) -> np.ndarray:
        waves = np.arange(2, 2 + amplitudes.shape[-2])[:, None]
        return np.maximum(1 + (amplitudes * np.cos(waves * a + phases)).sum(-2), 0.2)

    return polar(radius)


def dome(flat: float = 0.15) -> Outline:
    """A cap as of a mushroom or a lamp: the upper half of a circle on a slightly rounded edge."""
    return polar(lambda a: np.where(np.sin(a) < 0, 1.0, flat / np.maximum(np.abs(np.sin(a)), flat)))


def _cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]
