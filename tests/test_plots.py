"""A figure is shown once, with its words and its data, in ink that every theme can read."""

import base64
import io
import re
from itertools import pairwise
from xml.etree import ElementTree

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex
from PIL import Image

import moe_lib as moe
from moe_lib import routing
from moe_lib.plots import FIGURE_MIME, INK, PALETTE, dots, expert_usage, figure_data, write_values

WORDS = {
    "name": "steps",
    "alt": "A line from 0 to \"3\" & 'back', always < 4 and > -1.",
    "caption": "The steps <b>one</b> by one & all.",
}
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(autouse=True)
def no_windows():
    plt.switch_backend("agg")
    yield
    plt.close("all")


def draw(plot=lambda ax: ax.plot([0, 3, 1]), **subplots):
    with moe.style():
        fig, axes = plt.subplots(**subplots)
        for ax in np.atleast_1d(axes).flat:
            plot(ax)
    return fig


def rich(ax):
    """Everything that makes matplotlib write ids: clipped lines, markers, an image, a legend."""
    ax.imshow(np.eye(3))
    ax.plot([0, 2], [0, 2], "o-", label="diagonal")
    ax.scatter([0, 1], [1, 0])
    ax.set(title="Finding", xlabel="x")
    ax.legend()


@pytest.fixture
def shown(monkeypatch):
    """What `show` displays: a function that takes a figure and words, and returns the mime bundle."""
    bundles = []
    monkeypatch.setattr("IPython.display.display", lambda bundle, raw: bundles.append((bundle, raw)))

    def show(fig, **words):
        moe.show(fig, **{**WORDS, **words})
        [(bundle, raw)] = bundles
        assert raw, "a bundle of mime types is displayed raw"
        bundles.clear()
        return bundle

    return show


@pytest.fixture
def page(shown):
    """The HTML of a rich figure, and its parsed form."""
    html = shown(draw(rich, ncols=2))["text/html"]
    return html, ElementTree.fromstring(html)


def test_one_bundle_holds_html_picture_text_and_data(shown):
    fig = draw()
    data = figure_data(fig)
    bundle = shown(fig, tol=0.5)
    assert set(bundle) == {"text/plain", "text/html", "image/png", FIGURE_MIME}
    assert bundle[FIGURE_MIME] == {**WORDS, "tol": 0.5, "data": data}
    assert bundle["image/png"].startswith(b"\x89PNG")
    assert bundle["text/plain"] == "<figure steps>"


def test_a_figure_is_closed_once_it_is_shown(shown):
    fig = draw()
    shown(fig)
    assert not plt.fignum_exists(fig.number)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ({"alt": "A line."}, "'steps': alt='A line.' is too short"),
        ({"alt": "A line." + " " * 30}, "is too short"),
        ({"alt": "x" * 29}, "is too short"),
        ({"name": "Steps"}, "figure name 'Steps' should be lower-case words joined by hyphens"),
        ({"name": "two words"}, "figure name 'two words'"),
        ({"name": "7-steps"}, "figure name '7-steps'"),
        ({"name": "a/b"}, "figure name 'a/b'"),
        ({"name": ""}, "figure name ''"),
        ({"caption": " \n"}, "figure 'steps' needs a caption"),
    ],
)
def test_words_that_are_missing_or_malformed_are_refused(shown, words, says):
    with pytest.raises(ValueError, match=re.escape(says)):
        shown(draw(), **words)


def test_all_ink_is_the_pages_text_colour(page):
    html, figure = page
    assert "currentColor" in html
    assert INK not in html and "#000000" not in html and "black" not in html
    titles = [text for text in figure.iter(f"{SVG}text") if "".join(text.itertext()).strip() == "Finding"]
    assert len(titles) == 2 and all("fill: currentColor" in title.get("style") for title in titles)


def test_the_page_chooses_the_font(page):
    html, figure = page
    assert "font-family: " not in html and "DejaVu" not in html
    assert "font-family:inherit" in figure.find(f"{SVG}svg").get("style")


def test_colours_of_the_data_stay(page):
    assert PALETTE["blue"] in page[0]


def test_the_words_are_there_to_the_letter_whatever_they_quote(page):
    svg, caption = page[1].find(f"{SVG}svg"), page[1].find("figcaption")
    assert (svg.get("role"), svg.get("aria-label")) == ("img", WORDS["alt"])
    assert caption.text == WORDS["caption"] and len(caption) == 0


@pytest.mark.parametrize("formula", [r"\alpha", r"\1", r"\g<0>"])
def test_a_backslash_in_the_words_is_a_backslash(shown, formula):
    html = shown(draw(), alt=f"A line that falls like the formula {formula} says.")["text/html"]
    assert formula in ElementTree.fromstring(html).find(f"{SVG}svg").get("aria-label")


