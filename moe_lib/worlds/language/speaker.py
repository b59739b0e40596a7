"""The speaker: makes up a scene and finds two things to say about it, one word apart."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

from moe_lib.worlds.draws import Draws
from moe_lib.worlds.language.cast import Dice, MayMean, cast, ninth
from moe_lib.worlds.language.grammar import FORMS, VALUES, Expression, Phrase, Thing, realise
from moe_lib.worlds.language.view import View, phrases, referent

_TURNED = {
    "left": "right", "right": "left", "top": "bottom", "bottom": "top", "above": "below", "below": "above",
    "second": "third", "third": "second", "biggest": "smallest", "smallest": "biggest",
    "colour": "pattern", "pattern": "colour",
}  # fmt: skip
_EDGES = ("left", "right", "top", "bottom")
_PROPOSALS = 14  # per scene


def _proposals(view: View, form: str, about: int, dice: Dice) -> Iterator[Expression]:
    """Things that might be said about an object; most do not pick it out."""
    thing = view.things[about]
    if FORMS[form] == "attribute":
        nouns = {"phrase": (True,), "thing": (False,), "only": (True, False)}[form]
        heads = [h for h in phrases(thing, 3, nouns) if view.match(h) == 1 << about]
    else:
        nouns = (True, False) if dice() < 0.15 and form != "superlative" else (True,)
        heads = [
            h for h in phrases(thing, 2, nouns) if 2 <= view.match(h).bit_count() <= 5 and not view.wastes(h)
        ]
    if not heads:
        return
    for _ in range(_PROPOSALS):
        head = dice.pick(heads)
        if _too_easy(view, head, dice):
            continue
        clause = _clause(view, form, about, head, dice)
        if clause:
            yield Expression(form, head, *clause, int(dice() < 0.5))


def _too_easy(view: View, head: Phrase, dice: Dice) -> bool:
    """Whether to leave it: of two candidates half of all guesses are right, so such scenes are few."""
    return view.match(head).bit_count() == 2 and dice() < 0.6


def _clause(
    view: View, form: str, about: int, head: Phrase, dice: Dice
) -> tuple[tuple[str, ...], tuple[Phrase, ...]] | None:
    """The form's own words, and landmarks; those of relations may be true of the object."""
    if form not in ("direction", "next", "same", "between", "two-hop"):
        return _words(form, dice), ()
    others = [(i, name) for i, name in view.names if not view.match(head) >> i & 1]
    if len(others) < 2:
        return None
    at, landmark = dice.pick(others)
    if form == "direction":
        return (view.way(about, at),), (landmark,)
    if form == "between":
        return (), (landmark, dice.pick(others)[1])
    if form == "two-hop":
        groups = [(i, name) for i, name in view.groups if not view.match(name) & (view.match(head) | 1 << at)]
        if not groups:
            return None
        around, middle = dice.pick(groups)
        hops = (about, around), (around, at)
        return tuple("next" if dice() < 0.5 else view.way(*hop) for hop in hops), (middle, landmark)
    return _words(form, dice), (landmark,)


def _words(form: str, dice: Dice) -> tuple[str, ...]:
    match form:
        case "extreme" | "side":
            return (dice.pick(_EDGES),)
        case "ordinal":
            return dice.pick(("second", "third")), dice.pick(_EDGES)
        case "corner":
            return dice.pick(("top", "bottom")), dice.pick(("left", "right"))
        case "next":
            return ("next",)
        case "superlative":
            return (dice.pick(("biggest", "smallest")),)
        case "same":
            return (dice.pick(("colour", "pattern")),)
    return ()


def _one_word_off(expression: Expression) -> Iterator[list[Expression]]:
    """Expressions that differ in one word, by where that word is."""
    form, head, words, landmarks, _ = expression
    turned = []
    for k, word in enumerate(words):
        others = _EDGES if form == "extreme" or (form == "ordinal" and k == 1) else (_TURNED.get(word, word),)
        turned += [
            expression._replace(words=(*words[:k], other, *words[k + 1 :]))
            for other in others
            if other != word
        ]
    yield turned
    yield [expression._replace(head=other) for other in _swapped(head)]
    for k, phrase in enumerate(landmarks):
        yield [
            expression._replace(landmarks=(*landmarks[:k], other, *landmarks[k + 1 :]))
            for other in _swapped(phrase)
        ]


def _swapped(phrase: Phrase) -> list[Phrase]:
    return [
        Phrase(*phrase[:k], other, *phrase[k + 1 :])
        for k in range(4)
        if phrase[k]
        for other in VALUES[k]
        if other != phrase[k]
    ]


class Situation(NamedTuple):
    """A scene and two things to say about it, which differ in one word and mean different objects."""

    things: list[Thing]
    expressions: tuple[Expression, Expression]
    referents: tuple[int, int]


def situation(draws: Draws, form: str, *, fits: Callable[[str], bool], may_mean: MayMean) -> Situation:
    """Make up a scene and a minimal pair of this form.

    Args:
        fits: Whether a sentence may be used.
        may_mean: Whether an object may be referred to.
    """
    dice = Dice(draws)
    cell = ninth(form, dice)
    for _ in range(5000):
        things = cast(form, cell, may_mean, dice)
        if things is None:
            continue
        view = View(things)
        for expression in _proposals(view, form, 0, dice):
            if referent(view, expression) != 0 or not may_mean(things[0]) or not fits(realise(expression)):
                continue
            pair = _partner(view, expression, fits, may_mean, dice)
            if pair is not None:
                return _shuffled(things, (expression, pair[0]), (0, pair[1]), dice)
    raise RuntimeError(f"no scene for an expression of the form {form!r}: the conditions are too strict")


def _partner(view, expression, fits, may_mean, dice) -> tuple[Expression, int] | None:
    for group in dice.shuffled(list(_one_word_off(expression))):
        for other in dice.shuffled(group):
            meant = referent(view, other)
            if meant is None or meant == 0 or not may_mean(view.things[meant]) or not fits(realise(other)):
                continue
            if not _too_easy(view, other.head, dice):
                return other, meant
    return None


def _shuffled(things, expressions, referents, dice: Dice) -> Situation:
    """So that neither an object's number nor an expression's says anything."""
    order = dice.shuffled(list(range(len(things))))
    place = {old: new for new, old in enumerate(order)}
    pairs = list(zip(expressions, (place[i] for i in referents), strict=True))
    if dice() < 0.5:
        pairs.reverse()
    return Situation([things[i] for i in order], (pairs[0][0], pairs[1][0]), (pairs[0][1], pairs[1][1]))
