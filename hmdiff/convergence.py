"""Is g trained enough? Its diffusion without DAT, Ours and Ours+, with g trained for other lengths.

`train.LENGTHS` are trainings of Ours' g for a part and for a multiple of `g.steps`; those that
`readings.train` of params.yaml names take part. With each of them every method is tuned as in the
tables and measured on the same test images. So one sees whether what DAT gains, and how Ours stands
to the linear lift of U, outlast a longer training.
"""

from dataclasses import replace

import pandas as pd
from tqdm import tqdm

from . import closed_form
from .evaluate import LIFT, Bench, Knobs, Search, evaluate, evaluate_lift
from .splits import Split
from .train import LENGTHS, TRAINED

GUIDED = ("Image Feature", "Ours")  # without DAT, and with it
METHODS = (*GUIDED, closed_form.NAME, LIFT)  # the lift has no g: it is the same at all lengths


def benches(bench: Bench) -> dict[str, Bench]:
    """By trained variant, the shortest training first: a bench whose g of Ours is that one."""
    names = ["image", *(name for name in LENGTHS if name in bench.params.readings.train)]
    names.sort(key=lambda name: TRAINED[name].length)
    return {name: replace(bench, systems={"image": bench.system(name)}) for name in names}


def tune(bench: Bench, split: Split, g_split: Split) -> dict[str, Knobs]:
    """The knobs of each method on validation images, as `evaluate.sweep` finds them."""
    with tqdm(desc=f"{bench.subject} tuning") as bar:
        search = Search(bench, split, bar)
        knobs = {name: search.tuned(name) for name in GUIDED}
    _, plus = closed_form.sweep_plus(bench, split, g_split)
    return knobs | {closed_form.NAME: Knobs(**plus)}


def evaluate_length(
    bench: Bench, knobs: dict[str, Knobs], split: Split, g_split: Split
) -> pd.DataFrame:
    """Per-image errors of METHODS on test images."""
    return pd.concat(
        [
            *(evaluate(bench, name, knobs[name], split) for name in GUIDED),
            closed_form.evaluate_plus(bench, knobs[closed_form.NAME], split, g_split),
            evaluate_lift(bench, split),
        ],
        ignore_index=True,
    )
