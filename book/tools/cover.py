"""The picture of the front page: one scene, explained by a mixture of experts.

A twig in autumn is painted by formulas. Then a mixture learns it: every expert is one plane of colour (red,
green and blue, each affine in the position), and a gate that is told nothing but the position decides who
speaks where. They compete as in Jacobs, Jordan, Nowlan and Hinton (1991): each expert has to explain a pixel
alone, and the gate learns whom to believe. From left to right the picture goes from the scene to the experts'
territories: each pixel there has the colour that the expert in charge gives it, and lead parts them.
Shapes: N pixels, M experts. Positions run over [0, 2.2] × [0, 1], y downwards.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw
from torch import nn
from tqdm import tqdm

ASPECT = 2.2
STATIC = Path(__file__).resolve().parents[1] / "_static"
NIGHT_TO_DAWN = "06202e 0b3e50 14646f 2f8c88 86b795 e8cf8c"
SPRING_TO_WINTER = "17805f 3fae62 a4cf4e f7cc4a f5923a e24b3a b02a50"
LEAD = torch.tensor([0.016, 0.07, 0.1])


def ramp(start, end, x):
    """0 before `start`, 1 after `end`, smooth between; falling where `end` < `start`."""
    t = np.clip((x - start) / (end - start), 0, 1)
    return t * t * (3 - 2 * t)


def gradient(colours: str, t):
    """The colour at `t` in [0, 1] along evenly spaced hexadecimal colours; one colour is a constant."""
    stops = np.array([list(bytes.fromhex(c)) for c in colours.split()]) / 255
    at = np.linspace(0, 1, len(stops))
    return np.stack([np.interp(t, at, stops[:, k]) for k in range(3)], -1).astype(np.float32)


def ripple(x, y, rng, scale: float, waves: int = 12):
    """Smooth noise of variance 1: plane waves in random directions."""
    k = rng.normal(size=(waves, 2)) * scale
    return sum(np.sin(a * x + b * y + rng.uniform(0, 2 * np.pi)) for a, b in k) / np.sqrt(waves / 2)


class Canvas:
    """An RGB picture, and how much of each pixel belongs to the twig (only the twig receives shadows)."""

    def __init__(self, width: int, height: int):
        self.px = ASPECT / width
        x, y = (np.arange(width) + 0.5) * self.px, (np.arange(height) + 0.5) / height
        self.x, self.y = np.meshgrid(x.astype(np.float32), y.astype(np.float32))
        self.rgb = np.zeros((height, width, 3), np.float32)
        self.twig = np.zeros((height, width), np.float32)

    def near(self, x: float, y: float, reach: float):
        """The window of pixels around a point: nothing outside it has to be computed."""
        rows, columns = ([max(int((c + d) / self.px), 0) for d in (-reach, reach)] for c in (y, x))
        return slice(*rows), slice(*columns)

    def paint(self, at, colour, alpha, twig: bool = False):
        self.rgb[at] += (np.clip(colour, 0, 1) - self.rgb[at]) * alpha[..., None]
        self.twig[at] = np.maximum(self.twig[at], alpha * twig)


def sky(c: Canvas, rng):
    """Night to dawn, a low sun, and lights out of focus."""
    t = 0.6 * c.x / ASPECT + 0.35 * (1 - c.y) + 0.07 * ripple(c.x, c.y, rng, 2.2)
    c.rgb[:] = gradient(NIGHT_TO_DAWN, t)
    sun = np.hypot(c.x - 1.66, c.y - 0.36)
    c.paint(..., gradient("ffd98a", sun), 0.62 * np.exp(-((sun / 0.42) ** 2)))
    c.paint(..., gradient("fff3c9 ffd886", sun / 0.27), 0.95 * ramp(0.272, 0.262, sun))
    for _ in range(44):
        x, y, r = rng.uniform(0, ASPECT), rng.uniform(0, 1), rng.uniform(0.03, 0.15)
        at = c.near(x, y, 1.1 * r)
        d = np.hypot(c.x[at] - x, c.y[at] - y) / r
        odds = [0.1 + 0.25 * x, 0.68 - 0.2 * x, 0.22 - 0.05 * x]  # gold, aqua, night
        light = rng.choice(["ffd28a", "8fe6d8", "05202c"], p=odds)
        c.paint(at, gradient(light, d), rng.uniform(0.07, 0.36) * ramp(1.05, 0.95, d) * (0.6 + 0.4 * d**4))


def twig_y(x):
    return 0.66 - 0.09 * x + 0.075 * np.sin(3.1 * x + 0.4)


def stem(c: Canvas):
    slope = (twig_y(c.x + 0.01) - twig_y(c.x)) / 0.01
    across = (c.y - twig_y(c.x)) / np.sqrt(1 + slope**2) / (0.0135 - 0.0035 * c.x)  # -1 … 1 over the wood
    wood = gradient("54402e 80583a 8f4a3c", c.x / ASPECT) * (1.05 - 0.5 * across)[..., None]
    c.paint(..., wood, ramp(1.1, 0.9, np.abs(across)), twig=True)


def leaf(c: Canvas, rng, x, y, angle, length, plump, season):
    """One leaf. u runs from stalk (0) to tip (1), v across, both in units of the length."""
    cos, sin, bend = np.cos(angle), np.sin(angle), rng.uniform(-0.22, 0.22)
    at = c.near(x + cos * length / 2, y + sin * length / 2, 0.62 * length)
    x, y = c.x[at] - x, c.y[at] - y

    def blade(x, y):
        u, v = (x * cos + y * sin) / length, (y * cos - x * sin) / length
        half = 2.05 * plump * np.clip(u, 0, 1) ** 0.62 * np.clip(1 - u, 0, 1) ** 0.92
        return u, v - bend * (u * u - u), half

    u, v, half = blade(x - 0.018, y - 0.03)
    c.paint(at, 0, 0.62 * ramp(-0.035, 0.03, (half - np.abs(v)) * length) * c.twig[at])  # its shadow
    u, v, half = blade(x, y)
    q = np.abs(v) / (half + 1e-4)  # 0 on the midrib, 1 on the rim
    rib = 9 * u - 1.15 * q + 0.35 * q * q + 0.25 * (v > 0)  # grows by one from side vein to side vein
    rim = (half * (0.98 + 0.035 * (rib % 1)) - np.abs(v) - np.abs(u - np.clip(u, 0, 1))) * 0.8 * length
    mask = ramp(-c.px, c.px, rim)
    ripe = season + 0.1 * (u - 0.4) + 0.12 * (q * q - 0.3) * season + 0.03 * ripple(x, y, rng, 18)
    light = 0.86 - 0.24 * np.sign(v) * cos * ramp(0, 0.12, q) + 0.18 * (u - 0.5) * cos  # two halves, one fold
    light += 0.07 * np.sin(2 * np.pi * rib) * ramp(0.05, 0.3, q) - 0.05 * np.cos(2 * np.pi * rib)  # pillows
    colour = gradient(SPRING_TO_WINTER, ripe) * (light + 0.02 * ripple(x, y, rng, 90))[..., None]
    side = np.abs((rib + 0.5) % 1 - 0.5) / 9 * length
    veins = 0.42 * ramp(c.px, -0.5 * c.px, side - 0.0028 + 0.002 * q) * (q < 0.97) * (u > 0.03)
    middle = 0.9 * ramp(c.px, -c.px, np.abs(v) * length - 0.0012 - 0.0062 * (1 - u))
    colour += (0.55 * colour + [0.45, 0.43, 0.32] - colour) * np.maximum(veins, middle)[..., None]
    c.paint(at, colour, mask, twig=True)
    for _ in range(rng.choice([0, 0, 1, 3, 6])):  # what a plant doctor would segment
        u0, v0, r = rng.uniform(0.2, 0.8), rng.uniform(-1, 1) * plump * 0.55, rng.uniform(0.01, 0.026)
        d = np.hypot(u - u0, v - v0) * length / r * (1 + 0.1 * ripple(x, y, rng, 45, waves=8))
        c.paint(at, gradient("f3d36b", d), 0.6 * ramp(1.5, 0.9, d) * mask)
        c.paint(at, gradient("8f5236 6b2f1f 6b2f1f", d), 0.9 * ramp(1.0, 0.8, d) * mask)


def bead(c: Canvas, x, y, r, berry: bool):
    """A red berry or a drop of dew: a sphere lit from the upper left."""
    at = c.near(x, y, 2.2 * r)
    x, y = (c.x[at] - x) / r, (c.y[at] - y) / r
    d = np.hypot(x, y)
    c.paint(at, 0, (0.6 if berry else 0.45) * ramp(1.4, 0.6, np.hypot(x - 0.3, y - 0.42)) * c.twig[at])
    if berry:
        z = np.sqrt(np.clip(1 - d * d, 0, 1))
        light = 0.22 + 0.85 * np.clip(0.62 * z - 0.5 * x - 0.6 * y, 0, 1)
        colour = gradient("d8402f", d) * light[..., None]
        colour += np.array([0.18, 0.06, 0.04]) * (ramp(0.1, 1, 0.5 * x + 0.6 * y) * (1 - z))[..., None]
    else:  # a lens: dark where the light comes from
        colour = c.rgb[at] * (1.19 + 0.4 * x + 0.57 * y)[..., None] + 0.06
    shine = np.exp(-((x + 0.37) ** 2 + (y + 0.42) ** 2) / 0.02)
    c.paint(at, colour + 0.9 * shine[..., None], ramp(c.px / r, -c.px / r, d - 1), twig=berry)


def scene(size: int, seed: int = 0) -> np.ndarray:
    """The picture to explain, (H, W, 3) in [0, 1] with W = `size`, painted twice as large and averaged."""
    if size < 32:
        raise ValueError(f"size is {size}: the scene needs a width of at least 32 pixels")
    height, rng = round(size / ASPECT), np.random.default_rng(seed)
    c = Canvas(2 * size, 2 * height)
    sky(c, rng)
    stem(c)
    for i in rng.permutation(17):
        x = -0.2 + 2.3 * i / 16
        angle = np.arctan2(twig_y(x + 0.01) - twig_y(x), 0.01) + (-1) ** (i + 1) * rng.uniform(0.72, 1.05)
        length = rng.uniform(0.47, 0.6) * (1 - 0.07 * x)
        season = np.clip(0.02 + 0.43 * x + 0.05 * rng.normal(), 0, 1)
        leaf(c, rng, x, twig_y(x), angle, length, rng.uniform(0.21, 0.26), season)
    for turn in rng.uniform([-0.5, 1.6, 3.7], [0.5, 2.6, 4.7]):
        x, y = 0.62 + 0.064 * np.cos(turn), twig_y(0.62) + 0.03 + 0.064 * np.sin(turn)
        bead(c, x, y, rng.uniform(0.044, 0.056), berry=True)
    for x, y, r in rng.uniform([0, 0.05, 0.006], [ASPECT, 0.95, 0.016], (50, 3)):
        if c.twig[int(y / c.px), int(x / c.px)] > 0.9:
            bead(c, x, y, r, berry=False)
    return c.rgb.clip(0, 1).reshape(height, 2, size, 2, 3).mean((1, 3))


class Mixture(nn.Module):
    """M planes of colour, and a gate over them that sees Fourier features of the position."""

    def __init__(self, experts: int, colours: torch.Tensor, waves: int = 64, width: int = 96):
        super().__init__()
        start = colours[torch.randint(len(colours), (experts,))]
        self.planes = nn.Parameter(torch.stack([start, *torch.zeros(2, experts, 3)], 1))  # (M, 1 x y, 3)
        self.register_buffer("waves", torch.randn(2, waves) * torch.logspace(0.5, 1.15, waves))
        first, second, last = map(nn.Linear, (2 * waves + 2, width, width), (width, width, experts))
        self.gate = nn.Sequential(first, nn.GELU(), second, nn.GELU(), last)

    def forward(self, p: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Positions (N, 2) to log gates (N, M) and every expert's answer (N, M, 3)."""
        p = p - torch.tensor([ASPECT / 2, 0.5])
        angle = p @ self.waves
        gates = self.gate(torch.cat([p, angle.sin(), angle.cos()], -1)).log_softmax(-1)
        return gates, torch.einsum("nk,mkc->nmc", F.pad(p, (1, 0), value=1.0), self.planes)


