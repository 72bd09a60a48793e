"""What recovery needs beside the code, in one folder: gathered from a run, read without it.

    recovery.json                       settings of the run, tuned knobs of every method
    {subject}.npz                       the body or hand model
    {subject}_coarse.npz                its coarse mesh
    phi-{subject}.safetensors           backbone and pose head
    {subject}-image-{seed}.safetensors  g
    {subject}-linear.safetensors        the final MLP, composed into one map, and the lift
    {subject}-gains.safetensors         of Ours+, for the tuned number of steps

Floats are in half precision. On test images of the study that moved recovered bodies by 0.17 mm in
the mean of their vertices (the worst of 30 by 0.25, one vertex by 1.1), hands by 0.03.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import torch
from pydantic import ValidationError, model_validator
from torch import Tensor

from .. import body, coarse, linear, params, pretrain
from ..checkpoint import load_weights, save_weights
from ..closed_form import PLUS, Gains, fit
from ..datasets.sample import read_json
from ..device import best_device
from ..evaluate import Bench, Knobs, load_bench
from ..fast import as_one_map
from ..files import write_file
from ..splits import load_split
from ..train import load_system

SECTIONS = ("prepare", "phi", "diffusion", "g")
SUBJECTS = get_args(params.Subject)
RELEASED = Path(__file__).parents[2] / "reports/released/default/weights"
REMEDY = "give the folder of another release, or make one with `python -m hmdiff.pipeline.release`"


class Recipe(params.Block):
    """recovery.json: the sections of params.yaml that recovery reads, and what was tuned."""

    profile: str
    seed: int
    prepare: params.Prepare
    phi: params.Phi
    diffusion: params.Diffusion
    g: params.Denoiser
    knobs: dict[params.Subject, dict[str, Knobs]]

    @model_validator(mode="after")
    def both_subjects_are_tuned(self) -> "Recipe":
        """Recovery needs the knobs of Ours+."""
        for subject in SUBJECTS:
            if PLUS not in self.knobs.get(subject, {}):
                raise ValueError(f"the knobs of {PLUS} are missing for the {subject}")
        return self

    def settings(self) -> params.Params:
        """As the parameters of a run; recovery reads no other section."""
        sections = {name: getattr(self, name) for name in SECTIONS}
        return params.Params.model_construct(profile=self.profile, seeds=(self.seed,), **sections)


@dataclass(frozen=True)
class Bundle:
    """The trained system of one subject, ready to recover with Ours+."""

    bench: Bench
    phi: pretrain.Phi
    model: body.BodyModel
    knobs: Knobs
    gains: Gains


def half(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights with their floats in half precision.

    Raises:
        ValueError: a value is too large for it.
    """
    halves = {n: t.half() if t.is_floating_point() else t for n, t in weights.items()}
    for name, tensor in halves.items():
        if not tensor.isfinite().all():
            raise ValueError(f"{name}: not finite in half precision; the training has failed")
    return halves


def gather(run: Path, values: dict, out: Path) -> None:
    """Add to the released weights of phi and g in `out` all else that recovery needs.

    Args:
        run: a finished run, the first of whose seeds is taken.
        values: its params.yaml.

    Raises:
        FileNotFoundError, ValueError: one line; the run lacks something, or it does not fit.
    """
    seed, data = values["seeds"][0], run / "data"
    tuned = {s: read_json(data / f"sweeps/{s}-{seed}.json", dict) for s in SUBJECTS}
    sections = {name: values.get(name) for name in ("profile", *SECTIONS)}
    recipe = parse(run / "params.yaml", {**sections, "seed": seed, "knobs": tuned})
    for subject in SUBJECTS:
        for name in (f"{subject}.npz", f"{subject}_coarse.npz"):
            shutil.copyfile(data / "models" / name, out / name)
        bench = load_bench(subject, seed, data, recipe.settings())
        cube_m = recipe.phi.cube_m[subject]
        g_split, val = (load_split(subject, split, data, cube_m) for split in ("g", "val"))
        gains = fit(bench, g_split, val, recipe.knobs[subject][PLUS].steps)
        meta = {"kind": f"gains of {PLUS}", "width": gains.width}
        save_weights(out / f"{subject}-gains.safetensors", half({"G": torch.stack(gains.G)}), meta)
        maps = as_one_map(bench.upsampler).half(), bench.lift.half()  # a tenth as large
        linear.save(out / f"{subject}-linear.safetensors", *maps)
    write_file(out / "recovery.json", recipe.model_dump_json(by_alias=True, indent=2) + "\n")


def parse(path: Path, values: dict) -> Recipe:
    """Check settings read from `path`; ValueError is one line that names the key."""
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise ValueError(f"{path}: {key or 'file'}: {first['msg']}; {REMEDY}") from None


def load(folder: str | Path, subject: params.Subject) -> Bundle:
    """Read the system of a subject from a folder of released weights.

    Raises:
        FileNotFoundError, ValueError: one line; there is no release, or its files do not fit.
    """
    folder = Path(folder)
    if not (folder / "recovery.json").is_file():
        raise FileNotFoundError(f"{folder}: no released weights there; {REMEDY}")
    recipe = parse(folder / "recovery.json", read_json(folder / "recovery.json", dict))
    stem, settings = f"{subject}-image-{recipe.seed}", recipe.settings()
    try:
        model = body.load(folder / f"{subject}.npz")
        phi, _ = pretrain.load_phi(folder / f"phi-{subject}.safetensors")
        mesh = coarse.load(folder / f"{subject}_coarse.npz")
        maps = linear.load(folder / f"{subject}-linear.safetensors")
        G, meta = load_weights(folder / f"{subject}-gains.safetensors")
        mesh, *maps, gain = (part.to(best_device()) for part in (mesh, *maps, G["G"].float()))
        system = load_system(folder / f"{stem}.safetensors", settings)
        knobs = recipe.knobs[subject][PLUS]
        if len(gain) != knobs.steps or gain.shape[1:] != (3 * model.J, 3 * len(mesh.ids)):
            raise ValueError(f"{folder}: the gains are of another system; {REMEDY}")
        bench = Bench(
            subject, recipe.seed, folder, settings, mesh, model.joint_regressor, *maps,
            {"image": system},
        )  # fmt: skip
        return Bundle(bench, phi, model, knobs, Gains(list(gain), float(meta["width"])))
    except (KeyError, TypeError, IndexError, RuntimeError, ValidationError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(
            f"{folder}: the files do not fit together ({reason:.100}); {REMEDY}"
        ) from None
    except (FileNotFoundError, ValueError) as error:
        # What mends a run's files ("run `dvc repro`") mends no release.
        fault = str(error).partition("; ")[0]
        kind = FileNotFoundError if isinstance(error, FileNotFoundError) else ValueError
        raise kind(f"{fault}; {REMEDY}") from None
