"""Things beside the person in the capture studio: occluders, seats, and the forearm and the held
objects that come with a hand. All are solids in camera axes (x right, y down, z forward, metres);
`row` is the paint they wear.
"""

import numpy as np
from scipy.spatial.transform import Rotation

from ..pinhole import project
from .raycast import Solid
from .wardrobe import PROP_ROWS, ROWS, Figure

SKIN = ROWS.index("skin")
PAINTS = range(len(ROWS), len(ROWS) + PROP_ROWS)


def solid(
    vertices: np.ndarray, normals: np.ndarray, faces: np.ndarray, uv: np.ndarray, row: int
) -> Solid:
    """A smooth solid of one paint under the open sky."""
    n, f = len(vertices), np.float32
    return Solid(
        vertices.astype(f), normals.astype(f), faces.astype(np.int32), uv.astype(f),
        np.full(n, row), np.zeros(n, f), np.ones(n, f),
    )  # fmt: skip


def box(centre: np.ndarray, size: np.ndarray, R: np.ndarray, row: int) -> Solid:
    """A box with sides `size` (3), turned by R (3 x 3)."""
    vertices, normals, uv = [], [], []
    square = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]) / 2
    for axis in range(3):
        for sign in (1, -1):
            corners = np.insert(square, 0, sign / 2, axis=1)
            vertices.append(np.roll(corners, axis, axis=1) * size)
            normals.append(np.tile(sign * np.eye(3)[axis], (4, 1)))
            uv.append(square * np.roll(size, -axis)[1:])
    quads = np.arange(24).reshape(6, 4)
    faces = np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])
    placed = np.concatenate(vertices) @ R.T + centre
    return solid(placed, np.concatenate(normals) @ R.T, faces, np.concatenate(uv), row)


def tube(rings: np.ndarray, row: int) -> Solid:
    """A smooth surface over rings (r x n x 3): a pole, an ellipsoid, a forearm."""
    r, n = rings.shape[:2]
    index = np.arange(r * n).reshape(r, n)
    nxt = np.roll(index, -1, axis=1)
    a, b, c, d = (x.ravel() for x in (index[:-1], nxt[:-1], nxt[1:], index[1:]))
    faces = np.concatenate([np.stack([a, b, c], -1), np.stack([a, c, d], -1)])
    middle = rings.mean(1, keepdims=True)
    around = np.roll(rings, -1, 1) - np.roll(rings, 1, 1)
    normals = np.cross(around, np.gradient(rings, axis=0))
    normals *= np.sign((normals * (rings - middle)).sum(-1, keepdims=True))
    normals /= np.linalg.norm(normals, axis=-1, keepdims=True) + 1e-12
    girth = np.linalg.norm(around, axis=-1).sum(1).mean() / 2
    length = np.linalg.norm(np.diff(middle[:, 0], axis=0), axis=1).sum()
    u, v = np.meshgrid(np.linspace(0, girth, n), np.linspace(0, length, r))
    uv = np.stack([u, v], -1).reshape(-1, 2)
    return solid(rings.reshape(-1, 3), normals.reshape(-1, 3), faces, uv, row)


def _circle(n: int) -> np.ndarray:
    """n points on the unit circle, n x 2."""
    angle = np.arange(n) * (2 * np.pi / n)
    return np.stack([np.cos(angle), np.sin(angle)], -1)


def ellipsoid(centre: np.ndarray, size: np.ndarray, R: np.ndarray, row: int) -> Solid:
    """An ellipsoid with diameters `size` (3), turned by R (3 x 3)."""
    polar = np.linspace(0.02, np.pi - 0.02, 10)[:, None, None]
    flat = np.sin(polar) * _circle(17)
    rings = np.concatenate([flat, np.broadcast_to(np.cos(polar), (10, 17, 1))], -1)
    return tube((rings * size / 2) @ R.T + centre, row)


def pole(centre: np.ndarray, radius: float, length: float, R: np.ndarray, row: int) -> Solid:
    """An open cylinder along R's second axis."""
    flat = radius * _circle(14)
    rings = np.stack(
        [np.insert(flat, 1, y, axis=1) for y in np.linspace(-length / 2, length / 2, 5)]
    )
    return tube(rings @ R.T + centre, row)


def occluder(vertices: np.ndarray, K: np.ndarray, rng: np.random.Generator) -> Solid:
    """Something between the camera and a person or hand (vertices V x 3), off its middle."""
    uv = project(vertices, K)
    low, high = uv.min(0), uv.max(0)
    depth = vertices[:, 2].min() * rng.uniform(0.55, 0.88)
    metre = depth / K[0, 0]  # of one pixel, at that depth
    span = (high - low).max() * metre
    angle = rng.uniform(0, 2 * np.pi)
    edge = (low + high) / 2 + rng.uniform(0.25, 0.6) * (high - low) * [np.cos(angle), np.sin(angle)]
    row, kind = int(rng.choice(PAINTS)), rng.random()
    if kind < 0.22:  # a table, a wall, a hedge: whatever hides the lower part
        top = high[1] - rng.uniform(0.08, 0.38) * (high[1] - low[1])
        size = span * np.array([rng.uniform(0.6, 2.5), 1.0, rng.uniform(0.05, 0.3)])
        place = np.array([edge[0], top + 0.5 * size[1] / metre])
        return box(_at(place, depth, K), size, _turned(rng, 12), row)
    centre = _at(edge, depth, K)
    if kind < 0.4:
        return pole(centre, span * rng.uniform(0.03, 0.09), 4 * span, _turned(rng, 15), row)
    size = span * rng.uniform(0.14, 0.4) * rng.uniform(0.5, 1.4, 3)
    shape = box if kind < 0.75 else ellipsoid
    return shape(centre, size, _turned(rng, 60), row)


