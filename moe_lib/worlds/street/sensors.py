"""Five sensors on the same street: each knows something that no other knows, and each fails somewhere.

    sensor    alone tells apart                                fails
    rgb       markings, pavement and road; signs and poles     at night, in fog, wrongly exposed, blurred
    depth     billboards from what they show                   as "stereo", where there is no texture or light
    event     moving cars from parked ones                     where nothing contrasts: fog; noisy at night
    lidar     range whatever the light is                      sparse; fog and rain swallow and invent returns
    thermal   living people from figures of them               under a hot sun, when walls are as warm

Depth, events and LiDAR follow the literature on driving data sets; the thermal camera is ours. Every sensor
is a picture ``(B, 3, H, W)`` in [0, 1] of 256 levels, as a file would store it.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from moe_lib.worlds import camera, noise
from moe_lib.worlds.street.scene import Scene

SENSORS = ("rgb", "depth", "event", "lidar", "thermal")
_STREAM = {name: number * 7919 for number, name in enumerate(SENSORS)}  # every sensor has its own noise

EVENT_THRESHOLD = 0.18  # change of the logarithm of light that makes one event
BEAMS, COLUMNS = 24, 2  # LiDAR: lines per picture, and every how many columns a ray
FARTHEST_ECHO = 60.0  # metres


def per_street(scenes, value, device: torch.device) -> Tensor:
    """A number of each street's conditions: ``(B, 1, 1)``."""
    found = np.array([value(scene.conditions) for scene in scenes], dtype=np.float32)
    return torch.from_numpy(found)[:, None, None].to(device)


def seeds(scenes: list[Scene], sensor: str, device: torch.device) -> Tensor:
    """A seed for the noise of one sensor in each street: ``(B,)``."""
    found = np.array([scene.conditions.seed for scene in scenes], dtype=np.int64) + _STREAM[sensor]
    return torch.from_numpy(found & 0x7FFFFFFF).to(device)


def rgb(scenes: list[Scene], radiance: Tensor) -> Tensor:
    """The colour camera: rain in front of it, motion while it exposes, then ``moe_lib.worlds.camera``."""
    device = radiance.device
    seed = seeds(scenes, "rgb", device)
    radiance = _bloom(radiance)
    rainy = _where(scenes, "weather", "rain", device)
    if len(rainy):
        radiance = radiance.index_copy(0, rainy, _streaks(radiance[rainy], seed[rainy]))
    blurred = _where(scenes, "case", "motion_blur", device)
    if len(blurred):
        motion = torch.tensor([scene.conditions.blur for scene in scenes], device=device)[blurred]
        radiance = radiance.index_copy(0, blurred, _smear(radiance[blurred], motion))
    gain = per_street(scenes, lambda c: c.gain, device).flatten()
    full_well = per_street(scenes, lambda c: c.full_well, device).flatten()
    return camera.photograph(radiance, seed=seed, exposure=gain, full_well=full_well)


def _where(scenes: list[Scene], what: str, value: str, device: torch.device) -> Tensor:
    found = [number for number, scene in enumerate(scenes) if getattr(scene, what) == value]
    return torch.tensor(found, dtype=torch.int64, device=device)


def _bloom(radiance: Tensor) -> Tensor:
    """Light that is too bright for the lens spreads a little."""
    size = radiance.shape[-1]
    bright = F.avg_pool2d((radiance - 0.9).clamp(min=0), 4)
    spread = F.avg_pool2d(F.avg_pool2d(bright, 5, 1, 2), 3, 1, 1)
    return radiance + 0.5 * F.interpolate(spread, size=(size, size), mode="bilinear", align_corners=False)


