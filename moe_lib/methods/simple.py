"""The baselines that every method has to beat: adapters, prompts, biases, parts of the model, all of it."""

from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from segment_anything.modeling.image_encoder import Attention
from torch import Tensor, nn

from moe_lib.backbones.encoder import FusedAttention
from moe_lib.methods.base import Adapted, Method, Names, within

# The blocks of an encoder, as timm and segment-anything name them; not the layers of SAM's mask decoder.
MLP, ATTENTION = r"(.*\.)?blocks\.\d+\.mlp", r"(.*\.)?blocks\.\d+\.attn"


@dataclass(frozen=True)
class Adapter(Method):
    """A bottleneck beside each MLP, in the manner of AdaptFormer :cite:`chen2022adaptformer`.

    It sees what the MLP sees, after the norm: ``mlp(x) + scale · up(relu(down(x)))``.

    Args:
        width: Of the bottleneck.
        scale: Of what it adds.

    Introduced in :doc:`/chapters/02_small_changes`.
    """

    width: int = 16
    scale: float = 0.1
    targets: Names = field(default=MLP, kw_only=True)

    def __post_init__(self):
        if not isinstance(self.width, int) or self.width < 1:
            raise ValueError(f"the width is a whole number from 1, got {self.width!r}")

    def wrap(self, module: nn.Module, name: str) -> "Bottleneck":
        linear = [m for m in module.modules() if isinstance(m, nn.Linear)]
        if not linear:
            raise TypeError(f"an adapter stands beside an MLP, and {name!r} has no nn.Linear")
        return Bottleneck(module, linear[0], linear[-1].out_features, self.width, self.scale)


class Bottleneck(Adapted):
    """``base(x) + scale · up(relu(down(x)))``; ``up`` begins as zero."""

    def __init__(self, base: nn.Module, first: nn.Linear, outputs: int, width: int, scale: float):
        super().__init__(base)
        like = {
            "device": first.weight.device,
            "dtype": torch.promote_types(first.weight.dtype, torch.float32),
        }
        self.down = nn.Linear(first.in_features, width, **like)
        self.up = nn.Linear(width, outputs, **like)
        self.scale = scale
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def adapted(self, x: Tensor) -> Tensor:
        base = self.base(x)
        change = self.up(F.relu(self.down(x.to(self.down.weight.dtype))))
        return (base + self.scale * change).to(base.dtype)


@dataclass(frozen=True)
class VPT(Method):
    """Visual prompts, the deep form: more tokens for each block to attend to :cite:`jia2022vpt`.

    They enter a block's attention beside the tokens of the picture, and do not leave it: the next block has
    its own. In windows, every window sees them. They have no place; a norm brings them to the tokens' scale.

    Args:
        prompts: Tokens per block.

    Introduced in :doc:`/chapters/02_small_changes`.
    """

    prompts: int = 8
    targets: Names = field(default=ATTENTION, kw_only=True)

    def __post_init__(self):
        if not isinstance(self.prompts, int) or self.prompts < 1:
            raise ValueError(f"prompts are a whole number from 1, got {self.prompts!r}")

    def wrap(self, module: nn.Module, name: str) -> "Prompted":
        qkv = getattr(module, "qkv", None)
        if not isinstance(qkv, nn.Linear):
            raise TypeError(f"VPT prompts an attention with a layer qkv, and {name!r} has none")
        if isinstance(module, Attention) and not isinstance(module, FusedAttention):
            raise TypeError(f"VPT prompts moe_lib's encoder of SAM, and {name!r} is segment-anything's own")
        return Prompted(module, qkv, self.prompts)


class Prompted(Adapted):
    """An attention whose queries find some learnt tokens, too; ``(B, …, D)`` → the same."""

    def __init__(self, base: nn.Module, qkv: nn.Linear, prompts: int):
        super().__init__(base)
        like = {"device": qkv.weight.device, "dtype": torch.promote_types(qkv.weight.dtype, torch.float32)}
        self.prompts = nn.Parameter(torch.empty(prompts, qkv.in_features, **like))
        nn.init.xavier_uniform_(self.prompts)

    def adapted(self, x: Tensor, **options: Any) -> Tensor:
        prompts = F.layer_norm(self.prompts, self.prompts.shape[1:]).to(x.dtype)
        if isinstance(self.base, FusedAttention):
            return self.base(x, prompts)
        if x.ndim != 3:
            raise ValueError(f"VPT needs tokens as (B, N, D), got {tuple(x.shape)}")
        if given := [name for name, value in options.items() if value is not None and value is not False]:
            raise ValueError(f"VPT cannot say what {given[0]} means for its prompts; call the model without")
        return self.base(torch.cat([x, prompts.expand(len(x), -1, -1)], 1), **options)[:, : x.shape[1]]


@dataclass(frozen=True)
class BitFit(Method):
    """The biases of the model, and nothing else :cite:`benzaken2022bitfit`.

    Args:
        norms: Train the scales of the norms, too.

    Introduced in :doc:`/chapters/02_small_changes`.
    """

    norms: bool = False

    def opened(self, model: nn.Module) -> list[str]:
        scales = {
            f"{name}.weight".lstrip(".")
            for name, module in model.named_modules()
            if self.norms and "Norm" in type(module).__name__
        }
        return [n for n, _ in model.named_parameters() if n.endswith("bias") or n in scales]


@dataclass(frozen=True)
class Full(Method):
    """All of the model.

    Introduced in :doc:`/chapters/02_small_changes`.
    """

    def opened(self, model: nn.Module) -> list[str]:
        return [name for name, _ in model.named_parameters()]


@dataclass(frozen=True)
class Open(Method):
    """Some parts of the model as they are, ``Open("mask_decoder")``; the rest stays frozen.

    Args:
        parts: Named like targets.

    Introduced in :doc:`/chapters/02_small_changes`.
    """

    parts: Names = ()

    def opened(self, model: nn.Module) -> list[str]:
        return within(model, self.parts)
