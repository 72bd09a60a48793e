"""The coarse mesh as a graph: which vertices are neighbours, and what follows from that alone."""

import torch
import torch.nn.functional as F
from torch import Tensor


def adjacency(edges: Tensor, V: int) -> Tensor:
    """Which vertices are neighbours, each its own among them: edges (E, 2) -> (V, V) bool."""
    near = torch.eye(V, dtype=torch.bool)
    near[edges[:, 0], edges[:, 1]] = near[edges[:, 1], edges[:, 0]] = True
    return near


def laplacian(near: Tensor) -> Tensor:
    """The graph's rescaled Laplacian, (V, V): L - I = -D^-1/2 A D^-1/2, its spectrum in [-1, 1]."""
    A = near.float().fill_diagonal_(0.0)
    degree = A.sum(1).clamp(min=1).rsqrt()
    return -degree[:, None] * A * degree


def harmonics(near: Tensor, count: int) -> Tensor:
    """The smoothest functions on the mesh, slowest first: (V, count), each of mean square 1.

    Eigenvectors of the normalised Laplacian but for the first, which tells vertices apart by their
    degree alone; of a mesh with fewer, the columns that lack are zero. A column's entry of the
    largest size is positive.
    """
    V = len(near)
    _, vectors = torch.linalg.eigh(laplacian(near).double())
    modes = vectors[:, 1 : count + 1] * V**0.5
    largest = modes.gather(0, modes.abs().argmax(0, keepdim=True))
    return F.pad(modes * largest.sign(), (0, count - modes.shape[1])).float()
