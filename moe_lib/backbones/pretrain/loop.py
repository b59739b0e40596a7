"""One loop that trains every pocket model, on one process or several, and goes on where it was killed.

A step's scenes and all its random choices follow from its number and the seed. So nothing but the weights,
their average and the optimiser's state has to be kept: a resumed run is bit for bit the run that was not
interrupted.
"""

import json
import math
import os
import time
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from tqdm import tqdm

from moe_lib.backbones.clicks import Scenes
from moe_lib.backbones.pretrain.pool import Pool
from moe_lib.train import LOG, STATE, groups, schedule, share_of

PROBE = 20  # steps that show the pace


@dataclass(frozen=True)
class Plan:
    """Everything that decides the outcome of a run."""

    model: str
    steps: int  # 0: as many as fit into the minutes, which the pace of the first ones tells
    batch: int = 64  # scenes of a step, on all processes together
    scenes: int = 8000
    rate: float = 1e-3
    decay: float = 0.05
    warmup: int = 300  # steps, or a tenth of all of them
    clip: float = 1.0
    average: float = 0.999  # how much of the averaged weights a step leaves
    prompts: int = 4  # per scene
    frozen_encoder: bool = False  # leaves the encoder as it was drawn: a control
    begin: str = ""  # a file of weights to begin with
    seed: int = 0


