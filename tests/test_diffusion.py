"""The schedule, the forward process and one reverse step against closed forms and diffusers."""

from itertools import pairwise

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler
from hypothesis import given
from hypothesis import strategies as st

from hmdiff.diffusion import (
    ddim_step,
    ddpm_step,
    diffuse,
    estimate_h0,
    make_alpha,
    noise_from_h0,
    noise_from_v,
    sigma,
    timesteps,
)

ALPHA = make_alpha(200, "beta", (0.0005, 0.1))


def meshes(count: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 7, 3, generator=generator, dtype=torch.float64)


def test_alpha_decreases_from_one_to_almost_nothing():
    for schedule in ("beta", "alpha"):
        alpha = make_alpha(200, schedule, (0.0005, 0.1))
        assert len(alpha) == 201 and alpha[0] == 1
        assert (alpha.diff() < 0).all()
        assert 0 < alpha[-1] < 1e-4


def test_alpha_is_that_of_diffusers():
    oracle = DDPMScheduler(200, beta_start=0.0005, beta_end=0.1, beta_schedule="linear")
    torch.testing.assert_close(ALPHA[1:], oracle.alphas_cumprod, rtol=1e-5, atol=0)


def test_diffusing_step_by_step_has_the_moments_of_eq_4():
    # Eq. 2 chained: the variances and the scales of K small steps multiply up to Eq. 3.
    scale, variance = 1.0, 0.0
    for a, before in zip(ALPHA[1:].double(), ALPHA[:-1].double(), strict=True):
        scale, variance = scale * (a / before).sqrt(), variance * a / before + 1 - a / before
    assert scale == pytest.approx(float(ALPHA[-1].double().sqrt()), rel=1e-9)
    assert variance == pytest.approx(1 - float(ALPHA[-1]), rel=1e-9)


@given(k=st.integers(1, 200))
def test_eq_7_inverts_eq_4_at_every_step(k):
    h_0, z = meshes(2), meshes(2, 1)
    alpha_k = ALPHA[k].double()
    h_k = diffuse(h_0, alpha_k, z)
    torch.testing.assert_close(estimate_h0(h_k, z, alpha_k), h_0)


@given(k=st.integers(1, 200))
def test_v_carries_the_same_noise(k):
    h_0, z = meshes(2), meshes(2, 1)
    a = ALPHA[k].double()
    v = a.sqrt() * z - (1 - a).sqrt() * h_0
    torch.testing.assert_close(noise_from_v(diffuse(h_0, a, z), v, a), z)
    torch.testing.assert_close(noise_from_h0(diffuse(h_0, a, z), h_0, a), z)


@given(k=st.integers(2, 200))
def test_ddim_with_the_sigma_of_eq_6_is_ddpm(k):
    h_k, s, z = meshes(2), meshes(2, 1), meshes(2, 2)
    a, before = float(ALPHA[k]), float(ALPHA[k - 1])
    sigma_k = sigma(a, before, eta=1.0)
    h0_hat = estimate_h0(h_k, s, torch.tensor(a, dtype=torch.float64))
    ours = ddim_step(s, h0_hat, before, sigma_k, z)
    torch.testing.assert_close(ours, ddpm_step(h_k, s, a, before, sigma_k, z))


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_a_step_is_that_of_diffusers(eta):
    oracle = DDIMScheduler(
        200,
        beta_start=0.0005,
        beta_end=0.1,
        beta_schedule="linear",
        clip_sample=False,
        set_alpha_to_one=True,
        timestep_spacing="trailing",
    )
    oracle.set_timesteps(40)
    h_k, s, z = (m.float() for m in (meshes(2), meshes(2, 1), meshes(2, 2)))
    ks = timesteps(200, 40)
    assert [k - 1 for k in ks] == oracle.timesteps.tolist()
    for k, k_prev in zip(ks, [*ks[1:], 0], strict=True):
        a, before = float(ALPHA[k]), float(ALPHA[k_prev])
        theirs = oracle.step(s, k - 1, h_k, eta=eta, variance_noise=z).prev_sample
        h0_hat = estimate_h0(h_k, s, ALPHA[k])
        ours = ddim_step(s, h0_hat, before, sigma(a, before, eta), z)
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3)


@given(K=st.integers(2, 500), data=st.data())
def test_timesteps_start_at_K_and_never_repeat(K, data):
    ks = timesteps(K, data.draw(st.integers(1, K)))
    assert ks[0] == K and ks[-1] >= 1
    assert all(a > b for a, b in pairwise(ks))


@pytest.mark.parametrize("steps", [0, 201])
def test_impossible_step_counts_are_named(steps):
    with pytest.raises(ValueError, match=f"between 1 and K = 200, got {steps}"):
        timesteps(200, steps)
