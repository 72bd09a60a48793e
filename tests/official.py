"""Writes files as the field's authors did: Python 2's pickles, chumpy's and scipy's old names.

Nothing of chumpy or Python 2 is needed: a pickle only names what it wants to be made of.
"""

import pickle
import zipfile
from io import BytesIO
from pathlib import Path
from struct import pack
from typing import ClassVar

import numpy as np
from scipy import sparse

OLD_HOMES = {
    "numpy._core.multiarray": "numpy.core.multiarray",
    "copyreg": "copy_reg",
    "builtins": "__builtin__",
}


def named(home: str, name: str) -> type:
    """A class that a pickle will look for in module `home`."""
    return type(name, (), {"__module__": home})


Ch = named("chumpy.ch", "Ch")
Select = named("chumpy.reordering", "Select")
MatVecMult = named("chumpy.ch", "MatVecMult")
OldCsc = named("scipy.sparse.csc", "csc_matrix")


def made(kind: type, **state):
    """An object of `kind` with that state."""
    thing = kind()
    thing.__dict__.update(state)
    return thing


def old_csc(matrix) -> object:
    """A sparse matrix as scipy's csc_matrix of 2013 pickled itself."""
    m = sparse.csc_matrix(matrix)
    parts = {"data": m.data, "indices": m.indices, "indptr": m.indptr}
    return made(OldCsc, format="csc", _shape=m.shape, maxprint=50, **parts)


def ch(array) -> object:
    """A chumpy array with what else its state holds."""
    deps = {"r": {"deps": ("x",), "value": None, "out_of_date": True}}
    return made(Ch, x=np.asarray(array), _dirty_vars={"x"}, _itr=None, _depends_on_deps=deps)


class Python2(pickle._Pickler):
    """Pickles as Python 2 did: bytes and text are one, and modules have their old names."""

    dispatch: ClassVar[dict] = dict(pickle._Pickler.dispatch)

    def save_text(self, text: str | bytes) -> None:
        data = text.encode("latin1") if isinstance(text, str) else text
        if self.bin:
            self.write(b"T" + pack("<i", len(data)) + data)
        else:
            self.write(b"S" + repr(data)[1:].encode() + b"\n")
        self.memoize(text)

    dispatch[str] = dispatch[bytes] = save_text

    def save_global(self, obj, name=None) -> None:
        home = OLD_HOMES.get(obj.__module__, obj.__module__)
        self.write(f"c{home}\n{name or obj.__name__}\n".encode())
        self.memoize(obj)


def python2(content: object, protocol: int) -> bytes:
    """The pickle of `content`."""
    file = BytesIO()
    Python2(file, protocol=protocol, fix_imports=False).dump(content)
    return file.getvalue()


def npz(path: Path, protocol: int = 2, **entries) -> Path:
    """An npz archive; a list becomes an array of objects, so a pickle; bytes stay themselves."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for key, value in entries.items():
            file = BytesIO()
            if isinstance(value, bytes):
                file.write(value)
            elif isinstance(value, list):
                file.write(npy_of_objects(objects(*value), protocol))
            else:
                np.save(file, value)
            archive.writestr(f"{key}.npy", file.getvalue())
    return path


def objects(*things) -> np.ndarray:
    """A list of things as an array."""
    array = np.empty(len(things), dtype=object)
    for i, thing in enumerate(things):
        array[i] = thing
    return array


def npy_of_objects(array: np.ndarray, protocol: int = 2, pickled: bytes | None = None) -> bytes:
    """An .npy file of an array of objects: a header, then a pickle."""
    file = BytesIO()
    header = {"descr": "|O", "fortran_order": False, "shape": array.shape}
    np.lib.format.write_array_header_1_0(file, header)
    file.write(python2(array, protocol) if pickled is None else pickled)
    return file.getvalue()


def smpl(model, count: int = 300) -> dict:
    """A BodyModel's entries as SMPL's official files hold them, with `count` betas."""
    entries = _common(model)
    extra = np.zeros((*entries["v_template"].shape, count - 10))
    entries["shapedirs"] = ch(np.concatenate([entries["shapedirs"], extra], axis=2))
    expression = made(MatVecMult, mtx=old_csc(np.eye(2)), vec=ch(np.ones(2)))
    entries |= {"J": expression, "weights_prior": ch(entries["weights"])}
    return entries | {"bs_style": "lbs", "bs_type": "lrotmin"}


def mano(model) -> dict:
    """A BodyModel's entries as MANO's official files hold them, with a mean pose that bends."""
    entries = _common(model)
    shapedirs = entries["shapedirs"]
    whole = np.concatenate([shapedirs, np.ones_like(shapedirs)], axis=2)
    ids = np.arange(whole.size).reshape(whole.shape)[..., :10]
    select = made(Select, a=ch(whole), idxs=ids.ravel(), preferred_shape=ids.shape)
    entries |= {"shapedirs": select, "bs_style": "lbs", "hands_coeffs": np.zeros((9, 45))}
    return entries | {"hands_mean": np.full(45, 0.3), "hands_components": np.eye(45)}


def _common(model) -> dict:
    layer, J = model.layer, len(model.parents)
    parents = model.parents.numpy().astype(np.uint32)  # the root's -1 becomes 2^32 - 1
    v = layer.v_template.double().numpy()
    return {
        "v_template": v,
        "shapedirs": layer.shapedirs.double().numpy(),
        "posedirs": layer.posedirs.T.reshape(len(v), 3, 9 * (J - 1)).double().numpy(),
        "weights": layer.lbs_weights.double().numpy(),
        "kintree_table": np.stack([parents, np.arange(J, dtype=np.uint32)]),
        "f": model.faces.numpy().astype(np.uint32),
        "J_regressor": old_csc(layer.J_regressor.double().numpy()),
    }
