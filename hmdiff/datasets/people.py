"""Whom an image shows, as far as its name tells, and who is held out of the training part.

METRO's and SPIN's files have a training and a test part. What validates is cut out of the training
part by person, as in the data sets' own layouts: subject 8 of Human3.6M, the last twentieth of
FreiHAND's annotations. 3DPW has a validation part of its own. COCO, MPII, MuCo-3DHP and UP-3D only
train; they do not tell people apart, so that each image stands for itself.
"""

import re
from pathlib import PurePosixPath

from .freihand import STRETCHES

ANNOTATIONS = {"training": 32560, "evaluation": 3960}  # FreiHAND's
HELD_OUT = {"human36m": "S8", "freihand": f"training-{STRETCHES - 1:02d}"}
TRAIN_ONLY = ("coco", "mpii", "muco", "up3d")


def person_of(dataset: str, name: str, split: str) -> str:
    """Whom the image of that name (a file's or a TSV's key) shows; at least what shows the same."""
    path = PurePosixPath(name)
    if dataset == "threedpw":
        return path.parent.name or name
    if dataset == "human36m" and (match := re.match(r"[sS]_?0*(\d+)_", path.name)):
        return f"S{match[1]}"
    if dataset == "freihand" and path.stem.isdecimal():
        part = "evaluation" if split == "test" else "training"
        count = ANNOTATIONS[part]
        return f"{part}-{int(path.stem) % count * STRETCHES // count:02d}"
    return name


def in_split(dataset: str, person: str, split: str) -> bool:
    """Whether a person of the file that holds a split belongs to it."""
    if split == "test" or dataset not in HELD_OUT:
        return True
    return (person == HELD_OUT[dataset]) == (split == "validation")


def part_of(dataset: str, split: str) -> str:
    """Which published part holds a split: train, validation or test.

    Raises:
        ValueError: the data set has no such split.
    """
    if dataset in TRAIN_ONLY and split != "train":
        raise ValueError(f"{dataset}: has no {split} split, it only trains; ask for 'train'")
    return "train" if dataset in HELD_OUT and split == "validation" else split
