"""What the capture studio shoots: who stands where, how posed, seen from which camera.

A take is a run of images of one person: a 3DPW-like sequence, a Human3.6M-like subaction, or some
FreiHAND-like views. Its randomness depends on (seed, data set, split, number) alone, so takes can
be shot in any order and on any number of cores; splits never share people or poses.

Studio world: y up, the floor at y = 0, metres. The annotations leave it: `Moves` turns them into
the data set's own world.
"""

from dataclasses import dataclass

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from . import cameras, hand_poses, poses, props, scenery, studio
from .body import BodyModel
from .raycast import Solid
from .scenery import Stage
from .wardrobe import Figure, dress

STATURE_M = {"body": 1.72, "hand": 0.195}  # the drawn people's lie within 15% of it
DATASETS = ("threedpw", "human36m", "freihand")
SPLITS = ("train", "validation", "test")
Z_UP = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])  # Human3.6M's world: z up
SIT = tuple(name for name in poses.LEGS if name.startswith(("sit, ", "sit", "leg crossed")))
STAND = ("stand", "wide stand", "contrapposto", "walk, passing", "lean on", "step up", "one leg")
WALK = ("walk", "walk, passing", "stride", "stand")
LOW = ("crouch", "squat", "kneel", "half-kneel", "bend over", "sit on the floor", "cross-legged")
# Human3.6M's actions: number, name, legs, arms
ACTIONS: tuple[tuple[int, str, tuple, tuple], ...] = (
    (2, "Directions", STAND, ("point", "reach out", "spread", "explain", "wave", "reach up")),
    (3, "Discussion", STAND, ("explain", "crossed", "on hips", "one on hip", "carry", "clap")),
    (4, "Eating", (*SIT, "stand"), ("drink", "hand on chin", "carry", "text")),
    (5, "Greeting", STAND, ("wave", "cheer", "reach out", "clap", "both up", "explain")),
    (6, "Phoning", (*SIT, *STAND), ("phone",)),
    (7, "Posing", (*STAND, "dance", "lunge"), ()),
    (8, "Purchases", (*STAND, *LOW), ("carry", "reach down", "reach out", "reach up", "text")),
    (9, "Sitting", SIT, ()),
    (10, "SittingDown", ("sit on the floor", "cross-legged", "crouch", "kneel", "half-kneel"), ()),
    (11, "Smoking", (*SIT, "stand", "lean on"), ("drink", "hand on chin", "hang")),
    (12, "Photo", (*STAND, "crouch", "half-kneel", "lunge"), ("photo", "guard", "reach out")),
    (13, "Waiting", (*STAND, "sit", "lean on"), ("crossed", "behind back", "hang", "on hips", "behind head")),
    (14, "Walking", WALK, ("swing", "hang", "carry")),
    (15, "WalkDog", (*WALK, "lunge", "bend over"), ("reach out", "point", "carry", "swing")),
    (16, "WalkTogether", WALK, ("swing", "explain", "hang", "text")),
)  # fmt: skip


@dataclass(frozen=True)
class Take:
    """One job of the studio.

    Attributes:
        dataset, split: where its images go.
        number: unique within data set and split.
        person: number of the person it shows, unique within data set and split.
        names: the images' paths below the data set's root.
        place: data set's own coordinates: the sequence; or subject, action, subaction, then per
            image camera and frame; or the first index.
    """

    dataset: str
    split: str
    number: int
    person: int
    names: tuple[str, ...]
    place: dict

    def rng(self, seed: int, what: int, frame: int = 0) -> np.random.Generator:
        """The generator of one purpose: 0 the person, 1 the take, 2 an image."""
        who = self.person if what == 0 else self.number
        place = (DATASETS.index(self.dataset), SPLITS.index(self.split))
        return np.random.default_rng([seed, *place, what, who, frame])


def plan(dataset: str, counts: dict[str, int]) -> list[Take]:
    """The takes that together give `counts[split]` images of each split.

    Raises:
        ValueError: unknown data set, or a split's count that is not positive.
    """
    if dataset not in DATASETS:
        raise ValueError(f"studio: {dataset!r} is no data set; choose from {', '.join(DATASETS)}")
    if set(counts) != set(SPLITS) or min(counts.values()) < 1:
        raise ValueError(f"studio.{dataset}: needs positive counts for {', '.join(SPLITS)}")
    planner = {"threedpw": _sequences, "human36m": _subactions, "freihand": _views}[dataset]
    return planner(counts)


