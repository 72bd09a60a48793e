"""The capture studio's repertoire of body poses, as SMPL's 24 rotation vectors.

A pose is a point in 34 anatomical angles (degrees) with joint limits: an archetype of the legs
(walking, sitting, kicking ...), one of the arms (phoning, crossed, waving ...), sometimes blended
with a second, plus Gaussian variation that is correlated within a limb and between left and
right; then mirrored half of the time. Self-penetrating draws are thrown away. The angles are
zero in the upright stance with hanging arms, and positive in flexion, abduction, inward rotation
of the arm and outward rotation of the leg. SMPL's axes: y up, x to the figure's left, z forward;
the rest pose is a T.
"""

import numpy as np
from scipy.spatial.transform import Rotation

from .capsules import Capsules, draw_apart

# angle: (lowest, highest, standard deviation), degrees
_TRUNK = {
    "lean": (-20, 40, 4), "roll": (-20, 20, 3),
    "bend": (-25, 80, 8), "side": (-28, 28, 6), "twist": (-40, 40, 9),
    "nod": (-35, 40, 10), "tilt": (-25, 25, 6), "turn": (-60, 60, 18),
}  # fmt: skip
_LEG = {
    "hip": (-25, 118, 9), "spread": (-12, 50, 5), "out": (-25, 40, 8), "knee": (0, 142, 10),
    "ankle": (-25, 40, 7),
}  # fmt: skip
_ARM = {
    "raise": (-50, 172, 15), "abduct": (-12, 125, 12), "inward": (-75, 85, 16),
    "elbow": (0, 146, 16), "pronate": (-70, 70, 20), "wrist": (-55, 60, 14),
    "deviate": (-20, 25, 7), "shrug": (-5, 20, 4),
}  # fmt: skip
LIMITS: dict[str, tuple[float, float, float]] = _TRUNK | {
    f"{side}{name}": limit
    for side in ("l_", "r_")
    for part in (_LEG, _ARM)
    for name, limit in part.items()
}
ANGLES = tuple(LIMITS)
_LOW, _HIGH, _SPREAD = np.array(list(LIMITS.values()), float).T

