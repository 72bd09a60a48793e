"""The paper's Tables 1 to 6: published numbers beside measured ones, never in one column.

Every measured number is derived from the frames of per-image errors that are passed in. What a
frame does not hold prints as a dash; no row is dropped. Rows that a sceptic asks for (does the
method beat the mean pose, a linear lift of U, a single forward pass?) stand under every table.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from .. import peers, stats
from ..closed_form import ORACLE, PLUS
from ..evaluate import LIFT
from ..metrics import METRICS, protocol_of
from ..params import Params
from ..stats import Interval
from . import paper, typeset
from .labels import NAMES, labels
from .paper import LABELS, LOWER, PaperTable
from .typeset import Cell, Group, Section, Sheet

SUBJECTS = {"threedpw": "body", "human36m": "body", "freihand": "hand"}
SCEPTICS = ("Mean pose", LIFT, "Detected pose u_c", "Baseline A")
IF_PRESENT = ("Mean of U", "Lift + Baseline A", "Ours (gamma as printed)", ORACLE)
FAST, PRINTED = ", fast path", "the paper's setting"  # speed.py
PEERS = tuple(peers.PEERS.values())
ABLATION = ("MPVE", "MPJPE", "PA_MPJPE")
# One of each kind of training (Direct L2, w/ H_U, u_c and AS use the g of Ours).
TRAINED = ("Baseline A", "Baseline B", "Image Feature", "Pose Feature", "Both Features", "Ours")
SCEPTICS_NOTE = (
    "Sceptic's rows: what a diffusion model has to beat. Detected pose u_c and Mean of U are poses "
    "without a mesh. Ours (gamma as printed) takes the paper's gamma instead of the tuned one. "
    "Lift of the true joints is an oracle: what the best linear map makes of faultless joints."
)
PLUS_NOTE = (
    "Ours+ replaces the gradient by the alignment in closed form (hmdiff/closed_form.py); Lift + "
    "Baseline A aligns Baseline A's mesh in the same way, without diffusion. The gains of both are "
    "fitted on images that trained the networks, which do better there than on new ones."
)
BASELINE_B_NOTE = (
    "The paper stacks Baseline B up to about the cost of the diffusion; here it has as many layers "
    "as the profile affords (g.baseline_b_layers). GFLOPs of both: the notes of Table 6."
)
PEERS_NOTE = (
    "Re-implemented rows are small networks in the manner of those systems (hmdiff/peers.py), "
    "trained on the same frozen features, images and steps as Ours, each once; not the published "
    "networks."
)

# (number, file stem, measured columns by test set)
ACCURACY = (
    (1, "table1", {"threedpw": ABLATION, "human36m": ("MPJPE", "PA_MPJPE")}),
    (2, "table2", {"freihand": ("PA_MPVPE", "PA_MPJPE", "F5", "F15", "AUC")}),
    *((n, f"table{n}", {"threedpw": ABLATION}) for n in (3, 4, 5)),
    *((n, f"table{n}_human36m", {"human36m": ABLATION}) for n in (3, 4, 5)),
    *((n, f"table{n}_hand", {"freihand": ABLATION}) for n in (3, 4, 5)),
)


@dataclass(frozen=True)
class Measured:
    """All that the tables need of the errors, computed once."""

    errors: pd.DataFrame
    params: Params
    cells: dict[tuple[str, str, str], Interval]  # (dataset, method, metric)
    costs: dict[str, dict[str, dict]] = field(default_factory=dict)  # by subject and method

    def get(self, dataset: str, method: str | None, metric: str) -> Cell:
        """The interval of a method's metric, or None where it was not evaluated."""
        if metric == "steps":
            return steps_text(self.errors, dataset, method)
        return self.cells.get((dataset, method, metric))

    def has(self, dataset: str, method: str) -> bool:
        """Whether a method was evaluated on a set."""
        return (dataset, method, "MPJPE") in self.cells


def measure(
    errors: pd.DataFrame, params: Params, costs: dict[str, dict[str, dict]] | None = None
) -> Measured:
    """Means and intervals of every dataset, method and metric of an errors frame.

    Raises:
        ValueError: the frame names an unknown dataset, or a method lacks images.
    """
    cells = {}
    for dataset, rows in errors.groupby("dataset", observed=True):
        if dataset not in NAMES:
            raise ValueError(f"errors: unknown dataset {dataset!r}; known are {', '.join(NAMES)}")
        for metric in METRICS:
            found = stats.resample_metric(rows, metric, params.stats)
            cells |= {(dataset, method, metric): found.interval(method) for method in found.wide}
    return Measured(errors, params, cells, costs or {})


