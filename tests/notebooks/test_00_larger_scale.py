"""What the warm-up chapter builds is right: held against the library and against formulas of its own here."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from freshness import ROOT, read
from hypothesis import given, settings
from hypothesis import strategies as st
from lift import lift

import moe_lib as moe

NOTEBOOK = ROOT / "chapters" / "00_larger_scale.ipynb"
BOX = torch.full((1, 1, 3, 3), 1 / 9)
CHAPTER = lift(
    NOTEBOOK,
    *("expert", "measured_kernel", "basis", "best_shift", "train_shift", "steps_to_learn"),
    *("middle_weight", "far_expert", "spread", "condition"),
    box=BOX,
    steps=30,
    where=torch.device("cpu"),
)
RATIOS = pytest.mark.parametrize("ratio", range(1, 9))


@pytest.fixture(autouse=True)
def the_same_numbers_every_time():
    torch.manual_seed(0)


def random_weight(seed: int, channels: int = 1) -> torch.Tensor:
    return torch.rand(channels, 1, 3, 3, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def bicubic(old: int, new: int) -> np.ndarray:
    """Resampling by Keys' cubic with a = -0.75, pixel centres aligned, as a matrix (new, old)."""

    def cubic(t: float, a: float = -0.75) -> float:
        t = abs(t)
        if t <= 1:
            return (a + 2) * t**3 - (a + 3) * t**2 + 1
        return a * (t**3 - 5 * t**2 + 8 * t - 4) if t < 2 else 0.0

    matrix = np.zeros((new, old))
    for row in range(new):
        position = (row + 0.5) * old / new - 0.5
        for column in range(int(np.floor(position)) - 1, int(np.floor(position)) + 3):
            matrix[row, min(max(column, 0), old - 1)] += cubic(position - column)  # the border is repeated
    return matrix


def reference_expert(image: np.ndarray, weight: np.ndarray, ratio: int) -> np.ndarray:
    """One channel, by matrices and shifted copies in double precision."""
    height, width = image.shape
    fine = bicubic(height, ratio * height) @ image @ bicubic(width, ratio * width).T
    framed = np.pad(fine, 1)
    rows, columns = fine.shape
    convolved = sum(weight[i, j] * framed[i : i + rows, j : j + columns] for i in range(3) for j in range(3))
    return bicubic(rows, height) @ convolved @ bicubic(columns, width).T


def reference_columns(ratio: int) -> np.ndarray:
    """Effective kernels of the nine one-hot weights, (49, 9): responses to one bright pixel, turned round."""
    bright = np.zeros((15, 15))
    bright[7, 7] = 1
    responses = [reference_expert(bright, unit.reshape(3, 3), ratio) for unit in np.eye(9)]
    return np.stack([response[4:11, 4:11][::-1, ::-1].ravel() for response in responses], axis=1)


@RATIOS
@pytest.mark.parametrize("size", [(8, 8), (5, 11)])
def test_the_expert_enlarges_convolves_and_shrinks(ratio, size):
    z, weight = torch.randn(2, 3, *size), random_weight(ratio, channels=3)
    out = CHAPTER.expert(z, weight, ratio)
    assert out.shape == z.shape
    for b in range(2):
        for c in range(3):
            expected = reference_expert(z[b, c].double().numpy(), weight[c, 0].double().numpy(), ratio)
            np.testing.assert_allclose(out[b, c], expected, atol=1e-5)


@given(ratio=st.integers(1, 8), radius=st.integers(1, 3), seed=st.integers(0, 10**6))
@settings(max_examples=15, deadline=None)
def test_the_chapters_kernel_is_the_librarys(ratio, radius, seed):
    weight = random_weight(seed)

    def filtered(z):
        return CHAPTER.expert(z, weight, ratio)

    slow = CHAPTER.measured_kernel(filtered, radius=radius)
    torch.testing.assert_close(slow, moe.effective_kernel(filtered, radius=radius), atol=1e-5, rtol=0)
    columns = reference_columns(ratio) @ weight.flatten().double().numpy()
    cut = slice(3 - radius, 4 + radius)
    np.testing.assert_allclose(slow, columns.reshape(7, 7)[cut, cut], atol=1e-5)


@RATIOS
def test_the_basis_is_the_kernels_of_the_nine_weights(ratio):
    basis = CHAPTER.basis(ratio)
    assert basis.shape == (9, 7, 7)
    np.testing.assert_allclose(basis.flatten(1).T, reference_columns(ratio), atol=1e-5)


@RATIOS
def test_the_best_shift_is_a_projection(ratio):
    columns, target = reference_columns(ratio), np.eye(49)[3 * 7 + 4]
    within_reach, _ = np.linalg.qr(columns)
    share, price = CHAPTER.best_shift(ratio)
    assert share == pytest.approx(np.square(within_reach.T @ target).sum(), abs=1e-4)
    assert price == pytest.approx(np.linalg.norm(np.linalg.pinv(columns) @ target), rel=1e-3)


def test_a_larger_ratio_pays_more_for_the_shift():
    prices = [CHAPTER.best_shift(ratio)[1] for ratio in (1, 2, 4, 8)]
    assert prices == sorted(prices) and prices[0] == pytest.approx(1) and prices[-1] > 20


