"""Fetch one file over HTTP so that it is either whole and checked, or not there.

Bytes go to ``NAME.part``; beside it ``NAME.part.json`` notes which version of the file they belong to. Only a
complete file with the right checksum is renamed to ``NAME``.
"""

import hashlib
import http.client
import json
import os
import shutil
import ssl
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from tqdm import tqdm

CHUNK = 1 << 18
AGENT = "segmenting-with-experts (data_scripts)"


class DownloadError(Exception):
    """A file could not be fetched; the message says why, for each address."""


class _Again(Exception):
    """Worth another attempt: a dropped connection, a busy server."""


class _GiveUp(Exception):
    """No use asking this address again."""


class _NoDowngrade(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, request, *rest):
        if request.full_url.startswith("https:") and not rest[-1].startswith("https:"):
            raise _GiveUp(f"is redirected to the unencrypted {rest[-1]}")
        return super().redirect_request(request, *rest)


_opener = urllib.request.build_opener(_NoDowngrade)


def digest_of(path: Path, kind: str = "sha256") -> str:
    with path.open("rb") as file:
        return f"{kind}:{hashlib.file_digest(file, kind).hexdigest()}"


def check(path: Path, digest: str | None) -> str | None:
    """None if the file has this digest ("sha256:…" or "md5:…"), else a sentence that says what it has."""
    if digest is None:
        return None
    found = digest_of(path, digest.partition(":")[0])
    return None if found == digest else f"has {found}, should have {digest}"


def need_space(folder: Path, size: int, usage: Callable = shutil.disk_usage) -> None:
    """DownloadError unless ``size`` bytes (and 5 % to spare) fit on the disk of ``folder``."""
    while not folder.exists():
        folder = folder.parent
    free = usage(folder).free
    if free < size * 1.05:
        raise DownloadError(f"{human(size)} are needed in {folder} and {human(free)} are free")


def human(size: float) -> str:
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"


@contextmanager
def only_one(path: Path) -> Iterator[None]:
    """Hold the lock of ``path``; DownloadError if another process has it. It ends with its process."""
    lock = path.with_name(f".{path.name}.lock")
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("a+b") as file:
        try:
            if os.name == "nt":
                import msvcrt

                msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
            else:
                import fcntl

                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # The owner before us may have removed the file between our opening and our locking it.
                if not os.path.samestat(os.fstat(file.fileno()), lock.stat()):
                    raise OSError
        except OSError:
            raise DownloadError(f"another process is working on {path}; wait for it or end it") from None
        try:
            yield
        finally:
            if os.name != "nt":
                lock.unlink(missing_ok=True)


def fetch(
    addresses: Sequence[str],
    target: Path,
    *,
    digest: str | None = None,
    attempts: int = 5,
    wait: Callable[[int], None] = lambda attempt: time.sleep(2**attempt),
    timeout: float = 30,
    usage: Callable = shutil.disk_usage,
    progress: bool = True,
    quiet: bool = False,
) -> Path:
    """Make ``target`` the file that one of the addresses (tried in order) delivers, and check its digest.

    A target that is already there is checked too; a wrong one is moved to ``NAME.wrong`` and fetched again.
    ``wait(attempt)`` is called between two attempts; ``quiet`` does not remark that no digest is known.
    """
    with only_one(target):
        if target.exists():
            wrong = check(target, digest)
            if wrong is None:
                return target
            print(f"{target} {wrong}: moved to {target.name}.wrong", file=sys.stderr)
            target.replace(target.with_name(target.name + ".wrong"))
        reasons = []
        for address in addresses:
            try:
                _from_one(address, target, digest, attempts, wait, timeout, usage, progress, quiet)
                return target
            except _GiveUp as reason:
                reasons.append(f"{address} {reason}")
        raise DownloadError("; ".join(reasons) or f"there is no address for {target.name}")


