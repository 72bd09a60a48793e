"""The licensed training mix: the same people written in each layout come back the same."""

import base64
import json
import shutil
import zipfile
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st
from mix_writers import (
    metro_boxes,
    people_in_camera,
    tight_boxes,
    write_pose2mesh,
    write_rows,
    write_spin,
    write_tsv,
)
from test_datasets import (
    PX,
    dump,
    edit_json,
    picture,
    put,
    random_people,
    toy_model,
    write_freihand,
)

from hmdiff.crops import crop_affine, read_image
from hmdiff.datasets import FILTERS, LAYOUTS, read
from hmdiff.datasets.bodies import SMPL_OF_H36M, square_around
from hmdiff.metrics import H36M14
from hmdiff.studio import layouts
from hmdiff.studio.takes import Take

SPIN_NAMES = {
    "human36m": "h36m_train.npz",
    "coco": "coco_2014_train.npz",
    "mpii": "mpii_train.npz",
    "up3d": "up3d_trainval.npz",
    "threedpw": "3dpw_train.npz",
}


@pytest.fixture(scope="module")
def people() -> dict[str, np.ndarray]:
    return people_in_camera(5, seed=11)


def hands(n: int, seed: int) -> dict[str, np.ndarray]:
    """As `people_in_camera`, of the hand."""
    rng = np.random.default_rng(seed)
    poses, betas = 0.5 * rng.standard_normal((n, 48)), rng.standard_normal((n, 10))
    trans = np.array([0, 0, 0.7]) + 0.03 * rng.standard_normal((n, 3))
    tensors = (torch.from_numpy(x).float() for x in (betas, poses, trans))
    vertices, joints = (x.numpy() for x in toy_model("hand").pose(*tensors))
    K = np.tile([[500.0, 0, 112], [0, 500, 112], [0, 0, 1]], (n, 1, 1))
    return {"betas": betas, "poses": poses, "trans": trans, "K": K,
            "vertices": vertices, "joints": joints}  # fmt: skip


def listed(
    root: Path, dataset: str, layout: str, split: str = "train", skipped=None, filters="reader"
):
    model = toy_model("hand" if dataset == "freihand" else "body")
    filters = FILTERS[filters] if isinstance(filters, str) else filters
    return list(read(dataset, root, split, model, skipped, layout, filters))


def same_placed(sample, people: dict, i: int) -> bool:
    """Meshes within 0.1 mm where they stand, boxes within half a pixel."""
    return (
        np.abs(sample.vertices_m - people["vertices"][i]).max() < 1e-4
        and np.abs(sample.joints_m - people["joints"][i]).max() < 1e-4
        and np.abs(sample.box - tight_boxes(people)[i]).max() < 0.5
        and np.allclose(sample.K, people["K"][i], atol=1e-3)
    )


def same_shape(sample, people: dict, i: int) -> bool:
    """Root-relative meshes within 0.1 mm; a square box about the same middle, as large as the
    person's longer side, within half a pixel."""
    root, box = people["joints"][i, 0], tight_boxes(people)[i]
    middle = sample.box[:2] + sample.box[2:] / 2
    return (
        sample.K is None
        and np.abs(sample.vertices_m - (people["vertices"][i] - root)).max() < 1e-4
        and np.abs(sample.joints_m - (people["joints"][i] - root)).max() < 1e-4
        and np.abs(middle - box[:2] - box[2:] / 2).max() < 0.5
        and np.abs(sample.box[2:] - box[2:].max()).max() < 0.5
    )


@pytest.mark.parametrize("dataset", LAYOUTS["pose2mesh"])
def test_pose2mesh_fits_come_back_where_they_stand(tmp_path, people, dataset):
    write_pose2mesh(tmp_path, people, dataset)
    samples = listed(tmp_path, dataset, "pose2mesh")
    assert len(samples) == 5 and all(same_placed(s, people, i) for i, s in enumerate(samples))
    assert {s.dataset for s in samples} == {dataset} and len({s.image for s in samples}) == 5
    assert [s.given >= {"mesh", "joints_2d"} for s in samples] == [True] * 5
    assert ("joints_3d" in samples[0].given) == (dataset == "muco")


