"""Scores against cases done by hand, and baselines on pictures that they must solve or must not."""

import baselines
import numpy as np
import pytest
import small_unet
import torch
from baselines import Pictures
from scoring import class_iou, foreground_iou, objects_f1, score


def maps(*rows: str) -> torch.Tensor:
    """One map, written as rows of digits; 9 is ignored."""
    values = torch.tensor([[int(digit) for digit in row] for row in rows])[None]
    return torch.where(values == 9, 255, values).byte()


def squares(n: int = 40, *, same_colour: bool = False, seed: int = 0) -> Pictures:
    """Bright red squares on dark ground; or the same in grey noise, where only a texture tells."""
    draw = np.random.default_rng(seed)
    image = draw.integers(20, 60, (n, 3, 32, 32))
    mask = np.zeros((n, 32, 32), np.uint8)
    for i, (x, y) in enumerate(draw.integers(2, 18, (n, 2))):
        mask[i, y : y + 12, x : x + 12] = 1
        image[i, 0, y : y + 12, x : x + 12] += 0 if same_colour else 150
    points = torch.tensor(np.stack([np.argwhere(m)[70][::-1] for m in mask]))
    return Pictures(torch.from_numpy(image).byte(), torch.from_numpy(mask), classes=2, point=points)


# ---- scores


def test_foreground_iou_by_hand():
    truth = torch.cat(
        [maps("1100", "1100"), maps("0000", "0000"), maps("0000", "0000"), maps("1199", "9999")]
    )
    predicted = torch.cat(
        [maps("0110", "0110"), maps("0000", "0000"), maps("1000", "0000"), maps("1111", "1111")]
    )
    assert foreground_iou(truth, predicted).tolist() == pytest.approx([2 / 6, 1, 0, 1])
    assert score(truth, predicted, 2) == pytest.approx((2 / 6 + 2) / 4)


def test_class_iou_by_hand_skips_classes_that_never_occur():
    truth, predicted = maps("0011", "0099"), maps("0111", "0333")
    found = class_iou(truth, predicted, 4)
    assert found[:2].tolist() == pytest.approx([2 / 4, 2 / 3])  # one pixel of class 0 was called 3
    assert found[2:].isnan().all()
    assert score(truth, predicted, 4) == pytest.approx((2 / 4 + 2 / 3) / 2)


@pytest.mark.parametrize("classes", [2, 5])
def test_a_perfect_prediction_scores_one(classes):
    truth = torch.randint(0, classes, (3, 16, 16), generator=torch.Generator().manual_seed(0)).byte()
    assert score(truth, truth, classes) == 1
    truth[:, :2] = 255
    assert score(truth, truth.clamp(max=classes - 1), classes) == 1


def test_objects_are_found_by_half_of_their_union():
    instances = maps("1100220", "1100220", "0000000", "3333000").long()
    right = maps("1100220", "1100220", "0000000", "1111000")
    assert objects_f1(instances, right, [1, 2]) == 1
    assert objects_f1(instances, right, [1]) == pytest.approx(2 * 2 / (2 + 3))
    merged = maps("1111110", "1111110", "0000000", "1111000")  # one patch over two objects is neither
    assert objects_f1(instances, merged, [1]) == pytest.approx(2 * 1 / (2 + 3))
    half = maps("1000220", "1000220", "0000000", "1111000")  # 2 of 4 pixels: exactly half is not enough
    assert objects_f1(instances, half, [1, 2]) == pytest.approx(2 * 2 / (3 + 3))
    assert objects_f1(torch.zeros_like(instances), torch.zeros_like(right), [1]) == 0


# ---- baselines


def test_otsu_finds_the_gap():
    low, high = torch.linspace(0.1, 0.3, 50), torch.linspace(0.7, 0.8, 50)
    cut = baselines.otsu(torch.cat([low, high]).view(1, 10, 10))
    assert 0.3 <= float(cut) <= 0.7


def test_what_colour_separates_is_solved_by_thresholds_clusters_and_growing_regions():
    train, test = squares(), squares(10, seed=1)
    for fitted in (
        baselines.threshold(train),
        baselines.colour_clusters(train, squares(10, seed=2)),
        baselines.growing_region(train),
    ):
        assert score(test.mask, fitted(test), 2) > 0.95


def test_dark_things_are_found_too():
    train, test = squares(), squares(10, seed=1)
    for pictures in (train, test):
        pictures.image = 255 - pictures.image
    assert score(test.mask, baselines.threshold(train)(test), 2) > 0.95


def test_what_colour_does_not_separate_is_not_solved():
    train, test = squares(same_colour=True), squares(10, same_colour=True, seed=1)
    for fitted in (baselines.threshold(train), baselines.colour_clusters(train, train)):
        assert score(test.mask, fitted(test), 2) < 0.4


def test_clusters_name_several_classes():
    pictures = squares()
    pictures.mask[pictures.image[:, 2] > 40] = 2  # on the ground: brighter and darker blue
    pictures.mask[pictures.image[:, 0] > 100] = 1
    pictures.classes = 3
    fitted = baselines.colour_clusters(pictures, pictures, ks=(32,))
    assert score(pictures.mask, fitted(pictures), 3) > 0.6


def test_the_constant_is_the_best_one():
    pictures = squares()
    everything = torch.ones_like(pictures.mask)
    found = score(pictures.mask, baselines.constant(pictures)(pictures), 2)
    assert found >= score(pictures.mask, everything, 2) > 0
    pictures.mask[:, :16] = 1  # always there: the mean mask knows it
    pictures.mask[:, 16:] = 0
    assert score(pictures.mask, baselines.constant(pictures)(pictures), 2) == 1


# ---- the U-Net


def test_the_unet_learns():
    net = small_unet.train(squares(), steps=25, seed=0, rate=4e-3)
    test = squares(10, seed=1)
    assert score(test.mask, net(test), 2) > 0.5 > score(test.mask, baselines.constant(test)(test), 2)


def test_the_unet_starts_from_its_seed():
    weights = [small_unet.train(squares(), steps=2, seed=seed).net.head.weight for seed in (0, 0, 1)]
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])


def test_the_unet_has_the_size_that_was_promised():
    assert 300_000 < sum(p.numel() for p in small_unet.UNet(3, 2).parameters()) < 550_000


def test_words_change_what_the_unet_answers():
    pictures = squares(4)
    pictures.point = None
    pictures.text = ["the square", "all but the square", "the square", "the square"]
    net = small_unet.train(pictures, steps=2, seed=0, read=True)
    assert set(net.vocabulary) == {"all", "but", "square", "the"}
    words = small_unet._bag(["The square!", "all but the square, unheard", "zebra"], net.vocabulary)
    shares = [[0, 0, 0.5, 0.5], [0.25, 0.25, 0.25, 0.25], [0, 0, 0, 0]]  # of all, but, square, the
    assert words.tolist() == shares
    image = torch.zeros(3, 3, 32, 32)
    logits = net.net(image, words)
    assert not torch.equal(logits[0], logits[1]) and logits.isfinite().all()
    assert "film" not in "".join(small_unet.train(pictures, steps=2, seed=0).net.state_dict())


def test_the_point_is_a_spot_in_a_channel_of_its_own():
    x = small_unet.inputs(squares(2))
    assert x.shape == (2, 4, 32, 32)
    column, row = squares(2).point[1].tolist()
    assert x[1, 3].argmax() == row * 32 + column
