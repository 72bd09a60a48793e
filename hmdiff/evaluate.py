"""Every system of the paper's ablations run on a split, and measured per image.

A method is a row of METHODS: which checkpoint it uses and how its reverse process uses U. The
knobs that are tuned on validation (steps, gamma, r, start) come from `Knobs`, so that the same
code serves the sweeps and the final tables.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from tqdm import tqdm

from . import linear, processes
from .body import BodyModel, load_regressor
from .body import load as load_body
from .checkpoint import Memo, fingerprint
from .coarse import CoarseMesh
from .coarse import load as load_coarse
from .denoiser import Baseline, Denoiser
from .device import best_device
from .metrics import METRICS, Protocol, evaluate_joints, evaluate_meshes, protocol_of
from .params import Params, Tune
from .sampler import Guidance, Samples, sample
from .splits import Split
from .stored import read_meta
from .train import OnePass, load_system, name_of, predict

LIFT = "Linear lift of mean(U)"
BARE_POSES = ("Detected pose u_c", "Mean of U")  # sceptic's rows without a mesh
BASELINES = {"Baseline A": "baseline_a", "Baseline B": "baseline_b"}  # and their trained systems
# Sec. 5, implementation details; gamma is summed over the N samples there, where it is a mean here.
PRINTED = {"steps": 40, "N": 25, "r": 0.05, "gamma": 0.2 * 25, "eta": 0.0}
CHAINS = 64  # chains that go through g at once: what fits the caches of a small machine


@dataclass(frozen=True)
class Method:
    """One row of the tables.

    Attributes:
        checkpoint: the trained variant (train.TRAINED).
        tuned: the method whose tuned knobs it uses.
        at, D_K: where U pulls and what the gap is relative to, see `sampler.Guidance`.
        prior: U itself, its mode u_c in every place of the N samples, or U with a depth that does
            not depend on x.
        start: Gaussian noise, or H_U.
        strategy: whether the activation strategy may end the guidance.
    """

    checkpoint: str
    tuned: str = "Ours"
    at: Literal["h0_hat", "h0_hat, g constant", "h_k", "none"] = "none"
    prior: Literal["U", "u_c", "marginal depth"] = "U"
    start: Literal["noise", "H_U"] = "noise"
    strategy: bool = True
    D_K: Literal["h0_hat", "h_K"] = "h0_hat"


METHODS = {
    "Image Feature": Method("image", "Image Feature"),
    "Pose Feature": Method("pose", "Pose Feature"),
    "Both Features": Method("both", "Both Features"),
    "Ours w/ H_U": Method("image", "Ours w/ H_U", start="H_U"),
    "Direct L2": Method("image", "Direct L2", at="h_k"),
    "Ours w/ u_c": Method("image", at="h0_hat", prior="u_c"),
    "Ours w/o AS": Method("image", at="h0_hat", strategy=False),
    "Ours": Method("image", at="h0_hat"),
}
# Ours, with one thing that the paper leaves open read in another way.
READINGS = {
    "Gradient with g held constant": Method("image", at="h0_hat, g constant"),
    "D_K at h_K": Method("image", at="h0_hat", D_K="h_K"),
    "Depth of U independent of x": Method("image", at="h0_hat", prior="marginal depth"),
    "g puts out the noise": Method("epsilon", at="h0_hat"),
    "g puts out the mesh": Method("h0", at="h0_hat"),
    "L_Diff's target as printed": Method("literal", at="h0_hat"),
    "alpha linear in k": Method("alpha", at="h0_hat"),
    "Vertex ids start at random": Method("random_ids", at="h0_hat"),
}
# The trained system of each.
CHECKPOINTS = {name: m.checkpoint for name, m in (METHODS | READINGS).items()} | BASELINES


@dataclass(frozen=True)
class Knobs:
    """What a method's sampler is set to; `k_start` matters for H_U alone."""

    steps: int
    gamma: float
    r: float
    N: int
    hypotheses: int
    eta: float
    k_start: int = 0


