"""One loop that trains whatever asks for a gradient, the same way for every method.

The scenes of a step and all its random choices follow from the seed and the step's number alone. So two
methods with the same seed see the same scenes in the same order; a run that was stopped goes on bit for bit;
and several devices share what one would take.
"""

import json
import math
import os
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies import DDPStrategy
from torch import Tensor, nn
from tqdm import tqdm

from moe_lib.scale import pick_device
from moe_lib.states import written_whole

STATE, LOG = "last.ckpt", "log.jsonl"
UNDECAYED = ("pos", "embed.weight", "token", "place")  # in a name: a place and not a map

Batch = dict[str, Any]
Loss = Callable[[nn.Module, Batch], Tensor | Mapping[str, Tensor]]
Score = Callable[[nn.Module, Batch], Mapping[str, Tensor]]


class Data(Protocol):
    """What a task of the world is, or a folder of real images: so many scenes, and any of them as a batch."""

    def __len__(self) -> int: ...

    def batch(self, indices: Tensor, device: torch.device) -> Batch: ...


@dataclass(frozen=True)
class Recipe:
    """How to train; two runs that differ in nothing but the method have the same one.

    Args:
        steps: Of the optimiser, AdamW.
        batch: Scenes of a step, on all devices together.
        at_once: Scenes that go through the model together, where a device's share of a step is too large or a
            loss is to see few of them; 0 for the whole share.
        rate: The largest learning rate. It rises over ``warmup`` steps, or a tenth of all, and falls.
        fall: ``"cosine"``, to a hundredth; or ``"line"``, straight to 0.
        parts: Largest rates of parts that have their own: ``{"mask_decoder": 3e-4}``.
        decay: Of weights; not of biases, norms and places.
        clip: The largest norm of a gradient.
        seed: Of the order of the scenes and everything random.
        every: Steps between two validations; 0 for a tenth of all.
        patience: Validations without a better score after which to stop; 0 never stops early.
        eps: Of AdamW.

    Introduced in :doc:`/chapters/02_small_changes`.
    """

    steps: int = 500
    batch: int = 16
    at_once: int = 0
    rate: float = 1e-3
    fall: str = "cosine"
    decay: float = 1e-4
    warmup: int = 50
    clip: float = 1.0
    seed: int = 0
    every: int = 0
    patience: int = 0
    eps: float = 1e-8
    parts: dict[str, float] = field(default_factory=dict)

    def __post_init__(self):
        for name in ("steps", "batch"):
            if not isinstance(getattr(self, name), int) or getattr(self, name) < 1:
                raise ValueError(f"{name} is a whole number from 1, got {getattr(self, name)!r}")
        if not self.rate > 0 or not self.clip > 0:
            raise ValueError(f"rate and clip are above 0, got {self.rate!r} and {self.clip!r}")
        if self.fall not in ("cosine", "line"):
            raise ValueError(f"fall is 'cosine' or 'line', got {self.fall!r}")
        if not isinstance(self.at_once, int) or self.at_once < 0:
            raise ValueError(f"at_once is a whole number from 0, got {self.at_once!r}")


@dataclass
class Fitted:
    """How a run went: a line per validation, with means since the line before; the first is untrained.

    Introduced in :doc:`/chapters/02_small_changes`.
    """

    history: list[dict[str, float]] = field(default_factory=list)
    seconds: float = 0.0
    interrupted: bool = False

    def best(self, name: str) -> dict[str, float]:
        """The line with the largest value of a score, the first of several."""
        return max((line for line in self.history if name in line), key=lambda line: line[name])

    def curve(self, name: str) -> tuple[list[float], list[float]]:
        """Steps, and a value at each of them."""
        lines = [line for line in self.history if name in line]
        return [line["step"] for line in lines], [line[name] for line in lines]


