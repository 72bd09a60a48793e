"""The capture studio's repertoire of hand poses, as MANO's 15 finger joints' rotation vectors.

A pose is a point in 20 anatomical angles (degrees) with joint limits: an archetype (grasps,
points, counts, fists, pinches, open hands), often blended with a second, plus Gaussian variation
that neighbouring fingers share. Draws in which fingers pass through each other are thrown away.
The hinges are read off the model's rest joints, so any flat right hand will do. MANO's order of
fingers: index, middle, little, ring, thumb.
"""

import numpy as np
from scipy.spatial.transform import Rotation

from .capsules import Capsules, draw_apart

FINGERS = ("index", "middle", "little", "ring")
PARENTS = np.array([-1, 0, 1, 2, 0, 4, 5, 0, 7, 8, 0, 10, 11, 0, 13, 14])
_NEIGHBOURS = (0.0, 1.0, 3.0, 2.0)  # place across the palm, in MANO's order of fingers

# Bend of the finger's first and second joint (degrees); the third follows the second.
_STRAIGHT, _EASY, _HOOK, _TABLE, _ROUND, _FULL = (
    (2, 4), (18, 24), (8, 88), (78, 6), (42, 46), (84, 98),
)  # fmt: skip
# Thumb: away from the palm's side, across the palm, bend of its second and of its third joint.
_OUT, _BESIDE, _ACROSS, _OVER, _TUCKED = (
    (22, 0, 0, 2), (2, 6, 8, 8), (8, 38, 22, 20), (-2, 46, 42, 40), (-8, 58, 42, 30),
)  # fmt: skip
# name: bends of index, middle, ring, little; spread (1: fingers fanned out); thumb
ARCHETYPES: dict[str, tuple] = {
    "open": (_STRAIGHT, _STRAIGHT, _STRAIGHT, _STRAIGHT, 1.0, _OUT),
    "flat": (_STRAIGHT, _STRAIGHT, _STRAIGHT, _STRAIGHT, 0.1, _BESIDE),
    "relaxed": (_EASY, _EASY, (26, 32), (30, 36), 0.3, (10, 14, 12, 14)),
    "fist": (_FULL, _FULL, _FULL, _FULL, 0.0, _OVER),
    "loose fist": ((62, 78), (66, 80), (68, 82), (68, 80), 0.1, _ACROSS),
    "point": (_STRAIGHT, _FULL, _FULL, _FULL, 0.2, _OVER),
    "point, thumb out": (_STRAIGHT, _FULL, _FULL, _FULL, 0.3, _OUT),
    "two": (_STRAIGHT, _STRAIGHT, _FULL, _FULL, 1.0, _OVER),
    "two together": (_STRAIGHT, _STRAIGHT, _FULL, _FULL, 0.0, _OVER),
    "three": (_STRAIGHT, _STRAIGHT, _STRAIGHT, _FULL, 0.8, _TUCKED),
    "three from the thumb": (_STRAIGHT, _STRAIGHT, _FULL, _FULL, 0.8, _OUT),
    "four": (_STRAIGHT, _STRAIGHT, _STRAIGHT, _STRAIGHT, 0.8, _TUCKED),
    "thumb up": (_FULL, _FULL, _FULL, _FULL, 0.0, (30, -8, -4, -6)),
    "little finger": (_FULL, _FULL, _FULL, _STRAIGHT, 0.3, _OVER),
    "horns": (_STRAIGHT, _FULL, _FULL, _STRAIGHT, 0.4, _OVER),
    "shaka": (_FULL, _FULL, _FULL, _STRAIGHT, 0.4, _OUT),
    "pinch": ((48, 42), (56, 60), (62, 66), (62, 66), 0.2, (8, 40, 16, 24)),
    "ring sign": ((52, 50), _EASY, _STRAIGHT, _STRAIGHT, 0.7, (8, 42, 18, 26)),
    "tripod": ((46, 40), (48, 44), (66, 72), (68, 74), 0.1, (6, 42, 18, 22)),
    "grasp a cylinder": (_ROUND, _ROUND, (46, 50), (50, 52), 0.2, (6, 48, 16, 22)),
    "grasp a ball": ((34, 36), (34, 38), (36, 38), (38, 40), 0.9, (14, 44, 10, 18)),
    "hold a card": ((58, 52), (60, 56), (62, 60), (64, 62), 0.0, (4, 18, 22, 18)),
    "hook": (_HOOK, _HOOK, _HOOK, _HOOK, 0.1, _BESIDE),
    "table": (_TABLE, _TABLE, _TABLE, _TABLE, 0.1, _BESIDE),
    "claw": ((12, 62), (12, 64), (12, 64), (14, 62), 0.9, (16, 22, 14, 40)),
    "type": ((24, 40), (26, 42), (26, 42), (24, 40), 0.5, (10, 18, 8, 16)),
    "wave of fingers": ((10, 10), (28, 30), (46, 46), (62, 60), 0.4, _OUT),
}
_LOW = np.array([-22, 0, -4] * 4 + [-16.0] * 4 + [-15, -14, -10, -14])
_HIGH = np.array([92, 112, 80] * 4 + [18.0] * 4 + [42, 66, 58, 72])
_FAN = np.array([10.0, 1.0, -16.0, -8.0])  # degrees towards the thumb at spread 1
ALLOWED_M = 0.003
TRIES = 10


