"""The fast path against the reference: sampler.py, closed_form.py and evaluate.py."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from test_train import bench, mesh, params, split  # noqa: F401  (fixtures)

from hmdiff import closed_form, evaluate, fast
from hmdiff import params as hmdiff_params
from hmdiff.denoiser import Denoiser, VertexTransformer
from hmdiff.diffusion import make_alpha
from hmdiff.evaluate import METHODS, default_knobs, measure
from hmdiff.linear import Upsampler
from hmdiff.pretrain import Phi, infer
from hmdiff.sampler import Guidance, algorithm_1, sample

ROOT = Path(__file__).parents[1]

V, J, N, B, n, K = 40, 5, 6, 3, 2, 50
IMAGE = torch.arange(B).repeat_interleave(n)
BF16 = pytest.param(torch.bfloat16, id="bf16")


def random_system(output: str = "v", layers: int = 1) -> Denoiser:
    """A denoiser all of whose weights matter: norms, biases and output are not as they start."""
    torch.manual_seed(0)
    net = VertexTransformer(V, J, image=True, width=128, heads=2, feedforward=64, layers=layers)
    with torch.no_grad():
        for weight in net.parameters():
            weight.add_(0.1 * torch.randn_like(weight))
    g = Denoiser(net, make_alpha(K, "beta", (0.002, 0.3)), output)
    return g.requires_grad_(False)


@pytest.fixture
def problem():
    generator = torch.Generator().manual_seed(1)
    f = torch.softmax(torch.randn(J, V, generator=generator), dim=1)
    u = torch.randn(B, N, J, 3, generator=generator) * torch.tensor([0.1, 0.5, 2.0]).view(
        B, 1, 1, 1
    )
    c = torch.randn(B, 49, 128, generator=generator)
    return f, u, c


def plain(g: Denoiser, c: torch.Tensor):
    """The reference's g(h_k, k, chains)."""
    every = torch.arange(len(IMAGE))
    return lambda h_k, k, chains=every: g(h_k, torch.full((len(h_k),), k), c[IMAGE[chains]])


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("output", ["v", "epsilon", "h0"])
def test_the_bound_g_is_g_and_its_pullback_is_autograds(problem, output, layers):
    _, _, c = problem
    g, k = random_system(output, layers), 20
    h_k, along = (torch.randn(len(IMAGE), V, 3) for _ in range(2))
    s, h0_hat, pull = fast.BoundDenoiser(g, c, torch.float32).estimate(h_k, k, IMAGE)
    x = h_k.clone().requires_grad_()
    expected = plain(g, c)(x, k)
    torch.testing.assert_close(s, expected.detach(), rtol=0, atol=2e-5)
    expected = (x - (1 - g.alpha[k]).sqrt() * expected) / g.alpha[k].sqrt()
    torch.testing.assert_close(h0_hat, expected.detach(), rtol=0, atol=5e-5)
    (gradient,) = torch.autograd.grad(expected, x, along)
    torch.testing.assert_close(pull(along), gradient, rtol=0, atol=1e-4)


def test_plain_products_and_fused_attention_are_the_same_attention():
    torch.manual_seed(0)
    q, k, v, along = (0.5 * torch.randn(4, V, 16) for _ in range(4))
    o, pull = fast.attend(q, k, v)
    rounded, pull_rounded = fast.attend(*(x.bfloat16() for x in (q, k, v)))
    exact = torch.softmax(q @ k.mT, -1) @ v
    torch.testing.assert_close(o, exact)
    torch.testing.assert_close(rounded.float(), exact, rtol=0, atol=0.05)
    for one, other in zip(pull(along), pull_rounded(along.bfloat16()), strict=True):
        assert float((one - other.float()).norm() / one.norm()) < 0.05


@pytest.mark.parametrize("eta", [0.0, 1.0])
@pytest.mark.parametrize("r", [0.0, 0.9, 2.0])
def test_samples_traces_and_divergence_are_the_references(problem, r, eta):
    f, u, c = problem
    g, gamma, steps = random_system(), 0.02, 12
    generator = torch.Generator()
    guidance = Guidance("h0_hat", gamma, r)
    alpha, chains_u = g.alpha, u[IMAGE]
    wanted = sample(plain(g, c), f, chains_u, alpha, steps, guidance, generator.manual_seed(3), eta)
    bound = fast.BoundDenoiser(g, c, torch.float32)
    got = fast.sample(bound, f, u, IMAGE, steps, gamma, r, generator.manual_seed(3), eta)
    torch.testing.assert_close(got.h_0, wanted.h_0, rtol=0, atol=1e-3)
    torch.testing.assert_close(got.R, wanted.R, rtol=1e-4, atol=1e-4)
    assert torch.equal(got.active, wanted.active) and torch.equal(got.diverged, wanted.diverged)
    line_by_line = algorithm_1(
        plain(g, c), f, chains_u, alpha, steps, gamma, r, generator.manual_seed(3), eta
    )
    torch.testing.assert_close(got.h_0, line_by_line, rtol=0, atol=1e-3)
    if r == 0.9:  # some chains let go midway, some never, each for itself
        assert got.active[0].all() and not torch.equal(got.active[-1], got.active[0])


