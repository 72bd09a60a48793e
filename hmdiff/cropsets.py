"""The images of one split as phi sees them: cut in background threads, in planned batches.

A plan lists, batch by batch, which sample is cut under which augmentation; the same plan gives the
same bits, however many threads cut it.
"""

import hashlib
import json
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from . import crops
from .params import Subject
from .pinhole import project
from .stored import read_array, read_meta, read_table

AHEAD = 4  # batches cut before they are asked for
THREADS = 2
NOWHERE = -1.0  # share of a crop's side at which a joint lies whose place in the image is unknown

Plan = list[list[tuple[int, crops.Augmentation]]]  # batches of (sample, augmentation)


@dataclass(frozen=True)
class CropSet:
    """n samples of one split.

    Attributes:
        images: n paths of image files.
        boxes: n x 4, x, y, w, h in pixels.
        joints: n x J x 3, normalised.
        pixels: n x J x 2, where the images show them; NaN where the camera is unknown.
        subject: "body" or "hand".
        box_scale: side of a crop over the box's longer side.
        scale_m: metres per normalised unit.
        datasets: n names of the sets that they come from, or empty where nobody asks.
    """

    images: list[Path]
    boxes: np.ndarray
    joints: np.ndarray
    pixels: np.ndarray
    subject: Subject
    box_scale: float
    scale_m: float
    datasets: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.images)

    def digest(self) -> str:
        """A hash of everything but the images' content."""
        names = [[str(path) for path in self.images], self.datasets]
        text = json.dumps([*names, self.box_scale, self.scale_m])
        arrays = (array.tobytes() for array in (self.boxes, self.joints, self.pixels))
        return hashlib.sha256(text.encode() + b"".join(arrays)).hexdigest()

    def in_order(self, batch: int) -> Plan:
        """The plan that takes every sample once, as it is."""
        rows = [(row, crops.Augmentation()) for row in range(len(self))]
        return [rows[i : i + batch] for i in range(0, len(self), batch)]

    def cut(self, row: int, px: int, draw: crops.Augmentation) -> tuple[np.ndarray, ...]:
        """One crop (3 x px x px, ImageNet-normalised) under an augmentation, its joints (J x 3),
        and where it shows them (J x 2, shares of its side; where that is unknown, outside it, and
        `picture_loss` passes over them)."""
        image, box = crops.read_image(self.images[row]), self.boxes[row]
        picture, joints, shares = crops.apply_augmentation(
            image, box, self.joints[row], self.pixels[row], draw, self.box_scale, px
        )
        shares = np.nan_to_num(shares, nan=NOWHERE).astype(np.float32)
        return crops.normalise(picture), joints, shares

    def batches(self, plan: Plan, px: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """The planned batches, in order: images (B x 3 x px x px), joints (B x J x 3), and where
        the crops show them (B x J x 2)."""
        with ThreadPoolExecutor(THREADS) as pool:
            ahead: deque = deque()
            try:
                for i in range(len(plan) + AHEAD):
                    if i < len(plan):
                        jobs = [pool.submit(self.cut, row, px, draw) for row, draw in plan[i]]
                        ahead.append(jobs)
                    if i >= AHEAD:
                        cut = [job.result() for job in ahead.popleft()]
                        parts = (np.stack(part) for part in zip(*cut, strict=True))
                        yield tuple(torch.from_numpy(part) for part in parts)
            finally:  # whoever stops early does not wait for the rest
                pool.shutdown(wait=False, cancel_futures=True)


def read_crops(prepared: Path, split: str, root: Path, box_scale: float) -> CropSet:
    """The crops of split `phi`, `g`, `val` or `test` of data/prepared/{subject}.

    Args:
        prepared: data/prepared/body or data/prepared/hand.
        root: the folder that the image paths of index.parquet are relative to.
        box_scale: of the prepare block of params.yaml.

    Raises:
        FileNotFoundError, ValueError: `prepared` is not there or has no such samples.
    """
    for name in ("index.parquet", "joints.npy", "meta.json"):
        if not (prepared / name).is_file():
            raise FileNotFoundError(f"{prepared / name}: not there; run `dvc repro` to prepare it")
    index = read_table(prepared / "index.parquet")
    rows = np.flatnonzero(index["split"] == split)
    if not len(rows):
        raise ValueError(f"{prepared / 'index.parquet'}: no samples of {split}; prepare again")
    scale_m = read_meta(prepared / "meta.json")["scale_m"]
    joints = read_array(prepared / "joints.npy")[rows]
    index = index.iloc[rows]
    return CropSet(
        images=[Path(root) / image for image in index["image"]],
        boxes=index[["box_x", "box_y", "box_w", "box_h"]].to_numpy(np.float64),
        joints=(joints / scale_m).astype(np.float32),
        pixels=seen(joints, index),
        subject=prepared.name,
        box_scale=box_scale,
        scale_m=scale_m,
        datasets=tuple(index["dataset"]),
    )


def seen(joints: np.ndarray, index: pd.DataFrame) -> np.ndarray:
    """Where each sample's camera sees its root-relative joints (n x J x 3, m): n x J x 2 pixels,
    NaN where there is no camera. What is not before the camera is taken to be 5 cm before it."""
    points = joints + index[["root_x", "root_y", "root_z"]].to_numpy()[:, None]
    points[..., 2] = np.maximum(points[..., 2], 0.05)
    K = np.tile(np.eye(3), (len(index), 1, 1))
    K[:, [0, 1], [0, 1]], K[:, :2, 2] = index[["fx", "fy"]], index[["cx", "cy"]]
    return project(points, K)
