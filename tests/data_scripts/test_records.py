"""The records are complete and honest, and the command line leaves nothing half-done."""

import dataclasses
import hashlib
import importlib
import re
from types import SimpleNamespace

import kvasir
import pytest
import readme
import record
from record import DataSet, Part, main
from tiny_archives import archive, blob, photo

SETS = [importlib.import_module(name).DATA for name in readme.SETS]
ROOM = {"usage": lambda folder: SimpleNamespace(free=10**12)}


@pytest.fixture
def kit(tmp_path, server):
    """Kvasir-SEG in small, on the unkind server; ``run`` is its command line."""
    files = {f"Kvasir-SEG/images/a{i}.jpg": photo(i) for i in range(12)}
    files |= {f"Kvasir-SEG/masks/a{i}.jpg": blob(i, form="JPEG") for i in range(12)}
    packed = archive(tmp_path / "kvasir-seg.zip", files)
    server.files["/kvasir-seg.zip"] = packed.read_bytes()
    digest = "sha256:" + hashlib.sha256(packed.read_bytes()).hexdigest()
    part = Part("kvasir-seg.zip", (server.url("/kvasir-seg.zip"),), digest, packed.stat().st_size)
    data = dataclasses.replace(kvasir.DATA, parts=(part,))
    out = tmp_path / "data" / "kvasir"
    fetching = {"wait": lambda attempt: None, "attempts": 2, "timeout": 1, **ROOM}

    def run(*options, data=data):
        return main(data, ["--out", str(out), *options], **fetching)

    return SimpleNamespace(run=run, out=out, data=data, packed=packed, digest=digest, server=server)


def seen(folder):
    return sorted(f.name for f in folder.iterdir()) if folder.exists() else []


def test_download_unpack_convert(kit, capsys):
    assert kit.run("--yes") == 0
    assert seen(kit.out) == ["README.md", "classes.txt", "manifest.sha256", "train", "val"]
    assert seen(kit.out.parent) == ["downloads", "kvasir"]
    assert "commercial use needs written permission" in (kit.out / "README.md").read_text()
    assert kit.run("--yes") == 0 and len(kit.server.log) == 1
    assert "is there already; nothing to do" in capsys.readouterr().out


def test_terms_come_first_and_no_means_no(kit, monkeypatch, capsys):
    monkeypatch.setattr("builtins.input", lambda question: "n")
    assert kit.run() == 1 and kit.server.log == [] and seen(kit.out.parent) == []
    shown = capsys.readouterr().out
    assert "Licence   research and education only" in shown and "Download  about" in shown
    monkeypatch.undo()
    monkeypatch.setattr("builtins.input", lambda question: (_ for _ in ()).throw(EOFError))
    assert kit.run() == 1 and "--yes says yes" in capsys.readouterr().out
    monkeypatch.setattr("builtins.input", lambda question: "Y")
    assert kit.run() == 0


def test_dry_run_opens_nothing(kit, capsys):
    assert kit.run("--dry-run") == 0 and kit.server.log == [] and seen(kit.out.parent) == []
    assert "would fetch kvasir-seg.zip from http://127.0.0.1" in capsys.readouterr().out


def test_own_file(kit, capsys):
    assert kit.run("--yes", "--file", str(kit.packed)) == 0 and kit.server.log == []
    assert kit.packed.exists()


def test_own_file_with_another_checksum(kit, capsys):
    kit.packed.write_bytes(kit.packed.read_bytes() + b"\0")
    assert kit.run("--yes", "--file", str(kit.packed)) == 1 and seen(kit.out.parent) == []
    digest = re.search(r"if you trust it, say --sha256 ([0-9a-f]{64})", capsys.readouterr().err)[1]
    assert kit.run("--yes", "--file", str(kit.packed), "--sha256", digest) == 0
    assert kit.run("--yes", "--file", "nowhere.zip", "--out", str(kit.out) + "2") == 1


def test_broken_downloads_leave_no_folder(kit, capsys):
    for plan, message in (
        (["404"], "answered 404"),
        (["503"] * 2, "answered 503"),
        (["wrong"], "thrown away"),
        (["drop", "503", "503"], "failed 2 times"),
    ):
        kit.server.plan = plan
        assert kit.run("--yes") == 1 and not kit.out.exists()
        assert message in capsys.readouterr().err
        assert "kvasir-seg.zip" not in seen(kit.out.parent / "downloads")
    assert kit.run("--yes") == 0