def test_no_pullback_is_taken_for_chains_that_let_go(problem, monkeypatch):
    f, u, c = problem
    bound, pulled = fast.BoundDenoiser(random_system(), c, torch.float32), []
    estimate = bound.estimate

    def counted(h_k, k, image):
        s, h0_hat, pull = estimate(h_k, k, image)
        return s, h0_hat, lambda d: pulled.append(len(d)) or pull(d)

    monkeypatch.setattr(bound, "estimate", counted)
    monkeypatch.setattr(fast, "CHUNK", 1)
    generator = torch.Generator().manual_seed(3)
    found = fast.sample(bound, f, u, IMAGE, 12, 0.02, 0.9, generator)
    assert sum(pulled) == int(found.active.sum()) < found.active.numel()


def test_divergence_is_reported_alike(problem):
    f, u, c = problem
    bound = fast.BoundDenoiser(random_system(), c, torch.float32)
    found = fast.sample(bound, f, u, IMAGE, 12, 1e4, 0.0, torch.Generator().manual_seed(0))
    assert found.diverged.all() and not found.h_0.any()


def trained_like(bench):  # noqa: F811
    """A g that knows the meshes: its output is no longer zero, as it starts."""
    torch.manual_seed(2)
    output = bench.system("image").net.output
    output.weight.data = 0.02 * torch.randn_like(output.weight)
    bench.system("image").requires_grad_(False)
    return bench


@pytest.mark.parametrize("dtype", [torch.float32, BF16])
@pytest.mark.parametrize("name", ["Ours", "Ours w/o AS", "Ours w/ u_c"])
def test_a_run_measures_the_same(bench, split, name, dtype):  # noqa: F811
    bench = trained_like(bench)
    knobs = replace(default_knobs(bench.params), gamma=0.05, hypotheses=3)
    wanted = evaluate.run(bench, METHODS[name], knobs, split, seed=5)
    got = fast.run(bench, METHODS[name], knobs, split, seed=5, dtype=dtype)
    assert got.h_0.shape == wanted.h_0.shape and got.R.shape == wanted.R.shape
    atol = 1e-4 if dtype == torch.float32 else 0.03
    torch.testing.assert_close(got.h_0, wanted.h_0, rtol=0, atol=atol)
    errors, expected = (measure(bench, x.h_0.mean(dim=1), split) for x in (got, wanted))
    for metric in ("MPVE", "MPJPE", "PA_MPJPE"):
        assert float(errors[metric].mean()) == pytest.approx(expected[metric].mean(), abs=0.1)


@pytest.mark.parametrize("dtype", [torch.float32, BF16])
def test_ours_plus_is_the_same(bench, split, dtype):  # noqa: F811
    bench = trained_like(bench)
    knobs = default_knobs(bench.params)
    gains = closed_form.fit(bench, split, split, knobs.steps)
    wanted = closed_form.sample_plus(bench, knobs, split, gains, seed=5)
    got = fast.sample_plus(bench, knobs, split, gains, 5, dtype)
    atol = 1e-4 if dtype == torch.float32 else 0.03
    torch.testing.assert_close(got, wanted, rtol=0, atol=atol)


@pytest.mark.parametrize("name", ["Direct L2", "Ours w/ H_U", "Image Feature"])
def test_a_method_that_it_does_not_run_is_refused(bench, split, name):  # noqa: F811
    with pytest.raises(ValueError, match="runs DAT from noise alone"):
        fast.run(bench, METHODS[name], default_knobs(bench.params), split)


def test_phi_without_its_norms_is_phi():
    """In evaluation mode, with running statistics and scales that matter."""
    torch.manual_seed(0)
    values = hmdiff_params.load(ROOT / "params.yaml").phi.model_copy(update={"width": 4})
    phi = Phi(values, joints=5, cube=1.0)
    norms = [module for module in phi.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    for norm in norms:
        for scale in (norm.weight.data, norm.running_var):
            scale.uniform_(0.5, 2.0)
        for shift in (norm.bias.data, norm.running_mean):
            shift.normal_()
    phi.eval().requires_grad_(False)
    found = fast.without_norms(phi)
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in found.modules())
    assert sum(isinstance(module, torch.nn.BatchNorm2d) for module in phi.modules()) == len(norms)
    images = torch.randn(2, 3, 96, 96)
    for ours, theirs in zip(infer(found, images), infer(phi, images), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-5)


def test_the_final_mlp_as_one_map_is_the_chain():
    torch.manual_seed(0)
    chain = Upsampler([7, 19, 53])
    one, h = fast.as_one_map(chain), torch.randn(4, 7, 3)
    assert [tuple(linear.weight.shape) for linear in one.maps] == [(53, 7)]
    torch.testing.assert_close(one(h), chain(h), rtol=1e-4, atol=1e-5)
