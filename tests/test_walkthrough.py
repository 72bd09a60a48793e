"""What the walkthroughs share: the check for data, and pictures in a row."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from hmdiff.pipeline.walkthrough import need, strip


def test_what_is_there_is_enough_and_the_first_that_is_missing_is_named(tmp_path):
    (tmp_path / "here").touch()
    assert need(tmp_path, tmp_path / "here") is None
    with pytest.raises(FileNotFoundError) as error:
        need(tmp_path / "here", tmp_path / "gone", tmp_path / "gone too")
    message = str(error.value)
    assert message.startswith(f"{tmp_path / 'gone'}: ") and "make repro" in message
    assert "\n" not in message


def test_pictures_stand_in_a_row_under_their_titles_in_pixels():
    pictures = [np.zeros((20, 30, 3), np.uint8), np.full((10, 10, 3), 255, np.uint8)]
    axes = strip(pictures, ["dark", "bright"])
    assert [ax.get_title(loc="left") or ax.get_title() for ax in axes] == ["dark", "bright"]
    assert axes[0].get_xlim() == (0, 30) and axes[0].get_ylim() == (20, 0)
    assert np.array_equal(axes[1].images[0].get_array(), pictures[1])
    plt.close("all")


def test_a_picture_without_a_title_is_an_error():
    with pytest.raises(ValueError):
        strip([np.zeros((4, 4, 3), np.uint8)] * 2, ["one"])
    plt.close("all")
