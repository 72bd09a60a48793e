"""The estimate adds up, counts what it says, and is what the page shows."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hmdiff import params
from hmdiff.pipeline import cost, profiles

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def licensed():
    values = params.parse(profiles.merged("licensed", ROOT), "licensed")
    return values, cost.count(values)


def test_the_page_shows_what_the_command_prints(licensed):
    page = (ROOT / "docs/cost.md").read_text()
    shown = page.split("<!-- python -m hmdiff.pipeline.cost -->\n")[1].split("\n<!-- end -->")[0]
    assert shown == f"{cost.table(*licensed)}\n\n{cost.summary(*licensed)}"


def test_operations_are_those_of_the_networks(licensed):
    """HRNet-W64-C has 29.0 billion multiply-adds at 224 px by its authors' count; a layer of g, by
    hand, 2 (4 n d^2 + 2 n^2 d + 2 n d d_ff) for n tokens of width d, three times for training."""
    values, F = licensed
    assert 58e9 < F["phi"] < 63e9  # with the pose head
    n, d, wide, more = 431 + 49, values.g.width, values.g.feedforward, 39
    layer = 2 * (4 * n * d**2 + 2 * n**2 * d + 2 * n * d * wide)
    stacked = F["body", "baseline_b"] - F["body", "baseline_a"]
    assert stacked == pytest.approx(3 * values.g.batch * more * layer, rel=0.1)


@given(
    hours=st.lists(st.floats(0.01, 100), min_size=1, max_size=9),
    spread=st.integers(1, 8),
    gpus=st.integers(1, 64),
)
def test_more_gpus_never_take_longer_nor_less_than_their_share(hours, spread, gpus):
    work = cost.Work("any", hours, spread)
    assert work.wall(1) == pytest.approx(sum(hours))
    assert work.wall(gpus + 1) <= work.wall(gpus)
    assert work.wall(gpus) >= sum(hours) / gpus
    assert work.wall(gpus) * spread >= max(hours) * (1 - 1e-9)
