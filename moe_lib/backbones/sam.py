"""SAM, assembled from segment-anything's parts: an image and prompts → masks.

Shapes: B images, P prompts each, N points of a prompt, M masks that answer a prompt; an embedding of C
channels on a grid of h × w; masks of 4h × 4w before they are enlarged to the image's H × W.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from segment_anything.modeling import MaskDecoder, PromptEncoder, TwoWayTransformer
from torch import Tensor, nn

from moe_lib.backbones import checks
from moe_lib.backbones.encoder import ImageEncoder
from moe_lib.backbones.pixels import Normalised


@dataclass(frozen=True)
class Sizes:
    """Everything that tells one SAM from another.

    Introduced in :doc:`/chapters/pocket_models`.
    """

    image: int  # pixels a side
    patch: int
    width: int
    depth: int
    heads: int
    window: int  # tokens a side of the windows; 0: every block is global
    global_blocks: tuple[int, ...]
    relative: bool = True  # relative positions
    channels: int = 256  # of the embedding
    decoder_heads: int = 8
    decoder_mlp: int = 2048
    quality_width: int = 256  # of the head that judges masks


@dataclass(frozen=True)
class Masks:
    """What SAM answers: ``logits`` (B, P, M, H, W), positive inside, and ``quality`` (B, P, M), its guess
    of their IoU.

    Introduced in :doc:`/chapters/pocket_models`.
    """

    logits: Tensor
    quality: Tensor
    small: Tensor  # the logits as they left the decoder, (B, P, M, 4h, 4w): a prompt for the next click

    def best(self) -> Tensor:
        """The mask of each prompt that the model believes in most, ``(B, P, H, W)`` bool."""
        return self.of(self.quality.argmax(-1)) > 0

    def of(self, chosen: Tensor, *, small: bool = False) -> Tensor:
        """The logits of one mask per prompt, given its number ``(B, P)``: ``(B, P, H, W)``."""
        logits = self.small if small else self.logits
        return logits.take_along_dim(chosen[..., None, None, None], 2)[:, :, 0]


class Embedder(Normalised):
    """What sees pictures of one size through an ``image_encoder``."""

    image_encoder: ImageEncoder

    def __init__(self, sizes: Sizes):
        super().__init__()
        self.sizes = sizes

    def embed(self, image: Tensor) -> Tensor:
        """Pictures in [0, 1], ``(B, 3, H, W)`` → embeddings ``(B, C, h, w)``."""
        checks.image(image, self.sizes.image)
        return self.image_encoder(self.normalised(image))


class Sam(Embedder):
    """An image encoder, an encoder of prompts, a decoder of masks.

    Parameters have the names of official checkpoints. ``sam(batch)`` answers the prompts of a batch; to
    prompt one picture many times, :meth:`embed` it once and call :meth:`answer`.

    Introduced in :doc:`/chapters/pocket_models`.
    """

    def __init__(self, sizes: Sizes):
        super().__init__(sizes)
        grid = sizes.image // sizes.patch
        self.image_encoder = ImageEncoder(
            img_size=sizes.image, patch_size=sizes.patch, embed_dim=sizes.width, depth=sizes.depth,
            num_heads=sizes.heads, window_size=sizes.window, global_attn_indexes=sizes.global_blocks,
            use_rel_pos=sizes.relative, out_chans=sizes.channels, norm_layer=partial(nn.LayerNorm, eps=1e-6),
        )  # fmt: skip
        self.prompt_encoder = Prompts(
            embed_dim=sizes.channels, image_embedding_size=(grid, grid),
            input_image_size=(sizes.image, sizes.image), mask_in_chans=16,
        )  # fmt: skip
        transformer = TwoWayTransformer(
            depth=2, embedding_dim=sizes.channels, num_heads=sizes.decoder_heads, mlp_dim=sizes.decoder_mlp
        )
        self.mask_decoder = Decoder(
            transformer=transformer, transformer_dim=sizes.channels,
            num_multimask_outputs=3, iou_head_depth=3, iou_head_hidden_dim=sizes.quality_width,
        )  # fmt: skip

    def forward(self, batch: Mapping[str, Any], prompt: str = "point", *, several: bool = True) -> Masks:
        """Answer one prompt per picture of a batch: its ``"point"``, its ``"box"``, or ``"none"``."""
        asked = checks.prompts_of(batch, prompt)
        return self.answer(self.embed(batch["image"]), **asked, several=several)

    def answer(
        self, embedding: Tensor, *, points: Tensor | None = None, labels: Tensor | None = None,
        boxes: Tensor | None = None, masks: Tensor | None = None, several: bool = True,
    ) -> Masks:  # fmt: skip
        """Masks for P prompts on each embedding.

        Args:
            embedding: ``(B, C, h, w)``.
            points: ``(B, P, N, 2)``, column and row in pixels.
            labels: ``(B, P, N)``: 1 on the object, 0 beside it, -1 no point; all 1 if left out.
            boxes: ``(B, P, 4)``: x0, y0, x1, y1.
            masks: Logits of an earlier answer, ``(B, P, 4h, 4w)``.
            several: Three masks per prompt, or the one of which there is only one.
        """
        labels = checks.prompts(self.sizes.image, len(embedding), points, labels, boxes, masks)
        chosen = slice(1, None) if several else slice(0, 1)
        small, quality = self.decode(embedding, points, labels, boxes, masks)
        small, quality = small[:, :, chosen], quality[:, :, chosen]
        side = (self.sizes.image, self.sizes.image)
        large = F.interpolate(small.flatten(0, 1), side, mode="bilinear", align_corners=False)
        return Masks(large.unflatten(0, small.shape[:2]), quality, small)

    def decode(
        self, embedding: Tensor, points: Tensor | None = None, labels: Tensor | None = None,
        boxes: Tensor | None = None, masks: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """All four masks of each prompt, ``(B, P, 4, 4h, 4w)``, and their qualities ``(B, P, 4)``."""
        given = [part for part in (points, boxes, masks) if part is not None]
        count = given[0].shape[1] if given else 1
        sparse, dense = self.prompt_encoder(
            points=None if points is None else (points.flatten(0, 1), labels.flatten(0, 1)),
            boxes=None if boxes is None else boxes.flatten(0, 1),
            masks=None if masks is None else masks.flatten(0, 1)[:, None],
        )
        if not given:  # as many empty prompts as there are pictures
            sparse, dense = (part.expand(len(embedding), *part.shape[1:]) for part in (sparse, dense))
        small, quality = self.mask_decoder.predict_masks(
            image_embeddings=embedding.repeat_interleave(count, 0),
            image_pe=self.prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
        )
        return small.unflatten(0, (-1, count)), quality.unflatten(0, (-1, count))


class Prompts(PromptEncoder):
    """segment-anything's encoder of prompts, without indexing by a condition, for which a GPU must wait."""

    def _embed_points(self, points: Tensor, labels: Tensor, pad: bool) -> Tensor:
        points = points + 0.5  # the middle of the pixel
        if pad:
            points = F.pad(points, (0, 0, 0, 1))
            labels = F.pad(labels, (0, 1), value=-1)
        place = self.pe_layer.forward_with_coords(points, self.input_image_size)
        none, beside, on = (e.weight for e in (self.not_a_point_embed, *self.point_embeddings[:2]))
        label = labels[..., None]
        return torch.where(label < 0, none, place + torch.where(label > 0, on, beside))


class Decoder(MaskDecoder):
    """segment-anything's mask decoder for prompts on different pictures: embeddings come one per prompt."""

    def predict_masks(
        self, image_embeddings: Tensor, image_pe: Tensor, sparse_prompt_embeddings: Tensor,
        dense_prompt_embeddings: Tensor,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        count = len(sparse_prompt_embeddings)
        own = torch.cat([self.iou_token.weight, self.mask_tokens.weight]).expand(count, -1, -1)
        tokens = torch.cat([own, sparse_prompt_embeddings], 1)
        source = image_embeddings + dense_prompt_embeddings
        answers, pixels = self.transformer(source, image_pe.expand(count, -1, -1, -1), tokens)
        pixels = self.output_upscaling(pixels.mT.reshape(source.shape))  # (BP, C/8, 4h, 4w)
        spoken = [mlp(answers[:, 1 + i]) for i, mlp in enumerate(self.output_hypernetworks_mlps)]
        masks = torch.einsum("bmc,bchw->bmhw", torch.stack(spoken, 1), pixels)
        return masks, self.iou_prediction_head(answers[:, 0])
