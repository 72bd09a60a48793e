"""Where the capture studio's people stand: rooms, streets and backdrops.

A stage is a handful of painted rectangles in world axes (y up, the floor at y = 0, the person
near the origin, metres). Walls between camera and person vanish, because only faces that look at
the camera are drawn. Backdrops are flat pictures for whatever the stages do not look like.
"""

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFilter

from ..pinhole import project
from . import raycast
from .cameras import Camera
from .raycast import Light
from .textures import Paints, colour, noise, paint, paints, pictures, shade, tiles, to_linear

CLOTH_TILES = (
    "plain", "plain", "plain", "mottled", "hoops", "thin hoops", "thick hoop", "stripes",
    "pinstripes", "checks", "plaid", "dots", "blotches", "camouflage", "denim", "knit",
)  # fmt: skip
WALLS = ("plain", "plain", "plain", "mottled", "brick", "stripes", "tiles", "panes", "blotches")
FLOORS = ("planks", "tiles", "checks", "herringbone", "plain", "mottled", "gravel")
GROUNDS = ("grass", "gravel", "mottled", "tiles", "brick", "leaves")
FACADES = ("panes", "brick", "panes", "tiles", "leaves", "mottled")
THINGS = ("plain", "mottled", "planks", "checks", "page", "text", "coins", "knit", "brick", "tiles")


@dataclass(frozen=True)
class Stage:
    """Q painted rectangles.

    Attributes:
        corner, right, down: Q x 3, a corner and the two sides, metres, world axes.
        thing: Q, number of the piece of furniture it belongs to; -1 for floor and walls.
        picture: Q, index of the photograph it shows; -1 for paint.
        paints: Q paints. Rectangle 0 is the floor.
        sky: None indoors; else 2 x 3, linear colours at the horizon and at the zenith.
    """

    corner: np.ndarray
    right: np.ndarray
    down: np.ndarray
    thing: np.ndarray
    picture: np.ndarray
    paints: Paints
    sky: np.ndarray | None


def _box(centre: np.ndarray, size: np.ndarray, yaw: float) -> list[tuple]:
    """The six (corner, right, down) of a box, outsides outwards: right x down points inwards."""
    c, s = np.cos(yaw), np.sin(yaw)
    e = np.array([[c, 0, -s], [0, 1, 0], [s, 0, c]]) * np.reshape(size, (3, 1))
    sides = []
    for axis in range(3):
        for sign in (1, -1):
            right, down = ((-sign * e[2], -e[1]), (sign * e[2], -e[0]), (sign * e[0], -e[1]))[axis]
            sides.append((centre + (sign * e[axis] - right - down) / 2, right, down))
    return sides


def _stage(quads: list[tuple], sky: np.ndarray | None) -> Stage:
    """A stage from rows (corner, right, down, thing, picture, paint)."""
    corner, right, down, thing, picture, rows = zip(*quads, strict=True)
    return Stage(
        np.array(corner, np.float32), np.array(right, np.float32), np.array(down, np.float32),
        np.array(thing), np.array(picture), paints(list(rows)), sky,
    )  # fmt: skip


def _any_paint(rng: np.random.Generator, names: tuple[str, ...], size: float, **how) -> tuple:
    how = {"gaudy": 0.55, "high": 0.85} | how
    a = colour(rng, **how)
    b = shade(rng, a, 0.7) if rng.random() < 0.7 else colour(rng, **how)
    return paint(names[rng.integers(len(names))], size * rng.uniform(0.6, 1.6), a, b)


def _furniture(rng: np.random.Generator, count: int, near: float, far: float, tall: float) -> list:
    """`count` boxes standing on the floor between `near` and `far` metres from the origin."""
    quads = []
    for thing in range(count):
        angle, distance = rng.uniform(0, 2 * np.pi), rng.uniform(near, far)
        size = np.array([rng.uniform(0.3, 1.6), rng.uniform(0.3, tall), rng.uniform(0.3, 1.2)])
        centre = np.array([distance * np.cos(angle), size[1] / 2, distance * np.sin(angle)])
        row = _any_paint(rng, THINGS, 0.8)
        for side in _box(centre, size, rng.uniform(0, np.pi)):
            quads.append((*side, thing, -1, row))
    return quads


