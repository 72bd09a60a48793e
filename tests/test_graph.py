"""The coarse mesh as a graph, against brute force."""

import numpy as np
import pytest
import torch

from hmdiff.graph import adjacency, laplacian


def test_neighbours_and_laplacian_are_those_of_the_edges(hand_coarse):
    V = len(hand_coarse.ids)
    near = adjacency(hand_coarse.edges, V)
    pairs = {frozenset(edge) for edge in hand_coarse.edges.tolist()}
    brute = [[a == b or frozenset((a, b)) in pairs for b in range(V)] for a in range(V)]
    assert near.tolist() == brute
    graph = laplacian(near)
    for a, b in map(tuple, list(pairs)[:20]):
        expected = -1 / np.sqrt((sum(brute[a]) - 1) * (sum(brute[b]) - 1))
        assert graph[a, b].item() == pytest.approx(expected)
    assert torch.linalg.eigvalsh(graph).abs().max() < 1 + 1e-5
