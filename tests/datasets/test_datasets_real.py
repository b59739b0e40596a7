"""The six real sets, if they are at hand: counts, classes, some pixels looked up by hand."""

import os
from pathlib import Path

import pytest
import torch

from moe_lib.datasets import DepthFormat, folder

ROOT = Path(os.environ.get("MOE_DATA", ""))
pytestmark = pytest.mark.skipif(
    "MOE_DATA" not in os.environ, reason="set MOE_DATA to the folder that holds camvid, crackforest, …"
)

# set: (counts of train, val, test; number of classes, the last of them)
SETS = {
    "camvid": ((367, 101, 233), 12, "void"),
    "crackforest": ((96, 11, 11), 2, "crack"),
    "dsb2018_nuclei": ((532, 66, 66), 2, "nucleus"),
    "kvasir_seg_text": ((800, 100, 100), 2, "polyp"),
    "nyuv2_rgbd": ((716, 79, 654), 40, "otherprop_or_unlabelled"),
    "refcoco_3ds_synthetic": ((18, 6, 5), 46, "instance_45"),
}

# set, split, id, (height, width), [(y, x, class id, RGB)]
PIXELS = [
    (
        "camvid",
        "train",
        "0001TP_006690",
        (240, 320),
        [(60, 80, 1, (24, 30, 30)), (180, 160, 8, (10, 11, 15)), (230, 106, 3, (14, 15, 17))],
    ),
    (
        "crackforest",
        "train",
        "001",
        (320, 480),
        [(240, 240, 0, (119, 117, 120)), (161, 400, 1, (132, 133, 135))],
    ),
    (
        "dsb2018_nuclei",
        "train",
        "00071198d059ba7f",
        (256, 256),
        [(64, 64, 0, (2, 2, 2)), (197, 53, 1, (20, 20, 20))],
    ),
    (
        "kvasir_seg_text",
        "test",
        "cju0u82z3cuma0835wlxrnrjv",
        (256, 256),
        [(128, 128, 1, (244, 177, 96)), (192, 128, 0, (202, 106, 64)), (246, 85, 0, (1, 0, 0))],
    ),
    (
        "nyuv2_rgbd",
        "train",
        "0003",
        (192, 256),
        [(48, 64, 7, (217, 186, 194)), (96, 128, 0, (204, 184, 195)), (182, 85, 7, (137, 114, 122))],
    ),
]


@pytest.mark.parametrize("name", SETS)
def test_counts_and_classes(name):
    counts, classes, last = SETS[name]
    data = [folder(ROOT / name, split) for split in ("train", "val", "test")]
    assert tuple(map(len, data)) == counts
    assert len(data[0].classes) == classes and data[0].classes[-1] == last
    assert not set(data[0].ids) & set(data[2].ids) and not set(data[1].ids) & set(data[2].ids)


@pytest.mark.parametrize(
    ("name", "split", "sample", "size", "pixels"), PIXELS, ids=[case[0] for case in PIXELS]
)
def test_known_pixels(name, split, sample, size, pixels):
    data = folder(ROOT / name, split)
    got = data[data.ids.index(sample)]
    assert got["mask"].shape == size and got["image"].shape == (3, *size)
    for y, x, label, colour in pixels:
        assert got["mask"][y, x] == label
        assert (got["image"][:, y, x] * 255).tolist() == pytest.approx(
            colour, abs=6
        )  # decoders of JPEG differ


@pytest.mark.parametrize("name", SETS)
def test_batches(name):
    instances = name == "refcoco_3ds_synthetic"
    data = folder(ROOT / name, "test", size=64, augment=True, instances=instances)
    batch = data.batch([0, len(data) - 1])
    assert batch["image"].shape == (2, 3, 64, 64) and batch["mask"].dtype == torch.int64
    assert batch["image"].min() >= 0 and batch["image"].max() <= 1
    assert set(batch["mask"].unique().tolist()) <= {*range(len(data.classes)), 255}


def test_void_of_camvid():
    data = folder(ROOT / "camvid", "train", ignore=(11,))
    assert len(data.classes) == 11 and data[0]["mask"][229, 284] == 255


def test_depth_and_thirteen_classes_of_nyu():
    depth = DepthFormat(bits=8, per_metre=25.5)
    data = folder(ROOT / "nyuv2_rgbd", "train", depth=depth, sensors=("depth",), class_map="map13.json")
    sample = data[data.ids.index("0003")]
    assert sample["depth"][[48, 96, 150], [64, 128, 200]].tolist() == pytest.approx(
        [41 / 25.5, 45 / 25.5, 35 / 25.5]
    )
    assert float(sample["depth"].min()) == pytest.approx(26 / 25.5)
    assert sample["sensors"]["depth"].shape == (3, 192, 256)
    assert len(data.classes) == 13 and sample["mask"][96, 128] == 11 and sample["mask"][139, 120] == 255
    with pytest.raises(ValueError, match="8 bits per pixel and is asked for as 16-bit"):
        folder(ROOT / "nyuv2_rgbd", "test", depth=DepthFormat(bits=16, per_metre=1000))[0]


def test_expressions():
    refs = folder(ROOT / "refcoco_3ds_synthetic", "test", text="refs")
    assert len(refs) == 129 and refs.ids[0] == "b2356_000003/1" and refs[0]["text"] == "rightmost cell phone"
    total = [
        folder(ROOT / "refcoco_3ds_synthetic", s, text="refs", every_sentence=True)
        for s in ("train", "val", "test")
    ]
    assert sum(map(len, total)) == 3388
    sample = refs[0]
    target = (sample["mask"] == 1).nonzero()
    x0, y0 = target[:, 1].min(), target[:, 0].min()
    assert sample["boxes"][0].tolist()[:2] == [x0, y0]


def test_prompts():
    data = folder(ROOT / "kvasir_seg_text", "test", text="p6")
    sample = data[data.ids.index("cju0u82z3cuma0835wlxrnrjv")]
    assert sample["text"] == "one medium yellow round polyp, located in right of the image"
