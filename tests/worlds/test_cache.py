"""The cache hands out what the task would render, is never half written, and notices damage."""

import functools
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from everything import Everything, assert_equal

from moe_lib.worlds import TASKS, camera, catalogue
from moe_lib.worlds.cache import CHUNK, kept, materialise, places

HERE = Path(__file__).resolve().parent


@pytest.fixture
def task():
    return Everything(n=20)


@pytest.mark.parametrize("indices", [range(20), [7], [19, 0, 0, 3]])
def test_batches_are_those_of_the_task(task, tmp_path, indices):
    rendered = materialise(task, folder=tmp_path)
    opened = materialise(task, folder=tmp_path)
    for stored in (rendered, opened):
        assert_equal(stored.batch(indices), task.batch(indices))


def test_it_is_used_like_the_task(task, tmp_path):
    stored = materialise(task, folder=tmp_path)
    assert (stored.name, stored.classes, stored.options()) == (task.name, task.classes, task.options())
    assert stored.task == task and len(stored) == len(task)
    assert_equal(stored[-1], task[-1])
    with pytest.raises(IndexError, match="scene 20 of 20"):
        stored[20]
    with pytest.raises(IndexError, match="scene -1 of 20"):
        stored.batch([3, -1])
    with pytest.raises(ValueError, match="at least one"):
        stored.batch([])


def test_the_second_call_renders_nothing(task, tmp_path, monkeypatch):
    first = materialise(task, folder=tmp_path)
    monkeypatch.setattr(Everything, "render", lambda *_: pytest.fail("rendered again"))
    assert materialise(task, folder=tmp_path).records == first.records


@pytest.mark.parametrize("other", [{"split": "val"}, {"n": 19}, {"size": 72}, {"loud": False}])
def test_other_options_are_another_data_set(task, tmp_path, other):
    materialise(task, folder=tmp_path)
    materialise(Everything(**{"n": 20} | other), folder=tmp_path)
    assert len(kept(tmp_path)) == 2


def test_a_task_by_its_name(task, tmp_path, monkeypatch):
    monkeypatch.setattr(catalogue, "TASKS", {"everything": Everything})
    stored = materialise("everything", "val", 3, size=64, loud=False, folder=tmp_path)
    assert stored.task == Everything("val", 3, size=64, loud=False)
    with pytest.raises(ValueError, match="unknown task 'nothing'; possible: everything"):
        materialise("nothing", "val", 3)
    with pytest.raises(ValueError, match="needs a split and n"):
        materialise("everything")
    with pytest.raises(ValueError, match="has its split, n and options already"):
        materialise(task, "val")


