"""Whatever is wrong with a folder is said clearly, by the reader and by the check of a whole set."""

import json
import re

import numpy as np
import pytest
from PIL import Image
from tiny_sets import picture, save, write_manifest

from moe_lib.datasets import DataError, DepthFormat, folder, verify
from moe_lib.datasets.__main__ import main

DEPTH = {"depth": DepthFormat(bits=8, per_metre=25.5)}


def test_data_error_is_a_value_error():
    assert issubclass(DataError, ValueError)


def no_mask(root):
    (root / "train/masks/b.png").unlink()


def no_image(root):
    (root / "train/images/b.jpg").unlink()


def no_depth(root):
    (root / "train/depths/a.png").unlink()


def twice(root):
    save(root, "train/images/a.png", picture(20, 30, 1))


def other_size(root):
    save(root, "train/masks/a.png", np.zeros((30, 20), np.uint8))


def other_depth_size(root):
    save(root, "train/depths/a.png", np.ones((20, 31), np.uint8))


def class_seven(root):
    save(root, "train/masks/a.png", np.full((20, 30), 7, np.uint8))


def class_three_hundred(root):
    save(root, "train/masks/a.png", np.full((20, 30), 300, np.uint16))


def rgb_mask(root):
    save(root, "train/masks/a.png", picture(20, 30, 1))


def broken_image(root):
    path = root / "train/images/a.jpg"
    path.write_bytes(path.read_bytes()[:300])


def text_as_image(root):
    (root / "train/images/a.jpg").write_text("<html>not found</html>")


def jpeg_as_mask(root):
    Image.fromarray(np.zeros((20, 30), np.uint8)).save(root / "train/masks/a.png", format="JPEG")


def sixteen_bits(root):
    save(root, "train/depths/a.png", np.full((20, 30), 2000, np.uint16))


def no_classes(root):
    (root / "classes.txt").unlink()


def gap_in_classes(root):
    (root / "classes.txt").write_text("0 road\n2 car\n")


DAMAGES = [
    (no_mask, r"b\.jpg has no partner; .*masks.b\.png should exist"),
    (no_image, r"masks.b\.png has no picture"),
    (no_depth, r"a\.jpg has no partner; .*depths.a\.png"),
    (twice, r"a\.png and a\.jpg have the same id"),
    (other_size, r"masks.a\.png is 20×30, .*30×20"),
    (other_depth_size, r"depths.a\.png is 31×20, .*30×20"),
    (class_seven, r"masks.a\.png has class id 7; .*0 … 3"),
    (class_three_hundred, r"masks.a\.png has class id 300; "),
    (rgb_mask, r"masks.a\.png has 3 channels"),
    (broken_image, r"images.a\.jpg cannot be read as an image"),
    (text_as_image, r"images.a\.jpg cannot be read as an image"),
    (jpeg_as_mask, r"masks.a\.png is no PNG"),
    (no_classes, r"classes\.txt is missing; it should have one line per class"),
    (gap_in_classes, r"classes\.txt, line 2: '2 car'; should be '1 name"),
]


@pytest.mark.parametrize(("damage", "message"), DAMAGES, ids=[damage.__name__ for damage, _ in DAMAGES])
def test_damage_is_found_by_reader_and_check(street, damage, message):
    damage(street)
    write_manifest(street)
    with pytest.raises(DataError, match=message):
        folder(street, "train", **DEPTH)[0]
    report = verify(street, progress=False)
    assert re.search(message, "\n".join(report.problems))
    assert len(report.problems) == (2 if damage is no_image else 1)  # the mask and the depth lack it


def test_depth_of_the_wrong_form(street):
    with pytest.raises(DataError, match=r"8 bits per pixel and is asked for as 16-bit with 1000 values"):
        folder(street, "train", depth=DepthFormat(bits=16, per_metre=1000))[0]
    sixteen_bits(street)
    with pytest.raises(DataError, match=r"a\.png has 16 bits per pixel and is asked for as 8-bit with 25.5"):
        folder(street, "train", **DEPTH)[0]
    write_manifest(street)
    assert "[8, 16] bits" in verify(street, progress=False).problems[0]
    with pytest.raises(ValueError, match="nearer than one metre"):
        DepthFormat(bits=8, per_metre=1000)
    with pytest.raises(ValueError, match="bits is 12"):
        DepthFormat(bits=12, per_metre=1000)