@dataclass
class Bench:
    """All that evaluation needs for one subject and seed; checkpoints are read when first used.

    Coarse mesh, maps and systems lie on the best device; splits and results in main memory.
    `joint_regressor` reads the joints of `protocol` off a full mesh; `memo` keeps what `evaluate`
    found before a kill.
    """

    subject: str
    seed: int
    data: Path
    params: Params
    mesh: CoarseMesh
    joint_regressor: Tensor
    upsampler: linear.Upsampler
    lift: torch.nn.Linear
    systems: dict[str, Denoiser | Baseline] = field(default_factory=dict)
    memo: Memo | None = None

    @property
    def protocol(self) -> Protocol:
        """How the meshes of this bench are compared."""
        return protocol_of(self.subject, self.params.source)

    def system(self, variant: str) -> Denoiser | Baseline:
        """The trained system of a variant."""
        if variant not in self.systems:
            folder = self.data / "checkpoints" / name_of(self.subject, variant, self.seed)
            self.systems[variant] = load_system(folder / "model.safetensors", self.params)
        return self.systems[variant]

    def of_length(self, length: str, variants: Iterable[str]) -> "Bench":
        """This bench with systems that trained for another length (`train.LENGTHS`) in place of its
        own; for "" they are its own."""
        systems = {v: self.system(f"{v}-{length}" if length else v) for v in variants}
        return replace(self, systems=systems)


def load_bench(
    subject: str, seed: int, data: Path, params: Params, resume: Path | None = None
) -> Bench:
    """Read the models, linear maps and regressors of a subject.

    Args:
        resume: the scratch file of a memo; whoever names one clears the memo when all is written.
    """
    mesh = load_coarse(data / "models" / f"{subject}_coarse.npz")
    model = load_body(data / "models" / f"{subject}.npz")
    rows = read_regressor(model, data, params)
    maps = linear.load(data / "features" / subject / "linear.safetensors")
    mesh, *maps = (part.to(best_device()) for part in (mesh, *maps))
    memo = None if resume is None else Memo(resume)
    return Bench(subject, seed, data, params, mesh, rows, *maps, memo=memo)


def read_regressor(model: BodyModel, data: Path, params: Params) -> Tensor:
    """The rows (. x V_full) that the protocol's joints are read with: the model's, or the field's;
    errors of `body.load_regressor`."""
    protocol = protocol_of(model.subject, params.source)
    if protocol.skeleton:
        return model.joint_regressor
    return load_regressor(data / "raw" / protocol.file, 17)


def default_knobs(params: Params) -> Knobs:
    """The sampler block of params.yaml."""
    s = params.sampler
    return Knobs(s.steps, s.gamma, s.r, s.N, s.hypotheses, s.eta)


def read_knobs(path: Path) -> dict[str, Knobs]:
    """The tuned knobs of each method, as the `tune` stage writes them; errors of `read_meta`."""
    return {name: Knobs(**values) for name, values in read_meta(path).items()}


@torch.no_grad()
def run(bench: Bench, method: Method, knobs: Knobs, split: Split, seed: int = 0) -> Samples:
    """Sample `knobs.hypotheses` coarse meshes for each image of a split.

    Returns:
        Samples whose first dimension is n x hypotheses (R and active: steps x n x hypotheses).
    """
    g, f, n = bench.system(method.checkpoint), bench.mesh.f, knobs.hypotheses
    parts = []
    for images, batch_seed in processes.mine(batches(len(split), n, seed)):
        part = split.take(images)
        generator = torch.Generator().manual_seed(batch_seed)
        u, h_start = targets(bench, method, knobs, part, generator)
        c = g.condition(part.f_I.to(f.device), part.heat.to(f.device))
        image = torch.arange(len(part), device=f.device).repeat_interleave(n)

        def denoise(h_k: Tensor, k: int, chains: Tensor, c=c, image=image) -> Tensor:
            return g(h_k, torch.full((len(h_k),), k, device=h_k.device), c[image[chains]])

        r = knobs.r if method.strategy else 0.0
        guidance = Guidance(method.at, knobs.gamma, r, method.D_K)
        samples = sample(
            denoise,
            f,
            u.to(f.device)[image],
            g.alpha,
            knobs.steps,
            guidance,
            generator,
            knobs.eta,
            h_start,
            knobs.k_start if h_start is not None else None,
        )
        parts.append(samples.cpu())
    return by_image(processes.together(parts), n)


