"""The Sample that every reader yields, and what the readers share: checks, boxes, posing.

Camera axes are x right, y down, z forward; lengths are metres. Whatever is wrong with a file is
told in one line: file, fault, remedy.
"""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image

from ..pinhole import project

if TYPE_CHECKING:
    from ..body import BodyModel

BATCH = 128  # frames posed at once, 11 MB of body vertices
NEAREST_M = 0.05  # a mesh that comes closer to the camera has no sensible projection
FARTHEST_M = 100.0  # a person farther off is a person given in millimetres
SMALLEST_PX = 8.0  # a box with a shorter side shows nothing


@dataclass(frozen=True)
class Sample:
    """One person in one image.

    Attributes:
        image: the file; whole, as far as its head and tail tell.
        dataset, split: where it comes from.
        person: whom or which sequence it shows; samples of one person stay on one side of a split.
        K: 3 x 3 camera matrix, pixels.
        box: x, y, w, h in pixels, tight around the projected mesh, clipped to the image.
        vertices_m: V_full x 3, metres, camera axes.
        joints_m: J x 3, metres, camera axes.
    """

    image: Path
    dataset: str
    split: str
    person: str
    K: np.ndarray
    box: np.ndarray
    vertices_m: np.ndarray
    joints_m: np.ndarray


def broken(path: Path, fault: str, remedy: str) -> ValueError:
    """The error for a file that is there but wrong."""
    return ValueError(" ".join(f"{path}: {fault}; {remedy}".split()))


def present(path: Path, remedy: str = "copy or make the data set again") -> Path:
    """The path, if something is there.

    Raises:
        FileNotFoundError: one line with the remedy.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path}: not there; {remedy}")
    return path


def numbers(path: Path, key: str, value: Any, shape: tuple) -> np.ndarray:
    """A float64 array of the shape asked for (None: any length), all finite.

    Raises:
        ValueError: one line naming file and key.
    """
    try:
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        raise broken(path, f"{key} is not an array of numbers", "get the file again") from None
    matches = len(array.shape) == len(shape) and all(
        want in (None, have) for have, want in zip(array.shape, shape, strict=True)
    )
    if not matches:
        wanted = " x ".join("n" if want is None else str(want) for want in shape)
        found = " x ".join(map(str, array.shape)) or "a single number"
        raise broken(path, f"{key} is {found}, not {wanted}", "is it another data set's file?")
    if not np.isfinite(array).all():
        raise broken(path, f"{key} holds NaN or infinity", "mend or drop those annotations")
    return array


def read_json(path: Path, kind: type) -> Any:
    """The content of a JSON file whose outermost value is a `kind` (dict or list)."""
    present(path)
    try:
        content = json.loads(path.read_bytes())
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise broken(
            path, f"not whole JSON ({error}): cut off or another file", "get it again"
        ) from None
    except RecursionError:
        raise broken(path, "nested without end", "get it again") from None
    if not isinstance(content, kind):
        have = type(content).__name__
        raise broken(path, f"holds a {have}, not a {kind.__name__}", "is it another file?")
    return content


def camera_matrix(path: Path, key: str, value: Any) -> np.ndarray:
    """A 3 x 3 K with positive focal lengths, in pixels."""
    K = numbers(path, key, value, (3, 3))
    if not (K[0, 0] > 1 and K[1, 1] > 1 and np.allclose(K[2], [0, 0, 1], atol=1e-6)):
        raise broken(path, f"{key} is no camera matrix in pixels", "is it another file?")
    return K


def rotation(path: Path, key: str, R: np.ndarray) -> np.ndarray:
    """R (... x 3 x 3), if its matrices are rotations."""
    skew = np.abs(R @ np.swapaxes(R, -1, -2) - np.eye(3)).max(initial=0)
    if skew > 0.01 or (np.linalg.det(R) < 0).any():
        raise broken(path, f"{key} is not a rotation", "camera extrinsics map world to camera")
    return R


def image_size(path: Path) -> tuple[int, int]:
    """Width and height from the file's head; a JPEG's tail is checked as well.

    Raises:
        FileNotFoundError, ValueError: missing, empty, not an image, or cut off.
    """
    present(path)
    remedy = "replace the image"
    try:
        with path.open("rb") as file, Image.open(file) as image:
            size, jpeg = image.size, image.format == "JPEG"
            if jpeg:
                file.seek(0, 2)
                file.seek(max(0, file.tell() - 4096))
                if b"\xff\xd9" not in file.read():  # JPEG's end mark
                    raise broken(path, "cut off before its end", remedy)
    except (OSError, SyntaxError):
        raise broken(path, "empty or not an image", remedy) from None
    return size


def box_around(vertices: np.ndarray, K: np.ndarray, size: tuple[int, int]) -> np.ndarray | str:
    """x, y, w, h around the projected vertices (V x 3), clipped to the image; or why it fails."""
    if vertices[:, 2].min() < NEAREST_M:
        return "behind the camera"
    pixels = project(vertices, K)
    low = np.clip(pixels.min(axis=0), 0, size)
    high = np.clip(pixels.max(axis=0), 0, size)
    if (high - low).min() < SMALLEST_PX:
        return "outside the image"
    return np.concatenate([low, high - low])


@dataclass(frozen=True)
class BodyFrames:
    """Parameters of n frames of one annotation file, still to be posed.

    Attributes:
        source: the annotation file, for messages.
        images, persons: n each.
        betas, poses, trans: SMPL's, (n, 10), (n, 72), (n, 3) metres, world axes.
        R, t, K: world to camera, (n, 3, 3), (n, 3) metres; (n, 3, 3) pixels.
        joints: joints that the file gives beside the parameters, (n, c, 3), metres, camera axes.
        joint_ids: which SMPL joints those are, (c,).
        limit_mm: how far the mesh's joints may lie from them, on average, once their centres meet.
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


