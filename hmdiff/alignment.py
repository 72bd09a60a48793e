"""The Distribution Alignment Technique's measurements: the gap D_k and its gradient (Sec. 4.2).

Notation, variable -> paper symbol:
    u        -> u_i ~ U, i = 1..N, sampled 3D poses, (B, N, J, 3), normalised, root-relative
    f        -> f, the linear mesh-to-pose function, (J, V)
    D_k      -> D_k, the gap between U and f(h0_hat), (B,)
    R_k      -> R_k = D_k / D_K, the relative gap

Eq. 10 sums over the N samples, which ties gamma to N. Here D_k is the *mean* over the samples, so
that N only sets how well U is sampled; R_k does not notice, and the printed gamma = 0.2 for a sum
over 25 is gamma = 5 for the mean.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from .diffusion import estimate_h0


def gap(u: Tensor, pose: Tensor) -> Tensor:
    """Eq. 10 as a mean: 1/N sum_i |u_i - pose|^2; u (B, N, J, 3), pose (B, J, 3) -> (B,)."""
    return (u - pose[:, None]).square().sum(dim=(2, 3)).mean(dim=1)


def alignment_gradient(
    g: Callable[[Tensor, int], Tensor], f: Tensor, u: Tensor, h_k: Tensor, k: int, alpha_k: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Eq. 9: the gradient of D_k in h_k, *through* h0_hat and g.

    Returns:
        s (B, V, 3), h0_hat (B, V, 3), D_k (B,), and nabla_{h_k} D_k (B, V, 3), all detached.
    """
    with torch.enable_grad():
        h_k = h_k.detach().requires_grad_()
        s = g(h_k, k)
        h0_hat = estimate_h0(h_k, s, alpha_k)
        D_k = gap(u, f @ h0_hat)
        (gradient,) = torch.autograd.grad(D_k.sum(), h_k)
    return s.detach(), h0_hat.detach(), D_k.detach(), gradient


def direct_gradient(f: Tensor, u: Tensor, h_k: Tensor) -> Tensor:
    """The gradient of the gap at h_k itself, of Table 5's "Direct L2": -2 f^T (mean u - f h_k)."""
    return -2 * f.T @ (u.mean(dim=1) - f @ h_k)
