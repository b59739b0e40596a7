"""What an expression denotes: from English to the objects meant.

This is the referee of the referring task. It reads the sentence, not what the speaker had in mind, and was
written apart from the speaker (``moe_lib.worlds.language.speaker``), so that a mistake in one of them
shows as a disagreement.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import hypot

from moe_lib.worlds.language.grammar import COLOURS, FILLS, LOOSE, SHAPES, SIZES, STRICT, Margins, Thing


@dataclass(frozen=True)
class Reading:
    """A sentence, understood: its form, its noun phrases, and the words that say how they hang together.

    Introduced in :doc:`/chapters/pocket_world`.
    """

    form: str
    head: str
    landmarks: tuple[str, ...] = ()
    words: tuple[str, ...] = ()


def _np(name: str) -> str:
    options = ["|".join(values) for values in (SIZES, FILLS, COLOURS)]
    modifiers = "".join(f"(?:(?:{option}) )?" for option in options)
    return f"(?P<{name}>{modifiers}(?:{'|'.join(SHAPES)}|thing))"


_DIR = "(?:to the )?(?:left|right) of|above|below"
_REL = f"{_DIR}|next to|beside"
_SENTENCES = [
    (form, re.compile(pattern))
    for form, pattern in [
        ("only", f"the only {_np('head')}"),
        ("extreme", f"the (?P<w0>left|right|top|bottom)most {_np('head')}"),
        ("extreme", f"the {_np('head')} nearest the (?P<w0>left|right|top|bottom) edge"),
        ("superlative", f"the (?P<w0>biggest|largest|smallest) {_np('head')}"),
        ("ordinal", f"the (?P<w0>second|third) {_np('head')} from the (?P<w1>left|right|top|bottom)"),
        ("side", f"the {_np('head')} (?:on|at) the (?P<w0>left|right|top|bottom)"),
        ("corner", f"the {_np('head')} in the (?P<w0>top|bottom) (?P<w1>left|right) corner"),
        ("far", f"the {_np('head')} (?:far from everything else|all by itself)"),
        ("same", f"the {_np('head')} with the same (?P<w0>colour|pattern) as the {_np('l0')}"),
        ("between", f"the {_np('head')} between the {_np('l0')} and the {_np('l1')}"),
        ("direction", f"the {_np('head')} (?P<w0>{_DIR}) the {_np('l0')}"),
        ("next", f"the {_np('head')} (?P<w0>next to|beside) the {_np('l0')}"),
        (
            "two-hop",
            f"the {_np('head')} (?P<w0>{_REL}) the {_np('l0')} that is (?P<w1>{_REL}) the {_np('l1')}",
        ),
    ]
]
_BARE = re.compile(f"the {_np('head')}")


def read(text: str) -> Reading:
    """Understand a sentence.

    Introduced in :doc:`/chapters/pocket_world`.
    """
    for form, pattern in _SENTENCES:
        found = pattern.fullmatch(text)
        if found:
            parts = found.groupdict()
            return Reading(
                form,
                parts["head"],
                tuple(parts[key] for key in ("l0", "l1") if key in parts),
                tuple(parts[key].removeprefix("to the ").split()[0] for key in ("w0", "w1") if key in parts),
            )
    found = _BARE.fullmatch(text)
    if not found:
        raise ValueError(f"cannot make sense of {text!r}")
    return Reading("thing" if found["head"].endswith("thing") else "phrase", found["head"])


def matching(phrase: str, things: Sequence[Thing]) -> list[int]:
    """The objects of which every word of a noun phrase is true.

    Introduced in :doc:`/chapters/pocket_world`.
    """
    words = [word for word in phrase.split() if word != "thing"]
    return [i for i, thing in enumerate(things) if all(word in thing[:4] for word in words)]


def denoted(text: str, things: Sequence[Thing], *, loose: bool = False) -> list[int]:
    """The objects that a sentence can mean, as places in ``things``; a clear sentence means one.

    Args:
        loose: Accept less clear cases: whoever reads generously must still find only one.

    Introduced in :doc:`/chapters/pocket_world`.
    """
    reading, margins = read(text), LOOSE if loose else STRICT
    candidates = matching(reading.head, things)
    landmarks = [matching(phrase, things) for phrase in reading.landmarks]
    if reading.form == "two-hop":
        outer, inner = reading.words
        if len(landmarks[1]) != 1:
            return []
        landmarks = [_related(inner, landmarks[0], landmarks[1][0], things, margins)]
        if len(landmarks[0]) != 1:
            return []
        return _related(outer, candidates, landmarks[0][0], things, margins)
    if any(len(found) != 1 for found in landmarks):
        return []
    places = [found[0] for found in landmarks]
    match reading.form:
        case "phrase" | "thing":
            return candidates
        case "only":
            same_noun = matching(reading.head.split()[-1], things)
            return candidates if len(candidates) == 1 < len(same_noun) else []
        case "direction" | "next":
            return _related(reading.words[0], candidates, places[0], things, margins)
        case "between":
            return [i for i in candidates if _is_between(things[i], *(things[p] for p in places), margins)]
        case "same":
            what = {"colour": "colour", "pattern": "fill"}[reading.words[0]]
            model = getattr(things[places[0]], what)
            return [i for i in candidates if getattr(things[i], what) == model]
        case "superlative":
            return _standing_out(candidates, reading.words[0], things, margins)
        case "far":
            return _alone(candidates, things, margins)
        case _:
            return _placed(reading, candidates, things, margins)


def _related(
    word: str, candidates: list[int], landmark: int, things: Sequence[Thing], m: Margins
) -> list[int]:
    """Who stands in this relation to the landmark."""
    at = things[landmark]
    if word in ("next", "beside"):
        away = {i: hypot(things[i].x - at.x, things[i].y - at.y) for i in candidates if i != landmark}
        return [
            i
            for i, mine in away.items()
            if mine < m.near and all(other >= m.nearer * mine for j, other in away.items() if j != i)
        ]
    found = []
    for i in candidates:
        right, down = things[i].x - at.x, things[i].y - at.y
        ways = {
            "left": (-right, down),
            "right": (right, down),
            "above": (-down, right),
            "below": (down, right),
        }
        main, other = ways[word]
        if main > m.along and abs(other) < m.slope * main:
            found.append(i)
    return found


def _is_between(thing: Thing, one: Thing, two: Thing, m: Margins) -> bool:
    span = (two.x - one.x, two.y - one.y)
    length = hypot(*span) or 1.0
    way = ((thing.x - one.x) * span[0] + (thing.y - one.y) * span[1]) / length
    off = ((thing.x - one.x) * span[1] - (thing.y - one.y) * span[0]) / length
    return m.inner < way / length < 1 - m.inner and abs(off) < m.off


def _standing_out(candidates: list[int], most: str, things: Sequence[Thing], m: Margins) -> list[int]:
    def larger(a: int, b: int) -> bool:
        a, b = (b, a) if most == "smallest" else (a, b)
        return things[a].radius >= m.larger * things[b].radius

    return [i for i in candidates if all(larger(i, j) for j in candidates if j != i)]


def _alone(candidates: list[int], things: Sequence[Thing], m: Margins) -> list[int]:
    room = [min(hypot(a.x - b.x, a.y - b.y) for b in things if b is not a) for a in things]
    return [
        i
        for i in candidates
        if room[i] > m.far and all(room[i] >= m.farther * room[j] for j in candidates if j != i)
    ]


def _placed(reading: Reading, candidates: list[int], things: Sequence[Thing], m: Margins) -> list[int]:
    """Who is in this place of the picture."""

    def depth(i: int, way: str) -> float:
        """How far from the edge that is named."""
        return {
            "left": things[i].x, "right": 1 - things[i].x, "top": things[i].y, "bottom": 1 - things[i].y,
        }[way]  # fmt: skip

    if reading.form == "corner":

        def within(i: int, square: float) -> bool:
            return all(depth(i, way) < square for way in reading.words)

        return [
            i for i in candidates
            if within(i, m.corner) and not any(within(j, m.outside) for j in candidates if j != i)
        ]  # fmt: skip
    way = reading.words[-1]
    order = sorted(candidates, key=lambda i: depth(i, way))
    gaps = [depth(b, way) - depth(a, way) for a, b in pairwise(order)]
    match reading.form:
        case "extreme":
            return order[:1] if all(gap >= m.lead for gap in gaps[:1]) else []
        case "side":
            there = [i for i in order if depth(i, way) < 0.5 - m.side]
            beyond = [i for i in order if depth(i, way) > 0.5 + m.side]
            return there if len(there) == 1 and len(there) + len(beyond) == len(order) else []
        case "ordinal":
            rank = {"second": 1, "third": 2}[reading.words[0]]
            return order[rank : rank + 1] if all(gap >= m.gap for gap in gaps) else []
    raise ValueError(f"no meaning for {reading}")
