"""DAT and Algorithm 1 on problems whose answer is known in closed form."""

import pytest
import torch

from hmdiff.alignment import alignment_gradient, direct_gradient, gap
from hmdiff.diffusion import estimate_h0, make_alpha
from hmdiff.sampler import Guidance, algorithm_1, sample

K, V, J, B, N = 50, 9, 4, 3, 6
ALPHA = make_alpha(K, "beta", (0.002, 0.3))


def gaussian_denoiser(mean: torch.Tensor, variance: float, alpha: torch.Tensor = ALPHA):
    """The exact g for meshes h_0 ~ N(mean, variance I): linear in h_k."""

    def g(h_k: torch.Tensor, k: int, chains=None) -> torch.Tensor:
        a = alpha[k].to(h_k)
        total = a * variance + 1 - a
        h0_hat = mean + a.sqrt() * variance / total * (h_k - a.sqrt() * mean)
        return (h_k - a.sqrt() * h0_hat) / (1 - a).sqrt()

    return g


@pytest.fixture
def problem():
    generator = torch.Generator().manual_seed(0)
    f = torch.rand(J, V, generator=generator)
    f = f / f.sum(1, keepdim=True)
    mean = torch.randn(V, 3, generator=generator)
    u = torch.randn(B, N, J, 3, generator=generator)
    return f, mean, u


def test_the_gap_is_its_brute_force_sum(problem):
    f, mean, u = problem
    D = gap(u, (f @ mean).expand(B, -1, -1))
    for b in range(B):
        total = sum(float(((u[b, i] - f @ mean) ** 2).sum()) for i in range(N))
        assert float(D[b]) == pytest.approx(total / N, rel=1e-5)


def test_the_gap_is_distance_of_the_mean_plus_spread(problem):
    f, mean, u = problem
    pose = (f @ mean).expand(B, -1, -1)
    spread = (u - u.mean(1, keepdim=True)).square().sum((2, 3)).mean(1)
    expected = (u.mean(1) - pose).square().sum((1, 2)) + spread
    torch.testing.assert_close(gap(u, pose), expected)


