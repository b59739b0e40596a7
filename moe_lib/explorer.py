"""Pictures to click on: what a SAM answers to a click anywhere, worked out beforehand.

The page that shows them needs no model, no server and no library: the outlines of all answers are in it.
"""

import io
import json
import zlib
from base64 import b64encode
from collections.abc import Sequence
from html import escape
from pathlib import Path

import numpy as np
import torch.nn.functional as F
from contourpy import contour_generator
from matplotlib.path import Path as Line
from PIL import Image
from torch import Tensor

from moe_lib.plots import present

__all__ = ["clicks", "explore"]

RANKS = ("1st", "2nd", "3rd")
# Sizes in the units of the drawing.
SIDE, SMALL, GAP = 96, 30, 3  # the picture; the masks beside it; what is left between two
WORDS = 24  # for the guesses beside the masks
COMPARED = 12  # blocks a side by which a re-run is compared
FINE = 2  # units of an outline, which are whole numbers, per unit of the drawing


def clicks(side: int, image: int) -> np.ndarray:
    """Where a picture of ``image`` pixels is clicked: amid each of ``side`` × ``side`` squares, row by row.

    Introduced in :doc:`/chapters/pocket_models`.

    Returns:
        ``(side · side, 2)``: column and row, in pixels.
    """
    at = (np.arange(side) + 0.5) * image / side - 0.5
    return np.stack(np.meshgrid(at, at), -1).reshape(-1, 2)


def explore(
    images: Tensor, logits: Tensor, quality: Tensor, titles: Sequence[str], *, name: str, alt: str,
    caption: str, tol: float = 0.1,
) -> None:  # fmt: skip
    """Show pictures that answer when a reader points at them.

    Args:
        images: ``(B, 3, H, H)`` in [0, 1].
        logits: Three masks for each of C :func:`clicks`: ``(B, C, 3, h, h)``.
        quality: What the model thinks of them, ``(B, C, 3)``; they are shown in that order.
        titles: A word for each picture.
        name, alt, caption, tol: As for :func:`moe_lib.show`.

    Introduced in :doc:`/chapters/pocket_models`.
    """
    side = round(logits.shape[1] ** 0.5)
    if logits.shape[1] != side**2 or quality.shape != logits.shape[:3] or logits.shape[2] != len(RANKS):
        raise ValueError(
            f"logits {tuple(logits.shape)} and quality {tuple(quality.shape)} should be of three masks for "
            "each click of a square grid"
        )
    if not len(images) == len(logits) == len(titles):
        raise ValueError(f"{len(images)} pictures, answers to {len(logits)}, {len(titles)} titles")
    order = quality.argsort(-1, descending=True)
    logits = logits.take_along_dim(order[..., None, None], 2).detach().cpu().float()
    covered = F.adaptive_avg_pool2d((logits > 0).float().mean((1, 2)), COMPARED)  # how often a place is meant
    quality = quality.take_along_dim(order, 2).detach().cpu().float().numpy()
    pictures = (images.detach().cpu().clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).numpy()
    answers = {
        "side": side,
        "first": int(quality[0, :, 0].argmax()),  # before anybody points: the click that it is surest of
        "outlines": [[[outline(mask) for mask in click] for click in picture] for picture in logits.numpy()],
        "guesses": quality.astype(float).clip(0, 1).round(2).tolist(),
        "titles": list(titles),
    }
    present(
        _page(pictures, answers, name, alt),
        {"image/jpeg": _encoded(np.concatenate(list(pictures), 1), "jpeg")},
        {f"axes{number}/image0": share.round(decimals=4).tolist() for number, share in enumerate(covered)},
        name=name, alt=alt, caption=caption, tol=tol,
    )  # fmt: skip


def outline(logits: np.ndarray) -> str:
    """The border of a mask, where its logits ``(h, h)`` cross zero, as the path of an SVG."""
    padded = np.pad(logits, 1, constant_values=-10.0)  # what leaves the picture is closed at its border
    at = ((np.arange(len(padded)) - 0.5) / len(logits)).clip(0, 1) * SIDE * FINE
    words = []
    for line in contour_generator(at, at, padded).lines(0.0):
        border = Line(line)
        border.simplify_threshold = 1.0
        corners = np.rint([corner for corner, _ in border.iter_segments(simplify=True)]).astype(int)
        steps = np.diff(corners, axis=0)
        steps = steps[steps.any(1)]
        if len(steps) > 2:
            words.append("M{} {}l".format(*corners[0]) + " ".join(f"{x} {y}" for x, y in steps) + "z")
    return "".join(words).replace(" -", "-")


