"""Bodies and hands as parameters, still to be posed: blocks of frames, filters, and the posing.

Every layout that stores parameters comes through here, so that a mesh is made, a box found and a
frame left out in one way. Axes and units are those of `sample`.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from ..metrics import H36M14
from .sample import EVERYTHING, SUPERVISION, Sample, box_around, broken, image_size, own_box

if TYPE_CHECKING:
    from ..body import BodyModel

BATCH = 128  # frames posed at once, 11 MB of body vertices
FARTHEST_M = 100.0  # a person farther off is a person given in millimetres
MARGIN = 1.2  # of METRO's and SPIN's boxes, around the person's own


@dataclass(frozen=True)
class Filters:
    """Which annotations give no sample. Frames without a camera pose never do.

    Attributes:
        fit_mm: how far the mesh's joints may lie from annotated ones, on average, once their
            centres meet; None is the reader's own limit.
        muco_mm: the same on MuCo-3DHP, where it differs there.
        regressor: 17 x V_full, Human3.6M's joints from a mesh, for which limits hold. Without it
            SMPL's own joints of the limbs stand in, and may lie SKELETON_MM farther off.
        rows: the rows of the regressor that are compared.
        least_visible: how many annotated joints the image must show.
    """

    fit_mm: float | None = None
    muco_mm: float | None = None
    regressor: np.ndarray | None = None
    rows: tuple[int, ...] = tuple(range(17))
    least_visible: int = 0

    def limit_mm(self, dataset: str, frames: "BodyFrames") -> float:
        """How far the joints that are compared may lie apart."""
        limit = self.muco_mm if dataset == "muco" and self.muco_mm else self.fit_mm
        limit = frames.limit_mm if limit is None else limit
        stand_in = frames.joints.shape[1] == 17 and self.regressor is None
        return limit + SKELETON_MM if stand_in else limit


SKELETON_MM = 30.0  # SMPL's joints of the limbs lie so far from Human3.6M's in a good fit
FILTERS = {
    "reader": Filters(),
    "pose2mesh": Filters(fit_mm=25.0, muco_mm=45.0),
    "metro": Filters(fit_mm=50.0, rows=H36M14.joints),
}
# Of Human3.6M's 17 joints, the limbs': right leg, left leg, left arm, right arm.
SMPL_OF_H36M = (-1, 2, 5, 8, 1, 4, 7, -1, -1, -1, -1, 16, 18, 20, 17, 19, 21)


@dataclass(frozen=True)
class BodyFrames:
    """Parameters of n frames of one annotation file, still to be posed.

    Attributes:
        source: the annotation file, for messages.
        images, persons: n each.
        betas, poses, trans: SMPL's (MANO's, its pose relative to the mean), (n, 10), (n, 72 or 48),
            (n, 3) metres, world axes.
        R, t, K: world to camera, (n, 3, 3), (n, 3) metres; (n, 3, 3) pixels, NaN where unknown.
        joints: joints that the file gives beside the parameters, (n, c, 3), metres, camera axes.
        joint_ids: which SMPL joints those are, (c,), -1 for none. 17 joints are Human3.6M's, as
            far as they are no NaN.
        limit_mm: how far the mesh's joints may lie from them, on average, once their centres meet.
        boxes: the annotation's own, (n, 4), where K is unknown.
        visible: how many annotated joints the image shows, (n,), or None where no file tells.
        given: which of SUPERVISION, (n, 3) booleans, or None for all.
    """

    source: Path
    images: list[Path]
    persons: list[str]
    betas: np.ndarray
    poses: np.ndarray
    trans: np.ndarray
    R: np.ndarray
    t: np.ndarray
    K: np.ndarray
    joints: np.ndarray
    joint_ids: list[int]
    limit_mm: float
    boxes: np.ndarray | None = None
    visible: np.ndarray | None = None
    given: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.images)

    def take(self, rows: np.ndarray | slice) -> "BodyFrames":
        """Some of the frames."""
        arrays = {k: v for k, v in vars(self).items() if isinstance(v, np.ndarray)}
        parts = {k: v[rows] for k, v in arrays.items()}
        chosen = np.arange(len(self))[rows]
        lists = {k: [getattr(self, k)[i] for i in chosen] for k in ("images", "persons")}
        return replace(self, **parts, **lists)


def in_camera(points: torch.Tensor, R: np.ndarray, t: np.ndarray) -> np.ndarray:
    """R x + t for (B, n, 3) points, (B, 3, 3) and (B, 3); float32."""
    points = points.numpy() @ np.swapaxes(R, -1, -2).astype(np.float32)
    return points + t[:, None].astype(np.float32)


def body_samples(
    frames: BodyFrames,
    dataset: str,
    split: str,
    model: "BodyModel",
    skipped: Counter,
    filters: Filters = FILTERS["reader"],
) -> Iterator[Sample]:
    """Pose the frames in batches and yield those that show a person.

    A bad fit keeps no frame out of a test whose joints are measured by themselves: who measures
    with those takes every frame.

    Raises:
        ValueError: the joints of most frames lie far from the file's own, or metres away.
    """
    source, n, far = frames.source, len(frames), 0
    limit_mm = filters.limit_mm(dataset, frames)
    for start in range(0, n, BATCH):
        part = frames.take(slice(start, start + BATCH))
        poses = np.hstack([part.poses[:, :3], part.poses[:, 3:] + model.mean_pose])
        arrays = (part.betas, poses, part.trans)
        with torch.inference_mode():
            posed = model.pose(*(torch.from_numpy(x.astype(np.float32)) for x in arrays))
        vertices, joints = (in_camera(x, part.R, part.t) for x in posed)
        if np.median(np.linalg.norm(joints[:, 0], axis=1)) > FARTHEST_M:
            raise broken(source, "people stand over 100 m away", "is a length in millimetres?")
        gap_mm = fit_error_mm(part, vertices, joints, filters)
        far += int((gap_mm > limit_mm).sum())
        for i in range(len(part)):
            tested = split == "test" and _measured(part, i) is not None
            if gap_mm[i] > limit_mm and not tested:
                skipped["joints far from the body fit"] += 1
                continue
            if part.visible is not None and part.visible[i] < filters.least_visible:
                skipped["too few joints visible"] += 1
                continue
            sample = _sample(part, i, dataset, split, vertices[i], joints[i])
            if isinstance(sample, str):
                skipped[sample] += 1
                continue
            yield sample
    if far > n / 2:
        raise broken(
            source,
            f"in {far} of {n} frames the body fits over {limit_mm:g} mm off its joints",
            "was it made with another body model, or are its lengths in another unit?",
        )


def fit_error_mm(
    frames: BodyFrames, vertices: np.ndarray, joints: np.ndarray, filters: Filters
) -> np.ndarray:
    """Mean distance of posed (n x V x 3) from annotated joints once their centres meet, (n,) mm.

    It is 0 where the annotation has no joints to compare.
    """
    given, ids = frames.joints, np.array(frames.joint_ids, dtype=int)
    if filters.regressor is not None and given.shape[1] == 17:
        rows = list(filters.rows)
        rows = [row for row in rows if np.isfinite(given[:, row]).all()]  # MuCo lacks some
        own, given = filters.regressor[rows].astype(np.float32) @ vertices, given[:, rows]
    else:
        own, given = joints[:, ids[ids >= 0]], given[:, ids >= 0]
    if not given.shape[1]:
        return np.zeros(len(frames))
    shift = given.mean(axis=1, keepdims=True) - own.mean(axis=1, keepdims=True)
    return 1000 * np.linalg.norm(own + shift - given, axis=2).mean(axis=1)


def _sample(
    frames: BodyFrames, i: int, dataset: str, split: str, vertices: np.ndarray, joints: np.ndarray
) -> Sample | str:
    """The sample of frame i, or why it gives none."""
    image, K = frames.images[i], frames.K[i]
    if np.isfinite(K).all():
        box = box_around(vertices, K, image_size(image))
    else:
        K, root = None, joints[0]
        vertices, joints = vertices - root, joints - root
        box = own_box(frames.boxes[i], image_size(image))
        box = box if np.isfinite(vertices).all() else "mesh is not finite"
    if isinstance(box, str):
        return box
    given = EVERYTHING
    if frames.given is not None:
        given = frozenset(np.array(SUPERVISION)[frames.given[i]].tolist())
    person, measured = frames.persons[i], _measured(frames, i)
    return Sample(image, dataset, split, person, K, box, vertices, joints, given, measured)


def _measured(frames: BodyFrames, i: int) -> np.ndarray | None:
    """Human3.6M's joints of frame i, where the annotation has all of them."""
    joints = frames.joints[i]
    return joints if len(joints) == 17 and np.isfinite(joints).all() else None


