"""A scene as the speaker sees it, and what is fair to say about it.

Sets of objects are whole numbers here, bit i for object i: a phrase is matched by a few *and*s. Meaning is
worked out from the expression, never from the text: that is what ``moe_lib.worlds.language.meaning`` does.
"""

from collections.abc import Iterator
from functools import cached_property
from itertools import combinations, pairwise
from math import sqrt

from moe_lib.worlds.language.grammar import FORMS, LOOSE, STRICT, VALUES, Expression, Margins, Phrase, Thing

_SLOT = {"colour": 2, "pattern": 1}


class View:
    """A scene as the speaker sees it."""

    def __init__(self, things: list[Thing]):
        self.things, self.count = things, len(things)
        self.all = (1 << self.count) - 1
        self.bits: dict[str | None, int] = {None: self.all}
        for i, thing in enumerate(things):
            for value in thing[:4]:
                self.bits[value] = self.bits.get(value, 0) | 1 << i
        self.distance = [[sqrt((a.x - b.x) ** 2 + (a.y - b.y) ** 2) for b in things] for a in things]

    def match(self, phrase: Phrase) -> int:
        """The objects of which a phrase is true."""
        bits = self.bits
        return (
            bits.get(phrase[0], 0) & bits.get(phrase[1], 0) & bits.get(phrase[2], 0) & bits.get(phrase[3], 0)
        )

    def way(self, one: int, other: int) -> str:
        """Where one object lies, seen from another."""
        right = self.things[one].x - self.things[other].x
        down = self.things[one].y - self.things[other].y
        if abs(right) > abs(down):
            return "right" if right > 0 else "left"
        return "below" if down > 0 else "above"

    def wastes(self, phrase: Phrase) -> bool:
        """Whether some modifier changes nothing."""
        here = self.match(phrase)
        return any(phrase[k] and self.match(_without(phrase, k)) == here for k in range(3))

    @cached_property
    def names(self) -> list[tuple[int, Phrase]]:
        """Every short phrase that is true of one object alone, with that object."""
        return [
            (i, phrase)
            for i, thing in enumerate(self.things)
            for phrase in phrases(thing, most=2)
            if self.match(phrase) == 1 << i and not self.wastes(phrase)
        ]

    @cached_property
    def groups(self) -> list[tuple[int, Phrase]]:
        """Every short phrase that is true of two or three objects, with each of them."""
        return [
            (i, phrase)
            for i, thing in enumerate(self.things)
            for phrase in phrases(thing, most=1, nouns=(True,))
            if 2 <= self.match(phrase).bit_count() <= 3 and not self.wastes(phrase)
        ]


def _without(phrase: Phrase, slot: int) -> Phrase:
    return Phrase(*phrase[:slot], None, *phrase[slot + 1 :])


def phrases(thing: Thing, most: int, nouns: tuple[bool, ...] = (True, False)) -> Iterator[Phrase]:
    """What can be said of a thing with so many modifiers at most, with its noun and as a "thing"."""
    said = [k for k in range(3) if thing[k] in VALUES[k]]
    for noun in nouns:
        for number in range(0 if noun else 1, most + 1):
            for kept in combinations(said, number):
                modifiers = (thing[k] if k in kept else None for k in range(3))
                yield Phrase(*modifiers, thing.shape if noun else None)


def referent(view: View, expression: Expression) -> int | None:
    """The object that an expression picks out, if it is a fair thing to say; else None.

    Fair: one object fits, by the strict and by the loose reading; landmarks are unique and no candidates; the
    head alone leaves it open; no word is wasted.
    """
    form, head, _, landmarks, _ = expression
    candidates = view.match(head)
    if FORMS[form] == "attribute":
        alone = _only(candidates)
        return alone if alone is not None and _has_foils(view, head, alone) else None
    if candidates.bit_count() < 2 or view.wastes(head):
        return None
    places, taken = [], candidates
    for number, phrase in enumerate(landmarks):
        there = view.match(phrase)
        several = form == "two-hop" and number == 0  # the clause that follows tells which
        if not there or there & taken or (there.bit_count() > 1) != several or view.wastes(phrase):
            return None
        places.append(there)
        taken |= there
    strict = _picked(view, expression, candidates, places, STRICT)
    if strict is None or _picked(view, expression, candidates, places, LOOSE) != strict:
        return None
    return strict


def _only(bits: int) -> int | None:
    return bits.bit_length() - 1 if bits and not bits & (bits - 1) else None


