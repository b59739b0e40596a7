"""How fast is the pocket encoder beside segment-anything's own, and what do the real ones cost?

    python book/tools/bench_backbone.py        -> book/results/pocket_models/bench.json
    python book/tools/bench_backbone.py --repeats 3 --threads 1

Both encoders have the same weights and are timed in turns in one run, so that a machine busy with other
things slows both; the numbers are medians, on the CPU with two threads. With a GPU, the real encoders are
timed too.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from difficulty_table import ROOT
from segment_anything.modeling import ImageEncoderViT
from torch import nn

from moe_lib import backbones
from moe_lib.backbones.registry import POCKET
from moe_lib.results import environment

FILE = Path("book/results/pocket_models/bench.json")
BATCH = {"cpu": 16, "cuda": 256}
BAR = 120  # images a second that are asked of two cores
REAL = ("vit_b", "vit_l", "vit_h")


def theirs() -> ImageEncoderViT:
    """segment-anything's encoder with the weights of the pocket SAM."""
    s = POCKET
    model = ImageEncoderViT(
        img_size=s.image, patch_size=s.patch, embed_dim=s.width, depth=s.depth, num_heads=s.heads,
        window_size=s.window, global_attn_indexes=s.global_blocks, use_rel_pos=True, out_chans=s.channels,
        norm_layer=partial(nn.LayerNorm, eps=1e-6),
    )  # fmt: skip
    model.load_state_dict(backbones.sam("pocket").image_encoder.state_dict())
    return model.eval()


def bench(device: str, repeats: int) -> dict:
    """Images per second of both encoders, forward alone and with the backward pass, in turns."""
    models = {
        "ours": backbones.sam("pocket").image_encoder.to(device),
        "segment-anything": theirs().to(device),
    }
    images = torch.rand(BATCH[device], 3, POCKET.image, POCKET.image, device=device)
    with torch.no_grad():
        results = [model(images) for model in models.values()]
    calls = {
        (name, way): partial(call, model, images)
        for name, model in models.items()
        for way, call in (("forward", forward), ("forward and backward", both_ways))
    }
    seconds: dict[tuple[str, str], list[float]] = {key: [] for key in calls}
    for _ in range(repeats + 1):  # the first turn warms up
        for key, call in calls.items():
            seconds[key].append(timed(call, device))
    speed = {key: len(images) / statistics.median(times[1:]) for key, times in seconds.items()}
    return {
        "batch": len(images),
        "largest_difference": float((results[0] - results[1]).abs().max()),
        "images_per_second": {
            way: {name: round(speed[name, way], 1) for name in models}
            for way in ("forward", "forward and backward")
        },
    }


def forward(model: nn.Module, images: torch.Tensor) -> None:
    with torch.no_grad():
        model(images)


def both_ways(model: nn.Module, images: torch.Tensor) -> None:
    """As an adapter's training needs it: gradients down to the picture, none of the frozen weights."""
    model.requires_grad_(False)
    model(images.clone().requires_grad_()).square().mean().backward()


def timed(call: Callable[[], None], device: str) -> float:
    if device == "cuda":
        torch.cuda.synchronize()
    began = time.perf_counter()
    call()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - began


@torch.no_grad()
def real(name: str, repeats: int) -> dict:
    """Milliseconds and megabytes of a real encoder on one picture, on the GPU in bfloat16."""
    encoder = backbones.sam(name, weights=False).image_encoder.to("cuda")
    image = torch.rand(1, 3, encoder.img_size, encoder.img_size, device="cuda")
    torch.cuda.reset_peak_memory_stats()

    def call() -> None:
        with torch.autocast("cuda", torch.bfloat16):
            encoder(image)

    times = [timed(call, "cuda") for _ in range(repeats + 1)]
    return {
        "milliseconds": round(1000 * statistics.median(times[1:]), 2),
        "megabytes": round(torch.cuda.max_memory_allocated() / 1e6),
    }


def table(record: dict) -> str:
    """What was measured, to be read."""
    lines = []
    for device, found in record["devices"].items():
        lines.append(f"{device}, images per second at {POCKET.image} px, batches of {found['batch']}")
        for way, speed in found["images_per_second"].items():
            ours, other = speed["ours"], speed["segment-anything"]
            bar = f", bar {BAR}" if (device, way) == ("cpu", "forward") else ""
            lines.append(f"  {way:21}{ours:>8,.0f}  segment-anything {other:,.0f}  {ours / other:.2f} ×{bar}")
    lines += [
        f"{name}: {it['milliseconds']} ms, {it['megabytes']:,} MB"
        for name, it in record.get("real", {}).items()
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=31)
    parser.add_argument("--threads", type=int, default=2, help="of the CPU; the file is written for two")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    record = {
        "command": "python book/tools/bench_backbone.py",
        "repeats": given.repeats,
        "environment": environment(devices[-1]),
        "devices": {device: bench(device, given.repeats) for device in devices},
    }
    if "cuda" in devices:
        record["real"] = {name: real(name, given.repeats) for name in REAL}
    print(table(record))
    if given.threads == parser.get_default("threads"):
        path = ROOT / FILE
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
