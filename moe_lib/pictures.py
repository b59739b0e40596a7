"""Sheets of pictures: images in rows, masks as colours, outlines of what is meant."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from torch import Tensor

from moe_lib.plots import PALETTE, style

__all__ = ["coloured", "outlined", "sheet"]

IGNORE = 255
_GAP = 0.04  # between two pictures, as a share of one
# After the palette: further hues, told apart by lightness too, for tasks with many classes.
_MORE = ["#e9c46a", "#264e70", "#9ad1d4", "#7a4419", "#b8de6f", "#5e2b6e", "#f2a6a6", "#4b5d3a"]


def sheet(
    rows: Mapping[str, Tensor], *, titles: Sequence[str] = (), width: float = 7.2, size: float = 11
) -> Figure:
    """A figure of pictures in rows: a contact sheet.

    Args:
        rows: What stands at the left of a row → its pictures, float ``(B, 3, H, W)`` or ``(B, H, W)`` in
            [0, 1]. Rows may differ in the size of their pictures, not in their number.
        titles: One for each column, above the first row.
        width: Of the figure, in inches.
        size: Of the letters, in points.

    Introduced in :doc:`/chapters/pocket_world`.
    """
    counts = {len(pictures) for pictures in rows.values()}
    if not rows or len(counts) != 1:
        raise ValueError(f"a sheet needs rows of equally many pictures, got {sorted(counts)} in {list(rows)}")
    count = counts.pop()
    if titles and len(titles) != count:
        raise ValueError(f"{len(titles)} titles for {count} columns")
    strips = {name: _strip(pictures) for name, pictures in rows.items()}
    labels = (
        0.09 * size * max(len(name) for name in rows) / 11 if any(name.strip() for name in rows) else 0
    )  # inches
    heights = [strip.shape[0] / strip.shape[1] * (width - labels) for strip in strips.values()]
    head = 0.025 * size * (1 + max((title.count("\n") for title in titles), default=-1))
    with style():
        fig, axes = plt.subplots(
            len(rows), 1, squeeze=False, figsize=(width, sum(heights) + 0.04 * len(rows) + head),
            layout="none", height_ratios=heights,
        )  # fmt: skip
        top = 1 - head / fig.get_figheight()
        fig.subplots_adjust(left=labels / width, right=1, bottom=0, top=top, hspace=0.04 / np.mean(heights))
        for ax, (name, strip) in zip(axes[:, 0], strips.items(), strict=True):
            ax.imshow(strip, interpolation="none", aspect="auto")
            ax.set_axis_off()
            ax.text(-0.01, 0.5, name, transform=ax.transAxes, ha="right", va="center", fontsize=size)
        for column, title in enumerate(titles):
            place = (column + 0.5 * (1 - _GAP)) / (count - _GAP)
            ax = axes[0, 0]
            ax.text(place, 1.01, title, transform=ax.transAxes, ha="center", va="bottom", fontsize=size)
    return fig


def coloured(mask: Tensor, classes: int | None = None) -> Tensor:
    """A mask of class ids ``(B, H, W)`` as colours ``(B, 3, H, W)``; 0 is dark, 255 (ignore) is white.

    Introduced in :doc:`/chapters/pocket_world`.
    """
    colours = [to_rgb(colour) for colour in [*PALETTE.values(), *_MORE]]
    known = mask[mask != IGNORE]
    most = classes if classes is not None else int(known.max()) + 1 if len(known) else 1
    table = [(0.09, 0.11, 0.13), *(colours[i % len(colours)] for i in range(most - 1))]
    table = torch.tensor([*table, (1.0, 1.0, 1.0)], device=mask.device)
    return table[torch.where(mask == IGNORE, most, mask)].permute(0, 3, 1, 2)


def outlined(image: Tensor, mask: Tensor, colour: str = "#ffffff", thickness: int = 1) -> Tensor:
    """Images ``(B, 3, H, W)`` with a line around what the masks ``(B, H, W)`` mark; the line lies outside.

    Introduced in :doc:`/chapters/pocket_world`.
    """
    if image.shape[-2:] != mask.shape[-2:]:
        raise ValueError(f"images of {tuple(image.shape[-2:])} and masks of {tuple(mask.shape[-2:])}")
    marked = ((mask > 0) & (mask != IGNORE)).float()[:, None]
    grown = F.max_pool2d(marked, 2 * thickness + 1, stride=1, padding=thickness)
    dark = F.max_pool2d(grown, 3, stride=1, padding=1) - grown  # a dark line around it: seen on any ground
    line = grown - marked
    paint = torch.tensor(to_rgb(colour), device=image.device).view(1, 3, 1, 1)
    return (image * (1 - line) + line * paint) * (1 - 0.65 * dark)


def _strip(pictures: Tensor) -> np.ndarray:
    """Pictures side by side, with clear gaps between them; ``(H, W, 4)``."""
    pictures = pictures.detach().cpu().float().clamp(0, 1)
    if pictures.dim() == 3:
        pictures = pictures[:, None].expand(-1, 3, -1, -1)
    if pictures.dim() != 4 or pictures.shape[1] != 3:
        raise ValueError(f"pictures are (B, 3, H, W) or (B, H, W), got {tuple(pictures.shape)}")
    pictures = F.pad(pictures, (0, 0, 0, 0, 0, 1), value=1.0)  # opaque
    gap = max(1, round(_GAP * pictures.shape[-1]))
    strip = F.pad(pictures, (0, gap)).permute(2, 0, 3, 1).flatten(1, 2)
    return (strip[:, :-gap] * 255).round().byte().numpy()
