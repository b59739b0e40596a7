"""The notebook lint has nothing to say about a good chapter, and says the right thing about every bad one.

The controls that follow the pattern "one thing broken, one rule speaks" stand in damage_*.py.
"""

import json
from collections.abc import Callable
from pathlib import Path

import check
import damage_outputs
import damage_source  # noqa: F401  (registers its controls)
import pytest
import sample
from cells import MARKER
from damage import CONTROLS, Control, restamp, shown
from nbformat import NotebookNode
from nbformat.v4 import new_output
from sample import FIGURE_MIME, cell_with


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return sample.make_repository(tmp_path)


@pytest.fixture
def nb(root: Path) -> NotebookNode:
    return sample.make_chapter(root)


def test_valid_chapter_has_no_problems(nb: NotebookNode, root: Path) -> None:
    assert list(check.problems(sample.write(nb, root))) == []


def test_a_chapter_may_say_which_scales_and_limits_it_has(nb: NotebookNode, root: Path) -> None:
    nb.metadata.update(moe_scales=["smoke", "pocket"], moe_limits={"pocket": 300})
    assert list(check.problems(sample.write(nb, root))) == []


ONE_MACHINE = {
    "home": "/home/ada/book/data.npy",
    "mac": "/Users/ada/book",
    "root": "see /root/.cache",
    "tmp": "/tmp/ipykernel_12/34.py:1",
    "colab": "/content/data",
    "windows": r"C:\book\data",
    "address": "file:///home/ada",
}


@pytest.mark.parametrize("place", ["source", "text", "html", "figure", "metadata", "markdown"])
@pytest.mark.parametrize("path", ONE_MACHINE.values(), ids=ONE_MACHINE)
def test_absolute_paths_are_found_everywhere(nb: NotebookNode, root: Path, path: str, place: str) -> None:
    if place == "source":
        cell_with(nb, "def square").source += f"\n# {path}"
    elif place == "text":
        cell_with(nb, "def square").outputs = [sample.text(f"read {path}\n")]
    elif place == "html":
        cell_with(nb, "def square").outputs = [
            new_output("display_data", data={"text/html": f"<b>{path}</b>"})
        ]
    elif place == "figure":
        shown(nb)[FIGURE_MIME]["caption"] = f"Read from {path}"
    elif place == "metadata":
        nb.metadata["source"] = path
    else:
        nb.cells[1].source += f"\nRead `{path}`."
    restamp(nb, root)
    assert {problem.rule for problem in check.problems(sample.write(nb, root))} == {"no_absolute_paths"}


@pytest.mark.parametrize(
    "harmless",
    [
        "https://example.org/home/ada/",
        "[notes](https://home/tmp/x)",
        "train/val/test, work/home",
        "../tmp/x and chapters/content/",
        r"$f:\mathbb{R} \to F:\Omega$",
    ],
)
def test_addresses_and_formulas_are_no_absolute_paths(nb: NotebookNode, root: Path, harmless: str) -> None:
    nb.cells[1].source += f"\n\n{harmless}"
    assert list(check.problems(sample.write(nb, root))) == []


@pytest.mark.parametrize(
    "picture",
    [
        "![](square.svg)",
        "![ ][square]",
        "![](attachment:square.png)",
        "```{image} square.svg\n:width: 50%\n```",
        ":::{figure} square.svg\n:name: square\n\nA caption is no alt text.\n:::",
        "````{note}\n```{image} square.svg\n```\n````",
        '<img src="square.svg">',
        '<img src="square.svg" alt="">',
        '<svg viewBox="0 0 1 1"></svg>',
        "```{image} a.svg\n```\n```{image} a.svg\n:alt: a square\n```",
    ],
)
def test_pictures_in_the_text_need_alt_text(nb: NotebookNode, root: Path, picture: str) -> None:
    nb.cells[1].source += f"\n\n{picture}\n"
    (problem,) = check.problems(sample.write(nb, root))
    assert problem.rule == "pictures_described"
    assert problem.cell == 1


@pytest.mark.parametrize(
    "picture",
    [
        "![a square](square.svg)",
        "```{figure} square.svg\n:width: 50%\n:alt: a square\n\nSee `![](x)`.\n```",
        "```{image} square.svg\n---\nalt: a square\n---\n```",
        "```markdown\n![](square.svg)\n```",
        '<svg role="img" aria-label="a square"></svg> <img alt="a square" src="square.svg">',
    ],
)
def test_pictures_with_alt_text_are_fine(nb: NotebookNode, root: Path, picture: str) -> None:
    nb.cells[1].source += f"\n\n{picture}\n"
    assert list(check.problems(sample.write(nb, root))) == []


