"""What does Conv-LoRA cost beside LoRA: the layer as it is written, and as the library computes it?

    python book/tools/bench_conv_lora.py        -> book/results/04_conv_lora/bench.json
    python book/tools/bench_conv_lora.py --quick --threads 2

Four layers on the same frozen qkv map, forward and backward, gradients down to the input: the linear map
alone, LoRA, Conv-LoRA with its maps enlarged (literal), and Conv-LoRA from the library (fast). They are timed
in turns in one run, so that a machine busy with other things slows all; the numbers are medians. Routing is
random, as it is in training. Memory is the most that tensors held during a call, above what they held before.
"""

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

os.environ.setdefault("KINETO_LOG_LEVEL", "5")  # the profiler, which measures memory, talks a lot

import torch
import torch.nn.functional as F
from difficulty_table import ROOT
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile
from tqdm import tqdm

from moe_lib import ConvLoRA, ConvLoRALinear, LoRA
from moe_lib.methods.conv_lora import ScaledConvolutions
from moe_lib.results import environment

FILE = Path("book/results/04_conv_lora/bench.json")
SIZES = {  # samples, side, width; three times as many numbers come out
    "pocket, 12 × 12, batch 8": (8, 12, 96),
    "ViT-L, 64 × 64, batch 1": (1, 64, 1024),
    "ViT-L, 64 × 64, batch 4": (4, 64, 1024),
    "ViT-L, 25 windows of 14 × 14, batch 1": (25, 14, 1024),
    "ViT-L, 25 windows of 14 × 14, batch 4": (100, 14, 1024),
    "ViT-H, 64 × 64, batch 1": (1, 64, 1280),
    "ViT-H, 64 × 64, batch 4": (4, 64, 1280),
    "ViT-H, 25 windows of 14 × 14, batch 1": (25, 14, 1280),
    "ViT-H, 25 windows of 14 × 14, batch 4": (100, 14, 1280),
}
BARS = {"pocket": 1.6, "ViT": 1.02}  # fast over LoRA
MEMORY_BAR = 1.05


class Literal(ScaledConvolutions):
    """Experts as they are written: enlarge the map, convolve, GELU, shrink it."""

    def forward(self, u: Tensor, expert: Tensor) -> Tensor:
        out = torch.zeros_like(u)
        for e in expert.unique().tolist():
            some, ratio = (expert == e).nonzero()[:, 0], self.ratios[e]
            z = u[some].permute(0, 3, 1, 2)
            size = z.shape[-2:]
            if ratio > 1:
                z = F.interpolate(z, scale_factor=ratio, mode=self.interpolation)
            z = F.gelu(F.conv2d(z, self.weight[e], self.bias[e], padding=1))
            if ratio > 1:
                z = F.interpolate(z, size=size, mode=self.interpolation)
            out = out.index_copy(0, some, z.permute(0, 2, 3, 1))
        return out


def layers(width: int, device: str) -> dict[str, nn.Module]:
    """The four, with the same weights where they have the same parts."""
    torch.manual_seed(0)
    frozen = nn.Linear(width, 3 * width).requires_grad_(False)
    made = {"linear": frozen, "LoRA": LoRA(3, 32).wrap(frozen, "qkv")}
    for name in ("literal", "fast"):
        made[name] = ConvLoRALinear(frozen, ConvLoRA())
    nn.init.normal_(made["fast"].B)
    literal = Literal(3, made["fast"].method.ratios)
    made["literal"].experts = literal
    made["literal"].load_state_dict(made["fast"].state_dict())
    return {name: layer.to(device).train() for name, layer in made.items()}


def once(layer: nn.Module, x: Tensor, weights: Tensor) -> None:
    """A training step's share of a layer."""
    x = x.detach().requires_grad_()
    out = layer(x)
    if isinstance(layer, ConvLoRALinear):
        torch.autograd.backward([out, layer.balance], [weights, torch.ones_like(layer.balance)])
    else:
        out.backward(weights)


def timed(call: Callable[[], None], device: str, calls: int) -> float:
    """Seconds of one of several calls."""
    if device == "cuda":
        torch.cuda.synchronize()
    began = time.perf_counter()
    for _ in range(calls):
        call()
    if device == "cuda":
        torch.cuda.synchronize()
    return (time.perf_counter() - began) / calls