def archetype(name: str) -> np.ndarray:
    """The 20 angles: 3 bends for each of index, middle, little, ring; 4 fans; 4 of the thumb."""
    index, middle, ring, little, spread, thumb = ARCHETYPES[name]
    bends = [(a, b, 0.62 * b) for a, b in (index, middle, little, ring)]
    return np.concatenate([np.ravel(bends), spread * _FAN, thumb]).astype(float)


def _variation() -> np.ndarray:
    """Square root (20 x 20) of the covariance of the angles about an archetype."""
    std = np.array([9, 11, 8] * 4 + [3.5] * 4 + [6, 8, 7, 9], float)
    C = np.eye(20)
    for i in range(12):
        for j in range(12):
            apart = abs(_NEIGHBOURS[i // 3] - _NEIGHBOURS[j // 3])
            C[i, j] = (1 if i % 3 == j % 3 else 0.4) * 0.7**apart
    C += 1e-6 * np.eye(20)
    return std[:, None] * np.linalg.cholesky(C)


_VARIATION = _variation()


def draw_angles(rng: np.random.Generator) -> np.ndarray:
    """20 angles (degrees) within their limits."""
    names = list(ARCHETYPES)
    angles = archetype(names[rng.integers(len(names))])
    if rng.random() < 0.45:
        other = archetype(names[rng.integers(len(names))])
        angles = angles + rng.uniform(0, 0.6) * (other - angles)
    return np.clip(angles + _VARIATION @ rng.standard_normal(20), _LOW, _HIGH)


def to_rotvec(angles: np.ndarray, rest: np.ndarray) -> np.ndarray:
    """MANO's 16 x 3 rotation vectors (radians; the wrist's is zero) of 20 angles (degrees).

    `rest`: 16 x 3 joints of the flat hand, metres.
    """
    radians = np.deg2rad(angles)
    bends, fans, thumb = radians[:12].reshape(4, 3), radians[12:16], radians[16:]
    palm = _unit(np.cross(rest[1] - rest[0], rest[7] - rest[0]))  # out of a right hand's palm
    to_thumb = _unit(rest[1] - rest[7])
    rotvec = np.zeros((16, 3))
    for i in range(4):
        first = 1 + 3 * i
        along = _unit(rest[first + 2] - rest[first])
        hinge = _unit(np.cross(along, palm))
        fan = Rotation.from_rotvec(fans[i] * _unit(np.cross(along, to_thumb)))
        rotvec[first] = (fan * Rotation.from_rotvec(bends[i, 0] * hinge)).as_rotvec()
        rotvec[first + 1] = bends[i, 1] * hinge
        rotvec[first + 2] = bends[i, 2] * hinge
    along = _unit(rest[15] - rest[13])
    out = _unit(np.cross(along, to_thumb))
    across = _unit(rest[4] - rest[0])  # turning about the palm's long axis opposes the thumb
    bend = _unit(np.cross(along, -0.9 * to_thumb + 0.35 * palm))
    saddle = Rotation.from_rotvec(thumb[1] * across * _sign(across, to_thumb, palm))
    rotvec[13] = (saddle * Rotation.from_rotvec(thumb[0] * out)).as_rotvec()
    rotvec[14], rotvec[15] = thumb[2] * bend, thumb[3] * bend
    return rotvec


def _sign(axis: np.ndarray, start: np.ndarray, goal: np.ndarray) -> float:
    """+1 if turning about `axis` carries `start` towards `goal`, else -1."""
    return float(np.sign(np.cross(axis, start) @ goal))


def _unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x)


def _capsules() -> Capsules:
    """Two phalanges a finger and one beyond the last joint; the palm is left out."""
    rows = [(1 + 3 * i + k, 2 + 3 * i + min(k, 1), k) for i in range(5) for k in range(3)]
    start, end = np.zeros((2, len(rows), 16))
    for r, (a, b, k) in enumerate(rows):
        start[r, a] = 1
        # Beyond the last joint the finger goes on as far as its middle phalanx is long.
        ends = {b: 1.0} if k < 2 else {a - 1: -0.8, a: 1.8}
        end[r, list(ends)] = list(ends.values())
    radius = np.array([(0.0085, 0.008, 0.007)[k] for _, _, k in rows])
    pairs = [(i, j) for i in range(15) for j in range(i) if i // 3 != j // 3 and (i % 3 or j % 3)]
    return Capsules(start, end, radius, np.array(pairs))


CAPSULES = _capsules()


def draw_hand_pose(rng: np.random.Generator, rest: np.ndarray) -> np.ndarray:
    """One pose, 16 x 3 rotation vectors (radians), wrist zero.

    Draws again while fingers overlap by more than ALLOWED_M; after TRIES keeps the least bad.
    `rest`: 16 x 3 joints of the flat hand, metres.
    """

    def draw() -> np.ndarray:
        return to_rotvec(draw_angles(rng), rest)

    return draw_apart(draw, rest, PARENTS, CAPSULES, ALLOWED_M, TRIES)
