"""What lies in a data folder, and how one file of it becomes an array. Whatever is wrong is a DataError.

classes.txt                     one line per class: "0 sky", ids from 0 upwards
<split>/images/<id>.jpg|png     8-bit pictures
<split>/masks/<id>.png          one channel of class ids (or of instance ids, 0 = none)
<split>/depths/<id>.png         optional, 8 or 16 bit, 0 = no measurement
refs_<split>.json               optional: [{"image", "instance", "sentences", ...}, ...]
prompts_<split>.json            optional: {id: {"p1": sentence or [sentence, ...], ...}}
map*.json                       optional: {"names": [...], "map": {"0": 11, ...}}, 255 = ignore
"""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

IGNORE = 255  # in masks: no loss, no score
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


class DataError(ValueError):
    """Something in a data folder is missing, broken or inconsistent; the message names the file.

    Introduced in :doc:`/chapters/pocket_world`.
    """


def read_classes(root: Path) -> tuple[str, ...]:
    """The class names of ``root/classes.txt``, in the order of their ids."""
    path = root / "classes.txt"
    if not root.is_dir():
        raise DataError(f"{root} is no folder; give the folder that holds classes.txt and the splits")
    if not path.is_file():
        raise DataError(f"{path} is missing; it should have one line per class, such as '0 background'")
    names = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        match = re.fullmatch(r"(\d+)\s+(\S.*?)\s*", line)
        if not match or int(match[1]) != len(names):
            raise DataError(f"{path}, line {number}: {line!r}; should be '{len(names)} name of the class'")
        names.append(match[2])
    if not names:
        raise DataError(f"{path} is empty; it should have one line per class, such as '0 background'")
    if len(names) > IGNORE:
        raise DataError(f"{path} has {len(names)} classes; at most {IGNORE}, for id {IGNORE} means: ignore")
    return tuple(names)


def split_names(root: Path) -> list[str]:
    """The splits of a set: train, val, test first, then any others."""
    usual = ["train", "val", "test"]
    found = sorted(f.name for f in root.iterdir() if (f / "images").is_dir() or (f / "masks").is_dir())
    return sorted(found, key=lambda name: (usual.index(name) if name in usual else len(usual), name))


def list_files(folder: Path, suffixes: tuple[str, ...]) -> dict[str, Path]:
    """id → file, sorted by id; two files of one id are an error."""
    files: dict[str, Path] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if path.name.startswith(".") or path.suffix.lower() not in suffixes:
            continue
        if path.stem in files:
            raise DataError(f"{path} and {files[path.stem].name} have the same id; keep one of them")
        files[path.stem] = path
    return files


def list_split(root: Path, split: str, *, depth: bool) -> dict[str, dict[str, Path]]:
    """{"images": {id: file}, "masks": …, "depths": …} of a split, each image with its partners."""
    if not (root / split).is_dir():
        has = ", ".join(split_names(root)) or "no split at all"
        raise DataError(f"{root / split} is missing; {root} has {has}")
    kinds = {"images": IMAGE_SUFFIXES, "masks": (".png",)} | ({"depths": (".png",)} if depth else {})
    files = {kind: list_files(root / split / kind, suffixes) for kind, suffixes in kinds.items()}
    problems = missing_partners(root / split, files)
    if problems:
        more = f" (and {len(problems) - 5} more)" if len(problems) > 5 else ""
        raise DataError("; ".join(problems[:5]) + more)
    if not files["images"]:
        raise DataError(
            f"{root / split / 'images'} has no picture; it should hold <id>.jpg or <id>.png files"
        )
    return files


def missing_partners(folder: Path, files: dict[str, dict[str, Path]]) -> list[str]:
    """One line for each file that lacks its partner, on either side."""
    problems = []
    images = files["images"]
    for kind in (kind for kind in files if kind != "images"):
        for name in sorted(images.keys() - files[kind].keys()):
            problems.append(f"{images[name]} has no partner; {folder / kind / name}.png should exist")
        for name in sorted(files[kind].keys() - images.keys()):
            problems.append(
                f"{files[kind][name]} has no picture; {folder / 'images' / name}.jpg should exist"
            )
    return problems


def _open(path: Path) -> Image.Image:
    try:
        image = Image.open(path)
        image.load()
    except FileNotFoundError:
        raise DataError(f"{path} is missing") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{path} cannot be read as an image ({error}); get the file again") from None
    return image


def png_header(path: Path) -> tuple[int, int]:
    """(bits per channel, channels) as the PNG file itself says: decoders may turn 16 bits into 8 silently."""
    head = path.open("rb").read(26)
    if len(head) < 26 or head[:8] != PNG_SIGNATURE:
        raise DataError(f"{path} is no PNG file (it begins with {head[:8]!r})")
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}.get(head[25])  # the colour types of the PNG format
    if channels is None:
        raise DataError(f"{path} has PNG colour type {head[25]}, which does not exist; get the file again")
    return head[24], channels


