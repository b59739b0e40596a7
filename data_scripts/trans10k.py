"""Trans10K: things and surfaces of glass."""

import sys
from pathlib import Path

import numpy as np
from convert import ConvertError, Writer, find, has, pairs
from PIL import Image
from record import DataSet, main


def convert(sources: list[Path], writer: Writer) -> None:
    if has(sources, "train/masks_12"):
        raise ConvertError(
            "this is Trans10K-v2 (masks_12, 12 classes); this script reads version 1: train/masks"
        )
    writer.add_all("train", part(sources, "train"), things_and_stuff)
    for split, official in (("val", "validation"), ("test", "test")):
        for grade in ("easy", "hard"):
            # Numbers may occur in both grades, so the grade becomes part of the name.
            files = [
                (f"{grade}_{name}", image, mask) for name, image, mask in part(sources, f"{official}/{grade}")
            ]
            writer.add_all(split, files, things_and_stuff)


def part(sources: list[Path], folder: str) -> list[tuple[str, Path, Path]]:
    return pairs(find(sources, f"{folder}/images"), find(sources, f"{folder}/masks"), "_mask")


def things_and_stuff(path: Path) -> np.ndarray:
    """(H, W) of 0, 1 = thing (one channel at 255), 2 = stuff (white): the mean of RGB is 0, 85 or 255."""
    with Image.open(path) as image:
        total = np.array(image.convert("RGB")).astype(int).sum(-1)
    mask = np.select([total == 0, total == 255, total == 765], [0, 1, 2], default=255).astype(np.uint8)
    if (mask == 255).any():
        odd = sorted(set((total[mask == 255] / 3).round(1).tolist()))[:3]
        raise ConvertError(
            f"{path} has colours of mean {odd}; should be 0 (background), 85 (things) or 255 (stuff)"
        )
    return mask


DATA = DataSet(
    name="trans10k",
    title="Trans10K (version 1): 10,428 photographs with transparent things and stuff marked",
    home="https://xieenze.github.io/projects/TransLAB/TransLAB.html",
    licence="academic use; ask the authors for commercial use (the licence of their code; of the data: "
    "unverified)",
    licence_address="https://github.com/xieenze/Segment_Transparent_Objects#license",
    citation="Xie et al., Segmenting transparent objects in the wild, ECCV 2020",
    classes=("background", "things", "stuff"),
    splits="train 5,000, val 1,000, test 4,428: those of the set; easy and hard are told by the names",
    parts=(),
    checked="nothing: size and checksum are unverified",
    layout="train/{images,masks}, validation/{easy,hard}/{images,masks}, test/…; <n>.jpg and <n>_mask.png, "
    "whose RGB mean is 85 for things and 255 for stuff (segmentron/data/dataloader/trans10k.py of the "
    "authors)",
    by_hand="the archives are on Google Drive and Baidu behind the home page",
    unpacked=30 * 10**9,
    notes="disk space is a guess; version 2 (11 kinds of objects) has another layout and is not read",
    convert=convert,
)

if __name__ == "__main__":
    sys.exit(main(DATA))
