"""One style for every figure, and one way to show it: light and dark, with its words and its data.

A figure is drawn once. Ink (text, axes, ticks) becomes the page's own text colour, the ground is
transparent, and the colours of the data are readable on white and on near-black.
"""

import base64
import hashlib
import io
import re
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from html import escape
from itertools import count

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection, QuadMesh
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from moe_lib.routing import Routing
from moe_lib.stats import mean_interval

__all__ = ["dots", "expert_usage", "write_values"]

FIGURE_MIME = "application/vnd.moe.figure+json"

# Okabe and Ito's colour-blind-safe hues, at a lightness with contrast over 3:1 on white and on #121212.
PALETTE = {
    "blue": "#3a86c8",
    "orange": "#d9730d",
    "green": "#1a936f",
    "pink": "#c2649a",
    "violet": "#8b75d7",
    "red": "#d1495b",
    "grey": "#7f8790",
}
INK = "#010203"  # stands for "the page's text colour" until the figure is shown
IMAGES = "cividis"  # sequential, colour-blind safe

_DARK = 0.179  # luminance at which black and white words have the same contrast with their ground
_MOST_POINTS = 400  # of a series that are kept with the figure: enough to notice a change
_STYLE = {
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.titlelocation": "left",
    "axes.titlesize": "medium",
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.prop_cycle": plt.cycler(color=list(PALETTE.values())),
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "figure.constrained_layout.use": True,
    "figure.figsize": (5.6, 3.2),  # inches; on a phone the labels are still about 9 px high
    "font.size": 11,
    "font.family": "sans-serif",
    "image.cmap": IMAGES,
    "legend.frameon": False,
    "legend.labelcolor": INK,
    "svg.fonttype": "none",
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
}


@contextmanager
def style():
    """Draw in the book's style: ``with moe.style(): fig, ax = plt.subplots()``.

    Introduced in :doc:`/chapters/00_larger_scale`.
    """
    with plt.rc_context(_STYLE):
        yield


def dots(ax: Axes, place: float, values: Sequence[float], colour: str, *, label: str | None = None) -> None:
    """Seeds as dots, and beside them their mean with its 95 % interval.

    Args:
        ax: Drawn on inside :func:`style`.
        place: Where, on the horizontal axis.
        values: One per seed, at least three; ``(S,)``.
        colour: A name from ``PALETTE``, or any colour.

    Introduced in :doc:`/chapters/02_small_changes`.
    """
    colour, interval = PALETTE.get(colour, colour), mean_interval(values)
    ax.plot([place - 0.1] * len(values), values, ".", color=colour, alpha=0.6, ms=6, label=label)
    ax.vlines(place + 0.12, interval["low"], interval["high"], color=colour, lw=3)
    ax.plot(place + 0.12, interval["estimate"], "_", color=colour, ms=9)


def write_values(ax: Axes, values: np.ndarray, form: str = "{:.2f}", *, size: float = 10) -> None:
    """Write a number into every cell of a map, in black or white, whichever can be read on its colour.

    Args:
        ax: Where the map was drawn, by ``ax.imshow``.
        values: One per cell, ``(rows, columns)``; nothing is written where there is a NaN.
        form: How a number is written.
        size: Of the letters, in points.

    Introduced in :doc:`/chapters/pocket_world`.
    """
    (image,) = ax.images
    values, drawn = np.asarray(values), image.get_array()
    if values.shape != drawn.shape[:2]:
        raise ValueError(f"the map has {drawn.shape[:2]} cells, values are {values.shape}")
    colours = image.to_rgba(drawn)
    for (row, column), value in np.ndenumerate(values):
        if not np.isnan(value):
            ax.text(
                column, row, form.format(value), ha="center", va="center", size=size,
                color="white" if _luminance(colours[row, column]) < _DARK else "black",
            )  # fmt: skip


def _luminance(colour: Sequence[float]) -> float:
    """Of a colour in sRGB, as WCAG defines it: 0 is black, 1 is white."""
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in colour[:3]]
    return float(np.dot([0.2126, 0.7152, 0.0722], linear))


