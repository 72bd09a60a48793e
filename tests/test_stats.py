"""Bootstrap intervals against scipy and normal theory; seeds, pairs and gaps in errors frames."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import bootstrap

from hmdiff import stats


def intervals(wide: pd.DataFrame, resamples: int, level: float) -> dict[str, stats.Interval]:
    found = stats.resample(wide, resamples, level)
    return {name: found.interval(name) for name in wide}


def frame(method: str = "Ours", seed: int = 0, images: int = 30, mean: float = 80.0):
    """An errors frame of one method and seed on one dataset."""
    generator = np.random.default_rng([seed, len(method)])
    values = {name: generator.normal(mean, 10, images).astype("f4") for name in stats.METRICS}
    keys = {"image": [f"{i:03}.jpg" for i in range(images)], "dataset": "threedpw"}
    system = {"subject": "body", "method": method, "seed": seed, "steps": 10, "hypotheses": 4}
    return pd.DataFrame(keys | system | values)


def test_interval_equals_scipys_percentile_bootstrap() -> None:
    values = np.random.default_rng(1).gamma(4, 20, 80)
    ours = intervals(pd.DataFrame({"x": values}), 20_000, 0.95)["x"]
    scipys = bootstrap(
        (values,), np.mean, n_resamples=20_000, method="percentile", rng=np.random.default_rng(2)
    ).confidence_interval
    assert ours.mean == pytest.approx(values.mean())
    assert ours.low == pytest.approx(scipys.low, abs=0.3)
    assert ours.high == pytest.approx(scipys.high, abs=0.3)


def test_interval_has_the_width_of_normal_theory_and_narrows_with_the_level() -> None:
    values = np.random.default_rng(1).normal(100, 15, 400)
    wide = pd.DataFrame({"x": values})
    at_95, at_50 = (intervals(wide, 5000, level)["x"] for level in (0.95, 0.5))
    standard_error = values.std() / 20
    assert at_95.high - at_95.low == pytest.approx(2 * 1.96 * standard_error, rel=0.05)
    assert at_50.high - at_50.low == pytest.approx(2 * 0.674 * standard_error, rel=0.05)


def test_interval_covers_the_true_mean_about_as_often_as_it_says() -> None:
    generator = np.random.default_rng(7)
    samples = pd.DataFrame(generator.gamma(4, 20, (100, 300)))
    covered = [i.low <= 80 <= i.high for i in intervals(samples, 400, 0.95).values()]
    assert 0.90 <= np.mean(covered) <= 0.98


def test_same_input_gives_the_same_interval_and_columns_share_their_draws() -> None:
    wide = pd.DataFrame({"a": np.arange(20.0)})
    wide["b"] = wide["a"] + 5
    first, again = (intervals(wide, 200, 0.95) for _ in range(2))
    assert first == again
    assert first["b"].low - first["a"].low == pytest.approx(5)


def test_paired_differences_equal_the_bootstrap_of_the_difference_itself() -> None:
    generator = np.random.default_rng(4)
    image = generator.gamma(4, 20, 60)  # what both find hard
    wide = pd.DataFrame({"a": image + generator.normal(0, 2, 60), "b": image + 3})
    paired = stats.resample(wide, 1000, 0.95).difference("b", "a")
    direct = intervals(pd.DataFrame({"d": wide["b"] - wide["a"]}), 1000, 0.95)["d"]
    assert paired.mean == pytest.approx(direct.mean)
    assert (paired.low, paired.high) == pytest.approx((direct.low, direct.high))
    alone = intervals(wide, 1000, 0.95)["a"]
    assert paired.high - paired.low < 0.2 * (alone.high - alone.low), "pairing removes the image"


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=30))
def test_interval_lies_within_the_data(values) -> None:
    found = intervals(pd.DataFrame({"x": values}), 100, 0.95)["x"]
    assert min(values) - 1e-9 <= found.low <= found.high <= max(values) + 1e-9


def test_seeds_are_averaged_per_image() -> None:
    errors = pd.concat([frame(seed=0), frame(seed=1)])
    wide = stats.by_image(errors, "MPVE")
    expected = (frame(seed=0)["MPVE"].astype("f8") + frame(seed=1)["MPVE"].astype("f8")) / 2
    assert wide.shape == (30, 1)
    np.testing.assert_allclose(wide["Ours"], expected)


def test_one_diverged_seed_is_not_averaged_away() -> None:
    broken = frame(seed=1)
    broken.loc[3, "MPVE"] = np.nan
    wide = stats.by_image(pd.concat([frame(seed=0), broken]), "MPVE")
    found = intervals(wide, 100, 0.95)["Ours"]
    assert found.failed == 1 and found.measured and np.isnan(found.mean) and np.isnan(found.low)


def test_a_measure_that_a_method_never_has_is_not_measured() -> None:
    errors = frame().assign(MPVE=np.float32("nan"))
    assert not intervals(stats.by_image(errors, "MPVE"), 100, 0.95)["Ours"].measured


def test_missing_images_are_refused() -> None:
    errors = pd.concat([frame(), frame("Baseline A").iloc[:-2]])
    with pytest.raises(ValueError, match=r"'Baseline A'.* 2 of 30 images"):
        stats.by_image(errors, "MPVE")
    with pytest.raises(ValueError, match=r"'Ours'.* 5 of 30 images"):
        stats.by_image(pd.concat([frame(), frame(seed=1).iloc[5:]]), "MPVE")


def test_spread_over_seeds_is_the_deviation_of_their_means() -> None:
    errors = pd.concat([frame(seed=s).assign(MPVE=float(v)) for s, v in ((0, 80), (1, 84))])
    assert stats.spread_over_seeds(errors, "Ours", "MPVE") == pytest.approx(2 * 2**0.5)
    assert np.isnan(stats.spread_over_seeds(frame(), "Ours", "MPVE"))


def test_files_of_a_seed_that_was_given_up_are_not_asked_for(tmp_path) -> None:
    files = stats.error_files(tmp_path, "body", (0, 2))
    folder = tmp_path / "errors/body"
    assert set(files) == {
        tmp_path / "peers/body.parquet",
        *(folder / f"{group}-{s}.parquet" for group in stats.GROUPS for s in (0, 2)),
    }
    stages = yaml.safe_load((Path(__file__).parents[1] / "dvc.yaml").read_text())["stages"]
    made = [out for stage in stages.values() for out in stage.get("outs", [])]
    for group in stats.GROUPS:
        assert f"data/errors/${{item.subject}}/{group}-${{item.seed}}.parquet" in made


def test_a_system_in_two_files_counts_once(tmp_path) -> None:
    frame().to_parquet(tmp_path / "main-0.parquet")
    pd.concat([frame(), frame("Baseline A")]).to_parquet(tmp_path / "diffusion-0.parquet")
    errors = stats.read_errors(tmp_path.glob("*.parquet"))
    assert errors["method"].value_counts().to_dict() == {"Ours": 30, "Baseline A": 30}


def test_files_that_disagree_on_a_system_are_refused(tmp_path) -> None:
    frame().to_parquet(tmp_path / "main-0.parquet")
    frame(mean=81.0).to_parquet(tmp_path / "dat-0.parquet")
    with pytest.raises(ValueError, match="'Ours', seed 0, on threedpw: evaluated twice"):
        stats.read_errors(tmp_path.glob("*.parquet"))


def test_damaged_incomplete_or_no_files_are_refused_by_name(tmp_path) -> None:
    with pytest.raises(ValueError, match="no files"):
        stats.read_errors([])
    (tmp_path / "a.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(ValueError, match=r"a\.parquet: damaged .*delete it"):
        stats.read_errors([tmp_path / "a.parquet"])
    frame().drop(columns="MPVE").to_parquet(tmp_path / "b.parquet")
    with pytest.raises(ValueError, match=r"b\.parquet: lacks the columns \['MPVE'\]"):
        stats.read_errors([tmp_path / "b.parquet"])


def test_two_people_in_one_image_stay_two(tmp_path) -> None:
    frame().assign(image="crowd.jpg").to_parquet(tmp_path / "main-0.parquet")
    errors = stats.read_errors([tmp_path / "main-0.parquet"])
    assert len(errors) == errors["image"].nunique() == 30
    assert list(errors["image"][:2]) == ["crowd.jpg", "crowd.jpg#1"]
