"""Is training long enough? Ours and its rivals, trained for other lengths.

`train.LENGTHS` are other lengths of training; those that `readings.lengths` of params.yaml names
take part. With each of them every method is tuned as in the tables and measured on the same test
images. So one sees whether what DAT gains, and how Ours stands to the baselines and to the linear
lift of U, outlast a longer training.
"""

import pandas as pd
from tqdm import tqdm

from .closed_form import PLUS, evaluate_plus, sweep_plus
from .evaluate import (
    BASELINES,
    CHECKPOINTS,
    LIFT,
    Bench,
    Knobs,
    Search,
    evaluate,
    evaluate_baseline,
    evaluate_lift,
)
from .splits import Split
from .train import LENGTHS

DIFFUSIONS = ("Image Feature", "Pose Feature", "Both Features", "Ours")
# What is compared, and the trained system of each; the lift has none, it is the same throughout.
SYSTEMS = {name: CHECKPOINTS[name] for name in (*DIFFUSIONS, *BASELINES)} | {PLUS: "image"}
COMPARED = (*SYSTEMS, LIFT)


def benches(bench: Bench) -> dict[str, Bench]:
    """By length of training, the shortest first: a bench whose systems are of that length, which
    for "" is the tables' own."""
    names = sorted(["", *bench.params.readings.lengths], key=LENGTHS.get)
    return {name: bench.of_length(name, SYSTEMS.values()) for name in names}


def tune(bench: Bench, split: Split, g_split: Split) -> dict[str, Knobs]:
    """The knobs of each method on validation images, as `evaluate.sweep` finds them."""
    with tqdm(desc=f"{bench.subject} tuning") as bar:
        search = Search(bench, split, bar)
        knobs = {name: search.tuned(name) for name in DIFFUSIONS}
    _, knobs[PLUS] = sweep_plus(bench, split, g_split)
    return knobs


def evaluate_length(
    bench: Bench, knobs: dict[str, Knobs], split: Split, g_split: Split
) -> pd.DataFrame:
    """Per-image errors of COMPARED on test images."""
    return pd.concat(
        [
            *(evaluate(bench, name, knobs[name], split) for name in DIFFUSIONS),
            *(evaluate_baseline(bench, name, split) for name in BASELINES),
            evaluate_plus(bench, knobs[PLUS], split, g_split),
            evaluate_lift(bench, split),
        ],
        ignore_index=True,
    )
