"""The layered renderer: scenes as stacks of textured, shaded shapes, painted from the back to the front.

A scene is a structured array with one row per layer (what NumPy decided); :func:`render` paints a batch of
them. Every layer is painted in a window that is just large enough, together with layers of other scenes that
need windows of about that size. Shapes: B scenes, R layers of all of them, b layers painted together, w
pixels a side of their windows.

Whatever decides a mask is exact float32 arithmetic; only colours use more.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from moe_lib.worlds import noise
from moe_lib.worlds.outlines import STEPS, directions, disc

Rows = dict[str, Tensor]
KEEP = 255  # a layer with this label leaves the labels below it as they are

# One layer. Lengths are in canvas sides; textures live in canvas coordinates, so that one texture can run on
# behind and inside an object. A pattern is the product of two waves, bent by noise:
#   t = clip((wave(u1) · wave(u2) - 1/2) · sharp + 1/2),  u = direction · position + phase + warp · noise
LAYER = np.dtype(
    [
        ("outline", "f4", STEPS),  # moe_lib.worlds.outlines
        ("centre", "f4", 2),
        ("turn", "f4", 2),  # cos and sin of the angle by which it is turned
        ("radius", "f4", 2),  # along its own axes
        ("hole", "f4"),  # the middle is left out up to this share of the way to the edge: a ring
        ("strokes", "i4", 2),  # first and one past the last row in the scene's strokes; equal: an outline
        ("soft", "f4"),  # width of the blur at its edge; 0: one pixel
        ("opacity", "f4"),
        ("multiply", "f4"),  # 0: paints over what is below; 1: tints it, as a shadow does
        ("refract", "f4", 2),  # shows what is below, displaced by this much at the rim: glass
        ("base", "f4", 3),
        ("accent", "f4", 3),  # the pattern's other colour
        ("wave1", "f4", 3),  # direction times frequency, and phase
        ("wave2", "f4", 3),
        ("ring", "f4"),  # periods from the middle to the edge, added to the first wave: growth rings
        ("warp", "f4"),
        ("sharp", "f4"),  # 1: soft; large: hard edges between base and accent
        ("grain", "f4"),  # how strongly fine noise varies the colour
        ("speckle", "f4", 4),  # matrix from canvas to noise coordinates, row by row
        ("shift", "f4", 2),  # where in the noise
        ("dome", "f4"),  # 0: flat; 1: as round as a ball
        ("relief", "f4"),  # how strongly the noise stands out of the surface
        ("gloss", "f4"),
        ("cast", "f4", 3),  # where its shadow falls (dx, dy) and how dark
        ("instance", "i4"),  # 0: none; parts of one object share it
        ("on", "i4"),  # paints only on this instance; 0: anywhere
        (
            "label",
            "i4",
        ),  # of the pixels it owns from now on; KEEP: it owns none, and so has no instance or depth
        ("depth", "f4"),
    ]
)
STROKE = np.dtype([("start", "f4", 2), ("end", "f4", 2), ("width", "f4", 2)])  # half widths at both ends

# On a CPU: scenes in work, and pixels painted together, which its cache can hold.
_POOL, _PIXELS = 128, 80_000
_OVERHEAD = 8000  # pixels that could be painted in the time that a turn takes whatever its size
_NEAR = 1.35  # shadows reach this many times the outline


@dataclass
class Scene:
    """What is in a layered scene, decided by NumPy.

    Args:
        layers: One row per layer, ``LAYER`` being its type, from the back to the front; see :func:`layer`.
        seed: Of the camera's noise.
        strokes: Line segments of which layers may be made instead of an outline.
        light: Towards the light: right, down, at the viewer.
        ambient: Share of the light that comes from everywhere.
        exposure, full_well: Of the camera: gain, and electrons at white (the fewer, the noisier).
        vignette: How much darker the corners are.
        about: What a task wants to remember.

    Introduced in :doc:`/chapters/pocket_world`.
    """

    layers: np.ndarray
    seed: int = 0  # of the camera's noise
    strokes: np.ndarray = field(default_factory=lambda: np.zeros(0, STROKE))
    light: tuple[float, float, float] = (-0.4, -0.6, 0.7)  # towards the light: right, down, at the viewer
    ambient: float = 0.45
    exposure: float = 1.0
    full_well: float = 1500.0
    vignette: float = 0.0
    about: dict = field(default_factory=dict)  # what a task wants to remember


def layer(**values) -> np.ndarray:
    """One layer: a flat grey disc that covers the canvas and owns nothing, but for what is said.

    The names are those of ``LAYER``, in ``moe_lib.worlds.layers``: ``outline``, ``centre``, ``radius``,
    ``base``, ``label`` and so on.

    Introduced in :doc:`/chapters/pocket_world`.
    """
    row = _PLAIN.copy()
    for name, value in values.items():
        row[name] = value
    return row


def _plain() -> np.ndarray:
    row = np.zeros((), LAYER)
    row["outline"], row["centre"], row["turn"], row["radius"] = disc(), 0.5, (1, 0), 2
    row["opacity"], row["base"], row["sharp"], row["label"], row["depth"] = 1, 0.5, 1, KEEP, 1
    row["wave2"] = (0, 0, 0.5)  # 1 everywhere, so that the first wave is the pattern
    row["speckle"] = (0.5, 0, 0, 0.5)
    return row


_PLAIN = _plain()


def render(scenes: Sequence[Scene], size: int, device: torch.device) -> dict[str, Tensor]:
    """Paint a batch of scenes.

    Returns:
        ``radiance`` (B, 3, H, W), ``label`` and ``instances`` int64 (B, H, W), ``depth`` (B, H, W), and
        ``silhouettes`` (B, I): how many pixels each instance, 1 … I, would have with nothing in front of it.
    """
    if device.type == "cpu" and len(scenes) > _POOL:
        pools = [render(scenes[i : i + _POOL], size, device) for i in range(0, len(scenes), _POOL)]
        most = max(pool["silhouettes"].shape[1] for pool in pools)
        for pool in pools:
            pool["silhouettes"] = F.pad(pool["silhouettes"], (0, most - pool["silhouettes"].shape[1]))
        return {name: torch.cat([pool[name] for pool in pools]) for name in pools[0]}
    canvas = _Canvas(scenes, size, device)
    seen = np.flatnonzero(canvas.sides)
    pixels, overhead = (_PIXELS, _OVERHEAD) if device.type == "cpu" else (1 << 40, 1 << 40)
    counts = np.bincount(canvas.scene_of[seen], minlength=len(scenes))
    for turn in _turns(counts, canvas.sides[seen], canvas.kinds[seen], pixels, overhead):
        canvas.paint(seen[turn])
    return canvas.finished()


def _turns(
    counts: np.ndarray, sides: np.ndarray, kinds: np.ndarray, pixels: int, overhead: int
) -> Iterator[np.ndarray]:
    """Which layers ``(b,)`` are painted together: of each scene at most the next one, and all of one kind.

    Each turn takes the group that wastes the least per layer: by a window that is larger than needed, and by
    sharing what a turn costs anyway among fewer than could. So large layers go first, and small ones gather.
    """
    last = np.cumsum(counts)
    upcoming = last - counts
    while True:
        waiting = upcoming[upcoming < last]
        if not len(waiting):
            return
        best, least = waiting[:1], np.inf
        for kind in (0, 1):
            group = waiting[kinds[waiting] == kind]
            group = group[np.argsort(-sides[group], kind="stable")]
            area = sides[group].astype(float) ** 2
            for start in np.flatnonzero(np.diff(sides[group], prepend=-1)):
                most = max(1, pixels // int(area[start]))
                part = slice(start, start + most)
                waste = overhead / len(area[part]) - overhead / most + area[start] - area[part].mean()
                if waste < least:
                    best, least = group[part], waste
        yield best
        upcoming[np.searchsorted(last, best, side="right")] += 1


class _Row(dict):
    """The rows of the layers that are painted together, ``(b, …)``; ``used`` names what is not zero."""

    used: set[str]

    def uses(self, *names: str) -> bool:
        return not self.used.isdisjoint(names)


class _Canvas:
    """The state of a batch while it is painted."""

    def __init__(self, scenes: Sequence[Scene], size: int, device: torch.device):
        count = len(scenes)
        self.size, self.device = size, device
        lines = joined([scene.layers for scene in scenes], LAYER)
        strokes = joined([scene.strokes for scene in scenes], STROKE)
        self.scene_of = np.repeat(np.arange(count), [len(scene.layers) for scene in scenes])
        before = np.cumsum([0, *(len(scene.strokes) for scene in scenes[:-1])])
        lines["strokes"] += before[self.scene_of][:, None]
        self.kinds = (lines["strokes"][:, 1] > lines["strokes"][:, 0]).astype(int)  # 1: drawn in strokes
        corners, self.sides = _bounds(lines, strokes, self.kinds > 0, size)
        self.used = _used(lines)
        self.corners = torch.from_numpy(corners).to(device)
        self.rows, self.strokes = _tensors(lines, device), _tensors(strokes, device)
        self.packed = torch.cat([values.view(len(values), -1).float() for values in self.rows.values()], 1)
        self.rgb = torch.zeros(3, count, size * size, device=device)
        self.top = torch.zeros(
            count, size * size, dtype=torch.int32, device=device
        )  # 1 + the layer that owns it
        self.within = torch.zeros(count, size * size, dtype=torch.int64, device=device)  # bit i: instance i
        self.silhouettes = torch.zeros(
            count, int(lines["instance"].max()) + 1, dtype=torch.int64, device=device
        )
        light = np.array([scene.light for scene in scenes], np.float32)
        light /= np.linalg.norm(light, axis=1, keepdims=True)
        self.light = torch.from_numpy(light).to(device)[..., None, None]
        self.ambient = torch.tensor([scene.ambient for scene in scenes], device=device).view(-1, 1, 1)
        self.vignette = torch.tensor([scene.vignette for scene in scenes], device=device).view(-1, 1, 1, 1)

    def paint(self, turn: np.ndarray) -> None:
        """Paint these layers ``(b,)``, each of another scene."""
        side = int(self.sides[turn].max())
        number = torch.from_numpy(turn).to(self.device)
        packed = self.packed.index_select(0, number).split(
            [values[0].numel() for values in self.rows.values()], 1
        )
        row = _Row(
            (name, part.view(-1, *values.shape[1:]))
            for (name, values), part in zip(self.rows.items(), packed, strict=True)
        )
        row.used = {name for name, used in zip(self.rows, self.used[turn].any(0), strict=True) if used}
        scene = torch.from_numpy(self.scene_of[turn]).to(self.device)
        window = _Window(self.corners[number], scene, side, self.size)
        light, ambient = self.light[scene], self.ambient[scene]
        shape = _Shape(row, self.strokes, window.x, window.y)
        opacity = _each(row["opacity"])
        inside = (shape.gauge < 1) & (opacity > 0)
        cover = (shape.distance / (_each(row["soft"]) + 1 / self.size) + 0.5).clamp(0, 1) * opacity
        top = window.read(self.top)
        if row.uses("on"):
            on = _each(row["on"])
            allowed = (on == 0) | (self._owners("instance", top) == on)
            inside, cover = inside & allowed, cover * allowed

        rgb = window.read(self.rgb)
        if row.uses("cast"):
            rgb = rgb * self._shade_below(row, window)
        colour = _colour(row, window, shape, light, ambient)
        if row.uses("refract"):
            colour = colour * self._seen_through(row, window, shape)
        if row.uses("multiply"):
            tint = _each(row["multiply"])[:, None]
            colour = colour * (1 - tint + tint * rgb)
        window.write(self.rgb, torch.lerp(rgb, colour, cover[:, None]))

        owns = inside & (_each(row["label"]) != KEEP)
        window.write(self.top, torch.where(owns, _each(number + 1).int(), top))
        if row.uses("instance"):
            instance = _each(row["instance"]).long()
            bit = torch.where(instance > 0, torch.ones_like(instance) << instance, 0)
            within = window.read(self.within)
            fresh = owns & (within & bit == 0) & (instance > 0)
            self.silhouettes[scene, instance.flatten()] += fresh.sum((1, 2))
            window.write(self.within, torch.where(owns, within | bit, within))

    def _shade_below(self, row: _Row, window: "_Window") -> Tensor:
        dx, dy, dark = (_each(row["cast"][:, i]) for i in range(3))
        gauge = _Shape(row, self.strokes, window.x - dx, window.y - dy, shadow=True).gauge
        return (1 - dark * ((_NEAR - gauge) / (_NEAR - 0.75)).clamp(0, 1))[:, None]

    def _seen_through(self, row: _Row, window: "_Window", shape: "_Shape") -> Tensor:
        """What is below, seen displaced towards the rim."""
        bend = shape.rim * shape.rim / (shape.away + 1e-6)
        x = window.x + bend * _each(row["refract"][:, 0]) * shape.dx
        y = window.y + bend * _each(row["refract"][:, 1]) * shape.dy
        column, line = ((at * self.size - 0.5).clamp(0, self.size - 1.001) for at in (x, y))
        before = line.long() * self.size + column.long()
        right, down = column.frac()[:, None], line.frac()[:, None]
        upper, lower = (
            torch.lerp(*(window.of(self.rgb, before + below + step) for step in (0, 1)), right)
            for below in (0, self.size)
        )
        seen = torch.lerp(upper, lower, down)
        return torch.where(row["refract"].any(1).view(-1, 1, 1, 1), seen, 1.0)

    def _owners(self, name: str, top: Tensor) -> Tensor:
        """A property of the layers that own these pixels; 0 where none does."""
        return F.pad(self.rows[name], (1, 0)).index_select(0, top.flatten()).view(top.shape)

    def finished(self) -> Rows:
        place = (torch.arange(self.size, device=self.device) + 0.5) / self.size - 0.5
        corner = place[:, None] ** 2 + place[None] ** 2
        shape = (-1, self.size, self.size)
        top = self.top.view(shape)
        return {
            "radiance": self.rgb.view(3, *shape).transpose(0, 1) * (1 - self.vignette * corner),
            "label": self._owners("label", top).long(),
            "instances": self._owners("instance", top).long(),
            "depth": self._owners("depth", top),
            "silhouettes": self.silhouettes[:, 1:],
        }


class _Window:
    """The squares of pixels that layers can touch, all of one size.

    ``x`` is ``(b, 1, w)`` and ``y`` ``(b, w, 1)``: what is linear in both costs one operation a pixel.
    """

    def __init__(self, corner: Tensor, scene: Tensor, side: int, size: int):
        place = torch.arange(side, device=corner.device)
        left, upper = corner.clamp(max=size - side).unbind(1)
        column, line = left[:, None, None] + place.view(1, 1, -1), upper[:, None, None] + place.view(1, -1, 1)
        self.x, self.y = (column + 0.5) / size, (line + 0.5) / size
        self.whole, self.scene, self.side, self.area = side == size, scene, side, size * size
        self.at = None if self.whole else (line * size + column + _each(scene * self.area)).flatten()

    def read(self, picture: Tensor) -> Tensor:
        """What ``(B, H·W)`` or ``(3, B, H·W)`` holds there: ``(b, w, w)`` or ``(b, 3, w, w)``."""
        if self.whole:
            seen = picture.index_select(-2, self.scene)
        else:
            seen = picture.flatten(-2).index_select(-1, self.at)
        seen = seen.view(*picture.shape[:-2], -1, self.side, self.side)
        return seen if picture.dim() == 2 else seen.transpose(0, 1)

    def write(self, picture: Tensor, values: Tensor) -> None:
        values = values if picture.dim() == 2 else values.transpose(0, 1)
        if self.whole:
            picture.index_copy_(-2, self.scene, values.flatten(-2))
        else:
            at = self.at.expand(*picture.shape[:-2], -1)
            picture.flatten(-2).scatter_(-1, at, values.flatten(-3))

    def of(self, picture: Tensor, at: Tensor) -> Tensor:
        """Pixels of ``(3, B, H·W)`` at flat places ``(b, w, w)`` of their scenes."""
        seen = picture.flatten(1).index_select(1, (at + _each(self.scene * self.area)).flatten())
        return seen.view(3, *at.shape).transpose(0, 1)


class _Shape:
    """Where the pixels of a window lie in a layer's shape.

    ``gauge`` is below 1 inside, and ``rim`` is the gauge cut at 1; ``distance`` is about how far within the
    edge, in canvas sides; ``dx``, ``dy`` and ``away`` lead from its centre, or from the middle line of the
    nearest stroke. A shadow has nothing but a gauge.
    """

    def __init__(self, row: _Row, strokes: Rows, x: Tensor, y: Tensor, *, shadow: bool = False):
        self.dx, self.dy = x - _each(row["centre"][:, 0]), y - _each(row["centre"][:, 1])
        drawn = row["strokes"][:, 1] > row["strokes"][:, 0]
        if bool(drawn[0]):  # then all of them are
            self.gauge, self.distance, ox, oy = _along(row, strokes, x, y, shadow)
            self.dx, self.dy = (self.dx, self.dy) if ox is None else (ox, oy)
        else:
            self._outlined(row)
        if shadow and not row.uses("hole"):
            return
        self.rim = self.gauge.clamp(0, 1)
        self.away = torch.sqrt(self.dx * self.dx + self.dy * self.dy)
        if not drawn[0]:  # the way to the edge is along the ray from the centre, which meets it at an angle
            self.distance = self.away * (0.85 / self.gauge.clamp(1e-6) - 0.85)
        if row.uses("hole"):
            self._pierce(_each(row["hole"]))

    def _outlined(self, row: _Row) -> None:
        cos, sin = (_each(row["turn"][:, i]) for i in (0, 1))
        rx, ry = (_each(row["radius"][:, i]) for i in (0, 1))
        px = self.dx * (cos / rx) + self.dy * (sin / rx)
        py = self.dy * (cos / ry) - self.dx * (sin / ry)
        length = px.abs() + py.abs() + 1e-12
        part = py / length
        angle = torch.where(px < 0, 2 - part, part)
        angle = torch.where(angle < 0, angle + 4, angle) * (STEPS / 4)
        before = angle.long().clamp(0, STEPS - 1)
        table = torch.cat([row["outline"], row["outline"][:, :1]], 1)
        low, high = (_gather(t[:, None], before) for t in (table[:, :-1], table[:, 1:]))
        self.gauge = length / torch.lerp(low, high, angle - before)

    def _pierce(self, hole: Tensor) -> None:
        """Leave the middle out: from now on everything is counted from halfway between hole and outline.

        ``rim`` is negative on the inner half, which therefore leans inwards where it is a dome.
        """
        inner = self.away * (0.85 - 0.85 * hole / self.gauge.clamp(1e-6))
        self.distance = torch.where(hole > 0, torch.minimum(self.distance, inner), self.distance)
        middle = torch.where(hole > 0, 0.5 + 0.5 * hole, 0.0)
        signed = (self.gauge - middle) / (1 - middle)
        self.gauge, self.rim = signed.abs(), signed.clamp(-1, 1)


def _bounds(
    lines: np.ndarray, strokes: np.ndarray, drawn: np.ndarray, size: int
) -> tuple[np.ndarray, np.ndarray]:
    """Left and upper ends ``(R, 2)`` and sides ``(R,)`` of the windows that layers need; 0: none."""
    reach = (lines["outline"] / np.abs(directions()).sum(1)).max(1) * lines["radius"].max(1)
    reach = (reach * np.where(lines["cast"][:, 2] != 0, _NEAR, 1))[:, None]
    low, high = lines["centre"] - reach, lines["centre"] + reach
    if drawn.any():
        wide = strokes["width"].max(1, keepdims=True) * _NEAR
        ends = lines["strokes"][
            drawn
        ].ravel()  # reduceat's odd entries are what is between two layers' strokes
        for bound, sign, pick in ((low, -1, np.minimum), (high, 1, np.maximum)):
            values = pick(strokes["start"], strokes["end"]) + sign * wide
            bound[drawn] = pick.reduceat(np.append(values, values[-1:], 0), ends, axis=0)[::2]
    shadow, margin = lines["cast"][:, :2], 2 / size + lines["soft"][:, None]
    low, high = np.minimum(low, low + shadow) - margin, np.maximum(high, high + shadow) + margin
    low, high = (np.clip(bound * size, 0, size) for bound in (low, high))
    corner = np.floor(low).astype(np.int64)
    extent = np.ceil(high).astype(np.int64) - corner
    side = np.minimum(-(-extent.max(1) // 8) * 8, size)
    return corner, np.where((extent.min(1) > 0) & (lines["opacity"] > 0), side, 0)


def _along(
    row: _Row, strokes: Rows, x: Tensor, y: Tensor, shadow: bool
) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
    """Gauge and distance of a union of tapered strokes, whichever is nearest by its own width.

    Where it is round or bends the view, also the way there from the nearest stroke's middle line.
    """
    first, last = row["strokes"].long().unbind(1)
    number = torch.arange(int((last - first).max()), device=x.device)
    at = (first[:, None] + number).clamp(max=len(strokes["width"]) - 1)
    start, end, width = (strokes[name][at] for name in ("start", "end", "width"))
    # A row with fewer strokes than another ends with strokes far away.
    far = (number >= (last - first)[:, None])[..., None]
    start, end = torch.where(far, 99.0, start), torch.where(far, 99.0, end)
    run = end - start
    pull = run / ((run * run)[..., :1] + (run * run)[..., 1:] + 1e-12)
    lines = torch.cat([start, run, pull, width], 2).permute(1, 2, 0)[..., None, None].contiguous()
    shape = torch.broadcast_shapes(x.shape, y.shape)
    gauge, distance = (torch.full(shape, value, device=x.device) for value in (9.0, -9.0))
    solid = row.uses("dome", "refract") and not shadow
    from_x = from_y = torch.zeros(shape, device=x.device) if solid else None
    for line in lines.unbind(0):
        ax, ay, bx, by, px, py, w0, w1 = line.unbind(0)
        ox, oy = x - ax, y - ay
        along = (ox * px + oy * py).clamp_(0, 1)
        ox, oy = ox - along * bx, oy - along * by
        away = (ox * ox).add_(oy * oy).sqrt_()
        here = along.mul_(w1 - w0).add_(w0)
        if not shadow:
            distance = torch.maximum(distance, here - away)
        here = away.div_(here)
        if solid:
            nearer = here < gauge
            from_x, from_y = torch.where(nearer, ox, from_x), torch.where(nearer, oy, from_y)
        gauge = torch.minimum(gauge, here)
    return gauge, distance, from_x, from_y


def _colour(row: _Row, window: _Window, shape: _Shape, light: Tensor, ambient: Tensor) -> Tensor:
    """The texture, lit; ``(B, 3, w, w)``."""
    x, y = window.x, window.y
    matrix = row["speckle"][..., None, None].unbind(1)
    u = x * matrix[0] + (y * matrix[1] + _each(row["shift"][:, 0]))
    v = x * matrix[2] + (y * matrix[3] + _each(row["shift"][:, 1]))
    rough = row.uses("warp", "grain", "relief")
    coarse, fine, slope_u, slope_v = noise.look_up(u, v).unbind(1) if rough else (u.new_zeros(()),) * 4

    bent = _each(row["warp"]) * coarse
    pattern = _wave(row["wave1"], x, y, bent + _each(row["ring"]) * shape.rim if row.uses("ring") else bent)
    if row.uses("wave2"):
        pattern = pattern * torch.where(
            _each(row["wave2"][:, :2].any(1)), _wave(row["wave2"], x, y, bent), 1.0
        )
    sharp = _each(row["sharp"])
    pattern = (pattern * sharp + (0.5 - 0.5 * sharp)).clamp(0, 1)
    brightness = 1 + _each(row["grain"]) * (2 * fine - 1)
    shine = None
    if row.uses("dome", "relief", "gloss"):
        facing = _facing(row, shape, slope_u, slope_v, light)
        # A flat surface has brightness 1, whatever the height of the light.
        brightness = brightness * (ambient + (1 - ambient) / light[:, 2] * facing)
        shine = facing * facing
        shine = shine * shine
        shine = _each(row["gloss"]) * (shine * shine)
    base, accent = row["base"][..., None, None], row["accent"][..., None, None]
    colour = torch.lerp(base, accent, pattern[:, None]) * brightness[:, None]
    return (colour if shine is None else colour + shine[:, None]).clamp(0)


def _facing(row: _Row, shape: _Shape, slope_u: Tensor, slope_v: Tensor, light: Tensor) -> Tensor:
    """Cosine between surface and light: a dome leans outwards, relief against the slope of the noise."""
    dome, relief = _each(row["dome"]), _each(row["relief"])
    tilt = dome * shape.rim
    lean = tilt / (shape.away + 1e-6)
    nx, ny = lean * shape.dx - relief * slope_u, lean * shape.dy - relief * slope_v
    nz_squared = (1 - tilt * tilt).clamp(0.05)
    length = torch.sqrt(nx * nx + ny * ny + nz_squared)
    towards = nx * light[:, 0] + ny * light[:, 1] + torch.sqrt(nz_squared) * light[:, 2]
    return (towards / length).clamp(0)


def _wave(wave: Tensor, x: Tensor, y: Tensor, bent: Tensor) -> Tensor:
    """A triangle wave between 0 and 1; with direction 0 and phase 0.5 it is 1 everywhere."""
    at = x * _each(wave[:, 0]) + (y * _each(wave[:, 1]) + _each(wave[:, 2])) + bent
    return 1 - (2 * (at - at.floor()) - 1).abs()


def _each(values: Tensor) -> Tensor:
    """One number per layer, ``(b,)``, ready to meet pictures."""
    return values.view(-1, 1, 1)


def _gather(picture: Tensor, at: Tensor) -> Tensor:
    """Pixels of ``(B, …, H, W)`` at flat places ``(B, w, w)``."""
    index = at.flatten(-2)
    if picture.dim() == 4:
        index = index[:, None].expand(-1, picture.shape[1], -1)
    seen = picture.flatten(-2).gather(-1, index)
    return seen.view(*seen.shape[:-1], *at.shape[-2:])


def joined(parts: Sequence[np.ndarray], dtype: np.dtype) -> np.ndarray:
    """``np.concatenate``, without its long look at every field of the type."""
    whole = np.empty(sum(map(len, parts)), dtype)
    start = 0
    for part in parts:
        whole[start : start + len(part)] = part
        start += len(part)
    return whole


def _used(lines: np.ndarray) -> np.ndarray:
    """Which layers make use of which field ``(R, fields)``: the rest need not be computed."""
    parts = {"wave2": slice(2), "cast": slice(2, 3)}  # a phase or a place alone has no effect
    return np.stack(
        [
            (lines[name].reshape(len(lines), -1)[:, parts.get(name, slice(None))] != 0).any(1)
            for name in lines.dtype.names
        ],
        1,
    )


def _tensors(lines: np.ndarray, device: torch.device) -> Rows:
    """The fields of rows, each as a tensor: name → ``(R, …)``."""
    return {
        name: torch.from_numpy(np.ascontiguousarray(lines[name])).to(device) for name in lines.dtype.names
    }
