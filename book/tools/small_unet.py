"""A small U-Net trained from scratch: what a task asks of someone who knows nothing.

One recipe for every task: the table compares tasks, not recipes. Shapes: B images of H × W pixels, C classes.
"""

import re
from itertools import pairwise

import torch
import torch.nn.functional as F
from baselines import Pictures
from scoring import IGNORE
from torch import Tensor, nn

WIDTHS = (16, 32, 64, 128)
BATCH = 8
RATE = 2e-3  # chosen, with the number of steps, on validation images


class UNet(nn.Module):
    """U-Net on 2 × 2 pixels at a time: ``(B, channels, H, W)`` → logits ``(B, C, H, W)``.

    It is given coordinates, so that it may learn what is where. With ``words`` it also reads an expression as
    a bag of words, which scales and shifts its features (FiLM).
    """

    def __init__(self, channels: int, classes: int, *, words: int = 0, widths: tuple[int, ...] = WIDTHS):
        super().__init__()
        before = (4 * channels + 2, *widths[:-1])
        self.down = nn.ModuleList(_block(i, o) for i, o in zip(before, widths, strict=True))
        pairs = list(pairwise(widths))[::-1]
        self.up = nn.ModuleList(_block(fine + coarse, fine) for fine, coarse in pairs)
        self.head = nn.Conv2d(widths[0], 4 * classes, 1)
        self.words = nn.EmbeddingBag(words + 1, 64, mode="mean", padding_idx=0) if words else None
        if words:
            self.film = nn.ModuleList(
                nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 2 * w)) for w in widths
            )

    def forward(self, x: Tensor, words: Tensor | None = None) -> Tensor:
        meaning = self.words(words) if self.words is not None else None
        x = _with_coordinates(F.pixel_unshuffle(x, 2))
        fine = []
        for level, block in enumerate(self.down):
            x = block(F.max_pool2d(x, 2) if level else x)
            if meaning is not None:
                scale, shift = self.film[level](meaning)[:, :, None, None].chunk(2, 1)
                x = x * (1 + scale) + shift
            fine.append(x)
        for block, skip in zip(self.up, fine[-2::-1], strict=True):
            x = block(torch.cat([F.interpolate(x, scale_factor=2), skip], 1))
        return F.pixel_shuffle(self.head(x), 2)


