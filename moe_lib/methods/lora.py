"""LoRA: a frozen linear map, and beside it a product of two thin matrices :cite:`hu2022lora`.

Shapes: a layer from D to O numbers, S slices of O that are adapted, rank r.
"""

import math
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from moe_lib.methods.base import Adapted, Method, Names, plus_product

FUSED = "qkv"  # the order of the slices in a layer that makes query, key and value at once


@dataclass(frozen=True)
class LoRA(Method):
    """Low-rank adaptation of linear layers.

    Args:
        rank: Of the change that can be learnt.
        alpha: The change is scaled by alpha / rank; left out, alpha is the rank, and the scale 1.
        dropout: Of the branch's input, while training.
        slices: Which of query, key and value to adapt in a fused layer, such as ``"qv"``, each with a pair of
            matrices of its own. Left out, one pair serves the whole layer. It concerns targets named "…qkv".

    Introduced in :doc:`/chapters/02_small_changes`.
    """

    rank: int = 4
    alpha: float | None = None
    dropout: float = 0.0
    slices: str | None = None
    targets: Names = field(default=("qkv",), kw_only=True)

    def __post_init__(self):
        if not isinstance(self.rank, int) or self.rank < 1:
            raise ValueError(f"the rank is a whole number from 1, got {self.rank!r}")
        if self.alpha is not None and not math.isfinite(self.alpha):
            raise ValueError(f"alpha is a finite number, got {self.alpha!r}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is a share from 0 to below 1, got {self.dropout!r}")
        if self.slices is not None and (
            not self.slices or len(set(self.slices)) < len(self.slices) or set(self.slices) - set(FUSED)
        ):
            raise ValueError(f"slices are some of q, k and v, such as 'qv'; got {self.slices!r}")

    def wrap(self, module: nn.Module, name: str) -> "LoRALinear":
        if not isinstance(module, nn.Linear):
            raise TypeError(f"LoRA adapts nn.Linear, and {name!r} is a {type(module).__name__}")
        slices = self.slices if name.endswith(FUSED) else None
        if slices and module.out_features % 3:
            raise ValueError(
                f"{name!r} gives {module.out_features} numbers, no query, key and value of one size"
            )
        alpha = self.rank if self.alpha is None else self.alpha
        return LoRALinear(module, self.rank, alpha / self.rank, self.dropout, slices)


class LoRALinear(Adapted):
    """``base(x) + scale · B A x``. B begins as zero, so that the layer begins as ``base``."""

    def __init__(
        self, base: nn.Linear, rank: int, scale: float = 1.0, dropout: float = 0.0, slices: str | None = None
    ):
        super().__init__(base)
        self.rank, self.scale, self.dropout = rank, scale, dropout
        self.slices = None if slices is None else sorted(FUSED.index(s) for s in slices)
        count, parts = (1, 1) if slices is None else (len(slices), len(FUSED))
        like = {"device": base.weight.device, "dtype": torch.promote_types(base.weight.dtype, torch.float32)}
        self.A = nn.Parameter(torch.empty(count, rank, base.in_features, **like))
        self.B = nn.Parameter(torch.zeros(count, base.out_features // parts, rank, **like))
        for a in self.A:
            nn.init.kaiming_uniform_(a, a=math.sqrt(5))
        self.whole: Tensor | None = None  # while merged: the weight as it was

    def adapted(self, x: Tensor) -> Tensor:
        base = self.base(x)
        if self.merged:
            return base
        x = F.dropout(x.to(self.A.dtype), self.dropout, self.training)
        low = self.scale * F.linear(x, self.A.flatten(0, 1))  # (…, S·r)
        if self.slices is None:
            return plus_product(base, low, self.B[0]).to(base.dtype)
        low = low.unflatten(-1, (len(self.A), self.rank))
        change = [F.linear(u, b) for u, b in zip(low.unbind(-2), self.B, strict=True)]
        return (base + self._placed(change)).to(base.dtype)

    def delta(self) -> Tensor:
        """What the branch adds to the weight: ``(O, D)``."""
        return self.scale * self._placed([(b @ a).mT for a, b in zip(self.A, self.B, strict=True)]).mT

    def _placed(self, parts: list[Tensor]) -> Tensor:
        """The slices' numbers ``(…, O / 3)`` where they belong in ``(…, O)``."""
        if self.slices is None:
            return parts[0]
        where = dict(zip(self.slices, parts, strict=True))
        nothing = torch.zeros_like(parts[0])
        return torch.cat([where.get(i, nothing) for i in range(len(FUSED))], -1)

    @property
    def merged(self) -> bool:
        """Whether the change is in the weight, so that the layer costs what it cost before."""
        return self.whole is not None

    def merge(self) -> None:
        """Add the change to the weight."""
        if not self.merged:
            weight = self.base.weight.detach()
            self.whole = weight.clone()
            weight += self.delta().detach().to(weight.dtype)

    def unmerge(self) -> None:
        """Put the weight back as it was, to the last bit."""
        if self.merged:
            self.base.weight.detach().copy_(self.whole)
            self.whole = None

    def extra_repr(self) -> str:
        chosen = "" if self.slices is None else f", slices={''.join(FUSED[i] for i in self.slices)}"
        return f"rank={self.rank}, scale={self.scale:g}{chosen}"
