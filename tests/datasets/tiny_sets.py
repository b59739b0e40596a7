"""Pieces of tiny data folders in exactly the form of the real ones."""

import hashlib
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

PROMPTS = {"p1": "polyp", "p6": "one small polyp, located in left of the image", "p7": ["a growth", "a lump"]}


def picture(height: int, width: int, seed: int) -> np.ndarray:
    """Smooth colours, so that JPEG and resizing change them little."""
    y, x = np.mgrid[:height, :width]
    rgb = np.stack([x * 255 / width, y * 255 / height, np.full_like(x, 40 * seed % 256)], -1)
    return rgb.astype(np.uint8)


def save(root: Path, name: str, array: np.ndarray, **options) -> Path:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)
    return path


def write_manifest(root: Path) -> None:
    files = sorted(
        f for f in root.rglob("*") if f.is_file() and f.name not in ("manifest.sha256", "README.md")
    )
    lines = [
        f"{hashlib.sha256(f.read_bytes()).hexdigest()}  {f.relative_to(root).as_posix()}\n" for f in files
    ]
    (root / "manifest.sha256").write_text("".join(lines))


def write_grey_png(path: Path, ids: np.ndarray, bits: int) -> None:
    """A grey PNG of 1, 2 or 4 bits: other programs write them, Pillow does not."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        )

    per_byte = 8 // bits
    padded = np.pad(ids, ((0, 0), (0, -ids.shape[1] % per_byte)))
    shifts = np.arange(per_byte)[::-1] * bits
    packed = (padded.reshape(len(ids), -1, per_byte) << shifts).sum(-1).astype(np.uint8)
    rows = b"".join(b"\0" + row.tobytes() for row in packed)
    header = struct.pack(">IIBBBBB", ids.shape[1], ids.shape[0], bits, 0, 0, 0, 0)
    content = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + content)
