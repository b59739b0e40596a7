"""How surfaces are painted, without any light on them.

A solid's style says which *ink* a place on it shows (its own colour, glass, a white line, a tail light …) and
how much darker or lighter it is there. Patterns are laid out in the solid's own axes, so that they travel
with it. Patterns finer than a pixel fade out, as they do in a camera.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from moe_lib.worlds import noise
from moe_lib.worlds.street.cast import Vector
from moe_lib.worlds.street.solids import CLASS, STYLE
from moe_lib.worlds.street.stage import Stage
from moe_lib.worlds.street.surface import Solid, Surfaces

# Ink: colour in daylight, gloss, light of its own at night.
_BLACK = (0.0, 0.0, 0.0)
INKS = {
    "own": (_BLACK, 0.03, _BLACK),
    "paint": (_BLACK, 0.30, _BLACK),  # its own colour, varnished
    "glass": ((0.045, 0.055, 0.065), 0.60, _BLACK),
    "lit": ((0.12, 0.11, 0.10), 0.45, (0.50, 0.38, 0.17)),
    "white": ((0.68, 0.68, 0.66), 0.05, _BLACK),
    "tail": ((0.50, 0.03, 0.03), 0.15, (0.80, 0.05, 0.04)),
    "headlight": ((0.75, 0.75, 0.70), 0.30, (1.80, 1.65, 1.30)),
    "lantern": ((0.60, 0.58, 0.50), 0.05, (2.40, 2.00, 1.30)),
    "rubber": ((0.03, 0.03, 0.032), 0.03, _BLACK),
    "rim": ((0.38, 0.39, 0.41), 0.30, _BLACK),
    "hair": ((0.05, 0.035, 0.025), 0.05, _BLACK),
    "skin": ((0.50, 0.34, 0.25), 0.05, _BLACK),
    "board": ((0.35, 0.35, 0.34), 0.05, _BLACK),
}
_INK = {name: number for number, name in enumerate(INKS)}
_TURN = 12.3  # metres per turn of the noise atlas: 1.3 and 5.2 cells per metre


@dataclass
class Paint:
    """What light finds on the surfaces; pictures ``(S, H, W)``, colours three of them."""

    albedo: Vector
    gloss: Tensor
    glow: Vector  # light that the surface sends out at night
    ink: Tensor  # (n,) ink of each solid pixel
    marking: Tensor  # bool, road markings
    zone: Tensor  # 0 road, 1 sidewalk, 2 terrain; of the ground only


def _road(stage: Stage) -> list[Tensor]:
    """The numbers of every view's road, ``(S, 1, 1)`` each."""
    return [stage.of_view([scene.road[i] for scene in stage.scenes]) for i in range(5)]


def _zones(stage: Stage, surface: Surfaces) -> tuple[Tensor, Tensor]:
    """Zone of the ground (0 road, 1 sidewalk, 2 terrain) and where there is a marking; exact, for masks."""
    width, pavement, shift, bend, _ = _road(stage)
    x, _, z = surface.point
    aside = (x - (shift + bend * (z * z))).abs()
    half = width * 0.5
    zone = (aside >= half).to(torch.uint8) + (aside >= half + pavement).to(torch.uint8)
    quarter = z * 0.25
    dash = (aside < 0.09) & (quarter - torch.floor(quarter) < 0.5)
    edge = (aside - (half - 0.25)).abs() < 0.08
    return zone, surface.ground & (dash | edge)


def paint(stage: Stage, surface: Surfaces) -> Paint:
    """Paint ground and solids."""
    zone, marking = _zones(stage, surface)
    ground = _ground(stage, surface, zone, marking)
    ink, shade = _styles(surface.solid)
    device = stage.device
    colours = torch.tensor([colour for colour, _, _ in INKS.values()], device=device).T
    glows = torch.tensor([glow for _, _, glow in INKS.values()], device=device).T
    gloss = torch.tensor([gloss for _, gloss, _ in INKS.values()], device=device)
    own = (ink <= _INK["paint"]).float() * shade
    albedo = colours[:, ink] + own * surface.solid.get("albedo")
    nothing = torch.zeros_like(ground[0])
    return Paint(
        albedo=tuple(surface.painted(g, a) for g, a in zip(ground, albedo, strict=True)),
        gloss=surface.painted(nothing, gloss[ink]),
        glow=tuple(surface.painted(nothing, g) for g in glows[:, ink]),
        ink=ink,
        marking=marking,
        zone=zone,
    )