def test_the_gradient_agrees_with_finite_differences(problem):
    f, mean, u = (t.double() for t in problem)
    g = gaussian_denoiser(mean, 0.5)
    h_k = torch.randn(B, V, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    k, alpha_k = 20, ALPHA[20].double()
    _, _, _, gradient = alignment_gradient(g, f, u, h_k, k, alpha_k)

    def D(h):
        return gap(u, f @ estimate_h0(h, g(h, k), alpha_k))

    for v, axis in ((0, 0), (5, 2)):
        step = torch.zeros_like(h_k)
        step[:, v, axis] = 1e-5
        slope = (D(h_k + step) - D(h_k - step)) / 2e-5
        torch.testing.assert_close(gradient[:, v, axis], slope, rtol=1e-5, atol=1e-7)


def test_the_direct_gradient_is_the_slope_of_the_gap_at_h_k(problem):
    f, _, u = problem
    h_k = torch.randn(B, V, 3, requires_grad=True)
    gap(u, f @ h_k).sum().backward()
    torch.testing.assert_close(direct_gradient(f, u, h_k.detach()), h_k.grad)


@pytest.mark.parametrize("r", [0.0, 0.8, 2.0])
@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_the_superset_equals_algorithm_1(problem, r, eta):
    """With DAT on to the end, switched off on the way, and never on."""
    f, mean, u = problem
    u = u.mean(1, keepdim=True) + 0.1 * u
    g, gamma = gaussian_denoiser(mean, 0.5), 0.5
    plain = algorithm_1(g, f, u, ALPHA, 20, gamma, r, torch.Generator().manual_seed(3), eta)
    guidance = Guidance("h0_hat", gamma, r)
    samples = sample(g, f, u, ALPHA, 20, guidance, torch.Generator().manual_seed(3), eta)
    torch.testing.assert_close(samples.h_0, plain, rtol=1e-5, atol=1e-5)
    assert not samples.diverged.any()
    low, high = {0.0: (1, 1), 0.8: (0.1, 0.9), 2.0: (0, 0)}[r]
    assert low <= samples.active.float().mean() <= high


def test_without_guidance_the_samples_have_the_moments_of_the_data(problem):
    f, mean, _ = problem
    alpha = make_alpha(400, "beta", (0.0002, 0.04))  # fine steps: little discretisation error
    u = torch.zeros(1000, 1, J, 3)
    generator = torch.Generator().manual_seed(0)
    g = gaussian_denoiser(mean, 0.5, alpha)
    h_0 = sample(g, f, u, alpha, 400, Guidance(), generator, eta=1.0).h_0
    torch.testing.assert_close(h_0.mean(0), mean, rtol=0, atol=0.1)
    assert float(h_0.var(0).mean()) == pytest.approx(0.5, rel=0.05)


def test_dat_pulls_the_pose_towards_U(problem):
    f, mean, u = problem
    g = gaussian_denoiser(mean, 0.5)

    def distance(gamma: float) -> float:
        generator = torch.Generator().manual_seed(0)
        h_0 = sample(g, f, u, ALPHA, 25, Guidance("h0_hat", gamma, 0.0), generator).h_0
        return float((f @ h_0 - u.mean(1)).norm())

    assert distance(0.3) < distance(0.05) < distance(0.0)


def test_a_chain_that_went_inactive_stays_so(problem):
    f, mean, u = problem
    u = u.mean(1, keepdim=True) + 0.1 * u  # a U that is sure of itself: R_k can fall far
    guidance = Guidance("h0_hat", 0.5, 0.8)
    generator = torch.Generator().manual_seed(0)
    samples = sample(gaussian_denoiser(mean, 0.5), f, u, ALPHA, 25, guidance, generator)
    assert not (samples.active[1:] & ~samples.active[:-1]).any()
    assert samples.active[0].all() and not samples.active[-1].any()
    assert torch.equal(samples.R[0], torch.ones(B))
    assert samples.R.isfinite().all()  # measured on, though it steers no more


def test_a_start_at_H_U_without_noise_stays_at_its_mesh(problem):
    f, mean, u = problem
    h_start = mean.expand(B, -1, -1)
    samples = sample(
        gaussian_denoiser(mean, 1e-6),
        f,
        u,
        ALPHA,
        10,
        Guidance(),
        torch.Generator().manual_seed(0),
        h_start=h_start,
        k_start=10,
    )
    torch.testing.assert_close(samples.h_0, h_start, rtol=0, atol=1e-2)


def test_divergence_is_reported_and_leaves_finite_meshes(problem):
    f, mean, u = problem
    g = gaussian_denoiser(mean, 0.5)
    samples = sample(
        g, f, u, ALPHA, 20, Guidance("h0_hat", 1e4, 0.0), torch.Generator().manual_seed(0)
    )
    assert samples.diverged.all()
    assert torch.isfinite(samples.h_0).all()


def test_with_g_held_constant_the_gradient_is_that_of_eq_7_alone(problem):
    f, mean, u = problem
    g, k = gaussian_denoiser(mean, 0.5), 20
    h_k = torch.randn(B, V, 3, generator=torch.Generator().manual_seed(2)).requires_grad_()
    s = g(h_k, k).detach()
    gap(u, f @ estimate_h0(h_k, s, ALPHA[k])).sum().backward()
    h0_hat = estimate_h0(h_k, s, ALPHA[k]).detach()
    torch.testing.assert_close(direct_gradient(f, u, h0_hat) / ALPHA[k].sqrt(), h_k.grad)

    # One step from k to 0: the sample is h0_hat less gamma times that gradient.
    def from_k(gamma: float) -> torch.Tensor:
        guidance = Guidance("h0_hat, g constant", gamma, 0.0)
        generator, start = torch.Generator().manual_seed(0), mean.expand(B, -1, -1)
        return sample(g, f, u, ALPHA, 1, guidance, generator, h_start=start, k_start=k).h_0

    plain = from_k(0.0)
    step = direct_gradient(f, u, plain) / ALPHA[k].sqrt()
    torch.testing.assert_close(from_k(0.01), plain - 0.01 * step)


def test_the_relative_gap_can_be_taken_relative_to_h_K(problem):
    f, mean, u = problem
    g = gaussian_denoiser(mean, 0.5)
    runs = [
        sample(
            g, f, u, ALPHA, 10, Guidance("h0_hat", 0.01, 0.0, D_K), torch.Generator().manual_seed(0)
        )
        for D_K in ("h0_hat", "h_K")
    ]
    torch.testing.assert_close(runs[0].h_0, runs[1].h_0)  # with r = 0 it steers nothing
    h_K = torch.randn(B, V, 3, generator=torch.Generator().manual_seed(0))
    ratio = gap(u, f @ h_K) / gap(u, f @ estimate_h0(h_K, g(h_K, K), ALPHA[K]))
    torch.testing.assert_close(runs[0].R / runs[1].R, ratio.expand(10, B))
