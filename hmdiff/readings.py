"""What the paper leaves open, as experiments: Ours with one choice read in another way.

Each reading is tuned like Ours (gamma, on validation images, at Ours' number of steps) and then
measured on test images beside Ours, image by image. Readings that change how g is trained have
checkpoints of their own, which `readings.train` of params.yaml asks for.
"""

from dataclasses import replace

import pandas as pd
from tqdm import tqdm

from .evaluate import PRINTED, READINGS, Bench, Knobs, Method, Search, evaluate
from .params import Params
from .splits import Split

AS_PRINTED = "Every value as printed"


def present(params: Params) -> dict[str, Method]:
    """The readings whose g is trained: those of Ours' own, and what `readings.train` names."""
    trained = ("image", *params.readings.train)
    return {name: method for name, method in READINGS.items() if method.checkpoint in trained}


def tune_readings(bench: Bench, ours: Knobs, split: Split) -> tuple[pd.DataFrame, dict[str, Knobs]]:
    """Each reading's gamma on validation images; per-image errors of every setting, and knobs.

    With g held constant the gradient carries 1 / sqrt(alpha_k), up to 180, so that its gamma is
    searched where Direct L2's is.
    """
    tune, methods = bench.params.tune, present(bench.params)
    grids = {
        name: tune.direct_gamma if "constant" in method.at else tune.gamma
        for name, method in methods.items()
    }
    with tqdm(total=sum(map(len, grids.values())), desc=f"{bench.subject} readings") as bar:
        search = Search(bench, split, bar)
        knobs = {name: search.best(name, ours, "gamma", grid) for name, grid in grids.items()}
    return pd.concat(search.frames, ignore_index=True), knobs


def printed(params: Params, ours: Knobs) -> Knobs:
    """The paper's own values, with as many hypotheses as Ours has here.

    A schedule of fewer steps is taken whole.
    """
    return replace(ours, **PRINTED | {"steps": min(PRINTED["steps"], params.diffusion.K)})


def evaluate_readings(
    bench: Bench, ours: Knobs, knobs: dict[str, Knobs], split: Split
) -> pd.DataFrame:
    """Per-image errors of Ours, of the paper's own values, and of each reading at its knobs."""
    literal = evaluate(bench, "Ours", printed(bench.params, ours), split).assign(method=AS_PRINTED)
    frames = [evaluate(bench, "Ours", ours, split), literal]
    for name in tqdm(knobs, desc=f"{bench.subject} readings, test"):
        frames.append(evaluate(bench, name, knobs[name], split))
    return pd.concat(frames, ignore_index=True)
