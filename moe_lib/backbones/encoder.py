"""SAM's image encoder, with the attention computed in one fused call.

Parameters, names and results are those of segment-anything's ``ImageEncoderViT``; only the arithmetic of the
attention is arranged differently, which is faster.
"""

import torch
import torch.nn.functional as F
from segment_anything.modeling import ImageEncoderViT
from segment_anything.modeling.image_encoder import Attention, get_rel_pos
from torch import Tensor


class ImageEncoder(ImageEncoderViT):
    """A plain ViT with windowed and global blocks, and a neck: ``(B, 3, H, W)`` → ``(B, C, h, w)``.

    Introduced in :doc:`/chapters/pocket_models`.
    """

    def __init__(self, **sizes):
        super().__init__(**sizes)
        for block in self.blocks:
            block.attn.__class__ = FusedAttention  # the same parameters, another forward

    def tokens(self, image: Tensor) -> Tensor:
        """What leaves the last block, before the neck: ``(B, h, w, D)``."""
        x = self.patch_embed(image)
        if self.pos_embed is not None:
            x = x + self.pos_embed
        for block in self.blocks:
            x = block(x)
        return x

    def forward(self, image: Tensor) -> Tensor:
        return self.neck(self.tokens(image).permute(0, 3, 1, 2))


class FusedAttention(Attention):
    """Attention with decomposed relative positions, ``(B, h, w, D)`` → the same.

    The position term ``q · R_h[y_q - y_k] + q · R_w[x_q - x_k]`` is a scalar product, too: of the query's
    values for all rows and columns with the key's one-hot row and column. Appended to query and key, it needs
    no map of biases, and one call of scaled-dot-product attention does the rest.
    """

    def forward(self, x: Tensor) -> Tensor:
        batch, height, width, dim = x.shape
        qkv = self.qkv(x).view(batch, height * width, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)  # (B, heads, N, d)
        if self.use_rel_pos:
            q, k = self._with_positions(q, k, height, width)
        x = F.scaled_dot_product_attention(q, k, v, scale=self.scale)
        return self.proj(x.transpose(1, 2).reshape(batch, height, width, dim))

    def _with_positions(self, q: Tensor, k: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
        rows = get_rel_pos(height, height, self.rel_pos_h).to(q.dtype)  # (h, h, d)
        columns = get_rel_pos(width, width, self.rel_pos_w).to(q.dtype)
        grid = q.unflatten(2, (height, width)) / self.scale  # the attention scales what it multiplies
        up = torch.einsum("bnhwd,hkd->bnhwk", grid, rows).flatten(2, 3)
        along = torch.einsum("bnhwd,wkd->bnhwk", grid, columns).flatten(2, 3)
        row = torch.eye(height, device=q.device, dtype=q.dtype).repeat_interleave(width, 0)  # (N, h)
        column = torch.eye(width, device=q.device, dtype=q.dtype).repeat(height, 1)
        place = torch.cat([row, column], 1).expand(*k.shape[:2], -1, -1)
        return torch.cat([q, up, along], -1), torch.cat([k, place], -1)
