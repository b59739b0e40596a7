"""ISIC 2017, task 1: outlines of skin lesions."""

import sys
from pathlib import Path

from convert import Writer, find, pairs
from record import DataSet, Part, main

BASE = "https://isic-challenge-data.s3.amazonaws.com/2017/"
SPLITS = {"train": "ISIC-2017_Training", "val": "ISIC-2017_Validation", "test": "ISIC-2017_Test_v2"}


def convert(sources: list[Path], writer: Writer) -> None:
    for split, stem in SPLITS.items():
        images, masks = find(sources, f"{stem}_Data"), find(sources, f"{stem}_Part1_GroundTruth")
        # The folder of pictures also holds <id>_superpixels.png for another task.
        writer.add_all(split, pairs(images, masks, "_segmentation", (".jpg",)))


def part(name: str, md5: str, size: int = 0) -> Part:
    return Part(f"{name}.zip", (f"{BASE}{name}.zip",), f"md5:{md5}", size)


DATA = DataSet(
    name="isic2017",
    title="ISIC 2017, task 1: 2,750 dermoscopic pictures with the lesion outlined",
    home="https://challenge.isic-archive.com/landing/2017/",
    licence="CC0 1.0 (unverified: stated for the 2016 challenge, for 2017 we found no public copy of the "
    "statement)",
    licence_address="https://challenge.isic-archive.com/data/#2017",
    citation="Codella et al., Skin lesion analysis toward melanoma detection, ISBI 2018, arXiv:1710.05006",
    classes=("background", "lesion"),
    splits="train 2,000, val 150, test 600: those of the challenge",
    parts=(
        part("ISIC-2017_Training_Data", "a14a7e622c67a358797ae59abb8a0b0c", 5_800 * 10**6),
        part("ISIC-2017_Training_Part1_GroundTruth", "77fdbeb6fbec4139937224416b250f4c", 9 * 10**6),
        part("ISIC-2017_Validation_Data", "8d6419d942112f709894c0d82f6c9038", 865 * 10**6),
        part("ISIC-2017_Validation_Part1_GroundTruth", "64d3e68fa2deeb8a5e89aa8dec2efd44"),
        part("ISIC-2017_Test_v2_Data", "5f6a0b5e1f2972bd1f5ea02680489f09", 5_400 * 10**6),
        part("ISIC-2017_Test_v2_Part1_GroundTruth", "b1742de6bd257faca3b2b21a4aa3b781"),
    ),
    checked="addresses in many public repositories; md5 from one public script, sizes from public read-mes "
    "(two small parts unknown): unverified; not fetched by us",
    layout="<part>/ISIC_<7 digits>.jpg and <part>/ISIC_<7 digits>_segmentation.png (0 and 255), as "
    "described by the challenge and read by public loaders",
    unpacked=25 * 10**9,
    convert=convert,
)

if __name__ == "__main__":
    sys.exit(main(DATA))
