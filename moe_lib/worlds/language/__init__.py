"""The language of the referring task: sentences, what they mean, who makes them up, and who guesses."""

from moe_lib.worlds.language.grammar import (
    COLOURS,
    FILLS,
    FORBIDDEN,
    FORMS,
    KINDS,
    SHAPES,
    SIZES,
    VOCABULARY,
    Expression,
    Margins,
    Phrase,
    Thing,
    forbidden_words,
    realise,
    tokenise,
)
from moe_lib.worlds.language.meaning import Reading, denoted, matching, read
from moe_lib.worlds.language.policies import POLICIES, success
from moe_lib.worlds.language.speaker import Situation, situation

__all__ = [
    "COLOURS",
    "FILLS",
    "FORBIDDEN",
    "FORMS",
    "KINDS",
    "POLICIES",
    "SHAPES",
    "SIZES",
    "VOCABULARY",
    "Expression",
    "Margins",
    "Phrase",
    "Reading",
    "Situation",
    "Thing",
    "denoted",
    "forbidden_words",
    "matching",
    "read",
    "realise",
    "situation",
    "success",
    "tokenise",
]
