"""Every converter, on tiny archives in the layout of the real ones, read back by moe_lib."""

import importlib
import random
import zipfile
from types import SimpleNamespace

import numpy as np
import pytest
from convert import ConvertError, Writer, every_tenth, find
from record import main
from tiny_archives import SIZE, archive, blob, encoded, photo, table

from moe_lib.datasets import folder, verify


def made(name, tmp_path, *archives):
    """Run the script on files of the user, and check what it made."""
    data = importlib.import_module(name).DATA
    options = [text for path in archives for text in ("--file", str(path))]
    out = tmp_path / "data" / name
    assert (
        main(data, [*options, "--out", str(out), "--yes"], usage=lambda _: SimpleNamespace(free=10**12)) == 0
    )
    assert verify(out, progress=False).problems == []
    assert [f.name for f in out.parent.iterdir() if not f.name.startswith(".")] == [name]
    return out


def check_blob(sample, seed, label=1):
    assert (sample["mask"] > 0).sum() == 6 * (9 - seed % 5) and sample["mask"].max() == label


def test_kvasir(tmp_path):
    from kvasir import TEST

    assert len(set(TEST)) == 100
    names = [*TEST[:3], *(f"cjz{i:03}" for i in range(20))]
    files = {"Kvasir-SEG/kavsir_bboxes.json": b"{}", "__MACOSX/Kvasir-SEG/images/._x": b""}
    for seed, name in enumerate(names):
        files[f"Kvasir-SEG/images/{name}.jpg"] = photo(seed)
        files[f"Kvasir-SEG/masks/{name}.jpg"] = blob(seed, form="JPEG", mode="RGB")
    out = made("kvasir", tmp_path, archive(tmp_path / "kvasir-mini.zip", files))
    assert sorted(folder(out, "test").ids) == sorted(TEST[:3])
    assert folder(out, "val").ids == ["cjz009", "cjz019"] and len(folder(out, "train")) == 18
    sample = folder(out, "train")[0]
    assert sample["mask"].unique().tolist() == [0, 1]
    assert (sample["mask"] == 1).sum() == pytest.approx(6 * (9 - 3), abs=6)  # JPEG blurs the edge
    assert folder(out, "train").classes == ("background", "polyp")
    original = tmp_path / "again.jpg"
    original.write_bytes(files["Kvasir-SEG/images/cjz000.jpg"])
    assert (out / "train/images/cjz000.jpg").read_bytes() == original.read_bytes()  # not compressed twice


@pytest.mark.parametrize("layout", ["CVC-ClinicDB/", "PNG/"])
def test_cvc(tmp_path, layout):
    from cvc_clinicdb import TEST

    assert len(set(TEST)) == 62 and all(1 <= int(number) <= 612 for number in TEST)
    suffix, form = ("tif", "TIFF") if layout == "CVC-ClinicDB/" else ("png", "PNG")
    files = {}
    for number in range(1, 26):
        files[f"{layout}Original/{number}.{suffix}"] = photo(number, form)
        files[f"{layout}Ground Truth/{number}.{suffix}"] = blob(number, form=form)
    if layout == "PNG/":  # Kaggle's copy has both
        files |= {name.replace("PNG/", "TIF/").replace(".png", ".tif"): b"unused" for name in files}
    out = made("cvc_clinicdb", tmp_path, archive(tmp_path / "archive.zip", files))
    assert folder(out, "test").ids == ["14", "21", "25"]
    assert len(folder(out, "train")) + len(folder(out, "val")) == 22
    data = folder(out, "train")
    check_blob(data[0], int(data.ids[0]))


def test_cvc_as_an_unpacked_folder(tmp_path):
    files = {f"{kind}/{n}.tif": photo(n, "TIFF") for n in range(12) for kind in ("Original",)}
    files |= {f"Ground Truth/{n}.tif": blob(n, form="TIFF") for n in range(12)}
    with zipfile.ZipFile(archive(tmp_path / "a.zip", files)) as zipped:
        zipped.extractall(tmp_path / "CVC-ClinicDB")
    out = made("cvc_clinicdb", tmp_path, tmp_path / "CVC-ClinicDB")
    assert sorted(f.name for f in (out / "train/images").iterdir())[0] == "0.png"
    assert len(list((tmp_path / "CVC-ClinicDB/Original").iterdir())) == 12  # the user's own files stay


