"""Light: sky, sun and clouds by day, lamps and headlights by night, and the air between all that and us."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from moe_lib.worlds import noise
from moe_lib.worlds.street.appearance import Paint
from moe_lib.worlds.street.cast import Vector, contact
from moe_lib.worlds.street.shadow import shadows
from moe_lib.worlds.street.stage import Stage
from moe_lib.worlds.street.surface import Surfaces


@dataclass(frozen=True)
class _Day:
    ambient: float  # light from all around
    direct: float  # light from the sun's side
    tint: tuple[float, float, float]  # colour of the one
    warm: tuple[float, float, float]  # and of the other
    air: tuple[float, float, float]  # what far things fade into
    haze: float  # per metre, where fog or rain do not give it
    horizon: tuple[float, float, float]
    zenith: tuple[float, float, float]
    cloud: tuple[float, float, float]


_WHITE, _MIST = (1.0, 1.0, 1.0), (0.62, 0.64, 0.66)
_DAYS = {
    "sun": _Day(
        0.28, 1.10, (0.84, 1.0, 1.28), (1.08, 1.0, 0.86), (0.62, 0.72, 0.86), 0.0022,
        horizon=(0.66, 0.77, 0.92), zenith=(0.20, 0.40, 0.86), cloud=(0.93, 0.93, 0.95),
    ),
    "cloud": _Day(
        0.55, 0.25, (0.96, 1.0, 1.06), _WHITE, (0.60, 0.64, 0.68), 0.0025,
        horizon=(0.70, 0.73, 0.76), zenith=(0.48, 0.54, 0.62), cloud=(0.80, 0.82, 0.85),
    ),
    "fog": _Day(0.55, 0.25, _WHITE, _WHITE, _MIST, 0.0, horizon=_MIST, zenith=_MIST, cloud=_MIST),
    "rain": _Day(
        0.50, 0.22, (0.94, 1.0, 1.08), _WHITE, (0.50, 0.53, 0.57), 0.0,
        horizon=(0.52, 0.55, 0.59), zenith=(0.36, 0.40, 0.46), cloud=(0.58, 0.61, 0.65),
    ),
}  # fmt: skip
_NIGHT_HORIZON, _NIGHT_ZENITH = (0.040, 0.028, 0.022), (0.006, 0.009, 0.022)
_LAMP = (1.25, 1.0, 0.62)
_HEADLIGHT = (1.05, 1.0, 0.88)


def radiance(stage: Stage, surface: Surfaces, paint: Paint) -> tuple[Tensor, Tensor]:
    """Light that reaches the lens, ``(3, S, H, W)``, and how much sun falls on each place, ``(S, H, W)``."""
    weathers = [scene.weather for scene in stage.scenes] * len(stage.instants)
    dark = contact(stage)
    sun = torch.zeros_like(dark)
    found = torch.empty(3, *dark.shape, device=stage.device)
    for weather in dict.fromkeys(weathers):
        views = np.flatnonzero(np.array(weathers) == weather)
        part = _View(stage, surface, paint, dark, views)
        if weather == "night":
            found[:, part.views] = part.by_night()
        else:
            found[:, part.views], sun[part.views] = part.by_day(weather)
    return found, sun


class _View:
    """Everything known about the pixels of some views; pictures are ``(V, H, W)``."""

    def __init__(self, stage: Stage, surface: Surfaces, paint: Paint, dark: Tensor, views: np.ndarray):
        self.stage, self.rows = stage, views
        self.views = index = torch.from_numpy(views).to(stage.device)

        def pick(pictures: Vector) -> Vector:
            return tuple(picture[index] for picture in pictures)

        self.albedo, self.glow, self.normal = pick(paint.albedo), pick(paint.glow), pick(surface.normal)
        self.toward, self.point = pick(surface.toward), pick(surface.point)
        self.gloss, self.distance, self.sky = pick((paint.gloss, surface.distance, surface.sky))
        self.ground = surface.ground[index]
        low = 0.72 + 0.28 * (self.point[1] * 0.8).clamp(0, 1)  # walls are darker near the ground
        self.open = torch.where(self.ground, 1 - 0.62 * dark[index], low)
        self.facing = -_dot(self.normal, self.toward)

    def by_day(self, weather: str) -> tuple[Tensor, Tensor]:
        day = _DAYS[weather]
        up = self.normal[1]
        sun = self._sun() if weather == "sun" else (0.5 + 0.5 * up) * self.open
        ambient = day.ambient * (0.82 + 0.18 * up) * self.open
        gloss, albedo = self.gloss, self.albedo
        if weather == "rain":  # water darkens the road and turns it into a mirror
            gloss = torch.where(self.ground, 0.34, gloss)
            wet = torch.where(self.ground, 0.62, 0.85)
            albedo = tuple(a * wet for a in albedo)
        glance = (1 - self.facing.clamp(0, 1)) ** 4
        mirrored = gloss * (0.16 + 0.84 * glance) * self.open
        height = (self.toward[1] + 2 * self.facing * up).clamp(-1, 1)  # of the direction that is mirrored
        above = (height * 8 + 0.5).clamp(0, 1)
        clouds = self._clouds()
        extinction = self._extinction(day.haze)
        through = torch.exp(-extinction * torch.where(self.sky, 400.0 * (extinction > 0.003), self.distance))
        channels = []
        for c in range(3):
            light = albedo[c] * (ambient * day.tint[c] + day.direct * day.warm[c] * sun)
            mirror = day.horizon[c] + (day.zenith[c] - day.horizon[c]) * height.clamp(min=0)
            light = light * (1 - mirrored) + mirrored * (0.12 + (mirror - 0.12) * above)
            light = torch.where(self.sky, self._sky(day, c, clouds, weather), light)
            channels.append(light * through + day.air[c] * (1 - through))
        return torch.stack(channels), sun

    def _sun(self) -> Tensor:
        """Cosine of the sun's rays where they arrive, else 0."""
        sun = [self._number([scene.sun[i] for scene in self.stage.scenes]) for i in range(3)]
        cosine = sum(n * s for n, s in zip(self.normal, sun, strict=True)).clamp(min=0)
        lit = (cosine > 0) & ~self.sky
        return cosine * ~shadows(self.stage, self.rows, self.point, self.normal, lit)

    def _number(self, values) -> Tensor:
        """One number per street → one per view, ``(V, 1, 1)``."""
        return self.stage.of_view(values)[self.views]

    def _extinction(self, haze: float) -> Tensor:
        return self._number([max(scene.conditions.extinction, haze) for scene in self.stage.scenes])

    def _clouds(self) -> Tensor:
        """Noise on a plane high above, 0 … 1."""
        x, y, z = self.toward
        far = 1 / (y.clamp(min=0) + 0.12)
        salt = self._number([scene.road[4] for scene in self.stage.scenes])
        found = noise.look_up(x * far * 0.09 + 3 * salt, z * far * 0.09 + 3 * salt)
        return (found[:, 0] * 0.8 + found[:, 1] * 0.2) * (y * 12).clamp(0, 1)

    def _sky(self, day: _Day, channel: int, clouds: Tensor, weather: str) -> Tensor:
        rise = torch.sqrt(self.toward[1].clamp(0, 1))
        low, high = day.horizon[channel], day.zenith[channel]
        clear = low + (high - low) * rise
        cover = ((clouds - 0.52) * 5).clamp(0, 1) if weather == "sun" else (clouds * 1.6 - 0.3).clamp(0, 1)
        if weather == "sun":
            sun = [self._number([scene.sun[i] for scene in self.stage.scenes]) for i in range(3)]
            near = sum(t * s for t, s in zip(self.toward, sun, strict=True)).clamp(0, 1)
            clear = clear + (0.25 * near**12 + 2.0 * near**400) * day.warm[channel]
        return clear + cover * (day.cloud[channel] - clear)

    def by_night(self) -> Tensor:
        scenes = self.stage.scenes
        lamp = torch.zeros_like(self.open)
        for k in range(3):
            place = [self._number([scene.lamps[k, i] for scene in scenes]) for i in range(3)]
            away = [a - p for a, p in zip(place, self.point, strict=True)]
            square = _dot(away, away)
            lamp = lamp + 3.0 * _dot(self.normal, away).clamp(min=0) * torch.rsqrt(square) / (square + 1)
        aside = self.toward[0].abs()
        cone = 0.6 + 3.4 * ((0.52 - aside) * 6).clamp(0, 1)
        head = cone * self.facing.clamp(min=0.1) / (self.distance**2 * 0.25 + 6)
        rise = torch.sqrt(self.toward[1].clamp(0, 1))
        star = self._stars()
        channels = []
        for c in range(3):
            light = (0.03 + _LAMP[c] * lamp + _HEADLIGHT[c] * head) * self.open
            light = self.albedo[c] * light + self.glow[c]
            sky = _NIGHT_HORIZON[c] + (_NIGHT_ZENITH[c] - _NIGHT_HORIZON[c]) * rise + star
            channels.append(torch.where(self.sky, sky, light))
        return torch.stack(channels)

    def _stars(self) -> Tensor:
        """Few and faint; fixed to the sky, so that they do not crawl from instant to instant."""
        x, y, z = self.toward
        cells = [torch.floor(part * 160) for part in (x / z.clamp(min=0.1), y / z.clamp(min=0.1))]
        luck = noise.uniform(*cells, seed=torch.tensor(5, device=x.device))
        return 0.07 * ((luck - 0.9975) * 400).clamp(0, 1)


def _dot(a: Vector, b: Vector) -> Tensor:
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
