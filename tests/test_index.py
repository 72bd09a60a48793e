"""An index gives the samples that the readers give, and is never half written."""

from collections import Counter

import numpy as np
import pyarrow.parquet as pq
import pytest
from mix_writers import people_in_camera, write_pose2mesh, write_spin, write_tsv
from test_datasets import toy_model, write_human36m, write_threedpw

from hmdiff.datasets import FILTERS, read, tsv
from hmdiff.datasets.index import SCHEMA, Source, build_index, samples
from hmdiff.pipeline import bench


@pytest.fixture(scope="module")
def mix(tmp_path_factory) -> list[Source]:
    root, people = tmp_path_factory.mktemp("mix"), people_in_camera(5, seed=2)
    write_tsv(root / "coco", people, "coco")
    write_spin(root / "mpii", people, "mpii", "mpii_train.npz")
    write_pose2mesh(root / "muco", people, "muco")
    for i, split in enumerate(("train", "train", "test")):
        write_threedpw(root / "threedpw", split, f"walk_{i:02d}", 3, seed=i)
    for subject in (1, 5, 6, 7):
        write_human36m(root / "human36m", subject, 2, seed=subject)
    return [
        Source("coco", "tsv", root / "coco"),
        Source("threedpw", "threedpw", root / "threedpw", ("train", "test")),
        Source("mpii", "spin", root / "mpii"),
        Source("muco", "pose2mesh", root / "muco"),
        Source("human36m", "human36m", root / "human36m"),
    ]


def from_readers(mix: list[Source], filters=FILTERS["reader"]) -> list:
    model = toy_model("body")
    return [
        sample
        for dataset, layout, root, splits in mix
        for split in splits
        for sample in read(dataset, root, split, model, None, layout, filters)
    ]


def same(a, b) -> bool:
    """Equal, as far as float32 parameters tell."""
    return (
        (a.image, a.dataset, a.split, a.person, a.given)
        == (b.image, b.dataset, b.split, b.person, b.given)
        and np.abs(a.vertices_m - b.vertices_m).max() < 1e-5
        and np.abs(a.joints_m - b.joints_m).max() < 1e-5
        and np.abs(a.box - b.box).max() < 0.01
        and (a.K is None) == (b.K is None)
        and (a.K is None or np.allclose(a.K, b.K, rtol=1e-6))
    )


def test_an_index_gives_what_its_readers_give(mix, tmp_path):
    assert build_index(mix, tmp_path / "mix.parquet") == 5 + 9 + 5 + 5 + 8
    found = list(samples(tmp_path / "mix.parquet", toy_model("body")))
    expected = from_readers(mix)
    assert len(found) == 32 and all(map(same, found, expected))
    assert {a.K is None for a in found} == {True, False}


def test_filters_hold_for_an_index_as_for_a_reader(mix, tmp_path):
    build_index(mix, tmp_path / "mix.parquet")
    strict = FILTERS["metro"].__class__(fit_mm=1e-4, least_visible=3)
    skipped = Counter()
    muco = [s for s in mix if s.dataset == "muco"]
    build_index(muco, tmp_path / "muco.parquet")
    lax = FILTERS["reader"].__class__(least_visible=3)
    found = list(samples(tmp_path / "muco.parquet", toy_model("body"), skipped, lax))
    assert len(found) == 3 == len(from_readers(muco, lax))
    assert skipped["too few joints visible"] == 2
    with pytest.raises(ValueError, match="body fits over 0.0001 mm off"):
        list(samples(tmp_path / "mix.parquet", toy_model("body"), None, strict))


def test_rows_say_where_an_image_is(mix, tmp_path):
    build_index(mix, tmp_path / "mix.parquet")
    table = pq.read_table(tmp_path / "mix.parquet").to_pandas()
    coco = table[table["dataset"] == "coco"]
    starts = tsv.line_starts(mix[0].root / "train.img.tsv")
    assert coco["offset"].tolist() == starts.tolist()
    assert set(coco["image"]) == {str(mix[0].root / "train.img.tsv")}
    assert (table.loc[table["dataset"] != "coco", "offset"] == -1).all()
    assert pq.read_schema(tmp_path / "mix.parquet").field("poses").type.value_type == "float"
    assert table["has_mesh"].all() and not table["has_joints_3d"].all()


def test_blocks_are_row_groups_so_that_memory_does_not_grow(mix, tmp_path, monkeypatch):
    monkeypatch.setattr(tsv, "BLOCK", 2)
    build_index(mix[:1], tmp_path / "mix.parquet")
    assert pq.ParquetFile(tmp_path / "mix.parquet").num_row_groups == 3
    found = list(samples(tmp_path / "mix.parquet", toy_model("body")))
    assert all(map(same, found, from_readers(mix[:1])))


def test_a_broken_source_leaves_the_earlier_index(mix, tmp_path):
    out = tmp_path / "mix.parquet"
    build_index(mix[:1], out)
    before = out.read_bytes()
    with pytest.raises(FileNotFoundError, match="not there"):
        build_index([*mix[:2], Source("mpii", "spin", tmp_path / "nowhere")], out)
    assert out.read_bytes() == before and list(tmp_path.iterdir()) == [out]


def test_freihands_meshes_are_no_rows(tmp_path):
    with pytest.raises(ValueError, match="use layout 'tsv'"):
        build_index([Source("freihand", "freihand", tmp_path)], tmp_path / "x.parquet")


@pytest.mark.parametrize("spoil", ["cut", "other", "missing", "text"])
def test_a_wrong_index_is_named_in_one_line(mix, tmp_path, spoil):
    out = tmp_path / "mix.parquet"
    build_index(mix[:1], out)
    if spoil == "cut":
        out.write_bytes(out.read_bytes()[:-50])
    elif spoil == "other":
        pq.write_table(pq.read_table(out).drop_columns(["poses"]), out)
    elif spoil == "text":
        out.write_text("hello")
    else:
        out.unlink()
    with pytest.raises((ValueError, FileNotFoundError), match=r"mix\.parquet: ") as caught:
        list(samples(out, toy_model("body")))
    assert "\n" not in str(caught.value)


def test_the_benchs_mix_is_one_that_the_reader_takes(tmp_path):
    source = bench.write_mix(tmp_path, rows=3, shards=2)
    assert build_index([source], tmp_path / "mix.parquet") == 6
    images = [sample.image for sample in samples(tmp_path / "mix.parquet", toy_model("body"))]
    assert len(images) == 6 and bench.cut_speed(images[:1] * bench.BATCH, 32) > 0


def test_the_schema_holds_float32_only():
    kinds = {str(SCHEMA.field(name).type) for name in ("betas", "poses", "trans", "K", "boxes")}
    assert len(kinds) == 1 and "float" in kinds.pop()
