"""A picture to point at: where the token under the pointer looks, in every block."""

import io
from base64 import b64encode
from collections.abc import Mapping
from html import escape

import matplotlib.pyplot as plt
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from moe_lib.explorer.page import SIDE, defined, drawing, encoded, page, pixels
from moe_lib.plots import IMAGES, present

LEVELS = 16  # of brightness in a map: a hexadecimal digit
# In units of the drawing: the width of all, what is left between two maps, a line of words.
WIDTH, GAP, LINE = 160, 1, 6
HELP = "Point at the picture, or choose a token with the arrow keys."


def attention(
    image: Tensor, maps: Mapping[str, Tensor], *, first: int = 0, name: str, alt: str, caption: str,
    tol: float = 0.1,
) -> None:  # fmt: skip
    """Show where each token of a picture looks, block by block, as a reader points at it.

    A map's brightness is relative to its largest weight; below it stands the mean distance, in tokens.

    Args:
        image: ``(3, H, H)`` in [0, 1].
        maps: A model's name → its attention in each block, averaged over heads: ``(L, N, N)``, rows of which
            add up to 1, for N tokens of a square grid.
        first: The token that is shown before anybody points.
        name, alt, caption, tol: As for :func:`moe_lib.show`.

    Introduced in :doc:`/chapters/01_frozen_backbone`.
    """
    shapes = {tuple(of.shape) for of in maps.values()}
    blocks, tokens = (shape := next(iter(shapes), (0, 0)))[0], shape[-1]
    side = round(tokens**0.5)
    if shapes != {(blocks, tokens, tokens)} or side**2 != tokens:
        raise ValueError(f"maps should all be (L, N, N) with N a square number, got {sorted(shapes)}")
    if not 0 <= first < tokens:
        raise ValueError(f"first is {first}, of {tokens} tokens")
    stacked = torch.stack([of.detach().cpu().double() for of in maps.values()])  # (models, L, N, N)
    at = torch.stack(torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij"), -1).view(-1, 2)
    far = (stacked * torch.cdist(at.double(), at.double())).sum(-1)  # (models, L, N)
    levels = (stacked / stacked.amax(-1, keepdim=True) * (LEVELS - 1)).round().long().flatten(0, 1)
    packed = {
        "side": side,
        "first": first,
        "levels": ["".join(f"{level:x}" for level in of.flatten().tolist()) for of in levels],
        "head": b64encode(_bitmap(levels[0, 0].view(side, side))[0]).decode(),
        "distances": far.numpy().round(1).tolist(),
        "titles": list(maps),
    }
    picture = pixels(image[None])[0]
    looked = stacked.mean(2).unflatten(-1, (side, side))  # how much each token is looked at
    svg = _drawing(picture, levels[:, first], packed, name, alt)
    present(
        page(svg, packed, "attention", name=name, label=HELP),
        {"image/jpeg": encoded(picture, "jpeg")},
        {
            f"axes{model}/image{block}": share.numpy().round(6).tolist()
            for model, of in enumerate(looked)
            for block, share in enumerate(of)
        },
        name=name, alt=alt, caption=caption, tol=tol,
    )  # fmt: skip


def _bitmap(levels: Tensor) -> tuple[bytes, bytes]:
    """A map ``(h, w)`` of levels as a file: what all maps begin with, and the rows, from below."""
    image = Image.fromarray(levels.byte().numpy())
    colours = plt.get_cmap(IMAGES)(np.linspace(0, 1, LEVELS), bytes=True)[:, :3]
    image.putpalette(colours.tobytes())
    stream = io.BytesIO()
    image.save(stream, format="bmp")
    whole = stream.getvalue()
    begin = int.from_bytes(whole[10:14], "little")
    return whole[:begin], whole[begin:]


def _drawing(picture: np.ndarray, levels: Tensor, packed: dict, name: str, alt: str) -> str:
    """The picture, and below it a row of maps for each model."""
    side, first, distances = packed["side"], packed["first"], packed["distances"]
    step = WIDTH / len(distances[0])
    small, top = step - GAP, SIDE + LINE
    parts = [
        f"<defs>{defined(picture, f'{name}-0')}</defs>"
        f'<g transform="translate({(WIDTH - SIDE) / 2:g} 0)"><use class="moe-field" href="#{name}-0"/>'
        f"{_mark(first, side, SIDE, 1)}</g>"
    ]
    rest = iter(levels.view(-1, side, side))
    for title, blocks in zip(packed["titles"], distances, strict=True):
        parts.append(f'<text y="{top}">{escape(title)}</text>')
        for block, far in enumerate(blocks):
            data = b64encode(b"".join(_bitmap(next(rest)))).decode()
            parts.append(
                f'<g transform="translate({block * step:.2f} {top + 2:.2f})"><image class="moe-map" '
                f'width="{small:g}" height="{small:g}" style="image-rendering:pixelated" '
                f'href="data:image/bmp;base64,{data}"/>{_mark(first, side, small, 0.4)}'
                f'<text class="moe-far" x="{small / 2:g}" y="{small + 5:g}" text-anchor="middle">'
                f"{far[first]:.1f}</text></g>"
            )
        top += small + 2 * LINE + GAP
    return drawing("".join(parts), WIDTH, top - LINE, alt)


def _mark(token: int, side: int, width: float, line: float) -> str:
    """A frame around a token."""
    cell = width / side
    return (
        f'<rect class="moe-mark" x="{token % side * cell:.4f}" y="{token // side * cell:.4f}" '
        f'width="{cell:.4f}" height="{cell:.4f}" fill="none" stroke="#fff" stroke-width="{line}" '
        'style="filter:drop-shadow(0 0 0.4px #000)"/>'
    )
