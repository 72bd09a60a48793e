"""Training of phi_I and phi_P on their own split, and the features that they give once frozen.

The paper pre-trains both and freezes them (Sec. 5). They never see the images that train g: on
images that phi has learnt by heart, f_I and U would look surer than they are on new ones.

Training has one phase or two, each with a cycle of the learning rate of its own: over all data sets
(`phi.mix` says in which shares), then over one alone (`phi.finetune`), as the paper's peers train
on a mix and then fine-tune on 3DPW (Sec. 5). They tune their whole model. Here phi, the only part
that sees images, goes through both phases first, and then g through its own (`train`), on the
features of a phi that is tuned.

Every batch is a function of (seed, epoch, position) alone, so a run that was killed goes on to the
same weights, bit for bit.
"""

import hashlib
import math
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.lib import format as npy
from torch import Tensor, nn
from tqdm import tqdm

from . import crops, params, processes
from .checkpoint import Resume, load_weights, save_weights
from .cropsets import CropSet, Plan
from .device import best_device
from .files import new_file, temporary, write_file
from .hrnet import HRNet
from .imagenet import load_imagenet
from .pose import (
    PoseDistribution,
    PoseHead,
    heatmap_loss,
    heatmaps,
    image_feature,
    in_crop,
    picture_loss,
    pooled,
)