def in_camera(points: torch.Tensor, R: np.ndarray, t: np.ndarray) -> np.ndarray:
    """R x + t for (B, n, 3) points, (B, 3, 3) and (B, 3); float32."""
    points = points.numpy() @ np.swapaxes(R, -1, -2).astype(np.float32)
    return points + t[:, None].astype(np.float32)


def body_samples(
    frames: BodyFrames, dataset: str, split: str, model: "BodyModel", skipped: Counter
) -> Iterator[Sample]:
    """Pose the frames in batches and yield those that show a person.

    Raises:
        ValueError: the joints of most frames lie far from the file's own, or metres away.
    """
    source, n, far = frames.source, len(frames.images), 0
    for start in range(0, n, BATCH):
        part = slice(start, start + BATCH)
        arrays = (frames.betas[part], frames.poses[part], frames.trans[part])
        with torch.inference_mode():
            posed = model.pose(*(torch.from_numpy(x.astype(np.float32)) for x in arrays))
        R, t, given = frames.R[part], frames.t[part], frames.joints[part]
        vertices, joints = (in_camera(x, R, t) for x in posed)
        if np.median(np.linalg.norm(joints[:, 0], axis=1)) > FARTHEST_M:
            raise broken(source, "people stand over 100 m away", "is a length in millimetres?")
        own = joints[:, frames.joint_ids]
        shift = given.mean(axis=1, keepdims=True) - own.mean(axis=1, keepdims=True)
        gap_mm = 1000 * np.linalg.norm(own + shift - given, axis=2).mean(axis=1)
        for i in range(len(vertices)):
            image, K = frames.images[start + i], frames.K[start + i]
            if gap_mm[i] > frames.limit_mm:
                far += 1
                skipped["joints far from the body fit"] += 1
                continue
            box = box_around(vertices[i], K, image_size(image))
            if isinstance(box, str):
                skipped[box] += 1
                continue
            person = frames.persons[start + i]
            yield Sample(image, dataset, split, person, K, box, vertices[i], joints[i])
    if far > n / 2:
        raise broken(
            source,
            f"in {far} of {n} frames the body fits over {frames.limit_mm:g} mm off its joints",
            "was it made with another body model, or are its lengths in another unit?",
        )
