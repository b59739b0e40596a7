"""Referring expressions: a picture, a sentence, and the mask of the one object that the sentence means.

Indices come in pairs: 2k and 2k + 1 show the same picture with sentences that differ in one word and mean
different objects. Whoever looks at the picture alone is right half of the time at best.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import ClassVar

import numpy as np
import torch

from moe_lib.worlds import layers, outlines
from moe_lib.worlds.draws import Draws
from moe_lib.worlds.language.grammar import COLOURS, FORMS, SHAPES, Thing, forbidden_words, realise
from moe_lib.worlds.language.speaker import Situation, situation
from moe_lib.worlds.layered import Layered, things
from moe_lib.worlds.layers import STROKE, Scene, layer
from moe_lib.worlds.skins import colours
from moe_lib.worlds.tasks import Batch

__all__ = ["DIALECTS", "HELD_OUT", "PARTS", "Referring"]

_ATTRIBUTE = ("phrase", "thing", "only")
_ABSOLUTE = ("extreme", "side", "ordinal", "corner")
_RELATION = ("direction", "between")
_CONTEXT = ("next", "superlative", "far", "same")
DIALECTS = {
    "ref": (_ATTRIBUTE, _ABSOLUTE, _RELATION, _CONTEXT),
    "plus": (_ATTRIBUTE, _CONTEXT),
    "refg": (("two-hop",), _RELATION),
}
"""Dialect → its kinds of expression, as often each; a kind → its forms, as often each."""

PARTS = {"all": SHAPES, "testA": SHAPES[:3], "testB": SHAPES[3:]}
"""Part → the shapes that are referred to: ``testA`` is full and convex, ``testB`` thin or concave."""

HELD_OUT = frozenset(zip(COLOURS, ("cross", "ring", "square", "star", "circle", "triangle"), strict=True))
"""Pairs of colour and shape that are never referred to, unless ``held_out`` asks for nothing else."""

LONGEST = 14  # words, so that 16 tokens are enough
_LONG = 8  # the least of refg

_OUTLINES = {
    "circle": outlines.disc() * 0.97,
    "square": outlines.superellipse(7) * 0.8,
    "triangle": outlines.regular(3) * 1.1,
    "star": outlines.star(5, 0.5) * 1.1,
    "cross": outlines.cross(0.36) * 0.97,
    "ring": outlines.disc(),
}
_HOLE = 0.52
_PAINT = {  # hue, saturation, value; and whether its stripes are ink or cream
    "red": (0.985, 0.86, 0.84, False),
    "green": (0.375, 0.78, 0.62, False),
    "blue": (0.605, 0.82, 0.82, False),
    "yellow": (0.145, 0.86, 0.96, True),
    "purple": (0.785, 0.62, 0.66, False),
    "orange": (0.068, 0.9, 0.96, True),
}
_PERIOD = 0.052  # of stripes, in canvas sides
_GROUNDS = 3  # candidates


@dataclass(frozen=True)
class Referring(Layered):
    """Referring image segmentation.

    Args:
        dialect: ``"ref"``: expressions of all four kinds, short; ``"plus"``: attributes and context, without
            any word of place; ``"refg"``: long, over two hops or with relations.
        part: ``"all"``, or ``"testA"`` (referents are circles, squares, triangles), or ``"testB"`` (stars,
            crosses, rings).
        held_out: Refer to the pairs of colour and shape in ``HELD_OUT``, and to no others.

    Batch: ``image``, ``mask`` (1 = the referent), ``text``; ``instances``, ``boxes``, ``visible``, ``depth``
    of all objects; ``referent`` int64 (B,), its instance id; ``kind`` and ``form``, lists of str.
    Introduced in :doc:`/chapters/pocket_world`.
    """

    dialect: str = "ref"
    part: str = "all"
    held_out: bool = False

    name: ClassVar[str] = "referring"
    family: ClassVar[str] = "referring"
    classes: ClassVar[tuple[str, ...]] = ("background", "referent")

    def __post_init__(self):
        super().__post_init__()
        for what, value, possible in (("dialect", self.dialect, DIALECTS), ("part", self.part, PARTS)):
            if value not in possible:
                raise ValueError(f"unknown {what} {value!r}; possible: {', '.join(possible)}")

    def pair(self, index: int) -> int:
        """The index with the same picture and a sentence that differs in one word."""
        return index ^ 1

    def situation(self, index: int) -> Situation:
        """The objects, and the two things said about them by this index and its :meth:`pair`."""
        return _situation(self.split, self.dialect, self.part, self.held_out, index // 2)

    def scene(self, index: int) -> Scene:
        said = self.situation(index)
        expression, meant = said.expressions[index % 2], said.referents[index % 2]
        look = Draws(self.family, self.split, index // 2, part=f"{self._stream()}/look")
        scene = _picture(said.things, look)
        scene.about = {
            "text": realise(expression),
            "kind": FORMS[expression.form],
            "form": expression.form,
            "referent": meant + 1,
            "things": said.things,
        }
        return scene

    def render(self, scenes: Sequence[Scene], device: torch.device) -> Batch:
        painted = layers.render(scenes, self.size, device)
        about = [scene.about for scene in scenes]
        referent = torch.tensor([it["referent"] for it in about], device=device)
        return {
            "image": self.photograph(painted, scenes),
            "mask": (painted["instances"] == referent.view(-1, 1, 1)).long(),
            **things(painted, [len(it["things"]) for it in about]),
            "referent": referent,
            **{key: [it[key] for it in about] for key in ("text", "kind", "form")},
        }

    def _stream(self) -> str:
        return f"{self.dialect}/{self.part}/{self.held_out}"


@lru_cache(maxsize=64)  # the two indices of a pair usually follow each other
def _situation(split: str, dialect: str, part: str, held_out: bool, number: int) -> Situation:
    kinds = DIALECTS[dialect]
    forms = kinds[number % len(kinds)]
    draws = Draws(Referring.family, split, number, part=f"{dialect}/{part}/{held_out}")
    return situation(
        draws,
        forms[number // len(kinds) % len(forms)],
        fits=partial(_fits, dialect=dialect),
        may_mean=partial(_may_mean, shapes=PARTS[part], held_out=held_out),
    )


def _fits(text: str, dialect: str) -> bool:
    words = text.count(" ") + 1
    if words > LONGEST or (dialect == "refg" and words < _LONG):
        return False
    return dialect != "plus" or not forbidden_words(text)


def _may_mean(look: Sequence[str], shapes: Sequence[str], held_out: bool) -> bool:
    _, _, colour, shape = look[:4]
    return shape in shapes and ((colour, shape) in HELD_OUT) == held_out


def _picture(objects: Sequence[Thing], draws: Draws) -> Scene:
    """Enamel or paper on a smooth ground."""
    enamel = draws.chance(0.6)
    faint = 0.35 if draws.chance(0.15) else 0.0  # some scenes are of little contrast
    angle, low = draws.uniform(0, 2 * np.pi), draws.uniform(0.45, 0.8)
    across, down = low * np.cos(angle), low * np.sin(angle)
    rows = np.repeat(layer(label=1)[None], len(objects))
    _shape(rows, objects, draws)
    _paint(rows, objects, draws)
    ground, lines = _ground(draws, rows["base"])
    for side in ("base", "accent"):
        rows[side] += faint * (ground["base"].mean(0) - rows[side])
    rows["dome"], rows["gloss"], rows["grain"] = (0.7, 0.3, 0.06) if enamel else (0.0, 0.0, 0.14)
    height, dark = (0.02, 0.45) if enamel else (0.0125, 0.35)
    rows["cast"] = (-across * height, -down * height, dark)
    rows["instance"], rows["depth"] = np.arange(len(objects)) + 1, 0.5
    return Scene(
        np.concatenate([ground, rows]),
        strokes=lines,
        seed=draws.seed(),
        light=(across, down, 0.8),
        exposure=draws.uniform(0.8, 1.15),
        full_well=draws.uniform(600, 2500),
        vignette=draws.uniform(0, 0.35),
    )


def _ground(draws: Draws, avoid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A ground that runs from one colour into another, with faint lines on it; layers and strokes.

    It may be as colourful and as bright as the objects are: of a few candidates it is the one whose colour is
    farthest from theirs, ``avoid`` (n, 3).
    """
    hue, saturation, value, other, darker = draws.uniform(size=(5, _GROUNDS))
    saturation, value = 0.1 + 0.5 * saturation, 0.35 + 0.57 * value
    base = colours(hue, saturation, value)
    accent = colours(hue + 0.2 * (other - 0.5), saturation, value - 0.08 - 0.1 * darker)
    apart = np.abs(base[:, None] ** 0.45 - avoid[None] ** 0.45).sum(2).min(1)
    base, accent = base[apart.argmax()], accent[apart.argmax()]
    turn, middle = draws.uniform(0, 2 * np.pi), 0.55 * (base + accent) / 2
    smooth = layer(base=base, accent=accent, warp=0.3, grain=0.05, speckle=(0.12, 0, 0, 0.12), label=0)
    smooth["wave1"] = 0.45 * np.cos(turn), 0.45 * np.sin(turn), draws.uniform()
    smooth["shift"] = draws.uniform(size=2)
    lines = np.zeros(draws.integer(2, 5), STROKE)
    lines["start"] = draws.uniform(-0.1, 1.1, (len(lines), 2))
    lines["end"] = draws.uniform(-0.1, 1.1, (len(lines), 2))
    lines["width"] = 0.004
    return np.array([smooth, layer(base=middle, accent=middle, opacity=0.45, strokes=(0, len(lines)))]), lines


