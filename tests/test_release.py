"""A release is whole or not there, small, and its weights are the run's, at half precision."""

import json
import shutil

import pytest
import torch

from hmdiff.checkpoint import load_weights
from hmdiff.pipeline import release
from hmdiff.recovery import bundle


@pytest.fixture
def run(tiny_run, tmp_path):
    """A copy of the tiny run whose files may go."""
    return shutil.copytree(tiny_run, tmp_path / "run")


def test_a_release_holds_reports_provenance_and_what_recovery_needs(run, tmp_path):
    out = tmp_path / "released/study"
    for _ in range(2):  # the second replaces the first
        assert release.main([str(run), str(out), "one hour"]) == 0
    assert (out / "tables/a.txt").read_text() == "tables"
    assert "Which of the paper" in (out / "index.html").read_text()
    names = {path.name for path in (out / "weights").iterdir()}
    for subject in ("body", "hand"):
        variants = ("image", "pose", "both", "baseline_a", "baseline_b")
        tensors = [f"phi-{subject}", f"{subject}-linear", f"{subject}-gains"]
        tensors += [f"{subject}-{variant}-3" for variant in variants]
        own = {f"{name}.safetensors" for name in tensors}
        own |= {f"{subject}.npz", f"{subject}_coarse.npz"}
        assert own <= names
        names -= own
    assert names == {"recovery.json"}
    facts = json.loads((out / "provenance.json").read_text())
    assert facts["hardware"] == {"device": "abacus"}
    assert (facts["seeds"], facts["remark"]) == ([3, 4], "one hour")
    assert [path.name for path in out.parent.iterdir()] == ["study"]


def test_weights_are_halved_and_integers_are_not(tiny_run, weights):
    whole, meta = load_weights(tiny_run / "data/phi/body/phi.safetensors")
    half, again = load_weights(weights / "phi-body.safetensors")
    assert meta == again
    kinds = {tensor.dtype for tensor in half.values()}
    assert kinds == {torch.float16, torch.int64}
    for name, tensor in whole.items():
        expected = tensor.half() if tensor.is_floating_point() else tensor
        assert torch.equal(half[name], expected), name


def test_what_does_not_fit_half_precision_is_refused():
    with pytest.raises(ValueError, match="w: not finite in half precision"):
        bundle.half({"w": torch.tensor([1e6])})


@pytest.mark.parametrize("missing", ["reports/claims.md", "data/phi/hand/phi.safetensors"])
def test_an_unfinished_run_is_named_in_one_line_and_the_old_release_stays(
    run, tmp_path, capsys, missing
):
    out = tmp_path / "out"
    out.mkdir()
    (out / "provenance.json").write_text("earlier")
    (run / missing).unlink()
    assert release.main([str(run), str(out), "second"]) == 1
    assert f"{missing}: not there; finish the run" in capsys.readouterr().err
    assert (out / "provenance.json").read_text() == "earlier"
    assert not out.with_name(".out.part").exists()


def test_a_run_on_licensed_files_is_not_released(run, tmp_path, capsys):
    text = (run / "params.yaml").read_text()
    (run / "params.yaml").write_text(text.replace("source: studio", "source: raw"))
    assert release.main([str(run), str(tmp_path / "out"), ""]) == 1
    error = capsys.readouterr().err
    assert "licensed files" in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_too_many_megabytes_are_refused_and_nothing_is_left(run, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(release, "LIMIT_MB", 1)
    out = tmp_path / "released/study"
    assert release.main([str(run), str(out), ""]) == 1
    message = capsys.readouterr().err
    assert "MB of weights, at most 1 are released" in message and "body-linear" in message
    assert list(out.parent.iterdir()) == []


def test_a_run_without_a_section_of_its_parameters_is_named(run, tmp_path, capsys):
    text = (run / "params.yaml").read_text()
    (run / "params.yaml").write_text(text.replace("heads: 2", "heads: 0"))
    assert release.main([str(run), str(tmp_path / "out"), ""]) == 1
    assert "params.yaml: g.heads" in capsys.readouterr().err