def fit(
    model: nn.Module, data: Data, loss: Loss, recipe: Recipe = Recipe(), *,
    held_out: Data | None = None, score: Score | None = None, folder: str | Path | None = None,
    device: str = "auto", devices: int = 1, precision: str | None = None, label: str = "",
) -> Fitted:  # fmt: skip
    """Train a model in place.

    Args:
        model: Only what asks for a gradient is trained; :func:`moe_lib.inject` sees to that.
        data: Scenes to learn from: a task of the world, what ``materialise`` keeps, or a folder of images.
        loss: ``loss(model, batch)`` → the mean to be made small; or several values to be logged, of which the
            one called ``"loss"`` is.
        recipe: How.
        held_out: Scenes to validate on.
        score: ``score(model, batch)`` → values per scene, ``(B,)`` each. At the end the model is as it was
            when the mean of the *first* was largest; without it, as the last step left it.
        folder: Keeps the state and the log. A run that lies there is taken up, or given back if it is done.
        device: ``"auto"``, ``"cpu"``, ``"cuda"``, ``"mps"``.
        devices: How many of them. More than one needs a script, which each of them runs.
        precision: Of the arithmetic, as lightning-fabric calls it: ``"32-true"``, ``"bf16-mixed"``; left out,
            the latter on a GPU and the former elsewhere.
        label: Of the progress bar.

    An interrupt by the keyboard ends the run and keeps the best so far.

    Introduced in :doc:`/chapters/02_small_changes`.
    """
    if (held_out is None) != (score is None):
        raise ValueError("validation takes both, held_out and score")
    if not any(values.requires_grad for values in model.parameters()):
        raise ValueError("no parameter asks for a gradient; inject a method, or use requires_grad_()")
    run = _Run(model, data, loss, recipe, held_out, score, folder, _fabric(device, devices, precision))
    with torch.random.fork_rng(devices=[run.fabric.device] if run.fabric.device.type == "cuda" else []):
        try:
            run.to_the_end(label)
        except KeyboardInterrupt:
            run.fitted.interrupted = True
            kept = "the best so far" if run.best else "what its last step left"
            warnings.warn(f"interrupted after {run.step} steps; the model is {kept}", stacklevel=2)
    run.finish()
    return run.fitted


class _Objective(nn.Module):
    """A loss as a module, for what has to wrap a forward pass."""

    def __init__(self, model: nn.Module, loss: Loss):
        super().__init__()
        self.model, self.loss = model, loss

    def forward(self, batch: Batch) -> Mapping[str, Tensor]:
        values = self.loss(self.model, batch)
        return {"loss": values} if isinstance(values, Tensor) else values