def test_fits_with_a_weak_camera_are_root_relative_in_the_annotations_box(tmp_path, people):
    write_pose2mesh(tmp_path, people, "coco")
    fits = tmp_path / "annotations/coco_smplifyx_train.json"

    def weaken(content):
        for fit in content.values():
            fit["cam_param"] = {"s": [200.0, 200.0], "t": [110.0, 115.0]}
            del fit["smpl_param"]["trans"]

    edit_json(fits, weaken)
    fits.rename(fits.with_name("coco_smplify_train.json"))
    for i, sample in enumerate(listed(tmp_path, "coco", "pose2mesh")):
        root = people["joints"][i, 0]
        assert sample.K is None and np.abs(sample.box - tight_boxes(people)[i]).max() < 0.5
        assert np.abs(sample.vertices_m - (people["vertices"][i] - root)).max() < 1e-4


@pytest.mark.parametrize("dataset", LAYOUTS["tsv"])
def test_tsv_labels_come_back_root_relative(tmp_path, people, dataset):
    subject = hands(5, seed=3) if dataset == "freihand" else people
    write_tsv(tmp_path, subject, dataset, "trainval" if dataset == "up3d" else "train")
    samples = listed(tmp_path, dataset, "tsv")
    assert len(samples) == 5 and all(same_shape(s, subject, i) for i, s in enumerate(samples))
    assert samples[0].given == {"mesh", "joints_3d", "joints_2d"}
    assert {"human36m": "S1", "threedpw": "walk_00", "freihand": "training-00"}.get(
        dataset, samples[0].person
    ) == samples[0].person
    assert read_image(samples[2].image).shape == (PX, PX, 3)


