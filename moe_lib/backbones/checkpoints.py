"""Weights of a backbone, to a file and from one; a file that does not fit is refused in words.

Two forms: our own ``.safetensors``, in half precision, with the model's card and a checksum in the header,
and the official ``.pth`` of SAM. Which one a file is, its first bytes say.
"""

import hashlib
import json
import pickle
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from moe_lib.backbones import registry
from moe_lib.states import differences, some, written_whole

OFFICIAL = (
    "official ones are sam_vit_b_01ec64.pth, sam_vit_l_0b3195.pth and sam_vit_h_4b8939.pth from "
    f"{registry.PROJECT} on GitHub (section Model Checkpoints)"
)


def save(model: nn.Module, path: str | Path, card: Mapping[str, Any]) -> None:
    """Write weights in half precision; the file is complete or not there.

    Args:
        model: Its ``state_dict`` is saved.
        path: Ends in ``.safetensors``; a file that is there is replaced.
        card: What is to be known of the model, as JSON can hold it.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise ValueError(f"weights are saved as .safetensors, got {path.name!r}")
    state = {name: _half(name, value) for name, value in model.state_dict().items()}
    # One entry, since safetensors keeps no order of several: the same model gives the same bytes.
    header = {"card": json.dumps({**card, "checksum": checksum(state)}, ensure_ascii=False, allow_nan=False)}
    with written_whole(path) as unfinished:
        save_file(state, unfinished, header)


def load(model: nn.Module, path: str | Path) -> dict[str, Any]:
    """Put the weights of a file into a model, in the model's own precision.

    Args:
        model: Built with the sizes that the weights are of.
        path: A ``.safetensors`` file that :func:`save` wrote, or an official ``.pth`` file.

    Returns:
        The card that was saved with the weights; empty for an official file.
    """
    path = _file(path)
    state, card = read(path)
    problem = differences(model.state_dict(), state)
    if problem:
        guess = registry.recognise(state)
        hint = f"this is a file of {guess.family}({guess.name!r})" if guess else "it is of no known model"
        raise ValueError(f"the weights in {path.name} do not fit this model ({hint}): {problem}")
    model.load_state_dict(state)
    return card


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Names and tensors of a file, as they are stored, and its card."""
    with path.open("rb") as file:
        start = file.read(512)
    if start.startswith((b"PK", b"\x80")):  # a zip archive or a bare pickle: torch's two forms
        return _torch_file(path, mmap=start.startswith(b"PK")), {}
    if start.lstrip().startswith(b"<"):
        raise ValueError(
            f"{path.name} is a web page and not a file of weights: fetch the file itself, {OFFICIAL}"
        )
    return _safetensors_file(path)


def read_card(path: str | Path) -> dict[str, Any]:
    """The card in the header of a file that :func:`save` wrote."""
    path = _file(path)
    with _explained(path), safe_open(path, framework="pt") as file:
        return _card(path, file.metadata())


def checksum(state: Mapping[str, Tensor]) -> str:
    """SHA-256 over the names and values of a state."""
    digest = hashlib.sha256()
    for name in sorted(state):
        digest.update(name.encode())
        digest.update(state[name].contiguous().view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def _half(name: str, value: Tensor) -> Tensor:
    half = value.detach().to("cpu", torch.float16, copy=True).contiguous()
    if not half.isfinite().all():
        worst = value.detach().abs().max().item()
        raise ValueError(f"{name} does not fit into half precision: it has values up to {worst:g}, or NaN")
    return half


def _file(path: str | Path) -> Path:
    path = Path(path).expanduser()
    if path.is_dir():
        raise ValueError(f"{path} is a folder; expected a file of weights, {OFFICIAL}")
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}; expected weights there, {OFFICIAL}")
    return path


def _torch_file(path: Path, *, mmap: bool) -> dict[str, Tensor]:
    """What ``torch.load`` makes of a file of which nothing may be run."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{path.name} is refused, and nothing in it was run: it is damaged, or holds Python objects "
            f"beside its tensors, which could run code; expected names and tensors alone, {OFFICIAL}"
        ) from error
    except Exception as error:  # torch lets many kinds through from the reader of archives
        raise ValueError(
            f"{path.name} cannot be read, it is damaged or incomplete ({path.stat().st_size:,} bytes); "
            f"fetch it again, {OFFICIAL}"
        ) from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        keys = some(list(map(str, state))) if isinstance(state, dict) else "none"
        raise ValueError(
            f"{path.name} holds a {type(state).__name__} with the keys {keys}; expected a dict of names and "
            f"tensors and nothing else, {OFFICIAL}"
        )
    return state


def _safetensors_file(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    with _explained(path), safe_open(path, framework="pt") as file:
        state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, it is no dict
        card = _card(path, file.metadata())
    if card.pop("checksum", None) != checksum(state):
        raise ValueError(f"the weights in {path.name} are not those that were saved: its checksum differs")
    return state, card


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """What safetensors cannot read is a ValueError that says what was expected."""
    try:
        yield
    except SafetensorError as error:
        raise ValueError(
            f"{path.name} is no file of weights, or an incomplete one ({path.stat().st_size:,} bytes); "
            f"expected a .safetensors file of this library or an official .pth file, {OFFICIAL}"
        ) from error


def _card(path: Path, header: Mapping[str, str] | None) -> dict[str, Any]:
    if not header or "card" not in header:
        raise ValueError(f"{path.name} has no card in its header; expected a file that this library saved")
    return json.loads(header["card"])
