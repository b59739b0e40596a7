"""Objects, clicks on mistakes, and the scores of a SAM that is always right or always wrong."""

import pytest
import tiny
import torch

from moe_lib.backbones.clicks import Scenes, answered, correction, iou, objects, scores
from moe_lib.backbones.sam import Masks
from moe_lib.worlds.generic import ask

SEEDS = torch.arange(4, dtype=torch.int32)


def scenes() -> Scenes:
    return tiny.pool(4).scenes(torch.arange(4))


def test_objects_are_the_instances_or_the_pieces_of_the_foreground():
    mask = torch.zeros(2, 8, 8, dtype=torch.long)
    mask[0, :2, :2] = mask[0, 2, 2] = 1  # touch at a corner: one piece
    mask[0, 6:, 6:] = 1
    mask[1, 0, 0] = 255  # nothing is known there
    found = objects({"image": torch.rand(2, 3, 8, 8), "mask": mask})
    assert (
        found.instances[0].unique().tolist() == [0, 1, 2]
        and found.instances[0, 2, 2] == found.instances[0, 0, 0]
    )
    assert found.instances[1].sum() == 0 and found.visible.shape == (2, 2)
    batch = {"image": torch.rand(2, 3, 8, 8), "instances": mask, "visible": [torch.ones(1), torch.ones(3)]}
    assert objects(batch).visible.tolist() == [[1, 0, 0], [1, 1, 1]]
    with pytest.raises(ValueError, match="class 3"):
        objects({"image": torch.rand(1, 3, 8, 8), "mask": torch.full((1, 8, 8), 3)})


def test_intersection_over_union():
    one, other = torch.zeros(2, 6, 6, dtype=torch.bool)
    one[:, :4], other[:, 2:] = True, True
    assert iou(one, other) == pytest.approx(12 / 36)
    assert iou(one, one) == 1 and iou(one, ~one) == 0 and iou(one & ~one, one & ~one) == 0


def test_a_correction_is_a_click_on_a_mistake():
    generator = torch.Generator().manual_seed(0)
    truth = torch.rand(4, 3, 9, 7, generator=generator) < 0.4
    found = torch.rand(4, 3, 9, 7, generator=generator) < 0.4
    found[0, 0] = truth[0, 0]  # nothing is wrong
    found[1, 1], truth[1, 1] = False, False
    found[1, 1, 3, 2] = True  # one pixel too many
    point, label = correction(found, truth, SEEDS)
    assert label[0, 0] == -1
    assert point[1, 1].tolist() == [2, 3] and label[1, 1] == 0
    for b, p in torch.cartesian_prod(torch.arange(4), torch.arange(3)).tolist():
        x, y = point[b, p].long().tolist()
        if label[b, p] >= 0:
            assert found[b, p, y, x] != truth[b, p, y, x] and bool(truth[b, p, y, x]) == bool(label[b, p])


def test_every_wrong_pixel_may_be_clicked():
    wrong = torch.zeros(600, 1, 4, 4, dtype=torch.bool)
    wrong[:, :, 1, :3] = True
    point, _ = correction(wrong, torch.zeros_like(wrong), torch.arange(600, dtype=torch.int32))
    assert point[..., 1].unique().tolist() == [1]
    share = torch.bincount(point[..., 0].flatten().long(), minlength=4) / 600
    assert share[3] == 0 and (share[:3] - 1 / 3).abs().max() < 0.07


class Oracle(torch.nn.Module):
    """Answers with the truth, with its complement, or doubts the better of its masks."""

    def __init__(self, kind: str):
        super().__init__()
        self.kind, self.calls = kind, []

    def embed(self, image):
        self.truth = ask(scenes().instances, scenes().visible, 4, SEEDS)["mask"].float() * 2 - 1
        return image

    def answer(self, embedding, *, several=True, **prompts):
        self.calls.append(prompts)
        right, wrong = self.truth, -self.truth
        masks = [wrong] * 3 if self.kind == "wrong" else [right, wrong, wrong]
        beliefs = {"right": [1.0, 0, 0], "wrong": [0.25, 0, 0], "doubts": [0.0, 0.5, 0]}[self.kind]
        logits = torch.stack(masks[: 3 if several else 1], 2)
        quality = torch.tensor(beliefs[: 3 if several else 1]).expand(4, 4, -1)
        return Masks(logits, quality, logits)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("right", {"1 click": 1, "best of 3": 1, "2 clicks": 1, "box": 1, "quality error": 0}),
        ("wrong", {"1 click": 0, "best of 3": 0, "2 clicks": 0, "box": 0, "quality error": 0.25}),
        ("doubts", {"1 click": 0, "best of 3": 1, "2 clicks": 1, "box": 1, "quality error": 0.5}),
    ],
)
def test_the_scores_of_one_whose_answers_are_known(kind, expected):
    oracle = Oracle(kind)
    found = answered(oracle, scenes(), SEEDS)
    assert {name: float(found[name].mean()) for name in expected} == expected
    first, second, box = oracle.calls
    assert set(first) == {"points"} and set(second) == {"points", "labels", "masks"} and set(box) == {"boxes"}
    assert torch.equal(second["points"][:, :, :1], first["points"])
    assert (second["labels"][..., 1] == {"right": -1}.get(kind, second["labels"][..., 1])).all()


def test_scores_do_not_depend_on_how_scenes_are_parted():
    sam, given = tiny.sam().eval(), tiny.pool(6)
    whole, parts = (scores(sam, given.parts(size)) for size in (6, 4))
    for name, values in whole.items():
        assert values.shape == (6, 4)
        torch.testing.assert_close(parts[name], values, rtol=1e-4, atol=1e-4)
    assert not torch.equal(scores(sam, given.parts(), seed=1)["1 click"], whole["1 click"])
