"""Training and evaluation of g on a tiny made-up split: progress, resumption, determinism."""

from contextlib import nullcontext
from dataclasses import replace

import made_up
import numpy as np
import pandas as pd
import pytest
import torch
from made_up import V_FULL, J, V
from torch import nn
from tqdm import tqdm

from hmdiff import evaluate, linear
from hmdiff import params as hmdiff_params
from hmdiff import train as train_module
from hmdiff.checkpoint import Memo, load_weights
from hmdiff.diffusion import diffuse, estimate_h0
from hmdiff.losses import geometry_loss
from hmdiff.splits import load_split
from hmdiff.train import (
    READINGS,
    VARIANTS,
    Phase,
    build,
    cycle,
    fall,
    kept_loss,
    load_system,
    loss_of,
    phases_of,
    rows_of_step,
    steps_of,
    train,
    untrained,
)

n = 16


@pytest.fixture
def params():
    values = hmdiff_params.read_yaml("params.yaml")
    small = {
        "g": {"steps": {"body": 6, "hand": 6}, "batch": 4, "lr": 0.001},
        "sampler": {"steps": 4, "N": 3, "hypotheses": 2},
        "tune": {
            "steps": [2, 4],
            "gamma": [0.01, 1e6],
            "r": [0.0, 0.5],
            "N": [1],
            "direct_gamma": [0.01],
            "start_step": [50],
        },
    }
    return hmdiff_params.parse(hmdiff_params.overlay(values, small), "test")


@pytest.fixture
def split():
    return made_up.split(n)


@pytest.fixture
def mesh():
    return made_up.mesh()


@pytest.fixture
def bench(params, split, mesh, tmp_path):
    full = split.mesh.numpy() / split.scale_m
    upsampler = linear.fit_upsampler(full, [np.arange(V)])
    lift = linear.fit_lift(split.u_mean.numpy(), split.h_0.numpy())
    regressor = torch.softmax(torch.randn(J, V_FULL), dim=1)
    made = evaluate.Bench("hand", 0, tmp_path, params, mesh, regressor, upsampler, lift)
    torch.manual_seed(0)
    made.systems = {v: build(v, "hand", params, V, J, split.h_0.mean(0)) for v in VARIANTS}
    return made


@pytest.mark.parametrize("variant", VARIANTS | READINGS)
def test_every_variant_trains_to_the_same_bits_twice(variant, split, mesh, params, tmp_path):
    for name in ("a", "b"):
        train(variant, "hand", 0, split, split, mesh, params, tmp_path / name, tmp_path / "resume")
    first, second = (tmp_path / name / "model.safetensors" for name in "ab")
    assert first.read_bytes() == second.read_bytes()
    assert load_weights(first)[1]["variant"] == variant
    assert not (tmp_path / "resume").exists()


def test_a_killed_training_goes_on_to_the_same_bits(split, mesh, params, tmp_path, monkeypatch):
    monkeypatch.setattr("hmdiff.train.Resume.due", lambda self: True)
    train("image", "hand", 0, split, split, mesh, params, tmp_path / "whole", tmp_path / "resume")

    calls = iter(range(100))

    def dies_at_the_fourth(*args):
        if next(calls) == 3:
            raise KeyboardInterrupt
        return loss_of(*args)

    monkeypatch.setattr("hmdiff.train.loss_of", dies_at_the_fourth)
    with pytest.raises(KeyboardInterrupt):
        train("image", "hand", 0, split, split, mesh, params, tmp_path / "cut", tmp_path / "resume")
    assert (tmp_path / "resume").exists() and not (tmp_path / "cut").exists()
    train("image", "hand", 0, split, split, mesh, params, tmp_path / "cut", tmp_path / "resume")
    whole, cut = (tmp_path / name / "model.safetensors" for name in ("whole", "cut"))
    assert whole.read_bytes() == cut.read_bytes()


