"""DETRIS's adapters, which SERA builds on: dense convolutions, and a look at the words
:cite:`huang2025detris`.

Shapes: B pictures, T tokens of d channels: some special ones, then h · w of the picture; a bottleneck of D
channels; L words of d_t channels.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Convolved(nn.Sequential):
    """Convolution, batch norm, ReLU; the size stays."""

    def __init__(self, inputs: int, outputs: int, kernel: int, dimensions: int):
        conv, norm = ((nn.Conv1d, nn.BatchNorm1d), (nn.Conv2d, nn.BatchNorm2d))[dimensions - 1]
        super().__init__(
            conv(inputs, outputs, kernel, padding=kernel // 2), norm(outputs, eps=1e-3), nn.ReLU()
        )


class Branches(nn.Module):
    """Convolutions of 1, 3 and 5 places side by side: ``(B, D, …)`` → the same.

    Args:
        width: D; the branches give D/2, D/4 and D/4 channels.
        dimensions: 1 for words, 2 for a picture.
        dense: Each branch also sees what those before it gave, as published for DETRIS; else all see the
            same.
    """

    def __init__(self, width: int, dimensions: int, dense: bool = True):
        super().__init__()
        if width % 16:
            raise ValueError(f"the width of an aligner is a multiple of 16, got {width}")
        half, quarter, few, more = width // 2, width // 4, width // 16, dense * width // 4
        self.dense = dense
        self.one = Convolved(width, half, 1, dimensions)
        self.three = nn.Sequential(
            Convolved(width + 2 * more, few, 1, dimensions), Convolved(few, quarter, 3, dimensions)
        )
        self.five = nn.Sequential(
            Convolved(width + 3 * more, few, 1, dimensions), Convolved(few, quarter, 5, dimensions)
        )

    def forward(self, x: Tensor) -> Tensor:
        seen, made = x, []
        for branch in (self.one, self.three, self.five):
            made.append(branch(seen))
            if self.dense:
                seen = torch.cat([seen, made[-1]], 1)
        return torch.cat(made, 1)


class Look(nn.Module):
    """Each place looks at the words: ``(B, N, D)``, ``(B, L, d_t)`` → ``(B, N, D)``."""

    def __init__(self, width: int, words: int, inside: int, heads: int, dropout: float = 0.1):
        super().__init__()
        self.enter, self.words = nn.Linear(width, inside), nn.Linear(words, inside)
        self.attention = nn.MultiheadAttention(inside, heads, dropout, batch_first=True)
        self.leave = nn.Linear(inside, width)

    def forward(self, x: Tensor, words: Tensor, padding: Tensor | None = None) -> Tensor:
        words = self.words(words)
        return self.leave(self.attention(self.enter(x), words, words, padding, need_weights=False)[0])


class Aligner(nn.Module):
    """The dense aligner: tokens ``(B, T, d)`` → the same.

    Args:
        channels: d.
        words: d_t.
        width: D.
        inside: Channels of the attention.
        heads: Of the attention.
        stage: What else is done between convolutions and words: it is given what those made, of what, and
            the sentence.
    """

    def __init__(
        self, channels: int, words: int, width: int = 128, inside: int | None = None, heads: int = 8,
        dropout: float = 0.1, dense: bool = True, stage: nn.Module | None = None,
    ):  # fmt: skip
        super().__init__()
        self.down, self.up = nn.Linear(channels, width), nn.Linear(width, channels)
        self.branches, self.stage = Branches(width, 2, dense), stage
        self.look = Look(width, words, inside or width, heads, dropout)
        drawn(self)

    def forward(
        self, y: Tensor, grid: tuple[int, int], words: Tensor, padding: Tensor | None = None,
        sentence: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        u = F.relu(self.down(y))
        special, places = u.split([u.shape[1] - grid[0] * grid[1], grid[0] * grid[1]], 1)
        x = places.mT.unflatten(-1, grid)
        rich = self.branches(x) + x
        if self.stage is not None:
            rich = self.stage(rich, x, sentence)
        looked = self.look(rich.flatten(2).mT, words, padding)
        return self.up(torch.cat([special, looked], 1) + u)  # special tokens become 2 u, as published


class TextAdapter(nn.Module):
    """The same for words, without the look: ``(B, L, d_t)`` → the same.

    The convolutions see later words, and batch norm sees padding, as published.
    """

    def __init__(self, channels: int, width: int = 64, dense: bool = True):
        super().__init__()
        self.down, self.up = nn.Linear(channels, width), nn.Linear(width, channels)
        self.branches = Branches(width, 1, dense)
        drawn(self)

    def forward(self, x: Tensor) -> Tensor:
        u = F.relu(self.down(x))
        made = self.branches(u[:, 1:].mT).mT  # the first token stands aside, and becomes 2 u
        return self.up(torch.cat([u[:, :1], made], 1) + u)


def drawn(module: nn.Module) -> None:
    """Weights of layers as DETRIS draws them, biases 0."""
    for layer in module.modules():
        if isinstance(layer, (nn.Linear, nn.Conv1d, nn.Conv2d)):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
