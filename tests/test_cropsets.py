"""Batches are what their plan says, whoever cuts them."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from hmdiff import crops
from hmdiff.cropsets import AHEAD, read_crops

SCALE_M = 0.5


def write_prepared(folder, counts, px=32, joints=24, subject="body"):
    """A prepared subject of flat pictures with one bright square; returns data/prepared/subject."""
    rng = np.random.default_rng(0)
    prepared = folder / "prepared" / subject
    prepared.mkdir(parents=True)
    rows, positions = [], []
    for split, count in counts.items():
        for _ in range(count):
            x, y = rng.integers(px // 8, px - px // 4, 2)
            picture = np.full((px, px, 3), 40, np.uint8)
            picture[y : y + px // 8, x : x + px // 8] = 230
            name = f"{len(rows):03d}.png"
            Image.fromarray(picture).save(folder / name)
            box = {"box_x": 0, "box_y": 0, "box_w": px, "box_h": px}
            box |= {"fx": px, "fy": px, "cx": px / 2, "cy": px / 2}
            box |= {"root_x": 0.0, "root_y": 0.0, "root_z": 1.0}
            rows.append({"split": split, "dataset": "toy", "image": name} | box)
            target = np.array([x / px - 0.5, y / px - 0.5, 0.3 - x / px * 0.5])
            positions.append(np.linspace(0, 1, joints)[:, None] * target)
    pd.DataFrame(rows).to_parquet(prepared / "index.parquet")
    np.save(prepared / "joints.npy", np.array(positions, np.float32))
    (prepared / "meta.json").write_text(json.dumps({"scale_m": SCALE_M}))
    return prepared


@pytest.fixture
def train(tmp_path):
    return read_crops(write_prepared(tmp_path, {"phi": 20, "val": 3}), "phi", tmp_path, 1.2)


def test_joints_are_normalised_and_rows_belong_together(tmp_path):
    prepared = write_prepared(tmp_path, {"phi": 5, "g": 2, "val": 3})
    val = read_crops(prepared, "val", tmp_path, 1.2)
    assert len(val) == 3
    assert [path.name for path in val.images] == ["007.png", "008.png", "009.png"]
    np.testing.assert_allclose(
        val.joints * SCALE_M, np.load(prepared / "joints.npy")[7:], rtol=1e-6
    )
    assert val.subject == "body"
    # The toy's camera has a focal length of its side and stands 1 m before the root.
    x, y, z = (val.joints[1, 5] * SCALE_M).tolist()
    np.testing.assert_allclose(
        val.pixels[1, 5], [32 * (x / (z + 1) + 0.5), 32 * (y / (z + 1) + 0.5)]
    )


@pytest.mark.parametrize("count", [1, AHEAD, AHEAD + 3])
def test_batches_come_in_order_and_equal_single_cuts(train, count):
    rng = np.random.default_rng(1)
    plan = [[(int(i), crops.augment(rng, "body")) for i in rng.permutation(20)[:3]]] * count
    batches = list(train.batches(plan, 48))
    assert len(batches) == count
    for (images, joints, shares), batch in zip(batches, plan, strict=True):
        assert images.shape == (3, 3, 48, 48)
        assert images.dtype == joints.dtype == torch.float32
        for i, (row, draw) in enumerate(batch):
            for got, part in zip((images, joints, shares), train.cut(row, 48, draw), strict=True):
                assert np.array_equal(got[i], part)


def test_in_order_takes_everything_once_as_it_is(train):
    plan = train.in_order(8)
    assert [len(batch) for batch in plan] == [8, 8, 4]
    assert [row for batch in plan for row, _ in batch] == list(range(20))
    joints = torch.cat([joints for _, joints, _ in train.batches(plan, 32)])
    assert np.array_equal(joints, train.joints)


def test_digest_sees_any_change(train, tmp_path):
    same = read_crops(tmp_path / "prepared/body", "phi", tmp_path, 1.2)
    assert train.digest() == same.digest()
    same.joints[3, 2, 1] += 1e-3
    other_scale = read_crops(tmp_path / "prepared/body", "phi", tmp_path, 1.3)
    assert len({train.digest(), same.digest(), other_scale.digest()}) == 3


def test_an_image_that_is_missing_is_named(train):
    train.images[0].unlink()
    with pytest.raises(FileNotFoundError, match=r"000\.png: no such image"):
        list(train.batches(train.in_order(4), 32))


def test_what_is_not_prepared_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"index\.parquet: not there; run `dvc repro`"):
        read_crops(tmp_path, "phi", tmp_path, 1.2)
    prepared = write_prepared(tmp_path, {"phi": 2})
    with pytest.raises(ValueError, match="no samples of val"):
        read_crops(prepared, "val", tmp_path, 1.2)
