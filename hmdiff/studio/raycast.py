"""The capture studio's renderer: Embree finds what each pixel sees, numpy colours it.

Solids are triangle meshes in camera axes (x right, y down, z forward, metres) with a camera at
the origin. Faces that look away from the camera are left out, which halves the time to build
Embree's tree; the same half casts the shadows. Colours are linear light.
"""

import functools
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from embreex.mesh_construction import TriangleMesh
from embreex.rtcore import EmbreeDevice
from embreex.rtcore_scene import EmbreeScene
from scipy import sparse

from ..pinhole import project
from .textures import Paints

QUARTERS = np.array([(-0.25, -0.25), (0.25, -0.25), (-0.25, 0.25), (0.25, 0.25)])  # of a pixel
NEAR_M = 0.05
SKY_RAYS = 4  # rays a vertex that look for the sky
LAMP_RAYS = 2  # rays a point that look for the lamp
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


def rays(K: np.ndarray, window: tuple[int, int, int, int]) -> np.ndarray:
    """Directions (n x 3, z = 1) through the pixels of a window x0, y0, x1, y1, row by row."""
    x0, y0, x1, y1 = window
    x = np.arange(x0, x1, dtype=np.float32) + np.float32(0.5)
    y = np.arange(y0, y1, dtype=np.float32) + np.float32(0.5)
    out = np.ones((len(y), len(x), 3), np.float32)
    out[..., 0] = (x - K[0, 2]) / K[0, 0]
    out[..., 1] = ((y - K[1, 2]) / K[1, 1])[:, None]
    return out.reshape(-1, 3)


def cast(scene: EmbreeScene, directions: np.ndarray) -> "Sight":
    """What rays from the camera meet."""
    hit = scene.run(np.zeros_like(directions), directions, output=True)
    return Sight(hit["primID"], hit["tfar"], hit["u"], hit["v"])


def shaded(scene: EmbreeScene, points: np.ndarray, directions: np.ndarray) -> np.ndarray:
    """Whether something stands in the way (n bool)."""
    return scene.run(points, directions, query="OCCLUDED") != -1


def openness(
    solid: Solid, seen: np.ndarray, near: sparse.csr_matrix, scene: EmbreeScene,
    rng: np.random.Generator,
) -> np.ndarray:  # fmt: skip
    """Share of cosine-distributed rays from each vertex that get away (V); 1 where not `seen`.

    A few rays each, then averaged over the vertices about with `near` (V x V).
    """
    n = np.repeat(solid.normals[seen], SKY_RAYS, axis=0)
    ball = unit(rng.standard_normal(n.shape, dtype=np.float32))
    starts = np.repeat(solid.vertices[seen], SKY_RAYS, axis=0)
    starts += (OFFSET * starts[:, 2:]) * n
    free = ~shaded(scene, starts, n + np.float32(0.98) * ball).reshape(-1, SKY_RAYS)
    total, count = np.zeros((2, len(seen)), np.float32)
    total[seen], count[seen] = free.sum(1), SKY_RAYS
    total, count = near @ (near @ total), near @ (near @ count)
    return np.where(seen, total / np.maximum(count, np.float32(1e-6)), np.float32(1))


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
    uv = project(points, K)
    low = np.clip(np.floor(uv.min(0)).astype(int) - 1, 0, px - 1)
    high = np.clip(np.ceil(uv.max(0)).astype(int) + 1, low + 1, px)
    return int(low[0]), int(low[1]), int(high[0]), int(high[1])


