"""The coarse mesh that diffusion works on (Sec. 4.3), and the linear mesh-to-pose function f.

The mesh h has V = 431 vertices (hand 195), a subset of the full mesh's, reached over a middle
level: 6890 -> 1723 -> 431 and 778 -> 389 -> 195 by quadric decimation. `D1`, `D2` pick the
vertices of the next coarser level, `U2`, `U1` interpolate back: every finer vertex is a convex
combination of one coarse triangle's corners, so D @ U = I and the rows of U sum to 1.
f (Eq. 10, Sec. 4.3) reads the J joints off the coarse mesh, linearly; its rows sum to 1, so that it
commutes with translations.
"""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import trimesh
from torch import Tensor

from .body import BodyModel
from .decimation import decimate
from .files import new_file
from .safe_pickle import load_npz

# Vertices of the middle and the coarse level.
LEVELS = {"body": (1723, 431), "hand": (389, 195)}

# How far joints turn in the meshes that f is fitted on: rad a joint and axis, standard deviation.
POSE_SPREAD = {
    "body": (2.0, 0.6, 0.6, 0.15, 0.6, 0.6, 0.15, 0.25, 0.25, 0.15, 0.15, 0.15, 0.25, 0.15, 0.15,
             0.25, 0.6, 0.6, 0.6, 0.6, 0.4, 0.4, 0.15, 0.15),
    "hand": (2.0, *15 * (0.4,)),
}  # fmt: skip


@dataclass(frozen=True)
class CoarseMesh:
    """Two levels of vertex subsets of one full mesh (V_full -> M -> V).

    Attributes:
        ids: (V,) the coarse vertices in the full mesh; mid_ids: (M,) the middle ones.
        D1: M x V_full, D2: V x M, one-hot, sparse; U1: V_full x M, U2: M x V, sparse.
        faces: (F, 3) ids of coarse vertices; mid_faces: (F_mid, 3) ids of middle ones.
        edges: (E, 2) undirected edges of the coarse mesh, each once.
        f: J x V, joints = f @ h.
    """

    ids: Tensor
    mid_ids: Tensor
    D1: Tensor
    D2: Tensor
    U1: Tensor
    U2: Tensor
    faces: Tensor
    mid_faces: Tensor
    edges: Tensor
    f: Tensor

    def to(self, device: torch.device) -> "CoarseMesh":
        """The same mesh on another device."""
        return CoarseMesh(**{name: getattr(self, name).to(device) for name in _FIELDS})

    def save(self, path: str | Path) -> None:
        """Write an npz, atomically; a sparse matrix becomes its indices, values and size."""
        arrays = {}
        for name in _FIELDS:
            tensor = getattr(self, name)
            if tensor.is_sparse:
                arrays[f"{name}_indices"] = tensor.indices().numpy().astype(np.int32)
                arrays[f"{name}_values"] = tensor.values().numpy()
                arrays[f"{name}_size"] = np.array(tensor.shape)
            else:
                arrays[name] = tensor.numpy()
        with new_file(path) as part, part.open("wb") as file:
            np.savez_compressed(file, **arrays)


_FIELDS = tuple(field.name for field in dataclasses.fields(CoarseMesh))


def load(path: str | Path) -> CoarseMesh:
    """Read a `CoarseMesh` that `save` wrote.

    Raises:
        FileNotFoundError, ValueError: one line that names the file and the remedy.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such coarse mesh; run `dvc repro` to build it")
    try:
        tensors = {key: torch.from_numpy(array) for key, array in load_npz(path).items()}
        for name in _FIELDS:
            if name not in tensors:
                parts = [tensors[f"{name}_{part}"] for part in ("indices", "values", "size")]
                tensors[name] = sparse_tensor(parts[0].long(), parts[1], tuple(parts[2].tolist()))
        return CoarseMesh(**{name: tensors[name] for name in _FIELDS})
    except (ValueError, TypeError, LookupError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{path}: not a coarse mesh ({reason}); delete it, run again") from None


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


def sparse_tensor(index: Tensor, values: Tensor, size: tuple[int, ...]) -> Tensor:
    """A matrix of `size` with values (n,) at index (2, n); ValueError where one lies outside."""
    return torch.sparse_coo_tensor(index, values, size, check_invariants=True).coalesce()
