"""The Sample that every reader yields, and what the readers share: checks and boxes.

Camera axes are x right, y down, z forward; lengths are metres. Whatever is wrong with a file is
told in one line: file, fault, remedy.
"""

import json
import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..image_bytes import FORMATS, open_picture
from ..pinhole import project

NEAREST_M = 0.05  # a mesh that comes closer to the camera has no sensible projection
LARGEST_BOX = 50  # sides of the image; in a larger box it would be a dot
SMALLEST_PX = 8.0  # a box with a shorter side shows nothing
SUPERVISION = ("mesh", "joints_3d", "joints_2d")  # what annotations may give
EVERYTHING = frozenset(SUPERVISION)


@dataclass(frozen=True)
class Sample:
    """One person in one image.

    Attributes:
        image: the file, or the row of a TSV (`image_bytes`); whole, as far as head and tail tell.
        dataset, split: where it comes from.
        person: whom or which sequence it shows; samples of one person stay on one side of a split.
        K: 3 x 3 camera matrix, pixels; None where camera and place are unknown.
        box: x, y, w, h in pixels, tight around the projected mesh, clipped to the image; without a
            camera, the annotation's own.
        vertices_m: V_full x 3, metres, camera axes; without a camera, root-relative.
        joints_m: J x 3, likewise.
        given: which of SUPERVISION the annotation gives by itself. A mesh is always there, for
            nothing is learnt here without one; it may be a fit to the others.
        measured_m: the joints that the set holds predictions against, metres, camera axes: 17 x 3,
            Human3.6M's of the motion capture, to which the mesh is a fit; 21 x 3, FreiHAND's
            keypoints; None where a set has none.
    """

    image: Path
    dataset: str
    split: str
    person: str
    K: np.ndarray | None
    box: np.ndarray
    vertices_m: np.ndarray
    joints_m: np.ndarray
    given: frozenset[str] = EVERYTHING
    measured_m: np.ndarray | None = None


def broken(path: Path, fault: str, remedy: str) -> ValueError:
    """The error for a file that is there but wrong."""
    return ValueError(" ".join(f"{path}: {fault:.500}; {remedy}".split()))


def present(path: Path, remedy: str = "copy or make the data set again") -> Path:
    """The path, if something is there.

    Raises:
        FileNotFoundError: one line with the remedy.
    """
    if not os.path.exists(path):  # pathlib's own raises where a name is too long
        raise FileNotFoundError(f"{path}: not there; {remedy}")
    return path


def inside(folder: Path, name: str, source: Path, root: Path | None = None) -> Path:
    """The path of a file that `source` names, relative to a folder.

    Raises:
        ValueError: one line; it would lie outside `root` (by default the folder).
    """
    path = Path(os.path.normpath(folder / name))
    root = folder if root is None else root
    if "\0" in name or not path.is_relative_to(os.path.normpath(root)):
        fault = f"names {name[:200]!r}, which lies outside {root}"
        raise broken(source, fault, "put the files below that folder, and let it name them there")
    return path


def numbers(path: Path, key: str, value: Any, shape: tuple) -> np.ndarray:
    """A float64 array of the shape asked for (None: any length), all finite.

    Raises:
        ValueError: one line naming file and key.
    """
    try:
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
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


def flat(path: Path, key: str, value: Any, count: int) -> np.ndarray:
    """`numbers` of (count,), however they are nested."""
    with suppress(ValueError):  # lists of several lengths, which `numbers` tells
        value = np.ravel(value)
    return numbers(path, key, value, (count,))


def column(path: Path, key: str, values: Sequence, shape: tuple, rows: Iterable[int]) -> np.ndarray:
    """`numbers` of a column, (n, *shape); an error names the row that is wrong."""
    try:
        return numbers(path, key, values, (len(values), *shape))
    except ValueError:
        for row, value in zip(rows, values, strict=True):
            numbers(path, f"{key} of row {row}", value, shape)
        raise


def read_json(path: Path, kind: type) -> Any:
    """The content of a JSON file whose outermost value is a `kind` (dict or list)."""
    present(path)
    try:
        content = json.loads(path.read_bytes())
    except ValueError as error:  # of the decoder, of the parser, of numbers without end
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
    remedy = "replace the image"
    with open_picture(path) as file:
        try:
            with Image.open(file, formats=FORMATS) as image:
                size, whole = image.size, True
                if image.format == "JPEG":
                    file.seek(0, 2)
                    file.seek(max(0, file.tell() - 4096))
                    whole = b"\xff\xd9" in file.read()  # JPEG's end mark
        except Exception as error:  # decoders raise many kinds on damaged files
            raise broken(path, f"empty or not an image ({error})", remedy) from None
    if not whole:
        raise broken(path, "cut off before its end", remedy)
    return size


def box_around(vertices: np.ndarray, K: np.ndarray, size: tuple[int, int]) -> np.ndarray | str:
    """x, y, w, h around the projected vertices (V x 3), clipped to the image; or why it fails."""
    if not np.isfinite(vertices).all():
        return "mesh is not finite"
    if vertices[:, 2].min() < NEAREST_M:
        return "behind the camera"
    pixels = project(vertices, K)
    low = np.clip(pixels.min(axis=0), 0, size)
    high = np.clip(pixels.max(axis=0), 0, size)
    if (high - low).min() < SMALLEST_PX:
        return "outside the image"
    return np.concatenate([low, high - low])


def own_box(box: np.ndarray, size: tuple[int, int]) -> np.ndarray | str:
    """An annotation's own box, as it is; or why it shows nothing."""
    shown = np.minimum(box[:2] + box[2:], size) - np.maximum(box[:2], 0)
    if box[2:].max() > LARGEST_BOX * max(size):
        return "box far larger than the image"
    return box if min(shown.min(), box[2:].min()) >= SMALLEST_PX else "outside the image"
