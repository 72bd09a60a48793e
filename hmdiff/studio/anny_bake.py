"""The open body and the open hand: Anny, baked once into SMPL's and MANO's file schema.

SMPL and MANO need a signature, so a study that anybody can run needs a body of its own. Anny
supplies surface, bones and shape variation; here its 104 bones are merged into SMPL's 24 joints
(MANO's 16), its rest pose is straightened into a T-pose (a flat hand), its mesh is decimated to
6,890 (778) vertices, and ten principal components of sampled people become the betas. SMPL's
axes: y up, x to the figure's left, z to the front; metres; the root joint at the origin.
"""

from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from .. import clothing, rigging
from ..decimation import decimate
from ..files import new_file
from ..rigging import Array
from . import anny_source, cloth

SHAPES = 240  # sampled people behind the betas
SEED = 6890

# SMPL joint -> the Anny bones whose heads' mean it is (first) and whose skinning it takes over.
_SIDES = {"L": (1, 4, 7, 10, 13, 16, 18, 20, 22), "R": (2, 5, 8, 11, 14, 17, 19, 21, 23)}
_LIMB_BONES = (
    "upperleg01", "lowerleg01", "foot", "toe2-1 toe3-1", "clavicle shoulder01", "upperarm01",
    "lowerarm01", "wrist", "finger3-1",
)  # fmt: skip
BODY_BONES: dict[int, tuple[str, ...]] = {
    0: ("root",), 3: ("spine04",), 6: ("spine02",), 9: ("spine02", "neck01"),
    12: ("neck01",), 15: ("head",),
} | {
    joint: tuple(f"{bone}.{side}" for bone in bones.split())
    for side, joints in _SIDES.items()
    for joint, bones in zip(joints, _LIMB_BONES, strict=True)
}  # fmt: skip
BODY_ALSO = {f"toe.{side}": joints[3] for side, joints in _SIDES.items()} | {
    f"finger{i}.{side}": joints[8] for side, joints in _SIDES.items() for i in (2, 3, 4, 5)
}
# Joint 9 lies between two bones that joints 6 and 12 start with, and takes over the one between.
BODY_ALSO |= {"spine02": 6, "spine01": 9}
BODY_PARENTS = [-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 20, 21]

# MANO: wrist, then index, middle, little, ring, thumb with three joints each.
HAND_BONES: dict[int, tuple[str, ...]] = {0: ("wrist.R",)} | {
    1 + 3 * i + k: (f"finger{finger}-{k + 1}.R",)
    for i, finger in enumerate((2, 3, 5, 4, 1))
    for k in range(3)
}
HAND_PARENTS = [-1, 0, 1, 2, 0, 4, 5, 0, 7, 8, 0, 10, 11, 0, 13, 14]
LAST_PHALANX = (15, 3, 6, 12, 9)  # thumb, index, middle, ring, little


def t_pose(joints: Array) -> Array:
    """World rotations (S x 24 x 3 x 3) from Anny's rest pose to SMPL's T-pose.

    Arms: level, elbows' hinge axis vertical, palms down. Legs: straight, nearly vertical, feet
    as they stand. `joints` S x 24 x 3, m.
    """
    world = np.broadcast_to(np.eye(3), (*joints.shape, 3)).copy()
    x, y, _ = np.eye(3)
    for s, hip, knee, ankle, shoulder, elbow, wrist, hand in (
        (1, 1, 4, 7, 16, 18, 20, 22),
        (-1, 2, 5, 8, 17, 19, 21, 23),
    ):
        upper = joints[:, elbow] - joints[:, shoulder]
        fore = joints[:, wrist] - joints[:, elbow]
        hinge = np.cross(upper, fore)
        palm = joints[:, hand] - joints[:, wrist]
        side = s * x
        world[:, shoulder] = rigging.turn(upper, hinge, side, -s * y)
        world[:, elbow] = rigging.turn(fore, hinge, side, -s * y)
        world[:, wrist] = world[:, hand] = rigging.shortest_turn(
            np.einsum("sab,sb->sa", world[:, elbow], palm), side) @ world[:, elbow]  # fmt: skip
        world[:, hip] = rigging.shortest_turn(
            joints[:, knee] - joints[:, hip], np.array([0.06 * s, -1, 0])
        )
        world[:, knee] = rigging.shortest_turn(
            joints[:, ankle] - joints[:, knee], np.array([0.03 * s, -1, -0.03])
        )
    return world


