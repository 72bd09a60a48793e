"""Files and folders that are whole or not there, whatever interrupts their writing."""

from pathlib import Path

import numpy as np
import pytest

from hmdiff.files import new_file, new_folder, replace_folder, write_file


def names(folder: Path) -> list[str]:
    """What lies in a folder."""
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("content", ["mean ± 1 µm\r\n", b"\x00\xff\r\n", ""])
def test_bytes_and_text_are_written_as_they_are(tmp_path, content):
    path = tmp_path / "new" / "folders" / "a.txt"
    for _ in range(2):  # the second time over the first
        write_file(str(path), content)
        assert path.read_bytes() == (content if isinstance(content, bytes) else content.encode())
        assert names(path.parent) == ["a.txt"]


def test_a_saver_writes_beside_the_earlier_file_until_it_is_done(tmp_path):
    path = tmp_path / "a.npz"
    write_file(path, "earlier")
    with new_file(path) as part:
        with part.open("wb") as file:
            np.savez(file, x=np.arange(3))
        assert part.parent == tmp_path and path.read_text() == "earlier"
    assert np.load(path)["x"].tolist() == [0, 1, 2]
    assert names(tmp_path) == ["a.npz"]


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
def test_a_failing_saver_leaves_the_earlier_file_and_nothing_else(tmp_path, error):
    path = tmp_path / "a"
    write_file(path, "earlier")
    with pytest.raises(type(error)) as caught, new_file(path) as part:
        part.write_text("half")
        raise error
    assert caught.value is error
    assert path.read_text() == "earlier" and names(tmp_path) == ["a"]


def test_an_error_before_the_first_byte_is_told_as_it_is(tmp_path):
    with pytest.raises(ZeroDivisionError), new_file(tmp_path / "a"):
        raise ZeroDivisionError
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError):
        write_file(tmp_path / "folder", "text")
    assert names(tmp_path) == ["folder"]


def test_what_a_killed_writer_left_is_written_over(tmp_path):
    with new_file(tmp_path / "a") as part:
        left = part
        part.write_text("whole")
    left.write_text("longer than the new content")
    write_file(tmp_path / "a", "new")
    assert (tmp_path / "a").read_text() == "new" and names(tmp_path) == ["a"]


@pytest.mark.parametrize("before", [[], ["out"], ["out", ".out.old"]])
def test_a_finished_folder_takes_the_place_of_the_earlier_one_as_a_whole(tmp_path, before):
    sets = tmp_path / "sets"
    for name in before:
        write_file(sets / name / "stale.txt", "earlier")
    write_file(tmp_path / "part" / "fresh.txt", "new")
    replace_folder(tmp_path / "part", sets / "out")
    assert names(sets) == ["out"] and names(sets / "out") == ["fresh.txt"]
    assert names(tmp_path) == ["sets"]


def test_a_new_folder_starts_empty_and_an_error_leaves_the_earlier_one(tmp_path):
    out = tmp_path / "sets" / "out"
    with new_folder(out) as part:
        killed = part
        write_file(part / "a.txt", "first")
    write_file(killed / "left.txt", "by a killed writer")
    with pytest.raises(ValueError, match="second"), new_folder(out) as part:
        assert names(part) == []
        write_file(part / "b.txt", "half")
        raise ValueError("second")
    assert names(out.parent) == ["out"] and names(out) == ["a.txt"]
    with new_folder(out) as part:
        write_file(part / "c.txt", "third")
    assert names(out.parent) == ["out"] and names(out) == ["c.txt"]
