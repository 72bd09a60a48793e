"""Weights as safetensors, and the resume files of long loops. Nothing read here can run code.

Weights are results: written once, atomically, with their parameters as metadata. A resume file is
scratch: it lies outside the pipeline's outputs, belongs to one exact setting (`key`), and is
removed when its loop is done. Of several processes the first writes it, and all go on from what it
reads, be they as many as before or not.
"""

import hashlib
import json
import time
from collections.abc import Callable, Iterable
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from . import processes
from .files import new_file, write_file


def save_weights(path: str | Path, weights: nn.Module | dict[str, Tensor], meta: dict) -> None:
    """Write weights and JSON-able `meta` to a safetensors file, atomically."""
    if isinstance(weights, nn.Module):
        weights = weights.state_dict()
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
    # One metadata entry: the file's bytes must not depend on the order of a hash map.
    write_file(path, save(tensors, metadata={"hmdiff": json.dumps(meta, sort_keys=True)}))


def load_weights(path: str | Path) -> tuple[dict[str, Tensor], dict]:
    """Read (weights, meta) written by `save_weights`.

    Raises:
        FileNotFoundError, ValueError: one line that names the file and the remedy.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such weights; run `dvc repro` to train them")
    try:
        with safe_open(path, framework="pt") as file:
            meta = json.loads((file.metadata() or {}).get("hmdiff", "{}"))
            return {name: file.get_tensor(name) for name in file.keys()}, dict(meta)
    except (SafetensorError, ValueError, TypeError, RecursionError, RuntimeError) as error:
        raise ValueError(
            f"{path}: damaged weights ({error!s:.120}); delete it and run again"
        ) from None


class Resume:
    """The state of one long loop on disk, so that a killed run goes on where it was.

    Args:
        path: the scratch file.
        key: everything that the loop's result depends on but this package's code; another key, or
            other code, means another loop, and its state is ignored.
        every_s: seconds between saves.
    """

    def __init__(self, path: str | Path, key: dict, every_s: float = 20.0):
        self.path, self.every_s = Path(path), every_s
        self.key = json.dumps(key | {"code": own_code()}, sort_keys=True)
        self.saved_at = time.monotonic()

    def load(self) -> dict[str, Any] | None:
        """The saved state, in main memory so that another machine can go on with it; None where
        there is none, it is damaged, or of another loop."""
        return processes.agree(self.read() if processes.first() else None)

    def read(self) -> dict[str, Any] | None:
        """What `load` takes from the disk."""
        try:
            saved = torch.load(self.path, weights_only=True, map_location="cpu")
            return saved["state"] if saved["key"] == self.key else None
        except FileNotFoundError:
            return None
        except Exception:  # any damage means the same: start over (torch raises many kinds)
            return None

    def due(self) -> bool:
        """True when `every_s` seconds have passed since the last save."""
        return time.monotonic() - self.saved_at >= self.every_s

    def save(self, state: dict[str, Any]) -> None:
        """Write tensors, numbers, strings and containers of them, atomically."""
        if processes.first():
            # Through a file of Python's: torch's own writer hides that a disk is full.
            with new_file(self.path) as part, part.open("wb") as file:
                torch.save({"key": self.key, "state": state}, file)
        self.saved_at = time.monotonic()

    def clear(self) -> None:
        """Remove the file: the loop is done."""
        if processes.first():
            self.path.unlink(missing_ok=True)


class Memo:
    """The tables that a long stage has made, so that after a kill it makes none of them again.

    Args:
        path: the scratch file, removed by `clear`.
        every_s: seconds between saves.
    """

    def __init__(self, path: str | Path, every_s: float = 20.0):
        self.keeper = Resume(path, {}, every_s)
        self.tables: dict[str, Tensor] = self.keeper.load() or {}

    def __call__(self, key: dict, make: Callable[[], pd.DataFrame]) -> pd.DataFrame:
        """The table of `key`, which names everything that `make` depends on but the code."""
        name = json.dumps(key, sort_keys=True)
        if name not in self.tables:
            content = bytearray(make().to_parquet())
            self.tables[name] = torch.frombuffer(content, dtype=torch.uint8)
            if self.keeper.due():
                self.keeper.save(self.tables)
        return pd.read_parquet(BytesIO(self.tables[name].numpy().tobytes()))

    def clear(self) -> None:
        """Remove the file: the stage is done."""
        self.keeper.clear()


def fingerprint(tensors: Iterable[Tensor]) -> str:
    """A hash of the content of tensors."""
    content = hashlib.sha256()
    for tensor in tensors:
        content.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return content.hexdigest()


@cache
def own_code() -> str:
    """A hash of this package's modules."""
    content = hashlib.sha256()
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        content.update(path.read_bytes())
    return content.hexdigest()
