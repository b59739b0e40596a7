"""CAMO and COD10K: animals and people that cannot be told from their surroundings."""

import sys
from pathlib import Path

from convert import Writer, every_tenth, find, folder_with, has, listed, pairs
from record import DataSet, Part, main


def convert(sources: list[Path], writer: Writer) -> None:
    lists = folder_with(sources, "test_CAMO.csv")
    if lists:
        for split, table in (("train", "train"), ("val", "val"), ("test", "test_CAMO")):
            writer.add_all(split, listed(lists / f"{table}.csv"))
        return
    train: list[tuple[str, Path, Path]] = []
    if has(sources, "TrainDataset"):  # SINet's: COD10K-train, or COD10K-train and CAMO-train together
        train += two_names(sources, "TrainDataset")
    if has(sources, "Images/Train"):  # the official CAMO archive
        train += official(find(sources, "Images/Train"))
        writer.add_all("test", official(find(sources, "Images/Test")))
    elif has(sources, "TestDataset/CAMO"):
        writer.add_all("test", two_names(sources, "TestDataset/CAMO"))
    if has(sources, "TestDataset/COD10K"):
        writer.add_all("test_cod10k", two_names(sources, "TestDataset/COD10K"))
    train = list({name: (name, image, mask) for name, image, mask in train}.values())
    val = every_tenth(name for name, _, _ in train)
    writer.add_all("train", [f for f in train if f[0] not in val])
    writer.add_all("val", [f for f in train if f[0] in val])


def two_names(sources: list[Path], folder: str) -> list[tuple[str, Path, Path]]:
    """SINet's folders have been called both Imgs and Image."""
    return pairs(find(sources, f"{folder}/Imgs", f"{folder}/Image"), find(sources, f"{folder}/GT"))


def official(images: Path) -> list[tuple[str, Path, Path]]:
    """CAMO keeps the masks of both parts in one folder, in some copies in GT/Train and GT/Test."""
    masks = images.parents[1] / "GT"
    return pairs(images, masks / images.name if (masks / images.name).is_dir() else masks)


DATA = DataSet(
    name="camo_cod10k",
    title="CAMO and COD10K: camouflaged animals and people with outlines",
    home="https://sites.google.com/view/ltnghia/research/camo and https://github.com/DengPingFan/SINet",
    licence="COD10K: non-commercial only; CAMO: unverified (published for research)",
    licence_address="https://github.com/DengPingFan/SINet#9-license",
    citation="Le et al., Anabranch network for camouflaged object segmentation, CVIU 2019; Fan et al., "
    "Camouflaged object detection, CVPR 2020",
    classes=("background", "camouflaged"),
    splits="as in the Conv-LoRA authors' lists (test: CAMO's 250); with the official archives val is ours, "
    "every tenth of the training pictures, and COD10K's test part becomes test_cod10k",
    parts=(
        Part(
            "camo_sem_seg.zip",
            ("https://automl-mm-bench.s3.amazonaws.com/semantic_segmentation/camo_sem_seg.zip",),
        ),
    ),
    checked="the address is that of autogluon's examples/automm/Conv-LoRA; size and checksum unverified; "
    "which pictures its lists contain is unverified; not fetched by us",
    layout="camo_sem_seg/{train,val,test_CAMO}.csv with the columns image and label (autogluon's script); "
    "TrainDataset/{Imgs,GT}, TestDataset/{CAMO,COD10K}/{Imgs,GT} (SINet); "
    "CAMO-V.1.0-CVIU2019/{Images/Train,Images/Test,GT} (public loaders)",
    unpacked=3 * 10**9,
    notes="the official archives are on Google Drive behind the home pages: give them with --file, once for "
    "each",
    convert=convert,
)

if __name__ == "__main__":
    sys.exit(main(DATA))
