"""Hypotheses: vectorised code against loops, an honest spread is found honest, reports say so."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import test_train
import torch
from PIL import Image

from hmdiff import closed_form, evaluate, hypotheses
from hmdiff import params as hmdiff_params
from hmdiff.metrics import HAND21
from hmdiff.report import hypotheses_table, uncertainty_figures
from hmdiff.report.canvas import LIMIT_BYTES

ROOT = Path(__file__).parents[1]
SETTINGS = hmdiff_params.load(ROOT / "params.yaml").model_copy(
    update={"stats": hmdiff_params.Stats(bootstrap=200, level=0.95)}
)
N, SIZES = 5, (1, 3, 5)
bench, mesh, params, split = (
    getattr(test_train, name) for name in ("bench", "mesh", "params", "split")
)


@pytest.fixture
def samples(split):
    """Made-up coarse hypotheses about the truth; one chain of the first image diverged."""
    generator = torch.Generator().manual_seed(2)
    h_0 = split.h_0[:, None] + 0.1 * torch.randn(len(split), N, *split.h_0.shape[1:],
                                                 generator=generator)  # fmt: skip
    diverged = torch.zeros(len(split), N, dtype=torch.bool)
    diverged[0, 1] = True
    return SimpleNamespace(h_0=h_0, diverged=diverged)


def test_the_three_readings_are_what_loops_over_the_hypotheses_give(bench, split, samples):
    frame = hypotheses.by_number(bench, samples, split, SIZES)
    assert len(frame) == len(split) * len(SIZES) * 3
    for i in (0, 7):
        one = split.take(slice(i, i + 1))
        for M in SIZES:
            errors = [evaluate.measure(bench, samples.h_0[i : i + 1, m], one) for m in range(M)]
            centre = evaluate.measure(
                bench, sum(samples.h_0[i : i + 1, m] for m in range(M)) / M, one
            )
            rows = frame[(frame["image"] == f"{i}.jpg") & (frame["M"] == M)].set_index("kind")
            for name in hypotheses.MEASURED:
                each = [float(e[name][0]) for e in errors]
                assert rows.loc["mean", name] == pytest.approx(float(centre[name][0]), rel=1e-4)
                assert rows.loc["single", name] == pytest.approx(sum(each) / M, rel=1e-6)
                assert rows.loc["oracle", name] == pytest.approx(min(each), rel=1e-6)
    lost = frame[frame["diverged"] > 0]
    assert set(lost["image"]) == {"0.jpg"} and set(lost["M"]) == {3, 5}


def test_the_oracle_is_never_worse_than_a_single_one_and_one_is_its_own_mean(bench, split, samples):
    frame = hypotheses.by_number(bench, samples, split, SIZES)
    kinds = frame.set_index(["image", "M", "kind"])[list(hypotheses.MEASURED)].unstack()
    for name in hypotheses.MEASURED:
        found = kinds[name]
        assert (found["oracle"] <= found["single"]).all()
        one = found.xs(1, level="M")
        assert (one["mean"] == one["single"]).all() and (one["mean"] == one["oracle"]).all()


def test_spread_and_error_are_those_of_a_loop_and_the_mean_error_is_mpve(bench, split, samples):
    spread, error = hypotheses.spread_and_error(bench, samples.h_0, split)
    centre = evaluate.measure(bench, samples.h_0.mean(dim=1), split)
    np.testing.assert_allclose(error.mean(axis=1), centre["MPVE"], rtol=1e-4)
    row = bench.joint_regressor[0].double()
    for i in (0, 9):
        meshes = []
        for m in range(N):
            full = evaluate.full_mesh_mm(bench, samples.h_0[i, m][None], split.scale_m)[0].double()
            meshes.append((full - row @ full).numpy())
        for v in range(0, test_train.V_FULL, 7):
            points = [one[v] for one in meshes]
            middle = sum(points) / N
            variance = sum(((p - middle) ** 2).sum() for p in points) / (N - 1)
            # A further draw strays from the centre of N by the variance, and the centre by 1 / N.
            assert spread[i, v] == pytest.approx(np.sqrt(variance * (1 + 1 / N)), rel=1e-6)


def honest(images: int = 120, V: int = 60, draws: int = 25):
    """Hypotheses and truth drawn alike about hidden centres, and a bench that changes nothing."""
    generator = torch.Generator().manual_seed(0)
    sigma = torch.exp(torch.randn(images, 1, V, 1, generator=generator))
    centre = 10 * torch.randn(images, 1, V, 3, generator=generator)
    drawn = centre + sigma * torch.randn(images, draws + 1, V, 3, generator=generator)
    bench = SimpleNamespace(
        subject="hand",
        protocol=HAND21,
        mesh=SimpleNamespace(f=torch.zeros(1)),
        upsampler=torch.nn.Identity(),
        joint_regressor=torch.zeros(21, V),  # the root of every mesh at the origin
    )
    return bench, drawn[:, :-1], SimpleNamespace(mesh=drawn[:, -1], scale_m=1.0)


@pytest.mark.parametrize("draws", [3, 25])
def test_an_honest_spread_ranks_the_errors_and_needs_no_factor(draws):
    spread, error = hypotheses.spread_and_error(*honest(draws=draws))
    found = hypotheses.summarise(spread, error)
    assert found["pooled"] > 0.4 and found["within"] > 0.4
    assert found["spread_mm"] == pytest.approx(found["error_mm"], rel=0.1)
    if draws == 3:  # so few say little of each vertex, but their size is right
        return
    assert found["factor"] == pytest.approx(1, abs=0.03)
    nominal = np.arange(1, 10) / 10
    assert np.abs(hypotheses.coverage(spread, error, nominal) - nominal).max() < 0.02
    bins = hypotheses.reliability(spread, error)
    np.testing.assert_allclose(bins["spread_mm"], bins["error_mm"], rtol=0.12)


def test_a_spread_too_small_by_two_is_found_by_the_factor():
    spread, error = hypotheses.spread_and_error(*honest())
    assert hypotheses.factor(spread / 2, error) == pytest.approx(
        2 * hypotheses.factor(spread, error)
    )
    scaled = spread * hypotheses.factor(spread, error)
    assert hypotheses.coverage(scaled, error, [0.5])[0] == pytest.approx(0.5, abs=1e-3)
    assert hypotheses.coverage(spread / 2, error, [0.5])[0] < 0.2


def test_a_spread_that_knows_nothing_of_the_error_has_no_correlation():
    spread, error = hypotheses.spread_and_error(*honest())
    shuffled = np.random.default_rng(0).permuted(error.ravel()).reshape(error.shape)
    found = hypotheses.summarise(spread, shuffled)
    assert abs(found["pooled"]) < 0.05 and abs(found["within"]) < 0.05


def test_bins_of_the_reliability_table_are_equally_filled_and_hold_every_vertex():
    spread, error = np.array([[3.0, 1.0, 2.0], [4.0, 6.0, 5.0]]), np.full((2, 3), 2.0)
    bins = hypotheses.reliability(spread, error * [1, 1, 3], bins=3)
    assert bins["vertices"].tolist() == [2, 2, 2]
    assert bins["spread_mm"].to_numpy() == pytest.approx(np.sqrt([2.5, 12.5, 30.5]))
    np.testing.assert_allclose(bins["error_mm"], [np.sqrt(20), 2, np.sqrt(20)])


def test_hypotheses_are_drawn_with_the_tuned_knobs_but_their_own_number(bench, split, params):
    knobs = replace(evaluate.default_knobs(params), gamma=0.001, k_start=50)
    tuned = dict.fromkeys((*evaluate.METHODS, closed_form.PLUS), knobs)
    few, gains = split.take(slice(0, 4)), closed_form.fit(bench, split, split, knobs.steps)
    for name in SETTINGS.hypotheses.methods:
        samples = hypotheses.draw(bench, name, tuned, few, gains, N)
        assert samples.h_0.shape == (4, N, test_train.V, 3)
        assert samples.diverged.shape == (4, N)
        if name in evaluate.METHODS:
            method, own = evaluate.METHODS[name], replace(knobs, hypotheses=N)
            expected = evaluate.run(bench, method, own, few, 0)
            torch.testing.assert_close(samples.h_0, expected.h_0, rtol=0, atol=0)


def test_an_unknown_method_and_sizes_that_were_not_drawn_are_one_clear_line(bench, split):
    with pytest.raises(ValueError, match="hypotheses.methods: no method 'Hers'; known are .*Ours"):
        hypotheses.draw(bench, "Hers", {}, split, closed_form.Gains([], 1.0), N)
    values = hmdiff_params.read_yaml(ROOT / "params.yaml")
    wrong = hmdiff_params.overlay(values, {"hypotheses": {"sizes": [1, 26]}})
    with pytest.raises(ValueError, match="hypotheses: .*sizes up to 26 asked for, but N is 25"):
        hmdiff_params.parse(wrong, "params.yaml")


def made_up(images: int = 20) -> pd.DataFrame:
    """Errors that fall with M: the centre's by averaging, the oracle's by choice."""
    rng, parts = np.random.default_rng(0), []
    for dataset in ("threedpw", "human36m"):
        base = rng.gamma(40, 4, images)
        for j, method in enumerate(("Ours", "Image Feature", "Ours w/ H_U")):
            for M in (1, 2, 5, 10, 25):
                stray = 20 + 15 * j
                parts += [
                    pd.DataFrame(
                        {
                            "image": [f"{i}.jpg" for i in range(images)],
                            "dataset": dataset,
                            "person": 0,
                            "method": method,
                            "kind": kind,
                            "M": M,
                            "diverged": 0.25 if method == "Image Feature" else 0.0,
                            "MPJPE": base + 5 * j + more,
                        }
                    )
                    for kind, more in {
                        "mean": stray / M,
                        "single": stray,
                        "oracle": stray * (1 - 0.5 * np.log(M)),
                    }.items()
                ]
    return pd.concat(parts, ignore_index=True)


def test_two_people_in_one_image_stay_two_in_the_table():
    errors = made_up()
    crowd = hypotheses_table.columns_of(errors.assign(image="crowd.jpg"), "MPJPE")
    alone = hypotheses_table.columns_of(errors, "MPJPE")
    assert len(crowd) == len(alone)
    np.testing.assert_allclose(crowd.mean(), alone.mean())


def test_the_table_gives_means_and_paired_gains_and_names_its_oracle(tmp_path):
    errors = made_up()
    sheets = hypotheses_table.write_hypotheses(errors, SETTINGS, tmp_path)
    assert [sheet.stem for sheet in sheets] == ["hypotheses_threedpw", "hypotheses_human36m"]
    cells = dict(row for section in sheets[0].sections for row in section.rows)
    of = errors[(errors["dataset"] == "threedpw") & (errors["method"] == "Image Feature")]
    for kind, label in hypotheses_table.KINDS.items():
        expected = of[of["kind"] == kind].groupby("M")["MPJPE"].mean()
        means = [cell.mean for cell in cells[f"Image Feature, {label}"]]
        np.testing.assert_allclose(means, expected)
    gains = [(c.low, c.mean, c.high) for c in cells["Image Feature, single - mean of M"]]
    np.testing.assert_allclose(gains, [[35 - 35 / M] * 3 for M in (1, 2, 5, 10, 25)], atol=1e-9)
    text = (tmp_path / "hypotheses_threedpw.md").read_text()
    for word in (
        "*synthetic*",
        "best of M (oracle)",
        "no prediction",
        "Image Feature 25.0%",
        "M = 25",
    ):
        assert word in text
    assert "20 evenly spaced test images of the 3DPW-like set" in text
    assert (tmp_path / "hypotheses_human36m.tex").is_file()
    assert "single" in (tmp_path / "hypotheses_human36m.csv").read_text()


def test_every_kind_that_is_measured_has_its_label(bench, split, samples):
    frame = hypotheses.by_number(bench, samples, split, SIZES)
    assert set(frame["kind"]) == set(hypotheses_table.KINDS)


def test_the_figure_of_numbers_says_what_the_centre_and_the_oracle_give(tmp_path):
    errors = made_up()
    path = tmp_path / "hypotheses_body.png"
    finding = uncertainty_figures.error_by_number(errors, "body", SETTINGS, path)
    of = errors[(errors["method"] == "Ours") & (errors["M"] == 25)].groupby("kind")["MPJPE"].mean()
    assert f"25 hypotheses of Ours, the centre errs by {of['mean']:.0f} mm MPJPE" in finding
    assert f"an oracle picks by {of['oracle']:.0f}" in finding
    assert "gains most for Ours w/ H_U, 48.0 mm" in finding
    with Image.open(path) as image:
        assert image.info["Title"] == finding
    assert path.stat().st_size <= LIMIT_BYTES


def test_the_figure_of_uncertainty_reads_its_finding_off_the_tables(tmp_path):
    spread, error = hypotheses.spread_and_error(*honest())
    nominal = np.arange(1, 10) / 10
    found = {"Ours": (spread / 3, error), "Ours w/ H_U": (spread, error)}
    bins = pd.concat([hypotheses.reliability(*both).assign(method=m) for m, both in found.items()])
    covered = pd.DataFrame({m: hypotheses.coverage(*both, nominal) for m, both in found.items()})
    summary = pd.DataFrame({m: hypotheses.summarise(*both) for m, both in found.items()}).T
    path = tmp_path / "uncertainty_body.png"
    finding = uncertainty_figures.uncertainty(
        bins, covered.set_index(nominal), summary, "body", SETTINGS, path
    )
    assert "4% for Ours, 50% for Ours w/ H_U" in finding
    assert "3.0, 1.0 times as large" in finding and "correlation 0.89, 0.89" in finding
    assert path.stat().st_size <= LIMIT_BYTES
