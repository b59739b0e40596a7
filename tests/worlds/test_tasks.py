"""What every task does: refuse mistakes, find scenes by index, and box what is seen."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_lib.worlds import Task
from moe_lib.worlds.tasks import boxes_of, unbatched


@dataclass(frozen=True)
class Numbers(Task):
    """Pictures of one number each."""

    factor: float = 1.0

    name: ClassVar[str] = "numbers"
    family: ClassVar[str] = "numbers"
    classes: ClassVar[tuple[str, ...]] = ("background",)

    def scene(self, index):
        return self.draws(index).uniform() * self.factor

    def render(self, scenes, device):
        image = torch.tensor(scenes, device=device).view(-1, 1, 1, 1).expand(-1, 3, self.size, self.size)
        return {"image": image, "text": [str(s) for s in scenes], "sensors": {"depth": image}}


@pytest.mark.parametrize(
    ("mistake", "message"),
    [
        ({"split": "training"}, "'training'.*pretrain, pretrain_val, train, val, test"),
        ({"n": 0}, "at least one scene, got n=0"),
        ({"size": 100}, "64 to 256 pixels in steps of 8, got 100"),
        ({"size": 56}, "got 56"),
        ({"size": 264}, "got 264"),
    ],
)
def test_mistakes_are_refused_with_what_would_be_right(mistake, message):
    with pytest.raises(ValueError, match=message):
        Numbers(**mistake)


@pytest.mark.parametrize("size", [64, 96, 256])
def test_every_eighth_size_will_do(size):
    assert Numbers(size=size).batch([0])["image"].shape == (1, 3, size, size)


def test_an_empty_batch_and_a_negative_scene_are_refused():
    with pytest.raises(ValueError, match="at least one index"):
        Numbers().batch([])
    with pytest.raises(ValueError, match="got -1"):
        Numbers().batch([-1])


def test_indexing_is_that_of_a_list():
    task = Numbers(n=5)
    assert len(task) == 5
    assert torch.equal(task[-1]["image"], task[4]["image"]) and not torch.equal(
        task[0]["image"], task[1]["image"]
    )
    for index in (5, -6):
        with pytest.raises(IndexError, match=f"{index} of 5"):
            task[index]
    assert len(list(task)) == 5


def test_a_sample_is_a_batch_without_its_axis():
    sample = Numbers()[3]
    assert sample["image"].shape == sample["sensors"]["depth"].shape == (3, 96, 96) and isinstance(
        sample["text"], str
    )
    assert unbatched({"a": [1], "b": {"c": torch.ones(1, 2)}})["b"]["c"].shape == (2,)


def test_a_stream_goes_on_beyond_n_and_takes_any_iterable():
    far = Numbers(n=2).batch(np.array([10**9, 0]))
    assert torch.equal(far["image"][1], Numbers(n=9).batch(iter([0]))["image"][0])


def test_parts_of_a_scene_have_numbers_of_their_own():
    task = Numbers()
    assert task.draws(3).uniform() != task.draws(3, part="camera").uniform()
    assert task.draws(3).uniform() != Numbers("val").draws(3).uniform()


def test_options_say_everything_that_decides_the_scenes():
    assert Numbers("val", 7, 64, factor=2.0).options() == {
        "task": "numbers",
        "split": "val",
        "n": 7,
        "size": 64,
        "factor": 2.0,
    }


def test_a_bare_task_has_no_scenes():
    with pytest.raises(NotImplementedError):
        Task().scene(0)
    with pytest.raises(NotImplementedError):
        Task().render([0], torch.device("cpu"))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 6), st.sampled_from((0.02, 0.2, 0.9)))
def test_boxes_are_tight(seed, count, share):
    rng = np.random.default_rng(seed)
    picture = torch.from_numpy(np.where(rng.random((13, 9)) < share, rng.integers(0, count + 1, (13, 9)), 0))
    boxes = boxes_of(picture, count)
    assert boxes.shape == (count, 4) and boxes.dtype == torch.float32
    for instance, box in enumerate(boxes.tolist(), start=1):
        y, x = np.nonzero(picture.numpy() == instance)
        assert box == ([x.min(), y.min(), x.max() + 1, y.max() + 1] if len(x) else [0, 0, 0, 0])


def test_boxes_of_many_pictures_are_those_of_each():
    pictures = torch.randint(0, 5, (2, 3, 13, 9), generator=torch.Generator().manual_seed(0))
    boxes = boxes_of(pictures, 6)
    assert boxes.shape == (2, 3, 6, 4)
    assert all(torch.equal(boxes[i, j], boxes_of(pictures[i, j], 6)) for i in range(2) for j in range(3))


def test_no_instances_no_boxes():
    assert boxes_of(torch.zeros(8, 8, dtype=torch.long), 0).shape == (0, 4)