def test_isic(tmp_path):
    archives = []
    for part, count in (("Training", 3), ("Validation", 1), ("Test_v2", 2)):
        images, masks = {}, {}
        for i in range(count):
            images[f"ISIC-2017_{part}_Data/ISIC_{i:07}.jpg"] = photo(i)
            images[f"ISIC-2017_{part}_Data/ISIC_{i:07}_superpixels.png"] = blob(i)
            masks[f"ISIC-2017_{part}_Part1_GroundTruth/ISIC_{i:07}_segmentation.png"] = blob(i)
        images[f"ISIC-2017_{part}_Data/ISIC-2017_{part}_Data_metadata.csv"] = b"image_id"
        archives.append(archive(tmp_path / f"mini-{part}-data.zip", images))
        archives.append(archive(tmp_path / f"mini-{part}-masks.zip", masks))
    out = made("isic2017", tmp_path, *archives)
    assert [len(folder(out, split)) for split in ("train", "val", "test")] == [3, 1, 2]
    assert folder(out, "train").ids[0] == "ISIC_0000000"
    check_blob(folder(out, "test")[1], 1)


def test_camo_by_the_lists_of_conv_lora(tmp_path):
    root, files, rows = "camo_sem_seg/camo_sem_seg/", {}, []
    for i in range(6):
        rows.append((f"images/c{i}.jpg", f"masks/c{i}.png"))
        files |= {root + rows[i][0]: photo(i), root + rows[i][1]: blob(i)}
    for name, part in (("train", rows[:3]), ("val", rows[3:4]), ("test_CAMO", rows[4:])):
        files[f"{root}{name}.csv"] = table(part)
    out = made("camo_cod10k", tmp_path, archive(tmp_path / "lists.zip", files))
    assert folder(out, "train").ids == ["c0", "c1", "c2"] and folder(out, "test").ids == ["c4", "c5"]
    check_blob(folder(out, "val")[0], 3)


def test_camo_by_the_official_archives(tmp_path):
    camo, sinet = {}, {}
    for i in range(4):
        part = "Train" if i < 2 else "Test"
        camo[f"CAMO-V.1.0-CVIU2019/Images/{part}/camourflage_{i:05}.jpg"] = photo(i)
        camo[f"CAMO-V.1.0-CVIU2019/GT/camourflage_{i:05}.png"] = blob(i)
    for i in range(10):
        sinet[f"TrainDataset/Imgs/COD10K-CAM-{i}.jpg"] = photo(i)
        sinet[f"TrainDataset/GT/COD10K-CAM-{i}.png"] = blob(i)
    sinet["TestDataset/COD10K/Imgs/COD10K-CAM-90.jpg"] = photo(0)
    sinet["TestDataset/COD10K/GT/COD10K-CAM-90.png"] = blob(0)
    out = made("camo_cod10k", tmp_path, archive(tmp_path / "a.zip", camo), archive(tmp_path / "b.zip", sinet))
    counts = {split: len(folder(out, split)) for split in ("train", "val", "test", "test_cod10k")}
    assert counts == {"train": 11, "val": 1, "test": 2, "test_cod10k": 1}


def test_camo_by_sinets_archives(tmp_path):
    files = {}
    for name, count in (("TrainDataset", 3), ("TestDataset/CAMO", 2), ("TestDataset/COD10K", 1)):
        for i in range(count):
            files |= {f"{name}/Image/{i}.jpg": photo(i), f"{name}/GT/{i}.png": blob(i)}
    out = made("camo_cod10k", tmp_path, archive(tmp_path / "a.zip", files))
    assert len(folder(out, "test")) == 2 and len(folder(out, "train")) == 3


