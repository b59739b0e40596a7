"""SAM without prompts: what it shares, what it copies, what it answers, and that it learns."""

import pytest
import tiny_methods
import torch

import moe_lib as moe
from moe_lib import heads
from moe_lib.heads import Segments, SemanticSam

IMAGES = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def test_its_masks_are_those_of_a_sam_that_is_asked_nothing():
    sam = tiny_methods.sam()
    small, _ = sam.decode(sam.embed(IMAGES))
    model = SemanticSam(sam, classes=2, masks=4)
    with torch.no_grad():
        model.mask_decoder.mask_tokens.weight.copy_(sam.mask_decoder.mask_tokens.weight)
    torch.testing.assert_close(
        model({"image": IMAGES}).small[:, 0], small[:, 0, 0]
    )  # the network of the first


def test_the_tokens_are_the_first_and_the_rest_is_kept():
    sam = tiny_methods.sam()
    before = {name: values.clone() for name, values in sam.state_dict().items()}
    model = SemanticSam(sam, classes=5, masks=7)
    assert torch.equal(
        model.mask_decoder.mask_tokens.weight, sam.mask_decoder.mask_tokens.weight[:1].expand(7, -1)
    )
    assert model.image_encoder is sam.image_encoder and len(model.mask_decoder.output_hypernetworks_mlps) == 1
    answer = model(IMAGES)
    assert answer.logits.shape == (2, 7, 32, 32) and answer.classes.shape == (2, 7, 6)
    assert answer.small.shape == (2, 7, 16, 16)
    with torch.no_grad():
        for values in model.mask_decoder.parameters():
            values.add_(1)
    assert all(torch.equal(values, before[name]) for name, values in sam.state_dict().items())


def test_inference_weighs_masks_by_their_classes():
    logits = torch.tensor([[[[4.0, -4]], [[-4, 4]], [[4, 4]]]])  # three masks of one row, two pixels
    classes = torch.tensor([[[9.0, 0, 0], [0, 9, 0], [0, 0, 9]]])  # of class 0, of class 1, of nothing
    answer = Segments(logits, classes, logits)
    assert answer.labels().tolist() == [[[0, 1]]]
    p, m = classes.softmax(-1), logits.sigmoid()
    for k in range(2):
        expected = sum(p[0, q, k] * m[0, q] for q in range(3))
        torch.testing.assert_close(answer.probabilities()[0, k], expected)
    binary = Segments(logits[:, :1], None, logits[:, :1])
    assert binary.labels().tolist() == [[[1, 0]]]
    assert torch.equal(binary.probabilities(), logits[:, :1].sigmoid())


def test_all_but_the_judge_is_trained():
    for classes in (1, 3):
        model = SemanticSam(tiny_methods.sam(), classes)
        moe.inject(model, moe.ConvLoRA(experts=2, also=heads.DECODER))
        frozen = {
            n for n, p in model.named_parameters() if not p.requires_grad and n.startswith("mask_decoder")
        }
        assert frozen and all(name.startswith("mask_decoder.iou_prediction_head") for name in frozen)
        assert not any(p.requires_grad for p in model.prompt_encoder.parameters())
        model(IMAGES).logits.sum().backward()
        assert model.mask_decoder.iou_prediction_head.layers[0].weight.grad is None


@pytest.mark.parametrize("classes", [1, 3])
def test_it_is_saved_and_loaded(classes, tmp_path):
    def fresh():
        torch.manual_seed(1)
        return SemanticSam(tiny_methods.sam(), classes)

    model = moe.inject(fresh(), moe.ConvLoRA(experts=2, also=heads.DECODER))
    with torch.no_grad():
        for values in model.parameters():
            if values.requires_grad:
                values.add_(0.1 * torch.randn_like(values))
    moe.save_adapter(model.eval(), tmp_path / "kept")
    again = moe.load_adapter(fresh().eval(), tmp_path / "kept")
    assert torch.equal(again(IMAGES).logits, model(IMAGES).logits)


def test_it_is_refused_with_a_reason():
    sam = tiny_methods.sam()
    for wrong in (dict(classes=0), dict(classes=1, masks=2), dict(classes=3, masks=0)):
        with pytest.raises(ValueError, match="whole number from 1"):
            SemanticSam(sam, **wrong)
    with pytest.raises(TypeError, match="a SAM with prompts, got a Linear"):
        SemanticSam(torch.nn.Linear(2, 2))
    with pytest.raises(ValueError, match="32 × 32 pixels"):
        SemanticSam(sam)(torch.rand(1, 3, 16, 16))
