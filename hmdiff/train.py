"""Training of g and of the baselines on frozen features (Sec. 4.4).

A variant is a row of VARIANTS: which condition tokens it sees, and whether it diffuses. "Ours"
and every sampler ablation of Table 5 use the checkpoint of variant `image`.

As phi does (`pretrain`), each trains in one phase or two: over all data sets, in shares of `g.mix`,
then over one alone, `g.finetune`. What is kept of the last phase are the averaged weights that have
the lowest loss on validation images: systems of one pass overfit long before diffusion does.
"""

import math
from collections import Counter
from contextlib import nullcontext
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import pandas as pd
import torch
from torch import Tensor, nn
from tqdm import tqdm

from . import params as settings
from . import processes
from .checkpoint import Resume, fingerprint, load_weights, save_weights
from .coarse import CoarseMesh
from .denoiser import Baseline, Denoiser, VertexTransformer
from .device import best_device, mixed_precision
from .diffusion import diffuse, estimate_h0, make_alpha
from .files import write_file
from .graph import adjacency, harmonics
from .losses import diffusion_loss, geometry_loss
from .params import Params
from .splits import Split


@dataclass(frozen=True)
class Variant:
    """What a trained system sees and does.

    Attributes:
        image, heat: its condition.
        diffusion: a denoiser, or a baseline of one pass; `stacked`: Baseline B's layers.
        output, schedule: in place of `g.output` and `diffusion.schedule` of params.yaml.
        literal: L_Diff's target as printed (see `losses.diffusion_loss`).
        ids: what the vertex ids start from, the mesh's harmonics or random numbers.
    """

    image: bool = True
    heat: bool = False
    diffusion: bool = True
    stacked: bool = False
    output: Literal["v", "epsilon", "h0"] | None = None
    schedule: Literal["beta", "alpha"] | None = None
    literal: bool = False
    ids: Literal["mesh", "random"] = "mesh"


VARIANTS = {
    "image": Variant(),
    "pose": Variant(image=False, heat=True),
    "both": Variant(heat=True),
    "baseline_a": Variant(diffusion=False),
    "baseline_b": Variant(diffusion=False, stacked=True),
}
# What the paper leaves open, each read in another way than by `image`.
READINGS = {
    "epsilon": Variant(output="epsilon"),
    "h0": Variant(output="h0"),
    "literal": Variant(literal=True),
    "alpha": Variant(schedule="alpha"),
    "random_ids": Variant(ids="random"),
}
TRAINED = VARIANTS | READINGS
# How long to train, as shares of `g.steps`, "" being the tables' own: see `convergence`.
LENGTHS = {"quarter": 0.25, "": 1.0, "fourfold": 4.0}


@dataclass(frozen=True)
class Phase:
    """Some steps under one cycle of the learning rate.

    Attributes:
        name: "mix" or "finetune".
        steps: how many.
        lr: the cycle's peak.
        upto: running sum of the chances of the rows to be drawn, (n,); None where all are alike.
    """

    name: str
    steps: int
    lr: float
    upto: Tensor | None


class OnePass(Protocol):
    """A system without diffusion: a mesh (B, V, 3), normalised, from its condition."""

    def condition(self, f_I: Tensor, heat: Tensor) -> Tensor: ...

    def __call__(self, c: Tensor) -> Tensor: ...


@torch.no_grad()
def predict(model: OnePass, split: Split, batch: int = 64) -> Tensor:
    """The coarse meshes (n, V, 3) of a system without diffusion, on the best device."""
    device = best_device()
    firsts = processes.mine(range(0, len(split), batch))
    parts = [
        model(model.condition(part.f_I.to(device), part.heat.to(device))).cpu()
        for part in (split.take(slice(i, i + batch)) for i in firsts)
    ]
    return torch.cat(processes.together(parts)).to(device)


