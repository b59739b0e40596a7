"""Scenes that use all that the layered renderer can do, and a slow, independent evaluation of their masks."""

import numpy as np
import torch

from moe_lib.worlds import Draws, layers, outlines

CPU = torch.device("cpu")
OUTLINES = (
    outlines.disc(), outlines.regular(3), outlines.star(5), outlines.cross(), outlines.superellipse(),
    outlines.leaf(), outlines.dome(), outlines.blob([0.1, 0.05], [1.0, 2.0]),
)  # fmt: skip


def busy(index: int, count: int = 14) -> layers.Scene:
    """A scene of so many layers on a ground, some drawn in strokes, some out of the picture."""
    draws = Draws("busy", "train", index)
    rows, strokes = [layers.layer(label=0, base=0.4, accent=0.2, wave1=(5, 3, 0), warp=1, grain=0.3)], []
    for number in range(count):
        angle, drawn = draws.uniform(0, 2 * np.pi), draws.chance(0.35)
        first = len(strokes)
        for _ in range(draws.integer(1, 5) if drawn else 0):
            strokes.append(
                (draws.uniform(-0.1, 1.1, 2), draws.uniform(-0.1, 1.1, 2), draws.uniform(0.01, 0.08, 2))
            )
        row = layers.layer(
            outline=draws.choice(OUTLINES), centre=draws.uniform(-0.1, 1.1, 2),
            turn=(np.cos(angle), np.sin(angle)), radius=draws.uniform(0.04, 0.3, 2),
            strokes=(first, len(strokes)), hole=draws.choice((0, 0, 0, 0.5)) * (not drawn),
            soft=draws.choice((0, 0.05)), opacity=draws.choice((0, 0.7, 1, 1, 1)),
            multiply=draws.choice((0, 0, 1)), refract=draws.choice((0, 0, 0.03)),
            base=draws.uniform(0.1, 0.9, 3), accent=draws.uniform(0.1, 0.9, 3),
            wave1=(*draws.normal(0, 8, 2), 0), wave2=draws.choice(((0, 0, 0.5), (7, 3, 0.1))),
            ring=draws.choice((0, 2)), warp=draws.choice((0, 1)), sharp=3, grain=draws.choice((0, 0.3)),
            shift=draws.uniform(0, 1, 2), dome=draws.choice((0, 0.9, -0.4)), relief=draws.choice((0, 0.3)),
            gloss=draws.choice((0, 0.5)), cast=draws.choice(((0, 0, 0), (0.03, 0.02, 0.5))),
            instance=draws.choice((0, number + 1)), on=draws.choice((0, 0, 0, 1, 2)),
            label=draws.choice((1, 2, 3, layers.KEEP)), depth=draws.uniform(),
        )  # fmt: skip
        rows.append(row)
    light = (*draws.normal(0, 0.5, 2), 0.8)
    return layers.Scene(np.array(rows), strokes=np.array(strokes, layers.STROKE), light=light, vignette=0.5)


def inside(row: np.ndarray, strokes: np.ndarray, size: int) -> np.ndarray:
    """Which pixels lie in a layer's shape, in float64 and with angles; ``(size, size)``."""
    place = (np.arange(size) + 0.5) / size
    at = np.stack(np.meshgrid(place, place), -1)
    first, last = row["strokes"]
    if last > first:
        return np.any([_in_stroke(at, stroke) for stroke in strokes[first:last]], axis=0)
    turn = np.arctan2(float(row["turn"][1]), float(row["turn"][0]))
    away = at - row["centre"]
    own = away @ np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]) / row["radius"]
    angle = np.arctan2(own[..., 1], own[..., 0]) % (2 * np.pi)
    quarter, rest = np.divmod(angle, np.pi / 2)
    pseudo = quarter + np.sin(rest) / (np.sin(rest) + np.cos(rest))
    steps = np.arange(outlines.STEPS + 1) * 4 / outlines.STEPS
    edge = np.interp(pseudo, steps, np.append(row["outline"], row["outline"][0]).astype(float))
    gauge = np.abs(own).sum(-1) / edge
    return (gauge < 1) & (gauge > row["hole"])


def _in_stroke(at: np.ndarray, stroke: np.ndarray) -> np.ndarray:
    start, end, (w0, w1) = (stroke[name].astype(float) for name in ("start", "end", "width"))
    along = np.clip(((at - start) @ (end - start)) / ((end - start) @ (end - start)), 0, 1)
    away = np.linalg.norm(at - start - along[..., None] * (end - start), axis=-1)
    return away < w0 + along * (w1 - w0)


def slowly(scene: layers.Scene, size: int) -> dict[str, np.ndarray]:
    """``label`` and ``instances`` of a scene, layer by layer."""
    label, instances = np.zeros((size, size), int), np.zeros((size, size), int)
    for row in scene.layers:
        if row["opacity"] == 0 or row["label"] == layers.KEEP:
            continue
        owns = inside(row, scene.strokes, size)
        if row["on"]:
            owns &= instances == row["on"]
        label[owns], instances[owns] = row["label"], row["instance"]
    return {"label": label, "instances": instances}


def paint(*rows: np.ndarray, size: int = 64, strokes: list | None = None, **scene) -> dict[str, torch.Tensor]:
    """One scene of these layers, painted, without the batch axis."""
    lines = np.array(strokes or [], layers.STROKE)
    painted = layers.render([layers.Scene(np.array(rows), strokes=lines, **scene)], size, CPU)
    return {name: values[0] for name, values in painted.items()}
