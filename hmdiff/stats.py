"""Intervals over per-image errors, so that every number of the reports says how sure it is.

The unit of resampling is the image: several seeds are averaged per image first, so an interval
speaks of other images of the same kind and not of other trainings (`spread_over_seeds` does). Two
methods are compared on the same images by the mean of their paired differences.

An errors frame has one row per (dataset, image, method, seed) with the columns `COLUMNS`.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from .metrics import METRICS
from .params import Stats
from .stored import read_table

# Per-image errors: data/errors/{subject}/{group}-{seed}.parquet.
GROUPS = ("main", "diffusion", "dat", "components")
KEYS = ["dataset", "image", "method", "seed"]
COLUMNS = ("image", "dataset", "subject", "method", "seed", "steps", "hypotheses", *METRICS)
SAME_MM = 0.05  # two evaluations of one system may differ by rounding, not by more


@dataclass(frozen=True)
class Interval:
    """A mean over images with its bootstrap interval; NaN where any image's value is."""

    mean: float
    low: float
    high: float
    images: int
    failed: int  # images whose value is NaN: nothing measured, or a prediction that diverged

    @property
    def measured(self) -> bool:
        """False when the method has this measure on no image at all."""
        return self.failed < self.images


def error_files(data: Path, subject: str, seeds: Iterable[int]) -> list[Path]:
    """The files of a subject's per-image errors: those of the peers, and each group's of each seed.

    Named rather than found: a seed that a study has given up leaves its files behind.
    """
    own = [data / "errors" / subject / f"{group}-{s}.parquet" for s in seeds for group in GROUPS]
    return [data / "peers" / f"{subject}.parquet", *own]


def read_errors(paths: Iterable[str | Path]) -> pd.DataFrame:
    """Join parquet files of per-image errors; a system in several files is kept once.

    Raises:
        FileNotFoundError, ValueError: a file is missing, damaged or lacks a column, or two files
            disagree on a system; one line that names them and the remedy.
    """
    frames = [read_one(Path(path)) for path in sorted(map(str, paths))]
    if not frames:
        raise ValueError("no files of per-image errors; run `dvc repro` to evaluate the systems")
    errors = pd.concat(frames, ignore_index=True)
    runs = errors.groupby(KEYS)[["MPVE", "MPJPE"]]
    spread = (runs.max() - runs.min()).max(axis=1)
    if (spread > SAME_MM).any():
        dataset, _, method, seed = spread.idxmax()
        raise ValueError(
            f"{method!r}, seed {seed}, on {dataset}: evaluated twice with errors up to "
            f"{spread.max():.2f} mm apart; evaluate it with one setting in every group"
        )
    return errors.drop_duplicates(KEYS, ignore_index=True)


def read_one(path: Path) -> pd.DataFrame:
    """One parquet file with `COLUMNS`, its people `named`; errors as in `stored.read_table`."""
    frame = read_table(path)
    missing = [name for name in COLUMNS if name not in frame]
    if missing:
        raise ValueError(f"{path}: lacks the columns {missing}; delete it and evaluate again")
    return named(frame)


def named(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows where the second person of an image becomes the image "<image>#1", and so on.

    3DPW shows several people in one image. They are told apart by their order, which all methods
    share; so a frame is named whole, never a part of it.
    """
    by = [name for name in (*KEYS, "kind", "M", "g_steps", "steps") if name in rows]
    person = rows.groupby(by, observed=True).cumcount()
    names = rows["image"].astype(str)
    return rows.assign(image=names.where(person == 0, names + "#" + person.astype(str)))


def by_image(errors: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Images x methods of one dataset, float64: the mean over seeds, NaN where any seed is NaN.

    Raises:
        ValueError: a method was not evaluated on every image that another one was.
    """
    groups = errors.groupby(["image", "method"], observed=True)[metric]
    runs = groups.size().unstack()
    for method in runs:
        uneven = (runs[method] != runs[method].max()).sum()
        if uneven:
            raise ValueError(
                f"{method!r}: results of some seed are missing on {uneven} of {len(runs)} images; "
                "evaluate it again on the whole test set"
            )
    wide = errors.astype({metric: "float64"}).groupby(["image", "method"], observed=True)[metric]
    return wide.mean(skipna=False).unstack()


def bootstrap_means(values: np.ndarray, resamples: int, seed: int = 0) -> np.ndarray:
    """Means of `resamples` draws of n rows with replacement: n x m -> resamples x m.

    Every column sees the same draws, so that differences of columns are paired.
    """
    generator = np.random.default_rng(seed)
    n = len(values)
    means = np.empty((resamples, values.shape[1]))
    for row in means:
        counts = np.bincount(generator.integers(n, size=n), minlength=n)
        row[:] = counts @ values / n
    return means


@dataclass(frozen=True)
class Bootstrap:
    """An images x columns frame with the means of its resamples, which all columns share.

    Because the draws are shared, a column's difference from another is resampled in pairs by
    subtracting their means.
    """

    wide: pd.DataFrame
    means: np.ndarray  # resamples x columns
    level: float

    def interval(self, name: str) -> Interval:
        """Mean and percentile interval of one column."""
        column = self.means[:, self.wide.columns.get_loc(name)]
        return self._interval(self.wide[name].to_numpy(), column)

    def difference(self, name: str, other: str) -> Interval:
        """Mean and percentile interval of the paired differences name - other."""
        i, j = (self.wide.columns.get_loc(column) for column in (name, other))
        pairs = self.wide[name].to_numpy() - self.wide[other].to_numpy()
        return self._interval(pairs, self.means[:, i] - self.means[:, j])

    def _interval(self, values: np.ndarray, means: np.ndarray) -> Interval:
        tail = 50 * (1 - self.level)
        low, high = np.percentile(means, [tail, 100 - tail])
        failed = int(np.isnan(values).sum())
        return Interval(float(values.mean()), float(low), float(high), len(values), failed)


def resample(wide: pd.DataFrame, resamples: int, level: float) -> Bootstrap:
    """Bootstrap the rows (images) of a frame whose columns are methods."""
    return Bootstrap(wide, bootstrap_means(wide.to_numpy(dtype=np.float64), resamples), level)


def resample_metric(errors: pd.DataFrame, metric: str, settings: Stats) -> Bootstrap:
    """Bootstrap the images of one dataset in one metric; errors as in `by_image`."""
    return resample(by_image(errors, metric), settings.bootstrap, settings.level)


def spread_over_seeds(errors: pd.DataFrame, method: str, metric: str) -> float:
    """Standard deviation over seeds of a method's mean on one dataset; NaN with fewer than two."""
    means = errors[errors["method"] == method].groupby("seed")[metric].mean()
    return float(means.std(ddof=1))