def build(
    variant: str, subject: str, params: Params, V: int, J: int, mean: Tensor | None = None
) -> Denoiser | Baseline:
    """The untrained network of a variant; baselines start at the mean mesh `mean` (V, 3)."""
    kind, g = TRAINED[variant], params.g
    layers = g.baseline_b_layers[subject] if kind.stacked else 1
    net = VertexTransformer(
        V, J if kind.heat else 0, kind.image, g.width, g.heads, g.feedforward, layers
    )
    if kind.diffusion:
        d = params.diffusion
        alpha = make_alpha(d.K, kind.schedule or d.schedule, d.beta)
        return Denoiser(net, alpha, kind.output or g.output, kind.literal)
    return Baseline(net, torch.zeros(V, 3) if mean is None else mean)


def untrained(
    variant: str, subject: str, params: Params, data: Split, mesh: CoarseMesh
) -> Denoiser | Baseline:
    """What training of a variant starts from, on the CPU, but for its ids drawn at random.

    The paper says no more of the vertex ids than that they are embeddings. As harmonics of the mesh
    they let vertices that are near one another start alike, where random ones have to learn that.
    """
    V = data.h_0.shape[1]
    model = build(variant, subject, params, V, len(mesh.f), data.h_0.mean(0))
    if TRAINED[variant].ids == "mesh":
        ids = model.net.vertex_id.data
        ids.copy_(harmonics(adjacency(mesh.edges, V), ids.shape[1]))
    return model


def steps_of(length: str, subject: str, params: Params) -> int:
    """Optimiser steps of a training of some length (of LENGTHS), before any last phase."""
    return max(1, round(LENGTHS[length] * params.g.steps[subject]))


def name_of(subject: str, variant: str, seed: int, length: str = "") -> str:
    """What a training is called: its folder in data/checkpoints."""
    return "-".join(filter(None, (subject, variant, length, str(seed))))


def load_system(path: Path, params: Params) -> Denoiser | Baseline:
    """Read a checkpoint that `train` wrote, ready for evaluation on the best device."""
    weights, meta = load_weights(path)
    model = build(meta["variant"], meta["subject"], params, meta["V"], meta["J"])
    model.load_state_dict(weights)
    return model.to(best_device()).eval().requires_grad_(False)


def train(
    variant: str,
    subject: str,
    seed: int,
    data: Split,
    val: Split,
    mesh: CoarseMesh,
    params: Params,
    out: Path,
    resume: Path,
    length: str = "",
) -> pd.DataFrame:
    """Train one variant with one seed, for as long as `steps_of` says; other arguments, results and
    errors as of `fit`."""
    params = settings.with_g(params, {"steps": {subject: steps_of(length, subject, params)}})
    torch.manual_seed(seed)
    model = untrained(variant, subject, params, data, mesh)
    return fit(model, variant, subject, seed, data, val, mesh, params, out, resume)


@dataclass(frozen=True)
class Kept:
    """The averaged weights that did best on validation images so far, and after which step."""

    loss: float = math.inf
    step: int = 0
    weights: dict[str, Tensor] | None = None


