"""Two runs drew the same data, or the difference is named."""

import copy

import pytest
from figures import FIGURE_MIME, differences, figures

LONG_LINE = [[0, 0.1], [500, 0.2], [1000, 0.6]]


def figure(data: dict, name: str = "loss", tol: float = 0.01) -> dict:
    return {"name": name, "alt": "…", "caption": "…", "tol": tol, "data": data}


def compare(series: str, committed: object, fresh: object, **options: object) -> list[str]:
    return differences([figure({series: committed}, **options)], [figure({series: fresh}, **options)])


def test_figures_are_found_among_other_outputs() -> None:
    record = figure({})
    outputs = [
        {"output_type": "stream", "text": "hello"},
        {"output_type": "display_data", "data": {"image/png": "…"}},
        {"output_type": "display_data", "data": {FIGURE_MIME: record, "text/html": "…"}},
    ]
    assert figures(outputs) == [record]


@pytest.mark.parametrize(
    ("series", "values"),
    [
        ("axes0/line0", LONG_LINE),
        ("axes0/line1", [[0, None], [1, float("nan")], [2, 3.0]]),
        ("axes0/line2", [[0, float("inf")], [1, 2.0]]),
        ("axes0/line3", [[None, None]]),
        ("axes0/points0", []),
        ("axes0/bar0", [[0, 0, 0.8, 0.7]]),
        ("axes0/image0", [[0.0, 1.0], [None, 0.5]]),
        ("axes0/text0", ["ratio 1", "ratio 2"]),
    ],
)
def test_same_data_do_not_differ(series: str, values: list) -> None:
    assert compare(series, values, copy.deepcopy(values)) == []


def test_none_and_nan_are_both_missing() -> None:
    assert compare("axes0/line0", [[0, None], [1, 1]], [[0, float("nan")], [1, 1]]) == []


@pytest.mark.parametrize(
    ("series", "committed", "within", "outside"),
    [
        # Range of y 0.5, tol 1 %: 0.005, however long the x axis.
        (
            "axes0/line0",
            LONG_LINE,
            [[0, 0.1], [500, 0.2045], [1000, 0.6]],
            [[0, 0.1], [500, 0.206], [1000, 0.6]],
        ),
        ("axes0/line0", LONG_LINE, [[9, 0.1], [500, 0.2], [1000, 0.6]], [[11, 0.1], [500, 0.2], [1000, 0.6]]),
        ("axes0/points0", LONG_LINE, [[0, 0.1045], *LONG_LINE[1:]], [[0, 0.106], *LONG_LINE[1:]]),
        # All pixels of an image share one range, here 10.
        ("axes0/image0", [[0, 1], [10, 1]], [[0, 1.09], [10, 1]], [[0, 1.11], [10, 1]]),
        # A single bar has no range; its height counts.
        ("axes0/bar0", [[0, 0, 0.8, 50]], [[0, 0, 0.8, 50.4]], [[0, 0, 0.8, 50.6]]),
        # An exact zero stays one.
        ("axes0/line0", [[0, 0.0], [1, 0.0]], [[0, 0.0], [1, 0.0]], [[0, 0.0], [1, 1e-6]]),
        # Missing and infinite values do not widen the range.
        (
            "axes0/line0",
            [[0, 0], [1, None], [2, 1]],
            [[0, 0], [1, None], [2, 1.009]],
            [[0, 0], [1, None], [2, 1.02]],
        ),
    ],
)
def test_tolerance_is_a_share_of_the_range(series: str, committed: list, within: list, outside: list) -> None:
    assert compare(series, committed, within) == []
    (line,) = compare(series, committed, outside)
    assert line.startswith(f"figure 'loss', series {series}: largest deviation ")
    assert line.endswith("(tol 0.01)")


