"""`make bench`: how fast the studio, the networks and the sampler are on this machine.

    python -m hmdiff.bench

Everything runs on what the code itself makes, at the sizes of params.yaml: no trained network and
no data are needed, for speed does not depend on weights. The only file read is the open body, which
is baked where it is missing. One line a number; bars that the study sets itself are printed beside.
"""

from collections.abc import Iterator
from pathlib import Path

import torch

from . import params as settings
from .anny_bake import bake_open_body
from .body import load
from .capture import images_per_second
from .diffusion import make_alpha
from .pretrain import Phi
from .sampler import Guidance, sample
from .speed import hardware, seconds
from .train import build

STUDIO_BAR = 30  # images a second, two processes, all effects on
BATCH = 16


def studio(params: settings.Params, model: Path) -> Iterator[str]:
    """Images a second of the studio's body set, the slower kind."""
    if not model.is_file():
        bake_open_body(model)
    speed = images_per_second("threedpw", load(model), params.studio.image_px, workers=2)
    yield f"studio, 3DPW-like, two processes: {speed:.1f} images/s (bar: {STUDIO_BAR})"


@torch.no_grad()
def backbone(params: settings.Params) -> Iterator[str]:
    """Images a second of phi without gradients."""
    phi = Phi(params.phi, joints=24, cube=1.0).eval().to(memory_format=torch.channels_last)
    images = torch.rand(BATCH, 3, params.phi.input_px, params.phi.input_px)
    images = images.to(memory_format=torch.channels_last)
    yield f"phi_I and phi_P, batch {BATCH}: {BATCH / seconds(lambda: phi(images), 5):.1f} images/s"


def denoiser(params: settings.Params, V: int = 431, J: int = 24) -> Iterator[str]:
    """A forward pass of g, and one image's reverse process with and without DAT."""
    torch.manual_seed(0)
    g = build("image", "body", params, V, J).eval().requires_grad_(False)
    d, s = params.diffusion, params.sampler
    alpha, f, n = make_alpha(d.K, d.schedule, d.beta), torch.full((J, V), 1 / V), s.hypotheses
    u, c = torch.zeros(n, s.N, J, 3), g.condition(torch.zeros(n, 128, 49), None)

    def noise(h_k: torch.Tensor, k: int, chains: torch.Tensor) -> torch.Tensor:
        return g(h_k, torch.full((len(h_k),), k), c[chains])

    def reverse(guidance: Guidance) -> float:
        generator = torch.Generator().manual_seed(0)
        return seconds(lambda: sample(noise, f, u, alpha, s.steps, guidance, generator), 5)

    h_k, every = torch.zeros(n, V, 3), torch.arange(n)
    once_ms = 1000 * seconds(lambda: noise(h_k, 100, every), 9)
    yield f"g, {n} meshes of {V} vertices: {once_ms:.1f} ms"
    for name, guidance in {
        "without DAT": Guidance(),
        "with DAT to the end": Guidance("h0_hat", s.gamma, 0.0),
    }.items():
        yield (
            f"one image, {n} hypotheses, {s.steps} steps, {name}: {1000 * reverse(guidance):.0f} ms"
        )


def main() -> None:
    """Print every number as it is measured."""
    params = settings.load()
    print(", ".join(f"{key} {value}" for key, value in hardware().items()))
    for part in (
        studio(params, Path("data/models/open_body.npz")),
        backbone(params),
        denoiser(params),
    ):
        for line in part:
            print(line, flush=True)


if __name__ == "__main__":
    main()
