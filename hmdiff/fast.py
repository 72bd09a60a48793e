"""The fast path: Algorithm 1 and Ours+ with the same draws, and the networks about them, faster.

sampler.py, closed_form.py and evaluate.py are the reference, and every accuracy in the study is
theirs. Here the same processes run with what a profile of them suggests:

* g is bound to its images once. A layer norm's scale goes into the map after it; the vertex ids'
  share of the first projection is a constant, so that a step adds one vector and W h_k; and with
  keys and values of the condition fixed, cross-attention is two small maps of an image, x A before
  the softmax and B after it, which all its hypotheses and steps share.
* The gap is |mean u - f h0_hat|^2 plus the spread of u, so that its gradient needs only the mean.
* The vector-Jacobian product is written out, each piece returning its pullback. It is taken for
  chains whose DAT is active, after the activation strategy has decided.
* Matrix products are bf16 where the machine has units for it. h_k, the gap, and all that a step
  adds up stay float32.
* phi's batch norms go into the convolutions before them, and the final MLP, a chain of linear maps,
  is one map of a quarter of the weights: of a single image these take most of Ours+'s time.

torch.compile was tried on a CPU: it took three minutes to compile, and ran hardly faster.
"""

from collections.abc import Callable, Iterator
from copy import deepcopy
from itertools import pairwise
from math import sqrt
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from .closed_form import Gains, align, poses
from .denoiser import STEP_CHANNELS, Denoiser, Layer, step_embedding
from .device import best_dtype
from .diffusion import ddim_step, noise_from_h0, sigma, timesteps
from .evaluate import Bench, Knobs, Method, batches, by_image, targets
from .linear import Upsampler
from .sampler import Samples, finished, standard_noise
from .splits import Split

Pullback = Callable[[Tensor], Tensor]
Network = TypeVar("Network", bound=nn.Module)
CHUNK = 8  # chains that go through g at once on a CPU: what its caches hold
aten = torch.ops.aten


def folded(norm: nn.LayerNorm, linear: nn.Linear) -> tuple[Tensor, Tensor]:
    """W, b of a linear map that takes what `norm` normalises before scale and shift."""
    return linear.weight * norm.weight, linear.bias + linear.weight @ norm.bias


def normalise(x: Tensor) -> tuple[Tensor, Pullback]:
    """Zero mean and unit variance of each token of x (C, V, width)."""
    width = x.shape[-1:]
    y, mean, rstd = aten.native_layer_norm(x, width, None, None, 1e-5)

    def pull(dy: Tensor) -> Tensor:
        inputs_alone = [True, False, False]
        arguments = dy, x, width, mean, rstd, None, None, inputs_alone
        return aten.native_layer_norm_backward(*arguments)[0]

    return y, pull


