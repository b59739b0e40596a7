"""Numbers are written whole or not at all, with everything needed to make them again."""

import datetime
import json
import platform
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

import moe_lib
from moe_lib import environment, load_results, results, save_results

QUANTITIES = {
    "reach": {"estimate": 1 / 3, "low": 0.25, "high": 123456.789},
    "gap": dict.fromkeys(("estimate", "low", "high"), 0),
}


def save(out: Path, **changes) -> Path:
    given = {"chapter": "04_conv_lora", "scale": "pocket", "seeds": 10, "quantities": QUANTITIES}
    return save_results(out, **(given | changes))


def load(out: Path) -> dict | None:
    return load_results(out, chapter="04_conv_lora", scale="pocket")


def test_what_is_saved_is_loaded(tmp_path):
    path = save(tmp_path / "new" / "results")
    assert path == tmp_path / "new" / "results" / "04_conv_lora" / "pocket.json"
    record = load(tmp_path / "new" / "results")
    assert (record["chapter"], record["scale"], record["seeds"]) == ("04_conv_lora", "pocket", 10)
    assert record["quantities"]["gap"] == {"estimate": 0, "low": 0, "high": 0}
    assert record["environment"] == environment()
    assert record["seconds"] >= 0


def test_numbers_keep_six_digits(tmp_path):
    save(tmp_path)
    assert load(tmp_path)["quantities"]["reach"] == {"estimate": 0.333333, "low": 0.25, "high": 123457}


def test_numbers_of_numpy_and_torch_are_numbers(tmp_path):
    save(
        tmp_path,
        quantities={"q": {"estimate": torch.tensor(0.5), "low": np.float32(0.25), "high": np.int64(1)}},
    )
    assert load(tmp_path)["quantities"]["q"] == {"estimate": 0.5, "low": 0.25, "high": 1}


def test_more_than_the_three_numbers_may_be_kept(tmp_path):
    save(tmp_path, quantities={"q": {**QUANTITIES["gap"], "p": 0.04}})
    assert load(tmp_path)["quantities"]["q"]["p"] == 0.04


def test_the_file_is_plain_json_that_people_can_read(tmp_path):
    text = save(tmp_path, quantities={"Länge": QUANTITIES["gap"]}).read_text(encoding="utf-8")
    json.loads(text, parse_constant=pytest.fail)
    assert "Länge" in text and text.endswith("}\n") and len(text.splitlines()) > 10


def test_no_earlier_run_is_none(tmp_path):
    assert load(tmp_path) is None
    save(tmp_path, scale="smoke")
    assert load(tmp_path) is None


def test_a_later_run_replaces_an_earlier_one_and_leaves_nothing_beside_it(tmp_path):
    save(tmp_path, seeds=3)
    path = save(tmp_path, seeds=5)
    assert load(tmp_path)["seeds"] == 5
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("failing", ["write_text", "replace"])
def test_a_failing_write_leaves_the_old_file_and_nothing_beside_it(tmp_path, monkeypatch, failing):
    path = save(tmp_path, seeds=3)
    before = path.read_bytes()

    def fail(unfinished, *arguments, **options):
        unfinished.write_bytes(b"{ half")
        raise OSError("disk full")

    monkeypatch.setattr(Path, failing, fail)
    with pytest.raises(OSError, match="disk full"):
        save(tmp_path, seeds=5)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(
    ("quantity", "says"),
    [
        ({"estimate": 1, "high": 2}, "quantity 'reach' lacks low; it has estimate, high"),
        ({"mean": 1}, "quantity 'reach' lacks estimate, high, low; it has mean"),
        (
            {"estimate": float("nan"), "low": 0, "high": 1},
            "quantity 'reach': estimate is nan; it should be a finite",
        ),
        ({"estimate": 0, "low": 0, "high": float("inf")}, "quantity 'reach': high is inf"),
    ],
)
def test_a_quantity_that_cannot_be_judged_is_refused_and_nothing_written(tmp_path, quantity, says):
    with pytest.raises(ValueError, match=says):
        save(tmp_path, quantities={"gap": QUANTITIES["gap"], "reach": quantity})
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_file_is_named(tmp_path):
    path = save(tmp_path)
    path.write_text('{"chapter": ')
    with pytest.raises(ValueError, match=r"pocket\.json: not JSON"):
        load(tmp_path)