def test_seeds_train_side_by_side_without_touching(monkeypatch):
    monkeypatch.setattr(CHAPTER, "steps", 8)
    together = CHAPTER.train_shift(2, 0.1, [5, 6, 7])
    assert together.shape == (8, 3)
    for column, seed in enumerate([5, 6, 7]):
        alone = CHAPTER.train_shift(2, 0.1, [seed])
        torch.testing.assert_close(together[:, [column]], alone, rtol=1e-3, atol=1e-5)


def test_training_learns_the_shift_that_the_ratio_can_express():
    errors = CHAPTER.train_shift(1, 0.3, range(4))
    assert (errors[0] > 0.5).all(), "random weights are no shift"
    assert (errors[-1] < 0.05).all()


def test_steps_to_learn_counts_from_one_to_the_first_success():
    history = torch.tensor([[0.5, 0.05, 0.5, 0.1], [0.05, 0.5, 0.5, 0.1], [0.5, 0.5, 0.5, 0.09]])
    assert CHAPTER.steps_to_learn(history).tolist() == [2, 1, 4, 3]
    assert CHAPTER.steps_to_learn(history, goal=0.01).tolist() == [4] * 4


@pytest.mark.parametrize("ratio", [1, 3, 5, 7, 9, 15])
def test_the_middle_weight_is_that_of_the_resampling_matrix(ratio):
    middle = 7 * ratio + ratio // 2  # of the fine grid over 15 pixels
    taps = bicubic(15, 15 * ratio)[middle - 1 : middle + 2, 7]
    assert CHAPTER.middle_weight(ratio) == pytest.approx(taps.mean() ** 2, rel=1e-9)


@pytest.mark.parametrize("ratio", [1, 2, 3, 4])
def test_the_far_expert_shrinks_convolves_and_enlarges(ratio):
    image, weight = torch.randn(4 * ratio, 6 * ratio), random_weight(ratio)
    out = CHAPTER.far_expert(image[None, None], weight, ratio)[0, 0]
    framed = np.pad(image.numpy().reshape(4, ratio, 6, ratio).mean((1, 3)), 1)
    small = sum(float(weight[0, 0, i, j]) * framed[i : i + 4, j : j + 6] for i in range(3) for j in range(3))

    def stretched(values):  # linear between pixel centres, constant beyond the last
        fine = (np.arange(len(values) * ratio) + 0.5) / ratio - 0.5
        return np.interp(fine, np.arange(len(values)), values)

    expected = np.apply_along_axis(stretched, 1, np.apply_along_axis(stretched, 0, small))
    np.testing.assert_allclose(out, expected, atol=1e-5)


def test_the_spread_of_one_pixel_is_the_reach_of_its_kernel():
    kernel = moe.effective_kernel(lambda z: F.conv2d(z, BOX, padding=1))
    narrow = CHAPTER.spread(lambda z, weight, ratio: F.conv2d(z, weight, padding=1), 1)
    assert narrow == pytest.approx(moe.rms_radius(kernel))


@RATIOS
def test_the_condition_is_that_of_the_nine_columns(ratio):
    assert CHAPTER.condition(ratio) == pytest.approx(np.linalg.cond(reference_columns(ratio)), rel=5e-3)


def run_check(word: str, **answers: object) -> None:
    """Run the check cell in which a word stands, with a student's answers in place of the chapter's."""
    [source] = [
        c.source for c in read(NOTEBOOK).cells if "check" in c.metadata.get("tags", []) and word in c.source
    ]
    exec(source, {**vars(CHAPTER), **answers})


def far(shrink=F.avg_pool2d, mode="bilinear"):
    """An answer to the exercise on the far expert; by default a right one."""

    def far_expert(u, weight, ratio):
        small = F.conv2d(shrink(u, ratio), weight, padding=1, groups=len(weight))
        return F.interpolate(small, size=u.shape[-2:], mode=mode)

    return far_expert


def test_a_right_answer_of_another_form_passes():
    run_check("far_expert", far_expert=far())
    run_check("condition", condition=lambda ratio: np.linalg.cond(CHAPTER.basis(ratio).flatten(1).double()))


@pytest.mark.parametrize("word", ["middle_weight", "far_expert", "condition"])
def test_the_chapters_solution_passes_its_check(word, capsys):
    run_check(word)
    assert capsys.readouterr().out


@pytest.mark.parametrize(
    ("word", "mistake", "hint"),
    [
        ("middle_weight", lambda s: CHAPTER.middle_weight(s) ** 0.5, "Did you square"),
        ("middle_weight", lambda s: 4 * CHAPTER.middle_weight(s) / 9, "middle tap"),
        ("middle_weight", lambda s: None, "returns nothing"),
        ("far_expert", CHAPTER.expert, "do you shrink first"),
        ("far_expert", far(shrink=lambda u, r: u[..., ::r, ::r]), "do you average"),
        ("far_expert", far(shrink=F.max_pool2d), "do you average"),
        ("far_expert", far(mode="nearest"), "enlarge bilinearly"),
        ("far_expert", lambda u, weight, r: far()(u, torch.ones_like(weight), r), "one kernel per channel"),
        ("condition", lambda ratio: CHAPTER.condition(ratio) ** 2, "not squared"),
        ("condition", lambda ratio: CHAPTER.condition(ratio) + 1, "ratio 1 should be about 1"),
    ],
)
def test_control_a_likely_mistake_gets_its_hint(word, mistake, hint):
    with pytest.raises(AssertionError, match=hint):
        run_check(word, **{word: mistake})
