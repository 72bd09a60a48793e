"""Ours+: the alignment in closed form, where Algorithm 1 descends a gradient.

f is linear, so the mesh that U's mean asks for needs no descent. At each step

    h0_hat <- h0_hat + G_k (u - f h0_hat)

with the gain G_k (3V x 3J, kept transposed) that is best in the mean square: the ridge regression
of what h0_hat misses on the gap that U shows. With the mean mesh in place of h0_hat this is the
linear lift, and with one Gaussian joint noise it is a Kalman filter's update. The gain knows how
far U can be trusted, joint by joint, so there is no gamma, no threshold and no gradient through g.
It is fitted on the split that trains g, whose images phi has not seen. g has: where it misses less
there than elsewhere, the gain trusts it too much.

The prediction aligns every chain with the mean of U. Hypotheses align each with a pose of its own,
so that they show how unsure U is: u_i ~ U, drawn in towards its mean by one factor, the `width`.
For U takes its joints to be independent and is too unsure of itself; with the factor the spread of
the hypotheses is as large as the error of the prediction, in the mean over validation images.
"""

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from tqdm import tqdm

from . import processes
from .diffusion import ddim_step, estimate_h0, noise_from_h0, timesteps
from .evaluate import (
    CHAINS,
    Bench,
    Knobs,
    batches,
    default_knobs,
    measure,
    remembered,
    rows,
    smallest,
)
from .linear import ridge
from .pose import PoseDistribution
from .sampler import standard_noise
from .splits import Split
from .train import predict

PLUS = "Ours+"
ORACLE = "Lift of the true joints"
FITTED_ON = 6000  # images of the split that trains g; 1,500 cost bodies 2.5 mm of MPVE
WIDTH_ON, POSES = 192, 5  # validation images, and poses of each, for the width of hypotheses
PENALTY = 0.01  # of the ridge, in mean squares of the gap; 0.001 to 0.1 changed MPVE by under 1 mm
TRUTH_PENALTY = 1e-6  # true joints carry no noise


def fit_gain(
    h_0: Tensor, h0_hat: Tensor, u_mean: Tensor, f: Tensor, penalty: float = PENALTY
) -> Tensor:
    """G (3J, 3V): the ridge regression of h_0 - h0_hat (n, V, 3) on u_mean - f h0_hat (n, J, 3)."""
    gap = (u_mean - f @ h0_hat).flatten(1).cpu().numpy()
    missed = (h_0 - h0_hat).flatten(1).cpu().numpy()
    gain = ridge(gap, missed, penalty * np.square(gap).sum() / gap.shape[1])
    return torch.from_numpy(gain).T.to(f)


def align(h0_hat: Tensor, u: Tensor, f: Tensor, gain: Tensor) -> Tensor:
    """h0_hat + G (u - f h0_hat): meshes (B, V, 3), poses (B, J, 3)."""
    return h0_hat + ((u - f @ h0_hat).flatten(1) @ gain).unflatten(1, (-1, 3))


@dataclass(frozen=True)
class Gains:
    """What is fitted for Ours+: G_k of each step, (3J, 3V), and the poses' `width` (1: U's own)."""

    G: list[Tensor]
    width: float


def poses(U: PoseDistribution, n: int, width: float, generator: torch.Generator) -> Tensor:
    """n poses an image, (B, n, J, 3): drawn from U, each `width` times as far from its mean; with
    width 0 all are the mean."""
    mean = U.mean()[:, None]
    if not width:
        return mean.expand(-1, n, -1, -1)
    return mean + width * (U.sample(n, generator) - mean)


@torch.no_grad()
def reverse(
    bench: Bench, part: Split, u: Tensor, steps: int, G: list[Tensor],
    generator: torch.Generator, fit: bool = False,
) -> Tensor:  # fmt: skip
    """The aligned reverse process: samples h_0 (B * n, V, 3) of B images, one for each pose u.

    Args:
        u: B x n x J x 3.
        G: the gain of each step.
        fit: whether to fit the gains, from the meshes of `part`, and append them to `G`.
    """
    g, f, n = bench.system("image"), bench.mesh.f, u.shape[1]
    h_k = standard_noise(u.new_empty(len(u) * n, f.shape[1], 3), generator).to(f)
    u, alpha = u.flatten(0, 1).to(f), g.alpha
    c = g.condition(part.f_I.to(f), part.heat.to(f))
    image = torch.arange(len(part), device=f.device).repeat_interleave(n)
    for i, (k, k_prev) in enumerate(pairwise([*timesteps(len(alpha) - 1, steps), 0])):
        at_k = torch.full((CHAINS,), k, device=f.device)
        s = torch.cat(
            [
                g(h_k[rows], at_k[: len(rows)], c[image[rows]])
                for rows in torch.arange(len(h_k)).split(CHAINS)
            ]
        )
        h0_hat = estimate_h0(h_k, s, alpha[k])
        if fit:
            G.append(fit_gain(part.h_0.to(f), h0_hat, u, f))
        h0_hat = align(h0_hat, u, f, G[i])
        s = noise_from_h0(h_k, h0_hat, alpha[k])
        h_k = ddim_step(s, h0_hat, float(alpha[k_prev]), 0.0, torch.zeros_like(h_k))
    return h_k


