"""The diffusion process on vertices: schedule, forward process, one reverse step (Sec. 3, 4.1).

Notation, variable -> paper symbol (alpha is *cumulative*, as in the paper):
    alpha[k]  -> alpha_k, with alpha[0] = 1
    h_k       -> h_k, a noisy mesh, (..., V, 3), normalised
    z         -> z, standard Gaussian noise
    s         -> g(h_k, k), the estimate of the noise in h_k (the score up to a factor)
    h0_hat    -> \\hat h_0, the estimate of the clean mesh seen from step k
    sigma_k   -> sigma_k, the noise that a reverse step adds

Two misprints are mended: Eq. 6 sets g under its root (Algorithm 1, line 9, does not), and Eq. 5
has the inverse of DDPM's leading factor and an undefined alpha-bar.
"""

from math import sqrt

import torch
from torch import Tensor


def make_alpha(K: int, schedule: str, beta: tuple[float, float]) -> Tensor:
    """The decreasing sequence alpha_0..alpha_K (K + 1,), float32, alpha_0 = 1.

    `beta`: alpha_k / alpha_{k-1} = 1 - beta_k with beta linear in k (DDPM).
    `alpha`: alpha itself linear in k, between the same two ends.
    """
    betas = torch.linspace(*beta, K, dtype=torch.float64)
    alpha = torch.cat([torch.ones(1, dtype=torch.float64), (1 - betas).cumprod(0)])
    if schedule == "alpha":
        alpha = torch.linspace(1.0, float(alpha[-1]), K + 1, dtype=torch.float64)
    return alpha.float()


def timesteps(K: int, steps: int) -> list[int]:
    """DDIM's decreasing subsequence of `steps` steps, "trailing": it starts at K and ends above 0.

    Raises:
        ValueError: if there are fewer than one or more than K steps.
    """
    if not 1 <= steps <= K:
        raise ValueError(f"steps must be between 1 and K = {K}, got {steps}")
    return [round(K - i * K / steps) for i in range(steps)]


def diffuse(h_0: Tensor, alpha_k: Tensor, z: Tensor) -> Tensor:
    """Eq. 4: h_k from the clean mesh h_0 (B, V, 3), alpha_k (B,) or scalar, and noise z."""
    alpha_k = _per_mesh(alpha_k, h_0)
    return alpha_k.sqrt() * h_0 + (1 - alpha_k).sqrt() * z


def estimate_h0(h_k: Tensor, s: Tensor, alpha_k: Tensor) -> Tensor:
    """Eq. 7: h0_hat = (h_k - sqrt(1 - alpha_k) s) / sqrt(alpha_k)."""
    alpha_k = _per_mesh(alpha_k, h_k)
    return (h_k - (1 - alpha_k).sqrt() * s) / alpha_k.sqrt()


def noise_from_v(h_k: Tensor, v: Tensor, alpha_k: Tensor) -> Tensor:
    """The noise s that belongs to a network output v = sqrt(alpha_k) z - sqrt(1 - alpha_k) h_0.

    Where alpha_k is near 0, Eq. 7 multiplies an error of s by 1 / sqrt(alpha_k), some 180 at k = K.
    With s built from v, Eq. 7 becomes h0_hat = sqrt(alpha_k) h_k - sqrt(1 - alpha_k) v: an error
    of the network arrives unmagnified, and h0_hat and its Jacobian are smooth from the first step.
    """
    alpha_k = _per_mesh(alpha_k, h_k)
    return (1 - alpha_k).sqrt() * h_k + alpha_k.sqrt() * v


def noise_from_h0(h_k: Tensor, h_0: Tensor, alpha_k: Tensor | float) -> Tensor:
    """The noise s for which Eq. 7 gives the mesh h_0: its inverse in s; alpha_k below 1."""
    alpha_k = _per_mesh(alpha_k, h_k)
    return (h_k - alpha_k.sqrt() * h_0) / (1 - alpha_k).sqrt()


def sigma(alpha_k: float, alpha_prev: float, eta: float) -> float:
    """sigma_k: eta = 0 is DDIM, eta = 1 makes Eq. 6 equal to DDPM (remark under Eq. 6)."""
    return eta * sqrt((1 - alpha_prev) / (1 - alpha_k)) * sqrt(1 - alpha_k / alpha_prev)


def ddim_step(s: Tensor, h0_hat: Tensor, alpha_prev: float, sigma_k: float, z_k: Tensor) -> Tensor:
    """Eq. 6 in Algorithm 1's reading: from h_k (through s and h0_hat) to the step before it."""
    return sqrt(1 - alpha_prev - sigma_k**2) * s + sqrt(alpha_prev) * h0_hat + sigma_k * z_k


def ddpm_step(
    h_k: Tensor, s: Tensor, alpha_k: float, alpha_prev: float, sigma_k: float, z_k: Tensor
) -> Tensor:
    """Eq. 5, DDPM, written with the cumulative alpha."""
    ratio = alpha_k / alpha_prev
    return (h_k - (1 - ratio) / sqrt(1 - alpha_k) * s) / sqrt(ratio) + sigma_k * z_k


def _per_mesh(alpha_k: Tensor | float, h: Tensor) -> Tensor:
    """alpha_k (B,) or scalar, shaped to multiply h (B, V, 3)."""
    alpha_k = torch.as_tensor(alpha_k, dtype=h.dtype, device=h.device)
    return alpha_k.reshape(-1, 1, 1) if alpha_k.ndim else alpha_k
