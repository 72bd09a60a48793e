"""Tables: measured cells recomputed, published cells untouched, no row dropped, all marked."""

import json
import re
from pathlib import Path

import frames
import numpy as np
import pandas as pd
import pytest

from hmdiff import params, stats
from hmdiff.metrics import METRICS
from hmdiff.report import breakdowns, paper, tables, typeset
from hmdiff.stats import Interval

SYSTEMS = (
    *("Mean pose", "Linear lift of mean(U)", "Detected pose u_c", "Baseline A", "Baseline B"),
    *("Image Feature", "Pose Feature", "Both Features", "Ours w/ H_U", "Direct L2"),
    *("Ours w/ u_c", "Ours w/o AS", "Ours"),
)
STEPS = {"Image Feature": 20, "Pose Feature": 20, "Both Features": 10, "Ours": 5}
PARAMS = params.load(Path(__file__).parents[1] / "params.yaml")
SETTINGS = PARAMS.model_copy(
    update={"profile": "default", "stats": params.Stats(bootstrap=200, level=0.95)}
)


def timed(ours: float, fast: float, plus: float) -> dict:
    """What a speed's batch holds, from frames per second."""
    fps = {"Ours": ours, "Ours, fast path": fast, "Ours+": plus, "Ours+, fast path": plus}
    parts = {name: {"reverse process": 1000 / x - 1.5, "final MLP": 1.5} for name, x in fps.items()}
    return {
        "fps": fps,
        "fps range": {name: [0.8 * value, 1.2 * value] for name, value in fps.items()},
        "ms per image": parts,
    }


SPEED = {
    "body": {
        "steps": 5,
        "steps, Ours+": 1,
        "hypotheses": 4,
        "repeats": 3,
        "warm-up": 1,
        "hardware": {"device": "x86_64", "threads": 2},
        "batch 1": timed(3.25, 13.0, 20.5),
        "batch 16": timed(7.75, 15.5, 50.25),
        "flops per image": {"Ours": 2e9},
        "matmul FLOP/s": {"reference": 2e11, "fast path": 2e12},
        "share of the matmul rate": {"Ours": 0.25, "Ours, fast path": 0.125},
        "fast path less reference, mm": {"Ours": {"MPJPE": 0.0125}},
        "the paper's setting": {"steps": 40, "hypotheses": 25, "batch 1": timed(0.25, 1.0, 1.0)},
    }
}


def errors_frame(seeds=(0,), images: int = 12, systems=SYSTEMS) -> pd.DataFrame:
    """Per-image errors of every system on every studio set; u_c has no mesh."""

    def values(dataset, method, seed):
        generator = np.random.default_rng([*seed, len(dataset)])
        made = {m: generator.gamma(40, 2, images).astype("f4") for m in METRICS}
        if method == "Detected pose u_c":
            made["MPVE"] = made["PA_MPVPE"] = np.full(images, np.nan, "f4")
        return made

    return frames.errors_frame(values, systems, STEPS, seeds, images)


@pytest.fixture(scope="module")
def sheets() -> dict[str, typeset.Sheet]:
    return {s.stem: s for s in tables.build_tables(errors_frame(), SPEED, {}, SETTINGS)}


def row(sheet: typeset.Sheet, label: str) -> dict:
    """Cells of a row by (group, column name)."""
    found = {name: cells for section in sheet.sections for name, cells in section.rows}
    return {
        (group, name): cell
        for (group, name, _), cell in zip(sheet.columns, found[label], strict=True)
    }


def test_all_tables_are_there_in_the_papers_order_with_the_extra_sets_last(sheets) -> None:
    assert list(sheets)[:6] == [f"table{n}" for n in range(1, 7)]
    extra = {f"table{n}_{s}" for n in (3, 4, 5) for s in ("hand", "human36m")}
    assert set(list(sheets)[6:]) == extra


def test_rows_and_published_numbers_are_the_papers(sheets) -> None:
    for stem, sheet in sheets.items():
        table = paper.table(int(stem[5]))
        rows = sheet.sections[0].rows[: len(table.rows)]
        for (label, cells), published in zip(rows, table.rows, strict=True):
            assert label == published.label
            assert cells[: len(table.columns)] == published.values


