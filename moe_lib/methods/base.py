"""What every method has: settings that can be saved, and modules that stand where the model's own stood."""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

# Names of modules: plain ones, each the ending of what is meant ("qkv" is every "….qkv"), or one regular
# expression for whole names.
Names = str | Iterable[str]


def matching(model: nn.Module, names: Names) -> dict[str, nn.Module]:
    """The modules of a model that are meant, by name; an error that lists others, where a name meets none."""
    plain = [names] if isinstance(names, str) and re.fullmatch(r"[\w.]+", names) else names
    if isinstance(plain, str):
        wanted = [names]
        meant = {names: lambda name: re.fullmatch(names, name)}
    else:
        wanted = list(plain)
        meant = {end: lambda name, end=end: f".{name}".endswith(f".{end}") for end in wanted}
    every = {name: module for name, module in model.named_modules(remove_duplicate=False) if name}
    for word, test in meant.items():
        if not any(test(name) for name in every):
            raise ValueError(f"no module is named {word!r}; {_candidates(model, every)}")
    return {name: module for name, module in every.items() if any(test(name) for test in meant.values())}


def within(model: nn.Module, parts: Names) -> list[str]:
    """Names of all parameters of some parts of a model."""
    return [
        f"{name}.{p}" for name, part in matching(model, parts).items() for p, _ in part.named_parameters()
    ]


def _candidates(model: nn.Module, every: dict[str, nn.Module]) -> str:
    """The endings that a model's modules have, the most frequent first."""
    endings = Counter(name.split(".")[-1] for name in every if not name.split(".")[-1].isdigit())
    listed = ", ".join(f"{name} ({count})" for name, count in endings.most_common(12))
    return f"the names in a {type(model).__name__} end in {listed or 'nothing: it has no parts'}"


@dataclass(frozen=True, kw_only=True)
class Method:
    """A way to adapt a frozen model: the settings from which :func:`moe_lib.inject` builds it.

    Args:
        targets: Modules to adapt: endings of their names, or a regular expression for whole names.
        also: Parts of the model that are trained as they are, such as ``"mask_decoder"``, named alike.

    Introduced in :doc:`/chapters/02_small_changes`.
    """

    targets: Names = ()
    also: Names = ()

    def wrap(self, module: nn.Module, name: str) -> "Adapted":
        """The adapted module that takes a target's place; a TypeError, if it cannot be adapted."""
        raise NotImplementedError(f"{type(self).__name__} adapts no modules")

    def opened(self, model: nn.Module) -> list[str]:
        """Names of the model's own parameters that the method trains."""
        return []

    def hooks(self, model: nn.Module) -> list[RemovableHandle]:
        """Hooks by which the method's modules learn what their input alone does not tell; often none."""
        return []


def plus_product(base: Tensor, low: Tensor, up: Tensor) -> Tensor:
    """``base + low upᵀ`` in one pass, for ``(…, O)``, ``(…, r)`` and ``(O, r)``."""
    dtype = torch.promote_types(base.dtype, low.dtype)
    flat = torch.addmm(base.flatten(0, -2).to(dtype), low.flatten(0, -2).to(dtype), up.mT.to(dtype))
    return flat.view(base.shape)


class Adapted(nn.Module):
    """A frozen module, ``base``, and what is added to it.

    A subclass says in :meth:`adapted` what comes out. While ``enabled`` is False, ``base`` answers alone.

    Introduced in :doc:`/chapters/02_small_changes`.
    """

    def __init__(self, base: nn.Module):
        super().__init__()
        self.base = base
        self.enabled = True

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.adapted(*args, **kwargs) if self.enabled else self.base(*args, **kwargs)

    def adapted(self, x: Tensor) -> Tensor:
        raise NotImplementedError