def flat_hand(joints: Array, tips: Array) -> Array:
    """World rotations (S x 16 x 3 x 3) that lay Anny's right hand flat: fingers to -x, palm down.

    Args: joints S x 16 x 3 and tips S x 5 x 3 (thumb, index, middle, ring, little), m.
    """
    x, _, z = np.eye(3)
    palm = joints[:, 4] - joints[:, 0]
    across = joints[:, 1] - joints[:, 7]  # from the little finger's knuckle to the index's
    wrist = rigging.turn(palm, across, -x, z)
    world = np.repeat(wrist[:, None], 16, axis=1)
    for first, tip in ((1, 1), (4, 2), (7, 4), (10, 3)):
        chain = np.concatenate([joints[:, first : first + 3], tips[:, tip, None]], axis=1)
        bones = np.einsum("sab,skb->ska", wrist, np.diff(chain, axis=1))
        straight = bones[:, 0] * [1, 0, 1]
        for k in range(3):
            world[:, first + k] = rigging.shortest_turn(bones[:, k], straight) @ wrist
    return world


def finger_end(v: Array, joints: Array, W: Array, j: int) -> int:
    """The vertex farthest along the last phalanx, joint j, of the mesh v (V x 3)."""
    along = rigging.unit(joints[j] - joints[j - 1])
    reach = np.where(W[:, j] > 0.5, (v - joints[j]) @ along, -np.inf)
    return int(reach.argmax())


def hand_synergies(seed: int, count: int = 2000) -> Array:
    """Orthonormal pose components (45 x 45), principal first, of random curls and spreads."""
    rng = np.random.default_rng(seed)
    poses = rng.normal(0, 0.05, (count, 15, 3))
    curl = rng.normal(0, 0.4, (count, 1)) + rng.normal(0, 0.4, (count, 5))
    spread = rng.normal(0, 0.12, (count, 1)) * [1, 0, -1, -0.5, 1]
    poses[:, :, 2] += np.repeat(curl, 3, axis=1)
    poses[:, ::3, 1] += spread
    _, components = np.linalg.eigh(np.cov(poses.reshape(count, 45).T))
    return components.T[::-1]


def _posed(vertices: Array, joints: Array, W: Array, parents: list[int], spread: float,
           rng: np.random.Generator) -> tuple[Array, Array]:  # fmt: skip
    """The rest meshes (S x V x 3) and joints in random poses, `spread` rad a joint and axis."""
    angles = rng.normal(0, spread, (*joints.shape[:2], 3))
    local = Rotation.from_rotvec(angles.reshape(-1, 3)).as_matrix().reshape(*joints.shape, 3)
    world = local.copy()
    for j, parent in enumerate(parents):
        if parent >= 0:
            world[:, j] = world[:, parent] @ local[:, j]
    placed = rigging.place_joints(joints, world, parents)
    return rigging.skin(vertices, joints, placed, world, W), placed