def test_looks_at_validation_images_train_nothing_and_are_of_the_averaged_weights(
    split, mesh, params, tmp_path, monkeypatch
):
    monkeypatch.setattr("hmdiff.train.mixed_precision", nullcontext)
    g = params.g.model_copy(update={"steps": {"hand": 60, "body": 60}})
    params = params.model_copy(update={"g": g})
    val, runs = split.take(slice(0, 5)), {}
    for name, seen in {"own": val, "other": split}.items():
        out = tmp_path / name
        runs[name] = train("image", "hand", 0, split, seen, mesh, params, out, tmp_path / "resume")
    own = tmp_path / "own" / "model.safetensors"
    assert runs["own"]["loss"].equals(runs["other"]["loss"])
    assert runs["own"]["val_loss"].notna().all()  # of a short training every row has it

    # By hand: k and noise as the first draws of a generator of their own.
    system, generator = load_system(own, params), torch.Generator().manual_seed(0)
    half = torch.randint(1, params.diffusion.K + 1, (3,), generator=generator)
    k = torch.cat([half, params.diffusion.K + 1 - half])[:5]
    z = torch.randn(5, V, 3, generator=generator)
    h_k = diffuse(val.h_0, system.alpha[k], z)
    with torch.no_grad():
        s = system(h_k, k, system.condition(val.f_I, val.heat))
    h0_hat = estimate_h0(h_k, s, system.alpha[k])
    geometry = geometry_loss(h0_hat, val.h_0, mesh.f, mesh.faces, params.g.weights)
    by_hand = (s - z).square().mean() + geometry
    assert kept_loss(runs["own"]) == pytest.approx(by_hand.item(), rel=1e-5)


def test_the_last_step_has_a_row_whatever_the_number_of_steps(split, mesh, params, tmp_path):
    """g.steps is 26: a row at 20 and one for the six steps after it, with the loss of the end."""
    params = hmdiff_params.with_g(params, {"steps": {"hand": 26}})
    seen = []

    def watched(*args):
        loss = loss_of(*args)
        seen.append(loss.item())
        return loss

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train_module, "loss_of", watched)
        out = tmp_path / "out"
        history = train("image", "hand", 0, split, split, mesh, params, out, tmp_path / "resume")
    assert list(history["step"]) == [20, 26] and history["val_loss"].notna().all()
    assert history["loss"].to_numpy() == pytest.approx([np.mean(seen[:20]), np.mean(seen[20:])])
    system = load_system(out / "model.safetensors", params)
    held = train_module.held_out_loss(system, split, mesh, params)
    assert kept_loss(history) == pytest.approx(held, rel=1e-5)


def test_the_weights_with_the_lowest_loss_on_validation_images_are_kept(
    split, mesh, params, tmp_path, monkeypatch
):
    """Of the last phase: here looks are at steps 20, 40, 60 of the first, and 63 of the second."""
    params, told = hmdiff_params.with_g(params, {"steps": {"hand": 60}}), []

    def says(losses):
        def look(ema, *args):
            told.append({name: tensor.clone() for name, tensor in ema.state_dict().items()})
            return losses[len(told) - 1]

        told.clear()
        monkeypatch.setattr("hmdiff.train.held_out_loss", look)

    def trained(params):
        out = tmp_path / "out"
        history = train("image", "hand", 0, split, split, mesh, params, out, tmp_path / "resume")
        return history, load_weights(out / "model.safetensors")

    says([3.0, 1.0, 2.0])
    history, (weights, meta) = trained(params)
    assert history["kept"].tolist() == [False, True, False] and kept_loss(history) == 1.0
    assert meta["step"] == 40
    assert all(torch.equal(tensor, told[1][name]) for name, tensor in weights.items())
    read = pd.read_csv(tmp_path / "out" / "history.csv")
    assert kept_loss(read) == 1.0

    tune = hmdiff_params.Finetune(dataset="freihand", epochs={"hand": 1}, lr=0.001)
    g = params.g.model_copy(update={"finetune": tune, "batch": 6})
    split.index["dataset"] = "freihand"
    says([3.0, 1.0, 2.0, 5.0])
    history, (_, meta) = trained(params.model_copy(update={"g": g}))
    assert history["step"].tolist() == [20, 40, 60, 63] and meta["step"] == 63
    assert history["kept"].tolist() == [False] * 3 + [True]

    says([np.nan] * 3)
    with pytest.raises(FloatingPointError, match="hand image seed 0: no loss on validation images"):
        trained(params)


def test_ids_start_as_the_meshs_harmonics_or_at_random(split, mesh, params):
    ids = {
        variant: untrained(variant, "hand", params, split, mesh).net.vertex_id
        for variant in ("image", "baseline_b", "random_ids")
    }
    assert torch.equal(ids["image"], ids["baseline_b"]) and ids["image"].requires_grad
    assert not ids["image"][:, V - 1 :].any()  # a mesh of V vertices has V - 1 of them
    torch.testing.assert_close(ids["image"][:, : V - 1].square().mean(0), torch.ones(V - 1))
    assert ids["random_ids"].all()


