"""U is the distribution that its heatmaps say, and phi_P learns what it is told."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hmdiff.pose import (
    BACK_OFF,
    PoseDistribution,
    PoseHead,
    gaussian,
    heatmap_loss,
    heatmaps,
    image_feature,
    picture_loss,
)

S, CUBE = 8, 2.0


def distribution(seed, batch=1, joints=2, sharpness=3.0):
    g = torch.Generator().manual_seed(seed)
    logits = sharpness * torch.randn(batch, 2, joints, S, S, generator=g, dtype=torch.float64)
    return PoseDistribution(*heatmaps(logits), CUBE)


def table(U):
    """Brute force: every joint's probability of every bin, [b, j, x, y, z]."""
    E_xy, E_z = U.E_xy.numpy(), U.E_z.numpy()
    p = np.zeros((*E_xy.shape[:2], S, S, S))
    for b, j, x, y, z in np.ndindex(p.shape):
        row, column = E_z[b, j, x].sum(), E_z[b, j, :, z].sum()
        z_given_x = (E_z[b, j, x, z] + BACK_OFF * column) / (row + BACK_OFF)
        p[b, j, x, y, z] = E_xy[b, j, y, x] * z_given_x
    return p


def centre(i):
    return (i + 0.5) / S * CUBE - CUBE / 2


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.1, 6.0))
def test_moments_equal_sums_over_all_bins(seed, sharpness):
    U = distribution(seed, sharpness=sharpness)
    p = table(U)
    assert np.allclose(p.sum((2, 3, 4)), 1)
    bins = np.stack(np.meshgrid(*[centre(np.arange(S))] * 3, indexing="ij"), -1)  # x, y, z
    mean = np.einsum("bjxyz,xyzc->bjc", p, bins)
    second = np.einsum("bjxyz,xyzc->bjc", p, bins**2)
    variance = second - mean**2 + (CUBE / S) ** 2 / 12
    np.testing.assert_allclose(U.mean(), mean, atol=1e-12)
    np.testing.assert_allclose(U.variance(), variance, atol=1e-12)
    np.testing.assert_allclose(U.spread(), np.sqrt(variance.sum(-1)), atol=1e-12)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 30))
def test_samples_stay_in_the_cube_and_where_there_is_mass(seed, N):
    U = distribution(seed, sharpness=12.0)
    u = U.sample(N, torch.Generator().manual_seed(seed))
    assert u.shape == (1, N, 2, 3)
    assert u.dtype == U.E_xy.dtype
    assert u.abs().max() <= CUBE / 2
    bins = ((u / CUBE + 0.5) * S).long().clamp(0, S - 1)
    p = table(U)
    for n, j in np.ndindex(N, 2):
        x, y, z = bins[0, n, j].tolist()
        assert p[0, j, x, y, z] > 0


def test_samples_follow_the_closed_form():
    """Mean and covariance of many samples, within five standard errors."""
    U = distribution(3, batch=2, joints=3, sharpness=2.0)
    N = 40_000
    u = U.sample(N, torch.Generator().manual_seed(0))
    error = (u.mean(1) - U.mean()).abs() / (U.variance() / N).sqrt()
    assert error.max() < 5
    torch.testing.assert_close(u.var(1), U.variance(), rtol=0.05, atol=0)


def test_samples_have_the_joint_frequencies_of_their_bins():
    U = distribution(5, joints=1, sharpness=1.5)
    N = 100_000
    u = U.sample(N, torch.Generator().manual_seed(1))[0, :, 0]
    x, y, z = ((u / CUBE + 0.5) * S).long().clamp(0, S - 1).T.numpy()
    seen = np.bincount((x * S + y) * S + z, minlength=S**3) / N
    expected = table(U)[0, 0].ravel()
    assert np.abs(seen - expected).max() < 5 * np.sqrt(expected.max() / N)