def schema(vertices: Array, joints: Array, faces: Array, W: Array, parents: list[int],
           near: int) -> dict[str, Array]:  # fmt: skip
    """SMPL's file entries from people in the rest pose (S x V x 3, S x J x 3, m).

    Two regressors are fitted on random shapes in rest and in random poses. `J_regressor`, which
    places the joints of a shape, is fitted for accuracy; `joint_regressor`, which reads joints
    off meshes that a network predicted, for calm: it takes each vertex to be 6 mm off.
    """
    vertices, joints = vertices - joints[:, :1], joints - joints[:, :1]
    template, dirs, J_template, J_dirs = rigging.shape_components(vertices, joints, 10)
    rng = np.random.default_rng(SEED)
    betas = rng.normal(size=(150, 10))
    rest = template + np.einsum("vcb,sb->svc", dirs, betas)
    rest_joints = J_template + np.einsum("jcb,sb->sjc", J_dirs, betas)
    posed, posed_joints = _posed(rest, rest_joints, W, parents, 0.35, rng)
    meshes = np.concatenate([3 * [rest], [posed]]).reshape(-1, *template.shape)
    targets = np.concatenate([3 * [rest_joints], [posed_joints]]).reshape(-1, *J_template.shape)
    ids = rigging.near_joints(template, W, parents, near)
    accurate = rigging.fit_regressor(meshes, targets, ids, noise_m=0.0008)
    calm = rigging.fit_regressor(meshes, targets, ids, noise_m=0.006)
    J = len(parents)
    return {
        "v_template": template.astype(np.float32),
        "shapedirs": dirs.astype(np.float32),
        "posedirs": np.zeros((*template.shape, 9 * (J - 1)), np.float32),
        "weights": W.astype(np.float32),
        "J_regressor": accurate.astype(np.float32),
        "joint_regressor": calm.astype(np.float32),
        "kintree_table": np.stack([np.array(parents), np.arange(J)]).astype(np.int64),
        "f": faces.astype(np.int64),
    }


def bake_open_body(path: str | Path) -> None:
    """Bake Anny into SMPL's schema: 6,890 vertices, 13,776 faces, 24 joints, 10 betas, parts."""
    model = anny_source.load_anny()
    people, _ = anny_source.sample_people(SHAPES, SEED)
    vertices, heads = anny_source.rest_states(model, people, {})
    joints = anny_source.merge_joints(model, heads, BODY_BONES)
    faces, B = anny_source.toeless_surface(model)
    vertices = rigging.apply(B, vertices)
    W = B @ anny_source.merge_weights(model, BODY_BONES, BODY_ALSO)
    mean = vertices.mean(0)
    eyes = heads.mean(0)[[model.bone_labels.index(f"eye.{side}") for side in "LR"]]
    parts = clothing.label_parts(mean, joints.mean(0), W, eyes)
    S, pad = cloth.clothe(mean, faces, parts)
    (level,) = decimate(S @ mean + pad, faces, (6890,))
    W, keep = (S @ W)[level.ids], S[level.ids]
    vertices = rigging.apply(keep, vertices) + pad[level.ids]
    world = t_pose(joints)
    placed = rigging.place_joints(joints, world, BODY_PARENTS)
    vertices = rigging.unskin(vertices, placed, joints, np.swapaxes(world, -1, -2), W)
    entries = schema(vertices, placed, level.faces, W, BODY_PARENTS, near=500)
    with new_file(path) as part, part.open("wb") as file:
        np.savez_compressed(file, **entries, parts=parts[level.ids])


def bake_open_hand(path: str | Path) -> None:
    """Bake Anny's right hand into MANO's schema: 778 vertices, 1,538 faces, 16 joints, 5 tips."""
    model = anny_source.load_anny()
    vertices, heads = anny_source.rest_states(model, *anny_source.sample_people(SHAPES, SEED + 1))
    joints = anny_source.merge_joints(model, heads, HAND_BONES)
    faces = anny_source.right_hand_faces(model, rings=2)
    used, faces = np.unique(faces, return_inverse=True)
    faces, vertices = faces.reshape(-1, 3), vertices[:, used]
    W = anny_source.merge_weights(model, HAND_BONES, {})[used]
    (level,) = decimate(vertices.mean(0), faces, (778,), rim=16)
    vertices, W = vertices[:, level.ids], W[level.ids]
    tips = np.array([finger_end(vertices.mean(0), joints.mean(0), W, j) for j in LAST_PHALANX])
    world = flat_hand(joints, vertices[:, tips])
    placed = rigging.place_joints(joints, world, HAND_PARENTS)
    vertices = rigging.unskin(vertices, placed, joints, np.swapaxes(world, -1, -2), W)
    entries = schema(vertices, placed, level.faces, W, HAND_PARENTS, near=150)
    entries |= {
        "tips": tips.astype(np.int64),
        "hands_components": hand_synergies(SEED).astype(np.float32),
        "hands_mean": np.zeros(45, np.float32),
        "parts": np.zeros(len(level.ids), np.uint8),
    }
    with new_file(path) as part, part.open("wb") as file:
        np.savez_compressed(file, **entries)