def attend(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Callable[[Tensor], tuple]]:
    """softmax(q k^T) v, each (C * heads, V, d), and the pullback to q, k and v.

    Fused, but for bf16 on a CPU, where the fused backward takes twice the time of plain products.
    """
    if q.dtype == torch.bfloat16 and q.device.type == "cpu":
        P = torch.bmm(q, k.mT)
        torch.softmax(P, -1, out=P)

        def pull(do: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            dS = torch.bmm(do, v.mT)
            aten._softmax_backward_data(dS, P, -1, P.dtype, grad_input=dS)
            return torch.bmm(dS, k), torch.bmm(dS.mT, q), torch.bmm(P.mT, do)

        return torch.bmm(P, v), pull
    with torch.enable_grad():
        qkv = [x[None].detach().requires_grad_() for x in (q, k, v)]
        o = F.scaled_dot_product_attention(*qkv, scale=1.0)
    return o[0].detach(), lambda do: tuple(x[0] for x in torch.autograd.grad(o, qkv, do[None]))


class BoundLayer:
    """One layer of g with the condition tokens c (images, T, width) built in."""

    def __init__(self, layer: Layer, c: Tensor, dtype: torch.dtype):
        own, cross, (norm, up, _, down) = layer.vertices, layer.image, layer.feedforward
        H, width = own.heads, own.out.in_features
        self.heads = H
        W_q, b_q = folded(own.norm, own.query)
        W_kv, b_kv = folded(own.norm, own.key_value)
        scale = sqrt(H / width)
        W, b = torch.cat([scale * W_q, W_kv]), torch.cat([scale * b_q, b_kv])
        W_q, b_q = (scale * x.unflatten(0, (H, -1)) for x in folded(cross.norm, cross.query))
        k, v = (x.unflatten(-1, (H, -1)) for x in cross.key_value(c).chunk(2, dim=-1))  # B T H d
        A = torch.einsum("hdw,bthd->bwht", W_q, k).flatten(2)  # B width H*T
        a = torch.einsum("hd,bthd->bht", b_q, k).flatten(1)[:, None]
        B = torch.einsum("bthd,whd->bhtw", v, cross.out.weight.unflatten(1, (H, -1)))
        B = (B + cross.out.bias / H).flatten(1, 2)  # the weights of each head add up to 1

        def cast(*tensors: Tensor) -> tuple[Tensor, ...]:
            return tuple(x.to(dtype) for x in tensors)

        self.qkv, self.out = cast(W, b), cast(own.out.weight, own.out.bias)
        self.cross = cast(A, a, B)
        self.up, self.down = cast(*folded(norm, up)), cast(down.weight, down.bias)

    def __call__(self, x: Tensor, image: Tensor) -> tuple[Tensor, Pullback]:
        """x (C, V, width), the image of each chain (C,) -> (C, V, width), and the pullback."""
        pulls = []
        for block in (self.vertices, lambda x: self.image(x, image), self.feedforward):
            y, pull = block(x)
            x = x + y
            pulls.append(pull)

        def pull(dx: Tensor) -> Tensor:
            for back in reversed(pulls):
                dx = dx + back(dx)
            return dx

        return x, pull

    def vertices(self, x: Tensor) -> tuple[Tensor, Pullback]:
        """Vertex self-attention."""
        (C, V, width), H = x.shape, self.heads
        (W, b), (W_out, b_out) = self.qkv, self.out
        y, pull_norm = normalise(x)
        qkv = F.linear(y, W, b).view(C, V, 3, H, -1).permute(2, 0, 3, 1, 4)
        o, pull_attention = attend(*qkv.reshape(3, C * H, V, -1).unbind(0))
        o = o.view(C, H, V, -1).transpose(1, 2).reshape(C, V, width)

        def pull(dx: Tensor) -> Tensor:
            do = (dx @ W_out).view(C, V, H, -1).transpose(1, 2).reshape(C * H, V, -1)
            dqkv = torch.stack(pull_attention(do)).view(3, C, H, V, -1).permute(1, 3, 0, 2, 4)
            return pull_norm(dqkv.reshape(C, V, -1) @ W)

        return F.linear(o, W_out, b_out), pull

    def image(self, x: Tensor, image: Tensor) -> tuple[Tensor, Pullback]:
        """Vertex-image cross-attention."""
        (C, V, _), (A, a, B) = x.shape, (part[image] for part in self.cross)
        y, pull_norm = normalise(x)
        P = torch.baddbmm(a, y, A).view(C, V, self.heads, -1).softmax(-1)

        def pull(dx: Tensor) -> Tensor:
            dP = torch.bmm(dx, B.mT).view_as(P)
            dS = aten._softmax_backward_data(dP, P, -1, P.dtype)
            return pull_norm(torch.bmm(dS.flatten(2), A.mT))

        return torch.bmm(P.flatten(2), B), pull

    def feedforward(self, x: Tensor) -> tuple[Tensor, Pullback]:
        """The feed-forward block."""
        (W_1, b_1), (W_2, b_2) = self.up, self.down
        y, pull_norm = normalise(x)
        z = F.linear(y, W_1, b_1)

        def pull(dx: Tensor) -> Tensor:
            return pull_norm(aten.gelu_backward(dx @ W_2, z) @ W_1)

        return F.linear(F.gelu(z), W_2, b_2), pull


class BoundDenoiser:
    """g bound to the conditions c (images, T, width) of a batch of images.

    `dtype` is that of its matrix products; meshes go in and come out in float32.
    """

    def __init__(self, g: Denoiser, c: Tensor, dtype: torch.dtype):
        net, self.output, self.alpha = g.net, g.output, g.alpha
        W = net.inputs.weight
        W_id, W_d, W_h = W.split([W.shape[1] - STEP_CHANNELS - 3, STEP_CHANNELS, 3], dim=1)
        self.ids = net.vertex_id @ W_id.T + net.inputs.bias  # V width
        self.W_d, self.W_h, self.dtype = W_d, W_h, dtype
        self.layers = [BoundLayer(layer, c, dtype) for layer in net.layers]
        self.last = tuple(x.to(dtype) for x in folded(net.norm, net.output))

    def network(self, h_k: Tensor, k: int, image: Tensor) -> tuple[Tensor, Pullback]:
        """The network's own output at chains h_k (C, V, 3) of the images `image` (C,), and its
        vector-Jacobian product: (C, V, 3) -> (C, V, 3)."""
        (W, b), pulls = self.last, []
        step = step_embedding(torch.tensor([k], device=h_k.device))[0] @ self.W_d.T
        x = (self.ids + step + h_k @ self.W_h.T).to(self.dtype)
        for layer in self.layers:
            x, pull = layer(x, image)
            pulls.append(pull)
        y, pull_norm = normalise(x)

        def pull(d: Tensor) -> Tensor:
            dx = pull_norm(d.to(self.dtype) @ W)
            for back in reversed(pulls):
                dx = back(dx)
            return dx.float() @ self.W_h

        return F.linear(y, W, b).float(), pull

    def estimate(self, h_k: Tensor, k: int, image: Tensor) -> tuple[Tensor, Tensor, Pullback]:
        """s, h0_hat (C, V, 3 each), and the pullback from h0_hat to h_k, through s."""
        out, pull = self.network(h_k, k, image)
        (s_h, s_o), (h0_h, h0_o) = mixture(self.output, float(self.alpha[k]))
        s, h0_hat = s_h * h_k + s_o * out, h0_h * h_k + h0_o * out
        return s, h0_hat, lambda d: h0_h * d + h0_o * pull(d)

    def chunks(self, chains: Tensor) -> Iterator[Tensor]:
        """Indices of chains, in pieces that go through g at once."""
        if len(chains):
            yield from chains.split(CHUNK if chains.device.type == "cpu" else len(chains))


def mixture(output: str, alpha_k: float) -> tuple[tuple[float, float], tuple[float, float]]:
    """What s and h0_hat are of h_k and of the network's output: their weights, by `g.output`."""
    a, b = sqrt(alpha_k), sqrt(1 - alpha_k)
    return {
        "v": ((b, a), (a, -b)),
        "epsilon": ((0.0, 1.0), (1 / a, -b / a)),
        "h0": ((1 / b, -a / b), (0.0, 1.0)),
    }[output]


@torch.no_grad()
def sample(
    g: BoundDenoiser,
    f: Tensor,
    u: Tensor,
    image: Tensor,
    steps: int,
    gamma: float,
    r: float,
    generator: torch.Generator,
    eta: float = 0.0,
) -> Samples:
    """Algorithm 1; `sampler.sample` with `Guidance("h0_hat", gamma, r)` is its reference.

    Args:
        u: poses of each image, (images, N, J, 3).
        image: of each chain, (B,).
    """
    mean = u.mean(dim=1)
    spread = (u - mean[:, None]).square().sum(dim=(2, 3)).mean(dim=1)[image]
    mean, D_K = mean[image], None
    h_k = standard_noise(u.new_empty(len(image), f.shape[1], 3), generator)
    act = torch.ones(len(image), dtype=torch.bool, device=f.device)
    R, active = [], []
    for k, k_prev in pairwise([*timesteps(len(g.alpha) - 1, steps), 0]):
        s, h0_hat, gradient = torch.empty_like(h_k), torch.empty_like(h_k), torch.zeros_like(h_k)
        D_k = spread.clone()
        for group in (act.nonzero()[:, 0], (~act).nonzero()[:, 0]):
            for now in g.chunks(group):
                s[now], h0_hat[now], pull = g.estimate(h_k[now], k, image[now])
                away = mean[now] - f @ h0_hat[now]
                D_k[now] += away.square().sum(dim=(1, 2))
                if D_K is not None:
                    act[now] &= D_k[now] / D_K[now] >= r
                if act[now].any():
                    gradient[now] = pull(-2 * f.T @ away)
        if D_K is None:
            D_K = D_k
            act &= r <= 1  # R_K is 1
        R.append(D_k / D_K)
        active.append(act.clone())
        sigma_k = sigma(float(g.alpha[k]), float(g.alpha[k_prev]), eta)
        z_k = standard_noise(h_k, generator) if eta else torch.zeros_like(h_k)
        h_k = ddim_step(s, h0_hat, float(g.alpha[k_prev]), sigma_k, z_k)
        h_k = h_k - gamma * act[:, None, None] * gradient
    return finished(h_k, R, active)


@torch.no_grad()
def bind(bench: Bench, variant: str, part: Split, dtype: torch.dtype | None) -> BoundDenoiser:
    """A trained g bound to the images of `part`; dtype None is the machine's best."""
    g, device = bench.system(variant), bench.mesh.f.device
    c = g.condition(part.f_I.to(device), part.heat.to(device))
    return BoundDenoiser(g, c, dtype or best_dtype(device))


def run(
    bench: Bench,
    method: Method,
    knobs: Knobs,
    split: Split,
    seed: int = 0,
    dtype: torch.dtype | None = None,
) -> Samples:
    """As `evaluate.run`, of a method that DAT guides from noise: Ours, w/o AS, w/ u_c.

    Raises:
        ValueError: the method is another.
    """
    if (method.at, method.start, method.D_K) != ("h0_hat", "noise", "h0_hat"):
        raise ValueError(f"the fast path runs DAT from noise alone, not {method}")
    f, n, parts = bench.mesh.f, knobs.hypotheses, []
    for images, batch_seed in batches(len(split), n, seed):
        part = split.take(images)
        generator = torch.Generator().manual_seed(batch_seed)
        u, _ = targets(bench, method, knobs, part, generator)
        g = bind(bench, method.checkpoint, part, dtype)
        image = torch.arange(len(part), device=f.device).repeat_interleave(n)
        r, u = knobs.r if method.strategy else 0.0, u.to(f)
        samples = sample(g, f, u, image, knobs.steps, knobs.gamma, r, generator, knobs.eta)
        parts.append(samples.cpu())
    return by_image(parts, n)


@torch.no_grad()
def sample_plus(
    bench: Bench,
    knobs: Knobs,
    split: Split,
    gains: Gains,
    seed: int = 0,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """As `closed_form.sample_plus`: (n, hypotheses, V, 3), in main memory."""
    f, n, parts = bench.mesh.f, knobs.hypotheses, []
    for images, batch_seed in batches(len(split), n, seed):
        part = split.take(images)
        generator = torch.Generator().manual_seed(batch_seed)
        u = poses(part.U, n, gains.width, generator).flatten(0, 1).to(f)
        g = bind(bench, "image", part, dtype)
        image = torch.arange(len(part), device=f.device).repeat_interleave(n)
        h_k = standard_noise(u.new_empty(len(u), f.shape[1], 3), generator)
        ks = [*timesteps(len(g.alpha) - 1, knobs.steps), 0]
        every = torch.arange(len(u), device=f.device)
        for G, (k, k_prev) in zip(gains.G, pairwise(ks), strict=True):
            seen = [g.estimate(h_k[now], k, image[now])[1] for now in g.chunks(every)]
            h0_hat = align(torch.cat(seen), u, f, G)
            s = noise_from_h0(h_k, h0_hat, g.alpha[k])
            h_k = ddim_step(s, h0_hat, float(g.alpha[k_prev]), 0.0, torch.zeros_like(h_k))
        parts.append(h_k.cpu())
    return torch.cat(parts).unflatten(0, (-1, n))


def without_norms(network: Network) -> Network:
    """A copy for evaluation, each batch norm gone into the convolution that its module has before
    it."""
    network = deepcopy(network).eval()
    for module in network.modules():
        for (first, conv), (second, norm) in pairwise(list(module.named_children())):
            if isinstance(norm, nn.BatchNorm2d):
                turned = isinstance(conv, nn.ConvTranspose2d)
                setattr(module, first, fuse_conv_bn_eval(conv, norm, transpose=turned))
                setattr(module, second, nn.Identity())
    return network


def as_one_map(upsampler: Upsampler) -> Upsampler:
    """The final MLP with its maps multiplied out."""
    W = upsampler.maps[0].weight
    for linear in upsampler.maps[1:]:
        W = linear.weight @ W
    one = Upsampler([W.shape[1], W.shape[0]]).to(W)
    one.maps[0].weight.data = W
    return one.requires_grad_(False)
