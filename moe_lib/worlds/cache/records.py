"""Batches as bytes: one compressed record per scene, and one file of records.

A record holds what has a fixed shape as whole numbers, each as its difference from its left neighbour (which
packs twice as well), and what has none (lists) as JSON. Everything comes back bit for bit, except
``sensors``, which are kept with 8 bits, and ``depth``, kept as float16. Photographs are packed apart: they
are noise in which nothing comes twice, and looking for it makes them larger.
"""

import hashlib
import json
import zlib
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from moe_lib.worlds import camera
from moe_lib.worlds.tasks import Batch

MAGIC = b"moe scenes 2\n"
Layout = list[list]  # one [key, codec, dtype, shape of one scene] per entry of the batch


class NotWhole(ValueError):
    """A file of scenes that is damaged; the message says how."""


def pack(batch: Batch) -> tuple[list[bytes], Layout]:
    """A batch as one record per scene, and what is where in a record."""
    layout, lists = [], []
    photographs, others = [], []  # arrays (B, …)
    for key, value in _flat(batch):
        if key == "sensors/rgb" and torch.equal(value, batch["image"]):
            layout.append([key, "image", None, None])
        elif isinstance(value, Tensor):
            codec, arrays = _encode(key, value)
            layout.append([key, codec, _name(value.dtype), list(value.shape[1:])])
            changes = [np.diff(array, axis=-1, prepend=array.dtype.type(0)) for array in arrays]
            (photographs if codec == "planes" else others).extend(changes)
        elif isinstance(value, list) and value and all(isinstance(item, Tensor) for item in value):
            layout.append([key, "tensors", _name(value[0].dtype), list(value[0].shape[1:])])
            lists.append([item.tolist() for item in value])
        elif isinstance(value, list):
            layout.append([key, "words", None, None])
            lists.append(value)
        else:
            raise ValueError(
                f"{key!r} is a {type(value).__name__}; a batch has tensors, lists and dicts of them"
            )
    records = [
        _record(*([array[i] for array in arrays] for arrays in (photographs, others, lists)))
        for i in range(len(batch["image"]))
    ]
    return records, layout


def unpack(records: Sequence[bytes], layout: Layout, device: torch.device) -> Batch:
    """The batch of these records."""
    opened = [_opened(record) for record in records]
    photographs, others = (np.stack([parts[i] for parts in opened]) for i in (0, 1))  # bytes (B, …)
    lists = [iter(entries) for _, _, entries in opened]
    batch: Batch = {}
    for key, codec, dtype, shape in layout:
        if codec == "image":
            value = batch["image"]
        elif codec == "words":
            value = [next(entries) for entries in lists]
        elif codec == "tensors":
            like = {"dtype": getattr(torch, dtype), "device": device}
            value = [torch.tensor(next(entries), **like).reshape(-1, *shape) for entries in lists]
        else:
            planes = []
            for kind, plane in _planes_of(codec, shape):
                size = kind.itemsize * int(np.prod(plane))
                if codec == "planes":
                    here, photographs = photographs[:, :size], photographs[:, size:]
                else:
                    here, others = others[:, :size], others[:, size:]
                differences = np.ascontiguousarray(here).view(kind).reshape(-1, *plane)
                whole = np.cumsum(differences, axis=-1, dtype=kind)  # wraps around, as the differences did
                planes.append(torch.from_numpy(whole).to(device))
            value = _decode(codec, planes, getattr(torch, dtype)).reshape(-1, *shape)
        _put(batch, key, value)
    return batch


def to_bytes(records: Sequence[bytes], layout: Layout) -> bytes:
    """A file of records: what it is, its checksum, its table of contents, the records."""
    contents = {"layout": layout, "sizes": [len(record) for record in records]}
    header = json.dumps(contents).encode()
    body = b"".join([len(header).to_bytes(8, "little"), header, *records])
    return MAGIC + hashlib.sha256(body).digest() + body


