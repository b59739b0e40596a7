"""A masked autoencoder: most patches of a picture are hidden, and have to be painted from the others.

Shapes: B images of N patches, K of them kept; encoder tokens of D channels, p pixels a side of a patch.
"""

from functools import partial

import torch
from segment_anything.modeling.image_encoder import Block
from torch import Tensor, nn

from moe_lib.backbones import checks
from moe_lib.backbones.encoder import ImageEncoder
from moe_lib.backbones.pixels import Normalised
from moe_lib.backbones.sam import Sizes
from moe_lib.worlds import noise

KEPT = 0.25  # share of the patches that the encoder sees
WIDTH, DEPTH = 96, 2  # of the decoder


class Mae(Normalised):
    """The image encoder of SAM with global attention only, and a small decoder that paints hidden patches.

    ``image_encoder`` sees kept patches only, so neither windows nor relative positions make sense in it. The
    decoder is needed for training and for looking at what the encoder understood.

    Introduced in :doc:`/chapters/pocket_models`.
    """

    def __init__(self, sizes: Sizes):
        super().__init__()
        if sizes.window or sizes.relative:
            raise ValueError("a masked autoencoder has no windows and no relative positions, got both or one")
        self.sizes, grid = sizes, sizes.image // sizes.patch
        self.image_encoder = ImageEncoder(
            img_size=sizes.image, patch_size=sizes.patch, embed_dim=sizes.width, depth=sizes.depth,
            num_heads=sizes.heads, norm_layer=partial(nn.LayerNorm, eps=1e-6),
        )  # fmt: skip
        self.image_encoder.neck = nn.Identity()  # SAM's, for its mask decoder
        self.norm = nn.LayerNorm(sizes.width)
        self.into_decoder = nn.Linear(sizes.width, WIDTH)
        self.hidden = nn.Parameter(torch.zeros(WIDTH))  # stands for every patch that was not seen
        self.place = nn.Parameter(torch.zeros(grid**2, WIDTH))
        self.decoder = nn.Sequential(*(Block(WIDTH, num_heads=4) for _ in range(DEPTH)), nn.LayerNorm(WIDTH))
        self.paint = nn.Linear(WIDTH, 3 * sizes.patch**2)

    def forward(self, image: Tensor, kept: Tensor) -> Tensor:
        """Paint every patch from the kept ones.

        Args:
            image: Pictures in [0, 1], ``(B, 3, H, W)``.
            kept: Numbers of the patches that are seen, row by row from the top left; ``(B, K)``.

        Returns:
            Patches ``(B, N, 3·p·p)``, each as if its pixels had mean 0 and variance 1.
        """
        checks.image(image, self.sizes.image)
        encoder, rows = self.image_encoder, kept[..., None]
        tokens = encoder.patch_embed(self.normalised(image)) + encoder.pos_embed
        tokens = tokens.flatten(1, 2)
        tokens = tokens.gather(1, rows.expand(-1, -1, tokens.shape[2]))[:, None]  # (B, 1, K, D): one row
        for block in encoder.blocks:
            tokens = block(tokens)
        seen = self.into_decoder(self.norm(tokens[:, 0]))
        everywhere = self.hidden.to(seen).expand(len(image), len(self.place), -1)
        everywhere = everywhere.scatter(1, rows.expand_as(seen), seen) + self.place
        return self.paint(self.decoder(everywhere[:, None])[:, 0])

    def loss(self, image: Tensor, kept: Tensor) -> Tensor:
        """Mean squared error of the hidden patches, ``(B,)``."""
        painted = self(image, kept).float()
        truth, _, _ = self.patches(image)
        wrong = (painted - truth).square().mean(2)
        hidden = torch.ones_like(wrong).scatter(1, kept, 0.0)
        return (wrong * hidden).sum(1) / hidden.sum(1)

    def picture(self, image: Tensor, kept: Tensor) -> Tensor:
        """The picture with hidden patches as painted, ``(B, 3, H, W)``.

        Their brightness and contrast, about which the model says nothing, are the true ones.
        """
        truth, mean, spread = self.patches(image)
        seen = torch.zeros_like(truth[..., :1]).scatter(1, kept[..., None], 1.0)
        patches = torch.where(seen > 0, truth, self(image, kept)) * spread + mean
        grid, patch = self.sizes.image // self.sizes.patch, self.sizes.patch
        patches = patches.view(-1, grid, grid, 3, patch, patch)
        return patches.permute(0, 3, 1, 4, 2, 5).reshape(image.shape).clamp(0, 1)

    def patches(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Patches of mean 0 and variance 1, ``(B, N, 3·p·p)``; their means and spreads, ``(B, N, 1)``."""
        patch, grid = self.sizes.patch, self.sizes.image // self.sizes.patch
        patches = (
            image.view(-1, 3, grid, patch, grid, patch).permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)
        )
        mean = patches.mean(2, keepdim=True)
        spread = (patches.var(2, keepdim=True) + 1e-4).sqrt()  # a plain patch stays plain
        return (patches - mean) / spread, mean, spread

    def keep(self, seeds: Tensor, share: float = KEPT) -> Tensor:
        """Random patches to keep, another choice for each of the seeds ``(B,)``: ``(B, K)``, ascending."""
        count = len(self.place)
        number = torch.arange(count, dtype=torch.int32, device=seeds.device)
        order = noise.uniform(number, seed=seeds[:, None]).argsort(dim=1, stable=True)
        return order[:, : round(share * count)].sort(1).values