def test_what_shares_its_axes_shares_their_range() -> None:
    committed = {"axes0/line0": LONG_LINE, "axes0/points0": [[3, 0.3]], "axes1/points0": [[3, 0.3]]}
    committed |= {"axes0/bar0": [[3, 0, 0.8, 0.3]], "axes0/image0": [[0, 1]], "axes1/image0": [[0, 0]]}
    for series, moved, allowed in (
        ("axes0/points0", [[3, 0.304]], True),  # 1 % of 0.5
        ("axes0/points0", [[3, 0.306]], False),
        ("axes1/points0", [[3, 0.304]], False),  # alone there: 1 % of 0.3
        ("axes0/bar0", [[3, 0, 0.8, 0.304]], False),  # a bar has its own
        ("axes1/image0", [[0, 0.009]], True),  # 1 % of 1, which the other image has
        ("axes1/image0", [[0, 0.011]], False),
    ):
        found = differences([figure(committed)], [figure(committed | {series: moved})])
        assert (found == []) == allowed, (series, moved)


def test_last_kept_digit_may_fall_either_way() -> None:
    committed, fresh = [[0, 1000.01], [1, 1000.02]], [[0, 1000.02], [1, 1000.02]]
    assert compare("axes0/line0", committed, fresh, tol=0) == []
    assert compare("axes0/line0", committed, [[0, 1000.05], [1, 1000.02]], tol=0) != []


def test_message_names_the_largest_excess() -> None:
    (line,) = compare("axes0/line0", [[0, 0], [1, 1]], [[0, 0.5], [1, 3]])
    assert "largest deviation 2 (committed 1, re-run 3), allowed 0.01" in line


@pytest.mark.parametrize(
    ("committed", "fresh", "reason"),
    [
        ([[0, 1], [1, 2]], [[0, 1]], "shape (2, 2) committed, (1, 2) in the re-run"),
        ([[0, 1], [1, 2]], [], "shape (2, 2) committed, (0,) in the re-run"),
        ([[0, 1], [1, 2]], [[0, 1], [1, None]], "1 values are missing in one run"),
        ([[0, 1], [1, 2]], [[0, 1], [1, float("inf")]], "largest deviation inf"),
        ([[0, 1], [1, 2]], [[0, 1], [1]], "not a table of numbers"),
        (["ratio 1"], ["ratio 2"], "not a table of numbers"),
    ],
)
def test_other_differences_are_named(committed: list, fresh: list, reason: str) -> None:
    (line,) = compare("axes0/line0", committed, fresh)
    assert reason in line


def test_series_missing_in_one_run() -> None:
    one, both = {"axes0/line0": LONG_LINE}, {"axes0/line0": LONG_LINE, "axes1/line0": LONG_LINE}
    assert differences([figure(both)], [figure(one)]) == [
        "figure 'loss', series axes1/line0: in the committed outputs, but not drawn by the re-run"
    ]
    assert differences([figure(one)], [figure(both)]) == [
        "figure 'loss', series axes1/line0: drawn by the re-run, but not in the committed outputs"
    ]


def test_figure_missing_in_one_run() -> None:
    loss, usage = figure({"axes0/line0": LONG_LINE}), figure({"axes0/line0": LONG_LINE}, name="usage")
    assert differences([loss, usage], [loss]) == [
        "figure 'usage' is in the committed outputs, but the re-run did not show it"
    ]
    assert differences([loss], [usage, loss]) == [
        "figure 'usage' was shown by the re-run, but is not in the committed outputs"
    ]
    assert differences([loss, loss], [loss]) == [
        "figure 'loss' is in the committed outputs, but the re-run did not show it"
    ]


def test_the_stricter_tolerance_counts() -> None:
    committed, fresh = {"axes0/line0": [[0, 0], [1, 1]]}, {"axes0/line0": [[0, 0], [1, 1.5]]}
    assert differences([figure(committed, tol=0.9)], [figure(fresh, tol=0.01)]) != []
    assert differences([figure(committed, tol=0.01)], [figure(fresh, tol=0.9)]) != []
    assert differences([figure(committed, tol=0.9)], [figure(fresh, tol=0.9)]) == []
