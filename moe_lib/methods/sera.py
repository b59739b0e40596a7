"""SERA: experts in the adapters of a frozen ViT, and on the maps that are joined with a sentence
:cite:`dalaq2026sera`.

Shapes: B pictures, T tokens of d channels in a block, of which h · w are of the picture; a bottleneck of D
channels; L words.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from moe_lib.backbones.words import Said, TextBlock, TextEncoder
from moe_lib.heads.referring import GuidedEncoder, Neck
from moe_lib.methods.aligner import Aligner, TextAdapter, drawn
from moe_lib.methods.base import Adapted, Method, Names
from moe_lib.methods.sera_fusion import EXPERTS, FILTERS, PADDINGS, Fusion
from moe_lib.routing import Routed, dense, router_logits

TUNED = ("ln+bias", "ln", "bias", "none")
STAGES = ("soft", "static", "none")
PLACES = r"(.*\.)?(blocks\.\d*[13579]\.mlp|resblocks\.\d*[13579]|neck\.enter)"


@dataclass(frozen=True)
class SERA(Method):
    """Adapters that look at the words and have two experts, and four experts in the neck.

    Neither code nor all of the paper could be read: constants are quoted by others, and what is marked "ours"
    is open. Inject it into a :class:`moe_lib.heads.Referrer`. Three kinds of target are known: the MLP of a
    ViT's block, a block of the text encoder, and ``neck.enter``, the maps once they have C channels (or
    ``neck``, what is made of them); the default are those of DETRIS-B, and the maps (ours). Without the
    neck, ``stage="none"`` and ``mask_padding=False`` it is DETRIS :cite:`huang2025detris`.

    Args:
        words: Channels of a word, and of a sentence: those of the text encoder.
        rank: D of the adapters of the ViT.
        text_rank: D of those of the text encoder.
        heads: Of their attention.
        dropout: In it.
        scale: Of what an adapter adds, as in DETRIS (ours).
        dense_branches: Convolutions see what those before gave, as in DETRIS (ours).
        mask_padding: The attention leaves out what is no word (ours; DETRIS does not).
        stage: The two experts of an adapter: "soft", weighed for each picture; "static", by weights that are
            learnt; "none".
        inside: What the spatial expert keeps of the map, and the boundary expert adds to it.
        mix: Of the spatial and of the boundary expert, what is added at most.
        normed: Batch norm in both (ours: sources differ).
        separable: A 1 × 1 convolution after the depthwise one (ours: sources differ).
        rich: They see what the convolutions gave, not what those were given (ours).
        reads: Routers see the "picture", or the "sentence" as well (ours: the former).
        fusion: Experts of the neck: "spatial", "context", "boundary", "shape".
        gate: "routed", or "static" as a control.
        k: How many are kept; all, if left out: the best row of the paper.
        softmax: "after" the choice, as published, or "before" it.
        noise: Of the logits in training; 1 / E, if left out (ours).
        hidden: Inside the router (ours).
        before: On the maps as the ViT gives them (ours: not).
        shared: One router and one set of experts for all maps (ours: not).
        plane: Scale of the spatial expert (ours).
        ratio: Of the contextual expert's MLP (ours).
        filters: "fixed"; "learnt" from there; "random" and fixed.
        padding: Of the filters: "replicate" (ours), "zero".
        gains: Experts of the neck begin with nothing to add (ours: not).
        losses: Weights of the mean squared logit, of the gates' and of the choices' unevenness (ours).
        tune: What is trained of both encoders: "ln+bias"; "ln"; "bias", those of the norms too; "none".
        tune_text: Of the text encoder as well (ours).

    Introduced in :doc:`/book/other_methods`.
    """

    words: int = 512
    rank: int = 128
    text_rank: int = 64
    heads: int = 8
    dropout: float = 0.1
    scale: float = 0.2
    dense_branches: bool = True
    mask_padding: bool = True
    stage: str = "soft"
    inside: Sequence[float] = (0.3, 0.1)
    mix: Sequence[float] = (0.25, 0.15)
    normed: bool = True
    separable: bool = False
    rich: bool = True
    reads: str = "picture"
    fusion: Sequence[str] = EXPERTS
    gate: str = "routed"
    k: int | None = None
    softmax: str = "after"
    noise: float | None = None
    hidden: int = 128
    before: bool = False
    shared: bool = False
    plane: float = 0.3
    ratio: float = 2
    filters: str = "fixed"
    padding: str = "replicate"
    gains: bool = False
    losses: Sequence[float] = (1e-3, 1e-2, 1e-2)
    tune: str = "ln+bias"
    tune_text: bool = True
    targets: Names = field(default=PLACES, kw_only=True)

    def __post_init__(self):
        for name in ("inside", "mix", "fusion", "losses"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        for name, possible in (
            ("stage", STAGES), ("reads", ("picture", "sentence")), ("gate", ("routed", "static")),
            ("softmax", ("after", "before")), ("filters", FILTERS), ("padding", PADDINGS), ("tune", TUNED),
        ):  # fmt: skip
            if (value := getattr(self, name)) not in possible:
                raise ValueError(f"{name} is one of {', '.join(possible)}; got {value!r}")
        if unknown := [name for name in self.fusion if name not in EXPERTS]:
            raise ValueError(f"the experts of the neck are {', '.join(EXPERTS)}; got {unknown[0]!r}")
        if len(set(self.fusion)) < len(self.fusion):
            raise ValueError(f"an expert of the neck is there once; got {', '.join(self.fusion)}")
        if self.k is not None and not (isinstance(self.k, int) and 1 <= self.k <= len(self.fusion)):
            raise ValueError(f"k is a whole number from 1 to {len(self.fusion)} experts, got {self.k!r}")
        for name in ("rank", "text_rank"):
            if not isinstance(value := getattr(self, name), int) or value < 16 or value % 16:
                raise ValueError(f"{name} is a multiple of 16, got {value!r}")

    def wrap(self, module: nn.Module, name: str) -> Adapted:
        if isinstance(module, TextBlock):
            return AlignedText(module, self)
        maps = isinstance(module, nn.ModuleList) and name.split(".")[-1] == "enter"
        if maps or isinstance(module, Neck):
            if not self.fusion:
                raise ValueError(f"fusion names no expert for {name!r}: leave that out of the targets")
            return (FusedMaps if maps else FusedNeck)(module, self)
        first = getattr(module, "fc1", getattr(module, "lin1", None))
        if isinstance(first, nn.Linear):
            return AlignedMlp(module, first, self)
        kind = type(module).__name__
        raise TypeError(f"SERA adapts MLPs, blocks of a text encoder and a neck; {name!r} is a {kind}")

    def opened(self, model: nn.Module) -> list[str]:
        found = []
        for outer, part in model.named_modules():
            if isinstance(part, GuidedEncoder) or (isinstance(part, TextEncoder) and self.tune_text):
                found += [f"{outer}.{name}".lstrip(".") for name in _small(part, self.tune)]
        return found

    def hooks(self, model: nn.Module) -> list[RemovableHandle]:
        """Adapters are told what is said, and how the tokens lie; the neck's router, the sentence."""
        found, encoders = [], [m for m in model.modules() if isinstance(m, GuidedEncoder)]
        if not encoders:
            raise ValueError("no part of the model has pictures beside words; SERA is for heads.Referrer")
        for text in (m for m in model.modules() if isinstance(m, TextEncoder)):
            if text.width != self.words:
                raise ValueError(f"words have {text.width} channels, and the method is for {self.words}")
        for outer, kind, told in (
            *((encoder, AlignedMlp, _of_encoder) for encoder in encoders),
            *((neck, FusedMaps, _of_neck) for neck in model.modules() if isinstance(neck, Neck)),
        ):
            layers = [m for m in outer.modules() if isinstance(m, kind)]
            found.append(outer.register_forward_pre_hook(partial(_tell, layers=layers, told=told)))
            found.append(outer.register_forward_hook(partial(_forget, layers=layers), always_call=True))
        return found


