"""phi on a mix of data sets, in stated shares, then on one of them alone."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from test_cropsets import write_prepared
from test_prepare import EXTRA, run, sets, write_extra  # noqa: F401
from test_pretrain import change, one_thread, results  # noqa: F401

from hmdiff import crops, params, pretrain
from hmdiff.checkpoint import Resume, load_weights
from hmdiff.cropsets import CropSet, read_crops
from hmdiff.pose import heatmap_loss
from hmdiff.pretrain import Phase, Phi, draw_mix, phases_of, plan_epoch, train_phi

SIZES = {"threedpw": 17, "coco": 5, "mpii": 8}  # 30 images, three batches of 8 and 6 left over
MIX = {"coco": 0.6, "threedpw": 0.4}
TUNE = params.Finetune(dataset="threedpw", epochs={"body": 2, "hand": 0}, lr=0.001)
SETTINGS = change(mix=MIX, finetune=TUNE)
UNPLACED = ["fx", "fy", "cx", "cy", "root_x", "root_y", "root_z"]


@pytest.fixture
def toy(tmp_path):
    """Crop sets phi, val, and the folder they lie in; only threedpw has cameras."""
    prepared = write_prepared(tmp_path, {"phi": 30, "val": 4}, px=64)
    path = prepared / "index.parquet"
    index = pd.read_parquet(path)
    index.loc[:29, "dataset"] = np.repeat(list(SIZES), list(SIZES.values()))
    index.loc[index["dataset"].isin(["coco", "mpii"]), UNPLACED] = np.nan
    index.to_parquet(path)
    return *(read_crops(prepared, split, tmp_path, 1.0) for split in ("phi", "val")), tmp_path


def rows_of(plan) -> list[int]:
    return [row for batch in plan for row, _ in batch]


def test_an_epoch_has_the_stated_shares_and_as_many_batches_as_ever(toy):
    train = toy[0]
    [mixed, _], [plain] = phases_of(train, SETTINGS), phases_of(train, change())
    for epoch in range(4):
        plan = plan_epoch(train, mixed, epoch, 0, SETTINGS)
        assert [len(batch) for batch in plan] == [8, 8, 8]
        assert len(plan) == len(plan_epoch(train, plain, epoch, 0, change()))
        seen = Counter(rows_of(plan))
        drawn = Counter(train.datasets[row] for row in seen.elements())
        assert drawn == {"coco": 14, "threedpw": 10}  # of 24: 0.6 and 0.4, rounded
        assert sorted(seen[row] for row in range(17, 22)) == [2, 3, 3, 3, 3]  # 5 images for 14
        assert max(seen[row] for row in range(17)) == 1  # 10 of 17
        assert plan == plan_epoch(train, mixed, epoch, 0, SETTINGS)
        assert plan != plan_epoch(train, mixed, epoch + 1, 0, SETTINGS)
        assert plan != plan_epoch(train, mixed, epoch, 1, SETTINGS)


def test_over_epochs_every_image_of_a_set_comes_alike(toy):
    """A set of 17 gives 10 an epoch: over 400 epochs each comes 400 x 10 / 17 times, within four
    times what chance leaves."""
    train = toy[0]
    mixed = phases_of(train, SETTINGS)[0]
    seen = Counter(
        row for epoch in range(400) for row in rows_of(plan_epoch(train, mixed, epoch, 0, SETTINGS))
    )
    expected = {"threedpw": 10 / 17, "coco": 14 / 5, "mpii": 0.0}
    for row, name in enumerate(train.datasets):
        rest = expected[name] % 1
        spread = np.sqrt(400 * rest * (1 - rest))
        assert abs(seen[row] - 400 * expected[name]) <= 4 * spread, (row, name)


@given(
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=5),
    weights=st.lists(st.floats(0.001, 1), min_size=5, max_size=5),
    count=st.integers(1, 300),
    seed=st.integers(0, 9),
)
def test_shares_are_met_within_one_sample_and_a_sets_images_alike(sizes, weights, count, seed):
    names = [f"set {i}" for i in range(len(sizes))]
    shares = dict(zip(names, weights, strict=False))
    labels = np.random.default_rng(seed).permutation(np.repeat([*names, "left out"], [*sizes, 3]))
    rows = draw_mix(labels, shares, count, np.random.default_rng(seed)).tolist()
    assert len(rows) == count
    drawn = Counter(labels[row] for row in rows)
    assert drawn["left out"] == 0
    for name, share in shares.items():
        assert abs(drawn[name] - count * share / sum(shares.values())) <= 1 + 1e-9
        times = [rows.count(row) for row in np.flatnonzero(labels == name)]
        assert max(times) - min(times) <= 1


@given(
    sizes=st.tuples(*3 * [st.integers(1, 30)]),
    batch=st.integers(1, 40),
    share=st.floats(0.01, 0.99),
    epoch=st.integers(0, 5),
)
def test_every_batch_is_full(sizes, batch, share, epoch):
    names = tuple(np.repeat(list(SIZES), sizes).tolist())
    still = np.zeros((len(names), 1, 3))
    train = CropSet(
        len(names) * [Path()], still[:, 0], still, still[..., :2], "body", 1.0, 1.0, names
    )
    settings = change(mix={"coco": share, "mpii": 1 - share}, finetune=TUNE, batch=batch)
    mixed, tuned = phases_of(train, settings)
    for phase, images in ((mixed, sum(sizes)), (tuned, sizes[0])):
        plan = plan_epoch(train, phase, epoch, 0, settings)
        size = min(batch, images)
        assert [len(b) for b in plan] == (images // size) * [size]
    assert len(set(rows_of(plan))) == len(rows_of(plan))  # tuned: no image twice
    assert {names[row] for row in rows_of(plan)} == {"threedpw"}


def test_without_shares_every_image_comes_once_as_it_always_has(toy):
    """The order of before there were shares, in closed form."""
    train, settings = toy[0], change(augment=1.0)
    [phase] = phases_of(train, settings)
    rng = np.random.default_rng((7, 2))
    order = rng.permutation(30).tolist()
    pairs = [(row, crops.augment(rng, "body")) for row in order]
    plan = plan_epoch(train, phase, 2, 7, settings)
    assert [row for row, _ in pairs[:24]] == rows_of(plan)
    for (_, want), (_, got) in zip(pairs, (pair for b in plan for pair in b), strict=False):
        assert got.rotation_deg == want.rotation_deg and got.flip == want.flip


def test_joints_turn_with_a_picture_whose_camera_is_unknown(toy):
    train = toy[0]
    turn = crops.Augmentation(rotation_deg=90.0, flip=True)
    (_, joints, shares), (_, placed, _) = train.cut(20, 64, turn), train.cut(0, 64, turn)
    assert np.isnan(train.pixels[20]).all() and np.isfinite(train.pixels[0]).all()
    for row, turned in ((20, joints), (0, placed)):
        x, y, z = train.joints[row, crops.MIRROR].T  # 90 degrees clockwise, then left for right
        np.testing.assert_allclose(turned, np.stack([y, x, z], axis=1), atol=1e-6)
    assert np.isfinite(shares).all() and ((shares < 0) | (shares > 1)).all()


@pytest.mark.parametrize("rows", [[0, 20, 3, 25], [18, 20], [0, 3]])
def test_the_picture_loss_passes_over_what_has_no_camera(toy, rows):
    """Against cross-entropies written out one joint at a time; some, all or none unplaced."""
    train, side = toy[0], 16
    torch.manual_seed(0)
    phi = Phi(SETTINGS, 24, 2.0).eval()
    images, joints, shares = next(train.batches([[(r, crops.Augmentation()) for r in rows]], 64))
    loss = phi.loss(images, joints, shares, 1.0)
    loss.backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in phi.parameters())
    with torch.no_grad():
        branches = phi.phi_I.pyramid(images)
        logits = phi.picture(branches[0]).double()
        in_cube = heatmap_loss(phi.phi_P(phi.context(branches)), joints, phi.cube, 1.0)
    assert logits.shape[-1] == side
    centres, terms = np.arange(side) + 0.5, []
    for i, row in enumerate(rows):
        for j in range(24):
            place = train.pixels[row, j] / 64  # the toy's boxes are its images
            if train.datasets[row] == "threedpw" and (place > 0).all() and (place < 1).all():
                x, y = (np.exp(-0.5 * ((centres - side * p) / 0.75) ** 2) for p in place)
                target = np.outer(y / y.sum(), x / x.sum())
                scores = logits[i, j].numpy()
                terms.append(np.log(np.exp(scores).sum()) - (target * scores).sum())
    assert bool(terms) == any(row < 17 for row in rows)
    expected = np.mean(terms) if terms else 0.0
    assert float(loss.detach() - in_cube) == pytest.approx(expected, rel=1e-4, abs=1e-5)


def test_sets_of_two_layouts_train_together(tmp_path, sets):  # noqa: F811
    """From the files on: 3DPW and Human3.6M with cameras, COCO's TSV and MPII's npz without."""
    write_extra(sets)
    run("body", sets, tmp_path / "body", EXTRA)
    train, val = (read_crops(tmp_path / "body", split, Path(), 1.2) for split in ("phi", "val"))
    assert set(train.datasets) == {"threedpw", "human36m", "coco", "mpii"}
    placed = np.isin(train.datasets, ["threedpw", "human36m"])
    assert np.isnan(train.pixels[~placed]).all() and np.isfinite(train.pixels[placed]).all()
    mix = {"human36m": 0.25, "coco": 0.5, "mpii": 0.25}
    settings = change(mix=mix, finetune=TUNE, augment=1.0, batch=4, cube_m={"body": 2.6})
    train_phi(train, val, settings, 0, tmp_path / "out", tmp_path / "resume.pt")
    history = pd.read_csv(tmp_path / "out/history.csv")
    assert history["phase"].tolist() == 2 * ["mix"] + 2 * ["finetune"]
    assert np.isfinite(history[["loss", "val_mpjpe_mm"]]).all(axis=None)


def test_fine_tuning_follows_with_a_cycle_of_its_own(toy, monkeypatch):
    train, val, tmp = toy
    learn, rates = pretrain.Run.learn, []

    def spy(run, *batch):
        learn(run, *batch)
        rates.append(run.optimiser.param_groups[0]["lr"])

    monkeypatch.setattr(pretrain.Run, "learn", spy)
    train_phi(train, val, SETTINGS, 0, tmp / "out", tmp / "resume.pt")
    history = pd.read_csv(tmp / "out/history.csv")
    assert history["epoch"].tolist() == [1, 2, 3, 4]
    assert history["phase"].tolist() == ["mix", "mix", "finetune", "finetune"]
    first = [pretrain.learning_rate(i / 6, SETTINGS.lr) for i in range(6)]  # 2 epochs of 24 / 8
    second = [pretrain.learning_rate(i / 4, TUNE.lr) for i in range(4)]  # 2 epochs of 17 // 8
    assert rates == pytest.approx(first + second)


def test_before_it_is_tuned_phi_is_what_the_mix_alone_gives(toy, monkeypatch):
    train, val, tmp = toy
    train_phi(train, val, change(mix=MIX), 0, tmp / "mix", tmp / "a.pt")
    ends, end = [], pretrain.Run.end_epoch

    def spy(run, error):
        ends.append({name: tensor.clone() for name, tensor in run.phi.state_dict().items()})
        return end(run, error)

    monkeypatch.setattr(pretrain.Run, "end_epoch", spy)
    train_phi(train, val, SETTINGS, 0, tmp / "both", tmp / "b.pt")
    alone, meta = load_weights(tmp / "mix/phi.safetensors")
    assert all(torch.equal(ends[1][name], alone[name]) for name in alone)
    assert any(not torch.equal(ends[3][name], alone[name]) for name in alone)
    assert meta["phi"]["mix"] == MIX and "finetune" not in meta["phi"]
    assert "phase" not in pd.read_csv(tmp / "mix/history.csv")


@pytest.mark.parametrize("killed_at", [2, 6, 7, 8, 9])  # mixed; between; tuned, at an epoch's end
def test_a_run_killed_in_either_phase_goes_on_to_the_same_bytes(toy, monkeypatch, killed_at):
    train, val, tmp = toy
    train_phi(train, val, SETTINGS, 0, tmp / "whole", tmp / "none.pt")
    learn, taken = pretrain.Run.learn, []

    class Killed(Exception):
        pass

    def until(run, *batch):
        if run.step == killed_at:
            raise Killed
        learn(run, *batch)

    with monkeypatch.context() as patch:
        patch.setattr(pretrain.Run, "learn", until)
        patch.setattr(Resume, "due", lambda keeper: True)
        with pytest.raises(Killed):
            train_phi(train, val, SETTINGS, 0, tmp / "killed", tmp / "resume.pt")
    monkeypatch.setattr(
        pretrain.Run, "learn", lambda run, *batch: (learn(run, *batch), taken.append(run.step))
    )
    train_phi(train, val, SETTINGS, 0, tmp / "killed", tmp / "resume.pt")
    assert taken == list(range(killed_at + 1, 11))
    assert results(tmp / "killed") == results(tmp / "whole")


def test_hands_have_no_part_in_a_mix_of_bodies(toy):
    hands = replace(toy[0], subject="hand", datasets=30 * ("freihand",))
    assert phases_of(hands, SETTINGS) == [Phase("mix", {}, 3, 8, 2, SETTINGS.lr)]


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"mix": {"muco": 0.5, "coco": 0.5}}, "phi.mix: no image of muco trains phi (body)"),
        (
            {"finetune": TUNE.model_copy(update={"dataset": "up3d"})},
            "phi.finetune: no image of up3d trains phi (body)",
        ),
    ],
)
def test_a_data_set_that_is_not_prepared_is_named_with_its_key(toy, values, says):
    train, val, tmp = toy
    with pytest.raises(ValueError) as caught:
        train_phi(train, val, change(**values), 0, tmp / "out", tmp / "resume.pt")
    assert says in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp / "out").exists()


def test_a_rate_too_high_is_named_with_the_key_of_its_phase(toy):
    train, val, tmp = toy
    wild = change(finetune=TUNE.model_copy(update={"lr": 1e30}))
    with pytest.raises(ValueError, match=r"phi\.finetune\.lr: the loss .*lower phi\.finetune\.lr"):
        train_phi(train, val, wild, 0, tmp / "out", tmp / "resume.pt")
