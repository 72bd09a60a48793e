"""3DPW: people outdoors, with SMPL fits from body-worn sensors (the paper's Table 1).

    imageFiles/<sequence>/image_00000.jpg
    sequenceFiles/{train,validation,test}/<sequence>.pkl

A sequence's file holds, for each of its P people and F frames, `poses` (F, 72), `betas` (10 or
more), `trans` (F, 3), `jointPositions` (F, 72), `campose_valid` (F); and for its camera `cam_poses`
(F, 4, 4, world to camera) and `cam_intrinsics`. Metres. Frames whose camera pose failed are
skipped. `genders` is not used: every mesh comes from the one body model that is passed in, so what
that model is decides what the ground truth means.
"""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ..safe_pickle import load_plain
from .bodies import BodyFrames
from .sample import (
    broken,
    camera_matrix,
    numbers,
    present,
    rotation,
)

KEYS = ("poses", "betas", "trans", "jointPositions", "campose_valid", "cam_poses", "cam_intrinsics")
LIMIT_MM = 100.0  # a gendered and the neutral body differ by a few centimetres; a wrong one by more


def frames(root: Path, dataset: str, split: str, skipped: Counter) -> Iterator[BodyFrames]:
    """Frames of one split, sequence by sequence, person by person.

    A sample's `person` is its sequence, so that people who share images are not parted.
    """
    folder = present(
        root / "sequenceFiles" / split, "see data/raw/README.md for the tree, or run the studio"
    )
    files = sorted(folder.glob("*.pkl"))
    if not files:
        raise broken(folder, "holds no sequence (*.pkl)", "see data/raw/README.md for the tree")
    for path in files:
        yield from people(path, root, skipped)


def people(path: Path, root: Path, skipped: Counter) -> Iterator[BodyFrames]:
    """The people of one sequence file, each with the frames whose camera is known."""
    content = load_plain(path)
    if not isinstance(content, dict):
        raise broken(path, "does not hold a sequence", "is it another data set's file?")
    missing = [key for key in KEYS if key not in content]
    if missing:
        raise broken(path, f"lacks {', '.join(missing)}", "is it another data set's file?")
    name = str(content.get("sequence", path.stem))
    if name != path.stem:
        raise broken(path, f"is sequence {name!r} by its content", "rename it or get it again")
    cameras = numbers(path, "cam_poses", content["cam_poses"], (None, 4, 4))
    R, t = cameras[:, :3, :3], cameras[:, :3, 3]
    K = camera_matrix(path, "cam_intrinsics", content["cam_intrinsics"])
    for key in KEYS[:5]:
        listed = isinstance(content[key], list | tuple | np.ndarray)
        if not listed or getattr(content[key], "shape", None) == ():
            raise broken(path, f"{key} is no list of people", "get it again")
    count = len(content["poses"])
    for key in KEYS[:5]:
        if len(content[key]) != count:
            fault = f"{key} is for {len(content[key])} people, poses for {count}"
            raise broken(path, fault, "get it again")
    for person in range(count):
        yield _person(path, root, content, person, (R, t, K), skipped)


def _person(
    path: Path, root: Path, content: dict, person: int, camera: tuple, skipped: Counter
) -> BodyFrames:
    """One person's frames; `camera` is R (F, 3, 3), t (F, 3), K (3, 3)."""
    R, t, K = camera
    F = len(R)

    def part(key: str, *shape: int | None) -> np.ndarray:
        try:
            value = content[key][person]
        except (TypeError, LookupError):
            raise broken(path, f"{key} lacks person {person}", "get it again") from None
        return numbers(path, f"{key}[{person}]", value, shape)

    valid = np.flatnonzero(part("campose_valid", F))
    skipped["camera pose unknown"] += F - len(valid)
    betas = part("betas", None)[:10]
    if len(betas) < 10:
        raise broken(path, f"betas[{person}] has {len(betas)} numbers, not 10", "get it again")
    world = part("jointPositions", F, 72).reshape(F, 24, 3)
    joints = world @ np.swapaxes(R, 1, 2) + t[:, None]
    folder = root / "imageFiles" / path.stem
    visible = None
    if "poses2d" in content:  # x, y, confidence of 18 keypoints, found in the image
        visible = (part("poses2d", F, 3, 18)[:, 2] > 0).sum(axis=1)[valid]
    return BodyFrames(
        source=path,
        images=[folder / f"image_{i:05d}.jpg" for i in valid],
        persons=[path.stem] * len(valid),
        betas=np.tile(betas, (len(valid), 1)),
        poses=part("poses", F, 72)[valid],
        trans=part("trans", F, 3)[valid],
        R=rotation(path, "cam_poses", R[valid]),
        t=t[valid],
        K=np.broadcast_to(K, (len(valid), 3, 3)),
        joints=joints[valid],
        joint_ids=list(range(24)),
        limit_mm=LIMIT_MM,
        visible=visible,
    )
