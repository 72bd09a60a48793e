"""On licensed sets nothing is called synthetic, rendered or like; on the studio's, all is so."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import test_claims
import test_distribution
import test_figures
import test_hypotheses
import test_tables
from matplotlib.text import Text

from hmdiff.report import breakdowns, claims, figures, gallery, hypotheses_table, tables
from hmdiff.report import uncertainty_figures as uncertain
from hmdiff.report.labels import LABELS, NAMES, labels
from hmdiff.strata import KINDS

sweeps = test_figures.sweeps
SETTINGS = {source: test_claims.SETTINGS.model_copy(update={"source": source}) for source in LABELS}
STUDIOS = re.compile(r"synthetic|rendered|studio|\w-like|other pictures", re.IGNORECASE)


def strata(errors: pd.DataFrame, source: str) -> pd.DataFrame:
    """Strata of the images, as of that source."""
    found = errors[["image", "dataset"]].drop_duplicates().reset_index(drop=True)
    for kind, names in KINDS.items():
        found[kind] = [names[i % 3] for i in range(len(found))]
    return found.assign(visibility=None) if source == "raw" else found


def written(source: str, out: Path) -> dict[str, str]:
    """Every table and sheet of a study, by file."""
    params, errors = SETTINGS[source], test_tables.errors_frame()
    tables.write_tables(errors, test_tables.SPEED, {}, params, out)
    breakdowns.write_strata(errors, strata(errors, source), params, out)
    readings = errors.assign(gamma=0.2, diverged=0.0)
    breakdowns.write_readings(readings, params, out)
    trials = {"method": ["Ours"] * 2, "setting": ["a", "b"], "MPVE": [1.0, 2.0]}
    breakdowns.write_search({"body": pd.DataFrame(trials | {"chosen": [True, False]})}, params, out)
    breakdowns.write_training({"body": {"Ours": [test_figures.history(np.ones(20))]}}, params, out)
    hypotheses_table.write_hypotheses(test_hypotheses.made_up(), params, out)
    hypotheses_table.write_scores(test_distribution.made_up(), params, out)
    claims.write_claims(errors, errors.assign(g_steps=10), params, out)
    return {path.name: path.read_text() for path in out.iterdir()}


@pytest.fixture(scope="module")
def texts(tmp_path_factory) -> dict[str, dict[str, str]]:
    return {source: written(source, tmp_path_factory.mktemp(source)) for source in LABELS}


def test_the_same_files_come_from_either_source(texts):
    assert set(texts["raw"]) == set(texts["studio"]) and len(texts["raw"]) > 40


def test_no_file_of_licensed_sets_speaks_of_the_studio(texts):
    for name, text in texts["raw"].items():
        assert not STUDIOS.search(text), (name, STUDIOS.search(text))
        assert name.endswith("csv") or "measured" in text.lower(), name
    for name in ("table1.md", "claims.md", "strata_threedpw.md"):
        assert "*measured*" in texts["raw"][name] and "*synthetic*" in texts["studio"][name]


def test_sets_are_called_by_their_names(texts):
    for dataset, name in NAMES.items():
        raw, studio = (texts[source][f"strata_{dataset}.md"] for source in ("raw", "studio"))
        assert f"({name}, *measured*)" in raw and f"({name}-like, *synthetic*)" in studio


def test_what_differs_between_the_sources_is_words_and_protocol_and_no_number(texts):
    """The frames are the same here, so must the numbers be; only visibility is unknown."""
    number = re.compile(r"\d+\.\d+ \[.*?\]")
    for name, text in texts["studio"].items():
        if name.endswith("md") and "strata" not in name:
            assert number.findall(text) == number.findall(texts["raw"][name]), name


def test_unknown_visibility_is_left_out_and_not_explained(texts):
    raw, studio = (texts[source]["strata_threedpw.md"] for source in ("raw", "studio"))
    assert "occluded" in studio and "Truncated" in studio
    assert "occluded" not in raw and "Truncated" not in raw
    assert "front" in raw and "narrow" in raw


def test_the_protocol_that_was_used_is_described(texts):
    for name in ("table1.md", "claims.md", "hypotheses_threedpw.md"):
        assert "H36M14: 14 joints from Human3.6M's" in texts["raw"][name], name
        assert "H36M14" not in texts["studio"][name]
    assert "H36M14" in texts["raw"]["table3.csv"] and "BODY14" in texts["studio"]["table3.csv"]
    assert "HAND21" in texts["raw"]["table2.md"] and "H36M14" not in texts["raw"]["table2.md"]
    assert "Poses without a mesh are not measured by H36M14" in texts["raw"]["table1.md"]
    assert "Poses without a mesh" not in texts["raw"]["table2.md"] + texts["studio"]["table1.md"]


def test_what_the_truth_of_a_licensed_set_is_stands_where_it_is_used(texts):
    raw = texts["raw"]
    assert "motion capture" in raw["table1.md"] and "motion capture" in raw["table6.md"]
    assert "motion capture" not in raw["table3.md"] and "neutral body" in raw["table3.md"]
    assert "true joints are those of its motion capture" in raw["table1.md"]
    assert not any("motion capture" in text for text in texts["studio"].values())


def test_the_papers_columns_stay_apart_and_say_what_they_are(texts):
    raw = texts["raw"]["table1.md"]
    assert "paper, 3DPW" in raw and "*measured* 3DPW" in raw
    assert "Published columns are the paper's, on the same sets." in raw


@pytest.fixture
def drawn(monkeypatch) -> list[str]:
    """The texts of every figure that is saved from now on, and its finding."""
    seen: list[str] = []

    def keep(made, finding, out):
        seen.extend([finding, *(text.get_text() for text in made.findobj(Text))])
        return finding

    for module in (figures, gallery, uncertain):
        monkeypatch.setattr(module, "save", keep)
    return seen


@pytest.mark.parametrize("source", LABELS)
def test_figures_say_what_they_show(source, sweeps, drawn, tmp_path):
    params, out = SETTINGS[source], tmp_path / "x.png"
    figures.error_against_knob(sweeps, "steps", params, out)
    errors = test_tables.errors_frame()
    figures.differences(errors, params, out)
    uncertain.error_by_number(test_hypotheses.made_up(), "body", params, out)
    bins = pd.DataFrame({"method": "Ours", "spread_mm": [1.0, 2.0], "error_mm": [1.0, 2.0]})
    covered = pd.DataFrame({"Ours": [0.1, 0.5, 0.9]}, index=[0.1, 0.5, 0.9])
    summary = pd.DataFrame({"factor": [1.0], "pooled": [0.5]}, index=["Ours"])
    uncertain.uncertainty(bins, covered, summary, "body", params, out)
    image = test_figures.noise(64, 64)
    found, faces = test_figures.recovery(image)
    row = gallery.Row(image, found.vertices_m, faces, np.full((len(found.vertices_m), 3), 0.5),
                      found.K, found.translation, 80.0, "body")  # fmt: skip
    gallery.figure2([row], params, out)
    gallery.photo_figure(image, found, test_figures.Ball(), params, out)
    text = "\n".join(drawn)
    words = labels(params)
    for place in ("validation", "test"):
        assert f"({place}, {words.origin})" in text
    assert all(name in text.splitlines() for name in words.sets.values())
    assert f"({words.pictures} test images)" in text
    assert bool(STUDIOS.search(text)) == (source == "studio")
