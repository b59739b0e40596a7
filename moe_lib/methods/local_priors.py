"""Controllable-LPMoE's local priors: a pyramid from the picture, with four kinds of convolution in it.

Shapes: B pictures, C planes, q = C / 4 of them in an expert, E experts; u is a map (B, C, h, w) of one of the
four scales, numbered from the finest.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from moe_lib.routing import Routed, dense, router_logits

SCALES = 4
NORMS = ("batch", "batch per scale", "group")


class ConvNorm(nn.Module):
    """Convolution, norm, ReLU.

    ``norm`` is "batch", one batch norm for all scales, as published; "batch per scale", which keeps the
    statistics of one scale out of another's; or "group", which has none.
    """

    def __init__(self, conv: nn.Module, channels: int, norm: str = "batch"):
        super().__init__()
        self.conv = conv
        if norm == "group":
            norms = [nn.GroupNorm(math.gcd(channels, 8), channels)]
        else:
            norms = [nn.BatchNorm2d(channels) for _ in range(SCALES if norm == "batch per scale" else 1)]
        self.norms = nn.ModuleList(norms)

    def forward(self, x: Tensor, scale: int = 0) -> Tensor:
        return F.relu(self.norms[scale if len(self.norms) > 1 else 0](self.conv(x)))


class Asymmetric(nn.Module):
    """1 × k, then k × 1."""

    def __init__(self, channels: int, kernel: int, norm: str):
        super().__init__()
        row = nn.Conv2d(channels, channels, (1, kernel), padding=(0, kernel // 2))
        column = nn.Conv2d(channels, channels, (kernel, 1), padding=(kernel // 2, 0))
        self.row, self.column = ConvNorm(row, channels, norm), ConvNorm(column, channels, norm)

    def forward(self, x: Tensor, scale: int = 0) -> Tensor:
        return self.column(self.row(x, scale), scale)


class Wavelet(nn.Module):
    """A depthwise convolution of the map, and one of its four Haar bands."""

    def __init__(self, channels: int, kernel: int):
        super().__init__()
        options = {"padding": kernel // 2}
        self.base = nn.Conv2d(channels, channels, kernel, groups=channels, **options)
        self.bands = nn.Conv2d(4 * channels, 4 * channels, kernel, groups=4 * channels, bias=False, **options)
        self.base_scale = nn.Parameter(torch.ones(1, channels, 1, 1))
        self.bands_scale = nn.Parameter(torch.full((1, 4 * channels, 1, 1), 0.1))

    def forward(self, x: Tensor) -> Tensor:
        bands = self.bands_scale * self.bands(haar(x))
        return self.base_scale * self.base(x) + unhaar(bands)[..., : x.shape[-2], : x.shape[-1]]


def haar(x: Tensor) -> Tensor:
    """The four bands of each 2 × 2 cell, ``(B, c, h, w)`` → ``(B, 4c, h/2, w/2)``, an odd side padded by 0.

    Of each channel: its mean, what differs along the height, along the width, and along both.
    """
    x = F.pad(x, (0, x.shape[-1] % 2, 0, x.shape[-2] % 2))
    a, b, c, d = x[..., ::2, ::2], x[..., ::2, 1::2], x[..., 1::2, ::2], x[..., 1::2, 1::2]
    return torch.stack([a + b + c + d, a + b - c - d, a - b + c - d, a - b - c + d], 2).flatten(1, 2) / 2


def unhaar(bands: Tensor) -> Tensor:
    """The map that has these bands, of twice their size: :func:`haar` is its own transpose, cell by cell."""
    mean, height, width, both = bands.unflatten(1, (-1, 4)).unbind(2)
    upper = torch.stack([mean + height + width + both, mean + height - width - both], -1).flatten(-2)
    lower = torch.stack([mean - height + width - both, mean - height - width + both], -1).flatten(-2)
    return torch.stack([upper, lower], -2).flatten(-3, -2) / 2


def _step(kind: str, q: int, kernel: int, norm: str) -> nn.Module:
    """What an expert of a kind does to its q planes, the first time with 3, then with 5 and 7."""
    if kind == "asymmetric":
        return Asymmetric(q, kernel, norm)
    if kind == "depthwise":
        conv = nn.Conv2d(q, q, kernel, padding=kernel // 2, groups=q)
    elif kind == "atrous":  # always 3 × 3; 3, 5, 7 are its dilations
        conv = nn.Conv2d(q, q, 3, padding=kernel, dilation=kernel)
    else:
        conv = Wavelet(q, kernel)
    return ConvNorm(conv, q, norm)


KINDS = ("depthwise", "atrous", "asymmetric", "wavelet")


class Expert(nn.Module):
    """Into a quarter of the planes, three steps of which each also sees what the last one found, and back."""

    def __init__(self, kind: str, planes: int, norm: str):
        super().__init__()
        q = planes // 4
        self.enter = ConvNorm(nn.Conv2d(planes, q, 1), q, norm)
        self.steps = nn.ModuleList(_step(kind, q, kernel, norm) for kernel in (3, 5, 7))
        self.leave = ConvNorm(nn.Conv2d(planes, planes, 1), planes, norm)

    def forward(self, u: Tensor, scale: int = 0) -> Tensor:
        y = self.enter(u, scale)
        three = self.steps[0](y, scale)
        five = self.steps[1](y + three, scale)
        seven = self.steps[2](y + five, scale)
        return self.leave(torch.cat([three, five, seven, y], 1), scale)


class Gate(Routed):
    """A softmax over experts from the mean of a map: one decision for each picture."""

    def __init__(self, channels: int, experts: int):
        super().__init__()
        self.fc = nn.Linear(channels, experts)

    def forward(self, u: Tensor) -> Tensor:
        gates, self.routing = dense(router_logits(self.fc, u.mean((-2, -1))))
        return gates.to(u.dtype)


class Mixture(nn.Module):
    """All experts, weighted by a gate; they and the gate are the same at every scale."""

    def __init__(self, planes: int, kinds: Sequence[str] = KINDS, norm: str = "batch"):
        super().__init__()
        self.experts = nn.ModuleList(Expert(kind, planes, norm) for kind in kinds)
        self.gate = Gate(planes, len(kinds))

    def forward(self, u: Tensor, scale: int = 0) -> Tensor:
        gates = self.gate(u)[..., None, None, None]  # (B, E, 1, 1, 1)
        return sum(gates[:, e] * expert(u, scale) for e, expert in enumerate(self.experts))


class LocalPriors(nn.Module):
    """A pyramid from the picture: ``(B, 3, H, W)`` → four maps of ``width`` channels.

    Their strides are a quarter, a half, one and two patches.

    Args:
        planes: C.
        width: Of the ViT.
        patch: Of the ViT; 16 as published, or 8, and then without the pooling in the stem.
    """

    def __init__(
        self, planes: int, width: int, patch: int = 16, kinds: Sequence[str] = KINDS, norm: str = "batch"
    ):  # fmt: skip
        super().__init__()
        if patch not in (8, 16):
            raise ValueError(f"local priors go with patches of 16 pixels, or of 8, and not of {patch}")
        down = {"stride": 2, "padding": 1}
        norms = [norm if norm == "group" else "batch"] * SCALES  # these see one scale only
        self.downs = nn.ModuleList(
            ConvNorm(nn.Conv2d(3 if i == 0 else planes, planes, 3, **down), planes, norms[i])
            for i in range(SCALES)
        )
        self.pool = nn.MaxPool2d(3, **down) if patch == 16 else nn.Identity()
        self.mixture = Mixture(planes, kinds, norm)
        self.out = nn.Conv2d(planes, width, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                fan_out = math.prod(module.kernel_size) * module.out_channels // module.groups
                nn.init.normal_(module.weight, std=math.sqrt(2 / fan_out))
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        nn.init.trunc_normal_(self.mixture.gate.fc.weight, std=0.02)
        nn.init.zeros_(self.mixture.gate.fc.bias)

    def forward(self, image: Tensor) -> list[Tensor]:
        levels, x = [], image
        for scale, down in enumerate(self.downs):
            u = down(x)
            if scale == 0:
                u = self.pool(u)
            x = u + self.mixture(u, scale)
            levels.append(self.out(x))
        return levels
