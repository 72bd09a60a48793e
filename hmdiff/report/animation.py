"""Noise becoming a mesh: the reverse process of Ours on one image, as an animated picture.

Each frame shows the image, the mesh h_k of step k, and the clean mesh h0_hat that g expects there;
the last one shows the full mesh that comes out.
"""

from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ..body import BodyModel
from ..diffusion import estimate_h0
from ..evaluate import Bench, Knobs, full_mesh_mm
from ..files import write_file
from ..sampler import Guidance, sample
from ..splits import Split
from ..viewer import View, dress, fit_view

FRAME_MS, LAST_MS = 160, 2000
NOISE_EXTENT = 3.5  # normalised units: holds nearly all points of Gaussian noise
HEAD_PX = 26


@torch.no_grad()
def record(
    bench: Bench, knobs: Knobs, one: Split, seed: int
) -> tuple[list[int], Tensor, Tensor, Tensor]:
    """One chain of Ours on one image, step by step.

    Returns:
        the steps k taken; h_k and h0_hat at each, (steps, V, 3); and the result h_0 (V, 3).
    """
    g, f = bench.system("image"), bench.mesh.f
    generator = torch.Generator().manual_seed(seed)
    u = one.U.sample(knobs.N, generator).to(f)
    c = g.condition(one.f_I.to(f), one.heat.to(f))
    ks, noisy, guesses = [], [], []

    def denoise(h_k: Tensor, k: int, chains: Tensor) -> Tensor:
        s = g(h_k, torch.full((1,), k, device=f.device), c)
        ks.append(k)
        noisy.append(h_k[0].detach().cpu())
        guesses.append(estimate_h0(h_k, s, g.alpha[k])[0].detach().cpu())
        return s

    guidance = Guidance("h0_hat", knobs.gamma, knobs.r)
    result = sample(denoise, f, u, g.alpha, knobs.steps, guidance, generator)
    return ks, torch.stack(noisy), torch.stack(guesses), result.h_0[0].cpu()


def noise_to_mesh(
    picture: np.ndarray,
    trace: tuple[list[int], Tensor, Tensor, Tensor],
    bench: Bench,
    model: BodyModel,
    one: Split,
    out: Path,
    px: int = 220,
) -> None:
    """Write the animation of a `record` as a GIF.

    Args:
        picture: the image's crop, square, uint8.
        one: the image that was recorded; its true mesh says how near the view is.
    """
    ks, noisy, guesses, h_0 = trace
    faces, colour = bench.mesh.faces.cpu().numpy(), dress(model.parts.numpy())
    coarse_colour = colour[bench.mesh.ids.cpu().numpy()]
    full = full_mesh_mm(bench, h_0[None], one.scale_m)[0].numpy() / (1000 * one.scale_m)
    truth = one.mesh[0].numpy() / one.scale_m
    near, side, wide = fit_view(truth, px), fit_view(truth, px, 90), View(NOISE_EXTENT, px)
    image = np.asarray(Image.fromarray(picture).resize((px, px)))
    frames = [
        strip(
            {
                "image": image,
                f"h_k, k = {k}": wide.draw(h_k.numpy(), faces, coarse_colour),
                "what g expects": near.draw(guess.numpy(), faces, coarse_colour),
            }
        )
        for k, h_k, guess in zip(ks, noisy, guesses, strict=True)
    ]
    last = {"the mesh": near, "from the side": side}
    drawn = {name: eye.draw(full, model.faces.numpy(), colour) for name, eye in last.items()}
    frames.append(strip({"image": image, **drawn}))
    palette = frames[-1].quantize(128)
    first, *others = (frame.quantize(palette=palette) for frame in frames)
    data, times = BytesIO(), [FRAME_MS] * len(ks) + [LAST_MS]
    first.save(data, "gif", save_all=True, append_images=others, duration=times, loop=0)
    write_file(out, data.getvalue())


def strip(pictures: dict[str, np.ndarray]) -> Image.Image:
    """Square pictures side by side, each under its name."""
    px = len(next(iter(pictures.values())))
    whole = Image.new("RGB", (px * len(pictures), px + HEAD_PX), "white")
    draw, font = ImageDraw.Draw(whole), ImageFont.load_default(15)
    for i, (name, picture) in enumerate(pictures.items()):
        draw.text((i * px + 6, 4), name, "black", font)
        whole.paste(Image.fromarray(picture), (i * px, HEAD_PX))
    return whole