def test_a_figure_can_be_linked_to_and_shrinks_with_the_page(page):
    figure = page[1]
    assert (figure.tag, figure.get("id"), figure.get("class")) == ("figure", "figure-steps", "moe-figure")
    svg = figure.find(f"{SVG}svg")
    assert svg.get("viewBox") and svg.get("width") is None
    assert re.search(r"width:100%;max-width:\d+px;height:auto", svg.get("style"))


def test_references_lead_somewhere_and_ids_are_unique_on_a_page(shown):
    html = "".join(shown(draw(rich), name=name)["text/html"] for name in ("first", "second"))
    ids = re.findall(r'\bid="([^"]+)"', html)
    targets = set(re.findall(r'(?:url\(#|href="#)([^")]+)', html))
    assert len(targets) >= 4, "the figures use clip paths and markers"
    assert targets <= set(ids)
    assert len(ids) == len(set(ids))


def test_the_same_figure_gives_the_same_bytes(shown):
    first, second = (shown(draw(rich, ncols=2)) for _ in range(2))
    assert first == second


def test_nothing_in_a_figure_says_when_or_by_what_it_was_drawn(shown):
    bundle = shown(draw())
    assert "<metadata>" not in bundle["text/html"] and "matplotlib.org" not in bundle["text/html"]
    assert b"matplotlib" not in bundle["image/png"]


def test_photographs_are_kept_small_and_true(shown):
    smooth = np.linspace(0.2, 0.8, 90 * 90 * 3).reshape(90, 90, 3)

    def plot(ax):
        ax.imshow(smooth, interpolation="none")

    bundle = shown(draw(plot))
    assert "image/png" not in bundle and bundle["image/jpeg"].startswith(b"\xff\xd8")
    (kept,) = re.findall(r"data:image/(\w+);base64,([\w+/=]+)", bundle["text/html"])
    assert kept[0] == "webp"
    with Image.open(io.BytesIO(base64.b64decode(kept[1]))) as picture:
        pixels = np.asarray(picture.convert("RGB")) / 255
    assert pixels.shape == smooth.shape
    # an SVG's picture may be stored upside down and turned back when it is drawn
    assert min(abs(pixels - smooth).mean(), abs(pixels[::-1] - smooth).mean()) < 0.01


def test_style_ends_with_its_block():
    before = plt.rcParams["text.color"]
    with moe.style():
        assert plt.rcParams["text.color"] == INK
    assert plt.rcParams["text.color"] == before


def test_lines_points_and_bars_are_kept_as_drawn():
    def plot(ax):
        ax.plot([0, 1, 2], [5, 4, 3.123456789])
        ax.plot([7], [8])
        ax.scatter([1, 2], [30, 40])
        ax.bar([0, 1], [2, 3], width=0.5)

    first, second = figure_data(draw(plot)), figure_data(draw(plot, ncols=2))
    assert first == {
        "axes0/line0": [[0, 5], [1, 4], [2, 3.12346]],
        "axes0/line1": [[7, 8]],
        "axes0/points0": [[1, 30], [2, 40]],
        "axes0/bar0": [[-0.25, 0, 0.5, 2], [0.75, 0, 0.5, 3]],
    }
    assert second == first | {key.replace("axes0", "axes1"): values for key, values in first.items()}


def test_an_empty_axes_has_no_data():
    assert figure_data(draw(lambda ax: ax.set_title("nothing"))) == {}


def test_small_images_are_kept_and_large_ones_averaged_in_blocks():
    image = np.arange(48.0 * 96).reshape(48, 96)
    data = figure_data(draw(lambda ax: ax.imshow(image)))["axes0/image0"]
    assert np.shape(data) == (24, 24)
    np.testing.assert_allclose(data, image.reshape(24, 2, 24, 4).mean((1, 3)), rtol=1e-5)
    assert figure_data(draw(lambda ax: ax.imshow([[1, 2], [3, 4]])))["axes0/image0"] == [[1, 2], [3, 4]]


@pytest.mark.parametrize("missing", [np.nan, np.inf, np.ma.masked])
def test_missing_values_are_none(missing):
    values = np.ma.array([0.5, 1, 2])
    values[1] = missing
    assert figure_data(draw(lambda ax: ax.plot(values)))["axes0/line0"] == [[0, 0.5], [1, None], [2, 2]]


@pytest.mark.parametrize(
    ("plot", "kept"),
    [
        (
            lambda ax, values: ax.scatter(range(3), values),
            {"axes0/points0": [[0, 0.5], [None, None], [2, 2]]},
        ),
        (lambda ax, values: ax.imshow(np.ma.stack([values, values])), {"axes0/image0": [[0.5, None, 2]] * 2}),
    ],
    ids=["scatter", "imshow"],
)
def test_what_is_masked_out_is_none(plot, kept):
    values = np.ma.array([0.5, 1, 2], mask=[False, True, False])
    assert figure_data(draw(lambda ax: plot(ax, values))) == kept


