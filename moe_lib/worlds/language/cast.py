"""What is in a referring scene and where: objects alike enough that a few words do not tell them apart."""

from bisect import bisect
from collections.abc import Callable, Sequence
from itertools import accumulate
from math import sqrt
from typing import TypeVar

from moe_lib.worlds.draws import Draws
from moe_lib.worlds.language.grammar import COLOURS, FILLS, FORMS, SHAPES, SIZES, Thing

_Item = TypeVar("_Item")
_Look = tuple[str, str, str, str]  # size, fill, colour, shape
MayMean = Callable[[Sequence[str]], bool]  # whether what looks so may be referred to
Rules = dict[int, tuple]  # where an object stands that is related to others, in the order of placing

RADII = {"small": (0.058, 0.063), "medium": (0.0855, 0.0885), "big": (0.121, 0.135)}
_GAP = 0.03  # between two objects
_MARGIN = 0.012  # to the frame
_TRIES = 20
# Of corner, edge and middle. The second referent of a pair is found, not placed, and more often in some
# ninths than in others; the first one makes up for it, so that referents are everywhere alike.
_WEIGHTS = {
    "extreme": (0.75, 1.1, 1.5),
    "side": (0.8, 1.15, 1.2),
    "corner": (0.7, 1.25, 1.3),
    "between": (1.7, 0.7, 0.2),
    "far": (0.5, 1.4, 1.4),
}
_ROOM = 0.275  # that an object keeps which is far from everything else
_VALUES = (SIZES, FILLS, COLOURS, SHAPES)
_SIZE, _FILL, _COLOUR, _SHAPE = range(4)
FEWEST, MOST = 5, 9  # objects in a scene


class Dice:
    """Single random numbers, quickly: :class:`Draws` in small change."""

    def __init__(self, draws: Draws):
        self._draws, self._left = draws, []

    def __call__(self) -> float:
        if not self._left:
            self._left = self._draws.uniform(size=512).tolist()
        return self._left.pop()

    def pick(self, items: Sequence[_Item]) -> _Item:
        return items[int(self() * len(items))]

    def whole(self, low: int, high: int) -> int:
        """From low to high, both included."""
        return low + int(self() * (high - low + 1))

    def between(self, low: float, high: float) -> float:
        return low + (high - low) * self()

    def shuffled(self, items: list[_Item]) -> list[_Item]:
        return [items[i] for _, i in sorted((self(), i) for i in range(len(items)))]


def ninth(form: str, dice: Dice) -> int:
    """In which ninth of the canvas the first referent lies, counted in rows."""
    corner, edge, middle = _WEIGHTS.get(form, (1, 1, 1))
    weights = (corner, edge, corner, edge, middle, edge, corner, edge, corner)
    return bisect(list(accumulate(weights)), dice() * sum(weights), hi=8)


def cast(form: str, cell: int, may_mean: MayMean, dice: Dice) -> list[Thing] | None:
    """Objects for a scene of this form, the first in this ninth of the canvas; None if there is no room."""
    rules: Rules = {}
    if FORMS[form] == "attribute":
        looks, needed = _alike(dice, may_mean, form)
    else:
        looks, needed, rules = _grouped(dice, may_mean, form)
    radii = [dice.between(*RADII[look[_SIZE]]) for look in looks]
    places = _places(dice, radii, needed, cell, rules, lonely=2 if form == "far" else 0)
    if len(places) < max(needed, FEWEST):
        return None
    return [Thing(*look, *places[i], radii[i]) for i, look in enumerate(looks) if i in places]


def _random_look(dice: Dice) -> _Look:
    return (
        "small" if dice() < 0.55 else "big",
        dice.pick(FILLS),
        dice.pick(COLOURS),
        dice.pick(SHAPES),
    )


def _changed(look: _Look, slot: int, dice: Dice, value: str | None = None) -> _Look:
    """The same but for one thing."""
    value = value or dice.pick([v for v in _VALUES[slot] if v != look[slot]])
    return (*look[:slot], value, *look[slot + 1 :])


