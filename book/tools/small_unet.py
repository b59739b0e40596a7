"""A small U-Net trained from scratch: what a task asks of someone who knows nothing.

One recipe for every task: the table compares tasks, not recipes. Shapes: B images of H × W pixels, C classes.
"""

import math
import re
import warnings
from contextlib import nullcontext
from itertools import pairwise

import torch
import torch.nn.functional as F
from baselines import Pictures
from scoring import IGNORE
from torch import Tensor, nn

WIDTHS = (16, 32, 64, 128)
BATCH = 16
RATE = 2e-3  # where no other is given
RATES = (1e-3, 3e-3)  # one of which is chosen on validation images, for each task and number of images
WARM = 4  # steps before two are recorded


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
        self.words = nn.Linear(words, 64, bias=False) if words else None
        if words:
            nn.init.normal_(self.words.weight)  # a vector for each word, and the mean of those of a text
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


class Training:
    """A U-Net in training: :meth:`begin` and :meth:`go_on` until :meth:`finish` hands it over.

    Pictures lie on the device as bytes, and a step asks the device for nothing, so that a GPU never waits.
    Its first steps are taken one by one, the others two at a time from a recording (a CUDA graph), and
    trainings that take turns in :func:`together` use it at the same time.
    """

    def __init__(
        self, pictures: Pictures, *, steps: int, seed: int, sensors: tuple[str, ...] = (), read: bool = False,
        rate: float = RATE, device: str | torch.device = "cpu", recorded: bool = True,
    ):  # fmt: skip
        torch.manual_seed(seed)
        self.device, self.sensors, self.steps = torch.device(device), sensors, steps
        self.vocabulary = _vocabulary(pictures.text) if read else {}
        self.stream = torch.cuda.Stream(self.device) if self.device.type == "cuda" else None
        self.recorded, self.recording, self.taken = recorded and self.stream is not None, None, 0
        self.mirrored = pictures.text is None  # every other time, unless left and right mean something
        x = inputs(pictures, sensors)
        net = UNet(x.shape[1], pictures.classes, words=len(self.vocabulary))
        with self._on_stream():
            self.net = net.to(self.device, memory_format=torch.channels_last)
            self.x, self.y = x.to(self.device), pictures.mask.to(self.device)
            self.words = _bag(pictures.text, self.vocabulary).to(self.device) if read else None
            self.order = _order(len(pictures), steps, seed).to(self.device)  # (steps, BATCH)
            self.rates = one_cycle(rate, steps).to(self.device)
            self.at = torch.zeros(1, dtype=torch.long, device=self.device)  # the step, as the device counts
            self.rate = torch.tensor(rate, device=self.device)
            self.optimiser = torch.optim.AdamW(
                net.parameters(), self.rate, weight_decay=0.02, fused=True, capturable=self.recorded
            )

    def begin(self) -> None:
        """On a GPU: take the first steps, which settle what a recording must find settled, and record two."""
        if not self.recorded or self.steps < WARM + 2:
            return
        with self._on_stream(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*capturable=True.*")  # it is not recorded yet
            for step in range(WARM):
                self._step(step)
        self.taken, self.recording = WARM, torch.cuda.CUDAGraph()
        self.optimiser.zero_grad()
        with torch.cuda.graph(self.recording, stream=self.stream):
            self._step(0)
            self._step(1)

    def go_on(self) -> bool:
        """Take the next step or two; False when there are none."""
        with self._on_stream():
            if self.recording and self.taken + 2 <= self.steps:
                self.recording.replay()
                self.taken += 2
            elif self.taken < self.steps:
                self._step(self.taken)
                self.taken += 1
        return self.taken < self.steps

    def finish(self) -> "Trained":
        """The trained U-Net; what only training needed is let go."""
        if self.stream:
            self.stream.synchronize()
        if int(self.at) != self.steps:
            raise RuntimeError(f"took {int(self.at)} steps of {self.steps}: go on before it is finished")
        self.recording = self.optimiser = self.x = self.y = self.words = self.order = None
        return Trained(self.net.eval(), self.vocabulary, self.sensors)

    def _step(self, number: int) -> None:
        rows = self.order.index_select(0, self.at)[0]
        image, mask = self.x[rows], self.y[rows].long()
        if self.mirrored and number % 2:
            image, mask = image.flip(-1), mask.flip(-1)
        self.rate.copy_(self.rates.index_select(0, self.at)[0])
        with _fast(self.device):
            logits = self.net(_centred(image), self.words[rows] if self.words is not None else None)
        loss = _loss(logits.float(), mask)
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()
        self.at += 1

    def _on_stream(self):
        return torch.cuda.stream(self.stream) if self.stream else nullcontext()


def together(trainings: list[Training]) -> list["Trained"]:
    """Train several U-Nets, a step or two of each in turn."""
    if any(training.stream for training in trainings):
        torch.backends.cudnn.benchmark = True
        torch.cuda.synchronize()
    for training in trainings:
        training.begin()
    unfinished = list(trainings)
    while unfinished:
        unfinished = [training for training in unfinished if training.go_on()]
    return [training.finish() for training in trainings]


def train(pictures: Pictures, **how) -> "Trained":
    """Train one U-Net on all pictures; see :class:`Training`."""
    return together([Training(pictures, **how)])[0]


class Trained:
    """A trained U-Net that turns pictures into class maps ``(N, H, W)``."""

    def __init__(self, net: UNet, vocabulary: dict[str, int], sensors: tuple[str, ...]):
        self.net, self.vocabulary, self.sensors = net, vocabulary, sensors

    @torch.no_grad()
    def __call__(self, pictures: Pictures) -> Tensor:
        device = self.net.head.weight.device
        x, maps = inputs(pictures, self.sensors), []
        words = _bag(pictures.text, self.vocabulary) if self.vocabulary else None
        for start in range(0, len(x), 50):
            rows = slice(start, start + 50)
            read = words[rows].to(device) if self.vocabulary else None
            with _fast(device):
                logits = self.net(_centred(x[rows].to(device)), read)
            maps.append(logits.argmax(1).byte().cpu())
        return torch.cat(maps)


def recording_is_true(device: torch.device) -> bool:
    """Whether recorded steps on this GPU train as steps do that are taken one by one."""
    draw = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (64, 3, 32, 32), generator=draw).byte()
    pictures = Pictures(image, (image[:, 0] > 128).byte(), classes=2)
    how = {"steps": 41, "seed": 0, "device": device}
    one, other = (_weights(train(pictures, recorded=recorded, **how).net) for recorded in (True, False))
    torch.manual_seed(0)
    first = _weights(UNet(3, 2))
    return bool((one - other).norm() < 0.3 * (other - first).norm())


