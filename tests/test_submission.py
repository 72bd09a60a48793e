"""What goes to an evaluation server is whole, in metres and in order, or is not written."""

import json
import pickle
import zipfile

import numpy as np
import pytest
import torch
from test_datasets import toy_model

from hmdiff.submission import FREIHAND, SEQUENCES, write_freihand, write_threedpw

IMAGES = [f"evaluation/rgb/{i:08d}.jpg" for i in range(FREIHAND)]
REGRESSOR = np.asarray(toy_model("hand").joint_regressor)


@pytest.fixture(scope="module")
def hands() -> tuple[np.ndarray, np.ndarray]:
    """3960 x 21 x 3 and 3960 x 778 x 3 in metres; the same few hands at many places."""
    rng = np.random.default_rng(0)
    poses = torch.from_numpy(0.3 * rng.standard_normal((8, 48))).float()
    vertices = toy_model("hand").pose(torch.zeros(8, 10), poses, torch.zeros(8, 3))[0].numpy()
    vertices = vertices[rng.integers(8, size=FREIHAND)]
    vertices = vertices + np.array([0, 0, 0.7]) + 0.1 * rng.standard_normal((FREIHAND, 1, 3))
    vertices = vertices.astype(np.float32)
    return REGRESSOR @ vertices, vertices


def test_a_freihand_submission_holds_what_was_predicted(hands, tmp_path, monkeypatch):
    n = 60  # all 3960 would take half a minute
    monkeypatch.setattr("hmdiff.submission.FREIHAND", n)
    joints, vertices = (points[:n] for points in hands)
    write_freihand(tmp_path / "pred.zip", IMAGES[:n], joints, vertices, REGRESSOR)
    with zipfile.ZipFile(tmp_path / "pred.zip") as archive:
        assert archive.namelist() == ["pred.json"]
        xyz, verts = json.loads(archive.read("pred.json"))
    assert np.shape(xyz) == (n, 21, 3) and np.shape(verts) == (n, 778, 3)
    assert np.abs(np.array(xyz) - joints).max() < 1e-6
    assert np.abs(np.array(verts) - vertices).max() < 1e-6
    assert list(tmp_path.iterdir()) == [tmp_path / "pred.zip"]


MANO = [0, 5, 6, 7, 9, 10, 11, 17, 18, 19, 13, 14, 15, 1, 2, 3, 4, 8, 12, 16, 20]
NAN = np.full((FREIHAND, 21, 3), np.nan)
REFUSED = {
    "half of them": (lambda i, j, v: (i[:1980], j[:1980], v[:1980]), "1980 x 21 x 3"),
    "no fingertips": (lambda i, j, v: (i, j[:, :16], v), "3960 x 16 x 3"),
    "coarse meshes": (lambda i, j, v: (i, j, v[:, :195]), "3960 x 195 x 3"),
    "joints for vertices": (lambda i, j, v: (i, v, j), "3960 x 778 x 3"),
    "millimetres": (lambda i, j, v: (i, 1000 * j, 1000 * v), "divide by 1000"),
    "millimetres of meshes": (lambda i, j, v: (i, j, 1000 * v), "vertices span .* divide by 1000"),
    "normalised": (lambda i, j, v: (i, 0.01 * j, 0.01 * v), "give metres"),
    "not a number": (lambda i, j, v: (i, NAN, v), "NaN or infinity"),
    "MANO's order": (lambda i, j, v: (i, j[:, MANO], v), "order them as FreiHAND"),
    "rooted apart": (lambda i, j, v: (i, j - j[:, :1], v), "root both alike"),
    "shuffled": (lambda i, j, v: (i[::-1], j, v), "image 0 is 00003959.jpg"),
    "one image short": (lambda i, j, v: (i[:-1], j, v), "3959 images"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_wrong_submission_is_refused_before_anything_is_written(hands, tmp_path, name):
    spoil, says = REFUSED[name]
    (tmp_path / "pred.zip").write_text("earlier")
    with pytest.raises(ValueError, match=says) as caught:
        write_freihand(tmp_path / "pred.zip", *spoil(IMAGES, *hands), REGRESSOR)
    assert "\n" not in str(caught.value) and "pred.zip: " in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["pred.zip"]
    assert (tmp_path / "pred.zip").read_text() == "earlier"


@pytest.fixture
def bodies() -> dict[tuple[str, str], np.ndarray]:
    rng = np.random.default_rng(1)
    return {
        ("test", f"walk_{i:02d}"): rng.uniform(-0.8, 0.8, (1 + i % 2, 4, 24, 3)).astype(np.float32)
        for i in range(SEQUENCES["test"])
    }


def test_3dpw_results_mirror_the_ground_truths_folder(bodies, tmp_path):
    bodies["test", "walk_00"][0, 2] = 0  # a frame that is not evaluated
    write_threedpw(tmp_path / "res", bodies)
    files = sorted((tmp_path / "res/test").glob("*.pkl"))
    assert [path.stem for path in files] == [f"walk_{i:02d}" for i in range(24)]
    for path in files:
        content = pickle.loads(path.read_bytes(), encoding="latin1")
        assert list(content) == ["jointPositions"]  # orientations would be scored as well
        assert np.array_equal(np.float32(content["jointPositions"]), bodies["test", path.stem])
    assert list(tmp_path.iterdir()) == [tmp_path / "res"]


REFUSED_BODIES = {
    "a sequence missing": (lambda b: b.pop(("test", "walk_03")), "23 sequences for test, not 24"),
    "another split": (lambda b: b.update({("val", "x"): np.ones((1, 1, 24, 3))}), "for val"),
    "millimetres": (lambda b: b.update({k: 1000 * v for k, v in b.items()}), "divide by 1000"),
    "14 joints": (lambda b: b.update({k: v[:, :, :14] for k, v in b.items()}), "not P x F x 24"),
    "no people": (lambda b: b.update({k: v[0] for k, v in b.items()}), "not P x F x 24"),
    "not a number": (lambda b: b.update({k: v * np.nan for k, v in b.items()}), "NaN"),
    "a path": (lambda b: b.update({("test", "../x"): b.pop(("test", "walk_00"))}), "no sequence"),
}


@pytest.mark.parametrize("name", REFUSED_BODIES)
def test_wrong_3dpw_results_are_refused(bodies, tmp_path, name):
    spoil, says = REFUSED_BODIES[name]
    spoil(bodies)
    with pytest.raises(ValueError, match=says):
        write_threedpw(tmp_path / "res", bodies)
    assert not list(tmp_path.iterdir())