def test_a_composite_index_may_name_lists_of_files(tmp_path, people):
    """As METRO's own reader takes them."""
    for name in ("a", "b"):
        write_tsv(tmp_path, people, "coco", name)
    for kind in ("img", "label"):
        (tmp_path / f"all.{kind}.txt").write_text(f"a.{kind}.tsv\nb.{kind}.tsv\n")
    (tmp_path / "all.linelist.tsv").write_text("1\t0\n0\t3\n1\t2\n")
    index = {kind: f"all.{kind}.txt" for kind in ("img", "label")}
    index |= {"composite": True, "linelist": "all.linelist.tsv"}
    (tmp_path / "train.yaml").write_text(yaml.safe_dump(index))
    samples = listed(tmp_path, "coco", "tsv")
    assert all(same_shape(s, people, i) for s, i in zip(samples, (3, 0, 2), strict=True))
    (tmp_path / "all.img.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match=r"all\.img\.txt: is no list of files"):
        listed(tmp_path, "coco", "tsv")


def test_hands_are_counted_from_manos_mean_pose(tmp_path, monkeypatch):
    """FreiHAND's parameters are, as manopth's flat_hand_mean=False has them."""
    hand = hands(5, seed=3)
    write_tsv(tmp_path, hand | {"poses": hand["poses"] - np.repeat([0, 0.3], [3, 45])}, "freihand")
    monkeypatch.setattr(toy_model("hand"), "mean_pose", np.full(45, 0.3))
    assert all(same_shape(s, hand, i) for i, s in enumerate(listed(tmp_path, "freihand", "tsv")))


def test_placeholders_of_hands_are_no_truth(tmp_path):
    write_tsv(tmp_path, hands(5, seed=3) | {"poses": np.ones((5, 48))}, "freihand", "test")
    with pytest.raises(ValueError, match="every pose is all ones; test on the data set's own"):
        listed(tmp_path, "freihand", "tsv", "test")


@pytest.mark.parametrize("dataset", LAYOUTS["spin"])
def test_spin_rows_come_back_root_relative(tmp_path, people, dataset):
    write_spin(tmp_path, people, dataset, SPIN_NAMES[dataset])
    samples = listed(tmp_path, dataset, "spin")
    assert len(samples) == 5 and all(same_shape(s, people, i) for i, s in enumerate(samples))
    assert samples[0].given == {"mesh", "joints_2d"}


def studio_set(dataset: str, root: Path) -> list:
    """A tiny set as the capture studio writes it, read by its own reader."""
    people = random_people(np.random.default_rng(7), 4)
    people["betas"][:] = people["betas"][0]
    place = {
        "threedpw": ("imageFiles/s_1/image_{:05d}.jpg", {"sequence": "s_1"}),
        "human36m": (
            "images/s_01_act_02/s_01_act_02_{:06d}.jpg",
            {"subject": 1, "action": 0, "subaction": 1, "cameras": [2] * 4,
             "frames": [0, 5, 10, 15]},
        ),
        "freihand": ("evaluation/rgb/{:08d}.jpg", {"first": 0}),
    }[dataset]  # fmt: skip
    split = "test" if dataset == "freihand" else "train"
    if dataset == "human36m":
        people |= {key: np.repeat(people[key][:1], 4, axis=0) for key in ("R", "t", "K")}
    if dataset == "freihand":
        people |= {"poses": 0.2 * people["poses"][:, :48], "trans": 0.2 * people["t"]}
        people |= {"R": np.tile(np.eye(3), (4, 1, 1)), "t": np.zeros((4, 3))}
    names = tuple(place[0].format(i) for i in range(4))
    model = toy_model("hand" if dataset == "freihand" else "body")
    take = Take(dataset, split, 0, 0, names, place[1])
    layouts.write(dataset, root, [take], [people | {"pose": people["poses"]}], model, PX)
    for image in names:
        picture(root / image)
    skip = {"human36m": (5, 6, 7)}.get(dataset, ())
    for subject in skip:  # the reader wants every training subject
        for kind in ("data", "camera", "joint_3d", "smpl_param"):
            path = root / f"annotations/Human36M_subject1_{kind}.json"
            content = json.loads(path.read_text())
            if kind == "data":
                for image in content["images"]:
                    image["subject"] = subject
            dump(path.with_name(f"Human36M_subject{subject}_{kind}.json"), content)
    samples = list(read(dataset, root, split, model))[:4]
    return people, samples


@pytest.mark.parametrize("dataset", ["threedpw", "human36m", "freihand"])
def test_the_studios_sets_are_the_same_in_every_layout(tmp_path, dataset):
    raw, samples = studio_set(dataset, tmp_path / "studio")
    truth = {
        "betas": raw["betas"],
        "K": np.stack([s.K for s in samples]),
        "vertices": np.stack([s.vertices_m for s in samples]),
        "joints": np.stack([s.joints_m for s in samples]),
        "poses": raw["poses"],
    }
    if dataset != "freihand":
        turned = people_of(raw)
        truth |= {"poses": turned["poses"], "trans": turned["trans"]}
    assert np.abs(tight_boxes(truth) - [s.box for s in samples]).max() < 0.5
    write_tsv(tmp_path / "tsv", truth, dataset)
    for i, sample in enumerate(listed(tmp_path / "tsv", dataset, "tsv")):
        assert same_shape(sample, truth, i)
    if dataset == "freihand":
        return
    write_spin(tmp_path / "spin", truth, dataset, SPIN_NAMES[dataset])
    assert all(
        same_shape(sample, truth, i)
        for i, sample in enumerate(listed(tmp_path / "spin", dataset, "spin"))
    )
    for name in LAYOUTS["pose2mesh"]:
        write_pose2mesh(tmp_path / name, truth, name)
        found = listed(tmp_path / name, name, "pose2mesh")
        assert len(found) == 4 and all(same_placed(s, truth, i) for i, s in enumerate(found))


def people_of(raw: dict) -> dict[str, np.ndarray]:
    """World parameters in camera axes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mix_writers.random_people", lambda rng, n: raw)
        return people_in_camera(len(raw["betas"]), 0)


@given(box=st.tuples(*[st.floats(-300, 300)] * 2, *[st.floats(9, 900)] * 2))
def test_a_crop_of_metros_box_is_metros_crop(box):
    centre, scale = metro_boxes(np.array([box]))
    side = 200 * scale[0]  # theirs
    assert side == pytest.approx(1.2 * max(box[2:]))
    affine = crop_affine(square_around(centre, scale)[0], 1.2, 224)  # ours: params.yaml's box_scale
    assert affine[0, 0] == pytest.approx(224 / side)
    assert affine[:, :2] @ centre[0] + affine[:, 2] == pytest.approx([112, 112])


def test_subject_8_and_the_last_stretch_validate(tmp_path, people):
    keys = [f"S{s}_Walking.60457274_{i:06d}.jpg" for i, s in enumerate((1, 8, 5, 8, 7))]
    write_tsv(tmp_path / "h", people, "human36m", keys=keys)
    write_spin(tmp_path / "s", people, "human36m", "h36m_train.npz", [f"images/{k}" for k in keys])
    for folder, layout in (("h", "tsv"), ("s", "spin")):
        skipped = Counter()
        train = [s.person for s in listed(tmp_path / folder, "human36m", layout, skipped=skipped)]
        held = [s.person for s in listed(tmp_path / folder, "human36m", layout, "validation")]
        assert train == ["S1", "S5", "S7"] and held == ["S8", "S8"]
        assert skipped["not in the split"] == 2
    keys = [f"{i:08d}.jpg" for i in (0, 30931, 30932, 32559, 32560 + 30932)]
    write_tsv(tmp_path / "f", hands(5, 1), "freihand", keys=keys)
    held = [s.image for s in listed(tmp_path / "f", "freihand", "tsv", "validation")]
    train = [s.image for s in listed(tmp_path / "f", "freihand", "tsv")]
    assert len(train) == 2 and len(held) == 3 and not set(train) & set(held)


def test_metros_test_parts_have_names_of_their_own(tmp_path, people):
    write_tsv(tmp_path / "h", people, "human36m", "valid.protocol2")
    write_tsv(tmp_path / "p", people, "threedpw", "test_has_gender")
    write_spin(tmp_path / "s", people, "human36m", "h36m_valid_protocol2.npz")
    assert len(listed(tmp_path / "h", "human36m", "tsv", "test")) == 5
    assert len(listed(tmp_path / "p", "threedpw", "tsv", "test")) == 5
    assert len(listed(tmp_path / "s", "human36m", "spin", "test")) == 5


def test_what_only_trains_says_so(tmp_path, people):
    write_tsv(tmp_path, people, "coco")
    with pytest.raises(ValueError, match="coco: has no test split"):
        listed(tmp_path, "coco", "tsv", "test")
    with pytest.raises(ValueError, match="'spin': not one of muco"):
        read("muco", tmp_path, "train", toy_model("body"), layout="spin")


def test_a_composite_reads_its_files_row_by_row(tmp_path, people):
    write_tsv(tmp_path / "a", people, "coco")
    write_tsv(tmp_path / "b", people, "coco")
    (tmp_path / "train.linelist.tsv").write_text("1\t3\n0\t2\n1\t0\n")
    index = {k: [f"{x}/train.{k}.tsv" for x in "ab"] for k in ("img", "hw", "label")}
    index |= {"composite": True, "linelist": "train.linelist.tsv"}
    (tmp_path / "train.yaml").write_text(yaml.safe_dump(index))
    samples = listed(tmp_path, "coco", "tsv")
    assert [s.image.parents[1].name for s in samples] == ["a", "b", "b"]
    assert all(same_shape(s, people, i) for s, i in zip(samples, (2, 3, 0), strict=True))


def test_lines_are_counted_where_no_lineidx_is(tmp_path, people):
    write_tsv(tmp_path, people, "coco")
    with_index = [s.image for s in listed(tmp_path, "coco", "tsv")]
    for path in tmp_path.glob("*.lineidx"):
        path.unlink()
    index = yaml.safe_load((tmp_path / "train.yaml").read_text())
    del index["linelist"]
    (tmp_path / "train.yaml").write_text(yaml.safe_dump(index))
    assert [s.image for s in listed(tmp_path, "coco", "tsv")] == with_index


def rewrite_label(root: Path, change, rows=(0,)) -> None:
    """Change labels of a TSV; `change(label)` edits in place."""
    path, out = root / "train.label.tsv", []
    for i, line in enumerate(path.read_text().splitlines()):
        key, text = line.split("\t")
        label = json.loads(text)
        if i in rows:
            change(label[0])
        out.append((key, json.dumps(label)))
    write_rows(path, out)


def test_rows_without_a_fit_are_skipped_and_counted(tmp_path, people):
    write_tsv(tmp_path, people, "coco")
    rewrite_label(tmp_path, lambda label: label.update(has_smpl=0), (1, 3))
    skipped = Counter()
    assert len(listed(tmp_path, "coco", "tsv", skipped=skipped)) == 3
    assert skipped["no body fit"] == 2


def test_flags_say_what_an_annotation_gives(tmp_path, people):
    write_tsv(tmp_path, people, "coco")
    rewrite_label(tmp_path, lambda label: label.update(has_3d_joints=0), (1,))
    rewrite_label(tmp_path, lambda label: label.update(has_2d_joints=0), (2,))
    given = [s.given for s in listed(tmp_path, "coco", "tsv")]
    assert given[1] == {"mesh", "joints_2d"} and given[2] == {"mesh", "joints_3d"}
    assert given[0] == given[3] == {"mesh", "joints_2d", "joints_3d"}


def test_too_few_visible_joints_are_left_out(tmp_path, people):
    few = replace(FILTERS["reader"], least_visible=3)
    write_pose2mesh(tmp_path / "c", people, "coco")  # annotation i shows i + 1 joints
    skipped = Counter()
    samples = listed(tmp_path / "c", "coco", "pose2mesh", skipped=skipped, filters=few)
    assert [s.image.stem for s in samples] == ["000002", "000003", "000004"]
    assert skipped["too few joints visible"] == 2
    write_tsv(tmp_path / "t", people, "coco")
    rewrite_label(tmp_path / "t", lambda x: x.update({"2d_joints": np.zeros((24, 3)).tolist()}))
    assert len(listed(tmp_path / "t", "coco", "tsv", filters=few)) == 4


def test_published_limits_hold_for_regressed_joints(tmp_path, people):
    """Joints moved by 30, 47 and 90 mm, every other one to the other side: METRO takes up to 50,
    Pose2Mesh up to 25, on MuCo 45; 30 more where SMPL's own joints stand in."""
    write_pose2mesh(tmp_path, people, "muco")
    path = tmp_path / "MuCo-3DHP.json"

    def bend(content, sizes=(0, 30, 47, 90, 0)):
        for annotation, size in zip(content["annotations"], sizes, strict=True):
            joints = np.array(annotation["keypoints_cam"])
            joints[::2, 0] += size
            joints[1::2, 0] -= size
            annotation["keypoints_cam"] = joints.tolist()

    edit_json(path, bend)
    # A regressor that gives SMPL's joints in Human3.6M's order.
    regressor = np.zeros((17, 6890), dtype=np.float32)
    own = np.asarray(toy_model("body").joint_regressor)
    for row, joint in enumerate(SMPL_OF_H36M):
        regressor[row] = own[max(joint, 0)]
    for name, kept in (("reader", 4), ("metro", 4), ("pose2mesh", 3)):
        filters = replace(FILTERS[name], regressor=regressor)
        assert len(listed(tmp_path, "muco", "pose2mesh", filters=filters)) == kept
        assert len(listed(tmp_path, "muco", "pose2mesh", filters=name)) == 4  # SMPL's own
    assert FILTERS["metro"].fit_mm == 50 and FILTERS["pose2mesh"].fit_mm == 25
    assert FILTERS["metro"].rows == H36M14.joints and len(FILTERS["pose2mesh"].rows) == 17


def test_fits_that_are_no_numbers_and_crowds_are_counted(tmp_path, people):
    write_pose2mesh(tmp_path, people, "coco")
    edit_json(
        tmp_path / "annotations/coco_smplifyx_train.json",
        lambda c: c["101"]["smpl_param"].update(pose=[float("nan")] * 72),
    )
    edit_json(
        tmp_path / "annotations/person_keypoints_train2017.json",
        lambda c: c["annotations"][0].update(iscrowd=1),
    )
    skipped = Counter()
    assert len(listed(tmp_path, "coco", "pose2mesh", skipped=skipped)) == 3
    assert skipped["a crowd"] == skipped["fit is not a number"] == skipped["no body fit"] == 1


def cut(path: Path, share: float = 0.6) -> None:
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])


