"""Nothing is lost to a kill: processes die by SIGKILL at random moments, the results are the same.

The small versions train and shoot in processes of their own, on next to no data. The large one
(`make soak`) kills `dvc repro` of the smoke profile at 30 moments and compares every result with
those of the run in runs/smoke, which nobody killed.
"""

import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import made_up
import pytest
import torch
import yaml
from conftest import baked
from tiny import ROOT

from hmdiff import body, params
from hmdiff import train as training
from hmdiff.pipeline import profiles
from hmdiff.pipeline.mend import mend
from hmdiff.studio import capture, takes

SEED = 20231002
STEPS, EVERY = 100, 10  # of the small training, and steps from one save to the next
COUNTS = {"train": 19, "validation": 1, "test": 5}
KILLS = 30  # of the smoke study
LONGEST_S = 10.0  # from a stage's start to the kill; many stages are done by then


def settled(target: Callable[[Path], None], folder: Path, kills: int, longest_s: float) -> int:
    """Run `target(folder)` in one process after another: the first `kills` are killed after up to
    `longest_s`, if they live as long. Returns how many were."""
    context = multiprocessing.get_context("forkserver")  # torch is imported once, in the server
    context.set_forkserver_preload([__name__])
    rng = random.Random(SEED)
    for killed in range(kills + 1):
        process = context.Process(target=target, args=(folder,))
        process.start()
        process.join(rng.uniform(0, longest_s) if killed < kills else None)
        if process.exitcode is not None:
            break
        process.kill()
        process.join()
    assert process.exitcode == 0
    return killed


def counted(function: Callable, path: Path) -> Callable:
    """The function, which adds a byte to `path` whenever it is called: that outlives a kill."""

    def call(*given):
        with path.open("ab") as file:
            file.write(b".")
        return function(*given)

    return call


def train_small(folder: Path) -> None:
    """Train Ours for hands of 12 vertices; a save every EVERY steps in place of every 20 s."""
    torch.set_num_threads(1)
    training.loss_of = counted(training.loss_of, folder / "steps")
    calls = iter(range(1, 10**6))
    training.Resume.due = lambda self: next(calls) % EVERY == 0
    values = params.read_yaml(ROOT / "params.yaml")
    values["g"] |= {"steps": {"body": STEPS, "hand": STEPS}, "batch": 4}
    settings = params.parse(values, "test")
    split, out, resume = made_up.split(16), folder / "out", folder / "resume.pt"
    training.train("image", "hand", 0, split, split, made_up.mesh(), settings, out, resume)


def shoot_small(folder: Path) -> None:
    """Shoot a few hands."""
    capture.shoot = counted(capture.shoot, folder / "takes")
    model = body.load(baked("hand") / "open_hand.npz")
    capture.capture_set(
        "freihand", COUNTS, folder / "out", model, SEED, 64, workers=1, scratch=folder / "scratch",
        progress=False,
    )  # fmt: skip


def content(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.mark.parametrize(
    ("target", "longest_s", "log", "most", "lost"),
    [
        (train_small, 1.0, "steps", STEPS, EVERY),
        (shoot_small, 2.0, "takes", len(takes.plan("freihand", COUNTS)), 1),
    ],
    ids=["training", "studio"],
)
def test_killed_at_random_moments_it_ends_with_the_same_bits_and_repeats_little(
    tmp_path, target, longest_s, log, most, lost
):
    """Of work that was saved nothing is done again: a kill costs at most what came since."""
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    whole.mkdir(), cut.mkdir()
    settled(target, whole, 0, 0)
    killed = settled(target, cut, 4, longest_s)
    assert killed > 0
    assert content(whole / "out") == content(cut / "out")
    assert (whole / log).stat().st_size == most
    assert most <= (cut / log).stat().st_size <= most + killed * lost
    assert not (cut / "resume.pt").exists() and not list((cut / "out").rglob("*.part"))


def family(pid: int) -> list[int]:
    """A process and all that descend from it: a notebook's kernel has a session of its own."""
    listed = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True).stdout
    pairs = [tuple(map(int, line.split())) for line in listed.splitlines()]
    found = [pid]
    for parent in found:
        found += [child for child, of in pairs if of == parent]
    return found


def repro(run: Path, log: Path, rng: random.Random, most: int) -> bool:
    """`dvc repro`, killed at some moment after it began up to `most` stages; False if it was.

    Every other time the kernels are left to notice by themselves that their parent is gone.

    Args:
        most: 0 for no kill.
    """
    mend(run)  # as `make repro` does
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with log.open("ab") as out:
        at = out.tell()
        process = subprocess.Popen(
            ["dvc", "repro"], cwd=run, stdout=out, stderr=out, start_new_session=True,
            env=os.environ | {"PATH": path, "PYTHONUNBUFFERED": "1"},
        )  # fmt: skip
    begun, seconds = rng.randint(1, max(1, most)), rng.uniform(0, LONGEST_S)
    while most and process.poll() is None:
        time.sleep(0.2)
        if log.read_bytes()[at:].count(b"Running stage '") >= begun:
            time.sleep(seconds)
            break
    if most and process.poll() is None:
        for pid in family(process.pid) if rng.random() < 0.5 else []:
            os.kill(pid, signal.SIGKILL)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return False
    assert process.wait() == 0, log.read_bytes()[at:][-3000:].decode(errors="replace")
    return True


def results(run: Path) -> dict[str, object]:
    """What a run measured: the digest of every result but the timings, and the metrics as bytes."""
    stages = yaml.safe_load((run / "dvc.lock").read_text())["stages"].values()
    outs = {out["path"]: out["md5"] for stage in stages for out in stage["outs"]}
    found = {path: md5 for path, md5 in outs.items() if path.startswith("data/")}
    found = {path: md5 for path, md5 in found.items() if not path.startswith("data/speed/")}
    return found | {"metrics": (run / "reports/metrics.json").read_bytes()}


@pytest.mark.soak
def test_thirty_kills_of_the_smoke_study_change_no_result():
    """Kills, as many as HMDIFF_KILLS says, spread over the stages; the log and the run stay in
    runs/ for a look."""
    whole, run, log = (ROOT / "runs" / name for name in ("smoke", "soak", "soak.log"))
    assert (whole / "reports/metrics.json").is_file(), f"{whole}: no run; `make smoke` makes it"
    shutil.rmtree(run, ignore_errors=True)
    log.unlink(missing_ok=True)
    profiles.copy("smoke", run, ROOT)
    rng = random.Random(SEED)
    stages = yaml.safe_load((whole / "dvc.lock").read_text())["stages"]
    kills = min(int(os.environ.get("HMDIFF_KILLS", KILLS)), len(stages))
    most = 5 * len(stages) // (2 * kills)  # half of it on average, less the stage that is hit
    killed = 0
    while killed < kills and not repro(run, log, rng, most):
        killed += 1
    repro(run, log, rng, 0)
    print(f"{killed} kills")
    assert killed > 0.8 * kills, "the study ended before"
    assert results(run) == results(whole)