def positions(height: int, width: int) -> torch.Tensor:
    y, x = (torch.arange(height) + 0.5) / height, (torch.arange(width) + 0.5) / width * ASPECT
    return torch.cartesian_prod(y, x).flip(-1)  # (N, 2)


def psnr(a, b) -> float:
    return -10 * torch.log10(F.mse_loss(a, b)).item()


def train(picture: np.ndarray, experts: int = 24, steps: int = 6000, seed: int = 0, batch: int = 4096):
    """Fit a mixture to one picture (H, W, 3). Returns it and the mixture's squared error at every step."""
    if experts < 2 or steps < 1:
        raise ValueError(f"experts is {experts}, steps is {steps}: at least 2 experts and 1 step are needed")
    torch.manual_seed(seed)
    target = torch.from_numpy(picture).reshape(-1, 3)
    p = positions(*picture.shape[:2])
    model = Mixture(experts, target)
    parts = [{"params": [model.planes], "lr": 1e-2}, {"params": model.gate.parameters(), "lr": 4e-3}]
    adam = torch.optim.Adam(parts)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(adam, steps, 1e-5)
    errors = []
    for step in (bar := tqdm(range(steps), "experts at work", unit="step")):
        i = torch.randint(len(p), (batch,))
        gates, answers = model(p[i])
        error = (answers - target[i, None]).square().sum(-1)  # (N, M)
        noise = 0.06**2 + 0.15**2 * (1 - step / steps)  # tolerant first, strict later
        compete = -2 * 0.06**2 * torch.logsumexp(gates - error / (2 * noise), -1).mean()
        share = gates.exp().mean(0)
        balance = experts * share.square().sum() - 1  # variance over squared mean: 0 for equal shares
        mixture = (gates.exp()[..., None] * answers).sum(1)
        fit = F.mse_loss(mixture, target[i])
        errors.append(fit.item())
        adam.zero_grad()
        (compete + fit + 0.01 * balance).backward()
        adam.step()
        cosine.step()
        bar.set_postfix(psnr=f"{-10 * np.log10(errors[-1]):.1f} dB", refresh=False)
    return model, errors


