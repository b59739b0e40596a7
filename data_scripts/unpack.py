"""Unpack an archive that nobody vouches for: everything lands inside the target, or nothing is left."""

import re
import shutil
import stat
import tarfile
import tempfile
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

CHUNK = 1 << 18
MAGIC = {b"Rar!": "a RAR archive", b"7z\xbc\xaf": "a 7-Zip archive", b"<": "a web page, not an archive"}


class UnpackError(Exception):
    """The archive is broken or hostile; nothing of it was kept."""


@dataclass(frozen=True)
class Limits:
    """Far above every data set here, far below what fills a disk by surprise."""

    files: int = 200_000
    total: int = 60 * 10**9  # bytes written
    ratio: float = 100  # bytes written per byte of the archive …
    slack: int = 10 * 10**6  # … beyond these first ones, for black masks shrink a thousandfold


def unpack(archive: Path, target: Path, limits: Limits | None = None) -> Path:
    """Unpack a zip or tar(.gz) file into ``target``, which must not exist and appears when all is well."""
    if target.exists():
        raise UnpackError(f"{target} exists already; move it away first")
    target.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".unpacking", dir=target.parent))
    try:
        work.chmod(0o755)  # mkdtemp's is for its owner only
        _write_all(archive, work, limits or Limits())
        work.rename(target)
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, NotImplementedError) as error:
        raise UnpackError(f"{archive} is damaged: {error or type(error).__name__}; get it again") from None
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return target


def _write_all(archive: Path, work: Path, limits: Limits) -> None:
    allowed = min(limits.total, limits.slack + limits.ratio * archive.stat().st_size)
    taken: dict[str, tuple[str, str]] = {}  # name as a file system without cases sees it → (kind, name)
    written = count = 0
    for name, folder, declared, source in _members(archive):
        count += 1
        if count > limits.files:
            raise UnpackError(f"{archive} holds more than {limits.files} files")
        path = _safe(archive, name)
        _claim(archive, path, folder, taken)
        if folder:
            (work / path).mkdir(parents=True, exist_ok=True)
            continue
        (work / path).parent.mkdir(parents=True, exist_ok=True)
        before = written
        with source, (work / path).open("xb") as file:
            # Counted as it comes: what the headers say may be a lie.
            while chunk := source.read(CHUNK):
                written += len(chunk)
                if written > allowed:
                    raise UnpackError(
                        f"{archive} unpacks to more than {allowed:.0f} bytes: a bomb, or a limit set too low"
                    )
                file.write(chunk)
        if written - before != declared:
            raise UnpackError(f"{archive}: {name!r} has {written - before} bytes, its header says {declared}")
    if not count:
        raise UnpackError(f"{archive} is empty")


def _members(archive: Path) -> Iterator[tuple[str, bool, int, IO[bytes] | None]]:
    """(name, is a folder, declared size, content) of each member; links and devices are errors."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as file:
            for info in file.infolist():
                kind = stat.S_IFMT(info.external_attr >> 16)
                if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                    raise UnpackError(f"{archive}: {info.filename!r} is a link or a device; not unpacked")
                if info.flag_bits & 1:
                    raise UnpackError(f"{archive}: {info.filename!r} is encrypted; unpack it yourself")
                # The name before zipfile cuts it at a NUL byte.
                folder = info.is_dir()
                yield info.orig_filename, folder, info.file_size, None if folder else file.open(info)
    elif tarfile.is_tarfile(archive):
        with tarfile.open(archive) as file:
            for member in file:
                if not member.isfile() and not member.isdir():
                    raise UnpackError(f"{archive}: {member.name!r} is a link or a device; not unpacked")
                source = None if member.isdir() else file.extractfile(member)
                yield member.name, member.isdir(), member.size, source
            # tarfile takes a missing end for the end: a file cut between two members would look whole.
            file.fileobj.seek(file.offset)
            if file.fileobj.read(512) != bytes(512):
                raise tarfile.ReadError("its end is missing")
    else:
        head = archive.open("rb").read(64).lstrip()
        kind = next((text for magic, text in MAGIC.items() if head.startswith(magic)), "no zip or tar file")
        raise UnpackError(
            f"{archive} is {kind}; should be zip, tar or tar.gz (or unpack it yourself: see --help)"
        )


def _safe(archive: Path, name: str) -> PurePosixPath:
    """The member's path below the target; UnpackError if it leads elsewhere on any system."""
    text = name.replace("\\", "/")
    path = PurePosixPath(text)
    if text.startswith("/") or ":" in text or ".." in path.parts or re.search(r"[\x00-\x1f]", text):
        raise UnpackError(f"{archive}: the name {name!r} leads out of the folder; nothing was unpacked")
    if not path.parts and text.strip("./"):
        raise UnpackError(f"{archive}: {name!r} is no name for a file")
    return path


def _claim(archive: Path, path: PurePosixPath, folder: bool, taken: dict[str, tuple[str, str]]) -> None:
    """Every name once, also on systems that do not tell A from a; no file where a folder is."""
    for number in range(1, len(path.parts) + 1):
        here = "/".join(path.parts[:number])
        kind = "folder" if folder or number < len(path.parts) else "file"
        key = unicodedata.normalize("NFC", here).casefold()
        if key not in taken:
            taken[key] = (kind, here)
        elif (kind, taken[key]) != ("folder", ("folder", here)):
            raise UnpackError(f"{archive}: {here!r} collides with the {' '.join(taken[key])!r}")
