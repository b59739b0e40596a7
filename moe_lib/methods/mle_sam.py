"""MLE-SAM's experts: a LoRA on query and value for each sensor, chosen by what the input is.

Shapes: M sensors, S of them there, B pictures of each; a layer from D to 3 O numbers, rank r. The sensors
come one after the other along the first axis: (S · B, …, D), and windows of a picture stay together.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from moe_lib.methods.base import Adapted, Method, Names


@dataclass(frozen=True)
class MLESAM(Method):
    """One LoRA per sensor on a frozen trunk :cite:`zhu2024mlesam`.

    The paper has no public code; its body could not be read. Rank, places and hard choice of the expert are
    quoted by others; the scale and ``narrow`` are those of its relatives' code. Inject it into a model that
    has a :class:`moe_lib.heads.SensorEncoder`, which tells the layers what they see.

    Args:
        sensors: Their names, in the order of the experts; those of the encoder.
        rank: Of the change of query and of value.
        scale: Of that change.
        narrow: Where a layer widens, adapt only the first half of the queries and the last of the values.

    Introduced in :doc:`/book/other_methods`.
    """

    sensors: Sequence[str] = ("rgb",)
    rank: int = 32
    scale: float = 1.0
    narrow: bool = False
    targets: Names = field(default=("qkv",), kw_only=True)

    def __post_init__(self):
        object.__setattr__(self, "sensors", tuple(self.sensors))
        if not self.sensors or len(set(self.sensors)) < len(self.sensors):
            raise ValueError(f"sensors are names, each once; got {self.sensors!r}")
        if not isinstance(self.rank, int) or self.rank < 1:
            raise ValueError(f"the rank is a whole number from 1, got {self.rank!r}")

    def wrap(self, module: nn.Module, name: str) -> "SensorLinear":
        if not isinstance(module, nn.Linear) or module.out_features % 3:
            raise TypeError(f"MLE-SAM adapts a linear layer of query, key and value, and {name!r} is none")
        return SensorLinear(module, len(self.sensors), self.rank, self.scale, self.narrow)

    def hooks(self, model: nn.Module) -> list[RemovableHandle]:
        """Before an encoder of sensors runs, its layers are told which sensors it is going to see."""
        encoders = [m for m in model.modules() if isinstance(getattr(m, "sensors", None), tuple)]
        if not encoders:
            raise ValueError("no part of the model is an encoder of sensors, such as heads.SensorEncoder")
        found = []
        for encoder in encoders:
            if encoder.sensors != self.sensors:
                raise ValueError(f"the encoder has the sensors {encoder.sensors}, the method {self.sensors}")
            layers = [m for m in encoder.modules() if isinstance(m, SensorLinear)]

            def tell(_encoder: nn.Module, inputs: tuple, layers=layers) -> None:
                for layer in layers:
                    layer.present = tuple(inputs[1])

            found.append(encoder.register_forward_pre_hook(tell))
        return found


class SensorLinear(Adapted):
    """``base(x)``, and ``scale · B A x`` of the sensor's own A and B added to query and value."""

    present: tuple[int, ...] | None = None  # numbers of the sensors that x is of, in its order

    def __init__(self, base: nn.Linear, sensors: int, rank: int, scale: float = 1.0, narrow: bool = False):
        super().__init__(base)
        inputs, outputs = base.in_features, base.out_features // 3
        self.scale, self.outputs = scale, outputs
        self.width = min(inputs, outputs) if narrow else outputs  # so many of the outputs are adapted
        like = {"device": base.weight.device, "dtype": torch.promote_types(base.weight.dtype, torch.float32)}
        for part in "qv":
            a = torch.empty(sensors, rank, inputs, **like)
            for one in a:
                nn.init.kaiming_uniform_(one, a=math.sqrt(5))
            self.register_parameter(f"A_{part}", nn.Parameter(a))
            b = torch.zeros(sensors, self.width, rank, **like)
            self.register_parameter(f"B_{part}", nn.Parameter(b))

    def adapted(self, x: Tensor) -> Tensor:
        present = range(len(self.A_q)) if self.present is None else self.present
        if len(x) % len(present):
            raise ValueError(f"{len(x)} rows cannot be of {len(present)} sensors, as many of each")
        which = list(present)
        flat = x.reshape(len(which), -1, x.shape[-1]).to(self.A_q.dtype)  # (S, N, D)
        # Both low-rank maps in one product, and what they add is added where it belongs.
        low = flat @ torch.cat([self.A_q[which], self.A_v[which]], 1).mT
        low_q, low_v = (self.scale * low).chunk(2, -1)
        base = self.base(x)
        out = base.reshape(len(which), -1, base.shape[-1]).to(flat.dtype)
        q, k, v = out.split(self.outputs, -1)
        first, rest = q.split([self.width, self.outputs - self.width], -1)
        other, last = v.split([self.outputs - self.width, self.width], -1)
        first = torch.baddbmm(first, low_q, self.B_q[which].mT)
        last = torch.baddbmm(last, low_v, self.B_v[which].mT)
        return torch.cat([first, rest, k, other, last], -1).view(base.shape).to(base.dtype)
