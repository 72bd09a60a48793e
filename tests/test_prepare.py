"""The prepared arrays hold what the readers gave, in the promised order, and never by halves."""

import json
import tracemalloc
from collections import Counter
from dataclasses import replace
from itertools import islice
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mix_writers import metro_boxes, people_in_camera, tight_boxes, write_spin, write_tsv
from test_datasets import toy_model, write_freihand, write_human36m, write_threedpw

from hmdiff.datasets import DATASETS, FILTERS, Sample, read
from hmdiff.datasets.human36m import H36M_LIMBS, SMPL_LIMBS
from hmdiff.params import Extra
from hmdiff.prepare import Scratch, balance, prepare

COARSE = {
    "body": SimpleNamespace(ids=np.arange(3, 6890, 16)),
    "hand": SimpleNamespace(ids=np.arange(1, 778, 4)),
}
KEPT = 4


@pytest.fixture(scope="module")
def sets(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("raw")
    splits = ["train"] * 5 + ["validation", "test"]
    for i, split in enumerate(splits):
        write_threedpw(root / "threedpw", split, f"walk_{i:02d}", 3, seed=i)
    for subject in (1, 5, 6, 7, 8, 9, 11):
        write_human36m(root / "human36m", subject, 2, seed=subject)
    write_freihand(root / "freihand", "training", 40, 1, seed=1)
    write_freihand(root / "freihand", "evaluation", 3, 1, seed=2)
    return root


def settings(extra: tuple[Extra, ...] = (), layouts: dict | None = None) -> SimpleNamespace:
    """The parameters of `prepare`."""
    own = layouts or {}
    return SimpleNamespace(phi_fraction=0.6, upsampler_meshes=KEPT, layouts=own, extra=extra)


def run(
    subject: str, sets: Path, out: Path, extra: tuple[Extra, ...] = (), measured: bool = False
) -> dict:
    roots = {name: sets / name for name in DATASETS[subject]}
    roots |= {e.dataset: sets / e.root for e in extra}
    places = (toy_model(subject), COARSE[subject], settings(extra), out, False)
    return prepare(subject, roots, *places, measured=measured)


@pytest.fixture(scope="module", params=["body", "hand"])
def prepared(request, sets, tmp_path_factory) -> SimpleNamespace:
    out = tmp_path_factory.mktemp("prepared") / request.param
    meta = run(request.param, sets, out)
    arrays = {path.stem: np.load(path) for path in out.glob("*.npy")}
    index = pd.read_parquet(out / "index.parquet")
    return SimpleNamespace(subject=request.param, out=out, meta=meta, index=index, **arrays)


def test_splits_are_contiguous_in_their_order(prepared):
    index = prepared.index
    assert index["row"].tolist() == list(range(len(index)))
    assert index["split"].drop_duplicates().tolist() == ["phi", "g", "val", "test"]
    assert (index["split"] != index["split"].shift()).sum() == 4
    assert prepared.meta["counts"] == index["split"].value_counts(sort=False).to_dict()


def test_no_person_is_on_two_sides(prepared):
    people = prepared.index.groupby("split").apply(
        lambda rows: set(zip(rows["dataset"], rows["person"], strict=True)), include_groups=False
    )
    assert len(set.union(*people)) == sum(map(len, people))
    for _, rows in prepared.index.groupby("dataset"):
        assert set(rows["split"]) == {"phi", "g", "val", "test"}


def test_every_row_is_the_sample_that_its_reader_gave(prepared, sets):
    model, ids = toy_model(prepared.subject), COARSE[prepared.subject].ids
    rows = dict(zip(prepared.index["image"], prepared.index["row"], strict=True))
    starts = prepared.index.groupby("split")["row"].min()
    seen = 0
    for dataset in DATASETS[prepared.subject]:
        for split in ("train", "validation", "test"):
            for sample in read(dataset, sets / dataset, split, model):
                i = rows[sample.image.as_posix()]
                row = prepared.index.iloc[i]
                root = sample.joints_m[0]
                assert row["split"] in {"train": ("phi", "g"), "validation": ("val",)}.get(
                    split, ("test",)
                )
                assert row["dataset"] == dataset and row["person"] == sample.person
                assert np.allclose(row[["root_x", "root_y", "root_z"]].astype(float), root)
                assert np.allclose(
                    row[["box_x", "box_y", "box_w", "box_h"]].astype(float), sample.box
                )
                K = [[row.fx, 0, row.cx], [0, row.fy, row.cy], [0, 0, 1]]
                assert np.allclose(K, sample.K)
                assert np.allclose(prepared.joints[i], sample.joints_m - root, atol=1e-6)
                assert np.allclose(prepared.h0[i], (sample.vertices_m - root)[ids], atol=1e-6)
                if row["split"] in ("val", "test"):
                    mesh = getattr(prepared, f"mesh_{row['split']}")[i - starts[row["split"]]]
                    assert np.allclose(mesh, sample.vertices_m - root, atol=1e-6)
                seen += 1
    assert seen == len(prepared.index) == len(prepared.h0) == len(prepared.joints)


def test_full_meshes_of_g_belong_to_its_first_rows(prepared):
    g = prepared.index.query("split == 'g'")["row"].to_numpy()
    assert len(prepared.mesh_g) == KEPT < len(g)
    ids = COARSE[prepared.subject].ids
    assert np.array_equal(prepared.mesh_g[:, ids], prepared.h0[g[:KEPT]])


def test_everything_is_root_relative_float32(prepared):
    assert (prepared.joints[:, 0] == 0).all()
    arrays = (prepared.joints, prepared.h0, prepared.mesh_g, prepared.mesh_val, prepared.mesh_test)
    assert all(array.dtype == np.float32 for array in arrays)


def test_scale_is_the_spread_of_all_coordinates_of_g(prepared):
    h0 = prepared.h0[prepared.index["split"] == "g"].astype(np.float64)
    assert np.isclose(prepared.meta["scale_m"], h0.std(), rtol=1e-9)
    assert np.allclose(prepared.meta["mean_m"], h0.mean(axis=(0, 1)), atol=1e-9)
    assert json.loads((prepared.out / "meta.json").read_text()) == prepared.meta


def test_two_runs_write_the_same_bytes_and_nothing_else(prepared, sets, tmp_path):
    run(prepared.subject, sets, tmp_path / prepared.subject)
    again = {path.name: path.read_bytes() for path in (tmp_path / prepared.subject).iterdir()}
    assert again == {path.name: path.read_bytes() for path in prepared.out.iterdir()}
    assert sorted(again) == sorted(
        ["index.parquet", "meta.json", "h0.npy", "joints.npy"]
        + [f"mesh_{split}.npy" for split in ("g", "val", "test")]
    )
    assert [path.name for path in tmp_path.iterdir()] == [prepared.subject]


def test_a_fault_leaves_the_earlier_result_as_it_was(sets, tmp_path):
    out = tmp_path / "hand"
    out.mkdir()
    (out / "meta.json").write_text("earlier")
    image = sets / "freihand/evaluation/rgb/00000001.jpg"
    whole = image.read_bytes()
    image.write_bytes(whole[:100])
    try:
        with pytest.raises(ValueError, match=r"00000001\.jpg"):
            run("hand", sets, out)
    finally:
        image.write_bytes(whole)
    assert (out / "meta.json").read_text() == "earlier"
    assert [path.name for path in tmp_path.iterdir()] == ["hand"]


def mocap_of(sets: Path, image: str) -> np.ndarray:
    """The joints that the file has for an image of Human3.6M, in the camera, rooted, metres."""
    subject, frame = int(Path(image).name[2:4]), int(Path(image).stem[-6:]) - 1
    read_part = lambda kind: json.loads(  # noqa: E731
        (sets / f"human36m/annotations/Human36M_subject{subject}_{kind}.json").read_text()
    )
    world = np.array(read_part("joint_3d")["2"]["1"][str(frame)])
    R = np.array(read_part("camera")["4"]["R"])
    return (world - world[0]) @ R.T / 1000


def test_measured_joints_are_kept_where_a_regressor_reads_the_others(prepared, sets, tmp_path):
    if prepared.subject == "hand":
        return
    regressor = np.zeros((17, 6890), np.float32)
    own = np.asarray(toy_model("body").joint_regressor)
    regressor[H36M_LIMBS] = own[SMPL_LIMBS]
    roots = {name: sets / name for name in DATASETS["body"]}
    places = (toy_model("body"), COARSE["body"], settings(), tmp_path / "out")
    # Only limbs are true in these files; their other joints lie at the world's origin.
    write = lambda: prepare("body", roots, *places, False, regressor, True)  # noqa: E731
    with pytest.raises(ValueError, match="body fits over 50 mm off"):
        write()
    monkey = pytest.MonkeyPatch()
    monkey.setitem(FILTERS, "reader", replace(FILTERS["reader"], rows=tuple(H36M_LIMBS)))
    write()
    monkey.undo()
    index = pd.read_parquet(tmp_path / "out/index.parquet")
    for split in ("val", "test"):
        rows, mocap = index[index["split"] == split], np.load(tmp_path / f"out/mocap_{split}.npy")
        assert mocap.shape == (len(rows), 17, 3) and mocap.dtype == np.float32
        for row, joints in zip(rows.itertuples(), mocap, strict=True):
            if row.dataset == "threedpw":
                assert np.isnan(joints).all()
            else:
                assert np.allclose(joints, mocap_of(sets, row.image), atol=1e-6)
    for path in prepared.out.iterdir():  # all else is as without
        assert path.read_bytes() == (tmp_path / "out" / path.name).read_bytes(), path.name


def test_measured_joints_of_hands_are_the_files_own(prepared, tmp_path):
    """Not those of its meshes, which are moved a little here."""
    if prepared.subject == "body":
        return
    write_freihand(tmp_path / "freihand", "training", 40, 1, seed=1)
    write_freihand(tmp_path / "freihand", "evaluation", 3, 1, seed=2)
    xyz, rng = {}, np.random.default_rng(0)
    for name in ("training", "evaluation"):
        path = tmp_path / f"freihand/{name}_xyz.json"
        xyz[name] = np.array(json.loads(path.read_text())) + rng.normal(0, 0.002, (1, 21, 3))
        path.write_text(json.dumps(xyz[name].tolist()))
    run("hand", tmp_path, tmp_path / "without")
    run("hand", tmp_path, tmp_path / "out", measured=True)
    for split, name, rows in (("val", "training", [38, 39]), ("test", "evaluation", [0, 1, 2])):
        kept, truth = np.load(tmp_path / f"out/mocap_{split}.npy"), xyz[name][rows]
        assert kept.shape == (len(rows), 21, 3) and kept.dtype == np.float32
        assert np.allclose(kept, truth - truth[:, :1], atol=1e-6)
    for path in (tmp_path / "without").iterdir():  # all else is as without
        assert path.read_bytes() == (tmp_path / "out" / path.name).read_bytes(), path.name
    assert not list((tmp_path / "without").glob("mocap*"))


def test_a_row_costs_next_to_no_memory(tmp_path):
    scratch, still = Scratch(tmp_path, 4), np.zeros((30, 3), np.float32)
    tracemalloc.start()
    for i in range(5000):
        name = f"COCO_train2014_{i:012d}.jpg"
        sample = Sample(Path("a") / name, "coco", "train", name, None, np.ones(4), still, still)
        scratch.add("phi", sample, np.arange(5))
        if i == 1000:
            before = tracemalloc.get_traced_memory()[0]
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert grown < 40 * 4000
    assert [row["person"] for row in islice(scratch.rows_of("phi"), 2)][1].endswith("01.jpg")
    scratch.close()


def test_a_data_set_without_usable_samples_is_named(sets, tmp_path):
    write_threedpw(tmp_path / "threedpw", "train", "walk_00", 2, seed=0)
    for split in ("validation", "test"):
        write_threedpw(tmp_path / "threedpw", split, f"run_{split}", 2, seed=1)
    roots = {"threedpw": tmp_path / "threedpw", "human36m": sets / "human36m"}
    arguments = (toy_model("body"), COARSE["body"], settings(), tmp_path / "out", False)
    with pytest.raises(ValueError, match="threedpw: only one person or sequence"):
        prepare("body", roots, *arguments)
    with pytest.raises(ValueError, match="human36m"):
        prepare("body", {"threedpw": roots["threedpw"]}, *arguments)


EXTRA = (
    Extra(dataset="coco", layout="tsv", root=Path("tsv/coco")),
    Extra(dataset="mpii", layout="spin", root=Path("spin/mpii"), filter="metro"),
)
LENS = ["fx", "fy", "cx", "cy", "root_x", "root_y", "root_z"]


def write_extra(sets: Path) -> dict[str, dict]:
    """Five people in METRO's layout, five others in SPIN's; who they are, by data set."""
    people = {name: people_in_camera(5, seed) for seed, name in enumerate(("coco", "mpii"))}
    write_tsv(sets / "tsv/coco", people["coco"], "coco")
    write_spin(sets / "spin/mpii", people["mpii"], "mpii", "mpii_train.npz")
    return people


@pytest.fixture(scope="module")
def mixed(sets, tmp_path_factory) -> SimpleNamespace:
    """The body prepared without and with two sets that have no cameras, and who is in them."""
    tmp, found = tmp_path_factory.mktemp("mixed"), SimpleNamespace(people=write_extra(sets))
    for name, extra in (("alone", ()), ("both", EXTRA)):
        meta = run("body", sets, tmp / name, extra)
        index = pd.read_parquet(tmp / name / "index.parquet")
        arrays = {a: np.load(tmp / name / f"{a}.npy") for a in ("joints", "h0", "mesh_g")}
        setattr(found, name, SimpleNamespace(meta=meta, index=index, **arrays))
    return found


def test_extra_sets_only_train_and_have_no_camera(mixed):
    index = mixed.both.index
    extra = index[index["dataset"].isin(mixed.people)]
    assert index["split"].drop_duplicates().tolist() == ["phi", "g", "val", "test"]
    assert extra.groupby("dataset")["split"].agg(set).to_dict() == {
        name: {"phi", "g"} for name in mixed.people
    }
    assert extra[LENS].isna().all(axis=None)
    assert index.drop(extra.index)[LENS].notna().all(axis=None)
    assert index[["box_x", "box_y", "box_w", "box_h"]].notna().all(axis=None)
    assert mixed.both.meta["counts"]["phi"] + mixed.both.meta["counts"]["g"] == 10 + sum(
        mixed.alone.meta["counts"][split] for split in ("phi", "g")
    )
    sides = index.groupby(["dataset", "person"])["split"].nunique()
    assert (sides == 1).all()


@pytest.mark.parametrize("name", ["coco", "mpii"])
def test_rows_of_an_extra_set_are_the_people_in_it(mixed, name):
    people, both = mixed.people[name], mixed.both
    rows = both.index[both.index["dataset"] == name].sort_values("person", key=number_in)
    centre, scale = metro_boxes(tight_boxes(people))
    assert len(rows) == 5
    for i, row in enumerate(rows.itertuples()):
        root = people["joints"][i, 0]
        assert np.abs(both.joints[row.row] - (people["joints"][i] - root)).max() < 1e-4
        coarse = (people["vertices"][i] - root)[COARSE["body"].ids]
        assert np.abs(both.h0[row.row] - coarse).max() < 1e-4
        side = 200 * scale[i] / 1.2
        assert np.allclose([row.box_w, row.box_h], side)
        assert np.allclose([row.box_x + side / 2, row.box_y + side / 2], centre[i])


def number_in(names: pd.Series) -> pd.Series:
    """The number at the end of an image's name."""
    return names.str.extract(r"(\d+)\.jpg$")[0].astype(int)


def test_extra_sets_leave_the_studys_own_as_they_are(mixed):
    alone, both = (
        part.index.set_index("image").assign(joints=list(part.joints), h0=list(part.h0))
        for part in (mixed.alone, mixed.both)
    )
    pd.testing.assert_frame_equal(
        alone.drop(columns="row").sort_index(),
        both.loc[alone.index].drop(columns="row").sort_index(),
    )
    g = mixed.both.index.query("split == 'g'")["row"].to_numpy()
    kept = mixed.both.mesh_g[:, COARSE["body"].ids]
    assert np.array_equal(kept, mixed.both.h0[g[: len(kept)]])


def test_extra_sets_of_bodies_are_none_of_the_hands(sets, tmp_path, mixed):
    run("hand", sets, tmp_path / "alone")
    run("hand", sets, tmp_path / "both", EXTRA)
    alone, both = (
        {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()}
        for name in ("alone", "both")
    )
    assert alone == both


def test_an_extra_set_that_is_not_there_is_named(sets, tmp_path):
    extra = (Extra(dataset="muco", layout="tsv", root=Path("tsv/muco")),)
    with pytest.raises(FileNotFoundError, match=r"tsv/muco/train\.yaml: not there") as caught:
        run("body", sets, tmp_path / "body", extra)
    assert "\n" not in str(caught.value) and not list(tmp_path.iterdir())
    write_tsv(sets / "tsv/muco", people_in_camera(1, 0), "muco")
    with pytest.raises(ValueError, match="muco: only one person"):
        run("body", sets, tmp_path / "body", extra)
    assert not list(tmp_path.iterdir())


def test_a_set_of_the_study_is_read_in_the_layout_that_is_named(sets, tmp_path):
    """Human3.6M as METRO's files have it: whom they show, and no cameras."""
    people, root = people_in_camera(6, seed=3), tmp_path / "h36m"
    keys = [f"S{s}_Walking.60457274_{i:06d}.jpg" for i, s in enumerate((1, 5, 6, 7, 8, 8))]
    write_tsv(root, people, "human36m", keys=keys)
    tested = people_in_camera(2, seed=4)
    write_tsv(root, tested, "human36m", "valid.protocol2", keys=["S9_a_1.jpg", "S11_a_2.jpg"])
    places = (toy_model("body"), COARSE["body"])
    roots, out = {"threedpw": sets / "threedpw", "human36m": root}, tmp_path / "out"
    prepare("body", roots, *places, settings(layouts={"human36m": "tsv"}), out, False)
    index, joints = pd.read_parquet(out / "index.parquet"), np.load(out / "joints.npy")
    rows = index[index["dataset"] == "human36m"]
    assert rows.groupby("split")["person"].agg(set).to_dict()["val"] == {"S8"}
    assert set(rows[rows["split"] == "test"]["person"]) == {"S9", "S11"}
    assert set(rows[rows["split"].isin(["phi", "g"])]["person"]) == {"S1", "S5", "S6", "S7"}
    assert rows[LENS].isna().all(axis=None)
    assert index.drop(rows.index)[LENS].notna().all(axis=None)
    test = joints[rows[rows["split"] == "test"]["row"]]
    assert np.abs(test - (tested["joints"] - tested["joints"][:, :1])).max() < 1e-4
    with pytest.raises(FileNotFoundError, match="h36m/annotations: not there"):
        prepare("body", roots, *places, settings(), out, False)


@given(sizes=st.lists(st.integers(1, 60), min_size=2), share=st.floats(0.1, 0.9))
def test_balance_misses_the_share_by_less_than_one_person(sizes, share):
    counts = Counter()
    for size in sizes:
        counts[balance(counts, share)] += size
    assert abs(counts["phi"] - share * sum(sizes)) <= max(sizes)


def test_the_choice_of_full_meshes_is_even(tmp_path):
    n, kept, counts = 40, 10, np.zeros(40)
    for trial in range(300):
        scratch = Scratch(tmp_path, kept)
        scratch.rng = np.random.default_rng(trial)
        for place in range(n):
            scratch._maybe_keep(place, np.full((2, 3), place, np.float32))
        assert np.array_equal(scratch.array("mesh_g")[:, 0, 0], scratch.reservoir)
        scratch.close()
        counts[scratch.reservoir] += 1
    assert counts.sum() == 300 * kept and np.abs(counts / 300 - kept / n).max() < 0.12
