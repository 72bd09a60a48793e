"""The claims sheet: which orderings of the paper's tables hold here, and how surely.

A claim is a published ordering (`paper.claims`). It is tested on each test set by the mean of
the paired differences over images, worse minus better, with its bootstrap interval: it *holds*
where the whole interval is on the claim's side of zero, it *does not hold* where all of it is on
the other side or the two systems err alike to the last digit. Where the interval holds zero there
is *no such gain* if one of the paper's relative size lies outside it, and the claim is *undecided*
if it lies inside. Steps are one tuned number a seed and have no interval.
"""

import math
from collections import Counter
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import pandas as pd

from .. import stats
from ..files import write_file
from ..metrics import protocol_of
from ..params import Params
from ..stats import Bootstrap, Interval
from . import paper, typeset
from .labels import NAMES, Labels, labels
from .paper import LABELS, LOWER, Claim
from .tables import (
    ABLATION,
    BASELINE_B_NOTE,
    IF_PRESENT,
    ORACLE,
    PEERS,
    PLUS,
    SCEPTICS,
    SUBJECTS,
    chosen_steps,
    decimals,
)


@dataclass(frozen=True)
class Evidence:
    """One test set in one metric: resampled images, and each training's means (seed x method)."""

    drawn: Bootstrap
    trainings: pd.DataFrame


Resampled = dict[tuple[str, str], Evidence]  # by (dataset, metric)

# What a set is compared in: the ablations' metrics, and for hands those of the paper's Table 2 too.
OF_HANDS = dict.fromkeys((*ABLATION, *(column.metric for column in paper.table(2).columns)))
METRICS = dict.fromkeys(NAMES, ABLATION) | {"freihand": tuple(OF_HANDS)}
TWINS = 0.25  # rivals apart by less than this share of what sets them off from Ours are one
HOLDS, FAILS, SMALLER, OPEN = "holds", "does not hold", "no such gain", "undecided"
ABSENT, UNTESTABLE = "not measured", "not testable here"
VERDICTS = (HOLDS, FAILS, SMALLER, OPEN, ABSENT, UNTESTABLE)
COLUMNS = (
    *("better_mean", "better_low", "better_high", "worse_mean", "worse_low", "worse_high"),
    *("difference_mean", "difference_low", "difference_high", "claimed_difference"),
    *("better_steps", "worse_steps"),
    *("images", "seeds", "verdict", "remark"),
)


def why_untested(words: Labels) -> str:
    """Why claims about published systems are not tested."""
    return f"published systems are not run on the {words.family} sets"


def verdict(difference: Interval, claimed: float = math.inf) -> str:
    """Verdict on "better beats worse" from the interval of worse minus better.

    Args:
        claimed: what the difference would be if the gain were relatively as large as the paper's,
            in the unit of the interval; infinite where the paper claims nothing.
    """
    if not difference.measured:
        return ABSENT
    if difference.low > 0:
        return HOLDS
    if difference.high < 0 or alike(difference):
        return FAILS
    return SMALLER if difference.high < claimed < math.inf else OPEN


def alike(difference: Interval) -> bool:
    """Whether two systems gave the same errors: what sets them apart never acted."""
    return difference.low == difference.high == 0


def steps_verdict(better: dict[int, int], worse: dict[int, int]) -> str:
    """Whether `better` takes strictly fewer steps in every seed, in none, or in some."""
    seeds = better.keys() & worse.keys()
    if not seeds:
        return ABSENT
    fewer = sum(better[seed] < worse[seed] for seed in seeds)
    return HOLDS if fewer == len(seeds) else OPEN if fewer else FAILS


def resample_all(errors: pd.DataFrame, params: Params) -> Resampled:
    """Bootstrap every test set in every metric of the claims, all methods on shared draws."""
    return {
        (dataset, metric): Evidence(
            stats.resample_metric(rows, metric, params.stats),
            rows.astype({metric: "float64"}).groupby(["seed", "method"])[metric].mean().unstack(),
        )
        for dataset, rows in errors.groupby("dataset", observed=True)
        for metric in METRICS[dataset]
    }


