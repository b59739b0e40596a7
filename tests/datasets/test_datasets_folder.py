"""A folder gives the batch form of the world."""

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_sets import PROMPTS, picture, save, write_grey_png

from moe_lib.datasets import Augment, DepthFormat, collate, folder

METRES = DepthFormat(bits=8, per_metre=25.5)


def test_batch_form(street):
    data = folder(street, "train", depth=METRES, sensors=("depth",))
    assert (len(data), data.ids, data.classes) == (2, ["a", "b"], ("road", "car", "night stand", "void"))
    batch = data.batch([1, 0])
    assert batch["image"].shape == (2, 3, 20, 30) and batch["image"].dtype == torch.float32
    assert batch["mask"].shape == (2, 20, 30) and batch["mask"].dtype == torch.int64
    assert batch["depth"][:, 0, 0].tolist() == pytest.approx([4.0, 2.0])
    assert batch["sensors"]["depth"].shape == (2, 3, 20, 30)
    assert batch["sensors"]["depth"][0, :, 0, 0].tolist() == pytest.approx([0.4] * 3)
    assert batch["mask"][0, [5, 5, 18, 0], [5, 15, 25, 5]].tolist() == [0, 1, 2, 3]
    expected = torch.from_numpy(picture(20, 30, 2)).permute(2, 0, 1) / 255
    assert (batch["image"][0] - expected).abs().max() < 0.05  # JPEG
    assert set(batch) == {"image", "mask", "depth", "sensors"}


def test_a_sample_has_no_batch_dimension(street):
    sample = folder(street, "val", size=16)[-1]
    assert sample["image"].shape == (3, 16, 16) and sample["mask"].shape == (16, 16)
    with pytest.raises(IndexError, match="sample 1 of 1"):
        folder(street, "val")[1]


def test_dataloader_gives_the_same_batch(street):
    data = folder(street, "train", size=16)
    loaded = next(iter(torch.utils.data.DataLoader(data, batch_size=2, collate_fn=collate)))
    assert torch.equal(loaded["mask"], data.batch([0, 1])["mask"])


def test_files_are_read_when_asked_for(street):
    data = folder(street, "train")
    (street / "train/images/b.jpg").write_bytes(b"broken")
    data[0]
    with pytest.raises(ValueError, match=r"b\.jpg cannot be read"):
        data[1]


def test_ignored_classes(street):
    data = folder(street, "train", ignore=(3,))
    assert data.classes == ("road", "car", "night stand")
    assert sorted(data[0]["mask"].unique().tolist()) == [0, 1, 2, 255]
    middle = folder(street, "train", ignore=(1,))  # the ids after it must not move
    assert len(middle.classes) == 4 and sorted(middle[0]["mask"].unique().tolist()) == [0, 2, 3, 255]
    with pytest.raises(ValueError, match="ignore has 4"):
        folder(street, "train", ignore=(4,))


def test_class_map(street):
    data = folder(street, "train", class_map="map2.json")
    assert data.classes == ("ground", "thing")
    assert data[0]["mask"][[5, 5, 18, 0], [5, 15, 25, 5]].tolist() == [0, 1, 1, 255]
    # What is ignored besides is named by its new id.
    assert sorted(
        folder(street, "train", class_map="map2.json", ignore=(1,))[0]["mask"].unique().tolist()
    ) == [0, 255]


def test_sixteen_bit_depth_keeps_its_bits(street):
    for name in "ab":
        save(street, f"train/depths/{name}.png", np.full((20, 30), 2345, np.uint16))
    depth = folder(street, "train", depth=DepthFormat(bits=16, per_metre=1000))[0]["depth"]
    assert depth.unique().tolist() == pytest.approx([2.345])


