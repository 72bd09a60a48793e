"""SPIN's layout: one npz a part, its rows beside the images.

    <name>.npz    imgname (n), center (n, 2), scale (n), pose (n, 72), shape (n, 10); and where a
                  set has them gender (n), part (n, 24, 3), S (n, 24, 4), has_smpl (n)

`imgname` is relative to the data set's folder; a box is a square of 200 scale pixels about center;
`part` are joints in the image, `S` in space (metres), both with confidence. The body stands in
camera axes without place or camera, so its samples are root-relative. `gender` is not used: every
mesh comes from the one body model that is passed in. The arrays are read in blocks. SPIN itself
keeps the fits of sets without poses in files apart, which have to be put in.
"""

import lzma
import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

import numpy as np

from .bodies import BodyFrames, unplaced
from .people import in_split, part_of, person_of
from .sample import broken, column, inside, present

BLOCK = 4096  # rows
LONGEST = 4096  # bytes of one number or name
# The names under which the parts go round, those of SPIN's own fetch script among them.
NAMES = {
    ("human36m", "train"): ("h36m_train.npz", "h36m_single_train_openpose.npz"),
    ("human36m", "test"): ("h36m_valid_protocol2.npz",),
    ("coco", "train"): ("coco_2014_train.npz", "coco_train.npz"),
    ("mpii", "train"): ("mpii_train.npz",),
    ("up3d", "train"): ("up3d_trainval.npz", "up3d_train.npz"),
    ("threedpw", "train"): ("3dpw_train.npz",),
    ("threedpw", "validation"): ("3dpw_validation.npz",),
    ("threedpw", "test"): ("3dpw_test.npz",),
}
UNREADABLE = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, LookupError,
              NotImplementedError, RuntimeError, struct.error)  # fmt: skip
COLUMNS = {"center": (2,), "scale": (), "pose": (72,), "shape": (10,), "imgname": ()}
OPTIONAL = {"part": (24, 3), "has_smpl": (), "S": (24, 4)}


def frames(root: Path, dataset: str, split: str, skipped: Counter) -> Iterator[BodyFrames]:
    """Blocks of rows with a body fit, in the file's order."""
    names = NAMES[dataset, part_of(dataset, split)]
    found = [root / name for name in names if (root / name).is_file()]
    path = found[0] if found else present(root / names[0], "see data/raw/README.md for the tree")
    at = 0
    for block in blocks(path):
        n = len(block["scale"])
        block["row"] = np.arange(at, at + n)
        images = [_text(name) for name in block["imgname"]]
        persons = [person_of(dataset, name, split) for name in images]
        ours = np.array([in_split(dataset, person, split) for person in persons])
        fitted = np.ravel(block["has_smpl"]) > 0 if "has_smpl" in block else np.ones(n, bool)
        skipped["not in the split"] += int((~ours).sum())
        skipped["no body fit"] += int((ours & ~fitted).sum())
        kept = np.flatnonzero(ours & fitted)
        if len(kept):
            paths = [inside(root, images[i], path) for i in kept]
            yield _frames(path, paths, [persons[i] for i in kept], block, kept)
        at += n


def _text(name: np.str_ | np.bytes_) -> str:
    return str(name, "utf-8", "replace") if isinstance(name, bytes) else str(name)


def _frames(
    path: Path, images: list[Path], persons: list[str], block: dict, kept: np.ndarray
) -> BodyFrames:
    """The rows kept of a block."""

    def read(key: str) -> np.ndarray:
        shape = (COLUMNS | OPTIONAL)[key]
        return column(path, key, block[key][kept], shape, block["row"][kept])

    given = np.ones((len(kept), 3), dtype=bool)
    given[:, 1], given[:, 2] = "S" in block, "part" in block
    return unplaced(
        path,
        images=images,
        persons=persons,
        betas=read("shape"),
        poses=read("pose"),
        centre=read("center"),
        scale=read("scale"),
        visible=(read("part")[..., 2] > 0).sum(axis=1) if "part" in block else None,
        given=given,
    )


def blocks(path: Path) -> Iterator[dict[str, np.ndarray]]:
    """The columns of an npz, BLOCK rows at a time.

    Raises:
        ValueError: not a whole npz, a column missing, of another length or shape, or of objects.
    """
    try:
        with zipfile.ZipFile(path) as archive, ExitStack() as stack:
            there = {name.removesuffix(".npy") for name in archive.namelist()}
            missing = [key for key in COLUMNS if key not in there]
            if missing:
                remedy = "is it another data set's file?"
                if {"pose", "shape"} == set(missing):
                    remedy = "put SPIN's static_fits/*.npy in, 72 columns as pose, 10 as shape"
                raise broken(path, f"lacks {', '.join(missing)}", remedy)
            columns = {}
            for key, shape in (COLUMNS | OPTIONAL).items():
                if key in there:
                    file = stack.enter_context(archive.open(f"{key}.npy"))
                    columns[key] = (*_header(path, key, file, shape), file)
            counts = {key: column[0][0] for key, column in columns.items()}
            n = counts["scale"]
            if odd := [key for key, count in counts.items() if count != n]:
                fault = f"{odd[0]} has {counts[odd[0]]} rows, scale has {n}"
                raise broken(path, fault, "get it again")
            for start in range(0, n, BLOCK):
                size = min(BLOCK, n - start)
                yield {key: _rows(path, key, *column, size) for key, column in columns.items()}
    except UNREADABLE as error:
        reason = f"not a whole npz ({error}): cut off or another file"
        raise broken(path, reason, "get it again") from None


def _header(path: Path, key: str, file: BinaryIO, shape: tuple) -> tuple[tuple, np.dtype]:
    """Shape and type of a column; (n, 1) passes for (n,)."""
    remedy = "save it again as a plain array, row by row"
    try:
        version = np.lib.format.read_magic(file)
        read = {(1, 0): np.lib.format.read_array_header_1_0}.get(
            version, np.lib.format.read_array_header_2_0
        )
        have, by_column, kind = read(file)
    except ValueError as error:
        reason = " ".join(str(error).split())
        raise broken(path, f"{key} is no array ({reason})", "get it again") from None
    kinds = "US" if key == "imgname" else "biuf"
    if kind.kind not in kinds or by_column or not 0 < kind.itemsize <= LONGEST or min(have) < 0:
        fault = f"{key} ({kind}) is no numbers or names: Python objects, huge items, or in columns"
        raise broken(path, fault, remedy)
    if have[1:] != shape and not (shape == () and have[1:] == (1,)):
        wanted, found = (" x ".join(map(str, ("n", *x))) for x in (shape, have[1:]))
        raise broken(path, f"{key} is {found}, not {wanted}", "is it another data set's file?")
    return (have[0], *shape), kind


def _rows(
    path: Path, key: str, shape: tuple, kind: np.dtype, file: BinaryIO, size: int
) -> np.ndarray:
    """The next rows of a column."""
    want = size * int(np.prod(shape[1:], dtype=int)) * kind.itemsize
    data = file.read(want)
    if len(data) != want:
        raise broken(path, f"{key} ends too early", "get it again")
    return np.frombuffer(data, dtype=kind).reshape(size, *shape[1:])