def compare(
    found: Evidence | None, better: str, worse: str, metric: str, gain: float = math.inf
) -> dict:
    """The measured side of a row; `difference` is positive where `better` is better.

    Args:
        gain: the paper's, as a share of the worse system's value.
    """
    if found is None or better not in found.drawn.wide or worse not in found.drawn.wide:
        return {"verdict": ABSENT}
    pair = (worse, better) if metric in LOWER else (better, worse)
    difference = found.drawn.difference(*pair)
    claimed = gain * found.drawn.interval(worse).mean
    row: dict = {"images": difference.images, "verdict": verdict(difference, claimed)}
    row["claimed_difference"] = claimed
    row["seeds"] = agreeing(found.trainings, *pair)
    sides = {"better": found.drawn.interval(better), "worse": found.drawn.interval(worse)}
    for name, interval in (sides | {"difference": difference}).items():
        row |= {f"{name}_cell": interval, f"{name}_mean": interval.mean}
        row |= {f"{name}_low": interval.low, f"{name}_high": interval.high}
    if difference.measured and difference.failed:
        row["remark"] = f"no finite prediction on {difference.failed} images"
    elif difference.measured and alike(difference):
        row["remark"] = "the same errors on every image"
    return row


def agreeing(trainings: pd.DataFrame, high: str, low: str) -> str:
    """In how many trainings the mean of `high` is above that of `low`, as "2 of 3"."""
    pairs = trainings[[high, low]].dropna()
    return f"{(pairs[high] > pairs[low]).sum()} of {len(pairs)}"


def judge(
    claim: Claim, dataset: str, errors: pd.DataFrame, resampled: Resampled, words: Labels
) -> dict:
    """One row of the sheet: a claim on one test set."""
    row = describe(claim, words.sets[dataset])
    better, worse = claim.better.method, claim.worse.method
    if claim.metric != "steps":
        found = resampled.get((dataset, claim.metric))
        return row | compare(found, better, worse, claim.metric, claim.gain)
    a, b = (chosen_steps(errors, dataset, name) for name in (better, worse))
    row |= {"verdict": steps_verdict(a, b), "remark": "tuned on validation"}
    return row | {"better_steps": listed(a), "worse_steps": listed(b)}


def describe(claim: Claim, test_set: str) -> dict:
    """The published side of a row."""
    return {
        "table": claim.table,
        "kind": claim.kind,
        "set": test_set,
        "better": claim.better.label,
        "worse": claim.worse.label,
        "metric": claim.metric,
        "paper_dataset": claim.dataset,
        "paper_better": claim.better_value,
        "paper_worse": claim.worse_value,
        "remark": "",
    }


def listed(steps: dict[int, int]) -> str:
    """Steps by seed as text: one number if all seeds agree."""
    values = [str(steps[seed]) for seed in sorted(steps)]
    return values[0] if len(set(values)) == 1 else ", ".join(values)


def judge_all(errors: pd.DataFrame, resampled: Resampled, params: Params) -> pd.DataFrame:
    """Every claim on every test set, in the order of table, set, kind, rival.

    Claims on published peers appear once, untested. Steps are tuned once a subject, so the body's
    are judged on 3DPW, or its like, alone.
    """
    words = labels(params)
    rows = []
    for claim in paper.claims():
        if not claim.testable:
            rows.append(
                describe(claim, "") | {"verdict": UNTESTABLE, "remark": why_untested(words)}
            )
            continue
        sets = ("threedpw", "freihand") if claim.metric == "steps" else NAMES
        rows += [judge(claim, dataset, errors, resampled, words) for dataset in sets]
    names = ["", *words.sets.values()]
    rank = {pair: i for i, pair in enumerate(dict.fromkeys(map(rivals, rows)))}
    rows.sort(
        key=lambda r: (r["table"], names.index(r["set"]), r["kind"] == "order", rank[rivals(r)])
    )
    judged = pd.DataFrame(rows)
    return judged.reindex(columns=dict.fromkeys([*judged.columns, *COLUMNS]))


