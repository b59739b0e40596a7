"""What is learnt: to answer prompts (SAM), or to paint what is hidden (MAE, and a ViT with registers).

All take scenes and one seed per scene, from which every random choice follows; so a step is the same on one
process and on several, and after a restart. Shapes: B pictures, P prompts each, four masks per prompt.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from moe_lib.backbones.clicks import FIRST, Scenes, correction, scores
from moe_lib.backbones.mae import Mae
from moe_lib.backbones.plain import PlainVit
from moe_lib.backbones.pretrain.pool import Pool
from moe_lib.backbones.sam import Sam
from moe_lib.losses import dice, focal
from moe_lib.worlds import noise
from moe_lib.worlds.generic import ask

FOCAL = 20  # weight of the focal loss beside Dice
JITTER = 0.1  # largest shift of a box's side, as a share of the box


class Prompting(nn.Module):
    """SAM's objective: half of the prompts are a click, half a box; then comes a click on a mistake.

    Of the three masks for an unclear prompt only the best is corrected; the fourth, single mask always is;
    and the model judges all of them.
    """

    def __init__(self, sam: Sam, prompts: int = 4):
        super().__init__()
        self.model, self.prompts = sam, prompts

    def forward(self, scenes: Scenes, seeds: Tensor) -> dict[str, Tensor]:
        scenes = turned(scenes, seeds)
        sam, half = self.model, self.prompts // 2
        asked = ask(scenes.instances, scenes.visible, self.prompts, seeds)
        truth = asked["mask"] > 0
        embedding = sam.image_encoder(sam.normalised(scenes.image))
        clicks, boxes = asked["point"][:, :half, None], jittered(asked["box"][:, half:], seeds)
        ones = torch.ones_like(clicks[..., 0], dtype=torch.int64)
        first = [
            Answer(*sam.decode(embedding, points=clicks, labels=ones), truth[:, :half]),
            Answer(*sam.decode(embedding, boxes=boxes), truth[:, half:]),
        ]
        masks, found = (torch.cat([answer.chosen[i] for answer in first], 1) for i in (0, 1))
        point, label = correction(found, truth, seeds)
        two = torch.cat([clicks, point[:, :half, None]], 2), torch.cat([ones, label[:, :half, None]], 2)
        second = [
            Answer(*sam.decode(embedding, *two, masks=masks[:, :half]), truth[:, :half]),
            Answer(
                *sam.decode(embedding, point[:, half:, None], label[:, half:, None], boxes, masks[:, half:]),
                truth[:, half:],
            ),
        ]
        losses = torch.stack([answer.loss for answer in (*first, *second)])
        return {
            "loss": losses.mean(),
            "click": first[0].iou.mean(),
            "box": first[1].iou.mean(),
            "second click": second[0].iou.mean(),
            "quality error": first[0].error.mean(),
        }

    @staticmethod
    def measured(sam: Sam, held_out: Pool) -> dict[str, float]:
        """Scores on scenes that it was not trained on."""
        found = scores(sam, held_out.parts())
        del found["instance"]
        return {name: float(values.mean()) for name, values in found.items()}


class Answer:
    """Four masks for each prompt, held against the truth."""

    def __init__(self, small: Tensor, quality: Tensor, truth: Tensor):
        logits = small.float()  # (B, P, 4, 4h, 4w)
        side = logits.shape[-1]
        share = F.adaptive_avg_pool2d(truth.float(), side)[:, :, None]  # of each cell that is inside
        wrong = FOCAL * focal(logits, share) + dice(logits, share)  # (B, P, 4)
        inside, true = logits.detach() > 0, share > 0.5
        overlap = (inside & true).sum((-2, -1)) / (inside | true).sum((-2, -1)).clamp(min=1)
        misjudged = (quality.float() - overlap).square().mean(-1)
        self.loss = (wrong[..., 0] + wrong[..., 1:].amin(-1) + misjudged).mean()
        best = quality.detach()[..., 1:].argmax(-1) + 1
        mask = logits.detach().take_along_dim(best[..., None, None, None], 2)[:, :, 0]
        # What the next click sees: the mask the model believes in, and the pixels inside it.
        large = F.interpolate(mask, truth.shape[-2:], mode="bilinear", align_corners=False)
        self.chosen = mask, large > 0
        self.iou = overlap.gather(-1, best[..., None])[..., 0]
        self.error = (quality.detach().gather(-1, best[..., None])[..., 0] - self.iou).abs()


class Painting(nn.Module):
    """The objective of a masked autoencoder: the error of the patches that it did not see."""

    def __init__(self, mae: "Mae | Restorer"):
        super().__init__()
        self.model = mae

    def forward(self, scenes: Scenes, seeds: Tensor) -> dict[str, Tensor]:
        scenes = turned(scenes, seeds)
        return {"loss": self.model.loss(scenes.image, self.model.keep(seeds)).mean()}

    @staticmethod
    @torch.no_grad()
    def measured(model: nn.Module, held_out: Pool) -> dict[str, float]:
        """The loss on scenes that it was not trained on."""
        parts = held_out.parts()
        seeds = torch.arange(len(held_out), dtype=torch.int32, device=held_out.image.device).split(64)
        losses = [model.loss(part.image, model.keep(s)) for part, s in zip(parts, seeds, strict=True)]
        return {"loss": float(torch.cat(losses).mean())}


class Restorer(nn.Module):
    """A ViT that sees a token of its own in place of hidden patches, and a layer that paints those.

    Unlike a masked autoencoder it works on the whole grid, as later, with its class token and registers.
    """

    def __init__(self, vit: PlainVit, kept: float = 0.5):
        super().__init__()
        self.vit, self.kept = vit, kept
        self.hidden = nn.Parameter(torch.zeros(vit.width))
        self.paint = nn.Linear(vit.width, 3 * vit.patch**2)

    def keep(self, seeds: Tensor) -> Tensor:
        """Which patches are seen: ``(B, N)``, another choice for each of the seeds ``(B,)``."""
        number = torch.arange(self.vit.vit.patch_embed.num_patches, dtype=torch.int32, device=seeds.device)
        return noise.uniform(number, seed=seeds[:, None]) < self.kept

    def loss(self, image: Tensor, kept: Tensor) -> Tensor:
        """Mean squared error of the hidden patches, each scaled to mean 0 and variance 1; ``(B,)``."""
        x, besides, grid = self.vit.enter(image, hidden=(~kept, self.hidden))
        for i in range(self.vit.depth):
            x, besides = self.vit.block(i, x, besides, grid)
        painted, p = self.paint(self.vit.norm(x)).float(), self.vit.patch
        truth = F.unfold(image, p, stride=p).mT
        truth = (truth - truth.mean(2, keepdim=True)) / (truth.var(2, keepdim=True) + 1e-4).sqrt()
        wrong, hidden = (painted - truth).square().mean(2), (~kept).float()
        return (wrong * hidden).sum(1) / hidden.sum(1).clamp(min=1)


def turned(scenes: Scenes, seeds: Tensor) -> Scenes:
    """Each scene in one of its eight mirror images and quarter turns."""
    bits = noise.hashed(torch.full_like(seeds, FIRST), seed=seeds)
    image, instances = scenes.image, scenes.instances[:, None]
    for bit, turn in enumerate((lambda x: x.flip(-1), lambda x: x.flip(-2), lambda x: x.mT)):
        now = ((bits >> bit) & 1).bool().view(-1, 1, 1, 1)
        image, instances = (torch.where(now, turn(part), part) for part in (image, instances))
    return Scenes(image, instances[:, 0], scenes.visible)


def jittered(boxes: Tensor, seeds: Tensor) -> Tensor:
    """Boxes ``(B, P, 4)`` as a hand would draw them: every side shifted by up to ``JITTER`` of the box."""
    size = (boxes[..., 2:] - boxes[..., :2]).repeat(1, 1, 2)
    prompt, side = (torch.arange(n, dtype=torch.int32, device=boxes.device) for n in boxes.shape[1:])
    shift = 2 * noise.uniform(prompt[:, None], side + FIRST, seed=seeds.view(-1, 1, 1)) - 1
    return boxes + JITTER * size * shift
