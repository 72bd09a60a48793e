"""A release is whole or not there, and its weights are the run's, at half precision."""

import json

import pytest
import torch

from hmdiff import release
from hmdiff.checkpoint import load_weights, save_weights


@pytest.fixture
def run(tmp_path):
    run = tmp_path / "run"
    (run / "data/speed").mkdir(parents=True)
    (run / "data/speed/body.json").write_text('{"hardware": {"device": "abacus"}}')
    (run / "params.yaml").write_text("profile: study\nseeds: [3, 4]\n")
    (run / "dvc.lock").write_text("stages: {}\n")
    for name in release.REPORTS:
        path = run / "reports" / name
        if path.suffix:
            path.parent.mkdir(exist_ok=True)
            path.write_text("{}")
        else:
            path.mkdir(parents=True)
            (path / "a.txt").write_text(name)
    weights = {"w": torch.randn(7, 5), "count": torch.tensor(2**20 + 1)}
    save_weights(run / "data/phi/body/phi.safetensors", weights, {"subject": "body"})
    for seed in (3, 4):
        folder = run / f"data/checkpoints/body-image-{seed}"
        save_weights(folder / "model.safetensors", weights, {"seed": seed})
    return run


def test_a_release_holds_reports_provenance_and_the_first_seeds_weights(run, tmp_path):
    out = tmp_path / "released/study"
    for _ in range(2):  # the second replaces the first
        assert release.main([str(run), str(out), "one hour"]) == 0
    assert (out / "tables/a.txt").read_text() == "tables"
    assert {path.name for path in (out / "weights").iterdir()} == {
        "phi-body.safetensors", "body-image-3.safetensors",
    }  # fmt: skip
    facts = json.loads((out / "provenance.json").read_text())
    assert facts["hardware"] == {"device": "abacus"}
    assert (facts["seeds"], facts["remark"]) == ([3, 4], "one hour")
    assert [path.name for path in out.parent.iterdir()] == ["study"]


def test_weights_are_halved_and_integers_are_not(run, tmp_path):
    release.release(run, tmp_path / "out", "")
    whole, _ = load_weights(run / "data/phi/body/phi.safetensors")
    half, meta = load_weights(tmp_path / "out/weights/phi-body.safetensors")
    assert meta == {"subject": "body"}
    assert torch.equal(half["w"], whole["w"].half())
    assert torch.equal(half["count"], whole["count"])


def test_an_unfinished_run_is_named_in_one_line_and_the_old_release_stays(run, tmp_path, capsys):
    out = tmp_path / "out"
    release.release(run, out, "first")
    (run / "reports/claims.md").unlink()
    assert release.main([str(run), str(out), "second"]) == 1
    assert "claims.md: not there; finish the run" in capsys.readouterr().err
    assert json.loads((out / "provenance.json").read_text())["remark"] == "first"
