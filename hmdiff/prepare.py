"""The `prepare` step: from data sets on disk to the arrays that every later stage reads.

data/prepared/{body,hand}/ gets, for n samples in the order phi, g, val, test:

    index.parquet    one row a sample: row, split, dataset, image, person, fx, fy, cx, cy,
                     box_x, box_y, box_w, box_h (pixels), root_x, root_y, root_z (m, camera);
                     lens and root are NaN where the camera is unknown
    joints.npy       n x J x 3, metres, camera axes, root-relative
    h0.npy           n x V x 3, the coarse mesh, likewise
    mesh_<split>.npy the full meshes of val and test, and of the first rows of g, likewise
    mocap_<split>.npy of val and test, of licensed files: the joints that MPJPE is taken against,
                     n x 17 x 3 of Human3.6M's motion capture or n x 21 x 3 of FreiHAND, metres,
                     camera axes, rooted; NaN where a set has none
    meta.json        scale_m, mean_m, counts, and what the readers skipped, by reason

The study's own sets give training, validation and test; extra ones (`prepare.extra`) come after
them and only train. The networks phi and the denoiser g train on different people: were f_I taken
from images that phi has trained on, g would learn to trust it too much. Whoever comes next goes to
the side that is short of its set's share, so neither counts nor meshes need to be known before they
are read. Neither meshes nor rows are held in memory: they stream to scratch files in a temporary
folder that takes its final name when everything is there.
"""

import json
import os
from array import array
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from functools import partial
from hashlib import blake2b
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from .datasets import DATASETS, FILTERS, Sample, read
from .files import new_folder
from .params import subject_of

if TYPE_CHECKING:
    from .body import BodyModel
    from .coarse import CoarseMesh
    from .params import Prepare

SPLITS = ("phi", "g", "val", "test")
HELD_OUT = {"validation": "val", "test": "test"}
ROOT = 0  # the pelvis, or the wrist; of Human3.6M's joints the pelvis as well
MEASURED = {"body": 17, "hand": 21}  # joints that a set may hold predictions against
ROWS_AT_ONCE = 1024


def prepare(
    subject: str,
    roots: dict[str, Path],
    model: "BodyModel",
    coarse: "CoarseMesh",
    params: "Prepare",
    out: Path,
    progress: bool = True,
    regressor: np.ndarray | None = None,
    measured: bool = False,
) -> dict:
    """Read a subject's data sets and write `out` (see above); returns the content of meta.json.

    Args:
        subject: body or hand.
        roots: the folder of each data set of that subject, extra ones included.
        model: the full body or hand.
        coarse: which of its vertices make the coarse mesh.
        params: phi_fraction, upsampler_meshes, layouts and extra.
        regressor: 17 x V_full, Human3.6M's joints from a mesh, on licensed bodies: fits are judged
            by it. The studio's bodies have none.
        measured: whether to keep the joints that the files hold predictions against. The studio's
            are those of its meshes.

    Raises:
        FileNotFoundError, ValueError: one line, with file and remedy; `out` is then as before.
    """
    missing = [name for name, *_ in sets_of(subject, params) if name not in roots]
    if missing:
        raise ValueError(f"{subject}: no folder given for {', '.join(missing)}; add it to `roots`")
    kept = (params.upsampler_meshes, MEASURED[subject] if measured else 0)
    with new_folder(out) as part, closing(Scratch(part, *kept)) as scratch:
        bodies = (model, coarse.ids, regressor)
        skipped = _stream(subject, roots, bodies, params, scratch, progress)
        meta = _assemble(subject, scratch, part, skipped)
    return meta


def sets_of(subject: str, params: "Prepare") -> list[tuple]:
    """What is read for a subject: data set, layout (None: its usual one), filters, splits."""
    layout, splits = params.layouts.get, ("train", *HELD_OUT)
    own = [(name, layout(name), "reader", splits) for name in DATASETS[subject]]
    extra = [extra for extra in params.extra if subject_of(extra.dataset) == subject]
    return own + [(e.dataset, e.layout, e.filter, ("train",)) for e in extra]


def balance(counts: Counter, phi_fraction: float) -> str:
    """The side, phi or g, that a new person joins: phi while it is short of its share."""
    return "phi" if counts["phi"] <= phi_fraction * (counts["phi"] + counts["g"]) else "g"


