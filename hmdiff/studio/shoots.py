"""How the capture studio shoots a take: poses, cameras and seats, then one photograph an image.

Studio world: y up, the floor at y = 0, the person near the origin, metres. The annotations leave
it: `move` takes them to the data set's own world, which for 3DPW has a heading and origin of its
own in each sequence, for Human3.6M is z up, and for FreiHAND is the camera.
"""

from dataclasses import dataclass

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from ..body import BodyModel
from . import cameras, hand_poses, photograph, poses, props, scenery
from .cameras import Camera
from .raycast import Solid
from .scenery import Stage
from .takes import ACTIONS, SIT, Take
from .wardrobe import Figure, Outfit, dress

STATURE_M = {"body": 1.72, "hand": 0.195}  # the drawn people's lie within 15% of it
Z_UP = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])  # studio world to Human3.6M's
HELD_AT = np.array([0.0, 1.2, 0.0])  # hands are held over the floor


@dataclass(frozen=True)
class Shot:
    """One image and its annotation, in the data set's world.

    Attributes:
        image: px x px x 3 uint8; quality: of its JPEG.
        betas, pose, trans: 10; 72 or 48; 3 metres.
        R, t, K: world to camera, metres; pixels.
        visible, truncated: see `photograph.Photo`.
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


@dataclass(frozen=True)
class Set:
    """What a take's images share.

    Attributes:
        figure, outfit, betas: the person.
        stage: the place; None for changing backdrops.
        px: side of the images.
    """

    figure: Figure
    outfit: Outfit
    betas: np.ndarray
    stage: Stage | None
    px: int

    @property
    def indoors(self) -> bool:
        """Under a roof, or where nothing tells."""
        return self.stage is None or self.stage.sky is None

    def shot(
        self, vertices: np.ndarray, things: list[Solid], ahead: int, camera: Camera,
        stance: tuple, world: tuple, rng: np.random.Generator,
    ) -> Shot:  # fmt: skip
        """Photograph and annotate.

        Args:
            vertices: V x 3, studio world; things: solids in camera axes; ahead: occluders.
            stance: pose, trans and the unposed root joint, in the studio world.
            world: A, b that take the studio world to the data set's.
        """
        R, t, K = camera
        light = photograph.draw_light(rng, R, self.indoors)
        photo = photograph.photograph(
            self.figure, self.outfit, vertices @ R.T + t, things, ahead, self.stage, light, camera,
            self.px, rng,
        )  # fmt: skip
        A, b = world
        pose, trans = move(*stance, A, b)
        R = R @ A.T
        return Shot(
            photo.image, int(rng.integers(60, 96)), self.betas, pose, trans, R, t - R @ b, K,
            photo.visible, photo.truncated,
        )  # fmt: skip


def _draw_betas(figure: Figure, rng: np.random.Generator) -> np.ndarray:
    """A grown-up's shape (10): normally distributed, but for giants and dwarfs."""
    betas = np.clip(rng.standard_normal((64, 10)), -2.2, 2.2)
    length = figure.length[0] + betas @ figure.length[1:]
    off = np.abs(length / STATURE_M[figure.subject] - 1)
    fits = np.flatnonzero(off < 0.15)
    return betas[fits[0] if len(fits) else off.argmin()]


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
    wild, about = take.dataset == "threedpw", take.rng(seed, 1, 1)
    legs, arms = ((), ()) if wild else ACTIONS[take.place["action"]][2:]
    stage = _place(about) if wild else scenery.hall(np.random.default_rng(seed))
    world = _wild_world(about) if wild else (Z_UP, np.zeros(3))
    focal = px * about.uniform(0.95, 2.2)
    fixed = None if wild else _fixed_cameras(take.place["subject"], seed, px)
    betas = _draw_betas(figure, take.rng(seed, 0))
    scene = Set(figure, dress(figure, take.rng(seed, 1)), betas, stage, px)
    rngs = [take.rng(seed, 2, i) for i in range(len(take.names))]
    drawn = [_draw_body_pose(figure, legs, arms, rng) for rng in rngs]
    pose = np.stack([rotvec.ravel() for rotvec, _ in drawn])
    vertices, joints = _pose_all(model, betas, pose)
    shots = []
    for i, (rng, (_, sits)) in enumerate(zip(rngs, drawn, strict=True)):
        lift = rng.uniform(0.05, 0.3) if rng.random() < 0.05 and not sits else 0.0
        at = rng.normal(0, 0.12, 2).clip(-0.25, 0.25)
        trans = np.array([at[0], lift - vertices[i, :, 1].min(), at[1]])
        v, pelvis = vertices[i] + trans, joints[i, 0] + trans
        if wild:
            camera = _wild_camera(v, figure, focal, px, rng)
        else:
            camera = fixed[take.place["cameras"][i]]
        things = _seats(v, pelvis, pose[i, :3], camera, rng) if sits else []
        odds = rng.random()
        ahead = int(odds > 0.55) + int(odds > 0.88) if wild else int(odds > 0.92)
        stance = (pose[i], trans, joints[i, 0])
        shots.append(scene.shot(v, things, ahead, camera, stance, world, rng))
    return shots