def test_broken_archives_leave_no_folder(kit, capsys):
    unknown = dataclasses.replace(kit.data, parts=(dataclasses.replace(kit.data.parts[0], digest=None),))
    kit.server.files["/kvasir-seg.zip"] = b"<!DOCTYPE html>please sign in"
    assert kit.run("--yes", data=unknown) == 1
    assert "is a web page" in capsys.readouterr().err
    assert seen(kit.out.parent) == ["downloads"]
    assert seen(kit.out.parent / "downloads") == ["kvasir-seg.zip.wrong"]
    kit.server.files["/kvasir-seg.zip"] = kit.packed.read_bytes()
    assert kit.run("--yes", data=unknown) == 0


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError("disk full")])
def test_interrupted_conversion(kit, monkeypatch, error, capsys):
    def convert(sources, writer):
        kvasir.convert(sources, writer)
        raise error

    broken = dataclasses.replace(kit.data, convert=convert)
    assert kit.run("--yes", data=broken) == (130 if error is KeyboardInterrupt else 1)
    assert seen(kit.out.parent) == ["downloads"]
    assert kit.run("--yes") == 0 and len(kit.server.log) == 1  # the archive was kept


def test_traces_of_a_killed_run_are_removed(kit):
    stale = kit.out.parent / ".kvasir.work" / "made"
    stale.mkdir(parents=True)
    kit.out.mkdir()  # an empty folder is as good as none
    assert kit.run("--yes") == 0 and not stale.parent.exists()


def test_two_at_once(kit, capsys):
    with record.only_one(kit.out):
        assert kit.run("--yes") == 1
    assert "another process is working on" in capsys.readouterr().err and not kit.out.exists()


def test_full_disk(kit, capsys):
    full = {"usage": lambda folder: SimpleNamespace(free=10**6)}
    assert main(kit.data, ["--out", str(kit.out), "--yes"], **full) == 1
    assert "120 MB are needed" in capsys.readouterr().err and kit.server.log == []


def test_other_layout(kit, tmp_path, capsys):
    other = archive(tmp_path / "other.zip", {"pictures/a.jpg": photo(1)})
    assert kit.run("--yes", "--file", str(other)) == 1 and not kit.out.exists()
    assert "should be a folder 'Kvasir-SEG/images'" in capsys.readouterr().err


@pytest.mark.parametrize("data", SETS, ids=readme.SETS)
def test_record_is_complete(data, capsys):
    for field in dataclasses.fields(DataSet):
        value = getattr(data, field.name)
        assert value or field.name in ("by_hand", "notes", "parts", "gather"), field.name
    assert data.parts or data.by_hand or data.gather
    for part in data.parts:
        assert part.addresses and all(address.startswith("https://") for address in part.addresses)
        assert part.digest is None or re.fullmatch(r"sha256:[0-9a-f]{64}|md5:[0-9a-f]{32}", part.digest)
        if part.digest is None or not part.size:
            assert "unverified" in data.checked
    # What stands on a private site is never opened.
    assert not any(
        host in address
        for part in data.parts
        for address in part.addresses
        for host in ("drive.google", "kaggle", "dropbox", "baidu")
    )
    assert (
        "ours" in data.splits or "those of the set" in data.splits or "those of the challenge" in data.splits
    )
    with pytest.raises(SystemExit) as stop:
        main(data, ["--help"])
    shown = capsys.readouterr().out
    assert stop.value.code == 0 and data.licence.split(" (")[0] in shown and f"data/{data.name}" in shown


@pytest.mark.parametrize("data", [data for data in SETS if data.by_hand], ids=lambda data: data.name)
def test_sets_by_hand_open_nothing(data, tmp_path, capsys):
    assert main(data, ["--out", str(tmp_path / "x"), "--yes"]) == 2
    assert "This script opens no address" in capsys.readouterr().out and not (tmp_path / "x").exists()


def test_readme_is_what_the_records_say():
    text = readme.PATH.read_text(encoding="utf-8")
    assert readme.text(text) == text, "run python data_scripts/readme.py"
    for data in SETS:
        assert f"data_scripts/{data.name}.py" in text and data.licence in text
    changed = text.replace("46 MB", "47 MB")
    assert readme.text(changed) == text != changed


def test_every_script_is_in_the_readme():
    scripts = {path.stem for path in readme.PATH.parent.glob("*.py")}
    assert scripts - set(readme.SETS) == {"convert", "download", "readme", "record", "unpack"}
