"""The pose head phi_P of Sec. 4.3, and U: the distribution of 3D poses that its heatmaps define.

A joint lives in a metric cube about the root, in camera axes, cut into S bins a side. Two maps a
joint describe it: E_xy over (y, x) and E_z over (x, z), each a probability that sums to 1. The
paper leaves open how they make one distribution; here x and y are drawn from E_xy, then z from
E_z given that x, then a point inside the bin. U therefore lives in the space of the mesh's joints
f(h_0), so that f stays linear.

Notation: B images, J joints, S `heatmap_px`; u is a pose, U their distribution, u_c its mode. Bin i
covers (i/S - 1/2) * cube to ((i + 1)/S - 1/2) * cube. `cube` has the unit of the results, here
that of normalised meshes.
"""

from collections.abc import Iterator
from functools import cached_property

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d

# E_z says nothing of z at an x where it has no mass; there its marginal over z steps in.
BACK_OFF = 1e-4
POOL = 4  # bins of a heatmap, each way, that become one for g


def image_feature(f_c: Tensor) -> Tensor:
    """f_I (B x 128 x S^2): the context feature f_c (B x C x S x S), averaged over groups of C/128
    channels."""
    batch, channels, height, width = f_c.shape
    return f_c.reshape(batch, 128, channels // 128, height * width).mean(2)


def heatmaps(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Logits (B x 2 x J x S x S) to E_xy over (y, x) and E_z over (x, z), each B x J x S x S."""
    return tuple(logits.flatten(-2).softmax(-1).view_as(logits).unbind(1))


def pooled(E_xy: Tensor, E_z: Tensor) -> Tensor:
    """What g sees of the heatmaps (B x J x S x S each), B x 2J x S/4 x S/4: E_xy of every joint,
    then E_z; sums of 4 x 4 bins."""
    return avg_pool2d(torch.cat([E_xy, E_z], dim=1), POOL) * POOL**2


class PoseHead(nn.Module):
    """f_c to the logits of E_xy and E_z, by three deconvolutions a map.

    Columns of f_c are columns x of E_xy, but E_z has depth where the image has y. So before its
    deconvolutions a column of f_c is mixed along y to a column along z, the same way at every x.
    """

    def __init__(self, context_channels: int, deconv_channels: int, joints: int, heatmap_px: int):
        super().__init__()
        if heatmap_px % 8:
            raise ValueError(f"phi.heatmap_px: must be a multiple of 8, got {heatmap_px}")
        self.side = heatmap_px // 8
        self.y_to_z = nn.Conv2d(context_channels, deconv_channels * self.side, (self.side, 1))
        self.xy = deconvolutions(context_channels, deconv_channels, joints)
        self.z = deconvolutions(deconv_channels, deconv_channels, joints)

    def forward(self, f_c: Tensor) -> Tensor:
        """f_c (B x C x S/8 x S/8) to logits (B x 2 x J x S x S)."""
        depth = self.y_to_z(f_c)  # B x d*S' x 1 x S'
        depth = depth.view(len(f_c), -1, self.side, self.side)  # B x d x S'(z) x S'(x)
        return torch.stack([self.xy(f_c), self.z(depth).transpose(-1, -2)], dim=1)


def deconvolutions(c_in: int, channels: int, c_out: int) -> nn.Sequential:
    """Three deconvolutions, each doubling the side."""
    layers: list[nn.Module] = []
    for source in (c_in, channels):
        layers += [nn.ConvTranspose2d(source, channels, 4, 2, 1, bias=False)]
        layers += [nn.BatchNorm2d(channels), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers, nn.ConvTranspose2d(channels, c_out, 4, 2, 1))


class PoseDistribution:
    """U: a distribution over 3D poses u, joints independent of each other.

    Args:
        E_xy: B x J x S x S, probabilities over (y, x).
        E_z: B x J x S x S, probabilities over (x, z).
        cube: side of the cube about the root.
    """

    def __init__(self, E_xy: Tensor, E_z: Tensor, cube: float):
        self.E_xy, self.E_z, self.cube = E_xy, E_z, cube
        self.side = E_xy.shape[-1]

    @cached_property
    def z_given_x(self) -> Tensor:
        """B x J x S(x) x S(z); made where it is used, as E may lie on the disk."""
        x_mass, z_mass = self.E_z.sum(-1, keepdim=True), self.E_z.sum(-2, keepdim=True)
        return (self.E_z + BACK_OFF * z_mass) / (x_mass + BACK_OFF)

    def take(self, rows) -> "PoseDistribution":
        """U of some of the images, by position."""
        return PoseDistribution(self.E_xy[rows], self.E_z[rows], self.cube)

    def parts(self, size: int = 256) -> Iterator["PoseDistribution"]:
        """U of all the images, some at a time: of a large split it does not fit memory."""
        return (self.take(slice(i, i + size)) for i in range(0, len(self.E_xy), size))

    def place(self, bins: Tensor) -> Tensor:
        """Positions in bins (0 to S) to coordinates (-cube/2 to cube/2)."""
        return bins * (self.cube / self.side) - self.cube / 2

    def marginals(self) -> Tensor:
        """B x J x 3 x S: the probabilities of x, y and z."""
        x, y = self.E_xy.sum(-2), self.E_xy.sum(-1)
        z = torch.einsum("bjx,bjxz->bjz", x, self.z_given_x)
        return torch.stack([x, y, z], dim=-2)

    def mean(self) -> Tensor:
        """B x J x 3, the expectation of u."""
        centres = self.place(torch.arange(self.side).to(self.E_xy) + 0.5)
        return self.marginals() @ centres

    def variance(self) -> Tensor:
        """B x J x 3, of each coordinate of u, the uniform spread inside a bin included."""
        bins = torch.arange(self.side).to(self.E_xy) + 0.5
        p = self.marginals()
        gap = bins - (p @ bins).unsqueeze(-1)
        return ((p * gap.square()).sum(-1) + 1 / 12) * (self.cube / self.side) ** 2

    def spread(self) -> Tensor:
        """B x J, the standard deviation of u about its mean in space: how unsure a joint is."""
        return self.variance().sum(-1).sqrt()

    def mode(self) -> Tensor:
        """u_c, B x J x 3: the likeliest (y, x) of E_xy, then the likeliest z given that x."""
        best = self.E_xy.flatten(-2).argmax(-1)
        y, x = best // self.side, best % self.side
        z = self.z_given_x.argmax(-1).gather(-1, x.unsqueeze(-1)).squeeze(-1)
        return self.place(torch.stack([x, y, z], dim=-1).to(self.E_xy) + 0.5)

    def sample(self, N: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw u_i ~ U: B x N x J x 3."""
        batch, joints = self.E_xy.shape[:2]
        flat = self.E_xy.reshape(batch * joints, -1)
        drawn = torch.multinomial(flat, N, replacement=True, generator=generator)
        y, x = drawn // self.side, drawn % self.side  # B*J x N
        rows = self.z_given_x.reshape(batch * joints, self.side, self.side)
        rows = rows.gather(1, x.unsqueeze(-1).expand(-1, -1, self.side))  # B*J x N x S(z)
        z = torch.multinomial(rows.reshape(-1, self.side), 1, generator=generator).view_as(x)
        bins = torch.stack([x, y, z], dim=-1).to(self.E_xy)
        inside = torch.rand(bins.shape, generator=generator, dtype=bins.dtype, device=bins.device)
        return self.place(bins + inside).view(batch, joints, N, 3).transpose(1, 2)


def heatmap_loss(logits: Tensor, joints: Tensor, cube: float, sigma_bins: float) -> Tensor:
    """What phi trains on: for both maps, cross-entropy against a Gaussian about the true joint.

    With an L1 distance of the map's expectation from the joint added, as in integral regression,
    mean(U) was 7% farther from the truth (same images and steps).

    Args:
        logits: B x 2 x J x S x S, from `PoseHead`.
        joints: B x J x 3, root-relative, in the unit of `cube`; one outside counts as on its face.
        sigma_bins: width of the Gaussian target, in bins.
    """
    side = logits.shape[-1]
    bins = ((joints / cube + 0.5) * side).clamp(0, side)
    x, y, z = bins.unbind(-1)
    rows, columns = torch.stack([y, x], 1), torch.stack([x, z], 1)  # B x 2 x J
    return cross_entropy(logits, rows, columns, sigma_bins).mean()


def picture_loss(logits: Tensor, shares: Tensor, sigma_cells: float = 0.75) -> Tensor:
    """Cross-entropy of ordinary 2D heatmaps (B x J x s x s logits over the crop) against a Gaussian
    about where the crop shows each joint (B x J x 2: x, y in shares of its side); joints outside
    the crop do not count."""
    side, inside = logits.shape[-1], in_crop(shares)
    x, y = (shares.clamp(0, 1) * side).unbind(-1)
    loss = cross_entropy(logits, y, x, sigma_cells)
    return (loss * inside).sum() / inside.sum().clamp(min=1)


def in_crop(shares: Tensor) -> Tensor:
    """Whether the crop shows each joint, B x J; shares as of `picture_loss`."""
    return ((shares > 0) & (shares < 1)).all(-1)


def cross_entropy(logits: Tensor, rows: Tensor, columns: Tensor, sigma: float) -> Tensor:
    """Of maps (... x S x S) against a Gaussian about rows, columns (...), in bins: (...)."""
    side = logits.shape[-1]
    r, c = gaussian(rows, side, sigma), gaussian(columns, side, sigma)
    expected = (torch.einsum("...rc,...c->...r", logits, c) * r).sum(-1)
    return logits.flatten(-2).logsumexp(-1) - expected


def gaussian(position: Tensor, side: int, sigma: float) -> Tensor:
    """Positions in bins (...) to a normalised Gaussian over the bins (... x side)."""
    gap = torch.arange(side, device=position.device) + 0.5 - position.unsqueeze(-1)
    return (-0.5 * (gap / sigma).square()).softmax(-1)
