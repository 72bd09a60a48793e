"""Strata of test images, against hand-made cases."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from hmdiff import strata


def test_truncation_goes_before_occlusion():
    names = strata.visibility(np.array([1.0, 0.5, 0.5, 0.95]), np.array([0.0, 0.0, 0.2, 0.06]))
    assert names.tolist() == ["visible", "occluded", "truncated", "truncated"]


@pytest.mark.parametrize(
    ("degrees", "name"), [(0, "front"), (50, "front"), (90, "side"), (-100, "side"), (180, "back")]
)
def test_facing_is_the_turn_of_the_hips(degrees, name):
    """Someone facing the camera has the left hip on the picture's right; then turn about y."""
    a = np.radians(degrees)
    joints = np.zeros((1, 24, 3))
    joints[0, strata.LEFT_HIP] = 0.1 * np.array([np.cos(a), 0.3, np.sin(a)])
    joints[0, strata.RIGHT_HIP] = -joints[0, strata.LEFT_HIP]
    assert strata.facing(joints).tolist() == [name]


def test_thirds_are_taken_within_a_set():
    spread = pd.Series([1.0, 2, 3, 10, 20, 30])
    sets = pd.Series(["a"] * 3 + ["b"] * 3)
    assert strata.thirds(spread, sets).tolist() == ["narrow", "middle", "wide"] * 2


@pytest.fixture
def split(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "studio/made").mkdir(parents=True)
    table = {"image": ["0.jpg", "1.jpg"], "visible": [0.4, 1.0], "truncated": [0.0, 0.0]}
    pd.DataFrame(table).to_parquet("studio/made/studio.parquet")
    index = pd.DataFrame({"image": ["studio/made/1.jpg", "studio/made/0.jpg"], "dataset": "made"})
    parts = [SimpleNamespace(spread=lambda s=s: torch.tensor([[s]])) for s in (1.0, 2.0)]
    return SimpleNamespace(index=index, U=SimpleNamespace(parts=lambda: parts))


def test_images_find_what_the_studio_knows_of_them(split):
    found = strata.stratify(split, np.zeros((2, 21, 3)), "hand", Path("studio"))
    assert found["visibility"].tolist() == ["visible", "occluded"]
    assert "facing" not in found
    assert set(found.columns) <= {"image", "dataset", *strata.KINDS}


def test_of_images_that_are_not_the_studios_visibility_is_not_known(split, tmp_path):
    joints = np.zeros((2, 24, 3))
    joints[:, strata.LEFT_HIP, 0] = 0.1
    found = strata.stratify(split, joints, "body", None)
    assert found["visibility"].isna().all()
    assert found["facing"].tolist() == ["front", "front"] and found["U"].notna().all()
    found.to_parquet(tmp_path / "strata.parquet")
    assert pd.read_parquet(tmp_path / "strata.parquet")["visibility"].isna().all()


def test_an_image_that_the_studio_does_not_know_is_named(split, tmp_path):
    split.index.loc[0, "image"] = "elsewhere.jpg"
    with pytest.raises(ValueError, match=r"elsewhere\.jpg: not in .*; capture"):
        strata.stratify(split, np.zeros((2, 21, 3)), "hand", tmp_path / "studio")
