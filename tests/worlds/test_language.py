"""The language: two independent readings of every sentence agree, and nothing less than it is enough."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_lib.worlds import Draws
from moe_lib.worlds.language import (
    COLOURS,
    FILLS,
    FORBIDDEN,
    FORMS,
    POLICIES,
    SHAPES,
    SIZES,
    VOCABULARY,
    Expression,
    Phrase,
    Thing,
    denoted,
    forbidden_words,
    matching,
    read,
    realise,
    situation,
    success,
    tokenise,
)

PAIRS = 72  # of each form


def make(form, index, split="val"):
    return situation(
        Draws("language", split, index, part=form),
        form,
        fits=lambda text: len(text.split()) <= 14,
        may_mean=lambda look: True,
    )


@pytest.fixture(scope="module")
def said():
    """Form → list of (text, things, referent), pairs one after the other."""
    cases = {form: [] for form in FORMS}
    for form, found in cases.items():
        for index in range(PAIRS):
            it = make(form, index)
            found += [(realise(e), it.things, r) for e, r in zip(it.expressions, it.referents, strict=True)]
    return cases


def everything(said):
    return [(form, *case) for form, cases in said.items() for case in cases]


def test_the_referee_finds_one_object_and_it_is_the_speakers(said):
    for form, text, things, meant in everything(said):
        assert read(text).form == form
        assert denoted(text, things) == [meant], text
        assert denoted(text, things, loose=True) == [meant], text


def test_pairs_differ_in_one_word_and_mean_different_objects(said):
    for form, cases in said.items():
        for (one, things, a), (two, same, b) in zip(cases[::2], cases[1::2], strict=True):
            words = [one.split(), two.split()]
            assert len(words[0]) == len(words[1])
            assert sum(x != y for x, y in zip(*words, strict=True)) == 1, (form, one, two)
            assert things is same and a != b


def test_landmarks_are_unique_and_no_candidates(said):
    for form, text, things, _ in everything(said):
        reading = read(text)
        candidates = set(matching(reading.head, things))
        found = [matching(phrase, things) for phrase in reading.landmarks]
        assert all(candidates.isdisjoint(members) for members in found), text
        if form == "two-hop":  # the clause is needed to tell the first landmark
            assert len(found[0]) >= 2
            found = found[1:]
        assert all(len(members) == 1 for members in found), text


def test_without_its_clause_a_sentence_is_ambiguous(said):
    for form, text, things, meant in everything(said):
        if FORMS[form] != "attribute":
            candidates = matching(read(text).head, things)
            assert len(candidates) >= 2 and meant in candidates, text


def test_no_modifier_is_wasted(said):
    for _, text, things, _ in everything(said):
        reading = read(text)
        for phrase in (reading.head, *reading.landmarks):
            words = phrase.split()
            for k in range(len(words) - 1):
                shorter = " ".join(words[:k] + words[k + 1 :])
                assert matching(shorter, things) != matching(phrase, things), (text, phrase)


def test_every_word_of_an_attribute_expression_has_a_foil(said):
    """Another object that differs from the referent in that word's attribute and in no other."""
    slot = {word: k for k, words in enumerate((SIZES, FILLS, COLOURS, SHAPES)) for word in words}
    for form, text, things, meant in everything(said):
        if FORMS[form] != "attribute":
            continue
        words = [word for word in read(text).head.split() if word != "thing"]
        assert len(words) >= 2
        for word in words:
            differs = [
                [k for k in range(4) if thing[k] != things[meant][k]]
                for i, thing in enumerate(things)
                if i != meant
            ]
            assert [slot[word]] in differs, (text, word)


def test_policies_that_ignore_part_of_a_sentence_fail(said):
    kinds: dict[str, list] = {}
    for form, cases in said.items():
        kinds.setdefault(FORMS[form], []).extend(cases)
    rates = {
        (name, k): success(policy, cases) for name, policy in POLICIES.items() for k, cases in kinds.items()
    }
    enough = {
        ("head phrase", "attribute"),
        ("any mentioned phrase", "attribute"),
        ("bag of words", "attribute"),
    }
    for key, rate in rates.items():
        if key in enough:  # an attribute expression is no more than its words
            assert rate == 1
        else:
            # A little above the bar of 0.40, for these are a few hundred guesses; test_referring has more.
            assert rate <= 0.43, (key, rate)


def test_success_counts_even_guesses():
    things = [Thing("big", "plain", c, "star", 0.5, 0.5, 0.1) for c in ("red", "blue", "blue")]
    cases = [("the red star", things, 0), ("the blue star", things, 1)]
    assert success(POLICIES["random object"], cases) == pytest.approx(1 / 3)
    assert success(POLICIES["head phrase"], cases) == pytest.approx(0.75)
    with pytest.raises(ValueError, match="at least one case"):
        success(POLICIES["head phrase"], [])


def test_objects_lie_in_the_picture_and_apart(said):
    for form, cases in said.items():
        for _, things, _ in cases[::2]:
            assert 5 <= len(things) <= 9, form
            at = np.array([(t.x, t.y, t.radius) for t in things])
            assert (at[:, :2] - at[:, 2:] > 0).all() and (at[:, :2] + at[:, 2:] < 1).all()
            away = np.hypot(*(at[:, None, :2] - at[None, :, :2]).transpose(2, 0, 1))
            gap = away - at[:, None, 2] - at[None, :, 2] + 9 * np.eye(len(at))
            assert gap.min() >= 0.03 - 1e-9


