"""Is U an honest distribution? How often the truth lies where U says that it does.

A joint's smallest region of probability p holds the truth in a share p of images if U is
calibrated, in fewer if U is too sure of itself.
"""

import torch
from torch import Tensor

from .pose import PoseDistribution


def credible_level(U: PoseDistribution, joints: Tensor) -> Tensor:
    """The probability of the smallest region of U that reaches each true joint.

    Args:
        U: of B images.
        joints: B x J x 3, in the unit of U's cube; one outside counts as in the outermost bin.

    Returns:
        B x J in 0..1, uniform if U is calibrated: all bins likelier than the true one, and half of
        those that are as likely.
    """
    bins = ((joints / U.cube + 0.5) * U.side).long().clamp(0, U.side - 1)
    levels = []
    for one, (x, y, z) in zip(U.parts(1), bins.permute(0, 2, 1), strict=True):
        p = (one.E_xy[..., None] * one.z_given_x[:, :, None])[0]  # J x S(y) x S(x) x S(z)
        true = p[torch.arange(len(p)), y, x, z][:, None, None, None]
        likelier, alike = (p * (p > true)).sum((1, 2, 3)), (p * (p == true)).sum((1, 2, 3))
        levels.append(likelier + alike / 2)
    return torch.stack(levels).clamp(max=1)  # sums of float32 may be a little above


def coverage(levels: Tensor, nominal: Tensor) -> Tensor:
    """Share of joints that lie in their region of each nominal probability (m,): (m,)."""
    return (levels.flatten()[:, None] <= nominal).double().mean(dim=0)