class Phi(nn.Module):
    """The backbone phi_I and the pose head phi_P.

    Args:
        settings: the phi block of params.yaml.
        joints: J.
        cube: side of U's cube, normalised.
    """

    def __init__(self, settings: params.Phi, joints: int, cube: float):
        super().__init__()
        p = settings
        self.cube = cube
        self.phi_I = HRNet(p.width, p.blocks, p.modules, p.context_channels)
        self.phi_P = PoseHead(p.context_channels, p.deconv_channels, joints, p.heatmap_px)
        self.picture = nn.Conv2d(p.width, joints, 1)  # trains phi_I; nothing else reads it

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Images (B x 3 x S x S, ImageNet-normalised) to f_I (B x 128 x 49), E_xy and E_z (each
        B x J x 56 x 56)."""
        f_c = self.context(self.phi_I.pyramid(images))
        return image_feature(f_c), *heatmaps(self.phi_P(f_c))

    def context(self, branches: list[Tensor]) -> Tensor:
        """f_c, B x C x 7 x 7, as images of 224 px give it; what smaller ones give is enlarged."""
        f_c, side = self.phi_I.context(branches), self.phi_P.side
        if f_c.shape[-1] == side:
            return f_c
        return nn.functional.interpolate(f_c, (side, side), mode="bilinear", align_corners=False)

    def loss(self, images: Tensor, joints: Tensor, shares: Tensor, sigma_bins: float) -> Tensor:
        """`heatmap_loss`, and `picture_loss` of the finest branch: a joint is first found in the
        picture, where a convolution knows its place, then in the cube about the root. Of several
        processes each gives what its share of the batch adds."""
        branches = self.phi_I.pyramid(images)
        logits = self.phi_P(self.context(branches))
        in_cube = heatmap_loss(logits, joints, self.cube, sigma_bins)
        in_picture = picture_loss(self.picture(branches[0]), shares)
        return processes.portion(in_cube, len(images)) + processes.portion(
            in_picture, in_crop(shares).sum()
        )


def untrained(train: CropSet, settings: params.Phi, seed: int) -> Phi:
    """phi as its training on a set starts, on the best device; errors of `load_imagenet`."""
    torch.manual_seed(seed)
    phi = Phi(settings, train.joints.shape[1], settings.cube_m[train.subject] / train.scale_m)
    if settings.weights:
        load_imagenet(phi.phi_I, settings.weights)
    phi = processes.share_statistics(phi)
    return phi.to(best_device(), memory_format=torch.channels_last)


def load_phi(path: Path) -> tuple[Phi, dict]:
    """Read phi.safetensors: phi, frozen, on the best device, and its metadata.

    The metadata tell how to make its input and read its output: `subject`, `input_px`,
    `box_scale`, `scale_m` (metres per normalised unit).
    """
    weights, meta = load_weights(path)
    phi = Phi(params.Phi.model_validate(meta["phi"]), meta["joints"], meta["cube"])
    phi.load_state_dict(weights)
    phi.requires_grad_(False).eval()
    return phi.to(best_device(), memory_format=torch.channels_last), meta


@dataclass(frozen=True)
class Phase:
    """Some epochs under one cycle of the learning rate.

    Attributes:
        name: "mix" or "finetune".
        shares: of each data set in an epoch; none: every sample once.
        batches: in an epoch.
        size: samples in a batch.
        epochs: how many.
        lr: the cycle's peak.
    """

    name: str
    shares: dict[str, float]
    batches: int
    size: int
    epochs: int
    lr: float


def phases_of(train: CropSet, settings: params.Phi) -> list[Phase]:
    """The phases of training on `train`; ValueError where it lacks a data set that they name, or
    batches are too small for the processes."""
    subject, tune, counts = train.subject, settings.finetune, Counter(train.datasets)
    shares = settings.shares(subject)
    planned = [("mix", shares, len(train), settings.epochs[subject], settings.lr)]
    if tune and tune.epochs.get(subject):
        only, count = {tune.dataset: 1.0}, counts[tune.dataset]
        planned.append(("finetune", only, count, tune.epochs[subject], tune.lr))
    phases = []
    for name, shares, count, epochs, lr in planned:
        if missing := shares.keys() - counts:
            fault = f"no image of {min(missing)} trains phi ({subject})"
            raise ValueError(f"params.yaml: phi.{name}: {fault}; add it to prepare.extra")
        size = min(settings.batch, count)
        processes.check_share(size, "phi.batch")
        phases.append(Phase(name, shares, count // size, size, epochs, lr))
    return phases


def plan_epoch(train: CropSet, phase: Phase, epoch: int, seed: int, settings: params.Phi) -> Plan:
    """The shuffled, whole batches of one epoch, each sample with its augmentation."""
    rng = np.random.default_rng((seed, epoch))
    if phase.shares:
        order = draw_mix(train.datasets, phase.shares, phase.batches * phase.size, rng)
    else:
        order = rng.permutation(len(train))
    pairs = [
        (row, weaken(crops.augment(rng, train.subject), settings.augment)) for row in order.tolist()
    ]
    return [pairs[i * phase.size : (i + 1) * phase.size] for i in range(phase.batches)]


def draw_mix(
    datasets: Sequence[str], shares: dict[str, float], count: int, rng: np.random.Generator
) -> np.ndarray:
    """`count` rows of samples in random order, of each data set its share, off by one at most.

    A set's samples come in shuffled passes, the last of them cut off: each is there as often as
    any other of its set, or once more. Sets without a share are left out.
    """
    names = np.array(datasets)
    ends = np.rint(count * np.cumsum([0, *shares.values()]) / sum(shares.values())).astype(int)
    parts = []
    for name, quota in zip(shares, np.diff(ends), strict=True):
        own = np.flatnonzero(names == name)
        passes = np.tile(own, (-(-quota // len(own)), 1))
        parts.append(rng.permuted(passes, axis=1).ravel()[:quota])
    return rng.permutation(np.concatenate(parts))


def weaken(draw: crops.Augmentation, strength: float) -> crops.Augmentation:
    """An augmentation moved towards none: `strength` 1 leaves it, 0 leaves only its mirror."""
    return replace(
        draw,
        rotation_deg=strength * draw.rotation_deg,
        scale=1 + strength * (draw.scale - 1),
        colour=tuple(1 + strength * (c - 1) for c in draw.colour),
    )


def learning_rate(progress: float, peak: float) -> float:
    """One cycle: linear to `peak` over the first tenth of training, then a cosine to zero."""
    if progress < 0.1:
        return peak * (0.04 + 0.96 * progress / 0.1)
    return peak * 0.5 * (1 + math.cos(math.pi * (progress - 0.1) / 0.9))


def to_device(images: Tensor, phi: Phi) -> Tensor:
    """Move a batch to where phi is, in the layout in which convolutions are fastest."""
    device = next(phi.parameters()).device
    return images.to(device, memory_format=torch.channels_last)


@torch.no_grad()
def infer(phi: Phi, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """f_I, E_xy and E_z of images, from main memory to main memory."""
    return tuple(part.cpu() for part in phi.eval()(to_device(images, phi)))


def predict(phi: Phi, data: CropSet, px: int, batch: int) -> Iterator[tuple[Tensor, ...]]:
    """f_I, E_xy and E_z of every sample, in order, in batches, without augmentation; of several
    processes each takes its share of the batches."""
    for images, *_ in data.batches(processes.mine(data.in_order(batch)), px):
        yield infer(phi, images)


def mpjpe_mm(phi: Phi, data: CropSet, px: int, batch: int) -> float:
    """Distance of mean(U) from the true joints, over all joints and samples, mm."""
    means = [PoseDistribution(*E, phi.cube).mean() for _, *E in predict(phi, data, px, batch)]
    gap = torch.cat(processes.together(means)) - torch.from_numpy(data.joints)
    return float(gap.norm(dim=-1).mean() * data.scale_m * 1000)


class Run:
    """The state of one training of phi: what a killed run needs to go on."""

    def __init__(self, train: CropSet, settings: params.Phi, seed: int):
        self.train, self.settings, self.seed = train, settings, seed
        self.phases = phases_of(train, settings)
        # The phase of every epoch, and which of the phase's epochs it is.
        self.epochs = [(phase, i) for phase in self.phases for i in range(phase.epochs)]
        self.phi = untrained(train, settings, seed)
        self.optimiser = torch.optim.AdamW(self.phi.parameters(), lr=settings.lr, fused=True)
        self.step, self.losses, self.history = 0, [], []

    def key(self) -> dict:
        """Everything that the weights depend on."""
        key = {
            "phi": self.settings.model_dump(mode="json", exclude_defaults=True),
            "seed": self.seed,
            "cube": self.phi.cube,
            "train": self.train.digest(),
        }
        if self.settings.weights:
            with self.settings.weights.open("rb") as file:
                key["weights"] = hashlib.file_digest(file, "sha256").hexdigest()
        return key

    def state(self) -> dict:
        """What `restore` takes."""
        modules = {"phi": self.phi.state_dict(), "optimiser": self.optimiser.state_dict()}
        return modules | {"step": self.step, "losses": self.losses, "history": self.history}

    def restore(self, state: dict) -> None:
        """Go back to a saved state."""
        self.phi.load_state_dict(state["phi"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step, self.losses, self.history = state["step"], state["losses"], state["history"]

    def batches(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """What is left of the epoch: this process's share of each batch."""
        epoch = len(self.history)
        plan = plan_epoch(self.train, self.epochs[epoch][0], epoch, self.seed, self.settings)
        left = [processes.mine(batch) for batch in plan[len(self.losses) :]]
        return self.train.batches(left, self.settings.input_px)

    def learn(self, images: Tensor, joints: Tensor, shares: Tensor) -> None:
        """One optimiser step; ValueError if the loss is not a number."""
        phi, (phase, epoch) = self.phi, self.epochs[len(self.history)]
        taken = epoch * phase.batches + len(self.losses)  # steps of this phase
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(taken / (phase.epochs * phase.batches), phase.lr)
        phi.train()
        images = to_device(images, phi)
        joints, shares = joints.to(images.device), shares.to(images.device)
        self.optimiser.zero_grad()
        loss = phi.loss(images, joints, shares, self.settings.sigma_bins)
        loss = processes.backward(loss, phi)
        if not torch.isfinite(loss):
            key = {"mix": "phi.lr", "finetune": "phi.finetune.lr"}[phase.name]
            raise ValueError(
                f"params.yaml: {key}: the loss of phi ({self.train.subject}) is {loss.item()} at "
                f"step {self.step}; lower {key}, which is {phase.lr}"
            )
        self.optimiser.step()
        self.losses.append(loss.item())
        self.step += 1

    def end_epoch(self, error: float) -> dict:
        """Close an epoch after which the error on validation images is so many mm; its row of the
        history, which names the phase only where there are two."""
        phase, _ = self.epochs[len(self.history)]
        row = {"epoch": len(self.history) + 1, "loss": sum(self.losses) / len(self.losses)}
        row |= {"val_mpjpe_mm": error}
        row |= {"phase": phase.name} if len(self.phases) > 1 else {}
        self.history.append(row)
        self.losses = []
        return row