def room(rng: np.random.Generator, half: float = 3.0, things: int = 7) -> Stage:
    """A room with posters, windows and furniture; walls `half` metres away or a little more."""
    x, z, height = half * rng.uniform(1, 1.5), half * rng.uniform(1, 1.5), rng.uniform(2.4, 3.4)
    inside = _box(np.array([0, height / 2, 0]), np.array([-2 * x, height, 2 * z]), 0.0)
    floor = _any_paint(rng, FLOORS, 1.2, grey=0.4)
    wall = _any_paint(rng, WALLS, 1.5, grey=0.6, low=0.35)
    ceiling = paint("plain", 1.0, colour(rng, 0.9, 0.6), np.full(3, 0.8))
    order = [inside[3], inside[2], *inside[:2], *inside[4:]]
    rows = [floor, ceiling, wall, wall, wall, wall]
    quads = [(*side, -1, -1, row) for side, row in zip(order, rows, strict=True)]
    for _ in range(rng.integers(2, 7)):
        corner, right, down = order[rng.integers(2, 6)]
        width, drop = rng.uniform(0.3, 1.4), rng.uniform(0.3, 1.2)
        lengths = np.linalg.norm(right), np.linalg.norm(down)
        start = [rng.uniform(0.02, 0.7) * lengths[0], rng.uniform(0.1, 0.4) * lengths[1]]
        r, d = right / lengths[0], down / lengths[1]
        inward = -0.02 * np.cross(r, d)
        place = corner + start[0] * r + start[1] * d + inward
        shown = int(rng.integers(len(pictures()))) if rng.random() < 0.6 else -1
        row = _any_paint(rng, ("panes", "plain", "page", "text", "planks"), 1.0, low=0.3)
        quads.append((place, width * r, drop * d, -1, shown, row))
    return _stage(quads + _furniture(rng, things, 1.3, 0.95 * half, 2.0), None)


def street(rng: np.random.Generator) -> Stage:
    """Open ground with house fronts, hedges, walls and things about, under a sky."""
    far = 40.0
    ground = _any_paint(rng, GROUNDS, 1.5, grey=0.5, low=0.15, high=0.7)
    corner = np.array([-far, 0.0, -far])
    quads = [(corner, np.array([2 * far, 0, 0.0]), np.array([0, 0, 2 * far]), -1, -1, ground)]
    quads += _furniture(rng, int(rng.integers(0, 6)), 1.6, 6.0, 1.6)
    for thing in range(100, 100 + rng.integers(4, 11)):
        angle, distance = rng.uniform(0, 2 * np.pi), rng.uniform(8, 24)
        size = np.array([rng.uniform(3, 14), rng.uniform(2, 12), rng.uniform(3, 8)])
        centre = np.array([distance * np.cos(angle), size[1] / 2, distance * np.sin(angle)])
        row = _any_paint(rng, FACADES, 4.0, grey=0.5)
        sides = _box(centre, size, rng.uniform(0, np.pi))
        quads += [(*side, thing, -1, row) for side in sides]
    dull = rng.random() < 0.4
    zenith = np.full(3, rng.uniform(0.5, 0.9)) if dull else to_linear(np.array([0.35, 0.55, 0.9]))
    horizon = np.clip(zenith * 0.5 + rng.uniform(0.3, 0.55), 0, 1)
    return _stage(quads, np.stack([horizon, zenith]))