def test_published_and_measured_stand_in_groups_of_their_own(sheets) -> None:
    for sheet in sheets.values():
        for group in sheet.groups:
            assert group.title.startswith("paper, ") != group.title.startswith("*synthetic* ")
        published = sum(len(g.names) for g in sheet.groups if g.title.startswith("paper"))
        for section in sheet.sections:
            for _, cells in section.rows:
                assert not any(isinstance(cell, Interval) for cell in cells[:published])


def test_a_measured_cell_is_the_mean_over_its_images(sheets) -> None:
    errors = errors_frame()
    wanted = errors[(errors["dataset"] == "freihand") & (errors["method"] == "Direct L2")]
    cell = row(sheets["table5_hand"], "Direct L2")["*synthetic* FreiHAND-like", "PA-MPJPE ↓"]
    assert cell.mean == pytest.approx(wanted["PA_MPJPE"].astype("f8").mean())
    assert cell.low < cell.mean < cell.high and cell.images == 12


def test_sceptics_stand_under_tables_1_to_5_and_publish_nothing(sheets) -> None:
    for stem, sheet in sheets.items():
        if stem == "table6":
            continue
        labels = [label for section in sheet.sections for label, _ in section.rows]
        assert set(tables.SCEPTICS) <= set(labels)
        for (group, name), cell in row(sheet, "Mean pose").items():
            steps = name.startswith("Steps")
            assert (cell is None) == (group.startswith("paper") or steps)


def test_a_system_that_was_not_evaluated_is_a_dash_and_not_dropped() -> None:
    some = errors_frame(systems=("Ours", "Baseline A"))
    built = {s.stem: s for s in tables.build_tables(some, {}, {}, SETTINGS)}
    cells = row(built["table3"], "Baseline B")
    assert cells["paper, 3DPW", "MPVE ↓"] == 97.1
    assert cells["*synthetic* 3DPW-like", "MPVE ↓"] is None
    assert "| Baseline B | 97.1 | 85.9 | 52.7 | — | — | — |" in typeset.markdown(built["table3"])
    assert "| Mean pose | — |" in typeset.markdown(built["table3"])
    only_body = some[some["subject"] == "body"]
    hand = {s.stem: s for s in tables.build_tables(only_body, {}, {}, SETTINGS)}["table3_hand"]
    assert "| Ours | 82.4 | 72.7 | 44.5 | — | — | — |" in typeset.markdown(hand)


def test_rows_beyond_the_sceptics_appear_only_when_evaluated(sheets) -> None:
    assert "gamma as printed" not in typeset.markdown(sheets["table5"]).split("\n- ")[0]
    more = errors_frame(systems=("Ours", "Ours (gamma as printed)"))
    built = {s.stem: s for s in tables.build_tables(more, {}, {}, SETTINGS)}
    assert "| Ours (gamma as printed) | —" in typeset.markdown(built["table5"])


def test_steps_needed_come_from_the_tuned_steps(sheets) -> None:
    steps = "*synthetic* 3DPW-like", "Steps needed ↓"
    assert row(sheets["table4"], "Ours (with DAT)")[steps] == 5
    assert row(sheets["table4"], "Both Features")[steps] == 10
    errors = errors_frame(seeds=(0, 1))
    errors.loc[(errors["method"] == "Ours") & (errors["seed"] == 1), "steps"] = 20
    built = {s.stem: s for s in tables.build_tables(errors, {}, {}, SETTINGS)}
    assert row(built["table4"], "Ours (with DAT)")[steps] == "5, 20"