def tsv(change, row=0):
    return lambda path: rewrite_label(path.parent, change, (row,))


def npz(change):
    def spoil(path: Path) -> None:
        with np.load(path) as file:
            content = dict(file)
        change(content)
        np.savez(path, **content)

    return spoil


def yml(change):
    def spoil(path: Path) -> None:
        content = yaml.safe_load(path.read_text())
        change(content)
        path.write_text(yaml.safe_dump(content))

    return spoil


def jsn(change):
    return lambda path: edit_json(path, change)


def scale_all(key: str, factor: float):
    def change(content: dict) -> None:
        for fit in content.values():
            fit[key] = (factor * np.array(fit[key])).tolist()

    return change


def swap_images(path: Path) -> None:
    """A picture file whose rows are in another order than its labels."""
    rows = [tuple(line.split("\t")) for line in path.read_text().splitlines()]
    write_rows(path, rows[::-1])


def not_a_picture(path: Path, text: str) -> None:
    rows = [tuple(line.split("\t")) for line in path.read_text().splitlines()]
    write_rows(path, [(key, text) for key, _ in rows])


def nan(*at):
    def change(content: dict) -> None:
        *path, last = at
        for key in path:
            content = content[key]
        content[last] = float("nan")

    return change


ANNOTATIONS, FITS = "muco/MuCo-3DHP.json", "muco/smpl_param.json"
NPZ, JPG = "spin/coco_2014_train.npz", "spin/train2014/COCO_train2014_000000000002.jpg"
HTML = base64.b64encode(b"<html>not here</html>").decode()
CUT_JPEG = base64.b64encode(b"\xff\xd8\xff\xe0").decode()
FAULTS = [
    ("tsv", "tsv/train.yaml", Path.unlink, "not there"),
    ("tsv", "tsv/train.yaml", lambda p: p.write_text("img: [a\n"), "not whole YAML"),
    ("tsv", "tsv/train.yaml", lambda p: p.write_text("- img\n"), "names no img and label"),
    ("tsv", "tsv/train.yaml", yml(lambda c: put(c, "img", 3)), "names something that is no file"),
    ("tsv", "tsv/train.yaml", yml(lambda c: put(c, "img", "../x.img.tsv")), "lies outside"),
    ("tsv", "tsv/train.yaml", yml(lambda c: put(c, "label", "/etc/passwd")), "lies outside"),
    ("tsv", "tsv/train.yaml", yml(lambda c: put(c, "img", ["train.img.tsv"] * 2)), "2 files under"),
    ("tsv", "tsv/train.yaml", yml(lambda c: put(c, "img", ".")), "which is no file"),
    ("tsv", "tsv/train.img.tsv", Path.unlink, "not there"),
    ("tsv", "tsv/train.img.tsv", lambda p: cut(p, 0.95), "cut off"),
    ("tsv", "tsv/train.img.lineidx", lambda p: p.write_text("0\n9\n99999\n"), "names byte 99999"),
    ("tsv", "tsv/train.img.lineidx", lambda p: p.write_text("0\n9\n5\n"), "does not rise"),
    ("tsv", "tsv/train.img.lineidx", lambda p: p.write_text("0\nx\n"), "not a whole number"),
    ("tsv", "tsv/train.img.tsv", swap_images, "do not belong together"),
    ("tsv", "tsv/train.img.tsv", lambda p: not_a_picture(p, "@@@"), "no base64"),
    ("tsv", "tsv/train.img.tsv", lambda p: not_a_picture(p, HTML), "not an image"),
    ("tsv", "tsv/train.img.tsv", lambda p: not_a_picture(p, CUT_JPEG), "not an image"),
    ("tsv", "tsv/train.label.tsv", lambda p: cut(p, 0.97), "cut off"),
    ("tsv", "tsv/train.label.tsv", tsv(lambda x: x.pop("betas")), "row 0 lacks betas"),
    ("tsv", "tsv/train.label.tsv", tsv(lambda x: put(x, "pose", x["pose"][:69]), 2), "row 2 is 69"),
    ("tsv", "tsv/train.label.tsv", tsv(nan("center", 0), 3), "center of row 3 holds NaN"),
    ("tsv", "tsv/train.label.tsv", tsv(lambda x: put(x, "scale", 0.0)), "is 0"),
    ("tsv", "tsv/train.label.tsv", tsv(lambda x: put(x, "2d_joints", [1, 2])), "2d_joints of row"),
    ("tsv", "tsv/train.label.tsv", lambda p: write_rows(p, [("a", "[]")] * 4), "has 4 rows"),
    ("tsv", "tsv/train.linelist.tsv", lambda p: p.write_text("0\n7\n"), "names row 7"),
    ("tsv", "tsv/train.linelist.tsv", lambda p: p.write_text(""), "is empty"),
    ("tsv", "tsv/train.linelist.tsv", lambda p: p.write_text("1\t0\n"), "names source 1 of 1"),
    ("spin", NPZ, Path.unlink, "not there"),
    ("spin", NPZ, cut, "not a whole npz"),
    ("spin", NPZ, lambda p: p.write_text("x"), "not a whole npz"),
    ("spin", NPZ, npz(lambda c: c.pop("pose")), "lacks pose"),
    ("spin", NPZ, npz(lambda c: [c.pop("pose"), c.pop("shape")]), "static_fits"),
    ("spin", NPZ, npz(nan("center", (3, 1))), "center of row 3 holds NaN"),
    ("spin", NPZ, npz(lambda c: put(c, "pose", c["pose"][:4])), "4 rows"),
    ("spin", NPZ, npz(lambda c: put(c, "shape", c["shape"][:, :8])), "n x 8"),
    ("spin", NPZ, npz(lambda c: put(c, "scale", 200 * c["scale"])), "200 pix"),
    ("spin", NPZ, npz(lambda c: put(c, "pose", 60 * c["pose"])), "degrees"),
    ("spin", NPZ,
     npz(lambda c: put(c, "imgname", c["imgname"].astype(object))), "Python objects"),
    ("spin", NPZ,
     npz(lambda c: put(c, "imgname", np.array(["../secret.jpg"] * 5))), "lies outside"),
    ("spin", JPG, Path.unlink, "not there"),
    ("spin", JPG, cut, "cut off"),
    ("muco", ANNOTATIONS, Path.unlink, "not there"),
    ("muco", ANNOTATIONS, cut, "not whole JSON"),
    ("muco", ANNOTATIONS, lambda p: p.write_text("[1]"), "not whole JSON"),
    ("muco", ANNOTATIONS, lambda p: p.write_text("{}"), "holds nothing"),
    ("muco", ANNOTATIONS, lambda p: p.write_text('{"a": ' + "[" * 99999), "nested without end"),
    ("muco", ANNOTATIONS, jsn(lambda c: c["images"][0].pop("file_name")), "lacks file_name"),
    ("muco", ANNOTATIONS, jsn(lambda c: c["images"].pop(1)), "image 1 of an annotation"),
    ("muco", ANNOTATIONS, jsn(nan("annotations", 2, "bbox", 0)), "annotation 102 holds NaN"),
    ("muco", ANNOTATIONS, jsn(lambda c: put(c["annotations"][0], "bbox", [1, 2, 0, 4])), "empty"),
    ("muco", ANNOTATIONS, jsn(lambda c: put(c["images"][0], "f", [0, 0])), "no camera matrix"),
    ("muco", ANNOTATIONS,
     jsn(lambda c: put(c["images"][0], "file_name", "../../x.jpg")), "lies outside"),
    ("muco", ANNOTATIONS,
     jsn(lambda c: c["annotations"][1]["keypoints_cam"].pop()), "not an array"),
    ("muco", ANNOTATIONS, jsn(lambda c: [put(a, "keypoints_cam", (
        0.001 * np.array(a["keypoints_cam"])).tolist()) for a in c["annotations"]]), "millimetres"),
    ("muco", FITS, cut, "not whole JSON"),
    ("muco", FITS, jsn(lambda c: c["100"].pop("pose")), "fit 100 lacks pose"),
    ("muco", FITS, jsn(lambda c: put(c["100"], "shape", [0.0] * 9)), "is not 10 numbers"),
    ("muco", FITS, jsn(scale_all("trans", 1000)), "divide it by 1000"),
    ("muco", FITS, lambda p: p.write_text('{"7": {"pose": [0], "shape": [0]}}'), "72 numbers"),
    ("muco", FITS, jsn(lambda c: [c.pop(str(100 + i)) for i in range(4)] and put(
        c, "9", c.pop("104"))), "do the two files belong together"),
    ("muco", "muco/data/000001.jpg", Path.unlink, "not there"),
    ("muco", "muco/data/000001.jpg", lambda p: p.write_bytes(b""), "empty or not an image"),
]  # fmt: skip


