"""Two tiny data folders: a street with depths, and things with expressions."""

import json
from pathlib import Path

import numpy as np
import pytest
from tiny_sets import PROMPTS, picture, save, write_manifest


@pytest.fixture
def street(tmp_path: Path) -> Path:
    """Three classes and void, two splits, JPEG images of 20 × 30, 8-bit depths."""
    root = tmp_path / "street"
    for split, names in (("train", "ab"), ("val", "c")):
        for number, name in enumerate(names, 1):
            mask = np.zeros((20, 30), np.uint8)
            mask[:, 10:20] = 1
            mask[15:, 20:] = 2
            mask[:2] = 3
            save(root, f"{split}/images/{name}.jpg", picture(20, 30, number), quality=95)
            save(root, f"{split}/masks/{name}.png", mask)
            save(root, f"{split}/depths/{name}.png", np.full((20, 30), 51 * number, np.uint8))
    (root / "classes.txt").write_text("0 road\n1 car\n2 night stand\n3 void\n")
    (root / "map2.json").write_text(
        json.dumps({"names": ["ground", "thing"], "map": {"0": 0, "1": 1, "2": 1, "3": 255}})
    )
    write_manifest(root)
    return root


@pytest.fixture
def things(tmp_path: Path) -> Path:
    """Instance masks with referring expressions: 1 on the left, 3 on the right (2 is fully hidden)."""
    root = tmp_path / "things"
    mask = np.zeros((24, 32), np.uint8)
    mask[4:10, 2:9] = 1
    mask[12:22, 20:30] = 3
    mask[12, 20] = 0
    save(root, "train/images/s_000.jpg", picture(24, 32, 1), quality=95)
    save(root, "train/masks/s_000.png", mask)
    refs = [
        {
            "image": "s_000",
            "instance": 1,
            "category_id": 77,
            "sentences": ["leftmost thing", "left thing"],
        },
        {"image": "s_000", "instance": 3, "category_id": 77, "sentences": ["rightmost thing"]},
    ]
    (root / "refs_train.json").write_text(json.dumps(refs))
    (root / "prompts_train.json").write_text(json.dumps({"s_000": PROMPTS}))
    (root / "classes.txt").write_text("0 background\n1 instance_1\n2 instance_2\n3 instance_3\n")
    write_manifest(root)
    return root
