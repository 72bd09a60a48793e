"""Are the hypotheses a distribution? A proper score of all of them beside their centre's error.

MPVE judges one mesh, and the best single answer to an image that leaves a pose open is the mean of
what is possible: one step from noise gives it, and samples are punished for being samples. The
energy score (Gneiting and Raftery 2007, Sec. 4.3) judges the N hypotheses x_i as a distribution.
Of a vertex whose truth is y it is

    mean_i |x_i - y|  -  1/2 mean_{i != j} |x_i - x_j|

in mm, less is better, and no distribution scores better in expectation than that of the truth. A
single answer's score is its error, so that the mean over vertices of one mesh is its MPVE. The
second mean leaves out i = j (Ferro 2014), so that few hypotheses score as many would.

Vertex by vertex it does not ask whether a mesh hangs together. Two more scores do: that of the
whole mesh, one point in 3V dimensions whose distances are RMS over the vertices; and that of the
edges' lengths, where |.| is that of one number (the CRPS): a pose that stretches a limb pays.

The sceptic's rows have no diffusion: Baseline A and the linear lift of mean(U), one answer each,
and the lifts of poses drawn from U, their spread fitted on validation images as that of Ours+. Lest
a diffusion be behind for want of training, those of Table 4 are scored as well where they trained
for longer.
"""

from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from tqdm import tqdm

from . import hypotheses
from .checkpoint import fingerprint
from .closed_form import PLUS, POSES, WIDTH_ON, Gains, poses
from .evaluate import CHECKPOINTS, LIFT, Bench, Knobs, lift, remembered
from .pose import PoseDistribution
from .splits import Split
from .train import LENGTHS, predict

DIFFUSIONS = ("Image Feature", "Pose Feature", "Both Features", "Ours", "Ours w/ H_U")
LIFTED = "Linear lift of samples of U"
LONGER = ("Image Feature", "Pose Feature", "Both Features")  # scored after longer trainings too
NO_DIFFUSION = ("Baseline A", LIFT, LIFTED)

SCORES = {"score": "vertex by vertex", "whole": "of the whole mesh", "edges": "of edge lengths"}


def energy_score(x: Tensor, y: Tensor) -> Tensor:
    """The score of each point: hypotheses (N, P, D) and truth (P, D) to (P,), in their unit."""
    N = len(x)
    to_truth = (x - y).norm(dim=-1).mean(dim=0)
    pairs = sum((x[i] - x[:i]).norm(dim=-1).sum(dim=0) for i in range(1, N))
    return to_truth - (pairs / (N * (N - 1)) if N > 1 else 0)


def score(bench: Bench, h_0: Tensor, split: Split) -> dict[str, np.ndarray]:
    """Of hypotheses h_0 (n, N, V, 3), each mesh at its own root, mm, each (n,): `SCORES`, `centre`
    (MPVE of their centre), `single` (the mean MPVE of one) and `edge` (the mean error of an edge's
    length in one)."""
    ends, found = bench.mesh.ids[bench.mesh.edges].cpu(), []

    def lengths(x: Tensor) -> Tensor:
        start, end = (x[..., vertices, :] for vertices in ends.T)
        return (start - end).norm(dim=-1, keepdim=True)

    for x, y in hypotheses.rooted_mm(bench, h_0, split):
        whole_x, whole_y = (z.flatten(-2)[..., None, :] / len(y) ** 0.5 for z in (x, y))
        length_x, length_y = lengths(x), lengths(y)
        errors = {
            "score": energy_score(x, y),
            "whole": energy_score(whole_x, whole_y),
            "edges": energy_score(length_x, length_y),
            "centre": (x.mean(dim=0) - y).norm(dim=-1),
            "single": (x - y).norm(dim=-1),
            "edge": (length_x - length_y).abs(),
        }
        found.append({name: float(error.mean()) for name, error in errors.items()})
    return {name: np.array([errors[name] for errors in found]) for name in found[0]}


def lifted(bench: Bench, split: Split, val: Split, N: int) -> Tensor:
    """LIFTED: the linear lifts (n, N, V, 3) of N poses an image, drawn from U with so much of its
    spread that on `val` meshes stray as far as the lift of its mean errs (RMS)."""
    part = val.evenly(WIDTH_ON)

    def lifts(U: PoseDistribution, N: int, width: float) -> Tensor:
        u = poses(U, N, width, torch.Generator().manual_seed(bench.seed))
        return lift(bench, u.flatten(0, 1)).cpu().unflatten(0, (-1, N))

    error = (lift(bench, part.u_mean).cpu() - part.h_0).square().mean()
    variance = lifts(part.U, POSES, 1.0).var(dim=1).mean()
    return lifts(split.U, N, float((error / variance).sqrt()))


def evaluate(
    bench: Bench, tuned: dict[str, Knobs], split: Split, gains: Gains, val: Split
) -> pd.DataFrame:
    """Scores of the sceptics, of Ours+ as tuned, and of DIFFUSIONS with each number of steps.

    Args:
        tuned: the knobs of each method.
        gains: those of Ours+, fitted for its tuned steps.
        val: validation images, which the spread of lifted samples is fitted on.

    Returns:
        a row an image, method and number of steps: image, dataset, person, method ("Image Feature,
        fourfold" if trained for so long), steps (0: no diffusion), and what `score` finds.
    """
    chosen = bench.params.hypotheses
    runs = [(name, name, 0, bench) for name in NO_DIFFUSION]
    runs += [(PLUS, PLUS, tuned[PLUS].steps, bench)]
    runs += [(name, name, steps, bench) for name in DIFFUSIONS for steps in chosen.steps]
    for length in (name for name in bench.params.readings.lengths if LENGTHS[name] > 1):
        longer = bench.of_length(length, [CHECKPOINTS[name] for name in LONGER])
        names = [(f"{name}, {length}", name) for name in LONGER]
        runs += [(*name, steps, longer) for name in names for steps in chosen.steps]
    frames = []
    for label, name, steps, of in tqdm(runs, desc=f"{bench.subject} scores"):
        variant = CHECKPOINTS.get(name, "image")
        key = {"scored": name, "steps": steps, "N": chosen.scored}
        key |= {"tuned": vars(tuned[name]) if name in tuned else None}
        key |= {"gains": fingerprint(gains.G), "width": gains.width}
        make = partial(evaluate_one, of, name, steps, tuned, split, gains, val)
        frame = remembered(of, key, variant, (split, val), make)
        frames.append(frame.assign(method=label))
    return pd.concat(frames, ignore_index=True)


def evaluate_one(
    bench: Bench, name: str, steps: int, tuned: dict[str, Knobs], split: Split, gains: Gains,
    val: Split,
) -> pd.DataFrame:  # fmt: skip
    """The rows of one method and number of steps, see `evaluate`."""
    N = bench.params.hypotheses.scored
    if name == "Baseline A":
        h_0 = predict(bench.system("baseline_a"), split)[:, None]
    elif name == LIFT:
        h_0 = lift(bench, split.u_mean)[:, None]
    elif name == LIFTED:
        h_0 = lifted(bench, split, val, N)
    else:
        knobs = {name: replace(tuned[name], steps=steps)}
        h_0 = hypotheses.draw(bench, name, knobs, split, gains, N).h_0
    frame = split.index[["image", "dataset", "person"]].assign(method=name, steps=steps)
    return frame.assign(**score(bench, h_0.cpu(), split))