def _sequences(counts: dict[str, int]) -> list[Take]:
    """3DPW: a person a sequence, some 30 frames each."""
    takes = []
    for split in SPLITS:
        parts = np.array_split(np.arange(counts[split]), max(1, round(counts[split] / 30)))
        for number, part in enumerate(parts):
            sequence = f"studio_{split}_{number:03d}"
            names = (f"imageFiles/{sequence}/image_{i:05d}.jpg" for i in range(len(part)))
            place = {"sequence": sequence}
            takes.append(Take("threedpw", split, number, number, tuple(names), place))
    return takes


SUBJECTS = {"train": (1, 5, 6, 7), "validation": (8,), "test": (9, 11)}
TEST_CAMERA = 4  # the camera of the standard protocol


def _subactions(counts: dict[str, int]) -> list[Take]:
    """Human3.6M: 15 actions with two subactions a subject; tests only by the protocol's camera."""
    takes = []
    for split, subjects in SUBJECTS.items():
        every = [(s, a, b) for b in (1, 2) for a in range(len(ACTIONS)) for s in subjects]
        order = np.random.default_rng(11).permutation(len(every))
        share = np.bincount(np.arange(counts[split]) % len(every), minlength=len(every))
        for number, which in enumerate(order):
            subject, action, subaction = every[which]
            act, n = ACTIONS[action][0], int(share[number])
            if not n:
                continue
            seen = [TEST_CAMERA if split == "test" else 1 + (number + i) % 4 for i in range(n)]
            frames = [5 * i for i in range(n)]  # readers commonly take every fifth frame
            stems = (f"s_{subject:02d}_act_{act:02d}_subact_{subaction:02d}_ca_{c:02d}" for c in seen)
            names = (f"images/{s}/{s}_{f + 1:06d}.jpg" for s, f in zip(stems, frames, strict=True))
            place = {"subject": subject, "action": action, "subaction": subaction,
                     "cameras": seen, "frames": frames}  # fmt: skip
            takes.append(Take("human36m", split, number, subject, tuple(names), place))
    return takes


STRETCHES = 20  # the last stretch of FreiHAND's training list serves as its validation split


def _views(counts: dict[str, int]) -> list[Take]:
    """FreiHAND: a person some 30 images; nobody appears in two of the list's 20 stretches."""
    takes = []
    total = counts["train"] + counts["validation"]
    stretch = np.arange(total) * STRETCHES // total
    lists = {"training": stretch, "evaluation": np.zeros(counts["test"], int)}
    for folder, group in lists.items():
        for part in (np.flatnonzero(group == g) for g in np.unique(group)):
            held_out = folder == "training" and group[part[0]] == group[-1]
            split = "test" if folder == "evaluation" else SPLITS[int(held_out)]
            for run in np.array_split(part, max(1, round(len(part) / 30))):
                names = tuple(f"{folder}/rgb/{i:08d}.jpg" for i in run)
                number = len(takes)
                takes.append(Take("freihand", split, number, number, names, {"first": int(run[0])}))
    return takes


@dataclass(frozen=True)
class Shot:
    """One image and its annotation, in the data set's world.

    Attributes:
        image: px x px x 3 uint8; quality: of its JPEG.
        betas, pose, trans: 10; 72 or 48; 3 metres.
        R, t, K: world to camera, metres; pixels.
        visible, truncated: see `studio.Photo`.
    """

    image: np.ndarray
    quality: int
    betas: np.ndarray
    pose: np.ndarray
    trans: np.ndarray
    R: np.ndarray
    t: np.ndarray
    K: np.ndarray
    visible: float
    truncated: float