@pytest.mark.parametrize("variant", ["image", "baseline_a"])
def test_bf16_rounds_the_loss_and_no_more(variant, split, mesh, params, monkeypatch):
    torch.manual_seed(0)
    model = untrained(variant, "hand", params, split, mesh)
    nn.init.normal_(model.net.output.weight, std=0.05)
    losses = {}
    for name, context in {
        "bf16": lambda: torch.autocast("cpu", torch.bfloat16),
        "float32": nullcontext,
    }.items():
        monkeypatch.setattr("hmdiff.train.mixed_precision", context)
        model.zero_grad()
        loss = loss_of(model, split, mesh, params, torch.Generator().manual_seed(0))
        loss.backward()
        grads = [p.grad for p in model.parameters() if p.grad is not None]
        losses[name] = loss.item(), torch.cat([grad.flatten() for grad in grads])
        assert loss.dtype == torch.float32 and losses[name][1].dtype == torch.float32
    (rough, a), (exact, b) = losses["bf16"], losses["float32"]
    assert rough != exact and rough == pytest.approx(exact, rel=0.02)
    assert torch.cosine_similarity(a, b, dim=0) > 0.99


def test_a_network_that_puts_out_the_noise_trains_in_float32(split, mesh, params, monkeypatch):
    model, asked = build("epsilon", "hand", params, V, J), []
    monkeypatch.setattr("hmdiff.train.mixed_precision", lambda: asked.append(1) or nullcontext())
    loss_of(model, split, mesh, params, torch.Generator().manual_seed(0))
    assert not asked
    loss_of(build("h0", "hand", params, V, J), split, mesh, params, torch.Generator())
    assert asked


def test_a_grid_of_one_value_is_swept_for_the_figures_all_the_same(bench, split):
    tune = bench.params.tune.model_copy(update={"r": (bench.params.sampler.r,), "N": (3,)})
    bench.params = bench.params.model_copy(update={"tune": tune})
    frame, _ = evaluate.sweep(bench, split)
    assert {"r", "N"} <= set(frame["knob"])


def test_a_fall_is_told_from_a_level():
    step = np.arange(20, 2020, 20)
    seen = np.where(step % 100 == 0, 1.0, np.nan)
    history = pd.DataFrame({"step": step, "loss": np.where(step > 1800, 0.9, 1.0)})
    history["val_loss"] = seen
    assert fall(history) == 0 and fall(history, "loss") == pytest.approx(0.1)
    assert np.isnan(fall(history.head(1)))


def test_a_device_out_of_memory_loses_nothing_that_was_saved(
    split, mesh, params, tmp_path, monkeypatch
):
    monkeypatch.setattr("hmdiff.train.Resume.due", lambda self: True)
    calls = iter(range(100))

    def full_at_the_third(*args):
        if next(calls) == 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.")
        return loss_of(*args)

    monkeypatch.setattr("hmdiff.train.loss_of", full_at_the_third)
    with pytest.raises(torch.OutOfMemoryError):
        train("image", "hand", 0, split, split, mesh, params, tmp_path / "out", tmp_path / "resume")
    assert not (tmp_path / "out").exists()
    saved = torch.load(tmp_path / "resume", weights_only=True)
    assert saved["state"]["step"] == 2


def test_a_resume_file_from_other_features_is_not_taken_up(
    split, mesh, params, tmp_path, monkeypatch
):
    # As many samples, but phi was trained anew in between: only the features differ.
    other = replace(split, f_I=split.f_I.flip(0))
    train("image", "hand", 0, split, split, mesh, params, tmp_path / "fresh", tmp_path / "unused")
    monkeypatch.setattr("hmdiff.train.Resume.due", lambda self: True)
    monkeypatch.setattr("hmdiff.train.Resume.clear", lambda self: None)
    train("image", "hand", 0, other, split, mesh, params, tmp_path / "other", tmp_path / "resume")
    assert (tmp_path / "resume").exists()
    train("image", "hand", 0, split, split, mesh, params, tmp_path / "again", tmp_path / "resume")
    fresh, again = (tmp_path / name / "model.safetensors" for name in ("fresh", "again"))
    assert fresh.read_bytes() == again.read_bytes()


