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
from torch import Tensor

from .files import new_file
from .safe_pickle import load_npz


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


def sparse_tensor(index: Tensor, values: Tensor, size: tuple[int, ...]) -> Tensor:
    """A matrix of `size` with values (n,) at index (2, n); ValueError where one lies outside."""
    return torch.sparse_coo_tensor(index, values, size, check_invariants=True).coalesce()