def _from_one(address, target, digest, attempts, wait, timeout, usage, progress, quiet) -> None:
    """One address: attempts, checks, and the final rename; _GiveUp if it cannot be."""
    if urlsplit(address).scheme not in ("http", "https"):
        raise _GiveUp("is no http or https address")
    part = target.with_name(target.name + ".part")
    failures = farthest = 0
    while True:
        try:
            complete = _stream(address, part, timeout, usage, progress)
            break
        except _Again as reason:
            have = part.stat().st_size if part.exists() else 0
            failures = 1 if have > farthest else failures + 1  # what gets on is not counted as failing
            farthest = max(farthest, have)
            if failures >= attempts:
                raise _GiveUp(f"failed {attempts} times, last because it {reason}") from None
            wait(failures - 1)
    wrong = check(part, digest)
    if wrong is not None:
        _discard(part)
        raise _GiveUp(f"delivered a file that {wrong}; it was thrown away")
    if digest is None and not quiet:
        print(f"{target.name}: no checksum is known to compare with; it has {digest_of(part)}")
    if digest is None and not complete:
        print(f"{target.name}: no checksum is known and the server named no length: it may be cut short")
    part.replace(target)
    _discard(part)


def _discard(part: Path) -> None:
    part.unlink(missing_ok=True)
    _note_of(part).unlink(missing_ok=True)


def _note_of(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def _resumable(part: Path, address: str) -> tuple[int, dict]:
    """(bytes that can be kept, what is known about the version they belong to)."""
    try:
        note = json.loads(_note_of(part).read_text())
        have = part.stat().st_size
    except (OSError, ValueError):
        return 0, {}
    # Without a validator nobody can tell whether the rest still belongs to the same file.
    known = note.get("address") == address and (note.get("etag") or note.get("modified"))
    return (have, note) if known and 0 < have <= (note.get("size") or have) else (0, {})


def _stream(address: str, part: Path, timeout: float, usage: Callable, progress: bool) -> bool:
    """Add to ``part`` until it is whole. True if the server named a length, and that is what came."""
    have, note = _resumable(part, address)
    if have and have == note["size"]:
        return True
    headers = {"User-Agent": AGENT, "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
        strong = note["etag"] if not (note["etag"] or "W/").startswith("W/") else note["modified"]
        headers |= {"If-Range": strong} if strong else {}
    try:
        with _opener.open(urllib.request.Request(address, headers=headers), timeout=timeout) as response:
            now = {
                "address": address,
                "etag": response.headers.get("ETag"),
                "modified": response.headers.get("Last-Modified"),
            }
            if response.status == 206 and not _continues(response, have, note, now):
                _discard(part)
                raise _Again("has changed the file since the first part came")
            if response.status != 206:
                have = 0  # the whole file: the server ignores ranges, or the file has changed
            length = response.headers.get("Content-Length")
            total = have + int(length) if length is not None else None
            need_space(part.parent, (total or 0) - have, usage)
            if not have:
                part.unlink(missing_ok=True)
                _note_of(part).write_text(json.dumps(now | {"size": total}))
            _copy(response, part, have, total, progress)
            return total is not None
    except urllib.error.HTTPError as error:
        if error.code == 416:
            _discard(part)
        if error.code >= 500 or error.code in (408, 416, 429):
            raise _Again(f"answered {error.code} {error.reason}") from None
        raise _GiveUp(f"answered {error.code} {error.reason}") from None
    except urllib.error.URLError as error:
        if isinstance(error.reason, ssl.SSLCertVerificationError):
            raise _GiveUp(
                f"has a certificate that cannot be verified ({error.reason.verify_message}); "
                f"fetch it with a browser and pass it with --file"
            ) from None
        raise _Again(f"could not be reached: {error.reason}") from None
    except (http.client.HTTPException, ConnectionError, TimeoutError, ssl.SSLError) as error:
        raise _Again(f"broke off: {error or type(error).__name__}") from None


def _continues(response: http.client.HTTPResponse, have: int, note: dict, now: dict) -> bool:
    """Whether a partial answer starts where we stopped and belongs to the same version of the file."""
    start, _, total = response.headers.get("Content-Range", "").removeprefix("bytes ").partition("/")
    if start.partition("-")[0] != str(have) or (note.get("size") and total not in ("*", str(note["size"]))):
        return False
    return all(now[key] is None or now[key] == note[key] for key in ("etag", "modified"))


def _copy(response, part: Path, have: int, total: int | None, progress: bool) -> None:
    name = part.name.removesuffix(".part")
    bar = tqdm(
        total=total, initial=have, unit="B", unit_scale=True, desc=name, disable=None if progress else True
    )
    with bar, part.open("ab") as file:
        while chunk := response.read(CHUNK):
            file.write(chunk)
            have += len(chunk)
            bar.update(len(chunk))
    if total is not None and have != total:
        raise _Again(f"broke off after {have} of {total} bytes")