# An archetype gives some angles; a name without a side stands for both sides.
LEGS: dict[str, dict[str, float]] = {
    "stand": {"spread": 5, "out": 8, "knee": 4, "hip": 3},
    "wide stand": {"spread": 17, "out": 14, "knee": 6, "hip": 5},
    "contrapposto": {"l_hip": 12, "l_knee": 22, "l_spread": 9, "roll": 5, "side": -8, "out": 14},
    "walk": {"l_hip": 26, "r_hip": -16, "l_knee": 8, "r_knee": 28, "r_ankle": 20, "twist": -6},
    "walk, passing": {"l_hip": 22, "l_knee": 52, "r_hip": 2, "r_knee": 6, "l_ankle": 8},
    "stride": {"l_hip": 36, "r_hip": -24, "l_knee": 12, "r_knee": 22, "r_ankle": 26, "lean": 5},
    "run": {"l_hip": 62, "l_knee": 85, "r_hip": -18, "r_knee": 30, "r_ankle": 32, "lean": 13},
    "run, landing": {"l_hip": 32, "l_knee": 22, "r_hip": -8, "r_knee": 98, "lean": 10},
    "sit": {"hip": 86, "knee": 88, "spread": 9, "bend": 8},
    "sit, legs apart": {"hip": 84, "knee": 92, "spread": 27, "out": 18, "bend": 16},
    "sit, leg out": {"hip": 84, "l_knee": 35, "r_knee": 95, "spread": 8, "lean": -8},
    "sit on the floor": {"hip": 96, "knee": 22, "spread": 14, "bend": 18, "lean": -6},
    "cross-legged": {"hip": 88, "knee": 122, "spread": 40, "out": 38, "bend": 12},
    "crouch": {"hip": 100, "knee": 122, "spread": 17, "out": 12, "bend": 25, "ankle": -18},
    "squat": {"hip": 78, "knee": 90, "spread": 20, "out": 18, "bend": 12, "ankle": -18, "lean": 8},
    "kneel": {"hip": 12, "knee": 100, "spread": 7, "ankle": 32},
    "half-kneel": {"l_hip": 88, "l_knee": 88, "r_hip": -2, "r_knee": 92, "r_ankle": 10},
    "lunge": {"l_hip": 74, "l_knee": 80, "r_hip": -20, "r_knee": 14, "r_ankle": -6, "lean": 8},
    "side lunge": {"l_hip": 56, "l_knee": 66, "l_spread": 34, "l_out": 22, "r_spread": 36},
    "step up": {"l_hip": 62, "l_knee": 72, "r_hip": 0, "r_knee": 5, "lean": 6},
    "kick": {"l_hip": 74, "l_knee": 18, "r_hip": -6, "r_knee": 10, "lean": -10, "l_ankle": 25},
    "back kick": {"l_hip": -22, "l_knee": 62, "r_knee": 12, "lean": 14, "r_hip": 12},
    "one leg": {"l_hip": 72, "l_knee": 96, "r_knee": 5, "l_spread": 12},
    "bend over": {"hip": 42, "knee": 12, "bend": 52, "spread": 10, "nod": -8},
    "lean on": {"hip": 14, "knee": 6, "lean": -8, "l_spread": 12, "r_spread": 12},
    "jump": {"l_hip": 34, "r_hip": 12, "l_knee": 64, "r_knee": 48, "ankle": 30, "spread": 12},
    "dance": {"l_hip": 30, "l_knee": 44, "l_spread": 22, "l_out": 22, "side": 12, "roll": 6},
    "leg crossed": {"l_hip": 98, "l_knee": 78, "l_spread": -8, "l_out": -8, "r_hip": 84,
        "r_knee": 88},
}  # fmt: skip
ARMS: dict[str, dict[str, float]] = {
    "hang": {"abduct": 9, "elbow": 14, "inward": 12},
    "swing": {"l_raise": -26, "r_raise": 28, "elbow": 26, "abduct": 9, "twist": -8},
    "run": {"l_raise": -42, "r_raise": 38, "elbow": 92, "abduct": 14, "inward": 22},
    "reach out": {"l_raise": 82, "l_elbow": 14, "r_abduct": 14, "r_elbow": 25, "twist": -14},
    "reach up": {"l_raise": 158, "l_elbow": 15, "r_abduct": 12, "r_elbow": 20, "nod": -18,
        "side": -8},
    "both up": {"raise": 150, "abduct": 14, "elbow": 22},
    "cheer": {"raise": 20, "abduct": 122, "elbow": 50, "inward": -70},
    "reach down": {"raise": 46, "abduct": 8, "elbow": 16, "bend": 32},
    "phone": {"l_raise": 52, "l_abduct": 26, "l_inward": 6, "l_elbow": 140, "tilt": -10,
        "r_abduct": 9},
    "text": {"raise": 34, "abduct": 8, "inward": 26, "elbow": 88, "nod": 26},
    "crossed": {"l_raise": 52, "r_raise": 30, "abduct": 12, "inward": 66, "elbow": 98},
    "on hips": {"raise": -16, "abduct": 46, "inward": 48, "elbow": 88, "pronate": -30},
    "wave": {"l_abduct": 88, "l_raise": 12, "l_inward": -72, "l_elbow": 74, "r_abduct": 9,
        "r_elbow": 14},
    "point": {"l_raise": 66, "l_abduct": 34, "l_elbow": 6, "l_pronate": 30, "r_elbow": 30,
        "turn": 18},
    "guard": {"raise": 46, "abduct": 12, "inward": 20, "elbow": 122, "nod": 8},
    "punch": {"l_raise": 86, "l_elbow": 10, "r_raise": 30, "r_elbow": 128, "r_inward": 20,
        "twist": -24},
    "spread": {"abduct": 84, "elbow": 16},
    "wings": {"abduct": 58, "raise": 20, "elbow": 34},
    "behind head": {"raise": 52, "abduct": 112, "inward": -70, "elbow": 138},
    "behind back": {"raise": -34, "abduct": 14, "inward": 44, "elbow": 58},
    "carry": {"raise": 22, "abduct": 8, "inward": 16, "elbow": 84, "pronate": -30},
    "clap": {"raise": 50, "abduct": 5, "inward": 20, "elbow": 72},
    "drink": {"l_raise": 46, "l_abduct": 18, "l_inward": 34, "l_elbow": 124, "nod": -10,
        "r_abduct": 8},
    "hand on chin": {"l_raise": 40, "l_inward": 36, "l_elbow": 132, "r_raise": 28, "r_inward": 70,
        "r_elbow": 88},
    "photo": {"raise": 72, "abduct": 22, "inward": 30, "elbow": 112, "nod": 4},
    "throw": {"l_abduct": 92, "l_raise": -6, "l_inward": -66, "l_elbow": 88, "r_raise": 66,
        "twist": 22},
    "hands on knees": {"raise": 40, "abduct": 14, "elbow": 34, "inward": 10, "bend": 18},
    "one on hip": {"l_raise": -16, "l_abduct": 46, "l_inward": 48, "l_elbow": 88, "r_raise": 30,
        "r_elbow": 60},
    "explain": {"raise": 28, "abduct": 20, "inward": -12, "elbow": 78, "pronate": -45},
    "balance": {"l_abduct": 74, "r_abduct": 52, "l_elbow": 22, "r_elbow": 40, "side": 8},
}  # fmt: skip

