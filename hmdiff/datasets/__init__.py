"""The data sets, each in the layouts that people have it in; every reader yields the same `Sample`.

A data set on disk is a name and a layout. A layout is a module with
`frames(root, dataset, split, skipped)`, which gives annotations in blocks, unposed (`BodyFrames`);
FreiHAND's own layout stores meshes and has `read` in its place. Files are taken as their authors
publish them (data/raw/README.md), and reading stops at the first thing that is wrong with them: one
line that names the file, what is wrong and the remedy.
"""

from collections import Counter
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from .bodies import FILTERS, BodyFrames, Filters, body_samples
from .sample import Sample

if TYPE_CHECKING:
    from ..body import BodyModel

DATASETS = {"body": ("threedpw", "human36m"), "hand": ("freihand",)}  # of the study, by subject
SPLITS = ("train", "validation", "test")
# Layouts, each with the data sets that it is published for; a data set's first is its usual one.
LAYOUTS = {
    "threedpw": ("threedpw",),
    "human36m": ("human36m",),
    "freihand": ("freihand",),
    "pose2mesh": ("coco", "mpii", "muco", "up3d"),
    "tsv": ("human36m", "coco", "muco", "up3d", "mpii", "threedpw", "freihand"),
    "spin": ("human36m", "coco", "up3d", "mpii", "threedpw"),
}

__all__ = [
    "DATASETS",
    "FILTERS",
    "LAYOUTS",
    "SPLITS",
    "Filters",
    "Sample",
    "frames",
    "layout_of",
    "read",
]


def read(
    dataset: str,
    root: Path,
    split: str,
    model: "BodyModel",
    skipped: Counter | None = None,
    layout: str | None = None,
    filters: Filters = FILTERS["reader"],
) -> Iterator[Sample]:
    """The samples of one split of one data set, in the files' order.

    Args:
        dataset: threedpw, human36m, freihand, coco, mpii, muco or up3d.
        root: the data set's folder.
        split: train, validation or test.
        model: poses the meshes (FreiHAND's own layout: is compared with them).
        skipped: counts, by reason, the annotations that give no sample.
        layout: of LAYOUTS; by default the data set's usual one.
        filters: which annotations to leave out (not applied to FreiHAND's own layout).

    Raises:
        FileNotFoundError, ValueError: one line, with file and remedy.
    """
    layout = layout_of(dataset, split, layout)
    skipped = Counter() if skipped is None else skipped
    if layout == "freihand":
        return import_module(f"{__name__}.freihand").read(Path(root), split, model, skipped)
    return (
        sample
        for block in frames(dataset, root, split, skipped, layout)
        for sample in body_samples(block, dataset, split, model, skipped, filters)
    )


def frames(
    dataset: str, root: Path, split: str, skipped: Counter, layout: str | None = None
) -> Iterator[BodyFrames]:
    """The annotations that `read` poses, in blocks; arguments and errors as there."""
    layout = layout_of(dataset, split, layout)
    if layout == "freihand":
        raise ValueError("freihand: its own layout holds meshes, not parameters; use layout 'tsv'")
    return import_module(f"{__name__}.{layout}").frames(Path(root), dataset, split, skipped)


def layout_of(dataset: str, split: str, layout: str | None) -> str:
    """The layout meant; ValueError where data set, split and layout do not go together."""
    fitting = [name for name, datasets in LAYOUTS.items() if dataset in datasets]
    if not fitting:
        known = tuple(dict.fromkeys(sum(LAYOUTS.values(), ())))
        raise ValueError(f"data set {dataset!r}: unknown; one of {known}")
    if split not in SPLITS:
        raise ValueError(f"split {split!r}: unknown; one of {SPLITS}")
    if layout not in (None, *fitting):
        raise ValueError(f"layout {layout!r}: not one of {dataset}; one of {tuple(fitting)}")
    return layout or fitting[0]
