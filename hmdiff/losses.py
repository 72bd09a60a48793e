"""The losses of Sec. 4.4: L_Diff, and Pose2Mesh's four geometric losses on h0_hat.

All meshes are normalised, (B, V, 3); a loss is a mean over everything, so that its weight does
not depend on batch, mesh or step count.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from .params import LossWeights


def vertex_loss(h0_hat: Tensor, h_0: Tensor) -> Tensor:
    """L_v: mean absolute coordinate error of the vertices."""
    return F.l1_loss(h0_hat, h_0)


def joint_loss(h0_hat: Tensor, h_0: Tensor, f: Tensor) -> Tensor:
    """L_j: mean absolute coordinate error of the joints f(h), f (J, V)."""
    return F.l1_loss(f @ h0_hat, f @ h_0)


def normal_loss(h0_hat: Tensor, h_0: Tensor, faces: Tensor) -> Tensor:
    """L_n: mean |cosine| between predicted edges and true face normals; faces (F, 3)."""
    corners = h_0[:, faces]  # B F 3 3
    normal = torch.linalg.cross(
        corners[:, :, 1] - corners[:, :, 0], corners[:, :, 2] - corners[:, :, 0]
    )
    normal = F.normalize(normal, dim=-1)
    edges = F.normalize(_edges(h0_hat, faces), dim=-1)  # B F 3 3
    return (edges * normal[:, :, None]).sum(-1).abs().mean()


def edge_loss(h0_hat: Tensor, h_0: Tensor, faces: Tensor) -> Tensor:
    """L_e: mean absolute error of the edge lengths, three a face."""
    return F.l1_loss(_edges(h0_hat, faces).norm(dim=-1), _edges(h_0, faces).norm(dim=-1))


def geometry_loss(
    h0_hat: Tensor, h_0: Tensor, f: Tensor, faces: Tensor, weights: LossWeights
) -> Tensor:
    """lambda_v L_v + lambda_j L_j + lambda_n L_n + lambda_e L_e."""
    return (
        weights.v * vertex_loss(h0_hat, h_0)
        + weights.j * joint_loss(h0_hat, h_0, f)
        + weights.n * normal_loss(h0_hat, h_0, faces)
        + weights.e * edge_loss(h0_hat, h_0, faces)
    )


def diffusion_loss(s: Tensor, target: Tensor) -> Tensor:
    """L_Diff. Its target is the noise z, as Eq. 7 needs it; printed is h_{k-1} - h_k."""
    return F.mse_loss(s, target)


def _edges(h: Tensor, faces: Tensor) -> Tensor:
    """The three edge vectors of each face, (B, F, 3, 3)."""
    corners = h[:, faces]
    return corners.roll(-1, dims=2) - corners
