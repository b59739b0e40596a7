"""A run of ``fit`` as a script, for tests that kill it or give it several devices: FOLDER DEVICES [STOP]."""

import os
import signal
import sys
from pathlib import Path

import torch
from torch import Tensor, nn

from moe_lib.train import Recipe, fit

RECIPE = Recipe(steps=12, batch=4, rate=1e-2, warmup=2, every=4)


class Lines:
    """Points on a plane, and the class that a line gives them."""

    def __init__(self, n: int = 10, seed: int = 0):
        self.x = torch.randn(n, 6, generator=torch.Generator().manual_seed(seed))

    def __len__(self) -> int:
        return len(self.x)

    def batch(self, indices: Tensor, device: torch.device) -> dict[str, Tensor]:
        x = self.x[indices].to(device)
        return {"x": x, "y": (x[:, :1] > x[:, 1:2]).float()}


def net() -> nn.Module:
    """With dropout, so that random numbers matter, and with a part that never gets a gradient."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.GELU(), nn.Dropout(0.2), nn.Linear(16, 1))
    model.unused = nn.Linear(2, 2)
    return model


def plain_net() -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 16), nn.GELU(), nn.Linear(16, 1))
    model.unused = nn.Linear(2, 2)
    return model


def forward(model: nn.Module, x: Tensor) -> Tensor:
    for layer in list(model.children())[:-1]:
        x = layer(x)
    return x


def loss(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    return nn.functional.binary_cross_entropy_with_logits(forward(model, batch["x"]), batch["y"])


def score(model: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    right = (forward(model, batch["x"]) > 0).float() == batch["y"]
    return {"right": right[:, 0].float()}


def main() -> None:
    folder, devices, stop = Path(sys.argv[1]), int(sys.argv[2]), int([*sys.argv, "0"][3])
    torch.set_num_threads(1)
    calls = 0

    def stopping(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        nonlocal calls
        calls += 1
        if calls == stop:
            os.kill(os.getpid(), signal.SIGKILL)
        return loss(model, batch)

    model = net() if devices == 1 else plain_net()  # batch norm would see each device's share only
    held_out = {"held_out": Lines(20, seed=1), "score": score}
    fit(model, Lines(), stopping, RECIPE, folder=folder, device="cpu", devices=devices, **held_out)


if __name__ == "__main__":
    main()
