"""METRO's layout, which Mesh Graphormer and FastMETRO share: rows of tab-separated files.

    train.yaml           img: train.img.tsv  label: train.label.tsv  linelist: train.linelist.tsv
    train.img.tsv        key, the JPEG as base64           train.img.lineidx    bytes of line starts
    train.label.tsv      key, a list with one label        train.label.lineidx
    train.linelist.tsv   the rows to use; of a composite, source and row

A label has center and scale (of a square box of 200 scale pixels), pose, betas, has_smpl,
2d_joints, has_2d_joints, 3d_joints, has_3d_joints. The body stands in camera axes, but neither its
place nor a camera is given: its samples are root-relative. A composite index lists several files
under img and under label, or names a text file that does. Nothing is read that lies outside the
data set's folder.
"""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import yaml

from ..image_bytes import LONGEST_LINE, address
from .bodies import BodyFrames, unplaced
from .people import in_split, part_of, person_of
from .sample import broken, column, inside, present

BLOCK = 4096  # rows
# Indices that METRO publishes under other names than <part>.yaml.
NAMES = {
    ("human36m", "test"): "valid.protocol2.yaml",
    ("threedpw", "test"): "test_has_gender.yaml",
    ("up3d", "train"): "trainval.yaml",
}
LABEL = ("center", "scale", "pose", "betas", "has_smpl", "2d_joints", "has_2d_joints",
         "3d_joints", "has_3d_joints")  # fmt: skip


def frames(root: Path, dataset: str, split: str, skipped: Counter) -> Iterator[BodyFrames]:
    """Blocks of labels with a body fit, source by source, each in the order of the linelist."""
    part = part_of(dataset, split)
    index = root / NAMES.get((dataset, part), "")
    if not index.is_file():
        index = present(root / f"{part}.yaml", "see data/raw/README.md for the tree")
    pairs, rows = read_index(index, root)
    for source in np.unique(rows[:, 0]):
        wanted = rows[rows[:, 0] == source, 1]
        yield from _of_pair(pairs[source], wanted, dataset, split, skipped)


def read_index(index: Path, root: Path) -> tuple[list[tuple[Path, Path]], np.ndarray]:
    """The image and label files that a YAML index names, and its (source, row) pairs, (n, 2).

    Raises:
        FileNotFoundError, ValueError: one line, with file and remedy.
    """
    try:
        content = yaml.safe_load(index.read_bytes())
    except Exception as error:  # the parser raises many kinds: dates, tags, endless nesting
        reason = " ".join(str(error).split())
        raise broken(index, f"not whole YAML ({reason})", "get it again") from None
    if not isinstance(content, dict) or not {"img", "label"} <= content.keys():
        raise broken(index, "names no img and label", "is it another kind of file?")
    lists = [_named(index, root, content[key]) for key in ("img", "label")]
    if content.get("composite") and isinstance(content["img"], str):
        lists = [_named(index, root, _lines(paths[0])) for paths in lists]
    if len(lists[0]) != len(lists[1]):
        fault = f"names {len(lists[0])} files under img and {len(lists[1])} under label"
        raise broken(index, fault, "get it again")
    pairs = list(zip(*lists, strict=True))
    if content.get("linelist") is None:
        counts = [len(line_starts(label)) for _, label in pairs]
        rows = [(source, row) for source, n in enumerate(counts) for row in range(n)]
        return pairs, np.array(rows, dtype=np.int64).reshape(-1, 2)
    return pairs, _linelist(_named(index, root, content["linelist"])[0], len(pairs))


def _named(index: Path, root: Path, names: Any) -> list[Path]:
    """Files that an index names, one or a list, none outside the data set's folder."""
    names = names if isinstance(names, list) else [names]
    if not names or not all(isinstance(name, str) for name in names):
        raise broken(index, "names something that is no file", "get it again")
    paths = [present(inside(index.parent, name, index, root)) for name in names]
    if folders := [path for path in paths if not path.is_file()]:
        raise broken(index, f"names {folders[0]}, which is no file", "get it again")
    return paths


def _lines(path: Path) -> list[str]:
    """The names in a text file, one a line."""
    try:
        return path.read_text().split()
    except UnicodeDecodeError:
        raise broken(path, "is no list of files", "get it again") from None


def _linelist(path: Path, sources: int) -> np.ndarray:
    """(source, row) pairs of a linelist, (n, 2)."""
    rows = _integers(path)
    if sources > 1 or path.read_bytes()[:64].partition(b"\n")[0].count(b"\t"):
        if len(rows) % 2:
            raise broken(path, "does not hold pairs of source and row", "get it again")
        rows = rows.reshape(-1, 2)
    else:
        rows = np.stack([np.zeros_like(rows), rows], axis=1)
    if not len(rows):
        raise broken(path, "is empty", "get it again")
    if rows.min() < 0 or rows[:, 0].max() >= sources:
        fault = f"names source {rows[:, 0].max()} of {sources}, or a row below 0"
        raise broken(path, fault, "does it belong to this index?")
    return rows


