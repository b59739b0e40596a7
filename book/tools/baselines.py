"""What can be had without learning a shape: constants, thresholds, clusters of colour, growing regions.

Each baseline looks at the training images, settles its choices there or on validation images, and returns a
function from :class:`Pictures` to class maps ``(N, H, W)``. They are meant to be strong: whatever they reach
needs no learning.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage
from scipy.cluster.vq import kmeans2
from scoring import confusion, score
from torch import Tensor


@dataclass
class Pictures:
    """A data set in memory: the image, the mask, and what else the task has."""

    image: Tensor  # uint8 (N, 3, H, W)
    mask: Tensor  # uint8 (N, H, W)
    classes: int
    point: Tensor | None = None  # (N, 2) x, y in pixels
    text: list[str] | None = None
    instances: Tensor | None = None  # (N, H, W)
    sensors: dict[str, Tensor] = field(default_factory=dict)  # uint8 (N, 3, H, W)
    conditions: dict[str, list[str]] = field(default_factory=dict)  # weather, case: one word per image

    def __len__(self) -> int:
        return len(self.image)

    def part(self, rows: slice) -> "Pictures":
        """Some of the pictures."""

        def cut(value):
            if isinstance(value, dict):
                return {key: cut(entry) for key, entry in value.items()}
            return value[rows] if isinstance(value, Tensor | list) else value

        return Pictures(**{key: cut(value) for key, value in vars(self).items()})


Predict = Callable[[Pictures], Tensor]
SHARES = (0.1, 0.2, 0.3, 0.4, 0.5)  # of foreground, from which on a pixel or a cluster is called foreground


def constant(train: Pictures) -> Predict:
    """The best prediction that never looks: one class everywhere, or the mean mask of the training images."""
    size = train.mask.shape[1:]
    candidates = [torch.full(size, c, dtype=torch.uint8) for c in range(train.classes)]
    share = torch.stack([(train.mask == c).float().mean(0) for c in range(train.classes)])
    candidates.append(share.argmax(0).byte())
    if train.classes == 2:
        candidates += [(share[1] > level).byte() for level in SHARES]
    scores = [score(train.mask, map_.expand_as(train.mask), train.classes) for map_ in candidates]
    best = candidates[int(np.argmax(scores))]
    return lambda pictures: best.expand_as(pictures.mask)


def threshold(train: Pictures) -> Predict:
    """Two classes by one threshold; training images choose its channel, level (Otsu or fixed) and side."""
    train = train.part(slice(200))
    levels = {
        name: np.quantile(c[::4, ::4, ::4], np.arange(0.1, 1, 0.1)) for name, c in channels(train).items()
    }
    choices = []
    for name, channel in channels(train).items():
        for cut in (None, *levels[name].tolist()):  # None: Otsu's, image by image
            for bright in (True, False):
                above = _above(channel, cut, bright)
                choices.append((score(train.mask, above, 2), name, cut, bright))
    _, name, cut, bright = max(choices, key=lambda choice: choice[0])
    return lambda pictures: _above(channels(pictures)[name], cut, bright)


def channels(pictures: Pictures) -> dict[str, Tensor]:
    """What a threshold may be put on; each ``(N, H, W)``, as it is and smoothed."""
    red, green, blue = (pictures.image.float() / 255).unbind(1)
    grey = 0.3 * red + 0.59 * green + 0.11 * blue
    brightest, darkest = (
        torch.maximum(red, torch.maximum(green, blue)),
        torch.minimum(red, torch.minimum(green, blue)),
    )
    plain = {
        "grey": grey,
        "saturation": (brightest - darkest) / brightest.clamp(min=1e-3),
        "red to green": red - green,
        "yellow to blue": (red + green) / 2 - blue,
        "contrast": (_smooth(grey**2, 7) - _smooth(grey, 7) ** 2).clamp(min=0).sqrt(),
        "brighter than around": grey - _smooth(grey, 25),
    }
    return plain | {f"{name}, smooth": _smooth(channel, 5) for name, channel in plain.items()}


def otsu(channel: Tensor, bins: int = 64) -> Tensor:
    """Otsu's threshold of each image ``(N, H, W)``, where the classes' means lie furthest apart; ``(N,)``."""
    flat = channel.flatten(1)
    low, high = flat.amin(1, keepdim=True), flat.amax(1, keepdim=True)
    place = ((flat - low) / (high - low).clamp(min=1e-9) * bins).long().clamp(0, bins - 1)
    count = torch.zeros(len(flat), bins).scatter_add_(1, place, torch.ones_like(flat))
    level = torch.arange(bins) + 0.5
    below = count.cumsum(1)
    above = below[:, -1:] - below
    total = (count * level).cumsum(1)
    means = total / below.clamp(min=1), (total[:, -1:] - total) / above.clamp(min=1)
    best = (below * above * (means[0] - means[1]) ** 2).argmax(1, keepdim=True)
    return (low + (best + 1) / bins * (high - low))[:, 0]


def colour_clusters(train: Pictures, val: Pictures, *, ks: tuple[int, ...] = (2, 4, 8, 16, 32)) -> Predict:
    """k-means in colour; training pixels name the clusters, validation images choose k and how to name."""
    train = train.part(slice(200))
    pixels, labels = _colours(train.image), train.mask.flatten()
    keep = np.linspace(0, len(pixels) - 1, 20_000).astype(int)
    choices = []
    for k in ks:
        centres, _ = kmeans2(pixels[keep].numpy(), k, iter=20, minit="++", rng=0)
        centres = torch.from_numpy(centres)
        nearest = _nearest(pixels[::7], centres)
        table = confusion(labels[::7], nearest, max(train.classes, k))[: train.classes, :k].float()
        for names in _namings(table):
            predicted = names[_nearest(_colours(val.image), centres)].view_as(val.mask)
            choices.append((score(val.mask, predicted, val.classes), centres, names))
    _, centres, names = max(choices, key=lambda choice: choice[0])
    return lambda pictures: names[_nearest(_colours(pictures.image), centres)].view_as(pictures.mask)


def growing_region(train: Pictures) -> Predict:
    """From the point outwards over pixels of like colour; how like is chosen on training images."""
    train = train.part(slice(200))
    tolerances = (0.04, 0.07, 0.1, 0.14, 0.2, 0.28, 0.4)
    scores = [score(train.mask, _grown(train, tolerance), 2) for tolerance in tolerances]
    best = tolerances[int(np.argmax(scores))]
    return lambda pictures: _grown(pictures, best)


def _above(channel: Tensor, cut: float | None, bright: bool) -> Tensor:
    cuts = otsu(channel).view(-1, 1, 1) if cut is None else cut
    return ((channel > cuts) == bright).byte()


def _smooth(channel: Tensor, width: int) -> Tensor:
    return F.avg_pool2d(channel[:, None], width, 1, width // 2, count_include_pad=False)[:, 0]


def _colours(image: Tensor) -> Tensor:
    """Lightness and two opponent colours (stretched: they vary less) of every pixel; ``(N·H·W, 3)``."""
    red, green, blue = (image.float() / 255).unbind(1)
    grey = 0.3 * red + 0.59 * green + 0.11 * blue
    return torch.stack([grey, 2 * (red - grey), 2 * (blue - grey)], -1).flatten(0, 2)


def _nearest(pixels: Tensor, centres: Tensor) -> Tensor:
    return torch.cat([torch.cdist(part, centres).argmin(1) for part in pixels.split(200_000)])


def _namings(table: Tensor) -> list[Tensor]:
    """Ways to call clusters by classes, from the pixels of each class in each cluster ``(classes, k)``."""
    total = table.sum(1, keepdim=True).clamp(min=1)
    ways = [(table / total**power).argmax(0) for power in (0, 0.5, 1)]  # a rare class counts ever more
    if len(table) == 2:
        ways += [(table[1] > level * table.sum(0)).long() for level in SHARES]
    return [way.byte() for way in ways]


def _grown(pictures: Pictures, tolerance: float) -> Tensor:
    maps = torch.zeros_like(pictures.mask)
    for i, (x, y) in enumerate(pictures.point.long().tolist()):
        colours = _colours(pictures.image[i : i + 1]).view(*pictures.mask.shape[1:], 3)
        seed = colours[max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2].mean((0, 1))
        like = (colours - seed).norm(dim=-1) < tolerance
        like[y, x] = True
        patches, _ = ndimage.label(like.numpy())
        maps[i] = torch.from_numpy(patches == patches[y, x])
    return maps