def present(frame: pd.DataFrame) -> list[str]:
    """The test sets that a frame has rows of, in their order."""
    return [dataset for dataset in NAMES if (frame["dataset"] == dataset).any()]


def chosen_steps(errors: pd.DataFrame, dataset: str, method: str | None) -> dict[int, int]:
    """Sampler steps of a method on a dataset by seed; empty where it takes none."""
    rows = errors[(errors["dataset"] == dataset) & (errors["method"] == method)]
    steps = rows.groupby("seed")["steps"].max().dropna()
    return {int(seed): int(value) for seed, value in steps.items() if value > 0}


def steps_text(errors: pd.DataFrame, dataset: str, method: str | None) -> Cell:
    """Steps as a number if all seeds agree, else all of them in the order of the seeds."""
    steps = list(chosen_steps(errors, dataset, method).values())
    if len(set(steps)) <= 1:
        return steps[0] if steps else None
    return ", ".join(map(str, steps))


def decimals(metric: str) -> int:
    """Printed decimals: mm to 0.1, shares to 0.001, counts whole."""
    if metric in LOWER:
        return 1
    return 0 if metric in ("steps", "FPS") else 3


def head(metric: str) -> str:
    """A column's name with the direction of better."""
    return f"{LABELS[metric]} {'↓' if metric in LOWER or metric == 'steps' else '↑'}"


def group(title: str, metrics: tuple[str, ...]) -> Group:
    """A group of columns named by metrics."""
    return Group(title, tuple(map(head, metrics)), tuple(map(decimals, metrics)))


def published_groups(table: PaperTable) -> list[Group]:
    """The paper's columns, one group a dataset."""
    datasets = dict.fromkeys(column.dataset for column in table.columns)
    return [
        group(f"paper, {name}", tuple(c.metric for c in table.columns if c.dataset == name))
        for name in datasets
    ]


def accuracy_table(
    number: int, stem: str, columns: dict[str, tuple[str, ...]], data: Measured
) -> Sheet:
    """One of Tables 1 to 5, measured on the test sets of `columns`."""
    table, words = paper.table(number), labels(data.params)
    if number == 4:
        columns = {dataset: (*metrics, "steps") for dataset, metrics in columns.items()}
    measured = [(dataset, metric) for dataset, metrics in columns.items() for metric in metrics]

    def cells(method: str | None, steps: bool = True) -> tuple[Cell, ...]:
        wanted = (data.get(d, method, m) if steps or m != "steps" else None for d, m in measured)
        return tuple(wanted)

    rows = tuple((row.label, (*row.values, *cells(row.method))) for row in table.rows)
    extra = [name for name in SCEPTICS if name not in {row.method for row in table.rows}]
    extra += [name for name in IF_PRESENT if any(data.has(d, name) for d in columns)]
    blank = (None,) * len(table.columns)

    def unpublished(names: Iterable[str], title: str, steps: bool = False) -> list[Section]:
        found = tuple((name, (*blank, *cells(name, steps))) for name in names)
        return [Section(found, title)] if found else []

    rivals = [name for name in PEERS if number < 3 and any(data.has(d, name) for d in columns)]
    plus = [PLUS] if any(data.has(d, PLUS) for d in columns) else []
    sets = ", ".join(words.sets[dataset] for dataset in columns)
    return Sheet(
        stem=stem,
        title=f"Table {number}. {table.title} (measured: {sets}, *{words.origin}*)",
        groups=(
            *published_groups(table),
            *(group(f"*{words.origin}* {words.sets[d]}", m) for d, m in columns.items()),
        ),
        sections=(
            Section(rows),
            *unpublished(rivals, "Re-implemented, same features (not in the paper)"),
            *unpublished(plus, "Beyond the paper", steps=True),
            *unpublished(extra, "Sceptic's rows (not in the paper)"),
        ),
        notes=(
            *notes(tuple(columns), data),
            SCEPTICS_NOTE,
            *poses_note(tuple(columns), data),
            *(peers_notes(tuple(columns), data) if rivals else []),
            *([BASELINE_B_NOTE] if number == 3 else []),
            *([PLUS_NOTE] if plus else []),
            *divergence_note(tuple(columns), data),
            *steps_note(number, data.params),
            *tuned_note(number, tuple(columns), data),
        ),
        facts=facts(tuple(columns), data),
    )