class Scratch:
    """Rows and arrays of each split in reading order, appended to files in `folder`.

    A row is a line of JSON; only its place is held in memory. Of g's full meshes a uniform random
    choice of `kept` stays (reservoir sampling, fixed seed): `reservoir` are the rows that have one.
    Of val and test, `measured` joints a sample stay, NaN where it has none; for 0 no file is made.
    """

    def __init__(self, folder: Path, kept: int, measured: int = 0):
        self.folder, self.kept, self.measured = folder, kept, measured
        self.rows = {split: array("q") for split in SPLITS}  # where each begins in its file
        self.reservoir: list[int] = []
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.files: dict[str, BinaryIO] = {}
        self.rng = np.random.default_rng(0)

    def close(self) -> None:
        for file in self.files.values():
            file.close()

    def add(self, split: str, sample: Sample, ids: np.ndarray) -> None:
        """Append a sample's row, joints, coarse mesh and, where it is kept, full mesh."""
        root = sample.joints_m[ROOT]
        vertices = (sample.vertices_m - root).astype(np.float32)
        place = len(self.rows[split])
        row = json.dumps(_row(split, sample, root)).encode() + b"\n"
        self.rows[split].append(self._append(f"rows_{split}", row))
        self._write(f"joints_{split}", (sample.joints_m - root).astype(np.float32))
        self._write(f"h0_{split}", vertices[ids])
        if split == "g":
            self._maybe_keep(place, vertices)
        elif split != "phi":
            self._write(f"mesh_{split}", vertices)
            if self.measured:
                none = np.full((self.measured, 3), np.nan)
                joints = none if sample.measured_m is None else sample.measured_m
                self._write(f"mocap_{split}", (joints - joints[ROOT]).astype(np.float32))

    def _maybe_keep(self, place: int, vertices: np.ndarray) -> None:
        slot = place if place < self.kept else int(self.rng.integers(place + 1))
        if slot < len(self.reservoir):
            self.reservoir[slot] = place
        elif slot < self.kept:
            self.reservoir.append(place)
        else:
            return
        self._write("mesh_g", vertices, slot)

    def _write(self, name: str, values: np.ndarray, slot: int | None = None) -> None:
        """Append an array to a file, or put it at a slot of it."""
        self.shapes[name] = values.shape
        at = None if slot is None else slot * values.nbytes
        self._append(name, np.ascontiguousarray(values), at)

    def _append(self, name: str, content: bytes | np.ndarray, at: int | None = None) -> int:
        """Write to the end of a file, or at a byte of it; returns the byte."""
        if name not in self.files:
            self.files[name] = (self.folder / f"{name}.raw").open("w+b")
        file = self.files[name]
        at = file.seek(0, os.SEEK_END) if at is None else file.seek(at)
        file.write(content)
        return at

    def rows_of(self, split: str) -> Iterator[dict]:
        """The rows of a split as they are stored."""
        places, file = self.rows[split], self.files[f"rows_{split}"]
        for i in self.order(split):
            file.seek(places[i])
            yield json.loads(file.readline())

    def array(self, name: str) -> np.ndarray:
        """What was written under a name, n x shape, mapped from its file."""
        self.files[name].flush()
        shape = (-1, *self.shapes[name])
        return np.memmap(self.folder / f"{name}.raw", np.float32, "r").reshape(shape)

    def order(self, split: str) -> np.ndarray:
        """Rows of a split as they are stored: in g, those with a full mesh come first."""
        others = np.ones(len(self.rows[split]), dtype=bool)
        kept = np.array(self.reservoir if split == "g" else [], dtype=int)
        others[kept] = False
        return np.concatenate([kept, np.flatnonzero(others)])


def _row(split: str, sample: Sample, root: np.ndarray) -> dict:
    K = np.full((3, 3), np.nan) if sample.K is None else sample.K
    root = np.full(3, np.nan) if sample.K is None else root
    box = dict(zip(("box_x", "box_y", "box_w", "box_h"), map(float, sample.box), strict=True))
    place = dict(zip(("root_x", "root_y", "root_z"), map(float, root), strict=True))
    lens = {"fx": K[0, 0], "fy": K[1, 1], "cx": K[0, 2], "cy": K[1, 2]}
    return {
        "split": split,
        "dataset": sample.dataset,
        "image": _relative(sample.image),
        "person": sample.person,
        **{name: float(value) for name, value in lens.items()},
        **box,
        **place,
    }


def _relative(path: Path) -> str:
    """The path from the working folder, where that is above it."""
    path = path.absolute()
    return (path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path).as_posix()


