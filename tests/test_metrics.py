"""Metrics against loops over points and scipy, and against transformations with known errors."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import orthogonal_procrustes
from scipy.optimize import minimize
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from hmdiff import metrics
from hmdiff.metrics import BODY14, H36M14, HAND21, PROTOCOLS, protocol_of


@pytest.fixture
def clouds() -> tuple[torch.Tensor, torch.Tensor]:
    """(pred, gt): 4 x 60 x 3, mm; some tens of mm apart."""
    generator = torch.Generator().manual_seed(3)
    gt = 200 * torch.randn(4, 60, 3, generator=generator).double()
    return gt + 25 * torch.randn(4, 60, 3, generator=generator).double(), gt


def hand(seed: int = 5, images: int = 3, vertices: int = 120) -> tuple[torch.Tensor, ...]:
    """(pred, gt, joint_regressor) of a hand-like size, mm."""
    generator = torch.Generator().manual_seed(seed)
    gt = 40 * torch.randn(images, vertices, 3, generator=generator).double()
    pred = gt + 6 * torch.randn(gt.shape, generator=generator).double()
    regressor = torch.rand(21, vertices, generator=generator).double()
    return pred, gt, regressor / regressor.sum(dim=1, keepdim=True)


def body(offset_mm: float = 30.0) -> tuple[torch.Tensor, ...]:
    """(pred, gt, joint_regressor) with 24 joints, mm."""
    generator = torch.Generator().manual_seed(9)
    gt = 300 * torch.randn(2, 200, 3, generator=generator).double()
    pred = gt + offset_mm * torch.randn(gt.shape, generator=generator).double()
    regressor = torch.rand(24, 200, generator=generator).double() ** 8
    return pred, gt, regressor / regressor.sum(dim=1, keepdim=True)


def turn(seed: int) -> torch.Tensor:
    return torch.from_numpy(Rotation.random(rng=np.random.default_rng(seed)).as_matrix())


def test_mpjpe_equals_a_loop_over_joints() -> None:
    pred, gt, regressor = body()
    joints_pred, joints_gt = regressor @ pred, regressor @ gt
    for image in range(2):
        total = 0.0
        for joint in BODY14.joints:
            p = joints_pred[image, joint] - joints_pred[image, 0]
            q = joints_gt[image, joint] - joints_gt[image, 0]
            total += float(sum((a - b) ** 2 for a, b in zip(p, q, strict=True))) ** 0.5
        value = metrics.mpjpe(joints_pred, joints_gt, BODY14)[image]
        assert float(value) == pytest.approx(total / 14, rel=1e-12)


def test_mpvpe_equals_a_loop_over_vertices() -> None:
    pred, gt, regressor = body()
    value = metrics.mpvpe(pred, gt, regressor, BODY14)
    for image in range(2):
        root_p = sum(float(w) * v for w, v in zip(regressor[0], pred[image], strict=True))
        root_q = sum(float(w) * v for w, v in zip(regressor[0], gt[image], strict=True))
        errors = [
            np.linalg.norm((p - root_p) - (q - root_q))
            for p, q in zip(pred[image], gt[image], strict=True)
        ]
        assert float(value[image]) == pytest.approx(np.mean(errors), rel=1e-12)


def test_moving_a_whole_mesh_changes_no_error() -> None:
    pred, gt, regressor = hand()
    still = metrics.evaluate_meshes(pred, gt, regressor, HAND21)
    moved = metrics.evaluate_meshes(
        pred + torch.tensor([300.0, -20.0, 900.0]), gt, regressor, HAND21
    )
    for name in metrics.METRICS:
        torch.testing.assert_close(moved[name], still[name], rtol=1e-9, atol=1e-9)


def test_procrustes_undoes_any_similarity(clouds) -> None:
    _, gt = clouds
    pred = 0.37 * gt @ turn(1).T + torch.tensor([5.0, -70.0, 2000.0])
    torch.testing.assert_close(metrics.procrustes(pred, gt), gt, rtol=1e-9, atol=1e-9)


def test_procrustes_is_the_least_squares_optimum(clouds) -> None:
    """A general optimiser over rotation vector, scale and shift finds no better one."""
    pred, gt = (cloud[0].numpy() for cloud in clouds)

    def loss(x: np.ndarray) -> float:
        moved = np.exp(x[6]) * Rotation.from_rotvec(x[:3]).apply(pred) + x[3:6]
        return float(((moved - gt) ** 2).sum())

    start = [minimize(loss, np.r_[v, np.zeros(4)]).fun for v in np.eye(3)]
    aligned = metrics.procrustes(*clouds)[0].numpy()
    assert float(((aligned - gt) ** 2).sum()) == pytest.approx(min(start), rel=1e-5)


def test_procrustes_with_reflections_equals_scipy(clouds) -> None:
    """As FreiHAND's evaluation: unit norms, then scipy's orthogonal_procrustes."""
    pred, gt = clouds
    pred = pred * torch.tensor([1.0, 1.0, -1.0])
    aligned = metrics.procrustes(pred, gt, reflection=True)
    for p, q, ours in zip(pred.numpy(), gt.numpy(), aligned.numpy(), strict=True):
        centred_p, centred_q = p - p.mean(0), q - q.mean(0)
        norm_p, norm_q = np.linalg.norm(centred_p), np.linalg.norm(centred_q)
        R, s = orthogonal_procrustes(centred_q / norm_q, centred_p / norm_p)
        expected = centred_p / norm_p @ R.T * s * norm_q + q.mean(0)
        np.testing.assert_allclose(ours, expected, atol=1e-8)


def test_only_the_hand_protocol_forgives_a_mirror_image() -> None:
    _, gt, _ = hand()
    mirrored = gt * torch.tensor([-1.0, 1.0, 1.0])
    assert float(metrics.pa_mpvpe(mirrored, gt, HAND21).max()) < 1e-9
    assert float(metrics.pa_mpvpe(mirrored, gt, BODY14).min()) > 10


def test_without_reflections_the_alignment_is_a_rotation(clouds) -> None:
    _, gt = clouds
    mirrored = gt * torch.tensor([-1.0, 1.0, 1.0])
    aligned = metrics.procrustes(mirrored, gt)
    x, y = mirrored[0] - mirrored[0].mean(0), aligned[0] - aligned[0].mean(0)
    assert float(torch.det(torch.linalg.lstsq(x, y).solution)) > 0


@pytest.mark.parametrize("value", [0.0, 0.1])
@pytest.mark.parametrize("protocol", [BODY14, HAND21])
def test_a_prediction_without_extent_lands_on_the_mean(clouds, value, protocol) -> None:
    _, gt = clouds
    flat = torch.full_like(gt, value)
    expected = (gt - gt.mean(dim=1, keepdim=True)).norm(dim=-1).mean(dim=1)
    torch.testing.assert_close(metrics.pa_mpvpe(flat, gt, protocol), expected)


def test_zero_prediction_has_the_rooted_size_of_the_truth_as_its_error() -> None:
    _, gt, regressor = hand()
    result = metrics.evaluate_meshes(torch.zeros_like(gt), gt, regressor, HAND21)
    joints = regressor @ gt
    expected = (joints - joints[:, :1]).norm(dim=-1).mean(dim=1)
    torch.testing.assert_close(result["MPJPE"], expected)
    assert float(result["F5"].max()) < 0.05


def test_a_perfect_prediction_is_perfect() -> None:
    _, gt, regressor = hand()
    result = metrics.evaluate_meshes(gt, gt, regressor, HAND21)
    for name in ("MPVE", "MPJPE", "PA_MPVPE", "PA_MPJPE"):
        assert float(result[name].max()) < 1e-9
    assert float(result["F5"].min()) == 1.0
    # "Within 0 mm" holds only up to rounding: the first of 99 intervals may count half.
    assert float(result["AUC"].min()) > 1 - 0.51 / 99


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), scale=st.floats(0.2, 5.0))
def test_aligned_errors_ignore_similarity_and_alignment_never_hurts_squares(seed, scale) -> None:
    pred, gt, _ = hand(seed)
    turned = scale * pred @ turn(seed).T + 77.0
    base = metrics.procrustes(pred, gt)
    torch.testing.assert_close(metrics.procrustes(turned, gt), base, rtol=1e-7, atol=1e-7)
    centred = pred - pred.mean(1, keepdim=True) + gt.mean(1, keepdim=True)
    assert ((base - gt).square().sum((1, 2)) <= (centred - gt).square().sum((1, 2)) + 1e-9).all()


def test_nearest_distances_equal_a_kd_tree_whatever_the_chunk(clouds) -> None:
    pred, gt = clouds
    for chunk in (7, 512):
        to_gt, to_pred = metrics.nearest_distances(pred, gt[:, :41], chunk)
        for i in range(len(pred)):
            p, q = pred[i].numpy(), gt[i, :41].numpy()
            np.testing.assert_allclose(to_gt[i], cKDTree(q).query(p)[0], rtol=1e-12)
            np.testing.assert_allclose(to_pred[i], cKDTree(p).query(q)[0], rtol=1e-12)


def test_f_score_counts_as_a_loop_does() -> None:
    pred, gt, _ = hand()
    values = metrics.f_score(pred, gt, 5, 15)
    for i in range(len(pred)):
        distances = np.linalg.norm(pred[i].numpy()[:, None] - gt[i].numpy()[None], axis=-1)
        for column, limit in enumerate((5, 15)):
            precision = sum(row.min() < limit for row in distances) / len(distances)
            recall = sum(row.min() < limit for row in distances.T) / len(distances.T)
            expected = 2 * precision * recall / (precision + recall)
            assert float(values[i, column]) == pytest.approx(expected, rel=1e-12)


def test_f_score_at_exactly_the_threshold_is_zero() -> None:
    gt = torch.tensor([[[0.0, 0, 0], [100, 0, 0]]])
    pred = gt + torch.tensor([0.0, 5.0, 0.0])
    assert metrics.f_score(pred, gt, 5, 5.001).tolist() == [[0.0, 1.0]]


def test_f_score_of_disjoint_sets_is_zero_and_not_nan() -> None:
    gt = torch.zeros(1, 3, 3)
    assert metrics.f_score(gt + 1000.0, gt, 15).item() == 0.0


def test_auc_averages_to_the_area_per_keypoint_over_images(clouds) -> None:
    pred, gt = clouds
    d = (pred - gt).norm(dim=-1).numpy()
    t = np.linspace(0, 50, 100)
    areas = []
    for keypoint in range(d.shape[1]):
        share = [(d[:, keypoint] <= limit).mean() for limit in t]
        areas.append(np.trapezoid(share, t) / np.trapezoid(np.ones(100), t))
    assert float(metrics.auc(pred, gt).mean()) == pytest.approx(np.mean(areas), rel=1e-12)


def test_auc_of_a_constant_error_is_the_share_of_thresholds_beyond_it() -> None:
    gt = torch.zeros(2, 5, 3)
    at_25 = gt + torch.tensor([25.01, 0.0, 0.0])
    assert float(metrics.auc(at_25, gt)[0]) == pytest.approx(0.5, abs=0.01)
    assert metrics.auc(gt + 60.0, gt).tolist() == [0.0, 0.0]


def test_joints_and_vertices_are_aligned_separately() -> None:
    pred, gt, regressor = hand()
    result = metrics.evaluate_meshes(pred, gt, regressor, HAND21)
    alone = metrics.pa_mpjpe(regressor @ pred, regressor @ gt, HAND21)
    torch.testing.assert_close(result["PA_MPJPE"], alone)
    torch.testing.assert_close(result["PA_MPVPE"], metrics.pa_mpvpe(pred, gt, HAND21))
    through_mesh = metrics.point_error(
        regressor @ metrics.procrustes(pred, gt, True), regressor @ gt
    )
    assert (result["PA_MPJPE"] < through_mesh).all()


def test_an_image_that_diverged_is_nan_and_harms_no_other() -> None:
    pred, gt, regressor = hand()
    expected = metrics.evaluate_meshes(pred, gt, regressor, HAND21)
    broken = pred.clone()
    broken[1, 4, 2] = torch.inf
    result = metrics.evaluate_meshes(broken, gt, regressor, HAND21)
    for name in metrics.METRICS:
        assert torch.isnan(result[name]).tolist() == [False, True, False]
        torch.testing.assert_close(result[name][[0, 2]], expected[name][[0, 2]])


def test_a_pose_has_joint_errors_only() -> None:
    pred, gt, regressor = hand()
    mesh = metrics.evaluate_meshes(pred, gt, regressor, HAND21)
    pose = metrics.evaluate_joints(regressor @ pred, regressor @ gt, HAND21)
    for name in metrics.METRICS:
        if name in ("MPJPE", "PA_MPJPE", "AUC"):
            torch.testing.assert_close(pose[name], mesh[name])
        else:
            assert torch.isnan(pose[name]).all()


def test_single_precision_input_is_measured_in_double() -> None:
    pred, gt, regressor = body()
    far = torch.tensor([0.0, 0.0, 1000.0])
    single = metrics.evaluate_meshes(
        (pred + far).float(), (gt + far).float(), regressor.float(), BODY14
    )
    double = metrics.evaluate_meshes(pred, gt, regressor, BODY14)
    assert single["MPVE"].dtype == torch.float64
    torch.testing.assert_close(single["MPVE"], double["MPVE"], rtol=0, atol=1e-3)
    assert torch.isnan(single["F5"]).all(), "the paper reports no F-score for bodies"


def test_the_protocol_describes_itself() -> None:
    assert "14 joints" in BODY14.describe() and "no reflections" in BODY14.describe()
    assert "21 joints" in HAND21.describe() and "reflections allowed" in HAND21.describe()
    assert set(PROTOCOLS) == {"body", "hand"}


def test_licensed_bodies_are_measured_as_the_field_does_and_nothing_else_changes() -> None:
    assert protocol_of("body", "raw") is H36M14
    assert protocol_of("body", "studio") is BODY14
    assert protocol_of("hand", "raw") is protocol_of("hand", "studio") is HAND21
    assert [p.skeleton for p in (BODY14, HAND21, H36M14)] == [True, True, False]
    assert "14 joints from Human3.6M's 17-joint regressor" in H36M14.describe()


def test_both_body_protocols_take_the_same_joints_of_a_person_in_the_same_order() -> None:
    """Human3.6M lists pelvis, right leg, left leg, spine, neck, nose, head, left arm, right arm."""
    right_leg, left_leg, left_arm, right_arm = (2, 5, 8), (1, 4, 7), (16, 18, 20), (17, 19, 21)
    skeleton = [0, *right_leg, *left_leg, 3, 12, 15, 15, *left_arm, *right_arm]
    pred, gt, regressor = body()
    own = metrics.evaluate_meshes(pred, gt, regressor, BODY14)
    theirs = metrics.evaluate_meshes(pred, gt, regressor[skeleton], H36M14)
    for name in ("MPVE", "MPJPE", "PA_MPJPE", "PA_MPVPE"):
        torch.testing.assert_close(own[name], theirs[name], rtol=0, atol=0)


def test_meshes_of_another_subject_and_a_broken_truth_are_refused() -> None:
    pred, gt, regressor = hand()
    with pytest.raises(ValueError, match="one subject"):
        metrics.evaluate_meshes(pred[:, :-1], gt[:, :-1], regressor, HAND21)
    with pytest.raises(ValueError, match="gt holds NaN"):
        metrics.evaluate_meshes(pred, gt * torch.nan, regressor, HAND21)