def expert_usage(records: Mapping[str, Sequence[Routing]], *, width: float = 5.6) -> Figure:
    """How much each expert is used in each layer, from what :func:`moe_lib.watch_routing` recorded.

    An expert's share is its part of all gates of the layer, so that a choice counts by its weight. Layers may
    decide once per image or once per window: each row says how many decisions it rests on, for a layer with
    nine windows says nine times as much about an image as one without. A colour says how far a share is from
    what it would be if all experts of that layer were used alike.

    Introduced in :doc:`/chapters/03_experts_and_routers`.
    """
    if not records:
        raise ValueError("nothing was recorded: did the model run inside watch_routing?")
    gates = {
        name: np.concatenate([np.asarray(r.gates.detach().cpu()) for r in found])
        for name, found in records.items()
    }
    experts = max(values.shape[1] for values in gates.values())
    shares = np.full((len(gates), experts), np.nan)
    for row, values in zip(shares, gates.values(), strict=True):
        row[: values.shape[1]] = values.sum(0) / values.sum()
    of_layer = np.array([values.shape[1] for values in gates.values()])
    level = shares * of_layer[:, None]  # 1 if all are used alike
    with style():
        fig, ax = plt.subplots(figsize=(width, 0.9 + 0.34 * len(gates)))
        ax.imshow(level, aspect="auto", vmin=0, vmax=max(np.nanmax(level), 2))
        write_values(ax, 100 * shares, "{:.0f}", size=9)
        decisions = [f"{name}\n{len(gates[name]):,} {records[name][0].shape[0]}s" for name in gates]
        ax.set(xlabel="expert", xticks=range(experts), yticks=range(len(gates)))
        ax.set_yticklabels(decisions, fontsize=9)
        alike = " or ".join(f"{100 / number:.3g}" for number in np.unique(of_layer)[::-1])
        ax.set_title(f"Share of the gates in %, {alike} if all are used alike")
    return fig


def show(fig: Figure, *, name: str, alt: str, caption: str, tol: float = 1e-3) -> None:
    """Display a figure with its caption, its words for those who cannot see it, and its data.

    Args:
        fig: A matplotlib figure drawn inside :func:`style`; it is closed.
        name: Unique within the chapter.
        alt: What the picture shows, for a reader who cannot see it (30 characters or more).
        caption: What to look at, and what produced it.
        tol: How far a re-run may move the data, as a share of the range that its axes show.

    Introduced in :doc:`/chapters/00_larger_scale`.
    """
    data = figure_data(fig)
    present(_svg(fig, name, alt), _fallback(fig), data, name=name, alt=alt, caption=caption, tol=tol)
    plt.close(fig)


def present(
    drawing: str, fallback: Mapping[str, bytes], data: Mapping[str, list], *, name: str, alt: str,
    caption: str, tol: float,
) -> None:  # fmt: skip
    """Display a drawing (HTML with an SVG) as :func:`show` does, with data to compare a re-run by."""
    from IPython.display import display  # only notebooks show figures

    if not re.fullmatch(r"[a-z][a-z0-9-]*", name):
        raise ValueError(f"figure name {name!r} should be lower-case words joined by hyphens")
    if len(alt.strip()) < 30:
        raise ValueError(f"figure {name!r}: alt={alt!r} is too short to tell what the picture shows")
    if not caption.strip():
        raise ValueError(f"figure {name!r} needs a caption")
    words = f"<figcaption>{escape(caption)}</figcaption>"
    bundle = {
        "text/plain": f"<figure {name}>",
        "text/html": f'<figure class="moe-figure" id="figure-{name}">\n{drawing}{words}\n</figure>',
        **fallback,
        FIGURE_MIME: {"name": name, "alt": alt, "caption": caption, "tol": tol, "data": data},
    }
    display(bundle, raw=True)


def figure_data(fig: Figure) -> dict[str, list]:
    """What is drawn, read off the figure itself: every axes' lines, points, areas, bars, colours, images."""
    data = {}
    for index, ax in enumerate(fig.axes):
        bars = [patch for patch in ax.patches if isinstance(patch, Rectangle)]
        others = [
            c for c in ax.collections if not isinstance(c, PathCollection | QuadMesh)
        ]  # bands, error bars
        outlines = [path for collection in others for path in collection.get_paths()]
        shapes = [patch for patch in ax.patches if patch not in bars]
        outlines += [shape.get_patch_transform().transform_path(shape.get_path()) for shape in shapes]
        drawn = {
            "line": [line.get_xydata() for line in ax.lines],
            "points": [c.get_offsets() for c in ax.collections if isinstance(c, PathCollection)],
            "area": [outline.vertices for outline in outlines],
            "bar": [[bar.get_bbox().bounds for bar in bars]] if bars else [],
            "colour": [c.get_array() for c in ax.collections if c.get_array() is not None],
            "image": [image.get_array() for image in ax.images],
        }
        for kind, series in drawn.items():
            for number, values in enumerate(series):
                values = np.ma.filled(np.ma.asarray(values, dtype=float), np.nan)
                most = 12 if values.ndim == 3 else 24  # a photograph has no single values to compare
                kept = _coarse(values, most) if kind == "image" else _thinned(values)
                data[f"axes{index}/{kind}{number}"] = _rounded(kept)
    return data


