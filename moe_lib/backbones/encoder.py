"""SAM's image encoder, with the attention computed in one fused call.

Parameters, names and results are those of segment-anything's ``ImageEncoderViT``; only the arithmetic of the
attention is arranged differently, which is faster, and needs less memory where there are many tokens.

Shapes: B images (or windows) of N = h × w tokens with D channels, d of them in each head.
"""

import torch
import torch.nn.functional as F
from segment_anything.modeling import ImageEncoderViT
from segment_anything.modeling.image_encoder import Attention
from torch import Tensor

MOST_IN_A_MAP = 1024  # tokens up to which a map of all pairs is kept


class ImageEncoder(ImageEncoderViT):
    """A plain ViT with windowed and global blocks, and a neck: ``(B, 3, H, W)`` → ``(B, C, h, w)``.

    ``blocks[i].attn.maps(x)`` gives the attention probabilities for the input of that layer.

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

    To the logit of query i and key j, positions add ``q_i · R_h[y_i - y_j] + q_i · R_w[x_i - x_j]``. That
    is a scalar product, too: of what the query says about every row and column with the key's one-hot row and
    column. For all pairs it gives a map of biases; where that map would be large, the two factors are
    appended to query and key instead.
    """

    def forward(self, x: Tensor, more: Tensor | None = None) -> Tensor:
        """``more`` are tokens that can be attended to and have no place, ``(P, D)``."""
        shape, (q, k, v) = x.shape, self._heads(x)
        bias = None
        if self.use_rel_pos:
            said, place = self._positions(q, *x.shape[1:3])
            if q.shape[2] <= MOST_IN_A_MAP:
                bias = said @ place
            else:
                q = torch.cat([q, said / self.scale], -1)  # attention will scale it
                k = torch.cat([k, place.mT.expand(*k.shape[:2], -1, -1)], -1)
        if more is not None:
            _, keys, values = (part.expand(len(q), -1, -1, -1) for part in self._heads(more[None, None]))
            if bias is not None:
                bias = F.pad(bias, (0, len(more)))
            elif self.use_rel_pos:
                keys = F.pad(keys, (0, k.shape[-1] - keys.shape[-1]))
            k, v = torch.cat([k, keys], 2), torch.cat([v, values], 2)
        x = F.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=self.scale).transpose(1, 2)
        return self.proj(x.reshape(shape))

    def maps(self, x: Tensor) -> Tensor:
        """The attention probabilities for an input: ``(B, heads, N, N)``, from each query to all keys.

        Args:
            x: ``(B, h, w, D)``, normalised; in blocks with windows, one window each.
        """
        q, k, _ = self._heads(x)
        logits = (q * self.scale) @ k.mT
        if self.use_rel_pos:
            said, place = self._positions(q, *x.shape[1:3])
            logits = logits + said @ place
        return logits.softmax(-1)

    def _heads(self, x: Tensor) -> tuple[Tensor, ...]:
        """Query, key and value, ``(B, heads, N, d)`` each."""
        qkv = self.qkv(x).flatten(1, 2).unflatten(2, (3, self.num_heads, -1))  # (B, N, 3, heads, d)
        return qkv.permute(2, 0, 3, 1, 4).unbind(0)

    def _positions(self, q: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
        """What queries say of rows and columns, ``(B, heads, N, h + w)``; where keys are, ``(h + w, N)``."""
        grid = q.unflatten(2, (height, width))
        rows = torch.einsum("bnhwd,hdk->bnhwk", grid, _table(self.rel_pos_h, height))
        columns = torch.einsum("bnhwd,wdk->bnhwk", grid, _table(self.rel_pos_w, width))
        row, column = (torch.eye(n, dtype=rows.dtype, device=q.device) for n in (height, width))
        place = torch.cat([row.repeat_interleave(width, 1), column.repeat(1, height)])
        return torch.cat([rows, columns], -1).flatten(2, 3), place


def _table(offsets: Tensor, size: int) -> Tensor:
    """Vectors of all offsets, ``(2n - 1, d)`` → those of query i and key j, ``(n, d, n)``; no indexing."""
    if len(offsets) != 2 * size - 1:  # the picture has another size than the model's
        offsets = F.interpolate(offsets.mT[None], size=2 * size - 1, mode="linear")[0].mT
    return offsets.unfold(0, size, 1).flip(2)
