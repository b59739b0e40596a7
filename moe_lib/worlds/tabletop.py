"""The tabletop: things on wood, cloth and stone, for semantic, instance and panoptic segmentation.

What a thing is called depends on its shape *and* its texture: a striped disc and a dotted disc are two
classes, and so are a striped disc and a striped star. Colours and sizes mean nothing. One family of scenes
serves three tasks, three domains and, with ``conditional``, a second way to name the same pictures.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from moe_lib.worlds import layers, outlines
from moe_lib.worlds.draws import Draws
from moe_lib.worlds.layered import Layered, things
from moe_lib.worlds.layers import Scene, layer
from moe_lib.worlds.skins import colours
from moe_lib.worlds.tasks import Batch

__all__ = ["DOMAINS", "STUFF_IDS", "Domain", "Instances", "Panoptic", "Semantic", "segments_of"]

STUFF = ("wood", "cloth", "stone")
TEXTURES = ("plain", "striped", "dotted")
SHAPES = ("disc", "triangle", "star")
_CLOTH = STUFF.index("cloth")
_PLAIN, _STRIPED, _DOTTED = range(len(TEXTURES))
_OUTLINES = np.stack([0.95 * outlines.disc(), outlines.regular(3) * 1.2, outlines.star(5, 0.42) * 1.2])
_HALF_PLANE = outlines.polygon(np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]))
_FAR = 3.0  # half side of the square whose one edge crosses the canvas
_PERIOD = 0.065  # of a thing's texture, in canvas sides
STUFF_IDS = 100
"""A stuff segment's id in :class:`Panoptic` is this plus its class; a thing's is its instance id."""


@dataclass(frozen=True)
class Domain:
    """What a domain changes: palette, texture, surface and noise; never what is where or what it is called.

    Introduced in :doc:`/chapters/pocket_world`.
    """

    saturation: tuple[float, float]
    value: tuple[float, float]
    contrast: float  # between the two colours of a texture, in value
    fineness: float  # 2: textures are twice as fine
    dome: float
    gloss: float
    shadow: float
    full_well: tuple[float, float]  # electrons at white: few are noisy


DOMAINS = {
    "day": Domain((0.2, 0.72), (0.35, 0.95), 0.55, 1.0, 0.75, 0.3, 0.5, (900, 2500)),
    "dusk": Domain((0.1, 0.5), (0.25, 0.6), 0.28, 1.35, 0.75, 0.1, 0.35, (60, 160)),
    "print": Domain((0.6, 1.0), (0.55, 1.0), 0.5, 0.75, 0.0, 0.0, 0.0, (900, 2500)),
}
"""``day``: glazed, bright; ``dusk``: pale, fine, noisy; ``print``: flat inks without light or shadow."""


@dataclass(frozen=True)
class _Tabletop(Layered):
    domain: str = "day"
    conditional: bool = False

    family: ClassVar[str] = "tabletop"
    classes: ClassVar[tuple[str, ...]] = (
        *STUFF,
        *(f"{texture} {shape}" for shape in SHAPES for texture in TEXTURES),
    )
    stuff: ClassVar[int] = len(STUFF)  # how many classes, from 0, are stuff; the rest are things

    def __post_init__(self):
        super().__post_init__()
        if self.domain not in DOMAINS:
            raise ValueError(f"unknown domain {self.domain!r}; possible: {', '.join(DOMAINS)}")

    def scene(self, index: int) -> Scene:
        draws, domain = self.draws(index), DOMAINS[self.domain]
        warm = draws.chance(0.5)
        tint = np.array([1.3, 0.97, 0.55] if warm else [0.66, 0.95, 1.35])
        angle, low = draws.uniform(0, 2 * np.pi), draws.uniform(0.5, 0.9)
        ground = _ground(draws, domain)
        rows, shape, texture = _objects(draws, domain, shadow=(-np.cos(angle), -np.sin(angle)))
        called = texture
        if self.conditional and not warm:
            called = np.choose(texture, [_PLAIN, _DOTTED, _STRIPED])  # what it is called instead
        rows["label"] = len(STUFF) + shape * len(TEXTURES) + called
        painted = np.concatenate([ground, rows])
        painted["base"] *= tint
        painted["accent"] *= tint
        return Scene(
            painted,
            seed=draws.seed(),
            light=(low * np.cos(angle), low * np.sin(angle), 0.8),
            exposure=draws.uniform(0.85, 1.15),
            full_well=draws.uniform(*domain.full_well),
            vignette=draws.uniform(0, 0.4),
            about={"warm": warm, "shape": shape, "texture": texture},
        )

    def render(self, scenes: Sequence[Scene], device: torch.device) -> Batch:
        return self._rendered(scenes, device)[0]

    def _rendered(self, scenes: Sequence[Scene], device: torch.device) -> tuple[Batch, Batch]:
        """Image and mask; and everything about the things."""
        painted = layers.render(scenes, self.size, device)
        seen = {"image": self.photograph(painted, scenes), "mask": painted["label"]}
        labels = [
            torch.from_numpy(s.layers["label"][s.layers["instance"] > 0]).long().to(device) for s in scenes
        ]
        return seen, {**things(painted, [len(row) for row in labels]), "labels": labels}


class Semantic(_Tabletop):
    """Semantic segmentation: 3 kinds of stuff, 9 of things, named by shape and texture together.

    Args:
        domain: One of ``DOMAINS``. The same index has the same things in the same places in each.
        conditional: The light decides what things are called: in cool light striped means dotted and dotted
            striped. The pictures are the same with and without.

    Batch: ``image``, ``mask``. Introduced in :doc:`/chapters/pocket_world`.
    """

    name: ClassVar[str] = "semantic"


class Instances(_Tabletop):
    """Instance segmentation of the things of :class:`Semantic`; the same scenes.

    Batch: ``image``, ``mask``, ``instances``, ``boxes``, ``labels`` (of things: ``classes`` counts the stuff
    first), ``visible``, ``depth``. Introduced in :doc:`/chapters/pocket_world`.
    """

    name: ClassVar[str] = "instances"

    def render(self, scenes: Sequence[Scene], device: torch.device) -> Batch:
        seen, found = self._rendered(scenes, device)
        return {**seen, **found}


class Panoptic(Instances):
    """Panoptic segmentation; the same scenes as :class:`Semantic`.

    Batch: as :class:`Instances`, and ``panoptic`` int64 (B, H, W), the segment that each pixel belongs to,
    and ``segments``, for each image int64 (k, 4): :func:`segments_of`.
    Introduced in :doc:`/chapters/pocket_world`.
    """

    name: ClassVar[str] = "panoptic"

    def render(self, scenes: Sequence[Scene], device: torch.device) -> Batch:
        batch = super().render(scenes, device)
        mask, instances = batch["mask"], batch["instances"]
        batch["panoptic"] = torch.where(instances > 0, instances, STUFF_IDS + mask)
        batch["segments"] = [segments_of(*pair, self.stuff) for pair in zip(mask, instances, strict=True)]
        return batch


def segments_of(mask: Tensor, instances: Tensor, stuff: int = len(STUFF)) -> Tensor:
    """The segments of one image, things first: ``(k, 4)``, the columns id, class, 1 for a thing, pixels.

    Args:
        mask: Classes, ``(H, W)``; the first ``stuff`` of them are stuff.
        instances: ``(H, W)``, 0 = none.

    What is not seen has no segment. Introduced in :doc:`/chapters/pocket_world`.
    """
    ids = torch.where(instances > 0, instances, STUFF_IDS + mask)
    found, area = torch.unique(ids, return_counts=True)
    kind = torch.zeros(int(found.max()) + 1, dtype=torch.int64, device=mask.device)
    kind[ids.flatten()] = mask.flatten()  # every pixel of a segment has its class
    return torch.stack([found, kind[found], (kind[found] >= stuff).long(), area], 1)


def _ground(draws: Draws, domain: Domain) -> np.ndarray:
    """Two or three regions of stuff, from the back to the front."""
    count = draws.integer(2, 4)
    kind = np.array(draws.shuffled(range(len(STUFF))))
    rows = np.repeat(layer(depth=1.0, instance=0)[None], len(STUFF))
    rows["label"] = kind
    base, accent = _two_colours(draws, len(STUFF), domain, contrast=0.4 * domain.contrast, calm=0.6)
    rows["base"], rows["accent"] = base, accent

    angle = draws.uniform(0, 2 * np.pi, len(STUFF))
    cos, sin = np.cos(angle), np.sin(angle)
    frequency = np.choose(kind, [4.0, 11.0, 1.2]) * draws.uniform(0.8, 1.25, len(STUFF)) * domain.fineness
    phase = draws.uniform(size=(2, len(STUFF)))
    rows["wave1"] = np.stack([frequency * cos, frequency * sin, phase[0]], 1)
    rows["wave2"] = np.where(
        (kind == _CLOTH)[:, None], np.stack([-frequency * sin, frequency * cos, phase[1]], 1), (0, 0, 0.5)
    )
    rows["warp"] = np.choose(kind, [1.6, 0.1, 4.0])
    rows["sharp"] = np.choose(kind, [1.3, 1.6, 1.2])
    rows["grain"] = np.choose(kind, [0.25, 0.15, 0.35])
    rows["relief"] = np.choose(kind, [0.1, 0.0, 0.25]) * (domain.dome > 0)
    # Wood's grain runs along its fibres: its noise is stretched in that direction.
    along, across = np.choose(kind, [0.1, 0.3, 0.4]), np.choose(kind, [0.7, 0.3, 0.4])
    rows["speckle"] = np.stack([across * cos, across * sin, -along * sin, along * cos], 1)
    rows["shift"] = draws.uniform(size=(len(STUFF), 2))

    _cut(rows[1], draws.uniform(0, 2 * np.pi), draws.uniform(-0.15, 0.15), (0.5, 0.5))
    at = draws.uniform(0.25, 0.75, 2)
    if draws.chance(0.5):  # a mat, or a second band
        rows[2]["outline"], rows[2]["radius"] = outlines.superellipse(5), draws.uniform(0.22, 0.42, 2)
        turn = draws.uniform(0, np.pi)
        rows[2]["centre"], rows[2]["turn"] = at, (np.cos(turn), np.sin(turn))
    else:
        _cut(rows[2], draws.uniform(0, 2 * np.pi), draws.uniform(0.2, 0.35), (0.5, 0.5))
    return rows[:count]


def _cut(row: np.ndarray, angle: float, away: float, centre: tuple[float, float]) -> None:
    """Keep of a layer what lies beyond a straight line, so far from the centre."""
    way = np.array([np.cos(angle), np.sin(angle)])
    row["outline"], row["radius"], row["turn"] = _HALF_PLANE, _FAR, way
    row["centre"] = centre + (away + _FAR) * way


def _objects(
    draws: Draws, domain: Domain, shadow: tuple[float, float]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The things, from the back to the front, without labels; and their shapes and textures."""
    radius = draws.uniform(0.08, 0.156, draws.integer(3, 8))
    centre = _places(draws, radius)
    count = len(centre)
    radius = radius[:count]
    shape = np.array([draws.integer(0, len(SHAPES)) for _ in range(count)])
    texture = np.array([draws.integer(0, len(TEXTURES)) for _ in range(count)])

    rows = np.repeat(layer(grain=0.12, warp=0.15, speckle=(0.5, 0, 0, 0.5))[None], count)
    rows["sharp"] = np.choose(texture, [1.0, 4.0, 2.5])
    rows["outline"], rows["centre"], rows["radius"] = _OUTLINES[shape], centre, radius[:, None]
    turn = draws.uniform(0, 2 * np.pi, count)
    rows["turn"] = np.stack([np.cos(turn), np.sin(turn)], 1)
    rows["base"], rows["accent"] = _two_colours(draws, count, domain, contrast=domain.contrast)

    angle, phase = draws.uniform(0, np.pi, count), draws.uniform(size=(3, count))
    frequency = domain.fineness * draws.uniform(0.85, 1.15, count) / _PERIOD
    wave = frequency * np.choose(texture, [0.0, 1.0, 0.9])
    cos, sin = wave * np.cos(angle), wave * np.sin(angle)
    rows["wave1"] = np.stack([cos, sin, phase[0]], 1)
    rows["wave2"] = np.where((texture == _DOTTED)[:, None], np.stack([-sin, cos, phase[1]], 1), (0, 0, 0.5))
    rows["shift"] = draws.uniform(size=(count, 2))
    rows["dome"], rows["gloss"] = domain.dome, domain.gloss * draws.uniform(size=count)
    height = 0.25 * radius[:, None]
    rows["cast"] = np.concatenate([np.array(shadow) * height, np.full((count, 1), domain.shadow)], 1)
    rows["instance"], rows["depth"] = np.arange(count) + 1, 0.9 - 0.05 * np.arange(count)
    return rows, shape, texture