def in_turns(
    calls: dict[str, Callable[[], None]], device: str, inner: int, repeats: int, label: str
) -> dict[str, float]:  # fmt: skip
    """Milliseconds of each of several calls, the median of so many turns."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in tqdm(range(repeats + 1), desc=label, delay=2, leave=False):  # the first turn warms up
        for name, call in calls.items():
            seconds[name].append(timed(call, device, inner))
    return {name: round(1000 * statistics.median(times[1:]), 3) for name, times in seconds.items()}


def most_held(call: Callable[[], None], device: str) -> float:
    """Megabytes that tensors held at the worst moment of a call."""
    call()  # tables and the like are made once
    if device == "cuda":
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        call()
        return (torch.cuda.max_memory_allocated() - before) / 1e6
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as watched:
        call()
    held = most = 0
    # What the profiler saw of memory, in the order of time: each line takes some or gives it back.
    for event in watched.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            most = max(most, held)
    return most / 1e6


def difference(made: dict[str, nn.Module], x: Tensor) -> float:
    """Between the two forms, over the largest number, in the experts' part."""
    u, expert = F.linear(x, made["fast"].A).detach(), torch.arange(len(x), device=x.device) % 8
    slow, fast = (made[name].experts(u, expert) for name in ("literal", "fast"))
    return ((slow - fast).abs().max() / slow.abs().max()).item()


def bench(
    size: tuple[int, int, int], device: str, repeats: int, label: str, *, bf16: bool = False,
    compiled: bool = False,
) -> dict:  # fmt: skip
    """The four layers at one size: time, memory, and how far the two forms are apart."""
    samples, side, width = size
    made = layers(width, device)
    x = torch.randn(samples, side, side, width, device=device)
    weights = torch.randn(samples, side, side, 3 * width, device=device)
    apart = difference(made, x)
    if bf16:
        weights = weights.bfloat16()
    ready = {name: torch.compile(m) for name, m in made.items()} if compiled else made
    calls = {name: partial(autocast, bf16, device, once, layer, x, weights) for name, layer in ready.items()}
    inner = max(1, 400_000 // (samples * side * side * width)) if device == "cpu" else 5
    milliseconds = in_turns(calls, device, inner, repeats, label)
    megabytes = {name: round(most_held(call, device), 2) for name, call in calls.items()}
    return {"milliseconds": milliseconds, "megabytes": megabytes, "difference": apart, "repeats": repeats}


def autocast(bf16: bool, device: str, call: Callable, layer: nn.Module, x: Tensor, weights: Tensor) -> None:
    with torch.autocast(device, torch.bfloat16, enabled=bf16):
        call(layer, x, weights)


def table(record: dict) -> str:
    """What was measured, to be read."""
    lines = []
    for device, found in record["devices"].items():
        lines.append(f"{device}: milliseconds, forward and backward; in brackets over LoRA")
        for name, one in found.items():
            times, held = one["milliseconds"], one["megabytes"]
            bar = next((bar for word, bar in BARS.items() if name.startswith(word)), None)
            ratio, memory = times["fast"] / times["LoRA"], held["fast"] / held["LoRA"]
            lines.append(
                f"  {name:40} linear {times['linear']:9.2f}  LoRA {times['LoRA']:9.2f}  "
                f"literal {times['literal']:9.2f} ({times['literal'] / times['LoRA']:.2f})  "
                f"fast {times['fast']:9.2f} ({ratio:.2f}, bar {bar})  "
                f"memory {memory:.3f} of LoRA's, bar {MEMORY_BAR}"
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
    devices = {"cpu": {}}
    if torch.cuda.is_available():
        devices |= {
            "cuda": {},
            "cuda, bf16": {"bf16": True},
            "cuda, bf16, compiled": {"bf16": True, "compiled": True},
        }
    began = environment(list(devices)[-1].split(",")[0])  # of the code that was loaded, whatever comes later
    found: dict[str, dict] = {}
    for kind, options in devices.items():
        device = kind.split(",")[0]
        for name, size in SIZES.items():
            large = device == "cpu" and size[2] > 96
            repeats = (3 if large else 9) if given.quick else (9 if large else 101)
            found.setdefault(kind, {})[name] = bench(size, device, repeats, name, **options)
    record = {
        "command": "python book/tools/bench_conv_lora.py",
        "environment": began,
        "devices": found,
    }
    print(table(record))
    if not given.quick and given.threads == parser.get_default("threads"):
        path = ROOT / FILE
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