def rivals(row: dict) -> tuple[str, str]:
    """The two systems of a row."""
    return row["better"], row["worse"]


def sceptics(resampled: Resampled, system: str, params: Params) -> pd.DataFrame:
    """Ours or Ours+ against what needs no diffusion, the peers re-implemented here, and each other:
    no claims of the paper, judged by the same rule."""
    sets = labels(params).sets
    others = [*SCEPTICS, *IF_PRESENT, *PEERS, "Ours", PLUS]
    names = [name for name in others if name not in (system, ORACLE, "Ours (gamma as printed)")]
    rows = [
        {"better": system, "set": sets[dataset], "worse": name, "metric": metric, **found}
        for dataset in NAMES
        for name in names
        for metric in METRICS[dataset]
        if (found := compare(resampled.get((dataset, metric)), system, name, metric))["verdict"]
        != ABSENT
    ]
    return pd.DataFrame(rows)


def counts_table(judged: pd.DataFrame) -> list[str]:
    """Markdown: claims about the paper's own system, and how many met which verdict."""
    ours = judged[judged["kind"] == "ours"]
    lines = []
    for (number, test_set), rows in ours.groupby(["table", "set"], sort=False):
        count = Counter(rows["verdict"])
        name = f"Table {number}, {test_set}" if test_set else f"Table {number}"
        lines.append([name, str(len(rows)), *(str(count[v]) for v in VERDICTS)])
    total = Counter(ours["verdict"])
    lines.append(["**All**", *(f"**{n}**" for n in (len(ours), *(total[v] for v in VERDICTS)))])
    return typeset.markdown_rows(["Paper's", "Orderings", *VERDICTS], lines)


def matrix_table(judged: pd.DataFrame, words: Labels) -> list[str]:
    """Markdown: the verdict on each ordering by test set, in MPVE, or in steps."""
    sets = words.sets
    rows = judged[(judged["kind"] == "ours") & judged["metric"].isin(["MPVE", "steps"])]
    rows = rows[rows["set"] != ""]
    lines = []
    for (number, metric, worse), part in rows.groupby(["table", "metric", "worse"], sort=False):
        found = dict(zip(part["set"], part["verdict"], strict=True))
        what = "takes fewer steps than" if metric == "steps" else "beats"
        cells_ = [found.get(name, f"as {sets['threedpw']}") for name in sets.values()]
        lines.append([f"Table {number}: Ours {what} {worse}", *cells_])
    return typeset.markdown_rows(["Claim (accuracy by MPVE)", *sets.values()], lines)


def detail_table(rows: pd.DataFrame, words: Labels) -> list[str]:
    """Markdown: one row a claim, test set and metric, with numbers and intervals."""
    ours = f"*{words.origin}*"
    header = ["Claim (better < worse)", "Set", "Metric", "paper, 3DPW", f"{ours}: better"]
    header += [f"{ours}: worse", f"{ours}: worse - better", "by the paper's ratio"]
    header += ["Seeds", "Verdict"]
    lines = []
    for row in rows.to_dict("records"):
        digits = decimals(row["metric"])
        published = f"{row['paper_better']:.{digits}f} < {row['paper_worse']:.{digits}f}"
        name = f"{row['better']} < {row['worse']}"
        verdict_ = row["verdict"] + (f" ({row['remark']})" if row["remark"] else "")
        measured = [*cells(row), claimed_cell(row), text_of(row.get("seeds"))]
        lines.append([name, row["set"], LABELS[row["metric"]], published, *measured, verdict_])
    return typeset.markdown_rows(header, lines)


def text_of(value: object) -> str:
    """A text cell; a dash where nothing was measured."""
    return value if isinstance(value, str) else typeset.DASH