def _at(pixel: np.ndarray, depth: float, K: np.ndarray) -> np.ndarray:
    """The point of camera space seen at a pixel, at that depth."""
    return np.append((pixel - K[:2, 2]) / K[[0, 1], [0, 1]], 1.0) * depth


def _turned(rng: np.random.Generator, degrees: float) -> np.ndarray:
    return Rotation.from_rotvec(np.deg2rad(degrees) * rng.normal(0, 0.6, 3)).as_matrix()


def seat(
    vertices: np.ndarray, pelvis: np.ndarray, forward: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, float] | None:
    """Centre, size and yaw of a stool under a sitting person, world axes (y up, floor 0); or None.

    Args: vertices V x 3, pelvis 3, forward: where the person looks, 3; metres, world axes.
    """
    near = np.linalg.norm(vertices[:, [0, 2]] - pelvis[[0, 2]], axis=1) < 0.16
    top = vertices[near, 1].min() + 0.012
    if not 0.12 < top < pelvis[1]:
        return None
    size = np.array([rng.uniform(0.36, 0.7), top, rng.uniform(0.34, 0.44)])
    yaw = float(np.arctan2(forward[0], forward[2]))
    centre = pelvis - 0.05 * np.array([np.sin(yaw), 0, np.cos(yaw)])
    centre[1] = top / 2
    return centre, size, yaw


def wrist_loop(figure: Figure) -> np.ndarray:
    """The vertices around a hand's open wrist, in order."""
    edges = np.concatenate([figure.faces[:, [i, (i + 1) % 3]] for i in range(3)])
    known = {(a, b) for a, b in edges.tolist()}
    follow = {b: a for a, b in known if (b, a) not in known}
    loop = [min(follow)]
    while (vertex := follow[loop[-1]]) != loop[0]:
        loop.append(vertex)
    return np.array(loop)


def forearm(
    loop: np.ndarray, knuckles: np.ndarray, palm: np.ndarray, sleeve: bool, rng: np.random.Generator
) -> list[Solid]:
    """A forearm from the wrist on, bent at it, and perhaps a sleeve.

    Args: loop n x 3, the wrist's rim; knuckles 3, their middle; palm 3, unit vector out of it.
    """
    wrist = loop.mean(0)
    along = wrist - knuckles
    along /= np.linalg.norm(along)
    bend = np.deg2rad(rng.normal(0, 22)) * np.cross(palm, along)
    bend = np.clip(bend + np.deg2rad(rng.normal(0, 10)) * palm, -0.8, 0.8)
    rim = loop - wrist
    radius = np.linalg.norm(rim, axis=1, keepdims=True)
    rings = []
    for s in np.linspace(-0.004, 0.26, 12):  # metres along the arm; it starts inside the hand
        turn = Rotation.from_rotvec(bend * np.clip(s / 0.05, 0, 1))
        rounded = rim * (1 + (radius.mean() / radius - 1) * np.clip(s / 0.2, 0, 1))
        girth = 1 + 1.6 * max(s, 0.0)
        rings.append(wrist + s * turn.apply(along) + girth * turn.apply(rounded))
    rings = np.stack(rings)
    arm = [tube(rings, SKIN)]
    if sleeve:
        cloth = rings[int(rng.integers(1, 7)) :]
        middle = cloth.mean(1, keepdims=True)
        wide = middle + rng.uniform(1.1, 1.35) * (cloth - middle)
        arm.append(tube(wide, int(rng.choice(PAINTS))))
    return arm


def held(palm_centre: np.ndarray, palm: np.ndarray, rng: np.random.Generator) -> Solid:
    """Something in or near the palm: palm_centre 3, palm the unit vector out of it."""
    centre = palm_centre + palm * rng.uniform(0.025, 0.06) + rng.normal(0, 0.012, 3)
    row, kind, R = int(rng.choice(PAINTS)), rng.random(), Rotation.random(rng=rng).as_matrix()
    if kind < 0.35:
        return ellipsoid(centre, rng.uniform(0.03, 0.085, 3), R, row)
    if kind < 0.7:
        return box(centre, rng.uniform(0.012, 0.1, 3), R, row)
    return pole(centre, rng.uniform(0.006, 0.028), rng.uniform(0.1, 0.25), R, row)
