"""A picture in a TSV is the picture in a file."""

import base64

import numpy as np
import pytest
from mix_writers import jpeg, write_rows

from hmdiff import crops
from hmdiff.datasets.sample import image_size
from hmdiff.datasets.tsv import line_starts
from hmdiff.image_bytes import address, located, open_picture


@pytest.fixture
def rows(tmp_path):
    """Three pictures, as files and in a TSV of three columns."""
    pictures = [jpeg(40 * i) for i in range(3)]
    for i, data in enumerate(pictures):
        (tmp_path / f"{i}.jpg").write_bytes(data)
    text = [(f"{i}.jpg", "[]", base64.b64encode(x).decode()) for i, x in enumerate(pictures)]
    write_rows(tmp_path / "train.img.tsv", text)
    return tmp_path


def test_a_row_decodes_as_its_file(rows):
    tsv = rows / "train.img.tsv"
    for i, start in enumerate(line_starts(tsv)):
        path = address(tsv, start)
        assert located(path) == (tsv, start)
        with open_picture(path) as file:
            assert file.read() == (rows / f"{i}.jpg").read_bytes()
        assert np.array_equal(crops.read_image(path), crops.read_image(rows / f"{i}.jpg"))
        assert image_size(path) == image_size(rows / f"{i}.jpg")


def test_a_file_is_its_own_place(rows):
    assert located(rows / "0.jpg") == (rows / "0.jpg", None)
    assert located(rows / "notes.tsv" / "x") == (rows / "notes.tsv" / "x", None)


@pytest.mark.parametrize(
    ("offset", "says"), [(10**9, "ends before byte 1000000000"), (7, "no base64")]
)
def test_a_wrong_offset_is_told_in_one_line(rows, offset, says):
    (rows / "train.img.tsv").write_text("0.jpg\t@@@@\n")
    with pytest.raises(ValueError, match=says) as caught:
        crops.read_image(address(rows / "train.img.tsv", offset))
    assert str(rows / "train.img.tsv") in str(caught.value) and "\n" not in str(caught.value)


def test_a_cut_line_is_noticed(rows):
    tsv = rows / "train.img.tsv"
    tsv.write_bytes(tsv.read_bytes()[:-100])
    with pytest.raises(ValueError, match="ends within the picture: cut off"):
        open_picture(address(tsv, line_starts(rows / "train.img.tsv")[-1]))


def test_a_missing_file_is_named(rows):
    with pytest.raises(FileNotFoundError, match=r"valid\.img\.tsv: not there"):
        image_size(address(rows / "valid.img.tsv", 0))
