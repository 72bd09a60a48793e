"""METRO's, SPIN's and 3DPW's protocols are what their own evaluation code does."""

import numpy as np
import pytest
import torch

from hmdiff.metrics import BODY14, PROTOCOLS
from hmdiff.protocols import PUBLISHED, evaluate_as, with_mid_hip

V = 60


@pytest.fixture
def meshes() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Two sets of meshes (mm) and a 17-row regressor."""
    rng = np.random.default_rng(3)
    rows = rng.random((17, V))
    pred, gt = (torch.from_numpy(300 * rng.standard_normal((4, V, 3))) for _ in range(2))
    return pred, gt, torch.from_numpy(rows / rows.sum(axis=1, keepdims=True))


# The 14 joints in SPIN's constants.py: H36M_TO_J14, and METRO's H36M_J17_TO_J14.
SPIN_J14 = [6, 5, 4, 1, 2, 3, 16, 15, 14, 11, 12, 13, 8, 10]
METRO_J14 = [3, 2, 1, 4, 5, 6, 16, 15, 14, 11, 12, 13, 8, 10]


def test_spin_roots_joints_at_the_regressed_pelvis(meshes):
    pred, gt, J = meshes
    p, g = ((J @ m) for m in (pred, gt))
    p, g = p[:, SPIN_J14] - p[:, :1], g[:, SPIN_J14] - g[:, :1]
    expected = ((p - g) ** 2).sum(-1).sqrt().mean(-1)
    torch.testing.assert_close(evaluate_as("SPIN", pred, gt, J)["MPJPE"], expected)


def test_metro_roots_joints_at_the_hips_and_vertices_at_the_pelvis(meshes):
    pred, gt, J = meshes
    p, g = ((J @ m)[:, METRO_J14] for m in (pred, gt))
    p, g = (x - (x[:, 2:3] + x[:, 3:4]) / 2 for x in (p, g))
    result = evaluate_as("METRO", pred, gt, J)
    torch.testing.assert_close(result["MPJPE"], ((p - g) ** 2).sum(-1).sqrt().mean(-1))
    a, b = (m - (J @ m)[:, :1] for m in (pred, gt))
    torch.testing.assert_close(result["MPVE"], ((a - b) ** 2).sum(-1).sqrt().mean(-1))


def test_measured_joints_are_the_true_ones_and_rooted_as_the_family_has_it(meshes):
    pred, gt, J = meshes
    measured = 300 * torch.randn(4, 17, 3, dtype=torch.float64)
    p, g = (J @ pred)[:, METRO_J14], measured[:, METRO_J14]
    p, g = (x - (x[:, 2:3] + x[:, 3:4]) / 2 for x in (p, g))
    metro = evaluate_as("METRO", pred, gt, J, measured)
    torch.testing.assert_close(metro["MPJPE"], ((p - g) ** 2).sum(-1).sqrt().mean(-1))
    torch.testing.assert_close(metro["MPVE"], evaluate_as("METRO", pred, gt, J)["MPVE"])
    p, g = ((x - x[:, :1])[:, SPIN_J14] for x in (J @ pred, measured))
    spin = evaluate_as("SPIN", pred, gt, J, measured)
    torch.testing.assert_close(spin["MPJPE"], ((p - g) ** 2).sum(-1).sqrt().mean(-1))


def test_families_differ_in_mpjpe_and_agree_after_alignment(meshes):
    pred, gt, J = meshes
    metro, spin = evaluate_as("METRO", pred, gt, J), evaluate_as("SPIN", pred, gt, J)
    assert (metro["MPJPE"] - spin["MPJPE"]).abs().min() > 0.1
    torch.testing.assert_close(metro["PA_MPJPE"], spin["PA_MPJPE"])
    torch.testing.assert_close(metro["MPVE"], spin["MPVE"])


def test_3dpws_own_evaluation_takes_24_joints_at_the_first(meshes):
    pred, gt, _ = meshes
    J = torch.eye(24, V, dtype=torch.float64)
    p, g = (m[:, :24] - m[:, :1] for m in (pred, gt))
    expected = ((p - g) ** 2).sum(-1).sqrt().mean(-1)
    torch.testing.assert_close(evaluate_as("3DPW", pred, gt, J)["MPJPE"], expected)


def test_the_studys_own_protocol_is_none_of_them():
    assert BODY14 not in [p.joints for p in PUBLISHED.values()]
    assert set(PROTOCOLS) == {"body", "hand"}
    assert all("17-joint" in PUBLISHED[n].joints.describe() for n in ("METRO", "SPIN"))


def test_mistakes_are_told_in_one_line(meshes):
    pred, gt, J = meshes
    with pytest.raises(ValueError, match="one of \\('METRO', 'SPIN', '3DPW'\\)"):
        evaluate_as("HMR", pred, gt, J)
    with pytest.raises(ValueError, match="regressor of 24 rows"):
        with_mid_hip(torch.zeros(24, V))
