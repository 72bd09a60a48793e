"""Results of earlier stages, read from the disk; a damaged one is told in one line."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd


def read_array(path: str | Path) -> np.ndarray:
    """The array of an npy file, mapped, so that the disk is read where rows are used; what is
    written to it stays in memory.

    Raises:
        FileNotFoundError, ValueError: one line that names the file; missing, damaged, of objects.
    """
    return _read(path, lambda: np.load(path, mmap_mode="c", allow_pickle=False))


def read_table(path: str | Path) -> pd.DataFrame:
    """The rows of a parquet file; errors as in `read_array`."""
    return _read(path, lambda: pd.read_parquet(path))


def read_meta(path: str | Path) -> dict:
    """The JSON object of a file; errors as in `read_array`."""
    return _read(path, lambda: dict(json.loads(Path(path).read_bytes())))


def _read(path: str | Path, reader: Callable[[], Any]) -> Any:
    try:
        return reader()
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: not there; run `dvc repro` to make it") from None
    except Exception as error:  # numpy, pyarrow and json raise many kinds on damaged files
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise ValueError(
            f"{path}: damaged ({reason:.120}); delete it, `dvc repro` makes it again"
        ) from None
