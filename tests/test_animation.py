"""The animation shows the very chain that the sampler runs, and is the same twice."""

from types import SimpleNamespace

import numpy as np
import torch
from PIL import Image
from test_train import V_FULL, V, bench, mesh, params, split  # noqa: F401  (fixtures)

from hmdiff import evaluate, sampler
from hmdiff.diffusion import timesteps
from hmdiff.report import animation


def knobs_of(params, steps=6):  # noqa: F811
    return evaluate.replace(evaluate.default_knobs(params), gamma=0.001, steps=steps)


def test_a_record_is_algorithm_1_step_by_step(bench, split, params):  # noqa: F811
    one, knobs = split.take(slice(2, 3)), knobs_of(params)
    ks, noisy, guesses, h_0 = animation.record(bench, knobs, one, 5)
    g = bench.system("image")
    assert ks == timesteps(len(g.alpha) - 1, knobs.steps)
    assert noisy.shape == guesses.shape == (knobs.steps, V, 3)
    generator = torch.Generator().manual_seed(5)
    u = one.U.sample(knobs.N, generator)
    c = g.condition(one.f_I, one.heat)
    expected = sampler.algorithm_1(
        lambda h_k, k, chains=None: g(h_k, torch.full((1,), k), c),
        bench.mesh.f, u, g.alpha, knobs.steps, knobs.gamma, knobs.r, generator,
    )  # fmt: skip
    torch.testing.assert_close(h_0, expected[0], atol=1e-4, rtol=1e-4)
    # The last guess is the result, but for the last pull of DAT.
    assert (guesses[-1] - h_0).abs().max() < 0.05


def test_the_picture_moves_loops_and_is_the_same_twice(bench, split, params, tmp_path):  # noqa: F811
    one, knobs = split.take(slice(0, 1)), knobs_of(params)
    trace = animation.record(bench, knobs, one, 0)
    faces = torch.tensor([[i, i + 1, i + 2] for i in range(V_FULL - 2)])
    model = SimpleNamespace(parts=torch.zeros(V_FULL, dtype=torch.uint8), faces=faces)
    bench.mesh = evaluate.replace(bench.mesh, ids=torch.arange(V))
    for name in "ab":
        picture = np.full((64, 64, 3), 120, np.uint8)
        animation.noise_to_mesh(picture, trace, bench, model, one, tmp_path / f"{name}.gif", 64)
    assert (tmp_path / "a.gif").read_bytes() == (tmp_path / "b.gif").read_bytes()
    with Image.open(tmp_path / "a.gif") as image:
        assert image.size == (3 * 64, 64 + animation.HEAD_PX)
        assert image.n_frames == knobs.steps + 1 and image.info["loop"] == 0
        first = np.asarray(image.convert("RGB"))
        image.seek(image.n_frames - 1)
        assert image.info["duration"] == animation.LAST_MS
        assert not np.array_equal(first, np.asarray(image.convert("RGB")))


def test_a_chain_that_diverged_is_drawn_all_the_same(bench, split, params, tmp_path):  # noqa: F811
    one = split.take(slice(0, 1))
    trace = animation.record(bench, evaluate.replace(knobs_of(params), gamma=1e9), one, 0)
    assert not trace[3].any(), "the sampler stops it at the zero mesh"
    faces = torch.tensor([[0, 1, 2]])
    model = SimpleNamespace(parts=torch.zeros(V_FULL, dtype=torch.uint8), faces=faces)
    bench.mesh = evaluate.replace(bench.mesh, ids=torch.arange(V))
    picture = np.zeros((32, 32, 3), np.uint8)
    animation.noise_to_mesh(picture, trace, bench, model, one, tmp_path / "a.gif", 32)
    assert (tmp_path / "a.gif").is_file()