def train_phi(
    train: CropSet, val: CropSet, settings: params.Phi, seed: int, out: Path, resume: Path
) -> Phi:
    """Train phi; write out/phi.safetensors, as it is after the last epoch, and out/history.csv.

    Args:
        train, val: splits `phi` and `val`, from `cropsets.read_crops`.
        settings: the phi block of params.yaml.
        resume: where a killed run finds its state.

    Raises:
        FileNotFoundError, ValueError: `settings.weights` cannot be used, `train` lacks a data set
            that the settings name, or the loss is no longer a number; one line.
    """
    run = Run(train, settings, seed)
    keeper = Resume(resume, run.key())
    if state := keeper.load():
        run.restore(state)
    total = sum(phase.epochs * phase.batches for phase in run.phases)
    with tqdm(total=total, initial=run.step, desc=f"phi, {train.subject}", unit="batch") as bar:
        while len(run.history) < len(run.epochs):
            for batch in run.batches():
                run.learn(*batch)
                bar.update()
                if keeper.due():
                    keeper.save(run.state())
            error = mpjpe_mm(run.phi, val, settings.input_px, settings.batch)
            row = run.end_epoch(error)
            bar.set_postfix(loss=f"{row['loss']:.3f}", val_mm=f"{error:.1f}")
    meta = {
        "subject": train.subject,
        "phi": settings.model_dump(mode="json", exclude_defaults=True),
        "joints": train.joints.shape[1],
        "cube": run.phi.cube,
        "input_px": settings.input_px,
        "box_scale": train.box_scale,
        "scale_m": train.scale_m,
        "val_mpjpe_mm": run.history[-1]["val_mpjpe_mm"],
    }
    if processes.first():
        write_file(out / "history.csv", pd.DataFrame(run.history).to_csv(index=False))
        save_weights(out / "phi.safetensors", run.phi, meta)
    keeper.clear()
    processes.wait()
    return run.phi