def test_notes_name_profile_images_seeds_protocol_and_synthetic() -> None:
    built = {s.stem: s for s in tables.build_tables(errors_frame((0, 3)), SPEED, {}, SETTINGS)}
    text = " ".join(built["table2"].notes)
    for part in ("*synthetic*", "`default`", "FreiHAND-like 12 test images, seeds 0, 3"):
        assert part in text
    assert "HAND21: 21 joints" in text and "reflections allowed" in text
    assert "4 hypotheses" in text and "95% interval" in text
    assert "Standard deviation of MPJPE over trainings, mm: FreiHAND-like Baseline A" in text
    assert "BODY14" in " ".join(built["table1"].notes)


def test_one_seed_says_that_trainings_are_not_covered(sheets) -> None:
    assert "One seed" in " ".join(sheets["table1"].notes)


def test_diverged_chains_are_reported() -> None:
    errors = errors_frame(systems=("Ours", "Direct L2"))
    errors["diverged"] = np.where(errors["method"] == "Direct L2", 0.25, 0.0)
    built = {s.stem: s for s in tables.build_tables(errors, {}, {}, SETTINGS)}
    note = "Diverged chains, stopped by the sampler: Direct L2 25.0%."
    assert note in built["table5"].notes


def test_table_6_takes_speed_at_batch_1_and_at_the_largest_batch(sheets) -> None:
    group = "*synthetic* Human3.6M-like"
    ours = row(sheets["table6"], "Ours")
    assert (ours[group, "FPS, one image ↑"], ours[group, "FPS, batch ↑"]) == (3.25, 7.75)
    assert (ours[group, "steps"], ours[group, "batch"]) == (SPEED["body"]["steps"], 16)
    assert isinstance(ours[group, "MPJPE ↓"], Interval)
    hand = row(sheets["table6"], "Ours, hand (FreiHAND-like)")
    assert hand[group, "FPS, batch ↑"] is None
    assert any("x86_64, 2 threads" in note for note in sheets["table6"].notes)


def test_table_6_sets_the_fast_path_beside_the_reference(sheets) -> None:
    group, sheet = "*synthetic* Human3.6M-like", sheets["table6"]
    assert row(sheet, "Ours, fast path")[group, "FPS, batch ↑"] == 15.5
    assert row(sheet, "Ours, fast path, hand (FreiHAND-like)")[group, "FPS, batch ↑"] is None
    printed = sheet.sections[-1]
    assert "40 steps" in printed.title
    assert dict(printed.rows)["Ours, paper's setting"][4::2] == (0.25, 0.25)
    notes = "\n".join(sheet.notes)
    assert "MPJPE +0.013 mm" in notes or "MPJPE +0.012 mm" in notes
    parts = "ms: reverse process 306.2, final MLP 1.5"
    assert f"batch 1: Ours 3.25 FPS (2.60 to 3.90; {parts}); Ours, fast path" in notes
    assert "13.00 FPS (10.40 to 15.60, 4.0 times the reference" in notes
    share = "16% of Ours' time and 15% of its reverse process"  # 3.25 / 20.5, 47.3 / 306.2
    assert f"Ours+ 20.50 FPS (16.40 to 24.60, {share}" in notes


def test_table_5_says_what_tuning_has_switched_off() -> None:
    errors = errors_frame(seeds=(0, 1))
    errors["gamma"] = np.where(errors["method"] == "Direct L2", 0.05, 5.0)
    errors["steps"] = np.where(errors["method"] == "Ours", 5, 1)
    (note,) = [n for n in built(errors)["table5"].notes if n.startswith("As tuned")]
    assert "; Ours steps 5, gamma 5. " in note and "Direct L2 steps 1, gamma 0.05; " in note
    assert "Ours w/ H_U steps 1; " in note  # which has no weight


def built(errors: pd.DataFrame) -> dict[str, typeset.Sheet]:
    return {s.stem: s for s in tables.build_tables(errors, SPEED, {}, SETTINGS)}


def test_files_are_written_in_three_forms_and_the_csv_gives_the_numbers_back(tmp_path) -> None:
    tables.write_tables(errors_frame(), SPEED, {}, SETTINGS, tmp_path)
    assert len(list(tmp_path.iterdir())) == 36
    frame = pd.read_csv(tmp_path / "table1.csv")
    ours = frame[frame["Method"] == "Ours"].iloc[0]
    assert ours["paper, 3DPW: MPVE"] == 82.4
    name = "synthetic 3DPW-like: MPVE"
    assert ours[f"{name} low"] < ours[name] < ours[f"{name} high"]
    assert set(frame["profile"]) == {"default"} and set(frame["protocol"]) == {"BODY14"}
    assert len(frame) == 10 + 4


