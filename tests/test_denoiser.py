"""g and the baselines: shapes, conditions, and what they must not depend on."""

import math

import pytest
import torch

from hmdiff.denoiser import Attention, Baseline, Denoiser, VertexTransformer, step_embedding
from hmdiff.diffusion import make_alpha

B, V, J = 2, 11, 5
ALPHA = make_alpha(200, "beta", (0.0005, 0.1))


def inputs():
    generator = torch.Generator().manual_seed(0)
    f_I = torch.randn(B, 128, 49, generator=generator)
    heat = torch.rand(B, 2 * J, 14, 14, generator=generator)
    return f_I, heat / heat.sum((2, 3), keepdim=True)


def network(J_heat: int = 0, image: bool = True, layers: int = 1) -> VertexTransformer:
    torch.manual_seed(0)
    net = VertexTransformer(V, J_heat, image, 128, 4, 64, layers)
    torch.nn.init.normal_(net.output.weight, std=0.1)
    return net


def test_the_step_embedding_is_ddims():
    E_d = step_embedding(torch.tensor([0, 7]))
    assert E_d.shape == (2, 61)
    for i in (0, 11, 29):
        frequency = math.exp(-math.log(10000) * i / 29)
        assert float(E_d[1, i]) == pytest.approx(math.sin(7 * frequency), abs=1e-5)
        assert float(E_d[1, 30 + i]) == pytest.approx(math.cos(7 * frequency), abs=1e-5)
    assert (E_d[:, 60] == 0).all()


def test_attention_is_torchs_own():
    torch.manual_seed(0)
    ours = Attention(128, 4)
    oracle = torch.nn.MultiheadAttention(128, 4, batch_first=True)
    oracle.in_proj_weight.data = torch.cat([ours.query.weight, ours.key_value.weight])
    oracle.in_proj_bias.data = torch.cat([ours.query.bias, ours.key_value.bias])
    oracle.out_proj.load_state_dict(ours.out.state_dict())
    x, c = torch.randn(B, V, 128), torch.randn(B, 6, 128)
    y = ours.norm(x)
    torch.testing.assert_close(ours(x, c), x + oracle(y, c, c)[0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(ours(x), x + oracle(y, y, y)[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("J_heat, image, tokens", [(0, True, 49), (J, False, J), (J, True, 49 + J)])
def test_the_condition_has_a_token_per_cell_and_joint(J_heat, image, tokens):
    net = network(J_heat, image)
    c = net.condition(*inputs())
    assert c.shape == (B, tokens, 128)
    out = net(torch.randn(B, V, 3), torch.tensor([3, 200]), c)
    assert out.shape == (B, V, 3)


def test_the_output_depends_on_mesh_step_image_and_on_nothing_of_the_neighbours():
    net, (f_I, heat) = network(), inputs()
    h, k = torch.randn(B, V, 3), torch.tensor([50, 50])
    c = net.condition(f_I, heat)
    out = net(h, k, c)
    assert not torch.allclose(out, net(h + 1, k, c))
    assert not torch.allclose(out, net(h, k + 50, c))
    assert not torch.allclose(out, net(h, k, net.condition(f_I.roll(1, 2), heat)))
    torch.testing.assert_close(net(h[:1], k[:1], c[:1]), out[:1], rtol=1e-4, atol=1e-5)


def test_the_v_output_keeps_h0_hat_small_at_the_noisiest_step():
    # A network output of 1 moves h0_hat by about 1, where noise output would move it by 180.
    net, (f_I, heat) = network(), inputs()
    torch.nn.init.zeros_(net.output.weight)
    g = Denoiser(net, ALPHA, "v")
    h_k, k = torch.randn(B, V, 3), torch.tensor([200, 200])
    s = g(h_k, k, net.condition(f_I, heat))
    h0_hat = (h_k - (1 - ALPHA[200]).sqrt() * s) / ALPHA[200].sqrt()
    torch.testing.assert_close(h0_hat, ALPHA[200].sqrt() * h_k, rtol=0, atol=1e-3)


def test_a_fresh_baseline_predicts_the_mean():
    torch.manual_seed(0)
    mean = torch.randn(V, 3)
    model = Baseline(VertexTransformer(V, 0, True, 128, 4, 64, layers=3), mean)
    out = model(model.net.condition(*inputs()))
    torch.testing.assert_close(out, mean.expand(B, -1, -1))