def test_a_loss_that_is_not_a_number_stops_with_one_line(split, mesh, params, tmp_path):
    split.h_0[:] = torch.nan
    with pytest.raises(FloatingPointError, match=r"hand image seed 0: the loss is nan at step 0"):
        train("image", "hand", 0, split, split, mesh, params, tmp_path / "out", tmp_path / "resume")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", evaluate.METHODS)
def test_every_method_gives_finite_errors_for_every_image(name, bench, split, params):
    knobs = evaluate.default_knobs(params)
    knobs = evaluate.replace(knobs, gamma=0.001, k_start=50)
    frame = evaluate.evaluate(bench, name, knobs, split)
    assert frame["image"].tolist() == split.index["image"].tolist()
    assert np.isfinite(frame[["MPVE", "MPJPE", "PA_MPJPE", "F5", "AUC"]].to_numpy()).all()
    again = evaluate.evaluate(bench, name, knobs, split)
    pd.testing.assert_frame_equal(frame, again)


def test_a_memo_gives_what_was_evaluated_and_knows_other_weights(
    bench, split, params, tmp_path, monkeypatch
):
    knobs = replace(evaluate.default_knobs(params), steps=2)
    fresh = evaluate.evaluate(bench, "Ours", knobs, split)
    bench.memo = Memo(tmp_path / "memo.pt")
    ran, run = [], evaluate.run
    monkeypatch.setattr(evaluate, "run", lambda *a: (ran.append(a[2]), run(*a))[1])
    for _ in range(2):
        found = evaluate.evaluate(bench, "Ours", knobs, split)
        pd.testing.assert_frame_equal(found, fresh, check_exact=True)
    assert len(ran) == 1
    evaluate.evaluate(bench, "Ours", replace(knobs, gamma=0.1), split)
    next(bench.system("image").parameters()).data.add_(1e-3)
    evaluate.evaluate(bench, "Ours", knobs, split)
    assert len(ran) == 3
    # What the errors are measured by counts as well.
    bench.joint_regressor = bench.joint_regressor.roll(1, dims=1)
    evaluate.evaluate(bench, "Ours", knobs, split)
    assert len(ran) == 4
    measured = torch.zeros(len(split), 17, 3)
    assert replace(split, mocap=measured).content != split.content


def test_an_images_result_does_not_depend_on_its_batch_mates(bench, split, params, monkeypatch):
    knobs = evaluate.replace(evaluate.default_knobs(params), gamma=0.001)
    monkeypatch.setattr(evaluate, "CHAINS", 8)
    whole = evaluate.run(bench, evaluate.METHODS["Ours"], knobs, split).h_0
    part = evaluate.run(bench, evaluate.METHODS["Ours"], knobs, split.take(slice(0, 4))).h_0
    torch.testing.assert_close(whole[:4], part)


def test_the_true_joints_have_no_error_and_a_pose_has_no_mesh_error(bench, split):
    joints = bench.joint_regressor @ split.mesh / split.scale_m
    errors = evaluate.measure_pose(bench, joints, split)
    assert np.abs(errors["MPJPE"]).max() < 1e-3
    assert np.isnan(errors["MPVE"]).all()


def test_joints_that_are_not_the_skeletons_are_read_off_meshes_alone(bench, split):
    """On licensed bodies: 17 rows, of which 14 count; a bare pose has none of them."""
    licensed = bench.params.model_copy(update={"source": "raw"})
    rows = torch.softmax(torch.randn(17, V_FULL, generator=torch.Generator().manual_seed(4)), dim=1)
    field = replace(bench, subject="body", params=licensed, joint_regressor=rows)
    assert field.protocol.name == "H36M14" and bench.protocol.name == "HAND21"
    errors = evaluate.measure(field, split.h_0, split)
    pred = evaluate.full_mesh_mm(field, split.h_0, split.scale_m).double()
    joints, truth = ((rows.double() @ mesh)[:, :, :] for mesh in (pred, split.mesh.double() * 1000))
    gap = (joints - joints[:, :1]) - (truth - truth[:, :1])
    of = [3, 2, 1, 4, 5, 6, 16, 15, 14, 11, 12, 13, 8, 10]
    np.testing.assert_allclose(errors["MPJPE"], gap.norm(dim=2)[:, of].mean(1), rtol=1e-6)
    bare = evaluate.evaluate_sceptics(field, split, split.h_0.mean(0))
    poses = bare["method"].isin(evaluate.BARE_POSES)
    assert poses.sum() == 2 * len(split)
    assert bare[poses]["MPJPE"].isna().all() and bare[~poses]["MPJPE"].notna().all()


