"""The doctor: what is there, what is missing, what is broken; and a rehearsal of every stage."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import licensed
import numpy as np
import pytest
from mix_writers import people_in_camera, write_tsv

from hmdiff import cli, evaluate
from hmdiff.params import Extra, Params
from hmdiff.pipeline import doctor, sources


@pytest.fixture(scope="module")
def whole(tmp_path_factory, open_body, open_hand, body_coarse, hand_coarse) -> SimpleNamespace:
    """A project whose data/raw has everything that the manifest lists."""
    root = tmp_path_factory.mktemp("project")
    raw = root / "data/raw"
    licensed.write_tree(raw, open_body, open_hand, body_coarse, hand_coarse)
    params = licensed.project(root, weights=str(raw / "weights" / licensed.WEIGHTS))
    return SimpleNamespace(root=root, raw=raw, params=params)


@pytest.fixture
def copy(whole, tmp_path) -> SimpleNamespace:
    """The same, to be damaged; images are shared."""
    root = tmp_path / "project"
    shutil.copytree(whole.root, root)
    raw = root / "data/raw"
    params = licensed.project(root, weights=str(raw / "weights" / licensed.WEIGHTS))
    return SimpleNamespace(root=root, raw=raw, params=params)


def told(at: SimpleNamespace, rehearse: bool = False) -> tuple[int, list[str]]:
    """Exit code and lines."""
    lines: list[str] = []
    return doctor.doctor("tiny", rehearse, at.root, lines.append), lines


def test_a_complete_tree_needs_nothing(whole):
    code, lines = told(whole)
    assert code == 0 and lines[-1] == "nothing to mend", lines
    for entry in sources.MANIFEST:
        assert any(Path(entry.names[0]).name in line for line in lines), entry.names[0]
    assert sum("sha256" in line for line in lines) == 6
    assert sum("the first is" in line for line in lines) == 9  # three sets, three splits
    assert not [line for line in lines if line.startswith(("MISSING", "BROKEN", "absent"))]


def test_images_are_counted_split_by_split(whole):
    lines = told(whole)[1]
    for dataset, counts in licensed.COUNTS.items():
        at = next(i for i, line in enumerate(lines) if line.startswith("there   ")
                  and line.partition(":")[0].endswith(dataset))  # fmt: skip
        found = [int(line.split(" images")[0].split()[-1]) for line in lines[at + 1 : at + 4]]
        if dataset == "freihand":  # one list for training and validation
            assert found[0] == found[1] == counts["train"] + counts["validation"]
        else:
            assert found[:2] == [counts["train"], counts["validation"]]
        assert found[2] == counts["test"]


def test_with_nothing_there_it_says_what_to_get_and_what_is_lost(tmp_path):
    params = licensed.project(tmp_path)
    code, lines = told(SimpleNamespace(root=tmp_path), rehearse=True)
    assert code == 1
    text = "\n".join(lines)
    for entry in sources.MANIFEST:
        needed = sources.needed(entry, params)
        line = next(line for line in lines if f"data/raw/{entry.names[0]}: not there" in line)
        assert line.startswith("MISSING" if needed else "absent ")
        assert entry.origin in line and entry.licence in text and entry.without in text
    missing = sum(line.startswith("MISSING") for line in lines)
    assert lines[-1].startswith(f"{missing} to mend")
    assert sum(line.endswith("no rehearsal") for line in lines) == 3


def damage_pickle(raw: Path) -> None:
    path = raw / "models/SMPL_NEUTRAL.pkl"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def damage_regressor(raw: Path) -> None:
    (raw / "models/J_regressor_h36m_correct.npy").write_bytes(b"\x93NUMPY")


def damage_coarse(raw: Path) -> None:
    (raw / "models/mano_downsampling.npz").write_bytes(b"PK\x03\x04")


def damage_weights(raw: Path) -> None:
    (raw / "weights" / licensed.WEIGHTS).write_bytes(b"not weights")


def damage_annotation(raw: Path) -> None:
    path = raw / "hand/freihand/evaluation_K.json"
    path.write_text(path.read_text()[:-3])


def damage_image(raw: Path) -> None:
    for path in (raw / "body/threedpw/imageFiles").rglob("*.jpg"):
        path.write_bytes(path.read_bytes()[:200])


@pytest.mark.parametrize(
    ("damage", "name", "faults"),
    [
        (damage_pickle, "SMPL_NEUTRAL.pkl", None),
        (damage_regressor, "J_regressor_h36m_correct.npy", 1),
        (damage_coarse, "mano_downsampling.npz", 1),
        (damage_weights, licensed.WEIGHTS, 1),
        (damage_annotation, "evaluation_K.json", 1),
        (damage_image, "image_0000", 3),
    ],
)
def test_what_is_broken_is_named_in_one_line_and_the_rest_is_still_looked_at(
    copy, damage, name, faults
):
    damage(copy.raw)
    code, lines = told(copy)
    broken = [line for line in lines if line.startswith("BROKEN")]
    assert code == 1 and name in broken[0] and all("\n" not in line for line in lines)
    assert faults is None or len(broken) == faults
    assert any(line.startswith("there") for line in lines)


def test_a_split_without_annotations_is_missing(copy):
    shutil.rmtree(copy.raw / "body/threedpw/sequenceFiles/validation")
    code, lines = told(copy)
    assert code == 1
    assert any(line.startswith("MISSING") and "for validation" in line for line in lines)


def test_without_a_model_its_sets_are_counted_but_not_read(copy):
    (copy.raw / "models/MANO_RIGHT.pkl").unlink()
    code, lines = told(copy)
    assert code == 1
    assert sum("not read, for want of models/MANO_RIGHT.pkl" in line for line in lines) == 3


def test_a_checksum_is_compared_where_one_is_known(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"abc")
    known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2
    entry = sources.HAND
    assert "warning: none" in doctor.checksum(entry, path) and known in doctor.checksum(entry, path)
    pinned = sources.Entry(**vars(entry) | {"sha256": known})
    assert doctor.checksum(pinned, path).endswith("as published")
    path.write_bytes(b"abd")
    with pytest.raises(ValueError, match="get it again"):
        doctor.checksum(pinned, path)


@pytest.mark.parametrize(("dataset", "subject"), [("threedpw", "body"), ("freihand", "hand")])
def test_a_rehearsal_runs_every_stage_and_times_it(whole, dataset, subject):
    lines: list[str] = []
    assert doctor.rehearsed(dataset, subject, whole.params, whole.root / "data", lines.append) == 0
    names = ["reader", "crops", "phi", "U", "training", "sampler", "metrics"]
    assert [line.split()[1].rstrip(":") for line in lines[1:]] == names
    assert all(line.startswith("OK ") and line.endswith(" s)") for line in lines[1:])
    assert "threads" in lines[0] and dataset in lines[0]
    protocol = {"body": "H36M14", "hand": "HAND21"}[subject]
    assert protocol in lines[-1]


def test_a_rehearsal_that_fails_says_why_in_one_line(copy):
    damage_image(copy.raw)
    lines: list[str] = []
    assert doctor.rehearsed("threedpw", "body", copy.params, copy.root / "data", lines.append) == 1
    assert lines[-1].startswith("FAILED") and "image_0000" in lines[-1]
    assert len(lines) == 2


def test_a_profile_of_the_studio_needs_no_licensed_file(tmp_path):
    licensed.project(tmp_path)
    lines: list[str] = []
    assert doctor.doctor("default", root=tmp_path, say=lines.append) == 0
    assert "source studio" in lines[0] and not any("MISSING" in line for line in lines)


def test_the_studios_own_sets_can_be_rehearsed(whole, tmp_path, body_coarse):
    """Its models are those that the pipeline made, and its protocol is the study's."""
    root, values = tmp_path, whole.params
    studio: Params = values.model_copy(update={"source": "studio"})
    (root / "data/models").mkdir(parents=True)
    model = sources.find(sources.BODY, values, whole.raw)
    sources.convert(model, root / "data/models/body.npz")
    body_coarse.save(root / "data/models/body_coarse.npz")
    (root / "data/studio/body").mkdir(parents=True)
    (root / "data/studio/body/human36m").symlink_to(whole.raw / "body/human36m")
    lines: list[str] = []
    assert doctor.rehearsed("human36m", "body", studio, root / "data", lines.append) == 0, lines
    assert "BODY14" in lines[-1]


