"""The language of the referring task: what can be said, in which words, and what the words mean in numbers.

An :class:`Expression` is what a speaker has in mind; :func:`realise` puts it into English. The way back, from
English to the object meant, is ``moe_lib.worlds.language.meaning``, which shares nothing with the speaker
but the words and the margins of this file.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

SIZES = ("small", "big")
FILLS = ("plain", "striped")
COLOURS = ("red", "green", "blue", "yellow", "purple", "orange")
SHAPES = ("circle", "square", "triangle", "star", "cross", "ring")
VALUES = (SIZES, FILLS, COLOURS, SHAPES)

FORMS = {
    "phrase": "attribute", "thing": "attribute", "only": "attribute",
    "extreme": "absolute", "side": "absolute", "ordinal": "absolute", "corner": "absolute",
    "direction": "relation", "between": "relation",
    "next": "context", "superlative": "context", "far": "context", "same": "context",
    "two-hop": "two-hop",
}  # fmt: skip
"""Every form of expression, and the kind that it belongs to."""

KINDS = tuple(dict.fromkeys(FORMS.values()))

_PLACE = """
    left right top bottom upper lower above below under over middle centre corner side edge
    leftmost rightmost topmost bottommost first second third from between nearest
"""
FORBIDDEN = frozenset(_PLACE.split())
"""Words of place, which the ``plus`` dialect does without."""


class Margins(NamedTuple):
    """How clear a case must be; lengths in canvas sides.

    Introduced in :doc:`/chapters/pocket_world`.
    """

    lead: float  # of the leftmost over the runner-up
    side: float  # from the middle line
    gap: float  # between neighbours that are counted
    corner: float  # side of the square that is the corner …
    outside: float  # … and of the one that all others keep out of
    along: float  # offset in the direction named
    slope: float  # the other offset, as a share of it
    inner: float  # between: at least this share of the way from one landmark to the other …
    off: float  # … and at most so far from the line
    near: float  # next to: at most so far …
    nearer: float  # … and the runner-up at least so many times farther
    larger: float  # ratio of radii
    far: float  # from the nearest other object …
    farther: float  # … and so many times the runner-up's


STRICT = Margins(0.10, 0.06, 0.08, 0.42, 0.50, 0.12, 0.80, 0.20, 0.10, 0.33, 1.5, 1.35, 0.26, 1.39)
LOOSE = Margins(0.04, 0.0, 0.02, 0.48, 0.46, 0.06, 0.96, 0.12, 0.15, 0.39, 1.2, 1.08, 0.20, 1.11)


class Thing(NamedTuple):
    """An object of a scene: what can be said about it, and where it is.

    Introduced in :doc:`/chapters/pocket_world`.
    """

    size: str  # "small", "big" or "medium"; nobody calls a thing medium
    fill: str
    colour: str
    shape: str
    x: float
    y: float
    radius: float


class Phrase(NamedTuple):
    """A noun phrase: what it says about size, fill, colour and shape; None says nothing.

    Introduced in :doc:`/chapters/pocket_world`.
    """

    size: str | None = None
    fill: str | None = None
    colour: str | None = None
    shape: str | None = None

    def __str__(self) -> str:
        return " ".join(word for word in (*self[:3], self.shape or "thing") if word)


class Expression(NamedTuple):
    """What a speaker wants to say.

    Args:
        form: One of ``FORMS``.
        head: What is spoken about.
        words: The form's own choices: directions (``left right top bottom above below next``), ranks,
            "biggest", "colour" …
        landmarks: What it is related to.
        style: Which wording, where a form has two.

    Introduced in :doc:`/chapters/pocket_world`.
    """

    form: str
    head: Phrase
    words: tuple[str, ...] = ()
    landmarks: tuple[Phrase, ...] = ()
    style: int = 0


_EXTREME = {"left": "leftmost", "right": "rightmost", "top": "topmost", "bottom": "bottommost"}
_SIDE = {"left": "on the left", "right": "on the right", "top": "at the top", "bottom": "at the bottom"}
_NEAR = {"left": "left of", "right": "right of", "above": "above", "below": "below", "next": "next to"}
_RELATION = (_NEAR, _NEAR | {"left": "to the left of", "right": "to the right of", "next": "beside"})


def realise(expression: Expression) -> str:
    """The expression in English.

    Introduced in :doc:`/chapters/pocket_world`.
    """
    form, head, words, landmarks, style = expression
    relation = _RELATION[style]
    match form, words:
        case (("phrase" | "thing"), ()):
            return f"the {head}"
        case "only", ():
            return f"the only {head}"
        case "extreme", (way,):
            return f"the {head} nearest the {way} edge" if style else f"the {_EXTREME[way]} {head}"
        case "side", (way,):
            return f"the {head} {_SIDE[way]}"
        case "ordinal", (rank, way):
            return f"the {rank} {head} from the {way}"
        case "corner", (upper, left):
            return f"the {head} in the {upper} {left} corner"
        case (("direction" | "next"), (way,)):
            return f"the {head} {relation[way]} the {landmarks[0]}"
        case "between", ():
            return f"the {head} between the {landmarks[0]} and the {landmarks[1]}"
        case "superlative", (most,):
            return f"the {'largest' if style and most == 'biggest' else most} {head}"
        case "far", ():
            return f"the {head} {'all by itself' if style else 'far from everything else'}"
        case "same", (what,):
            return f"the {head} with the same {what} as the {landmarks[0]}"
        case "two-hop", (outer, inner):
            first = f"{relation[outer]} the {landmarks[0]}"
            return f"the {head} {first} that is {relation[inner]} the {landmarks[1]}"
    raise ValueError(f"no words for {expression}; the forms are {', '.join(FORMS)}")


SPECIAL = ("<padding>", "<start>", "<end>")
_WORDS = """
    thing the only leftmost rightmost topmost bottommost nearest left right top bottom edge corner on at in
    second third from to of above below between and next beside biggest largest smallest far everything else
    all by itself with same colour pattern as that is
"""
VOCABULARY = (*SPECIAL, *SIZES, *FILLS, *COLOURS, *SHAPES, *_WORDS.split())
"""Every word of the language; a word's place is its number."""

_NUMBER = {word: number for number, word in enumerate(VOCABULARY)}


def tokenise(texts: str | Sequence[str], length: int = 16) -> Tensor:
    """The words' numbers, between start and end, padded: int64 ``(length,)``, or ``(B, length)`` for B texts.

    Introduced in :doc:`/chapters/pocket_world`.
    """
    if not isinstance(texts, str):
        return torch.stack([tokenise(text, length) for text in texts])
    words = texts.lower().replace(",", " ").split()
    unknown = [word for word in words if word not in _NUMBER or word in SPECIAL]
    if unknown:
        raise ValueError(f"unknown word {unknown[0]!r} in {texts!r}; VOCABULARY lists the known ones")
    if len(words) + 2 > length:
        raise ValueError(f"{texts!r} has {len(words)} words; with length={length} at most {length - 2} fit")
    numbers = [_NUMBER["<start>"], *(_NUMBER[word] for word in words), _NUMBER["<end>"]]
    return torch.tensor(numbers + [_NUMBER["<padding>"]] * (length - len(numbers)))


def forbidden_words(text: str) -> list[str]:
    """The words of place in a text, which the ``plus`` dialect must not have.

    Introduced in :doc:`/chapters/pocket_world`.
    """
    return [word for word in text.split() if word in FORBIDDEN]