def test_measured_joints_are_the_truth_where_a_sample_has_them(bench, split):
    licensed = bench.params.model_copy(update={"source": "raw"})
    generator = torch.Generator().manual_seed(4)
    rows = torch.softmax(torch.randn(17, V_FULL, generator=generator), dim=1)
    field = replace(bench, subject="body", params=licensed, joint_regressor=rows)
    mocap = torch.randn(n, 17, 3, generator=generator)
    mocap[1::2] = torch.nan
    plain = evaluate.measure(field, split.h_0, split)
    errors = evaluate.measure(field, split.h_0, replace(split, mocap=mocap))
    pred = rows.double() @ evaluate.full_mesh_mm(field, split.h_0, split.scale_m).double()
    of = [3, 2, 1, 4, 5, 6, 16, 15, 14, 11, 12, 13, 8, 10]
    truth = 1000 * mocap.double()
    gap = ((pred - pred[:, :1]) - (truth - truth[:, :1])).norm(dim=2)[:, of].mean(1)
    np.testing.assert_allclose(errors["MPJPE"][::2], gap[::2], rtol=1e-6)
    for name in ("MPJPE", "PA_MPJPE"):
        assert np.abs(errors[name] - plain[name])[::2].min() > 1
        np.testing.assert_array_equal(errors[name][1::2], plain[name][1::2])
    for name in ("MPVE", "PA_MPVPE"):
        np.testing.assert_array_equal(errors[name], plain[name])
    part = replace(split, mocap=mocap).take(np.array([2, 5]))
    assert torch.equal(part.mocap[0], mocap[2]) and part.mocap[1].isnan().all()


SETS = ["threedpw"] * 3 + ["coco"] * 9 + ["mpii"] * 4
TUNE = hmdiff_params.Finetune(dataset="threedpw", epochs={"body": 3, "hand": 0}, lr=0.0005)


@pytest.fixture
def mixed(params, split):
    """Parameters with shares of g and a last phase, and a split of three data sets."""
    g = params.g.model_copy(update={"mix": {"coco": 0.75, "threedpw": 0.25}, "finetune": TUNE})
    index = split.index.assign(dataset=SETS)
    return params.model_copy(update={"g": g}), replace(split, index=index)


def test_rows_are_drawn_in_their_shares_and_alike_within_a_set(mixed):
    params, split = mixed
    mix, tune = phases_of(split, "body", params.g)
    assert (mix.steps, mix.lr, tune.lr) == (6, 0.001, 0.0005)
    assert tune.steps == 3  # three epochs of three images in batches of four
    draw = torch.Generator().manual_seed(0)
    seen = torch.bincount(rows_of_step(n, 48000, draw, mix.upto), minlength=n) / 48000
    expected = np.repeat([0.25 / 3, 0.75 / 9, 0.0], [3, 9, 4])
    np.testing.assert_allclose(seen, expected, atol=0.006)  # over four standard deviations
    assert set(rows_of_step(n, 400, draw, tune.upto).tolist()) == {0, 1, 2}
    assert [phase.name for phase in phases_of(split, "hand", params.g)] == ["mix"]


def test_without_shares_the_draws_are_what_they_always_were(params, split):
    [phase] = phases_of(split, "body", params.g)
    drawn = rows_of_step(n, 9, torch.Generator().manual_seed(3), phase.upto)
    assert torch.equal(drawn, torch.randint(n, (9,), generator=torch.Generator().manual_seed(3)))


@pytest.mark.parametrize("killed_at", [4, 6, 7])
def test_a_training_killed_about_the_switch_goes_on_to_the_same_bits(
    mixed, mesh, tmp_path, monkeypatch, killed_at
):
    params, split = mixed
    monkeypatch.setattr("hmdiff.train.Resume.due", lambda self: True)
    train("image", "body", 0, split, split, mesh, params, tmp_path / "whole", tmp_path / "resume")
    rates, calls = [], iter(range(100))

    def dies(*args):
        if next(calls) == killed_at:
            raise KeyboardInterrupt
        return loss_of(*args)

    monkeypatch.setattr("hmdiff.train.loss_of", dies)
    with pytest.raises(KeyboardInterrupt):
        train("image", "body", 0, split, split, mesh, params, tmp_path / "cut", tmp_path / "resume")
    monkeypatch.setattr("hmdiff.train.loss_of", loss_of)
    step = torch.optim.Adam.step
    monkeypatch.setattr(
        "torch.optim.Adam.step",
        lambda self, *a: (rates.append(self.param_groups[0]["lr"]), step(self, *a))[1],
    )
    train("image", "body", 0, split, split, mesh, params, tmp_path / "cut", tmp_path / "resume")
    whole, cut = (tmp_path / name / "model.safetensors" for name in ("whole", "cut"))
    assert whole.read_bytes() == cut.read_bytes()
    assert len(rates) == 9 - killed_at and max(rates[-3:]) <= 0.0005


