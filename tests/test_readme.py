"""What README says is what the reports say, and what it points at is there."""

import json
import re
from pathlib import Path

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


def test_its_table_is_what_the_pipeline_measured():
    metrics = json.loads((ROOT / "reports/metrics.json").read_text())
    of_set = {name: part for sets in metrics.values() for name, part in sets.items()}
    table = rows()
    assert len(table) == 14
    for name, numbers in table.items():
        measured = [of_set[dataset][name]["MPVE"] for dataset in SETS]
        assert numbers == [pytest.approx(value, abs=0.05001) for value in measured], name


@pytest.mark.parametrize("path", ["README.md", "docs/findings.md"])
def test_its_count_of_verdicts_is_that_of_the_claims(path):
    judged = pd.read_csv(ROOT / "reports/claims.csv")
    count = judged.loc[judged["kind"] == "ours", "verdict"].value_counts()
    text = " ".join((ROOT / path).read_text("utf-8").split())
    told = re.search(r"Of (\d+) orderings .*? (\d+) hold, (\d+) do not, and in (\d+) a gain", text)
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