def test_sbu(tmp_path):
    files = {"SBU-shadow/README.txt": b"non-commercial"}
    for part, count in (("SBUTrain4KRecoveredSmall", 20), ("SBU-Test", 3)):
        for i in range(count):
            files[f"SBU-shadow/{part}/ShadowImages/lssd{i:02}.jpg"] = photo(i)
            files[f"SBU-shadow/{part}/ShadowMasks/lssd{i:02}.png"] = blob(i)
    out = made("sbu", tmp_path, archive(tmp_path / "mini.zip", files))
    assert folder(out, "val").ids == ["lssd09", "lssd19"]
    assert [len(folder(out, split)) for split in ("train", "test")] == [18, 3]
    check_blob(folder(out, "test")[2], 2)


@pytest.mark.parametrize("value", [255, 1, 38])
def test_leaf_by_the_lists_of_conv_lora(tmp_path, value):
    root, files, rows = "leaf_disease_segmentation/", {}, []
    for i in range(3):
        rows.append((f"train_images/{i:05}.jpg", f"train_masks/{i:05}.png"))
        files |= {root + rows[i][0]: photo(i), root + rows[i][1]: blob(i, value)}
    for i, name in enumerate(("train", "val", "test")):
        files[f"{root}{name}.csv"] = table(rows[i : i + 1])
    out = made("leaf_disease", tmp_path, archive(tmp_path / "lists.zip", files))
    check_blob(folder(out, "test")[0], 2)


def test_leaf_by_kaggles_archive(tmp_path):
    red = np.zeros((*SIZE, 3), np.uint8)
    red[3:9, 1:10, 0] = 128
    files = {}
    for i in range(20):
        files |= {
            f"data/data/images/{i:05}.jpg": photo(i),
            f"data/data/masks/{i:05}.png": encoded(red, "PNG"),
        }
        files |= {
            f"aug_data/aug_data/images/{i:05}_1.jpg": photo(i),
            f"aug_data/aug_data/masks/{i:05}_1.png": b"",
        }
    out = made("leaf_disease", tmp_path, archive(tmp_path / "archive.zip", files))
    assert [len(folder(out, split)) for split in ("train", "val", "test")] == [17, 1, 2]
    check_blob(folder(out, "test")[0], 0)


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_roads_of_kaggle(tmp_path, mode):
    files = {}
    for split, count in (("train", 3), ("val", 1), ("test", 2)):
        for i in range(count):
            files[f"tiff/{split}/{i}_15.tiff"] = photo(i, "TIFF")
            files[f"tiff/{split}_labels/{i}_15.tif"] = blob(i, form="TIFF", mode=mode)
    out = made("massachusetts_roads", tmp_path, archive(tmp_path / "archive.zip", files))
    assert [len(folder(out, split)) for split in ("train", "val", "test")] == [3, 1, 2]
    check_blob(folder(out, "test")[1], 1)
    assert (folder(out, "train")[2]["image"] * 255 - 22).abs().max() < 1e-3  # TIFF to PNG loses nothing


def test_roads_of_the_index_pages(tmp_path, server):
    import massachusetts_roads

    counts = {"train": 2, "valid": 1, "test": 1}
    for split, count in counts.items():
        for kind, suffix in (("sat", "tiff"), ("map", "tif")):
            page = '<a href="/elsewhere/secret.txt">x</a><a href="http://other.example/9_15.tiff">y</a>'
            for i in range(count):
                path = f"/roads/{split}/{kind}/{i}_15.{suffix}"
                server.files[path] = photo(i, "TIFF") if kind == "sat" else blob(i, form="TIFF")
                page += f'<a href="{server.url(path)}">{i}_15.{suffix}</a>'
            server.files[f"/roads/{split}/{kind}/index.html"] = page.encode()
    server.plan = ["ok", "drop", "503"]
    downloads = tmp_path / "downloads"
    options = {"wait": lambda attempt: None, "timeout": 1}
    massachusetts_roads.gather(downloads, options, server.url("/roads/"), counts)
    writer = Writer(tmp_path / "out", ("background", "road"))
    massachusetts_roads.convert([downloads], writer)
    assert writer.counts == {"train": 2, "val": 1, "test": 1}
    assert not [path for path, *_ in server.log if "secret" in path or "9_15" in path]
    before = len(server.log)
    massachusetts_roads.gather(downloads, options, server.url("/roads/"), counts)
    assert len(server.log) == before + 6  # the pages only
    with pytest.raises(Exception, match=r"lists 2 pictures; should be 3"):
        massachusetts_roads.gather(downloads, options, server.url("/roads/"), {"train": 3})


