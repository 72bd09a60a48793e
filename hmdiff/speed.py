"""Table 6: end-to-end frames per second, image in and full mesh out, with its parts and its FLOPs.

The timed path is the whole of Fig. 1: backbone and head, U and its N samples, the reverse process
of every hypothesis, the final MLP. Crops are in memory; nothing is read from disk.
"""

import platform
import time
from collections.abc import Callable
from contextlib import nullcontext
from statistics import median

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

from .closed_form import NAME, Gains, sample_plus
from .device import synchronize
from .evaluate import METHODS, Bench, Knobs, full_mesh_mm, run
from .pose import PoseDistribution
from .pretrain import Phi, infer
from .splits import Split


def seconds(work: Callable[[], object], repeats: int, warm_up: int = 1) -> float:
    """Median time of `work` over `repeats` runs after `warm_up` untimed ones."""
    times = []
    for i in range(warm_up + repeats):
        synchronize()
        start = time.perf_counter()
        work()
        synchronize()
        if i >= warm_up:
            times.append(time.perf_counter() - start)
    return median(times)


class _WholeRun(nullcontext):
    """Stands in for FlopCounterMode's module tracker, whose hooks forbid `autograd.grad`."""

    parents = frozenset({"Global"})


def flops(work: Callable[[], object]) -> int:
    """Floating-point operations of one run of `work`, as PyTorch counts them.

    Attention runs as plain matrix products meanwhile: fused kernels of a CPU are not counted.
    """
    counter = FlopCounterMode(display=False)
    counter.mod_tracker = _WholeRun()
    with counter, sdpa_kernel(SDPBackend.MATH):
        work()
    return counter.get_total_flops()


@torch.no_grad()
def measure_speed(
    bench: Bench, phi: Phi, images: torch.Tensor, split: Split, knobs: dict[str, Knobs],
    gains: Gains, repeats: int,
) -> dict:  # fmt: skip
    """Time the system's parts at batch 1 and at the batch of `images`.

    Args:
        images: normalised crops (n, 3, px, px).
        split: n samples; their f_I and U are replaced by those that `phi` computes.
        knobs: the tuned settings of Ours and Ours+; gains: those of Ours+.
    """
    ours, plus = knobs["Ours"], knobs[NAME]
    result: dict = {"subject": bench.subject, "steps": ours.steps, f"steps, {NAME}": plus.steps}
    result |= {"hypotheses": ours.hypotheses, "N": ours.N, "repeats": repeats}
    reverse = {
        "Ours": lambda part: run(bench, METHODS["Ours"], ours, part).h_0,
        NAME: lambda part: sample_plus(bench, plus, part, gains),
    }
    result["hardware"] = hardware()
    for batch in tqdm(sorted({1, len(images)}), desc=f"{bench.subject} speed"):
        x, part = images[:batch], split.take(slice(0, batch))
        parts = {
            "backbone and head": lambda x=x: infer(phi, x),
            "reverse process": lambda part=part: reverse["Ours"](part),
            f"reverse process of {NAME}": lambda part=part: reverse[NAME](part),
            "final MLP": lambda part=part: full_mesh_mm(bench, part.h_0, part.scale_m),
        }

        def whole(name: str, x=x, part=part) -> torch.Tensor:
            f_I, E_xy, E_z = infer(phi, x)
            U = PoseDistribution(E_xy, E_z, part.U.cube)
            seen = Split(**(vars(part) | {"f_I": f_I, "U": U}))
            return full_mesh_mm(bench, reverse[name](seen).mean(dim=1), part.scale_m)

        fps = {n: batch / seconds(lambda n=n: whole(n), repeats) for n in reverse}
        ms = {name: 1000 * seconds(work, repeats) / batch for name, work in parts.items()}
        result[f"batch {batch}"] = {"fps": fps, "ms per image": ms}
    one = split.take(slice(0, 1))
    result["flops per image"] = {
        "backbone and head": flops(lambda: infer(phi, images[:1])),
        **{name: flops(lambda name=name: reverse[name](one)) for name in reverse},
    }
    for name, variant in {"Baseline A": "baseline_a", "Baseline B": "baseline_b"}.items():
        model = bench.system(variant)
        c = model.condition(one.f_I.to(model.mean), one.heat.to(model.mean))
        result["flops per image"][name] = flops(lambda model=model, c=c: model(c))
    return result


def hardware() -> dict:
    """What the numbers were taken on."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.machine()
    return {"device": device, "threads": torch.get_num_threads(), "torch": torch.__version__}