def test_missing_and_empty_splits(street):
    with pytest.raises(DataError, match=r"test is missing; .* has train, val"):
        folder(street, "test")
    (street / "test/images").mkdir(parents=True)
    (street / "test/masks").mkdir()
    with pytest.raises(DataError, match=r"test.images has no picture"):
        folder(street, "test")
    assert any("has no picture" in problem for problem in verify(street, progress=False).problems)
    with pytest.raises(DataError, match="is no folder"):
        folder(street / "nowhere", "train")


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"image": "gone", "instance": 1, "sentences": ["it"]}, r"entry 0: there is no image 'gone'"),
        ({"image": "s_000", "instance": 2, "sentences": ["it"]}, r"no pixel of instance 2"),
        ({"image": "s_000", "instance": 0, "sentences": ["it"]}, r"instance is 0; should be 1 or more"),
        ({"image": "s_000", "instance": 1, "sentences": []}, r"sentences is \[\]"),
        ({"image": "s_000", "sentences": ["it"]}, r"needs image, instance and sentences"),
    ],
)
def test_wrong_expressions(things, entry, message):
    (things / "refs_train.json").write_text(json.dumps([entry]))
    write_manifest(things)
    with pytest.raises(DataError, match=message):
        folder(things, "train", text="refs")[0]
    (problem,) = verify(things, progress=False).problems
    assert re.search(message, problem)


def test_wrong_json(things, street):
    (things / "refs_train.json").write_text("{")
    with pytest.raises(DataError, match=r"refs_train\.json is no valid JSON"):
        folder(things, "train", text="refs")
    (things / "refs_train.json").unlink()
    with pytest.raises(DataError, match=r"refs_train\.json is missing"):
        folder(things, "train", text="refs")
    (things / "prompts_train.json").write_text(json.dumps({"other": {"p1": "polyp"}}))
    with pytest.raises(DataError, match="has no prompt for image 's_000'"):
        folder(things, "train", text="p1")
    (street / "map2.json").write_text(json.dumps({"names": ["a"], "map": {"0": 0, "1": 1, "2": 0, "3": 0}}))
    with pytest.raises(DataError, match=r"class 1 → 1; should be 0 … 0"):
        folder(street, "train", class_map="map2.json")
    (street / "map2.json").write_text(json.dumps({"names": ["a"], "map": {"0": 0}}))
    with pytest.raises(DataError, match=r"does not say where to put the classes \[1, 2, 3\]"):
        folder(street, "train", class_map="map2.json")


def test_check_of_a_sound_set(street, things):
    report = verify(street, progress=False)
    assert report.problems == [] and report.counts == {"train": 2, "val": 1}
    assert report.sizes["train"] == {(30, 20): 2} and report.pixels.sum() == 3 * 600
    assert report.pixels[3] == 3 * 60
    assert verify(things, progress=False).problems == []


def test_manifest(street):
    path = street / "val/masks/c.png"
    save(street, "val/masks/c.png", np.ones((20, 30), np.uint8))
    (street / "train/images/new.txt").write_text("stray")
    problems = "\n".join(verify(street, progress=False).problems)
    assert f"{path} has changed" in problems and "new.txt is not listed" in problems
    path.unlink()
    assert f"{path} is missing; manifest.sha256 lists it" in "\n".join(
        verify(street, progress=False).problems
    )


def test_every_problem_is_listed(street):
    class_seven(street)
    no_image(street)
    broken = street / "val/images/c.jpg"
    broken.write_text("no picture")
    (street / "manifest.sha256").unlink()
    problems = verify(street, progress=False).problems
    assert len(problems) == 4  # c.jpg, class 7, and two partners without b.jpg


def test_command(street, capsys):
    assert main([str(street), "--quiet"]) == 0
    printed = capsys.readouterr().out
    assert "train         2 pictures   30×20: 2" in printed and "✓ no problem found" in printed
    assert "   3  void                            10.00 %" in printed
    class_seven(street)
    assert main([str(street)]) == 1
    printed = capsys.readouterr().out
    assert "✗" in printed and "2 problems found" in printed  # the class, and the manifest
    assert main([str(street / "nowhere"), "--quiet"]) == 1