def _streaks(radiance: Tensor, seed: Tensor) -> Tensor:
    """Short bright streaks of falling drops, and less contrast."""
    size = radiance.shape[-1]
    long = max(3, size // 14)
    place = noise.pixels(seed, 1, size, size)
    drops = noise.uniform(*place[:3], seed=place[3] + 1)
    lengths = 1 - 0.5 * noise.uniform(*place[:3], seed=place[3] + 2)
    drops = (drops < 0.10 / long).float() * lengths
    falling = F.max_pool2d(F.pad(drops, (0, 0, long - 1, 0)), (long, 1), stride=1)
    return radiance * 0.85 + 0.16 * falling


def _smear(radiance: Tensor, motion: Tensor, copies: int = 13) -> Tensor:
    """The picture averaged along a straight motion, ``(B, 2)`` shares of its width and height."""
    size = radiance.shape[-1]
    place = (torch.arange(size, device=radiance.device) * 2 + 1) / size - 1
    total = torch.zeros_like(radiance)
    for step in torch.linspace(-1, 1, copies).tolist():
        x = (place[None, None] + step * motion[:, 0, None, None]).expand(-1, size, -1)
        y = (place[None, :, None] + step * motion[:, 1, None, None]).expand(-1, -1, size)
        total += F.grid_sample(radiance, torch.stack([x, y], -1), padding_mode="border", align_corners=False)
    return total / copies


def closeness(metres: Tensor) -> Tensor:
    """Distances as brightness: 8 / (8 + metres)."""
    return 8 / (8 + metres)


def depth(depth: Tensor, up: Tensor) -> Tensor:
    """Exact depth as a picture: closeness, how far the surface looks up, and whether there is any.

    ``depth`` in metres, 0 where there is none, and ``up``, the normal's height, are ``(B, H, W)``.
    """
    valid = (depth > 0).float()
    return stored(torch.stack([closeness(depth) * valid, (0.5 + 0.5 * up).clamp(0, 1) * valid, valid], 1))


def stereo(scenes: list[Scene], exact: Tensor, image: Tensor, focal: float) -> Tensor:
    """Depth as two cameras would measure it, metres, 0 where they cannot.

    The error grows with the square of the distance; there is no match without texture or light, nor on the
    left of an edge, which hides things from the second camera. As the match is made in the camera's picture,
    whatever spoils that spoils this.
    """
    channel, y, x, seed = noise.pixels(seeds(scenes, "depth", exact.device), 1, *exact.shape[1:])
    error = noise.normal(channel, y, x, seed=seed)[:, 0]
    measured = exact + error * exact * exact * (0.35 / (focal * 0.4))
    grey = image.mean(1)
    step_x = F.pad((grey[:, :, 1:] - grey[:, :, :-1]).abs(), (0, 1))
    step_y = F.pad((grey[:, 1:] - grey[:, :-1]).abs(), (0, 0, 0, 1))
    texture = F.avg_pool2d(torch.maximum(step_x, step_y)[:, None], 5, 1, 2)[:, 0]
    nearer = F.pad(closeness(exact), (0, 1), mode="replicate")
    hidden = (nearer[:, :, 1:] - nearer[:, :, :-1]) > 0.04
    seen = (texture > 0.008) & (grey > 4 / 255) & (image.amax(1) < 0.995) & ~hidden & (exact > 0)
    return torch.where(seen, measured.clamp(min=0.5), 0)


def event(scenes: list[Scene], luminance: Tensor, *, noisy: bool = True) -> Tensor:
    """Brighter, darker, any: how often the logarithm of the light changed by a threshold, up to 4 times.

    Args:
        luminance: ``(F, B, H, W)``, at successive instants.
        noisy: Whether thresholds differ and pixels fire for no reason.
    """
    device, size = luminance.device, luminance.shape[-1]
    night = per_street(scenes, lambda c: c.weather == "night", device)
    gain = 1 + 2.5 * night  # events have their own sensor: the camera's exposure does not reach it
    channel, y, x, seed = noise.pixels(seeds(scenes, "event", device), 3, size, size)
    threshold = torch.full_like(luminance[0], EVENT_THRESHOLD)
    if noisy:
        threshold = threshold * (1 + 0.08 * noise.normal(channel[:, 2:], y, x, seed=seed)[:, 0])
    levels = torch.log(luminance * gain + 0.02)
    reference = levels[0]
    count = torch.zeros(2, *reference.shape, device=device)  # brighter, darker
    for level in levels[1:]:
        steps = torch.trunc((level - reference) / threshold)
        count += torch.stack([steps.clamp(min=0), (-steps).clamp(min=0)])
        reference = reference + steps * threshold
    count = count.transpose(0, 1)
    if noisy:
        busy = per_street(scenes, lambda c: c.weather in ("night", "rain"), device)[:, None]
        count = count + (noise.uniform(channel[:, :2], y, x, seed=seed) < 0.008 + 0.022 * busy)
    coarse = _where(scenes, "case", "event_low_res", device)
    if len(coarse):
        count = count.index_copy(0, coarse, F.interpolate(F.max_pool2d(count[coarse], 4), scale_factor=4))
    return stored(torch.cat([count.clamp(max=4) / 4, count.sum(1, keepdim=True).clamp(max=1)], 1))


def beams(size: int, device: torch.device) -> Tensor:
    """Where LiDAR rays leave, ``(size, size)`` bool: ``BEAMS`` lines, every ``COLUMNS``-th column."""
    lines = ((torch.arange(BEAMS, device=device) + 0.5) * (size / BEAMS)).long()
    here = torch.zeros(size, size, dtype=torch.bool, device=device)
    here[lines[:, None], torch.arange(0, size, COLUMNS, device=device)] = True
    return here


def lidar(
    scenes: list[Scene], distance: Tensor, albedo: Tensor, facing: Tensor, *, noisy: bool = True
) -> Tensor:
    """Sparse range, reflectivity and where a ray came back.

    Args:
        distance: Along the ray in metres, 0 for the sky; ``(B, H, W)`` as are albedo and
        facing: cosine of the angle at which the ray meets the surface.
        noisy: Whether ranges err and rays get lost.
    """
    device, size = distance.device, distance.shape[-1]
    extinction = per_street(scenes, lambda c: c.extinction, device)
    if any(scene.case == "lidar_jitter" for scene in scenes):
        distance, albedo, facing = _jittered(scenes, distance, albedo, facing)
    sent = beams(size, device)
    back = sent & (distance > 0) & (distance < FARTHEST_ECHO)
    measured = distance
    reflected = (albedo * facing).clamp(0, 1)
    if noisy:
        channel, y, x, seed = noise.pixels(seeds(scenes, "lidar", device), 5, size, size)
        luck = noise.uniform(channel[:, :3], y, x, seed=seed)
        echo = torch.exp(-2 * extinction * distance) * (3 * facing).clamp(max=1) * (8 * albedo).clamp(0.2, 1)
        echo = 0.95 * (echo + 0.15 * (extinction == 0)).clamp(max=1)
        back = back & (luck[:, 0] < echo)
        measured = distance + noise.normal(channel[:, 3:4], y, x, seed=seed)[:, 0] * (0.02 + 0.002 * distance)
        ghost = sent & (luck[:, 1] < 0.8 * extinction)  # echoes from droplets, close by
        measured = torch.where(ghost, 1 - 4 * torch.log(1 - luck[:, 2]), measured)
        reflected = torch.where(ghost, 0.1, reflected)
        back = back | ghost
    back = back.float()
    return stored(torch.stack([closeness(measured.clamp(min=0.1)) * back, reflected * back, back], 1))


def _jittered(scenes: list[Scene], *pictures: Tensor) -> list[Tensor]:
    """Pictures ``(B, H, W)`` moved by each street's jitter; what comes in from outside is 0."""
    size, device = pictures[0].shape[-1], pictures[0].device
    here = torch.arange(size, device=device)
    down = torch.tensor([round(s.conditions.jitter[0] * size) for s in scenes], device=device)[:, None]
    right = torch.tensor([round(s.conditions.jitter[1] * size) for s in scenes], device=device)[:, None]
    line, column = here - down, here - right
    inside = ((line >= 0) & (line < size))[:, :, None] & ((column >= 0) & (column < size))[:, None]
    line, column = line.clamp(0, size - 1)[:, :, None], column.clamp(0, size - 1)[:, None]
    street = torch.arange(len(scenes), device=device)[:, None, None]
    return [picture[street, line, column] * inside for picture in pictures]


def thermal(scenes: list[Scene], temperature: Tensor, distance: Tensor, *, noisy: bool = True) -> Tensor:
    """White is hot: 48 °C from black to white, the air a little below the middle; coarse, soft and noisy.

    ``temperature`` in °C and ``distance`` in metres are ``(B, H, W)``.
    """
    device, size = temperature.device, temperature.shape[-1]
    air = per_street(scenes, lambda c: c.air, device)
    # Heat passes fog five times as well as light does.
    through = torch.exp(-0.2 * per_street(scenes, lambda c: c.extinction, device) * distance)
    level = (temperature - air) * through * (1 / 48) + 0.36
    level = F.avg_pool2d(level[:, None], 2)
    level = F.avg_pool2d(F.pad(level, (1, 1, 1, 1), mode="replicate"), 3, 1) * 0.5 + level * 0.5
    if noisy:
        channel, y, x, seed = noise.pixels(seeds(scenes, "thermal", device), 2, size // 2, size // 2)
        rain = per_street(scenes, lambda c: c.weather == "rain", device)[:, None]
        level = level + (0.008 + 0.010 * rain) * noise.normal(channel[:, :1], y, x, seed=seed)
        level = level + 0.004 * noise.normal(channel[:, 1:], 0 * y, x, seed=seed)  # columns differ
    level = F.interpolate(level, scale_factor=2, mode="bilinear", align_corners=False)
    return stored(level.clamp(0, 1).expand(-1, 3, -1, -1))


def stored(picture: Tensor) -> Tensor:
    """Rounded to the 256 levels of a file."""
    return (picture * 255).round() * (1 / 255)
