"""The capture studio's renderer: Embree finds what each pixel sees, numpy colours it.

Solids are triangle meshes in camera axes (x right, y down, z forward, metres) with a camera at
the origin. Faces that look away from the camera are left out, which halves the time to build
Embree's tree; the same half casts the shadows. Colours are linear light.
"""

import functools
from dataclasses import dataclass, replace

import numpy as np
from embreex.mesh_construction import TriangleMesh
from embreex.rtcore import EmbreeDevice
from embreex.rtcore_scene import EmbreeScene

from .textures import Paints

SAMPLES = 2  # rays a pixel and axis in the foreground
OFFSET = 2e-3  # shadow rays start this share of the depth above the surface


@dataclass(frozen=True)
class Solid:
    """Something with a surface.

    Attributes:
        vertices, normals: V x 3 float32, camera axes; faces: F x 3 int32.
        uv: V x 2, surface coordinates, metres.
        row: V, each vertex's paint.
        rough: V, how much its normals waver (cloth), 0 for smooth.
        open_sky: V, share of the hemisphere that the surface sees, 0 to 1.
    """

    vertices: np.ndarray
    normals: np.ndarray
    faces: np.ndarray
    uv: np.ndarray
    row: np.ndarray
    rough: np.ndarray
    open_sky: np.ndarray


@dataclass(frozen=True)
class Light:
    """A lamp far away, and the sky.

    Attributes:
        towards: unit vector to the lamp; up: unit vector to the zenith; both in camera axes.
        key, sky, ground: RGB of the lamp, and of the light from above and from below.
        width: radius of the lamp's disc, radians: how soft its shadows are.
    """

    towards: np.ndarray
    up: np.ndarray
    key: np.ndarray
    sky: np.ndarray
    ground: np.ndarray
    width: float


@functools.cache
def _device() -> EmbreeDevice:
    return EmbreeDevice()


def dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Row by row products (n) of n x 3 arrays; several times as fast as a sum over short rows."""
    return np.einsum("nc,nc->n", a, b)


def unit(a: np.ndarray) -> np.ndarray:
    """Rows of n x 3 scaled to length 1 (rows of zeros stay)."""
    return a / np.sqrt(np.maximum(dot(a, a), np.float32(1e-12)))[:, None]


def build(vertices: np.ndarray, faces: np.ndarray) -> EmbreeScene:
    """Embree's tree over some triangles."""
    scene = EmbreeScene(_device())
    TriangleMesh(scene, np.ascontiguousarray(vertices, np.float32), np.ascontiguousarray(faces))
    return scene