class _Run:
    """A run of :func:`fit`, from where it stands to its end."""

    def __init__(
        self, model: nn.Module, data: Data, loss: Loss, recipe: Recipe, held_out: Data | None,
        score: Score | None, folder: str | Path | None, fabric: Fabric,
    ):  # fmt: skip
        self.model, self.data, self.recipe, self.fabric = model, data, recipe, fabric
        self.held_out, self.score = held_out, score
        self.folder = None if folder is None else Path(folder).expanduser()
        objective = _Objective(model.to(fabric.device), loss)
        parts = groups(model, recipe.decay, {name: r / recipe.rate for name, r in recipe.parts.items()})
        optimiser = torch.optim.AdamW(parts, eps=recipe.eps, fused=fabric.device.type == "cuda")
        self.module, self.optimiser = fabric.setup(objective, optimiser)
        self.step, self.fitted, self.best = 0, Fitted(), {}
        if self.folder and (self.folder / STATE).exists():
            self._take_up()

    def to_the_end(self, label: str) -> None:
        steps, shown = self.recipe.steps, self.fabric.is_global_zero
        every = self.recipe.every or max(steps // 10, 1)
        began, sums = time.perf_counter() - self.fitted.seconds, []
        if not self.fitted.history:
            self._validate([])
        with tqdm(
            total=steps, initial=self.step, desc=label, unit="step", delay=2, disable=None if shown else True
        ) as bar:
            while self.step < steps and not self._out_of_patience():
                sums.append(self.one_step())
                bar.update()
                if self.step % every == 0 or self.step == steps:
                    self.fitted.seconds = time.perf_counter() - began
                    bar.set_postfix_str(self._validate(sums))
                    sums.clear()

    def _out_of_patience(self) -> bool:
        lines = self.fitted.history
        if not self.recipe.patience or not self.score or not lines:
            return False
        first = list(lines[0])[1]  # the line of the untrained model has its scores, and no losses
        return len(lines) - 1 - lines.index(self.fitted.best(first)) >= self.recipe.patience

    def one_step(self) -> dict[str, Tensor]:
        """The next step; what the loss told of it."""
        recipe, fabric = self.recipe, self.fabric
        rate = recipe.rate * schedule(self.step, recipe, recipe.fall)
        for group in self.optimiser.param_groups:
            group["lr"] = rate * group["factor"]
        rows, _ = share_of(recipe, len(self.data), self.step, fabric.global_rank, fabric.world_size)
        if hasattr(self.data, "epoch"):  # a folder draws its augmentations anew
            self.data.epoch = self.step * recipe.batch // len(self.data)
        torch.manual_seed((recipe.seed * 1_000_003 + self.step) * 64 + fabric.global_rank)
        self.module.train()
        self.optimiser.zero_grad()
        parts, told = rows.split(recipe.at_once or len(rows)), []
        for i, part in enumerate(parts):
            with fabric.no_backward_sync(self.module, enabled=i < len(parts) - 1):
                values = self.module(self.data.batch(part, fabric.device))
                if "loss" not in values:
                    raise ValueError(f"of several values one is called 'loss'; got {', '.join(values)}")
                share = len(part) / len(rows)
                fabric.backward(values["loss"] * share)
            told.append({name: value.detach() * share for name, value in values.items()})
        fabric.clip_gradients(self.module, self.optimiser, max_norm=recipe.clip, error_if_nonfinite=False)
        self.optimiser.step()
        self.step += 1
        return {name: sum(one[name] for one in told) for name in told[0]}

    def _validate(self, sums: list[dict[str, Tensor]]) -> str:
        """A line of the history, the best so far, and the state on disk; the scores in words."""
        means, scores = self._means(sums), {}
        if self.score:
            scores = evaluate(
                self.model, self.held_out, self.score, batch=self.recipe.batch, device=self.fabric.device
            )
        self.fitted.history.append({"step": self.step, **means, **scores})
        if scores and self.fitted.best(next(iter(scores)))["step"] == self.step:
            self.best = {name: values.clone() for name, values in _changing(self.model).items()}
        self._keep()
        return ", ".join(f"{name} {value:.3f}" for name, value in (scores or means).items())

    def _means(self, sums: list[dict[str, Tensor]]) -> dict[str, float]:
        """What the steps since the last validation said, on all devices."""
        if not sums:
            return {}
        means = {name: torch.stack([values[name] for values in sums]).mean() for name in sums[0]}
        means = {name: float(self.fabric.all_reduce(mean)) for name, mean in means.items()}
        if not math.isfinite(means["loss"]):
            raise FloatingPointError(
                f"the loss is {means['loss']} by step {self.step}; a rate below {self.recipe.rate:g} may help"
            )
        return means

    def finish(self) -> None:
        """Leave the model as it was at its best."""
        with torch.no_grad():
            for name, values in _changing(self.model).items():
                if name in self.best:
                    values.copy_(self.best[name])
        self.model.eval()

    def _keep(self) -> None:
        """Write the state; a kill leaves the old one or the new one."""
        if not self.folder or not self.fabric.is_global_zero:
            return
        state = {
            "recipe": asdict(self.recipe), "step": self.step, "fitted": asdict(self.fitted),
            "now": _changing(self.model), "best": self.best, "optimiser": self.optimiser.state_dict(),
        }  # fmt: skip
        with written_whole(self.folder / STATE) as unfinished:
            torch.save(state, unfinished)
        with written_whole(self.folder / LOG) as unfinished:
            unfinished.write_text("".join(json.dumps(line) + "\n" for line in self.fitted.history))

    def _take_up(self) -> None:
        state = torch.load(self.folder / STATE, map_location=self.fabric.device, weights_only=True)
        asked = asdict(self.recipe)
        if other := [name for name in asked if asked[name] != state["recipe"].get(name)]:
            raise ValueError(
                f"in {self.folder} lies a run with {other[0]}={state['recipe'].get(other[0])!r}, and "
                f"{asked[other[0]]!r} is asked for; another folder keeps another run"
            )
        now = _changing(self.model)
        if now.keys() != state["now"].keys() or any(now[n].shape != v.shape for n, v in state["now"].items()):
            raise ValueError(f"in {self.folder} lies a run of another model or method; name another folder")
        with torch.no_grad():
            for name, values in now.items():
                values.copy_(state["now"][name])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step, self.best, self.fitted = state["step"], state["best"], Fitted(**state["fitted"])


@torch.no_grad()
def evaluate(
    model: nn.Module, data: Data, score: Score, *, batch: int = 64, device: str | torch.device = "cpu"
) -> dict[str, float]:
    """The means of a score over all scenes, in eval mode.

    Args:
        score: ``score(model, batch)`` → values per scene, ``(B,)`` each.

    Introduced in :doc:`/chapters/02_small_changes`.
    """
    was, device = model.training, torch.device(device)
    model.eval()
    found = [score(model, data.batch(rows, device)) for rows in torch.arange(len(data)).split(batch)]
    model.train(was)
    return {name: float(torch.cat([part[name].double().cpu() for part in found]).mean()) for name in found[0]}


def _fabric(device: str, devices: int, precision: str | None) -> Fabric:
    if int(os.environ.get("LT_CLI_USED", 0)):
        return Fabric()  # `fabric run` was told where, and its processes run already
    where = pick_device(device)
    fabric = Fabric(
        accelerator=where.type, devices=devices,
        precision=precision or ("bf16-mixed" if where.type == "cuda" else "32-true"),
        # A router of which nothing is left by a softmax over one expert gets no gradient.
        strategy=DDPStrategy(find_unused_parameters=True) if devices > 1 else "auto",
    )  # fmt: skip
    fabric.launch()
    return fabric


def _changing(model: nn.Module) -> dict[str, Tensor]:
    """What training changes: parameters that ask for a gradient, and buffers."""
    trained = {name: values.data for name, values in model.named_parameters() if values.requires_grad}
    return trained | dict(model.named_buffers())


def share_of(recipe: Any, scenes: int, step: int, rank: int, ranks: int) -> tuple[Tensor, Tensor]:
    """The scenes that one of ``ranks`` processes takes in a step, and a seed for each.

    Together the processes take what a single one would take.
    """
    place = torch.arange(step * recipe.batch, (step + 1) * recipe.batch).chunk(ranks)[rank]
    epoch, at = place // scenes, place % scenes
    rows = torch.empty_like(place)
    for number in epoch.unique().tolist():
        here = epoch == number
        rows[here] = _order(recipe.seed, number, scenes)[at[here]]
    return rows, (place + recipe.seed * 15_485_863).to(torch.int32)


@lru_cache(maxsize=2)
def _order(seed: int, epoch: int, scenes: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
    return torch.randperm(scenes, generator=generator)


def schedule(step: int, recipe: Any, fall: str = "cosine") -> float:
    """Share of the learning rate: up in a straight line, then down along a cosine or another line."""
    warmup = min(recipe.warmup, max(recipe.steps // 10, 1)) if recipe.steps else recipe.warmup
    if step < warmup:
        return (step + 1) / warmup
    gone = (step - warmup) / (recipe.steps - warmup)
    if fall == "line":
        return 1 - gone
    return 0.01 + 0.99 * (1 + math.cos(math.pi * gone)) / 2


def groups(model: nn.Module, decay: float, factors: Mapping[str, float] = MappingProxyType({})) -> list[dict]:
    """Parameters that ask for a gradient: matrices decay; biases, norms and places do not.

    ``factors`` gives parts of the model, by name, a factor of the learning rate: ``"factor"`` of a group.
    """
    found: dict[tuple[float, float], list[nn.Parameter]] = {}
    used = set()
    for name, values in model.named_parameters():
        if values.requires_grad:
            part = next((part for part in factors if f".{name}".startswith(f".{part}.")), None)
            used.add(part)
            plain = values.ndim < 2 or name.endswith("bias") or any(word in name for word in UNDECAYED)
            key = (0.0 if plain else decay, 1.0 if part is None else factors[part])
            found.setdefault(key, []).append(values)
    if unused := [part for part in factors if part not in used]:
        raise ValueError(
            f"a rate is given for {unused[0]!r}, and nothing that is trained begins with this name"
        )
    return [{"params": ps, "weight_decay": d, "factor": factor} for (d, factor), ps in found.items()]
