"""Conv-LoRA: between the two thin matrices of LoRA, a convolution at one of several scales
:cite:`zhong2024convlora`.

Shapes: N samples (images, or the windows that a block cuts them into) of h × w tokens; a layer from D to O
numbers, rank r; M experts; P pairs of a sample and an expert that works on it; T taps per token.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

import torch
import torch.nn.functional as F
from segment_anything.modeling import ImageEncoderViT
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from moe_lib import routing
from moe_lib.methods.base import Adapted, Method, Names, plus_product

GATES = ("official", "switch", "random", "dense", "sum", "mean", "learnt")  # and "fixed:i"
COMBINE = ("sum", "logsumexp", "gated logsumexp")
INTERPOLATION = ("bicubic", "bilinear", "area")


@dataclass(frozen=True)
class ConvLoRA(Method):
    """LoRA with a mixture of convolutions in its bottleneck, each at a scale of its own.

    With the defaults the layer is that of the published code, where one expert works on a sample and no
    gradient of the task reaches the router.

    Args:
        rank: Of the two thin matrices.
        experts: How many.
        alpha: The change is scaled by alpha / rank.
        top_k: Experts that work on a sample, of an "official" or "switch" gate. The published code has 1.
        gate: "official": noise while training, softmax over the chosen. "switch": the same, softmax over all
            before the choice. "random": an untrained router, drawn once. "fixed:3": expert 3, counted from 1.
            "dense": all experts, by a softmax. As controls without a router: the "sum" of all experts, their
            "mean", and "learnt" weights, the same for every sample.
        combine: How several experts come together: the "sum" of what they say, times their gates. As in the
            published code: "logsumexp", without the gates, and "gated logsumexp". With one expert those
            are what it says.
        ratios: By which an expert enlarges the map; left out, 1 … experts. Larger ratios are *narrower*.
        balance: Weight of the balance loss that :func:`moe_lib.balance_loss` collects.
        interpolation: "bicubic"; "bilinear"; "area": bicubic up, and down by the mean.
        route: A block that works in windows chooses for each "window", padding included, as in the published
            code, or for the whole "image".
        kernel: Of the convolution: 3, or 1 as a control.

    Introduced in :doc:`/chapters/04_conv_lora`.
    """

    rank: int = 3
    experts: int = 8
    alpha: float = 32
    top_k: int = 1
    gate: str = "official"
    combine: str = "sum"
    ratios: Iterable[int] | None = None
    balance: float = 0.01
    interpolation: str = "bicubic"
    route: str = "window"
    kernel: int = 3
    targets: Names = field(default=("qkv",), kw_only=True)

    def __post_init__(self):
        for name in ("rank", "experts"):
            if not isinstance(value := getattr(self, name), int) or value < 1:
                raise ValueError(f"{name} is a whole number from 1, got {value!r}")
        if not isinstance(self.top_k, int) or not 1 <= self.top_k <= self.experts:
            raise ValueError(f"top_k is a whole number from 1 to {self.experts} experts, got {self.top_k!r}")
        for name, possible in (
            ("combine", COMBINE), ("interpolation", INTERPOLATION), ("route", ("window", "image")),
            ("kernel", (1, 3)), ("gate", (*GATES, *(f"fixed:{i + 1}" for i in range(self.experts)))),
        ):  # fmt: skip
            if (value := getattr(self, name)) not in possible:
                raise ValueError(f"{name} is one of {', '.join(map(str, possible))}; got {value!r}")
        if self.top_k > 1 and self.gate not in ("official", "switch"):
            raise ValueError(f"top_k is for a router that chooses, and the gate is {self.gate!r}")
        for name in ("alpha", "balance"):
            if not math.isfinite(getattr(self, name)):
                raise ValueError(f"{name} is a finite number, got {getattr(self, name)!r}")
        ratios = range(1, self.experts + 1) if self.ratios is None else self.ratios
        object.__setattr__(self, "ratios", tuple(ratios))
        if len(self.ratios) != self.experts or any(not isinstance(s, int) or s < 1 for s in self.ratios):
            raise ValueError(f"{self.experts} experts need as many whole ratios from 1, got {self.ratios}")

    def wrap(self, module: nn.Module, name: str) -> "ConvLoRALinear":
        if not isinstance(module, nn.Linear):
            raise TypeError(f"Conv-LoRA adapts nn.Linear, and {name!r} is a {type(module).__name__}")
        return ConvLoRALinear(module, self)

    def hooks(self, model: nn.Module) -> list[RemovableHandle]:
        """SAM's encoders tell the layers how many images their windows are of."""
        encoders = [module for module in model.modules() if isinstance(module, ImageEncoderViT)]
        return [encoder.register_forward_pre_hook(_tell_images) for encoder in encoders]