def _fraction(x: Tensor) -> Tensor:
    return x - torch.floor(x)


def _fade(footprint: Tensor, finest: float) -> Tensor:
    """How much of a pattern is left whose finest part is so many metres wide: 1 near, 0 far."""
    return (1.6 - footprint * (0.8 / finest)).clamp(0, 1)


def _mottle(found: Tensor, footprint: Tensor, coarse: float, fine: float) -> Tensor:
    """Brightness that varies about 1 by two octaves of noise; ``found`` is what the atlas gave."""
    coarse = coarse * (found[0] - 0.5) / (1 + (footprint * 1.3) ** 2)
    return 1 + coarse + fine * (found[1] - 0.5) / (1 + (footprint * 5) ** 2)


def _ground(stage: Stage, surface: Surfaces, zone: Tensor, marking: Tensor) -> Vector:
    x, _, z = surface.point
    width, _, shift, bend, salt = _road(stage)
    found = noise.look_up(x / _TURN + 7 * salt, z / _TURN + 7 * salt).unbind(1)
    footprint = surface.footprint
    aside = (x - (shift + bend * (z * z))).abs()
    beyond = aside - width * 0.5
    mottled = _mottle(found, footprint, 0.5, 0.3)
    # Tyres polish two tracks in either lane; beside the kerb dirt gathers.
    track = (1 - ((aside - width * 0.25).abs() - 0.75).abs() * 3).clamp(min=0)
    asphalt = 0.17 * mottled * (1 - 0.10 * track) * (1 - 0.12 * (1 + beyond * 2.5).clamp(0, 1))
    line = 0.55 * (0.55 + 0.6 * found[0] + 0.2 * found[1])
    road = torch.where(marking, line, asphalt)
    joints = ((_fraction(z * (1 / 0.8)) < 0.06) | (_fraction(beyond * (1 / 0.6)) < 0.08)).float()
    slabs = 0.25 * mottled * (1 - 0.3 * joints * _fade(footprint, 0.15))
    kerb = ((beyond < 0.16) & (beyond >= 0)).float() * _fade(footprint, 0.6)
    slabs = slabs + kerb * 0.13
    grass = (2.2 * found[0] - 0.6 + 0.5 * (found[1] - 0.5)).clamp(0, 1)
    blades = _mottle(found, footprint, 0.2, 0.7)
    colour = []
    for tint, soil, green in zip((1.0, 1.0, 1.02), (0.25, 0.215, 0.15), (0.13, 0.20, 0.075), strict=True):
        terrain = (soil + grass * (green - soil)) * blades
        colour.append(torch.where(zone == 0, road * tint, torch.where(zone == 1, slabs, terrain)))
    return tuple(colour)


def _styles(solid: Solid) -> tuple[Tensor, Tensor]:
    """Ink and brightness of every solid pixel, ``(n,)`` each."""
    u, v = _face(solid)
    salt = solid.get("salt")
    found = noise.look_up((u / _TURN + 5 * salt)[None, None], (v / _TURN + 3 * salt)[None, None])[0, :, 0]
    shade = _mottle(found, solid.footprint, 0.45, 0.3)
    ink = torch.zeros_like(u, dtype=torch.int64)
    for name, style in _PAINTERS.items():
        ink, shade = style(solid, solid.get("style") == STYLE[name], ink, shade, found)
    return ink, shade


def _face(solid: Solid) -> tuple[Tensor, Tensor]:
    """Two coordinates along the side of the solid that is seen."""
    (x, y, z), (nx, ny, nz) = solid.own, (n.abs() for n in solid.own_normal)
    on_top, on_x = ny > torch.maximum(nx, nz), nx > nz
    return torch.where(on_x & ~on_top, z, x), torch.where(on_top, z, y)