def _thinned(series: np.ndarray) -> np.ndarray:
    """Every n-th row, so that at most ``_MOST_POINTS`` are left."""
    return series[:: -(-len(series) // _MOST_POINTS) or 1]


def _coarse(image: np.ndarray, most: int) -> np.ndarray:
    """An image reduced to block means of at most ``most`` a side; NaN where a block has a missing value."""
    rows, columns = (np.array_split(np.arange(size), min(size, most)) for size in image.shape[:2])
    return np.array([[image[np.ix_(r, c)].mean() for c in columns] for r in rows])


def _rounded(values: np.ndarray) -> list:
    """Nested lists of numbers with six significant digits; what is not finite becomes None, as in JSON."""
    six_digits = np.vectorize(lambda x: float(f"{x:.6g}") if np.isfinite(x) else None, otypes=[object])
    return six_digits(values).tolist()


def _fallback(fig: Figure) -> dict[str, bytes]:
    """For viewers that strip HTML: dark ink on white, with photographs as a JPEG, for they are large."""
    stream = io.BytesIO()
    photographs = any(np.ndim(image.get_array()) == 3 for ax in fig.axes for image in ax.images)
    if photographs:
        fig.savefig(stream, format="jpeg", dpi=60, facecolor="white", pil_kwargs={"quality": 75})
        return {"image/jpeg": stream.getvalue()}
    fig.savefig(stream, format="png", dpi=80, facecolor="white", metadata={"Software": None})
    return {"image/png": stream.getvalue()}


def _svg(fig: Figure, name: str, alt: str) -> str:
    stream = io.StringIO()
    with plt.rc_context(_STYLE | {"svg.hashsalt": name}):  # the salt: same picture, same bytes
        fig.savefig(stream, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = stream.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.S)
    svg = svg.replace(INK, "currentColor")
    svg = re.sub(r"data:image/png;base64,([\w+/=\s]+)", _smaller, svg)
    svg = re.sub(r"<text.*?</text>", _readable, svg, flags=re.S)
    svg = re.sub(r"font-family: [^;\"]*;? ?", "", svg)  # the page's own font
    svg = _own_ids(svg, prefix=hashlib.sha256(name.encode()).hexdigest()[:6])
    width = float(re.search(r'width="([\d.]+)pt"', svg)[1]) * 4 / 3
    view = re.search(r'viewBox="([^"]*)"', svg)[1]
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="{view}" role="img" aria-label="{escape(alt, quote=True)}" '
        f'style="width:100%;max-width:{width:.0f}px;height:auto;font-family:inherit">'
    )
    return head + svg[svg.index(">") + 1 :]


def _smaller(picture: re.Match) -> str:
    """A raster picture inside the SVG as WebP: a tenth of the bytes of a PNG where there is texture."""
    with Image.open(io.BytesIO(base64.b64decode(picture[1]))) as image:
        stream = io.BytesIO()
        image.save(stream, format="webp", quality=78, method=6)
    return "data:image/webp;base64," + base64.b64encode(stream.getvalue()).decode()


def _readable(text: re.Match) -> str:
    """Coloured words drawn towards the ink: no hue has contrast 4.5:1 on both white and near-black.

    White words are left white, as black ones are (matplotlib leaves their colour out): they stand in a cell.
    """
    return re.sub(r"fill: (#(?!ffffff)\w{6})", r"fill: color-mix(in srgb, \1 70%, currentColor)", text[0])


def _own_ids(svg: str, prefix: str) -> str:
    """Keep only the ids that something refers to, renamed so that two figures of a page never share one."""
    used = set(re.findall(r'(?:url\(#|href="#)([^")]+)', svg))
    names = {old: f"{prefix}-{number}" for old, number in zip(sorted(used), count())}
    svg = re.sub(r' id="([^"]+)"', lambda m: f' id="{names[m[1]]}"' if m[1] in names else "", svg)
    return re.sub(r'(url\(#|href="#)([^")]+)', lambda m: m[1] + names[m[2]], svg)