def test_depth_follows_the_x_that_was_drawn():
    """A person whose hand is either left and near or right and far: no sample mixes the two."""
    E_xy, E_z = torch.zeros(1, 1, S, S), torch.zeros(1, 1, S, S)
    E_xy[0, 0, 4, [1, 6]] = 0.5
    E_z[0, 0, 1, 0] = E_z[0, 0, 6, 7] = 0.5
    u = PoseDistribution(E_xy, E_z, CUBE).sample(500, torch.Generator().manual_seed(2))[0, :, 0]
    left = u[:, 0] < 0
    assert 200 < left.sum() < 300
    near = u[:, 2] < 0
    assert (left == near).float().mean() > 0.99


def test_depth_backs_off_to_its_marginal_where_x_is_unknown_to_E_z():
    E_xy, E_z = torch.zeros(1, 1, S, S), torch.zeros(1, 1, S, S)
    E_xy[0, 0, 2, 7] = 1.0  # E_z has no mass at x = 7
    E_z[0, 0, 1, 3] = 1.0
    U = PoseDistribution(E_xy, E_z, CUBE)
    torch.testing.assert_close(U.mean()[0, 0], torch.tensor([centre(7), centre(2), centre(3)]))
    assert torch.isfinite(U.sample(10)).all()


def test_mode_is_the_likeliest_pixel_then_the_likeliest_depth_there():
    U = distribution(11, batch=2, joints=3)
    u_c = U.mode()
    for b, j in np.ndindex(2, 3):
        y, x = np.unravel_index(U.E_xy[b, j].numpy().argmax(), (S, S))
        z = (U.E_z[b, j, x] + BACK_OFF * U.E_z[b, j].sum(0)).argmax().item()
        np.testing.assert_allclose(u_c[b, j], [centre(x), centre(y), centre(z)])


def test_a_certain_heatmap_gives_its_bin():
    E = torch.zeros(1, 1, S, S)
    E[0, 0, 5, 2] = 1.0  # y = 5, x = 2
    E_z = torch.zeros(1, 1, S, S)
    E_z[0, 0, 2, 6] = 1.0
    U = PoseDistribution(E, E_z, CUBE)
    expected = torch.tensor([centre(2), centre(5), centre(6)])
    torch.testing.assert_close(U.mean()[0, 0], expected)
    torch.testing.assert_close(U.mode()[0, 0], expected)
    bin_m = CUBE / S
    torch.testing.assert_close(U.spread()[0, 0], torch.tensor(bin_m * (3 / 12) ** 0.5))


def test_samples_repeat_with_their_generator():
    U = distribution(1)
    a, b = (U.sample(7, torch.Generator().manual_seed(4)) for _ in range(2))
    assert torch.equal(a, b)


def test_take_keeps_the_chosen_images():
    U = distribution(1, batch=4)
    torch.testing.assert_close(U.take([2, 0]).mean(), U.mean()[[2, 0]])


def test_heatmaps_are_probabilities_over_each_map():
    logits = torch.randn(2, 2, 3, S, S) * 20
    E_xy, E_z = heatmaps(logits)
    assert E_xy.shape == (2, 3, S, S)
    torch.testing.assert_close(E_xy.sum((-1, -2)), torch.ones(2, 3))
    expected = torch.softmax(logits[1, 1, 2].flatten(), 0).view(S, S)
    torch.testing.assert_close(E_z[1, 2], expected)


def test_image_feature_averages_groups_of_channels():
    f_c = torch.randn(2, 2048, 7, 7)
    f_I = image_feature(f_c)
    assert f_I.shape == (2, 128, 49)
    torch.testing.assert_close(f_I[1, 5, 8], f_c[1, 80:96, 1, 1].mean())


def test_head_shape():
    head = PoseHead(128, 8, 5, 56).eval()
    assert head(torch.randn(2, 128, 7, 7)).shape == (2, 2, 5, 56, 56)