def cells(row: dict) -> list[str]:
    """The measured cells of a row: intervals (mm or shares), or steps, or dashes."""
    if row["metric"] == "steps":
        return [row["better_steps"] or typeset.DASH, row["worse_steps"] or typeset.DASH, ""]
    found = [row.get(f"{name}_cell") for name in ("better", "worse", "difference")]
    shown = [cell if isinstance(cell, Interval) else None for cell in found]
    digits = decimals(row["metric"])
    places = (digits, digits, max(digits, 2))
    return [typeset.show(c, place) for c, place in zip(shown, places, strict=True)]


def claimed_cell(row: dict) -> str:
    """The difference (mm) that the paper's ratio of the two errors would give here."""
    claimed = row.get("claimed_difference", math.nan)
    return f"{claimed:.2f}" if math.isfinite(claimed) else ""


def reach(judged: pd.DataFrame, repeats: dict[tuple[str, str], tuple], words: Labels) -> str:
    """In how many of the orderings that hold the gain may be as large as the paper's, relatively,
    and how many there are without those that repeat another (`twins`)."""
    holds = judged[(judged["kind"] == "ours") & (judged["verdict"] == HOLDS)]
    holds = holds[holds["metric"] != "steps"]
    reached = holds["difference_high"] >= holds["claimed_difference"]
    again = {(words.sets[dataset], name) for dataset, name in repeats}
    own = pd.Series([pair not in again for pair in zip(holds["set"], holds["worse"], strict=True)])
    own.index = holds.index
    text = (
        f"Of the {len(holds)} orderings of errors that hold, {reached.sum()} may do so by the "
        "paper's margin: the interval reaches *by the paper's ratio*, the difference that the "
        "paper's ratio of the two errors would give here. In the others the gain is smaller."
    )
    if own.all():
        return text
    return (
        f"{text} {len(holds) - own.sum()} of them repeat another ordering (below the next table); "
        f"without these {own.sum()} hold, {(reached & own).sum()} maybe by the paper's margin."
    )


def lengths_table(lengths: pd.DataFrame, params: Params) -> list[str]:
    """Markdown: the paper's orderings by MPVE with all systems trained for other lengths.

    Args:
        lengths: frames of `convergence.evaluate_length` with a column g_steps.
    """
    lengths = stats.named(lengths)  # as `read_errors` does: an image may show several people
    found = {steps: resample_all(rows, params) for steps, rows in lengths.groupby("g_steps")}
    header = ["Claim (better < worse), MPVE", "Set", *(f"{n:,} training steps" for n in found)]
    lines = []
    for claim in paper.claims():
        if claim.kind != "ours" or claim.metric != "MPVE" or not claim.testable:
            continue
        for dataset, title in labels(params).sets.items():
            of_set = [drawn.get((dataset, "MPVE")) for drawn in found.values()]
            pair = (claim.better.method, claim.worse.method)
            rows = [compare(evidence, *pair, "MPVE", claim.gain) for evidence in of_set]
            if all(row["verdict"] == ABSENT for row in rows):
                continue
            shown = [f"{typeset.show(r.get('difference_cell'), 1)}: {r['verdict']}" for r in rows]
            lines.append([f"{claim.better.label} < {claim.worse.label}", title, *shown])
    return typeset.markdown_rows(header, lines)


def sceptics_table(rows: pd.DataFrame, words: Labels) -> list[str]:
    """Markdown: one system against what the paper does not compare it with, each in the first
    metric that both have."""
    if not len(rows):
        return ["Nothing measured."]
    rows = rows.drop_duplicates(["set", "worse"])
    system, ours = rows["better"].iloc[0], f"*{words.origin}*"
    header = [f"{system} against", "Set", "Metric", f"{ours}: {system}", f"{ours}: other"]
    header += [f"{ours}: {system} is better by", f"other / {system}", f"{system} is better"]
    told = {HOLDS: "yes", FAILS: "no", OPEN: OPEN}
    lines = []
    for row in rows.to_dict("records"):
        lower = row["metric"] in LOWER  # of a score a ratio over 1 would say the contrary
        ratio = f"{row['worse_mean'] / row['better_mean']:.2f}" if lower else ""
        name = [row["worse"], row["set"], LABELS[row["metric"]]]
        lines.append([*name, *cells(row), ratio, told[row["verdict"]]])
    return typeset.markdown_rows(header, lines)


