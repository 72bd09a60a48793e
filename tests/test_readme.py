"""What README says is what the reports say, and what it points at is there."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text("utf-8")
SETS = ("threedpw", "human36m", "freihand")
# Rows of its table that do not begin with the name of the system.
NAMES = {
    "mean pose": "Mean pose",
    "linear lift of U's mean": "Linear lift of mean(U)",
    "re-implemented on the same features: HMR-style": "HMR-style",
}


def rows() -> dict[str, list[float]]:
    """The table of MPVE: system to a number a set."""
    lines = re.findall(r"^\| (.+?) \| ([\d. *]+) \| ([\d. *]+) \| ([\d. *]+) \|$", TEXT, re.M)
    found = {}
    for name, *numbers in lines:
        name = name.replace("*", "")
        name = NAMES.get(name.partition(",")[0], NAMES.get(name, re.split(r"[:,]", name)[0]))
        found[name] = [float(number.strip("* ")) for number in numbers]
    return found


def measured(name: str, metric: str = "MPVE") -> np.ndarray:
    """The mean error of a system on each set."""
    metrics = json.loads((ROOT / "reports/metrics.json").read_text())
    of_set = {name: part for sets in metrics.values() for name, part in sets.items()}
    return np.array([of_set[dataset][name][metric] for dataset in SETS])


def said(path: str) -> str:
    """The text of a page in one line."""
    return " ".join((ROOT / path).read_text("utf-8").split())


def triple(numbers: np.ndarray, digits: int) -> str:
    """Three numbers as prose."""
    return "{}, {} and {}".format(*(f"{number:.{digits}f}" for number in numbers))


def test_its_table_is_what_the_pipeline_measured():
    table = rows()
    assert len(table) == 14
    for name, numbers in table.items():
        assert numbers == pytest.approx(measured(name), abs=0.05001), name


def test_its_findings_are_the_differences_measured():
    ours, page = measured("Ours"), said("docs/findings.md")
    gain = measured("Image Feature") - ours
    shares = triple(100 * gain / measured("Image Feature"), 1)
    assert f"It takes {triple(gain, 0)} mm off the same diffusion" in said("README.md")
    assert f"by {triple(gain, 0)} mm ({shares} % of the error" in page
    lift, pose2mesh = (ours - measured(n) for n in ("Linear lift of mean(U)", "Pose2Mesh-style"))
    assert f"mean is {triple(lift, 1)} mm ahead of Ours;" in page
    assert f"which reads U alone, {triple(pose2mesh, 1)}." in page
    aligned = (measured(name, "PA_MPJPE")[2] for name in ("Ours", "Image Feature"))
    assert "{:.1f} mm with it, {:.1f} without".format(*aligned) in page


@pytest.mark.parametrize("path", ["README.md", "docs/findings.md"])
def test_its_count_of_verdicts_is_that_of_the_claims(path):
    judged = pd.read_csv(ROOT / "reports/claims.csv")
    count = judged.loc[judged["kind"] == "ours", "verdict"].value_counts()
    sentence = r"Of (\d+) orderings .*? (\d+) hold, (\d+) do not, and in (\d+) a gain"
    told = re.search(sentence, said(path))
    tested, holds, fails, smaller = map(int, told.groups())
    assert (holds, fails, smaller) == tuple(
        count[name] for name in ("holds", "does not hold", "no such gain")
    )
    assert tested == count.drop("not testable here").sum()


@pytest.mark.parametrize("path", ["README.md", *(f"docs/{p.name}" for p in ROOT.glob("docs/*.md"))])
def test_what_it_links_to_is_there(path):
    text = (ROOT / path).read_text("utf-8")
    links = re.findall(r"\]\(([^)#\s]+?)(?:#[^)]*)?\)", text)
    missing = [
        link
        for link in links
        if ":" not in link and not (ROOT / path).parent.joinpath(link).exists()
    ]
    assert links and not missing
