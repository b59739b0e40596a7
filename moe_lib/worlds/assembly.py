"""Puts things, each made of a few parts that share one instance, into a layered scene."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from moe_lib.worlds import outlines
from moe_lib.worlds.domains.parts import Stack
from moe_lib.worlds.layers import KEEP, LAYER, STROKE
from moe_lib.worlds.outlines import STEPS, Outline
from moe_lib.worlds.skins import one_colour

SKIN, TRIM, DARK, PALE, GREEN, EYE = range(6)  # what a part is painted with

_DISC = outlines.disc()
_MIRRORED = (STEPS // 2 - np.arange(STEPS)) % STEPS


class Part(NamedTuple):
    """One layer of a thing, in the thing's own frame."""

    paint: int
    outline: Outline
    strokes: Sequence[tuple[float, ...]] = ()  # x0, y0, x1, y1, half width there, half width here
    centre: tuple[float, float] = (0.0, 0.0)
    radius: tuple[float, float] = (1.0, 1.0)
    angle: float = 0.0
    dome: float = 0.6
    detail: bool = False  # drawn on the thing, without a silhouette of its own


def limbs(paint: int, *strokes: tuple[float, ...], dome: float = 0.75, detail: bool = False) -> Part:
    """A union of tapered strokes."""
    return Part(paint, _DISC, strokes, dome=dome, detail=detail)


def spot(paint: int, x: float, y: float, radius: float, **values) -> Part:
    """A small disc on a thing."""
    return Part(paint, _DISC, centre=(x, y), radius=(radius, radius), detail=True, **values)


def _paints() -> np.ndarray:
    rows = np.zeros(6, LAYER)
    rows[DARK] = one_colour((0.02, 0.018, 0.02), gloss=0.3)
    rows[PALE] = one_colour((0.72, 0.68, 0.55))
    rows[GREEN] = one_colour((0.05, 0.16, 0.03))
    # A dark pupil in a pale eye: one ring.
    rows[EYE] = one_colour((0.01, 0.01, 0.01), ring=0.5, wave1=(0, 0, 0), sharp=6, gloss=0.5)
    rows[EYE]["accent"] = (0.8, 0.78, 0.7)
    return rows


PAINTS = _paints()  # the paints that are the same for every thing; SKIN and TRIM are its own


class Stage(Stack):
    """A stack of layers on which things are put."""

    def put(
        self, parts: Sequence[Part], skin: np.ndarray, trim: np.ndarray, *, centre: Sequence[float],
        radius: float,
        angle: float = 0.0, mirrored: bool = False, instance: int, depth: float, label: int = 1,
        cast: Sequence[float] = (0, 0, 0), paints: np.ndarray = PAINTS,
    ) -> None:  # fmt: skip
        """Put a thing into the scene, painted with two surfaces of its own and with ``paints``."""
        rows = paints[[part.paint for part in parts]]
        for paint, surface in ((SKIN, skin), (TRIM, trim)):
            rows[[part.paint == paint for part in parts]] = surface
        side = -1.0 if mirrored else 1.0
        frame = radius * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        frame[:, 0] *= side
        numbers = np.array([(*p.centre, *p.radius, p.angle, p.dome, p.detail) for p in parts])
        rows["centre"] = centre + numbers[:, :2] @ frame.T
        rows["radius"] = radius * numbers[:, 2:4]
        turned = angle + side * numbers[:, 4]
        rows["turn"] = np.stack([np.cos(turned), np.sin(turned)], 1)
        rows["outline"] = [part.outline for part in parts]
        if mirrored:
            rows["outline"] = rows["outline"][:, _MIRRORED]
        rows["dome"] = numbers[:, 5]
        detail = numbers[:, 6] > 0
        rows["label"], rows["depth"] = np.where(detail, KEEP, label), depth
        rows["instance"], rows["on"] = np.where(detail, 0, instance), np.where(detail, instance, 0)
        solid = [i for i, part in enumerate(parts) if not part.detail]
        rows["cast"][next((i for i in solid if not parts[i].strokes), solid[-1])] = cast  # of its bulk only
        rows["strokes"] = self._limbs(parts, frame, np.asarray(centre), radius)
        self.rows.append(rows)

    def _limbs(
        self, parts: Sequence[Part], frame: np.ndarray, centre: np.ndarray, radius: float
    ) -> np.ndarray:
        """Add the parts' strokes; returns which are whose, ``(parts, 2)``."""
        lines = np.array([stroke for part in parts for stroke in part.strokes]).reshape(-1, 6)
        strokes = np.empty(len(lines), STROKE)
        strokes["start"] = centre + lines[:, :2] @ frame.T
        strokes["end"] = centre + lines[:, 2:4] @ frame.T
        strokes["width"] = radius * lines[:, 4:]
        self.strokes.append(strokes)
        count = [len(part.strokes) for part in parts]
        last = self._drawn + np.cumsum(count)
        self._drawn += len(lines)
        return np.stack([last - count, last], 1)
