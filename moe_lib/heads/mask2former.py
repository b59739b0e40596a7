"""Mask2Former's head, slim as Controllable-LPMoE has it: a pyramid → masks and their classes
:cite:`cheng2022mask2former`.

Shapes: B pictures, Q queries of D channels, K classes with the background.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from moe_lib.deformable import DeformableAttention, references
from moe_lib.heads.semantic import Segments


class Mask2FormerHead(nn.Module):
    """Four maps of ``channels``, the finest first → :class:`moe_lib.heads.Segments`, also of earlier layers.

    The sizes are those of Controllable-LPMoE's code, if they are left out: 1,393,667 parameters.

    Args:
        channels: Of the maps.
        classes: K; one more stands for no object.
        width: D.
        queries: Q.
        layers: Of the pixel decoder, and of the decoder of queries.
        heads: Of every attention.
        widths: Inside the FFNs of either.

    Introduced in :doc:`/book/other_methods`.
    """

    def __init__(
        self, channels: int, classes: int = 2, *, width: int = 64, queries: int = 100,
        layers: tuple[int, int] = (6, 9), heads: int = 8, widths: tuple[int, int] = (256, 512),
    ):  # fmt: skip
        super().__init__()
        self.classes = classes
        self.pixels = PixelDecoder(channels, width, layers[0], heads, widths[0])
        self.query = nn.Embedding(queries, width)
        self.query_place = nn.Embedding(queries, width)
        self.level = nn.Embedding(3, width)
        self.layers = nn.ModuleList(QueryLayer(width, heads, widths[1]) for _ in range(layers[1]))
        self.norm = nn.LayerNorm(width)
        self.class_head = nn.Linear(width, classes + 1)
        self.mask_head = nn.Sequential(
            nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width)
        )

    def forward(self, maps: list[Tensor]) -> Segments:
        memories, pixels = self.pixels(maps)
        places = [sine_places(memory).flatten(2).mT for memory in memories]
        tokens = [m.flatten(2).mT + own for m, own in zip(memories, self.level.weight, strict=True)]
        q = self.query.weight.expand(len(pixels), -1, -1)
        said = [self._said(q, pixels)]
        for i, layer in enumerate(self.layers):
            level = i % len(tokens)
            hidden = self._hidden(said[-1][0], memories[level].shape[-2:])
            q = layer(q, self.query_place.weight, tokens[level], places[level], hidden)
            said.append(self._said(q, pixels))
        *before, last = [Segments(masks, classes, masks) for masks, classes in said]
        return Segments(last.logits, last.classes, last.small, tuple(before))

    def _said(self, q: Tensor, pixels: Tensor) -> tuple[Tensor, Tensor]:
        q = self.norm(q)
        return torch.einsum("bqc,bchw->bqhw", self.mask_head(q), pixels), self.class_head(q)

    @staticmethod
    def _hidden(masks: Tensor, size: tuple[int, int]) -> Tensor:
        """Where a query must not look: outside of its mask, unless that is nowhere; ``(B, Q, hw)`` bool."""
        small = F.interpolate(masks.detach(), size, mode="bilinear", align_corners=False)
        hidden = (small < 0).flatten(2)
        return hidden & ~hidden.all(-1, keepdim=True)


class PixelDecoder(nn.Module):
    """Deformable attention among the three coarser maps, and their finest added to the finest of all.

    Gives the three, the coarsest first, and a map of the finest stride; all of ``width`` channels.
    """

    def __init__(self, channels: int, width: int, layers: int, heads: int, inside: int):
        super().__init__()
        self.enter = nn.ModuleList(
            nn.Sequential(nn.Conv2d(channels, width, 1), nn.GroupNorm(math.gcd(width, 32), width))
            for _ in range(3)
        )
        self.level = nn.Embedding(3, width)
        self.layers = nn.ModuleList(PixelLayer(width, heads, inside) for _ in range(layers))
        self.lateral = nn.Sequential(
            nn.Conv2d(channels, width, 1, bias=False), nn.GroupNorm(math.gcd(width, 32), width)
        )
        self.smooth = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1, bias=False), nn.GroupNorm(math.gcd(width, 32), width),
            nn.ReLU(),
        )  # fmt: skip
        self.leave = nn.Conv2d(width, width, 1)

    def forward(self, maps: list[Tensor]) -> tuple[list[Tensor], Tensor]:
        finest, *rest = maps
        rest = [layer(x) for layer, x in zip(self.enter, reversed(rest), strict=True)]
        sizes = [tuple(x.shape[-2:]) for x in rest]
        own = [sine_places(x).flatten(2).mT + e for x, e in zip(rest, self.level.weight, strict=True)]
        x, own = torch.cat([x.flatten(2).mT for x in rest], 1), torch.cat(own, 1)
        where = references(sizes, x)
        for layer in self.layers:
            x = layer(x, own, where, sizes)
        parts = x.split([h * w for h, w in sizes], 1)
        memories = [part.mT.unflatten(-1, size) for part, size in zip(parts, sizes, strict=True)]
        large = F.interpolate(memories[-1], finest.shape[-2:], mode="bilinear", align_corners=False)
        return memories, self.leave(self.smooth(self.lateral(finest) + large))


class PixelLayer(nn.Module):
    """Attention, FFN; the norms come after."""

    def __init__(self, width: int, heads: int, inside: int):
        super().__init__()
        self.attention = DeformableAttention(width, heads, points=4, levels=3)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.ffn = nn.Sequential(nn.Linear(width, inside), nn.ReLU(), nn.Linear(inside, width))

    def forward(self, x: Tensor, own: Tensor, where: Tensor, sizes: list[tuple[int, int]]) -> Tensor:
        x = self.norms[0](x + self.attention(x + own, x, where, sizes))
        return self.norms[1](x + self.ffn(x))


class QueryLayer(nn.Module):
    """Queries look at one of the maps inside of their masks, then at each other; the norms come after."""

    def __init__(self, width: int, heads: int, inside: int):
        super().__init__()
        self.heads = heads
        self.cross = nn.MultiheadAttention(width, heads, batch_first=True)
        self.own = nn.MultiheadAttention(width, heads, batch_first=True)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))
        self.ffn = nn.Sequential(nn.Linear(width, inside), nn.ReLU(), nn.Linear(inside, width))

    def forward(self, q: Tensor, place: Tensor, x: Tensor, where: Tensor, hidden: Tensor) -> Tensor:
        hidden = hidden.repeat_interleave(self.heads, 0)
        q = self.norms[0](q + self.cross(q + place, x + where, x, attn_mask=hidden, need_weights=False)[0])
        q = self.norms[1](q + self.own(q + place, q + place, q, need_weights=False)[0])
        return self.norms[2](q + self.ffn(q))


def sine_places(x: Tensor) -> Tensor:
    """Places of a map's cells as sines and cosines of their row and column, ``(1, C, h, w)``; C = 4n."""
    channels, (h, w) = x.shape[1], x.shape[-2:]
    frequency = 10_000 ** (torch.arange(channels // 4, device=x.device) / (channels // 4))
    parts = []
    for count in (h, w):
        angle = 2 * math.pi * torch.arange(1, count + 1, device=x.device)[:, None] / count / frequency
        parts.append(torch.stack([angle.sin(), angle.cos()], -1).flatten(1).mT)  # (C / 2, count)
    rows, columns = parts[0][:, :, None].expand(-1, h, w), parts[1][:, None].expand(-1, h, w)
    return torch.cat([rows, columns])[None].to(x.dtype)