def poses_note(datasets: tuple[str, ...], data: Measured) -> list[str]:
    """Why poses without a mesh are not measured, where the protocol's joints are not theirs."""
    found = dict.fromkeys(protocol_of(SUBJECTS[d], data.params.source) for d in datasets)
    return [
        f"Poses without a mesh are not measured by {protocol.name}: {protocol.regressor} reads "
        "its joints off a mesh, and they are others than the detected ones."
        for protocol in found
        if not protocol.skeleton
    ]


def peers_notes(datasets: tuple[str, ...], data: Measured) -> list[str]:
    """What the re-implemented rows are, and what each costs."""
    found = [PEERS_NOTE]
    for subject in dict.fromkeys(SUBJECTS[dataset] for dataset in datasets):
        sizes = [
            f"{name} {cost['parameters'] / 1e6:.2f} M, {cost['flops per image'] / 1e9:.2f}"
            for name, cost in data.costs.get(subject, {}).items()
        ]
        if sizes:
            found.append(f"Parameters; GFLOPs from features to coarse mesh: {'; '.join(sizes)}.")
    return found


def speed_table(speed: dict[str, dict], data: Measured) -> Sheet:
    """Table 6: MPJPE and frames per second; `speed` maps a subject to `measure_speed`'s result."""
    table, words = paper.table(6), labels(data.params)
    sets, hand = words.sets, f"hand ({words.sets['freihand']})"

    def cells(dataset: str, method: str = "Ours") -> tuple[Cell, ...]:
        timed = frames_per_second(speed.get(SUBJECTS[dataset], {}), method)
        return data.get(dataset, method, "MPJPE"), *timed

    peer, ours = table.rows
    rows = (
        (peer.label, (*peer.values, *(None,) * 5)),
        (ours.label, (*ours.values, *cells("human36m"))),
        (f"Ours, {hand}", (None, None, *cells("freihand"))),
    )
    plus = (
        (PLUS, (None, None, *cells("human36m", PLUS))),
        (f"{PLUS}, {hand}", (None, None, *cells("freihand", PLUS))),
    )
    at_body, at_hand = (speed.get(subject, {}) for subject in ("body", "hand"))
    fast = [
        (f"{name}{FAST}{comma}", (None, None, None, *frames_per_second(values, f"{name}{FAST}")))
        for name in ("Ours", PLUS)
        for comma, values in (("", at_body), (f", {hand}", at_hand))
    ]
    printed = [
        (
            f"{name}, paper's setting{comma}",
            (None, None, None, *frames_per_second(values.get(PRINTED, {}), name)),
        )
        for name in ("Ours", f"Ours{FAST}")
        for comma, values in (("", at_body), (f", {hand}", at_hand))
    ]
    names = ("MPJPE ↓", "steps", "FPS, one image ↑", "batch", "FPS, batch ↑")
    datasets = ("human36m", "freihand")
    return Sheet(
        stem="table6",
        title=f"Table 6. {table.title} (measured: {sets['human36m']}, *{words.origin}*)",
        groups=(
            *published_groups(table),
            Group(f"*{words.origin}* {sets['human36m']}", names, (1, 0, 2, 0, 2)),
        ),
        sections=(
            Section(rows),
            Section(plus, "Beyond the paper"),
            Section(tuple(fast), "The same samples by the fast path (hmdiff/fast.py)"),
            Section(tuple(printed), "At the paper's 40 steps, N = 25, and 25 hypotheses"),
        ),
        notes=(*notes(datasets, data), *speed_notes(speed)),
        facts=facts(datasets, data),
    )


def frames_per_second(values: dict, method: str) -> tuple[Cell, Cell, Cell, Cell]:
    """The steps that were timed, FPS at batch 1, the largest batch and FPS there; None where a
    subject was not timed."""
    batches = {int(k.split()[1]): v["fps"] for k, v in values.items() if k.startswith("batch ")}
    fps = {batch: value[method] for batch, value in batches.items() if method in value}
    if not fps:
        return None, None, None, None
    steps = values[f"steps, {PLUS}" if method.startswith(PLUS) else "steps"]
    return steps, fps.get(1), max(fps), fps[max(fps)]


