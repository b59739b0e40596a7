"""SAM without prompts: an image → masks, and their classes where there are several.

Shapes: B images of H × W pixels, Q mask tokens, K classes with the background, C channels on a grid of h × w.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from moe_lib.backbones.sam import Decoder, Embedder, Sam

# What is trained of the decoder, for a method's `also`: all but the head that judges masks.
DECODER = (
    r"(.*\.)?mask_decoder\.(transformer|iou_token|mask_tokens|output_upscaling|output_hypernetworks_mlps|"
    r"class_head)"
)


@dataclass(frozen=True)
class Segments:
    """What a :class:`SemanticSam` answers.

    ``logits`` (B, Q, H, W), positive inside; ``classes`` (B, Q, K + 1), logits of each mask's class, the last
    one of no object, or None where there is but one mask to find.

    Introduced in :doc:`/chapters/04_conv_lora`.
    """

    logits: Tensor
    classes: Tensor | None
    small: Tensor  # the logits as they left the decoder, (B, Q, 4h, 4w)
    before: tuple["Segments", ...] = ()  # of the decoder's earlier layers, to be trained as well

    def probabilities(self) -> Tensor:
        """Of each class at each pixel, ``(B, K, H, W)``: what masks say, weighted by what they are masks of.

        They need not sum to 1. With one mask to find, K is 1.
        """
        inside = self.logits.sigmoid()
        if self.classes is None:
            return inside
        return torch.einsum("bqk,bqhw->bkhw", self.classes.softmax(-1)[..., :-1], inside)

    def enlarged(self, size: tuple[int, int]) -> "Segments":
        """The same with logits of so many pixels."""
        large = F.interpolate(self.small, size, mode="bilinear", align_corners=False)
        return Segments(large, self.classes, self.small, tuple(part.enlarged(size) for part in self.before))

    def labels(self) -> Tensor:
        """The class of each pixel, ``(B, H, W)`` int64."""
        if self.classes is None:
            return (self.logits[:, 0] > 0).long()
        return self.probabilities().argmax(1)


class SemanticSam(Embedder):
    """SAM with a decoder that is asked nothing: ``model(batch)`` → :class:`Segments`.

    The encoders of image and prompts are those of the given SAM, not copies. Its four mask tokens give way
    to Q, which all begin as the first of them; of the networks that turn tokens into masks the first is left.
    To train it: ``moe.inject(model, moe.ConvLoRA(also=moe.heads.DECODER))``.

    Args:
        sam: With its weights; it stays as it is.
        classes: With the background; 1 if there is but one mask to find.
        masks: Q. At least as many as an image has classes; left out, 1 or 10.

    Introduced in :doc:`/chapters/04_conv_lora`.
    """

    def __init__(self, sam: Sam, classes: int = 1, masks: int | None = None):
        if not isinstance(sam, Sam):
            raise TypeError(f"it is made of a SAM with prompts, got a {type(sam).__name__}")
        super().__init__(sam.sizes)
        if not isinstance(classes, int) or classes < 1:
            raise ValueError(f"classes are a whole number from 1, got {classes!r}")
        masks = (1 if classes == 1 else 10) if masks is None else masks
        if not isinstance(masks, int) or masks < 1 or (classes == 1 and masks != 1):
            raise ValueError(f"masks are a whole number from 1, and 1 without classes; got {masks!r}")
        self.classes = classes
        self.image_encoder, self.prompt_encoder = sam.image_encoder, sam.prompt_encoder
        self.mask_decoder = PromptlessDecoder(sam.mask_decoder, classes, masks)
        self.train(sam.training).to(sam.pixel_mean.device)

    def forward(self, batch: Mapping[str, Any] | Tensor) -> Segments:
        """Of a batch, or of its images ``(B, 3, H, W)`` in [0, 1]."""
        image = batch if isinstance(batch, Tensor) else batch["image"]
        embedding = self.embed(image)
        nothing = self.prompt_encoder.no_mask_embed.weight[..., None, None]
        small, classes = self.mask_decoder(embedding + nothing, self.prompt_encoder.get_dense_pe())
        return Segments(small, classes, small).enlarged(image.shape[-2:])


class PromptlessDecoder(nn.Module):
    """A copy of SAM's decoder with Q tokens of one kind: embeddings ``(B, C, h, w)`` → masks, classes."""

    def __init__(self, decoder: Decoder, classes: int, masks: int):
        super().__init__()
        for name in ("transformer", "iou_token", "output_upscaling", "iou_prediction_head"):
            self.add_module(name, copy.deepcopy(getattr(decoder, name)))
        first = decoder.mask_tokens.weight.detach()[:1]
        self.mask_tokens = nn.Embedding.from_pretrained(first.repeat(masks, 1), freeze=False)
        self.output_hypernetworks_mlps = nn.ModuleList([copy.deepcopy(decoder.output_hypernetworks_mlps[0])])
        like = {"device": first.device, "dtype": first.dtype}
        self.class_head = nn.Linear(first.shape[1], classes + 1, **like) if classes > 1 else None

    def forward(self, source: Tensor, place: Tensor) -> tuple[Tensor, Tensor | None]:
        tokens = torch.cat([self.iou_token.weight, self.mask_tokens.weight]).expand(len(source), -1, -1)
        answers, pixels = self.transformer(source, place.expand(len(source), -1, -1, -1), tokens)
        pixels = self.output_upscaling(pixels.mT.reshape(source.shape))  # (B, C/8, 4h, 4w)
        answers = answers[:, 1:]
        masks = torch.einsum("bqc,bchw->bqhw", self.output_hypernetworks_mlps[0](answers), pixels)
        return masks, None if self.class_head is None else self.class_head(answers)
