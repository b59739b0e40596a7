"""SERA-Fusion: four experts on a map, of which a router weighs some for each picture :cite:`dalaq2026sera`.

Shapes: B pictures, maps of C channels on h × w, E experts, k of them kept. An expert gives what it adds to
the map, so that every mix of experts contains the map itself once.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from moe_lib import routing
from moe_lib.heads.referring import coordinates

KERNELS = {
    "sobel x": [[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]],  # grows from left to right
    "sobel y": [[-1, -2, -1], [0, 0, 0], [1, 2, 1]],
    "laplacian": [[0, 1, 0], [1, -4, 1], [0, 1, 0]],
    "laplacian 8": [[1, 1, 1], [1, -8, 1], [1, 1, 1]],
    "blur": [[1 / 16, 2 / 16, 1 / 16], [2 / 16, 4 / 16, 2 / 16], [1 / 16, 2 / 16, 1 / 16]],
    "box": [[1 / 9] * 3] * 3,
}
FILTERS = ("fixed", "learnt", "random")
PADDINGS = ("replicate", "zero")


class Filter(nn.Module):
    """One 3 × 3 filter for every channel: ``(B, C, h, w)`` → the same.

    Args:
        kernel: One of ``KERNELS``.
        channels: C.
        how: "fixed"; "learnt", beginning as the fixed one; "random" and fixed, with numbers of the same norm,
            as a control.
        padding: "replicate" makes an even map even up to its frame; "zero" does not.
    """

    def __init__(self, kernel: str, channels: int, how: str = "fixed", padding: str = "replicate"):
        super().__init__()
        for name, value, possible in (("filters", how, FILTERS), ("padding", padding, PADDINGS)):
            if value not in possible:
                raise ValueError(f"{name} is one of {', '.join(possible)}; got {value!r}")
        self.padding = padding
        values = torch.tensor(KERNELS[kernel], dtype=torch.float32)
        if how == "random":
            drawn = torch.randn(3, 3)
            values = drawn / drawn.norm() * values.norm()
        values = values.expand(channels, 1, 3, 3).contiguous()
        if how == "learnt":
            self.kernel = nn.Parameter(values)
        else:  # a random one is part of the model, a fixed one need not be saved
            self.register_buffer("kernel", values, persistent=how == "random")

    def forward(self, x: Tensor) -> Tensor:
        x = F.pad(x, (1, 1, 1, 1), mode="replicate" if self.padding == "replicate" else "constant")
        return F.conv2d(x, self.kernel.to(x.dtype), groups=len(self.kernel))


class Plane(nn.Module):
    """The spatial expert: ``α (a x + b y + c)`` in each channel; the map itself is not looked at."""

    def __init__(self, channels: int, scale: float = 0.3):
        super().__init__()
        self.scale, self.mix = scale, nn.Conv2d(2, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        where = coordinates(*x.shape[-2:], device=x.device).to(x)
        return self.scale * self.mix(where[None]).expand_as(x)


class Context(nn.Module):
    """The contextual expert: every place looks at all others, then an MLP; both before a norm, as is ours."""

    def __init__(self, channels: int, heads: int = 8, ratio: float = 2):
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(channels) for _ in range(2))
        self.attention = nn.MultiheadAttention(channels, heads, batch_first=True)
        inside = round(ratio * channels)
        self.feed = nn.Sequential(nn.Linear(channels, inside), nn.GELU(), nn.Linear(inside, channels))

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.flatten(2).mT
        y = self.norms[0](tokens)
        looked = self.attention(y, y, y, need_weights=False)[0]
        added = looked + self.feed(self.norms[1](tokens + looked))
        return added.mT.unflatten(-1, x.shape[-2:])


class Boundary(nn.Module):
    """The boundary expert: ReLU of a 1 × 1 convolution of the map, its slope, and its slopes' sum."""

    def __init__(self, channels: int, filters: str = "fixed", padding: str = "replicate", eps: float = 1e-6):
        super().__init__()
        self.x, self.y = (Filter(f"sobel {axis}", channels, filters, padding) for axis in "xy")
        self.mix, self.eps = nn.Conv2d(3 * channels, channels, 1), eps

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.mix(self.seen(x)))

    def seen(self, x: Tensor) -> Tensor:
        """``(B, 3 C, h, w)``."""
        across, down = self.x(x), self.y(x)
        return torch.cat([x, (across**2 + down**2 + self.eps).sqrt(), across + down], 1)


