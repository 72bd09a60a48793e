"""The search for settings of training: each system tries the same few, validation images choose.

One budget for all: every system trains `search.steps` steps with each entry of `search.try` (the
first trial is always params.yaml as it stands), is tuned as in the tables, and judged by its MPVE
on the same validation images. Trials much shorter than the training can mislead. A setting is left
for another only where the other's lead is told from zero: with few images the best of several is
often the luckiest. `params.searched` hands the choice to the training.
"""

import json
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from tqdm import tqdm

from . import processes
from .body import BodyModel
from .checkpoint import Resume
from .denoiser import Denoiser
from .device import best_device
from .evaluate import Bench, Search, evaluate, evaluate_one_pass
from .files import write_file
from .params import Params, Stats, Trial, with_g
from .peers import PEERS, build_peer
from .splits import Split
from .stats import resample
from .train import VARIANTS, OnePass, digest, fit, untrained

# Whatever is trained, and the row of the tables by which it is judged.
ROW_OF = {
    "image": "Ours",
    "pose": "Pose Feature",
    "both": "Both Features",
    "baseline_a": "Baseline A",
    "baseline_b": "Baseline B",
} | PEERS
COLUMNS = ["system", "method", "setting", "MPVE", "chosen"]
CPU = torch.device("cpu")


def trials(params: Params) -> list[Trial]:
    """What every system tries: nothing changed, then `search.try`; one alone needs no trial."""
    return [Trial(), *params.search.trials]


def search(
    bench: Bench, body: BodyModel, data: Split, val: Split, out: Path, resume: Path
) -> pd.DataFrame:
    """Try every system with every setting, and write what comes of it.

    Args:
        data: the split that trains g.
        val: the validation images that judge.
        out: the folder that gets {subject}.csv, what is returned, and {subject}.json, the chosen
            changes to `g` of each system, for `params.searched`.
        resume: scratch file, for going on after a kill with the same result.

    Returns:
        a row a trial: system, method (its name in the tables), setting, MPVE in mm, whether it was
        chosen.
    """
    settings, mesh = trials(bench.params), bench.mesh.to(CPU)
    if len(settings) == 1:  # nothing to choose from
        nothing = {system: {} for system in ROW_OF}
        return write(pd.DataFrame(columns=COLUMNS), nothing, out, bench.subject)
    key = {"subject": bench.subject, "seed": bench.seed}
    key |= {"data": digest(data, mesh), "val": digest(val, mesh)}
    key |= bench.params.model_dump(
        mode="json", exclude={"source", "studio", "prepare", "stats", "photo"}
    )
    keeper = Resume(resume, key)
    # The errors of each trial so far, and what the next one has trained, which waits to be judged.
    state = keeper.load() or {"errors": [], "weights": None}
    todo = [(system, number) for system in ROW_OF for number in range(len(settings))]
    for system, number in tqdm(todo[len(state["errors"]) :], desc=f"{bench.subject} search"):
        model, params = start(bench, body, system, settings[number], data)
        if state["weights"] is None:
            inner = resume.with_name(f"{resume.stem}-{system}-{number}{resume.suffix}")
            state["weights"] = trained(bench, model, system, params, data, val, inner)
            keeper.save(state)
        errors = judge(bench, model, system, state["weights"], val)
        state = {"errors": [*state["errors"], errors.tolist()], "weights": None}
        keeper.save(state)
    errors = np.array(state["errors"])  # trials x images
    frame = pd.DataFrame(
        [(name, ROW_OF[name], settings[number].describe()) for name, number in todo],
        columns=COLUMNS[:3],
    ).assign(MPVE=errors.mean(axis=1), chosen=False)
    found = {}
    for system, rows in frame.groupby("system", sort=False):
        number = choice(errors[rows.index].T, bench.params.stats)
        frame.loc[rows.index[number], "chosen"] = True
        found[system] = settings[number].changes()
    write(frame, found, out, bench.subject)
    keeper.clear()
    return frame


def write(frame: pd.DataFrame, found: dict[str, dict], out: Path, subject: str) -> pd.DataFrame:
    """Write the results of a search, see `search`; returns the frame."""
    if processes.first():
        write_file(out / f"{subject}.csv", frame.to_csv(index=False, float_format="%.6g"))
        write_file(out / f"{subject}.json", json.dumps(found, indent=2) + "\n")
    return frame


def choice(errors: np.ndarray, stats: Stats) -> int:
    """The best of the settings that are told from the first to be better; if none is, the first.

    Args:
        errors: images x settings, mm; inf where a setting did not survive its training.
    """
    means = errors.mean(axis=0)
    if np.isinf(means[0]):
        return int(means.argmin())
    alive = pd.DataFrame(errors).loc[:, np.isfinite(means)]
    pairs = resample(alive, stats.bootstrap, stats.level)
    ahead = [n for n in alive.columns[1:] if pairs.difference(n, 0).high < 0]
    return min(ahead, key=means.item, default=0)


def start(
    bench: Bench, body: BodyModel, system: str, trial: Trial, data: Split
) -> tuple[Denoiser | OnePass, Params]:
    """A system before its training, and the values of a trial: one phase, of a trial's length."""
    subject, mesh = bench.subject, bench.mesh.to(CPU)
    length = {"steps": {subject: bench.params.search.steps}, "finetune": None}
    params = with_g(bench.params, trial.changes() | length)
    torch.manual_seed(bench.seed)
    if system in PEERS:
        mean = data.h_0.mean(0)
        return build_peer(system, subject, params, mesh, body, mean, data.scale_m), params
    return untrained(system, subject, params, data, mesh), params


def trained(
    bench: Bench,
    model: nn.Module,
    system: str,
    params: Params,
    data: Split,
    val: Split,
    resume: Path,
) -> dict[str, Tensor]:
    """The weights of a system trained with one setting; none if it does not survive that."""
    of = (model, system, bench.subject, bench.seed, data, val, bench.mesh.to(CPU), params)
    try:
        with TemporaryDirectory() as out:
            fit(*of, Path(out), resume)
    except FloatingPointError:
        if processes.first():
            resume.unlink(missing_ok=True)
        return {}
    return model.state_dict()


def judge(
    bench: Bench, model: nn.Module, system: str, weights: dict[str, Tensor], val: Split
) -> np.ndarray:
    """MPVE of a trained system on each image, mm, a diffusion with its knobs tuned on the same
    images; without weights inf, no candidate."""
    if not weights:
        return np.full(len(val), np.inf)
    model.load_state_dict(weights)
    bench.systems[system] = model.to(best_device()).eval().requires_grad_(False)
    name = ROW_OF[system]
    if system in VARIANTS and VARIANTS[system].diffusion:
        knobs = Search(bench, val, tqdm(disable=True)).tuned(name)
        errors = evaluate(bench, name, knobs, val)
    else:
        errors = evaluate_one_pass(bench, name, bench.systems[system], val)
    return errors["MPVE"].to_numpy()