def speed_notes(speed: dict[str, dict]) -> list[str]:
    """Where the frames per second come from, and how time and operations divide."""
    found = [
        "The paper's FPS are of one GeForce RTX 3090; ours are end to end on this machine, with "
        "the steps that the first seed was tuned to; errors are the mean of all seeds."
    ]
    for subject, values in speed.items():
        on = values["hardware"]
        gflops = values["flops per image"]
        found.append(
            f"Speed, {subject}: {on['device']}, {on['threads']} threads; median of "
            f"{values['repeats']} runs after {values['warm-up']} untimed; GFLOPs an image: "
            f"{', '.join(f'{part} {value / 1e9:.2f}' for part, value in gflops.items())}."
        )
        less = values["fast path less reference, mm"]["Ours"]
        shares = values["share of the matmul rate"]
        rates = values["matmul FLOP/s"]
        found.append(
            f"Fast path, {subject}: its errors less the reference's, Ours: "
            f"{', '.join(f'{metric} {value:+.3f} mm' for metric, value in less.items())}; share "
            "of the machine's matmul rate "
            f"({', '.join(f'{path} {rate / 1e9:.0f} GFLOP/s' for path, rate in rates.items())}): "
            f"{', '.join(f'{name} {share:.0%}' for name, share in shares.items())}."
        )
        printed = values[PRINTED]
        for title, timed in ((tuned_title(values), values), (tuned_title(printed), printed)):
            found += [
                f"Speed, {subject}, {title}, {batch}: {breakdown(timed[batch])}."
                for batch in timed
                if batch.startswith("batch ")
            ]
    return found


def tuned_title(values: dict) -> str:
    """The setting that a speed was taken at."""
    return f"{values['steps']} steps, {values['hypotheses']} hypotheses"


def breakdown(timed: dict) -> str:
    """FPS with their range, the gain of the fast path, the time of Ours+ as a share of Ours', and
    ms an image of each part."""
    texts, every = [], timed["ms per image"]
    for name, ms in every.items():
        low, high = timed["fps range"][name]
        parts = ", ".join(f"{part} {value:.1f}" for part, value in ms.items())
        fps, reference = timed["fps"][name], timed["fps"][name.removesuffix(FAST)]
        gain = f", {fps / reference:.1f} times the reference" if name.endswith(FAST) else ""
        if name.startswith(PLUS):
            ours = name.replace(PLUS, "Ours")
            share = timed["fps"][ours] / fps
            of_sampler = ms["reverse process"] / every[ours]["reverse process"]
            gain += f", {share:.0%} of Ours' time and {of_sampler:.0%} of its reverse process"
        texts.append(f"{name} {fps:.2f} FPS ({low:.2f} to {high:.2f}{gain}; ms: {parts})")
    return "; ".join(texts)


def facts(datasets: tuple[str, ...], data: Measured) -> dict[str, str]:
    """Constants of a table for its CSV."""
    rows = data.errors[data.errors["dataset"].isin(datasets)]
    protocols = [protocol_of(SUBJECTS[d], data.params.source) for d in datasets]
    return {
        "profile": data.params.profile,
        "seeds": " ".join(map(str, sorted(rows["seed"].unique()))),
        "protocol": " ".join(dict.fromkeys(protocol.name for protocol in protocols)),
    }


def notes(datasets: tuple[str, ...], data: Measured) -> list[str]:
    """What stands under every table: origin, images, seeds, intervals, protocol, rows."""
    errors, settings, words = data.errors, data.params, labels(data.params)
    counts = []
    for dataset in datasets:
        rows = errors[errors["dataset"] == dataset]
        seeds = ", ".join(map(str, sorted(rows["seed"].unique()))) or "none"
        images = rows["image"].nunique()
        counts.append(f"{words.sets[dataset]} {images} test images, seeds {seeds}")
    ours = errors[(errors["method"] == "Ours") & errors["dataset"].isin(datasets)]
    hypotheses = ", ".join(map(str, sorted(ours["hypotheses"].dropna().astype(int).unique())))
    protocols = dict.fromkeys(
        protocol_of(SUBJECTS[dataset], settings.source).describe() for dataset in datasets
    )
    return [
        f"Measured columns are *{words.origin}*: profile `{settings.profile}`, {words.made}; "
        f"{'; '.join(counts)}.",
        f"In brackets: {settings.stats.level:.0%} interval, bootstrap over images "
        f"({settings.stats.bootstrap} resamples), seeds averaged per image first. "
        f"{seed_note(datasets, data)}",
        *(f"Protocol {text}." for text in protocols),
        *(words.truth[dataset] for dataset in datasets if dataset in words.truth),
        f"Ours is the centre of H_0 from {hypotheses or 'no'} hypotheses. {typeset.DASH}: not "
        "published, or not measured.",
        words.published,
    ]


