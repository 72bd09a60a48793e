"""The coarse mesh as a graph: which vertices are neighbours, and what follows from that alone."""

import torch
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
