"""A tiny SAM, and a method of one's own, for tests of injection."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from moe_lib.backbones import Sam, Sizes
from moe_lib.methods.base import Adapted, Method, Names
from moe_lib.methods.lora import LoRALinear

SIZES = Sizes(
    image=32, patch=8, width=24, depth=2, heads=3, window=2, global_blocks=(1,),
    channels=16, decoder_heads=2, decoder_mlp=32, quality_width=16,
)  # fmt: skip


def sam() -> Sam:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Sam(SIZES).eval()


@dataclass(frozen=True)
class Nested(Method):
    """LoRA inside an MLP, a gain around it, and one bias of the model's own."""

    targets: Names = r"blocks\.\d\.mlp(\.fc\d)?"

    def wrap(self, module: nn.Module, name: str) -> Adapted:
        return LoRALinear(module, 2) if isinstance(module, nn.Linear) else Gain(module)

    def opened(self, model: nn.Module) -> list[str]:
        return [name for name, _ in model.named_parameters() if name.endswith("fc1.bias")]


class Gain(Adapted):
    def __init__(self, base: nn.Module):
        super().__init__(base)
        self.gain = nn.Parameter(torch.zeros(()))

    def adapted(self, x: Tensor) -> Tensor:
        out = self.base(x)
        return out + self.gain * out


@dataclass(frozen=True)
class Scale(Method):
    """One parameter of the outermost module's own, named ``scale``."""

    def opened(self, model: nn.Module) -> list[str]:
        return ["scale"]
