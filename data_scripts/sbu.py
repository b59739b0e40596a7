"""SBU: shadows in photographs."""

import sys
from pathlib import Path

from convert import Writer, every_tenth, find, pairs
from record import DataSet, Part, main


def convert(sources: list[Path], writer: Writer) -> None:
    train, test = (
        pairs(find(sources, f"{part}/ShadowImages"), find(sources, f"{part}/ShadowMasks"))
        for part in ("SBUTrain4KRecoveredSmall", "SBU-Test")
    )
    val = every_tenth(name for name, _, _ in train)
    writer.add_all("train", [f for f in train if f[0] not in val])
    writer.add_all("val", [f for f in train if f[0] in val])
    writer.add_all("test", test)


DATA = DataSet(
    name="sbu",
    title="SBU shadow: 4,085 + 638 photographs with shadows marked",
    home="https://www3.cs.stonybrook.edu/~cvl/projects/shadow_noisy_label/index.html",
    licence="non-commercial research (the read-me inside the archive, as reported by a third party: "
    "unverified)",
    licence_address="https://www3.cs.stonybrook.edu/~cvl/projects/shadow_noisy_label/index.html",
    citation="Vicente et al., Large-scale training of shadow detectors with noisily-annotated shadow "
    "examples, ECCV 2016",
    classes=("background", "shadow"),
    splits="test: the official 638; val: ours, every tenth of the official 4,085 for training; train: the "
    "rest",
    parts=(
        Part(
            "SBU-shadow.zip",
            ("https://www3.cs.stonybrook.edu/~cvl/content/datasets/shadow_db/SBU-shadow.zip",),
            "sha256:8ac703bc4ec0cf3f57e128a6e7a8ed73680d9f68e4e22d08fc83a3f60c612109",
            286 * 10**6,
        ),
    ),
    checked="address in many public repositories; size and sha256 from one third party: unverified; not "
    "fetched by us",
    layout="SBU-shadow/SBUTrain4KRecoveredSmall and SBU-shadow/SBU-Test, each with ShadowImages/*.jpg and "
    "ShadowMasks/*.png (0 and 255), as read by public loaders",
    unpacked=700 * 10**6,
    convert=convert,
)

if __name__ == "__main__":
    sys.exit(main(DATA))