def render(
    main: Solid, props: list[Solid], near: sparse.csr_matrix, soft: np.ndarray, paints: Paints,
    light: Light, K: np.ndarray, px: int, rng: np.random.Generator,
) -> Picture:  # fmt: skip
    """Render the main solid with props before or behind it: lamp, shadows, soft skylight.

    Pixels on an outline get four rays, the others one. `near` (V x V) averages over the main
    solid's neighbouring vertices; `soft` (V x M) says how much each vertex belongs to each paint,
    and where a face joins several, the strongest one at the point wins, so that seams run smoothly.
    """
    front = facing(main.vertices, main.faces)
    scenes = [build(main.vertices, main.faces[front])]
    seen = np.zeros(len(main.vertices), bool)
    seen[main.faces[front]] = True
    main = replace(main, open_sky=openness(main, seen, near, scenes[0], rng))
    everything = joined([main, *props])
    if props:
        behind = joined(props)
        scenes.append(build(behind.vertices, behind.faces))
    window = window_of(everything.vertices[everything.vertices[:, 2] > NEAR_M], K, px)
    h, w = window[3] - window[1], window[2] - window[0]
    whole = rays(K, window)
    view, body = sight(scenes, front, len(main.faces), whole)
    outline = _outline(view.triangle.reshape(h, w), view.depth.reshape(h, w)).ravel()
    plain = np.flatnonzero((view.triangle >= 0) & ~outline)
    edge = np.repeat(np.flatnonzero(outline), 4)
    fine = whole[edge]
    fine[:, :2] += (np.tile(QUARTERS, (len(edge) // 4, 1)) / K[0, 0]).astype(np.float32)
    sharp, _ = sight(scenes, front, len(main.faces), fine)
    hit = np.flatnonzero(sharp.triangle >= 0)
    all_rays = np.concatenate([whole[plain], fine[hit]])
    met = Sight(*(np.concatenate([a[plain], b[hit]]) for a, b in zip(view, sharp, strict=True)))
    rgb = colours(
        everything, met, all_rays * met.depth[:, None], soft, paints, light, K, scenes, rng
    )
    rgba = np.column_stack([rgb, np.ones(len(rgb), np.float32)])
    out = np.zeros((h * w, 4), np.float32)
    out[plain] = rgba[: len(plain)]
    quarter = np.zeros((len(edge), 4), np.float32)
    quarter[hit] = rgba[len(plain) :]
    out[edge[::4]] = sum(quarter[i::4] for i in range(4)) / 4
    open_body = (view.triangle >= 0) & (view.triangle < len(main.faces))
    visible = open_body.sum() / max(body.sum(), 1)
    return Picture(out.reshape(h, w, 4), window, float(visible))


class Sight(NamedTuple):
    """What n rays meet: triangle (-1: nothing), depth in metres, two barycentrics."""

    triangle: np.ndarray
    depth: np.ndarray
    u: np.ndarray
    v: np.ndarray


def sight(
    scenes: list[EmbreeScene], front: np.ndarray, first: int, directions: np.ndarray
) -> tuple[Sight, np.ndarray]:
    """The nearest of the main scene (triangles `front`) and the props (numbered from `first`), and
    which rays meet the main solid whether or not a prop hides it."""
    view = cast(scenes[0], directions)
    body = view.triangle >= 0
    view = view._replace(triangle=np.where(body, front[view.triangle], -1))
    if len(scenes) == 1:
        return view, body
    other = cast(scenes[1], directions)
    nearer = (other.triangle >= 0) & (~body | (other.depth < view.depth))
    other = other._replace(triangle=other.triangle + first)
    return Sight(*(np.where(nearer, b, a) for a, b in zip(view, other, strict=True))), body


def _outline(triangle: np.ndarray, depth: np.ndarray) -> np.ndarray:
    """Pixels (h x w bool) next to a jump between something and nothing, or in depth by 2%."""
    depth = np.where(triangle >= 0, depth, np.float32(1e3))
    out = np.zeros(depth.shape, bool)
    for a, b, near, far in (
        (depth[1:], depth[:-1], out[1:], out[:-1]),
        (depth[:, 1:], depth[:, :-1], out[:, 1:], out[:, :-1]),
    ):
        jump = np.abs(a - b) > np.float32(0.02) * np.minimum(a, b)
        near |= jump
        far |= jump
    return out


def colours(
    solid: Solid, met: Sight, points: np.ndarray, soft: np.ndarray, paints: Paints, light: Light,
    K: np.ndarray, scenes: list[EmbreeScene], rng: np.random.Generator,
) -> np.ndarray:  # fmt: skip
    """Linear RGB (n x 3) of the points (n x 3) that n rays met."""
    table = np.column_stack([solid.normals, solid.uv, solid.rough, solid.open_sky])
    corner = solid.faces[met.triangle]
    weight = np.stack([1 - met.u - met.v, met.u, met.v], axis=1)
    value = np.einsum("nk,nkc->nc", weight, table[corner])
    row = solid.row[corner[:, 0]]
    mixed = np.flatnonzero((row != solid.row[corner[:, 1]]) | (row != solid.row[corner[:, 2]]))
    row[mixed] = np.einsum("nk,nkm->nm", weight[mixed], soft[corner[mixed]]).argmax(1)
    normal, uv = _wrinkled(value[:, :3], value[:, 3:5], value[:, 5:6], rng)
    albedo = paints.at(row, uv, points[:, 2] / float(K[0, 0]))
    cosine = normal @ light.towards
    lit = np.flatnonzero(cosine > 0)
    start = points[lit] + (OFFSET * points[lit, 2:]) * normal[lit]
    free = np.zeros(len(lit), np.float32)
    for _ in range(LAMP_RAYS):
        way = light.towards + light.width * rng.standard_normal(start.shape, dtype=np.float32)
        free += ~np.any([shaded(scene, start, way) for scene in scenes], axis=0)
    cosine[lit] *= free / LAMP_RAYS
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
