"""The open body's clothes and hair as geometry.

Cloth is part of the surface: below it the body's detail is smoothed away and padded, so that a
render shows a dressed person from every side.
"""

import trimesh
from scipy import sparse

from .. import rigging
from ..clothing import PARTS
from ..rigging import Array

# Part: rounds of smoothing, padding in m.
_CLOTH = {
    "shirt": (14, 0.007),
    "trousers": (14, 0.008),
    "shoes": (10, 0.007),
    "forearm": (4, 0.003),
    "shin": (8, 0.006),
    "hair": (0, 0.010),
}


def clothe(v: Array, faces: Array, part: Array) -> tuple[sparse.csr_matrix, Array]:
    """The cloth's geometry: S (V x V, sparse) and pad (V x 3, m); S @ body + pad is dressed.

    Both are fixed, so that every body wears the same cloth, cut to its size.
    """
    worn = {name: (part == PARTS.index(name)).astype(float) for name in _CLOTH}
    S = sparse.eye(len(v), format="csr")
    for rounds in sorted({rounds for rounds, _ in _CLOTH.values()}):
        mask = sum(worn[name] for name, (most, _) in _CLOTH.items() if most >= rounds > 0)
        done = max((r for r, _ in _CLOTH.values() if r < rounds), default=0)
        if rounds:
            S = rigging.smoother(faces, mask, rounds - done) @ S
    pad = sum(worn[name] * depth for name, (_, depth) in _CLOTH.items())
    mean = rigging.neighbour_mean(faces, len(v))
    for _ in range(2):
        pad = 0.5 * (pad + mean @ pad)
    normals = trimesh.Trimesh(S @ v, faces, process=False).vertex_normals
    return S, pad[:, None] * normals