@pytest.fixture(scope="module")
def pristine(tmp_path_factory, people) -> Path:
    root = tmp_path_factory.mktemp("mix")
    write_tsv(root / "tsv", people, "coco")
    write_spin(root / "spin", people, "coco", "coco_2014_train.npz")
    write_pose2mesh(root / "muco", people, "muco")
    return root


@pytest.mark.parametrize(("folder", "name", "spoil", "says"), FAULTS)
def test_a_wrong_file_is_named_in_one_line(pristine, tmp_path, folder, name, spoil, says):
    dataset, layout = ("muco", "pose2mesh") if folder == "muco" else ("coco", folder)
    sets = shutil.copytree(pristine, tmp_path / "sets")
    spoil(sets / name)
    with pytest.raises((ValueError, FileNotFoundError)) as caught:
        listed(sets / folder, dataset, layout)
    message = str(caught.value)
    assert str(sets / name).partition(".")[0] in message and says in message, message
    assert "\n" not in message and ";" in message


def test_millimetres_in_a_tsv_are_noticed(pristine, tmp_path):
    root = shutil.copytree(pristine / "tsv", tmp_path / "tsv")
    far = 1000 * np.random.default_rng(0).random((24, 4))
    rewrite_label(root, lambda x: x.update({"3d_joints": far.tolist()}), range(5))
    with pytest.raises(ValueError, match="millimetres"):
        listed(root, "coco", "tsv")


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_a_damaged_column_of_an_npz_is_noticed(pristine, tmp_path, save):
    path = shutil.copytree(pristine / "spin", tmp_path / "spin") / "coco_2014_train.npz"
    with np.load(path) as file:
        content = dict(file)
    save(path, **content)
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo("pose.npy")
    data = bytearray(path.read_bytes())
    data[info.header_offset + 600] ^= 255
    path.write_bytes(data)
    with pytest.raises(ValueError, match="not a whole npz"):
        listed(tmp_path / "spin", "coco", "spin")


def test_freihands_joints_in_manos_order_are_refused(tmp_path):
    write_freihand(tmp_path, "evaluation", 3, 1, seed=2)
    mano = [0, 5, 6, 7, 9, 10, 11, 17, 18, 19, 13, 14, 15, 1, 2, 3, 4, 8, 12, 16, 20]
    path = tmp_path / "evaluation_xyz.json"
    path.write_text(json.dumps(np.array(json.loads(path.read_text()))[:, mano].tolist()))
    with pytest.raises(ValueError, match="belong together"):
        list(read("freihand", tmp_path, "test", toy_model("hand")))
