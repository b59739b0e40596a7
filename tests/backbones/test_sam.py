"""The whole of SAM against segment-anything's own, and what a frozen one promises."""

from functools import partial

import pytest
import tiny
import torch
from segment_anything.modeling import ImageEncoderViT, MaskDecoder, PromptEncoder, TwoWayTransformer
from segment_anything.modeling import Sam as Theirs
from torch import nn


def theirs(ours: nn.Module) -> Theirs:
    """segment-anything's model of the same sizes, with the same weights."""
    s = tiny.SIZES
    grid = s.image // s.patch
    encoder = ImageEncoderViT(
        img_size=s.image, patch_size=s.patch, embed_dim=s.width, depth=s.depth, num_heads=s.heads,
        window_size=s.window, global_attn_indexes=s.global_blocks, use_rel_pos=True, out_chans=s.channels,
        norm_layer=partial(nn.LayerNorm, eps=1e-6),
    )  # fmt: skip
    transformer = TwoWayTransformer(
        depth=2, embedding_dim=s.channels, num_heads=s.decoder_heads, mlp_dim=s.decoder_mlp
    )
    decoder = MaskDecoder(
        transformer_dim=s.channels, transformer=transformer, iou_head_hidden_dim=s.quality_width
    )
    model = Theirs(encoder, PromptEncoder(s.channels, (grid, grid), (s.image, s.image), 16), decoder)
    model.load_state_dict(ours.state_dict())
    return model.eval()


GIVEN = {
    "one point": ("points",),
    "points with labels": ("points", "labels"),
    "box": ("boxes",),
    "box and point": ("boxes", "points", "labels"),
    "box and mask": ("boxes", "masks"),
    "everything": ("points", "labels", "boxes", "masks"),
}
NAMES = {"points": "point_coords", "labels": "point_labels", "boxes": "boxes", "masks": "mask_inputs"}


@pytest.mark.parametrize("several", [True, False])
@pytest.mark.parametrize("given", GIVEN.values(), ids=GIVEN)
@torch.no_grad()
def test_masks_and_qualities_are_segment_anythings(given, several):
    ours = tiny.sam().eval()
    generator = torch.Generator().manual_seed(1)
    image = torch.rand(2, 3, 32, 32, generator=generator)
    corner = torch.rand(2, 3, 2, generator=generator) * 12
    prompts = {
        "points": torch.rand(2, 3, 2, 2, generator=generator) * 31,
        "labels": torch.randint(-1, 2, (2, 3, 2), generator=generator),
        "boxes": torch.cat([corner, corner + 15], -1),
        "masks": torch.randn(2, 3, 16, 16, generator=generator),
    }
    asked = {name: prompts[name] for name in given}
    found = ours.answer(ours.embed(image), **asked, several=several)
    if "points" in asked and "labels" not in asked:
        asked["labels"] = torch.ones(2, 3, 2)
    for i, expected in enumerate(
        theirs(ours)(
            [
                {"image": image[i] * 255, "original_size": (32, 32)}
                | {NAMES[name]: v[i][:, None] if name == "masks" else v[i] for name, v in asked.items()}
                for i in range(2)
            ],
            several,
        )
    ):
        torch.testing.assert_close(found.small[i], expected["low_res_logits"], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(found.quality[i], expected["iou_predictions"], rtol=1e-4, atol=1e-5)
        assert (found.logits[i] > 0).eq(expected["masks"]).float().mean() > 0.999


@torch.no_grad()
def test_without_a_prompt_there_is_one_answer_per_picture():
    sam = tiny.sam()
    answer = sam({"image": torch.rand(2, 3, 32, 32)}, prompt="none", several=False)
    assert answer.logits.shape == (2, 1, 1, 32, 32) and answer.best().shape == (2, 1, 32, 32)


@torch.no_grad()
def test_a_batch_is_asked_for_its_own_prompts():
    sam = tiny.sam()
    batch = {"image": torch.rand(2, 3, 32, 32), "point": torch.tensor([[3.0, 4], [20, 9]])}
    found = sam(batch)
    expected = sam.answer(sam.embed(batch["image"]), points=batch["point"][:, None, None])
    assert torch.equal(found.logits, expected.logits)
    first = sam.quality if hasattr(sam, "quality") else found.quality.argmax(-1)
    assert torch.equal(found.best(), found.of(first) > 0)
    assert found.of(first, small=True).shape == (2, 1, 16, 16)


def test_gradients_reach_every_part():
    sam = tiny.sam()
    image, box = torch.rand(1, 3, 32, 32), torch.tensor([[[2.0, 2, 20, 20]]])
    points, masks = torch.tensor([[[[5.0, 5], [9, 30]]]]), torch.randn(1, 1, 16, 16)
    labels = torch.tensor([[[1, 0]]])
    small, quality = sam.decode(sam.embed(image), points, labels, box, masks)
    (small.square().mean() + quality.square().mean()).backward()
    silent = {name for name, values in sam.named_parameters() if values.grad is None}
    assert silent == {"prompt_encoder.no_mask_embed.weight"}  # a mask was given