def twins(judged: pd.DataFrame, resampled: Resampled) -> dict[tuple[str, str], tuple]:
    """Rivals of Ours that are another rival under its own name, so that their rows count twice.

    Returns:
        by (dataset, rival): the rival that it repeats, how far apart the two are (RMS over images),
        and how much the difference from Ours varies (its deviation over images), in MPVE, mm.
    """
    names = dict.fromkeys(judged.loc[judged["kind"] == "ours", "worse"])
    found = {}
    for dataset in NAMES:
        if (dataset, "MPVE") not in resampled:
            continue
        wide = resampled[dataset, "MPVE"].drawn.wide
        for first, name in combinations([n for n in names if n in wide and n != "Ours"], 2):
            apart = float((wide[name] - wide[first]).pow(2).mean()) ** 0.5
            ours = float((wide[name] - wide["Ours"]).std())
            if apart < TWINS * ours:
                found.setdefault((dataset, name), (first, apart, ours))
    return found


def twins_note(found: dict[tuple[str, str], tuple], words: Labels) -> str:
    """Which rivals repeat another, and where; nothing if none does."""
    texts: dict[str, list[str]] = {}
    for (dataset, name), (first, apart, ours) in found.items():
        where = f"{apart:.1f} mm apart, against {ours:.1f}, on {words.sets[dataset]}"
        texts.setdefault(f"{name} repeats {first}", []).append(where)
    told = "; ".join(f"{pair} ({', '.join(where)})" for pair, where in texts.items())
    note = "MPVE, RMS over images, against how much the difference from Ours varies"
    return f"As tuned, {told}: {note}. They count as one result." if told else ""


def sheet(
    judged: pd.DataFrame,
    against: dict[str, pd.DataFrame],
    errors: pd.DataFrame,
    lengths: pd.DataFrame,
    resampled: Resampled,
    params: Params,
) -> str:
    """The whole claims sheet as Markdown."""
    words = labels(params)
    untested = f"{UNTESTABLE}: {why_untested(words)}."
    lines = [*introduction(errors, params), "", *counts_table(judged), ""]
    repeats = twins(judged, resampled)
    lines += [reach(judged, repeats, words), ""]
    lines += ["## Verdicts at a glance", "", *matrix_table(judged, words), ""]
    lines += [
        f"Steps are tuned once a subject: those of bodies count under {words.sets['threedpw']}. "
        f"{twins_note(repeats, words)}",
        "",
    ]
    for number in (1, 2):
        rows = judged[judged["table"] == number]
        peers = rows["worse"].nunique()
        lines += [f"## Table {number}. {paper.table(number).title}", ""]
        lines += [f"{len(rows)} orderings against {peers} systems: {untested}", ""]
    for number in (3, 4, 5):
        rows = judged[(judged["table"] == number) & (judged["kind"] == "ours")]
        lines += [f"## Table {number}. {paper.table(number).title}", "", *detail_table(rows, words)]
        lines += ["", *([BASELINE_B_NOTE, ""] if number == 3 else [])]
    speed = judged[judged["table"] == 6]
    lines += [f"## Table 6. {paper.table(6).title}", ""]
    lines += [f"{len(speed)} orderings against FastMETRO: {untested}", ""]
    order = judged[(judged["kind"] == "order") & (judged["metric"] == "MPVE")]
    lines += ["## Orders among the other systems", "", "By MPVE; other metrics: claims.csv.", ""]
    lines += [
        *detail_table(order, words),
        "",
        "## Trained for shorter and for longer",
        "",
        "The systems of Tables 3 and 4, one training of each length, tuned anew: worse - "
        "better, mm, and the verdict by the rule above. Not counted above. More: "
        "tables/convergence_*.",
        "",
        *lengths_table(lengths, params),
        "",
        "## The sceptic's question: is diffusion needed?",
        "",
    ]
    lines += ["No claims of the paper, and not counted above. *-style* systems are re-implemented "]
    lines[-1] += "here on the same features (hmdiff/peers.py). Any two systems in any metric: "
    lines[-1] += "explorer.html."
    for rows in against.values():
        lines += ["", *sceptics_table(rows, words)]
    return "\n".join(lines) + "\n"


