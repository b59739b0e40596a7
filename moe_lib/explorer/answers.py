"""Pictures to click on: the masks with which a SAM answers a click anywhere."""

from collections.abc import Sequence
from html import escape

import numpy as np
import torch.nn.functional as F
from contourpy import contour_generator
from matplotlib.path import Path as Line
from torch import Tensor

from moe_lib.explorer.page import SIDE, defined, drawing, encoded, middle, page, pixels
from moe_lib.plots import present

RANKS = ("1st", "2nd", "3rd")
# In units of the drawing: the masks beside the picture, what is left between two, room for the guesses.
SMALL, GAP, WORDS = 30, 3, 24
FINE = 2  # units of an outline, which are whole numbers, per unit of the drawing
COMPARED = 12  # blocks a side by which a re-run is compared
HELP = "Point at the picture, or move the click with the arrow keys; space takes the next picture."


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
    quality = quality.take_along_dim(order, 2).detach().cpu().double().clamp(0, 1).numpy()
    covered = F.adaptive_avg_pool2d((logits > 0).float().mean((1, 2)), COMPARED)  # how often a place is meant
    pictures = pixels(images)
    answers = {
        "side": side,
        "first": int(quality[0, :, 0].argmax()),  # before anybody points: the click that it is surest of
        "outlines": [[[outline(mask) for mask in click] for click in picture] for picture in logits.numpy()],
        "guesses": quality.round(2).tolist(),
        "titles": list(titles),
    }
    present(
        page(_drawing(pictures, answers, name, alt), answers, "answers", name=name, label=HELP),
        {"image/jpeg": encoded(np.concatenate(list(pictures), 1), "jpeg")},
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


def _drawing(pictures: np.ndarray, answers: dict, name: str, alt: str) -> str:
    """The first picture, its three masks beside it, and all pictures below, to choose from."""
    first = answers["first"]
    width, below = SIDE + SMALL + WORDS, SIDE + 2 * GAP
    step = width / len(pictures)
    thumb = min(SMALL, step) - GAP
    column, row = middle(first, answers["side"])
    dot = f'<circle cx="{column}" cy="{row}" r="2" fill="#4dff66" stroke="#000" stroke-width="0.8"/>'
    borders, guesses = answers["outlines"][0][first], answers["guesses"][0][first]
    parts = [
        f"<defs>{''.join(defined(picture, f'{name}-{i}') for i, picture in enumerate(pictures))}</defs>",
        _view(name, borders[0], more=dot),
    ]
    for rank, (border, guess) in enumerate(zip(borders, guesses, strict=True)):
        parts.append(
            f'<g transform="translate({SIDE + GAP} {rank * (SMALL + GAP)})">'
            f'{_view(name, border, scale=SMALL / SIDE)}<text x="{SMALL + GAP}" y="13">{RANKS[rank]}'
            f'<tspan class="moe-guess" x="{SMALL + GAP}" dy="6.5">{guess:.2f}</tspan></text></g>'
        )
    for number, title in enumerate(answers["titles"]):
        parts.append(
            '<g class="moe-choice" style="cursor:pointer" '
            f'transform="translate({number * step:.1f} {below})">'
            f'<use href="#{name}-{number}" transform="scale({thumb / SIDE:.3f})"/>'
            f'<text y="{thumb + 5:.1f}">{escape(title)}</text></g>'
        )
    return drawing("".join(parts), width, below + thumb + 7, alt)


def _view(name: str, border: str, *, scale: float = 1, more: str = "") -> str:
    """The first picture with a mask on it; the large one is what a reader points at."""
    field = ' class="moe-field"' if scale == 1 else ""
    return (
        f'<g class="moe-view" transform="scale({scale:.4f})"><use{field} href="#{name}-0"/>'
        f'<path d="{border}" transform="scale({1 / FINE})" fill="#fff" fill-opacity="0.3" '
        f'fill-rule="evenodd" stroke="#fff" stroke-width="2" style="filter:drop-shadow(0 0 1px #000)"/>'
        f"{more}</g>"
    )