def _stream(
    subject: str,
    roots: dict[str, Path],
    bodies: tuple["BodyModel", np.ndarray, np.ndarray | None],
    params: "Prepare",
    scratch: Scratch,
    progress: bool,
) -> dict[str, Counter]:
    """Read every split of every data set into the scratch files; returns what was skipped.

    `bodies` are the model, its coarse vertices and Human3.6M's regressor.
    """
    (model, ids, regressor), skipped = bodies, {}
    bar = tqdm(desc=f"prepare {subject}", unit=" samples", disable=not progress)
    for dataset, layout, filters, splits in sets_of(subject, params):
        judged = replace(FILTERS[filters], regressor=regressor)
        samples = partial(read, dataset, roots[dataset], layout=layout, filters=judged)
        sides: dict[bytes, str] = {}
        counts: Counter = Counter()
        skipped[dataset] = Counter()
        for split in splits:
            before = sum(map(len, scratch.rows.values()))
            for sample in samples(split=split, model=model, skipped=skipped[dataset]):
                side = HELD_OUT.get(split)
                if side is None:
                    person = blake2b(sample.person.encode(), digest_size=8).digest()  # short
                    side = sides.setdefault(person, balance(counts, params.phi_fraction))
                    counts[side] += 1
                scratch.add(side, sample, ids)
                bar.update()
            if sum(map(len, scratch.rows.values())) == before:
                reasons = ", ".join(f"{n} {why}" for why, n in skipped[dataset].items() if n)
                fault = f"no usable sample for {split} ({reasons or 'no annotation'})"
                raise ValueError(f"{roots[dataset]}: {fault}; complete the data set")
        if len(set(sides.values())) < 2:
            fault = "only one person or sequence to train on, and phi and g need different ones"
            raise ValueError(f"{roots[dataset]}: {fault}; complete the data set")
    bar.close()
    return skipped


def _assemble(subject: str, scratch: Scratch, part: Path, skipped: dict[str, Counter]) -> dict:
    """Bring the scratch files into their final order and form; returns the meta data."""
    rows = chain.from_iterable(map(scratch.rows_of, SPLITS))
    _write_index(part / "index.parquet", rows)
    for kind in ("joints", "h0"):
        _gather(
            part / f"{kind}.npy",
            [(scratch.array(f"{kind}_{split}"), scratch.order(split)) for split in SPLITS],
        )
    held_out = [f"mocap_{split}" for split in HELD_OUT.values()] if scratch.measured else []
    for name in [*(f"mesh_{split}" for split in SPLITS[1:]), *held_out]:
        rows = scratch.array(name)
        _gather(part / f"{name}.npy", [(rows, np.arange(len(rows)))])
    mean_m, scale_m = _moments(scratch.array("h0_g"))
    shapes = {"V": "h0_g", "V_full": "mesh_g", "J": "joints_g"}
    meta = {
        "subject": subject,
        "scale_m": scale_m,
        "mean_m": mean_m,
        **{name: scratch.shapes[array][0] for name, array in shapes.items()},
        "counts": {split: len(scratch.rows[split]) for split in SPLITS},
        "skipped": {name: {why: n for why, n in c.items() if n} for name, c in skipped.items()},
    }
    (part / "meta.json").write_text(json.dumps(meta, indent=2) + "\n")
    for file in scratch.files.values():
        os.unlink(file.name)
    return meta


def _write_index(path: Path, rows: Iterator[dict]) -> None:
    """Write rows, numbered, as pandas writes them at once, by way of a file that is then mapped."""
    numbered = ({"row": i, **row} for i, row in enumerate(rows))
    scratch, writer = path.with_suffix(".arrow"), None
    with pa.OSFile(str(scratch), "wb") as file:
        while part := list(islice(numbered, ROWS_AT_ONCE)):
            batch = pa.RecordBatch.from_pandas(pd.DataFrame(part), preserve_index=False)
            writer = writer or pa.ipc.new_stream(file, batch.schema)
            writer.write_batch(batch)
        writer.close()
    with pa.memory_map(str(scratch)) as file:
        pq.write_table(pa.ipc.open_stream(file).read_all(), path)
    scratch.unlink()


def _gather(path: Path, sources: list[tuple[np.ndarray, np.ndarray]]) -> None:
    """Write the rows asked for of several arrays, one after the other, to a .npy file."""
    n, shape = sum(len(order) for _, order in sources), sources[0][0].shape[1:]
    target = np.lib.format.open_memmap(path, "w+", np.float32, (n, *shape))
    at = 0
    for source, order in sources:
        for start in range(0, len(order), ROWS_AT_ONCE):
            rows = order[start : start + ROWS_AT_ONCE]
            target[at : at + len(rows)] = source[rows]
            at += len(rows)
    target.flush()


def _moments(h0: np.ndarray) -> tuple[list[float], float]:
    """Mean point and spread of all coordinates (one number), of n x V x 3 in metres."""
    total, squares, points = np.zeros(3), 0.0, h0.shape[0] * h0.shape[1]
    for start in range(0, len(h0), ROWS_AT_ONCE):
        chunk = np.asarray(h0[start : start + ROWS_AT_ONCE], dtype=np.float64)
        total += chunk.sum(axis=(0, 1))
        squares += float(np.square(chunk).sum())
    mean = total.sum() / (3 * points)
    return (total / points).tolist(), float(np.sqrt(squares / (3 * points) - mean**2))
