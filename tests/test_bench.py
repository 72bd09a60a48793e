"""The bench's report: what it holds, how it is compared, and that its parts measure."""

import json
import subprocess

import pytest
import torch

from hmdiff import params
from hmdiff.pipeline import bench
from hmdiff.pipeline.bench import Number

SMALL = {
    "phi": {"width": 8, "context_channels": 128, "deconv_channels": 8, "input_px": 64, "batch": 2},
    "g": {"feedforward": 16, "batch": 2},
    "sampler": {"steps": 2, "hypotheses": 2, "N": 3},
}


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(bench, "REPEATS", 1)
    monkeypatch.setattr(bench.speed, "PAPER", {"steps": 3, "hypotheses": 4, "N": 3})
    values = params.overlay(params.read_yaml("params.yaml"), SMALL)
    return params.parse(values, "test")


def test_every_number_has_a_unit_and_a_ratio_its_two_sides(small):
    found = [*bench.sampler(small, V=30), *bench.training(small, V=30), *bench.backbone(small)]
    assert all(number.value > 0 and number.unit for number in found)
    names = [number.name for number in found]
    assert len(set(names)) == len(names)
    ratios = [number for number in found if number.unit == "x"]
    assert len(ratios) == 5
    for number in ratios:
        over, under = number.sides.values()
        assert number.value == pytest.approx(over / under)
    assert sorted(x.bar for x in ratios if x.bar is not None) == [0.5, 4, 4]
    assert any("%" in number.note for number in ratios)  # the profile of g's training step


def test_the_report_is_read_back_as_it_was_written():
    numbers = [Number("a", 2.5, "ms"), bench.ratio("b", ("old", 6.0), ("new", 1.5), bar=4)]
    text = json.dumps(bench.report(numbers))
    assert bench.parse(text, "here") == {("a", "ms"): 2.5, ("b", "x"): 4.0}
    whole = json.loads(text)
    assert whole["numbers"][1]["sides"] == {"old": 6.0, "new": 1.5}
    head = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True)
    assert whole["commit"] == head.stdout.strip()
    assert whole["versions"]["torch"] == torch.__version__ and whole["hardware"]["threads"] > 0


def test_a_number_stands_beside_the_last_one_of_its_name_and_unit():
    before = {("a", "ms"): 5.0}
    assert " 5     0.50 " in bench.line(Number("a", 2.5, "ms"), before)
    for other in (Number("a", 2.5, "s"), Number("b", 2.5, "ms")):
        assert " - " in bench.line(other, before) and " 5 " not in bench.line(other, before)
    assert bench.line(Number("a", 3.0, "x", bar=4, note="bmm 9%"), {}).endswith("4  (bmm 9%)")


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"numbers": 1}', '{"numbers": [{"name": "a"}]}',
             '{"numbers": [{"name": "a", "unit": "s", "value": "fast"}]}']
)  # fmt: skip
def test_another_file_is_refused_in_one_line(text):
    with pytest.raises(ValueError, match=r"^HEAD:x: no numbers of `make bench`") as caught:
        bench.parse(text, "HEAD:x")
    assert "\n" not in str(caught.value)


def test_without_a_repository_there_is_nothing_to_compare_with(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert bench.git("show", "HEAD:reports/bench.json") == ""


def test_what_is_measured_is_written_in_one_step(monkeypatch, tmp_path, capsys):
    parts = {"peak": [Number("a", 2.0, "GFLOP/s")], "mix": [Number("b", 3.0, "s", bar=120)]}
    for name in ("peak", "studio", "backbone", "sampler", "training", "mix"):
        monkeypatch.setattr(bench, name, lambda *_, name=name: iter(parts.get(name, [])))
    committed = json.dumps(bench.report([Number("a", 4.0, "GFLOP/s")]))
    monkeypatch.setattr(bench, "git", lambda *asked: committed if asked[0] == "show" else "")
    monkeypatch.setattr(bench, "OUT", tmp_path / "reports/bench.json")
    bench.main()
    written = bench.parse((tmp_path / "reports/bench.json").read_text(), "written")
    assert written == {("a", "GFLOP/s"): 2.0, ("b", "s"): 3.0}
    assert "0.50" in capsys.readouterr().out
    assert [path.name for path in (tmp_path / "reports").iterdir()] == ["bench.json"]
