"""The closed-form linear maps against least squares and exact recovery."""

import numpy as np
import pytest
import torch

from hmdiff import linear


@pytest.fixture
def meshes():
    rng = np.random.default_rng(0)
    basis = rng.normal(size=(5, 40, 3))
    return np.einsum("nb,bvc->nvc", rng.normal(size=(300, 5)), basis).astype(np.float32)


def test_ridge_is_least_squares_on_augmented_rows():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(30, 4)), rng.normal(size=(30, 2))
    penalty = 3.0
    rows = np.vstack([x, np.sqrt(penalty) * np.eye(4)])
    oracle = np.linalg.lstsq(rows, np.vstack([y, np.zeros((4, 2))]), rcond=None)[0].T
    np.testing.assert_allclose(linear.ridge(x, y, penalty), oracle, rtol=1e-5)


def test_the_upsampler_maps_back_coordinate_by_coordinate(meshes):
    # 40 vertices that move in 15 dimensions are known from 20 of them, up to the penalty.
    ids = [np.arange(0, 40, 2)]
    upsampler = linear.fit_upsampler(meshes, [ids[0]])
    full = upsampler(torch.from_numpy(meshes[:, ids[0]])).numpy()
    assert np.abs(full - meshes).mean() < 0.02 * np.abs(meshes).mean()
    one = upsampler(torch.from_numpy(meshes[:2, ids[0]]))
    torch.testing.assert_close(one, torch.from_numpy(full[:2]), rtol=1e-4, atol=1e-4)


def test_the_lift_recovers_an_affine_map():
    rng = np.random.default_rng(0)
    u = rng.normal(size=(500, 6, 3)).astype(np.float32)
    A, b = rng.normal(size=(30, 18)), rng.normal(size=30)
    h_0 = (u.reshape(500, -1) @ A.T + b).reshape(500, 10, 3)
    lift = linear.fit_lift(u, h_0)
    out = lift(torch.from_numpy(u).flatten(1)).numpy().reshape(500, 10, 3)
    assert np.abs(out - h_0).max() < 0.1


def test_saved_maps_come_back(meshes, tmp_path):
    upsampler = linear.fit_upsampler(meshes, [np.arange(0, 40, 8), np.arange(0, 40, 2)])
    lift = linear.fit_lift(meshes[:, :4], meshes[:, :5])
    linear.save(tmp_path / "linear.safetensors", upsampler, lift)
    again, lift_again = linear.load(tmp_path / "linear.safetensors")
    h = torch.randn(2, 5, 3)
    torch.testing.assert_close(again(h), upsampler(h))
    torch.testing.assert_close(lift_again.weight, lift.weight)
