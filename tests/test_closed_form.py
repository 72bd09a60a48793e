"""Ours+ against closed forms: least squares, the moments of its poses, exact alignment."""

from dataclasses import replace
from unittest import mock

import numpy as np
import pytest
import torch
from test_train import bench, mesh, params, split  # noqa: F401  (fixtures)

from hmdiff import closed_form
from hmdiff.closed_form import PLUS, align, fit, fit_gain, poses, predict_plus, sample_plus
from hmdiff.evaluate import default_knobs


def test_the_gain_is_the_best_linear_map_from_the_gap_to_what_is_missed():
    generator = torch.Generator().manual_seed(0)
    V, J, n = 7, 3, 400
    f = torch.softmax(torch.randn(J, V, generator=generator), dim=1)
    h_0, h0_hat = (torch.randn(n, V, 3, generator=generator) for _ in range(2))
    u = f @ h_0 + 0.3 * torch.randn(n, J, 3, generator=generator)
    gain = fit_gain(h_0, h0_hat, u, f, 1e-9)
    gap, missed = (u - f @ h0_hat).flatten(1), (h_0 - h0_hat).flatten(1)
    best = np.linalg.lstsq(gap.numpy(), missed.numpy(), rcond=None)[0]
    np.testing.assert_allclose(gain.numpy(), best, atol=1e-4)
    aligned = align(h0_hat, u, f, gain)
    assert (aligned - h_0).square().mean() < (h0_hat - h_0).square().mean()


def test_with_exact_poses_the_aligned_mesh_has_them():
    # Meshes of as few dimensions as there are coordinates of joints: U then says everything.
    generator = torch.Generator().manual_seed(1)
    V, J, n = 9, 2, 200
    f = torch.softmax(torch.randn(J, V, generator=generator), dim=1)
    basis = torch.randn(3 * J, 3 * V, generator=generator)
    h_0 = (torch.randn(n, 3 * J, generator=generator) @ basis).unflatten(1, (V, 3))
    prior = torch.zeros_like(h_0)
    gain = fit_gain(h_0, prior, f @ h_0, f)
    torch.testing.assert_close(f @ align(prior, f @ h_0, f, gain), f @ h_0, rtol=0.05, atol=0.15)


@pytest.mark.parametrize("width", [0.0, 0.5, 1.0])
def test_the_poses_of_an_image_are_draws_from_U_about_its_mean(split, width):  # noqa: F811
    n, mean = 400, split.U.mean()[:, None]
    u = poses(split.U, n, width, torch.Generator().manual_seed(0))
    drawn = split.U.sample(n, torch.Generator().manual_seed(0))
    torch.testing.assert_close(u - mean, width * (drawn - mean), rtol=0, atol=1e-6)
    variance = (u - mean).square().mean()
    expected = width**2 * float(split.U.variance().mean())
    assert float(variance) == pytest.approx(expected, rel=0.06)


def test_its_samples_are_the_same_again_and_do_not_depend_on_the_batch(bench, split):  # noqa: F811
    knobs = default_knobs(bench.params)
    gains = fit(bench, split, split, knobs.steps)
    assert len(gains.G) == knobs.steps and all(gain.isfinite().all() for gain in gains.G)
    a, b = (sample_plus(bench, knobs, split, gains, seed=3) for _ in range(2))
    assert torch.equal(a, b)
    assert a.shape == (len(split), knobs.hypotheses, *split.h_0.shape[1:])
    assert not torch.equal(a[:, 0], a[:, 1])


def test_it_is_tuned_over_its_steps_and_evaluated_beside_the_sceptics_version(bench, split):  # noqa: F811
    frame, knobs = closed_form.sweep_plus(bench, split, split)
    assert set(frame["value"]) == set(bench.params.tune.plus_steps)
    means = frame.groupby("value")["MPVE"].mean()
    assert knobs.steps == means[means <= (1 + bench.params.tune.slack) * means.min()].index.min()
    assert set(frame["method"]) == {PLUS}
    lifted = closed_form.evaluate_lift_of_baseline(bench, split, split)
    assert len(lifted) == len(split) and lifted["MPVE"].notna().all()


def test_the_oracle_lifts_the_true_joints(bench, split):  # noqa: F811
    frame = closed_form.evaluate_lift_of_truth(bench, split, split)
    # Fewer images than coordinates of joints: the best linear map of the joints is exact.
    h_0 = split.h_0.mean(0) + torch.zeros_like(split.h_0)
    mean = closed_form.measure(bench, h_0, split)["MPVE"]
    assert frame["MPVE"].mean() < 0.75 * mean.mean()


def test_the_hypotheses_are_as_wide_as_their_centre_is_wrong(bench, split):  # noqa: F811
    # One step from noise, and g untrained: the poses alone tell the chains apart.
    knobs = replace(default_knobs(bench.params), hypotheses=100, steps=1)
    gains = fit(bench, split, split, knobs.steps)
    h_0 = sample_plus(bench, knobs, split, gains)
    spread = h_0.var(dim=1).sum(dim=-1).mean().sqrt()
    missed = predict_plus(bench, knobs, split, gains.G) - split.h_0
    error = missed.square().sum(dim=-1).mean().sqrt()
    assert float(spread / error) == pytest.approx(1, rel=0.15)  # fitted with a few poses an image


def test_the_prediction_is_where_the_centre_of_ever_more_hypotheses_tends_to(bench, split):  # noqa: F811
    knobs = replace(default_knobs(bench.params), hypotheses=4000, steps=1)
    one, gains = split.take(slice(0, 1)), fit(bench, split, split, 1)
    h_0 = sample_plus(bench, knobs, one, gains)[0]
    away = h_0.mean(dim=0) - predict_plus(bench, knobs, one, gains.G)[0]
    assert gains.width > 0
    assert float((away / h_0.std(dim=0)).square().mean().sqrt()) < 3 / 4000**0.5


def test_poses_and_noise_come_from_one_stream(bench, split):  # noqa: F811
    """Two generators with one seed would make a chain's noise tell which pose it aligns with."""
    met = []
    knobs, gains = replace(default_knobs(bench.params), steps=1), fit(bench, split, split, 1)

    def poses_then(U, n, width, generator):
        met.append(generator)
        return poses(U, n, width, generator)

    def reverse_with(bench, part, u, steps, G, generator):
        assert generator is met[-1]
        return u.new_zeros(len(u) * u.shape[1], bench.mesh.f.shape[1], 3)

    with mock.patch.multiple(closed_form, poses=poses_then, reverse=reverse_with):
        sample_plus(bench, knobs, split, gains)
    assert met
