"""Tiny data sets in the published layouts, read back and compared with meshes posed another way."""

import json
import pickle
import shutil
from collections import Counter
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image
from scipy.spatial.transform import Rotation

from hmdiff.body import BodyModel
from hmdiff.datasets import freihand, read
from hmdiff.datasets.human36m import H36M_LIMBS, SMPL_LIMBS
from hmdiff.datasets.sample import image_size
from hmdiff.pinhole import project
from hmdiff.studio import layouts
from hmdiff.studio.takes import Take

PARENTS = [-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 20, 21]
PX = 224


@cache
def toy_model(subject: str) -> BodyModel:
    """A cloud of vertices on a random skeleton, in SMPL's or MANO's schema."""
    rng = np.random.default_rng(5)
    V, J, reach = {"body": (6890, 24, 0.15), "hand": (778, 16, 0.02)}[subject]
    parents = (
        PARENTS[:J]
        if subject == "body"
        else [-1, *(0 if j % 3 == 1 else j - 1 for j in range(1, J))]
    )
    joints = np.zeros((J, 3))
    for j in range(1, J):
        joints[j] = joints[parents[j]] + reach * rng.standard_normal(3)
    owner = rng.integers(J, size=V)
    owner[: 2 * J] = np.tile(np.arange(J), 2)
    spread = 0.2 * reach * rng.standard_normal((V, 3))
    spread[J : 2 * J] = -spread[:J]  # two vertices of each joint have it in their middle
    regressor = np.zeros((J, V))
    regressor[np.tile(np.arange(J), 2), np.arange(2 * J)] = 0.5
    shapes = 0.1 * reach * rng.standard_normal((J, 3, 10))
    data = {
        "v_template": joints[owner] + spread,
        "shapedirs": shapes[owner],
        "posedirs": np.zeros((V, 3, 9 * (J - 1))),
        "weights": np.eye(J)[owner],
        "kintree_table": np.array([parents, range(J)]),
        "f": rng.integers(V, size=(2 * V, 3)),
        "J_regressor": regressor,
    }
    if subject == "hand":
        data |= {"hands_components": np.eye(45), "hands_mean": np.zeros(45), "tips": np.arange(5)}
    return BodyModel(subject, data)


def picture(path: Path, size: tuple[int, int] = (PX, PX)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (90, 120, 150)).save(path, quality=50)