# A scene to check the referee by hand: rows of x, y in canvas sides.
SCENE = [
    Thing("small", "plain", "red", "star", 0.15, 0.20, 0.06),
    Thing("big", "plain", "blue", "star", 0.75, 0.25, 0.13),
    Thing("small", "striped", "green", "star", 0.45, 0.80, 0.06),
    Thing("small", "striped", "red", "ring", 0.30, 0.50, 0.06),
    Thing("big", "plain", "blue", "square", 0.60, 0.50, 0.12),
    Thing("medium", "plain", "yellow", "star", 0.62, 0.95, 0.088),
]


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("the star", [0, 1, 2, 5]),
        ("the small plain thing", [0]),
        ("the only ring", []),  # no other ring: "only" says nothing
        ("the only striped star", [2]),
        ("the only star", []),
        ("the leftmost star", [0]),
        ("the rightmost star", [1]),
        ("the topmost star", []),  # by 0.05 only
        ("the star nearest the bottom edge", [5]),
        ("the second star from the left", [2]),
        ("the third star from the left", [5]),
        ("the third star from the right", [2]),
        ("the second star from the top", []),  # two are level
        ("the plain star on the left", [0]),
        ("the star on the right", []),  # two
        ("the star in the top left corner", [0]),
        ("the star in the top right corner", [1]),
        ("the star in the bottom left corner", []),
        ("the star left of the striped ring", []),
        ("the star above the striped ring", [0]),
        ("the star to the right of the square", []),
        ("the square to the right of the ring", [4]),
        ("the ring left of the square", [3]),
        ("the ring right of the square", []),
        ("the square below the blue star", [4]),
        ("the blue thing above the square", [1]),
        ("the ring between the red star and the blue square", []),  # off the line
        ("the ring between the red star and the green star", [3]),
        ("the square between the blue star and the green star", [4]),
        ("the square between the ring and the blue star", []),
        ("the plain star next to the square", [1]),
        ("the star beside the ring", []),  # none is nearest by enough
        ("the biggest star", [1]),
        ("the largest star", [1]),
        ("the smallest star", []),  # two
        ("the star with the same colour as the square", [1]),
        ("the star with the same pattern as the ring", [2]),
        ("the star with the same pattern as the square", [0, 1, 5]),
        ("the plain thing all by itself", []),
        ("the star next to the blue thing that is right of the ring", []),
        ("the blue star above the blue thing that is right of the ring", []),
        ("the ring left of the blue thing that is below the blue star", [3]),
    ],
)
def test_the_referee_by_hand(text, meant):
    assert denoted(text, SCENE) == meant


def test_loose_readings_admit_more():
    at = [Thing("big", "plain", "red", "star", x, y, 0.1) for x, y in ((0.3, 0.5), (0.37, 0.2), (0.8, 0.9))]
    ring = Thing("big", "plain", "red", "ring", 0.5, 0.62, 0.1)
    assert denoted("the leftmost star", at) == [] and denoted("the leftmost star", at, loose=True) == [0]
    assert denoted("the star left of the ring", [*at, ring]) == [0]
    near = [*at[:1], at[1]._replace(x=0.4, y=0.58), ring]
    assert denoted("the star left of the ring", near) == [0]
    assert denoted("the star left of the ring", near, loose=True) == [0, 1]
    lone = [at[0], at[2], ring._replace(x=0.75, y=0.75)]
    assert denoted("the star far from everything else", lone) == [0]
    close = [at[0], at[2]._replace(x=0.6, y=0.74), ring]
    assert denoted("the star all by itself", close) == []
    assert denoted("the star all by itself", close, loose=True) == [0]


def test_nonsense_is_refused():
    for text in ("", "star", "the purple elephant", "the star of the ring", "the star on the top left"):
        with pytest.raises(ValueError, match="cannot make sense"):
            read(text)
    with pytest.raises(ValueError, match="no words for"):
        realise(Expression("side", Phrase(shape="star")))


def test_every_word_has_a_number_and_is_used(said):
    used = {word for _, text, *_ in everything(said) for word in text.split()}
    assert used == set(VOCABULARY) - {"<padding>", "<start>", "<end>"}
    assert len(set(VOCABULARY)) == len(VOCABULARY) <= 70


def test_tokens():
    tokens = tokenise("the red star")
    assert tokens.shape == (16,) and tokens.dtype == torch.int64
    assert [VOCABULARY[t] for t in tokens[:6]] == ["<start>", "the", "red", "star", "<end>", "<padding>"]
    assert (tokens[5:] == VOCABULARY.index("<padding>")).all()
    assert tokenise(["The red star", "the star on the left"], length=8).shape == (2, 8)
    assert torch.equal(tokenise(["The red star"])[0], tokens)
    with pytest.raises(ValueError, match="unknown word 'crimson'"):
        tokenise("the crimson star")
    with pytest.raises(ValueError, match="unknown word '<end>'"):
        tokenise("the <end>")
    with pytest.raises(ValueError, match="5 words; with length=6 at most 4"):
        tokenise("the star on the left", length=6)


def test_forbidden_words():
    assert forbidden_words("the star to the left of the ring") == ["left"]
    assert forbidden_words("the star next to the ring that is big") == []
    words = {
        "left",
        "right",
        "top",
        "bottom",
        "above",
        "below",
        "leftmost",
        "corner",
        "second",
        "from",
        "between",
    }
    assert words <= FORBIDDEN


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**40), st.sampled_from([f for f in FORMS if f not in ("two-hop", "between", "far")]))
def test_any_sentence_means_what_its_speaker_meant(index, form):
    it = make(form, index, split="train")
    again = make(form, index, split="train")
    assert it == again
    for expression, meant in zip(it.expressions, it.referents, strict=True):
        text = realise(expression)
        assert denoted(text, it.things) == denoted(text, it.things, loose=True) == [meant]
        assert read(text).head == str(expression.head)
        assert read(text).landmarks == tuple(map(str, expression.landmarks))