def _has_foils(view: View, head: Phrase, alone: int) -> bool:
    """For each word there is an object that differs in it only, and no word says much by itself."""
    said = [k for k in range(4) if head[k]]
    if len(said) < 2:
        return False
    for k in said:
        if view.bits[head[k]].bit_count() < 3:
            return False
        twins = view.all & ~view.bits[head[k]]
        for other in range(4):
            if other != k:
                twins &= view.bits[view.things[alone][other]]
        if not twins:
            return False
    return True


def _picked(view: View, expression: Expression, candidates: int, places: list[int], m: Margins) -> int | None:
    """The only candidate that the expression's clause is true of."""
    form, _, words, _, _ = expression
    things = view.things
    members = [i for i in range(view.count) if candidates >> i & 1]
    if form == "direction" or form == "next":
        return _beside(view, members, words[0], places[0].bit_length() - 1, m)
    if form == "two-hop":
        around = [i for i in range(view.count) if places[0] >> i & 1]
        landmark = _beside(view, around, words[1], places[1].bit_length() - 1, m)
        return None if landmark is None else _beside(view, members, words[0], landmark, m)
    if form == "between":
        one, two = (things[place.bit_length() - 1] for place in places)
        return _single([i for i in members if _lies_between(things[i], one, two, m)])
    if form == "same":
        slot = _SLOT[words[0]]
        if expression.head[slot] or expression.landmarks[0][slot]:
            return None
        return _single([i for i in members if things[i][slot] == things[places[0].bit_length() - 1][slot]])
    if form == "superlative":
        if expression.head.size or not expression.head.shape:
            return None
        sign = -1 if words[0] == "biggest" else 1
        first, second = sorted(members, key=lambda i: sign * things[i].radius)[:2]
        ratio = things[first].radius / things[second].radius
        return first if max(ratio, 1 / ratio) >= m.larger else None
    if form == "far":
        room = [min(d for j, d in enumerate(view.distance[i]) if j != i) for i in members]
        (second, _), (first, best) = sorted(zip(room, members, strict=True))[-2:]
        return best if first > m.far and first >= m.farther * second else None
    return _placed(things, form, words, members, m)


def _placed(
    things: list[Thing], form: str, words: tuple[str, ...], members: list[int], m: Margins
) -> int | None:
    """The one member in this place of the picture."""
    axis = [4 if word in ("left", "right") else 5 for word in words]
    turned = [word in ("right", "bottom") for word in words]

    def along(i: int, k: int) -> float:
        return 1 - things[i][axis[k]] if turned[k] else things[i][axis[k]]

    if form == "corner":
        reach = {i: max(along(i, 0), along(i, 1)) for i in members}
        inside = _single([i for i in members if reach[i] < m.corner])
        return inside if inside is not None and sum(r < m.outside for r in reach.values()) <= 1 else None
    line = sorted((along(i, len(words) - 1), i) for i in members)
    if form == "extreme":
        return line[0][1] if line[1][0] - line[0][0] >= m.lead else None
    if form == "side":
        return line[0][1] if line[0][0] < 0.5 - m.side and line[1][0] > 0.5 + m.side else None
    if len(line) < 3 or any(b[0] - a[0] < m.gap for a, b in pairwise(line)):
        return None
    return line[1 if words[0] == "second" else 2][1]


def _single(found: list[int]) -> int | None:
    return found[0] if len(found) == 1 else None


def _beside(view: View, members: list[int], word: str, landmark: int, m: Margins) -> int | None:
    """The one member that stands in this relation to the landmark."""
    if word == "next":
        near = sorted((view.distance[landmark][i], i) for i in members)
        first = near[0][0]
        return near[0][1] if first < m.near and (len(near) == 1 or near[1][0] >= m.nearer * first) else None
    at, things = view.things[landmark], view.things
    found = None
    for i in members:
        right, down = things[i].x - at.x, things[i].y - at.y
        main, other = (right, down) if word in ("left", "right") else (down, right)
        if word in ("left", "above"):
            main = -main
        if main > m.along and abs(other) < m.slope * main:
            if found is not None:
                return None
            found = i
    return found


def _lies_between(thing: Thing, one: Thing, two: Thing, m: Margins) -> bool:
    dx, dy = two.x - one.x, two.y - one.y
    ax, ay = thing.x - one.x, thing.y - one.y
    squared = dx * dx + dy * dy
    share = (ax * dx + ay * dy) / squared
    return m.inner < share < 1 - m.inner and abs(ax * dy - ay * dx) / sqrt(squared) < m.off