def dump(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def random_people(rng: np.random.Generator, n: int) -> dict[str, np.ndarray]:
    """SMPL parameters near the world's origin, and cameras 4 m off that look at it."""
    R = Rotation.random(n, random_state=int(rng.integers(1 << 30))).as_matrix()
    return {
        "betas": rng.standard_normal((n, 10)),
        "poses": 0.4 * rng.standard_normal((n, 72)),
        "trans": 0.1 * rng.standard_normal((n, 3)),
        "R": R,
        "t": np.array([0.0, 0.1, 4.0]) + 0.2 * rng.standard_normal((n, 3)),
        "K": np.tile([[350.0, 0, 110], [0, 360, 115], [0, 0, 1]], (n, 1, 1)),
    }


def posed_in_camera(people: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Vertices and joints with the camera's rotation inside the root joint's own.

    R (LBS(theta) + trans) + t, where turning the root turns the body about the root joint j0:
    LBS(R theta_0, ...) - j0 + R (j0 + trans) + t.
    """
    model = toy_model("body")
    turned = people["poses"].copy()
    root = Rotation.from_matrix(people["R"]) * Rotation.from_rotvec(turned[:, :3])
    turned[:, :3] = root.as_rotvec()
    tensors = (torch.from_numpy(x).float() for x in (people["betas"], turned, 0 * people["trans"]))
    vertices, joints = (x.numpy() for x in model.pose(*tensors))
    j0 = joints[:, :1].astype(np.float64)
    move = (j0 + people["trans"][:, None]) @ np.swapaxes(people["R"], 1, 2) + people["t"][:, None]
    return vertices - j0 + move, joints - j0 + move


def to_world(points: np.ndarray, people: dict[str, np.ndarray]) -> np.ndarray:
    return (points - people["t"][:, None]) @ people["R"]


def write_threedpw(root: Path, split: str, name: str, frames: int, seed: int) -> dict:
    """One sequence of one person; returns the parameters."""
    people = random_people(np.random.default_rng(seed), frames)
    people["betas"][:] = people["betas"][0]
    cameras = np.tile(np.eye(4), (frames, 1, 1))
    cameras[:, :3, :3], cameras[:, :3, 3] = people["R"], people["t"]
    content = {
        "sequence": name,
        "poses": [people["poses"]],
        "betas": [people["betas"][0]],
        "trans": [people["trans"]],
        "genders": ["m"],
        "jointPositions": [to_world(posed_in_camera(people)[1], people).reshape(frames, 72)],
        "campose_valid": [np.ones(frames, dtype=np.int64)],
        "cam_poses": cameras,
        "cam_intrinsics": people["K"][0],
        "img_frame_ids": np.arange(frames),
    }
    path = root / "sequenceFiles" / split / f"{name}.pkl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(content, protocol=2))
    for i in range(frames):
        picture(root / "imageFiles" / name / f"image_{i:05d}.jpg")
    return people


def write_human36m(root: Path, subject: int, frames: int, seed: int) -> dict:
    """One subject with one camera, the fourth, and one action; returns the parameters."""
    people = random_people(np.random.default_rng(seed), frames)
    for key in ("R", "t", "K"):
        people[key][:] = people[key][0]
    world_mm = np.zeros((frames, 17, 3))
    world_mm[:, H36M_LIMBS] = 1000 * to_world(posed_in_camera(people)[1], people)[:, SMPL_LIMBS]
    name = f"s_{subject:02d}_act_02_subact_01_ca_04"
    images = [
        {
            "id": i,
            "file_name": f"{name}/{name}_{5 * i + 1:06d}.jpg",
            "width": PX,
            "height": PX,
            "subject": subject,
            "action_idx": 2,
            "subaction_idx": 1,
            "cam_idx": 4,
            "frame_idx": 5 * i,
        }
        for i in range(frames)
    ]
    fits = [
        {"pose": p.tolist(), "shape": b.tolist(), "trans": [t.tolist()]}
        for p, b, t in zip(people["poses"], people["betas"], people["trans"], strict=True)
    ]
    K = people["K"][0]
    camera = {
        "R": people["R"][0].tolist(),
        "t": (1000 * people["t"][0]).tolist(),
        "f": [K[0, 0], K[1, 1]],
        "c": [K[0, 2], K[1, 2]],
    }
    contents = {
        "data": {"images": images, "annotations": []},
        "camera": {"4": camera},
        "joint_3d": {"2": {"1": {str(5 * i): x.tolist() for i, x in enumerate(world_mm)}}},
        "smpl_param": {"2": {"1": {str(5 * i): fit for i, fit in enumerate(fits)}}},
    }
    for kind, content in contents.items():
        dump(root / "annotations" / f"Human36M_subject{subject}_{kind}.json", content)
    for image in images:
        picture(root / "images" / image["file_name"])
    return people


def test_human36ms_measured_joints_come_along_in_the_camera(tmp_path):
    people = write_human36m(tmp_path, 9, 3, seed=4)
    path = tmp_path / "annotations/Human36M_subject9_joint_3d.json"
    world = np.array(list(json.loads(path.read_text())["2"]["1"].values()))
    write_human36m(tmp_path, 11, 3, seed=5)
    samples = list(read("human36m", tmp_path, "test", toy_model("body")))[:3]
    for i, sample in enumerate(samples):
        expected = world[i] / 1000 @ people["R"][i].T + people["t"][i]
        assert np.allclose(sample.measured_m, expected, atol=1e-9)


def test_a_bad_fit_keeps_a_frame_out_of_training_but_in_no_test(tmp_path):
    """Every fifth frame's joints lie elsewhere than its fit."""
    for subject in (1, 5, 6, 7, 9, 11):
        write_human36m(tmp_path, subject, 5, seed=subject)
        path = tmp_path / f"annotations/Human36M_subject{subject}_joint_3d.json"
        content = json.loads(path.read_text())
        content["2"]["1"]["10"] = np.random.default_rng(0).normal(0, 500, (17, 3)).tolist()
        dump(path, content)
    skipped = Counter()
    assert len(list(read("human36m", tmp_path, "train", toy_model("body"), skipped))) == 16
    assert skipped["joints far from the body fit"] == 4
    assert len(list(read("human36m", tmp_path, "test", toy_model("body")))) == 10


def write_freihand(root: Path, name: str, n: int, versions: int, seed: int) -> dict:
    """n annotations, and that many images times versions; returns vertices and joints."""
    rng, model = np.random.default_rng(seed), toy_model("hand")
    vertices, joints = model.pose(
        torch.from_numpy(rng.standard_normal((n, 10))).float(),
        torch.from_numpy(0.5 * rng.standard_normal((n, 48))).float(),
        torch.from_numpy(np.array([0, 0, 0.7]) + 0.03 * rng.standard_normal((n, 3))).float(),
    )
    K = np.tile([[500.0, 0, 112], [0, 500, 112], [0, 0, 1]], (n, 1, 1))
    for kind, array in (("K", K), ("xyz", joints.numpy()), ("verts", vertices.numpy())):
        dump(root / f"{name}_{kind}.json", array.tolist())
    for i in range(n * versions):
        picture(root / name / "rgb" / f"{i:08d}.jpg")
    return {"vertices": vertices.numpy(), "joints": joints.numpy(), "K": K}


@pytest.fixture(scope="session")
def pristine(tmp_path_factory) -> Path:
    """All three sets, each of a few images."""
    root = tmp_path_factory.mktemp("sets")
    for i, split in enumerate(("train", "train", "train", "validation", "test")):
        write_threedpw(root / "threedpw", split, f"walk_{i:02d}", 3, seed=i)
    for subject in (1, 5, 6, 7, 8, 9, 11):
        write_human36m(root / "human36m", subject, 3, seed=subject)
    write_freihand(root / "freihand", "training", 20, 2, seed=1)
    write_freihand(root / "freihand", "evaluation", 3, 1, seed=2)
    return root


@pytest.fixture
def sets(pristine, tmp_path) -> Path:
    """A copy that a test may spoil."""
    return shutil.copytree(pristine, tmp_path / "sets")


def listed(root: Path, dataset: str, split: str, skipped: Counter | None = None) -> list:
    model = toy_model("hand" if dataset == "freihand" else "body")
    return list(read(dataset, root / dataset, split, model, skipped))


def agrees(sample, vertices: np.ndarray, joints: np.ndarray, K: np.ndarray) -> bool:
    """Meshes within 0.1 mm, and the box within half a pixel of the brute-force one."""
    pixels = np.array([(K @ v)[:2] / v[2] for v in vertices])
    low, high = np.clip(pixels.min(0), 0, PX), np.clip(pixels.max(0), 0, PX)
    return (
        np.abs(sample.vertices_m - vertices).max() < 1e-4
        and np.abs(sample.joints_m - joints).max() < 1e-4
        and np.abs(project(sample.vertices_m, sample.K) - pixels).max() < 0.5
        and np.abs(sample.box - np.concatenate([low, high - low])).max() < 0.5
    )


def test_3dpw_meshes_come_back_in_camera_axes(tmp_path):
    people = write_threedpw(tmp_path / "threedpw", "test", "run_01", 5, seed=3)
    vertices, joints = posed_in_camera(people)
    samples = listed(tmp_path, "threedpw", "test")
    assert [s.image.name for s in samples] == [f"image_{i:05d}.jpg" for i in range(5)]
    assert {(s.person, s.dataset, s.split) for s in samples} == {("run_01", "threedpw", "test")}
    for i, sample in enumerate(samples):
        assert agrees(sample, vertices[i], joints[i], people["K"][i])


def test_human36m_meshes_come_back_in_camera_axes(tmp_path):
    people = write_human36m(tmp_path / "human36m", 8, 5, seed=4)
    vertices, joints = posed_in_camera(people)
    samples = listed(tmp_path, "human36m", "validation")
    assert len(samples) == 5 and {s.person for s in samples} == {"S8"}
    for i, sample in enumerate(samples):
        assert agrees(sample, vertices[i], joints[i], people["K"][i])


def test_freihand_images_share_annotations_over_versions(tmp_path):
    truth = write_freihand(tmp_path / "freihand", "evaluation", 4, 2, seed=5)
    samples = listed(tmp_path, "freihand", "test")
    assert [int(s.image.stem) for s in samples] == list(range(8))
    for i, sample in enumerate(samples):
        a = i % 4
        assert agrees(sample, truth["vertices"][a], truth["joints"][a], truth["K"][a])
        assert np.array_equal(sample.measured_m, truth["joints"][a])


PLACES = {
    "threedpw": ("validation", "imageFiles/s_1/image_{:05d}.jpg", {"sequence": "s_1"}),
    "human36m": (
        "validation",
        "images/s_08_act_02/s_08_act_02_{:06d}.jpg",
        {"subject": 8, "action": 0, "subaction": 1, "cameras": [2] * 4, "frames": [0, 5, 10, 15]},
    ),
    "freihand": ("test", "evaluation/rgb/{:08d}.jpg", {"first": 0}),
}


@pytest.mark.parametrize("dataset", PLACES)
def test_what_the_studio_writes_is_what_the_reader_gives(tmp_path, dataset):
    split, name, place = PLACES[dataset]
    people = random_people(np.random.default_rng(7), 4)
    people["betas"][:] = people["betas"][0]
    if dataset == "human36m":
        people |= {key: np.repeat(people[key][:1], 4, axis=0) for key in ("R", "t", "K")}
    if dataset == "freihand":
        people |= {"poses": 0.2 * people["poses"][:, :48], "trans": 0.2 * people["t"]}
        people |= {"R": np.tile(np.eye(3), (4, 1, 1)), "t": np.zeros((4, 3))}
        tensors = (torch.from_numpy(people[k]).float() for k in ("betas", "poses", "trans"))
        vertices, joints = (x.numpy() for x in toy_model("hand").pose(*tensors))
    else:
        vertices, joints = posed_in_camera(people)
    names = tuple(name.format(i) for i in range(4))
    take = Take(dataset, split, 0, 0, names, place)
    arrays = people | {"pose": people["poses"]}
    model = toy_model("hand" if dataset == "freihand" else "body")
    layouts.write(dataset, tmp_path / dataset, [take], [arrays], model, PX)
    for image in names:
        picture(tmp_path / dataset / image)
    samples = listed(tmp_path, dataset, split)
    assert [s.image for s in samples] == [tmp_path / dataset / image for image in names]
    for i, sample in enumerate(samples):
        assert agrees(sample, vertices[i], joints[i], people["K"][i])


@pytest.mark.parametrize("dataset", ["threedpw", "human36m", "freihand"])
def test_splits_share_no_person_and_no_image(pristine, dataset):
    people, images = [], []
    for split in ("train", "validation", "test"):
        samples = listed(pristine, dataset, split)
        people.append({s.person for s in samples})
        images += [s.image for s in samples]
    assert all(people) and len(set.union(*people)) == sum(map(len, people))
    assert len(set(images)) == len(images)


def test_freihand_validates_on_the_last_stretch_in_its_first_version(pristine):
    assert [int(s.image.stem) for s in listed(pristine, "freihand", "validation")] == [19]
    train = [int(s.image.stem) for s in listed(pristine, "freihand", "train")]
    assert train == [*range(19), *range(20, 39)]


@given(n=st.integers(2, 40000))
def test_freihand_holds_out_a_twentieth(n):
    held_out = n - freihand.first_held_out(n)
    assert held_out == n // 20
    stretch = np.arange(n) * freihand.STRETCHES // n
    assert (stretch[freihand.first_held_out(n) :] == freihand.STRETCHES - 1).all()


def edit_pickle(path: Path, change) -> None:
    content = pickle.loads(path.read_bytes(), encoding="latin1")
    change(content)
    path.write_bytes(pickle.dumps(content, protocol=2))


def edit_json(path: Path, change) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_frames_that_show_nobody_are_skipped_and_counted(sets):
    def spoil(content):
        content["campose_valid"][0][0] = 0
        content["trans"][0][1] += content["cam_poses"][1][:3, :3].T @ [0, 0, -4.0]
        content["trans"][0][2] += content["cam_poses"][2][:3, :3].T @ [9.0, 0, 0]

    edit_pickle(sets / "threedpw/sequenceFiles/test/walk_04.pkl", spoil)
    skipped = Counter()
    assert listed(sets, "threedpw", "test", skipped) == []
    assert skipped == {"camera pose unknown": 1, "behind the camera": 1, "outside the image": 1}


def test_bad_body_fits_are_skipped_and_counted(sets):
    annotations = sets / "human36m/annotations"
    edit_json(annotations / "Human36M_subject8_smpl_param.json", lambda c: c["2"]["1"].pop("0"))

    def bend(content):
        content["2"]["1"]["5"] = (3 * np.array(content["2"]["1"]["5"])).tolist()

    edit_json(annotations / "Human36M_subject8_joint_3d.json", bend)
    skipped = Counter()
    samples = listed(sets, "human36m", "validation", skipped)
    assert [s.image.stem[-6:] for s in samples] == ["000011"]
    assert skipped == {"no body fit": 1, "joints far from the body fit": 1}


def test_human36m_takes_every_fifth_frame_and_tests_by_the_fourth_camera(sets):
    def other_views(content):
        content["images"][0]["cam_idx"] = 1
        content["images"][1]["frame_idx"] = 6

    for subject, split in ((8, "validation"), (9, "test")):
        annotations = sets / "human36m/annotations"
        edit_json(annotations / f"Human36M_subject{subject}_data.json", other_views)
        path = annotations / f"Human36M_subject{subject}_camera.json"
        edit_json(path, lambda content: put(content, "1", content["4"]))
        stems = [s.image.stem for s in listed(sets, "human36m", split) if s.person != "S11"]
        kept = ["000001", "000011"] if split == "validation" else ["000011"]
        assert [stem[-6:] for stem in stems] == kept


def cut(path: Path, share: float = 0.6) -> None:
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])