def test_the_environment_says_what_ran_where_and_when():
    record = environment("cpu")
    keys = "python torch numpy moe_lib platform device threads commit date"
    assert list(record) == keys.split()
    assert (record["python"], record["numpy"]) == (platform.python_version(), np.__version__)
    assert record["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert record["device"] == f"cpu ({platform.machine()})"
    assert record["threads"] == torch.get_num_threads()
    age = datetime.datetime.now(datetime.UTC).date() - datetime.date.fromisoformat(record["date"])
    assert 0 <= age.days <= 1
    assert platform.node() not in json.dumps(record), "no name of a machine is published"


def test_a_gpu_is_named(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"Fast {device.index}")
    assert environment("cuda:1")["device"] == "cuda (Fast 1)"


@pytest.fixture
def checkout(tmp_path, monkeypatch) -> Path:
    """Pretend that the library lies in a folder of its own, outside any repository."""
    (tmp_path / "moe_lib").mkdir()
    monkeypatch.setattr(results, "__file__", str(tmp_path / "moe_lib" / "results.py"))
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.delenv("MOE_COMMIT", raising=False)
    return tmp_path


def git(folder: Path, *arguments: str) -> str:
    who = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
    return subprocess.run(
        ["git", *who, *arguments], cwd=folder, check=True, capture_output=True, text=True
    ).stdout


@pytest.mark.parametrize(
    ("changed", "marked"),
    [
        ("moe_lib/results.py", True),
        ("moe_lib/new.py", True),
        ("requirements.lock", True),
        ("chapters/00.ipynb", False),  # its outputs carry the hash of its code
        ("book/results/00/pocket.json", False),
    ],
)
def test_the_commit_is_marked_where_the_library_differs_from_it(checkout, changed, marked):
    git(checkout, "init", "-q")
    assert environment()["commit"] is None, "a repository without a commit"
    for name in (
        "moe_lib/results.py",
        "requirements.lock",
        "chapters/00.ipynb",
        "book/results/00/pocket.json",
    ):
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        (checkout / name).write_text("1")
    git(checkout, "add", ".")
    git(checkout, "commit", "-q", "-m", "first")
    commit = git(checkout, "rev-parse", "HEAD")[:12]
    assert environment()["commit"] == commit
    (checkout / changed).write_text("2")
    assert environment()["commit"] == (f"{commit}-dirty" if marked else commit)


def test_outside_a_checkout_and_without_git_there_is_no_commit(checkout, monkeypatch):
    assert environment()["commit"] is None
    monkeypatch.setenv("PATH", str(checkout))
    assert environment()["commit"] is None


def test_a_copy_outside_a_checkout_takes_the_commit_that_is_stated(checkout, monkeypatch):
    stated = "0123456789abcdef0123456789abcdef01234567"
    for value, commit in (
        (stated, stated[:12]),
        (stated[:12] + "-dirty", stated[:12] + "-dirty"),
        ("", None),
    ):
        monkeypatch.setenv("MOE_COMMIT", value)
        assert environment()["commit"] == commit


@pytest.mark.parametrize("value", ["main", "012345", "0123456789ab-clean"])
def test_what_is_no_commit_is_refused(checkout, monkeypatch, value):
    monkeypatch.setenv("MOE_COMMIT", value)
    with pytest.raises(ValueError, match=f"MOE_COMMIT is '{value}'; it should be a commit"):
        environment()


def test_a_checkout_knows_its_commit_better_than_what_is_stated(checkout, monkeypatch):
    git(checkout, "init", "-q")
    git(checkout, "commit", "-q", "--allow-empty", "-m", "first")
    (checkout / "requirements.lock").touch()
    monkeypatch.setenv("MOE_COMMIT", "0123456789ab")
    assert environment()["commit"] == git(checkout, "rev-parse", "HEAD")[:12] + "-dirty"


def test_seeds_go_into_a_quantity_and_come_out(tmp_path):
    values = [0.25, 0.5, 0.125]
    quantities = {"gain": moe_lib.quantity(values)}
    save_results(tmp_path, chapter="04_conv_lora", scale="gpu", seeds=3, quantities=quantities)
    found = load_results(tmp_path, chapter="04_conv_lora", scale="gpu")["quantities"]["gain"]
    assert moe_lib.seed_values(found) == values
    assert found["estimate"] == pytest.approx(sum(values) / 3, rel=1e-5)
    assert found["low"] < found["estimate"] < found["high"]


def test_the_best_rate_that_was_tried_stands_out():
    scores = {"LoRA 0.003": 0.25, "LoRA 0.01": 0.5, "LoRA 0.03": 0.125, "full 0.01": 0.75}
    found = {"quantities": {name: {"estimate": score} for name, score in scores.items()}}
    best, line = moe_lib.tried(found, "LoRA", [3e-3, 1e-2, 3e-2])
    assert best == 1e-2
    assert line.replace("\N{NO-BREAK SPACE}", " ") == "0.003: 0.250 · **0.01: 0.500** · 0.03: 0.125"
    assert moe_lib.tried(found, "LoRA", [3e-3, 1e-2, 3e-2], min)[0] == 3e-2
    with pytest.raises(KeyError, match=r"LoRA 0\.1"):
        moe_lib.tried(found, "LoRA", [3e-3, 0.1])


def test_kept_results_are_those_of_the_book_around_the_library(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "__file__", str(tmp_path / "moe_lib" / "results.py"))
    assert moe_lib.kept_results("04_conv_lora") is None
    folder = tmp_path / "book" / "results"
    save_results(
        folder, chapter="04_conv_lora", scale="gpu", seeds=3, quantities={"q": moe_lib.quantity([1, 2, 3])}
    )
    assert moe_lib.kept_results("04_conv_lora")["quantities"]["q"]["estimate"] == 2
    assert moe_lib.kept_results("04_conv_lora", "paper") is None