def line_starts(tsv: Path) -> np.ndarray:
    """Byte offsets of a TSV's lines, from its .lineidx, or counted where there is none."""
    path = tsv.with_suffix(".lineidx")
    if not path.is_file():
        with tsv.open("rb") as file:
            lengths = np.fromiter((len(line) for line in file), dtype=np.int64)
        return np.cumsum(lengths) - lengths
    starts, size = _integers(path), tsv.stat().st_size
    if len(starts) and (starts[0] != 0 or (np.diff(starts) <= 0).any()):
        raise broken(path, "does not rise from 0", "delete it, then it is counted anew")
    if len(starts) and starts[-1] >= size:
        fault = f"names byte {starts[-1]} of {tsv.name}, which ends at {size}"
        raise broken(path, fault, "one of the two is cut off or another's; get both again")
    return starts


def _integers(path: Path) -> np.ndarray:
    """All the whole numbers of a text file."""
    try:
        return np.array(path.read_bytes().split(), dtype=np.int64)
    except (ValueError, OverflowError):
        raise broken(path, "holds something that is not a whole number", "get it again") from None


def _of_pair(
    pair: tuple[Path, Path], rows: np.ndarray, dataset: str, split: str, skipped: Counter
) -> Iterator[BodyFrames]:
    """The blocks of one image file and its label file."""
    images, labels = pair
    starts = [line_starts(path) for path in pair]
    if len(starts[0]) != len(starts[1]):
        fault = f"has {len(starts[1])} rows, {images.name} has {len(starts[0])}"
        raise broken(labels, fault, "get both files again")
    if len(rows) and rows.max() >= len(starts[0]):
        fault = f"has {len(starts[0])} rows, its linelist names row {rows.max()}"
        raise broken(labels, fault, "do the two belong together?")
    with images.open("rb", buffering=512) as image_file, labels.open("rb") as label_file:
        for start in range(0, len(rows), BLOCK):
            kept, chosen = [], rows[start : start + BLOCK]
            for row in chosen.tolist():
                key, label = _label(labels, label_file, int(starts[1][row]), row)
                _same_key(images, image_file, int(starts[0][row]), row, key)
                person = person_of(dataset, key, split)
                if not in_split(dataset, person, split):
                    skipped["not in the split"] += 1
                elif not label["has_smpl"].any():
                    skipped["no body fit"] += 1
                else:
                    kept.append((row, address(images, int(starts[0][row])), person, label))
            if kept:
                yield _block(labels, dataset, *zip(*kept, strict=True))


def _label(path: Path, file: BinaryIO, start: int, row: int) -> tuple[str, dict[str, np.ndarray]]:
    """Key and label of a row."""
    file.seek(start)
    key, _, text = file.readline(LONGEST_LINE).partition(b"\t")
    remedy = "get it again"
    try:
        label = json.loads(text)[0]
        missing = [name for name in LABEL if name not in label]
    except (ValueError, RecursionError, LookupError, TypeError):
        fault = f"row {row}, at byte {start}, holds no list with a label"
        raise broken(path, f"{fault}: cut off, or its .lineidx is another's", remedy) from None
    if missing:
        raise broken(path, f"row {row} lacks {', '.join(missing)}", remedy)
    arrays = {}  # at once: lists by the thousand would keep the garbage collector busy
    for name in LABEL:
        try:
            arrays[name] = np.squeeze(np.asarray(label[name], dtype=np.float64))
        except (TypeError, ValueError, OverflowError):
            raise broken(path, f"{name} of row {row} is no array of numbers", remedy) from None
    return key.decode("utf-8", "replace"), arrays


def _same_key(path: Path, file: BinaryIO, start: int, row: int, key: str) -> None:
    """Check that a row of the image file is the one that its label is for."""
    file.seek(start)
    found = file.read(512).partition(b"\t")[0].decode("utf-8", "replace")
    if found != key:
        fault = f"row {row} is {found[:80]!r} there and {key[:80]!r} in its label file"
        raise broken(path, fault, "the two do not belong together, or a .lineidx is another's")


def _block(
    path: Path, dataset: str, rows: tuple, images: tuple, persons: tuple, labels: tuple
) -> BodyFrames:
    """Labels as arrays."""

    def read(key: str, *shape: int) -> np.ndarray:
        return column(path, key, [label[key] for label in labels], shape, rows)

    hand = dataset == "freihand"
    has = [np.array([label[f"has_{k}_joints"].any() for label in labels]) for k in ("3d", "2d")]
    joints = read("3d_joints", 21 if hand else 24, 4)[has[0]]
    if len(joints) and np.median(np.ptp(joints[..., :3], axis=1).max(axis=1)) > 20:
        raise broken(path, "3d_joints span over 20 m: millimetres?", "divide them by 1000")
    poses = read("pose", 48 if hand else 72)
    if (poses == 1).all():  # METRO's FreiHAND, made before its evaluation was published
        fault = "holds placeholders, every pose is all ones"
        raise broken(path, fault, "test on the data set's own layout")
    pixels = read("2d_joints", 21 if hand else 24, 3)
    return unplaced(
        path,
        images=list(images),
        persons=list(persons),
        betas=read("betas", 10),
        poses=poses,
        centre=read("center", 2),
        scale=read("scale"),
        visible=((pixels[..., 2] > 0) & has[1][:, None]).sum(axis=1),
        given=np.stack([np.ones_like(has[0]), *has], axis=1),
    )