def glass(things=(255, 0, 0), stuff=(255, 255, 255)):
    mask = np.zeros((*SIZE, 3), np.uint8)
    mask[2:6, 2:6] = things
    mask[7:11, 7:14] = stuff
    return encoded(mask, "PNG")


def test_trans10k(tmp_path):
    files = {}
    red, green, blue = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    parts = {
        "train": red,
        "validation/easy": green,
        "validation/hard": blue,
        "test/easy": red,
        "test/hard": red,
    }
    for part, colour in parts.items():
        for i in range(2):
            files[f"Trans10K/{part}/images/{i}.jpg"] = photo(i)
            files[f"Trans10K/{part}/masks/{i}_mask.png"] = glass(colour)
    out = made("trans10k", tmp_path, archive(tmp_path / "a.zip", files))
    assert folder(out, "val").ids == ["easy_0", "easy_1", "hard_0", "hard_1"]
    for split in ("train", "val", "test"):
        mask = folder(out, split)[0]["mask"]
        assert [(mask == i).sum() for i in range(3)] == [192 - 16 - 28, 16, 28]


def test_trans10k_with_other_colours(tmp_path):
    from trans10k import things_and_stuff

    (tmp_path / "m.png").write_bytes(glass(things=(200, 0, 0)))
    with pytest.raises(ConvertError, match=r"colours of mean \[66.7\]; should be 0"):
        things_and_stuff(tmp_path / "m.png")


def test_sizes_that_differ_are_left_out_and_said(tmp_path):
    writer = Writer(tmp_path / "out", ("background", "thing"))
    for i in range(5):
        (tmp_path / f"{i}.jpg").write_bytes(photo(i))
        size = (9, 9) if i == 4 else SIZE
        writer.add("train", str(i), tmp_path / f"{i}.jpg", np.zeros(size, np.uint8))
    writer.finish("# set")
    assert writer.left_out == ["train/4: picture 16×12, mask 9×9"]
    assert "Left out: train/4" in (tmp_path / "out/README.md").read_text()
    assert len(folder(tmp_path / "out", "train")) == 4
    writer.left_out *= 4
    with pytest.raises(ConvertError, match="4 pairs do not fit, 4 do"):
        writer.finish("# set")


def test_other_layouts_are_refused_with_what_was_found(tmp_path):
    (tmp_path / "a/pictures").mkdir(parents=True)
    with pytest.raises(ConvertError, match=r"should be a folder 'images'; there are: a, pictures"):
        find([tmp_path], "images")
    (tmp_path / "a/images").mkdir()
    (tmp_path / "b/images").mkdir(parents=True)
    with pytest.raises(ConvertError, match="there are 2 folders 'images'"):
        find([tmp_path], "images")
    assert find([tmp_path], "b/images", "images") == tmp_path / "b/images"


def test_lists_stay_inside_their_archive(tmp_path):
    from convert import listed

    (tmp_path / "in").mkdir()
    (tmp_path / "secret.png").write_bytes(b"x")
    (tmp_path / "in/train.csv").write_text("image,label\n../secret.png,../secret.png\n")
    with pytest.raises(ConvertError, match="which is not in the archive"):
        listed(tmp_path / "in/train.csv")


def test_every_tenth_does_not_depend_on_the_order():
    names = [f"{i:03}" for i in range(95)]
    chosen = every_tenth(names)
    random.Random(0).shuffle(names)
    assert every_tenth(names) == chosen and len(chosen) == 9 and "009" in chosen