DAMAGE = {
    "empty": lambda file: b"",
    "cut short": lambda file: file[:-1],
    "cut in the header": lambda file: file[:60],
    "another file": lambda file: b"PK" + file[2:],
    "one bit of a record": lambda file: file[:-9] + bytes([file[-9] ^ 1]) + file[-8:],
    "one bit of the index": lambda file: file[:80] + bytes([file[80] ^ 4]) + file[81:],
    "one bit of the checksum": lambda file: file[:20] + bytes([file[20] ^ 128]) + file[21:],
    "longer": lambda file: file + b"\0",
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_damage_is_noticed_and_mended(tmp_path, damage):
    task = Everything(n=2)
    materialise(task, folder=tmp_path)
    (path,) = kept(tmp_path)
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    with pytest.warns(UserWarning, match="anew"):
        stored = materialise(task, folder=tmp_path)
    assert_equal(stored.batch([1]), task.batch([1]))
    assert path.read_bytes() == whole


def test_nothing_is_left_where_there_is_no_room(task, tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(places.os, "fsync", full)
    with pytest.warns(UserWarning, match="No space left on device.*not kept"):
        stored = materialise(task, folder=tmp_path)
    assert_equal(stored.batch([4]), task.batch([4]))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_is_an_error_before_anything_is_rendered(task, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setattr(Everything, "render", lambda *_: pytest.fail("rendered"))
    with pytest.raises(OSError, match=r"cannot be kept in .*file.*folder=.*MOE_CACHE"):
        materialise(task, folder=tmp_path / "file" / "below")


def test_an_interrupted_rendering_leaves_nothing(tmp_path, monkeypatch):
    render = Everything.render

    def interrupted(self, scenes, device):
        if scenes[0]["index"] >= CHUNK:
            raise KeyboardInterrupt
        return render(self, scenes, device)

    monkeypatch.setattr(Everything, "render", interrupted)
    before = torch.get_num_threads()
    with pytest.raises(KeyboardInterrupt):
        materialise(Everything(n=2 * CHUNK), folder=tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("threads", [1, 2])
def test_threads_of_torch_are_as_before_and_change_nothing(task, tmp_path, threads):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        stored = materialise(Everything(n=40), folder=tmp_path)
        assert torch.get_num_threads() == threads
        assert_equal(stored.batch([39, 2]), Everything(n=40).batch([39, 2]))
    finally:
        torch.set_num_threads(before)


def test_progress_is_shown_when_it_takes_long(tmp_path, monkeypatch, capsys):
    import tqdm

    monkeypatch.setattr(tqdm, "tqdm", functools.partial(tqdm.tqdm, mininterval=0, miniters=1))
    monkeypatch.setattr(tqdm.tqdm.func, "monitor_interval", 0)
    materialise(Everything(n=20), folder=tmp_path / "quick")
    assert "everything" not in capsys.readouterr().err
    batch = Everything.batch
    monkeypatch.setattr(Everything, "batch", lambda *given: time.sleep(1.1) or batch(*given))
    materialise(Everything(n=2 * CHUNK), folder=tmp_path / "slow")
    assert "Rendering everything, train" in capsys.readouterr().err


def test_two_processes_at_once(tmp_path):
    script = (
        "from everything import Everything; from moe_lib.worlds.cache import materialise; "
        "print(materialise(Everything(n=100), progress=False).batch([99])['image'].sum())"
    )
    command = [sys.executable, "-W", "error", "-c", script]
    paths = os.pathsep.join([str(HERE), str(HERE.parents[1])])
    environment = os.environ | {"PYTHONPATH": paths, "MOE_CACHE": str(tmp_path)}
    both = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) for _ in range(2)]
    said = [process.communicate(timeout=60)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert said[0] == said[1] != b""
    assert [path.suffix for path in tmp_path.iterdir()] == [".scenes"]


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        ({"sensors": {"lidar": torch.full((1, 3, 64, 64), 1.5)}}, r"sensors/lidar lies in \[1.5, 1.5\]"),
        ({"mask": torch.full((1, 64, 64), 300)}, "mask: int64 from 300 to 300 does not fit"),
        ({"extra": 3}, "'extra' is a int"),
        ({"extra": [(1, 2)]}, "what JSON keeps as it is"),
    ],
)
def test_what_cannot_be_kept_is_named(tmp_path, monkeypatch, entry, problem):
    render = Everything.render
    monkeypatch.setattr(Everything, "render", lambda *given: render(*given) | entry)
    with pytest.raises(ValueError, match=problem):
        materialise(Everything(n=1), folder=tmp_path)


def test_a_picture_that_is_not_from_the_camera_is_kept_exactly(tmp_path, monkeypatch):
    render = Everything.render
    plain = {"image": torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))}
    monkeypatch.setattr(Everything, "render", lambda *given: render(*given) | plain)
    assert torch.equal(materialise(Everything(n=1), folder=tmp_path).batch([0])["image"], plain["image"])


def test_photographs_that_were_joined_are_kept_as_small_as_any(tmp_path, monkeypatch):
    task = Everything(n=16)
    size = sum(map(len, materialise(task, folder=tmp_path / "whole").records))
    render = Everything.render

    def in_parts(self, scenes, device):
        parts = [render(self, scenes[:5], device), render(self, scenes[5:], device)]
        image = camera.joined([part["image"] for part in parts])
        return render(self, scenes, device) | {"image": image}

    monkeypatch.setattr(Everything, "render", in_parts)
    stored = materialise(task, folder=tmp_path / "parts")
    assert sum(map(len, stored.records)) == size
    assert_equal(stored.batch(range(16)), task.batch(range(16)))


@pytest.mark.parametrize("name", TASKS)
def test_four_thousand_scenes_are_small(tmp_path, name):
    stored = materialise(name, "train", 16, size=96, folder=tmp_path)
    most = 110e6 if name == "multimodal" else 60e6  # five sensors, each with its noise
    assert sum(map(len, stored.records)) / 16 * 4000 < most