def test_depth_keeps_the_columns_of_the_image():
    """What stands in one column of f_c moves E_z only near that x, at whatever depth."""
    torch.manual_seed(0)
    head = PoseHead(128, 8, 1, 56).eval()
    f_c = torch.randn(1, 128, 7, 7)
    other = f_c.clone()
    other[..., 0] += 1
    with torch.no_grad():
        change = (head(other) - head(f_c))[0, 1, 0].abs()  # over (x, z)
    assert change[:8].max() > 0
    assert change[24:].max() == 0


def test_heatmap_size_must_fit_three_doublings():
    with pytest.raises(ValueError, match=r"phi\.heatmap_px: must be a multiple of 8"):
        PoseHead(128, 8, 1, 50)


def test_gaussian_is_the_density_at_bin_centres():
    position = torch.tensor([3.3], dtype=torch.float64)
    density = np.exp(-0.5 * ((np.arange(S) + 0.5 - 3.3) / 1.5) ** 2)
    np.testing.assert_allclose(gaussian(position, S, 1.5)[0], density / density.sum())


def test_loss_equals_a_loop_over_pixels():
    torch.manual_seed(0)
    logits = torch.randn(2, 2, 3, S, S, dtype=torch.float64)
    joints = torch.rand(2, 3, 3, dtype=torch.float64) - 0.5
    total = 0.0
    for b, m, j in np.ndindex(2, 2, 3):
        x, y, z = ((joints[b, j] / CUBE + 0.5) * S).tolist()
        row, column = ((y, x), (x, z))[m]
        p = torch.softmax(logits[b, m, j].flatten(), 0).view(S, S).numpy()
        target = np.zeros((S, S))
        for r, c in np.ndindex(S, S):
            gap = (r + 0.5 - row) ** 2 + (c + 0.5 - column) ** 2
            target[r, c] = np.exp(-0.5 * gap / 1.5**2)
        target /= target.sum()
        total -= (target * np.log(p)).sum()
    loss = heatmap_loss(logits, joints, CUBE, 1.5)
    assert loss.item() == pytest.approx(total / (2 * 2 * 3))


def test_descending_the_loss_brings_the_mean_of_U_to_the_joints():
    torch.manual_seed(0)
    logits = torch.zeros(2, 2, 3, 16, 16, requires_grad=True)
    joints = (torch.rand(2, 3, 3) - 0.5) * 1.2
    optimiser = torch.optim.Adam([logits], lr=0.3)
    for _ in range(150):
        optimiser.zero_grad()
        heatmap_loss(logits, joints, CUBE, 1.0).backward()
        optimiser.step()
    U = PoseDistribution(*heatmaps(logits.detach()), CUBE)
    assert (U.mean() - joints).norm(dim=-1).max() < 0.03
    assert (U.mode() - joints).norm(dim=-1).max() < CUBE / 16


def test_a_joint_outside_the_cube_counts_as_on_its_face():
    logits = torch.randn(1, 2, 1, S, S)
    far, face = (torch.tensor([[[v, 0.0, 0.0]]]) for v in (9.0, CUBE / 2))
    assert heatmap_loss(logits, far, CUBE, 1.5) == heatmap_loss(logits, face, CUBE, 1.5)


def test_picture_loss_is_the_cross_entropy_of_what_the_crop_shows():
    torch.manual_seed(0)
    logits, shares = torch.randn(2, 3, 8, 8), torch.rand(2, 3, 2)
    shares[1, 2] = torch.tensor([1.2, 0.5])  # outside: counts for nothing
    total = 0.0
    for b, j in [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1)]:
        cells = torch.arange(8) + 0.5
        x, y = (torch.exp(-((cells - 8 * s) ** 2) / (2 * 0.75**2)) for s in shares[b, j])
        target = torch.outer(y / y.sum(), x / x.sum()).flatten()
        total -= (target * logits[b, j].flatten().log_softmax(0)).sum()
    torch.testing.assert_close(picture_loss(logits, shares), total / 5)
    assert picture_loss(logits, shares + 2) == 0
