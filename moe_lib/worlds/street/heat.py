"""How warm everything is, for the thermal camera.

Living people are warm whatever they wear; posters and figures of them are as cold as the wall. Engines and
tyres of cars that were driven lately are warm, as often among the parked as among the moving, so warmth says
nothing about motion. The sun heats what it shines on, dark surfaces more; rain evens everything out. The sky
is cold, most of all a clear one, and glass mirrors it.
"""

import torch
from torch import Tensor

from moe_lib.worlds.street.appearance import INKS, Paint
from moe_lib.worlds.street.solids import CLASS, STYLE
from moe_lib.worlds.street.stage import Stage
from moe_lib.worlds.street.surface import Solid, Surfaces

_BODY, _ENGINE = 33.0, 62.0  # °C that people and cars strive for
_ABOVE_AIR = {
    "building": 1.5,
    "fence": -0.5,
    "pole": -1.0,
    "sign": -1.0,
    "vegetation": -1.5,
    "billboard": -0.5,
}
_GROUND = (2.0, 1.0, -1.0)  # road, sidewalk, terrain
_SKY = {"sun": -22, "cloud": -9, "fog": -1.5, "rain": -5, "night": -17}  # against the air
_SUN_HEATS = 26.0  # black surfaces that face the sun
_WET = 0.35  # what rain leaves of all differences
_GLASS = [list(INKS).index(name) for name in ("glass", "lit")]


def temperature(stage: Stage, surface: Surfaces, paint: Paint, sun: Tensor) -> Tensor:
    """Temperatures in °C at the last instant, ``(B, H, W)``; ``sun`` ``(S, H, W)`` is how much arrives."""
    scenes, device = stage.scenes, stage.device
    air = stage.of_view([scene.conditions.air for scene in scenes])
    sunny = stage.of_view([scene.weather == "sun" for scene in scenes])
    wet = stage.of_view([_WET if scene.weather == "rain" else 1.0 for scene in scenes])
    dark = 1 - sum(paint.albedo) * (1 / 3)
    heated = _SUN_HEATS * sunny * dark * (0.25 + 0.75 * sun)
    zones = torch.tensor(_GROUND, device=device)
    base = surface.painted(zones[paint.zone.long()], _above_air(surface.solid, paint))
    # Leaves and grass cool themselves.
    green = surface.painted(
        (paint.zone == 2).float(), (surface.solid.get("class") == CLASS["vegetation"]).float()
    )
    found = air + wet * (base + heated * (1 - 0.7 * green))
    share, aim = _own_heat(surface.solid)
    share = surface.painted(torch.zeros_like(found), share)
    aim = surface.painted(torch.zeros_like(found), aim)
    found = found + share * (1 - 0.35 * (1 - wet)) * (aim - found)
    sky = stage.of_view([_SKY[scene.weather] for scene in scenes])
    found = torch.where(surface.sky, air + sky * (0.4 + 0.6 * surface.toward[1].clamp(0, 1)), found)
    return found[-stage.streets :]


def _above_air(solid: Solid, paint: Paint) -> Tensor:
    """Degrees above the air without sun and without any heat of its own, ``(n,)``."""
    by_class = torch.zeros(len(CLASS), device=solid.pixel.device)
    for name, degrees in _ABOVE_AIR.items():
        by_class[CLASS[name]] = degrees
    glass = (paint.ink == _GLASS[0]) | (paint.ink == _GLASS[1])
    # No two houses are insulated alike; windows show the sky by half, and leak by the rest.
    return by_class[solid.get("class").long()] + 3 * (solid.get("salt") - 0.5) - 3.5 * glass.float()


def _own_heat(solid: Solid) -> tuple[Tensor, Tensor]:
    """How far each place is warmed from inside, 0 to 1, and towards what temperature; ``(n,)`` each."""
    style, warmth, (_, y, z) = solid.get("style"), solid.get("warmth"), solid.own
    bonnet = ((z - 0.1) * 0.9).clamp(0, 1) * 0.42 + 0.05
    exhaust = ((-z - 1.2).clamp(0, 1)) * (y < 0).float() * 0.35
    body = style == STYLE["bodywork"]
    engine = torch.where(body, bonnet + exhaust, torch.where(style == STYLE["tyre"], 0.35, 0.06))
    person = (style == STYLE["cloth"]) | (style == STYLE["head"])
    return warmth * torch.where(person, 1.0, engine), torch.where(person, _BODY, _ENGINE)
