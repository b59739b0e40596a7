"""A text encoder as CLIP's: words and a sentence, as vectors.

Shapes: B sentences of L tokens, from start to end and padded; vectors of D numbers.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

Tokeniser = Callable[[Sequence[str], int], Tensor]  # texts, L → (B, L)


@dataclass(frozen=True)
class Said:
    """What sentences say: ``words`` (B, L, D), ``sentence`` (B, D), ``padding`` (B, L), true where none is.

    Introduced in :doc:`/book/other_methods`.
    """

    words: Tensor
    sentence: Tensor
    padding: Tensor


class TextBlock(nn.Module):
    """One causal block. Parts are named as in the checkpoints of CLIP."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.mlp = nn.ModuleDict({"c_fc": nn.Linear(width, 4 * width), "c_proj": nn.Linear(4 * width, width)})

    def forward(self, x: Tensor) -> Tensor:
        x = self.attended(x)
        return x + self.fed(x)

    def attended(self, x: Tensor) -> Tensor:
        """After the first half: a word looks at those before it."""
        later = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool, device=x.device).triu(1)
        y = self.ln_1(x)
        return x + self.attn(y, y, y, need_weights=False, attn_mask=later)[0]

    def fed(self, x: Tensor) -> Tensor:
        """What the second half adds."""
        hidden = self.mlp["c_fc"](self.ln_2(x))
        return self.mlp["c_proj"](hidden * (1.702 * hidden).sigmoid())


class TextEncoder(nn.Module):
    """Texts or tokens ``(B, L)`` → :class:`Said`. With the defaults it is the text half of CLIP ViT-B/16.

    Its tensors are named as in CLIP's checkpoints; ``logit_scale`` is among them, and nothing here uses it.

    Args:
        tokenise: Texts and L to tokens, such as ``open_clip.tokenize`` for CLIP's.
        end: Number of the token that ends a sentence; what follows it is padding.
        vocabulary: How many tokens there are.
        length: The most that a sentence may have.
        width: D of the words.
        depth: Blocks.
        heads: Of the attention.
        use: L, if fewer than ``length`` are to be used.

    Introduced in :doc:`/book/other_methods`.
    """

    def __init__(
        self, tokenise: Tokeniser | None = None, *, end: int = 49407, vocabulary: int = 49408,
        length: int = 77, width: int = 512, depth: int = 12, heads: int = 8, use: int | None = None,
    ):  # fmt: skip
        super().__init__()
        self.tokenise, self.end, self.width, self.length = tokenise, end, width, use or length
        self.token_embedding = nn.Embedding(vocabulary, width)
        self.positional_embedding = nn.Parameter(torch.empty(length, width))
        self.transformer = nn.ModuleDict(
            {"resblocks": nn.ModuleList(TextBlock(width, heads) for _ in range(depth))}
        )
        self.ln_final = nn.LayerNorm(width)
        self.text_projection = nn.Parameter(torch.empty(width, width))
        self.logit_scale = nn.Parameter(torch.zeros(()))
        nn.init.normal_(self.token_embedding.weight, std=0.02)
        nn.init.normal_(self.positional_embedding, std=0.01)
        nn.init.normal_(self.text_projection, std=width**-0.5)

    def forward(self, texts: Sequence[str] | Tensor) -> Said:
        tokens = self.tokens(texts)
        x = self.token_embedding(tokens) + self.positional_embedding[: tokens.shape[1]]
        for block in self.transformer["resblocks"]:
            x = block(x)
        words = self.ln_final(x)
        last = (tokens == self.end).int().argmax(1)
        sentence = words[torch.arange(len(words), device=words.device), last] @ self.text_projection
        return Said(words, sentence, torch.arange(tokens.shape[1], device=last.device) > last[:, None])

    def tokens(self, texts: Sequence[str] | Tensor) -> Tensor:
        """Tokens ``(B, L)`` of texts; an error where a sentence says nothing, or too much."""
        if not isinstance(texts, Tensor):
            texts = [texts] if isinstance(texts, str) else list(texts)
            if self.tokenise is None:
                raise ValueError("the text encoder was built without `tokenise`, and reads tokens only")
            if empty := [i for i, text in enumerate(texts) if not text.strip()]:
                raise ValueError(f"text {empty[0]} is empty: it refers to nothing")
            texts = self.tokenise(texts, self.length)
        tokens = texts.to(self.positional_embedding.device)
        if tokens.ndim != 2 or tokens.is_floating_point() or not len(tokens):
            raise ValueError(f"tokens are whole numbers (B, L), got {tuple(tokens.shape)} of {tokens.dtype}")
        if tokens.shape[1] > self.length:
            raise ValueError(f"{tokens.shape[1]} tokens are too long a sentence: at most {self.length}")
        count = len(self.token_embedding.weight)
        if tokens.min() < 0 or tokens.max() >= count:
            raise ValueError(f"tokens are from 0 to {count - 1}, got {int(tokens.min())}–{int(tokens.max())}")
        ends = tokens == self.end
        if not ends.any(1).all() or ends[:, :2].any():
            where = int((~ends.any(1) | ends[:, :2].any(1)).int().argmax())
            raise ValueError(f"sentence {where} has no words between its start and an end ({self.end})")
        return tokens
