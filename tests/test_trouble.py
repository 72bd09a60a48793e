"""A full disk, a folder that cannot be written, no memory, a damaged result: one clear line, and
what was there before is still there."""

import errno
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from papermill.exceptions import PapermillExecutionError
from test_notebooks import book_of, write  # noqa: F401  (write is a fixture)

from hmdiff import checkpoint, params, stored
from hmdiff.cropsets import read_crops
from hmdiff.files import write_file
from hmdiff.pipeline import notebook, profiles
from hmdiff.recovery import surfaces
from hmdiff.splits import load_split
from hmdiff.studio import capture

FULL = Path("/dev/full")  # whatever is written there finds no space


def triangle() -> surfaces.Surface:
    return surfaces.Surface(np.eye(3), np.array([[0, 1, 2]]))


SAVERS = {
    "text": lambda path: write_file(path, "x" * 10**5),
    "weights": lambda path: checkpoint.save_weights(path, {"a": torch.zeros(10**5)}, {}),
    "resume file": lambda path: checkpoint.Resume(path, {}).save({"a": torch.zeros(10**5)}),
    "mesh": lambda path: surfaces.write(path.with_suffix(".ply"), triangle()),
}


@pytest.mark.skipif(not FULL.exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize("kind", SAVERS)
def test_a_full_disk_names_the_file_and_leaves_the_earlier_one(tmp_path, kind):
    path = tmp_path / "x.ply"
    path.write_bytes(b"earlier")
    (tmp_path / ".x.ply.part").symlink_to(FULL)  # where every writer writes first
    with pytest.raises(OSError, match=str(path)) as caught:
        SAVERS[kind](path)
    assert caught.value.errno == errno.ENOSPC and "\n" not in str(caught.value)
    assert path.read_bytes() == b"earlier" and [p.name for p in tmp_path.iterdir()] == ["x.ply"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
@pytest.mark.parametrize("kind", SAVERS)
def test_a_read_only_folder_is_named(tmp_path, kind):
    tmp_path.chmod(0o500)
    with pytest.raises(PermissionError, match=str(tmp_path)):
        SAVERS[kind](tmp_path / "x.ply")


def test_a_copy_that_cannot_be_written_is_one_line(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(profiles, "copy", lambda *_: (tmp_path / "none" / "x").write_text(""))
    assert profiles.main(["smoke", "anywhere"]) == 1
    assert str(tmp_path / "none" / "x") in capsys.readouterr().err


def failed(name: str, value: str) -> PapermillExecutionError:
    """What papermill raises where a cell has failed."""
    return PapermillExecutionError(2, 2, "source", name, value, ["Traceback: line by line"])


@pytest.mark.parametrize(
    ("name", "value", "remedy"),
    [
        ("ValueError", "data/x.json: cut off; copy it again", ""),
        ("OSError", "[Errno 28] No space left on device: 'data/x.npy'", "; free space"),
        ("PermissionError", "[Errno 13] Permission denied: 'data/x'", "; make the folder writable"),
        (
            "OutOfMemoryError",
            "CUDA out of memory.\nTried to allocate 2 GiB.",
            "; free the device's",
        ),
        ("MemoryError", "", "; free memory"),
    ],
)
def test_what_a_machine_lacks_is_one_line_with_a_remedy(name, value, remedy):
    line = notebook.explain(failed(name, value), Path("a/train.ipynb"), {"seed": 0})
    start = " ".join(f"a/train.ipynb, cell 2: {name}: {value}".split())
    assert line.startswith(start) and remedy in line and "\n" not in line


def test_any_other_error_keeps_its_traceback():
    lines = notebook.explain(failed("KeyError", "'x'"), Path("a.ipynb"), {}).splitlines()
    assert lines == ["Traceback: line by line", "a.ipynb, cell 3: KeyError: 'x'"]


def test_a_kernel_that_is_killed_is_one_line(write, capfd):  # noqa: F811
    """As the system does where the memory is full."""
    path = write(book_of("seed = 0", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"))
    assert notebook.main([str(path)]) == 1
    assert capfd.readouterr().err.splitlines()[-1].startswith(f"{path}: its process was killed")
    assert not Path("reports").exists()


def test_a_page_that_cannot_be_written_is_one_line(write, capsys, monkeypatch):  # noqa: F811
    path = write(book_of("seed = 0"))
    monkeypatch.setattr(notebook, "execute", lambda *_: book_of("seed = 0"))
    Path("taken").write_text("a file where the folder should be")
    assert notebook.main([str(path), "--to", "taken"]) == 1
    error = capsys.readouterr().err
    assert "taken" in error and error.count("\n") == 1


READERS = {
    "x.npy": (lambda path: np.save(path, np.arange(99.0)), stored.read_array),
    "x.json": (lambda path: path.write_text('{"scale_m": 0.4}'), stored.read_meta),
}


@pytest.mark.parametrize("name", READERS)
def test_a_damaged_result_says_how_to_make_it_again(tmp_path, name):
    make, reader = READERS[name]
    with pytest.raises(FileNotFoundError, match=f"{name}: not there; run `dvc repro`"):
        reader(tmp_path / name)
    make(tmp_path / name)
    assert len(reader(tmp_path / name)) > 0
    (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:-3])
    with pytest.raises(ValueError, match=f"{name}: damaged .*; delete it, `dvc repro`") as caught:
        reader(tmp_path / name)
    assert "\n" not in str(caught.value)


DAMAGED = (
    "prepared/hand/index.parquet",
    "prepared/hand/meta.json",
    "prepared/hand/h0.npy",
    "features/hand/g_f_I.npy",
)


@pytest.mark.parametrize("name", DAMAGED)
def test_a_split_names_its_damaged_file(tiny_run, tmp_path, name):
    for folder in ("prepared/hand", "features/hand"):
        shutil.copytree(tiny_run / "data" / folder, tmp_path / folder)
    path, cube_m = tmp_path / name, params.load().phi.cube_m["hand"]
    assert len(load_split("hand", "g", tmp_path, cube_m)) > 0
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ValueError, match=f"{name}: damaged"):
        load_split("hand", "g", tmp_path, cube_m)


def test_crops_name_their_damaged_file(tmp_path):
    for name in ("index.parquet", "joints.npy", "meta.json"):
        (tmp_path / name).write_bytes(b"PAR1")
    with pytest.raises(ValueError, match="index.parquet: damaged"):
        read_crops(tmp_path, "g", tmp_path, 1.2)


def test_a_take_whose_record_is_damaged_is_shot_anew(tmp_path):
    record = tmp_path / "train_00000.npz"
    record.write_bytes(b"PK\x03\x04 cut off")
    with pytest.raises(ValueError, match=r"train_00000.npz: damaged .*; run again") as caught:
        capture._annotations(record)
    assert "\n" not in str(caught.value) and not record.exists()