def _places(draws: Draws, radius: np.ndarray) -> np.ndarray:
    """Centres that let things overlap but not hide each other; ``(n, 2)``, n ≥ 3 of the given radii."""
    places: list[np.ndarray] = []
    candidates = draws.uniform(0.07, 0.93, (len(radius) * 12, 2))
    for candidate in candidates:
        mine = len(places)
        away = [np.hypot(*(candidate - place)) for place in places]
        if all(a > 0.68 * (radius[mine] + radius[i]) for i, a in enumerate(away)):
            places.append(candidate)
            if len(places) == len(radius):
                break
    return np.array(places)


def _two_colours(
    draws: Draws, count: int, domain: Domain, *, contrast: float, calm: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """Base and accent, of any hues but different brightness; ``(count, 3)`` each."""
    hue, other, saturation, value, up, step = draws.uniform(size=(6, count))
    low, high = domain.saturation
    saturation = calm * (low + (high - low) * saturation)
    low, high = domain.value
    value = low + (high - low) * value
    brighter = up < (high - value) / (high - low)
    second = (value + contrast * (0.75 + 0.5 * step) * np.where(brighter, 1, -1)).clip(0.05, 1)
    pale = np.where(
        brighter, saturation * (1 - contrast), saturation
    )  # a bright blue is no lighter than a dark one
    return colours(hue, saturation, value), colours(hue + 0.35 * (other - 0.5), pale, second)
