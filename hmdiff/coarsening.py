"""How a coarse mesh is made of a body or hand: decimation, the way back up, and f.

Quadric decimation picks the vertices of the two coarser levels (`decimation`); each finer vertex
then hangs on the nearest coarse triangle, and f is fitted on random bodies.
"""

import numpy as np
import torch
import trimesh
from torch import Tensor

from .body import BodyModel
from .coarse import CoarseMesh, sparse_tensor
from .decimation import decimate

# Vertices of the middle and the coarse level.
LEVELS = {"body": (1723, 431), "hand": (389, 195)}

# How far joints turn in the meshes that f is fitted on: rad a joint and axis, standard deviation.
POSE_SPREAD = {
    "body": (2.0, 0.6, 0.6, 0.15, 0.6, 0.6, 0.15, 0.25, 0.25, 0.15, 0.15, 0.15, 0.25, 0.15, 0.15,
             0.25, 0.6, 0.6, 0.6, 0.6, 0.4, 0.4, 0.15, 0.15),
    "hand": (2.0, *15 * (0.4,)),
}  # fmt: skip


def build(
    model: BodyModel, mid: int, coarse: int, samples: int = 1500, seed: int = 0
) -> CoarseMesh:
    """Decimate the model's template to `mid` and `coarse` vertices and fit f.

    f is fitted on `samples` random shapes in random poses. Takes seconds; deterministic.

    Raises:
        ValueError: where the mesh cannot be decimated that far.
    """
    v, faces = model.layer.v_template.double().numpy(), model.faces.numpy()
    middle, last = decimate(v, faces, (mid, coarse))
    within = np.searchsorted(middle.ids, last.ids)  # the coarse vertices in the middle level
    v_mid, v_last = v[middle.ids], v[last.ids]
    ids = torch.from_numpy(last.ids)
    vertices, joints = random_meshes(model, samples, torch.Generator().manual_seed(seed))
    return CoarseMesh(
        ids=ids,
        mid_ids=torch.from_numpy(middle.ids),
        D1=_one_hot(middle.ids, len(v)),
        D2=_one_hot(within, mid),
        U1=upsampling(v, v_mid, middle.faces, middle.ids, middle.owner),
        U2=upsampling(v_mid, v_last, last.faces, within, last.owner[middle.ids]),
        faces=torch.from_numpy(last.faces),
        mid_faces=torch.from_numpy(middle.faces),
        edges=torch.from_numpy(edges_of(last.faces)),
        f=fit_f(vertices[:, ids], joints),
    )


def upsampling(
    fine: np.ndarray, coarse: np.ndarray, faces: np.ndarray, ids: np.ndarray, owner: np.ndarray
) -> Tensor:
    """U (V_fine x V_coarse, sparse): barycentric weights on the nearest coarse triangle nearby.

    Nearby means: within two rings of the coarse vertex that the fine one collapsed into, so that
    a finger never hangs on its neighbour. Kept vertices (`ids`) get weight 1 on themselves.
    """
    touches = np.zeros((len(coarse), len(faces)), bool)
    touches[faces.ravel(), np.repeat(np.arange(len(faces)), 3)] = True
    ring = touches | ((touches.astype(np.float32) @ touches.T.astype(np.float32) > 0) @ touches)
    vertex, triangle = np.nonzero(ring[owner])
    corners = coarse[faces[triangle]]
    points = trimesh.triangles.closest_point(corners, fine[vertex])
    away = np.linalg.norm(points - fine[vertex], axis=1)
    order = np.lexsort((away, vertex))
    best = order[np.searchsorted(vertex[order], np.arange(len(fine)))]
    weights = trimesh.triangles.points_to_barycentric(corners[best], points[best]).clip(0)
    weights /= weights.sum(1, keepdims=True)
    columns = faces[triangle[best]]
    columns[ids], weights[ids] = np.arange(len(ids))[:, None], [1.0, 0.0, 0.0]
    index = np.stack([np.repeat(np.arange(len(fine)), 3), columns.ravel()])
    keep = weights.ravel() > 0
    return sparse_tensor(
        torch.from_numpy(index[:, keep]),
        torch.from_numpy(weights.ravel()[keep]).float(),
        (len(fine), len(coarse)),
    )


def random_meshes(
    model: BodyModel, count: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Vertices (count x V_full x 3) and joints (count x J x 3), m, of random shapes and poses.

    Axis-angles are normal, as wide as each joint can turn, and the root turns any way.
    """
    spread = torch.tensor(POSE_SPREAD[model.subject])
    betas = torch.randn(count, 10, generator=generator)
    pose = torch.randn(count, len(spread), 3, generator=generator) * spread[:, None]
    parts = [
        model.pose(b, p.flatten(1), torch.zeros(len(b), 3))
        for b, p in zip(betas.split(100), pose.split(100), strict=True)
    ]
    return torch.cat([v for v, _ in parts]), torch.cat([j for _, j in parts])


def fit_f(h: Tensor, joints: Tensor, ridge: float = 1e-6) -> Tensor:
    """f (J x V): least squares with a ridge, its rows constrained to sum to 1 (Lagrange).

    Minimises the mean over meshes of |f h - joints|^2 + ridge |f|^2 (m^2).

    Args: h (n x V x 3), joints (n x J x 3), both in m.
    """
    root = joints[:, :1]
    A = (h - root).transpose(1, 2).reshape(-1, h.shape[1]).double()
    b = (joints - root).transpose(1, 2).reshape(-1, joints.shape[1]).double()
    V = A.shape[1]
    system = torch.ones(V + 1, V + 1, dtype=torch.float64)
    system[:V, :V] = A.T @ A / len(h) + ridge * torch.eye(V, dtype=torch.float64)
    system[V, V] = 0.0
    right = torch.cat([A.T @ b / len(h), torch.ones(1, b.shape[1], dtype=torch.float64)])
    return torch.linalg.solve(system, right)[:V].T.float().contiguous()


def edges_of(faces: np.ndarray) -> np.ndarray:
    """The undirected edges (E, 2) of faces (F, 3), each once."""
    pairs = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    return np.unique(np.sort(pairs, axis=1), axis=0)


def _one_hot(ids: np.ndarray, width: int) -> Tensor:
    index = torch.from_numpy(np.stack([np.arange(len(ids)), ids]))
    return sparse_tensor(index, torch.ones(len(ids)), (len(ids), width))
