"""FreiHAND: right hands, 224 x 224, with MANO meshes (the paper's Table 2).

    training/rgb/00000000.jpg    training_{K,xyz,verts}.json
    evaluation/rgb/00000000.jpg  evaluation_{K,xyz,verts}.json

One entry an annotation: `K` (3, 3), `xyz` (21, 3) and `verts` (778, 3) in metres, camera axes. The
set's own evaluation holds predicted joints against `xyz`.
There may be several images an annotation, with other backgrounds: of n annotations, image i shows
annotation i mod n. The set has no validation split and does not tell people apart, but its
annotations run person by person. So they are cut into 20 stretches, and the last is the validation
split, in its first version only.
"""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .sample import (
    Sample,
    box_around,
    broken,
    camera_matrix,
    image_size,
    numbers,
    present,
    read_json,
)

if TYPE_CHECKING:
    from ..body import BodyModel

STRETCHES = 20
FARTHEST_M = 10.0  # an arm's length and more; beyond, the numbers are millimetres
LIMIT_MM = 20.0  # between the joints given and those regressed from the mesh
CHUNK = 1 << 24  # bytes of JSON text at a time


def read(
    root: Path, split: str, model: "BodyModel", skipped: Counter | None = None
) -> Iterator[Sample]:
    """Samples of one split, version by version, in the order of the annotations.

    A sample's `person` is its stretch of annotations.
    """
    skipped = Counter() if skipped is None else skipped
    name = "evaluation" if split == "test" else "training"
    folder = present(root / name / "rgb", "see data/raw/README.md for the tree, or run the studio")
    K, joints, vertices = annotations(root, name, model)
    n = len(K)
    versions, rest = divmod(len(list(folder.glob("*.jpg"))), n)
    if rest or not versions:
        fault = f"holds {versions * n + rest} images for {n} annotations"
        raise broken(folder, fault, "complete the images, or get the JSON files that belong to it")
    stretch = np.arange(n) * STRETCHES // n
    for version in range(1 if split == "validation" else versions):
        for i in range(n):
            if split != "test" and (i >= first_held_out(n)) != (split == "validation"):
                continue
            image = folder / f"{version * n + i:08d}.jpg"
            box = box_around(vertices[i], K[i], image_size(image))
            if isinstance(box, str):
                skipped[box] += 1
                continue
            person = f"{name}-{stretch[i]:02d}"
            places = (K[i], box, vertices[i], joints[i])
            yield Sample(image, "freihand", split, person, *places, measured_m=joints[i])


def first_held_out(n: int) -> int:
    """Of n annotations of the training part, the first that validates; those before it train."""
    return -(-n * (STRETCHES - 1) // STRETCHES)


def annotations(
    root: Path, name: str, model: "BodyModel"
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """K (n, 3, 3), joints (n, 21, 3) and vertices (n, V_full, 3) of `training` or `evaluation`.

    Raises:
        FileNotFoundError, ValueError: one line, with file and remedy.
    """
    paths = {kind: root / f"{name}_{kind}.json" for kind in ("K", "xyz", "verts")}
    K = read_json(paths["K"], list)
    if not K:
        raise broken(paths["K"], "is empty", "get it again")
    K = np.stack([camera_matrix(paths["K"], f"entry {i}", value) for i, value in enumerate(K)])
    joints = numbers(paths["xyz"], "xyz", read_json(paths["xyz"], list), (None, 21, 3))
    joints = joints.astype(np.float32)
    regressor = np.asarray(model.joint_regressor, dtype=np.float32)  # J x V_full
    vertices = read_points(paths["verts"], regressor.shape[1])
    for kind, points in (("xyz", joints), ("verts", vertices)):
        if len(points) != len(K):
            fault = f"has {len(points)} entries, {paths['K'].name} has {len(K)}"
            raise broken(paths[kind], fault, "get both files again")
        if np.median(points[..., 2]) > FARTHEST_M:
            raise broken(paths[kind], "hands are over 10 m away: millimetres?", "divide by 1000")
    gap_mm = 1000 * np.linalg.norm(regressor @ vertices - joints, axis=2).mean(axis=1)
    if np.median(gap_mm) > LIMIT_MM:
        raise broken(
            paths["verts"],
            f"joints regressed from it lie {np.median(gap_mm):.0f} mm from {paths['xyz'].name}",
            "do the two belong together, and is the hand model the one of these meshes?",
        )
    return K, joints, vertices


def read_points(path: Path, count: int) -> np.ndarray:
    """A JSON array n x count x 3 as float32, read in pieces: the full set's text is 0.7 GB.

    Raises:
        FileNotFoundError, ValueError: missing, cut off, not numbers, NaN, or of other counts.
    """
    present(path)
    parts, opened, tail, left = [], 0, b"", b""
    with path.open("rb") as file:
        while piece := file.read(CHUNK):
            opened += piece.count(b"[")
            tail = (tail + piece)[-64:]
            text = (left + piece).translate(None, b"[] \t\r\n")
            whole, comma, left = text.rpartition(b",")
            parts.append(_parse(path, whole + comma))
    parts.append(_parse(path, left))
    values = np.concatenate(parts)
    if b"".join(tail.split())[-3:] != b"]]]":
        raise broken(path, "not whole JSON: cut off or another file", "get it again")
    n, rest = divmod(len(values), 3 * count)
    if rest or not n or opened != 1 + n + n * count:
        fault = f"holds {len(values)} numbers in {opened} brackets, not n x {count} x 3"
        raise broken(path, fault, "is it another file, or for another hand model?")
    if not np.isfinite(values).all():
        raise broken(path, "holds NaN or infinity", "mend or drop those annotations")
    return values.reshape(n, count, 3)


def _parse(path: Path, text: bytes) -> np.ndarray:
    """Numbers parted by commas (one may trail), as float32."""
    items = text.rstrip(b",").split(b",") if text else []
    try:
        return np.array(items, dtype=np.float32)
    except ValueError:
        raise broken(path, "holds something that is not a number", "get it again") from None
