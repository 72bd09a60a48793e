"""The denoiser g and the two baselines without diffusion, built from the same layers (Sec. 4.3).

One token per vertex: x_v = [E_ID (64) | E_d (61) | coordinates (3)], 128 wide. A layer is vertex
self-attention, then vertex-image cross-attention, then a feed-forward block; g has one layer and
a linear output. The condition is the image feature f_I (49 tokens), the pose heatmaps (J tokens),
or both.

Notation: h_k (B, V, 3) normalised; k (B,) integer steps; f_I (B, 128, 49); heat (B, 2J, 14, 14)
the pooled heatmaps; c (B, T, width) condition tokens.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .diffusion import noise_from_h0, noise_from_v

STEP_CHANNELS, COORDINATES = 61, 3
HEAT_CELLS = 14 * 14


def step_embedding(k: Tensor) -> Tensor:
    """DDIM's sinusoidal embedding of steps k (B,): 30 sines, 30 cosines and one zero, (B, 61)."""
    half = STEP_CHANNELS // 2
    frequency = 10000.0 ** (-torch.arange(half, device=k.device) / (half - 1))
    phase = k[:, None].float() * frequency
    return F.pad(torch.cat([phase.sin(), phase.cos()], dim=1), (0, 1))


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(q k^T / sqrt(d)) v, over (..., tokens, d).

    Fused, but for bf16 on a CPU, where the fused backward takes twice the time of plain products.
    """
    if q.dtype == torch.bfloat16 and q.device.type == "cpu":
        return (q * q.shape[-1] ** -0.5 @ k.mT).softmax(-1) @ v
    return F.scaled_dot_product_attention(q, k, v)


class Attention(nn.Module):
    """Multi-head attention of x (B, V, width) to c (B, T, width), added to x; x is normalised."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, c: Tensor | None = None) -> Tensor:
        """c = None is self-attention. Returns (B, V, width)."""
        y = self.norm(x)
        q = self._split(self.query(y))
        k, v = map(self._split, self.key_value(y if c is None else c).chunk(2, dim=-1))
        y = attend(q, k, v)  # B heads V width/heads
        return x + self.out(y.transpose(1, 2).flatten(2))

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # B heads T width/heads


class Layer(nn.Module):
    """Vertex self-attention, vertex-image cross-attention, feed-forward block."""

    def __init__(self, width: int, heads: int, feedforward: int):
        super().__init__()
        self.vertices = Attention(width, heads)
        self.image = Attention(width, heads)
        self.feedforward = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, feedforward),
            nn.GELU(),
            nn.Linear(feedforward, width),
        )

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        """x (B, V, width), c (B, T, width) -> (B, V, width)."""
        x = self.image(self.vertices(x), c)
        return x + self.feedforward(x)


class VertexTransformer(nn.Module):
    """Tokens of a mesh and a condition in, three numbers a vertex out.

    Args:
        V: coarse vertices.
        J: joints, or 0 when the pose heatmaps are no input.
        image: whether the image feature is an input.
        width, heads, feedforward, layers: sizes; the paper's g has width 128 and one layer.
    """

    def __init__(
        self,
        V: int,
        J: int,
        image: bool,
        width: int,
        heads: int,
        feedforward: int,
        layers: int = 1,
    ):
        super().__init__()
        self.vertex_id = nn.Parameter(torch.randn(V, width - STEP_CHANNELS - COORDINATES))
        if image:
            self.image = nn.Sequential(nn.LayerNorm(128), nn.Linear(128, width))
            self.cell = nn.Parameter(torch.randn(49, width) * 0.02)
        if J:
            self.heat = nn.Linear(2 * HEAT_CELLS, width)
            self.joint = nn.Parameter(torch.randn(J, width) * 0.02)
        self.inputs = nn.Linear(width, width)
        self.layers = nn.ModuleList(Layer(width, heads, feedforward) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.output = nn.Linear(width, 3)
        nn.init.zeros_(self.output.weight)
        nn.init.zeros_(self.output.bias)

    def condition(self, f_I: Tensor, heat: Tensor) -> Tensor:
        """Condition tokens c (B, T, width): 49 of the image feature and/or J of the heatmaps."""
        tokens = []
        if hasattr(self, "image"):
            tokens.append(self.image(f_I.transpose(1, 2)) + self.cell)
        if hasattr(self, "heat"):
            maps = heat.unflatten(1, (2, -1)).transpose(1, 2).flatten(2)  # B J (2 * 196)
            # Scaled so that a cell of a uniform map reads 1.
            tokens.append(self.heat(maps * HEAT_CELLS) + self.joint)
        return torch.cat(tokens, dim=1)

    def forward(self, h: Tensor, k: Tensor, c: Tensor) -> Tensor:
        """h (B, V, 3), k (B,), c (B, T, width) -> (B, V, 3)."""
        B, V, _ = h.shape
        E_ID = self.vertex_id.expand(B, -1, -1)
        E_d = step_embedding(k)[:, None].expand(-1, V, -1)
        x = self.inputs(torch.cat([E_ID, E_d, h], dim=-1))
        for layer in self.layers:
            x = layer(x, c)
        return self.output(self.norm(x))


class Denoiser(nn.Module):
    """g: the noise in h_k, given step and condition.

    Args:
        net: the vertex transformer.
        alpha: the schedule (K + 1,).
        output: what the network itself puts out, `epsilon` (the noise), `h0` (the clean mesh) or
            `v` (a mixture that stays well conditioned at every noise level, see
            `diffusion.noise_from_v`).
        literal: whether L_Diff's target is h_{k-1} - h_k, as printed, instead of the noise.
    """

    def __init__(self, net: VertexTransformer, alpha: Tensor, output: str, literal: bool = False):
        super().__init__()
        self.net, self.output, self.literal = net, output, literal
        self.register_buffer("alpha", alpha, persistent=False)

    def condition(self, f_I: Tensor, heat: Tensor) -> Tensor:
        """The condition tokens c (B, T, width)."""
        return self.net.condition(f_I, heat)

    def forward(self, h_k: Tensor, k: Tensor, c: Tensor) -> Tensor:
        """h_k (B, V, 3), k (B,), c (B, T, width) -> the noise s (B, V, 3)."""
        out = self.net(h_k, k, c)
        if self.output == "epsilon":
            return out
        convert = noise_from_v if self.output == "v" else noise_from_h0
        return convert(h_k, out, self.alpha[k])


class Baseline(nn.Module):
    """Baselines A (one layer) and B (several): the mesh in one pass, without diffusion (Tab. 3).

    The tokens carry the mean mesh in place of h_k and step 0; the output is added to the mean.
    """

    def __init__(self, net: VertexTransformer, mean: Tensor):
        super().__init__()
        self.net = net
        self.register_buffer("mean", mean)

    def condition(self, f_I: Tensor, heat: Tensor) -> Tensor:
        """The condition tokens c (B, T, width)."""
        return self.net.condition(f_I, heat)

    def forward(self, c: Tensor) -> Tensor:
        """c (B, T, width) -> the mesh h_0 (B, V, 3), normalised."""
        B = len(c)
        h = self.mean.expand(B, -1, -1)
        return h + self.net(h, torch.zeros(B, dtype=torch.long, device=c.device), c)
