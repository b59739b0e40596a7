"""DETRIS around its encoders: a picture and a sentence → the mask of what the sentence means
:cite:`huang2025detris`.

Shapes: B pictures, three maps of d channels on a grid of h × w; L words and a sentence of d_t channels; C
channels in the head.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from moe_lib.backbones.words import Said, TextEncoder

# What is trained of a Referrer, for a method's `also`: all but the two encoders.
REFERRING = r"(neck|decoder|projector)"
THRESHOLD = 0.35  # a pixel is inside above this probability, as published


@dataclass(frozen=True)
class Referred:
    """What a :class:`Referrer` answers: ``small`` (B, 1, 4h, 4w), logits as they left it, and ``size``.

    Introduced in :doc:`/book/other_methods`.
    """

    small: Tensor
    size: tuple[int, int]

    def probabilities(self) -> Tensor:
        """``(B, 1, H, W)``; as published it is probabilities that are enlarged, not logits."""
        inside = self.small.sigmoid()
        return F.interpolate(inside, self.size, mode="bicubic", align_corners=True).clamp(0, 1)

    def labels(self) -> Tensor:
        """1 inside, ``(B, H, W)`` int64."""
        return (self.probabilities()[:, 0] > THRESHOLD).long()


def referring_loss(answer: Referred, mask: Tensor) -> Tensor:
    """Mean binary cross-entropy with the mask ``(B, H, W)``, made as small as the logits.

    The paper calls it a contrastive loss of text and pixels; its code has neither a temperature nor negatives
    of other pictures.

    Introduced in :doc:`/book/other_methods`.
    """
    small = F.interpolate(mask[:, None].to(answer.small), answer.small.shape[-2:], mode="nearest")
    return F.binary_cross_entropy_with_logits(answer.small, small)


class GuidedEncoder(nn.Module):
    """A plain ViT, and what a sentence said for whatever was put into its blocks: → three maps (B, d, h, w).

    Args:
        vit: A :class:`moe_lib.backbones.PlainVit`.
        taps: After so many blocks the first two maps are taken; after a third and two thirds of them, if left
            out. The last is taken after the last norm.

    Introduced in :doc:`/book/other_methods`.
    """

    def __init__(self, vit: nn.Module, taps: Sequence[int] | None = None):
        super().__init__()
        self.vit, self.taps = vit, tuple(taps or (vit.depth // 3, 2 * vit.depth // 3))
        if len(self.taps) != 2 or not 0 < self.taps[0] <= self.taps[1] <= vit.depth:
            raise ValueError(f"taps are two, after 1 to {vit.depth} blocks; got {self.taps}")

    def forward(self, image: Tensor, said: Said) -> list[Tensor]:
        """Layers that were put into the ViT are told of ``said`` by a hook of their method."""
        x, besides, grid = self.vit.enter(image)
        maps = []
        for i in range(self.vit.depth):
            x, besides = self.vit.block(i, x, besides, grid)
            maps += [x] * self.taps.count(i + 1)
        return [y.mT.unflatten(-1, grid) for y in (*maps, self.vit.norm(x))]

    def grid(self, image: Tensor) -> tuple[int, int]:
        """h and w of a picture."""
        return image.shape[-2] // self.vit.patch, image.shape[-1] // self.vit.patch


def convolved(inputs: int, outputs: int, kernel: int) -> nn.Sequential:
    """Convolution, batch norm, ReLU; the size stays."""
    conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU())


class OneKey(nn.MultiheadAttention):
    """Attention to one key: ``(B, 1, C)`` → ``(B, 1, C)``, the same for every query.

    The softmax over one key is 1, so queries and keys decide nothing, and their weights never learn. They
    are here because the published model has them.
    """

    def forward(self, key: Tensor) -> Tensor:
        values = F.linear(key, self.in_proj_weight.chunk(3)[2], self.in_proj_bias.chunk(3)[2])
        return self.out_proj(values)


class Neck(nn.Module):
    """Three maps and a sentence → one map ``(B, C, h, w)``: each is weighted by channel, and joined.

    Args:
        channels: d.
        sentence: d_t.
        width: C.
        heads: Of the attention to the sentence.

    Introduced in :doc:`/book/other_methods`.
    """

    def __init__(self, channels: int, sentence: int = 512, width: int = 512, heads: int = 8):
        super().__init__()
        self.width = width
        self.enter = nn.ModuleList(convolved(channels, width, 1) for _ in range(3))
        self.enter[2][0] = nn.ConvTranspose2d(channels, width, 1, bias=False)  # as published
        self.say = nn.Linear(sentence, width)
        self.weigh = nn.ModuleList(OneKey(width, heads, batch_first=True) for _ in range(3))
        self.join = convolved(3 * width, width, 1)
        self.place = convolved(width + 2, width, 3)
        self.mix = convolved(width, width, 3)

    def forward(self, maps: Sequence[Tensor], sentence: Tensor) -> Tensor:
        said = self.say(sentence)[:, None]
        weighted = [
            x * weigh(said).mT[..., None] for x, weigh in zip(self.entered(maps), self.weigh, strict=True)
        ]
        x = self.join(torch.cat(weighted, 1))
        where = coordinates(*x.shape[-2:], device=x.device).to(x).expand(len(x), -1, -1, -1)
        return x + self.mix(self.place(torch.cat([x, where], 1)))

    def entered(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """The maps in C channels."""
        return [self.enter[i](x) for i, x in enumerate(maps)]


def coordinates(
    height: int, width: int, *, inside: bool = False, device: torch.device | None = None
) -> Tensor:
    """x and y of the pixels, ``(2, h, w)`` in float32: -1 and 1 are the outer ones, or the canvas' edges.

    Args:
        inside: The edges of the canvas are -1 and 1, and the pixels lie inside.

    Introduced in :doc:`/book/other_methods`.
    """

    def line(n: int) -> Tensor:
        like = {"dtype": torch.float32, "device": device}
        return (2 * torch.arange(n, **like) + 1) / n - 1 if inside else torch.linspace(-1, 1, n, **like)

    y, x = torch.meshgrid(line(height), line(width), indexing="ij")
    return torch.stack([x, y])


class DecoderLayer(nn.Module):
    """Places look at each other, then at the words."""

    def __init__(self, width: int, heads: int, inside: int, dropout: float):
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))
        self.after = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.itself, self.words = (
            nn.MultiheadAttention(width, heads, dropout, batch_first=True) for _ in range(2)
        )
        self.feed = nn.Sequential(
            nn.Linear(width, inside), nn.ReLU(), nn.Dropout(dropout), nn.LayerNorm(inside),
            nn.Linear(inside, width),
        )  # fmt: skip
        self.drop = nn.Dropout(dropout)

    def forward(
        self, x: Tensor, words: Tensor, keys: Tensor, place: Tensor, padding: Tensor | None
    ) -> Tensor:  # fmt: skip
        y = self.norms[0](x)
        looked = self.itself(y + place, y + place, y, need_weights=False)[0]
        x = x + self.drop(self.after[0](looked))
        query = self.norms[1](x) + place
        looked = self.words(query, keys, words, padding, need_weights=False)[0]
        x = x + self.drop(self.after[1](looked))
        return x + self.drop(self.feed(self.norms[2](x)))


class PlaceDecoder(nn.Module):
    """A map ``(B, C, h, w)`` and words ``(B, L, C)`` → the map, after every place looked at the words.

    Introduced in :doc:`/book/other_methods`.
    """

    def __init__(
        self, width: int = 512, layers: int = 3, heads: int = 8, inside: int = 512, dropout: float = 0.1
    ):
        super().__init__()
        self.layers = nn.ModuleList(DecoderLayer(width, heads, inside, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor, words: Tensor, padding: Tensor | None = None) -> Tensor:
        grid, keys = x.shape[-2:], words + waves(*words.shape[1:], words.device).to(words)
        place, x = waves_of(grid, x.shape[1], x.device).to(x), x.flatten(2).mT
        for layer in self.layers:
            x = layer(x, words, keys, place, padding)
        return self.norm(x).mT.unflatten(-1, grid)


def waves(count: int, width: int, device: torch.device | None = None) -> Tensor:
    """The usual sines and cosines of so many places on a line, ``(count, width)`` in float32."""
    like = {"dtype": torch.float32, "device": device}
    fall = torch.exp(torch.arange(0, width, 2, **like) * (-math.log(10000.0) / width))
    angle = torch.arange(count, **like)[:, None] * fall
    return torch.stack([angle.sin(), angle.cos()], -1).flatten(1)[:, :width]


def waves_of(grid: tuple[int, int], width: int, device: torch.device | None = None) -> Tensor:
    """Of the places of a grid, row by row, ``(h · w, width)``: half of them for the column."""
    rows, columns = (waves(n, width // 2, device) for n in grid)
    return torch.cat(
        [columns.expand(grid[0], -1, -1), rows[:, None].expand(-1, grid[1], -1)], -1
    ).flatten(0, 1)  # fmt: skip


class Projector(nn.Module):
    """A map and a sentence → logits ``(B, 1, 4h, 4w)``: the sentence is the kernel of the last convolution.

    Introduced in :doc:`/book/other_methods`.
    """

    def __init__(self, sentence: int = 512, width: int = 512):
        super().__init__()
        self.enlarge = nn.Sequential(
            nn.Upsample(scale_factor=2, mode="bilinear"), convolved(width, width, 3),
            nn.Upsample(scale_factor=2, mode="bilinear"), convolved(width, width // 2, 3),
            nn.Conv2d(width // 2, width // 2, 1),
        )  # fmt: skip
        self.say = nn.Linear(sentence, 9 * (width // 2) + 1)

    def forward(self, x: Tensor, sentence: Tensor) -> Tensor:
        x, said = self.enlarge(x), self.say(sentence)
        kernels = said[:, :-1].unflatten(1, (-1, 3, 3))
        # One convolution for the batch: each picture is a group of channels.
        flat = F.conv2d(x.flatten(0, 1)[None], kernels, said[:, -1], padding=1, groups=len(x))
        return flat.transpose(0, 1)


class Referrer(nn.Module):
    """Pictures and sentences → what is meant: ``model(batch)`` → :class:`Referred`.

    ``batch["image"]`` is (B, 3, H, W) in [0, 1]; ``batch["text"]`` are B sentences, or ``batch["tokens"]``
    their tokens. Put SERA into it: ``moe.inject(model, moe.SERA(also=moe.heads.REFERRING))``.

    Args:
        vit: The encoder of pictures, a :class:`moe_lib.backbones.PlainVit`.
        text: The encoder of sentences; its width is that of the head.
        taps: See :class:`GuidedEncoder`.
        heads: Of every attention in the head.
        layers: Of the decoder.
        inside: Channels between its linear layers; as many as a word has, if left out.
        dropout: In the decoder.

    Introduced in :doc:`/book/other_methods`.
    """

    classes = 1

    def __init__(
        self, vit: nn.Module, text: TextEncoder, *, taps: Sequence[int] | None = None, heads: int = 8,
        layers: int = 3, inside: int | None = None, dropout: float = 0.1,
    ):  # fmt: skip
        super().__init__()
        if text.width % 4:
            raise ValueError(f"the head needs words of a multiple of 4 channels, got {text.width}")
        self.picture_encoder, self.text_encoder = GuidedEncoder(vit, taps), text
        self.neck = Neck(vit.width, text.width, text.width, heads)
        self.decoder = PlaceDecoder(text.width, layers, heads, inside or text.width, dropout)
        self.projector = Projector(text.width, text.width)

    def forward(self, batch: Mapping[str, Any]) -> Referred:
        image = batch["image"]
        said = self.text_encoder(batch["tokens"] if "tokens" in batch else batch["text"])
        if len(said.words) != len(image):
            raise ValueError(f"{len(image)} pictures and {len(said.words)} sentences: not as many")
        x = self.neck(self.picture_encoder(image, said), said.sentence)
        x = self.decoder(x, said.words, said.padding)
        return Referred(self.projector(x, said.sentence), tuple(image.shape[-2:]))
