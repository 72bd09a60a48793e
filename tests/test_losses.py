"""The geometric losses against loops and invariances."""

import pytest
import torch

from hmdiff.losses import edge_loss, geometry_loss, joint_loss, normal_loss, vertex_loss
from hmdiff.params import LossWeights

FACES = torch.tensor([[0, 1, 2], [0, 2, 3], [0, 3, 1], [1, 3, 2]])  # a tetrahedron
WEIGHTS = LossWeights(v=1, j=2, n=3, e=4)


@pytest.fixture
def pair():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, 4, 3, generator=generator), torch.randn(2, 4, 3, generator=generator)


def test_a_perfect_mesh_costs_nothing(pair):
    f = torch.full((1, 4), 0.25)
    assert float(geometry_loss(pair[1], pair[1], f, FACES, WEIGHTS)) == pytest.approx(0, abs=1e-5)


def test_normal_and_edge_loss_agree_with_loops(pair):
    h0_hat, h_0 = pair
    normal, edge = [], []
    for b in range(2):
        for face in FACES.tolist():
            p, q = h0_hat[b, face], h_0[b, face]
            n = torch.linalg.cross(q[1] - q[0], q[2] - q[0])
            n = n / n.norm()
            for i, j in ((0, 1), (1, 2), (2, 0)):
                e = p[j] - p[i]
                normal.append(abs(float(e @ n / e.norm())))
                edge.append(abs(float(e.norm() - (q[j] - q[i]).norm())))
    assert float(normal_loss(h0_hat, h_0, FACES)) == pytest.approx(sum(normal) / len(normal), 1e-4)
    assert float(edge_loss(h0_hat, h_0, FACES)) == pytest.approx(sum(edge) / len(edge), 1e-4)


def test_edges_and_normals_do_not_see_a_translation_but_vertices_and_joints_do(pair):
    h0_hat, h_0 = pair
    moved, f = h0_hat + torch.tensor([1.0, -2.0, 3.0]), torch.full((1, 4), 0.25)
    for loss in (normal_loss, edge_loss):
        torch.testing.assert_close(loss(moved, h_0, FACES), loss(h0_hat, h_0, FACES))
    assert float(vertex_loss(h_0 + 1, h_0)) == pytest.approx(1)
    assert float(joint_loss(h_0 + 1, h_0, f)) == pytest.approx(1)