def _draw_body_pose(
    figure: Figure, legs: tuple[str, ...], arms: tuple[str, ...], rng: np.random.Generator
) -> tuple[np.ndarray, bool]:
    """24 x 3 rotation vectors with a random heading, and whether the person sits.

    `legs`, `arms`: archetypes to draw from; empty for all, of which a fifth sit.
    """
    seated = tuple(name for name in legs or SIT if name in SIT)
    share = len(seated) / len(legs) if legs else 0.2
    sits = rng.random() < share
    others = tuple(name for name in legs or poses.LEGS if name not in SIT)
    rotvec = poses.draw_body_pose(rng, figure.joints, seated if sits else others, arms)
    heading = Rotation.from_euler("y", rng.uniform(-180, 180), degrees=True)
    rotvec[0] = (heading * Rotation.from_rotvec(rotvec[0])).as_rotvec()
    return rotvec, sits


def _seats(
    vertices: np.ndarray, pelvis: np.ndarray, turn: np.ndarray, camera: Camera,
    rng: np.random.Generator,
) -> list[Solid]:  # fmt: skip
    """A stool below most sitters, in camera axes; `turn`: the root's rotation vector."""
    forward = Rotation.from_rotvec(turn).apply([0, 0, 1])
    found = props.seat(vertices, pelvis, forward, rng)
    if found is None or rng.random() < 0.1:
        return []
    centre, size, yaw = found
    R, t, _ = camera
    facing = R @ Rotation.from_euler("y", yaw).as_matrix()
    return [props.box(R @ centre + t, size, facing, int(rng.choice(props.PAINTS)))]


def _wild_world(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A sequence's own world: some heading and origin (A, b)."""
    heading = Rotation.from_euler("y", rng.uniform(-180, 180), degrees=True).as_matrix()
    return heading, rng.normal(0, 2, 3) * [1, 0.1, 1]


def _wild_camera(
    vertices: np.ndarray, figure: Figure, focal: float, px: int, rng: np.random.Generator
) -> Camera:
    """A hand-held camera from any side; in a fifth of the images it is too close."""
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
    return Camera(R, t, K)


def _fixed_cameras(subject: int, seed: int, px: int) -> dict[int, Camera]:
    """The hall's four cameras by their numbers, set up anew for each subject."""
    views = {}
    for number, azimuth in ((1, 135), (2, -135), (3, 45), (4, -45)):
        rng = np.random.default_rng([seed, subject, number])
        height, distance = rng.uniform(1.25, 1.7), rng.uniform(4.3, 4.8)
        down = np.rad2deg(np.arctan2(height - 0.92, distance))
        R = cameras.look(azimuth + rng.normal(0, 8), down, rng.normal(0, 0.7))
        t = np.array([0, 0, np.hypot(distance, height - 0.92)]) - R @ [0, 0.92, 0]
        K = cameras.intrinsics(px * t[2] / 2.25, px)
        K[:2, 2] += rng.normal(0, 0.01 * px, 2)
        views[number] = Camera(R, t, K)
    return views


def _shoot_hand(take: Take, model: BodyModel, figure: Figure, seed: int, px: int) -> list[Shot]:
    who = take.rng(seed, 0)
    betas = _draw_betas(figure, who)
    scene = Set(figure, dress(figure, who), betas, _place(take.rng(seed, 1)), px)
    rngs = [take.rng(seed, 2, i) for i in range(len(take.names))]
    pose, views = np.zeros((len(rngs), 48)), []
    for i, rng in enumerate(rngs):
        pose[i] = hand_poses.draw_hand_pose(rng, figure.joints).ravel()
        R = cameras.look(rng.uniform(-180, 180), rng.uniform(-25, 55), rng.normal(0, 15))
        pose[i, :3] = _wrist(figure, R, rng)
        views.append(R)
    vertices, joints = _pose_all(model, betas, pose)
    shots = []
    for i, (R, rng) in enumerate(zip(views, rngs, strict=True)):
        v, j = vertices[i] + HELD_AT, joints[i] + HELD_AT
        K = cameras.intrinsics(px * rng.uniform(1.6, 2.6), px)
        t = cameras.frame(v, R, K, px, rng.uniform(0.55, 0.9), rng.normal(0, 0.05, 2))
        things = _beside_hand(figure, v @ R.T + t, j @ R.T + t, rng)
        ahead, stance = int(rng.random() < 0.18), (pose[i], HELD_AT, joints[i, 0])
        shots.append(scene.shot(v, things, ahead, Camera(R, t, K), stance, (R, t), rng))
    return shots


def _beside_hand(
    figure: Figure, vertices: np.ndarray, joints: np.ndarray, rng: np.random.Generator
) -> list[Solid]:
    """The forearm, half of the time sleeved, and sometimes a thing held; all in camera axes."""
    wrist, index, middle, little = joints[[0, 5, 9, 17]]
    palm = np.cross(index - wrist, little - wrist)
    palm /= np.linalg.norm(palm)
    loop = vertices[props.wrist_loop(figure)]
    things = props.forearm(loop, middle, palm, rng.random() < 0.5, rng)
    if rng.random() < 0.3:
        things.append(props.held((middle + joints[10] + joints[6]) / 3, palm, rng))
    return things


def _wrist(figure: Figure, R: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A random orientation of the hand (rotation vector, studio world), seen by a camera R such
    that neither the forearm nor the fingers point straight at it."""
    along = figure.joints[0] - figure.joints[4]
    along = along / np.linalg.norm(along)
    while True:
        turn = Rotation.random(rng=rng)
        if -0.7 < (R @ turn.apply(along))[2] < 0.85:
            return turn.as_rotvec()
