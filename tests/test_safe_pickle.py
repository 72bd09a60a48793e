"""Pickles and npz archives of numerical data come back, and nothing in them is run."""

import pickle
import zipfile
from pathlib import Path

import numpy as np
import official
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import sparse

from hmdiff.safe_pickle import Unknown, load_npz, load_plain


class Bomb:
    """Unpickled the usual way, it makes a file."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def test_a_hostile_pickle_does_nothing(tmp_path):
    path, mark = tmp_path / "x.pkl", tmp_path / "mark"
    path.write_bytes(pickle.dumps({"poses": [Bomb(mark)]}, protocol=2))
    with pytest.raises(ValueError, match="do not trust") as caught:
        load_plain(path)
    assert str(path) in str(caught.value) and not mark.exists()
    pickle.loads(path.read_bytes())["poses"][0].close()
    assert mark.exists()  # the bomb was live


HOSTILE = {
    "import": b"cos\nsystem\n(S'true'\ntR.",
    "numpy's own door": b"cnumpy\nload\n(S'x'\ntR.",
    "dotted name": b"\x80\x04\x8c\x05numpy\x8c\x0ccore._exec.f\x93.",
    "objects from bytes": b"cnumpy.core.multiarray\n_reconstruct\n(tR(I1\n(I1\ntcnumpy\ndtype\n"
    b"(S'O8'\ntRI00\nS'AAAAAAAA'\ntb.",
    "record type": b"cnumpy\ndtype\n(S'V8'\ntR.",
    "huge claim": b"cnumpy.core.multiarray\n_reconstruct\n(tR(I1\n(I99999999999\ntcnumpy\ndtype\n"
    b"(S'f8'\ntRI00\nS''\ntb.",
    "change of a name": b"cnumpy\ndtype\n}S'a'\nI1\nsb.",
    "bare name": b"cnumpy\ndtype\n.",
    "loop": b"(lp0\ng0\na.",
    "no end of lists": b"(l" * 100_000 + b"a" * 99_999 + b".",
    "zeros from a number": b"cnumpy.core.multiarray\n_reconstruct\n(tR(I1\n(I9999999\ntcnumpy\n"
    b"dtype\n(S'u1'\ntRI00\nI9999999\ntb.",
    "change of a class": b"cchumpy.ch\nCh\n}S'a'\nI1\nsb.",
    "bare class": b"cscipy.sparse.csc\ncsc_matrix\n.",
    "bare object": b"c__builtin__\nobject\n(tR.",
    "state that is no dict": b"cchumpy.ch\nCh\n(tR(I1\nI2\ntb.",
    "chumpy without state": b"cchumpy.ch\nCh\n(tR.",
    "chumpy of itself": b"cchumpy.ch\nCh\n(tRp0\n}S'x'\ng0\nsb.",
    "another builtin": b"c__builtin__\neval\n(S'1'\ntR.",
    "made by a function": b"ccopy_reg\n_reconstructor\n(c__builtin__\nset\nc__builtin__\nobject\n"
    b"NtR.",
    "lookalike of chumpy": b"cchumpyx\nCh\n(tR.",
    "bytes that are not there": b"\x80\x05\x96" + (1 << 40).to_bytes(8, "little") + b".",
    "shape out of text": b"cnumpy.core.multiarray\n_reconstruct\n(tR(I1\n(I9999999999\nS'x'\nt"
    b"cnumpy\ndtype\n(S'u1'\ntRI00\nS''\ntb.",
    "type out of tuples": b"\x80\x02cnumpy\ndtype\nN\x85" + b"q\x00h\x00\x86" * 40 + b"\x85R.",
    "encoding out of tuples": b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aN\x85"
    + b"q\x00h\x00\x86" * 40
    + b"\x86R.",
    "key out of tuples": b"\x80\x02}N\x85" + b"q\x00h\x00\x86" * 40 + b"Ns.",
    "keys out of tuples": b"\x80\x02}(N\x85" + b"q\x00h\x00\x86" * 40 + b"Nu.",
    "dict out of tuples": b"\x80\x02(N\x85" + b"q\x00h\x00\x86" * 40 + b"Nd.",
    "set of tuples": b"\x80\x04\x8f(N\x85" + b"q\x00h\x00\x86" * 40 + b"\x90.",
    "frozen set of tuples": b"\x80\x04(N\x85" + b"q\x00h\x00\x86" * 40 + b"\x91.",
    "called set of tuples": b"\x80\x02c__builtin__\nset\n]N\x85"
    + b"q\x00h\x00\x86" * 40
    + b"a\x85R.",
    "steps without end": b"\x80\x02" + b"}0" * 2_500_000 + b"N.",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_crooked_pickle_is_refused(tmp_path, name):
    path = tmp_path / "x.pkl"
    path.write_bytes(HOSTILE[name])
    with pytest.raises(ValueError, match=r"x\.pkl") as caught:
        load_plain(path)
    assert "\n" not in str(caught.value)


ARRAYS = hnp.arrays(
    st.sampled_from(["<f8", ">f4", "i4", ">i8", "u1", "?", "U3", "S4"]),
    hnp.array_shapes(min_dims=0, max_dims=3, min_side=0),
)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | ARRAYS,
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner),
    max_leaves=8,
)


def same(a, b) -> bool:
    if isinstance(a, np.ndarray):
        return a.dtype.newbyteorder("=") == b.dtype and a.tobytes() == b.astype(a.dtype).tobytes()
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return a == b


@given(value=PLAIN, protocol=st.sampled_from([2, 3, 4, 5]))
def test_plain_pickles_of_any_protocol_come_back(tmp_path_factory, value, protocol):
    path = tmp_path_factory.getbasetemp() / "plain.pkl"
    path.write_bytes(pickle.dumps(value, protocol=protocol))
    assert same(value, load_plain(path))


def test_arrays_in_object_arrays_and_in_column_order_come_back(tmp_path):
    path = tmp_path / "x.pkl"
    ragged = np.empty(2, dtype=object)
    ragged[0], ragged[1] = np.arange(3), np.asfortranarray(np.arange(6.0).reshape(2, 3))
    path.write_bytes(pickle.dumps([ragged, np.float64(2.5)], protocol=2))
    (first_, second), number = load_plain(path)
    assert first_.tolist() == [0, 1, 2] and second.tolist() == [[0, 1, 2], [3, 4, 5]]
    assert number == 2.5 and second.flags.writeable


def test_arrays_that_python_2_wrote_come_back(tmp_path):
    data = np.array([1.5, -2.0]).tobytes()
    (tmp_path / "x.pkl").write_bytes(
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        b"(K\x01K\x02\x85cnumpy\ndtype\nU\x02f8K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xff"
        b"J\xff\xff\xff\xffK\x00tb\x89U\x10" + data + b"tb."
    )
    assert load_plain(tmp_path / "x.pkl").tolist() == [1.5, -2.0]


def test_every_cut_of_a_pickle_is_noticed(tmp_path):
    path = tmp_path / "x.pkl"
    whole = pickle.dumps({"trans": [np.arange(4.0)], "sequence": "walk"}, protocol=2)
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match="cut off"):
            load_plain(path)


MATRICES = hnp.arrays(
    st.sampled_from(["f8", "f4", "i4", "?"]), hnp.array_shapes(min_dims=2, max_dims=2, max_side=5)
)


@given(array=MATRICES, protocol=st.sampled_from(range(6)), kind=st.sampled_from(["csc", "csr"]))
def test_sparse_matrices_of_any_protocol_come_back(tmp_path_factory, array, protocol, kind):
    path = tmp_path_factory.getbasetemp() / "sparse.pkl"
    path.write_bytes(pickle.dumps([sparse.csc_matrix(array).asformat(kind)], protocol=protocol))
    (got,) = load_plain(path)
    assert got.format == kind
    np.testing.assert_array_equal(got.toarray(), array)


@pytest.mark.parametrize("protocol", [0, 1, 2])
def test_what_python_2_wrote_comes_back(tmp_path, protocol):
    """Old names and text as bytes; chumpy's arrays, parts of them, and shared parts."""
    cube = np.arange(24.0).reshape(2, 3, 4)
    shared = official.ch(cube)
    ids = np.arange(24).reshape(2, 3, 4)[..., :2]
    content = {
        "matrix": official.old_csc(np.eye(3)[:2]),
        "ch": shared,
        "part": official.made(
            official.Select, a=shared, idxs=ids.ravel(), preferred_shape=ids.shape
        ),
        "flat": official.made(official.Select, a=shared, idxs=np.array([5, 7])),
        "sum": official.made(official.named("chumpy.ch_ops", "add"), a=shared, b=shared),
        "name": "g\xfcltig",
        "faces": np.arange(6, dtype=np.uint32).reshape(2, 3),
    }
    path = tmp_path / "x.pkl"
    path.write_bytes(official.python2(content, protocol))
    got = load_plain(path)
    np.testing.assert_array_equal(got["matrix"].toarray(), np.eye(3)[:2])
    np.testing.assert_array_equal(got["ch"], cube)
    np.testing.assert_array_equal(got["part"], cube[..., :2])
    assert got["flat"].tolist() == [5, 7]
    assert got["sum"] == Unknown("chumpy.ch_ops.add")
    assert got["name"] == "g\xfcltig"
    assert got["faces"].dtype == np.uint32 and got["faces"].tolist() == [[0, 1, 2], [3, 4, 5]]


