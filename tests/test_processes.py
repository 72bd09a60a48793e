"""Two processes give what one gives; shares cover everything once."""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
import spread
import torch
from hypothesis import given
from hypothesis import strategies as st
from nbformat import v4
from test_cropsets import write_prepared

from hmdiff import processes
from hmdiff.checkpoint import load_weights

ROOT = Path(__file__).parents[1]
LAUNCH = [
    sys.executable,
    *["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"],
]
LAUNCH += ["--main_process_port", "0"]  # any that is free


@given(n=st.integers(0, 500), parts=st.integers(1, 70))
def test_shares_cover_every_item_once_in_order_and_evenly(n, parts):
    shares = processes.shares(n, parts)
    assert len(shares) == parts
    assert [i for share in shares for i in range(n)[share]] == list(range(n))
    sizes = [len(range(n)[share]) for share in shares]
    assert max(sizes) - min(sizes) <= 1


def test_a_process_started_by_itself_is_the_first_of_one_and_changes_nothing():
    assert processes.count() == 1 and processes.first()
    x = torch.randn(3)
    assert processes.mine(x).data_ptr() == x.data_ptr()
    assert processes.portion(x, 2) is x and processes.agree(x) is x
    net = torch.nn.BatchNorm2d(2)
    assert type(processes.share_statistics(net)) is torch.nn.BatchNorm2d


def test_more_processes_than_samples_in_a_batch_are_refused_in_one_line(monkeypatch):
    monkeypatch.setattr(processes, "count", lambda: 9)
    with pytest.raises(ValueError, match=r"g.batch: 8 samples .* 9 processes"):
        processes.check_share(8, "g.batch")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Folders of what one process and two processes did."""
    root = tmp_path_factory.mktemp("spread")
    counts = {"phi": 23, "val": 7, "test": 70}  # of 70 images, three batches
    crops = write_prepared(root, counts, px=64, subject="hand", joints=3)
    one, two = root / "one", root / "two"
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    spread.fit("image", one / "killed", one / "killed.pt", dies_at=spread.KILLED)
    spread.work(crops, one, one)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [*LAUNCH, "tests/spread.py", *map(str, (crops, two, one))]
    subprocess.run(command, cwd=ROOT, env=environment, check=True, timeout=300)
    spread.fit("image", one / "after_two", two / "killed.pt")
    torch.set_num_threads(threads)
    return one, two


def test_gradients_are_those_of_the_whole_batch(runs):
    """phi's batch of 5 falls apart into 2 and 3; its losses and its normalisation span both."""
    one, two = (load_weights(run / "gradients")[0] for run in runs)
    assert one.keys() == two.keys() and one["phi_P.y_to_z.weight.grad"].abs().max() > 1e-3
    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, rtol=1e-8, atol=1e-10)


def assert_same_weights(one: Path, two: Path, tolerance: float):
    """Within a share of each tensor's largest value."""
    (one, meta), (two, meta_two) = (load_weights(path) for path in (one, two))
    assert meta.keys() == meta_two.keys() and one.keys() == two.keys()
    for name, tensor in one.items():
        atol = tolerance * float(tensor.abs().max())
        torch.testing.assert_close(two[name], tensor, rtol=0, atol=atol)


@pytest.mark.parametrize("variant", spread.VARIANTS)
def test_two_processes_train_g_to_the_weights_of_one(runs, variant):
    one, two = (run / variant for run in runs)
    assert_same_weights(one / "model.safetensors", two / "model.safetensors", 2e-4)
    histories = [pd.read_csv(run / "history.csv") for run in (one, two)]
    pd.testing.assert_frame_equal(*histories, rtol=1e-4)


def test_a_loss_on_validation_images_is_that_of_all_of_them(runs):
    one, two = (json.loads((run / "losses.json").read_text()) for run in runs)
    assert len(one) == 4 and two == pytest.approx(one, rel=1e-6)


def test_two_processes_train_phi_as_one_does(runs):
    """Adam's steps hardly depend on how large a gradient is: where it is next to none, rounding
    decides. So losses and errors are compared, over two epochs."""
    histories = [pd.read_csv(run / "phi" / "history.csv") for run in runs]
    assert histories[0]["loss"].iloc[-1] < histories[0]["loss"].iloc[0]
    pd.testing.assert_frame_equal(*histories, rtol=1e-3)


@pytest.mark.parametrize(("run", "name"), [(1, "resumed"), (0, "after_two")])
def test_a_killed_training_goes_on_with_another_number_of_processes(runs, run, name):
    whole, resumed = runs[0] / "image", runs[run] / name
    assert_same_weights(whole / "model.safetensors", resumed / "model.safetensors", 2e-4)
    assert not list(runs[0].glob("*.pt")) and not (runs[1] / "killed.pt").exists()


@pytest.mark.parametrize("name", ["test_f_I", "test_pooled", "test_u_mean", "test_E", "val_f_I"])
def test_features_are_the_same_rows_each_once(runs, name):
    one, two = (np.load(run / f"{name}.npy") for run in runs)
    assert len(one) == {"test": 70, "val": 7}[name.split("_")[0]]
    assert np.array_equal(one, two)


@pytest.mark.parametrize(("name", "images"), [("many", spread.n), ("one", 3)])
def test_errors_are_the_same_rows_each_once(runs, name, images):
    one, two = (pd.read_parquet(run / f"errors_{name}.parquet") for run in runs)
    assert (two.groupby("method").size() == images).all()
    pd.testing.assert_frame_equal(one, two, check_exact=True)


def test_the_first_process_alone_leaves_files(runs):
    one, two = ({path.relative_to(run).as_posix() for path in run.rglob("*")} for run in runs)
    assert one - two == {"after_two", "after_two/model.safetensors", "after_two/history.csv"}
    assert two == one - {path for path in one if path.startswith("after_two")}


NOTEBOOK = """
import os
from pathlib import Path
from hmdiff import processes
ranks = processes.together([processes.rank()])
if processes.first():
    Path(os.environ["RANKS"]).write_text(str(ranks))
"""


def test_a_stage_is_run_by_the_launcher_and_reported_once(tmp_path):
    cells = [v4.new_code_cell("seed = 0"), v4.new_code_cell(NOTEBOOK)]
    cells[0].metadata["tags"] = ["parameters"]
    nbformat.write(v4.new_notebook(cells=cells), tmp_path / "evaluate.ipynb")
    command = [sys.executable, "-m", "hmdiff.pipeline.notebook", tmp_path / "evaluate.ipynb"]
    command += ["-p", "seed", "7", "--to", tmp_path / "pages"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "HMDIFF_LAUNCH": shlex.join(LAUNCH)}
    environment |= {"RANKS": str(tmp_path / "ranks")}
    done = subprocess.run(command, cwd=ROOT, env=environment, timeout=300, stdout=subprocess.PIPE)
    assert done.returncode == 0
    assert done.stdout.decode().split() == [str(tmp_path / "pages/evaluate-7.html")]
    assert (tmp_path / "ranks").read_text() == "[0, 1]"
    assert (tmp_path / "pages/evaluate-7.html").is_file()
