"""CVC-ClinicDB (also CVC-612): polyps in frames of colonoscopy videos."""

import sys
from pathlib import Path

from convert import Writer, every_tenth, find, pairs
from record import DataSet, main

# The 62 test pictures of PraNet (MICCAI 2020), which later papers use too.
TEST = """
    14 21 25 31 42 50 52 61 65 66 73 80 89 100 106 119 134 148 154 163 166 171 179 181 185 191 205 240 251 266
    279 287 300 307 349 353 374 381 388 397 400 404 425 429 431 442 453 459 464 474 481 483 492 526 529 545
    555 559 561 569 571 575
""".split()  # noqa: SIM905, a list would be one id per line


def convert(sources: list[Path], writer: Writer) -> None:
    files = pairs(
        find(sources, "PNG/Original", "TIF/Original", "Original"),
        find(sources, "PNG/Ground Truth", "TIF/Ground Truth", "Ground Truth"),
    )
    val = every_tenth(name for name, _, _ in files if name not in TEST)
    parts = {"test": [f for f in files if f[0] in TEST], "val": [f for f in files if f[0] in val]}
    parts["train"] = [f for f in files if f[0] not in TEST and f[0] not in val]
    for split in ("train", "val", "test"):
        writer.add_all(split, parts[split])


DATA = DataSet(
    name="cvc_clinicdb",
    title="CVC-ClinicDB: 612 frames of 29 colonoscopy sequences with polyps outlined",
    home="https://polyp.grand-challenge.org/CVCClinicDB/",
    licence="research only (unverified: the text of the terms was not found in a public copy)",
    licence_address="https://polyp.grand-challenge.org/CVCClinicDB/",
    citation="Bernal et al., WM-DOVA maps for accurate polyp highlighting in colonoscopy, CMIG 2015",
    classes=("background", "polyp"),
    splits="test: the 62 pictures of PraNet (unverified: its numbers are taken to be those of the set); "
    "val: ours, every tenth of the other 550; train: the rest (PraNet trains on train and val together)",
    parts=(),
    checked="nothing: size and checksum are unverified",
    layout="Original/<n>.tif and Ground Truth/<n>.tif (the official archive), or PNG/… and TIF/… with the "
    "same folders inside (the Kaggle copy balraj98/cvcclinicdb), as read by public loaders; test numbers as "
    "listed in results/PraNet/CVC-ClinicDB of DengPingFan/PraNet",
    by_hand="the official file is a RAR archive on Dropbox behind the home page: unpack it yourself and "
    "give the folder; or give the zip file that Kaggle delivers to registered users",
    unpacked=1_000 * 10**6,
    convert=convert,
)

if __name__ == "__main__":
    sys.exit(main(DATA))
