"""The study's figures: here the curves of training and sampling, in `gallery` the pictures.

Every function writes one PNG and returns its finding, a sentence computed from the data, which is
also the figure's title.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes

from ..convergence import SYSTEMS
from ..evaluate import LIFT
from ..params import Params
from ..stats import Interval, by_image, resample
from ..train import fall, kept_loss
from .breakdowns import by_length
from .canvas import LINES, MARKERS, OKABE_ITO, STYLE, figure, log_scale, look, save
from .labels import labels
from .paper import TABLES
from .tables import PEERS, PLUS

KNOBS = {
    "gamma": r"guidance weight $\gamma$", "r": "activation threshold $r$",
    "N": "samples $N$ of U", "k_start": "start step $k$", "steps": "reverse steps",
}  # fmt: skip
BOOTSTRAP, LEVEL = 1000, 0.95
# What Ours is set against, after the rows of the paper's Tables 3 to 5.
OTHERS = (
    *(row.method for table in TABLES[2:5] for row in table.rows if row.method != "Ours"),
    *(LIFT, "Lift + Baseline A", PLUS, *PEERS),
)


def loss_curves(histories: Mapping[str, Sequence[pd.DataFrame]], subject: str, out: Path) -> str:
    """Losses of g and of the baselines along training, each with all of its seeds.

    Args:
        histories: for each variant its histories as `train.fit` returns.
    """
    ends = {name: np.mean([*map(kept_loss, runs)]) for name, runs in histories.items()}
    with rc_context(STYLE):
        made, axes = figure(1, 1, 7, 4.2)
        for i, (label, runs) in enumerate(histories.items()):
            style = look(label, i)
            pale = style | {"marker": "", "alpha": 0.25, "linewidth": 1}
            for j, history in enumerate(runs):
                axes[0, 0].plot(history["step"], history["loss"], **pale)
                axes[0, 0].plot(
                    "step", "val_loss", data=history.dropna(), **style,
                    markersize=4, label=label if j == 0 else "_",
                )  # fmt: skip
        axes[0, 0].set(
            xlabel="optimiser step", ylabel=r"$L_{total}$ (pale: training; marked: validation)"
        )
        log_scale(axes[0, 0])
        axes[0, 0].legend(title=r"baselines have no $L_{Diff}$", fontsize=9)
        falls = {n: np.mean([*map(fall, runs)]) for n, runs in histories.items()}
        name = max(falls, key=falls.get)
        last = "over the last fifth of training, its learning rate going to zero"
        trend = f"{last}, the validation loss of {name} falls most, by {falls[name]:.1%}"
        told = ", ".join(f"{name} {end:.3g}" for name, end in ends.items())
        seen = "too short for a trend" if np.isnan(falls[name]) else trend
        finding = f"{subject}: {seen}; kept: {told}"
        return save(made, finding, out)


def swept(sweeps: pd.DataFrame, method: str, knob: str, metric: str) -> dict[float, Interval]:
    """Mean and interval over images at each value of a knob; seeds are averaged per image.

    All settings ran on the same images, and what is read off a sweep is their order. So how hard
    an image is, its mean over every method and value, is taken out of the interval (Cousineau
    2005, with the factor of Morey 2008); settings that diverged have no part in that mean.
    """
    rows = sweeps[sweeps["knob"] == knob].astype({metric: "float64"})
    kinds = rows.groupby(["image", "method", "value"])
    wide = kinds[metric].mean().unstack(["method", "value"])
    sound = wide.loc[:, kinds["diverged"].mean().unstack(["method", "value"]).max() == 0]
    own = wide[method]
    if (m := sound.shape[1]) > 1:
        hard = sound.mean(axis=1)
        own = own.sub(hard - hard.mean(), axis=0)
        own = own.mean() + (own - own.mean()) * (m / (m - 1)) ** 0.5
    own = own.sort_index(axis=1)
    drawn = resample(own, BOOTSTRAP, LEVEL)
    return {value: drawn.interval(value) for value in own}


def diverged(sweeps: pd.DataFrame, method: str, knob: str) -> dict[float, float]:
    """Share of chains that diverged at each value of a knob."""
    rows = sweeps[(sweeps["method"] == method) & (sweeps["knob"] == knob)]
    return rows.groupby("value")["diverged"].mean().to_dict()


def methods_of(sweeps: pd.DataFrame, knob: str) -> list[str]:
    """The methods that were swept over a knob, in order of appearance; ValueError if none was."""
    methods = list(dict.fromkeys(sweeps.loc[sweeps["knob"] == knob, "method"]))
    if not methods:
        raise ValueError(f"sweeps: no method was swept over {knob!r}; run the sweeps again")
    return methods


def error_against_knob(
    sweeps: pd.DataFrame, knob: str, params: Params, out: Path, metric: str = "MPVE"
) -> str:
    """Error against a knob of the sampler, with the 95% bands of `swept`, on validation images.

    Values stand at even distances, for a grid may hold 0 and powers at once. A setting that
    diverged on any chain is marked by a cross and does not count as the best.
    """
    methods = methods_of(sweeps, knob)
    values = sorted(sweeps.loc[sweeps["knob"] == knob, "value"].unique())
    best: dict[str, tuple[float, float]] = {}  # method: (error, value)
    lost: dict[str, list[float]] = {}
    with rc_context(STYLE):
        made, axes = figure(1, 1, 8.4, 4)
        ax = axes[0, 0]
        for i, method in enumerate(methods):
            found, share = swept(sweeps, method, knob, metric), diverged(sweeps, method, knob)
            sound = {v: x.mean for v, x in found.items() if share[v] == 0 and np.isfinite(x.mean)}
            lost[method] = [v for v in found if v not in sound]
            if sound:
                value = min(sound, key=sound.get)
                best[method] = (sound[value], value)
            draw_band(ax, values, {v: found[v] for v in sound}, method, i)
            crosses = [values.index(v) for v in lost[method]]
            high = [0.97 - 0.05 * i] * len(crosses)
            ax.plot(
                crosses, high, "x", color=look(method, i)["color"], markersize=9, markeredgewidth=2,
                transform=ax.get_xaxis_transform(), clip_on=False,
            )  # fmt: skip
        ax.set_xticks(range(len(values)), [f"{v:g}" for v in values])
        crossed = ", × diverged" if any(lost.values()) else ""
        ax.set(
            xlabel=f"{KNOBS.get(knob, knob)} (values tried, evenly spaced{crossed})",
            ylabel=f"{metric}, mm (validation, {labels(params).origin})",
        )
        ax.legend(
            loc="upper left", bbox_to_anchor=(1.01, 1), fontsize=9, title_fontsize=9,
            title="95% bands; how hard\nan image is taken out",
        )  # fmt: skip
        return save(made, knob_finding(sweeps, knob, metric, best, lost), out)


def draw_band(ax: Axes, values: list, found: dict[float, Interval], label: str, i: int) -> None:
    """A curve of means with its band, in the look of that method, or else in the i-th."""
    x, style = [values.index(v) for v in found], look(label, i)
    ax.plot(x, [c.mean for c in found.values()], label=label, **style)
    low, high = [c.low for c in found.values()], [c.high for c in found.values()]
    ax.fill_between(x, low, high, color=style["color"], alpha=0.12, linewidth=0)


def knob_finding(
    sweeps: pd.DataFrame,
    knob: str,
    metric: str,
    best: dict[str, tuple[float, float]],
    lost: dict[str, list[float]],
) -> str:
    """Which setting is best and by how much, and which ones diverged."""
    subject = " and ".join(sorted(sweeps["subject"].unique()))
    if not best:
        return f"{subject}: every {knob} tried diverged"
    name = min(best, key=best.get)
    error, value = best[name]
    text = f"{subject}: {name} is best at {knob} = {value:g}, with {error:.1f} mm {metric}"
    others = sorted((e, n, v) for n, (e, v) in best.items() if n != name)
    if others:
        text += f"; next is {others[0][1]} with {others[0][0]:.1f} mm at {others[0][2]:g}"
    else:
        rows = sweeps[(sweeps["method"] == name) & (sweeps["knob"] == knob)]
        means = rows.groupby("value")[metric].mean().drop([value, *lost[name]])
        if (means > error).any():
            text += f"; the worst of the others gives {means.max():.1f} mm at {means.idxmax():g}"
        elif len(means):
            text += "; no other is worse"
    gone = [f"{n} at {', '.join(f'{v:g}' for v in vs)}" for n, vs in lost.items() if vs]
    return text + (f"; diverged: {'; '.join(gone)}" if gone else "")


def convergence(errors: pd.DataFrame, params: Params, out: Path, metric: str = "MPVE") -> str:
    """Error against the length of training, for each test set, and below it by how much each system
    is behind Ours, in pairs, with 95% bands.

    Args:
        errors: of one subject, frames of `convergence.evaluate_length` with a column `g_steps`.
    """
    steps, words = sorted(errors["g_steps"].unique()), labels(params)
    sets = list(dict.fromkeys(errors["dataset"]))
    told = []
    with rc_context(STYLE):
        made, axes = figure(len(sets), 2, 2.6 + 4.2 * len(sets), 7.2)
        for (above, below), dataset in zip(axes.T, sets, strict=True):
            wide = by_length(errors[errors["dataset"] == dataset], metric)
            found = resample(wide, params.stats.bootstrap, params.stats.level)
            for method in SYSTEMS:
                means = [found.interval((n, method)).mean for n in steps]
                above.plot(range(len(steps)), means, label=method, **look(method))
                if method != "Ours":
                    pairs = {n: found.difference((n, method), (n, "Ours")) for n in steps}
                    draw_band(below, steps, pairs, method, 0)
            lift = found.interval((steps[0], LIFT)).mean
            above.axhline(lift, color="0.4", linestyle="--", linewidth=1.2, label=LIFT)
            below.axhline(0, color="black", linewidth=1)
            for ax in (above, below):
                ax.set_xticks(range(len(steps)), [f"{n:,}" for n in steps])
            above.set_title(words.sets[dataset])
            below.set_xlabel("training steps, each a training of its own")
            gains = [found.difference((n, "Image Feature"), (n, "Ours")) for n in steps]
            gained = ", ".join(f"{gain.mean:.1f}" for gain in gains)
            told.append(f"{gained} mm on {words.sets[dataset]}")
        axes[0, 0].set_ylabel(f"{metric}, mm (test, {words.origin})")
        axes[1, 0].set_ylabel(f"{metric} minus that of Ours, mm; band: 95%")
        axes[0, -1].legend(fontsize=9, loc="upper left", bbox_to_anchor=(1.01, 1))
        subject, trained = errors["subject"].iloc[0], ", ".join(f"{n:,}" for n in steps)
        finding = f"{subject}: with g trained for {trained} steps DAT gains {' and '.join(told)}"
        return save(made, finding, out)


def relative_gap(
    R: np.ndarray,
    active: np.ndarray,
    subject: str,
    out: Path,
    ks: Sequence[int],
    r: float,
) -> str:
    """R_k over the reverse process, and the share of chains whose guidance is on.

    Args:
        R: relative gaps (steps x ...), NaN where it was not measured.
        active: whether the gradient was applied (steps x ...).
        ks: the step of each row.
        r: the threshold that switches a chain off.
    """
    R, active = (np.asarray(a, np.float64).reshape(len(a), -1) for a in (R, active))
    measured = np.isfinite(R)
    rows = np.flatnonzero(measured.any(axis=1))
    middle = np.array([np.nanpercentile(R[i], (10, 50, 90)) for i in rows])
    x = np.arange(len(R))
    with rc_context(STYLE):
        made, axes = figure(1, 2, 7, 5.2)
        top, bottom = axes[:, 0]
        top.plot(rows, middle[:, 1], "-o", color=OKABE_ITO[0], label="median")
        top.fill_between(
            rows, middle[:, 0], middle[:, 2], color=OKABE_ITO[0], alpha=0.2, linewidth=0,
            label="10th to 90th percentile",
        )  # fmt: skip
        top.axhline(r, color=OKABE_ITO[1], linestyle="--", label=f"threshold r = {r:g}")
        top.set(ylabel=r"$R_k = D_k / D_K$")
        log_scale(top)
        top.legend(fontsize=9)
        share = 100 * active.mean(axis=1)
        bottom.bar(x, share, color=OKABE_ITO[5], width=0.8)
        bottom.set(ylabel="chains guided, %", ylim=(0, 100), xlabel="step $k$, from noise to mesh")
        for ax in (top, bottom):
            every = max(1, len(x) // 12)
            ax.set_xticks(x[::every], [str(k) for k in ks[::every]])
            ax.set_xlim(-0.6, len(x) - 0.4)
        off = int(np.argmax(share <= 50)) if (share <= 50).any() else None
        when = f"half are switched off by k = {ks[off]}" if off is not None else "most stay on"
        end = f"{when}, and {share[-1]:.0f}% of chains are guided to the end"
        if share.min() == 100:
            end = "every chain is guided to the end"
        fall = f"the relative gap falls to a median of {middle[-1, 1]:.2g}"
        finding = f"{subject}: {fall if len(R) > 1 else 'one step, at which R_K is 1'}; {end}"
        return save(made, finding, out)


def calibration(covered: pd.DataFrame, subject: str, out: Path) -> str:
    """Is U calibrated? The share of joints in their region of each nominal probability.

    Args:
        covered: the shares that `calibration.coverage` gives, a column for each data set; the index
            holds the nominal probabilities.
    """
    with rc_context(STYLE):
        made, axes = figure(1, 1, 5.2, 4.8)
        axes[0, 0].plot([0, 1], [0, 1], "--", color="0.6", label="calibrated")
        for i, (name, shares) in enumerate(covered.items()):
            axes[0, 0].plot(shares, label=name, color=OKABE_ITO[i], linestyle=LINES[i])
        axes[0, 0].set(
            xlabel="probability of U's smallest region", ylabel="share of joints inside it"
        )
        axes[0, 0].set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
        axes[0, 0].legend()
        mean = covered.mean(axis=1)
        half, most = (np.interp(p, mean.index, mean) for p in (0.5, 0.9))
        finding = (
            f"{subject}: U's 50% regions hold {half:.0%} of the true joints, its 90% regions "
            f"{most:.0%} (test images, which neither phi nor g has seen)"
        )
        return save(made, finding, out)


def differences(
    errors: pd.DataFrame,
    params: Params,
    out: Path,
    metric: str = "MPVE",
    others: Sequence[str] = OTHERS,
) -> str:
    """How much better Ours is than every other system: paired differences with 95% intervals.

    Args:
        errors: per-image errors of a subject's test sets, all systems and seeds.
        others: the systems to compare with, where they were evaluated.
    """
    found = {
        dataset: resample(by_image(rows, metric), params.stats.bootstrap, params.stats.level)
        for dataset, rows in errors.groupby("dataset", sort=False)
    }
    some, words = next(iter(found.values())).wide, labels(params)
    names = [name for name in others if name in some and some[name].notna().all()]
    cells = {d: {n: found[d].difference(n, "Ours") for n in names} for d in found}
    with rc_context(STYLE):
        made, axes = figure(1, 1, 7, 1.6 + 0.34 * len(names))
        ax = axes[0, 0]
        for i, (dataset, row) in enumerate(cells.items()):
            x, low, high = np.array([(c.mean, c.low, c.high) for c in row.values()]).T
            y = np.arange(len(names)) + 0.22 * (i - (len(cells) - 1) / 2)
            ax.errorbar(
                x, y, xerr=[x - low, high - x], fmt=MARKERS[i], color=OKABE_ITO[i],
                label=words.sets[dataset], markersize=5, capsize=2,
            )  # fmt: skip
        ax.axvline(0, color="0.5", linewidth=1)
        ax.set_yticks(range(len(names)), names)
        ax.invert_yaxis()
        where = f"mm (test, {words.origin}); right: Ours is better"
        ax.set(xlabel=f"{metric} minus that of Ours, {where}")
        ax.legend(fontsize=9)
        better = [n for n in names if all(row[n].low > 0 for row in cells.values())]
        worse = [n for n in names if any(row[n].high < 0 for row in cells.values())]
        finding = f"{errors['subject'].iloc[0]}: on every set Ours is better, told from zero, than "
        finding += f"{len(better)} of {len(names)} systems"
        finding += f"; ahead of it on at least one: {', '.join(worse)}" if worse else ""
        return save(made, finding, out)