def from_bytes(file: bytes) -> tuple[list[bytes], Layout]:
    """The records and their layout; :class:`NotWhole` if a single bit is not as written."""
    start = len(MAGIC) + 32
    body = memoryview(file)[start:]
    if not file.startswith(MAGIC):
        raise NotWhole("not a file of scenes")
    if hashlib.sha256(body).digest() != file[len(MAGIC) : start]:
        raise NotWhole("its checksum is wrong: the file is damaged or cut short")
    end = 8 + int.from_bytes(body[:8], "little")
    contents = json.loads(bytes(body[8:end]))
    ends = end + np.cumsum([0, *contents["sizes"]])
    records = [bytes(body[a:b]) for a, b in pairwise(ends)]
    return records, contents["layout"]


def _record(photographs: list[np.ndarray], others: list[np.ndarray], lists: list) -> bytes:
    text = json.dumps(lists).encode()
    if json.loads(text) != lists:
        raise ValueError(f"a batch's lists hold tensors, or what JSON keeps as it is; got {lists!r}")
    packer = zlib.compressobj(1, zlib.DEFLATED, zlib.MAX_WBITS, 9, zlib.Z_RLE)  # made for such differences
    first = packer.compress(_joined(photographs)) + packer.flush()
    rest = zlib.compress(len(text).to_bytes(4, "little") + text + _joined(others))
    return len(first).to_bytes(4, "little") + first + rest


def _opened(record: bytes) -> tuple[np.ndarray, np.ndarray, list]:
    """The three parts of a record, the first two as bytes."""
    end = 4 + int.from_bytes(record[:4], "little")
    photographs, rest = zlib.decompress(record[4:end]), zlib.decompress(record[end:])
    start = 4 + int.from_bytes(rest[:4], "little")
    lists = json.loads(rest[4:start])
    return np.frombuffer(photographs, np.uint8), np.frombuffer(rest, np.uint8, offset=start), lists


def _joined(arrays: list[np.ndarray]) -> bytes:
    return b"".join(array.tobytes() for array in arrays)


def _encode(key: str, values: Tensor) -> tuple[str, list[np.ndarray]]:
    """How a tensor is kept, and its whole numbers: ``(B, …)`` with at least one axis per scene."""
    if hasattr(values, "planes"):
        return "planes", [plane.cpu().numpy() for plane in values.planes]
    values = values.detach().cpu()
    values = values[:, None] if values.ndim == 1 else values
    if key.startswith("sensors/"):
        if not 0 <= values.min() <= values.max() <= 1:
            raise ValueError(f"{key} lies in [{values.min():.3g}, {values.max():.3g}]; sensors lie in [0, 1]")
        return "bytes", [(values * 255).round().byte().numpy()]
    if key == "depth":
        return "half", [values.half().numpy().view(np.int16)]
    if values.dtype == torch.float32:
        return "float", [values.contiguous().numpy().view(np.int32)]
    kept = values.to(torch.uint8 if key == "mask" else torch.int32)
    if values.is_floating_point() or not torch.equal(kept.to(values.dtype), values):
        raise ValueError(
            f"{key}: {_name(values.dtype)} from {values.min()} to {values.max()} does not fit {kept.dtype}"
        )
    return _name(kept.dtype), [kept.numpy()]


def _planes_of(codec: str, shape: list[int]) -> list[tuple[np.dtype, list[int]]]:
    """Type and shape per scene of the arrays that :func:`_encode` made."""
    if codec == "planes":
        height, width = shape[1:]
        return [(np.dtype(np.uint8), [height, width]), (np.dtype(np.uint8), [2, height // 2, width // 2])]
    kinds = {"bytes": np.uint8, "uint8": np.uint8, "half": np.int16, "float": np.int32, "int32": np.int32}
    return [(np.dtype(kinds[codec]), shape or [1])]


def _decode(codec: str, arrays: list[Tensor], dtype: torch.dtype) -> Tensor:
    if codec == "planes":
        return camera.decode(*arrays)
    (values,) = arrays
    if codec == "bytes":
        return values.to(dtype) / 255
    if codec in ("half", "float"):
        values = values.view(torch.float16 if codec == "half" else torch.float32)
    return values.to(dtype)


def _flat(batch: Batch, above: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in batch.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{above}{key}/")
        else:
            yield above + key, value


def _put(batch: Batch, key: str, value: Any) -> None:
    *above, last = key.split("/")
    for name in above:
        batch = batch.setdefault(name, {})
    batch[last] = value


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