class Shape(nn.Module):
    """The shape expert: ReLU of a 1 × 1 convolution of the map blurred and its Laplacian, which is ours."""

    def __init__(self, channels: int, filters: str = "fixed", padding: str = "replicate"):
        super().__init__()
        self.blur, self.curve = (Filter(k, channels, filters, padding) for k in ("blur", "laplacian"))
        self.mix = nn.Conv2d(2 * channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.mix(torch.cat([self.blur(x), self.curve(x)], 1)))


EXPERTS = ("spatial", "context", "boundary", "shape")


class Fusion(routing.Routed):
    """``Σ gate · expert(x)`` of a map ``(B, C, h, w)``, whose experts each contain the map.

    Args:
        channels: C.
        experts: Some of ``EXPERTS``.
        k: How many are kept; all, if it is left out.
        softmax: "after" the choice, as published, or "before" it.
        noise: Standard deviation in training; 1 / E, if left out.
        hidden: Channels inside the router.
        read: Numbers of a sentence that the router reads beside the map's mean; 0 for none.
        static: Weights that are learnt, the same for every picture, in place of a router: a control.
        plane: α of the spatial expert.
        heads, ratio: Of the contextual expert.
        filters, padding: Of the other two.
        gains: Let each expert begin with nothing to add. A gain does that, not weights of 0: before a ReLU
            those would stay 0 for ever.
        weights: Of the mean squared logit, of the unevenness of the gates, and of the choices'.
    """

    def __init__(
        self, channels: int, experts: Sequence[str] = EXPERTS, *, k: int | None = None,
        softmax: str = "after", noise: float | None = None, hidden: int = 128, read: int = 0,
        static: bool = False, plane: float = 0.3, heads: int = 8, ratio: float = 2, filters: str = "fixed",
        padding: str = "replicate", gains: bool = False, weights: Sequence[float] = (1e-3, 1e-2, 1e-2),
    ):  # fmt: skip
        super().__init__()
        number = len(experts)
        self.k, self.softmax, self.weights = k or number, softmax, tuple(weights)
        self.noise = 1 / number if noise is None else noise
        makers = {
            "spatial": lambda: Plane(channels, plane),
            "context": lambda: Context(channels, heads, ratio),
            "boundary": lambda: Boundary(channels, filters, padding),
            "shape": lambda: Shape(channels, filters, padding),
        }
        self.experts = nn.ModuleDict({name: makers[name]() for name in experts})
        self.gains = nn.Parameter(torch.zeros(number)) if gains else None
        self.logits = nn.Parameter(torch.zeros(number)) if static else None
        self.router = (
            None if static else
            nn.Sequential(nn.Linear(channels + read, hidden), nn.ReLU(), nn.Linear(hidden, number))
        )  # fmt: skip

    def forward(self, x: Tensor, sentence: Tensor | None = None) -> Tensor:
        gates = self.decided(x, sentence)
        added = routing.dispatch(x, self.routing, [self._expert(i) for i in range(len(self.experts))])
        if self.softmax == "after" or self.logits is not None:
            return x + added  # the gates sum to 1
        return x * gates.sum(-1).to(x.dtype)[:, None, None, None] + added

    def decided(self, x: Tensor, sentence: Tensor | None = None) -> Tensor:
        """The gates, ``(B, E)``; leaves the record, and in training the loss."""
        if self.logits is not None:
            gates, self.routing = routing.dense(self.logits.expand(len(x), -1))
            return gates
        seen = x.mean((-2, -1))
        logits = routing.router_logits(
            self.router, seen if sentence is None else torch.cat([seen, sentence], 1)
        )
        noisy = self.training and self.noise > 0
        gates, self.routing = routing.noisy_top_k(
            logits, self.noise or 1.0, self.k, training=noisy, softmax=self.softmax
        )
        self.balance = self._balance(self.routing) if self.training else None
        return gates

    def _balance(self, record: routing.Routing) -> Tensor:
        size, even, choices = self.weights
        loss = size * routing.z_loss(record, of="logits")
        loss = loss + even * routing.importance_loss(record, unbiased=False)
        return loss if self.k == len(self.experts) else loss + choices * routing.switch_loss(record)

    def _expert(self, i: int) -> nn.Module:
        expert = list(self.experts.values())[i]
        return expert if self.gains is None else lambda x: self.gains[i] * expert(x)
