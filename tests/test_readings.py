"""The readings of what the paper leaves open: which run, how they are tuned, what they weigh."""

import frames
import numpy as np
import pytest
from test_train import bench, mesh, params, split  # noqa: F401  (fixtures)

from hmdiff import evaluate, readings
from hmdiff import params as hmdiff_params
from hmdiff.report import breakdowns
from hmdiff.train import build


def with_readings(values, trained):
    block = values.readings.model_copy(update={"train": trained})
    return values.model_copy(update={"readings": block})


def test_only_readings_whose_g_is_trained_take_part(params):  # noqa: F811
    untrained = readings.present(with_readings(params, ()))
    assert {method.checkpoint for method in untrained.values()} == {"image"}
    trained = ("epsilon", "h0", "literal", "alpha", "random_ids")
    every = readings.present(with_readings(params, trained))
    assert every == evaluate.READINGS and len(every) > len(untrained) >= 3


def test_the_printed_values_are_the_papers(params):  # noqa: F811
    params = hmdiff_params.load()
    knobs = readings.printed(params, evaluate.default_knobs(params))
    assert (knobs.steps, knobs.r, knobs.N, knobs.eta) == (40, 0.05, 25, 0.0)
    assert knobs.gamma == pytest.approx(0.2 * 25)  # a sum over N there, a mean here
    tuned = evaluate.Knobs(steps=3, gamma=1.0, r=0.3, N=5, hypotheses=3, eta=1.0)
    assert readings.printed(params, tuned) == knobs, "whatever was tuned"


def test_each_reading_is_tuned_and_measured_beside_ours(bench, split):  # noqa: F811
    bench.params = with_readings(bench.params, ("literal",))
    bench.systems["literal"] = build("literal", "hand", bench.params, 12, 21)
    ours = evaluate.default_knobs(bench.params)
    sweep, knobs = readings.tune_readings(bench, ours, split)
    assert set(knobs) == set(readings.present(bench.params)) == set(sweep["method"])
    assert all(k.steps == ours.steps and k.gamma < 1e6 for k in knobs.values())
    frame = readings.evaluate_readings(bench, ours, knobs, split)
    assert list(dict.fromkeys(frame["method"])) == ["Ours", readings.AS_PRINTED, *knobs]
    # D_K only moves the threshold, and the threshold was never reached.
    wide = frame.pivot(index="image", columns="method", values="MPVE")
    assert not np.allclose(wide["Depth of U independent of x"], wide["Ours"])


def test_the_table_shows_paired_differences_from_ours(tmp_path):
    def values(dataset, method, key):
        rng = np.random.default_rng(key[1])
        offset = {"Ours": 0.0, "better": -5.0, "worse": 5.0}[method]
        base = 100 + offset + np.arange(20) + 0.1 * rng.standard_normal(20)
        return dict.fromkeys(("MPVE", "MPJPE", "PA_MPJPE", "PA_MPVPE", "F5", "F15", "AUC"), base)

    names = ("Ours", "better", "worse")
    errors = frames.errors_frame(values, names, {}, (0,), 20).assign(gamma=0.5, diverged=0.0)
    sheets = breakdowns.write_readings(errors, hmdiff_params.load(), tmp_path)
    assert len(sheets) == 3 and (tmp_path / "readings_freihand.md").is_file()
    crowd = breakdowns.readings_table(
        "threedpw", errors.assign(image="crowd.jpg"), hmdiff_params.load()
    )
    assert dict(crowd.sections[0].rows)["worse"][3].images == 20
    rows = dict(sheets[0].sections[0].rows)
    better, worse = rows["better"][3], rows["worse"][3]
    assert better.high < 0 < worse.low and worse.mean == pytest.approx(5, abs=0.2)
    assert rows["Ours"][3] is None
