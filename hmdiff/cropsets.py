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

AHEAD = 4  # batches cut before they are asked for
THREADS = 2

Plan = list[list[tuple[int, crops.Augmentation]]]  # batches of (sample, augmentation)


@dataclass(frozen=True)
class CropSet:
    """n samples of one split.

    Attributes:
        images: n paths of image files.
        boxes: n x 4, x, y, w, h in pixels.
        joints: n x J x 3, normalised.
        subject: "body" or "hand".
        box_scale: side of a crop over the box's longer side.
        scale_m: metres per normalised unit.
    """

    images: list[Path]
    boxes: np.ndarray
    joints: np.ndarray
    subject: Subject
    box_scale: float
    scale_m: float

    def __len__(self) -> int:
        return len(self.images)

    def digest(self) -> str:
        """A hash of everything but the images' content."""
        text = json.dumps([[str(path) for path in self.images], self.box_scale, self.scale_m])
        arrays = self.boxes.tobytes() + self.joints.tobytes()
        return hashlib.sha256(text.encode() + arrays).hexdigest()

    def in_order(self, batch: int) -> Plan:
        """The plan that takes every sample once, as it is."""
        rows = [(row, crops.Augmentation()) for row in range(len(self))]
        return [rows[i : i + batch] for i in range(0, len(self), batch)]

    def cut(self, row: int, px: int, draw: crops.Augmentation) -> tuple[np.ndarray, np.ndarray]:
        """One crop (3 x px x px, ImageNet-normalised) and its joints under an augmentation."""
        image, box, joints = crops.read_image(self.images[row]), self.boxes[row], self.joints[row]
        picture, joints = crops.apply_augmentation(image, box, joints, draw, self.box_scale, px)
        return crops.normalise(picture), joints

    def batches(self, plan: Plan, px: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Images (B x 3 x px x px) and joints (B x J x 3) of the planned batches, in order."""
        with ThreadPoolExecutor(THREADS) as pool:
            ahead: deque = deque()
            try:
                for i in range(len(plan) + AHEAD):
                    if i < len(plan):
                        jobs = [pool.submit(self.cut, row, px, draw) for row, draw in plan[i]]
                        ahead.append(jobs)
                    if i >= AHEAD:
                        cut = [job.result() for job in ahead.popleft()]
                        images, joints = (np.stack(part) for part in zip(*cut, strict=True))
                        yield torch.from_numpy(images), torch.from_numpy(joints)
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
    index = pd.read_parquet(prepared / "index.parquet")
    rows = np.flatnonzero(index["split"] == split)
    if not len(rows):
        raise ValueError(f"{prepared / 'index.parquet'}: no samples of {split}; prepare again")
    scale_m = json.loads((prepared / "meta.json").read_text())["scale_m"]
    joints = np.load(prepared / "joints.npy", mmap_mode="r")[rows] / scale_m
    index = index.iloc[rows]
    return CropSet(
        images=[Path(root) / image for image in index["image"]],
        boxes=index[["box_x", "box_y", "box_w", "box_h"]].to_numpy(np.float64),
        joints=joints.astype(np.float32),
        subject=prepared.name,
        box_scale=box_scale,
        scale_m=scale_m,
    )
