"""Figures of the hypotheses: what their number buys, and whether their spread is honest.

As in `figures`, a function writes one PNG and returns its finding.
"""

from pathlib import Path

import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes

from ..closed_form import PLUS
from ..distribution import DIFFUSIONS, LIFTED, NO_DIFFUSION, SCORES
from ..params import Params
from ..stats import Bootstrap, resample
from .canvas import STYLE, figure, look, save
from .figures import draw_band
from .hypotheses_table import KINDS, columns_of
from .labels import labels


def error_by_number(
    errors: pd.DataFrame, subject: str, params: Params, out: Path, metric: str = "MPJPE"
) -> str:
    """Error against the number of hypotheses, a panel for each method, with bands over images.

    Args:
        errors: frames of `hypotheses.by_number` with a column `method`.
    """
    methods, sizes = list(dict.fromkeys(errors["method"])), sorted(errors["M"].unique())
    found = resample(columns_of(errors, metric), params.stats.bootstrap, params.stats.level)
    with rc_context(STYLE):
        made, axes = figure(len(methods), 1, max(5.0, 3.2 * len(methods)), 4.2)
        for ax, method in zip(axes[0], methods, strict=True):
            ax.sharey(axes[0, 0])
            for i, (kind, label) in enumerate(KINDS.items()):
                draw_band(
                    ax, sizes, {M: found.interval((method, kind, M)) for M in sizes}, label, i
                )
            ax.set_xticks(range(len(sizes)), [f"{M}" for M in sizes])
            ax.set_title(method)
            ax.set_xlabel("hypotheses $M$ (evenly spaced)")
        axes[0, 0].set_ylabel(f"{metric}, mm (test, {labels(params).origin})")
        axes[0, 0].legend(fontsize=9)
        return save(made, number_finding(found, methods, sizes[-1], subject, metric), out)


def number_finding(found: Bootstrap, methods: list[str], M: int, subject: str, metric: str) -> str:
    """The best centre beside one hypothesis and the oracle; whom the centre helps most."""
    mean = {m: {k: found.interval((m, k, M)).mean for k in KINDS} for m in methods}
    best = min(methods, key=lambda m: mean[m]["mean"])
    gain = {m: mean[m]["single"] - mean[m]["mean"] for m in methods}
    most = max(gain, key=gain.get)
    return (
        f"{subject}: of {M} hypotheses of {best}, the centre errs by {mean[best]['mean']:.0f} mm "
        f"{metric}, one alone by {mean[best]['single']:.0f}, the one that an oracle picks by "
        f"{mean[best]['oracle']:.0f}; the centre gains most for {most}, {gain[most]:.1f} mm "
        f"({len(found.wide)} test images)"
    )


def uncertainty(
    bins: pd.DataFrame,
    covered: pd.DataFrame,
    summary: pd.DataFrame,
    subject: str,
    params: Params,
    out: Path,
) -> str:
    """Is the spread of the hypotheses honest? Error by bin of spread, and coverage beside it.

    Args:
        bins: frames of `hypotheses.reliability` with a column `method`.
        covered: `hypotheses.coverage`, a column for each method; the index holds the nominal
            probabilities.
        summary: `hypotheses.summarise`, a row for each method.
    """
    with rc_context(STYLE):
        made, axes = figure(2, 1, 9.6, 5.0)
        left, right = axes[0]
        for i, (method, rows) in enumerate(bins.groupby("method", sort=False)):
            curve(left, rows["spread_mm"], rows["error_mm"], method, i)
            curve(right, covered.index, covered[method], method, i)
        top = 1.05 * bins[["spread_mm", "error_mm"]].to_numpy().max()
        left.set(xlim=(0, top), ylim=(0, top), aspect="equal")
        left.set(
            xlabel="RMS spread, mm (each point a tenth of the vertices)",
            ylabel=f"RMS error, mm (test, {labels(params).origin})",
        )
        right.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
        right.set(
            xlabel="probability of the ball about the centre", ylabel="share of vertices inside it"
        )
        for ax in (left, right):
            ax.axline((0, 0), slope=1, linestyle="--", color="0.6", linewidth=1.2, zorder=1)
        right.text(0.86, 0.84, "honest", color="0.4", rotation=45, ha="right", va="bottom")
        left.legend(fontsize=9)
        return save(made, spread_finding(covered, summary, subject, params), out)


