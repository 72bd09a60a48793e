"""Results that are never met half-written: made under a temporary name, then moved into place.

Temporary names begin with a dot, so that they are nobody's; what a killed writer has left under one
is written over.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def temporary(path: Path, ending: str = "part") -> Path:
    """The name beside `path` that its successor, or its predecessor, has for a moment."""
    return path.with_name(f".{path.name}.{ending}")


@contextmanager
def new_file(path: str | Path) -> Iterator[Path]:
    """The path to write to; what is there at the end becomes `path`, after an error it goes."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = temporary(path)
    try:
        yield part
        os.replace(part, path)
    except OSError as error:
        if error.filename is None and error.errno is not None:  # of a full disk no file is told
            error.filename = str(path)
        raise
    finally:
        part.unlink(missing_ok=True)


def write_file(path: str | Path, content: bytes | str) -> None:
    """Write bytes, or text as UTF-8, in one step."""
    with new_file(path) as part:
        part.write_bytes(content.encode() if isinstance(content, str) else content)


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """The empty folder to fill; at the end it becomes `out`, after an error it goes."""
    part = temporary(out)
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        yield part
        replace_folder(part, out)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def replace_folder(part: Path, out: Path) -> None:
    """Give a finished folder its name; an earlier one goes only once the new one is whole."""
    out.parent.mkdir(parents=True, exist_ok=True)
    old = temporary(out, "old")
    shutil.rmtree(old, ignore_errors=True)
    if out.exists():
        os.replace(out, old)
    os.replace(part, out)
    shutil.rmtree(old, ignore_errors=True)