@pytest.mark.parametrize(("length", "kept"), [(400, 400), (401, 201), (5000, 385)])
def test_long_series_are_thinned_evenly(length, kept):
    line = figure_data(draw(lambda ax: ax.plot(np.arange(length) * 2)))["axes0/line0"]
    assert len(line) == kept <= 400
    assert len({b[0] - a[0] for a, b in pairwise(line)}) == 1
    assert all(y == 2 * x for x, y in line)


@pytest.mark.parametrize(
    "plot",
    [
        pytest.param(lambda ax, v: ax.plot([1, v, 3]), id="plot"),
        pytest.param(lambda ax, v: ax.scatter([1, 2], [1, v]), id="scatter"),
        pytest.param(lambda ax, v: ax.scatter([1, 2], [1, 2], c=[1, v]), id="scatter colours"),
        pytest.param(lambda ax, v: ax.bar(["a", "b"], [1, v]), id="bar"),
        pytest.param(lambda ax, v: ax.hist([1, 2, v]), id="hist"),
        pytest.param(lambda ax, v: ax.hist([1, 2, v], histtype="step"), id="hist outline"),
        pytest.param(lambda ax, v: ax.imshow([[1, v], [3, 4]]), id="imshow"),
        pytest.param(lambda ax, v: ax.axhline(v), id="axhline"),
        pytest.param(lambda ax, v: ax.axvspan(0, v), id="axvspan"),
        pytest.param(lambda ax, v: ax.errorbar([1, 2], [1, 2], yerr=v, capsize=3), id="errorbar"),
        pytest.param(lambda ax, v: ax.fill_between([0, 1], 0, [1, v]), id="fill_between"),
        pytest.param(lambda ax, v: ax.vlines([1], 0, v), id="vlines"),
        pytest.param(lambda ax, v: ax.pcolormesh([[1, v], [3, 4]]), id="pcolormesh"),
        pytest.param(lambda ax, v: ax.stairs([1, v]), id="stairs"),
        pytest.param(lambda ax, v: ax.pie([1, v]), id="pie"),
        pytest.param(lambda ax, v: ax.add_patch(plt.Circle((0, 0), v)), id="circle"),
        pytest.param(lambda ax, v: ax.fill([0, 1, v], [0, 1, 0]), id="fill"),
    ],
)
def test_a_changed_value_changes_the_data(plot):
    before, again, after = (figure_data(draw(lambda ax, v=v: plot(ax, v))) for v in (2, 2, 2.001))
    assert before == again != after
    assert before.keys() == after.keys()


def luminance(colour):
    """Relative luminance of #rrggbb, as WCAG 2 defines it."""
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one, other):
    brighter, darker = sorted(map(luminance, (one, other)), reverse=True)
    return (brighter + 0.05) / (darker + 0.05)


@pytest.mark.parametrize("ground", ["#ffffff", "#121212"])
@pytest.mark.parametrize("colour", PALETTE)
def test_every_colour_stands_out_in_both_themes(colour, ground):
    assert contrast(PALETTE[colour], ground) >= 3


def mixed(colour, ink, share):
    """CSS color-mix of two colours in srgb."""
    pairs = [(int(colour[i : i + 2], 16), int(ink[i : i + 2], 16)) for i in (1, 3, 5)]
    return "#" + "".join(f"{round(share * a + (1 - share) * b):02x}" for a, b in pairs)


@pytest.mark.parametrize("colour", PALETTE)
def test_coloured_words_are_readable_in_both_themes_and_lines_keep_their_colour(shown, colour):
    def plot(ax):
        ax.plot([0, 1], color=PALETTE[colour])
        ax.text(0, 0, "measured", color=PALETTE[colour])

    html = shown(draw(plot))["text/html"]
    assert f"stroke: {PALETTE[colour]}" in html
    [words] = re.findall(r"<text(?:(?!</text>).)*measured", html, flags=re.S)
    hue, share = re.search(r"fill: color-mix\(in srgb, (#\w{6}) (\d+)%, currentColor\)", words).groups()
    assert hue == PALETTE[colour]
    for ink, ground in (("#222832", "#ffffff"), ("#ced6dd", "#14181e")):  # the theme's, light and dark
        assert contrast(mixed(hue, ink, int(share) / 100), ground) >= 4.5


LEVELS = np.linspace(0, 1, 21).reshape(3, 7)


