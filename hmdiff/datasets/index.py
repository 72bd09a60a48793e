"""A mix of data sets as one compact table: annotations are read once, samples made from it after.

A parquet file with a row an annotation: dataset, split, person, image and offset (the byte of its
line in a TSV, -1 for a file of its own), parameters of the body, camera, box and joints as float32,
and what the annotation gives. A row group is one block of a reader (`BodyFrames`), written and read
one at a time, so that memory does not grow with the mix. Images are not opened until samples are
made.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ..files import new_file
from ..image_bytes import address, located
from . import frames
from .bodies import FILTERS, BodyFrames, Filters, body_samples
from .sample import SUPERVISION, Sample, broken, present

if TYPE_CHECKING:
    from ..body import BodyModel

TEXTS = ("dataset", "split", "person", "image", "source")
# Arrays of BodyFrames, and the shape of one frame's.
ARRAYS = {
    "betas": (10,), "poses": (-1,), "trans": (3,), "R": (3, 3), "t": (3,), "K": (3, 3),
    "boxes": (4,), "joints": (-1, 3),
}  # fmt: skip
SCHEMA = pa.schema(
    [pa.field(name, pa.string()) for name in TEXTS]
    + [pa.field("offset", pa.int64())]
    + [pa.field(name, pa.list_(pa.float32())) for name in ARRAYS]
    + [pa.field("joint_ids", pa.list_(pa.int8())), pa.field("limit_mm", pa.float32())]
    + [pa.field("visible", pa.int16())]
    + [pa.field(f"has_{name}", pa.bool_()) for name in SUPERVISION]
)


class Source(NamedTuple):
    """A data set on disk, and which of its splits to take."""

    dataset: str
    layout: str
    root: Path
    splits: tuple[str, ...] = ("train",)


def build_index(sources: Iterable[Source], out: Path, skipped: Counter | None = None) -> int:
    """Write the index of a mix; returns its rows.

    Args:
        sources: in the order in which their rows come.
        out: the parquet file.
        skipped: counts, by reason, the annotations that are left out.

    Raises:
        FileNotFoundError, ValueError: one line, with file and remedy; `out` is then as before.
    """
    skipped, rows = Counter() if skipped is None else skipped, 0
    with new_file(out) as part, pq.ParquetWriter(part, SCHEMA, compression="zstd") as writer:
        for dataset, layout, root, splits in sources:
            for split in splits:
                for block in frames(dataset, root, split, skipped, layout):
                    writer.write_table(_table(block, dataset, split))
                    rows += len(block)
    return rows


def samples(
    path: Path,
    model: "BodyModel",
    skipped: Counter | None = None,
    filters: Filters = FILTERS["reader"],
) -> Iterator[Sample]:
    """The samples of an index, in its order; as `datasets.read` gives them, from float32.

    Raises:
        FileNotFoundError, ValueError: one line, with file and remedy.
    """
    skipped = Counter() if skipped is None else skipped
    for dataset, split, block in blocks(path):
        yield from body_samples(block, dataset, split, model, skipped, filters)


def blocks(path: Path) -> Iterator[tuple[str, str, BodyFrames]]:
    """Data set, split and frames of each row group."""
    try:
        with pq.ParquetFile(present(path)) as file:
            if not file.schema_arrow.equals(SCHEMA):
                raise broken(path, "has other columns than an index", "build it again")
            for group in range(file.num_row_groups):
                yield _block(path, file, group)
    except FileNotFoundError:
        raise
    except (pa.ArrowException, OSError) as error:
        raise broken(path, f"not a whole parquet file ({error})", "build it again") from None


def _lists(array: np.ndarray) -> pa.ListArray:
    """An array (n, ...) as n lists of float32."""
    flat = np.ascontiguousarray(array, dtype=np.float32).reshape(len(array), -1)
    starts = np.arange(len(flat) + 1, dtype=np.int32) * flat.shape[1]
    return pa.ListArray.from_arrays(starts, flat.ravel())


def _table(block: BodyFrames, dataset: str, split: str) -> pa.Table:
    """A block as rows."""
    n = len(block)
    files, offsets = zip(*map(located, block.images), strict=True)
    given = np.ones((n, len(SUPERVISION)), bool) if block.given is None else block.given
    arrays = {name: getattr(block, name) for name in ARRAYS}
    if block.boxes is None:
        arrays["boxes"] = np.full((n, 4), np.nan)
    columns = {
        "dataset": [dataset] * n,
        "split": [split] * n,
        "person": block.persons,
        "image": list(map(str, files)),
        "source": [str(block.source)] * n,
        "offset": [-1 if offset is None else offset for offset in offsets],
        **{name: _lists(array) for name, array in arrays.items()},
        "joint_ids": [block.joint_ids] * n,
        "limit_mm": [block.limit_mm] * n,
        "visible": [None] * n if block.visible is None else block.visible,
        **{f"has_{name}": given[:, i] for i, name in enumerate(SUPERVISION)},
    }
    return pa.table(columns, schema=SCHEMA)


def _block(path: Path, file: pq.ParquetFile, group: int) -> tuple[str, str, BodyFrames]:
    """Data set, split and frames of one row group."""
    try:
        table = file.read_row_group(group)
        first = table.slice(0, 1).to_pylist()[0]
        return first["dataset"], first["split"], _frames(table, first)
    except Exception as error:  # pyarrow and numpy raise many kinds on damaged files
        raise broken(path, f"not a whole parquet file ({error})", "build it again") from None


def _frames(table: pa.Table, first: dict) -> BodyFrames:
    """Rows as a block; what is one for a block comes from its first row."""
    n = len(table)

    def array(name: str) -> np.ndarray:
        values = table[name].combine_chunks().flatten().to_numpy(zero_copy_only=False)
        size = len(values) // n  # of one frame, so that joints may be none
        shape = tuple(size // 3 if s < 0 and name == "joints" else s for s in ARRAYS[name])
        return values.reshape(n, *(size if s < 0 else s for s in shape))

    images = [
        Path(image) if offset < 0 else address(Path(image), offset)
        for image, offset in zip(
            table["image"].to_pylist(), table["offset"].to_pylist(), strict=True
        )
    ]
    visible = None if first["visible"] is None else table["visible"].to_numpy()
    return BodyFrames(
        source=Path(first["source"]),
        images=images,
        persons=table["person"].to_pylist(),
        **{name: array(name) for name in ARRAYS},
        joint_ids=first["joint_ids"],
        limit_mm=first["limit_mm"],
        visible=visible,
        given=np.stack([table[f"has_{name}"].to_numpy() for name in SUPERVISION], axis=1),
    )