def _shape(rows: np.ndarray, objects: Sequence[Thing], draws: Draws) -> None:
    rows["outline"] = [_OUTLINES[it.shape] for it in objects]
    rows["hole"] = [_HOLE if it.shape == "ring" else 0 for it in objects]
    rows["centre"] = [(it.x, it.y) for it in objects]
    rows["radius"] = np.array([it.radius for it in objects])[:, None]
    angle = np.deg2rad(25) * draws.uniform(-1, 1, len(objects))
    rows["turn"] = np.stack([np.cos(angle), np.sin(angle)], 1)


def _paint(rows: np.ndarray, objects: Sequence[Thing], draws: Draws) -> None:
    hue, saturation, value, ink = np.array([_PAINT[it.colour] for it in objects]).T
    shift, bright, angle, phase = draws.uniform(-1, 1, (4, len(objects)))
    hue, value = hue + 0.012 * shift, (value * (1 + 0.1 * bright)).clip(0, 1)
    rows["base"] = rows["accent"] = colours(hue, saturation, value)
    stripes = colours(hue, np.where(ink, saturation, 0.12), np.where(ink, 0.4, 0.98))
    striped = np.array([it.fill == "striped" for it in objects])[:, None]
    rows["accent"] = np.where(striped, stripes, rows["base"])
    angle = np.pi * angle
    rows["wave1"] = np.stack([np.cos(angle) / _PERIOD, np.sin(angle) / _PERIOD, phase], 1)
    rows["sharp"] = 4.0