BAD_MATRICES = {
    "indices astray": {"indices": np.array([0, 9, 1], np.int32)},
    "negative indices": {"indices": np.array([0, -1, 1], np.int32)},
    "falling pointers": {"indptr": np.array([0, 3, 1, 3], np.int32)},
    "pointers beyond": {"indptr": np.array([0, 1, 2, 99], np.int32)},
    "too few pointers": {"indptr": np.array([0, 3], np.int32)},
    "text": {"data": np.array(["a", "b", "c"])},
    "objects": {"data": official.objects(1, 2, 3)},
    "negative size": {"_shape": (-3, 3)},
    "no list": {"indices": None},
}


@pytest.mark.parametrize("name", BAD_MATRICES)
def test_a_crooked_matrix_is_refused(tmp_path, name):
    """scipy itself would read memory beyond the matrix."""
    matrix = official.old_csc(np.eye(3))
    vars(matrix).update(BAD_MATRICES[name])
    path = tmp_path / "x.pkl"
    path.write_bytes(official.python2(matrix, 2))
    with pytest.raises(ValueError, match=r"x\.pkl: not ") as caught:
        load_plain(path)
    assert "\n" not in str(caught.value)


@given(entries=st.dictionaries(st.text("abcAU_1", min_size=1), ARRAYS, max_size=4))
def test_archives_of_numpy_come_back(tmp_path_factory, entries):
    """As numpy reads them, in this machine's byte order and writable."""
    path = tmp_path_factory.getbasetemp() / "plain.npz"
    np.savez_compressed(path, allow_pickle=False, **entries)
    got = load_npz(path)
    with np.load(path, allow_pickle=False) as expected:
        assert got.keys() == expected.keys()
        for key, array in expected.items():
            assert same(array, got[key]) and got[key].shape == array.shape
            assert got[key].dtype.isnative and got[key].flags.writeable


