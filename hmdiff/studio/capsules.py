"""Self-penetration at low cost: limbs as capsules (segments with a radius) between posed joints.

The capture studio draws poses at random and throws away those in which a forearm passes through
the belly or a finger through another. The skeleton is enough to see that: tens of microseconds
instead of a collision of 13,776 triangles. Joints are in metres, J x 3; a pose is J x 3 rotation
vectors in radians.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation


@dataclass(frozen=True)
class Capsules:
    """C capsules and the pairs of them that must stay apart.

    Attributes:
        start, end: C x J, rows of weights that sum to 1: the segments' ends as mixes of joints.
        radius: C, metres.
        pairs: P x 2, indices of capsules that are not neighbours in the body.
    """

    start: np.ndarray
    end: np.ndarray
    radius: np.ndarray
    pairs: np.ndarray


def pose_joints(rest: np.ndarray, rotvec: np.ndarray, parents: np.ndarray) -> np.ndarray:
    """Forward kinematics: J x 3 posed joints from J x 3 rest joints and J x 3 local rotations."""
    local = Rotation.from_rotvec(rotvec).as_matrix()
    world, placed = local.copy(), rest.copy()
    for j, parent in enumerate(parents):
        if parent >= 0:
            world[j] = world[parent] @ local[j]
            placed[j] = placed[parent] + world[parent] @ (rest[j] - rest[parent])
    return placed


def segment_distance(p: np.ndarray, q: np.ndarray, r: np.ndarray, s: np.ndarray) -> np.ndarray:
    """Shortest distances (n,) between the segments p-q and r-s (each n x 3), none of length 0.

    The closest points of the two lines, clipped to the first segment, then to the second, then
    once more to the first.
    """
    u, v, w = q - p, s - r, p - r
    a, b, c = ((x * y).sum(1) for x, y in ((u, u), (u, v), (v, v)))
    d, e = (u * w).sum(1), (v * w).sum(1)
    slope = a * c - b * b
    k = np.clip(np.where(slope > 1e-12, (b * e - c * d) / np.maximum(slope, 1e-12), 0.0), 0, 1)
    m = np.clip((b * k + e) / c, 0, 1)
    k = np.clip((b * m - d) / a, 0, 1)
    return np.linalg.norm(w + k[:, None] * u - m[:, None] * v, axis=1)


def overlap(joints: np.ndarray, capsules: Capsules) -> float:
    """Metres by which the worst pair of capsules overlaps (0 where all are apart)."""
    start, end = capsules.start @ joints, capsules.end @ joints
    i, j = capsules.pairs.T
    gap = segment_distance(start[i], end[i], start[j], end[j])
    return float(np.maximum(capsules.radius[i] + capsules.radius[j] - gap, 0).max())


def draw_apart(
    draw: Callable[[], np.ndarray], rest: np.ndarray, parents: np.ndarray, capsules: Capsules,
    allowed_m: float, tries: int,
) -> np.ndarray:  # fmt: skip
    """The first pose of `draw` in which nothing overlaps by more than `allowed_m`; after `tries`,
    the least bad."""
    best, least = None, np.inf
    for _ in range(tries):
        rotvec = draw()
        depth = overlap(pose_joints(rest, rotvec, parents), capsules)
        if depth < least:
            best, least = rotvec, depth
        if least <= allowed_m:
            break
    return best
