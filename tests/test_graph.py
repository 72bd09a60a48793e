"""The coarse mesh as a graph, against brute force."""

import numpy as np
import pytest
import torch

from hmdiff.graph import adjacency, harmonics, laplacian


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


def test_harmonics_of_a_ring_are_its_waves():
    """On a ring of V vertices: pairs of sines and cosines, of once, twice, ... around."""
    V, count = 30, 6
    ring = torch.stack([torch.arange(V), (torch.arange(V) + 1) % V], dim=1)
    found = harmonics(adjacency(ring, V), count).double()
    turn = torch.arange(V).double() * (2 * np.pi / V)
    for pair in range(count // 2):
        wave = torch.stack([(turn * (pair + 1)).cos(), (turn * (pair + 1)).sin()], 1) * 2**0.5
        own = found[:, 2 * pair : 2 * pair + 2]
        torch.testing.assert_close(own @ own.mT, wave @ wave.mT, atol=1e-5, rtol=0)  # any phase


def test_harmonics_are_smooth_of_one_size_and_padded(hand_coarse):
    V = len(hand_coarse.ids)
    near = adjacency(hand_coarse.edges, V)
    found = harmonics(near, V + 5)
    assert found.shape == (V, V + 5) and not found[:, V - 1 :].any()
    torch.testing.assert_close(found[:, : V - 1].square().mean(0), torch.ones(V - 1))
    torch.testing.assert_close(found[:, :9], harmonics(near, 9))
    a, b = hand_coarse.edges.unbind(1)
    across = (found[a] - found[b]).square().mean(0)[: V - 1]
    random = torch.randn(V, 64, generator=torch.Generator().manual_seed(0))
    assert across[:5].max() < 0.2 < 1.5 < (random[a] - random[b]).square().mean()
    largest = found[:, : V - 1].gather(0, found[:, : V - 1].abs().argmax(0, keepdim=True))
    assert (largest > 0).all()