class ConvLoRALinear(Adapted, routing.Routed):
    """``base(x) + scale · B (u + Σ gate · expert(u))`` with ``u = A x``. B begins as zero.

    Introduced in :doc:`/chapters/04_conv_lora`.
    """

    def __init__(self, base: nn.Linear, method: ConvLoRA):
        super().__init__(base)
        self.method, self.scale = method, method.alpha / method.rank
        self.images: int | None = None  # of which the samples are windows; None: they are images
        like = {"device": base.weight.device, "dtype": torch.promote_types(base.weight.dtype, torch.float32)}
        self.A = nn.Parameter(torch.empty(method.rank, base.in_features, **like))
        self.B = nn.Parameter(torch.zeros(base.out_features, method.rank, **like))
        nn.init.kaiming_uniform_(self.A, a=math.sqrt(5))
        self.experts = ScaledConvolutions(method.rank, method.ratios, method.interpolation, method.kernel)
        self.experts.to(**like)
        size = (method.rank, method.experts)
        if method.gate in ("official", "switch"):
            self.w_gate = nn.Parameter(torch.zeros(size, **like))
            self.w_noise = nn.Parameter(torch.zeros(size, **like))
        elif method.gate == "dense":
            self.w_gate = nn.Parameter(torch.zeros(size, **like))
        elif method.gate == "random":
            self.register_buffer("w_gate", torch.randn(size, **like))
        elif method.gate == "learnt":
            self.logits = nn.Parameter(torch.zeros(method.experts, **like))

    @classmethod
    def from_official(
        cls, state: Mapping[str, Tensor], *, rank: int, alpha: float, experts: int, top_k: int = 1,
        multiply_by_gates: bool = False,
    ) -> "ConvLoRALinear":  # fmt: skip
        """A layer with the weights of a published one, and its log-sum-exp where several experts work.

        Args:
            state: By the published names: ``weight``, ``bias``, ``lora_A``, ``lora_B``,
                ``lora_moe_gating.w_gate``, ``lora_moe_experts.0.0.weight``, … of one layer.
            multiply_by_gates: Whether gates weigh what the experts say.
        """
        combine = "gated logsumexp" if multiply_by_gates else "logsumexp"
        method = ConvLoRA(rank=rank, experts=experts, alpha=alpha, top_k=top_k, combine=combine)
        gating = [f"lora_moe_gating.{name}" for name in ("w_gate", "w_noise")]
        kernels = [f"lora_moe_experts.{i}.0.weight" for i in range(experts)]
        biases = [f"lora_moe_experts.{i}.0.bias" for i in range(experts)]
        needed = ["weight", "lora_A", "lora_B", *gating, *kernels, *biases]
        if missing := [name for name in needed if name not in state]:
            there = ", ".join(sorted(state)) or "nothing"
            raise ValueError(f"{missing[0]!r} is missing; the layer has {there}")
        if len(found := [n for n in state if "experts" in n and n.endswith("weight")]) != experts:
            raise ValueError(f"the layer has {len(found)} experts, and {experts} are asked for")
        outputs, inputs = state["weight"].shape
        base = nn.Linear(inputs, outputs, bias="bias" in state, dtype=state["weight"].dtype)
        layer = cls(base.requires_grad_(False), method)
        values = {
            "base.weight": state["weight"], "A": state["lora_A"], "B": state["lora_B"],
            "w_gate": state[gating[0]], "w_noise": state[gating[1]],
            "experts.weight": torch.stack([state[name] for name in kernels]),
            "experts.bias": torch.stack([state[name] for name in biases]),
        }  # fmt: skip
        if "bias" in state:
            values["base.bias"] = state["bias"]
        layer.load_state_dict(values)
        return layer

    def forward(self, x: Tensor, grid: tuple[int, int] | None = None, noise: Tensor | None = None) -> Tensor:
        """Maps ``(N, h, w, D)``, or tokens ``(N, h·w, D)`` and their grid ``(h, w)`` → the same of O numbers.

        ``noise`` has the standard normal numbers of a training step, ``(N, M)``, such as recorded ones.
        """
        return self.adapted(x, grid, noise) if self.enabled else self.base(x)

    def adapted(self, x: Tensor, grid: tuple[int, int] | None = None, noise: Tensor | None = None) -> Tensor:
        base = self.base(x)
        u = F.linear(_as_map(x, grid).to(self.A.dtype), self.A)  # (N, h, w, r)
        with torch.autocast(x.device.type, enabled=False):
            u = u.to(torch.promote_types(u.dtype, torch.float32))
            self.routing = self._decide(u, noise)
            self.balance = self._balance_loss(self.routing)
            v = self.scale * (u + self.mixture(u, self.routing))
        return plus_product(base, v.view(*base.shape[:-1], -1), self.B).to(base.dtype)

    def mixture(self, u: Tensor, decision: routing.Routing) -> Tensor:
        """What the chosen experts make of the bottleneck's maps, together; ``(N, h, w, r)`` → the same."""
        chosen, gates = decision.chosen, decision.gates.gather(-1, decision.chosen)  # (N, k)
        if len(chosen) < len(u):  # one decision for all windows of an image
            chosen, gates = (part.repeat_interleave(len(u) // len(part), 0) for part in (chosen, gates))
        k = chosen.shape[-1]
        said = self.experts(u if k == 1 else u.repeat_interleave(k, 0), chosen.flatten())
        if self.method.combine == "sum" or k == 1:
            if k == 1 and self.method.gate != "switch":
                return said  # its gate is 1
            return (said * gates.reshape(-1, 1, 1, 1)).unflatten(0, (-1, k)).sum(1)
        if self.method.combine == "gated logsumexp":
            said = said + gates.log().reshape(-1, 1, 1, 1)
        return said.unflatten(0, (-1, k)).logsumexp(1)

    def _decide(self, u: Tensor, noise: Tensor | None) -> routing.Routing:
        seen, sizes, routed = self._seen(u)
        gate, rows = self.method.gate, (len(seen), self.method.experts)
        w_gate = getattr(self, "w_gate", None)
        logits = seen.new_zeros(rows) if w_gate is None else seen @ w_gate.to(seen.dtype)
        if gate in ("official", "switch"):
            spread = seen @ self.w_noise.to(seen.dtype)
            return routing.noisy_top_k(
                logits.view(*sizes, -1), spread.view(*sizes, -1), self.method.top_k, training=self.training,
                noise=None if noise is None else noise.view(*sizes, -1),
                softmax="after" if gate == "official" else "before", routed=routed,
            )[1]  # fmt: skip
        if gate.startswith("fixed"):
            others = torch.arange(rows[1], device=u.device) != int(gate.split(":")[1]) - 1
            logits = logits.masked_fill(others, -math.inf)
        elif gate == "learnt":
            logits = logits + self.logits.to(logits.dtype)
        elif gate == "sum":
            logits = logits + math.inf  # whose sigmoid is 1
        logits = logits.view(*sizes, -1)
        if gate == "random" or gate.startswith("fixed"):
            return routing.top_k(logits, 1, softmax="after", routed=routed)[1]
        return routing.dense(logits, by="sigmoid" if gate == "sum" else "softmax", routed=routed)[1]

    def _seen(self, u: Tensor) -> tuple[Tensor, tuple[int, ...], str]:
        """What the router sees, a row for each decision; how many those are, and of what."""
        seen = u.mean((1, 2))
        images = self.images
        if images is None or len(u) == images or not images or len(u) % images:
            return seen, (len(u),), "image"
        if self.method.route == "image":
            return seen.unflatten(0, (images, -1)).mean(1), (images,), "image"
        return seen, (images, len(u) // images), "window"

    def _balance_loss(self, decision: routing.Routing) -> Tensor | None:
        if not self.method.balance or not hasattr(self, "w_noise"):
            return None
        importance = decision.importance
        if self.method.gate == "official" and self.method.top_k == 1:
            importance = importance.detach()  # each gate is 1, whatever the router says
        return self.method.balance * routing.cv_squared(torch.stack([importance, decision.load])).sum()

    def extra_repr(self) -> str:
        m = self.method
        return f"rank={m.rank}, scale={self.scale:g}, gate={m.gate}, top_k={m.top_k}"


class ScaledConvolutions(nn.Module):
    """M experts: enlarge by a ratio, convolve, GELU, shrink again. The large map is never made.

    Shrinking reads few rows of the large map: of an odd ratio the one in the middle of each token, of an even
    one four around it. A row of the convolved map needs three rows of the enlarged map, and those are sums
    of rows of the small one: matrices, derived once from what interpolation does to the identity, borders
    included. Between them stand only the kernel, which mixes channels, and the GELU.

    Introduced in :doc:`/chapters/04_conv_lora`.
    """

    def __init__(self, rank: int, ratios: tuple[int, ...], interpolation: str = "bicubic", kernel: int = 3):
        super().__init__()
        self.ratios, self.interpolation = ratios, interpolation
        bound = 1 / math.sqrt(rank * kernel**2)
        self.weight = nn.Parameter(
            torch.empty(len(ratios), rank, rank, kernel, kernel).uniform_(-bound, bound)
        )
        self.bias = nn.Parameter(torch.zeros(len(ratios), rank))

    def forward(self, u: Tensor, expert: Tensor) -> Tensor:
        """Maps ``(P, h, w, r)`` and the number of the expert that works on each, ``(P,)`` → maps."""
        pairs, h, w, r = u.shape
        rows, shrink_rows = self._tables(h, expert, u)  # (P, hT, 3·h), (P, h, hT)
        columns, shrink_columns = (rows, shrink_rows) if h == w else self._tables(w, expert, u)
        kernel = self.weight.to(u.dtype)
        if kernel.shape[-1] == 1:
            kernel = F.pad(kernel, (1, 1, 1, 1))
        kernel = kernel.permute(0, 3, 1, 4, 2).flatten(1, 3).index_select(0, expert)  # (P, 3·r·3, r)
        bias = self.bias.to(u.dtype).index_select(0, expert).repeat(1, rows.shape[1])  # (P, hT·r)

        mixed = kernel.bmm(u.flatten(1, 2).mT).view(pairs, 3, 3 * r, h, w).transpose(2, 3)
        read = rows.bmm(mixed.reshape(pairs, 3 * h, -1)).view(pairs, -1, 3 * w)  # (P, hT·r, 3·w)
        read = F.gelu(torch.baddbmm(bias[..., None], read, columns.mT))  # (P, hT·r, wT)
        if read.shape[-1] > w:  # several taps a token
            read = shrink_rows.bmm(read.bmm(shrink_columns.mT).view(pairs, -1, r * w))  # (P, h, r·w)
        return read.view(pairs, h, r, w).transpose(2, 3)

    def _tables(self, size: int, expert: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        read, shrink = _known_tables(self.ratios, self.interpolation, size, like.dtype, like.device)
        return read.index_select(0, expert), shrink.index_select(0, expert)

    def extra_repr(self) -> str:
        return f"ratios={self.ratios}, interpolation={self.interpolation!r}"


@torch.compiler.assume_constant_result
def _known_tables(*of) -> tuple[Tensor, Tensor]:
    return _scale_tables(*of)


@lru_cache(maxsize=128)
@torch.inference_mode(False)  # whoever asks first, training may ask next
def _scale_tables(
    ratios: tuple[int, ...], interpolation: str, size: int, dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor]:
    """For a side of n tokens and each ratio: what reads it, and what shrinks it again.

    The first ``(M, nT, 3n)`` takes 3n rows, three for each token, one for each row of a kernel, to the T rows
    per token that shrinking reads; where a kernel would reach beyond the border it finds zeros. The second
    ``(M, n, nT)`` has the weights by which shrinking sums them.
    """
    made = [_enlarge_and_shrink(size, ratio, interpolation) for ratio in ratios]
    taps = max(_taps(shrink, ratio) for (_, shrink), ratio in zip(made, ratios, strict=True))
    reading, shrinking = [], []
    for (enlarge, shrink), ratio in zip(made, ratios, strict=True):
        token, tap = torch.arange(size, device="cpu"), torch.arange(taps, device="cpu")
        read = (ratio * token[:, None] + (ratio - taps) // 2 + tap).flatten()  # (nT,)
        rows = torch.stack([read - 1, read, read + 1], 1)  # (nT, 3): a kernel's, around each row that is read
        inside = (rows >= 0) & (rows < ratio * size)
        found = enlarge[rows.clamp(0, ratio * size - 1)] * inside[..., None]  # (nT, 3, n)
        reading.append(found.flatten(1))
        inside = (read >= 0) & (read < ratio * size)
        mine = token.repeat_interleave(taps) == token[:, None]
        shrinking.append(shrink[:, read.clamp(0, ratio * size - 1)] * inside * mine)
    return tuple(torch.stack(part).to(device, dtype) for part in (reading, shrinking))


def _enlarge_and_shrink(size: int, ratio: int, interpolation: str) -> tuple[Tensor, Tensor]:
    """What interpolation does to one side, as matrices ``(s·n, n)`` and ``(n, s·n)``, in float64."""

    def matrix(start: int, end: int, mode: str) -> Tensor:
        identity = torch.eye(start, dtype=torch.float64, device="cpu")[None, None]
        return F.interpolate(identity, size=(end, start), mode=mode)[0, 0]

    up = "bicubic" if interpolation == "area" else interpolation
    return matrix(size, ratio * size, up), matrix(ratio * size, size, interpolation)


def _taps(shrink: Tensor, ratio: int) -> int:
    """How many rows of the large map, around its middle, a token's share of it is made of."""
    token, row = shrink.nonzero().unbind(1)
    place, taps = row - ratio * token, 1
    while (place < (first := (ratio - taps) // 2)).any() or (place >= first + taps).any():
        taps += 1
    return taps


def _as_map(x: Tensor, grid: tuple[int, int] | None) -> Tensor:
    if x.ndim == 4 and grid in (None, tuple(x.shape[1:3])):
        return x
    if x.ndim == 3 and grid is not None and math.prod(grid) == x.shape[1]:
        return x.unflatten(1, grid)
    raise ValueError(
        f"a convolution needs a map (N, h, w, D), or tokens (N, h·w, D) and their grid (h, w), without a "
        f"class token; got {tuple(x.shape)} and the grid {grid}"
    )


def _tell_images(encoder: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    for module in encoder.modules():
        if isinstance(module, ConvLoRALinear):
            module.images = len(inputs[0])
