"""The hypotheses as a distribution: the score is proper, every method is scored as it samples."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import test_train
import torch
from PIL import Image

from hmdiff import closed_form, convergence, distribution, evaluate, hypotheses
from hmdiff import params as hmdiff_params
from hmdiff.checkpoint import Memo
from hmdiff.report import hypotheses_table, uncertainty_figures
from hmdiff.report.canvas import LIMIT_BYTES
from hmdiff.train import build, predict

ROOT = Path(__file__).parents[1]
SETTINGS = hmdiff_params.load(ROOT / "params.yaml").model_copy(
    update={"stats": hmdiff_params.Stats(bootstrap=200, level=0.95)}
)
bench, mesh, params, split = (
    getattr(test_train, name) for name in ("bench", "mesh", "params", "split")
)


def drawn(N: int, V: int = 40_000, sigma: float = 2.0, seed: int = 0):
    """N hypotheses and a truth for each of V points, all alike Gaussian."""
    generator = torch.Generator().manual_seed(seed)
    x = sigma * torch.randn(N + 1, V, 3, generator=generator, dtype=torch.float64)
    return x[1:], x[0]


def test_the_score_is_what_loops_over_pairs_give():
    x, y = drawn(4, V=3)
    for v, found in enumerate(distribution.energy_score(x, y).tolist()):
        apart = [float((x[i, v] - x[j, v]).norm()) for i in range(4) for j in range(4) if i != j]
        away = [float((x[i, v] - y[v]).norm()) for i in range(4)]
        assert found == pytest.approx(np.mean(away) - np.mean(apart) / 2, rel=1e-12)
    one = distribution.energy_score(x[:1], y)
    torch.testing.assert_close(one, (x[0] - y).norm(dim=-1))


@pytest.mark.parametrize("N", [2, 5, 25])
def test_of_the_truths_own_distribution_it_has_its_closed_form_however_few_are_drawn(N):
    """E|X - X'| of isotropic Gaussians in space is 4 sigma / sqrt(pi); the score is half of it."""
    found = distribution.energy_score(*drawn(N)).mean()
    assert float(found) == pytest.approx(2 * 2.0 / np.sqrt(np.pi), rel=0.02)


def test_it_is_proper_a_spread_too_narrow_or_too_wide_or_moved_scores_worse():
    x, y = drawn(10)
    honest = float(distribution.energy_score(x, y).mean())
    for wrong in (0.3 * x, 0.7 * x, 1.5 * x, x + 1.0, x[:1], 0 * x):
        assert float(distribution.energy_score(wrong, y).mean()) > 1.01 * honest


def test_whole_meshes_and_edges_are_scored_as_loops_over_pairs_would(bench, split):
    """The mesh as one point in 3V dimensions, an edge's length as one number."""
    N, part = 4, split.take(slice(0, 2))
    h_0 = part.h_0[:, None] + 0.3 * torch.randn(2, N, *part.h_0.shape[1:])
    found = distribution.score(bench, h_0, part)
    pairs = [(i, j) for i in range(N) for j in range(N) if i != j]

    def energy(x: list[np.ndarray], y: np.ndarray) -> float:
        apart = [np.linalg.norm(x[i] - x[j]) for i, j in pairs]
        return np.mean([np.linalg.norm(one - y) for one in x]) - np.mean(apart) / 2

    for row, (x, y) in enumerate(hypotheses.rooted_mm(bench, h_0, part)):
        x, y = x.numpy(), y.numpy()
        whole = energy(list(x), y) / np.sqrt(len(y))
        assert found["whole"][row] == pytest.approx(whole, rel=1e-9)
        of_edges, missed = [], []
        for start, end in bench.mesh.edges.tolist():
            length = [np.linalg.norm(mesh[start] - mesh[end]) for mesh in (*x, y)]
            of_edges.append(energy(length[:-1], length[-1]))
            missed += [abs(one - length[-1]) for one in length[:-1]]
        assert found["edges"][row] == pytest.approx(np.mean(of_edges), rel=1e-9)
        assert found["edge"][row] == pytest.approx(np.mean(missed), rel=1e-9)


def tuned_of(params):
    knobs = replace(evaluate.default_knobs(params), gamma=0.001, k_start=60)
    return dict.fromkeys((*evaluate.METHODS, distribution.PLUS), knobs)


def gains_of(bench, split):
    return closed_form.fit(bench, split, split, bench.params.sampler.steps)


@pytest.fixture
def scored(bench, params):
    """A bench with every system, and those that trained for longer, whose weights do something."""
    update = {"steps": (1, 3), "scored": 3}
    block = params.hypotheses.model_copy(update=update)
    bench.params = bench.params.model_copy(update={"hypotheses": block})
    for system in set(convergence.SYSTEMS.values()):
        for length in ("", "-quarter", "-fourfold"):
            model = build(system, "hand", bench.params, 12, 21).eval()
            model.net.output.weight.data.normal_(std=0.01)
            bench.systems[system + length] = model
    return bench