def seed_note(datasets: tuple[str, ...], data: Measured) -> str:
    """How far each trained system moves from training to training, or that one seed cannot say."""
    moved = []
    for dataset in datasets:
        rows = data.errors[data.errors["dataset"] == dataset]
        found = {name: stats.spread_over_seeds(rows, name, "MPJPE") for name in TRAINED}
        told = [f"{name} {value:.1f}" for name, value in found.items() if not math.isnan(value)]
        if told:
            moved.append(f"{labels(data.params).sets[dataset]} {', '.join(told)}")
    if not moved:
        return "One seed: the spread between trainings is not covered."
    return f"Standard deviation of MPJPE over trainings, mm: {'; '.join(moved)}."


def divergence_note(datasets: tuple[str, ...], data: Measured) -> list[str]:
    """Which methods' reverse processes diverged and were stopped; nothing if none did."""
    if "diverged" not in data.errors:
        return []
    rows = data.errors[data.errors["dataset"].isin(datasets)]
    share = rows.groupby("method")["diverged"].mean()
    named = [f"{method} {value:.1%}" for method, value in share.items() if value > 0]
    return [f"Diverged chains, stopped by the sampler: {', '.join(named)}."] if named else []


def steps_note(number: int, params: Params) -> list[str]:
    """Where Table 4's last column comes from; nothing under the other tables."""
    grid = ", ".join(map(str, params.tune.steps))
    note = (
        f"Steps needed: the fewest of {grid} whose MPVE on validation images is within "
        f"{params.tune.slack:.1%} of the best, for each method and seed."
    )
    return [note] if number == 4 else []


def tuned_note(number: int, datasets: tuple[str, ...], data: Measured) -> list[str]:
    """What tuning has made of Table 5's rows, which may be to switch one off."""
    if number != 5 or "gamma" not in data.errors:
        return []
    told, of_sets = [], data.errors[data.errors["dataset"].isin(datasets)]
    for method in (row.method for row in paper.table(5).rows):
        by_seed = of_sets[of_sets["method"] == method].groupby("seed")[["steps", "gamma"]].first()
        steps, gammas = (", ".join(f"{v:g}" for v in by_seed[name].unique()) for name in by_seed)
        if steps:
            told.append(f"{method} steps {steps}")
        if steps and method != "Ours w/ H_U":  # which has no weight
            told[-1] += f", gamma {gammas}"
    return [f"As tuned: {'; '.join(told)}. One step from noise is Image Feature."] if told else []


def build_tables(
    errors: pd.DataFrame, speed: dict[str, dict], costs: dict[str, dict[str, dict]], params: Params
) -> list[Sheet]:
    """All tables as sheets, in the order of the paper, then the extra test sets."""
    data = measure(errors, params, costs)
    sheets = [accuracy_table(*entry, data) for entry in ACCURACY]
    return sorted([*sheets, speed_table(speed, data)], key=lambda s: ("_" in s.stem, s.stem))


def write_tables(
    errors: pd.DataFrame,
    speed: dict[str, dict],
    costs: dict[str, dict[str, dict]],
    params: Params,
    out: str | Path,
) -> list[Sheet]:
    """Write table1 to table6 and table{3,4,5}_{human36m,hand} as CSV, Markdown and LaTeX.

    Args:
        speed: `speed.measure_speed` by subject.
        costs: by subject and re-implemented system: parameters, flops per image.
    """
    return typeset.write_sheets(build_tables(errors, speed, costs, params), out)


def metrics_summary(errors: pd.DataFrame) -> dict:
    """Means for `dvc metrics`: subject -> dataset -> method -> MPVE, MPJPE, PA_MPJPE (mm).

    Seeds are averaged; a measure that a method lacks, or that diverged, is left out.
    """
    summary: dict = {}
    keys = ["subject", "dataset", "method"]
    means = errors.astype(dict.fromkeys(ABLATION, "float64")).groupby(keys, observed=True)
    for (subject, dataset, method), row in means[list(ABLATION)].mean(skipna=False).iterrows():
        kept = {name: round(value, 3) for name, value in row.items() if not math.isnan(value)}
        summary.setdefault(subject, {}).setdefault(dataset, {})[method] = kept
    return summary
