"""Read pickles and npz archives of numpy data without running anything that is written in them.

A pickle is a program: it may import and call whatever it names. The one here may name only what
numpy, scipy.sparse and chumpy write for arrays, matrices and what holds them, and even those names
lead to the stand-ins below, never to the libraries' own restoring code, which trusts its input.
Files of Python 2 are read as well: 3DPW's sequences, SMPL and MANO, GraphCMR's meshes. Their sparse
matrices come back as scipy's, their chumpy objects as arrays; chumpy itself is not needed.
"""

import math
import pickle
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO
from zipfile import ZipFile

import numpy as np
from numpy.lib import format as npy
from scipy import sparse

LARGEST = 1 << 30  # bytes of an entry, unpacked; the largest of the field's files has a quarter
MOST_STEPS = 4_000_000  # of a pickle; the field's have thousands, lists of joints a million
PLAIN_KINDS = "biufSU"  # booleans, numbers and text; objects only as a list of plain things


@dataclass(frozen=True)
class Unknown:
    """What stands for a chumpy expression that is more than an array or a part of one."""

    name: str


def load_plain(path: str | Path) -> Any:
    """Containers, text, numbers, arrays and sparse matrices out of a pickle file.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a pickle, cut off, or asking for anything but plain numerical data.
    """
    with _one_line(Path(path), "a whole pickle"), Path(path).open("rb") as file:
        return _unpickle(_Limited(file))


def load_npz(path: str | Path, keys: Iterable[str] | None = None) -> dict[str, Any]:
    """Entries of an npz archive; arrays of objects hold what `load_plain` knows.

    Args:
        keys: the entries to read, those of them that are there; by default all. What is not named
            is not looked at, be it known or not.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not an npz, cut off, or asking for anything but plain numerical data.
    """
    with _one_line(Path(path), "a whole npz archive"), ZipFile(path) as archive:
        members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
        wanted = members if keys is None else [key for key in keys if key in members]
        entries = {}
        for key in wanted:
            with archive.open(members[key]) as file:
                entries[key] = _npy(_Limited(file))
        return entries


@contextmanager
def _one_line(path: Path, kind: str) -> Iterator[None]:
    """Turn whatever goes wrong with a file into one line."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; copy or make it again")
    try:
        yield
    except _Refused as refusal:
        raise ValueError(
            f"{path}: not plain numpy data ({refusal}); do not trust it, get it from its source"
        ) from None
    except MemoryError:
        raise ValueError(f"{path}: claims more data than fits; get the file again") from None
    except Exception as error:  # a broken file may raise anything
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise ValueError(
            f"{path}: not {kind} ({reason:.120}); "
            "it is cut off or another kind of file, get it again"
        ) from None


class _Limited:
    """A file of which at most LARGEST bytes are read, however much it unpacks to."""

    def __init__(self, file: BinaryIO):
        self.file, self.left = file, LARGEST

    def read(self, size: int = -1) -> bytes:
        return self._counted(self.file.read(min(size if size >= 0 else LARGEST, self.left + 1)))

    def readline(self) -> bytes:
        line = self._counted(self.file.readline(self.left + 1))
        if not line.endswith(b"\n"):
            raise EOFError("ends within a line")
        return line

    def _counted(self, data: bytes) -> bytes:
        self.left -= len(data)
        if self.left < 0:
            raise _Refused(f"over {LARGEST >> 20} MB")
        return data


def _unpickle(file: _Limited) -> Any:
    return _resolve(_Restricted(file).load(), {})


def _npy(file: _Limited) -> Any:
    """One member of an npz archive: an .npy file, whose objects are a pickle."""
    read_header = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
    shape, fortran, dtype = read_header[npy.read_magic(file)](file)
    if dtype.hasobject:
        array = _unpickle(file)
        return array[()] if array.ndim == 0 else array
    if dtype.kind not in PLAIN_KINDS:
        raise _Refused(f"array of type {dtype}"[:120])
    data = file.read()
    if math.prod(shape) * dtype.itemsize != len(data):
        raise ValueError(f"array of shape {shape} with {len(data)} bytes")
    array = np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")
    return array.astype(dtype.newbyteorder("="))


class _Refused(ValueError):
    """The file asks for something that plain data does not need."""


class _Dtype:
    """Stand-in for numpy.dtype while a pickle is read."""

    __slots__ = ("code", "order")

    def __init__(self, code: Any):
        if not isinstance(code, str):
            raise _Refused(f"array of a type that is a {type(code).__name__}")
        if not (code[:1] in (*PLAIN_KINDS, "O") and len(code) < 8):
            raise _Refused(f"array of type {code[:40]!r}")
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
        shape = _sizes(shape)
        if dtype.code[0] == "O":
            items = np.empty(len(data), dtype=object)
            for i, item in enumerate(data):
                items[i] = _resolve(item, seen)
            return items.reshape(shape, order="F" if fortran else "C")
        return _from_bytes(data, dtype, shape, "F" if fortran else "C")


def _sizes(shape: Any) -> tuple[int, ...]:
    """An array's shape, if of whole numbers: a text times one of them would fill the memory."""
    if not (isinstance(shape, tuple) and all(type(n) is int and n >= 0 for n in shape)):
        raise _Refused("array whose shape is no whole numbers")
    return shape