def _encoded(picture: np.ndarray, kind: str) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, format=kind, quality=85)
    return stream.getvalue()


def _page(pictures: np.ndarray, answers: dict, name: str, alt: str) -> str:
    """The drawing, all answers, and the script that shows one of them (``explorer.js``)."""
    label = "Point at the picture, or move the click with the arrow keys; space takes the next picture."
    packed = b64encode(zlib.compress(json.dumps(answers).encode(), 9)).decode()
    script = Path(__file__).with_suffix(".js").read_text(encoding="utf-8")
    return (
        f'<div tabindex="0" role="group" aria-label="{label}">{_drawing(pictures, answers, name, alt)}'
        '<span role="status" style="display:block;text-align:center;font-size:0.9rem;min-height:1.5em">'
        f'</span></div><script type="text/plain">{packed}</script>'
        f"<script>{script.replace('NAME', name).replace('SIDE', str(SIDE))}</script>"
    )


def _drawing(pictures: np.ndarray, answers: dict, name: str, alt: str) -> str:
    """The first picture, its three masks beside it, and all pictures below, to choose from."""
    first, side = answers["first"], answers["side"]
    width, below = SIDE + SMALL + WORDS, SIDE + 2 * GAP
    step = width / len(pictures)
    thumb = min(SMALL, step) - GAP
    defined, chosen = [], []
    for number, (picture, title) in enumerate(zip(pictures, answers["titles"], strict=True)):
        data = b64encode(_encoded(picture, "webp")).decode()
        defined.append(
            f'<image id="{name}-{number}" width="{SIDE}" height="{SIDE}" style="image-rendering:pixelated" '
            f'href="data:image/webp;base64,{data}"/>'
        )
        chosen.append(
            f'<g class="choice" transform="translate({number * step:.1f} {below})" style="cursor:pointer">'
            f'<use href="#{name}-{number}" transform="scale({thumb / SIDE:.3f})"/>'
            f'<text y="{thumb + 5:.1f}">{escape(title)}</text></g>'
        )
    row, column = ((number + 0.5) * SIDE / side for number in divmod(first, side))
    dot = f'<circle cx="{column}" cy="{row}" r="2" fill="#4dff66" stroke="#000" stroke-width="0.8"/>'
    views = [_view(name, answers["outlines"][0][first][0], "", dot)]
    for rank, (border, guess) in enumerate(
        zip(answers["outlines"][0][first], answers["guesses"][0][first], strict=True)
    ):
        place = f"translate({SIDE + GAP} {rank * (SMALL + GAP)})"
        views.append(
            f'<g transform="{place}">{_view(name, border, f"scale({SMALL / SIDE})")}'
            f'<text x="{SMALL + GAP}" y="13">{RANKS[rank]}'
            f'<tspan class="guess" x="{SMALL + GAP}" dy="6.5">{guess:.2f}</tspan></text></g>'
        )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {below + thumb + 7:.1f}" role="img" '
        f'aria-label="{escape(alt, quote=True)}" style="width:100%;max-width:{4 * width}px;height:auto;'
        'font-family:inherit;font-size:4.5px;fill:currentColor">'
        f"<defs>{''.join(defined)}</defs>{''.join(views)}{''.join(chosen)}</svg>"
    )


def _view(name: str, border: str, transform: str, more: str = "") -> str:
    """The first picture with a mask on it."""
    return (
        f'<g class="view" transform="{transform}"><use href="#{name}-0"/><path d="{border}" '
        f'transform="scale({1 / FINE})" fill="#fff" fill-opacity="0.3" fill-rule="evenodd" stroke="#fff" '
        f'stroke-width="2" style="filter:drop-shadow(0 0 1px #000)"/>{more}</g>'
    )