def test_objects_in_archives_come_back_and_what_is_not_asked_for_is_not_read(tmp_path):
    levels = [sparse.csc_matrix(np.eye(n)) for n in (2, 3)]
    box = np.empty((), object)
    box[()] = levels[0]
    mark = tmp_path / "mark"
    np.savez(
        tmp_path / "x.npz",
        D=official.objects(*levels),
        one=box,
        M=official.objects(Bomb(mark)),
        v=np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    )
    got = load_npz(tmp_path / "x.npz", ("D", "one", "v", "absent"))
    assert got.keys() == {"D", "one", "v"}
    assert [d.shape for d in got["D"]] == [(2, 2), (3, 3)] and got["one"].shape == (2, 2)
    assert got["v"].tolist() == [[0, 1, 2], [3, 4, 5]]
    with pytest.raises(ValueError, match=r"x\.npz: not plain numpy data .*do not trust it"):
        load_npz(tmp_path / "x.npz")
    assert not mark.exists()


def npy(shape: tuple, descr: object = "<f8", data: bytes = bytes(16), version: int = 1) -> bytes:
    head = str({"descr": descr, "fortran_order": False, "shape": shape}).encode() + b"\n"
    return b"\x93NUMPY" + bytes([version, 0]) + len(head).to_bytes(2, "little") + head + data


BAD_MEMBERS = {
    "huge claim": npy((10**12,)),
    "too little": npy((3,)),
    "too much": npy((1,)),
    "records": npy((2,), [("a", "<f8")]),
    "dates": npy((2,), "<M8[s]"),
    "another version": npy((2,), version=9),
    "no npy": b"<html>",
    "objects without a pickle": npy((2,), "|O", b""),
    "objects that import": npy((1,), "|O", b"cos\nsystem\n(S'true'\ntR."),
    "objects that are none": npy((1,), "|O", b"I1\n."),
    "code for a shape": npy("__import__('os')"),
}


@pytest.mark.parametrize("name", BAD_MEMBERS)
def test_a_crooked_archive_is_refused(tmp_path, name):
    path = official.npz(tmp_path / "x.npz", a=BAD_MEMBERS[name])
    with pytest.raises(ValueError, match=r"x\.npz: not ") as caught:
        load_npz(path)
    assert "\n" not in str(caught.value)


def test_damage_to_an_archive_is_noticed(tmp_path):
    path = tmp_path / "x.npz"
    np.savez(path, a=np.arange(100.0))
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[500] ^= 1
    for damaged in (whole[:-1], whole[:50], b"", bytes(flipped)):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="not a whole npz archive"):
            load_npz(path)
    with zipfile.ZipFile(path, "w"):
        pass
    assert load_npz(path) == {}
    with pytest.raises(FileNotFoundError, match="no such file"):
        load_npz(tmp_path / "none.npz")


def test_what_an_error_quotes_of_a_file_is_cut_short(tmp_path):
    """The standard library's message holds the whole of a broken header."""
    path = tmp_path / "x.npz"
    np.savez(path, a=np.zeros(3))
    head = path.read_bytes()
    at = head.index(b"a.npy")
    long = head[: at - 4] + (60000).to_bytes(2, "little") + head[at - 2 :]
    path.write_bytes(long)
    with pytest.raises(ValueError, match="not a whole npz archive") as caught:
        load_npz(path)
    assert len(str(caught.value)) < len(str(path)) + 250