@pytest.mark.parametrize("control", CONTROLS, ids=lambda control: f"{control.rule}-{control.damage.__name__}")
def test_damage_is_found(control: Control, nb: NotebookNode, root: Path) -> None:
    control.damage(nb, root)
    if control.stamped_again:
        restamp(nb, root)
    found = list(check.problems(sample.write(nb, root)))
    assert {problem.rule for problem in found} == {control.rule}, [str(problem) for problem in found]
    assert any(control.says in str(problem) for problem in found), [str(problem) for problem in found]


def test_stripped_notebook_fails(nb: NotebookNode, root: Path) -> None:
    """What `nbstripout` leaves, stamped again: nbval alone would let every unmarked cell pass."""
    for cell in nb.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    restamp(nb, root)
    found = list(check.problems(sample.write(nb, root)))
    assert {problem.rule for problem in found} == {"outputs_present", "executed_in_order"}
    assert sum(problem.rule == "outputs_present" for problem in found) == 4


def test_text_and_comments_can_be_edited(nb: NotebookNode, root: Path) -> None:
    nb.cells[1].source += "\n\nOne more sentence."
    cell_with(nb, "def square").source += "  # by multiplication"
    (root / "moe_lib" / "__init__.py").write_text(
        '"""Better words."""\n\nANSWER = 42  # still\n', encoding="utf-8"
    )
    assert list(check.problems(sample.write(nb, root))) == []


def damaged_file(nb: NotebookNode, root: Path, damage: Callable[[dict], None]) -> list[check.Problem]:
    """Problems of a notebook whose JSON was changed behind nbformat's back."""
    path = sample.write(nb, root)
    raw = json.loads(path.read_text(encoding="utf-8"))
    damage(raw)
    path.write_text(json.dumps(raw), encoding="utf-8")
    return list(check.problems(path))


def test_old_format_is_found(nb: NotebookNode, root: Path) -> None:
    def damage(raw: dict) -> None:
        raw["nbformat_minor"] = 4
        for cell in raw["cells"]:
            del cell["id"]

    (problem,) = damaged_file(nb, root, damage)
    assert (problem.rule, problem.cell) == ("valid_format", None)
    assert "nbformat 4.4" in problem.text


def test_repeated_id_is_found(nb: NotebookNode, root: Path) -> None:
    found = damaged_file(nb, root, lambda raw: raw["cells"][2].update(id=raw["cells"][1]["id"]))
    assert [str(problem) for problem in found] == [
        f"99_sample: cell {index}: id 'cell-1' belongs to 2 cells; give each its own" for index in (1, 2)
    ]


def test_missing_id_is_found(nb: NotebookNode, root: Path) -> None:
    (problem,) = damaged_file(nb, root, lambda raw: raw["cells"][2].pop("id"))
    assert (problem.rule, problem.cell) == ("valid_format", 2)


def test_large_file_is_found(nb: NotebookNode, root: Path) -> None:
    path = sample.write(nb, root)
    path.write_text(path.read_text(encoding="utf-8") + " " * 2_000_000, encoding="utf-8")
    (problem,) = check.problems(path)
    assert problem.rule == "small_enough"
    assert "2.0 MB" in problem.text


def test_every_rule_has_a_control() -> None:
    with_control = {control.rule for control in CONTROLS}
    elsewhere = {"valid_format", "small_enough", "pictures_described"}
    assert {rule.__name__ for rule in check.RULES} == with_control | elsewhere


@pytest.mark.parametrize(
    ("content", "reason"),
    [(None, "no such notebook"), ("{", "not a valid notebook"), ('{"nbformat": 4}', "not a valid notebook")],
)
def test_unreadable_file_is_one_line(tmp_path: Path, capsys, content: str | None, reason: str) -> None:
    path = tmp_path / "broken.ipynb"
    if content is not None:
        path.write_text(content, encoding="utf-8")
    assert check.main([str(path)]) == 1
    line, total = capsys.readouterr().out.splitlines()
    assert line.startswith("broken: ")
    assert reason in line
    assert total == "check: 1 problem in 1 of 1 notebook"


def test_command_line(nb: NotebookNode, root: Path, capsys) -> None:
    assert check.main([], root=root) == 1
    assert "no notebook" in capsys.readouterr().out
    path = sample.write(nb, root)
    assert check.main([], root=root) == 0
    assert capsys.readouterr().out == "check: 1 notebook, no problems\n"
    damage_outputs.edited_number(nb, root)
    damage_outputs.outputs_stripped(nb, root)
    sample.write(nb, root)
    assert check.main([str(path)]) == 1
    assert capsys.readouterr().out.splitlines() == [
        f"99_sample: cell 6: outputs missing where marked {MARKER}; run `make notebooks`",
        "99_sample: outputs were edited since it was run; run `make notebooks`",
        "check: 2 problems in 1 of 1 notebook",
    ]