# What layers are told hangs on them during a forward pass only: it is part of a graph.


def _tell(outer: nn.Module, inputs: tuple, *, layers: list[nn.Module], told: Callable) -> None:
    for layer in layers:
        layer.told = told(outer, *inputs)


def _forget(_outer: nn.Module, _inputs: tuple, _output: object, *, layers: list[nn.Module]) -> None:
    for layer in layers:
        layer.told = None


def _of_encoder(encoder: GuidedEncoder, image: Tensor, said: Said) -> tuple[tuple[int, int], Said]:
    return encoder.grid(image), said


def _of_neck(_neck: nn.Module, _maps: Sequence[Tensor], sentence: Tensor) -> Tensor:
    return sentence


def _small(part: nn.Module, tune: str) -> list[str]:
    """Names of the parameters of norms, of biases, or of both."""
    norms = {
        f"{name}.{key}"
        for name, module in part.named_modules()
        if isinstance(module, nn.LayerNorm)
        for key, _ in module.named_parameters(recurse=False)
    }
    biases = {name for name, _ in part.named_parameters() if name.endswith("bias")}
    wanted = {"ln": norms, "bias": biases, "ln+bias": norms | biases, "none": set()}[tune]
    return [name for name, _ in part.named_parameters() if name in wanted]


class Experts(Routed):
    """The two experts of an adapter: maps ``(B, D, h, w)``, of which the first is corrected."""

    def __init__(self, width: int, method: SERA, sentence: int):
        super().__init__()
        self.method = method
        self.near = nn.ModuleList(self._depthwise(width) for _ in range(2))  # spatial, boundary
        self.norms = nn.ModuleList(
            nn.BatchNorm2d(width, eps=1e-3) if method.normed else nn.Identity() for _ in range(2)
        )
        read = sentence if method.reads == "sentence" else 0
        self.router = nn.Linear(width + read, 2) if method.stage == "soft" else None
        self.logits = nn.Parameter(torch.zeros(2)) if method.stage == "static" else None
        drawn(self)

    def _depthwise(self, width: int) -> nn.Module:
        near = nn.Conv2d(width, width, 3, padding=1, groups=width)
        return nn.Sequential(near, nn.Conv2d(width, width, 1)) if self.method.separable else near

    def forward(self, rich: Tensor, plain: Tensor, sentence: Tensor | None = None) -> Tensor:
        x = rich if self.method.rich else plain
        keep, add = self.method.inside
        spatial = F.relu(self.norms[0](self.near[0](x))) + keep * x
        boundary = F.relu(self.norms[1](x + add * self.near[1](x)))
        return self.mixed(rich, spatial, boundary, self.weighed(rich, sentence))

    def weighed(self, rich: Tensor, sentence: Tensor | None = None) -> Tensor:
        """The weights of both, spatial first: ``(B, 2)``."""
        if self.logits is not None:
            logits = self.logits.expand(len(rich), -1)
        else:
            seen = rich.mean((-2, -1))
            logits = router_logits(self.router, seen if sentence is None else torch.cat([seen, sentence], 1))
        gates, self.routing = dense(logits)
        return gates.to(rich.dtype)

    def mixed(self, rich: Tensor, spatial: Tensor, boundary: Tensor, gates: Tensor) -> Tensor:
        """The map with some of both added to it."""
        first, second = (self.method.mix[i] * gates[:, i, None, None, None] for i in range(2))
        return rich + first * spatial + second * boundary


