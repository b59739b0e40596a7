"""What can be guessed without reading the whole expression: policies that must fail on the referring task.

A policy looks at a sentence and at the objects as they truly are (no pixels) and names those between which it
is torn. A generator that lets one of them succeed is broken: :func:`success` is asserted in the tests.
"""

from collections.abc import Callable, Iterable, Sequence

from moe_lib.worlds.language.grammar import COLOURS, FILLS, SHAPES, SIZES, Thing
from moe_lib.worlds.language.meaning import matching, read

Policy = Callable[[str, Sequence[Thing]], list[int]]
"""From a sentence and the objects to the places of those that might be meant."""

_DESCRIPTIVE = frozenset((*SIZES, *FILLS, *COLOURS, *SHAPES))


def random_object(text: str, things: Sequence[Thing]) -> list[int]:
    """Reads nothing."""
    return list(range(len(things)))


def head_noun(text: str, things: Sequence[Thing]) -> list[int]:
    """Reads the noun that is spoken about."""
    return matching(read(text).head.split()[-1], things)


def head_phrase(text: str, things: Sequence[Thing]) -> list[int]:
    """Reads what is spoken about, but not what is said of it."""
    return matching(read(text).head, things)


def any_phrase(text: str, things: Sequence[Thing]) -> list[int]:
    """Reads all noun phrases, but not how they hang together."""
    reading = read(text)
    return sorted({i for phrase in (reading.head, *reading.landmarks) for i in matching(phrase, things)})


def nearest_word(text: str, things: Sequence[Thing]) -> list[int]:
    """Reads one word: the first that describes an object."""
    first = next((word for word in text.split() if word in _DESCRIPTIVE), "thing")
    return matching(first, things)


def bag_of_words(text: str, things: Sequence[Thing]) -> list[int]:
    """Reads every word that describes an object, in no order, and takes those of which most are true.

    All that an attribute expression asks for; on every other kind it must fail.
    """
    words = [word for word in text.split() if word in _DESCRIPTIVE]
    true = [sum(word in thing[:4] for word in words) for thing in things]
    return _best(range(len(things)), lambda i: -true[i])


def shape_only(text: str, things: Sequence[Thing]) -> list[int]:
    """Reads the names of shapes, wherever they stand."""
    named = [word for word in text.split() if word in SHAPES]
    return [i for i, thing in enumerate(things) if thing.shape in named] or list(range(len(things)))


def nearest_centre(text: str, things: Sequence[Thing]) -> list[int]:
    """Reads nothing, and looks at the middle of the picture."""
    return _best(range(len(things)), lambda i: (things[i].x - 0.5) ** 2 + (things[i].y - 0.5) ** 2)


def position_only(text: str, things: Sequence[Thing]) -> list[int]:
    """Reads where, but not what: "the leftmost star" is the leftmost object of all."""
    reading, everything = read(text), list(range(len(things)))
    depth = {
        "left": lambda i: things[i].x, "right": lambda i: 1 - things[i].x, "top": lambda i: things[i].y,
        "bottom": lambda i: 1 - things[i].y,
    }  # fmt: skip
    depth |= {"above": depth["top"], "below": depth["bottom"]}
    ways = [depth[word] for word in reading.words if word in depth]
    match reading.form:
        case "extreme":
            return _best(everything, ways[0])
        case "ordinal":
            return [sorted(everything, key=ways[0])[{"second": 1, "third": 2}[reading.words[0]]]]
        case "side" | "direction" | "corner" | "two-hop":
            return [i for i in everything if all(way(i) < 0.5 for way in ways[:2])] or everything
        case "between":
            return nearest_centre(text, things)
        case "far":
            return _best(everything, lambda i: -_room(i, things))
    return everything


POLICIES: dict[str, Policy] = {
    "random object": random_object,
    "head noun only": head_noun,
    "head phrase": head_phrase,
    "any mentioned phrase": any_phrase,
    "nearest centre": nearest_centre,
    "nearest word": nearest_word,
    "bag of words": bag_of_words,
    "shape only": shape_only,
    "position only": position_only,
}
"""Name → policy."""


def success(policy: Policy, cases: Iterable[tuple[str, Sequence[Thing], int]]) -> float:
    """How often a policy is right, where it guesses evenly between those that it is torn between.

    Args:
        cases: Sentence, objects, and the place of the one that is meant.

    Introduced in :doc:`/chapters/pocket_world`.
    """
    rates = []
    for text, things, meant in cases:
        guesses = policy(text, things)
        rates.append((meant in guesses) / max(len(guesses), 1))
    if not rates:
        raise ValueError("a success rate needs at least one case")
    return sum(rates) / len(rates)


def _best(members: Iterable[int], cost: Callable[[int], float]) -> list[int]:
    members = list(members)
    least = min(map(cost, members))
    return [i for i in members if cost(i) == least]


def _room(i: int, things: Sequence[Thing]) -> float:
    """Squared distance to the nearest other object."""
    return min((o.x - things[i].x) ** 2 + (o.y - things[i].y) ** 2 for j, o in enumerate(things) if j != i)
