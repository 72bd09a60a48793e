"""One picture to one mesh: geometry of the placement, and the same answer as evaluation gives."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hmdiff import crops, evaluate, params
from hmdiff.denoiser import Denoiser, VertexTransformer
from hmdiff.diffusion import make_alpha
from hmdiff.linear import Upsampler
from hmdiff.pinhole import project
from hmdiff.pretrain import Phi
from hmdiff.recovery import photo

PARAMS = params.load()
J, V, V_FULL, SCALE_M = 5, 12, 30, 0.35
BOX = (20, 10, 60, 90)
KNOBS = evaluate.Knobs(steps=4, gamma=0.01, r=0.05, N=6, hypotheses=3, eta=0.0)


def body(seed: int) -> np.ndarray:
    """A random cloud with a person's extent, m."""
    return np.random.default_rng(seed).normal(size=(300, 3)) * [0.2, 0.45, 0.15]


def box_of(vertices: np.ndarray, K: np.ndarray) -> np.ndarray:
    place = project(vertices, K)
    return np.concatenate([place.min(0), np.ptp(place, axis=0)])


@pytest.fixture(scope="module")
def system() -> tuple[evaluate.Bench, Phi]:
    """A bench and a phi of random weights, as small as they come."""
    torch.manual_seed(0)
    cube = PARAMS.phi.cube_m["body"] / SCALE_M
    phi = Phi(PARAMS.phi, J, cube).eval().requires_grad_(False)
    net = VertexTransformer(V, 0, True, PARAMS.g.width, 2, 32)
    torch.nn.init.normal_(net.output.weight, std=0.1)
    d = PARAMS.diffusion
    g = Denoiser(net, make_alpha(d.K, d.schedule, d.beta), "v").eval().requires_grad_(False)
    mesh = SimpleNamespace(f=torch.rand(J, V).softmax(1))
    upsampler = Upsampler([V, V_FULL]).requires_grad_(False)
    bench = evaluate.Bench("body", 0, None, PARAMS, mesh, None, upsampler, None, {"image": g})
    return bench, phi


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (120, 100, 3), dtype=np.uint8)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 1000),
    x=st.floats(-1, 1),
    y=st.floats(-0.6, 0.6),
    z=st.floats(2.5, 12),
    focal=st.floats(300, 2000),
)
def test_a_mesh_comes_back_to_where_its_own_box_was_taken(seed, x, y, z, focal):
    K = np.array([[focal, 0, 320], [0, focal, 240], [0, 0, 1]])
    t = np.array([x, y, z])
    found = photo.fit_translation(body(seed), box_of(body(seed) + t, K), K)
    assert found == pytest.approx(t, abs=2e-3)


def test_the_box_of_a_truncated_person_puts_the_mesh_too_far_away():
    K = photo.assumed_camera(480, 640)
    x, y, w, h = box_of(body(0) + np.array([0, 0, 4.0]), K)
    whole = photo.fit_translation(body(0), np.array([x, y, w, h]), K)
    upper = photo.fit_translation(body(0), np.array([x, y, w, 0.6 * h]), K)
    assert upper[2] > 1.2 * whole[2]
    assert upper[1] < whole[1]


def test_no_box_puts_a_vertex_behind_the_camera():
    K = photo.assumed_camera(100, 100)
    t = photo.fit_translation(body(0), np.array([-400.0, -400.0, 900.0, 900.0]), K)
    assert (body(0) + t)[:, 2].min() > 0


def test_the_recovery_is_what_evaluation_samples_for_that_crop(system, picture):
    bench, phi = system
    found = photo.recover_by_dat(picture, BOX, bench, phi, PARAMS, KNOBS, seed=7)
    crop, _ = crops.crop(picture, BOX, PARAMS.prepare.box_scale, PARAMS.phi.input_px)
    f_I, _, _ = phi(torch.from_numpy(crops.normalise(crop))[None])
    sample = photo.one_sample(picture, np.array(BOX), bench, phi, PARAMS, SCALE_M)
    assert torch.allclose(sample.f_I, f_I, atol=1e-6)
    h_0 = evaluate.run(bench, evaluate.METHODS["Ours"], KNOBS, sample, 7).h_0[0]
    meshes = (bench.upsampler(h_0) * SCALE_M).double().numpy()
    assert found.hypotheses_m == pytest.approx(meshes, abs=1e-6)
    assert found.vertices_m == pytest.approx(meshes.mean(0), abs=1e-6)
    # Of one more draw: the variance, and that of the centre, over the three axes.
    variance = meshes.var(axis=0, ddof=1).sum(axis=1)
    expected = 1000 * np.sqrt(variance * (1 + 1 / len(meshes)))
    assert found.spread_mm == pytest.approx(expected, rel=1e-4)
    assert found.K[0, 0] == 1.2 * 120


def test_pooled_heatmaps_keep_their_mass(system, picture):
    sample = photo.one_sample(picture, np.array(BOX), *system, PARAMS, SCALE_M)
    assert sample.heat.shape == (1, 2 * J, 14, 14)
    assert sample.heat.sum(dim=(2, 3)).numpy() == pytest.approx(1.0, abs=1e-4)


def test_seeds_decide_the_hypotheses(system, picture):
    bench, phi = system
    first, again, other = (
        photo.recover_by_dat(picture, BOX, bench, phi, PARAMS, KNOBS, seed=s).hypotheses_m
        for s in (1, 1, 2)
    )
    assert (first == again).all()
    assert not (first == other).all()


def test_grey_and_transparent_pictures_give_what_their_rgb_form_gives(system, picture):
    bench, phi = system
    grey = picture[..., 0]
    rgb = np.stack([grey] * 3, axis=-1)
    rgba = np.concatenate([rgb, np.full((120, 100, 1), 128, np.uint8)], axis=-1)
    forms = (grey, grey[..., None], rgb, rgba)
    found = [photo.recover_by_dat(p, BOX, bench, phi, PARAMS, KNOBS).vertices_m for p in forms]
    assert all((vertices == found[0]).all() for vertices in found)


@pytest.mark.parametrize(
    ("image", "box", "message"),
    [
        (np.zeros((0, 5, 3), np.uint8), BOX, "empty"),
        (np.zeros((120, 100, 3), np.float32), BOX, "float32"),
        (np.zeros((120, 100, 2), np.uint8), BOX, "expected height x width"),
        (np.zeros((120, 100, 3), np.uint8), (20, 10, 0, 90), "less than 16 x 16 pixels"),
        (np.zeros((120, 100, 3), np.uint8), (20, 10, float("nan"), 90), "four finite numbers"),
        (np.zeros((120, 100, 3), np.uint8), (200, 10, 60, 90), "less than 16 x 16 pixels of the"),
        (np.zeros((120, 100, 3), np.uint8), (20, 10, 60), "four numbers"),
    ],
)
def test_an_unusable_picture_or_box_is_one_clear_line(system, image, box, message):
    with pytest.raises(ValueError, match=message) as error:
        photo.recover_by_dat(image, box, *system, PARAMS, KNOBS)
    assert "\n" not in str(error.value)


def test_when_everything_diverges_gamma_is_named(system, picture):
    with pytest.raises(ValueError, match="lower gamma"):
        photo.recover_by_dat(picture, BOX, *system, PARAMS, replace(KNOBS, gamma=1e6, r=0.0))
