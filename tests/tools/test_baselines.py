"""Scores against cases done by hand, and baselines on pictures that they must solve or must not."""

from contextlib import contextmanager, nullcontext
from types import SimpleNamespace

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


def test_steps_that_are_replayed_are_the_steps_one_by_one(monkeypatch):
    """With a stand-in for the GPU's recording, which does the recorded calls again."""
    plain = small_unet.train(squares(), steps=9, seed=0).net
    training = small_unet.Training(squares(), steps=9, seed=0)
    step, calls = training._step, []

    class Recording:
        def replay(self):
            for number in calls:
                step(number)

    @contextmanager
    def graph(recording, stream):
        assert isinstance(recording, Recording) and stream is training.stream
        monkeypatch.setattr(training, "_step", calls.append)
        yield
        monkeypatch.setattr(training, "_step", step)

    monkeypatch.setattr(torch.cuda, "CUDAGraph", Recording)
    monkeypatch.setattr(torch.cuda, "graph", graph)
    monkeypatch.setattr(torch.cuda, "stream", nullcontext)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    training.recorded, training.stream = True, SimpleNamespace(synchronize=lambda: None)
    (replayed,) = small_unet.together([training])
    assert calls == [0, 1]
    assert torch.equal(small_unet._weights(plain), small_unet._weights(replayed.net))


def test_trainings_side_by_side_are_what_they_are_alone():
    how = [{"steps": 3, "seed": 0}, {"steps": 5, "seed": 1}]
    alone = [small_unet.train(squares(), **one).net for one in how]
    beside = small_unet.together([small_unet.Training(squares(), **one) for one in how])
    for one, other in zip(alone, beside, strict=True):
        assert torch.equal(small_unet._weights(one), small_unet._weights(other.net))


def test_a_training_that_is_not_over_is_not_handed_over():
    training = small_unet.Training(squares(), steps=3, seed=0)
    training.go_on()
    with pytest.raises(RuntimeError, match="took 1 steps of 3"):
        training.finish()


@pytest.mark.parametrize("steps", [1, 2, 10, 3000])
def test_the_rate_goes_up_to_its_peak_and_down_to_nothing(steps):
    rates = small_unet.one_cycle(2e-3, steps)
    assert len(rates) == steps and rates.min() >= 0 and rates.max() <= 2e-3 * 1.0001
    if steps == 3000:
        peak = int(rates.argmax())
        assert peak in (599, 600) and rates[peak] == pytest.approx(2e-3) and rates[-1] < 1e-8
        assert (rates[:600].diff() >= 0).all() and (rates[600:].diff() <= 0).all()


def test_the_loss_is_cross_entropy_and_dice_of_what_is_shown_and_not_ignored():
    logits = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    mask = torch.cat([maps("0011", "0099", "0011", "9999"), maps("1111", "0000", "9999", "0000")]).long()
    rows = mask != 255
    share, truth = logits.softmax(1).movedim(1, -1)[rows], torch.nn.functional.one_hot(mask[rows], 3)
    dice = 2 * (share * truth).sum(0) / (share.sum(0) + truth.sum(0))
    expected = -share[truth.bool()].log().mean() + 1 - dice[:2].mean()  # class 2 is not shown
    assert float(small_unet._loss(logits, mask)) == pytest.approx(float(expected), rel=1e-5)