def train(
    pictures: Pictures, *, steps: int, seed: int, sensors: tuple[str, ...] = (), read: bool = False,
    rate: float = RATE,
) -> "Trained":  # fmt: skip
    """Train a U-Net on all pictures; ``read`` gives it the expressions."""
    torch.manual_seed(seed)
    vocabulary = _vocabulary(pictures.text) if read else {}
    channels = inputs(pictures.part(slice(1)), sensors).shape[1]
    net = UNet(channels, pictures.classes, words=len(vocabulary)).to(memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(net.parameters(), weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=steps, pct_start=0.2)
    x, y = inputs(pictures, sensors), pictures.mask
    words = _bag(pictures.text, vocabulary) if read else None
    order = _order(len(pictures), steps, seed)
    mirrored = pictures.text is None  # every other time, unless left and right mean something
    for step in range(steps):
        rows = order[step * BATCH : (step + 1) * BATCH]
        image, mask = x[rows], y[rows].long()
        if mirrored and step % 2:
            image, mask = image.flip(-1), mask.flip(-1)
        with _fast():
            logits = net(_centred(image), words[rows] if read else None)
        loss = _loss(logits.float(), mask)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return Trained(net.eval(), vocabulary, sensors)


class Trained:
    """A trained U-Net that turns pictures into class maps ``(N, H, W)``."""

    def __init__(self, net: UNet, vocabulary: dict[str, int], sensors: tuple[str, ...]):
        self.net, self.vocabulary, self.sensors = net, vocabulary, sensors

    @torch.no_grad()
    def __call__(self, pictures: Pictures) -> Tensor:
        x, maps = inputs(pictures, self.sensors), []
        words = _bag(pictures.text, self.vocabulary) if self.vocabulary else None
        for start in range(0, len(x), 32):
            rows = slice(start, start + 32)
            with _fast():
                logits = self.net(_centred(x[rows]), words[rows] if self.vocabulary else None)
            maps.append(logits.argmax(1).byte())
        return torch.cat(maps)


def inputs(pictures: Pictures, sensors: tuple[str, ...] = ()) -> Tensor:
    """What the U-Net sees: image or named sensors, and a spot at the point; ``(N, channels, H, W)``."""
    parts = [pictures.sensors[name] for name in sensors] or [pictures.image]
    if pictures.point is not None:
        height, width = pictures.mask.shape[1:]
        x, y = pictures.point.unbind(1)
        away_x = (torch.arange(width)[None, None] - x[:, None, None]) / (width / 24)
        away_y = (torch.arange(height)[None, :, None] - y[:, None, None]) / (height / 24)
        parts.append((255 * torch.exp(-(away_x**2 + away_y**2) / 2)).byte()[:, None])
    return torch.cat(parts, 1)


def _centred(image: Tensor) -> Tensor:
    return (image.float() / 255 - 0.5).contiguous(memory_format=torch.channels_last)


def _loss(logits: Tensor, mask: Tensor) -> Tensor:
    """Cross-entropy, plus one minus soft Dice averaged over the classes that the batch shows."""
    counted = mask != IGNORE
    classes = mask[counted]
    share = logits.softmax(1).movedim(1, -1)[counted]  # (pixels, C)
    right = share.gather(1, classes[:, None])[:, 0]
    there = torch.bincount(classes, minlength=logits.shape[1])
    overlap = torch.zeros(logits.shape[1]).index_add(0, classes, right)
    dice = (2 * overlap / (share.sum(0) + there).clamp(min=1))[there > 0]
    return F.cross_entropy(logits, mask, ignore_index=IGNORE) + (1 - dice).mean()


def _order(count: int, steps: int, seed: int) -> Tensor:
    """Rows in the order of training, shuffled anew in every epoch."""
    generator = torch.Generator().manual_seed(seed)
    epochs = -(-steps * BATCH // count)
    return torch.cat([torch.randperm(count, generator=generator) for _ in range(epochs)])


def precision() -> str:
    """bfloat16 on a processor that multiplies it in tiles, which takes half the time."""
    return "bfloat16" if getattr(torch.cpu, "_is_amx_tile_supported", bool)() else "float32"


def _fast() -> torch.autocast:
    return torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision() == "bfloat16")


def _block(before: int, after: int) -> nn.Sequential:
    layers = []
    for i in (before, after):
        layers += [
            nn.Conv2d(i, after, 3, padding=1, bias=False),
            nn.BatchNorm2d(after),
            nn.ReLU(inplace=True),
        ]
    return nn.Sequential(*layers)


def _with_coordinates(x: Tensor) -> Tensor:
    across = torch.linspace(-1, 1, x.shape[3], device=x.device).expand(len(x), 1, *x.shape[2:])
    down = torch.linspace(-1, 1, x.shape[2], device=x.device)[:, None].expand_as(across)
    return torch.cat([x, across, down], 1)


def _spelt(text: str) -> list[str]:
    return re.findall(r"[a-z]+", text.lower())


def _vocabulary(texts: list[str]) -> dict[str, int]:
    return {word: i for i, word in enumerate(sorted({w for text in texts for w in _spelt(text)}), start=1)}


def _bag(texts: list[str], vocabulary: dict[str, int]) -> Tensor:
    """The numbers of the words of each text, padded with 0; unknown words are left out. ``(N, longest)``"""
    rows = [[vocabulary[w] for w in _spelt(text) if w in vocabulary] or [0] for text in texts]
    longest = max(map(len, rows))
    return torch.tensor([row + [0] * (longest - len(row)) for row in rows])
