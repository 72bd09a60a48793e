"""The published tables against sums taken from the paper's text and facts that it states."""

import pytest

from hmdiff.report import paper

# All numbers of each table, added up by a script that read them out of the paper's own text.
SUMS = {1: 2577.8, 2: 124.235, 3: 690.1, 4: 1417.0, 5: 1065.3, 6: 142.5}


@pytest.mark.parametrize("number", range(1, 7))
def test_every_row_fills_its_columns_and_ours_is_last(number) -> None:
    table = paper.table(number)
    assert table.number == number
    assert all(len(row.values) == len(table.columns) for row in table.rows)
    assert table.ours.method == "Ours"
    values = [v for row in table.rows for v in row.values if v is not None]
    assert sum(values) == pytest.approx(SUMS[number])


def test_our_row_is_the_same_system_in_every_table() -> None:
    on_3dpw = {paper.table(n).ours.values[:3] for n in (1, 3, 4, 5)}
    assert on_3dpw == {(82.4, 72.7, 44.5)}
    assert paper.table(6).ours.values[0] == paper.table(1).ours.values[3] == 49.3


def test_ours_is_best_in_every_accuracy_column_as_the_text_says() -> None:
    for table in paper.TABLES:
        for i, column in enumerate(table.columns):
            if column.metric == "FPS":
                continue
            others = [row.values[i] for row in table.rows[:-1] if row.values[i] is not None]
            assert not any(paper.beats(column.metric, v, table.ours.values[i]) for v in others)


def test_claims_against_ours_count_the_numbers_printed_for_the_others() -> None:
    ours = [c for c in paper.claims() if c.kind == "ours"]
    assert {n: sum(c.table == n for c in ours) for n in range(1, 7)} == {
        1: 36,  # 9 systems x 5 columns, 9 dashes
        2: 26,  # 8 systems x 4 columns, 5 dashes, 1 tie
        3: 6,
        4: 12,
        5: 12,
        6: 2,
    }


def test_the_tie_with_mesh_graphormer_asserts_nothing() -> None:
    rivals = [c.worse.label for c in paper.claims() if (c.table, c.metric) == (2, "F15")]
    assert "Mesh Graphormer" not in rivals and len(rivals) == 7


def test_the_paper_says_that_it_is_the_slower_one() -> None:
    speed = next(c for c in paper.claims() if c.metric == "FPS")
    assert (speed.better.label, speed.worse.label) == ("FastMETRO", "Ours")
    assert not speed.testable


def test_ablation_claims_are_testable_and_comparisons_with_peers_are_not() -> None:
    for claim in paper.claims():
        assert claim.testable == (claim.table in (3, 4, 5))
        assert paper.beats(claim.metric, claim.better_value, claim.worse_value)


def test_fewer_steps_is_claimed_against_each_diffusion_baseline() -> None:
    steps = [c for c in paper.claims() if c.metric == "steps" and c.kind == "ours"]
    assert [(c.worse.method, c.better_value, c.worse_value) for c in steps] == [
        ("Image Feature", 40, 200),
        ("Pose Feature", 40, 200),
        ("Both Features", 40, 100),
    ]


def test_neighbours_among_the_baselines_are_ordered_by_the_published_numbers() -> None:
    order = [
        (c.better.label, c.worse.label)
        for c in paper.claims()
        if c.kind == "order" and c.metric == "MPVE"
    ]
    assert order == [
        ("Baseline B", "Baseline A"),
        ("Pose Feature", "Image Feature"),
        ("Both Features", "Pose Feature"),
        ("Direct L2", "Ours w/ H_U"),
        ("Ours w/ u_c", "Direct L2"),
        ("Ours w/o AS", "Ours w/ u_c"),
    ]
