"""The studio's sets depend on their seed alone, survive being killed, and read back as posed."""

import hashlib
import itertools
import json
import pickle
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from skimage.draw import polygon

from hmdiff.datasets import read
from hmdiff.studio import capture, photograph, raycast, takes
from hmdiff.studio.capture import capture_set, contact_sheet
from hmdiff.studio.wardrobe import figure

COUNTS = {
    "threedpw": {"train": 11, "validation": 3, "test": 6},
    "human36m": {"train": 8, "validation": 3, "test": 5},
    "freihand": {"train": 24, "validation": 2, "test": 6},
}
PX = {"threedpw": 96, "human36m": 80, "freihand": 64}
DATASETS = tuple(COUNTS)
SPLITS = ("train", "validation", "test")
SEED = 5


@pytest.fixture(scope="module")
def models(open_body, open_hand):
    return {"threedpw": open_body, "human36m": open_body, "freihand": open_hand}


def make(dataset: str, models: dict, out: Path, seed: int = SEED, workers: int = 1) -> pd.DataFrame:
    return capture_set(
        dataset, COUNTS[dataset], out, models[dataset], seed, PX[dataset], workers,
        out.with_name("scratch"), progress=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def sets(models, tmp_path_factory) -> dict[str, Path]:
    """One set of each kind, made in this process."""
    folder = tmp_path_factory.mktemp("studio")
    for dataset in DATASETS:
        make(dataset, models, folder / dataset)
    return {dataset: folder / dataset for dataset in DATASETS}


def content(root: Path) -> dict[str, str]:
    """Every file below a folder, and its bytes' hash."""
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def annotations(dataset: str, root: Path) -> dict[str, dict[str, np.ndarray]]:
    """By image: betas, pose, trans, R, t, K (metres, world to camera) as the files hold them, read
    without hmdiff. FreiHAND's world is the camera, and its files give no trans."""
    found = {}
    if dataset == "threedpw":
        for path in root.glob("sequenceFiles/*/*.pkl"):
            file = pickle.loads(path.read_bytes(), encoding="latin1")
            for i, number in enumerate(file["img_frame_ids"]):
                found[f"imageFiles/{path.stem}/image_{number:05d}.jpg"] = {
                    "betas": file["betas"][0], "pose": file["poses"][0][i],
                    "trans": file["trans"][0][i], "K": file["cam_intrinsics"],
                    "R": file["cam_poses"][i][:3, :3], "t": file["cam_poses"][i][:3, 3],
                }  # fmt: skip
    elif dataset == "human36m":
        for path in root.glob("annotations/*_data.json"):
            data, camera, fits = (
                json.loads(Path(str(path).replace("_data", f"_{kind}")).read_text())
                for kind in ("data", "camera", "smpl_param")
            )
            for image in data["images"]:
                keys = [str(image[f"{k}_idx"]) for k in ("action", "subaction", "frame", "cam")]
                fit, view = fits[keys[0]][keys[1]][keys[2]], camera[keys[3]]
                (fx, fy), (cx, cy) = view["f"], view["c"]
                found[f"images/{image['file_name']}"] = {
                    "betas": fit["shape"], "pose": fit["pose"], "trans": fit["trans"],
                    "R": view["R"], "t": np.array(view["t"]) / 1000,
                    "K": [[fx, 0, cx], [0, fy, cy], [0, 0, 1]],
                }  # fmt: skip
    else:
        for name in ("training", "evaluation"):
            K, mano = (json.loads((root / f"{name}_{k}.json").read_text()) for k in ("K", "mano"))
            for i, (row, k) in enumerate(zip(mano, K, strict=True)):
                found[f"{name}/rgb/{i:08d}.jpg"] = {
                    "betas": row[0][48:58], "pose": row[0][:48], "trans": np.zeros(3), "K": k,
                    "R": np.eye(3), "t": np.zeros(3),
                }  # fmt: skip
    return {name: {k: np.array(x, float) for k, x in a.items()} for name, a in found.items()}


def posed(model, a: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Vertices and joints in the camera."""
    rows = (torch.from_numpy(a[k][None]).float() for k in ("betas", "pose", "trans"))
    return tuple(x[0].double().numpy() @ a["R"].T + a["t"] for x in model.pose(*rows))


def split_of(root: Path) -> dict[str, str]:
    table = pd.read_parquet(root / "studio.parquet")
    return dict(zip(table["image"], table["split"], strict=True))


def samples(dataset: str, models: dict, root: Path) -> dict:
    """The readers' samples by image."""
    found = {}
    for split in SPLITS:
        for sample in read(dataset, root, split, models[dataset]):
            found[str(sample.image.relative_to(root))] = sample
    return found


@pytest.mark.parametrize("dataset", DATASETS)
def test_sets_have_the_images_asked_for(sets, dataset):
    """FreiHAND's reader cuts its training list itself, so there only the sum is given."""
    table = pd.read_parquet(sets[dataset] / "studio.parquet")
    counts, asked = Counter(table["split"]), dict(COUNTS[dataset])
    if dataset == "freihand":
        assert counts["train"] + counts["validation"] == asked["train"] + asked["validation"]
        assert counts["test"] == asked["test"] and counts["validation"] > 0
    else:
        assert counts == asked
    images = {str(p.relative_to(sets[dataset])) for p in sets[dataset].rglob("*.jpg")}
    assert images == set(table["image"]) == set(annotations(dataset, sets[dataset]))
    for name in images:
        with Image.open(sets[dataset] / name) as image:
            assert image.size == (PX[dataset], PX[dataset])
            assert np.asarray(image).std() > 3  # something is on it
    assert not (sets[dataset].parent / "scratch" / f"studio_{dataset}").exists()


@pytest.mark.parametrize("dataset", ["threedpw", "freihand"])
def test_same_seed_same_bytes_with_one_and_two_workers(sets, models, tmp_path, dataset):
    make(dataset, models, tmp_path / "two", workers=2)
    assert content(tmp_path / "two") == content(sets[dataset])


@pytest.mark.parametrize("dataset", DATASETS)
def test_another_seed_gives_other_images_and_people(sets, models, tmp_path, dataset):
    make(dataset, models, tmp_path / "other", seed=SEED + 1)
    ours, other = content(sets[dataset]), content(tmp_path / "other")
    assert set(ours) == set(other)
    assert not [name for name in ours if name.endswith(".jpg") and ours[name] == other[name]]
    a, b = (annotations(dataset, root) for root in (sets[dataset], tmp_path / "other"))
    for name in a:
        assert np.abs(a[name]["betas"] - b[name]["betas"]).max() > 0.01
        assert np.abs(a[name]["pose"] - b[name]["pose"]).max() > 0.01


@pytest.mark.parametrize("dataset", DATASETS)
def test_splits_share_no_person_and_nobody_takes_a_pose_twice(sets, models, dataset):
    a, split = annotations(dataset, sets[dataset]), split_of(sets[dataset])
    people, persons = {s: set() for s in SPLITS}, {s: set() for s in SPLITS}
    for name, values in a.items():
        people[split[name]].add(tuple(values["betas"].round(6)))
    for name, sample in samples(dataset, models, sets[dataset]).items():
        assert sample.split == split[name]
        persons[sample.split].add(sample.person)
    for one, other in itertools.combinations(SPLITS, 2):
        assert not people[one] & people[other]
        assert not persons[one] & persons[other]
    pose = np.stack([values["pose"][3:] for values in a.values()])  # the root's turn apart
    gaps = np.abs(pose[:, None] - pose).max(-1) + 9 * np.eye(len(pose))
    assert gaps.min() > 0.01


class Killed(Exception):
    pass


@pytest.mark.parametrize("dataset", DATASETS)
def test_a_killed_run_goes_on_where_it_was(sets, models, tmp_path, monkeypatch, dataset):
    """Killed in its third take, with that take's first image half written and a record begun: the
    next run shoots all takes but two, and ends with the bytes of a run that nobody killed."""
    shoot, shot = capture.shoot, []

    def until_killed(take, *rest):
        if len(shot) == 2:
            folder = tmp_path / "scratch" / f"studio_{dataset}"
            image = folder / "tree" / take.names[0]
            image.parent.mkdir(parents=True, exist_ok=True)
            image.write_bytes(b"\xff\xd8half")
            capture._record(folder, take).with_suffix(".part").write_bytes(b"PK")
            raise Killed
        shot.append(take)
        return shoot(take, *rest)

    monkeypatch.setattr(capture, "shoot", until_killed)
    with pytest.raises(Killed):
        make(dataset, models, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    again = []

    def counted(take, *rest):
        again.append(take)
        return shoot(take, *rest)

    monkeypatch.setattr(capture, "shoot", counted)
    make(dataset, models, tmp_path / "out")
    names = [take.names for take in shot + again]
    assert sorted(names) == sorted(t.names for t in takes.plan(dataset, COUNTS[dataset]))
    assert content(tmp_path / "out") == content(sets[dataset])


def test_what_a_killed_run_left_is_not_mixed_with_another_seed(sets, models, tmp_path, monkeypatch):
    """And a finished set is replaced as a whole: nothing of the old one stays."""
    shoot, shot = capture.shoot, []

    def until_killed(take, *rest):
        if len(shot) == 2:
            raise Killed
        shot.append(take)
        return shoot(take, *rest)

    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old.txt").write_text("old")
    with monkeypatch.context() as patch:
        patch.setattr(capture, "shoot", until_killed)
        with pytest.raises(Killed):
            make("freihand", models, tmp_path / "out", seed=SEED + 1)
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["old.txt"]
    make("freihand", models, tmp_path / "out")
    assert content(tmp_path / "out") == content(sets["freihand"])


def test_what_a_killed_run_left_is_not_mixed_with_other_code(models, tmp_path, monkeypatch):
    setting = (tmp_path / "scratch", "freihand", COUNTS["freihand"], models["freihand"], SEED, 64)
    left = capture._open_scratch(*setting) / "takes/a.npz"
    left.parent.mkdir()
    left.write_text("a take")
    assert capture._open_scratch(*setting) == tmp_path / "scratch" and left.is_file()
    monkeypatch.setattr(capture, "own_code", lambda: "other")
    capture._open_scratch(*setting)
    assert not left.exists()


@pytest.mark.parametrize("dataset", DATASETS)
def test_readers_find_what_was_posed(sets, models, dataset):
    """Every image gives a sample; its mesh and joints are the model's, posed here from the files'
    own parameters, to 0.1 mm; the rest follows from them by hand."""
    root, px = sets[dataset], PX[dataset]
    found, truth = samples(dataset, models, root), annotations(dataset, root)
    assert set(found) == set(truth)
    table = pd.read_parquet(root / "studio.parquet").set_index("image")
    for name, a in truth.items():
        sample = found[name]
        vertices, joints = posed(models[dataset], a)
        if dataset == "freihand":  # the files place the hand by its points alone
            moved = sample.joints_m[0] - joints[0]
            vertices, joints = vertices + moved, joints + moved
        assert 1000 * np.abs(sample.vertices_m - vertices).max() < 0.1
        assert 1000 * np.abs(sample.joints_m - joints).max() < 0.1
        np.testing.assert_allclose(sample.K, a["K"])
        image = vertices @ a["K"].T
        pixels = image[:, :2] / image[:, 2:]
        assert vertices[:, 2].min() > 0.05
        low, high = (np.clip(f(pixels, axis=0), 0, px) for f in (np.min, np.max))
        np.testing.assert_allclose(sample.box, [*low, *(high - low)], atol=0.05)
        inside = ((pixels >= 0) & (pixels < px)).all(1).mean()
        assert inside > 0.3
        assert table.loc[name, "truncated"] == pytest.approx(1 - inside, abs=2 / len(pixels))
        assert 0 < table.loc[name, "visible"] <= 1
        assert sample.box[2:].max() > 0.3 * px  # somebody to look at
    if dataset == "freihand":
        with open(root / "evaluation_mano.json") as file:
            row = json.load(file)[0][0]
        a = found["evaluation/rgb/00000000.jpg"]
        x, y, z = a.K @ a.joints_m[9]
        np.testing.assert_allclose(row[58:], [x / z, y / z, a.K[0, 0] / z], rtol=1e-4)


def silhouette(pixels: np.ndarray, faces: np.ndarray, px: int, fine: int = 4) -> np.ndarray:
    """px x px: which share of each pixel the projected triangles cover, filled by scikit-image."""
    canvas = np.zeros((fine * px, fine * px))
    for x, y in (fine * pixels - 0.5)[faces].transpose(0, 2, 1):  # a pixel's centre is whole there
        canvas[polygon(y, x, canvas.shape)] = 1
    return canvas.reshape(px, fine, px, fine).mean((1, 3))


@pytest.mark.parametrize("dataset", ["threedpw", "human36m"])
def test_the_picture_shows_the_person_where_the_annotation_says(models, monkeypatch, dataset):
    """What the ray caster drew of people with nothing beside them, against the annotated mesh as
    another program fills its triangles: the same place to a tenth of a pixel, the same area to 3%.
    """
    model, px, alone, final = models[dataset], 96, [], []
    render, expose = raycast.render, photograph.expose

    def render_spy(person, things, *rest):
        picture = render(person, things, *rest)
        alone.extend([] if things else [picture])
        return picture

    def expose_spy(picture, *rest):
        final.append(picture)
        return expose(picture, *rest)

    monkeypatch.setattr(raycast, "render", render_spy)
    monkeypatch.setattr(photograph, "expose", expose_spy)
    some, worn = takes.plan(dataset, COUNTS[dataset])[:5], figure(model)
    shots = [shot for take in some for shot in capture.shoot(take, model, worn, SEED, px)]
    checked = 0
    for shot, picture in zip(shots, final, strict=True):
        if not any(picture is other for other in alone):
            continue
        image = posed(model, {k: getattr(shot, k) for k in capture.FIELDS[:6]})[0] @ shot.K.T
        expected = silhouette(image[:, :2] / image[:, 2:], model.faces.numpy(), px)
        drawn, (x0, y0, x1, y1) = np.zeros((px, px)), picture.window
        drawn[y0:y1, x0:x1] = picture.rgba[..., 3]
        places = [np.argwhere(a > 0).T @ a[a > 0] / a.sum() for a in (drawn, expected)]
        assert np.abs(places[0] - places[1]).max() < 0.1
        assert drawn.sum() == pytest.approx(expected.sum(), rel=0.03)
        assert np.abs(drawn - expected).sum() < 0.06 * expected.sum()
        checked += 1
    assert checked >= 3


@pytest.mark.parametrize(
    ("dataset", "counts", "model", "message"),
    [
        ("threedpw", None, "freihand", "studio.threedpw: shows a body, but got the hand model"),
        ("human36m", None, "freihand", "studio.human36m: shows a body, but got the hand model"),
        ("freihand", None, "threedpw", "studio.freihand: shows a hand, but got the body model"),
        ("coco", None, "threedpw", "studio: 'coco' is no data set; choose from threedpw"),
        ("threedpw", {"train": 0}, "threedpw", "studio.threedpw: needs positive counts for train"),
        ("freihand", {"test": -1}, "freihand", "studio.freihand: needs positive counts for train"),
        ("human36m", {"extra": 3}, "human36m", "studio.human36m: needs positive counts for train"),
    ],
)
def test_bad_requests_are_told_in_one_line(models, tmp_path, dataset, counts, model, message):
    counts = COUNTS["threedpw"] | (counts or {})
    with pytest.raises(ValueError, match=message) as error:
        capture_set(dataset, counts, tmp_path / "out", models[model], SEED, scratch=tmp_path / "s")
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("dataset", DATASETS)
def test_contact_sheet_shows_images_of_each_split(sets, tmp_path, dataset):
    root, px, columns = sets[dataset], PX[dataset] // 2, 4
    contact_sheet(root, tmp_path / "deep" / "sheet.png", columns=columns, rows_a_split=2)
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["sheet.png"]
    split = split_of(root)
    rows = [-(-min(8, n) // columns) for n in (Counter(split.values())[s] for s in SPLITS)]
    with Image.open(tmp_path / "deep" / "sheet.png") as sheet:
        assert sheet.format == "PNG"
        assert sheet.size == (columns * px, sum(18 + px * n for n in rows))
        pixels, top = np.asarray(sheet), 18
    for s, n in zip(SPLITS, rows, strict=True):
        first = min(name for name in split if split[name] == s)
        with Image.open(root / first) as image:
            halved = np.asarray(image).reshape(px, 2, px, 2, 3).mean((1, 3))
        np.testing.assert_allclose(pixels[top : top + px, :px], halved, atol=1)
        top += 18 + px * n


def test_contact_sheet_of_nothing_names_the_remedy(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"studio\.parquet: not there; run `dvc repro`"):
        contact_sheet(tmp_path, tmp_path / "sheet.png")


def test_speed_is_measured_and_leaves_nothing(models, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert capture.images_per_second("freihand", models["freihand"], 64, workers=1, takes=1) > 0
    assert not list((tmp_path / "data/.resume").iterdir())