PARENTS = np.array(
    [-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 20, 21]
)
ALLOWED_M = 0.03  # flesh yields and capsules are coarse
TRIES = 12


def archetype(values: dict[str, float]) -> np.ndarray:
    """The 34 angles (degrees) of an archetype; ValueError for a name that is no angle."""
    angles = np.zeros(len(ANGLES))
    for name, value in values.items():
        names = [name] if name in LIMITS else [f"l_{name}", f"r_{name}"]
        if names[-1] not in LIMITS:
            raise ValueError(f"poses: {name!r} is no angle; the angles are {', '.join(ANGLES)}")
        angles[[ANGLES.index(n) for n in names]] = value
    return angles


def _correlation() -> np.ndarray:
    """34 x 34: 0.35 between an angle's two sides, 0.15 within a limb or the trunk."""
    C = np.eye(len(ANGLES))
    limb = [(n[:2], n[2:] in _LEG) if n[:2] in ("l_", "r_") else ("trunk", False) for n in ANGLES]
    for i, a in enumerate(ANGLES):
        for j, b in enumerate(ANGLES[:i]):
            twins = a[:2] == "r_" and b == f"l_{a[2:]}"
            C[i, j] = C[j, i] = 0.35 if twins else 0.15 * (limb[i] == limb[j])
    return C


_VARIATION = np.linalg.cholesky(_correlation())


def _drawn(table: dict[str, dict[str, float]], names: tuple[str, ...], rng: np.random.Generator):
    """The angles of one archetype, or of a blend of two."""
    names = names or tuple(table)
    angles = archetype(table[names[rng.integers(len(names))]])
    if rng.random() < 0.4:
        other = archetype(table[names[rng.integers(len(names))]])
        angles = angles + rng.uniform(0, 0.5) * (other - angles)
    return angles


def draw_angles(
    rng: np.random.Generator, legs: tuple[str, ...] = (), arms: tuple[str, ...] = ()
) -> np.ndarray:
    """34 angles (degrees) within LIMITS; `legs`, `arms` narrow the archetypes (empty: all)."""
    lower = _drawn(LEGS, legs, rng)
    upper = _drawn(ARMS, arms, rng)
    if rng.random() < 0.5:  # the walker's arms need not know which leg is ahead
        upper = mirror_angles(upper)
    noise = _SPREAD * (_VARIATION @ rng.standard_normal(len(ANGLES)))
    angles = np.clip(lower + upper + noise, _LOW, _HIGH)
    return mirror_angles(angles) if rng.random() < 0.5 else angles


def mirror_angles(angles: np.ndarray) -> np.ndarray:
    """The same pose seen in a mirror: sides change places, sideways angles their signs."""
    values = dict(zip(ANGLES, angles, strict=True))
    flip = {"roll", "side", "twist", "tilt", "turn"}
    swap = {"l_": "r_", "r_": "l_"}
    return np.array(
        [-values[n] if n in flip else values[swap.get(n[:2], n[:2]) + n[2:]] for n in ANGLES]
    )


