"""The tables of hypotheses: MPJPE against their number, and their score as a distribution.

The first shows what more hypotheses buy, and keeps apart what a system can give (their centre, one
of them) from what takes the truth to pick (the best of them).
"""

from pathlib import Path

import pandas as pd

from .. import stats
from ..closed_form import PLUS
from ..distribution import DIFFUSIONS, LIFTED, NO_DIFFUSION, SCORES
from ..metrics import protocol_of
from ..params import Params
from . import typeset
from .labels import labels
from .tables import SUBJECTS, present
from .typeset import Group, Section, Sheet

# The kinds of `hypotheses.by_number`, as every report names them.
KINDS = {"mean": "mean of M", "single": "single", "oracle": "best of M (oracle)"}


def columns_of(errors: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Images x (method, kind, M) of a frame of `hypotheses.by_number` with a column `method`; of
    one of `distribution.evaluate`, images x (method, steps)."""
    runs = [name for name in ("method", "kind", "M", "steps") if name in errors]
    return (
        stats.named(errors)
        .pivot(index=["dataset", "image", "person"], columns=runs, values=metric)
        .astype("float64")
    )


def hypotheses_table(dataset: str, errors: pd.DataFrame, params: Params) -> Sheet:
    """MPJPE of one set's images by method, kind and number of hypotheses."""
    rows = errors[errors["dataset"] == dataset]
    found = stats.resample(columns_of(rows, "MPJPE"), params.stats.bootstrap, params.stats.level)
    methods, sizes = list(dict.fromkeys(rows["method"])), sorted(rows["M"].unique())
    words = labels(params)

    def line(method: str, kind: str) -> tuple:
        cells = tuple(found.interval((method, kind, M)) for M in sizes)
        return f"{method}, {KINDS[kind]}", cells

    def gain(method: str) -> tuple:
        pairs = (((method, "single", M), (method, "mean", M)) for M in sizes)
        return f"{method}, single - mean of M", tuple(found.difference(*pair) for pair in pairs)

    return Sheet(
        stem=f"hypotheses_{dataset}",
        title=f"MPJPE by number of hypotheses ({words.sets[dataset]}, *{words.origin}*)",
        groups=(
            Group(f"*{words.origin}* MPJPE", tuple(f"M = {M}" for M in sizes), (1,) * len(sizes)),
        ),
        sections=(
            Section(tuple(line(m, kind) for m in methods for kind in ("mean", "single"))),
            Section(
                tuple(line(m, "oracle") for m in methods),
                "Oracle: takes the truth to pick one: no prediction, and no bound on the centre",
            ),
            Section(
                tuple(map(gain, methods)), "Paired differences; positive where the centre is better"
            ),
        ),
        notes=notes(dataset, rows, params),
        facts={
            "profile": params.profile,
            "seeds": str(params.seeds[0]),
            "protocol": protocol_of(SUBJECTS[dataset], params.source).name,
        },
    )


def notes(dataset: str, rows: pd.DataFrame, params: Params) -> tuple[str, ...]:
    """What the table is, over which images, and which chains diverged."""
    images, words = len(columns_of(rows, "MPJPE")), labels(params)
    lost = rows[rows["M"] == rows["M"].max()].groupby("method", sort=False)["diverged"].mean()
    named = ", ".join(f"{method} {share:.1%}" for method, share in lost.items() if share > 0)
    return (
        f"mm, *{words.origin}*: profile `{params.profile}`, {images} evenly spaced test images of "
        f"the {words.sets[dataset]} set, seed {params.seeds[0]}; in brackets the "
        f"{params.stats.level:.0%} interval, bootstrap over images ({params.stats.bootstrap} "
        "resamples). The knobs are those that were tuned with the sampler's own number of "
        "hypotheses.",
        "M: the first M hypotheses of an image. Mean of M: the error of their centre, the paper's "
        f"prediction ({PLUS} predicts with U's mean in every chain, where its centre tends to). "
        "Single: the mean error of one of them.",
        "Best of M (oracle): the least error among them. It falls with M for any hypotheses, even "
        "for noise, so that it says what their spread reaches and not what a system attains. The "
        "centre is none of the M and may be better.",
        f"Protocol {protocol_of(SUBJECTS[dataset], params.source).describe()}.",
        *([f"Diverged chains, stopped by the sampler: {named}."] if named else []),
    )


def write_hypotheses(errors: pd.DataFrame, params: Params, out: str | Path) -> list[Sheet]:
    """Write hypotheses_{dataset} for each set in the frame, in three forms."""
    sheets = [hypotheses_table(dataset, errors, params) for dataset in present(errors)]
    return typeset.write_sheets(sheets, out)


def scores_table(dataset: str, scores: pd.DataFrame, params: Params) -> Sheet:
    """The hypotheses of one set's images as a distribution, beside what has no diffusion."""
    rows = scores[scores["dataset"] == dataset]
    found = {
        measure: stats.resample(
            columns_of(rows, measure), params.stats.bootstrap, params.stats.level
        )
        for measure in ("centre", "single", "edge", *SCORES)
    }
    runs = list(rows.groupby(["method", "steps"], sort=False).groups)
    words = labels(params)

    def kind(method: str) -> str:
        if method in NO_DIFFUSION:
            return "No diffusion"
        return "Diffusion" if method in (*DIFFUSIONS, PLUS) else "Diffusion, trained for longer"

    def line(method: str, steps: int) -> tuple:
        run, cells = (method, steps), [steps or None]
        for measure, drawn in found.items():
            cells.append(drawn.interval(run))
            if measure not in ("centre", "single"):
                cells.append(None if method == LIFTED else drawn.difference(run, (LIFTED, 0)))
        return method, tuple(cells)

    return Sheet(
        stem=f"scores_{dataset}",
        title=f"The hypotheses as a distribution ({words.sets[dataset]}, *{words.origin}*)",
        groups=(
            Group("reverse", ("steps",), (0,)),
            Group(f"*{words.origin}* MPVE ↓", ("centre", "one alone"), (1, 1)),
            *(
                Group(f"*{words.origin}* {what} ↓", ("mean", "minus lifted samples"), (1, 1))
                for what in ("edge error in one", *(f"score {of}" for of in SCORES.values()))
            ),
        ),
        sections=tuple(
            Section(tuple(line(*run) for run in runs if kind(run[0]) == title), title)
            for title in dict.fromkeys(kind(method) for method, _ in runs)
        ),
        notes=(
            f"mm, *{words.origin}*: profile `{params.profile}`, {len(found['score'].wide)} evenly "
            f"spaced test images of the {words.sets[dataset]} set, {params.hypotheses.scored} "
            f"hypotheses an image, seed {params.seeds[0]}; in brackets the "
            f"{params.stats.level:.0%} interval, bootstrap over images.",
            "Score: the energy score, the mean distance of the hypotheses from the truth less half "
            "their mean distance from each other (hmdiff/distribution.py). No distribution has a "
            "lower one in expectation than that of the truth; a single answer's is its error, "
            "vertex by vertex its MPVE. Vertex by vertex it does not ask whether a mesh hangs "
            "together; the score of the whole mesh (distances RMS over vertices) and that of the "
            "lengths of its edges do. Edge error in one: how far an edge's length is off in one "
            "hypothesis. Positive differences: the lifted samples are better.",
            f"{LIFTED}: poses drawn from U with a fitted share of its spread, each lifted as "
            "mean(U) is. All other settings are those tuned for the error of the centre. Centre: "
            f"of these few hypotheses; {PLUS} predicts with U's mean instead (Tables 3 to 5).",
        ),
        facts={"profile": params.profile, "seeds": str(params.seeds[0])},
    )


def write_scores(scores: pd.DataFrame, params: Params, out: str | Path) -> list[Sheet]:
    """Write scores_{dataset} for each set in the frame, in three forms."""
    sheets = [scores_table(dataset, scores, params) for dataset in present(scores)]
    return typeset.write_sheets(sheets, out)