def move(
    pose: np.ndarray, trans: np.ndarray, root: np.ndarray, A: np.ndarray, b: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Pose and trans of the same body in a world where x is A x + b.

    SMPL turns about its root joint (at `root` in the unposed, shaped body), not about the origin:
    A (root + trans) + b is where the root goes, so trans becomes that minus root.
    """
    turned = pose.copy()
    turned[:3] = (Rotation.from_matrix(A) * Rotation.from_rotvec(pose[:3])).as_rotvec()
    return turned, A @ (root + trans) + b - root


def shoot(take: Take, model: BodyModel, figure: Figure, seed: int, px: int) -> list[Shot]:
    """All images of a take."""
    return (_shoot_hand if figure.subject == "hand" else _shoot_body)(take, model, figure, seed, px)


def _draw_betas(figure: Figure, rng: np.random.Generator) -> np.ndarray:
    """A grown-up's shape (10), normally distributed but for giants and dwarfs."""
    while True:
        betas = np.clip(rng.standard_normal(10), -2.2, 2.2)
        length = figure.length[0] + figure.length[1:] @ betas
        if abs(length / STATURE_M[figure.subject] - 1) < 0.15:
            return betas


def _pose_all(model: BodyModel, betas: np.ndarray, pose: np.ndarray) -> tuple[np.ndarray, ...]:
    """Vertices and joints (n x V x 3, n x J x 3, float64) of n poses of one person at trans 0."""
    n = len(pose)
    with torch.inference_mode():
        posed = model.pose(
            torch.from_numpy(np.tile(betas, (n, 1))).float(),
            torch.from_numpy(pose).float(),
            torch.zeros(n, 3),
        )
    return tuple(x.numpy().astype(np.float64) for x in posed)


def _place(rng: np.random.Generator) -> Stage | None:
    """Where an in-the-wild take happens; None for changing backdrops."""
    kind = rng.random()
    return scenery.room(rng) if kind < 0.4 else scenery.street(rng) if kind < 0.8 else None


def _shoot_body(take: Take, model: BodyModel, figure: Figure, seed: int, px: int) -> list[Shot]:
    who, n = take.rng(seed, 0), len(take.names)
    betas, outfit = _draw_betas(figure, who), dress(figure, take.rng(seed, 1))
    rngs = [take.rng(seed, 2, i) for i in range(n)]
    wild = take.dataset == "threedpw"
    legs, arms = ((), ()) if wild else ACTIONS[take.place["action"]][2:]
    seated = tuple(name for name in legs if name in SIT) or SIT * wild
    share = 0.2 if wild else len(seated) / max(len(legs), 1)
    sits = [rng.random() < share for rng in rngs]
    others = tuple(name for name in legs or poses.LEGS if name not in SIT)
    pose = np.zeros((n, 72))
    for i, rng in enumerate(rngs):
        drawn = poses.draw_body_pose(rng, figure.joints, seated if sits[i] else others, arms)
        heading = Rotation.from_euler("y", rng.uniform(-180, 180), degrees=True)
        drawn[0] = (heading * Rotation.from_rotvec(drawn[0])).as_rotvec()
        pose[i] = drawn.ravel()
    vertices, joints = _pose_all(model, betas, pose)
    stage_rng = take.rng(seed, 1, 1)
    stage = _place(stage_rng) if wild else scenery.hall(np.random.default_rng(seed))
    world = _wild_world(stage_rng) if wild else (Z_UP, np.zeros(3))
    cams = None if wild else _fixed_cameras(take.place["subject"], seed, px)
    focal = px * stage_rng.uniform(0.95, 2.2)
    shots = []
    for i, rng in enumerate(rngs):
        lift = rng.uniform(0.05, 0.3) if rng.random() < 0.05 and not sits[i] else 0.0
        at = rng.normal(0, 0.12, 2).clip(-0.25, 0.25)
        trans = np.array([at[0], lift - vertices[i, :, 1].min(), at[1]])
        v, j = vertices[i] + trans, joints[i] + trans
        R, t, K = _wild_camera(v, figure, focal, px, rng) if wild else cams[take.place["cameras"][i]]
        forward = Rotation.from_rotvec(pose[i, :3]).apply([0, 0, 1])
        seat = props.seat(v, j[0], forward, rng) if sits[i] and rng.random() < 0.9 else None
        things = [] if seat is None else [_placed(seat, R, t, rng)]
        odds = rng.random()
        blockers = (odds > 0.55) + (odds > 0.88) if wild else int(odds > 0.92)
        light = studio.draw_light(rng, R, indoors=not wild or (stage is not None and stage.sky is None))
        photo = studio.photograph(
            figure, outfit, v @ R.T + t, things, blockers, stage, light, R, t, K, px, rng
        )
        moved = move(pose[i], trans, joints[i, 0], *world)
        A, b = world
        shots.append(
            Shot(photo.image, int(rng.integers(60, 96)), betas, *moved, R @ A.T, t - R @ A.T @ b, K,
                 photo.visible, photo.truncated)  # fmt: skip
        )
    return shots


def _wild_world(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A sequence's own world: some heading and origin (A, b)."""
    heading = Rotation.from_euler("y", rng.uniform(-180, 180), degrees=True).as_matrix()
    return heading, rng.normal(0, 2, 3) * [1, 0.1, 1]


def _wild_camera(
    vertices: np.ndarray, figure: Figure, focal: float, px: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """R, t, K of a hand-held camera from any side; in a fifth of the images it is too close."""
    K = cameras.intrinsics(focal, px)
    elevation = np.clip(rng.normal(9, 13), -12, 42)
    azimuth, roll = rng.uniform(-180, 180), rng.normal(0, 4)
    fill, shift, aim = rng.uniform(0.72, 0.96), rng.normal(0, 0.02, 2), vertices
    odds = rng.random()
    if odds < 0.13:  # a half-length or knee-length picture
        aim = vertices[figure.template[:, 1] > rng.choice([-0.45, -0.1, 0.05])]
    elif odds < 0.2:
        shift, fill = rng.uniform(-0.25, 0.25, 2), rng.uniform(0.8, 1.05)
    for angle in (elevation, 3.0, 20.0):
        R = cameras.look(azimuth, angle, roll)
        t = cameras.frame(aim, R, K, px, fill, shift)
        if -R[:, 1] @ t > 0.15:  # the camera's height over the floor
            break
    return R, t, K


def _fixed_cameras(subject: int, seed: int, px: int) -> dict[int, tuple]:
    """R, t, K of the hall's four cameras, set up anew for each subject."""
    views = {}
    for number, azimuth in ((1, 135), (2, -135), (3, 45), (4, -45)):
        rng = np.random.default_rng([seed, subject, number])
        height, distance = rng.uniform(1.25, 1.7), rng.uniform(4.3, 4.8)
        down = np.rad2deg(np.arctan2(height - 0.92, distance))
        R = cameras.look(azimuth + rng.normal(0, 8), down, rng.normal(0, 0.7))
        t = np.array([0, 0, np.hypot(distance, height - 0.92)]) - R @ [0, 0.92, 0]
        K = cameras.intrinsics(px * t[2] / 2.25, px)
        K[:2, 2] += rng.normal(0, 0.01 * px, 2)
        views[number] = (R, t, K)
    return views


def _placed(seat: tuple, R: np.ndarray, t: np.ndarray, rng: np.random.Generator) -> Solid:
    """A seat of the studio world in camera axes."""
    centre, size, yaw = seat
    turn = R @ Rotation.from_euler("y", yaw).as_matrix()
    return props.box(R @ centre + t, size, turn, int(rng.choice(props.PAINTS)))


def _shoot_hand(take: Take, model: BodyModel, figure: Figure, seed: int, px: int) -> list[Shot]:
    who, n = take.rng(seed, 0), len(take.names)
    betas, outfit = _draw_betas(figure, who), dress(figure, who)
    rngs = [take.rng(seed, 2, i) for i in range(n)]
    stage = _place(take.rng(seed, 1))
    pose, views = np.zeros((n, 48)), []
    for i, rng in enumerate(rngs):
        pose[i] = hand_poses.draw_hand_pose(rng, figure.joints).ravel()
        R = cameras.look(rng.uniform(-180, 180), rng.uniform(-25, 55), rng.normal(0, 15))
        pose[i, :3] = _wrist(figure, R, rng)
        views.append(R)
    vertices, joints = _pose_all(model, betas, pose)
    loop = props.wrist_loop(figure)
    shots = []
    for i, rng in enumerate(rngs):
        R, K = views[i], cameras.intrinsics(px * rng.uniform(1.6, 2.6), px)
        lifted = np.array([0.0, 1.2, 0.0])  # hands are held over the floor
        shift = rng.normal(0, 0.05, 2)
        t = cameras.frame(vertices[i] + lifted, R, K, px, rng.uniform(0.55, 0.9), shift)
        v, j = ((x + lifted) @ R.T + t for x in (vertices[i], joints[i]))
        across, middle = j[[5, 17]], j[9]
        palm = np.cross(across[0] - j[0], across[1] - j[0])
        palm /= np.linalg.norm(palm)
        things = props.forearm(v[loop], middle, palm, rng.random() < 0.5, rng)
        if rng.random() < 0.3:
            things.append(props.held((middle + j[10] + j[6]) / 3, palm, rng))
        light = studio.draw_light(rng, R, indoors=stage is None or stage.sky is None)
        photo = studio.photograph(
            figure, outfit, v, things, int(rng.random() < 0.18), stage, light, R, t, K, px, rng
        )
        moved = move(pose[i], lifted, joints[i, 0], R, t)
        shots.append(
            Shot(photo.image, int(rng.integers(60, 96)), betas, *moved, np.eye(3), np.zeros(3), K,
                 photo.visible, photo.truncated)  # fmt: skip
        )
    return shots


def _wrist(figure: Figure, R: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A random orientation of the hand (rotation vector, studio world), seen by a camera R such
    that neither the forearm nor the fingers point straight at it."""
    along = figure.joints[0] - figure.joints[4]
    along = along / np.linalg.norm(along)
    while True:
        turn = Rotation.random(rng=rng)
        if -0.7 < (R @ turn.apply(along))[2] < 0.85:
            return turn.as_rotvec()