def extract_features(phi: Phi, data: CropSet, px: int, out: Path, split: str, maps: bool) -> None:
    """Write what the frozen phi says of n samples, in their order.

    out/{split}_f_I.npy     float16, n x 128 x 49
    out/{split}_pooled.npy  float16, n x 2J x 14 x 14: E_xy of every joint, then E_z; sums of 4 x 4
    out/{split}_u_mean.npy  float32, n x J x 3: the mean of U, normalised
    out/{split}_E.npy       float32, n x 2 x J x 56 x 56: E_xy and E_z; only where `maps` is true
    """
    batches, total = predict(phi, data, px, 32), len(processes.mine(range(0, len(data), 32)))

    def features() -> Iterator[dict[str, Tensor]]:
        for f_I, E_xy, E_z in tqdm(batches, total=total, desc=f"features, {split}"):
            u_mean = PoseDistribution(E_xy, E_z, phi.cube).mean()
            found = {"f_I": f_I.half(), "pooled": pooled(E_xy, E_z).half(), "u_mean": u_mean}
            yield found | ({"E": torch.stack([E_xy, E_z], dim=1)} if maps else {})

    names = ["f_I", "pooled", "u_mean", *(["E"] if maps else [])]
    write_rows({name: out / f"{split}_{name}.npy" for name in names}, features(), len(data))


def write_rows(paths: dict[str, Path], batches: Iterator[dict[str, Tensor]], n: int) -> None:
    """Write batches of rows as npy files of n rows each, never holding more than a batch: the maps
    of a large split fill no memory.

    Every process leaves its rows beside the file; the first puts them together, after a header.
    """
    for path in paths.values():
        path.parent.mkdir(parents=True, exist_ok=True)
    kinds: dict[str, np.ndarray] = {}
    with ExitStack() as stack:
        own = {
            name: stack.enter_context(temporary(path, f"rows{processes.rank()}").open("wb"))
            for name, path in paths.items()
        }
        for batch in batches:
            for name, rows in batch.items():
                own[name].write(rows.contiguous().numpy())
                kinds[name] = rows[:0].numpy()
    kinds = next(filter(None, processes.together([kinds])))  # of a process that has rows
    if processes.first():
        for name, path in paths.items():
            put_together(path, kinds[name], n)
    processes.wait()


def put_together(path: Path, kind: np.ndarray, n: int) -> None:
    """An npy file of n rows like those of `kind` (0 x ...), which `write_rows` has left beside."""
    header = {"descr": npy.dtype_to_descr(kind.dtype), "fortran_order": False}
    header["shape"] = (n, *kind.shape[1:])
    parts = [temporary(path, f"rows{i}") for i in range(processes.count())]
    with new_file(path) as new, new.open("wb") as file:
        npy.write_array_header_1_0(file, header)
        for part in parts:
            with part.open("rb") as rows:
                shutil.copyfileobj(rows, file)
    for part in parts:
        part.unlink()
