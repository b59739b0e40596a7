"""A student gets the chapter without its solutions, and everything else of it."""

import ast
import copy
import os

import course
import pytest
import sample
from freshness import ROOT, chapters, read
from lift import python_source

REAL = pytest.mark.parametrize("path", chapters(ROOT), ids=lambda path: path.stem)


def tagged(nb, tag):
    return [cell for cell in nb.cells if tag in cell.metadata.get("tags", [])]


@REAL
def test_a_student_sees_no_solution_and_no_output(path):
    chapter = read(path)
    student = course.student_version(chapter)
    text = "\n".join(cell.source for cell in student.cells)
    for cell in tagged(chapter, "solution"):
        solution = cell.source.split("# BEGIN SOLUTION")[1].split("# END SOLUTION")[0].strip()
        assert solution and solution not in text
    assert "SOLUTION" not in text and "{solution" not in text
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in student.cells)


@REAL
def test_everything_else_of_the_chapter_is_there(path):
    chapter = read(path)
    student = course.student_version(chapter)
    for tag in ("colab", "parameters", "exercise", "check"):
        assert [c.source for c in tagged(student, tag)] == [c.source for c in tagged(chapter, tag)] != []
    assert len(tagged(student, "solution")) == len(tagged(chapter, "solution"))
    for cell in student.cells:
        if cell.cell_type == "code":
            ast.parse(python_source(cell.source))


@REAL
def test_an_exercise_that_nobody_solved_says_so(path):
    student = course.student_version(read(path))
    for cell in tagged(student, "solution"):
        assert cell.source.count('raise NotImplementedError("write your solution here")') >= 1


def test_the_chapter_itself_is_left_alone(tmp_path):
    nb = sample.make_chapter(sample.make_repository(tmp_path))
    before = copy.deepcopy(nb)
    course.student_version(nb)
    assert nb == before


def test_the_versions_are_valid_notebooks_in_a_folder_of_their_own(tmp_path):
    sample.write(sample.make_chapter(sample.make_repository(tmp_path)), tmp_path)
    [made] = course.write(chapters(tmp_path), tmp_path)
    assert made.parent == tmp_path / "_build" / "course"
    assert "moe" not in read(made).metadata


def test_chapters_are_named_as_for_the_runner(tmp_path, capsys):
    sample.write(sample.make_chapter(sample.make_repository(tmp_path)), tmp_path)
    course.main(["99"], tmp_path)
    assert capsys.readouterr().out == f"_build/course/{sample.NAME}.ipynb\n".replace("/", os.sep)
    with pytest.raises(SystemExit, match=rf"^course: no chapter '04'; there are: {sample.NAME}$"):
        course.main(["04"], tmp_path)


def test_a_solution_keeps_its_indentation_and_its_neighbours():
    source = "def f(x):\n    y = x\n    # BEGIN SOLUTION\n    y = 2 * x\n    # END SOLUTION\n    return y"
    blank = course.SOLUTION.sub(course.BLANK, source)
    assert blank == (
        'def f(x):\n    y = x\n    raise NotImplementedError("write your solution here")\n    return y'
    )