class Training:
    """A run of a plan.

    Args:
        objective: What is learnt, around a fresh model.
        pool, held_out: Scenes to train on, and to measure with.
        folder: Holds the state and the log. A state that lies there is taken up.
        recorded: Record the step once and replay it, which spares a GPU the wait for thousands of calls.
    """

    def __init__(
        self, fabric: Fabric, plan: Plan, objective: nn.Module, pool: Pool, held_out: Pool, folder: Path,
        *, recorded: bool = False,
    ):  # fmt: skip
        if plan.frozen_encoder:
            objective.model.image_encoder.requires_grad_(False)
        self.fabric, self.plan, self.folder = fabric, plan, folder
        self.pool, self.held_out = (p.to(fabric.device) for p in (pool, held_out))
        self.objective, self.model = objective, objective.to(fabric.device).model
        self.average = deepcopy(self.model).requires_grad_(False)
        if recorded:
            scenes, seeds = self._share(0)
            with fabric.autocast(), torch.autocast(fabric.device.type, enabled=True, cache_enabled=False):
                torch.cuda.make_graphed_callables(objective, (scenes, seeds))
        optimiser = torch.optim.AdamW(
            groups(objective, plan.decay), betas=(0.9, 0.98), fused=fabric.device.type == "cuda"
        )
        self.module, self.optimiser = fabric.setup(objective, optimiser)
        self.step, self.seconds = 0, 0.0
        if (folder / STATE).exists():
            self._take_up()

    def run(self, *, every: int = 0, until: int | None = None) -> nn.Module:
        """Train to the end of the plan, or ``until`` a step; the model with averaged weights.

        After ``every`` so many steps, or a twentieth of all, it is measured on the held-out scenes, and the
        state is written.
        """
        every = every or max(self.plan.steps // 20, 1)
        began, sums = time.perf_counter() - self.seconds, []
        shown = self.fabric.is_global_zero
        with tqdm(
            total=self.plan.steps, initial=self.step, desc=self.plan.model, unit="step",
            disable=None if shown else True,
        ) as bar:  # fmt: skip
            while self.step < min(self.plan.steps, until or self.plan.steps):
                sums.append(self.one_step())
                bar.update()
                if self.step % every == 0 or self.step == self.plan.steps:
                    means = self._means(sums)
                    if not math.isfinite(means["loss"]):
                        raise FloatingPointError(
                            f"the loss is {means['loss']} by step {self.step}; a smaller --rate may help"
                        )
                    sums.clear()
                    self.seconds = time.perf_counter() - began
                    found = self.measured()
                    if shown:
                        self._write_down(means | {f"held-out {name}": v for name, v in found.items()})
                        bar.set_postfix_str(", ".join(f"{name} {v:.3f}" for name, v in found.items()))
                    self._keep()
        return self.average

    def find_pace(self, minutes: float) -> None:
        """Train for the first steps, and plan as many as fit into the minutes at their pace."""
        while self.step < PROBE:
            if self.step == PROBE // 2:  # the first ones warm up
                began = time.perf_counter()
            float(self.one_step()["loss"])  # waits for the device
        pace = self.fabric.broadcast((time.perf_counter() - began) / (PROBE - PROBE // 2))
        self.plan = replace(self.plan, steps=max(PROBE + 1, round(minutes * 60 / pace)))

    def one_step(self) -> dict[str, Tensor]:
        """The next step of the plan; what it measured, on the device."""
        plan, fabric = self.plan, self.fabric
        for group in self.optimiser.param_groups:
            group["lr"] = plan.rate * schedule(self.step, plan)
        values = self.module(*self._share(self.step))
        self.optimiser.zero_grad()
        fabric.backward(values["loss"])
        fabric.clip_gradients(self.module, self.optimiser, max_norm=plan.clip, error_if_nonfinite=False)
        self.optimiser.step()
        self.step += 1
        left = min(plan.average, self.step / (self.step + 9))  # the first steps are soon forgotten
        torch._foreach_lerp_([*self.average.parameters()], [*self.model.parameters()], 1 - left)
        return {name: value.detach().clone() for name, value in values.items()}

    def _share(self, step: int) -> tuple[Scenes, Tensor]:
        """What this process sees in a step."""
        fabric = self.fabric
        rows, seeds = share_of(self.plan, len(self.pool), step, fabric.global_rank, fabric.world_size)
        return self.pool.scenes(rows), seeds.to(fabric.device)

    def measured(self) -> dict[str, float]:
        """The averaged model's scores on scenes it was not trained on."""
        return self.objective.measured(self.average.eval(), self.held_out)

    def _means(self, values: list[dict[str, Tensor]]) -> dict[str, float]:
        means = {name: torch.stack([v[name] for v in values]).mean() for name in values[0]}
        return {name: float(self.fabric.all_reduce(mean)) for name, mean in means.items()}

    def _write_down(self, values: dict[str, float]) -> None:
        line = {"step": self.step, "images": self.step * self.plan.batch, "seconds": round(self.seconds, 1)}
        line |= {name: float(f"{value:.5g}") for name, value in values.items()}
        with (self.folder / LOG).open("a", encoding="utf-8") as log:
            log.write(json.dumps(line) + "\n")

    def _keep(self) -> None:
        """Write the state; a kill leaves the old one or the new one."""
        state = {
            "plan": asdict(self.plan), "step": self.step, "seconds": self.seconds,
            "module": self.module, "average": self.average, "optimiser": self.optimiser,
        }  # fmt: skip
        unfinished = self.folder / f"{STATE}.tmp"
        self.fabric.save(unfinished, state)
        self.fabric.barrier()
        if self.fabric.is_global_zero:
            os.replace(unfinished, self.folder / STATE)
        self.fabric.barrier()

    def _take_up(self) -> None:
        state = {"module": self.module, "average": self.average, "optimiser": self.optimiser}
        rest = self.fabric.load(self.folder / STATE, state, strict=True)
        self.step, self.seconds = rest["step"], rest["seconds"]
        if self.fabric.is_global_zero:  # what was logged after the state was written comes again
            log = self.folder / LOG
            lines = log.read_text(encoding="utf-8").splitlines()
            kept = [line for line in lines if json.loads(line)["step"] <= self.step]
            log.write_text("".join(line + "\n" for line in kept), encoding="utf-8")


def planned(folder: Path) -> Plan | None:
    """The plan of the run whose state lies there."""
    if not (folder / STATE).exists():
        return None
    return Plan(**torch.load(folder / STATE, map_location="cpu", weights_only=True)["plan"])