def test_strata_give_the_means_and_paired_differences_of_their_images(tmp_path) -> None:
    errors = errors_frame()
    part = errors[errors["dataset"] == "threedpw"]
    images = sorted(part["image"].unique())
    hard = set(images[::3])
    strata = pd.DataFrame({"image": images, "dataset": "threedpw"})
    strata["visibility"] = ["occluded" if name in hard else "visible" for name in images]
    (sheet,) = breakdowns.write_strata(
        errors, strata.assign(U="wide", facing=None), SETTINGS, tmp_path
    )
    names = [name for _, name, _ in sheet.columns]
    column = names.index(f"occluded ({len(hard)})")
    assert not any("truncated" in name or "front" in name for name in names)
    means = part[part["image"].isin(hard)].groupby("method")["MPJPE"].mean()
    systems, gains = (dict(section.rows) for section in sheet.sections)
    assert systems["Ours"][column].mean == pytest.approx(means["Ours"])
    gain = gains["Baseline A - Ours"][column]
    assert gain.mean == pytest.approx(means["Baseline A"] - means["Ours"])
    assert gain.low <= gain.mean <= gain.high
    assert (tmp_path / "strata_threedpw.md").is_file()


def test_two_people_in_one_image_are_two_rows_of_the_strata(tmp_path) -> None:
    errors = errors_frame()
    part = errors[errors["dataset"] == "threedpw"].assign(image="crowd.jpg")
    part.to_parquet(tmp_path / "main-0.parquet")
    people = part.groupby(["method", "seed"]).size().max()
    strata = pd.DataFrame({"image": ["crowd.jpg"] * people, "dataset": "threedpw", "U": "wide"})
    (sheet,) = breakdowns.write_strata(
        stats.read_errors([tmp_path / "main-0.parquet"]),
        strata.assign(visibility=None, facing=None), SETTINGS, tmp_path,
    )  # fmt: skip
    assert [name for _, name, _ in sheet.columns] == [f"wide ({people})"]


def test_every_line_of_a_markdown_table_has_as_many_cells(sheets) -> None:
    for sheet in sheets.values():
        lines = [x for x in typeset.markdown(sheet).splitlines() if x.startswith("|")]
        assert len({line.count("|") for line in lines}) == 1
        assert len(lines) == 2 + sum(len(s.rows) + bool(s.title) for s in sheet.sections)


def test_latex_is_balanced_booktabs_with_nothing_left_unescaped(sheets) -> None:
    for sheet in sheets.values():
        text = typeset.latex(sheet)
        assert text.count("{") - text.count(r"\{") == text.count("}") - text.count(r"\}")
        assert all(rule in text for rule in (r"\toprule", r"\midrule", r"\bottomrule"))
        body = text[text.index(r"\toprule") : text.index(r"\bottomrule")]
        ends = [line for line in body.splitlines() if line.endswith(r"\\")]
        for line in ends:
            cells = len(re.findall(r"(?<!\\)&", line)) + 1
            cells += sum(int(n) - 1 for n in re.findall(r"multicolumn\{(\d+)\}", line))
            assert cells == len(sheet.columns) + 1
        without_maths = re.sub(r"\$[^$]*\$|\\label\{[^}]*\}|\\[&%#_$]", "", text)
        assert not re.search(r"[_#%↓↑—*`](?!$)", without_maths.replace("{%", "{"))


def test_latex_sets_the_papers_symbols_as_mathematics() -> None:
    assert typeset.tex("Ours w/ H_U") == "Ours w/ $H_U$"
    assert typeset.tex("Direct L2, u_c") == "Direct $L_2$, $u_c$"
    assert typeset.tex("95% *a* `b_c`") == r"95\% \emph{a} \texttt{b\_c}"