def introduction(errors: pd.DataFrame, params: Params) -> list[str]:
    """Title, where the numbers come from, and how a verdict is reached."""
    images = errors.groupby("dataset")["image"].nunique()
    seeds = ", ".join(map(str, sorted(errors["seed"].unique())))
    words = labels(params)
    sets = ", ".join(f"{s} ({images.get(name, 0)} test images)" for name, s in words.sets.items())
    level = f"{params.stats.level:.0%}"
    tail = (1 - params.stats.level) / 2
    return [
        "# Claims",
        "",
        f"Every measured number is *{words.origin}*: profile `{params.profile}`, {words.family} "
        f"sets {sets}; seeds {seeds}. {words.papers}",
        "",
        f"A claim *{HOLDS}* where the {level} interval of the paired difference (bootstrap over "
        f"images, {params.stats.bootstrap} resamples, seeds averaged per image first) lies above "
        f"zero, *{FAILS}* where it lies below or there is no difference at all (what is claimed to "
        f"help never acted). Where the interval holds zero, there is *{SMALLER}* if a gain as "
        "large as the paper's, in proportion, lies outside it (who is ahead is too close to call, "
        f"but it is not by that much), and the claim is *{OPEN}* if it lies inside. The intervals "
        f"stand one by one: of many tests without any true difference, {tail:.1%} would hold and "
        f"{tail:.1%} would not, by chance. They speak of other images of the same people, not of "
        "other people, and not of other trainings. The column *Seeds* says in how many trainings "
        "the two means stand in the claimed order. How a gain changes when all are trained for "
        "longer is told below. Fewer steps means strictly fewer after tuning on validation "
        "images, in every seed.",
        "",
        "The paper makes the claims of Tables 3 to 5 on 3DPW; the other two sets ask whether they "
        "carry over. A tie in the paper (F@15 mm with Mesh Graphormer) claims nothing.",
        *licensed(params),
    ]


def licensed(params: Params) -> list[str]:
    """On the licensed sets, what the intervals leave out, and how the field measures there; how it
    is measured on the studio's the tables say."""
    video = "The test sets are video: frames of a sequence are alike, and the intervals too narrow."
    found = (protocol_of(subject, params.source) for subject in dict.fromkeys(SUBJECTS.values()))
    lines = [f"Protocol {protocol.describe()}." for protocol in found]
    return ["", video, "", *lines] if params.source == "raw" else []


def write_claims(
    errors: pd.DataFrame, lengths: pd.DataFrame, params: Params, out: str | Path
) -> pd.DataFrame:
    """Write `claims.md` and `claims.csv` into `out`; returns the judged claims, one row each.

    Args:
        lengths: as of `lengths_table`.
    """
    resampled = resample_all(errors, params)
    judged = judge_all(errors, resampled, params)
    against = {name: sceptics(resampled, name, params) for name in ("Ours", PLUS)}
    text = sheet(judged, against, errors, lengths, resampled, params)
    printed = [name for name in judged if name not in COLUMNS and not name.endswith("_cell")]
    kept = judged[[*printed, *COLUMNS]].round(4)
    kept = kept.astype({"images": "Int64"}).assign(profile=params.profile)
    write_file(Path(out) / "claims.csv", kept.to_csv(index=False, lineterminator="\n"))
    write_file(Path(out) / "claims.md", text)
    return kept
