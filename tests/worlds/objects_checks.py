"""What every layered task with objects promises, for the tests of each."""

import numpy as np
import torch

from moe_lib.worlds import SPLITS, layers
from moe_lib.worlds.draws import Draws
from moe_lib.worlds.tasks import Task

CPU = torch.device("cpu")


def assert_scene_depends_on_its_index_alone(kind: type[Task]) -> None:
    """Not on the order or the size of the batch, nor on the size of the picture."""
    task = kind("train", 20, 64)
    together, backwards = task.batch(range(5)), task.batch(range(4, -1, -1))
    for key in ("image", "mask"):
        assert torch.equal(together[key], backwards[key].flip(0))
        assert torch.equal(together[key][3], task.batch([3])[key][0])
    assert np.array_equal(task.scene(7).layers, kind("train", 9, 128).scene(7).layers)


def assert_splits_share_no_scene(kind: type[Task]) -> None:
    masks = torch.cat([kind(split, 6, 64).batch(range(6))["image"] for split in SPLITS])
    assert len(masks.flatten(1).unique(dim=0)) == 6 * len(SPLITS)


def assert_batch_form(batch: dict, size: int) -> None:
    count = len(batch["image"])
    assert batch["image"].shape == (count, 3, size, size) and batch["image"].dtype == torch.float32
    assert batch["image"].min() >= 0 and batch["image"].max() <= 1
    assert batch["mask"].shape == (count, size, size) and batch["mask"].dtype == torch.int64
    assert batch["mask"].unique().tolist() == [0, 1]


def assert_instances_fit(batch: dict) -> None:
    """Boxes are tight around what is seen, in the order of the ids; nearer things hide farther ones."""
    for picture, boxes, visible, depth in zip(
        batch["instances"].numpy(), batch["boxes"], batch["visible"], batch["depth"].numpy(), strict=True
    ):
        assert set(np.unique(picture)) <= set(range(len(boxes) + 1))
        assert len(boxes) == len(visible) and visible.min() >= 0 and visible.max() <= 1
        for number, (box, share) in enumerate(zip(boxes.tolist(), visible.tolist(), strict=True), start=1):
            y, x = np.nonzero(picture == number)
            assert (len(x) > 0) == (share > 0)
            tight = [x.min(), y.min(), x.max() + 1, y.max() + 1] if len(x) else [0, 0, 0, 0]
            assert box == tight
            assert len(np.unique(depth[picture == number])) <= 1
            assert not len(x) or depth[picture == number][0] < depth.max()


def alone(scene: layers.Scene, instance: int, size: int) -> torch.Tensor:
    """The silhouette of one instance with nothing else there, ``(H, W)``."""
    mine = scene.layers[(scene.layers["instance"] == instance) & (scene.layers["label"] != layers.KEEP)]
    single = layers.Scene(np.concatenate([layers.layer(label=0)[None], mine]), strokes=scene.strokes)
    return layers.render([single], size, CPU)["instances"][0] == instance


def assert_visible_share(task: Task, index: int) -> None:
    """``visible`` against a rendering of each instance alone; and who is in front is nearer."""
    scene, batch = task.scene(index), task.batch([index])
    picture, depth = batch["instances"][0], batch["depth"][0]
    for number, share in enumerate(batch["visible"][0].tolist(), start=1):
        whole = alone(scene, number, task.size)
        seen = picture == number
        assert not (seen & ~whole).any()
        assert abs(share - float(seen.sum() / whole.sum().clamp(min=1))) < 1e-6
        own = float(scene.layers["depth"][scene.layers["instance"] == number][0])
        hidden = whole & ~seen
        assert not (depth[hidden] > own).any()


def draws(index: int = 0) -> Draws:
    return Draws("objects-tests", "train", index)
