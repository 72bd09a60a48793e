"""The study's linear maps, fitted in closed form: the final MLP and the linear lift of a pose.

Sec. 4.1 feeds the centre of H_0 into an MLP to get the full mesh h_m. As in METRO, it is a chain
of learned linear maps, 431 -> 1723 -> 6890 vertices (hand: 195 -> 778). Ridge regression finds
the best such maps at once; its penalty is the one that training on meshes with independent vertex
noise would amount to, so that the maps do not amplify what noise the sampler leaves.

The lift maps the mean of U to a coarse mesh without any diffusion. It is the sceptic's row of
every table, and the "upsampling" that makes H_U (Table 5).
"""

from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from .checkpoint import load_weights, save_weights
from .coarse import CoarseMesh

VERTEX_NOISE = 0.03  # normalised units, about 1 cm on a body
LIFT_PENALTY = 1.0


def ridge(x: np.ndarray, y: np.ndarray, penalty: float) -> np.ndarray:
    """W (out, in) that minimises |x W^T - y|^2 + penalty |W|^2; x (n, in), y (n, out)."""
    x, y = x.astype(np.float64), y.astype(np.float64)
    gram = x.T @ x + penalty * np.eye(x.shape[1])
    return np.linalg.solve(gram, x.T @ y).T.astype(np.float32)


class Upsampler(nn.Module):
    """The final MLP: coarse mesh (..., V, 3) to full mesh (..., V_full, 3), same units.

    Args:
        sizes: vertices of each level, coarse to full: [431, 1723, 6890] or [195, 778].
    """

    def __init__(self, sizes: list[int]):
        super().__init__()
        self.maps = nn.ModuleList(nn.Linear(a, b, bias=False) for a, b in pairwise(sizes))

    def forward(self, h: Tensor) -> Tensor:
        """Map each coordinate over the vertices."""
        h = h.transpose(-1, -2)
        for linear in self.maps:
            h = linear(h)
        return h.transpose(-1, -2)


def levels(subject: str, mesh: CoarseMesh) -> list[np.ndarray]:
    """The vertices that the final MLP passes through, coarsest first, for `fit_upsampler`."""
    ids = {"body": (mesh.ids, mesh.mid_ids), "hand": (mesh.ids,)}[subject]
    return [level.numpy() for level in ids]


def fit_upsampler(meshes: np.ndarray, levels: list[np.ndarray]) -> Upsampler:
    """Fit the final MLP on full meshes (n, V_full, 3), normalised.

    Args:
        levels: vertex indices of each coarser level in the full mesh, coarsest first.
    """
    vertices = [*levels, np.arange(meshes.shape[1])]
    upsampler = Upsampler([len(ids) for ids in vertices])
    for linear, low, high in zip(upsampler.maps, vertices, vertices[1:], strict=False):
        x = meshes[:, low].transpose(0, 2, 1).reshape(-1, len(low))
        y = meshes[:, high].transpose(0, 2, 1).reshape(-1, len(high))
        linear.weight.data = torch.from_numpy(ridge(x, y, len(x) * VERTEX_NOISE**2))
    return upsampler.requires_grad_(False)


def fit_lift(u_mean: np.ndarray, h_0: np.ndarray) -> nn.Linear:
    """The affine map from a pose (J * 3) to a coarse mesh (V * 3), by ridge regression."""
    x, y = u_mean.reshape(len(u_mean), -1), h_0.reshape(len(h_0), -1)
    lift = nn.Linear(x.shape[1], y.shape[1])
    weight = ridge(x - x.mean(0), y - y.mean(0), LIFT_PENALTY)
    lift.weight.data = torch.from_numpy(weight)
    lift.bias.data = torch.from_numpy((y.mean(0) - weight @ x.mean(0)).astype(np.float32))
    return lift.requires_grad_(False)


def save(path: Path, upsampler: Upsampler, lift: nn.Linear) -> None:
    """Write both maps to one safetensors file."""
    weights = {f"upsampler.{name}": w for name, w in upsampler.state_dict().items()}
    weights |= {f"lift.{name}": w for name, w in lift.state_dict().items()}
    save_weights(path, weights, {"kind": "linear maps"})


def load(path: Path) -> tuple[Upsampler, nn.Linear]:
    """Read what `save` wrote; errors as in `checkpoint.load_weights`."""
    weights, _ = load_weights(path)
    maps = [w for name, w in sorted(weights.items()) if name.startswith("upsampler.")]
    upsampler = Upsampler([maps[0].shape[1], *(len(w) for w in maps)])
    lift = nn.Linear(*reversed(weights["lift.weight"].shape))
    upsampler.load_state_dict(_under("upsampler.", weights))
    lift.load_state_dict(_under("lift.", weights))
    return upsampler.requires_grad_(False), lift.requires_grad_(False)


def _under(prefix: str, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {n.removeprefix(prefix): w for n, w in weights.items() if n.startswith(prefix)}
