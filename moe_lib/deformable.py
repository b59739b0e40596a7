"""Deformable attention in pure PyTorch, and with Controllable-LPMoE's cosine factor.

Shapes: B pictures, Nq queries, Nv values, D channels, M heads, P points of each on L levels; a level is a map
of h × w of the Nv values, one level after the other, each row by row.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

COSINE = ("sum", "mean", "none")


def references(sizes: list[tuple[int, int]], like: Tensor) -> Tensor:
    """The middle of each cell of some maps, from 0 to 1, x before y: ``(N, 2)``."""
    found = []
    for h, w in sizes:
        y, x = torch.meshgrid(
            (torch.arange(h, device=like.device, dtype=like.dtype) + 0.5) / h,
            (torch.arange(w, device=like.device, dtype=like.dtype) + 0.5) / w,
            indexing="ij",
        )
        found.append(torch.stack([x, y], -1).flatten(0, 1))
    return torch.cat(found)


class DeformableAttention(nn.Module):
    """Each query looks at a few points of each level, where and how much it says itself.

    With ``cosine`` the weight of a point is a product of two softmaxes. The first is the usual one of the
    query; the second is of the sum t of all values, each weighted by its cosine with the query, through the
    same linear map. As published the product is not normalised again: the weights sum to less than 1.

    Args:
        width: D.
        heads: M.
        points: P.
        levels: L.
        ratio: Of the values' channels to D.
        cosine: "sum" as published; "mean", which divides t by the number of values; "none", the usual form.
        renormalise: Let the weights sum to 1 again.
    """

    def __init__(
        self, width: int, heads: int, points: int, levels: int, ratio: float = 1.0, cosine: str = "none",
        renormalise: bool = False,
    ):  # fmt: skip
        super().__init__()
        if cosine not in COSINE:
            raise ValueError(f"cosine is one of {', '.join(COSINE)}; got {cosine!r}")
        inside = int(width * ratio)
        if inside % heads:
            raise ValueError(f"{inside} channels of values cannot be shared by {heads} heads")
        self.heads, self.points, self.levels = heads, points, levels
        self.cosine, self.renormalise = cosine, renormalise
        self.offsets = nn.Linear(width, heads * levels * points * 2)
        self.weights = nn.Linear(width, heads * levels * points)
        self.value = nn.Linear(width, inside)
        self.out = nn.Linear(inside, width)
        self.reset()

    @torch.no_grad()
    def reset(self) -> None:
        """Every head looks in a direction of its own, its points 1, 2, … cells away, with equal weights."""
        for layer in (self.offsets, self.weights):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        angle = torch.arange(self.heads) * (2 * math.pi / self.heads)
        direction = torch.stack([angle.cos(), angle.sin()], -1)
        direction = direction / direction.abs().amax(-1, keepdim=True)  # (M, 2)
        away = torch.arange(1, self.points + 1)[:, None]
        grid = (direction[:, None, None] * away).expand(-1, self.levels, -1, -1)  # (M, L, P, 2)
        self.offsets.bias.copy_(grid.flatten())
        for layer in (self.value, self.out):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, q: Tensor, v: Tensor, places: Tensor, sizes: list[tuple[int, int]]) -> Tensor:
        """``q`` (B, Nq, D) at ``places`` (Nq, 2), ``v`` (B, Nv, D) on levels of these sizes → (B, Nq, D)."""
        if len(sizes) != self.levels or sum(h * w for h, w in sizes) != v.shape[1]:
            raise ValueError(f"{v.shape[1]} values do not lie on {self.levels} levels of {sizes}")
        weights = self.attention(q, v)
        cells = torch.tensor([[w, h] for h, w in sizes], device=q.device, dtype=q.dtype)  # (L, 2)
        shape = (*q.shape[:2], self.heads, self.levels, self.points)
        where = places[:, None, None, None] + self.offsets(q).view(*shape, 2) / cells[:, None]
        return self.out(self._sampled(self.value(v), 2 * where - 1, weights, sizes))

    def attention(self, q: Tensor, v: Tensor) -> Tensor:
        """The weights of all points, ``(B, Nq, M, L, P)``."""
        shape = (*q.shape[:2], self.heads, self.levels * self.points)
        weights = self.weights(q).view(shape).softmax(-1)
        if self.cosine != "none":
            weights = weights * self._said_of_similar(q, v).view(shape).softmax(-1)
            if self.renormalise:
                weights = weights / weights.sum(-1, keepdim=True)
        return weights.unflatten(-1, (self.levels, self.points))

    def _said_of_similar(self, q: Tensor, v: Tensor) -> Tensor:
        """``weights(t)`` for t = Σ cos(q, v) v, without the map of all queries and values.

        There is no softmax between them, so the sum over values can be done first, and on what the linear map
        makes of a value. Lengths are divided by where there are few numbers to divide.
        """
        of_q, of_v = (x.norm(dim=-1, keepdim=True) + 1e-8 for x in (q, v))
        said = q @ (v.mT @ (F.linear(v, self.weights.weight) / of_v)) / of_q
        return (said / v.shape[1] if self.cosine == "mean" else said) + self.weights.bias

    def _sampled(self, v: Tensor, where: Tensor, weights: Tensor, sizes: list[tuple[int, int]]) -> Tensor:
        """Σ weight · value, bilinear, and 0 outside: values (B, Nv, C), places from -1 to 1 → (B, Nq, C)."""
        total = 0
        for level, (values, (h, w)) in enumerate(
            zip(v.split([h * w for h, w in sizes], 1), sizes, strict=True)
        ):
            maps = values.mT.unflatten(1, (self.heads, -1)).flatten(0, 1).unflatten(-1, (h, w))
            places = where[..., level, :, :].transpose(1, 2).flatten(0, 1)  # (BM, Nq, P, 2)
            found = F.grid_sample(maps, places, mode="bilinear", padding_mode="zeros", align_corners=False)
            share = weights[..., level, :].transpose(1, 2).flatten(0, 1)  # (BM, Nq, P)
            total = total + torch.einsum("bcqp,bqp->bcq", found, share)
        return total.unflatten(0, (-1, self.heads)).flatten(1, 2).mT
