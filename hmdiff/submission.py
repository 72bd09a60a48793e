"""Predictions in the files that the evaluation servers of FreiHAND and 3DPW take.

FreiHAND (Codalab, `pred.json` in a zip): [xyz, verts], 3960 x 21 x 3 and 3960 x 778 x 3, in the
order of the evaluation images, metres, camera axes.
3DPW (`3dpw-eval` of the ECCV 2020 workshop): a folder like sequenceFiles, with a pickle a sequence
that holds `jointPositions`, P x F x 24 x 3, metres, camera axes, P people in the order of the
ground truth and F frames, all of them; frames that are not evaluated may be zero.

Whatever is short, in millimetres or in another order is refused before anything is written.
"""

import json
import pickle
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from .files import new_file, new_folder

FREIHAND = 3960  # evaluation images
APART_MM = 20.0  # joints may lie that far from those regressed from their meshes
HAND_M = (0.02, 0.5)  # a hand is neither shorter nor longer
BODY_M = (0.3, 3.0)
SEQUENCES = {"train": 24, "validation": 12, "test": 24}  # 3DPW's


def write_freihand(
    out: Path,
    images: Sequence[str | Path],
    joints_m: np.ndarray,
    vertices_m: np.ndarray,
    joint_regressor: np.ndarray,
) -> None:
    """Write a FreiHAND submission, atomically.

    Args:
        out: the zip file.
        images: the 3960 evaluation images that the rows are for; 00000000.jpg first.
        joints_m: 3960 x 21 x 3, FreiHAND's order, metres, camera axes.
        vertices_m: 3960 x 778 x 3, likewise.
        joint_regressor: 21 x 778; shows whether the joints are in order.

    Raises:
        ValueError: one line; counts, shapes, NaN, units or order. `out` is then as before.
    """
    for name, points, count in (("joints", joints_m, 21), ("vertices", vertices_m, 778)):
        if np.shape(points) != (FREIHAND, count, 3):
            found = " x ".join(map(str, np.shape(points)))
            raise ValueError(
                f"{out}: {name} are {found}, not {FREIHAND} x {count} x 3; "
                "predict every evaluation image, in order"
            )
        _check(out, name, points, HAND_M)
    odd = [i for i, image in enumerate(images) if Path(image).stem != f"{i:08d}"]
    if odd or len(images) != FREIHAND:
        found = f"image {odd[0]} is {Path(images[odd[0]]).name}" if odd else f"{len(images)} images"
        raise ValueError(f"{out}: {found}; sort the rows as 00000000.jpg to {FREIHAND - 1:08d}.jpg")
    _check_order(out, joints_m, vertices_m, joint_regressor)
    with new_file(out) as part, zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as archive:
        info = zipfile.ZipInfo("pred.json")  # dated 1980, so that equal predictions are equal files
        info.compress_type = zipfile.ZIP_DEFLATED
        with archive.open(info, "w", force_zip64=True) as file:
            for i, points in enumerate((joints_m, vertices_m)):
                file.write(b"[[" if i == 0 else b", [")
                for row, hand in enumerate(tqdm(points, desc="pred.json", leave=False)):
                    text = json.dumps(np.asarray(hand, np.float64).round(6).tolist())
                    file.write((", " if row else "").encode() + text.encode())
                file.write(b"]")
            file.write(b"]")


def write_threedpw(out: Path, joints_m: Mapping[tuple[str, str], np.ndarray]) -> None:
    """Write results for 3dpw-eval, atomically.

    Args:
        out: the results folder.
        joints_m: by (split, sequence), P x F x 24 x 3, SMPL's joints, metres, camera axes.

    Raises:
        ValueError: one line; shapes, NaN, units, or another number of sequences than a split has.
            `out` is then as before.
    """
    splits = [split for split, _ in joints_m]
    for split in dict.fromkeys(splits):
        if SEQUENCES.get(split) != splits.count(split):
            raise ValueError(
                f"{out}: {splits.count(split)} sequences for {split}, not {SEQUENCES.get(split)}; "
                "predict every sequence of train, validation (12) and test (24)"
            )
    for (split, sequence), joints in joints_m.items():
        name = f"joints of {split}/{sequence}"
        if Path(sequence).name != sequence:
            raise ValueError(f"{out}: {sequence!r} is no sequence's name; give 3DPW's own")
        if np.ndim(joints) != 4 or np.shape(joints)[2:] != (24, 3):
            found = " x ".join(map(str, np.shape(joints)))
            raise ValueError(f"{out}: {name} are {found}, not P x F x 24 x 3; give SMPL's 24")
        _check(out, name, joints.reshape(-1, 24, 3)[np.any(joints, axis=(2, 3)).ravel()], BODY_M)
    with new_folder(out) as part:
        for (split, sequence), joints in joints_m.items():
            path = part / split / f"{sequence}.pkl"
            path.parent.mkdir(exist_ok=True)
            content = {"jointPositions": joints.tolist()}  # lists: any version of numpy takes them
            path.write_bytes(pickle.dumps(content, protocol=2))


def _check(out: Path, name: str, points: np.ndarray, size_m: tuple[float, float]) -> None:
    """Refuse points (n, p, 3) that are not finite, or whose size is not one in metres."""
    if not np.isfinite(points).all():
        raise ValueError(f"{out}: {name} hold NaN or infinity; predict those images again")
    size = np.median(np.ptp(points, axis=1).max(axis=1)) if len(points) else size_m[0]
    if size > size_m[1]:
        remedy = "divide by 1000" if size > 100 * size_m[0] else "give metres"
        raise ValueError(f"{out}: {name} span {size:.4g}, so not metres; {remedy}")
    if size < size_m[0]:
        raise ValueError(f"{out}: {name} span {size:.4g}, no hand or body in metres; give metres")


def _check_order(
    out: Path, joints: np.ndarray, vertices: np.ndarray, regressor: np.ndarray
) -> None:
    """Refuse keypoints in another order than FreiHAND's, or rooted apart from their meshes."""
    own = np.asarray(regressor, dtype=np.float32) @ np.asarray(vertices, dtype=np.float32)
    apart_mm = 1000 * np.median(np.linalg.norm(own - joints, axis=2).mean(axis=1))
    if apart_mm > APART_MM:
        raise ValueError(
            f"{out}: joints lie {apart_mm:.0f} mm from those of their meshes; order them as "
            "FreiHAND (wrist, then thumb to little finger, palm to tip) and root both alike"
        )