def to_rotvec(angles: np.ndarray) -> np.ndarray:
    """SMPL's 24 x 3 rotation vectors (radians) of 34 angles (degrees)."""
    q = dict(zip(ANGLES, angles, strict=True))
    turns = [np.eye(3)] * 24
    turns[0] = _turn("xz", q["lean"], q["roll"])
    for joint in (3, 6, 9):
        turns[joint] = _turn("yxz", q["twist"] / 3, q["bend"] / 3, q["side"] / 3)
    for joint in (12, 15):
        turns[joint] = _turn("yxz", q["turn"] / 2, q["nod"] / 2, q["tilt"] / 2)
    for side, s in (("l_", 1), ("r_", -1)):
        hip, knee, ankle, collar, shoulder, elbow, wrist = (
            (1, 4, 7, 13, 16, 18, 20) if s == 1 else (2, 5, 8, 14, 17, 19, 21)
        )
        a = {name: q[side + name] for name in (*_LEG, *_ARM)}
        turns[hip] = _turn("xzy", -a["hip"], s * a["spread"], s * a["out"])
        turns[knee] = _turn("x", a["knee"])
        turns[ankle] = _turn("x", a["ankle"])
        lift = a["shrug"] + 0.15 * max(a["raise"] - 80, a["abduct"] - 70, 0)
        turns[collar] = _turn("z", s * lift)
        down = s * (a["abduct"] - 90 - lift)
        turns[shoulder] = _turn("xzx", -a["raise"], down, a["inward"])
        turns[elbow] = _turn("yx", -s * a["elbow"], a["pronate"] / 2)
        turns[wrist] = _turn("xzy", a["pronate"] / 2, -s * a["wrist"], s * a["deviate"])
    return Rotation.from_matrix(np.stack(turns)).as_rotvec()


def _turn(axes: str, *degrees: float) -> np.ndarray:
    """The 3 x 3 product of turns about the named fixed axes, leftmost outermost."""
    R = np.eye(3)
    for axis, angle in zip(axes, np.deg2rad(degrees), strict=True):
        i, j = {"x": (1, 2), "y": (2, 0), "z": (0, 1)}[axis]
        T = np.eye(3)
        T[i, i] = T[j, j] = np.cos(angle)
        T[j, i] = np.sin(angle)
        T[i, j] = -T[j, i]
        R = R @ T
    return R


def body_capsules() -> Capsules:
    """Trunk, head and limbs; radii of a slim person, since flesh yields."""
    limbs = {  # name: (from, to, share of the way that the end lies beyond `to`, radius)
        "trunk": (0, 12, -0.15, 0.105), "head": (12, 15, 0.9, 0.085),
        "thigh": (1, 4, 0, 0.065), "shin": (4, 7, 0, 0.045), "foot": (7, 10, 0.3, 0.03),
        "upper arm": (16, 18, 0, 0.04), "forearm": (18, 20, 0, 0.033), "hand": (20, 22, 0.6, 0.03),
    }  # fmt: skip
    rows, names = [], []
    for name, (a, b, beyond, radius) in limbs.items():
        for s in (0, 1) if a in (1, 4, 7, 16, 18, 20) else (0,):
            rows.append((a + s, b + s, beyond, radius))
            names.append((name, s))
    start, end = np.zeros((2, len(rows), 24))
    for i, (a, b, beyond, _) in enumerate(rows):
        start[i, a], end[i, a], end[i, b] = 1, -beyond, 1 + beyond
    near = [{"trunk", "head"}, {"trunk", "thigh"}, {"trunk", "upper arm"}, {"head", "upper arm"}]
    chain = ({"thigh", "shin"}, {"shin", "foot"}, {"upper arm", "forearm"}, {"forearm", "hand"},
             {"upper arm", "hand"})  # fmt: skip
    pairs = [
        (i, j)
        for i, (a, s) in enumerate(names)
        for j, (b, t) in enumerate(names[:i])
        if {a, b} not in near and not (s == t and {a, b} in chain)
    ]
    return Capsules(start, end, np.array([r[3] for r in rows]), np.array(pairs))


CAPSULES = body_capsules()


def draw_body_pose(
    rng: np.random.Generator,
    rest: np.ndarray,
    legs: tuple[str, ...] = (),
    arms: tuple[str, ...] = (),
) -> np.ndarray:
    """One pose, 24 x 3 rotation vectors (radians), the root only leaning, never turned about y.

    Draws again while limbs overlap by more than ALLOWED_M; after TRIES keeps the least bad.
    `rest`: 24 x 3 joints in the T-pose, metres.
    """

    def draw() -> np.ndarray:
        return to_rotvec(draw_angles(rng, legs, arms))

    return draw_apart(draw, rest, PARENTS, CAPSULES, ALLOWED_M, TRIES)
