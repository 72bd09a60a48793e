"""The coarse meshes that the field shares: mesh_downsampling.npz and mano_downsampling.npz.

The first is GraphCMR's, made by COMA's decimation, and is the same file in METRO, Mesh Graphormer
and FastMETRO: 6890 -> 1723 -> 431 vertices. The second is Mesh Graphormer's: 778 -> 195 -> 49 -> 13
-> 4, of which the paper's hand takes the first step. Each holds lists, a step an entry: `D` picks
the coarser level's vertices, `U` interpolates back; a level an entry: `F` has the faces. What else
there is (`A`, and `M`, which needs a library of its own) is not read. Without such a file,
`coarsening.build` decimates any mesh to the same sizes.

Unlike our own, these U have rows that do not sum to 1 (0.83 to 1.05 on the body): U @ h moves less
or more than h does. `upsample` is the way to use any mesh's U: it works about the root.
"""

from pathlib import Path

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from .body import BodyModel
from .coarse import CoarseMesh, sparse_tensor
from .coarsening import LEVELS, edges_of, fit_f, random_meshes
from .safe_pickle import load_npz

TOLERANCE = 1e-6  # of D @ U = I
MISFIT = 0.1  # how far the upsampled template may lie from the true one, by the latter's extent


def load(path: str | Path, model: BodyModel, samples: int = 1500, seed: int = 0) -> CoarseMesh:
    """The coarse mesh of a body or hand out of one of these files.

    f is fitted as in `coarsening.build`. The hand's file has no level between 778 and 195, so the
    middle level is the full mesh.

    Raises:
        FileNotFoundError, ValueError: one line that names the file, the fault and the remedy.
    """
    path = Path(path)
    entries = load_npz(path, ("D", "U", "F"))
    template = model.layer.v_template.double()
    sizes = [len(template), *LEVELS[model.subject]]
    if model.subject == "hand":
        sizes = [sizes[0], sizes[2]]
    steps = len(sizes) - 1
    for key, count in (("D", steps), ("U", steps), ("F", steps + 1)):
        value = entries.get(key)
        if not isinstance(value, np.ndarray) or value.ndim == 0 or len(value) < count:
            raise _broken(path, f"{key} is not a list of {count} or more")
    D, U = ([_matrix(path, f"{key}[{i}]", entries[key][i]) for i in range(steps)] for key in "DU")
    ids = [_picked(path, i, D[i], U[i], sizes[i : i + 2]) for i in range(steps)]
    faces = [_faces(path, i, entries["F"][i], sizes[i]) for i in range(steps + 1)]
    if steps == 1:
        whole = sparse.eye(sizes[0], format="csc")
        D, U = [whole, *D], [whole, *U]
        ids = [np.arange(sizes[0]), *ids]
    last = torch.from_numpy(ids[0][ids[1]])
    vertices, joints = random_meshes(model, samples, torch.Generator().manual_seed(seed))
    mesh = CoarseMesh(
        ids=last,
        mid_ids=torch.from_numpy(ids[0]),
        D1=_tensor(D[0]),
        D2=_tensor(D[1]),
        U1=_tensor(U[0]),
        U2=_tensor(U[1]),
        faces=torch.from_numpy(faces[-1]),
        mid_faces=torch.from_numpy(faces[-2]),
        edges=torch.from_numpy(edges_of(faces[-1])),
        f=fit_f(vertices[:, last], joints),
    )
    gap = (upsample(mesh, template[last].float()) - template).norm(dim=-1).mean()
    if gap > MISFIT * (template.amax(0) - template.amin(0)).max():
        raise _broken(path, f"its template lies {100 * gap:.0f} cm off this {model.subject}'s")
    return mesh


def upsample(mesh: CoarseMesh, h: Tensor) -> Tensor:
    """Coarse vertices (... x V x 3) to full ones (... x V_full x 3), same units, about the root.

    The root is joint 0 as f reads it, which moves with the mesh; so the result does, whatever the
    rows of U sum to.
    """
    root = mesh.f[:1] @ h
    columns = (h - root).movedim(-2, 0)  # V x ... x 3
    full = mesh.U1 @ (mesh.U2 @ columns.flatten(1))
    return full.unflatten(1, columns.shape[1:]).movedim(0, -2) + root


def _broken(path: Path, fault: str) -> ValueError:
    return ValueError(
        f"{path}: {fault}; get it from GraphCMR (body) or Mesh Graphormer (hand), "
        "or decimate this mesh by coarsening.build"
    )


def _matrix(path: Path, name: str, value: object) -> sparse.csc_matrix:
    if not sparse.issparse(value) or not np.isfinite(value.data).all():
        raise _broken(path, f"{name} is not a sparse matrix of finite numbers")
    return value.tocsc()


def _picked(
    path: Path, i: int, D: sparse.csc_matrix, U: sparse.csc_matrix, sizes: list[int]
) -> np.ndarray:
    """The finer level's vertices (coarse,) that D[i] picks; D is one-hot and undone by U."""
    fine, coarse = sizes
    if D.shape != (coarse, fine) or U.shape != (fine, coarse):
        fault = f"D[{i}] is {D.shape}, U[{i}] {U.shape}, not {coarse} x {fine} and its transpose"
        raise _broken(path, fault)
    D.eliminate_zeros()
    rows, ids = D.nonzero()
    order = np.argsort(rows)
    one_hot = np.array_equal(rows[order], np.arange(coarse)) and (D.data == 1).all()
    if not one_hot or len(np.unique(ids)) < coarse:
        raise _broken(path, f"D[{i}] does not pick one vertex a row, each once")
    gap = abs(D @ U - sparse.eye(coarse)).max()
    if gap > TOLERANCE:
        raise _broken(path, f"D[{i}] @ U[{i}] is {gap:.2g} off the identity")
    return ids[order].astype(np.int64)


def _faces(path: Path, i: int, value: object, V: int) -> np.ndarray:
    """F[i], (F, 3) ids of a level's V vertices, all of them used."""
    numbers = isinstance(value, np.ndarray) and value.dtype.kind in "iuf"
    if not numbers or value.ndim != 2 or value.shape[1] != 3:
        raise _broken(path, f"F[{i}] is not a list of triangles")
    if not np.array_equal(np.unique(value), np.arange(V)):
        raise _broken(path, f"F[{i}] has other corners than the {V} vertices of its level")
    return value.astype(np.int64)


def _tensor(matrix: sparse.csc_matrix) -> Tensor:
    entries = matrix.tocoo()
    index = torch.from_numpy(np.stack([entries.row, entries.col]).astype(np.int64))
    values = torch.from_numpy(entries.data.astype(np.float32))
    return sparse_tensor(index, values, matrix.shape)
