"""phi learns, repeats itself bit for bit, survives a kill, and says what it saw."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from test_cropsets import SCALE_M, write_prepared

from hmdiff import params, pretrain
from hmdiff.checkpoint import Resume
from hmdiff.cropsets import read_crops
from hmdiff.hrnet import HRNet
from hmdiff.pose import PoseDistribution
from hmdiff.pretrain import (
    Run,
    extract_features,
    load_phi,
    mpjpe_mm,
    phases_of,
    plan_epoch,
    train_phi,
)

SETTINGS = params.Phi(
    input_px=64,
    augment=0.0,
    width=4,
    blocks=1,
    modules=(1, 1, 1),
    context_channels=128,
    deconv_channels=8,
    heatmap_px=16,
    cube_m={"body": 1.0, "hand": 1.0},
    sigma_bins=1.0,
    epochs={"body": 2, "hand": 2},
    batch=8,
    lr=0.003,
)


def change(**values):
    return SETTINGS.model_copy(update=values)


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Networks this small are slower on several."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def toy(tmp_path):
    """Crop sets phi, val, and the folder they lie in."""
    prepared = write_prepared(tmp_path, {"phi": 26, "val": 6}, px=64, subject="hand", joints=3)
    return *(read_crops(prepared, split, tmp_path, 1.0) for split in ("phi", "val")), tmp_path


def results(folder):
    return [(folder / name).read_bytes() for name in ("phi.safetensors", "history.csv")]


def test_two_runs_give_the_same_bytes(toy):
    train, val, tmp = toy
    for name in "ab":
        train_phi(train, val, SETTINGS, 0, tmp / name, tmp / "resume.pt")
    assert results(tmp / "a") == results(tmp / "b")
    train_phi(train, val, SETTINGS, 1, tmp / "c", tmp / "resume.pt")
    assert results(tmp / "c")[0] != results(tmp / "a")[0]


@pytest.fixture
def weights(tmp_path):
    """Of a backbone of these sizes, trained elsewhere."""
    torch.manual_seed(9)
    s = SETTINGS
    net = HRNet(s.width, s.blocks, s.modules, s.context_channels)
    torch.save(net.state_dict(), tmp_path / "hrnet.pth")
    return tmp_path / "hrnet.pth", net


def test_given_weights_are_where_the_backbone_starts_and_the_head_does_not(toy, weights):
    train = toy[0]
    path, net = weights
    run, plain = Run(train, change(weights=path), 0), Run(train, SETTINGS, 0)
    for name, tensor in net.state_dict().items():
        assert torch.equal(run.phi.phi_I.state_dict()[name], tensor)
    for name, tensor in plain.phi.phi_P.state_dict().items():
        assert torch.equal(run.phi.phi_P.state_dict()[name], tensor)


def test_a_run_that_starts_elsewhere_is_another_run(toy, weights):
    train, path = toy[0], weights[0]
    plain, given = Run(train, SETTINGS, 0).key(), Run(train, change(weights=path), 0).key()
    assert set(plain) == {"phi", "seed", "cube", "train"} and "weights" not in plain["phi"]
    torch.manual_seed(10)
    state = {n: torch.rand_like(w) if w.is_floating_point() else w
             for n, w in weights[1].state_dict().items()}  # fmt: skip
    torch.save(state, path)
    other = Run(train, change(weights=path), 0).key()
    assert plain["phi"] != given["phi"] == other["phi"]  # the same path
    assert given["weights"] != other["weights"]


def test_weights_that_are_missing_are_one_line(toy):
    with pytest.raises(FileNotFoundError, match=r"none\.pth: no such weights"):
        Run(toy[0], change(weights=Path("none.pth")), 0)


@pytest.mark.parametrize("killed_at", [1, 3, 4])  # in an epoch, at its end, in the next
def test_a_killed_run_goes_on_to_the_same_bytes(toy, monkeypatch, killed_at):
    train, val, tmp = toy
    train_phi(train, val, SETTINGS, 0, tmp / "whole", tmp / "none.pt")

    class Killed(Exception):
        pass

    learn, measure, taken = pretrain.Run.learn, pretrain.mpjpe_mm, []

    def learn_until(run, *batch):
        if run.step == killed_at:
            raise Killed
        learn(run, *batch)
        taken.append(run.step)

    def measure_until(*args):
        if taken[-1] == killed_at:
            raise Killed
        return measure(*args)

    with monkeypatch.context() as patch:
        patch.setattr(pretrain.Run, "learn", learn_until)
        patch.setattr(pretrain, "mpjpe_mm", measure_until)
        patch.setattr(Resume, "due", lambda keeper: True)
        with pytest.raises(Killed):
            train_phi(train, val, SETTINGS, 0, tmp / "killed", tmp / "resume.pt")
    assert not (tmp / "killed").exists()
    taken.clear()
    monkeypatch.setattr(
        pretrain.Run, "learn", lambda run, *batch: (learn(run, *batch), taken.append(run.step))
    )
    train_phi(train, val, SETTINGS, 0, tmp / "killed", tmp / "resume.pt")
    assert taken == list(range(killed_at + 1, 7))
    assert results(tmp / "killed") == results(tmp / "whole")
    assert not (tmp / "resume.pt").exists()


def test_the_state_of_another_setting_is_not_taken_up(toy):
    train, val, tmp = toy
    run = pretrain.Run(train, change(lr=0.1), 0)
    Resume(tmp / "resume.pt", run.key()).save(run.state() | {"step": 5})
    train_phi(train, val, SETTINGS, 0, tmp / "a", tmp / "resume.pt")
    train_phi(train, val, SETTINGS, 0, tmp / "b", tmp / "none.pt")
    assert results(tmp / "a") == results(tmp / "b")


def test_a_loss_that_is_no_number_is_one_clear_line(toy):
    train, val, tmp = toy
    with pytest.raises(
        ValueError, match=r"phi\.lr: the loss of phi \(hand\) is nan.*lower"
    ) as error:
        train_phi(train, val, change(lr=1e30), 0, tmp / "out", tmp / "resume.pt")
    assert "\n" not in str(error.value)
    assert not (tmp / "out").exists()


def test_phi_learns_where_the_square_is(toy):
    """Far below the error of always answering the mean, on images it has not seen."""
    train, val, tmp = toy
    many = change(epochs={"body": 1, "hand": 60}, batch=13)
    phi = train_phi(train, val, many, 0, tmp / "out", tmp / "resume.pt")
    mean_pose = np.linalg.norm(val.joints - train.joints.mean(0), axis=-1).mean() * SCALE_M * 1000
    assert mpjpe_mm(phi, val, 64, 8) < 0.5 * mean_pose
    history = pd.read_csv(tmp / "out/history.csv")
    assert len(history) == 60
    assert history["loss"].iloc[-1] < history["loss"].iloc[0]
    assert history["val_mpjpe_mm"].iloc[-1] == pytest.approx(mpjpe_mm(phi, val, 64, 13), rel=1e-6)


def test_saved_phi_comes_back_frozen_and_the_same(toy):
    train, val, tmp = toy
    phi = train_phi(train, val, SETTINGS, 0, tmp / "out", tmp / "resume.pt").eval()
    again, meta = load_phi(tmp / "out/phi.safetensors")
    assert not again.training
    assert not any(p.requires_grad for p in again.parameters())
    images = torch.randn(2, 3, 64, 64)
    for old, new in zip(phi(images), again(images), strict=True):
        assert torch.equal(old, new)
    assert meta["scale_m"] == SCALE_M
    assert again.cube == pytest.approx(1.0 / SCALE_M)
    assert (meta["subject"], meta["input_px"], meta["box_scale"]) == ("hand", 64, 1.0)


def test_features_say_what_phi_saw(toy):
    train, val, tmp = toy
    phi = train_phi(train, val, SETTINGS, 0, tmp / "out", tmp / "resume.pt").eval()
    extract_features(phi, val, 64, tmp / "features", "val", maps=True)
    saved = {
        name: np.load(tmp / f"features/val_{name}.npy") for name in ("f_I", "pooled", "u_mean", "E")
    }
    images = torch.from_numpy(np.stack([val.cut(row, 64, d)[0] for [(row, d)] in val.in_order(1)]))
    with torch.no_grad():
        f_I, E_xy, E_z = phi(images)
    assert {name: array.dtype.name for name, array in saved.items()} == {
        "f_I": "float16",
        "pooled": "float16",
        "u_mean": "float32",
        "E": "float32",
    }
    np.testing.assert_allclose(saved["f_I"], f_I, rtol=2e-3, atol=1e-4)
    np.testing.assert_allclose(saved["E"][:, 0], E_xy, rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(saved["E"][:, 1], E_z, rtol=1e-3, atol=1e-6)
    mean = PoseDistribution(E_xy, E_z, phi.cube).mean()
    np.testing.assert_allclose(saved["u_mean"], mean, rtol=1e-3, atol=1e-5)
    assert saved["pooled"].shape == (6, 2 * 3, 4, 4)
    block = E_z[2, 1, 4:8, 8:12].sum()  # joint 1 of 3: the fifth of the six maps
    assert saved["pooled"][2, 4, 1, 2] == pytest.approx(block.item(), rel=2e-3, abs=1e-6)
    np.testing.assert_allclose(saved["pooled"].sum((-1, -2), dtype=np.float32), 1, atol=5e-3)


def test_the_split_that_trains_g_keeps_no_full_maps(toy):
    train, val, tmp = toy
    phi = train_phi(train, val, SETTINGS, 0, tmp / "out", tmp / "resume.pt")
    extract_features(phi, train, 64, tmp / "features", "g", maps=False)
    names = sorted(path.name for path in (tmp / "features").iterdir())
    assert names == ["g_f_I.npy", "g_pooled.npy", "g_u_mean.npy"]


def test_an_epoch_is_a_function_of_seed_and_number(toy):
    train, settings = toy[0], change(augment=1.0)
    [phase] = phases_of(train, settings)
    plan = plan_epoch(train, phase, 3, 0, settings)
    assert plan == plan_epoch(train, phase, 3, 0, settings)
    assert plan != plan_epoch(train, phase, 4, 0, settings)
    assert plan != plan_epoch(train, phase, 3, 1, settings)
    rows = [row for batch in plan for row, _ in batch]
    assert [len(batch) for batch in plan] == [8, 8, 8]
    assert len(set(rows)) == 24


def test_strength_of_augmentation(toy):
    train = replace(toy[0], images=400 * toy[0].images[:1], subject="body")
    [phase] = phases_of(train, SETTINGS)
    weak, strong = (
        [draw for b in plan_epoch(train, phase, 0, 0, change(augment=s)) for _, draw in b]
        for s in (0.25, 1.0)
    )
    for a, b in zip(weak, strong, strict=True):
        assert a.rotation_deg == pytest.approx(0.25 * b.rotation_deg)
        assert a.scale - 1 == pytest.approx(0.25 * (b.scale - 1))
        assert a.colour[2] - 1 == pytest.approx(0.25 * (b.colour[2] - 1))
        assert a.flip == b.flip
    assert max(abs(draw.rotation_deg) for draw in strong) > 30


def test_learning_rate_rises_then_falls_to_zero():
    rates = [pretrain.learning_rate(p, 2.0) for p in np.linspace(0, 1, 101)]
    assert max(rates) == pytest.approx(2.0)
    assert np.argmax(rates) == 10
    assert np.all(np.diff(rates[:11]) > 0)
    assert np.all(np.diff(rates[10:]) < 0)
    assert rates[-1] == pytest.approx(0)
