"""A frame of per-image errors as `evaluate` gives it, for the tests of tables and of claims."""

from collections.abc import Callable, Iterable

import numpy as np
import pandas as pd

from hmdiff.report import tables


def errors_frame(
    values: Callable[[str, str, list[int]], dict[str, np.ndarray]],
    systems: Iterable[str],
    steps: dict[str, int],
    seeds: Iterable[int],
    images: int,
) -> pd.DataFrame:
    """Every system on every studio set; values(dataset, method, [seed, number]) are its errors."""
    frames = []
    for dataset, subject in tables.SUBJECTS.items():
        for number, method in enumerate(systems):
            for seed in seeds:
                keys = {
                    "image": [f"{i:03}.jpg" for i in range(images)],
                    "dataset": dataset,
                    "subject": subject,
                    "method": method,
                    "seed": seed,
                    "steps": steps.get(method, 0),
                    "hypotheses": 4,
                }
                frames.append(pd.DataFrame(keys | values(dataset, method, [seed, number])))
    return pd.concat(frames, ignore_index=True)
