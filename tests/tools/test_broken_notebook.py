"""Whichever tool meets a broken chapter first says in one line how to get it back."""

import build
import check
import course
import pytest
import run
import sample


@pytest.mark.parametrize("content", ["", "{ not json", '<<<<<<< HEAD\n{"cells": []}\n=======\n>>>>>>> b\n'])
def test_every_tool_says_how_to_get_a_broken_chapter_back(tmp_path, capsys, monkeypatch, content):
    root = sample.make_repository(tmp_path)
    (root / "chapters" / "04_broken.ipynb").write_text(content)
    monkeypatch.chdir(root)
    remedy = "mend it, or take the last committed version: git checkout -- chapters/04_broken.ipynb"
    with pytest.raises(SystemExit) as built:
        build.build(root)
    with pytest.raises(SystemExit) as cut:
        course.main([], root)
    check.main([], root)
    linted = capsys.readouterr().out.splitlines()[0]
    run.main(["--root", str(root), "--list"])
    listed = capsys.readouterr().err.rstrip("\n")
    for line in (str(built.value), str(cut.value), linted, listed):
        assert "chapters/04_broken.ipynb: not a valid notebook (" in line
        assert line.endswith(remedy) and "\n" not in line and str(root) not in line
