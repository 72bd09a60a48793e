"""Many hypotheses an image: what their number does to the error, and what their spread is worth.

The paper answers with the centre of H_0 and sees in pictures a "strong ability to handle
uncertainty" (Sec. 5); it does not measure whether the hypotheses know where they are wrong. Here
they are held against the truth vertex by vertex:

    centre   the mean of the N hypotheses of an image, each moved to its own root as for MPVE
    spread   how far a vertex strays from its centre (RMS), as large as the RMS error of the centre
             if the truth is one more draw from the same distribution
    error    the distance of a vertex of the centre from the truth

Notation: n images, N hypotheses, V vertices of the full mesh; lengths in mm.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import torch
from scipy.stats import chi, spearmanr

from .closed_form import PLUS, Gains, sample_plus
from .evaluate import METHODS, Bench, Knobs, full_mesh_mm, measure, run
from .sampler import Samples
from .splits import Split

MEASURED = ("MPVE", "MPJPE", "PA_MPJPE")


def draw(
    bench: Bench, name: str, tuned: dict[str, Knobs], split: Split, gains: Gains, N: int
) -> Samples:
    """N hypotheses of a method for each image of a split, h_0 (n, N, V_coarse, 3).

    Args:
        tuned: the knobs of each method.
        gains: those of Ours+, fitted for its tuned steps.

    Raises:
        ValueError: no method has that name.
    """
    if name == PLUS:
        knobs = replace(tuned[PLUS], hypotheses=N)
        h_0 = sample_plus(bench, knobs, split, gains, bench.seed)
        untraced = h_0.new_empty(0)
        return Samples(h_0, untraced, untraced, torch.zeros(h_0.shape[:2], dtype=torch.bool))
    if name not in METHODS:
        known = ", ".join([*METHODS, PLUS])
        raise ValueError(f"params.yaml: hypotheses.methods: no method {name!r}; known are {known}")
    method = METHODS[name]
    knobs = replace(tuned[method.tuned], hypotheses=N)
    return run(bench, method, knobs, split, bench.seed)


def by_number(bench: Bench, samples: Samples, split: Split, sizes: Sequence[int]) -> pd.DataFrame:
    """Errors of the first M hypotheses of each image, in three readings (`kind`).

    mean: of their centre, a prediction; single: of one of them, in the mean; oracle: of the best of
    them by each measure, which takes the truth to find and therefore is no prediction.

    Returns:
        a row for each image, kind and M: image, dataset, person, kind, M, `diverged` (share of the
        M chains) and `MEASURED` (mm).
    """
    one = [measure(bench, samples.h_0[:, i], split) for i in range(max(sizes))]
    parts = []
    for M in sizes:
        first = {name: np.stack([errors[name] for errors in one[:M]]) for name in MEASURED}
        kinds = {
            "mean": measure(bench, samples.h_0[:, :M].mean(dim=1), split),
            "single": {name: errors.mean(axis=0) for name, errors in first.items()},
            "oracle": {name: errors.min(axis=0) for name, errors in first.items()},
        }
        diverged = samples.diverged[:, :M].float().mean(dim=1).numpy()
        for kind, errors in kinds.items():
            frame = split.index[["image", "dataset", "person"]]
            frame = frame.assign(kind=kind, M=M, diverged=diverged)
            parts.append(frame.assign(**{name: errors[name] for name in MEASURED}))
    return pd.concat(parts, ignore_index=True)


def spread(points: np.ndarray) -> np.ndarray:
    """How far one more draw would lie from the centre of hypotheses, RMS; 0 of one alone.

    The centre is the hypotheses' own mean, so they lie nearer to it than another draw would: their
    mean square is (N - 1) / N of the variance, and that of the draw is (N + 1) / N.

    Args:
        points: (..., N, V, 3); the result is (..., V), in the same unit.
    """
    N = points.shape[-3]
    away = np.square(points - points.mean(axis=-3, keepdims=True)).sum(axis=-1).mean(axis=-2)
    return np.sqrt(away * (N + 1) / max(N - 1, 1))


def rooted_mm(
    bench: Bench, h_0: torch.Tensor, split: Split
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Image by image the full meshes of its hypotheses h_0 (n, N, V_coarse, 3) and its true one,
    (N, V, 3) and (V, 3), mm, float64, each at its own root as for MPVE."""
    root = bench.joint_regressor[bench.protocol.root].double()
    for chains, truth in zip(h_0, split.mesh * 1000, strict=True):
        meshes, truth = full_mesh_mm(bench, chains, split.scale_m).double(), truth.double()
        yield tuple(x - torch.einsum("v,...vc->...c", root, x)[..., None, :]
                    for x in (meshes, truth))  # fmt: skip


def spread_and_error(
    bench: Bench, h_0: torch.Tensor, split: Split
) -> tuple[np.ndarray, np.ndarray]:
    """Spread and error of each vertex of each image, both (n, V), mm.

    Args:
        h_0: coarse hypotheses, normalised, (n, N, V_coarse, 3); N of at least 2.
    """
    spreads, errors = [], []
    for meshes, truth in rooted_mm(bench, h_0, split):
        spreads.append(spread(meshes.numpy()))
        errors.append((meshes.mean(dim=0) - truth).norm(dim=-1).numpy())
    return np.stack(spreads), np.stack(errors)


def rms(values: np.ndarray) -> float:
    """Root mean square."""
    return float(np.sqrt(np.square(values).mean()))


def summarise(spread: np.ndarray, error: np.ndarray) -> dict[str, float]:
    """What the spread (n, V) tells of the error (n, V): sizes (mm), rank correlations, factor.

    pooled: over all vertices of all images; across: over images, by their means; within: over the
    vertices of an image, mean over images.
    """

    def ranks_alike(a: np.ndarray, b: np.ndarray) -> float:
        return float(spearmanr(a, b).statistic)

    return {
        "spread_mm": rms(spread),
        "error_mm": rms(error),
        "pooled": ranks_alike(spread.ravel(), error.ravel()),
        "across": ranks_alike(spread.mean(axis=1), error.mean(axis=1)),
        "within": float(np.mean([ranks_alike(s, e) for s, e in zip(spread, error, strict=True)])),
        "factor": factor(spread, error),
    }


def reliability(spread: np.ndarray, error: np.ndarray, bins: int = 10) -> pd.DataFrame:
    """Vertices of all images in equally filled bins of spread: bin, vertices, spread_mm, error_mm
    (both RMS, so that an honest spread gives the two alike in every bin)."""
    order = np.array_split(np.argsort(spread, axis=None, kind="stable"), bins)
    return pd.DataFrame(
        {
            "bin": range(1, bins + 1),
            "vertices": [len(rows) for rows in order],
            "spread_mm": [rms(spread.flat[rows]) for rows in order],
            "error_mm": [rms(error.flat[rows]) for rows in order],
        }
    )


def radius(p: float) -> float:
    """Of the ball about the centre that holds the truth with probability p, in units of the
    spread: the Gaussian is isotropic, so each coordinate has the variance spread^2 / 3."""
    return float(chi.ppf(p, 3) / np.sqrt(3))


def coverage(spread: np.ndarray, error: np.ndarray, nominal: Iterable[float]) -> list[float]:
    """Share of all vertices whose truth lies in their ball of each nominal probability."""
    return [float((error <= radius(p) * spread).mean()) for p in nominal]


def factor(spread: np.ndarray, error: np.ndarray) -> float:
    """What the spread has to be multiplied by for the 50% balls to hold half of the vertices; over
    1 if the hypotheses are too sure of themselves."""
    return float(np.median(error / spread) / radius(0.5))
