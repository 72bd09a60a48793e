"""Bodies and images from the studio or from licensed files: one parameter, one set of outputs."""

import re
from pathlib import Path

import licensed
import numpy as np
import official
import pytest
import test_downsampling
import torch
from scipy import sparse

from hmdiff import body, coarse, coarsening, params
from hmdiff.datasets import DATASETS
from hmdiff.pipeline import notebook, sources

ROOT = Path(__file__).parents[1]
RAW = params.load(ROOT / "params.yaml").model_copy(update={"source": "raw"})
STUDIO = RAW.model_copy(update={"source": "studio"})
ARRAYS = ("v_template", "shapedirs", "posedirs", "lbs_weights", "J_regressor", "faces_tensor")


@pytest.fixture
def baked(open_hand, monkeypatch):
    """Baking takes a minute: the one that is baked already is handed out instead."""

    def bake(path):
        entries = official.mano(open_hand) | {"parts": open_hand.parts.numpy()}
        entries["J_regressor"] = open_hand.layer.J_regressor.double().numpy()
        entries["shapedirs"] = open_hand.layer.shapedirs.double().numpy()
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, **{k: v for k, v in entries.items() if isinstance(v, np.ndarray)})

    monkeypatch.setitem(sources.BAKE, "hand", bake)


@pytest.fixture
def quick(monkeypatch):
    """f is fitted on few meshes."""
    whole = coarsening.build
    monkeypatch.setattr(coarsening, "build", lambda *args: whole(*args, samples=30))


def raw_hand(data: Path, open_hand) -> Path:
    """data/raw with a hand and an empty FreiHAND."""
    for folder in ("models", "hand/freihand"):
        (data / "raw" / folder).mkdir(parents=True)
    return licensed.write_pickle(data / "raw/models/MANO_RIGHT.pkl", official.mano(open_hand))


def test_of_the_studio_the_model_is_the_open_one_byte_for_byte(tmp_path, baked, quick):
    model, mesh = sources.build("hand", STUDIO, tmp_path)
    own, opened = (tmp_path / f"models/{name}.npz" for name in ("hand", "open_hand"))
    assert own.read_bytes() == opened.read_bytes()
    assert model.subject == "hand" and len(mesh.ids) == 195
    again = coarse.load(tmp_path / "models/hand_coarse.npz")
    assert torch.equal(again.f, mesh.f) and torch.equal(again.ids, mesh.ids)


def test_a_licensed_hand_becomes_arrays_that_pose_the_same(tmp_path, open_hand, baked, quick):
    official_hand = raw_hand(tmp_path, open_hand)
    model, _ = sources.build("hand", RAW, tmp_path)
    given = body.load(official_hand)
    for name in ARRAYS:
        assert torch.equal(getattr(model.layer, name), getattr(given.layer, name)), name
    assert torch.equal(model.joint_regressor, given.joint_regressor)
    assert torch.equal(model.parts, given.parts)
    with np.load(tmp_path / "models/hand.npz", allow_pickle=False) as file:
        assert all(file[key].dtype.kind in "iuf" for key in file.files)
    assert (tmp_path / "models/open_hand.npz").is_file(), "the studio keeps its own"


def test_what_a_licensed_file_has_beside_its_model_is_left(tmp_path, open_hand):
    """A spare sparse matrix among it, which filled up would be 700 GB."""
    spare = official.old_csc(sparse.csc_matrix((300_000, 300_000)))
    content = official.mano(open_hand) | {"spare": spare, "more": np.zeros(9)}
    path, out = licensed.write_pickle(tmp_path / "MANO_RIGHT.pkl", content), tmp_path / "hand.npz"
    sources.convert(path, out)
    with np.load(out, allow_pickle=False) as file:
        assert set(file.files) == set(body._KEYS["hand"])
    for a, b in zip(body.load(out).state_dict().items(), body.load(path).state_dict().items(),
                    strict=True):  # fmt: skip
        assert a[0] == b[0] and torch.equal(a[1], b[1])


def test_the_fields_coarse_mesh_is_taken_where_it_is_there(tmp_path, open_hand, hand_coarse, quick):
    (tmp_path / "models").mkdir()
    assert not torch.equal(sources.coarse_mesh(open_hand, RAW, tmp_path).mid_ids, torch.arange(778))
    path = tmp_path / "models/mano_downsampling.npz"
    test_downsampling.write(path, test_downsampling.entries(open_hand, hand_coarse))
    mesh = sources.coarse_mesh(open_hand, RAW, tmp_path)
    assert torch.equal(mesh.mid_ids, torch.arange(778))  # that file has no middle level
    ours = sources.coarse_mesh(open_hand, STUDIO, tmp_path)
    assert not torch.equal(ours.mid_ids, mesh.mid_ids), "the studio does not look there"