def _often(draw: Callable[[], _Look], may_mean: MayMean) -> _Look:
    """A look that may be referred to, unless chance is much against it."""
    for _ in range(12):
        look = draw()
        if may_mean(look):
            break
    return look


def _alike(dice: Dice, may_mean: MayMean, form: str) -> tuple[list[_Look], int]:
    """Two objects one word apart, and for both of them foils that differ in another; how many those are."""
    base = _often(lambda: _random_look(dice), may_mean)
    with_noun = form == "phrase" or (form == "only" and dice() < 0.6)
    modifiers = dice.shuffled([_SIZE, _FILL, _COLOUR])[: dice.whole(1, 3) if with_noun else dice.whole(2, 3)]
    said = [*modifiers, _SHAPE] if with_noun else modifiers
    told = dice.pick(said)
    other = _changed(base, told, dice)
    looks = [base, other]
    for slot in said:
        if slot != told:
            foil = _changed(base, slot, dice)
            looks += [foil, _changed(other, slot, dice, foil[slot])]
    needed = len(looks)
    for _ in range(dice.whole(FEWEST, MOST) - needed):
        extra = _changed(dice.pick(looks), dice.pick(said), dice)
        if all(any(extra[slot] != look[slot] for slot in said) for look in looks[:2]):
            looks.append(extra)
    return looks, needed


def _grouped(dice: Dice, may_mean: MayMean, form: str) -> tuple[list[_Look], int, Rules]:
    """A group that shares what the head will say, landmarks, a group one word off, and strangers.

    Also how many of them are needed, and where they have to stand.
    """
    base = _often(lambda: _random_look(dice), may_mean)
    slots = [_FILL, _COLOUR] if form == "superlative" else [_SIZE, _FILL, _COLOUR]
    u = dice()
    head = dice.shuffled(slots)[: 0 if u < 0.45 else 1 if u < 0.85 else 2]
    if form == "same":
        head = [slot for slot in head if slot == _SIZE]
    head.append(_SHAPE)
    other = _often(lambda: _changed(base, _SHAPE if dice() < 0.6 else dice.pick(head), dice), may_mean)

    def member(of: _Look) -> _Look:
        def draw() -> _Look:
            look = _random_look(dice)
            return tuple(of[slot] if slot in head else look[slot] for slot in range(4))

        return _often(draw, may_mean)

    many = 3 if form == "far" else dice.pick((2, 3, 3) if form == "same" else (2, 3, 3, 3, 4))
    if form == "far":
        looks = [base, other, *(member(base) for _ in range(many - 1)), member(other)]
    else:
        looks = [base, *(member(base) for _ in range(many - 1))]
    if form == "superlative":
        sizes = [*dice.shuffled(["small", "big"]), "medium", "medium"]
        looks = [(size, *look[1:]) for size, look in zip(sizes, looks, strict=False)]
    nouns = dice.shuffled([s for s in SHAPES if s not in (base[_SHAPE], other[_SHAPE])])
    landmark = (*_random_look(dice)[:3], nouns[0])
    marks, rules = _landmarks(form, landmark, len(looks), dice)
    looks += marks
    if not marks and form != "far" and dice() < 0.5:
        looks += [member(other) for _ in range(2)]
    looks += [_changed(base, slot, dice) for slot in head if slot != _SHAPE]
    looks, needed, nouns = looks[:MOST], min(len(looks), MOST), nouns[: dice.whole(1, 3)]
    most = 6 if form == "far" else dice.whole(6, MOST)
    looks += [(*_random_look(dice)[:3], dice.pick(nouns)) for _ in range(most - needed)]
    return looks, needed, rules


