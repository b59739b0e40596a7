"""Hostile and broken archives: nothing outside the target, nothing half-done inside."""

import io
import random
import struct
import tarfile
import zipfile

import pytest
import unpack as module
from unpack import Limits, UnpackError, unpack


def zipped(path, members, **options):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, **options) as file:
        for name, content in members:
            info = name if isinstance(name, zipfile.ZipInfo) else zipfile.ZipInfo("x")
            if info is not name:
                info.filename = info.orig_filename = name  # ZipInfo would tidy up a bad name
            info.compress_type = zipfile.ZIP_DEFLATED
            file.writestr(info, content)
    return path


def tarred(path, members, mode="w:gz"):
    with tarfile.open(path, mode) as file:
        for member, content in members:
            info = member if isinstance(member, tarfile.TarInfo) else tarfile.TarInfo(member)
            if content is not None:
                info.size = len(content)
            file.addfile(info, io.BytesIO(content or b""))
    return path


def special(name, kind, link=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


@pytest.fixture
def place(tmp_path):
    (tmp_path / "in").mkdir()
    return tmp_path / "in"


def refused(archive, place, message, limits=None):
    with pytest.raises(UnpackError, match=message):
        unpack(archive, place / "set", limits)
    assert list(place.iterdir()) == []  # no target, no temporary folder
    outside = {f.name for f in place.parent.iterdir()}
    assert outside == {"in", archive.name}
    good = zipped(place.parent / "good.zip", [("a.txt", b"a")])
    assert (unpack(good, place / "set") / "a.txt").read_bytes() == b"a"  # and the next one works


@pytest.mark.parametrize("kind", ["zip", "w", "w:gz"])
def test_good_archives(tmp_path, place, kind):
    members = [("set/images/a.jpg", b"picture"), ("set/masks/a.png", b"")]
    if kind == "zip":
        archive = zipped(tmp_path / "x", [("set/", b""), *members])
    else:
        archive = tarred(tmp_path / "x", [(special("set", tarfile.DIRTYPE), None), *members], kind)
    target = unpack(archive, place / "set")
    assert (target / "set/images/a.jpg").read_bytes() == b"picture" and (target / "set/masks/a.png").is_file()
    assert [f.name for f in place.iterdir()] == ["set"] and target.stat().st_mode & 0o755 == 0o755


BAD_NAMES = [
    "../out.txt",
    "a/../../out.txt",
    "/etc/out.txt",
    "C:/out.txt",
    "C:out.txt",
    "..\\out.txt",
    "\\out.txt",
    "\\\\host\\share\\out.txt",
    "a/b:stream",
    "a\x00b",
    "a\nb",
]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_zip_names_that_lead_out(tmp_path, place, name):
    refused(
        zipped(tmp_path / "bad.zip", [("fine.txt", b"1"), (name, b"2")]), place, "leads out of the folder"
    )


@pytest.mark.parametrize("name", [n for n in BAD_NAMES if "\x00" not in n])
def test_tar_names_that_lead_out(tmp_path, place, name):
    refused(
        tarred(tmp_path / "bad.tar", [("fine.txt", b"1"), (name, b"2")]), place, "leads out of the folder"
    )


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_tar_links_and_devices(tmp_path, place, kind):
    archive = tarred(tmp_path / "bad.tar", [("a", b"1"), (special("b", kind, "a"), None), ("b/c", b"2")])
    refused(archive, place, "'b' is a link or a device")


@pytest.mark.parametrize("mode", [0o120777, 0o020666, 0o010666])
def test_zip_links_and_devices(tmp_path, place, mode):
    info = zipfile.ZipInfo("link")
    info.create_system, info.external_attr = 3, mode << 16
    refused(zipped(tmp_path / "bad.zip", [(info, b"/etc/passwd")]), place, "is a link or a device")


def test_bomb_by_ratio(tmp_path, place):
    archive = zipped(tmp_path / "bomb.zip", [("zeros", bytes(30_000_000))])
    assert archive.stat().st_size < 40_000
    refused(archive, place, "unpacks to more than")
    tar = tarred(tmp_path / "bomb.tar", [("zeros", bytes(30_000_000))])
    with pytest.raises(UnpackError, match="unpacks to more than"):
        unpack(tar, place / "other")


def test_bomb_by_total(tmp_path, place):
    members = [(f"{i}", bytes(1000)) for i in range(20)]
    refused(zipped(tmp_path / "bomb.zip", members), place, "more than 15000 bytes", Limits(total=15_000))


def patched_sizes(archive, old, new):
    """Changes the declared size in the local and the central header of a zip file."""
    data = archive.read_bytes()
    assert data.count(struct.pack("<I", old)) == 2
    archive.write_bytes(data.replace(struct.pack("<I", old), struct.pack("<I", new)))
    return archive


def test_header_that_understates(tmp_path, place):
    archive = patched_sizes(zipped(tmp_path / "bomb.zip", [("zeros", bytes(30_000_001))]), 30_000_001, 100)
    refused(archive, place, "is damaged")


def test_header_that_overstates(tmp_path, place):
    archive = patched_sizes(zipped(tmp_path / "lie.zip", [("few", bytes(54_321))]), 54_321, 99_999_999)
    refused(archive, place, "is damaged|its header says")


def test_too_many_files(tmp_path, place):
    archive = zipped(tmp_path / "many.zip", [(f"{i}", b"") for i in range(12)])
    refused(archive, place, "holds more than 10 files", Limits(files=10))


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(
    "names",
    [
        ("a.txt", "a.txt"),
        ("A.txt", "a.TXT"),
        ("a", "a/b"),
        ("a/b", "a"),
        ("X/a", "x/b"),
        ("é", "e\u0301"),
        ("a", "./a"),
    ],
)
def test_names_that_collide(tmp_path, place, names):
    archive = zipped(tmp_path / "twice.zip", [(name, b"1") for name in names])
    refused(archive, place, "collides with")
    tar = tarred(tmp_path / "twice.tar", [(name, b"1") for name in names])
    with pytest.raises(UnpackError, match="collides with"):
        unpack(tar, place / "other")


def test_folders_may_be_named_twice(tmp_path, place):
    archive = zipped(tmp_path / "x.zip", [("a/", b""), ("a/b.txt", b"1"), ("a/c.txt", b"1")])
    assert len(list((unpack(archive, place / "set") / "a").iterdir())) == 2


@pytest.mark.parametrize("keep", [0.3, 0.55, 0.9])
def test_cut_archives(tmp_path, place, keep):
    members = [(name, random.Random(name).randbytes(5_120)) for name in "abcdefghij"]
    for archive in (
        zipped(tmp_path / "cut.zip", members),
        tarred(tmp_path / "cut.tgz", members),
        tarred(tmp_path / "cut.tar", members, "w"),
    ):
        size = 10 * (5_120 + 512)  # of the members in the tar file: these cuts lie between two of them
        archive.write_bytes(archive.read_bytes()[: int(size * keep)])
        with pytest.raises(UnpackError):
            unpack(archive, place / "set")
        assert list(place.iterdir()) == []


def test_flipped_bit(tmp_path, place):
    archive = zipped(tmp_path / "bad.zip", [("a", bytes(range(256)) * 50)])
    data = bytearray(archive.read_bytes())
    data[80] ^= 4
    archive.write_bytes(data)
    refused(archive, place, "is damaged")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\n<!DOCTYPE html><html>Sign in", "is a web page, not an archive"),
        (b"Rar!\x1a\x07", "is a RAR archive"),
        (b"", "is no zip or tar file"),
    ],
)
def test_no_archive(tmp_path, place, content, message):
    archive = tmp_path / "set.zip"
    archive.write_bytes(content)
    refused(archive, place, message)


def test_empty_and_encrypted(tmp_path, place):
    refused(zipped(tmp_path / "empty.zip", []), place, "is empty")
    archive = zipped(tmp_path / "locked.zip", [("a", b"1")])
    data = bytearray(archive.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(signature) + offset] |= 1
    archive.write_bytes(data)
    with pytest.raises(UnpackError, match="is encrypted"):
        unpack(archive, place / "other")


def test_target_that_is_there(tmp_path, place):
    (place / "set").mkdir()
    with pytest.raises(UnpackError, match="exists already"):
        unpack(zipped(tmp_path / "x.zip", [("a", b"1")]), place / "set")


def test_interrupted(tmp_path, place, monkeypatch):
    archive = zipped(tmp_path / "x.zip", [("a", b"1"), ("b", b"2")])
    real, calls = module._claim, []

    def second_time(*args):
        calls.append(args)
        if len(calls) == 2:
            raise KeyboardInterrupt
        real(*args)

    monkeypatch.setattr(module, "_claim", second_time)
    with pytest.raises(KeyboardInterrupt):
        unpack(archive, place / "set")
    assert list(place.iterdir()) == []
    monkeypatch.undo()
    assert unpack(archive, place / "set").is_dir()