def fit_gains(bench: Bench, g_split: Split, steps: int) -> list[Tensor]:
    """G_k of each step, fitted on the split that trains g along its own reverse process."""
    part, G = g_split.evenly(FITTED_ON), []
    generator = torch.Generator().manual_seed(bench.seed)
    reverse(bench, part, part.u_mean[:, None], steps, G, generator, fit=True)
    return G


def fit_width(bench: Bench, val: Split, steps: int, G: list[Tensor]) -> float:
    """The poses' width at which hypotheses spread as far as the prediction errs (RMS).

    Their variance is that of the chains' own noise and, by the width squared, that of the poses.
    """
    part = val.evenly(WIDTH_ON)

    def hypotheses(width: float) -> Tensor:
        generator = torch.Generator().manual_seed(bench.seed)
        u = poses(part.U, POSES, width, generator)
        return reverse(bench, part, u, steps, G, generator).cpu().unflatten(0, (-1, POSES))

    narrow, wide = hypotheses(0.0), hypotheses(1.0)
    noise, whole = (float(h_0.var(dim=1).mean()) for h_0 in (narrow, wide))
    error = float((narrow.mean(dim=1) - part.h_0).square().mean())
    return (max(error - noise, 0.0) / max(whole - noise, 1e-12)) ** 0.5


def fit(bench: Bench, g_split: Split, val: Split, steps: int) -> Gains:
    """All that Ours+ needs to draw hypotheses, see `fit_gains` and `fit_width`."""
    G = fit_gains(bench, g_split, steps)
    return Gains(G, fit_width(bench, val, steps, G))


def sample_plus(bench: Bench, knobs: Knobs, split: Split, gains: Gains, seed: int = 0) -> Tensor:
    """`knobs.hypotheses` coarse meshes for each image: (n, hypotheses, V, 3), in main memory."""
    n = knobs.hypotheses
    parts = []
    for images, batch_seed in processes.mine(batches(len(split), n, seed)):
        part = split.take(images)
        generator = torch.Generator().manual_seed(batch_seed)
        u = poses(part.U, n, gains.width, generator)
        parts.append(reverse(bench, part, u, knobs.steps, gains.G, generator).cpu())
    return torch.cat(processes.together(parts)).unflatten(0, (-1, n))


def predict_plus(bench: Bench, knobs: Knobs, split: Split, G: list[Tensor]) -> Tensor:
    """The prediction of Ours+, coarse meshes (n, V, 3): the centre of `knobs.hypotheses` chains
    that all align with the mean of U."""
    return sample_plus(bench, knobs, split, Gains(G, width=0.0), bench.seed).mean(dim=1)


def evaluate_plus(bench: Bench, knobs: Knobs, split: Split, g_split: Split) -> pd.DataFrame:
    """Per-image errors of what Ours+ predicts."""

    def make() -> pd.DataFrame:
        h_0 = predict_plus(bench, knobs, split, fit_gains(bench, g_split, knobs.steps))
        errors = measure(bench, h_0, split)
        found = {"steps": knobs.steps, "hypotheses": knobs.hypotheses}
        return rows(bench, PLUS, errors, split, **found)

    key = {"method": PLUS, "knobs": vars(knobs)}
    return remembered(bench, key, "image", (split, g_split), make)


def sweep_plus(bench: Bench, split: Split, g_split: Split) -> tuple[pd.DataFrame, Knobs]:
    """Tune the steps of Ours+ on validation images; as `evaluate.sweep`."""
    frames, knobs = {}, default_knobs(bench.params)
    for steps in tqdm(bench.params.tune.plus_steps, desc=f"{bench.subject} {PLUS} {bench.seed}"):
        frame = evaluate_plus(bench, replace(knobs, steps=steps), split, g_split)
        frames[steps] = frame.assign(knob="steps", value=float(steps))
    errors = {steps: frame["MPVE"].mean() for steps, frame in frames.items()}
    best = smallest(errors, bench.params.tune.slack)
    return pd.concat(frames.values(), ignore_index=True), replace(knobs, steps=best)


def evaluate_lift_of_baseline(bench: Bench, split: Split, g_split: Split) -> pd.DataFrame:
    """The sceptic's Ours+: Baseline A's mesh aligned with the mean of U, without any diffusion."""
    model, f = bench.system("baseline_a"), bench.mesh.f
    h_0 = predict(model, g_split)
    gain = fit_gain(g_split.h_0.to(f), h_0, g_split.u_mean.to(f), f)
    h_0 = align(predict(model, split), split.u_mean.to(f), f, gain)
    return rows(bench, "Lift + Baseline A", measure(bench, h_0, split), split, steps=1)


def evaluate_lift_of_truth(bench: Bench, split: Split, g_split: Split) -> pd.DataFrame:
    """An oracle: the linear lift of the true joints f(h_0), fitted on the split that trains g.

    What a perfect U would leave for a prior of meshes to do; no prediction.
    """
    f = bench.mesh.f.cpu()
    prior = g_split.h_0.mean(dim=0)
    gain = fit_gain(g_split.h_0, prior.expand_as(g_split.h_0), f @ g_split.h_0, f, TRUTH_PENALTY)
    h_0 = align(prior.expand_as(split.h_0), f @ split.h_0, f, gain)
    return rows(bench, ORACLE, measure(bench, h_0, split), split)
