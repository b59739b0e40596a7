"""What a data set is, where it comes from, under which terms; and the command line all scripts share."""

import argparse
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from convert import UNREADABLE, ConvertError, Writer
from download import DownloadError, check, digest_of, fetch, human, need_space, only_one
from unpack import UnpackError, unpack


@dataclass(frozen=True)
class Part:
    """One archive: file name, addresses to try in order, "sha256:…" or "md5:…" or None, size in bytes."""

    name: str
    addresses: tuple[str, ...] = ()
    digest: str | None = None
    size: int = 0


@dataclass(frozen=True)
class DataSet:
    """A data set. What could not be established says "unverified", and why.

    ``convert(sources, writer)`` finds the unpacked files below the folders ``sources``, one for each archive,
    and adds every pair to the writer. ``gather(downloads, fetching)``, if given, replaces the download.
    """

    name: str
    title: str
    home: str
    licence: str
    licence_address: str
    citation: str
    classes: tuple[str, ...]
    splits: str
    parts: tuple[Part, ...]
    checked: str  # how addresses, sizes and checksums are known
    layout: str  # how the layout of the archive is known
    convert: Callable[[list[Path], Writer], None]
    unpacked: int  # bytes needed on disk after unpacking and conversion together
    by_hand: str = ""  # why and how the user has to fetch the files
    notes: str = ""
    gather: Callable[[Path, dict], Path] | None = None

    @property
    def size(self) -> int:
        return sum(part.size for part in self.parts)

    def describe(self) -> str:
        """Everything a user should know before a byte is fetched."""
        size = f"about {human(self.size)}" if self.size else "unverified"
        rows = [
            ("Home", self.home),
            ("Licence", self.licence),
            ("Its text", self.licence_address),
            ("Cite", self.citation),
            ("Download", size),
            ("On disk", f"about {human(self.unpacked)} more"),
            ("Classes", ", ".join(self.classes)),
            ("Splits", self.splits),
            ("Verified", self.checked),
            ("Layout", self.layout),
            ("By hand", self.by_hand),
            ("Note", self.notes),
        ]
        return "\n".join([self.title, *(f"  {name:<9} {text}" for name, text in rows if text)])

    def readme(self) -> str:
        lines = [f"- {line.strip()}" for line in self.describe().splitlines()]
        return f"# {self.name}\n\n" + "\n".join(lines)


def main(data: DataSet, arguments: Sequence[str] | None = None, **fetching) -> int:
    """The command line of a data set; returns the exit status. ``fetching`` goes to the downloader."""
    options = _parser(data).parse_args(arguments)
    out = options.out
    print(data.describe())
    if out.is_file() or (out.exists() and any(out.iterdir())):
        print(f"\n{out} is there already; nothing to do. (Delete it to start again.)")
        return 0
    if data.by_hand and not options.file:
        print(f"\nThis script opens no address: {data.by_hand}\nThen: --file PATH")
        return 0 if options.dry_run else 2
    if options.dry_run:
        for part in data.parts if not options.file else ():
            addresses = " or ".join(part.addresses)
            print(f"would fetch {part.name} from {addresses}, {part.digest or 'no checksum known'}")
        print(f"would write {out}")
        return 0
    try:
        size = data.unpacked + (0 if options.file else data.size)
        need_space(out.absolute().parent, size, fetching.get("usage", shutil.disk_usage))
        if not options.yes and not _agreed():
            print("nothing was done")
            return 1
        with only_one(out):
            _make(data, options, fetching)
    except (DownloadError, UnpackError, ConvertError) as error:
        print(f"\n✗ {error}", file=sys.stderr)
        return 1
    except UNREADABLE as error:
        print(f"\n✗ {type(error).__name__}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"\nstopped; run it again to go on. {out} was not made.", file=sys.stderr)
        return 130
    print(f"\n✓ {out}\nCheck it: python -m moe_lib.datasets {out}")
    return 0


def _parser(data: DataSet) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=data.describe(), formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--out", type=Path, default=Path("data") / data.name, help="folder to make (default: %(default)s)")
    own = "an archive, or a folder with its contents, that you have already; give it once for each part"
    add("--file", type=Path, action="append", metavar="PATH", help=own)
    add("--downloads", type=Path, default=None, help="where archives go (default: downloads, beside --out)")
    add("--sha256", metavar="HEX", help="what the (one) archive must have, instead of the one on record")
    add("--yes", action="store_true", help="do not ask")
    add("--dry-run", action="store_true", help="show what would be done, and do nothing")
    return parser


def _agreed() -> bool:
    try:
        return input("\nDo you accept these terms, and shall I go on? [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        print("\nnobody is here to ask; --yes says yes")
        return False


def _make(data: DataSet, options: argparse.Namespace, fetching: dict) -> None:
    """Fetch, unpack and convert in a folder beside the target, which is renamed when all is done."""
    out = options.out
    work = out.with_name(f".{out.name}.work")
    shutil.rmtree(work, ignore_errors=True)  # left by a run that was killed: it no longer holds the lock
    work.mkdir(parents=True)
    try:
        sources = _sources(data, options, work, fetching)
        writer = Writer(work / "made", data.classes)
        writer.root.mkdir()
        data.convert(sources, writer)
        writer.finish(data.readme())
        if out.exists():
            out.rmdir()  # empty: main has looked
        writer.root.rename(out)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    for line in writer.left_out:
        print(f"left out, sizes differ: {line}")


def _sources(data: DataSet, options: argparse.Namespace, work: Path, fetching: dict) -> list[Path]:
    """The contents of the archives, each in a folder of its own."""
    downloads = options.downloads or options.out.parent / "downloads"
    if options.sha256 and len(options.file or data.parts) != 1:
        raise DownloadError("--sha256 is for sets of one archive")
    if not options.file and data.gather:
        return [data.gather(downloads / data.name, fetching)]
    archives = []
    if options.file:
        archives = [_own_file(data, path, options.sha256) for path in options.file]
    else:
        for part in data.parts:
            digest = f"sha256:{options.sha256.lower()}" if options.sha256 else part.digest
            archives.append(fetch(part.addresses, downloads / part.name, digest=digest, **fetching))
    sources = []
    for number, archive in enumerate(archives):
        if archive.is_dir():
            sources.append(archive)
        else:
            print(f"unpacking {archive.name}")
            try:
                sources.append(unpack(archive, work / str(number)))
            except UnpackError:
                if not options.file:  # else the next run would take it for a finished download
                    archive.replace(archive.with_name(archive.name + ".wrong"))
                raise
    return sources


def _own_file(data: DataSet, path: Path, sha256: str | None) -> Path:
    """A file of the user: compared with what is on record for its name, and otherwise taken with a word."""
    if not path.exists():
        raise DownloadError(f"{path} does not exist")
    if path.is_dir():
        return path
    known = next((part.digest for part in data.parts if part.name == path.name), None)
    digest = f"sha256:{sha256.lower()}" if sha256 else known
    wrong = check(path, digest)
    if wrong:
        raise DownloadError(
            f"{path} {wrong}; if you trust it, say --sha256 {digest_of(path).partition(':')[2]}"
        )
    if digest is None:
        print(f"{path.name}: no checksum is known to compare with; it has {digest_of(path)}")
    return path
