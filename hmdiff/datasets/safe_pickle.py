"""Read a pickle of plain numpy data without running anything that is written in it.

A pickle is a program: it may import and call whatever it names. The one here may name only what
numpy itself writes for arrays and scalars, and even those names lead to the stand-ins below, never
to numpy's own restoring code, which trusts its input. Files of Python 2 (3DPW's) are read as well.
"""

import math
import pickle
from pathlib import Path
from typing import Any

import numpy as np

PLAIN_KINDS = "biufSU"  # booleans, numbers and text; objects only as a list of plain things


def load_plain(path: str | Path) -> Any:
    """Containers, text, numbers and numpy arrays out of a pickle file.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a pickle, cut off, or asking for anything but plain numpy data.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; copy or make the data set again")
    try:
        with path.open("rb") as file:
            return _resolve(_Restricted(file, encoding="latin1").load(), {})
    except _Refused as refusal:
        raise ValueError(
            f"{path}: not plain numpy data ({refusal}); do not trust it, get it from its source"
        ) from None
    except MemoryError:
        raise ValueError(f"{path}: claims more data than fits; get the file again") from None
    except Exception as error:  # a broken pickle may raise anything
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise ValueError(
            f"{path}: not a whole pickle ({reason}); it is cut off or another kind of file, "
            "get it again"
        ) from None


class _Refused(ValueError):
    """The pickle asks for something that plain data does not need."""


class _Dtype:
    """Stand-in for numpy.dtype while a pickle is read."""

    __slots__ = ("code", "order")

    def __init__(self, code: Any):
        if not (isinstance(code, str) and code[:1] in (*PLAIN_KINDS, "O") and len(code) < 8):
            raise _Refused(f"array of type {str(code)[:40]!r}")
        self.code, self.order = code, "="

    def __setstate__(self, state: tuple) -> None:
        self.order = state[1] if state[1] in ("<", ">") else "="

    def numpy(self) -> np.dtype:
        return np.dtype(self.code).newbyteorder(self.order)


class _Array:
    """Stand-in for numpy.ndarray while a pickle is read."""

    __slots__ = ("state",)

    def __init__(self):
        self.state = None

    def __setstate__(self, state: tuple) -> None:
        self.state = state

    def numpy(self, seen: dict) -> np.ndarray:
        _, shape, dtype, fortran, data = self.state
        if not isinstance(dtype, _Dtype):
            raise _Refused("array without a type")
        if dtype.code[0] == "O":
            items = np.empty(len(data), dtype=object)
            for i, item in enumerate(data):
                items[i] = _resolve(item, seen)
            return items.reshape(shape, order="F" if fortran else "C")
        return _from_bytes(data, dtype, shape, "F" if fortran else "C")


def _raw(data: Any) -> bytes:
    """Bytes, which Python 2 wrote as text."""
    return data.encode("latin1") if isinstance(data, str) else bytes(data)


def _from_bytes(data: Any, dtype: _Dtype, shape: tuple, order: str) -> np.ndarray:
    data, kind = _raw(data), dtype.numpy()
    if kind.hasobject or math.prod(shape) * kind.itemsize != len(data):
        raise ValueError(f"array of shape {shape} with {len(data)} bytes")
    array = np.frombuffer(data, dtype=kind).reshape(shape, order=order)
    return array.astype(kind.newbyteorder("="))  # a writable copy in this machine's byte order


def _scalar(dtype: _Dtype, data: Any) -> Any:
    return _from_bytes(data, dtype, (1,), "C")[0]


def _latin1(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise _Refused(f"text in {encoding!r}")
    return text.encode("latin1")


def _empty() -> bytes:
    """How protocol 2 writes no bytes; with an argument, `bytes` could claim any amount."""
    return b""


_CALLS = {
    "numpy dtype": lambda code, *_: _Dtype(code),
    "numpy ndarray": lambda *_: _Array(),
    "multiarray _reconstruct": lambda *_: _Array(),
    "multiarray scalar": _scalar,
    "numeric _frombuffer": _from_bytes,
    "_codecs encode": _latin1,
    "builtins set": set,
    "builtins frozenset": frozenset,
    "builtins bytes": _empty,
}
_HOMES = {
    "numpy": "numpy",
    "numpy.core.multiarray": "multiarray",
    "numpy._core.multiarray": "multiarray",
    "numpy.core.numeric": "numeric",
    "numpy._core.numeric": "numeric",
    "_codecs": "_codecs",
    "builtins": "builtins",
    "__builtin__": "builtins",
}


class _Name:
    """A name out of the pickle: it can be called, and nothing about it can be changed."""

    __slots__ = ("key",)

    def __init__(self, key: str):
        self.key = key

    def __call__(self, *arguments: Any) -> Any:
        return _CALLS[self.key](*arguments)

    def __setstate__(self, state: Any) -> None:
        raise _Refused(f"a change of {self.key}")


class _Restricted(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> _Name:
        key = f"{_HOMES.get(module)} {name}"
        if key not in _CALLS:
            raise _Refused(f"it asks for {module}.{name}"[:120])
        return _Name(key)

    def persistent_load(self, pid: Any) -> Any:
        raise _Refused("it points outside itself")


def _resolve(value: Any, seen: dict) -> Any:
    """Put real arrays in the place of stand-ins, in containers too.

    `seen` keeps shared parts shared, and alive, so that an id stays one object's.
    """
    if id(value) in seen:
        return seen[id(value)][1]
    if isinstance(value, _Array):
        result = value.numpy(seen)
    elif isinstance(value, _Dtype):
        result = value.numpy()
    elif isinstance(value, _Name):
        raise _Refused(f"a bare {value.key}")
    elif isinstance(value, dict):
        result = {_resolve(key, seen): _resolve(item, seen) for key, item in value.items()}
    elif isinstance(value, (list, tuple, set, frozenset)):
        result = type(value)([_resolve(item, seen) for item in value])
    else:
        return value
    seen[id(value)] = (value, result)
    return result
