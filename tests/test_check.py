"""What the last stage says of a run: which of the expected numbers hold, and by how much not."""

import json
from pathlib import Path

import pytest
from tiny import ROOT

from hmdiff.pipeline import check


@pytest.fixture
def run(tmp_path) -> Path:
    """A finished run with three errors."""
    (tmp_path / "reports").mkdir()
    (tmp_path / "params.yaml").write_text("profile: tiny\n")
    measure(tmp_path, 150.0)
    judge(tmp_path, "holds", "undecided")
    return tmp_path


def judge(run: Path, *verdicts: str) -> None:
    """Two claims on a set, one on published systems, and one on the order of others."""
    lines = ["table,kind,set,better,worse,metric,verdict", "1,ours,,Ours,SPIN,MPVE,not testable"]
    rivals = ("Baseline A", "Image Feature")
    for rival, verdict in zip(rivals, verdicts, strict=True):
        lines.append(f"3,ours,3DPW-like,Ours,{rival},MPVE,{verdict}")
    lines.append("3,order,3DPW-like,Baseline B,Baseline A,MPVE,holds")
    (run / "reports/claims.csv").write_text("\n".join(lines) + "\n")


def measure(run: Path, value: float, **more) -> None:
    ours = {"MPVE": value, "MPJPE": 120.0, "PA_MPJPE": 2.0}
    metrics = {"body": {"threedpw": {"Ours": ours | more}}}
    (run / "reports/metrics.json").write_text(json.dumps(metrics))


def said(run: Path) -> str:
    check.write_check(run)
    return (run / "reports/check.md").read_text()


def test_a_run_holds_its_own_numbers_to_the_last_digit(run):
    check.expect(run, run)
    assert "Of 3 errors (mm) 3 hold" in said(
        run
    ) and "3 of them to the last digit; 0 do not" in said(run)
    assert "Of 2 verdicts on the paper's claims 2 are the same." in said(run)
    assert "|" not in said(run)


def test_a_verdict_that_changed_is_named(run):
    check.expect(run, run)
    judge(run, "holds", "does not hold")
    text = said(run)
    assert "Of 2 verdicts on the paper's claims 1 are the same." in text
    told = "| Table 3, 3DPW-like: Ours < Image Feature, MPVE | undecided | does not hold |"
    assert text.splitlines()[-1] == told


@pytest.mark.parametrize("content", [b"table,kind\n3,ours\n", b"table\n\xff\n"])
def test_damaged_claims_are_one_line(run, capsys, content):
    (run / "reports/claims.csv").write_bytes(content)
    assert check.main([str(run)]) == 1
    error = capsys.readouterr().err
    assert "reports/claims.csv: damaged" in error and error.count("\n") == 1


@pytest.mark.parametrize(("value", "holds"), [(164.9, True), (165.1, False), (float("nan"), False)])
def test_a_tenth_of_the_value_is_granted(run, value, holds):
    check.expect(run, run)
    measure(run, value)
    text = said(run)
    assert f"{3 if holds else 2} hold within" in text and "2 of them to the last digit" in text
    assert ("## These do not hold" in text) != holds
    assert f"| threedpw | Ours | MPVE | 150.0 | {value:.1f} | {value - 150:+.1f} | 15.0 |" in text


def test_small_errors_are_granted_a_millimetre(run):
    path = check.expect(run, run)
    assert path == run / "profiles/expected/tiny.json"
    assert json.loads(path.read_text())["errors"]["body"]["threedpw"]["Ours"]["PA_MPJPE"] == [
        2.0,
        1.0,
    ]


def test_what_is_on_one_side_only_is_named(run):
    check.expect(run, run)
    measure(run, 150.0, F5=0.5)
    assert "On one side only: body threedpw Ours F5." in said(run)


def test_a_profile_without_numbers_says_so(run):
    assert "No numbers are committed for this profile" in said(run)


@pytest.mark.parametrize("content", ["{", "[1]", "[" * 10**5])
def test_damaged_numbers_are_one_line(run, capsys, content):
    (run / "reports/metrics.json").write_text(content)
    assert check.main([str(run)]) == 1
    error = capsys.readouterr().err
    assert "reports/metrics.json: damaged" in error and error.count("\n") == 1


def test_the_committed_reports_are_the_expected_ones():
    here = dict(check.rows(json.loads((ROOT / "reports/metrics.json").read_text())))
    expected = json.loads((ROOT / "profiles/expected/default.json").read_text())
    assert {key: pair[0] for key, pair in check.rows(expected["errors"])} == here
    assert check.verdicts(ROOT) == expected["verdicts"]
