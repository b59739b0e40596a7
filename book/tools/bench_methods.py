"""What do the other methods cost: as written, as the library computes them, and beside what is plain?

    python book/tools/bench_methods.py        -> book/results/other_methods/bench.json
    python book/tools/bench_methods.py --quick --threads 2

Each comparison has forms of one module, forward and backward, gradients down to the input. They are timed in
turns in one run, so that a machine busy with other things slows all; the numbers are medians. Memory is the
most that tensors held during a call, above what they held before. The literal and the library's form have the
same weights and give the same numbers, which is measured as well.
"""

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from bench_conv_lora import in_turns, most_held
from difficulty_table import ROOT
from torch import Tensor, nn

import moe_lib as moe
from moe_lib import backbones, heads
from moe_lib.deformable import DeformableAttention, references
from moe_lib.heads.referring import OneKey
from moe_lib.methods.adaroute import ExpertCenter, RoutedAdapter
from moe_lib.methods.lpmoe import Extract
from moe_lib.methods.mle_sam import SensorLinear
from moe_lib.methods.sera_fusion import Fusion
from moe_lib.results import environment

FILE = Path("book/results/other_methods/bench.json")
LITERAL, LIBRARY = "literal", "library"


@dataclass
class Compared:
    """Forms of one module by name, of which one is plain; each maps the same inputs to an output."""

    forms: dict[str, Callable[..., Tensor]]
    inputs: list[Tensor]  # the first asks for a gradient
    plain: str
    bar: float | None = None  # of the library's time over the plain one's


class LoopedAdapter(RoutedAdapter):
    """AdaRoute's adapter as it is written: experts are summed one by one, and pictures taken one by one."""

    def forward(self, x: Tensor, center: ExpertCenter, grid: tuple[int, int]) -> Tensor:
        def near(conv: nn.Conv2d, tokens: Tensor) -> Tensor:
            return conv(tokens.mT.unflatten(-1, grid)).flatten(2).mT

        u = x + self.gamma * self.norm(x)
        u = u + near(self.before, u)
        down, up, *kernels = self.mixed(u, center)
        d = torch.stack([one @ weight.mT for one, weight in zip(u, down, strict=True)])
        m = d + self._scales(d.mT, kernels, grid).mT
        m = F.gelu(m + self.mix(m))
        y = torch.stack([one @ weight.mT for one, weight in zip(m, up, strict=True)])
        y = y + near(self.after, y)
        return self.out_scale * y + self.out_offset + self.short_scale * x + self.short_offset

    def mixed(self, u: Tensor, center: ExpertCenter) -> list[Tensor]:
        logits = self.router(u.mean(1)).unflatten(-1, (len(self.roles), -1))
        logits = logits * self.logit_scale.exp()[:, None]
        found = []
        for i, experts in enumerate(center.roles()):
            gates = logits[:, i].softmax(-1)
            each = [sum(gate * expert for gate, expert in zip(row, experts, strict=True)) for row in gates]
            found.append(torch.stack(each))
        return found

    def _scales(self, d: Tensor, kernels: list[Tensor], grid: tuple[int, int]) -> Tensor:
        rows = []
        for i in range(len(d)):
            first = last = d[i].unflatten(-1, grid)
            found = []
            for n, kernel in enumerate(kernels):
                if n:
                    last = self.again[2 * n - 2] * first + self.again[2 * n - 1] * last
                last = F.conv2d(last[None], kernel[i], padding="same", groups=len(kernel[i]))[0]
                found.append(last.flatten(1))
            shares = self.attention(sum(found).mT).softmax(-1)
            rows.append(sum(shares[:, n] * z for n, z in enumerate(found)))
        return torch.stack(rows)


class PlainAdapter(nn.Module):
    """A bottleneck of the same width."""

    def __init__(self, channels: int, rank: int):
        super().__init__()
        self.down, self.up = nn.Linear(channels, rank), nn.Linear(rank, channels)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.up(F.gelu(self.down(x)))


def adaroute(device: str, channels: int = 384, side: int = 32, batch: int = 4, experts: int = 12) -> Compared:
    method, grid = moe.AdaRoute(rank=128), (side, side)
    center = ExpertCenter(channels, method, experts)
    library, literal = (kind(channels, method, experts) for kind in (RoutedAdapter, LoopedAdapter))
    literal.load_state_dict(library.state_dict())
    for module in (center, library, literal):
        module.to(device)
    forms = {"plain adapter": PlainAdapter(channels, method.rank).to(device)}
    forms |= {
        name: partial(_with, module, center=center, grid=grid)
        for name, module in ((LITERAL, literal), (LIBRARY, library))
    }
    return Compared(forms, [torch.randn(batch, side**2, channels, device=device)], "plain adapter", 3.5)


