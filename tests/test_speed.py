"""Table 6's measurements on untrained networks: what they hold, not how fast they are."""

import pytest
import torch
from test_train import bench, mesh, params, split  # noqa: F401  (fixtures)

from hmdiff import speed
from hmdiff.closed_form import PLUS, fit
from hmdiff.evaluate import default_knobs


def infer(phi, images):
    """Heatmaps that say nothing, of a phi that is not there."""
    f_I, E = torch.zeros(len(images), 128, 49), torch.full((len(images), 21, 56, 56), 56**-2)
    return f_I, E, E


@pytest.fixture
def result(bench, split, monkeypatch):  # noqa: F811
    monkeypatch.setattr(speed, "infer", infer)
    monkeypatch.setattr(speed, "PAPER", {"steps": 3, "N": 4, "hypotheses": 32})
    monkeypatch.setattr(speed, "matmul_rate", lambda dtype: 1e12)
    knobs = default_knobs(bench.params)
    gains, two = fit(bench, split, split, knobs.steps), split.take(slice(0, 2))
    images, both = torch.zeros(2, 3, 8, 8), {"Ours": knobs, PLUS: knobs}
    phi = torch.nn.Module()
    return speed.measure_speed(bench, phi, images, two, both, gains, repeats=2)


def test_reference_and_fast_path_are_timed_alike(result):
    systems = ["Ours", "Ours, fast path", PLUS, f"{PLUS}, fast path"]
    printed = result["the paper's setting"]
    assert (printed["steps"], printed["hypotheses"], result["warm-up"]) == (3, 32, 1)
    for timed, names in ((result, systems), (printed, systems[:2])):
        assert [key for key in timed if key.startswith("batch ")] == ["batch 1", "batch 2"]
        for batch in (1, 2):
            found = timed[f"batch {batch}"]
            assert list(found["fps"]) == list(found["ms per image"]) == names
            for name in names:
                low, high = found["fps range"][name]
                assert 0 < low <= found["fps"][name] <= high
                parts = ["backbone and head", "reverse process", "final MLP"]
                assert list(found["ms per image"][name]) == parts


def test_the_fast_path_counts_fewer_operations_and_errs_alike(result):
    count, share = result["flops per image"], result["share of the matmul rate"]
    assert 0 < count["Ours, fast path"] < count["Ours"]
    assert 0 < count[f"{PLUS}, fast path"] < count[PLUS] < count["Ours"]
    ms = result["batch 2"]["ms per image"]["Ours"]["reverse process"]
    assert share["Ours"] == pytest.approx(count["Ours"] / (ms / 1000) / 1e12)
    for less in result["fast path less reference, mm"].values():
        assert max(map(abs, less.values())) < 0.1


def test_the_matmul_rate_counts_two_operations_a_product(monkeypatch):
    monkeypatch.setattr(speed, "seconds", lambda work, repeats: 0.5)
    assert speed.matmul_rate(torch.float32, 3, 5, 7) == 2 * 3 * 5 * 7 / 0.5