class AlignedMlp(Adapted):
    """The MLP of a block, and beside it an adapter that looks at the words."""

    told: tuple[tuple[int, int], Said] | None = None  # how the tokens lie, and what is said

    def __init__(self, base: nn.Module, first: nn.Linear, method: SERA):
        super().__init__(base)
        self.method = method
        with torch.device(first.weight.device):
            stage = None if method.stage == "none" else Experts(method.rank, method, method.words)
            self.adapter = Aligner(
                first.in_features, method.words, method.rank, heads=method.heads, dropout=method.dropout,
                dense=method.dense_branches, stage=stage,
            )  # fmt: skip

    def adapted(self, y: Tensor) -> Tensor:
        if self.told is None:
            raise RuntimeError("an adapter of SERA hears the words from heads.GuidedEncoder: call that")
        grid, said = self.told
        padding = said.padding if self.method.mask_padding else None
        sentence = said.sentence if self.method.reads == "sentence" else None
        tokens = y.flatten(1, -2)  # SAM's blocks have them as (B, h, w, d)
        return self.base(y) + self.method.scale * self.adapter(
            tokens, grid, said.words, padding, sentence
        ).view(y.shape)


class AlignedText(Adapted):
    """A block of the text encoder, and an adapter beside its second half."""

    def __init__(self, base: TextBlock, method: SERA):
        super().__init__(base)
        self.scale = method.scale
        with torch.device(base.ln_1.weight.device):
            self.adapter = TextAdapter(base.ln_1.normalized_shape[0], method.text_rank, method.dense_branches)

    def adapted(self, x: Tensor) -> Tensor:
        x = self.base.attended(x)
        return x + self.base.fed(x) + self.scale * self.adapter(x)


class FusedMaps(Adapted):
    """The layers that bring maps to C channels, and experts on each of the maps."""

    told: Tensor | None = None  # the sentence

    def __init__(self, base: nn.ModuleList, method: SERA):
        super().__init__(base)
        self.method = method
        widths = [layer[0].in_channels if method.before else layer[0].out_channels for layer in base]
        with torch.device(base[0][0].weight.device):
            fusions = [_fusion(width, method) for width in (widths[:1] if method.shared else widths)]
        self.fusions = nn.ModuleList(fusions)

    def __getitem__(self, i: int) -> Callable[[Tensor], Tensor]:
        layer = self.base[i]
        if not self.enabled:
            return layer
        fusion = self.fusions[0 if self.method.shared else i]
        sentence = self.told if self.method.reads == "sentence" else None
        if self.method.before:
            return lambda x: layer(fusion(x, sentence))
        return lambda x: fusion(layer(x), sentence)


class FusedNeck(Adapted):
    """A neck, and experts on the map that it makes."""

    def __init__(self, base: Neck, method: SERA):
        super().__init__(base)
        self.method = method
        with torch.device(base.say.weight.device):
            self.fusion = _fusion(base.width, method)

    def adapted(self, maps: Sequence[Tensor], sentence: Tensor) -> Tensor:
        return self.fusion(self.base(maps, sentence), sentence if self.method.reads == "sentence" else None)


def _fusion(channels: int, method: SERA) -> Fusion:
    return Fusion(
        channels, method.fusion, k=method.k, softmax=method.softmax, noise=method.noise,
        hidden=method.hidden, read=method.words if method.reads == "sentence" else 0,
        static=method.gate == "static", plane=method.plane, heads=method.heads, ratio=method.ratio,
        filters=method.filters, padding=method.padding, gains=method.gains, weights=method.losses,
    )  # fmt: skip
