"""Leaf disease: diseased spots on leaves."""

import sys
from pathlib import Path

import numpy as np
from convert import Writer, every_tenth, find, folder_with, listed, pairs
from PIL import Image
from record import DataSet, Part, main


def convert(sources: list[Path], writer: Writer) -> None:
    lists = folder_with(sources, "train.csv")
    if lists:
        for split in ("train", "val", "test"):
            writer.add_all(split, listed(lists / f"{split}.csv"), spots)
        return
    # Kaggle's archive also has aug_data, mirrored and turned copies of these: they would leak into test.
    files = pairs(find(sources, "data/data/images", "images"), find(sources, "data/data/masks", "masks"))
    test = every_tenth(name for name, _, _ in files)
    val = every_tenth(name for name, _, _ in files if name not in test)
    writer.add_all("train", [f for f in files if f[0] not in test | val], spots)
    writer.add_all("val", [f for f in files if f[0] in val], spots)
    writer.add_all("test", [f for f in files if f[0] in test], spots)


def spots(path: Path) -> np.ndarray:
    """(H, W) of 0 and 1: above half of the largest value, be it 255, 1, or the 38 of a dark red in grey."""
    with Image.open(path) as image:
        grey = np.array(image.convert("RGB").convert("L"))
    return (2 * grey.astype(int) > max(int(grey.max()), 1)).astype(np.uint8)


DATA = DataSet(
    name="leaf_disease",
    title="Leaf disease segmentation: 588 leaves with diseased spots marked",
    home="https://www.kaggle.com/datasets/fakhrealam9537/leaf-disease-segmentation-dataset",
    licence="unverified (none found in a public copy; see the home page)",
    licence_address="https://www.kaggle.com/datasets/fakhrealam9537/leaf-disease-segmentation-dataset",
    citation="Fakhre Alam, Leaf disease segmentation dataset, Kaggle",
    classes=("background", "disease"),
    splits="the lists of the Conv-LoRA authors; with Kaggle's archive ours: every tenth is test, every "
    "tenth of the rest val",
    parts=(
        Part(
            "leaf_disease_segmentation.zip",
            ("https://automl-mm-bench.s3.amazonaws.com/semantic_segmentation/leaf_disease_segmentation.zip",),
        ),
    ),
    checked="the address is that of autogluon's tutorials and of its examples/automm/Conv-LoRA; size and "
    "checksum unverified; not fetched by us",
    layout="leaf_disease_segmentation/{train,val,test}.csv with the columns image and label (autogluon's "
    "tutorial); data/data/{images,masks} (Kaggle's archive, as read by public loaders); the values in its "
    "masks are unverified",
    unpacked=1_000 * 10**6,
    convert=convert,
)

if __name__ == "__main__":
    sys.exit(main(DATA))
