"""From the files of a data set to the folder form that ``moe_lib.datasets.folder`` reads."""

import csv
import hashlib
import shutil
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError
from tqdm import tqdm

SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp")


class ConvertError(Exception):
    """The files are not in the layout that the script knows."""


def find(sources: Sequence[Path], *choices: str) -> Path:
    """The one folder in or below ``sources`` that ends with one of ``choices`` (the first that occurs)."""
    below = [f for source in sources for f in sorted(source.rglob("*"))]
    folders = [*sources, *(f for f in below if f.is_dir() and "__MACOSX" not in f.parts)]
    for choice in choices:
        wanted = tuple(choice.casefold().split("/"))
        found = [f for f in folders if tuple(p.casefold() for p in f.parts[-len(wanted) :]) == wanted]
        if len(found) == 1:
            return found[0]
        if found:
            raise ConvertError(f"there are {len(found)} folders {choice!r}: {', '.join(map(str, found[:3]))}")
    there = ", ".join(sorted({f.name for f in folders[len(sources) :]})[:8]) or "none"
    raise ConvertError(f"there should be a folder {' or '.join(map(repr, choices))}; there are: {there}")


def has(sources: Sequence[Path], *choices: str) -> bool:
    try:
        find(sources, *choices)
    except ConvertError:
        return False
    return True


def folder_with(sources: Sequence[Path], name: str) -> Path | None:
    """The one folder that holds a file of this name; None if there is no such file."""
    found = [f.parent for source in sources for f in sorted(source.rglob(name)) if "__MACOSX" not in f.parts]
    if len(found) > 1:
        raise ConvertError(f"there are {len(found)} files {name!r}, in {', '.join(map(str, found[:3]))}")
    return found[0] if found else None


def images_in(folder: Path, suffixes: Sequence[str] = SUFFIXES) -> dict[str, Path]:
    """stem → file, in the order of the names."""
    return {
        f.stem: f
        for f in sorted(folder.iterdir())
        if f.is_file() and f.suffix.lower() in suffixes and not f.name.startswith(".")
    }


def pairs(
    images: Path, masks: Path, mask_suffix: str = "", suffixes: Sequence[str] = SUFFIXES
) -> list[tuple[str, Path, Path]]:
    """(stem, image, mask) of two folders whose masks are called stem + ``mask_suffix``; none may lack."""
    pictures, labels = images_in(images, suffixes), images_in(masks)
    missing = [stem for stem in pictures if stem + mask_suffix not in labels]
    if not pictures:
        raise ConvertError(f"{images} has no picture ({', '.join(suffixes)})")
    if missing:
        raise ConvertError(
            f"{masks} has no mask {missing[0] + mask_suffix!r}; {len(missing)} are missing in all"
        )
    return [(stem, path, labels[stem + mask_suffix]) for stem, path in pictures.items()]


def listed(table: Path) -> list[tuple[str, Path, Path]]:
    """(id, image, mask) of a CSV file with the columns image and label, whose paths are relative to it."""
    root = table.parent.resolve()
    files = []
    with table.open(newline="", encoding="utf-8") as rows:
        for row in csv.DictReader(rows):
            image, mask = ((root / (row.get(key) or "?")).resolve() for key in ("image", "label"))
            for path in (image, mask):
                if not path.is_relative_to(root) or not path.is_file():
                    raise ConvertError(f"{table} names {path}, which is not in the archive")
            files.append((image.stem, image, mask))
    if not files:
        raise ConvertError(f"{table} lists nothing; should have the columns image and label")
    return files


def every_tenth(names: Iterable[str]) -> set[str]:
    """Our choice of a validation part where a set has none: the 10th, 20th … of the sorted names."""
    return set(sorted(names)[9::10])


def binary(path: Path, *, above: int = 127) -> np.ndarray:
    """(H, W) of 0 and 1: grey values above a threshold. JPEG masks are not exactly 0 and 255."""
    with Image.open(path) as image:
        # A palette first becomes colours, else its indices would be compared.
        grey = image.convert("RGB").convert("L") if image.mode in ("P", "PA") else image.convert("L")
        return (np.array(grey) > above).astype(np.uint8)


class Writer:
    """Collects pairs into ``root``; :meth:`finish` writes classes, manifest and what was left out."""

    def __init__(self, root: Path, classes: Sequence[str]) -> None:
        self.root, self.classes = root, tuple(classes)
        self.counts: Counter = Counter()
        self.left_out: list[str] = []

    def add_all(self, split: str, files: Sequence[tuple[str, Path, Path]], read_mask=binary) -> None:
        """Every (id, image, mask file) of a split."""
        for name, image, mask in tqdm(files, desc=split, disable=None):
            self.add(split, name, image, read_mask(mask))

    def add(self, split: str, name: str, image: Path, mask: np.ndarray) -> None:
        """One pair. JPEG and PNG files are copied as they are; everything else becomes a PNG without loss."""
        if mask.max(initial=0) >= len(self.classes):
            raise ConvertError(
                f"the mask of {image} has id {mask.max()}; the set has {len(self.classes)} classes"
            )
        with Image.open(image) as picture:
            if picture.size != mask.shape[::-1]:
                size = f"{picture.size[0]}×{picture.size[1]}"
                self.left_out.append(f"{split}/{name}: picture {size}, mask {mask.shape[1]}×{mask.shape[0]}")
                return
            keep = picture.format in ("JPEG", "PNG") and picture.mode in ("RGB", "L")
            suffix = ".jpg" if keep and picture.format == "JPEG" else ".png"
            target = self.root / split / "images" / (name + suffix)
            if target.with_suffix(".jpg").exists() or target.with_suffix(".png").exists():
                raise ConvertError(f"{image}: there is already a picture {name!r} in {split}")
            target.parent.mkdir(parents=True, exist_ok=True)
            if keep:
                shutil.copyfile(image, target)
            else:
                picture.convert("RGB").save(target)
        (self.root / split / "masks").mkdir(parents=True, exist_ok=True)
        Image.fromarray(mask.astype(np.uint8)).save(self.root / split / "masks" / f"{name}.png")
        self.counts[split] += 1

    def finish(self, about: str) -> None:
        """classes.txt, README.md (``about`` and the counts) and manifest.sha256."""
        total = sum(self.counts.values())
        if not total or len(self.left_out) > max(3, 0.02 * total):
            first = "; ".join(self.left_out[:3])
            raise ConvertError(
                f"{len(self.left_out)} pairs do not fit, {total} do: {first or 'nothing was found'}"
            )
        lines = [f"{i} {name}\n" for i, name in enumerate(self.classes)]
        (self.root / "classes.txt").write_text("".join(lines), encoding="utf-8")
        counts = ", ".join(f"{split} {number}" for split, number in self.counts.items())
        text = f"{about}\n- Counts: {counts}\n" + "".join(f"- Left out: {line}\n" for line in self.left_out)
        (self.root / "README.md").write_text(text, encoding="utf-8")
        files = sorted(f for f in self.root.rglob("*") if f.is_file() and f.name != "README.md")
        manifest = [
            f"{hashlib.sha256(f.read_bytes()).hexdigest()}  {f.relative_to(self.root).as_posix()}\n"
            for f in files
        ]
        (self.root / "manifest.sha256").write_text("".join(manifest), encoding="utf-8")


UNREADABLE = (UnidentifiedImageError, OSError, SyntaxError, Image.DecompressionBombError)