def curve(ax: Axes, x, y, label: str, i: int = 0) -> None:
    """A line in the look of that system, or else in the i-th."""
    ax.plot(x, y, label=label, **look(label, i))


def spread_finding(
    covered: pd.DataFrame, summary: pd.DataFrame, subject: str, params: Params
) -> str:
    """What the 50% balls hold, the factor that mends them, and how spread and error rank."""
    held = ", ".join(f"{covered.loc[0.5, name]:.0%} for {name}" for name in summary.index)
    times = ", ".join(f"{value:.1f}" for value in summary["factor"])
    ranks = ", ".join(f"{value:.2f}" for value in summary["pooled"])
    return (
        f"{subject}: the share of vertices in their 50% balls is {held}; for it to be "
        f"half, the spread would have to be {times} times as large; it ranks vertices as their "
        f"error does with correlation {ranks} ({params.hypotheses.images} test images at most, "
        f"{params.hypotheses.N} hypotheses)"
    )


def scores(frame: pd.DataFrame, subject: str, params: Params, out: Path) -> str:
    """The error of the hypotheses' centre, and their score as a distribution, against the number of
    reverse steps; what has no diffusion, and Ours+ as tuned, is a level line.

    Args:
        frame: of `distribution.evaluate`.
    """
    steps = sorted(frame.loc[frame["method"].isin(DIFFUSIONS), "steps"].unique())
    others = frame[frame["method"].isin((*NO_DIFFUSION, PLUS))]
    levels = list(others.groupby(["method", "steps"], sort=False).groups)
    panels = {"centre": "MPVE of the centre"}
    panels |= {measure: f"score {of}" for measure, of in SCORES.items() if measure != "whole"}
    with rc_context(STYLE):
        made, axes = figure(len(panels), 1, 13.0, 4.6)
        axes[0, 1].sharey(axes[0, 0])
        for ax, (measure, title) in zip(axes[0], panels.items(), strict=True):
            found = resample(columns_of(frame, measure), params.stats.bootstrap, params.stats.level)
            for i, method in enumerate(DIFFUSIONS):
                draw_band(ax, steps, {k: found.interval((method, k)) for k in steps}, method, i)
            for run, line in zip(levels, ("-", "--", ":", "-."), strict=True):
                level, colour = found.interval(run).mean, "0.4" if run[1] == 0 else "black"
                ax.axhline(level, color=colour, linestyle=line, linewidth=1.2, label=run[0])
            ax.set_xticks(range(len(steps)), [f"{k}" for k in steps])
            ax.set(title=title, xlabel="reverse steps (evenly spaced)")
            ax.set_ylim(bottom=0)
        axes[0, 0].set_ylabel(f"mm (test, {labels(params).origin})")
        axes[0, 0].legend(fontsize=8, loc="lower left", ncols=2)
        return save(made, scores_finding(frame, subject, steps, params), out)


def scores_finding(frame: pd.DataFrame, subject: str, steps: list[int], params: Params) -> str:
    """What steps do to error and score without DAT, and who scores best with and without g."""
    means = frame.groupby(["method", "steps"])[["centre", "score"]].mean()
    first, last = (means.loc[("Image Feature", k)] for k in (steps[0], steps[-1]))
    diffusions = means.drop(index=list(NO_DIFFUSION), level="method")["score"]
    best, taken = diffusions.idxmin()
    return (
        f"{subject}: from {steps[0]} to {steps[-1]} steps the centre of Image Feature errs by "
        f"{first['centre']:.0f} and {last['centre']:.0f} mm, its score is {first['score']:.0f} and "
        f"{last['score']:.0f}; lifted samples of U score {means.loc[(LIFTED, 0), 'score']:.0f}, "
        f"the best diffusion is {best} (steps: {taken}) with {diffusions.min():.0f} "
        f"({len(columns_of(frame, 'score'))} test images, {params.hypotheses.scored} hypotheses)"
    )
