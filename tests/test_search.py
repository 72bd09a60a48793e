"""The search for settings of training: one budget for all, validation chooses, and it resumes."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from test_train import bench, mesh, params, split  # noqa: F401  (fixtures)

from hmdiff import evaluate, search
from hmdiff import params as hmdiff_params
from hmdiff.report import breakdowns
from hmdiff.train import train

STEPS = 5


@pytest.fixture
def tried(bench, split, tmp_path, monkeypatch):  # noqa: F811
    """Runs the search of a denoiser and a baseline with some trials."""
    few = {name: search.ROW_OF[name] for name in ("image", "baseline_a")}
    monkeypatch.setattr(search, "ROW_OF", few)

    def run(*trials):
        block = {"steps": STEPS, "images": 4, "try": list(trials)}
        chosen = hmdiff_params.Search.model_validate(block)
        bench.params = bench.params.model_copy(update={"search": chosen})
        frame = search.search(bench, None, split, split, tmp_path, tmp_path / "resume.pt")
        written = pd.read_csv(tmp_path / f"{bench.subject}.csv")
        assert written["chosen"].tolist() == frame["chosen"].tolist()
        return frame, json.loads((tmp_path / f"{bench.subject}.json").read_text())

    return run


def test_with_nothing_to_try_nothing_is_trained(tried, monkeypatch):
    monkeypatch.setattr(search, "fit", None)  # calling it would fail
    frame, found = tried()
    assert len(frame) == 0 and found == {"image": {}, "baseline_a": {}}


@pytest.mark.parametrize(("own", "other"), [(0.001, 5.0), (5.0, 0.001)])
def test_the_better_setting_wins_whatever_its_place(own, other, tried, bench):  # noqa: F811
    bench.params = hmdiff_params.with_g(bench.params, {"lr": own})
    frame, found = tried({"lr": other})
    rows = frame[frame["system"] == "baseline_a"].set_index("setting")
    assert list(rows.index) == ["as it stands", f"lr {other:g}"]
    assert rows["chosen"].idxmax() == rows["MPVE"].idxmin()
    assert found["baseline_a"] == ({"lr": 0.001} if other < own else {})
    assert frame.groupby("system")["chosen"].sum().tolist() == [1, 1]


@pytest.mark.parametrize(
    ("leads", "chosen"),
    [
        ([0.0, 1.0, 3.0, 2.0], 2),  # of those that are ahead, the best
        ([0.0, -1.0, -3.0], 0),
        ([0.0, 0.01, -1.0], 0),  # ahead, but not told from zero
        ([0.0, -np.inf, 1.0], 2),
        ([-np.inf, 1.0, 2.0], 2),  # whatever lives is ahead of what does not
        ([0.0], 0),
    ],
)
def test_a_setting_is_left_only_for_one_that_is_told_to_be_better(leads, chosen):
    rng = np.random.default_rng(0)
    errors = rng.normal(100, 30, (48, 1)) + rng.normal(0, 1, (48, len(leads)))
    errors -= errors.mean(axis=0) + np.array(leads)  # the mean of a column is minus its lead
    assert search.choice(errors, hmdiff_params.load().stats) == chosen


def test_luck_alone_chooses_nothing():
    stats = hmdiff_params.load().stats.model_copy(update={"bootstrap": 200})
    rng = np.random.default_rng(1)
    luck = [search.choice(rng.normal(100, 30, (48, 2)), stats) for _ in range(200)]
    # by the test of a mean of normals, 2.5 % of the draws; the best alone would be every second
    assert np.mean(luck) < 0.1


def test_a_trial_is_what_a_training_with_these_values_would_be(tried, bench, split, tmp_path):  # noqa: F811
    frame, _ = tried({"lr": 0.01, "lambda": {"e": 3.0}})
    changes = {"lr": 0.01, "lambda": {"e": 3.0}, "steps": {"hand": STEPS}}
    values = hmdiff_params.with_g(bench.params, changes)
    assert (values.g.weights.e, values.g.weights.v) == (3.0, bench.params.g.weights.v)
    folder = tmp_path / "checkpoints" / "hand-baseline_a-0"
    train("baseline_a", "hand", 0, split, split, bench.mesh, values, folder, tmp_path / "other")
    del bench.systems["baseline_a"]
    errors = evaluate.evaluate_baseline(bench, "Baseline A", split)
    row = frame[(frame["system"] == "baseline_a") & (frame["setting"] == "lambda_e 3, lr 0.01")]
    assert row["MPVE"].item() == pytest.approx(errors["MPVE"].mean(), rel=1e-6)


def test_a_peer_is_tried_like_the_rest(tried, bench, split, tmp_path, monkeypatch):  # noqa: F811
    bench.mesh = replace(bench.mesh, ids=torch.arange(12))
    monkeypatch.setattr(search, "ROW_OF", {"pose2mesh": "Pose2Mesh-style"})
    frame, _ = tried({"lr": 0.01})
    assert (frame["method"] == "Pose2Mesh-style").all()
    assert (frame["MPVE"] > 0).all() and np.isfinite(frame["MPVE"]).all()
    assert not list(tmp_path.glob("resume*"))


def test_a_trial_leaves_the_second_phase_out(tried, bench, monkeypatch):  # noqa: F811
    tune = hmdiff_params.Finetune(dataset="freihand", epochs={"body": 0, "hand": 1}, lr=0.1)
    g = bench.params.g.model_copy(update={"finetune": tune})
    bench.params, fit, seen = bench.params.model_copy(update={"g": g}), search.fit, []
    monkeypatch.setattr(search, "fit", lambda *a: (seen.append(a[7].g), fit(*a))[1])
    tried({"lr": 0.01})
    assert [g.finetune for g in seen] == [None] * 4
    assert {g.steps["hand"] for g in seen} == {STEPS}


def test_a_setting_that_training_does_not_survive_is_no_candidate(tried, monkeypatch):
    fit = search.fit

    def fragile(model, name, subject, seed, data, val, mesh, params, *more):  # noqa: F811
        if params.g.lr == 7.0:
            raise FloatingPointError("the loss is nan")
        return fit(model, name, subject, seed, data, val, mesh, params, *more)

    monkeypatch.setattr(search, "fit", fragile)
    frame, found = tried({"lr": 7.0})
    assert np.isinf(frame["MPVE"]).tolist() == [False, True, False, True]
    assert found == {"image": {}, "baseline_a": {}}


def test_a_killed_search_goes_on_to_the_same_numbers(tried, tmp_path, monkeypatch):
    whole, found = tried({"lr": 0.01})
    fit, calls = search.fit, []

    def dies_in_the_third(*args):
        calls.append(args[1])
        if len(calls) == 3:
            raise KeyboardInterrupt
        return fit(*args)

    monkeypatch.setattr(search, "fit", dies_in_the_third)
    with pytest.raises(KeyboardInterrupt):
        tried({"lr": 0.01})
    again, found_again = tried({"lr": 0.01})
    pd.testing.assert_frame_equal(again, whole)
    assert found_again == found
    assert calls == ["image", "image", "baseline_a", "baseline_a", "baseline_a"]
    assert not list(tmp_path.glob("resume*"))


def test_a_search_whose_results_cannot_be_written_has_lost_nothing(tried, monkeypatch):
    fit, calls = search.fit, []
    monkeypatch.setattr(search, "fit", lambda *a: (calls.append(a[1]), fit(*a))[1])
    with monkeypatch.context() as full:
        full.setattr(search, "write_file", lambda *_: (_ for _ in ()).throw(OSError))
        with pytest.raises(OSError):
            tried({"lr": 0.01})
    tried({"lr": 0.01})
    assert len(calls) == 4


def test_a_search_killed_while_it_judges_trains_nothing_twice(tried, monkeypatch):
    whole, _ = tried({"lr": 0.01})
    fit, evaluate_one_pass, calls = search.fit, search.evaluate_one_pass, []
    monkeypatch.setattr(search, "fit", lambda *a: (calls.append(a[1]), fit(*a))[1])
    with monkeypatch.context() as judging:
        judging.setattr(search, "evaluate_one_pass", lambda *_: (_ for _ in ()).throw(OSError))
        with pytest.raises(OSError):
            tried({"lr": 0.01})
    assert search.evaluate_one_pass is evaluate_one_pass
    again, _ = tried({"lr": 0.01})
    pd.testing.assert_frame_equal(again, whole)
    assert calls == ["image", "image", "baseline_a", "baseline_a"]


def test_training_takes_what_was_found_and_a_reading_what_ours_found(tmp_path):
    params, path = hmdiff_params.load(), tmp_path / "hand.json"  # noqa: F811
    path.write_text(json.dumps({"image": {"lr": 0.5}, "hmr": {"lambda": {"n": 0.0}}}))
    rates = {s: hmdiff_params.searched(params, path, s).g.lr for s in ("image", "literal", "hmr")}
    assert rates == {"image": 0.5, "literal": 0.5, "hmr": params.g.lr}
    weights = hmdiff_params.searched(params, path, "hmr").g.weights
    assert (weights.n, weights.e) == (0.0, params.g.weights.e)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"image": {"bach": 2}}', '{"image": 3}'])
def test_a_damaged_search_is_named_in_one_line(text, tmp_path):
    path = tmp_path / "hand.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"hand\.json: damaged search; delete it") as caught:
        hmdiff_params.searched(hmdiff_params.load(), path, "image")
    assert "\n" not in str(caught.value)


def test_a_missing_search_names_the_remedy(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such search; run `dvc repro`"):
        hmdiff_params.searched(hmdiff_params.load(), tmp_path / "hand.json", "image")


def test_the_table_shows_every_trial_and_the_choice(tried, tmp_path, bench):  # noqa: F811
    frame, _ = tried({"lr": 0.01})
    sheets = breakdowns.write_search({"hand": frame, "body": frame[:0]}, bench.params, tmp_path)
    assert [sheet.stem for sheet in sheets] == ["search_hand"]
    text = (tmp_path / "search_hand.md").read_text()
    assert "lr 0.01" in text and "| Baseline A |" in text and "synthetic" in text
    for label, cells in sheets[0].sections[0].rows:
        rows = frame[frame["method"] == label]
        assert list(cells[:-1]) == pytest.approx(rows["MPVE"].tolist())
        assert cells[-1] == rows.loc[rows["chosen"], "setting"].item()
