"""Every kind of work that several processes share, in miniature: what test_processes compares.

accelerate launch --multi_gpu --num_processes 2 tests/spread.py CROPS OUT ONE
"""

import json
import sys
from contextlib import nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from unittest import mock

import made_up
import numpy as np
import pandas as pd
import torch
import torch.distributed as dist
from made_up import V_FULL, J, V
from test_pretrain import SETTINGS

from hmdiff import closed_form, evaluate, linear, params, processes, train
from hmdiff.checkpoint import save_weights
from hmdiff.cropsets import CropSet, read_crops
from hmdiff.device import best_device
from hmdiff.pretrain import Run, extract_features, load_phi, train_phi
from hmdiff.splits import Split

n = 18
PHI = SETTINGS.model_copy(update={"batch": 5, "lr": 0.001})  # 5: uneven shares
VARIANTS = ("image", "baseline_a")
STEPS, KILLED = 6, 4


def settings() -> params.Params:
    """params.yaml with short training."""
    small = {"g": {"steps": {"body": STEPS, "hand": STEPS}, "batch": 5, "lr": 0.001}}
    small |= {"sampler": {"steps": 3, "N": 3, "hypotheses": 2, "gamma": 0.001}}
    return params.parse(params.overlay(params.read_yaml("params.yaml"), small), "test")


def fit(variant: str, out: Path, resume: Path, dies_at: int = 99) -> int:
    """Train a variant, saving at every step, up to the step before which a kill would end it;
    returns how many steps were taken."""
    split, mesh = made_up.split(n), made_up.mesh()
    loss_of, taken = train.loss_of, []

    def lives(*args):
        if len(taken) == dies_at:
            raise KeyboardInterrupt
        taken.append(1)
        return loss_of(*args)

    with (
        mock.patch.object(train, "loss_of", lives),
        mock.patch.object(train.Resume, "due", lambda self: True),
        suppress(KeyboardInterrupt),
    ):
        train.train(variant, "hand", 0, split, split, mesh, settings(), out, resume)
    processes.wait()
    return len(taken)


def gradients(data: CropSet, out: Path) -> None:
    """phi's of the first batch, in double precision, and the statistics that it leaves."""
    run = Run(data, PHI, 0)
    net = run.phi.double().train()
    batch = (part.double() for part in next(iter(run.batches())))
    loss = processes.backward(net.loss(*batch, PHI.sigma_bins), net)
    found = {f"{name}.grad": p.grad for name, p in net.named_parameters()}
    if processes.first():
        save_weights(out / "gradients", found | dict(net.named_buffers()) | {"loss": loss}, {})


def measure(checkpoints: Path, out: Path) -> None:
    """Per-image errors of many batches, and of one, which leaves a process without any."""
    split, mesh = made_up.split(n), made_up.mesh()
    maps = linear.fit_upsampler(split.mesh.numpy() / split.scale_m, [np.arange(V)])
    lift = linear.fit_lift(split.u_mean.numpy(), split.h_0.numpy())
    regressor = torch.full((J, V_FULL), 1 / V_FULL)
    bench = evaluate.Bench("hand", 0, checkpoints, settings(), mesh, regressor, maps, lift)
    for name in VARIANTS:
        path = checkpoints / name / "model.safetensors"
        bench.systems[name] = train.load_system(path, bench.params)
    losses = {
        f"{name}, {images} images": train.held_out_loss(
            bench.systems[name], split.take(slice(0, images)), mesh.to(best_device()), settings()
        )
        for name in VARIANTS
        for images in (n, 3)
    }
    if processes.first():
        (out / "losses.json").write_text(json.dumps(losses))
    knobs = evaluate.default_knobs(bench.params)
    with mock.patch.object(evaluate, "CHAINS", 10):
        for name, part in {"many": split, "one": split.take(slice(0, 3))}.items():
            frames = [
                evaluate.evaluate(bench, "Ours", knobs, part),
                closed_form.evaluate_plus(bench, knobs, part, split_of_g(split)),
                evaluate.evaluate_baseline(bench, "Baseline A", part),
            ]
            if processes.first():
                pd.concat(frames).to_parquet(out / f"errors_{name}.parquet")


def split_of_g(split: Split) -> Split:
    """The split with heatmaps that are distributions, as the one that trains g has them."""
    return replace(split, U=None, mesh=None)


def work(folder: Path, out: Path, one: Path) -> None:
    """Train; then measure what one process trained into `one`, and go on where it was killed."""
    best_device()  # where tensors go: before the first of them, the others are met
    # Sums of another order differ by bits of float32, as is compared, not by bits of bf16.
    train.mixed_precision = nullcontext
    assert dist.is_initialized() == (processes.count() > 1)
    for variant in VARIANTS:
        assert fit(variant, out / variant, out / "resume.pt") == STEPS
    assert fit("image", out / "resumed", one / "killed.pt") == STEPS - KILLED
    assert fit("image", out / "killed", out / "killed.pt", dies_at=KILLED) == KILLED
    crops = [read_crops(folder, name, folder.parents[1], 1.0) for name in ("phi", "val", "test")]
    gradients(crops[0], out)
    train_phi(*crops[:2], PHI, 0, out / "phi", out / "phi.pt")
    net, _ = load_phi(one / "phi" / "phi.safetensors")
    for name, data in zip(("val", "test"), crops[1:], strict=True):
        extract_features(net, data, PHI.input_px, out, name, maps=name == "test")
    measure(one, out)


if __name__ == "__main__":
    torch.set_num_threads(1)
    work(*(Path(name) for name in sys.argv[1:]))