def _facade(solid: Solid, here: Tensor, ink: Tensor, shade: Tensor, found: Tensor):
    (x, y, z), normal, salt = solid.own, solid.own_normal, solid.get("salt")
    half = solid.get("half")
    here = here & (normal[1].abs() < 0.5)
    along = torch.where(normal[0].abs() > 0.5, z, x)
    up = y + half[1]
    storey, pitch = 2.5 + 0.8 * _fraction(salt * 3.7), 1.8 + 1.1 * _fraction(salt * 5.3)
    column, level = along / pitch, up / storey
    fu, fv = (_fraction(column) - 0.5).abs(), _fraction(level)
    wide = 0.20 + 0.12 * _fraction(salt * 9.1)
    shop = level < 1
    low, high = torch.where(shop, 0.10, 0.28), torch.where(shop, 0.78, 0.80)
    wide = torch.where(shop, 0.40, wide)
    below_roof = up < 2 * half[1] - 0.35
    window = here & (fu < wide) & (fv > low) & (fv < high) & below_roof
    frame = here & (fu < wide + 0.05) & (fv > low - 0.05) & (fv < high + 0.03) & below_roof & ~window
    seed = (salt * 2**20).to(torch.int32)
    luck = noise.uniform(torch.floor(column), torch.floor(level), (normal[0] > 0).int(), seed=seed)
    crossbar = ((fu < 0.02) | ((fv - 0.6).abs() < 0.015)) & (_fade(solid.footprint, 0.05) > 0.6)
    ink = torch.where(window & ~crossbar, torch.where(luck < 0.45, _INK["lit"], _INK["glass"]), ink)
    fade = _fade(solid.footprint, 0.12)
    shade = torch.where(frame, shade * (1 + 0.35 * fade), shade)
    shade = torch.where(here & (up < 0.45), shade * 0.7, shade)
    return ink, torch.where(here & (fv < 0.05), shade * (1 - 0.22 * fade), shade)


def _roof(solid: Solid, here: Tensor, ink: Tensor, shade: Tensor, found: Tensor):
    rows = _fraction(solid.own[1] * 4 + 0.5) < 0.25
    pitched = solid.get("lean")[0] > 0
    return ink, torch.where(here & pitched & rows, shade * (1 - 0.3 * _fade(solid.footprint, 0.1)), shade)


def _fence(solid: Solid, here: Tensor, ink: Tensor, shade: Tensor, found: Tensor):
    _, y, z = solid.own
    gap = (_fraction(z * 2) < 0.4) & (y < solid.get("half")[1] - 0.12)
    return ink, torch.where(here & gap, shade * (1 - 0.6 * _fade(solid.footprint, 0.25)), shade)


def _sign(solid: Solid, here: Tensor, ink: Tensor, shade: Tensor, found: Tensor):
    x, y, _ = solid.own
    x, salt = x.abs(), solid.get("salt")
    rim = torch.maximum(x, y.abs()) > 0.44
    bar = (x < 0.3) & (y.abs() < 0.09)
    disc = (x * x + y * y < 0.07) & (x * x + y * y > 0.022)
    arrow = (x < 0.24 - 0.6 * y.abs()) & (y.abs() < 0.34)
    symbol = torch.where(salt < 0.33, bar, torch.where(salt < 0.66, disc, arrow))
    return torch.where(here & (rim | symbol), _INK["white"], ink), shade


def _car_advert(solid: Solid, here: Tensor, ink: Tensor, shade: Tensor, found: Tensor):
    """A car from the side, as large as life."""
    _, y, z = solid.own
    side = z.abs()
    y = y + 0.15
    cabin = (y >= 0.2) & (y < 0.74) & (side < 1.25 - 0.8 * (y - 0.2))
    body = ((y > -0.5) & (y < 0.2) & (side < 1.75)) | cabin
    pane = (y > 0.26) & (y < 0.66) & (side < 1.12 - 0.8 * (y - 0.2)) & (side > 0.05)
    wheel = (side - 1.1) ** 2 + (y + 0.5) ** 2 < 0.1
    ink = torch.where(here, torch.where(body, _INK["own"], _INK["board"]), ink)
    return torch.where(here & (pane | wheel), _INK["rubber"], ink), shade


def _person_advert(solid: Solid, here: Tensor, ink: Tensor, shade: Tensor, found: Tensor):
    """People, as large as life; on every second board a row of them."""
    _, y, z = solid.own
    row = solid.get("salt") < 0.5
    z = torch.where(row, (_fraction(z * (1 / 1.1) + 0.5) - 0.5) * 1.1, z)
    side = z.abs()
    trunk = (side < 0.24) & (y > -0.05) & (y < 0.52)
    legs = (side < 0.2) & (side > 0.02) & (y > -0.8) & (y <= -0.05)
    face = side * side + (y - 0.68) ** 2 < 0.03
    ink = torch.where(here, torch.where(trunk | legs, _INK["own"], _INK["board"]), ink)
    ink = torch.where(here & face, torch.where(y > 0.73, _INK["hair"], _INK["skin"]), ink)
    return ink, torch.where(here & legs, shade * 0.4, shade)


