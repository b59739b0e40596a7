"""The masked autoencoder: it sees only what is kept, and is judged by what is not."""

from dataclasses import replace

import pytest
import tiny
import torch

from moe_lib.backbones import Mae

IMAGE = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
KEPT = torch.tensor([[0, 5, 6, 15], [1, 2, 3, 4]])


def hidden_changed(image: torch.Tensor) -> torch.Tensor:
    """The picture with every hidden patch of the first scene painted over."""
    patches = image.clone().view(2, 3, 4, 8, 4, 8)
    for patch in set(range(16)) - set(KEPT[0].tolist()):
        patches[0, :, patch // 4, :, patch % 4] = 0.5
    return patches.view_as(image)


@torch.no_grad()
def test_hidden_patches_are_not_seen():
    mae = tiny.mae()
    torch.testing.assert_close(mae(hidden_changed(IMAGE), KEPT), mae(IMAGE, KEPT))
    assert not torch.allclose(mae(1 - IMAGE, KEPT), mae(IMAGE, KEPT))


@torch.no_grad()
def test_the_loss_is_the_mean_over_hidden_patches():
    mae = tiny.mae()
    painted, (truth, _, _) = mae(IMAGE, KEPT), mae.patches(IMAGE)
    hidden = [sorted(set(range(16)) - set(row)) for row in KEPT.tolist()]
    expected = torch.stack([(painted[i, h] - truth[i, h]).square().mean() for i, h in enumerate(hidden)])
    torch.testing.assert_close(mae.loss(IMAGE, KEPT), expected)


def test_patches_are_the_picture_again():
    mae = tiny.mae()
    patches, mean, spread = mae.patches(IMAGE)
    assert patches.shape == (2, 16, 192)
    torch.testing.assert_close(patches.mean(2), torch.zeros(2, 16), atol=1e-5, rtol=0)
    first = (patches * spread + mean)[0, 6].view(3, 8, 8)  # row 1, column 2
    torch.testing.assert_close(first, IMAGE[0, :, 8:16, 16:24])


@torch.no_grad()
def test_a_picture_keeps_what_was_seen():
    picture = tiny.mae().picture(IMAGE, KEPT).view(2, 3, 4, 8, 4, 8)
    truth = IMAGE.view(2, 3, 4, 8, 4, 8)
    for patch in range(16):
        same = torch.allclose(
            picture[1, :, patch // 4, :, patch % 4], truth[1, :, patch // 4, :, patch % 4], atol=1e-5
        )
        assert same == (patch in KEPT[1]), patch


def test_every_seed_keeps_other_patches():
    mae = tiny.mae()
    kept = mae.keep(torch.arange(400, dtype=torch.int32))
    assert kept.shape == (400, 4) and (kept.diff(dim=1) > 0).all()
    often = (
        torch.bincount(kept.flatten(), minlength=16) / 400
    )  # each patch is kept in a quarter of the scenes
    assert (often - 0.25).abs().max() < 0.09
    assert torch.equal(mae.keep(torch.tensor([7], dtype=torch.int32))[0], kept[7])


@pytest.mark.parametrize("change", [{"window": 2}, {"relative": True}])
def test_windows_and_relative_positions_are_refused(change):
    with pytest.raises(ValueError, match="no windows"):
        Mae(replace(tiny.GLOBAL, **change))