class Run:
    """The state of one training: what a killed one needs to go on.

    Args: as of `fit`; `name` is for messages, and `mesh` lies on the best device.
    """

    def __init__(
        self,
        model: Denoiser | OnePass,
        name: str,
        subject: str,
        seed: int,
        data: Split,
        val: Split,
        mesh: CoarseMesh,
        params: Params,
    ):
        self.model, self.name, self.params = model.to(best_device()), name, params
        self.data, self.val, self.mesh = data, val, mesh
        self.phases = phases_of(data, subject, params.g)
        # The phase of every step, and which of the phase's steps it is.
        self.plan = [(phase, i) for phase in self.phases for i in range(phase.steps)]
        self.ema = deepcopy(model).requires_grad_(False)
        self.optimizer = torch.optim.Adam(model.parameters(), lr=params.g.lr, fused=True)
        self.schedule = cycle(self.optimizer, self.phases[0])
        self.generator = torch.Generator().manual_seed(seed)
        self.step, self.history, self.losses, self.kept = 0, [], [], Kept()
        self.lr = math.nan  # of the last step

    def state(self) -> dict:
        """What `restore` takes."""
        stateful = ("model", "ema", "optimizer", "schedule")
        state = {name: getattr(self, name).state_dict() for name in stateful}
        state |= {"generator": self.generator.get_state(), "kept": vars(self.kept)}
        return state | {"step": self.step, "history": self.history, "losses": self.losses}

    def restore(self, state: dict) -> None:
        """Go back to a saved state."""
        self.step, self.history, self.losses = (state[n] for n in ("step", "history", "losses"))
        self.kept = Kept(**state["kept"])
        self.schedule = cycle(self.optimizer, self.plan[self.step - 1][0])
        for name in ("model", "ema", "optimizer", "schedule"):
            getattr(self, name).load_state_dict(state[name])
        self.generator.set_state(state["generator"])

    def learn(self) -> None:
        """One optimiser step; FloatingPointError if the loss is not a number."""
        (phase, i), g = self.plan[self.step], self.params.g
        if self.step and i == 0:
            self.schedule = cycle(self.optimizer, phase)
        self.optimizer.zero_grad()
        loss = loss_of(self.model, self.data, self.mesh, self.params, self.generator, phase.upto)
        loss = processes.backward(loss, self.model)
        if not torch.isfinite(loss):
            lr = {"mix": "g.lr", "finetune": "g.finetune.lr"}[phase.name]
            raise FloatingPointError(
                f"{self.name}: the loss is {loss.item()} at step {self.step}; "
                f"lower {lr} or g.clip in params.yaml"
            )
        nn.utils.clip_grad_norm_(self.model.parameters(), g.clip)
        self.optimizer.step()
        self.lr = self.schedule.get_last_lr()[0]
        self.schedule.step()
        # Short runs forget their random start: the decay grows into its value.
        decay = min(g.ema, (1 + self.step) / (10 + self.step))
        for average, p in zip(self.ema.parameters(), self.model.parameters(), strict=True):
            average.lerp_(p.detach(), 1 - decay)
        self.losses.append(loss.item())
        self.step += 1

    def row(self) -> dict | None:
        """Every 20 steps of a phase, and after its last, the next row of the history. At some of
        them the averaged weights meet the validation images; the last phase's best are kept."""
        phase, i = self.plan[self.step - 1]
        last = i + 1 == phase.steps
        if not last and (i + 1) % 20:
            return None
        looks = last or (i + 1) % (20 * max(1, phase.steps // 400)) == 0
        val_loss = math.nan
        if looks:
            val_loss = held_out_loss(self.ema, self.val, self.mesh, self.params)
        if phase is self.phases[-1] and val_loss < self.kept.loss:
            self.kept = Kept(val_loss, self.step, deepcopy(self.ema.state_dict()))
        row = {"step": self.step, "loss": sum(self.losses) / len(self.losses)}
        row |= {"val_loss": val_loss, "lr": self.lr}
        self.history.append(row)
        self.losses = []
        return row

    def best(self) -> dict[str, Tensor]:
        """The weights that are kept; FloatingPointError if none had a finite loss."""
        if self.kept.weights is None:
            raise FloatingPointError(
                f"{self.name}: no loss on validation images is finite; lower g.lr in params.yaml"
            )
        return self.kept.weights


def fit(
    model: Denoiser | OnePass,
    variant: str,
    subject: str,
    seed: int,
    data: Split,
    val: Split,
    mesh: CoarseMesh,
    params: Params,
    out: Path,
    resume: Path,
    more: dict | None = None,
) -> pd.DataFrame:
    """Train a system on frozen features; writes out/model.safetensors and out/history.csv.

    Matrix products of the network are taken in `device.best_dtype`; all else is float32.

    Args:
        model: untrained, its random start drawn from `seed`.
        data: the split that trains g.
        val: validation images that show how far training has come. Of the last phase the weights
            (EMA) with the lowest loss on them are kept; nothing else depends on them.
        resume: scratch file, for going on after a kill with the same result.
        more: further metadata of the checkpoint.

    Returns:
        the history, a row every 20 steps and at the last: step, loss (their mean), val_loss (of the
        EMA, at twenty to forty rows of a phase, its last among them; NaN else), the learning rate,
        and whether its weights are those that are kept.

    Raises:
        FloatingPointError, ValueError: one line, if the loss stops being finite, `data` lacks a
            data set that `g` names, or there are more processes than samples in a batch or
            validation images.
    """
    processes.check_share(params.g.batch, "g.batch")
    val = val.evenly(params.search.images)
    processes.check_share(len(val), "search.images")
    key = {"variant": variant, "subject": subject, "seed": seed, "data": digest(data, mesh)}
    key |= {"val": digest(val, mesh)}
    mesh = mesh.to(best_device())
    run = Run(model, f"{subject} {variant} seed {seed}", subject, seed, data, val, mesh, params)
    keeper = Resume(resume, key | params.model_dump(mode="json", include={"g", "diffusion"}))
    if state := keeper.load():
        run.restore(state)
    with tqdm(initial=run.step, total=len(run.plan), desc=run.name) as bar:
        while run.step < len(run.plan):
            run.learn()
            bar.update()
            if row := run.row():
                bar.set_postfix(loss=f"{row['loss']:.4f}")
            if keeper.due():
                keeper.save(run.state())
    model.load_state_dict(run.best())
    frame = pd.DataFrame(run.history)
    frame["kept"] = frame["step"] == run.kept.step
    meta = {"variant": variant, "subject": subject, "seed": seed, "step": run.kept.step}
    meta |= {"V": data.h_0.shape[1], "J": mesh.f.shape[0]}
    meta |= {"parameters": sum(p.numel() for p in model.parameters())}
    if processes.first():
        save_weights(out / "model.safetensors", model, meta | (more or {}))
        write_file(out / "history.csv", frame.to_csv(index=False, float_format="%.6g"))
    keeper.clear()
    processes.wait()
    return frame


def kept_loss(history: pd.DataFrame) -> float:
    """The loss on validation images of the weights that were kept."""
    return float(history.loc[history["kept"], "val_loss"].iloc[0])


def fall(history: pd.DataFrame, loss: str = "val_loss") -> float:
    """By what share a loss fell from the last fifth's first half to its second half."""
    tail = history.loc[history["step"] > 0.8 * history["step"].max(), loss].dropna().to_numpy()
    if len(tail) < 2:
        return math.nan
    first, second = tail[: len(tail) // 2], tail[len(tail) // 2 :]
    return float(1 - second.mean() / first.mean())


def phases_of(data: Split, subject: str, g: settings.Denoiser) -> list[Phase]:
    """The phases of training on `data`; ValueError where it lacks a data set that they name."""
    planned, tune = [("mix", g.shares(subject), g.steps[subject], g.lr)], g.finetune
    datasets = data.index["dataset"]
    counts = Counter(datasets)
    if tune and tune.epochs.get(subject):
        steps = tune.epochs[subject] * -(-counts[tune.dataset] // g.batch)
        planned.append(("finetune", {tune.dataset: 1.0}, steps, tune.lr))
    phases = []
    for name, shares, steps, lr in planned:
        if missing := shares.keys() - counts:
            fault = f"no image of {min(missing)} trains g ({subject})"
            raise ValueError(f"params.yaml: g.{name}: {fault}; add it to prepare.extra")
        chances = [shares.get(dataset, 0.0) / counts[dataset] for dataset in datasets]
        upto = torch.tensor(chances, dtype=torch.float64).cumsum(0) if shares else None
        phases.append(Phase(name, steps, lr, upto))
    return phases


def cycle(optimizer: torch.optim.Optimizer, phase: Phase) -> torch.optim.lr_scheduler.OneCycleLR:
    """The learning rate of a phase; Adam's beta_1 goes the other way, 0.95 to 0.85 and back."""
    # A tenth of ten steps would be a rise of length 0, by which PyTorch divides.
    rise = 0.2 if phase.steps == 10 else 0.1
    return torch.optim.lr_scheduler.OneCycleLR(
        optimizer, phase.lr, total_steps=phase.steps, pct_start=rise
    )


def rows_of_step(
    n: int, batch: int, generator: torch.Generator, upto: Tensor | None = None
) -> Tensor:
    """Which of n rows make a batch, (batch,): drawn alike, or by chances, see `Phase.upto`."""
    if upto is None:
        return torch.randint(n, (batch,), generator=generator)
    drawn = torch.rand(batch, dtype=torch.float64, generator=generator) * upto[-1]
    return torch.searchsorted(upto, drawn, right=True)


def digest(data: Split, mesh: CoarseMesh) -> str:
    """A hash of all that training reads: a resume file from other features is not taken up."""
    return fingerprint((data.f_I, data.heat, data.h_0, mesh.f, mesh.faces, mesh.edges))


def loss_of(
    model: Denoiser | OnePass,
    data: Split,
    mesh: CoarseMesh,
    params: Params,
    generator: torch.Generator,
    upto: Tensor | None = None,
) -> Tensor:
    """L_total on a random batch, as of `loss_on`; `upto` as of `Phase`."""
    rows = rows_of_step(len(data), params.g.batch, generator, upto)
    return loss_on(model, data, rows, mesh, params, generator)


@torch.no_grad()
def held_out_loss(model: Denoiser | OnePass, val: Split, mesh: CoarseMesh, params: Params) -> float:
    """L_total on a whole split, with the same steps k and noise whenever it is asked."""
    rows, generator = torch.arange(len(val)), torch.Generator().manual_seed(0)
    return processes.whole(loss_on(model, val, rows, mesh, params, generator)).item()


def loss_on(
    model: Denoiser | OnePass,
    data: Split,
    rows: Tensor,
    mesh: CoarseMesh,
    params: Params,
    generator: torch.Generator,
) -> Tensor:
    """L_total on some samples, for a denoiser at random steps k (a system of one pass has no
    L_Diff). Of several processes each draws for all of them and gives what its share adds."""
    B, K, device = len(rows), params.diffusion.K, mesh.f.device
    rows = processes.mine(rows)
    h_0, f_I, heat = (part[rows].to(device) for part in (data.h_0, data.f_I, data.heat))
    c = model.condition(f_I, heat)
    if not isinstance(model, Denoiser):
        with mixed_precision():
            h0_hat = model(c)
        loss = geometry_loss(h0_hat, h_0, mesh.f, mesh.faces, params.g.weights)
        return processes.portion(loss, len(rows))
    half = torch.randint(1, K + 1, ((B + 1) // 2,), generator=generator)
    k = torch.cat([half, K + 1 - half])[:B]  # antithetic, as in DDIM's code
    z = torch.randn(B, *h_0.shape[1:], generator=generator)
    k, z = (processes.mine(part).to(device) for part in (k, z))
    alpha_k = model.alpha[k]
    h_k = diffuse(h_0, alpha_k, z)
    # Of a network that puts out the noise, Eq. 7 would magnify the rounding up to 180 times.
    with nullcontext() if model.output == "epsilon" else mixed_precision():
        s = model(h_k, k, c)
    h0_hat = estimate_h0(h_k, s, alpha_k)
    target = diffuse(h_0, model.alpha[k - 1], z) - h_k if model.literal else z
    loss = diffusion_loss(s, target) + geometry_loss(
        h0_hat, h_0, mesh.f, mesh.faces, params.g.weights
    )
    return processes.portion(loss, len(rows))
