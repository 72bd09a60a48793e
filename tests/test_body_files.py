"""Official SMPL and MANO files pose as our own do, and whatever is wrong with a file is told."""

import os
from functools import partial

import numpy as np
import official
import pytest
import torch

from hmdiff import body
from hmdiff.safe_pickle import load_plain

WRITERS = {"body": official.smpl, "hand": official.mano}


@pytest.fixture(scope="module")
def models(open_body, open_hand):
    return {"body": open_body, "hand": open_hand}


def write(path, content, protocol=2):
    path.write_bytes(official.python2(content, protocol))
    return path


def posed(model, count=3):
    generator = torch.Generator().manual_seed(0)
    widths = (10, 3 * len(model.parents), 3)
    betas, pose, trans = (torch.randn(count, n, generator=generator) for n in widths)
    return model.pose(betas, 0.4 * pose, trans)


@pytest.mark.parametrize("protocol", [0, 1, 2])
@pytest.mark.parametrize("subject", WRITERS)
def test_an_official_pickle_poses_as_our_npz_does(models, tmp_path, subject, protocol):
    """Its vertices are the same to 1e-6 m; so are a body's joints and a hand's but for the tips."""
    own = models[subject]
    model = body.load(write(tmp_path / "x.pkl", WRITERS[subject](own), protocol))
    assert (model.subject, model.J) == (subject, own.J)
    assert torch.equal(model.faces, own.faces) and torch.equal(model.parents, own.parents)
    (v, joints), (v_own, joints_own) = posed(model), posed(own)
    torch.testing.assert_close(v, v_own, atol=1e-6, rtol=0)
    keep = [j for j in range(own.J) if subject == "body" or j not in (4, 8, 12, 16, 20)]
    torch.testing.assert_close(joints[:, keep], joints_own[:, keep], atol=1e-6, rtol=0)


@pytest.mark.parametrize("subject", WRITERS)
@pytest.mark.parametrize("of_objects", [False, True])
def test_an_npz_conversion_poses_as_its_pickle(models, tmp_path, subject, of_objects):
    """Converted to arrays, or thrown into an npz as they are, sparse matrix and chumpy included."""
    pickled = write(tmp_path / "x.pkl", WRITERS[subject](models[subject]))
    entries = load_plain(pickled) if not of_objects else WRITERS[subject](models[subject])
    entries = {key: entries[key] for key in body._KEYS[subject]}
    if of_objects:
        boxes = {"J_regressor": np.empty((), object), "shapedirs": np.empty((), object)}
        for key, box in boxes.items():
            box[()] = entries[key]
            entries[key] = official.npy_of_objects(box)
    else:
        entries["J_regressor"] = entries["J_regressor"].toarray()
    model = body.load(official.npz(tmp_path / "x.npz", **entries))
    for a, b in zip(posed(model), posed(body.load(pickled)), strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=0)


def test_an_official_hand_reads_its_tips_off_the_vertices_that_freihand_does(models, tmp_path):
    model = body.load(write(tmp_path / "x.pkl", official.mano(models["hand"])))
    v, joints = posed(model)
    assert torch.equal(joints[:, [4, 8, 12, 16, 20]], v[:, [744, 320, 443, 555, 672]])
    torch.testing.assert_close(model.joint_regressor.sum(1), torch.ones(21), atol=1e-4, rtol=0)


def test_an_official_body_gets_dressed(models, tmp_path):
    """Its file names no parts; they follow from template and skinning, as the open body's did but
    for the head, whose parts lie about the eyes, which official vertex numbers name."""
    model = body.load(write(tmp_path / "x.pkl", official.smpl(models["body"])))
    owner = model.layer.lbs_weights.argmax(1)
    own, parts = models["body"].parts, model.parts
    assert {body.PARTS[i] for i in parts} >= {"skin", "shirt", "trousers", "shoes", "shin"}
    below = ~torch.isin(owner, torch.tensor([12, 15]))
    assert (own == parts)[below].float().mean() > 0.9


def bent(model, **changes):
    return official.smpl(model) | changes


def without(model, key):
    return {k: v for k, v in official.smpl(model).items() if k != key}


def mirrored(model):
    entries = official.mano(model)
    flip = np.array([-1.0, 1.0, 1.0])
    return entries | {"v_template": entries["v_template"] * flip, "f": entries["f"][:, ::-1]}


huge = official.made(
    official.OldCsc,
    _shape=(24, 10**12),
    data=np.ones(1),
    indices=np.zeros(1, np.int32),
    indptr=np.zeros(2, np.int32),
)
astray = official.old_csc(np.eye(3))
astray.indices = np.array([0, 1, 99999999], np.int32)
nan = np.full((6890, 3), np.nan)
far_face = np.full((4, 3), 6890, np.uint32)
no_tree = np.stack([np.arange(24), np.arange(24)])

