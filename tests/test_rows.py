"""Every row of Tables 4 and 5, and every reading of the paper, runs what its label says."""

from dataclasses import replace

import pytest
import torch
from test_train import bench, mesh, params, split  # noqa: F401

from hmdiff import evaluate

# label: checkpoint, where the gap is differentiated, whether r counts, D_K, u, start
DAT = ("h0_hat", True, "h0_hat", "U", "noise")
NO_DAT = ("none", True, "h0_hat", "U", "noise")
ROWS = {
    "Image Feature": ("image", *NO_DAT),
    "Pose Feature": ("pose", *NO_DAT),
    "Both Features": ("both", *NO_DAT),
    "Ours": ("image", *DAT),
    "Ours w/o AS": ("image", "h0_hat", False, "h0_hat", "U", "noise"),
    "Ours w/ u_c": ("image", "h0_hat", True, "h0_hat", "u_c", "noise"),
    "Ours w/ H_U": ("image", "none", True, "h0_hat", "U", "H_U"),
    "Direct L2": ("image", "h_k", True, "h0_hat", "U", "noise"),
    "Gradient with g held constant": ("image", "h0_hat, g constant", *DAT[1:]),
    "D_K at h_K": ("image", "h0_hat", True, "h_K", "U", "noise"),
    "Depth of U independent of x": ("image", "h0_hat", True, "h0_hat", "marginal", "noise"),
    "g puts out the noise": ("epsilon", *DAT),
    "g puts out the mesh": ("h0", *DAT),
    "L_Diff's target as printed": ("literal", *DAT),
    "alpha linear in k": ("alpha", *DAT),
    "Vertex ids start at random": ("random_ids", *DAT),
}


@pytest.fixture
def watched(bench, monkeypatch):  # noqa: F811
    """A bench, the arguments of each call of the sampler, and the checkpoints asked for."""
    calls, asked, sample = [], set(), evaluate.sample
    bench.systems["watched"] = bench.systems["image"]

    def system(self, variant):
        asked.add(variant)
        return self.systems["watched"]

    monkeypatch.setattr(evaluate, "sample", lambda *given: (calls.append(given), sample(*given))[1])
    monkeypatch.setattr(evaluate.Bench, "system", system)
    return bench, calls, asked


def test_no_row_is_forgotten():
    assert ROWS.keys() == (evaluate.METHODS | evaluate.READINGS).keys()


@pytest.mark.parametrize("name", ROWS)
def test_a_row_runs_what_its_label_says(name, watched, split):  # noqa: F811
    checkpoint, at, r_counts, D_K, prior, start = ROWS[name]
    bench, calls, asked = watched  # noqa: F811
    knobs = replace(evaluate.default_knobs(bench.params), gamma=0.001, r=0.3, k_start=50)
    part, n = split.take(slice(0, 3)), knobs.hypotheses
    evaluate.run(bench, (evaluate.METHODS | evaluate.READINGS)[name], knobs, part)
    ((_, _, u, _, steps, guidance, _, eta, h_start, k_start),) = calls
    assert asked == {checkpoint} and (steps, eta) == (knobs.steps, knobs.eta)
    assert (guidance.at, guidance.gamma, guidance.D_K) == (at, 0.001, D_K)
    assert guidance.r == (0.3 if r_counts else 0.0)
    u = u.unflatten(0, (len(part), n))
    assert torch.equal(u[:, 0], u[:, -1])  # the chains of an image share its poses
    if prior == "u_c":
        assert torch.equal(u[:, 0], part.U.mode()[:, None].expand_as(u[:, 0]))
    else:
        assert (u[:, 0].std(dim=1) > 0).any(dim=-1).all()
    if start == "noise":
        assert h_start is None and k_start is None
    else:  # each chain from the lift of a pose of its own
        torch.testing.assert_close(h_start, evaluate.lift(bench, u[:, 0].flatten(0, 1)))
        assert k_start == 50 and not torch.equal(h_start[0], h_start[1])


def test_a_marginal_depth_does_not_hang_on_x(bench, split):  # noqa: F811
    """Two joints of one E_z whose depth is told by x: with the marginal it no longer is."""
    part = split.take(slice(0, 1))
    U, generator = part.U, torch.Generator().manual_seed(0)
    U.E_xy = torch.full_like(U.E_xy, 1 / U.side**2)
    U.E_z = torch.eye(U.side).expand_as(U.E_z) / U.side  # z is x
    U.__dict__.pop("z_given_x", None)
    for name, correlated in (("Ours", True), ("Depth of U independent of x", False)):
        method = (evaluate.METHODS | evaluate.READINGS)[name]
        knobs = replace(evaluate.default_knobs(bench.params), N=400)
        u, _ = evaluate.targets(bench, method, knobs, part, generator)
        x, _, z = u[0, :, 1].T
        assert (torch.corrcoef(torch.stack([x, z]))[0, 1] > 0.9) == correlated