def test_the_protocols_regressor_is_the_fields_on_licensed_bodies_alone(whole, open_body):
    data, studio = whole.root / "data", whole.params.model_copy(update={"source": "studio"})
    rows = evaluate.read_regressor(open_body, data, whole.params)
    expected = np.load(whole.raw / "models/J_regressor_h36m_correct.npy")
    np.testing.assert_array_equal(rows.numpy(), expected)
    assert evaluate.read_regressor(open_body, data, studio) is open_body.joint_regressor
    with pytest.raises(FileNotFoundError, match=r"J_regressor_h36m_correct\.npy"):
        evaluate.read_regressor(open_body, whole.root, whole.params)


def test_an_unknown_profile_is_one_line(tmp_path, monkeypatch, capsys):
    licensed.project(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert cli.main(["doctor", "--profile", "tinny"]) == 1
    error = capsys.readouterr().err
    assert "no such profile" in error and error.count("\n") == 1


def test_a_set_in_another_layout_is_looked_into_as_that(copy):
    root, people = copy.raw / "body/human36m", people_in_camera(2, seed=1)
    shutil.rmtree(root)
    write_tsv(root, people, "human36m", keys=["S1_a_1.jpg", "S8_a_1.jpg"])
    write_tsv(root, people, "human36m", "test", keys=["S9_a_1.jpg", "S11_a_1.jpg"])
    block = copy.params.prepare.model_copy(update={"layouts": {"human36m": "tsv"}})
    tiny, lines = copy.params.model_copy(update={"prepare": block}), []
    assert doctor.look(tiny, copy.root / "data", lines.append) == 0
    assert sum("layout tsv; the first is" in line for line in lines) == 3
    assert doctor.rehearsed("human36m", "body", tiny, copy.root / "data", lines.append) == 0
    assert "no rehearsal in layout tsv" in lines[-1]


def test_a_further_training_set_is_looked_into_or_told_to_be_missing(copy):
    extra = Extra(dataset="coco", layout="tsv", root="tsv/coco")
    block = copy.params.prepare.model_copy(update={"extra": (extra,)})
    tiny, lines = copy.params.model_copy(update={"prepare": block}), []
    assert doctor.look(tiny, copy.root / "data", lines.append) == 1
    assert lines[-1].startswith("MISSING") and "tsv/coco: not there" in lines[-1]
    folder = copy.raw / "body/tsv/coco"
    write_tsv(folder, people_in_camera(3, seed=1))
    assert doctor.look(tiny, copy.root / "data", lines.append) == 0
    assert lines[-1].startswith("there") and "coco, the first is" in lines[-1]
    (folder / "train.label.tsv").write_text("cut off")
    assert doctor.look(tiny, copy.root / "data", lines.append) == 1
    assert lines[-1].startswith("BROKEN") and "train.label" in lines[-1]
