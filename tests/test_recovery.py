"""`hmdiff.recover`: an answer of Ours+, with a spread that is defined."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import skimage.data

import hmdiff
from hmdiff import closed_form, evaluate
from hmdiff.body import JOINT_NAMES
from hmdiff.recovery import api, bundle, photo

BOX = (104, 70, 250, 420)


@pytest.fixture(scope="module", params=["body", "hand"])
def answer(request, weights):
    return hmdiff.recover(skimage.data.camera(), BOX, request.param, 4, 7, weights)


def test_importing_the_package_imports_nothing_else():
    code = "import sys, hmdiff, hmdiff.cli; print({'torch', 'numpy', 'PIL'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
    with pytest.raises(AttributeError, match="no attribute 'recovr'"):
        hmdiff.recovr  # noqa: B018


def test_the_mesh_is_what_the_tables_measure_and_fills_the_box(answer, weights):
    """That of chains which all align with the mean of U, and not the hypotheses' centre."""
    found, V = answer.found, {"body": 6890, "hand": 778}[answer.model.subject]
    assert found.hypotheses_m.shape == (4, V, 3)
    one = bundle.load(weights, answer.model.subject)
    scale_m = one.bench.params.phi.cube_m[answer.model.subject] / one.phi.cube
    picture, box = photo.as_rgb(skimage.data.camera()), np.array(BOX, float)
    sample = photo.one_sample(picture, box, one.bench, one.phi, one.bench.params, scale_m)
    h_0 = closed_form.sample_plus(one.bench, one.knobs, sample, replace(one.gains, width=0.0), 7)
    mesh_mm = evaluate.full_mesh_mm(one.bench, h_0.mean(dim=1), scale_m)[0]
    assert 1000 * found.vertices_m == pytest.approx(mesh_mm.numpy(), abs=0.5)
    place = (found.vertices_m + found.translation) @ found.K.T
    place = place[:, :2] / place[:, 2:]
    low, high = place.min(axis=0), place.max(axis=0)
    assert (low + high) / 2 == pytest.approx([104 + 125, 70 + 210], abs=1)
    assert ((high - low) / (250, 420)).max() == pytest.approx(1, rel=0.01)


def test_the_spread_is_that_of_one_more_draw(answer):
    hypotheses = answer.found.hypotheses_m
    variance = hypotheses.var(axis=0, ddof=1).sum(axis=1)  # unbiased
    one_more = 1000 * np.sqrt(variance * (1 + 1 / len(hypotheses)))
    assert answer.spread_mm == pytest.approx(one_more, rel=1e-6)
    assert (answer.spread_mm > 0).all()


def test_joints_are_read_off_the_mesh(answer):
    assert answer.joint_names == JOINT_NAMES[answer.model.subject]
    regressor = answer.model.joint_regressor.double().numpy()
    assert answer.joints_m == pytest.approx(regressor @ answer.found.vertices_m, abs=1e-9)
    meshes = np.stack([regressor @ h for h in answer.found.hypotheses_m])
    variance = meshes.var(axis=0, ddof=1).sum(axis=1) * (1 + 1 / len(meshes))
    assert answer.joint_spread_mm == pytest.approx(1000 * np.sqrt(variance), rel=1e-6)


def test_a_seed_means_the_same_answer_and_another_seed_another(weights):
    camera = skimage.data.camera()
    first, again, other = (
        hmdiff.recover(camera, BOX, "hand", 3, seed, weights).found.hypotheses_m
        for seed in (1, 1, 2)
    )
    assert (first == again).all()
    assert not (first == other).all()


def test_without_a_box_the_whole_picture_is_taken(weights):
    system = bundle.load(weights, "hand")
    picture = skimage.data.astronaut()
    whole = api.answer(picture, None, system, 2)
    asked = api.answer(picture, (0, 0, 512, 512), system, 2)
    assert whole.found.box == (0, 0, 512, 512)
    assert (whole.found.hypotheses_m == asked.found.hypotheses_m).all()


@pytest.mark.parametrize("samples", [0, 1, 1001])
def test_a_senseless_number_of_samples_is_refused(weights, samples):
    with pytest.raises(ValueError, match="give 2 to 1000"):
        hmdiff.recover(skimage.data.camera(), BOX, "hand", samples, weights=weights)


RELEASE = pytest.mark.skipif(
    not bundle.RELEASED.is_dir(), reason="reports/released/default is not in this copy"
)


@RELEASE
@pytest.mark.parametrize(("subject", "low", "high"), [("body", 1.0, 2.3), ("hand", 0.05, 0.3)])
def test_the_committed_release_gives_a_mesh_of_human_size(subject, low, high):
    found = hmdiff.recover(skimage.data.astronaut(), (20, 0, 400, 512), subject)
    vertices = found.found.vertices_m
    assert low < np.ptp(vertices, axis=0).max() < high
    assert len(found.found.hypotheses_m) == 25
    assert 0 < np.median(found.spread_mm) < 300
    assert sum(p.stat().st_size for p in bundle.RELEASED.iterdir()) <= 25e6
