"""A rehearsal of the study on two samples of a data set: every stage's code, at full size, once.

Reader, crops, phi, U, a training step of g, the reverse process, the metrics: as the pipeline runs
them, on networks of the profile's sizes that know nothing. The numbers mean nothing; that they come
out says that the files, the parameters and the machine will do.
"""

import tempfile
from collections.abc import Iterator
from contextlib import redirect_stderr
from io import StringIO
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from .. import evaluate, linear
from ..body import BodyModel
from ..coarse import CoarseMesh
from ..cropsets import CropSet
from ..datasets import Sample, read
from ..device import best_device
from ..params import Params
from ..pinhole import project
from ..pose import PoseDistribution, pooled
from ..pretrain import infer, untrained
from ..splits import Split
from ..train import load_system, train

SAMPLES = 2


def stages(
    dataset: str, root: Path, model: BodyModel, mesh: CoarseMesh, rows: Tensor, params: Params
) -> Iterator[str]:
    """Run one stage after the other; yields what each found.

    Args:
        root: the data set's folder.
        model, mesh, rows: of its subject, and the regressor of the protocol.

    Raises:
        FileNotFoundError, ValueError, FloatingPointError: one line, of the stage that fails.
    """
    subject = model.subject
    samples = list(islice(read(dataset, root, "train", model), SAMPLES))
    if len(samples) < SAMPLES:
        raise ValueError(f"{root}: {len(samples)} usable samples to train on; complete the set")
    yield f"reader: {samples[0].image.name}"
    full = np.stack([sample.vertices_m - sample.joints_m[0] for sample in samples])
    h_0 = full[:, mesh.ids.numpy()]
    scale_m = float(h_0.std())
    crops = cut_out(samples, subject, params, scale_m)
    images, *_ = next(crops.batches(crops.in_order(SAMPLES), params.phi.input_px))
    yield f"crops: {' x '.join(map(str, images.shape))}"
    phi = untrained(crops, params.phi, seed=0)
    f_I, E_xy, E_z = infer(phi, images)
    yield f"phi: {sum(p.numel() for p in phi.parameters()) / 1e6:.1f} M parameters"
    U = PoseDistribution(E_xy, E_z, phi.cube)
    index = pd.DataFrame({"image": [str(s.image) for s in samples], "dataset": dataset})
    h_0, full = (torch.from_numpy(x.astype(np.float32)) for x in (h_0 / scale_m, full))
    split = Split(index, f_I, pooled(E_xy, E_z), U.mean(), h_0, U, full, scale_m)
    finite("U", U.sample(params.sampler.N, torch.Generator().manual_seed(0)))
    yield f"U: {params.sampler.N} poses, spread {1000 * scale_m * float(U.spread().mean()):.0f} mm"
    bench = with_one_step_of_g(split, model, mesh, rows, params)
    yield "training: one step of g"
    s = params.sampler
    knobs = evaluate.Knobs(2, s.gamma, s.r, s.N, hypotheses=2, eta=s.eta)
    samples = evaluate.run(bench, evaluate.METHODS["Ours"], knobs, split)
    yield f"sampler: 2 of {params.diffusion.K} steps"
    errors = evaluate.measure(bench, samples.h_0.mean(dim=1), split)
    finite("MPJPE", torch.from_numpy(errors["MPJPE"]))
    yield f"metrics: {bench.protocol.describe()}"


def cut_out(samples: list[Sample], subject: str, params: Params, scale_m: float) -> CropSet:
    """The samples as phi sees them."""
    return CropSet(
        images=[sample.image for sample in samples],
        boxes=np.stack([sample.box for sample in samples]).astype(np.float64),
        joints=np.stack([s.joints_m - s.joints_m[0] for s in samples]).astype(np.float32) / scale_m,
        pixels=np.stack([project(sample.joints_m, sample.K) for sample in samples]),
        subject=subject,
        box_scale=params.prepare.box_scale,
        scale_m=scale_m,
    )


def with_one_step_of_g(
    split: Split, model: BodyModel, mesh: CoarseMesh, rows: Tensor, params: Params
) -> evaluate.Bench:
    """A bench whose g has been trained, written, and read again; its maps fit these samples."""
    subject = model.subject
    meshes = (split.mesh / split.scale_m).numpy()
    upsampler = linear.fit_upsampler(meshes, linear.levels(subject, mesh))
    lift = linear.fit_lift(split.u_mean.numpy(), split.h_0.numpy())
    g = params.g.model_copy(update={"steps": {subject: 1}, "mix": {}, "finetune": None})
    short = params.model_copy(update={"g": g})
    with tempfile.TemporaryDirectory() as scratch, redirect_stderr(StringIO()):  # its progress bar
        out = Path(scratch)
        train("image", subject, 0, split, split, mesh, short, out, out / "resume.pt")
        g = load_system(out / "model.safetensors", params)
    mesh, upsampler, lift = (part.to(best_device()) for part in (mesh, upsampler, lift))
    return evaluate.Bench(subject, 0, Path(), params, mesh, rows, upsampler, lift, {"image": g})


def finite(name: str, values: Tensor) -> None:
    """Raise where a number is none."""
    if not torch.isfinite(values).all():
        raise FloatingPointError(f"{name} is not finite; lower lr, or give phi.weights")
