"""One reader a data set, each yielding the same `Sample`.

A reader is `read(root, split, model, skipped=None)`, split one of train, validation, test. It takes
the files as their authors publish them (data/raw/README.md) and stops at the first thing that is
wrong with them: one line that names the file, what is wrong and the remedy.
"""

from collections import Counter
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from .sample import Sample

if TYPE_CHECKING:
    from ..body import BodyModel

DATASETS = {"body": ("threedpw", "human36m"), "hand": ("freihand",)}  # by subject
SPLITS = ("train", "validation", "test")

__all__ = ["DATASETS", "SPLITS", "Sample", "read"]


def read(
    dataset: str,
    root: Path,
    split: str,
    model: "BodyModel",
    skipped: Counter | None = None,
) -> Iterator[Sample]:
    """The samples of one split of one data set, in the files' order.

    Args:
        dataset: threedpw, human36m or freihand.
        root: the data set's folder.
        split: train, validation or test.
        model: poses the meshes (hand: is compared with them).
        skipped: counts, by reason, the annotations that give no sample.

    Raises:
        FileNotFoundError, ValueError: one line, with file and remedy.
    """
    if dataset not in sum(DATASETS.values(), ()):
        raise ValueError(f"data set {dataset!r}: unknown; one of {sum(DATASETS.values(), ())}")
    if split not in SPLITS:
        raise ValueError(f"split {split!r}: unknown; one of {SPLITS}")
    reader = import_module(f"{__name__}.{dataset}")
    return reader.read(Path(root), split, model, skipped)
