"""g trained for other lengths: what trains how long, what is measured with it, what is told."""

import numpy as np
import pandas as pd
import pytest
from spread import split_of_g
from test_readings import with_readings
from test_train import bench, mesh, params, split  # noqa: F401  (fixtures)

from hmdiff import convergence, evaluate
from hmdiff import params as hmdiff_params
from hmdiff.report import breakdowns, figures
from hmdiff.train import build, load_system, steps_of, train


@pytest.fixture
def lengths(bench):  # noqa: F811
    """A bench with an untrained g of each length, which differ."""
    bench.params = with_readings(bench.params, ("fourfold", "literal", "quarter"))
    for name in ("quarter", "fourfold"):
        bench.systems[name] = build(name, "hand", bench.params, 12, 21)
        bench.systems[name].net.output.weight.data.normal_()  # an untrained one puts out nothing
    return bench


def test_the_steps_are_a_part_or_a_multiple_and_never_none(params):  # noqa: F811
    assert [steps_of(v, "hand", params) for v in ("quarter", "image", "fourfold")] == [2, 6, 24]
    one = hmdiff_params.with_g(params, {"steps": {"hand": 1}})
    assert steps_of("quarter", "hand", one) == 1


def test_a_longer_training_takes_its_steps_and_is_otherwise_ours(
    split,  # noqa: F811
    mesh,  # noqa: F811
    params,  # noqa: F811
    tmp_path,
):
    """With g.steps a fourth, `fourfold` is `image`, bit for bit."""
    for variant, steps in (("fourfold", 5), ("image", 20)):
        values = hmdiff_params.with_g(params, {"steps": {"hand": steps}})
        args = (variant, "hand", 0, split, split, mesh, values, tmp_path / variant)
        assert train(*args, tmp_path / "resume")["step"].max() == 20
    found, expected = (
        load_system(tmp_path / name / "model.safetensors", params).state_dict()
        for name in ("fourfold", "image")
    )
    assert all((found[key] == expected[key]).all() for key in expected)


def test_each_length_has_a_bench_whose_g_is_its_own(lengths):
    found = convergence.benches(lengths)
    assert list(found) == ["quarter", "image", "fourfold"]
    assert all(part.system("image") is lengths.system(name) for name, part in found.items())
    lengths.params = with_readings(lengths.params, ("literal",))
    assert list(convergence.benches(lengths)) == ["image"]


def test_with_each_length_the_methods_are_tuned_and_measured_as_in_the_tables(lengths, split):  # noqa: F811
    frames, g = {}, split_of_g(split)
    for name, part in convergence.benches(lengths).items():
        knobs = convergence.tune(part, split, g)
        frames[name] = convergence.evaluate_length(part, knobs, split, g)
        assert list(dict.fromkeys(frames[name]["method"])) == list(convergence.METHODS)
    _, tuned = evaluate.sweep(lengths, split)
    ours = evaluate.evaluate(lengths, "Ours", evaluate.Knobs(**tuned["Ours"]), split)
    errors = {
        name: frame.set_index("method")[["MPVE", "steps", "gamma"]]
        for name, frame in frames.items()
    }
    expected = ours.set_index("method")[["MPVE", "steps", "gamma"]]
    pd.testing.assert_frame_equal(errors["image"].loc[["Ours"]], expected, check_dtype=False)
    lift = [frame.loc[evaluate.LIFT, "MPVE"].to_numpy() for frame in errors.values()]
    assert (lift[0] == lift[1]).all() and (lift[0] == lift[2]).all()
    assert not np.allclose(errors["quarter"].loc["Ours", "MPVE"], expected["MPVE"])


def made_up_errors(datasets, images=40):
    """Image Feature errs by 10, 6 and 3 mm more than Ours, as g trains longer."""
    rng = np.random.default_rng(0)
    offsets = {"Ours": 0.0, "Ours+": -1.0, evaluate.LIFT: -2.0}
    frames = []
    for dataset in datasets:
        hard = 100 + 20 * rng.standard_normal(images)
        for g_steps, gain in ((50, 10.0), (200, 6.0), (800, 3.0)):
            for method, offset in ({"Image Feature": gain} | offsets).items():
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
    rows = dict(sheets[0].sections[0].rows)
    assert list(rows) == ["50 training steps", "200 training steps", "800 training steps"]
    names = [name for _, name, _ in sheets[0].columns]
    gain = names.index("Image Feature minus Ours")
    for cells, expected in zip(rows.values(), (10, 6, 3), strict=True):
        assert cells[gain].mean == pytest.approx(expected, abs=0.1)
        assert cells[gain].high - cells[gain].low < 0.2  # paired: how hard an image is drops out
        assert cells[names.index("lift minus Ours")].mean == pytest.approx(-2, abs=0.1)
        assert cells[1].high - cells[1].low > 5
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
    assert dict(sheet.sections[0].rows)["50 training steps"][1].images == 80
    assert "on 80 test images" in sheet.notes[0]