def _leaves(solid: Solid, here: Tensor, ink: Tensor, shade: Tensor, found: Tensor):
    clump = 0.55 + 0.9 * found[1] * (0.4 + found[0])
    below = 0.75 + 0.3 * solid.own_normal[1]
    return ink, torch.where(here, clump * below, shade)


def _bodywork(solid: Solid, here: Tensor, ink: Tensor, shade: Tensor, found: Tensor):
    (x, y, z), (nx, _, nz) = solid.own, solid.own_normal
    x, across = x.abs(), (z.abs() - 1.25) ** 2 + (y + 0.31) ** 2
    side, rear, front = nx.abs() > 0.5, nz < -0.5, nz > 0.5
    ink = torch.where(here, _INK["paint"], ink)
    arch, grille = side & (across < 0.15), front & (x < 0.28) & (y > -0.12) & (y < -0.02)
    ink = torch.where(here & (arch | grille | (y < -0.30)), _INK["rubber"], ink)
    plate = (rear | front) & (x < 0.26) & (y > -0.26) & (y < -0.12)
    ink = torch.where(here & plate, _INK["white"], ink)
    ink = torch.where(here & rear & (x > 0.52) & (y > 0.02) & (y < 0.27), _INK["tail"], ink)
    ink = torch.where(here & front & (x > 0.50) & ((y - 0.1).abs() < 0.12), _INK["headlight"], ink)
    seam = (
        side & (((z - 0.55).abs() < 0.02) | ((z + 0.6).abs() < 0.02)) & (_fade(solid.footprint, 0.04) > 0.6)
    )
    return ink, torch.where(here, torch.where(seam, 0.5, 1.0) * (0.94 + 0.12 * found[0]), shade)


def _cabin(solid: Solid, here: Tensor, ink: Tensor, shade: Tensor, found: Tensor):
    (x, y, z), (nx, ny, nz) = solid.own, (n.abs() for n in solid.own_normal)
    half, lean = solid.get("half"), solid.get("lean")
    rise = (y + half[1]) / (2 * half[1])
    room_x, room_z = half[0] - lean[0] * rise - x.abs(), half[2] - lean[1] * rise - z.abs()
    pillar = torch.where(nx > nz, (room_z < 0.10) | ((z + 0.05).abs() < 0.05), room_x < 0.07)
    painted = (ny > torch.maximum(nx, nz)) | pillar | (y > half[1] - 0.05)
    ink = torch.where(here, torch.where(painted, _INK["paint"], _INK["glass"]), ink)
    return ink, torch.where(here, 1.0, shade)


def _tyre(solid: Solid, here: Tensor, ink: Tensor, shade: Tensor, found: Tensor):
    (_, y, z), end = solid.own, solid.own_normal[0].abs() > 0.7
    rim = end & (y * y + z * z < 0.036) & (y * y + z * z > 0.004)
    return torch.where(here, torch.where(rim, _INK["rim"], _INK["rubber"]), ink), shade


def _head(solid: Solid, here: Tensor, ink: Tensor, shade: Tensor, found: Tensor):
    return torch.where(here & (solid.own[1] > 0.06), _INK["hair"], ink), shade


def _lamp(solid: Solid, here: Tensor, ink: Tensor, shade: Tensor, found: Tensor):
    return torch.where(here & (solid.own[1] < -0.02), _INK["lantern"], ink), shade


_PAINTERS = {
    "facade": _facade, "roof": _roof, "fence": _fence, "sign": _sign, "car_advert": _car_advert,
    "person_advert": _person_advert, "leaves": _leaves, "bodywork": _bodywork, "cabin": _cabin, "tyre": _tyre,
    "head": _head, "lamp": _lamp,
}  # fmt: skip


def classes(surface: Surfaces, paint: Paint) -> Tensor:
    """Class of every pixel, ``(S, H, W)`` int64."""
    zone = paint.zone
    terrain = torch.where(
        zone == 0, CLASS["road"], torch.where(zone == 1, CLASS["sidewalk"], CLASS["terrain"])
    )
    ground = torch.where(paint.marking, CLASS["road_marking"], terrain)
    found = torch.where(surface.sky, CLASS["sky"], ground)
    return surface.painted(found, surface.solid.get("class").to(torch.int64))