def test_a_number_in_a_cell_can_be_read_whatever_the_cells_colour_and_the_theme(shown):
    def plot(ax):
        ax.imshow(LEVELS)
        write_values(ax, LEVELS)

    fig = draw(plot)
    (ax,) = fig.axes
    for text in ax.texts:
        column, row = text.get_position()
        assert text.get_text() == f"{LEVELS[row, column]:.2f}"
        cell = to_hex(ax.images[0].to_rgba(LEVELS)[row, column])
        assert contrast(to_hex(text.get_color()), cell) >= 4.5
    assert len({text.get_position() for text in ax.texts}) == LEVELS.size
    html = shown(fig)["text/html"]
    cells = [
        part for part in re.findall(r"<text.*?</text>", html, flags=re.S) if re.search(r">\d\.\d\d<", part)
    ]
    fills = {form for part in cells for form in re.findall(r"fill: [^;\"]*", part)}
    assert len(cells) == LEVELS.size and fills == {"fill: #ffffff"}  # black is what a word is without a fill


def test_values_are_one_for_each_cell():
    with pytest.raises(ValueError, match=re.escape("the map has (3, 7) cells, values are (7, 3)")):
        draw(lambda ax: (ax.imshow(LEVELS), write_values(ax, LEVELS.T)))


def test_contrast_is_measured_as_wcag_does():
    assert contrast("#ffffff", "#000000") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.005)
    assert contrast("#ffff00", "#ffffff") < 3


def test_dots_show_every_seed_and_the_interval_of_the_mean():
    values = [0.2, 0.5, 0.3, 0.4]
    fig = draw(lambda ax: dots(ax, 2, values, "green", label="four"))
    seeds, mean = (line.get_xydata() for line in fig.axes[0].lines)
    assert seeds[:, 1].tolist() == values and (seeds[:, 0] < 2).all()
    ((start, end),) = fig.axes[0].collections[0].get_segments()
    interval = moe.mean_interval(values)
    assert (start[1], end[1]) == (interval["low"], interval["high"]) and start[0] == end[0] > 2
    assert mean[0, 1] == pytest.approx(0.35)
    assert {line.get_color() for line in fig.axes[0].lines} == {PALETTE["green"]}
    with pytest.raises(ValueError, match="at least three"):
        draw(lambda ax: dots(ax, 0, [0.1, 0.2], "blue"))


def recorded(rows: list[list[float]], what: str) -> routing.Routing:
    return routing.top_k(torch.tensor(rows), 1, softmax="before", routed=what)[1]


def test_expert_usage_weighs_a_choice_by_its_gate_and_counts_decisions():
    sure, torn = recorded([[9.0, -9.0]], "image"), recorded([[0.0, 0.1]] * 4, "window")
    fig = expert_usage({"a": [sure, recorded([[-9.0, 9.0]], "image")], "b": [torn], "c": [sure, sure]})
    (ax,) = fig.axes
    np.testing.assert_allclose(ax.images[0].get_array(), [[1, 1], [0, 2], [2, 0]], atol=1e-4)
    assert [label.get_text() for label in ax.get_yticklabels()] == [
        "a\n2 images",
        "b\n4 windows",
        "c\n2 images",
    ]
    assert [text.get_text() for text in ax.texts] == ["50", "50", "0", "100", "100", "0"]
    mixed = routing.Routing(
        *[torch.tensor([[0.9, 0.0], [0.0, 0.3]])] * 2, torch.tensor([[0], [1]]), ("image", (2,))
    )
    levels = expert_usage({"": [mixed]}).axes[0].images[0].get_array()
    np.testing.assert_allclose(levels, [[1.5, 0.5]], atol=1e-6)


def test_expert_usage_of_layers_with_fewer_experts_leaves_the_rest_empty():
    fig = expert_usage({"a": [recorded([[1.0, 0.0, 0.0]], "image")], "b": [recorded([[1.0, 0.0]], "image")]})
    assert np.isnan(np.ma.filled(fig.axes[0].images[0].get_array(), np.nan)[1, 2])
    assert len(fig.axes[0].texts) == 5


def test_expert_usage_measures_each_layer_by_its_own_number_of_experts():
    even = [routing.dense(torch.zeros(1, number))[1] for number in (4, 2)]
    (ax,) = expert_usage({"a": even[:1], "b": even[1:]}).axes
    levels = np.ma.filled(ax.images[0].get_array(), np.nan)
    np.testing.assert_allclose(levels, [[1, 1, 1, 1], [1, 1, np.nan, np.nan]])
    assert ax.get_title(loc="left") == "Share of the gates in %, 25 or 50 if all are used alike"
    assert len({text.get_color() for text in ax.texts}) == 1


def test_expert_usage_wants_records():
    with pytest.raises(ValueError, match="inside watch_routing"):
        expert_usage({})
