"""What a text encoder learns from sentences alone: the next word, and what kind of sentence it is.

Shapes: B sentences of L tokens.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from moe_lib.backbones.words import TextEncoder
from moe_lib.worlds.language import FORMS, VOCABULARY, realise, tokenise
from moe_lib.worlds.referring import DIALECTS, Referring

PADDING = VOCABULARY.index("<padding>")
KINDS = tuple(FORMS)


@dataclass(frozen=True)
class Sentences:
    """Tokens ``(n, L)`` and the number of each sentence's form ``(n,)``; ``scenes`` are some of them."""

    tokens: Tensor
    form: Tensor

    def __len__(self) -> int:
        return len(self.tokens)

    def to(self, device: torch.device) -> "Sentences":
        return Sentences(self.tokens.to(device), self.form.to(device))

    def scenes(self, rows: Tensor) -> "Sentences":
        rows = rows.to(self.tokens.device)
        return Sentences(self.tokens[rows], self.form[rows])


def sentences(split: str, n: int) -> Sentences:
    """The first n of a split of the referring world, of all its dialects in turn. No picture is made."""
    tasks = [Referring(split, n, dialect=dialect) for dialect in DIALECTS]
    texts, forms = [], []
    for i in tqdm(range(n), desc=f"Sentences of {split}", unit="sentence", delay=2, disable=None):
        number = i // len(tasks)
        expression = tasks[i % len(tasks)].situation(number).expressions[number % 2]
        texts.append(realise(expression))
        forms.append(KINDS.index(expression.form))
    return Sentences(tokenise(texts), torch.tensor(forms))


class Reader(nn.Module):
    """A text encoder, and what guesses the next word from each word, and the form from the sentence."""

    def __init__(self, text: TextEncoder):
        super().__init__()
        self.text = text
        self.next = nn.Linear(text.width, len(VOCABULARY))
        self.form = nn.Linear(text.width, len(KINDS))

    def measure(self, given: Sentences) -> dict[str, Tensor]:
        """The losses, and the shares of right guesses."""
        said = self.text(given.tokens)
        words, truth = self.next(said.words[:, :-1]), given.tokens[:, 1:]
        counts, form = truth != PADDING, self.form(said.sentence)
        word = F.cross_entropy(words.mT.float(), truth, ignore_index=PADDING)
        kind = F.cross_entropy(form.float(), given.form)
        return {
            "loss": word + kind,
            "word": (words.argmax(-1) == truth)[counts].float().mean(),
            "form": (form.argmax(-1) == given.form).float().mean(),
        }


class Reading(nn.Module):
    """The objective of a text encoder."""

    def __init__(self, reader: Reader):
        super().__init__()
        self.model = reader

    def forward(self, given: Sentences, seeds: Tensor) -> dict[str, Tensor]:
        return self.model.measure(given)

    @staticmethod
    @torch.no_grad()
    def measured(reader: Reader, held_out: Sentences) -> dict[str, float]:
        return {name: float(value) for name, value in reader.measure(held_out).items()}
