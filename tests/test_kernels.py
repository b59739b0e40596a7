"""The kernel of a linear map is measured right way round, and its two summaries are what they say."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_lib import centre_share, effective_kernel, rms_radius

SUMMARIES = pytest.mark.parametrize("summary", [centre_share, rms_radius])


def convolution(weight):
    return lambda z: F.conv2d(z, weight[None, None], padding=len(weight) // 2)


@st.composite
def kernels(draw):
    size = draw(st.sampled_from([3, 5]))
    entries = st.floats(-10, 10, width=32)
    numbers = draw(st.lists(entries, min_size=size**2, max_size=size**2))
    return torch.tensor(numbers).view(size, size)


@given(kernels())
@settings(max_examples=50, deadline=None)
def test_a_convolution_shows_its_own_weight(weight):
    torch.testing.assert_close(effective_kernel(convolution(weight), radius=len(weight) // 2), weight)


@pytest.mark.parametrize(
    ("roll", "entry"),
    [
        ((-1, -1), (3, 4)),
        ((2, -2), (1, 3)),
        ((3, -1), (3, 0)),
    ],
    ids=["reads its right neighbour", "reads from two above", "reads from three to the left"],
)
def test_an_entry_is_where_the_map_reads_from(roll, entry):
    kernel = effective_kernel(lambda z: z.roll(*roll))
    assert kernel.shape == (7, 7)
    assert kernel[entry] == 1 and kernel.abs().sum() == 1


def test_the_kernel_is_cut_at_the_radius_and_framed_by_zeros():
    weight = torch.arange(1.0, 26).view(5, 5)
    assert torch.equal(effective_kernel(convolution(weight), radius=1), weight[1:4, 1:4])
    assert torch.equal(effective_kernel(convolution(weight), radius=3), F.pad(weight, (1, 1, 1, 1)))
    assert effective_kernel(convolution(weight), radius=0) == weight[2, 2]


def test_the_margin_decides_the_size_of_the_image():
    sizes = []
    effective_kernel(lambda z: sizes.append(tuple(z.shape)) or z, radius=2, margin=1)
    assert set(sizes) == {(1, 1, 7, 7)}


@pytest.mark.parametrize("constant", [7.0, torch.linspace(-1, 1, 15)])
def test_what_a_map_adds_is_removed(constant):
    weight = torch.arange(9.0).view(3, 3)
    kernel = effective_kernel(lambda z: convolution(weight)(z) + constant)
    torch.testing.assert_close(kernel[2:5, 2:5], weight)
    torch.testing.assert_close(kernel.sum(), weight.sum())


def test_gradients_reach_the_weights_in_their_own_places():
    weight = torch.arange(9.0).view(3, 3).requires_grad_()
    importance = torch.linspace(-2, 5, 9).view(3, 3)
    (effective_kernel(convolution(weight), radius=1) * importance).sum().backward()
    torch.testing.assert_close(weight.grad, importance)


def test_gradients_agree_with_finite_differences():
    weight = torch.tensor([[0.3, -1, 2], [0, 1, 0.5], [-0.7, 1, 4]], dtype=torch.double, requires_grad=True)

    def twice(entries):
        once = convolution(entries)
        return effective_kernel(lambda z: once(once(z.double())), radius=2).tanh()

    assert torch.autograd.gradcheck(twice, weight)


@pytest.mark.parametrize(
    ("change", "shape"),
    [
        (lambda z: F.avg_pool2d(z, 3), "(1, 1, 5, 5)"),
        (lambda z: F.pad(z, (1, 0)), "(1, 1, 15, 16)"),
        (lambda z: z.expand(1, 2, -1, -1), "(1, 2, 15, 15)"),
        (lambda z: z.squeeze(), "(15, 15)"),
    ],
)
def test_a_map_that_changes_the_shape_is_refused(change, shape):
    with pytest.raises(ValueError) as error:
        effective_kernel(change)
    assert str(error.value) == f"the map turns (1, 1, 15, 15) into {shape}; it should keep the shape"


@pytest.mark.parametrize("sizes", [{"radius": -1}, {"margin": -1}])
def test_negative_sizes_are_refused(sizes):
    with pytest.raises(ValueError, match=r"numbers of pixels, got .*-1"):
        effective_kernel(lambda z: z, **sizes)


@pytest.mark.parametrize(
    ("kernel", "share", "radius"),
    [
        ([[5.0]], 1, 0),
        ([[0, 0, 0], [0, -2.0, 0], [0, 0, 0]], 1, 0),
        ([[0, 0, 0], [0, 3.0, 4.0], [0, 0, 0]], 9 / 25, 4 / 5),
        ([[0, 1.0, 0], [0, 0, 0], [0, 0, 0]], 0, 1),
        ([[0, 0, 1.0], [0, 0, 0], [0, 0, 0]], 0, math.sqrt(2)),
        ([[1.0] * 3] * 3, 1 / 9, math.sqrt((4 * 1 + 4 * 2) / 9)),
        ([[2.0, 0, 0, 0, 0], *[[0.0] * 5] * 3, [0, 0, 0, 0, 2.0]], 0, math.sqrt(8)),
    ],
)
def test_summaries_of_kernels_computed_by_hand(kernel, share, radius):
    assert centre_share(torch.tensor(kernel)) == pytest.approx(share)
    assert rms_radius(torch.tensor(kernel)) == pytest.approx(radius)


def test_channels_are_summed_up_before_they_are_compared():
    corner, middle = torch.zeros(3, 3), torch.zeros(3, 3)
    corner[0, 0], middle[1, 1] = 1, 3
    both = torch.stack([corner, middle])[:, None]  # (2, 1, 3, 3)
    assert centre_share(both) == pytest.approx(0.9)
    assert rms_radius(both) == pytest.approx(math.sqrt(0.2))


@SUMMARIES
@given(kernel=kernels(), factor=st.sampled_from([-1, 1e-3, 0.5, -7, 1e4]), turns=st.integers(0, 3))
@settings(max_examples=50, deadline=None)
def test_scaling_and_turning_change_no_summary(summary, kernel, factor, turns):
    kernel[0, 0] = 1  # not all zero
    expected = pytest.approx(summary(kernel), rel=1e-5)
    assert summary(kernel * factor) == expected
    assert summary(kernel.rot90(turns)) == expected
    assert summary(kernel.T) == expected


@given(kernels())
@settings(max_examples=50, deadline=None)
def test_summaries_stay_within_their_bounds(kernel):
    kernel[0, 0] = 1
    assert 0 <= centre_share(kernel) < 1
    assert 0 < rms_radius(kernel) <= math.sqrt(2) * (len(kernel) // 2) + 1e-9


@SUMMARIES
@pytest.mark.parametrize(
    "weights", [torch.zeros(3, 3), torch.full((3, 3), math.nan), torch.full((3, 3), math.inf)]
)
def test_kernels_without_a_spread_are_refused(summary, weights):
    with pytest.raises(ValueError, match="finite weights that are not all zero"):
        summary(weights)


@SUMMARIES
@pytest.mark.parametrize("shape", [(4, 4), (3, 5), (3,), (1, 3, 2), ()])
def test_kernels_without_a_middle_are_refused(summary, shape):
    with pytest.raises(ValueError) as error:
        summary(torch.ones(shape))
    assert str(error.value) == f"a kernel is (…, K, K) with odd K, got {shape}"