def unplaced(
    source: Path,
    images: list[Path],
    persons: list[str],
    betas: np.ndarray,
    poses: np.ndarray,
    centre: np.ndarray,
    scale: np.ndarray,
    visible: np.ndarray | None,
    given: np.ndarray,
) -> BodyFrames:
    """Frames of which neither place nor camera is known, with METRO's and SPIN's boxes.

    Args:
        source, images, persons, betas, poses, visible, given: as in `BodyFrames`.
        centre, scale: of the boxes; see `square_around`.

    Raises:
        ValueError: one line; a box without extent or in pixels, or angles in degrees.
    """
    n = len(images)
    if (scale <= 0).any():
        i = int(np.argmax(scale <= 0))
        raise broken(
            source, f"scale of {images[i]} is {scale[i]:g}", "mend or drop that annotation"
        )
    if np.median(scale) > 100:
        raise broken(source, "boxes are over 20000 pixels wide", "scale is in units of 200 pixels")
    if np.median(np.abs(poses).max(axis=1)) > 20:
        raise broken(source, "poses turn by over 20 rad: degrees?", "divide them by 57.3")
    still = np.zeros((n, 3))
    return BodyFrames(
        source=source,
        images=images,
        persons=persons,
        betas=betas,
        poses=poses,
        trans=still,
        R=np.broadcast_to(np.eye(3), (n, 3, 3)),
        t=still,
        K=np.full((n, 3, 3), np.nan),
        joints=np.zeros((n, 0, 3)),
        joint_ids=[],
        limit_mm=np.inf,
        boxes=square_around(centre, scale),
        visible=visible,
        given=given,
    )


def square_around(centre: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """METRO's and SPIN's boxes, (n, 2) pixels and (n,) in units of 200 pixels, as ours: (n, 4).

    Theirs have the margin in them that ours get when they are cut.
    """
    side = 200 * scale[:, None] / MARGIN
    return np.hstack([centre - side / 2, side, side])
