"""What the capture studio plans to shoot: which images, of whom, doing what.

A take is a run of images of one person: a 3DPW-like sequence, a Human3.6M-like subaction, or some
FreiHAND-like views. Its randomness depends on (seed, data set, split, number) alone, so takes can
be shot in any order and on any number of cores; splits never share people or draws of poses.
"""

from dataclasses import dataclass

import numpy as np

DATASETS = ("threedpw", "human36m", "freihand")
SPLITS = ("train", "validation", "test")
# Images of one person in one outfit and place. Few: another frame of an outfit teaches little, and
# a network that has seen 60 outfits learns their stripes, not which way people face.
RUN = 5
SIT = ("sit", "sit, legs apart", "sit, leg out", "leg crossed")
STAND = ("stand", "wide stand", "contrapposto", "walk, passing", "lean on", "step up", "one leg")
WALK = ("walk", "walk, passing", "stride", "stand")
LOW = ("crouch", "squat", "kneel", "half-kneel", "bend over", "sit on the floor", "cross-legged")
# Human3.6M's actions: number, name, legs, arms
ACTIONS: tuple[tuple[int, str, tuple, tuple], ...] = (
    (2, "Directions", STAND, ("point", "reach out", "spread", "explain", "wave", "reach up")),
    (3, "Discussion", STAND, ("explain", "crossed", "on hips", "one on hip", "carry", "clap")),
    (4, "Eating", (*SIT, "stand"), ("drink", "hand on chin", "carry", "text")),
    (5, "Greeting", STAND, ("wave", "cheer", "reach out", "clap", "both up", "explain")),
    (6, "Phoning", (*SIT, *STAND), ("phone",)),
    (7, "Posing", (*STAND, "dance", "lunge"), ()),
    (8, "Purchases", (*STAND, *LOW), ("carry", "reach down", "reach out", "reach up", "text")),
    (9, "Sitting", SIT, ()),
    (10, "SittingDown", ("sit on the floor", "cross-legged", "crouch", "kneel", "half-kneel"), ()),
    (11, "Smoking", (*SIT, "stand", "lean on"), ("drink", "hand on chin", "hang")),
    (12, "Photo", (*STAND, "crouch", "half-kneel", "lunge"), ("photo", "guard", "reach out")),
    (13, "Waiting", (*STAND, "sit", "lean on"),
     ("crossed", "behind back", "hang", "on hips", "behind head")),
    (14, "Walking", WALK, ("swing", "hang", "carry")),
    (15, "WalkDog", (*WALK, "lunge", "bend over"), ("reach out", "point", "carry", "swing")),
    (16, "WalkTogether", WALK, ("swing", "explain", "hang", "text")),
)  # fmt: skip


@dataclass(frozen=True)
class Take:
    """One job of the studio.

    Attributes:
        dataset, split: where its images go.
        number: unique within data set and split.
        person: number of the person it shows, unique within data set and split.
        names: the images' paths below the data set's root.
        place: data set's own coordinates: the sequence; or subject, action, subaction, then per
            image camera and frame; or the first index.
    """

    dataset: str
    split: str
    number: int
    person: int
    names: tuple[str, ...]
    place: dict

    def rng(self, seed: int, what: int, frame: int = 0) -> np.random.Generator:
        """The generator of one purpose: 0 the person, 1 the take, 2 an image."""
        who = self.person if what == 0 else self.number
        place = (DATASETS.index(self.dataset), SPLITS.index(self.split))
        return np.random.default_rng([seed, *place, what, who, frame])


def plan(dataset: str, counts: dict[str, int]) -> list[Take]:
    """The takes that together give `counts[split]` images of each split.

    Raises:
        ValueError: unknown data set, or a split's count that is not positive.
    """
    if dataset not in DATASETS:
        raise ValueError(f"studio: {dataset!r} is no data set; choose from {', '.join(DATASETS)}")
    if set(counts) != set(SPLITS) or min(counts.values()) < 1:
        raise ValueError(f"studio.{dataset}: needs positive counts for {', '.join(SPLITS)}")
    planner = {"threedpw": _sequences, "human36m": _subactions, "freihand": _views}[dataset]
    return planner(counts)


def _sequences(counts: dict[str, int]) -> list[Take]:
    """3DPW: a person a sequence."""
    takes = []
    for split in SPLITS:
        parts = np.array_split(np.arange(counts[split]), max(1, round(counts[split] / RUN)))
        for number, part in enumerate(parts):
            sequence = f"studio_{split}_{number:03d}"
            names = (f"imageFiles/{sequence}/image_{i:05d}.jpg" for i in range(len(part)))
            place = {"sequence": sequence}
            takes.append(Take("threedpw", split, number, number, tuple(names), place))
    return takes


SUBJECTS = {"train": (1, 5, 6, 7), "validation": (8,), "test": (9, 11)}
TEST_CAMERA = 4  # the camera of the standard protocol


def _subactions(counts: dict[str, int]) -> list[Take]:
    """Human3.6M: 15 actions with two subactions a subject; tests only by the protocol's camera."""
    takes = []
    for split, subjects in SUBJECTS.items():
        every = [(s, a, b) for b in (1, 2) for a in range(len(ACTIONS)) for s in subjects]
        order = np.random.default_rng(11).permutation(len(every))
        share = np.bincount(np.arange(counts[split]) % len(every), minlength=len(every))
        for number, which in enumerate(order):
            subject, action, subaction = every[which]
            act, n = ACTIONS[action][0], int(share[number])
            if not n:
                continue
            seen = [TEST_CAMERA if split == "test" else 1 + (number + i) % 4 for i in range(n)]
            frames = [5 * i for i in range(n)]  # readers commonly take every fifth frame
            stems = (
                f"s_{subject:02d}_act_{act:02d}_subact_{subaction:02d}_ca_{c:02d}" for c in seen
            )
            names = (f"images/{s}/{s}_{f + 1:06d}.jpg" for s, f in zip(stems, frames, strict=True))
            place = {"subject": subject, "action": action, "subaction": subaction,
                     "cameras": seen, "frames": frames}  # fmt: skip
            takes.append(Take("human36m", split, number, subject, tuple(names), place))
    return takes


STRETCHES = 20  # the last stretch of FreiHAND's training list serves as its validation split


def _views(counts: dict[str, int]) -> list[Take]:
    """FreiHAND: a person some images; nobody appears in two of the list's 20 stretches."""
    takes = []
    total = counts["train"] + counts["validation"]
    stretch = np.arange(total) * STRETCHES // total
    lists = {"training": stretch, "evaluation": np.zeros(counts["test"], int)}
    for folder, group in lists.items():
        for part in (np.flatnonzero(group == g) for g in np.unique(group)):
            held_out = folder == "training" and group[part[0]] == group[-1]
            split = "test" if folder == "evaluation" else SPLITS[int(held_out)]
            for run in np.array_split(part, max(1, round(len(part) / RUN))):
                names = tuple(f"{folder}/rgb/{i:08d}.jpg" for i in run)
                number = len(takes)
                takes.append(Take("freihand", split, number, number, names, {"first": int(run[0])}))
    return takes