PKL = "threedpw/sequenceFiles/test/walk_04.pkl"
JPG = "threedpw/imageFiles/walk_04/image_00001.jpg"
H36M = "human36m/annotations/Human36M_subject8_"
FREI = "freihand/evaluation_"


def pkl(change):
    return lambda path: edit_pickle(path, change)


def jsn(change):
    return lambda path: edit_json(path, change)


def new(make):
    return lambda path: path.write_text(json.dumps(make(json.loads(path.read_text()))))


def first(content: dict) -> dict:
    return content["2"]["1"]["0"]


def put(container, key, value) -> None:
    container[key] = value


def scaled(factor):
    return lambda content: (factor * np.array(content)).tolist()


def scale_trans(content: dict) -> None:
    for fit in content["2"]["1"].values():
        fit["trans"] = [[1000.0 * x for x in fit["trans"][0]]]


FAULTS = [
    ("threedpw", JPG, Path.unlink, "not there"),
    ("threedpw", JPG, lambda p: p.write_bytes(b""), "empty or not an image"),
    ("threedpw", JPG, lambda p: p.write_text("<html>"), "empty or not an image"),
    ("threedpw", JPG, cut, "cut off"),
    ("threedpw", "threedpw/sequenceFiles/test", shutil.rmtree, "README"),
    ("threedpw", PKL, cut, "cut off"),
    ("threedpw", PKL, lambda p: p.write_text("hello"), "not a whole pickle"),
    ("threedpw", PKL, lambda p: p.write_bytes(pickle.dumps([1], protocol=2)), "another data set"),
    ("threedpw", PKL, pkl(lambda c: c.pop("cam_poses")), "lacks cam_poses"),
    ("threedpw", PKL, pkl(lambda c: put(c["poses"][0][1], 3, np.nan)), "NaN"),
    ("threedpw", PKL, pkl(lambda c: put(c["trans"], 0, c["trans"][0][:2])), "not 3 x 3"),
    ("threedpw", PKL, pkl(lambda c: put(c["trans"], 0, c["trans"][0] * 3000)), "millimetres"),
    ("threedpw", PKL, pkl(lambda c: put(c["poses"], 0, -c["poses"][0])), "another body model"),
    ("threedpw", PKL, pkl(lambda c: c["betas"].append(c["betas"][0])), "2 people"),
    ("threedpw", PKL, pkl(lambda c: put(c, "cam_poses", 2 * c["cam_poses"])), "not a rotation"),
    ("threedpw", PKL, pkl(lambda c: put(c, "cam_intrinsics", np.eye(3))), "no camera matrix"),
    ("human36m", H36M + "data.json", Path.unlink, "not there"),
    ("human36m", H36M + "smpl_param.json", cut, "not whole JSON"),
    ("human36m", H36M + "data.json", new(lambda c: [c]), "holds a list"),
    ("human36m", H36M + "data.json", jsn(lambda c: put(c, "images", [])), "lists no images"),
    ("human36m", H36M + "data.json", jsn(lambda c: put(c["images"][0], "subject", 9)), "subject 9"),
    ("human36m", H36M + "data.json", jsn(lambda c: c["images"][1].pop("cam_idx")), "lacks cam_idx"),
    ("human36m", H36M + "camera.json", jsn(lambda c: put(c["4"], "t", [0.1, 0, 4])), "millimetres"),
    ("human36m", H36M + "camera.json", new(lambda c: {"1": c["4"]}), "camera 4 of"),
    ("human36m", H36M + "camera.json", jsn(lambda c: c["4"].pop("f")), "lacks f"),
    ("human36m", H36M + "joint_3d.json", jsn(lambda c: put(c["2"], "1", {
        k: scaled(0.001)(v) for k, v in c["2"]["1"].items()})), "not millimetres"),
    ("human36m", H36M + "joint_3d.json", jsn(lambda c: first(c).pop()), "not an array"),
    ("human36m", H36M + "smpl_param.json", jsn(lambda c: first(c).pop("shape")), "lacks shape"),
    ("human36m", H36M + "smpl_param.json", jsn(lambda c: put(first(c), "pose", [0] * 69)), "pose"),
    ("human36m", H36M + "smpl_param.json", jsn(scale_trans), "100 m"),
    ("human36m", H36M + "smpl_param.json", jsn(lambda c: put(c, "2", {})), "has no fit for"),
    ("freihand", FREI + "verts.json", Path.unlink, "not there"),
    ("freihand", FREI + "verts.json", cut, "cut off"),
    ("freihand", FREI + "verts.json", lambda p: p.write_bytes(b""), "cut off"),
    ("freihand", FREI + "verts.json", lambda p: p.write_text('[[["a"]]]'), "not a number"),
    ("freihand", FREI + "verts.json", new(lambda c: [c[0]]), "has 1 entries"),
    ("freihand", FREI + "verts.json", new(lambda c: [v[:-1] for v in c]), "another hand model"),
    ("freihand", FREI + "verts.json", new(lambda c: c[::-1]), "belong together"),
    ("freihand", FREI + "verts.json", new(scaled(1000)), "divide by 1000"),
    ("freihand", FREI + "verts.json", jsn(lambda c: put(c[0][0], 0, np.nan)), "NaN"),
    ("freihand", FREI + "xyz.json", new(scaled(1000)), "divide by 1000"),
    ("freihand", FREI + "xyz.json", new(lambda c: [x[:16] for x in c]), "not n x 21 x 3"),
    ("freihand", FREI + "K.json", jsn(lambda c: put(c[1][0], 0, None)), "entry 1"),
    ("freihand", FREI[:-1] + "/rgb", lambda p: (p / "00000002.jpg").unlink(), "2 images for 3"),
]  # fmt: skip


