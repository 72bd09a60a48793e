"""Algorithm 1, line for line, and one superset of it that takes every ablation's step.

`g` is any callable g(h_k, k) -> s, already bound to its condition. `h_k` holds independent runs
("chains", one per image and hypothesis) in its first dimension; each has an activation status of
its own. Notation as in diffusion.py and alignment.py.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor

from .alignment import alignment_gradient, direct_gradient, gap
from .diffusion import ddim_step, diffuse, estimate_h0, sigma, timesteps

Noise = Callable[[Tensor, int], Tensor]
DIVERGED = 10.0  # normalised units: metres from the root of a body, far outside of any mesh


def algorithm_1(
    g: Noise,
    f: Tensor,
    u: Tensor,
    alpha: Tensor,
    steps: int,
    gamma: float,
    r: float,
    generator: torch.Generator,
    eta: float = 0.0,
) -> Tensor:
    """The DAT reverse diffusion process: a sample h_0 (B, V, 3) for each pose set u (B, N, J, 3).

    The comments number the lines of Algorithm 1; `steps` skips steps as DDIM does.
    """
    h_k = standard_noise(u.new_empty(len(u), f.shape[1], 3), generator)  # 1
    act = torch.ones(len(u), dtype=torch.bool, device=f.device)  # 2
    D_K = None
    for k, k_prev in pairwise([*timesteps(len(alpha) - 1, steps), 0]):  # 3
        s, h0_hat, D_k, gradient = alignment_gradient(g, f, u, h_k, k, alpha[k])  # 4, 5, 6
        D_K = D_k if D_K is None else D_K
        R_k = D_k / D_K  # 7
        act = act & (R_k >= r)  # 8, 11
        sigma_k = sigma(float(alpha[k]), float(alpha[k_prev]), eta)
        z_k = standard_noise(h_k, generator) if eta else torch.zeros_like(h_k)
        h_k = ddim_step(s, h0_hat, float(alpha[k_prev]), sigma_k, z_k)  # 12
        h_k = h_k - gamma * act[:, None, None] * gradient  # 9
    return h_k


@dataclass(frozen=True)
class Guidance:
    """How a reverse process uses U: one row of Tables 4 and 5.

    Attributes:
        at: where the gap is measured and differentiated: `h0_hat` (DAT), `h0_hat, g constant`
            (DAT, but s does not count as a function of h_k), `h_k` (Direct L2), or `none` (U is
            not used, or only through the condition or the start).
        gamma: weight of the gradient of the mean gap.
        r: activation threshold; 0 keeps DAT active to the end (w/o AS).
        D_K: where the gap that all are relative to is measured: at the first h0_hat, or at h_K.
    """

    at: Literal["h0_hat", "h0_hat, g constant", "h_k", "none"] = "none"
    gamma: float = 0.0
    r: float = 0.0
    D_K: Literal["h0_hat", "h_K"] = "h0_hat"


@dataclass(frozen=True)
class Samples:
    """Samples h_0 (B, V, 3) with the traces of their reverse process.

    Attributes:
        R: relative gap at each step, (steps, B); NaN if U is not used.
        active: whether the gradient was applied at each step, (steps, B).
        diverged: chains that left the space of meshes, (B,); their h_0 is the zero mesh.
    """

    h_0: Tensor
    R: Tensor
    active: Tensor
    diverged: Tensor

    def cpu(self) -> "Samples":
        """The same in main memory."""
        return Samples(*(trace.cpu() for trace in vars(self).values()))


def sample(
    g: Callable[..., Tensor],
    f: Tensor,
    u: Tensor,
    alpha: Tensor,
    steps: int,
    guidance: Guidance,
    generator: torch.Generator,
    eta: float = 0.0,
    h_start: Tensor | None = None,
    k_start: int | None = None,
) -> Samples:
    """Every reverse process of the ablations; equals `algorithm_1` where no ablation is on.

    Args:
        g: g(h_k, k, chains=...) -> s, where `chains` indexes the chains that h_k holds, so that DAT
            is paid for only where it is active.
        h_start, k_start: a clean starting mesh for each chain (B, V, 3), taken to the noise level
            of step k_start (Table 5's "w/ H_U"); None starts from Gaussian noise at K.
    """
    B = len(u)
    z = standard_noise(u.new_empty(B, f.shape[1], 3), generator)
    K = k_start or len(alpha) - 1
    h_k = z if h_start is None else diffuse(h_start, alpha[K], z)
    act = torch.full((B,), guidance.at != "none", device=f.device)
    R, active, D_K = [], [], None
    for k, k_prev in pairwise([*timesteps(K, steps), 0]):
        s, h0_hat, gradient = torch.empty_like(h_k), torch.empty_like(h_k), torch.zeros_like(h_k)
        D_k = f.new_full((B,), torch.nan)
        through_g = act if guidance.at == "h0_hat" else torch.zeros_like(act)
        on, off = through_g.nonzero()[:, 0], (~through_g).nonzero()[:, 0]
        if len(on):
            guided = partial(g, chains=on)
            s[on], h0_hat[on], D_k[on], gradient[on] = alignment_gradient(
                guided, f, u[on], h_k[on], k, alpha[k]
            )
        if len(off):
            s[off] = g(h_k[off], k, chains=off)
            h0_hat[off] = estimate_h0(h_k[off], s[off], alpha[k])
            if guidance.at == "h0_hat":  # no longer steered by, still measured
                D_k[off] = gap(u[off], f @ h0_hat[off])
        if guidance.at == "h_k":
            gradient, D_k = direct_gradient(f, u, h_k), gap(u, f @ h_k)
        if guidance.at == "h0_hat, g constant":  # Eq. 7 with s fixed: d h0_hat / d h_k
            gradient, D_k = direct_gradient(f, u, h0_hat) / alpha[k].sqrt(), gap(u, f @ h0_hat)
        if D_K is None:
            D_K = gap(u, f @ h_k) if guidance.D_K == "h_K" else D_k
        act = act & (D_k / D_K >= guidance.r)
        R.append(D_k / D_K)
        active.append(act)
        sigma_k = sigma(float(alpha[k]), float(alpha[k_prev]), eta)
        z_k = standard_noise(h_k, generator) if eta else torch.zeros_like(h_k)
        h_k = ddim_step(s, h0_hat, float(alpha[k_prev]), sigma_k, z_k)
        h_k = h_k - guidance.gamma * act[:, None, None] * gradient
    return finished(h_k, R, active)


def finished(h_0: Tensor, R: list[Tensor], active: list[Tensor]) -> Samples:
    """The samples of chains at their end, with the traces of each step."""
    diverged = ~(h_0.flatten(1).abs().amax(dim=1) < DIVERGED)
    h_0 = torch.where(diverged[:, None, None], torch.zeros_like(h_0), h_0)
    return Samples(h_0, torch.stack(R), torch.stack(active), diverged)


def standard_noise(like: Tensor, generator: torch.Generator) -> Tensor:
    """Gaussian noise of the shape and device of `like`, the same on every device."""
    return torch.randn(like.shape, generator=generator).to(like)