def _weights(net: UNet) -> Tensor:
    return torch.cat([weight.detach().flatten().cpu() for weight in net.parameters()])


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
    classes = torch.arange(logits.shape[1], device=logits.device).view(1, -1, 1, 1)
    truth = mask[:, None] == classes  # (B, C, H, W); nowhere where the mask is ignored
    share = logits.softmax(1) * (mask != IGNORE)[:, None]
    overlap, called, there = (values.sum((0, 2, 3)) for values in (share * truth, share, truth))
    dice = 2 * overlap / (called + there).clamp(min=1)
    shown = there > 0
    missed = ((1 - dice) * shown).sum() / shown.sum().clamp(min=1)
    return F.cross_entropy(logits, mask, ignore_index=IGNORE) + missed


def one_cycle(rate: float, steps: int) -> Tensor:
    """The rate of every step ``(steps,)``: a cosine up to ``rate`` in a fifth of them, and one down to 0."""
    peak = max(round(0.2 * steps), 1)
    up = 0.04 + 0.96 * (1 - torch.cos(torch.linspace(0, math.pi, peak))) / 2
    down = (1 + torch.cos(torch.linspace(0, math.pi, steps - peak + 1)[1:])) / 2
    return rate * torch.cat([up, down])


def _order(count: int, steps: int, seed: int) -> Tensor:
    """The rows of every step ``(steps, BATCH)``, shuffled anew in every epoch."""
    generator = torch.Generator().manual_seed(seed)
    epochs = -(-steps * BATCH // count)
    rows = torch.cat([torch.randperm(count, generator=generator) for _ in range(epochs)])
    return rows[: steps * BATCH].view(steps, BATCH)


def precision(device: str | torch.device = "cpu") -> str:
    """bfloat16 on a GPU, and on a processor that multiplies it in tiles, which takes half the time."""
    kind = torch.device(device).type
    tiles = kind == "cpu" and getattr(torch.cpu, "_is_amx_tile_supported", bool)()
    return "bfloat16" if kind == "cuda" or tiles else "float32"


def _fast(device: torch.device) -> torch.autocast:
    # Each weight is used once a step: there is nothing to keep, and a recording must not keep it.
    enabled = precision(device) == "bfloat16"
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=enabled, cache_enabled=False)


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
    return {word: i for i, word in enumerate(sorted({w for text in texts for w in _spelt(text)}))}


def _bag(texts: list[str], vocabulary: dict[str, int]) -> Tensor:
    """The share of each known word among the known words of a text; ``(N, words)``."""
    bag = torch.zeros(len(texts), len(vocabulary))
    for row, text in zip(bag, texts, strict=True):
        for word in _spelt(text):
            if word in vocabulary:
                row[vocabulary[word]] += 1
    return bag / bag.sum(1, keepdim=True).clamp(min=1)
