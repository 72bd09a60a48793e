"""Calibration of U, against distributions whose answer is known."""

import pytest
import torch
from scipy.stats import kstest

from hmdiff.calibration import coverage, credible_level
from hmdiff.pose import PoseDistribution

S, CUBE = 8, 2.0


def random_U(B: int, J: int) -> PoseDistribution:
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(2, B, J, S * S, generator=generator)
    return PoseDistribution(*logits.softmax(-1).view(2, B, J, S, S), CUBE)


def test_what_is_drawn_from_U_has_uniform_levels():
    U = random_U(60, 5)
    u = U.sample(1, torch.Generator().manual_seed(1))[:, 0]
    levels = credible_level(U, u).flatten()
    assert kstest(levels.numpy(), "uniform").pvalue > 0.01
    nominal = torch.tensor([0.25, 0.5, 0.9])
    assert (coverage(levels, nominal) - nominal).abs().max() < 0.08


def test_the_mode_has_the_lowest_level_and_a_far_corner_the_highest():
    maps = torch.full((1, 1, S, S), 1e-6)
    maps[..., 2, 2] = 1.0
    maps = maps / maps.sum((2, 3), keepdim=True)
    U = PoseDistribution(maps, maps, CUBE)
    centre = ((torch.tensor([2.5, 2.5, 2.5]) / S - 0.5) * CUBE).view(1, 1, 3)
    assert credible_level(U, centre).item() == pytest.approx(0.5, abs=1e-3)  # half of its own bin
    assert credible_level(U, torch.full((1, 1, 3), 9.0)).item() > 0.999


def test_a_distribution_that_is_too_sure_covers_too_little():
    U = random_U(200, 3)
    u = U.sample(1, torch.Generator().manual_seed(2))[:, 0]
    sharper = [(E**3) / (E**3).sum((2, 3), keepdim=True) for E in (U.E_xy, U.E_z)]
    half = torch.tensor([0.5])
    assert coverage(credible_level(PoseDistribution(*sharper, CUBE), u), half).item() < 0.4
