"""One style for every figure, and one way to show it: light and dark, with its words and its data.

A figure is drawn once. Ink (text, axes, ticks) becomes the page's own text colour, the ground is
transparent, and the colours of the data are readable on white and on near-black.
"""

import hashlib
import io
import re
from contextlib import contextmanager
from html import escape
from itertools import count

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

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
    "figure.figsize": (7.2, 3.4),
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


def show(fig: Figure, *, name: str, alt: str, caption: str, tol: float = 1e-3) -> None:
    """Display a figure with its caption, its words for those who cannot see it, and its data.

    Args:
        fig: A matplotlib figure drawn inside :func:`style`; it is closed.
        name: Unique within the chapter.
        alt: What the picture shows, for a reader who cannot see it (30 characters or more).
        caption: What to look at, and what produced it.
        tol: How far a re-run may move the data, as a share of each series' range.

    Introduced in :doc:`/chapters/00_larger_scale`.
    """
    from IPython.display import display  # only notebooks show figures

    if not re.fullmatch(r"[a-z][a-z0-9-]*", name):
        raise ValueError(f"figure name {name!r} should be lower-case words joined by hyphens")
    if len(alt.strip()) < 30:
        raise ValueError(f"figure {name!r}: alt={alt!r} is too short to tell what the picture shows")
    if not caption.strip():
        raise ValueError(f"figure {name!r} needs a caption")
    record = {"name": name, "alt": alt, "caption": caption, "tol": tol, "data": figure_data(fig)}
    bundle = {
        "text/plain": f"<figure {name}>",
        "text/html": _html(fig, name, alt, caption),
        "image/png": _png(fig),
        FIGURE_MIME: record,
    }
    plt.close(fig)
    display(bundle, raw=True)


def figure_data(fig: Figure) -> dict[str, list]:
    """What is drawn, read off the figure itself: lines, points, bars and images of every axes."""
    data = {}
    for index, ax in enumerate(fig.axes):
        drawn = {
            "line": [line.get_xydata() for line in ax.lines],
            "points": [np.asarray(c.get_offsets()) for c in ax.collections if len(c.get_offsets())],
            "area": [path.vertices for c in ax.collections for path in c.get_paths() if c.get_array() is None]
            if any(not len(c.get_offsets()) for c in ax.collections) else [],
            "bar": [np.array([bar.get_bbox().bounds for bar in ax.patches])] if ax.patches else [],
            "image": [_coarse(np.asarray(image.get_array(), dtype=float)) for image in ax.images],
        }  # fmt: skip
        for kind, series in drawn.items():
            for number, values in enumerate(series):
                values = np.asarray(np.ma.filled(np.ma.asarray(values, dtype=float), np.nan))
                step = max(1, -(-len(values) // _MOST_POINTS))
                data[f"axes{index}/{kind}{number}"] = _rounded(values[::step])
    return data


def _coarse(image: np.ndarray, most: int = 24) -> np.ndarray:
    """An image reduced to block means of at most ``most`` a side."""
    rows, columns = (np.array_split(np.arange(size), min(size, most)) for size in image.shape[:2])
    return np.array([[image[np.ix_(r, c)].mean() for c in columns] for r in rows])


def _rounded(values: np.ndarray) -> list:
    return np.vectorize(lambda x: float(f"{x:.6g}") if np.isfinite(x) else None, otypes=[object])(
        values
    ).tolist()


def _png(fig: Figure) -> bytes:
    """For viewers that strip HTML: dark ink on white."""
    stream = io.BytesIO()
    fig.savefig(stream, format="png", dpi=80, facecolor="white", metadata={"Software": None})
    return stream.getvalue()


def _html(fig: Figure, name: str, alt: str, caption: str) -> str:
    stream = io.StringIO()
    with plt.rc_context(_STYLE | {"svg.hashsalt": name}):  # the salt: same picture, same bytes
        fig.savefig(stream, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = stream.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.S)
    svg = svg.replace(INK, "currentColor")
    svg = re.sub(r"font-family: [^;\"]*;? ?", "", svg)  # the page's own font
    svg = _own_ids(svg, prefix=hashlib.sha256(name.encode()).hexdigest()[:6])
    width = float(re.search(r'width="([\d.]+)pt"', svg)[1]) * 4 / 3
    svg = re.sub(
        r'<svg [^>]*?viewBox="([^"]*)"[^>]*>',
        rf'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" viewBox="\1" '
        rf'role="img" aria-label="{escape(alt, quote=True)}" '
        rf'style="width:100%;max-width:{width:.0f}px;height:auto;font-family:inherit">',
        svg,
        count=1,
    )
    words = f"<figcaption>{escape(caption)}</figcaption>"
    return f'<figure class="moe-figure" id="figure-{name}">\n{svg}{words}\n</figure>'


def _own_ids(svg: str, prefix: str) -> str:
    """Keep only the ids that something refers to, renamed so that two figures of a page never share one."""
    used = set(re.findall(r'(?:url\(#|href="#)([^")]+)', svg))
    names = {old: f"{prefix}-{number}" for old, number in zip(sorted(used), count())}
    svg = re.sub(r' id="([^"]+)"', lambda m: f' id="{names[m[1]]}"' if m[1] in names else "", svg)
    return re.sub(r'(url\(#|href="#)([^")]+)', lambda m: m[1] + names[m[2]], svg)