def read_image(path: Path) -> np.ndarray:
    """A picture as uint8 (H, W, 3). A rotation noted in EXIF is not applied: masks match the raw pixels."""
    image = _open(path)
    if image.mode not in ("RGB", "L", "P", "RGBA", "LA", "1"):
        raise DataError(f"{path} has pixel form {image.mode}; should be 8-bit grey or RGB")
    return np.array(image.convert("RGB"))


def read_mask(path: Path) -> np.ndarray:
    """Ids as int64 (H, W). A palette is ignored: what counts is the number in each pixel."""
    bits, channels = png_header(path)
    if channels != 1:
        raise DataError(
            f"{path} has {channels} channels; a mask has one, which holds the class id of each pixel"
        )
    image = _open(path)
    ids = np.array(image).astype(np.int64)
    # Pillow spreads grey values of 2 and 4 bits over 0 … 255; ids have to be what was stored.
    return ids // (255 // (2**bits - 1)) if image.mode == "L" and bits < 8 else ids


def read_depth(path: Path, bits: int, per_metre: float) -> np.ndarray:
    """Metres as float32 (H, W), 0 = no measurement. The file must have as many bits as was promised."""
    found, channels = png_header(path)
    if channels != 1:
        raise DataError(f"{path} has {channels} channels; a depth file has one")
    if found != bits:
        raise DataError(
            f"{path} has {found} bits per pixel and is asked for as {bits}-bit with {per_metre:g} values per "
            f"metre; say DepthFormat(bits={found}, per_metre=…) with the scale of that form"
        )
    return np.array(_open(path)).astype(np.float32) / np.float32(per_metre)


def read_json(path: Path, kind: type) -> Any:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{path} is missing") from None
    except ValueError as error:
        raise DataError(f"{path} is no valid JSON: {error}") from None
    if not isinstance(content, kind):
        raise DataError(f"{path} holds a {type(content).__name__}; should be a {kind.__name__}")
    return content


def read_class_map(path: Path, classes: tuple[str, ...]) -> tuple[tuple[str, ...], dict[int, int]]:
    """(names of the new classes, old id → new id or 255) of a map file."""
    content = read_json(path, dict)
    names, table = tuple(content.get("names", ())), content.get("map", {})
    if not names or not isinstance(table, dict):
        raise DataError(f'{path} should be {{"names": [...], "map": {{"0": 3, ...}}}}, has {sorted(content)}')
    mapping = {int(old): new for old, new in table.items()}
    missing = sorted(set(range(len(classes))) - mapping.keys())
    if missing:
        raise DataError(f"{path} does not say where to put the classes {missing} of classes.txt")
    for old, new in mapping.items():
        if new != IGNORE and new not in range(len(names)):
            raise DataError(
                f"{path}: class {old} → {new}; should be 0 … {len(names) - 1}, or {IGNORE} to ignore"
            )
    return names, mapping


def read_refs(path: Path, known: set[str]) -> list[tuple[str, int, list[str]]]:
    """(image id, instance id, sentences) for each referring expression; every image must exist."""
    refs = []
    for number, entry in enumerate(read_json(path, list)):
        try:
            image, instance, sentences = entry["image"], entry["instance"], entry["sentences"]
        except (KeyError, TypeError):
            raise DataError(
                f"{path}, entry {number}: needs image, instance and sentences, is {entry!r}"
            ) from None
        if image not in known:
            raise DataError(f"{path}, entry {number}: there is no image {image!r} in this split")
        if not isinstance(instance, int) or instance < 1:
            raise DataError(f"{path}, entry {number}: instance is {instance!r}; should be 1 or more")
        if not sentences or not all(isinstance(s, str) and s.strip() for s in sentences):
            raise DataError(
                f"{path}, entry {number}: sentences is {sentences!r}; should be a list of sentences"
            )
        refs.append((image, instance, sentences))
    if not refs:
        raise DataError(f"{path} has no expression in it")
    return refs


def read_prompts(path: Path, key: str | None, known: set[str]) -> dict[str, list[str]]:
    """id → the sentences of prompt ``key`` (of all prompts if None); the ids must be those of the images."""
    content = read_json(path, dict)
    for name in sorted(known - content.keys()):
        raise DataError(f"{path} has no prompt for image {name!r}")
    for name in sorted(content.keys() - known):
        raise DataError(f"{path} has a prompt for {name!r}, and there is no such image in this split")
    prompts = {}
    for name, entry in content.items():
        if not isinstance(entry, dict) or (key is not None and key not in entry):
            keys = ", ".join(entry) if isinstance(entry, dict) else repr(entry)
            raise DataError(f"{path}: image {name!r} has no prompt {key!r}; it has {keys}")
        for chosen in entry if key is None else [key]:
            sentences = [entry[chosen]] if isinstance(entry[chosen], str) else entry[chosen]
            if not sentences or not all(isinstance(s, str) and s.strip() for s in sentences):
                raise DataError(
                    f"{path}: prompt {chosen!r} of {name!r} is {sentences!r}; should be a sentence"
                )
            prompts.setdefault(name, []).extend(sentences)
    return prompts