def test_a_set_that_trains_nothing_is_named(mixed):
    params, split = mixed
    g = params.g.model_copy(update={"mix": {"muco": 1.0}})
    with pytest.raises(ValueError, match=r"g\.mix: no image of muco trains g \(body\)"):
        phases_of(split, "body", g)
    g = params.g.model_copy(update={"mix": {}, "finetune": TUNE})
    alone = replace(split, index=split.index.assign(dataset="coco"))
    with pytest.raises(ValueError, match=r"g\.finetune: no image of threedpw"):
        phases_of(alone, "body", g)


def test_the_sweep_never_picks_a_setting_that_diverges(bench, split):
    frame, tuned = evaluate.sweep(bench, split)
    assert set(tuned) == {method.tuned for method in evaluate.METHODS.values()}
    assert tuned["Ours"].gamma == 0.01
    tried = frame[(frame.method == "Ours") & (frame.knob == "gamma")]
    assert tried.groupby("value")["diverged"].max().loc[1e6] > 0


def test_a_start_from_H_U_is_offered_no_more_steps_than_lie_below_it(bench, split):
    knobs = replace(evaluate.default_knobs(bench.params), k_start=4)
    search = evaluate.Search(bench, split, tqdm(disable=True))
    found = search.best("Ours w/ H_U", knobs, "steps", (2, 4, 8))
    assert found.steps in (2, 4) and found.k_start == 4
    assert {frame["value"].iloc[0] for frame in search.frames} == {2, 4}


@pytest.mark.parametrize("steps", [1, 2, 9, 10, 11, 20])
def test_a_cycle_has_a_peak_and_an_end_whatever_its_length(steps):
    optimizer = torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))], fused=True)
    schedule, rates = cycle(optimizer, Phase("mix", steps, 0.01, None)), []
    for _ in range(steps):
        rates.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    assert all(0 < rate <= 0.01 for rate in rates)
    assert steps < 3 or max(rates[:3]) > 10 * rates[-1]


def test_an_unknown_length_of_training_is_refused(params):
    with pytest.raises(KeyError, match="fourfould"):
        steps_of("fourfould", "hand", params)


def test_missing_features_are_named_with_their_stage(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"index\.parquet: not there; run `dvc repro"):
        load_split("hand", "g", tmp_path, 0.3)


@pytest.mark.parametrize("variant", ["image", "literal"])
def test_the_target_is_the_noise_or_as_printed_the_step_to_the_mesh_before(
    variant, split, mesh, params, monkeypatch
):
    seen = {}

    def spy(name, function):
        def call(*args):
            seen.setdefault(name, []).append(args)
            return function(*args)

        return call

    for name in ("diffuse", "diffusion_loss"):
        monkeypatch.setattr(f"hmdiff.train.{name}", spy(name, getattr(train_module, name)))
    model = build(variant, "hand", params, V, J)
    loss_of(model, split, mesh, params, torch.Generator().manual_seed(0))
    h_0, alpha_k, z = seen["diffuse"][0]
    ((_, target),) = seen["diffusion_loss"]
    if variant == "image":
        assert target is z
        return
    before = torch.tensor([model.alpha[(model.alpha == a).nonzero().item() - 1] for a in alpha_k])
    step = diffuse(h_0, before, z) - diffuse(h_0, alpha_k, z)
    torch.testing.assert_close(target, step)


@pytest.mark.parametrize(
    ("errors", "steps"),
    [
        ({1: 100.0, 5: 99.5, 10: 99.4}, 1),
        ({1: 101.0, 5: 99.5, 10: 99.4}, 5),
        ({5: 90.0, 1: 99.0}, 5),
        ({3: 1e6, 5: 1e6 + 90}, 3),
    ],
)
def test_the_steps_needed_are_the_fewest_within_the_slack_of_the_best(errors, steps):
    assert evaluate.smallest(errors, 0.01) == steps
    assert errors[evaluate.smallest(errors)] == min(errors.values())