def by_image(parts: list[Samples], n: int) -> Samples:
    """The samples of all batches as one, the n chains of each image in a dimension of their own."""
    return Samples(
        torch.cat([p.h_0 for p in parts]).unflatten(0, (-1, n)),
        torch.cat([p.R for p in parts], dim=1).unflatten(1, (-1, n)),
        torch.cat([p.active for p in parts], dim=1).unflatten(1, (-1, n)),
        torch.cat([p.diverged for p in parts]).unflatten(0, (-1, n)),
    )


def batches(images: int, hypotheses: int, seed: int) -> list[tuple[slice, int]]:
    """Which images' chains go through g at once, each batch with a seed of its own, so that its
    result does not depend on the other batches."""
    size = max(1, CHAINS // hypotheses)
    firsts = range(0, images, size)
    return [(slice(first, first + size), seed * 1_000_003 + first) for first in firsts]


def targets(
    bench: Bench, method: Method, knobs: Knobs, part: Split, generator: torch.Generator
) -> tuple[Tensor, Tensor | None]:
    """DAT's poses u (B, N, J, 3), and H_U's starting meshes (B * hypotheses, V, 3) or None."""
    if method.start == "H_U":
        u = part.U.sample(knobs.hypotheses, generator)
        return u, lift(bench, u.flatten(0, 1))
    if method.prior == "u_c":
        return part.U.mode()[:, None].expand(-1, knobs.N, -1, -1), None
    U = part.U
    if method.prior == "marginal depth":
        U = U.take(slice(None))
        U.z_given_x = U.E_z.sum(-2, keepdim=True).expand_as(U.E_z)
    return U.sample(knobs.N, generator), None


def lift(bench: Bench, pose: Tensor) -> Tensor:
    """The linear lift of poses (B, J, 3) to coarse meshes (B, V, 3)."""
    return bench.lift(pose.to(bench.lift.weight).flatten(1)).unflatten(1, (-1, 3))


def full_mesh_mm(bench: Bench, h_0: Tensor, scale_m: float) -> Tensor:
    """h_m: coarse meshes (B, V, 3), normalised, through the final MLP, (B, V_full, 3) in mm."""
    return bench.upsampler(h_0.to(bench.mesh.f)).cpu() * (1000 * scale_m)


def measure(bench: Bench, h_0: Tensor, split: Split) -> dict[str, np.ndarray]:
    """Errors of coarse meshes h_0 (n, V, 3) against a split's full meshes, and its measured joints
    where it has them, each metric (n,)."""
    protocol, parts = bench.protocol, []
    for rows in processes.mine(torch.arange(len(split)).split(32)):
        pred, true = full_mesh_mm(bench, h_0[rows], split.scale_m), split.mesh[rows] * 1000
        mocap = None if split.mocap is None else split.mocap[rows] * 1000
        parts.append(evaluate_meshes(pred, true, bench.joint_regressor, protocol, mocap))
    parts = processes.together(parts)
    return {name: torch.cat([p[name] for p in parts]).numpy() for name in METRICS}


def measure_pose(bench: Bench, pose: Tensor, split: Split) -> dict[str, np.ndarray]:
    """Errors of bare poses (n, J, 3), normalised; mesh metrics are NaN, and so are all where the
    protocol's joints are not the skeleton's: from a pose without a mesh they cannot be had."""
    if not bench.protocol.skeleton:
        return {name: np.full(len(pose), np.nan) for name in METRICS}
    truth = bench.joint_regressor @ split.mesh * 1000
    if split.mocap is not None:
        truth = torch.where(split.mocap.isnan(), truth, split.mocap * 1000)
    errors = evaluate_joints(pose * (1000 * split.scale_m), truth, bench.protocol)
    return {name: errors[name].numpy() for name in METRICS}


def rows(
    bench: Bench, method: str, errors: dict[str, np.ndarray], split: Split, **more: object
) -> pd.DataFrame:
    """Per-image errors as a tidy frame; `more` are further columns (steps, gamma, ...)."""
    frame = split.index[["image", "dataset", "split", "person"]].copy()
    frame["subject"], frame["seed"], frame["method"] = bench.subject, bench.seed, method
    for name, value in {"steps": 0, "hypotheses": 1, "diverged": 0.0, **more}.items():
        frame[name] = value
    for name in METRICS:
        frame[name] = errors[name].astype(np.float32)
    return frame


def remembered(
    bench: Bench,
    key: dict,
    variant: str,
    splits: Sequence[Split],
    make: Callable[[], pd.DataFrame],
) -> pd.DataFrame:
    """The table that `make` makes, or the one that the bench remembers of the same `key` (method
    and settings), trained system and splits."""
    if bench.memo is None:
        return make()
    networks = (bench.system(variant), bench.upsampler, bench.lift)
    weights = (tensor for network in networks for tensor in network.state_dict().values())
    own = fingerprint((*weights, bench.mesh.f, bench.joint_regressor))
    on = [own, *(split.content for split in splits)]
    return bench.memo(key | {"subject": bench.subject, "seed": bench.seed, "on": on}, make)


def evaluate(bench: Bench, name: str, knobs: Knobs, split: Split) -> pd.DataFrame:
    """A diffusion method's per-image errors; the prediction is the centre of its hypotheses."""

    def make() -> pd.DataFrame:
        samples = run(bench, (METHODS | READINGS)[name], knobs, split, bench.seed)
        errors = measure(bench, samples.h_0.mean(dim=1), split)
        found = {key: getattr(knobs, key) for key in ("steps", "hypotheses", "gamma", "r", "N")}
        found["diverged"] = samples.diverged.float().mean(dim=1).numpy()
        found["active"] = samples.active.float().mean(dim=(0, 2)).numpy()
        return rows(bench, name, errors, split, **found)

    key = {"method": name, "knobs": vars(knobs)}
    return remembered(bench, key, CHECKPOINTS[name], (split,), make)


def evaluate_sceptics(bench: Bench, split: Split, mean: Tensor) -> pd.DataFrame:
    """What the diffusion has to beat: no image at all, and U without any diffusion.

    Args:
        mean: the mean coarse mesh of the split that trains g, (V, 3).
    """
    n, (detected, mean_of_U) = len(split), BARE_POSES
    u_c = torch.cat([U.mode() for U in split.U.parts()])
    return pd.concat(
        [
            rows(bench, "Mean pose", measure(bench, mean.expand(n, -1, -1), split), split),
            evaluate_lift(bench, split),
            rows(bench, detected, measure_pose(bench, u_c, split), split),
            rows(bench, mean_of_U, measure_pose(bench, split.u_mean, split), split),
        ],
        ignore_index=True,
    )


def evaluate_lift(bench: Bench, split: Split) -> pd.DataFrame:
    """The linear lift of U's mean, without any diffusion."""
    return rows(bench, LIFT, measure(bench, lift(bench, split.u_mean), split), split)


def evaluate_one_pass(bench: Bench, name: str, model: OnePass, split: Split) -> pd.DataFrame:
    """Per-image errors of a system without diffusion."""
    h_0 = predict(model, split)
    return rows(bench, name, measure(bench, h_0, split), split, steps=1)


def evaluate_baseline(bench: Bench, name: str, split: Split) -> pd.DataFrame:
    """Baseline A or B."""
    return evaluate_one_pass(bench, name, bench.system(BASELINES[name]), split)


def grids(tune: Tune) -> dict[str, dict[str, tuple]]:
    """What each diffusion method tunes, one knob after the other.

    The order is the same for all: the weight of the guidance (or the start) at the default step
    count, then the number of steps, then eta; of these two the `smallest` that is good enough.
    """
    firsts = {
        "Ours": {"gamma": tune.gamma},
        "Direct L2": {"gamma": tune.direct_gamma},
        "Ours w/ H_U": {"k_start": tune.start_step},
        "Image Feature": {},
        "Pose Feature": {},
        "Both Features": {},
    }
    return {name: first | {"steps": tune.steps, "eta": tune.eta} for name, first in firsts.items()}


def sweep(bench: Bench, split: Split) -> tuple[pd.DataFrame, dict[str, Knobs]]:
    """Tune every diffusion method on validation images. Ours is also swept over r and N, for the
    figures; r and N stay at the paper's values.

    Returns:
        per-image errors of every setting tried (columns `knob`, `value` name it), and for each
        method its tuned knobs.
    """
    tune = bench.params.tune
    with tqdm(desc=f"{bench.subject} sweep {bench.seed}") as bar:
        search = Search(bench, split, bar)
        tuned = {name: search.tuned(name) for name in grids(tune)}
        search.tried("Ours", tuned["Ours"], "r", tune.r)
        search.tried("Ours", tuned["Ours"], "N", tune.N)
    return pd.concat(search.frames, ignore_index=True), tuned


@dataclass
class Search:
    """One knob at a time on a split; `frames` keeps every setting's per-image errors."""

    bench: Bench
    split: Split
    bar: tqdm
    frames: list[pd.DataFrame] = field(default_factory=list)

    def tuned(self, name: str) -> Knobs:
        """The knobs of method `name`, found along its `grids`."""
        knobs = default_knobs(self.bench.params)
        for knob, values in grids(self.bench.params.tune)[name].items():
            knobs = self.best(name, knobs, knob, values)
        return knobs

    def best(self, name: str, knobs: Knobs, knob: str, values: tuple) -> Knobs:
        """`knobs` with the value of `knob` that gives method `name` the lowest MPVE.

        What it is set to already needs no trial if nothing else is offered; more steps than lie
        below `k_start` are none.
        """
        if knob == "steps" and knobs.k_start:
            values = tuple(steps for steps in values if steps <= knobs.k_start)
        if values == (getattr(knobs, knob),):
            return knobs
        errors = self.tried(name, knobs, knob, values)
        slack = self.bench.params.tune.slack if knob in ("steps", "eta") else 0.0
        return replace(knobs, **{knob: smallest(errors, slack)})

    def tried(self, name: str, knobs: Knobs, knob: str, values: tuple) -> dict:
        """The MPVE of method `name` at each value of `knob`."""
        errors = {}
        for value in values:
            tried = replace(knobs, **{knob: value})
            frame = evaluate(self.bench, name, tried, self.split)
            self.frames.append(frame.assign(knob=knob, value=float(value)))
            # A setting that diverges on any image is not a candidate.
            errors[value] = frame["MPVE"].mean() + 1e6 * (frame["diverged"].max() > 0)
            self.bar.update()
        return errors


def smallest(errors: dict[float, float], slack: float = 0.0) -> float:
    """The smallest value whose error is within a share `slack` of the best: as few steps, and as
    little noise (eta), as will do.

    Error against either is flat about its minimum; on few images the minimum itself is noise.
    """
    most = (1 + slack) * min(errors.values())
    return min(value for value, error in errors.items() if error <= most)
