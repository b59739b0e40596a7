"""A whole data folder, checked file by file; and the table that ``python -m moe_lib.datasets`` prints."""

import hashlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from tqdm import tqdm

from moe_lib.datasets import reading
from moe_lib.datasets.reading import IGNORE, DataError


@dataclass
class Report:
    """What :func:`verify` found.

    Attributes:
        problems: One sentence each, empty if all is well.
        classes: Class names.
        counts: Pictures per split.
        sizes: (width, height) → number of pictures, per split.
        pixels: Pixels per class id, over all splits; entry 255 counts what is to be ignored.

    Introduced in :doc:`/chapters/pocket_world`.
    """

    problems: list[str] = field(default_factory=list)
    classes: tuple[str, ...] = ()
    counts: dict[str, int] = field(default_factory=dict)
    sizes: dict[str, Counter] = field(default_factory=dict)
    pixels: np.ndarray = field(default_factory=lambda: np.zeros(IGNORE + 1, dtype=np.int64))

    def table(self) -> str:
        """The summary as text."""
        lines = []
        for split, count in self.counts.items():
            common = self.sizes[split].most_common(3)
            sizes = ", ".join(f"{w}×{h}: {n}" for (w, h), n in common)
            others = len(self.sizes[split]) - len(common)
            lines.append(
                f"{split:<8}{count:>7} pictures   {sizes}{f', {others} more sizes' if others else ''}"
            )
        total = max(int(self.pixels.sum()), 1)
        shares = [(i, name, int(self.pixels[i])) for i, name in enumerate(self.classes)]
        shares += [(IGNORE, "(ignored)", int(self.pixels[IGNORE]))] if self.pixels[IGNORE] else []
        lines += ["", "  id  class                        share of pixels"]
        lines += [f"{i:>4}  {name:<28} {100 * count / total:>8.2f} %" for i, name, count in shares]
        return "\n".join(lines)


def verify(root: str | Path, *, progress: bool = True) -> Report:
    """Check every file of a data folder, and list whatever is wrong with it.

    Pairs, sizes, class ids, depths, expressions, class maps, and ``manifest.sha256`` if there is one.

    Introduced in :doc:`/chapters/pocket_world`.
    """
    root = Path(root)
    report = Report()
    try:
        report.classes = reading.read_classes(root)
    except DataError as error:
        report.problems.append(str(error))
        return report
    splits = {}
    for split in reading.split_names(root):
        with _noting(report):
            splits[split] = _files_of(root, split, report)
    if not splits:
        report.problems.append(
            f"{root} has no split; it should have folders such as train/images and train/masks"
        )
    instances: dict[str, dict[str, set[int]]] = {split: {} for split in splits}
    total = sum(len(files["images"]) for files in splits.values())
    depth_bits: set[int] = set()
    with tqdm(total=total, desc="pictures", disable=not progress) as bar:
        for split, files in splits.items():
            report.counts[split], report.sizes[split] = len(files["images"]), Counter()
            for name in files["images"]:
                with _noting(report):
                    instances[split][name] = _check_sample(
                        files, name, report.sizes[split], report, depth_bits
                    )
                bar.update()
    if len(depth_bits) > 1:
        report.problems.append(
            f"the depth files of {root} have {sorted(depth_bits)} bits; should all have the same"
        )
    for split in splits:
        _check_text(root, split, set(splits[split]["images"]), instances[split], report)
    for path in sorted(root.glob("map*.json")):
        with _noting(report):
            reading.read_class_map(path, report.classes)
    _check_manifest(root, report, progress)
    return report


@contextmanager
def _noting(report: Report) -> Iterator[None]:
    """Turns a DataError into a line of the report."""
    try:
        yield
    except DataError as error:
        report.problems.append(str(error))


def _files_of(root: Path, split: str, report: Report) -> dict[str, dict[str, Path]]:
    """As reading.list_split, but pictures without a partner are noted and left out."""
    kinds = {"images": reading.IMAGE_SUFFIXES, "masks": (".png",)}
    if (root / split / "depths").is_dir():
        kinds["depths"] = (".png",)
    files = {kind: reading.list_files(root / split / kind, suffixes) for kind, suffixes in kinds.items()}
    report.problems += reading.missing_partners(root / split, files)
    if not files["images"]:
        report.problems.append(f"{root / split / 'images'} has no picture")
    whole = set.intersection(*(set(listed) for listed in files.values()))
    return {kind: {name: listed[name] for name in listed if name in whole} for kind, listed in files.items()}


def _check_sample(files: dict, name: str, sizes: Counter, report: Report, depth_bits: set[int]) -> set[int]:
    """Notes what is wrong with one sample; returns the ids that its mask holds."""
    height, width = reading.read_image(files["images"][name]).shape[:2]
    sizes[width, height] += 1
    mask = reading.read_mask(files["masks"][name])
    arrays = {"masks": mask}
    if "depths" in files:
        bits, _ = reading.png_header(files["depths"][name])
        depth_bits.add(bits)
        arrays["depths"] = reading.read_depth(files["depths"][name], bits, 1.0)
    for kind, values in arrays.items():
        if values.shape != (height, width):
            raise DataError(
                f"{files[kind][name]} is {values.shape[1]}×{values.shape[0]}, its picture is {width}×{height}"
            )
    ids, counts = np.unique(mask, return_counts=True)
    wrong = [int(i) for i in ids if i >= len(report.classes) and i != IGNORE]
    if wrong:
        raise DataError(
            f"{files['masks'][name]} has class id {', '.join(map(str, wrong[:5]))}; "
            f"classes.txt has 0 … {len(report.classes) - 1}"
        )
    report.pixels[ids] += counts
    return {int(i) for i in ids}


def _check_text(root: Path, split: str, images: set[str], ids: dict[str, set[int]], report: Report) -> None:
    refs, prompts = root / f"refs_{split}.json", root / f"prompts_{split}.json"
    if prompts.is_file():
        with _noting(report):
            reading.read_prompts(prompts, None, images)
    if refs.is_file():
        with _noting(report):
            for image, instance, _ in reading.read_refs(refs, images):
                if image in ids and instance not in ids[image]:
                    report.problems.append(f"{refs}: {image} has no pixel of instance {instance}")


def _check_manifest(root: Path, report: Report, progress: bool) -> None:
    path = root / "manifest.sha256"
    if not path.is_file():
        return
    listed = set()
    for line in tqdm(path.read_text(encoding="utf-8").splitlines(), desc="sha256  ", disable=not progress):
        digest, _, name = line.partition("  ")
        listed.add(name)
        if not (root / name).is_file():
            report.problems.append(f"{root / name} is missing; manifest.sha256 lists it")
        elif hashlib.sha256((root / name).read_bytes()).hexdigest() != digest:
            report.problems.append(f"{root / name} has changed; its sha256 is not that of manifest.sha256")
    for file in sorted(root.rglob("*")):
        name = file.relative_to(root).as_posix()
        if file.is_file() and name not in listed and name not in ("manifest.sha256", "README.md"):
            report.problems.append(f"{file} is not listed in manifest.sha256")
