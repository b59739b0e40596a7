"""Where the cache keeps its files, and when a file is another one: new code, new options, nothing else."""

import importlib
import runpy
import shutil
import sys
import tokenize
import types
from pathlib import Path

import pytest
from everything import Everything, assert_equal

from moe_lib.worlds.cache import clear_cache, kept, materialise, places

DOMAIN = """
import torch
import shade
from moe_lib.worlds.camera import photograph
from moe_lib.worlds.tasks import Task


class Grey(Task):
    name, family, classes = "grey", "grey", ("grey",)

    def scene(self, index):
        return self.draws(index).seed()

    def render(self, scenes, device):
        light = torch.full((len(scenes), 3, self.size, self.size), shade.LEVEL, device=device)
        mask = torch.zeros(len(scenes), self.size, self.size, dtype=torch.int64)
        return {"image": photograph(light, seed=torch.tensor(scenes, device=device)), "mask": mask}
"""
SHADE = "# How bright.\nLEVEL = 0.4\n"


@pytest.fixture
def task():
    return Everything(n=20)


@pytest.fixture
def domain(tmp_path, monkeypatch):
    """A task in a file of its own, and the hash of its code after a file was changed."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "shade.py").write_text(SHADE)
    (tmp_path / "domain.py").write_text(DOMAIN)
    grey = importlib.import_module("domain").Grey

    def changed(**files: str) -> str:
        for name, text in files.items():
            (tmp_path / f"{name}.py").write_text(text)
        return places.code_of(grey)

    yield changed
    for name in ("domain", "shade"):
        sys.modules.pop(name, None)


def test_new_code_is_another_data_set(domain):
    before = domain()
    assert domain(shade=SHADE.replace("0.4", "0.5")) != before
    assert domain(shade=SHADE, domain=DOMAIN.replace("torch.full", "1 * torch.full")) != before
    assert domain(domain=DOMAIN) == before


def test_another_format_is_another_file(monkeypatch):
    before = places.file_name(Everything(n=2), "code")
    assert places.file_name(Everything(n=2), "code") == before
    monkeypatch.setattr(places, "MAGIC", b"moe scenes 99\n")
    assert places.file_name(Everything(n=2), "code") != before  # and not a damaged one, with a warning


def test_comments_and_docstrings_are_not_code(domain):
    before = domain()
    assert domain(shade='"""Shades."""\n\n\nLEVEL = 0.4  # of white\n') == before
    assert domain(domain=DOMAIN.replace("return self", '"""Its seed."""\n        return self')) == before
    assert domain(shade='LEVEL = 0.4\nNAME = """Shades."""\n') != before


def test_every_python_reads_an_f_string_alike():
    source = 'x = f"a {b!r:>{c}} {f\'{d}\'}" + rf"""\n{e}\nz"""\n'
    strings = [text for kind, text in places._tokens(source) if kind == tokenize.STRING]
    assert strings == ["f\"a {b!r:>{c}} {f'{d}'}\"", 'rf"""\n{e}\nz"""']


def test_the_world_it_is_drawn_with_is_its_code_and_other_files_are_not(domain, tmp_path, monkeypatch):
    copy = tmp_path / "copy"
    shutil.copytree(places.WORLDS, copy)
    monkeypatch.setattr(places, "WORLDS", copy)
    before = domain()
    for name, counts in {"camera": True, "draws": True, "noise": True, "another_task": False}.items():
        path = copy / f"{name}.py"
        text = path.read_text() if path.exists() else ""
        path.write_text(text + "\nMORE = 1\n")
        assert (places.code_of(sys.modules["domain"].Grey) != before) is counts, name
        path.write_text(text)


def test_a_task_of_a_notebook_is_rendered_and_not_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(Everything, "__module__", "__main__")
    monkeypatch.setitem(sys.modules, "__main__", types.ModuleType("__main__"))
    stored = materialise(Everything(n=3), folder=tmp_path)
    assert_equal(stored.batch([2]), Everything(n=3).batch([2]))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("platform", "variables", "expected"),
    [
        ("linux", {"MOE_CACHE": "/a/b"}, "/a/b"),
        ("linux", {"XDG_CACHE_HOME": "/x"}, "/x/moe_lib"),
        ("linux", {}, "/home/reader/.cache/moe_lib"),
        ("darwin", {}, "/home/reader/Library/Caches/moe_lib"),
        ("win32", {"LOCALAPPDATA": "/local"}, "/local/moe_lib"),
        ("win32", {}, "/home/reader/AppData/Local/moe_lib"),
    ],
)
def test_where_scenes_are_kept(monkeypatch, platform, variables, expected):
    for name in ("MOE_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(places.sys, "platform", platform)
    monkeypatch.setattr(places.Path, "home", lambda: Path("/home/reader"))
    assert places.cache_folder() == Path(expected)
    assert places.cache_folder("/given") == Path("/given")


def test_clearing_removes_what_it_lists_and_nothing_else(task, tmp_path):
    materialise(task, folder=tmp_path)
    leftover = tmp_path / ".everything-train-20-64px-0.scenes.77-1.tmp"
    leftover.write_bytes(b"half")
    mine = tmp_path / "notes.txt"
    mine.write_text("keep me")
    listed = kept(tmp_path)
    assert leftover in listed and len(listed) == 2
    assert clear_cache(tmp_path) == listed
    assert list(tmp_path.iterdir()) == [mine]
    assert clear_cache(tmp_path / "nowhere") == {}


def test_the_command_lists_and_clears(task, tmp_path, monkeypatch, capsys):
    materialise(task, folder=tmp_path)
    monkeypatch.setenv("MOE_CACHE", str(tmp_path))
    for arguments, left in (([], 1), (["--clear"], 0)):
        monkeypatch.setattr(sys, "argv", ["cache", *arguments])
        runpy.run_module("moe_lib.worlds.cache", run_name="__main__")
        assert "everything-train-20-64px" in capsys.readouterr().out
        assert len(kept(tmp_path)) == left