@torch.no_grad()
def ask(model: Mixture, height: int, width: int):
    """What the mixture says (H, W, 3), what the expert in charge says (H, W, 3), and who that is (H, W)."""
    said, alone, who = [], [], []
    for p in positions(height, width).split(1 << 15):
        gates, answers = model(p)
        who.append(gates.argmax(-1))
        alone.append(answers[torch.arange(len(p)), who[-1]])
        said.append((gates.exp()[..., None] * answers).sum(1))
    return (torch.cat(t).reshape(height, width, -1).squeeze(-1) for t in (said, alone, who))


def compose(picture: np.ndarray, model: Mixture) -> np.ndarray:
    """From the scene to the territories, (H, W, 3). The experts take over one by one, lead first."""
    height, width, _ = picture.shape
    _, alone, who = ask(model, 2 * height, 2 * width)  # twice as fine, averaged at the end
    x = torch.linspace(0, 1, 2 * width)
    glass = ((x - 0.36 - 0.2 * (who * 0.618 % 1)) / 0.07).clamp(0, 1)[..., None]  # every expert's own start
    out = torch.from_numpy(picture).repeat_interleave(2, 0).repeat_interleave(2, 1)
    out = out + (alone.clamp(0, 1) - out) * glass
    border = (F.max_pool2d(who[None].float(), 3, 1, 1) > who).float()
    broad = F.avg_pool2d(border, r := 2 * round(width / 800) + 1, 1, r // 2)[0] * r / 1.2
    lead = broad.clamp(0, 1) * ((x - 0.26) / 0.26).clamp(0, 1)
    out = out + (LEAD - out) * lead[..., None]
    return F.avg_pool2d(out.permute(2, 0, 1), 2).permute(1, 2, 0).numpy()


def save(picture: np.ndarray, out: Path):
    """The cover with round, transparent corners, and beside it the card that social media show."""
    image = Image.fromarray((picture * 255).round().astype(np.uint8))
    width, height = image.size
    edge = max(0, width - height * 1200 / 630) / 2
    card = image.resize((1200, 630), Image.Resampling.LANCZOS, box=(edge, 0, width - edge, height))
    card.quantize(palette=card.quantize()).save(out.with_name("card.png"), optimize=True)
    corners = Image.new("L", (2 * width, 2 * height))
    ImageDraw.Draw(corners).rounded_rectangle((0, 0, 2 * width - 1, 2 * height - 1), width / 22, 255)
    image.putalpha(corners.resize(image.size, Image.Resampling.LANCZOS))
    image.save(out, quality=92, method=6)


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    for name, value in (("size", 1600), ("experts", 24), ("steps", 6000), ("seed", 4)):
        parser.add_argument(f"--{name}", type=int, default=value, help=f"default: {value}")
    parser.add_argument("--out", type=Path, default=STATIC / "cover.webp")
    a = parser.parse_args(argv)
    torch.set_num_threads(1)  # the order of the sums depends on it, and so does the picture
    try:
        picture = scene(a.size, a.seed)
        model, _ = train(picture, a.experts, a.steps, a.seed)
    except ValueError as problem:
        parser.error(str(problem))
    save(compose(picture, model), a.out)
    said, alone, who = ask(model, *picture.shape[:2])
    options = {k: v for k, v in vars(a).items() if k != "out"}
    facts = {
        "command": " ".join(["python book/tools/cover.py", *(f"--{k} {v}" for k, v in options.items())]),
        **options,
        "experts_in_charge_somewhere": len(who.unique()),
        "psnr": round(psnr(said, torch.from_numpy(picture)), 2),
        "psnr_expert_in_charge": round(psnr(alone, torch.from_numpy(picture)), 2),
        "cpu_seconds": round(time.process_time()),
        "device": f"cpu, {torch.get_num_threads()} thread",
        "torch": torch.__version__,
        "date": time.strftime("%Y-%m-%d"),
    }
    a.out.with_suffix(".json").write_text(json.dumps(facts, indent=2) + "\n")
    print(", ".join(f"{k} {v}" for k, v in facts.items()))


if __name__ == "__main__":
    main()