def test_every_method_is_scored_at_every_number_of_steps_as_it_samples(scored, split):
    part, tuned = split.take(slice(0, 6)), tuned_of(scored.params)
    gains = gains_of(scored, split)
    frame = distribution.evaluate(scored, tuned, part, gains, split)
    runs = frame.groupby(["method", "steps"]).size()
    diffusions = len(distribution.DIFFUSIONS) + len(distribution.LONGER)  # once more, fourfold
    assert (runs == 6).all() and len(runs) == 3 + 1 + 2 * diffusions
    by = frame.set_index(["method", "steps"])
    assert not np.array_equal(by.loc[("Both Features", 3)], by.loc[("Both Features, fourfold", 3)])
    knobs = {"Both Features": replace(tuned["Both Features"], steps=3)}
    h_0 = hypotheses.draw(scored, "Both Features", knobs, part, gains, 3).h_0
    expected = distribution.score(scored, h_0, part)
    for measure in (*distribution.SCORES, "centre", "single", "edge"):
        assert np.array_equal(by.loc[("Both Features", 3), measure], expected[measure])
    centre = evaluate.measure(scored, h_0.mean(dim=1), part)["MPVE"]
    np.testing.assert_allclose(expected["centre"], centre, rtol=1e-4)
    for name, mesh_of in (
        ("Baseline A", predict(scored.system("baseline_a"), part)),
        (evaluate.LIFT, evaluate.lift(scored, part.u_mean)),
    ):
        rows, error = by.loc[(name, 0)], evaluate.measure(scored, mesh_of, part)["MPVE"]
        for measure in ("score", "centre", "single"):  # one answer's score is its error
            np.testing.assert_allclose(rows[measure], error, rtol=1e-4)


def test_lifted_samples_have_the_lifts_mean_and_the_spread_of_its_error(scored, split):
    """On the images that the spread is fitted on."""
    N = 400
    h_0 = distribution.lifted(scored, split, split, N)
    centre = evaluate.lift(scored, split.U.mean()).cpu()
    stray = h_0.std(dim=1).mean() / N**0.5
    assert float((h_0.mean(dim=1) - centre).abs().mean()) < 2 * float(stray)
    error = (evaluate.lift(scored, split.u_mean).cpu() - split.h_0).square().mean()
    assert float(h_0.var(dim=1).mean()) == pytest.approx(float(error), rel=0.2)  # by a few poses


def test_the_score_of_lifted_samples_does_not_hang_on_how_many_are_drawn(scored, split):
    """They are independent draws; were they shifted to a common mean, few would score better."""
    h_0 = distribution.lifted(scored, split, split, 60)
    many = distribution.score(scored, h_0, split)
    pairs = [distribution.score(scored, pair, split) for pair in h_0.split(2, dim=1)]
    for measure in distribution.SCORES:
        few = np.mean([found[measure].mean() for found in pairs])
        assert few == pytest.approx(many[measure].mean(), rel=0.03), measure


def test_what_was_scored_before_a_kill_is_not_scored_again(scored, split, tmp_path, monkeypatch):
    part, tuned = split.take(slice(0, 3)), tuned_of(scored.params)
    given = (tuned, part, gains_of(scored, split), split)
    scored.memo = Memo(tmp_path / "memo.pt", every_s=0)
    expected = distribution.evaluate(scored, *given)
    monkeypatch.setattr(distribution, "evaluate_one", lambda *_: 1 / 0)
    scored.memo = Memo(tmp_path / "memo.pt")
    pd.testing.assert_frame_equal(distribution.evaluate(scored, *given), expected)


def made_up(images: int = 30) -> pd.DataFrame:
    """Scores that fall with the steps while the centre's error rises; lifted samples score 90."""
    rng, frames = np.random.default_rng(0), []
    runs = {(name, 0): (150, 150) for name in distribution.NO_DIFFUSION}
    runs[distribution.LIFTED, 0] = (150, 90)
    runs |= {
        (name, k): (160 + k, 150 - 2 * k) for name in distribution.DIFFUSIONS for k in (1, 5, 20)
    }
    runs |= {("Ours+", 1): (149, 89), ("Image Feature, fourfold", 20): (150, 100)}
    hard = 10 * rng.standard_normal(images)
    for dataset in ("threedpw", "human36m"):
        for (method, steps), (centre, score) in runs.items():
            rows = {"image": [f"{i}.jpg" for i in range(images)], "dataset": dataset, "person": 0}
            rows |= {"method": method, "steps": steps}
            rows |= {"centre": centre + hard, "single": centre + 5 + hard, "score": score + hard}
            rows |= {"whole": 1.2 * score + hard, "edges": score / 10 + hard / 10, "edge": 9.0}
            frames.append(pd.DataFrame(rows))
    return pd.concat(frames, ignore_index=True)


def test_the_table_sets_every_score_against_the_lifted_samples(tmp_path):
    sheets = hypotheses_table.write_scores(made_up(), SETTINGS, tmp_path)
    assert [sheet.stem for sheet in sheets] == ["scores_threedpw", "scores_human36m"]
    without, with_g, longer = sheets[0].sections
    assert [name for name, _ in longer.rows] == ["Image Feature, fourfold"]
    assert [name for name, _ in without.rows] == list(distribution.NO_DIFFUSION)
    cells = {(name, row[0]): row for name, row in with_g.rows}
    assert len(cells) == 3 * len(distribution.DIFFUSIONS) + 1
    row = cells["Ours", 20]
    means = [cell.mean for cell in row[1:]]
    assert means == pytest.approx([180, 185, 9, 0, 110, 20, 132, 24, 11, 2], abs=4)
    for cell, apart in zip(row[4::2], (0, 20, 24, 2), strict=True):
        assert cell.low == pytest.approx(apart) and cell.high == pytest.approx(apart)  # paired
    assert dict(without.rows)[distribution.LIFTED][4::2] == (None,) * 4
    text = (tmp_path / "scores_threedpw.md").read_text()
    assert "*synthetic*" in text and "30 evenly spaced test images" in text


def test_the_figure_tells_what_steps_do_to_error_and_score(tmp_path):
    path = tmp_path / "scores.png"
    finding = uncertainty_figures.scores(made_up(), "body", SETTINGS, path)
    assert "from 1 to 20 steps the centre of Image Feature errs by" in finding
    assert "the best diffusion is Ours+ (steps: 1)" in finding
    with Image.open(path) as image:
        assert image.info["Title"] == finding
    assert path.stat().st_size <= LIMIT_BYTES