def hall(rng: np.random.Generator) -> Stage:
    """A plain laboratory hall: the one place of the indoor data set."""
    x, z, height = 4.2, 4.6, 3.2
    inside = _box(np.array([0, height / 2, 0]), np.array([-2 * x, height, 2 * z]), 0.0)
    order = [inside[3], inside[2], *inside[:2], *inside[4:]]
    carpet = paint("mottled", 2.0, to_linear(np.array([0.55, 0.38, 0.3])), [0.2, 0.1, 0.08])
    white = paint("plain", 1.0, np.full(3, 0.6), np.full(3, 0.75))
    curtain = paint("stripes", 0.7, np.full(3, 0.06), np.full(3, 0.09))
    bench = paint("planks", 0.8, [0.25, 0.14, 0.06], [0.4, 0.25, 0.12])
    rows = [carpet, white, white, curtain, white, curtain]
    quads = [(*side, -1, -1, row) for side, row in zip(order, rows, strict=True)]
    for thing, (px, pz) in enumerate(((-3.4, 3.6), (3.3, -3.7), (3.6, 3.4), (-3.5, -3.2))):
        size = np.array([rng.uniform(0.5, 1.4), rng.uniform(0.4, 1.1), rng.uniform(0.4, 0.8)])
        for side in _box(np.array([px, size[1] / 2, pz]), size, rng.uniform(0, np.pi)):
            quads.append((*side, thing, -1, bench))
    return _stage(quads, None)