def facing(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Indices of the faces whose outside looks towards the camera at the origin."""
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    return np.flatnonzero(dot(np.cross(b - a, c - a), a) < 0)


def rays(K: np.ndarray, window: tuple[int, int, int, int], samples: int) -> np.ndarray:
    """Directions (n x 3, z = 1) through the pixels of a window x0, y0, x1, y1, row by row."""
    x0, y0, x1, y1 = window
    x = (np.arange(x0 * samples, x1 * samples, dtype=np.float32) + 0.5) / samples
    y = (np.arange(y0 * samples, y1 * samples, dtype=np.float32) + 0.5) / samples
    out = np.ones((len(y), len(x), 3), np.float32)
    out[..., 0] = (x - K[0, 2]) / K[0, 0]
    out[..., 1] = ((y - K[1, 2]) / K[1, 1])[:, None]
    return out.reshape(-1, 3)


def cast(scene: EmbreeScene, directions: np.ndarray) -> tuple[np.ndarray, ...]:
    """What rays from the camera meet: triangle (-1: nothing), depth, and two barycentrics."""
    hit = scene.run(np.zeros_like(directions), directions, output=True)
    return hit["primID"], hit["tfar"], hit["u"], hit["v"]


def shaded(scene: EmbreeScene, points: np.ndarray, directions: np.ndarray) -> np.ndarray:
    """Whether something stands in the way (n bool)."""
    return scene.run(points, directions, query="OCCLUDED") != -1


def openness(
    vertices: np.ndarray, normals: np.ndarray, seen: np.ndarray, scene: EmbreeScene,
    rng: np.random.Generator, count: int = 6,
) -> np.ndarray:  # fmt: skip
    """Share of cosine-distributed rays from each vertex that get away (V); 1 where not `seen`."""
    n = np.repeat(normals[seen], count, axis=0)
    ball = rng.standard_normal(n.shape, dtype=np.float32)
    ball = unit(ball)
    starts = np.repeat(vertices[seen], count, axis=0)
    starts += (OFFSET * starts[:, 2:]) * n
    blocked = shaded(scene, starts, n + np.float32(0.98) * ball).reshape(-1, count)
    out = np.ones(len(vertices), np.float32)
    out[seen] = 1 - blocked.mean(1, dtype=np.float32)
    return out


def joined(solids: list[Solid]) -> Solid:
    """One solid out of several; faces keep their order."""
    starts = np.cumsum([0] + [len(s.vertices) for s in solids])
    faces = [s.faces + start for s, start in zip(solids, starts, strict=False)]
    fields = ("vertices", "normals", "uv", "row", "rough", "open_sky")
    parts = {name: np.concatenate([getattr(s, name) for s in solids]) for name in fields}
    return Solid(faces=np.concatenate(faces).astype(np.int32), **parts)


@dataclass(frozen=True)
class Picture:
    """A rendered window of the frame.

    Attributes:
        rgba: h x w x 4 float32, linear, colour premultiplied by the coverage.
        window: x0, y0, x1, y1.
        visible: share of the main solid's area within the frame that nothing covers.
    """

    rgba: np.ndarray
    window: tuple[int, int, int, int]
    visible: float


def window_of(points: np.ndarray, K: np.ndarray, px: int) -> tuple[int, int, int, int]:
    """The pixels x0, y0, x1, y1 that contain the projections of points (n x 3), at least one."""
    uv = (points @ K.T)[:, :2] / points[:, 2:]
    low = np.clip(np.floor(uv.min(0)).astype(int) - 1, 0, px - 1)
    high = np.clip(np.ceil(uv.max(0)).astype(int) + 1, low + 1, px)
    return int(low[0]), int(low[1]), int(high[0]), int(high[1])


def render(
    main: Solid, props: list[Solid], paints: Paints, light: Light, K: np.ndarray, px: int,
    rng: np.random.Generator,
) -> Picture:  # fmt: skip
    """Render the main solid with props before or behind it; shadows, soft skylight, antialiased."""
    visible_faces = facing(main.vertices, main.faces)
    scene = build(main.vertices, main.faces[visible_faces])
    seen = np.zeros(len(main.vertices), bool)
    seen[main.faces[visible_faces]] = True
    sky = openness(main.vertices, main.normals, seen, scene, rng)
    main = replace(main, open_sky=sky * main.open_sky)
    everything = joined([main, *props])
    before = everything.vertices[everything.vertices[:, 2] > 0.05]
    window = window_of(before, K, px)
    directions = rays(K, window, SAMPLES)
    triangle, depth, u, v = cast(scene, directions)
    triangle = np.where(triangle >= 0, visible_faces[triangle], -1)
    body, covered, scenes = int((triangle >= 0).sum()), 0, [scene]
    if props:
        rest = joined(props)
        scenes.append(build(rest.vertices, rest.faces))
        t, d, u2, v2 = cast(scenes[1], directions)
        nearer = (t >= 0) & ((triangle < 0) | (d < depth))
        covered = int((nearer & (triangle >= 0)).sum())
        triangle = np.where(nearer, t + len(main.faces), triangle)
        depth, u, v = (np.where(nearer, x, y) for x, y in ((d, depth), (u2, u), (v2, v)))
    hit = np.flatnonzero(triangle >= 0)
    rgba = np.zeros((len(directions), 4), np.float32)
    points = directions[hit] * depth[hit, None]
    rgba[hit, :3] = colours(
        everything, triangle[hit], u[hit], v[hit], points, paints, light, K, scenes, rng
    )
    rgba[hit, 3] = 1
    h, w = window[3] - window[1], window[2] - window[0]
    rgba = rgba.reshape(h, SAMPLES, w, SAMPLES, 4)
    rgba = sum(rgba[:, i, :, j] for i in range(SAMPLES) for j in range(SAMPLES)) / SAMPLES**2
    return Picture(rgba, window, (body - covered) / max(body, 1))


def colours(
    solid: Solid, triangle: np.ndarray, u: np.ndarray, v: np.ndarray, points: np.ndarray,
    paints: Paints, light: Light, K: np.ndarray, scenes: list[EmbreeScene],
    rng: np.random.Generator,
) -> np.ndarray:  # fmt: skip
    """Linear RGB (n x 3) of surface points (n x 3) on triangles with barycentrics u, v."""
    table = np.column_stack([solid.normals, solid.uv, solid.rough, solid.open_sky])
    corner = solid.faces[triangle]
    weight = np.stack([1 - u - v, u, v], axis=1)
    value = np.einsum("nk,nkc->nc", weight, table[corner])
    row = solid.row[np.take_along_axis(corner, weight.argmax(1)[:, None], 1)[:, 0]]
    normal, uv = _wrinkled(value[:, :3], value[:, 3:5], value[:, 5:6], rng)
    albedo = paints.at(row, uv, points[:, 2] / float(K[0, 0]))
    cosine = normal @ light.towards
    jitter = light.width * rng.standard_normal((len(points), 3), dtype=np.float32)
    lit = np.flatnonzero(cosine > 0)
    start = points[lit] + (OFFSET * points[lit, 2:]) * normal[lit]
    blocked = [shaded(scene, start, light.towards + jitter[lit]) for scene in scenes]
    cosine[lit[np.any(blocked, axis=0)]] = 0
    return _reflect(albedo, normal, points, np.maximum(cosine, 0), value[:, 6:7], light)


def _reflect(
    albedo: np.ndarray, normal: np.ndarray, points: np.ndarray, cosine: np.ndarray,
    open_sky: np.ndarray, light: Light,
) -> np.ndarray:  # fmt: skip
    """Lambert's law under lamp and sky, and a faint gloss (Blinn and Phong)."""
    up = 0.5 + 0.5 * (normal @ light.up)[:, None]
    sky = (light.ground + (light.sky - light.ground) * up) * open_sky
    gloss = np.maximum(dot(unit(light.towards - unit(points)), normal), 0) ** 2
    gloss = np.float32(0.06) * gloss**2 * gloss**2 * gloss**4 * (cosine > 0)
    return albedo * (sky + cosine[:, None] * light.key) + gloss[:, None] * light.key


def _wrinkled(
    normal: np.ndarray, uv: np.ndarray, rough: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Unit normals, wavering by `rough` as cloth in folds does, and uv shifted along the folds."""
    wave = rng.normal(0, 24, (2, 3)).astype(np.float32)
    folds = np.sin(uv @ wave + rng.uniform(0, 6.28, 3).astype(np.float32))
    folds += np.float32(0.6) * np.sin(uv @ (wave[:, ::-1] * np.float32(1.9)) + folds)
    return unit(normal + rough * folds), uv + np.float32(0.01) * rough * folds[:, :2]