def test_cells_print_as_number_interval_dash_or_divergence() -> None:
    assert typeset.show(Interval(82.44, 80.06, 84.71, 9, 0), 1) == "82.4 [80.1, 84.7]"
    nan = float("nan")
    assert typeset.show(Interval(nan, nan, nan, 9, 2), 1) == "diverged on 2 of 9"
    assert typeset.show(Interval(nan, nan, nan, 9, 9), 1) == typeset.show(None, 1) == "—"
    assert typeset.show(0.7812, 3) == "0.781" and typeset.show(200, 0) == "200"


def test_unknown_dataset_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown dataset 'coco'"):
        tables.measure(errors_frame().assign(dataset="coco"), SETTINGS)


def test_metrics_summary_is_nested_rounded_and_json() -> None:
    errors = errors_frame(seeds=(0, 1))
    summary = tables.metrics_summary(errors)
    assert set(summary) == {"body", "hand"} and set(summary["hand"]) == {"freihand"}
    wanted = errors[(errors["dataset"] == "threedpw") & (errors["method"] == "Ours")]
    mpve = summary["body"]["threedpw"]["Ours"]["MPVE"]
    assert mpve == round(wanted["MPVE"].astype("f8").mean(), 3)
    assert set(summary["body"]["threedpw"]["Detected pose u_c"]) == {"MPJPE", "PA_MPJPE"}
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary


def test_metrics_summary_leaves_out_what_diverged() -> None:
    errors = errors_frame(systems=("Ours",))
    errors.loc[0, "MPVE"] = np.nan
    assert "MPVE" not in tables.metrics_summary(errors)["body"]["threedpw"]["Ours"]


def test_peers_stand_in_tables_1_and_2_with_their_costs_and_ours_plus_everywhere() -> None:
    systems = (*SYSTEMS, *tables.PEERS, tables.PLUS)
    costs = {"body": {"HMR-style": {"parameters": 487_000, "flops per image": 4e6}}}
    built = tables.build_tables(errors_frame(systems=systems), SPEED, costs, SETTINGS)
    for sheet in built:
        titles = [section.title for section in sheet.sections]
        assert any(title.startswith("Beyond") for title in titles)
        peers = any(title.startswith("Re-implemented") for title in titles)
        assert peers == (sheet.stem in ("table1", "table2"))
        assert any("HMR-style 0.49 M, 0.00" in note for note in sheet.notes) == (
            sheet.stem == "table1"
        )
    fps = row(next(s for s in built if s.stem == "table6"), "Ours+")
    assert fps["*synthetic* Human3.6M-like", "FPS, batch ↑"] == 50.25


def test_the_table_of_training_tells_what_still_falls_and_what_overfits(tmp_path):
    step = np.arange(20, 1020, 20)
    falling, worse = 2 * 0.99 ** np.arange(50), np.r_[np.linspace(2, 1, 10), np.linspace(1, 2, 40)]
    histories = {
        name: [pd.DataFrame({"step": step, "loss": falling, "val_loss": held, "kept": False})]
        for name, held in {"Ours": falling, "Baseline A": worse}.items()
    }
    for (history,), best in zip(histories.values(), (49, 9), strict=True):
        history.loc[best, "kept"] = True
    (sheet,) = breakdowns.write_training({"hand": histories}, PARAMS, tmp_path)
    ours, overfitted = (dict(sheet.sections[0].rows)[name] for name in histories)
    assert ours[:3] == (1000, pytest.approx(falling[45:].mean()), falling[-1])
    assert ours[3:] == pytest.approx([100 * (1 - 0.99**5)] * 2 + [100])
    assert overfitted[4] < 0 and overfitted[2] == 1 and overfitted[5] == 20
    short = [histories["Ours"][0].tail(1)]  # too short for a trend
    (sheet,) = breakdowns.write_training({"hand": {"Ours": short}}, PARAMS, tmp_path)
    assert sheet.sections[0].rows[0][1][3:5] == (None, None)