def _with(module: nn.Module, x: Tensor, **more: object) -> Tensor:
    return module(x, **more)


class AllPairs(DeformableAttention):
    """The cosine factor as it is written: a map of all queries and values."""

    def _said_of_similar(self, q: Tensor, v: Tensor) -> Tensor:
        map_of_all = F.normalize(q, dim=-1, eps=1e-8) @ F.normalize(v, dim=-1, eps=1e-8).mT
        return self.weights(map_of_all @ v)


def lpmoe(device: str, width: int = 1024, side: int = 32, batch: int = 1) -> Compared:
    sizes = [(2 * side, 2 * side), (side, side), (side // 2, side // 2)]
    blocks = {name: Extract(width, moe.LPMoE(cosine=kind)) for name, kind in (
        ("without cosine", "none"), (LITERAL, "sum"), (LIBRARY, "sum")
    )}  # fmt: skip
    nn.init.normal_(blocks[LIBRARY].attention.weights.weight, std=1e-3)
    for block in blocks.values():
        block.load_state_dict(blocks[LIBRARY].state_dict())
        block.to(device)
    blocks[LITERAL].attention.__class__ = AllPairs
    c = torch.randn(batch, sum(h * w for h, w in sizes), width, device=device)
    x = torch.randn(batch, side**2, width, device=device)
    more = {"places": references(sizes, c), "sizes": sizes, "grid": (side, side)}
    forms = {name: partial(_two, block, more) for name, block in blocks.items()}
    return Compared(forms, [c, x], "without cosine", 1.05)


def _two(block: nn.Module, more: dict, c: Tensor, x: Tensor) -> Tensor:
    return block(c, x, **more)


class LoopedSensors(SensorLinear):
    """A LoRA for each sensor as it is written: one after the other, query and value apart."""

    def adapted(self, x: Tensor) -> Tensor:
        rows = []
        for m, part in enumerate(x.chunk(len(self.A_q))):
            q, k, v = self.base(part).chunk(3, -1)
            q = q + self.scale * (part @ self.A_q[m].mT @ self.B_q[m].mT)
            v = v + self.scale * (part @ self.A_v[m].mT @ self.B_v[m].mT)
            rows.append(torch.cat([q, k, v], -1))
        return torch.cat(rows)


def sensors(device: str, width: int = 448, side: int = 32, batch: int = 1, count: int = 4) -> Compared:
    frozen = nn.Linear(width, 3 * width).requires_grad_(False)
    library, literal = (kind(frozen, count, 32) for kind in (SensorLinear, LoopedSensors))
    for part in "qv":
        nn.init.normal_(getattr(library, f"B_{part}"), std=0.02)
    literal.load_state_dict(library.state_dict())
    forms = {"frozen": frozen, LITERAL: literal, LIBRARY: library}
    x = torch.randn(count * batch, side, side, width, device=device)
    return Compared({name: m.to(device) for name, m in forms.items()}, [x], "frozen")


def trunk(device: str, batch: int = 4, count: int = 4) -> Compared:
    """The whole pocket encoder: all sensors in one pass, or one after the other."""
    names = tuple("abcd"[:count])
    encoders = {}
    for name, together in ((LITERAL, False), (LIBRARY, True)):
        torch.manual_seed(0)
        encoder = heads.SensorEncoder(backbones.hiera(weights=False), names, together)
        encoders[name] = moe.inject(encoder, moe.MLESAM(names, rank=8)).to(device).train()
    frozen = heads.SensorEncoder(backbones.hiera(weights=False), names).to(device).requires_grad_(False)
    forms = {"frozen": frozen, **encoders}
    forms = {name: partial(_levels, encoder, tuple(range(count))) for name, encoder in forms.items()}
    return Compared(forms, [torch.randn(count, batch, 3, 96, 96, device=device)], "frozen")


def _levels(encoder: nn.Module, present: tuple[int, ...], x: Tensor) -> Tensor:
    return torch.cat([level.flatten(2) for level in encoder(x, present)], 2)


class EveryExpert(Fusion):
    """SERA-Fusion as it is written: every expert works on every picture, and gates of 0 come after."""

    def forward(self, x: Tensor, sentence: Tensor | None = None) -> Tensor:
        gates = self.decided(x, sentence)
        each = [x + expert(x) for expert in self.experts.values()]
        return sum(gate[:, None, None, None] * out for gate, out in zip(gates.mT, each, strict=True))


def fusion(device: str, channels: int = 512, side: int = 32, batch: int = 2, k: int = 2) -> Compared:
    library, literal = (kind(channels, k=k).to(device).eval() for kind in (Fusion, EveryExpert))
    nn.init.normal_(library.router[2].weight)
    literal.load_state_dict(library.state_dict())
    plain = nn.Conv2d(channels, channels, 3, padding=1).to(device)
    forms = {"3 × 3 convolution": plain, LITERAL: literal, LIBRARY: library}
    return Compared(forms, [torch.randn(batch, channels, side, side, device=device)], "3 × 3 convolution")


def one_key(device: str, channels: int = 512, side: int = 32, batch: int = 2) -> Compared:
    """A map times what its places see of one sentence."""
    attention = OneKey(channels, 8, batch_first=True).to(device)
    said = torch.randn(batch, 1, channels, device=device)
    forms = {
        "product": lambda x: x * said.mT[..., None],
        LITERAL: lambda x: x * nn.MultiheadAttention.forward(
            attention, x.flatten(2).mT, said, said, need_weights=False
        )[0].mT.unflatten(-1, x.shape[-2:]),
        LIBRARY: lambda x: x * attention(said).mT[..., None],
    }  # fmt: skip
    return Compared(forms, [torch.randn(batch, channels, side, side, device=device)], "product")


COMPARED = {
    "AdaRoute: an adapter, C 384, r 128, 32 × 32": adaroute,
    "LPMoE: a block, D 1024, 32 × 32": lpmoe,
    "MLE-SAM: a layer, D 448, 4 sensors, 32 × 32": sensors,
    "MLE-SAM: the pocket trunk, 4 sensors, 96 px": trunk,
    "SERA: the fusion of a map, C 512, 2 of 4, 32 × 32": fusion,
    "SERA: a map and one sentence, C 512, 32 × 32": one_key,
}


def once(form: Callable[..., Tensor], inputs: list[Tensor], weights: Tensor) -> None:
    """A training step's share of a form."""
    first = inputs[0].detach().requires_grad_()
    form(first, *inputs[1:]).backward(weights)


def bench(compared: Compared, device: str, repeats: int, label: str) -> dict:
    """Time and memory of all forms, and how far the two forms of the method are apart."""
    with torch.no_grad():
        outs = {name: form(*compared.inputs) for name, form in compared.forms.items()}
    slow, fast = outs[LITERAL], outs[LIBRARY]
    calls = {
        name: partial(once, form, compared.inputs, torch.randn_like(outs[name]))
        for name, form in compared.forms.items()
    }
    return {
        "milliseconds": in_turns(calls, device, 1, repeats, label),
        "megabytes": {name: round(most_held(call, device), 2) for name, call in calls.items()},
        "difference": float((slow - fast).abs().max() / slow.abs().max()),
        "plain": compared.plain, "bar": compared.bar, "repeats": repeats,
    }  # fmt: skip


def table(record: dict) -> str:
    """What was measured, to be read."""
    lines = []
    for device, found in record["devices"].items():
        lines.append(f"{device}: milliseconds, forward and backward, and megabytes; over the plain form")
        for name, one in found.items():
            times, held = one["milliseconds"], one["megabytes"]
            over = {form: times[form] / times[one["plain"]] for form in (LITERAL, LIBRARY)}
            bar = "" if one["bar"] is None else f", bar {one['bar']}"
            lines.append(
                f"  {name:52} {one['plain']} {times[one['plain']]:.1f}  "
                f"literal {times[LITERAL]:.1f} ({over[LITERAL]:.2f})  "
                f"library {times[LIBRARY]:.1f} ({over[LIBRARY]:.2f}{bar})  "
                f"MB {held[one['plain']]:.0f}, {held[LITERAL]:.0f}, {held[LIBRARY]:.0f}"
            )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="few repeats, and no file")
    parser.add_argument("--threads", type=int, default=1, help="of the CPU; the file is written for one")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    began = environment(devices[-1])  # of the code that was loaded, whatever comes later
    found: dict[str, dict] = {device: {} for device in devices}
    for device in devices:
        for name, build in COMPARED.items():
            torch.manual_seed(0)
            found[device][name] = bench(build(device), device, 3 if given.quick else 15, name)
    record = {"command": "python book/tools/bench_methods.py", "environment": began, "devices": found}
    print(table(record))
    if not given.quick and given.threads == parser.get_default("threads"):
        path = ROOT / FILE
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