def _landmarks(form: str, look: _Look, first: int, dice: Dice) -> tuple[list[_Look], Rules]:
    """Objects to relate the two referents, 0 and 1, to; numbered from ``first``; and who stands where."""
    a, b, c = range(first, first + 3)
    twin = _changed(look, dice.pick((_COLOUR, _COLOUR, _FILL, _SIZE, _SHAPE)), dice)
    match form:
        case "direction":  # the second referent on the other side of the landmark
            return [look], {a: ("near", 0), 1: ("mirrored", 0, a)}
        case "next":
            return [look, twin], {a: ("near", 0), 1: ("anywhere",), b: ("near", 1)}
        case "corner":  # somebody else in the same corner, so that the place alone does not tell
            return [look, twin], {a: ("touching", 0), 1: ("anywhere",), b: ("touching", 1)}
        case "between":
            third = (*_random_look(dice)[:3], dice.pick(SHAPES))
            rules = {c: ("near", 0), a: ("mirrored", c, 0), 1: ("near", c), b: ("mirrored", c, 1)}
            return [look, twin, third], rules
        case "two-hop":  # two landmarks of one noun on both sides of a third; a referent beside each of them
            middle = (*_random_look(dice)[:3], look[_SHAPE])
            other = _changed(look, _SHAPE, dice)
            rules = {a: ("near", 0), c: ("near", a), b: ("mirrored", a, c), 1: ("shifted", 0, a, b)}
            return [look, middle, other], rules
    return [], {}


def _places(
    dice: Dice, radii: list[float], needed: int, cell: int, rules: Rules, lonely: int
) -> dict[int, tuple[float, float]]:
    """Places without overlap, by number; the first ``lonely`` objects keep far from all others.

    Those for which no place is found are left out; once one of the needed is, no more are placed.
    """
    places: dict[int, tuple[float, float]] = {}

    def free(x: float, y: float, number: int) -> bool:
        radius = radii[number]
        low, high = radius + _MARGIN, 1 - radius - _MARGIN
        if not (low <= x <= high and low <= y <= high):
            return False
        for i, (ox, oy) in places.items():
            least = max(radius + radii[i] + _GAP, _ROOM if i < lonely else 0)
            if (x - ox) * (x - ox) + (y - oy) * (y - oy) < least * least:
                return False
        return True

    for number in [0, *rules, *(i for i in range(1, len(radii)) if i not in rules)]:
        for _ in range(_TRIES):
            if number in rules:
                place = _related(dice, rules[number], number, radii, places)
            else:
                place = _anywhere(dice, radii[number], cell if number == 0 else int(dice() * 9))
            if free(*place, number):
                places[number] = place
                break
        else:
            if number < needed:
                break
    return places


def _anywhere(dice: Dice, radius: float, cell: int) -> tuple[float, float]:
    """A place in this ninth of the canvas."""
    low, high = radius + _MARGIN, 1 - radius - _MARGIN
    row, column = divmod(cell, 3)
    x = dice.between(max(low, column / 3), min(high, (column + 1) / 3))
    return x, dice.between(max(low, row / 3), min(high, (row + 1) / 3))


def _related(
    dice: Dice, rule: tuple, number: int, radii: list[float], places: dict[int, tuple[float, float]]
) -> tuple[float, float]:
    """A try at a place that keeps a rule."""
    name, *others = rule
    jitter = dice.between(-0.03, 0.03), dice.between(-0.03, 0.03)
    match name:
        case "near" | "touching":
            (x, y), touching = places[others[0]], radii[number] + radii[others[0]] + _GAP
            # A direction without trigonometry: a point of the disc, pushed out to its distance.
            u, v = dice.between(-1, 1), dice.between(-1, 1)
            length = sqrt(u * u + v * v) or 1.0
            away = dice.between(touching, max(touching, 0.32 if name == "near" else 0.2)) / length
            return x + u * away, y + v * away
        case "mirrored":
            (x, y), (mx, my) = places[others[0]], places[others[1]]
            return 2 * mx - x + jitter[0], 2 * my - y + jitter[1]
        case "shifted":
            (x, y), (fx, fy), (tx, ty) = (places[i] for i in others)
            return x + tx - fx + jitter[0], y + ty - fy + jitter[1]
    return _anywhere(dice, radii[number], int(dice() * 9))