def _raw(data: Any) -> bytes:
    """Bytes, which Python 2 wrote as text; of a number, `bytes` would make as many zeros."""
    if not isinstance(data, (str, bytes, bytearray)):
        raise _Refused(f"array out of {type(data).__name__}")
    return data.encode("latin1") if isinstance(data, str) else bytes(data)


def _from_bytes(data: Any, dtype: _Dtype, shape: tuple, order: str) -> np.ndarray:
    data, kind, shape = _raw(data), dtype.numpy(), _sizes(shape)
    if kind.hasobject or math.prod(shape) * kind.itemsize != len(data):
        raise ValueError(f"array of shape {shape} with {len(data)} bytes")
    array = np.frombuffer(data, dtype=kind).reshape(shape, order=order)
    return array.astype(kind.newbyteorder("="))  # a writable copy in this machine's byte order


def _scalar(dtype: _Dtype, data: Any) -> Any:
    return _from_bytes(data, dtype, (1,), "C")[0]


def _latin1(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise _Refused("text in another encoding than latin1")
    return text.encode("latin1")


def _empty() -> bytes:
    """How protocol 2 writes no bytes; with an argument, `bytes` could claim any amount."""
    return b""


class _Object:
    """Stand-in for an object that is made bare and then given its state, a dict."""

    __slots__ = ("state",)

    def __new__(cls, *_: Any) -> "_Object":
        return object.__new__(cls)

    def __setstate__(self, state: dict) -> None:
        self.state = state

    def resolve(self, seen: dict) -> Any:
        return Unknown(type(self).__name__)


class _Csc(_Object):
    """scipy's csc_matrix. Its indices are checked: scipy would follow them anywhere."""

    __slots__ = ()
    kind = sparse.csc_matrix

    def resolve(self, seen: dict) -> sparse.spmatrix:
        data, indices, indptr = (
            _resolve(self.state[part], seen) for part in ("data", "indices", "indptr")
        )
        if data.dtype.kind not in "biuf":
            raise _Refused(f"matrix of type {data.dtype}")
        shape = self.state["_shape"] if "_shape" in self.state else self.state["shape"]
        matrix = self.kind((data, indices, indptr), shape=shape)
        matrix.check_format(full_check=True)
        return matrix


class _Csr(_Csc):
    """scipy's csr_matrix."""

    __slots__ = ()
    kind = sparse.csr_matrix


class _Ch(_Object):
    """chumpy's Ch: an array, `x`."""

    __slots__ = ()

    def resolve(self, seen: dict) -> Any:
        return _resolve(self.state["x"], seen)


class _Select(_Object):
    """chumpy's Select, a part `idxs` of the flattened `a`: MANO's shapedirs are one."""

    __slots__ = ()

    def resolve(self, seen: dict) -> Any:
        whole, ids, shape = (
            _resolve(self.state.get(key), seen) for key in ("a", "idxs", "preferred_shape")
        )
        if isinstance(whole, Unknown):
            return whole
        part = whole.ravel()[ids]
        return part if shape is None else part.reshape(shape)


def _reconstructor(kind: type[_Object], *_: Any) -> _Object:
    """How protocols 0 and 1 make a bare object."""
    if not (isinstance(kind, type) and issubclass(kind, _Object)):
        raise _Refused("an object made in an unknown way")
    return kind()


_CALLS = {
    "numpy dtype": lambda code, *_: _Dtype(code),
    "numpy ndarray": lambda *_: _Array(),
    "multiarray _reconstruct": lambda *_: _Array(),
    "multiarray scalar": _scalar,
    "numeric _frombuffer": _from_bytes,
    "_codecs encode": _latin1,
    "builtins set": lambda items=(): set(_quickly_hashed(items)),
    "builtins frozenset": lambda items=(): frozenset(_quickly_hashed(items)),
    "builtins bytes": _empty,
    "copyreg _reconstructor": _reconstructor,
}
_TYPES = {
    "sparse csc_matrix": _Csc,
    "sparse csr_matrix": _Csr,
    "chumpy.ch Ch": _Ch,
    "chumpy.reordering Select": _Select,
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
    "copyreg": "copyreg",
    "copy_reg": "copyreg",
    "scipy.sparse.csc": "sparse",
    "scipy.sparse.csr": "sparse",
    "scipy.sparse._csc": "sparse",
    "scipy.sparse._csr": "sparse",
    "chumpy.ch": "chumpy.ch",
    "chumpy.reordering": "chumpy.reordering",
}


class _Name:
    """A name out of the pickle: it can be called, and nothing about it can be changed."""

    __slots__ = ("key",)

    def __init__(self, key: str):
        self.key = key

    def __call__(self, *arguments: Any) -> Any:
        return _CALLS[self.key](*arguments)

    def __setstate__(self, state: Any) -> None:
        raise _Refused(f"a change of {self}")

    def __str__(self) -> str:
        return self.key


def _quickly_hashed(items: Iterable) -> list:
    """Keys, or items of a set: a tuple that holds another twice, and so on, is hashed for ever."""
    found = list(items)
    if any(isinstance(item, tuple) for item in found):
        raise _Refused("a tuple as a key")
    return found


class _Counted(dict):
    """What each step of a pickle does. Of a packed file there could be a milliard of steps, each of
    which makes an object."""

    left = MOST_STEPS

    def __getitem__(self, step: int) -> Any:
        self.left -= 1
        if self.left < 0:
            raise _Refused(f"over {MOST_STEPS} steps")
        return super().__getitem__(step)


class _Restricted(pickle._Unpickler):
    """Python's own unpickler: C's keeps what it remembers in an array as long as a file likes."""

    def __init__(self, file: _Limited):
        super().__init__(file, encoding="latin1")
        self.dispatch = _Counted(self.dispatch)

    def find_class(self, module: str, name: str) -> _Name | type[_Object]:
        key = f"{_HOMES.get(module)} {name}"
        if key in _TYPES:
            return _TYPES[key]
        if module.partition(".")[0] == "chumpy":
            return type(f"{module}.{name}"[:80], (_Object,), {"__slots__": ()})
        if key not in _CALLS and key != "builtins object":
            raise _Refused(f"it asks for {module}.{name}"[:120])
        return _Name(key)

    def persistent_load(self, pid: Any) -> Any:
        raise _Refused("it points outside itself")

    def load_bytearray8(self) -> None:
        """Python's makes room for what the file claims before it reads."""
        size = int.from_bytes(self.read(8), "little")
        data = self.read(size)
        if len(data) != size:
            raise EOFError("ends within bytes")
        self.append(bytearray(data))

    def load_setitem(self) -> None:
        """A key and its value, the last two of the stack."""
        _quickly_hashed(self.stack[-2:-1])
        super().load_setitem()

    def load_setitems(self) -> None:
        """Keys and values in turn, all since the last mark."""
        _quickly_hashed(self.stack[::2])
        super().load_setitems()

    def load_dict(self) -> None:
        """As `load_setitems`."""
        _quickly_hashed(self.stack[::2])
        super().load_dict()

    def load_additems(self) -> None:
        """The items of a set, all since the last mark."""
        _quickly_hashed(self.stack)
        super().load_additems()

    def load_frozenset(self) -> None:
        """As `load_additems`."""
        _quickly_hashed(self.stack)
        super().load_frozenset()

    dispatch = pickle._Unpickler.dispatch | {
        pickle.BYTEARRAY8[0]: load_bytearray8,
        pickle.SETITEM[0]: load_setitem,
        pickle.SETITEMS[0]: load_setitems,
        pickle.DICT[0]: load_dict,
        pickle.ADDITEMS[0]: load_additems,
        pickle.FROZENSET[0]: load_frozenset,
    }


def _resolve(value: Any, seen: dict) -> Any:
    """Put real arrays in the place of stand-ins, in containers too.

    `seen` keeps shared parts shared, and alive, so that an id stays one object's.
    """
    if id(value) in seen:
        return seen[id(value)][1]
    if isinstance(value, _Array):
        result = value.numpy(seen)
    elif isinstance(value, _Object):
        result = value.resolve(seen)
    elif isinstance(value, _Dtype):
        result = value.numpy()
    elif isinstance(value, (_Name, type)):
        raise _Refused(f"a bare {value}")
    elif isinstance(value, dict):
        result = {_resolve(key, seen): _resolve(item, seen) for key, item in value.items()}
    elif isinstance(value, (list, tuple, set, frozenset)):
        result = type(value)([_resolve(item, seen) for item in value])
    else:
        return value
    seen[id(value)] = (value, result)
    return result
