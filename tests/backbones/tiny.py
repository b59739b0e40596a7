"""Models of a few thousand parameters and scenes of squares, for tests that have to train."""

import torch

from moe_lib.backbones import Mae, Sam, Sizes
from moe_lib.backbones.pretrain.objectives import Painting, Prompting
from moe_lib.backbones.pretrain.pool import Pool

SIZES = Sizes(
    image=32, patch=8, width=24, depth=2, heads=3, window=2, global_blocks=(1,),
    channels=16, decoder_heads=2, decoder_mlp=32, quality_width=16,
)  # fmt: skip
GLOBAL = Sizes(
    image=32, patch=8, width=24, depth=2, heads=3, window=0, global_blocks=(), relative=False,
    channels=16, decoder_heads=2, decoder_mlp=32, quality_width=16,
)  # fmt: skip


def sam(seed: int = 0) -> Sam:
    """A tiny SAM without a single zero among its weights."""
    torch.manual_seed(seed)
    model = Sam(SIZES)
    for name, values in model.named_parameters():
        if "pos" in name:
            torch.nn.init.normal_(values, std=0.3)
    return model


def mae(seed: int = 0) -> Mae:
    torch.manual_seed(seed)
    return Mae(GLOBAL)


def objective(model: str = "sam", seed: int = 0) -> torch.nn.Module:
    """What is trained, around a fresh tiny model."""
    return Painting(mae(seed)) if model == "mae" else Prompting(sam(seed), prompts=4)


def pool(n: int, seed: int = 0) -> Pool:
    """Two bright squares on a dark ground in each scene."""
    generator = torch.Generator().manual_seed(seed)
    image = torch.randint(0, 60, (n, 3, 32, 32), generator=generator, dtype=torch.uint8)
    instances = torch.zeros(n, 32, 32, dtype=torch.uint8)
    for i in range(n):
        for number in (1, 2):
            x, y = torch.randint(0, 8, (2,), generator=generator).tolist()
            place = slice(y, y + 12), slice(x + 14 * (number - 1), x + 14 * (number - 1) + 10)
            image[i, number][place] += 150
            instances[i][place] = number
    return Pool(image, instances, torch.ones(n, 2))
