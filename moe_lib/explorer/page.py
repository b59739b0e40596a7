"""What all these figures share: a picture in squares, data packed beside it, a script that unpacks them."""

import io
import json
import zlib
from base64 import b64encode
from html import escape
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

SIDE = 96  # of the picture, in units of the drawing


def pixels(images: Tensor) -> np.ndarray:
    """Pictures ``(B, 3, H, H)`` in [0, 1] as bytes ``(B, H, H, 3)``."""
    return (images.detach().cpu().clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).numpy()


def encoded(picture: np.ndarray, kind: str) -> bytes:
    """A picture as a file."""
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, format=kind, quality=85)
    return stream.getvalue()


def defined(picture: np.ndarray, label: str) -> str:
    """A picture to be used in a drawing, ``SIDE`` wide."""
    data = b64encode(encoded(picture, "webp")).decode()
    return (
        f'<image id="{label}" width="{SIDE}" height="{SIDE}" style="image-rendering:pixelated" '
        f'href="data:image/webp;base64,{data}"/>'
    )


def middle(square: int, side: int) -> tuple[float, float]:
    """Column and row of the middle of a square, counted row by row."""
    row, column = divmod(square, side)
    return (column + 0.5) * SIDE / side, (row + 0.5) * SIDE / side


def drawing(content: str, width: float, height: float, alt: str) -> str:
    """The SVG."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" role="img" '
        f'aria-label="{escape(alt, quote=True)}" style="width:100%;max-width:{4 * width:g}px;height:auto;'
        f'font-family:inherit;font-size:4.5px;fill:currentColor">{content}</svg>'
    )


def page(svg: str, packed: dict, script: str, *, name: str, label: str) -> str:
    """A drawing, what it can show, and the script that shows it.

    Args:
        svg: In it, the one element of class ``moe-field`` is what a reader points at. All classes begin like
            this one: a theme has its own, and a font of signs took ``far`` for its own.
        packed: What the script needs; ``side``, squares a side, and ``first``, the square to begin with, too.
        script: Of these files, the one that makes the function ``draw`` (see ``pointing.js``).
        name: Of the figure.
        label: For those who cannot see it: which keys do what.
    """
    data = b64encode(zlib.compress(json.dumps(packed, separators=(",", ":")).encode(), 9)).decode()
    pointing, own = (
        Path(__file__).with_name(f"{stem}.js").read_text(encoding="utf-8").strip()
        for stem in ("pointing", script)
    )
    return (
        f'<div tabindex="0" role="group" aria-label="{label}">{svg}<span role="status" style="display:block;'
        f'text-align:center;font-size:0.9rem;min-height:1.5em"></span></div>'
        f'<script type="text/plain">{data}</script><script>({pointing})("{name}", {own});</script>'
    )
