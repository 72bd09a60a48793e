"""Systems trained for other lengths: who trains how long, what is measured with it and told."""

import numpy as np
import pandas as pd
import pytest
from spread import split_of_g
from test_train import bench, mesh, params, split  # noqa: F401  (fixtures)

from hmdiff import convergence, evaluate
from hmdiff import params as hmdiff_params
from hmdiff.report import breakdowns, figures
from hmdiff.train import build, load_system, steps_of, train


def with_lengths(values, lengths):
    block = values.readings.model_copy(update={"lengths": lengths})
    return values.model_copy(update={"readings": block})


@pytest.fixture
def lengths(bench):  # noqa: F811
    """A bench with untrained systems of each length, which differ."""
    bench.params = with_lengths(bench.params, ("fourfold", "quarter"))
    for system in set(convergence.SYSTEMS.values()):
        for length in ("", "-quarter", "-fourfold"):
            model = build(system, "hand", bench.params, 12, 21)
            model.net.output.weight.data.normal_(std=0.01)  # an untrained one puts out nothing
            bench.systems[system + length] = model.eval()
    return bench


def test_the_steps_are_a_part_or_a_multiple_and_never_none(params):  # noqa: F811
    found = [steps_of(length, "hand", params) for length in ("quarter", "", "fourfold")]
    assert found == [2, 6, 24]
    one = hmdiff_params.with_g(params, {"steps": {"hand": 1}})
    assert steps_of("quarter", "hand", one) == 1


def test_a_longer_training_takes_its_steps_and_is_otherwise_the_same(
    split,  # noqa: F811
    mesh,  # noqa: F811
    params,  # noqa: F811
    tmp_path,
):
    """With g.steps a fourth, `fourfold` is what it is without, bit for bit."""
    for length, steps in (("fourfold", 5), ("", 20)):
        values = hmdiff_params.with_g(params, {"steps": {"hand": steps}})
        args = ("pose", "hand", 0, split, split, mesh, values, tmp_path / f"of{length}")
        assert train(*args, tmp_path / "resume", length)["step"].max() == 20
    found, expected = (
        load_system(tmp_path / name / "model.safetensors", params).state_dict()
        for name in ("offourfold", "of")
    )
    assert all((found[key] == expected[key]).all() for key in expected)


def test_each_length_has_a_bench_whose_systems_are_its_own(lengths):
    found = convergence.benches(lengths)
    assert list(found) == ["quarter", "", "fourfold"]
    for name, part in found.items():
        for system in convergence.SYSTEMS.values():
            own = f"{system}-{name}" if name else system
            assert part.system(system) is lengths.systems[own]
    lengths.params = with_lengths(lengths.params, ())
    assert list(convergence.benches(lengths)) == [""]


def test_with_each_length_the_methods_are_tuned_and_measured_as_in_the_tables(lengths, split):  # noqa: F811
    frames, g = {}, split_of_g(split)
    for name, part in convergence.benches(lengths).items():
        knobs = convergence.tune(part, split, g)
        frames[name] = convergence.evaluate_length(part, knobs, split, g)
        assert set(frames[name]["method"]) == set(convergence.COMPARED)
    _, tuned = evaluate.sweep(lengths, split)
    columns = ["MPVE", "steps", "gamma"]
    found = frames[""].set_index("method")[columns]
    for name in convergence.DIFFUSIONS:
        frame = evaluate.evaluate(lengths, name, tuned[name], split)
        expected = frame.set_index("method")[columns]
        pd.testing.assert_frame_equal(found.loc[[name]], expected, check_dtype=False)
    for name in evaluate.BASELINES:
        baseline = evaluate.evaluate_baseline(lengths, name, split)["MPVE"]
        assert np.array_equal(found.loc[name, "MPVE"], baseline)
    errors = {name: frame.set_index("method")["MPVE"] for name, frame in frames.items()}
    assert np.array_equal(errors["quarter"][evaluate.LIFT], errors["fourfold"][evaluate.LIFT])
    for method in convergence.SYSTEMS:
        assert not np.allclose(errors["quarter"][method], errors["fourfold"][method]), method


def made_up_errors(datasets, images=40):
    """Image Feature errs by 10, 6 and 3 mm more than Ours, as training goes on."""
    rng = np.random.default_rng(0)
    offsets = dict.fromkeys(convergence.COMPARED, 4.0)
    offsets |= {"Ours": 0.0, "Ours+": -1.0, evaluate.LIFT: -2.0}
    frames = []
    for dataset in datasets:
        hard = 100 + 20 * rng.standard_normal(images)
        for g_steps, gain in ((50, 10.0), (200, 6.0), (800, 3.0)):
            for method, offset in (offsets | {"Image Feature": gain}).items():
                error = hard + offset + 0.1 * rng.standard_normal(images)
                rows = {"image": [f"{i}.jpg" for i in range(images)], "person": 0, "MPVE": error}
                rows |= {"dataset": dataset, "subject": "body", "method": method, "seed": 0}
                rows |= {"MPJPE": error, "PA_MPJPE": error, "steps": 3, "gamma": 0.5}
                rows |= {"g_steps": g_steps, "val_loss": 1 / g_steps, "hypotheses": 1}
                frames.append(pd.DataFrame(rows))
    return pd.concat(frames, ignore_index=True)


def test_the_table_and_the_figure_tell_what_dat_gains_at_each_length(tmp_path):
    errors, values = made_up_errors(("threedpw", "human36m")), hmdiff_params.load()
    sheets = breakdowns.write_convergence(errors, values, tmp_path)
    assert [sheet.stem for sheet in sheets] == ["convergence_threedpw", "convergence_human36m"]
    titles = [section.title for section in sheets[0].sections]
    assert titles == ["50 training steps", "200 training steps", "800 training steps"]
    names = [name for _, name, _ in sheets[0].columns]
    mean, ahead = names.index("mean"), names.index("minus Ours")
    for section, gain in zip(sheets[0].sections, (10, 6, 3), strict=True):
        rows = dict(section.rows)
        assert tuple(rows) == convergence.COMPARED
        assert rows["Ours"][ahead] is None and rows["Ours"][mean].high > rows["Ours"][mean].low + 5
        for method, expected in (("Image Feature", gain), ("Baseline A", 4), (evaluate.LIFT, -2)):
            found = rows[method][ahead]
            assert found.mean == pytest.approx(expected, abs=0.1)
            assert found.high - found.low < 0.2  # paired: how hard an image is drops out
        assert rows[evaluate.LIFT][names.index("L_total")] is None
    finding = figures.convergence(errors, values, tmp_path / "convergence.png")
    assert "DAT gains 10.0, 6.0, 3.0 mm on 3DPW-like" in finding
    assert (tmp_path / "convergence.png").is_file()


def test_two_people_in_one_image_are_two_images():
    one = made_up_errors(("threedpw",))
    crowd = pd.concat([one, one.assign(person=1)]).sort_values(
        ["g_steps", "method", "image"], kind="stable"
    )
    assert breakdowns.by_length(crowd, "MPVE").notna().all().all()
    sheet = breakdowns.convergence_table("threedpw", crowd, hmdiff_params.load())
    assert dict(sheet.sections[0].rows)["Ours"][0].images == 80
    assert "on 80 test images" in sheet.notes[0]
