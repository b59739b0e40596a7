"""Put a method into a frozen model: count what is trained, save it, load it, switch it off, merge it.

A model is changed in place, and all of it is frozen but what the method trains. What was done is noted on the
model itself, so that every function here finds it, also in a part of a larger model.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from moe_lib import methods
from moe_lib.methods.base import Adapted, Method, matching, within
from moe_lib.states import differences, written_whole

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"

# They compute with the weights of their parts and do not call them: what is put there would do nothing.
READERS = (nn.MultiheadAttention, nn.TransformerEncoderLayer)


@dataclass
class _Injection:
    """What was done to a model; it hangs on the model as ``_injection``."""

    method: Method
    adapted: list[str]  # names of the modules that were replaced, in that order
    # The model's own parameters that are trained, as they were; on the CPU, for they may be the whole model.
    before: dict[str, Tensor] = field(default_factory=dict)
    hooks: list[RemovableHandle] = field(default_factory=list)


def inject(model: nn.Module, method: Method) -> nn.Module:
    """Freeze a model and put a method into it, in place; returns the model.

    Args:
        model: Or a part of one, such as ``sam.image_encoder``; what lies outside of it stays as it is.
        method: What to put in, and where: ``LoRA(rank=4, targets=("qkv", "proj"))``.

    Introduced in :doc:`/chapters/02_small_changes`.
    """
    if not isinstance(method, Method):
        raise TypeError(f"a method is something like moe.LoRA(rank=4), got {method!r}")
    if hasattr(model, "_orig_mod"):
        raise ValueError("the model is compiled already: inject first, then compile")
    if (already := _places(model)) or any(isinstance(m, Adapted) for m in model.modules()):
        inside = f"{_injection(already[0]).method}" if already else "a method"
        raise ValueError(f"the model has {inside} in it already; `remove` takes it out")
    targets = matching(model, method.targets) if method.targets else {}
    opened = [*method.opened(model), *(within(model, method.also) if method.also else [])]
    if not targets and not opened:
        raise ValueError(f"{method} names nothing to adapt and nothing to train")
    new = {}  # by the module itself: one that stands in several places gets one wrapper
    for name, module in targets.items():
        _refuse_where_unused(model, name)
        new.setdefault(module, method.wrap(module, name))

    model.requires_grad_(False)
    injection = _Injection(method, sorted(targets, key=lambda name: -name.count(".")))
    for name in dict.fromkeys(opened):
        values = model.get_parameter(name)
        kept = values.detach().clone()
        injection.before[name] = kept if kept.is_meta else kept.cpu()
        values.requires_grad_()
    for name in injection.adapted:  # the deepest first, while all names still hold
        new[targets[name]].train(targets[name].training)
        _put(model, name, new[targets[name]])
    injection.before = {_inside_bases(injection, name): values for name, values in injection.before.items()}
    injection.hooks = method.hooks(model)
    model._injection = injection
    return model


def remove(model: nn.Module) -> nn.Module:
    """Take the method out: the model is what it was before, frozen.

    Introduced in :doc:`/chapters/02_small_changes`.
    """
    unmerge(model)
    part = _place(model)
    injection = _injection(part)
    _swap(part, injection.before)
    for name in reversed(injection.adapted):
        wrapper = part.get_submodule(name)
        if isinstance(wrapper, Adapted):  # else it stood in several places, and is out already
            _put(part, name, wrapper.base)
    for hook in injection.hooks:
        hook.remove()
    del part._injection
    part.requires_grad_(False)
    return model


@dataclass(frozen=True)
class Counts:
    """How many parameters are trained, and how many there are; prints as peft does.

    Introduced in :doc:`/chapters/02_small_changes`.
    """

    trainable: int
    all: int

    @property
    def percent(self) -> float:
        return 100 * self.trainable / max(self.all, 1)

    def __str__(self) -> str:
        return (
            f"trainable params: {self.trainable:,d} || all params: {self.all:,d} || "
            f"trainable%: {self.percent:.4f}"
        )


def trainable_parameters(model: nn.Module) -> Counts:
    """Count a model's parameters; ``print`` it for the sentence that users of peft know.

    Introduced in :doc:`/chapters/02_small_changes`.
    """
    sizes = [(values.numel(), values.requires_grad) for values in model.parameters()]
    return Counts(sum(n for n, trained in sizes if trained), sum(n for n, _ in sizes))


@contextmanager
def disable(model: nn.Module) -> Iterator[nn.Module]:
    """The frozen model as it was, during a ``with`` block: for a look, not for training.

    Introduced in :doc:`/chapters/02_small_changes`.
    """
    part = _place(model)
    wrappers, merged = _wrappers(part), [m for m in _wrappers(part) if getattr(m, "merged", False)]
    enabled = [m.enabled for m in wrappers]
    for module in merged:
        module.unmerge()
    for module in wrappers:
        module.enabled = False
    trained = _swap(part, _injection(part).before)
    try:
        yield model
    finally:
        _swap(part, trained)
        for module, was in zip(wrappers, enabled, strict=True):
            module.enabled = was
        for module in merged:
            module.merge()


def merge(model: nn.Module) -> nn.Module:
    """Add what was learnt to the model's weights, so that it costs nothing more; only LoRA can do that.

    Nothing is changed if any of the new weights would not be finite. Merging again changes nothing.

    Introduced in :doc:`/chapters/02_small_changes`.
    """
    part = _place(model)
    wrappers = _wrappers(part)
    fixed = [m for m in wrappers if not hasattr(m, "merge")]
    if fixed or not wrappers:
        name = type(_injection(part).method).__name__
        why = "trains the model's own weights" if not wrappers else "does what depends on its input"
        raise TypeError(f"{name} cannot be merged: it {why}, which no weight can hold; LoRA can be merged")
    for name in _injection(part).adapted:
        module = part.get_submodule(name)
        if not module.merged and not (module.base.weight + module.delta()).isfinite().all():
            raise ValueError(f"the merged weight of {name!r} would not be finite; nothing was merged")
    for module in wrappers:
        module.merge()
    return model


def unmerge(model: nn.Module) -> nn.Module:
    """Take what was merged out of the weights again, to the last bit.

    Introduced in :doc:`/chapters/02_small_changes`.
    """
    for module in _wrappers(_place(model)):
        if getattr(module, "merged", False):
            module.unmerge()
    return model


def save_adapter(model: nn.Module, folder: str | Path) -> Path:
    """Write what was trained, and nothing of the frozen model, to a folder; returns it.

    ``adapter_model.safetensors`` has the tensors, ``adapter_config.json`` the method and its settings.

    Introduced in :doc:`/chapters/02_small_changes`.
    """
    folder, part = Path(folder).expanduser(), _place(model)
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file; an adapter is saved to a folder")
    inside = next(name for name, module in model.named_modules() if module is part)
    inside = ".".join(word for word in inside.split(".") if word != "_orig_mod")  # which compiling adds
    config = {**_described(_injection(part).method), "inside": inside}
    state = {name: values.detach().cpu().contiguous().clone() for name, values in _state(part).items()}
    with written_whole(folder / WEIGHTS) as unfinished:
        save_file(state, unfinished)
    with written_whole(folder / CONFIG) as unfinished:
        unfinished.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    return folder


def load_adapter(model: nn.Module, folder: str | Path) -> nn.Module:
    """Put saved parameters into a model, to the last bit; its method is injected first where there is none.

    Args:
        model: Like the one that was given to :func:`save_adapter`.
        folder: Where that wrote to.

    Introduced in :doc:`/chapters/02_small_changes`.
    """
    folder = Path(folder).expanduser()
    config, state = _read(folder)
    new = not _places(model)
    if new:
        _inject_saved(model, config, folder)
    part = _place(model)
    own = _described(_injection(part).method)
    if other := [key for key in own if own[key] != config[key]]:
        raise ValueError(
            f"the adapter in {folder} is of another method: {', '.join(str(config[k]) for k in other)}, "
            f"and here {', '.join(str(own[k]) for k in other)}"
        )
    target = _state(part)
    if problem := differences(target, state):
        if new:
            remove(part)
        raise ValueError(f"the adapter in {folder} does not fit this model: {problem}")
    merged = [module for module in _wrappers(part) if getattr(module, "merged", False)]
    for module in merged:
        module.unmerge()
    with torch.no_grad():
        for name, values in target.items():
            values.copy_(state[name])
    for module in merged:
        module.merge()
    return model


def _described(method: Method) -> dict:
    """A method as JSON holds it."""
    return json.loads(json.dumps({"method": type(method).__name__, "settings": asdict(method)}))


def _read(folder: Path) -> tuple[dict, dict[str, Tensor]]:
    """The two files of a folder."""
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"there is no {folder / name}; an adapter is {CONFIG} and {WEIGHTS}")
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{folder / CONFIG} is damaged: {error}") from error
    if not isinstance(config, dict) or not {"method", "settings", "inside"} <= config.keys():
        raise ValueError(f"{folder / CONFIG} should have method, settings and inside; it is {config!r}")
    try:
        return config, load_file(folder / WEIGHTS)
    except SafetensorError as error:
        raise ValueError(f"{folder / WEIGHTS} is damaged or incomplete: {error}") from error


def _inject_saved(model: nn.Module, config: dict, folder: Path) -> None:
    """Inject the method that was saved where it was."""
    kind, inside = config["method"], config["inside"]
    if kind not in methods.__all__:
        raise ValueError(
            f"the adapter in {folder} is of {kind!r}, and moe_lib has {', '.join(methods.__all__)}; "
            f"a method of your own is injected before its adapter is loaded"
        )
    try:
        part = model.get_submodule(inside)
    except AttributeError as error:
        raise ValueError(
            f"the adapter in {folder} belongs into {inside!r}, and a {type(model).__name__} has no such part"
        ) from error
    inject(part, getattr(methods, kind)(**config["settings"]))


def _state(part: nn.Module) -> dict[str, Tensor]:
    """What belongs to the method: tensors of its own, parameters that it opened, and buffers beside those."""
    injection = _injection(part)
    own = {
        f"{name}.{key}"
        for name, module in part.named_modules()
        if isinstance(module, Adapted)
        for key in module.state_dict()
        if not key.startswith("base.")
    }
    opened = {name.rpartition(".")[0] for name in injection.before}
    beside = {
        f"{name}.{key}".lstrip(".")
        for name, module in part.named_modules()
        if name in opened
        for key, _ in module.named_buffers(recurse=False)
    }
    wanted = own | beside | set(injection.before)
    return {name: values for name, values in part.state_dict(keep_vars=True).items() if name in wanted}


def _places(model: nn.Module) -> list[nn.Module]:
    return [module for module in model.modules() if "_injection" in vars(module)]


def _place(model: nn.Module) -> nn.Module:
    """The one module that something was injected into."""
    found = _places(model)
    if not found:
        raise ValueError(f"nothing was injected into this {type(model).__name__}")
    if len(found) > 1:
        raise ValueError(f"{len(found)} parts of this {type(model).__name__} have a method: name one of them")
    return found[0]


def _injection(part: nn.Module) -> _Injection:
    return vars(part)["_injection"]


def _wrappers(part: nn.Module) -> list[Adapted]:
    return [module for module in part.modules() if isinstance(module, Adapted)]


def _put(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, last = name.rpartition(".")
    setattr(model.get_submodule(parent), last, module)


def _refuse_where_unused(model: nn.Module, name: str) -> None:
    """An error, if a module is inside one that computes with its parts' weights itself."""
    parts = name.split(".")
    for end in range(len(parts) + 1):
        outer = model.get_submodule(".".join(parts[:end]))
        if isinstance(outer, READERS):
            kind = type(outer).__name__
            raise TypeError(
                f"{name!r} cannot be adapted: torch's {kind} reads the weights of its parts and never calls "
                f"them, so what is put there would do nothing; an attention of linear layers can be adapted"
            )


def _inside_bases(injection: _Injection, name: str) -> str:
    """The name that a parameter has once the modules around it are wrapped."""
    for outer in sorted(injection.adapted, key=lambda adapted: -adapted.count(".")):
        if name.startswith(f"{outer}."):
            name = f"{outer}.base{name[len(outer) :]}"
    return name


def _swap(part: nn.Module, values: dict[str, Tensor]) -> dict[str, Tensor]:
    """Put values into parameters; what was there before, for the way back."""
    before = {name: part.get_parameter(name).detach().clone() for name in values}
    with torch.no_grad():  # in place, so that a backward pass through what is overwritten is an error
        for name, tensor in values.items():
            part.get_parameter(name).copy_(tensor)
    return before