def draw_stage(
    stage: Stage, camera: Camera, px: int, light: Light, person: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray:  # fmt: skip
    """The empty stage as px x px x 3 linear light, with the person's shadow on the floor.

    `person`: V x 3, camera axes.
    """
    R, t, K, person = (x.astype(np.float32) for x in (*camera, person))
    corner, right, down = stage.corner @ R.T + t, stage.right @ R.T, stage.down @ R.T
    outward = np.cross(down, right)
    outward /= np.linalg.norm(outward, axis=1, keepdims=True)
    middle = corner + (right + down) / 2
    behind = middle[:, 2] > person[:, 2].max() + 0.4
    shown = ((corner * outward).sum(1) < 0) & ((stage.thing < 0) | behind)
    quad = np.flatnonzero(shown)
    square = np.stack([corner, corner + right, corner + right + down, corner + down], 1)[quad]
    index = np.arange(4 * len(quad), dtype=np.int32).reshape(-1, 4)
    faces = np.concatenate([index[:, [0, 1, 2]], index[:, [0, 2, 3]]])
    directions = raycast.rays(K, (0, 0, px, px))
    hit, depth, *_ = raycast.cast(raycast.build(square.reshape(-1, 3), faces), directions)
    seen, void = np.flatnonzero(hit >= 0), np.flatnonzero(hit < 0)
    q, depth = quad[hit[seen] % len(quad)], depth[seen]
    axes = np.stack([right, down], axis=1)
    lengths = np.linalg.norm(axes, axis=2)
    axes /= lengths[..., None]
    uv = np.einsum("nac,nc->na", axes[q], directions[seen]) * depth[:, None]
    uv -= np.einsum("qac,qc->qa", axes, corner)[q]
    up = 0.5 + 0.5 * (outward @ light.up)[:, None]
    base = light.ground + (light.sky - light.ground) * up
    key = np.maximum(outward @ light.towards, 0)[:, None] * light.key
    colours = _quad_colours(stage, q, uv, lengths, depth / K[0, 0]) * (base + key)[q]
    shadow = _shadow(person, light, t @ light.up, K, px).ravel()[seen] * (q == 0)
    dark = np.flatnonzero(shadow)
    loss = (np.float32(0.65) * base[0] + key[0]) / (base[0] + key[0])
    colours[dark] *= 1 - shadow[dark, None] * loss
    image = np.empty_like(directions)
    image[seen] = colours
    image[void] = _sky(stage, directions[void] @ R, light, rng)
    return image.reshape(px, px, 3)


def _quad_colours(
    stage: Stage, q: np.ndarray, uv: np.ndarray, lengths: np.ndarray, footprint: np.ndarray
) -> np.ndarray:
    """Paint or photograph (n x 3) at uv (n x 2, metres) of rectangles q (n), `lengths` Q x 2."""
    out = stage.paints.at(q, uv, footprint)
    photo = np.flatnonzero(stage.picture[q] >= 0)
    if len(photo):
        shots = pictures()
        ij = uv[photo] / lengths[q[photo]] * (shots.shape[1] - 1)
        i, j = np.clip(ij.astype(int), 0, shots.shape[1] - 1).T
        out[photo] = to_linear(shots[stage.picture[q[photo]], j, i] / np.float32(255))
    return out


def _sky(
    stage: Stage, directions: np.ndarray, light: Light, rng: np.random.Generator
) -> np.ndarray:
    """The colours (n x 3) of directions (n x 3, world axes) that meet nothing."""
    if stage.sky is None:
        return np.tile(light.ground.astype(np.float32) * 0.3, (len(directions), 1))
    names, stack, _ = tiles()
    high = np.clip(directions[:, 1] / np.linalg.norm(directions, axis=1), 0.02, 1)
    spot = directions[:, [0, 2]] * (12 / (high[:, None] + 0.15)) + rng.uniform(0, 128, 2)
    i, j = (spot.astype(np.int32) & 127).T
    cloud = np.clip(stack[names.index("mottled"), i, j] * 3 - 1.2, 0, 1) * rng.uniform(0, 0.8)
    colour_ = stage.sky[0] + (stage.sky[1] - stage.sky[0]) * np.sqrt(high)[:, None]
    return (colour_ + cloud[:, None] * (0.95 - colour_)).astype(np.float32)


def _shadow(person: np.ndarray, light: Light, floor: float, K: np.ndarray, px: int) -> np.ndarray:
    """How much of the lamp the person keeps from the floor (px x px, 0 to 0.85), blurred.

    `floor`: the floor's height above the camera along light.up, metres.
    """
    height = person @ light.up - floor
    slope = max(float(light.towards @ light.up), 0.15)
    ground = person - (height / slope)[:, None] * light.towards
    ground = ground[ground[:, 2] > 0.1]
    uv = project(ground, K)
    half = px // 2
    ij = np.floor(uv[(uv >= 0).all(1) & (uv < px).all(1)] / 2).astype(int).clip(0, half - 1)
    count = np.bincount(ij[:, 1] * half + ij[:, 0], minlength=half * half).reshape(half, half)
    image = Image.fromarray(np.minimum(count * 110, 255).astype(np.uint8))
    blurred = image.resize((px, px), Image.Resampling.BOX)
    return _blur(np.asarray(blurred), 1.6 + 20 * light.width) * np.float32(0.85 / 255)


def _blur(grey: np.ndarray, radius: float) -> np.ndarray:
    blurred = Image.fromarray(grey).filter(ImageFilter.GaussianBlur(radius))
    return np.asarray(blurred, np.float32)


def backdrop(rng: np.random.Generator, px: int) -> np.ndarray:
    """A flat background, px x px x 3, sRGB 0 to 1: part of a photograph, or clouds of colour."""
    if rng.random() < 0.5:
        shots = pictures()
        shot = shots[rng.integers(len(shots))]
        side = int(rng.integers(90, shot.shape[0]))
        i, j = rng.integers(0, shot.shape[0] - side + 1, 2)
        part = shot[i : i + side, j : j + side]
        part = part[:, ::-1] if rng.random() < 0.5 else part
        image = np.asarray(Image.fromarray(part).resize((px, px)), np.float32) / 255
        return np.clip(image * rng.uniform(0.6, 1.3, 3).astype(np.float32), 0, 1)
    image = np.tile(colour(rng).astype(np.float32), (px, px, 1))
    for blur in rng.choice([2.0, 4.0, 8.0, 16.0, 24.0], rng.integers(1, 4), replace=False):
        mask = noise(rng, 96, blur * 96 / px).astype(np.float32)
        mask = mask if rng.random() < 0.5 else (mask > 0.5).astype(np.float32)
        mask = np.asarray(Image.fromarray(mask).resize((px, px), Image.Resampling.BILINEAR))
        image = image + rng.uniform(0.3, 1) * mask[..., None] * (colour(rng) - image)
    return np.clip(image, 0, 1).astype(np.float32) ** np.float32(0.5)