@pytest.mark.parametrize(("dataset", "name", "spoil", "says"), FAULTS)
def test_a_wrong_file_is_named_in_one_line(sets, dataset, name, spoil, says):
    split = "validation" if dataset == "human36m" else "test"
    assert listed(sets, dataset, split)
    spoil(sets / name)
    with pytest.raises((ValueError, FileNotFoundError)) as caught:
        listed(sets, dataset, split)
    message = str(caught.value)
    assert str(sets / name) in message and says in message, message
    assert "\n" not in message and ";" in message


def test_a_renamed_sequence_is_noticed(sets):
    (sets / PKL).rename((sets / PKL).with_name("sit_00.pkl"))
    with pytest.raises(ValueError, match=r"sit_00\.pkl: is sequence 'walk_04'"):
        listed(sets, "threedpw", "test")


@given(
    points=hnp.arrays(
        np.float32,
        st.tuples(st.integers(1, 3), st.just(4), st.just(3)),
        elements=st.floats(-9, 9, width=32),
    ),
    chunk=st.integers(1, 80),
    indent=st.sampled_from([None, 1]),
)
def test_points_read_in_pieces_are_the_whole_json(tmp_path_factory, points, chunk, indent):
    path = tmp_path_factory.getbasetemp() / "points.json"
    path.write_text(json.dumps(points.tolist(), indent=indent))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(freihand, "CHUNK", chunk)
        assert np.array_equal(freihand.read_points(path, 4), points)


def test_image_size_is_width_then_height(tmp_path):
    picture(tmp_path / "x.jpg", (40, 30))
    assert image_size(tmp_path / "x.jpg") == (40, 30)


def test_unknown_names_say_what_is_known(tmp_path):
    with pytest.raises(ValueError, match="threedpw"):
        read("3dpw", tmp_path, "train", toy_model("body"))
    with pytest.raises(ValueError, match="validation"):
        read("threedpw", tmp_path, "val", toy_model("body"))