@pytest.mark.parametrize(
    "name",
    ["SMPL_NEUTRAL.pkl", "basicmodel_neutral_lbs_10_207_0_v1.1.0.pkl",
     "basicModel_neutral_lbs_10_207_0_v1.0.0.pkl", "SMPL_NEUTRAL.npz"],
)  # fmt: skip
def test_the_body_is_found_under_the_names_that_it_is_published_with(tmp_path, name):
    (tmp_path / "models").mkdir()
    assert sources.find(sources.BODY, RAW, tmp_path) is None
    (tmp_path / "models" / "basicmodel_m_lbs_10_207_0_v1.1.0.pkl").touch()  # the male one
    assert sources.find(sources.BODY, RAW, tmp_path) is None
    (tmp_path / "models" / name).touch()
    assert sources.find(sources.BODY, RAW, tmp_path).name == name


def test_what_is_missing_is_told_before_anything_is_made(tmp_path, open_hand):
    with pytest.raises(FileNotFoundError) as caught:
        sources.build("body", RAW, tmp_path)
    line = str(caught.value)
    assert "raw/models/SMPL_NEUTRAL.pkl: not there" in line and "\n" not in line
    assert '"SMPL"' in line and "hmdiff doctor" in line
    assert not list(tmp_path.iterdir())
    raw_hand(tmp_path, open_hand)
    (tmp_path / "raw/hand/freihand").rmdir()
    with pytest.raises(FileNotFoundError, match=r"raw/hand/freihand: not there"):
        sources.check("hand", RAW, tmp_path)


def test_weights_that_are_named_must_be_there_whatever_the_source(tmp_path):
    phi = STUDIO.phi.model_copy(update={"weights": tmp_path / "w.pth"})
    named = STUDIO.model_copy(update={"phi": phi})
    sources.check("hand", STUDIO, tmp_path)
    with pytest.raises(FileNotFoundError, match=r"w\.pth: not there"):
        sources.check("hand", named, tmp_path)
    (tmp_path / "w.pth").touch()
    sources.check("hand", named, tmp_path)


def test_a_broken_licensed_file_leaves_nothing_behind(tmp_path, open_hand):
    path = raw_hand(tmp_path, open_hand)
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(ValueError, match=r"MANO_RIGHT\.pkl: ") as caught:
        sources.build("hand", RAW, tmp_path)
    assert "\n" not in str(caught.value) and not (tmp_path / "models").exists()


def test_the_pipeline_stops_at_its_first_stage_with_one_line(tmp_path, monkeypatch, capsys):
    licensed.project(tmp_path)
    text = (tmp_path / "params.yaml").read_text().replace("source: studio", "source: raw")
    (tmp_path / "params.yaml").write_text(text)
    (tmp_path / "dvc.yaml").touch()
    (tmp_path / "hmdiff").symlink_to(ROOT / "hmdiff")
    monkeypatch.chdir(tmp_path)
    assert notebook.main([str(ROOT / "notebooks/pipeline/models.ipynb")]) == 1
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert "FileNotFoundError: data/raw/models/SMPL_NEUTRAL.pkl: not there" in last
    assert not (tmp_path / "data/models").exists()


def test_the_page_in_data_raw_says_what_the_manifest_says():
    page = (ROOT / "data/raw/README.md").read_text()
    rows = {}
    for line in page.splitlines():
        if line.startswith("| `"):
            place, *cells = [cell.strip() for cell in line.strip("|").split("|")]
            rows[place.strip("`")] = cells
    assert set(rows) == {entry.names[0] for entry in sources.MANIFEST}
    for entry in sources.MANIFEST:
        what, origin, licence, without = rows[entry.names[0]]
        assert (what, origin, licence) == (entry.what, entry.origin, entry.licence)
        marked = entry.needed or entry is sources.WEIGHTS
        assert without.startswith("*needed*") == marked, entry.names[0]
    for entry in sources.MANIFEST:
        for name in entry.names:
            base = re.sub(r"\[mM\]", "m", Path(name).name)
            assert base in page, name


def test_the_manifest_names_the_data_sets_of_the_study():
    named = {(entry.subject, name) for name, entry in sources.SETS.items()}
    assert named == {(subject, name) for subject in DATASETS for name in DATASETS[subject]}
    for name, entry in sources.SETS.items():
        assert entry.names == (f"{entry.subject}/{name}",)
