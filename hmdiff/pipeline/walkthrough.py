"""What the walkthrough notebooks share: a check that their data is there, and pictures in a row."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from ..report.canvas import show


def need(*paths: Path) -> None:
    """Check that what a notebook reads is there.

    Raises:
        FileNotFoundError: one line that names the first missing path and how to make it.
    """
    for path in paths:
        if not path.exists():
            raise FileNotFoundError(
                f"{path}: not there; run `make repro` (or `make smoke`, and open the notebook of "
                "runs/smoke) first"
            )


def strip(pictures: Sequence[np.ndarray], titles: Sequence[str], inches: float = 2.4) -> np.ndarray:
    """Pictures (each H x W x 3) side by side, every one with its title.

    Args:
        inches: the width of each.

    Returns:
        their axes, (len(pictures),), of a pyplot figure; coordinates are pixels.
    """
    size = (inches * len(pictures), inches + 0.4)
    axes = plt.subplots(1, len(pictures), figsize=size, squeeze=False)[1][0]
    for ax, picture, title in zip(axes, pictures, titles, strict=True):
        show(ax, picture)
        ax.set_title(title, fontsize=9)
    return axes
