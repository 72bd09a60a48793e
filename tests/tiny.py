"""A finished run in miniature: the study's files, with small untrained networks in them."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import yaml

from hmdiff import body, coarse, coarsening, linear, params
from hmdiff.checkpoint import save_weights
from hmdiff.closed_form import PLUS
from hmdiff.pipeline import release
from hmdiff.pretrain import Phi
from hmdiff.train import VARIANTS, build

ROOT = Path(__file__).parents[1]
SEED, IMAGES, HELD_OUT, STEPS = 3, 20, 6, 2  # images that train g, that validate it
KNOBS = {"steps": STEPS, "gamma": 0.2, "r": 0.05, "N": 5, "hypotheses": 3, "eta": 0.0, "k_start": 0}


def make_run(run: Path, models: dict[str, Path]) -> Path:
    """Write the run; `models` are the folders of each subject's baked models."""
    values = params.read_yaml(ROOT / "params.yaml") | {"profile": "tiny", "seeds": [SEED, SEED + 1]}
    values["phi"] |= {"width": 8, "context_channels": 128, "deconv_channels": 8, "input_px": 64}
    values["g"] |= {"feedforward": 16}
    settings = params.Params.model_validate(values)
    run.mkdir(parents=True)
    (run / "params.yaml").write_text(yaml.safe_dump(values))
    (run / "dvc.lock").write_text("stages: {}\n")
    for name in release.REPORTS:
        path = run / "reports" / name
        path.parent.mkdir(exist_ok=True)
        if path.suffix:
            path.write_text("{}")
        else:
            path.mkdir()
            (path / "a.txt").write_text(name)
    for folder in ("speed", "sweeps", "models"):
        (run / "data" / folder).mkdir(parents=True)
    (run / "data/speed/body.json").write_text('{"hardware": {"device": "abacus"}}')
    torch.manual_seed(0)
    for subject, folder in models.items():
        models = run / "data/models"
        shutil.copyfile(folder / f"open_{subject}.npz", models / f"{subject}.npz")
        shutil.copyfile(folder / f"{subject}_coarse.npz", models / f"{subject}_coarse.npz")
        add_subject(run / "data", subject, settings)
    return run


def add_subject(data: Path, subject: str, settings: params.Params) -> None:
    """Random meshes, features that know nothing of them, poses that do, untrained networks."""
    model = body.load(data / f"models/{subject}.npz")
    mesh = coarse.load(data / f"models/{subject}_coarse.npz")
    n, g, val = IMAGES + HELD_OUT, slice(IMAGES), slice(IMAGES, None)
    vertices, joints = coarsening.random_meshes(model, n, torch.Generator().manual_seed(1))
    rooted = vertices - joints[:, :1]
    h_0 = rooted[:, mesh.ids]
    scale_m, J, V = float(h_0.std()), model.J, len(mesh.ids)
    prepared, features = data / "prepared" / subject, data / "features" / subject
    prepared.mkdir(parents=True), features.mkdir(parents=True)
    splits = ["g"] * IMAGES + ["val"] * HELD_OUT
    pd.DataFrame({"split": splits}).to_parquet(prepared / "index.parquet")
    (prepared / "meta.json").write_text(json.dumps({"scale_m": scale_m}))
    np.save(prepared / "h0.npy", h_0.numpy())
    np.save(prepared / "mesh_val.npy", rooted[val].numpy())
    u_mean = mesh.f @ h_0 / scale_m + 0.1 * torch.randn(n, J, 3)
    heat = (4 * torch.randn(n, 2 * J, 196)).softmax(-1).unflatten(-1, (14, 14))
    arrays = {"f_I": torch.randn(n, 128, 49).half(), "pooled": heat.half(), "u_mean": u_mean}
    for name, array in arrays.items():
        np.save(features / f"g_{name}.npy", array[g].numpy())
        np.save(features / f"val_{name}.npy", array[val].numpy())
    np.save(features / "val_E.npy", heat[val].unflatten(1, (2, J)).half().numpy())
    upsampler = linear.Upsampler([V, len(mesh.mid_ids), vertices.shape[1]])
    for step, U in zip(upsampler.maps, (mesh.U2, mesh.U1), strict=True):
        step.weight.data = U.to_dense()
    linear.save(features / "linear.safetensors", upsampler, torch.nn.Linear(3 * J, 3 * V))
    phi = Phi(settings.phi, J, settings.phi.cube_m[subject] / scale_m)
    meta = {"subject": subject, "phi": settings.phi.model_dump(mode="json")}
    save_weights(
        data / f"phi/{subject}/phi.safetensors", phi, meta | {"joints": J, "cube": phi.cube}
    )
    for variant in VARIANTS:
        system = build(variant, subject, settings, V, J, h_0.mean(0) / scale_m)
        meta = {"variant": variant, "subject": subject, "seed": SEED, "V": V, "J": J}
        folder = data / f"checkpoints/{subject}-{variant}-{SEED}"
        save_weights(folder / "model.safetensors", system, meta)
    tuned = {"Ours": KNOBS, PLUS: KNOBS}
    (data / f"sweeps/{subject}-{SEED}.json").write_text(json.dumps(tuned))
