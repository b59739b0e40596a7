"""Controllable-LPMoE: a trainable pyramid beside a frozen plain ViT, and what the two tell each other.

Shapes: B pictures; x, tokens of the ViT (B, N, D), N = h × w patches; c, those of the pyramid,
(B, 21 N / 4, D), of maps of 2h × 2w, h × w and h/2 × w/2; e = D / 4 channels inside the FFN.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from timm.layers import DropPath
from torch import Tensor, nn

from moe_lib.backbones.plain import PlainVit, resized
from moe_lib.deformable import COSINE, DeformableAttention, references
from moe_lib.methods.base import Adapted, Method, Names
from moe_lib.methods.local_priors import KINDS, NORMS, Gate, LocalPriors

INTERACTIONS, EXTRA = 4, 2
Sizes = list[tuple[int, int]]


@dataclass(frozen=True)
class LPMoE(Method):
    """Local priors for a plain ViT, in four interactions :cite:`sun2025lpmoe`.

    The target is a :class:`moe_lib.backbones.PlainVit`; it comes to give four maps of a quarter of its
    channels, into which the pyramid of the picture has been worked. The paper's body could not be read: the
    defaults are those of its code, but for ``gamma`` (1e-6 there with BEiT) and ``drop_path`` (0.3), which
    begin at 0 here, so that the tokens of the ViT are those of the frozen model at first, bit for bit.

    Args:
        planes: Channels of the pyramid before it is projected; a multiple of 4.
        heads, points: Of the deformable attention; heads divide half of D.
        ratio: Channels of its values, as a share of D.
        kinds: Experts: "depthwise", "atrous", "asymmetric", "wavelet"; one may stand there several times.
        norm: "batch", with the same statistics at every scale, as published; "batch per scale" and "group"
            (ours).
        cosine: Of the attention: "sum" as published, "mean" and "none" (ours).
        renormalise: Let its weights sum to 1 (ours).
        gamma: What the injected tokens are multiplied with, at first.
        drop_path: Share of pictures that an FFN leaves as they are, in training.
        eps: Of the layer norms.

    Introduced in :doc:`/book/other_methods`.
    """

    planes: int = 64
    heads: int = 16
    points: int = 4
    ratio: float = 0.5
    kinds: Sequence[str] = KINDS
    norm: str = "batch"
    cosine: str = "sum"
    renormalise: bool = False
    gamma: float = 0.0
    drop_path: float = 0.0
    eps: float = 1e-6
    targets: Names = field(default="backbone", kw_only=True)

    def __post_init__(self):
        object.__setattr__(self, "kinds", tuple(self.kinds))
        if not isinstance(self.planes, int) or self.planes < 4 or self.planes % 4:
            raise ValueError(f"planes are a multiple of 4, got {self.planes!r}")
        if not self.kinds or (unknown := [kind for kind in self.kinds if kind not in KINDS]):
            what = repr(unknown[0]) if self.kinds else "none"
            raise ValueError(f"kinds are of {', '.join(KINDS)}; got {what}")
        for name, possible in (("norm", NORMS), ("cosine", COSINE)):
            if (value := getattr(self, name)) not in possible:
                raise ValueError(f"{name} is one of {', '.join(possible)}; got {value!r}")

    def wrap(self, module: nn.Module, name: str) -> "PriorsVit":
        if not isinstance(module, PlainVit):
            kind = type(module).__name__
            raise TypeError(f"LPMoE stands beside a backbones.PlainVit, and {name!r} is a {kind}")
        return PriorsVit(module, self)


class PriorsVit(Adapted):
    """A ViT with its pyramid: pictures ``(B, 3, H, W)`` → four maps ``(B, D / 4, …)``.

    Their strides are a quarter, a half, one and two patches.
    """

    base: PlainVit

    def __init__(self, base: PlainVit, method: LPMoE):
        super().__init__(base)
        width = base.width
        if base.depth % INTERACTIONS:
            raise ValueError(f"a ViT of {base.depth} blocks has no {INTERACTIONS} equal parts")
        with torch.device(base.vit.patch_embed.proj.weight.device):
            self.priors = LocalPriors(method.planes, width, base.patch, method.kinds, method.norm)
            self.level_embed = nn.Parameter(torch.randn(3, width))
            self.inject = nn.ModuleList(Inject(width, method) for _ in range(INTERACTIONS))
            self.extract = nn.ModuleList(Extract(width, method) for _ in range(INTERACTIONS + EXTRA))
            self.up = nn.ConvTranspose2d(width, width, 2, 2)
            make = nn.BatchNorm2d if method.norm != "group" else _group_norm
            self.norms = nn.ModuleList(make(width) for _ in range(4))
            self.reduce = nn.Conv2d(width, width // 4, 1, bias=False)
            nn.init.normal_(self.up.weight, std=math.sqrt(2 / (4 * width)))
            nn.init.zeros_(self.up.bias)

    def adapted(self, image: Tensor) -> list[Tensor]:
        base, stride = self.base, 2 * self.base.patch
        if any(side % stride for side in image.shape[-2:]):
            height, width = image.shape[-2:]
            raise ValueError(
                f"local priors need sides that are multiples of {stride}, got {height} × {width}"
            )
        x, besides, (h, w) = base.enter(image)
        first, *levels = self.priors(base.normalised(image))
        sizes = [tuple(level.shape[-2:]) for level in levels]
        c = torch.cat(
            [level.flatten(2).mT + own for level, own in zip(levels, self.level_embed, strict=True)], 1
        )
        of_x, of_c = references([(h, w)], c), references(sizes, c)
        left, part = [], base.depth // INTERACTIONS
        for i in range(INTERACTIONS):
            x = self.inject[i](x, c, of_x, sizes)
            for block in range(i * part, (i + 1) * part):
                x, besides = base.block(block, x, besides, (h, w))
            for extract in self.extract[i : i + 1] if i < INTERACTIONS - 1 else self.extract[i:]:
                c = extract(c, x, of_c, sizes, (h, w))
            left.append(x.mT.unflatten(-1, (h, w)))
        return self._pyramid(first, c, sizes, left)

    def _pyramid(self, first: Tensor, c: Tensor, sizes: Sizes, left: list[Tensor]) -> list[Tensor]:
        """Each level takes in what the ViT said at another depth; ``left`` is what left its four parts."""
        levels = [
            tokens.mT.unflatten(-1, size)
            for tokens, size in zip(c.split([h * w for h, w in sizes], 1), sizes, strict=True)
        ]
        levels = [first + self.up(levels[0]), *levels]
        scales = (4, 2, 1, 0.5)
        return [
            self.reduce(norm(level + (said if scale == 1 else resized(said, scale))))
            for level, said, scale, norm in zip(levels, left, scales, self.norms, strict=True)
        ]


class Inject(nn.Module):
    """The ViT reads from the pyramid: x + γ · attention."""

    def __init__(self, width: int, method: LPMoE):
        super().__init__()
        self.query_norm = nn.LayerNorm(width, eps=method.eps)
        self.value_norm = nn.LayerNorm(width, eps=method.eps)
        self.attention = _attention(width, 3, method)
        self.gamma = nn.Parameter(torch.full((width,), method.gamma))

    def forward(self, x: Tensor, c: Tensor, places: Tensor, sizes: Sizes) -> Tensor:
        return x + self.gamma * self.attention(self.query_norm(x), self.value_norm(c), places, sizes)


class Extract(nn.Module):
    """The pyramid reads from the ViT, and thinks about it: c + attention, c + FFN."""

    def __init__(self, width: int, method: LPMoE):
        super().__init__()
        self.query_norm = nn.LayerNorm(width, eps=method.eps)
        self.value_norm = nn.LayerNorm(width, eps=method.eps)
        self.attention = _attention(width, 1, method)
        self.ffn_norm = nn.LayerNorm(width, eps=method.eps)
        self.ffn = ScaleFFN(width)
        self.drop = DropPath(method.drop_path)

    def forward(self, c: Tensor, x: Tensor, places: Tensor, sizes: Sizes, grid: tuple[int, int]) -> Tensor:
        c = c + self.attention(self.query_norm(c), self.value_norm(x), places, [grid])
        return c + self.drop(self.ffn(self.ffn_norm(c), sizes))


class ScaleFFN(nn.Module):
    """An FFN in whose middle each channel of each scale is weakened, by one of two experts or between them.

    The experts are attention over channels and one minus another such attention. Both lie between 0 and 1,
    and so does what the gate makes of them: nothing is ever enhanced.
    """

    def __init__(self, width: int):
        super().__init__()
        inside = width // 4
        self.enter, self.leave = nn.Linear(width, inside), nn.Linear(inside, width)
        self.near = nn.Conv2d(inside, inside, 3, padding=1, groups=inside)
        self.gate = Gate(inside, 2)
        self.plain = nn.Conv1d(1, 1, 3, padding=1, bias=False)  # along the channels
        self.reverse = nn.Conv1d(1, 1, 3, padding=1, bias=False)
        for layer in (self.enter, self.leave, self.gate.fc):
            nn.init.trunc_normal_(layer.weight, std=0.02)
            nn.init.zeros_(layer.bias)
        nn.init.normal_(self.near.weight, std=math.sqrt(2 / 9))
        nn.init.zeros_(self.near.bias)

    def forward(self, c: Tensor, sizes: Sizes) -> Tensor:
        parts = self.enter(c).split([h * w for h, w in sizes], 1)
        maps = (part.mT.unflatten(-1, size) for part, size in zip(parts, sizes, strict=True))
        found = [self.weakened(self.near(each)).flatten(2).mT for each in maps]
        return self.leave(F.gelu(torch.cat(found, 1)))

    def weakened(self, f: Tensor) -> Tensor:
        """One scale, ``(B, e, h, w)`` → the same."""
        return f * self.factor(f)[..., None, None]

    def factor(self, f: Tensor) -> Tensor:
        """What each channel is multiplied with, ``(B, e)``."""
        gates = self.gate(f)
        pooled = (f.mean((-2, -1)) + f.amax((-2, -1)))[:, None]  # (B, 1, e)
        plain, reverse = self.plain(pooled)[:, 0].sigmoid(), 1 - self.reverse(pooled)[:, 0].sigmoid()
        return gates[:, :1] * plain + gates[:, 1:] * reverse


def _attention(width: int, levels: int, method: LPMoE) -> DeformableAttention:
    return DeformableAttention(
        width, method.heads, method.points, levels, method.ratio, method.cosine, method.renormalise
    )


def _group_norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(math.gcd(channels, 32), channels)
