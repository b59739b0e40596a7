"""What surfaces look like: colours and patterns, drawn many at a time, as rows of layers."""

import numpy as np

from moe_lib.worlds.draws import Draws
from moe_lib.worlds.layers import layer

_PLAIN, _STRIPES, _CHECKS, _MARBLE, _RINGS = range(5)
_COLUMNS = 20  # uniform numbers that a skin is made of


def colours(hue: np.ndarray, saturation: np.ndarray, value: np.ndarray) -> np.ndarray:
    """Hue in turns, saturation and value in [0, 1] → linear RGB; ``(n,)`` three times → ``(n, 3)``."""
    hue, saturation, value = (np.asarray(v, float)[..., None] for v in (hue, saturation, value))
    wheel = np.abs((hue + np.array([0, 2 / 3, 1 / 3])) % 1 * 6 - 3) - 1
    return (value * (1 - saturation * (1 - wheel.clip(0, 1)))) ** 2.2


def skins(
    draws: Draws, n: int, *, hues: np.ndarray | None = None, rings: bool = True, calm: bool = False,
    light: np.ndarray | float = 1.0,
) -> np.ndarray:  # fmt: skip
    """Random surfaces; ``(n,)`` rows that still need a place, a shape and a label.

    Args:
        hues: One hue in turns for each; without it any.
        rings: Whether growth rings, which need a middle, are among the patterns.
        calm: Less saturated and less contrasting, as grounds are.
        light: Colour of the light, ``(3,)``.
    """
    u = draws.uniform(size=(n, _COLUMNS)).T
    rows = np.repeat(layer()[None], n)
    hue = u[0] if hues is None else hues + 0.1 * (u[0] - 0.5)
    strength = 0.5 if calm else 1.0
    saturation, value = (0.1 + 0.8 * u[1]) * (0.75 if calm else 1), 0.25 + 0.65 * u[2]
    # The other colour of the pattern: darker or brighter, of a neighbouring hue, now and then of another.
    other = hue + np.where(u[3] < 0.25, 0.5 * (u[4] - 0.5), 0.16 * (u[4] - 0.5))
    step = strength * np.where(u[5] < 0.5, -0.15 - 0.5 * u[5], 0.6 * u[5] - 0.15)
    rows["base"] = colours(hue, saturation, value) * light
    rows["accent"] = (
        colours(other, (saturation + 0.3 * (u[6] - 0.5)).clip(0, 1), (value + step).clip(0.1, 0.95)) * light
    )

    share = np.cumsum([0.22, 0.26, 0.2, 0.2] if rings else [0.15, 0.25, 0.2, 0.4])
    kind = (u[7][:, None] > share).sum(1)
    angle, across = 2 * np.pi * u[8], 2 * np.pi * u[8] + np.pi * (0.35 + 0.3 * u[9])
    frequency = (4 if calm else 6) * 3.5 ** u[10]
    slow = np.where(kind == _MARBLE, 0.35, 1.0) * ((kind != _PLAIN) & (kind != _RINGS))
    rows["wave1"] = np.stack([np.cos(angle) * frequency * slow, np.sin(angle) * frequency * slow, u[11]], 1)
    crossing = np.stack([np.cos(across) * frequency, np.sin(across) * frequency, u[12]], 1)
    rows["wave2"] = np.where((kind == _CHECKS)[:, None], crossing, (0, 0, 0.5))
    rows["ring"] = np.where(kind == _RINGS, 1 + 3 * u[13], 0)
    rows["warp"] = np.choose(
        kind, [2.0 * u[14], 0.9 * u[14] ** 2, 0.4 * u[14], 1.5 + 2.5 * u[14], 0.5 * u[14]]
    )
    rows["sharp"] = np.where(kind == _PLAIN, 1.0, 1 + 5 * u[15])
    rows["grain"] = 0.08 + 0.4 * u[16] ** 2
    turned, scale = 2 * np.pi * u[17], 0.2 + 0.5 * u[9]
    cos, sin = scale * np.cos(turned), scale * np.sin(turned)
    rows["speckle"] = np.stack([cos, -sin, sin, cos], 1)
    rows["shift"] = u[18:20].T
    rows["relief"] = 0.5 * u[6] * u[13]
    rows["gloss"] = np.where(u[12] < 0.4, 0.5 * u[11], 0)
    return rows


def one_colour(colour: np.ndarray, **values) -> np.ndarray:
    """A surface without a pattern; one row."""
    return layer(base=colour, accent=colour, grain=0.15, **values)


def light_colour(draws: Draws) -> np.ndarray:
    """From the blue of an overcast sky to the yellow of a lamp; ``(3,)``, of brightness about 1."""
    warm = draws.uniform(-1, 1)
    return np.array([1 + 0.14 * warm, 1, 1 - 0.2 * warm])


def lighting(draws: Draws) -> dict:
    """Where the light stands and how the camera is set, as a ``Scene`` takes it."""
    angle, low = draws.uniform(0, 2 * np.pi), draws.uniform(0.35, 1.0)
    return {
        "light": (low * np.cos(angle), low * np.sin(angle), 0.75),
        "ambient": draws.uniform(0.3, 0.6),
        "exposure": draws.uniform(0.75, 1.3),
        "full_well": draws.uniform(300, 3000),
        "vignette": draws.uniform(0, 0.6),
        "seed": draws.seed(),
    }


def shadow(lit: dict, height: float, dark: float = 0.5) -> tuple[float, float, float]:
    """The ``cast`` of what stands ``height`` above the ground."""
    x, y, z = lit["light"]
    return (-x * height / z, -y * height / z, dark * (1 - lit["ambient"]) / 0.55)