def test_palette_and_narrow_masks_give_the_stored_numbers(street):
    """Two-bit grey values come out of Pillow as 0, 85, 170, 255; a palette as colours, if converted."""
    ids = np.random.default_rng(0).integers(0, 4, (20, 30)).astype(np.uint8)
    palette = Image.fromarray(ids, "P")
    palette.putpalette([200, 10, 10, 10, 200, 10, 10, 10, 200, 90, 90, 90])
    palette.save(street / "train/masks/a.png")
    assert (folder(street, "train")[0]["mask"].numpy() == ids).all()
    write_grey_png(street / "train/masks/b.png", ids, bits=2)
    assert (folder(street, "train")[1]["mask"].numpy() == ids).all()


def test_expressions(things):
    data = folder(things, "train", text="refs")
    assert data.ids == ["s_000/1", "s_000/3"] and data.classes == ("background", "target")
    batch = data.batch([0, 1])
    assert batch["text"] == ["leftmost thing", "rightmost thing"]
    assert batch["mask"][0].sum() == 42 and batch["mask"][1].sum() == 99
    assert batch["instances"][0].unique().tolist() == [
        0,
        1,
        2,
    ]  # 3 has become 2
    assert batch["boxes"][1].tolist() == [[2, 4, 9, 10], [20, 12, 30, 22]]
    assert folder(things, "train", text="refs", every_sentence=True).ids == [
        "s_000/1/0",
        "s_000/1/1",
        "s_000/3/0",
    ]


def test_instances_without_text(things):
    sample = folder(things, "train", instances=True)[0]
    assert sample["mask"].sum() == 141 and len(sample["boxes"]) == 2 and "text" not in sample


def test_prompts(things):
    assert folder(things, "train", text="p6").batch([0])["text"] == [PROMPTS["p6"]]
    every = folder(things, "train", text="p7", every_sentence=True)
    assert [every[i]["text"] for i in range(len(every))] == ["a growth", "a lump"]
    with pytest.raises(ValueError, match=r"has no prompt 'p9'; it has p1, p6, p7"):
        folder(things, "train", text="p9")


def test_text_stays_true(things):
    """No mirror, no cut, no zoom: "leftmost" would be a lie afterwards. Brightness may change."""
    plain = folder(things, "train", text="refs", size=40)
    augmented = folder(
        things, "train", text="refs", size=40, augment=Augment(flip=1.0, scale=(1.5, 2), jitter=0.3)
    )
    # Two places that differ in all channels and stay away from black and white.
    plain_difference = plain[0]["image"][:, 4, 4] - plain[0]["image"][:, 4, 20]
    texts = set()
    for augmented.epoch in range(8):
        sample = augmented[0]
        texts.add(sample["text"])
        assert torch.equal(sample["mask"], plain[0]["mask"]) and torch.equal(
            sample["boxes"], plain[0]["boxes"]
        )
        assert not torch.equal(sample["image"], plain[0]["image"])
        colour = (sample["image"][:, 4, 4] - sample["image"][:, 4, 20]) / plain_difference
        assert torch.allclose(colour, colour[0].expand(3), rtol=1e-3)  # the same change in all channels
    assert texts == {"leftmost thing", "left thing"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 0}, "size is 0"),
        ({"fit": "crop"}, "fit is 'crop'"),
        ({"sensors": ("lidar",)}, "only 'depth' is known"),
        ({"sensors": ("depth",)}, "needs depth=DepthFormat"),
        ({"instances": True, "ignore": (1,)}, "instance ids"),
        ({"ignore": (0, 1, 2, 3)}, "leaves no class"),
    ],
)
def test_wrong_options(street, options, message):
    with pytest.raises(ValueError, match=message):
        folder(street, "train", **options)


def test_different_sizes_need_a_size(street):
    save(street, "train/images/b.jpg", picture(10, 30, 1))
    save(street, "train/masks/b.png", np.zeros((10, 30), np.uint8))
    with pytest.raises(ValueError, match=r"\(10, 30\), \(20, 30\).*size="):
        folder(street, "train").batch([0, 1])
    assert folder(street, "train", size=32).batch([0, 1])["mask"].shape == (2, 32, 32)
    with pytest.raises(ValueError, match="at least one"):
        folder(street, "train").batch([])