WRONG = {
    "another body": (partial(bent, v_template=np.zeros((10475, 3))), "10475 vertices, not SMPL's"),
    "no vertices": (partial(without, key="v_template"), "0 vertices, not SMPL's"),
    "no skinning": (partial(without, key="weights"), "key 'weights' is missing"),
    "wrong shape": (partial(bent, posedirs=np.zeros((6890, 3, 9))), "posedirs has shape"),
    "few betas": (partial(bent, shapedirs=np.zeros((6890, 3, 4))), "under 10 betas"),
    "text": (partial(bent, weights="0.5"), r"weights has shape \(\)"),
    "not numbers": (partial(bent, v_template=nan.astype("U3")), "other things than finite"),
    "NaN": (partial(bent, v_template=nan), "v_template holds other things than finite numbers"),
    "faces astray": (partial(bent, f=far_face), "f has numbers beyond 6889"),
    "parts astray": (partial(bent, parts=np.full(6890, 99)), "parts has numbers beyond 8"),
    "half a regressor": (partial(bent, joint_regressor=np.eye(24)), "joint_regressor has shape"),
    "no tree": (partial(bent, kintree_table=no_tree), "a joint before its parent"),
    "other chumpy": (
        partial(bent, shapedirs=official.made(official.MatVecMult, a=1)),
        r"shapedirs is a chumpy\.ch\.MatVecMult, not an array",
    ),
    "part of other chumpy": (
        partial(
            bent,
            shapedirs=official.made(
                official.Select, a=official.made(official.MatVecMult), idxs=np.arange(3)
            ),
        ),
        r"shapedirs is a chumpy\.ch\.MatVecMult, not an array",
    ),
    "huge sparse matrix": (partial(bent, J_regressor=huge), "not a whole pickle"),
    "indices astray": (partial(bent, J_regressor=astray), "not a whole pickle"),
    "a list": (lambda model: [official.smpl(model)], "holds no body model"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_model_file_is_told_in_one_line(open_body, tmp_path, name):
    make, message = WRONG[name]
    with pytest.raises(ValueError, match=message) as caught:
        body.load(write(tmp_path / "x.pkl", make(open_body)))
    assert str(caught.value).startswith(f"{tmp_path / 'x.pkl'}: ")
    assert "\n" not in str(caught.value)


def test_a_left_hand_is_not_taken_for_a_right_one(open_hand, tmp_path):
    with pytest.raises(ValueError, match=r"a left hand; .* give MANO_RIGHT\.pkl"):
        body.load(write(tmp_path / "MANO_LEFT.pkl", mirrored(open_hand)))


def test_a_cut_or_foreign_model_file_is_told(open_hand, tmp_path):
    path = write(tmp_path / "x.pkl", official.mano(open_hand))
    whole = path.read_bytes()
    for part in (whole[: len(whole) // 2], whole[:-1], b"", b"<html>404</html>"):
        path.write_bytes(part)
        with pytest.raises(ValueError, match=r"x\.pkl: not a whole pickle"):
            body.load(path)
    npz = tmp_path / "x.npz"
    official.npz(npz, v_template=np.zeros((778, 3)))
    with pytest.raises(ValueError, match=r"x\.npz: key 'shapedirs' is missing"):
        body.load(npz)
    npz.write_bytes(npz.read_bytes()[:-30])
    with pytest.raises(ValueError, match=r"x\.npz: not a whole npz archive"):
        body.load(npz)
    with pytest.raises(FileNotFoundError, match="no such body model"):
        body.load(tmp_path / "none.pkl")


class Bomb:
    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


def test_a_model_file_runs_nothing(open_hand, tmp_path):
    mark = tmp_path / "mark"
    content = official.mano(open_hand) | {"J": Bomb(mark)}
    with pytest.raises(ValueError, match="do not trust it"):
        body.load(write(tmp_path / "x.pkl", content))
    box = official.npy_of_objects(official.objects(Bomb(mark)))
    with pytest.raises(ValueError, match="do not trust it"):
        body.load(official.npz(tmp_path / "x.npz", J=box))
    assert not mark.exists()


@pytest.mark.parametrize(("name", "count"), [("extra", 9), ("h36m_correct", 17)])
def test_regressors_of_the_field_come_as_they_are(tmp_path, name, count):
    rng = np.random.default_rng(0)
    rows = rng.random((count, 6890))
    rows *= (rng.uniform(0.999, 1.001, count) / rows.sum(1))[:, None]
    np.save(tmp_path / f"J_regressor_{name}.npy", rows)
    got = body.load_regressor(tmp_path / f"J_regressor_{name}.npy", count)
    assert got.dtype == torch.float32
    np.testing.assert_allclose(got, rows, rtol=1e-6)


def claim(shape: tuple) -> bytes:
    head = str({"descr": "<f8", "fortran_order": False, "shape": shape}).encode()
    return b"\x93NUMPY\x01\x00" + len(head + b"\n").to_bytes(2, "little") + head + b"\n"


WRONG_REGRESSORS = {
    "transposed": (np.ones((6890, 17)) / 17, r"\(6890, 17\)"),
    "of another model": (np.ones((17, 10475)) / 10475, r"\(17, 10475\)"),
    "the other one": (np.ones((9, 6890)) / 6890, r"\(9, 6890\)"),
    "whole numbers": (np.ones((17, 6890), np.int64), "of kind 'i'"),
    "not averages": (np.ones((17, 6890)), "rows sum to 6890.000 to 6890.000"),
    "NaN": (np.full((17, 6890), np.nan), "rows sum to nan"),
    "objects": (official.objects(*range(17)), "not a readable npy"),
    "huge claim": (claim((17, 10**13)), "not a readable npy"),
    "not npy": (b"<html>", "not a readable npy"),
    "empty": (b"", "not a readable npy"),
}


@pytest.mark.parametrize("name", WRONG_REGRESSORS)
def test_a_wrong_regressor_is_told_in_one_line(tmp_path, name):
    content, message = WRONG_REGRESSORS[name]
    path = tmp_path / "J.npy"
    path.write_bytes(content) if isinstance(content, bytes) else np.save(path, content)
    with pytest.raises(ValueError, match=message) as caught:
        body.load_regressor(path, 17)
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)
