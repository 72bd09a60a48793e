"""Table 6: end-to-end frames per second, image in and full mesh out, with its parts and its FLOPs.

The timed path is the whole of Fig. 1: backbone and head, U and its N samples, the reverse process
of every hypothesis, the final MLP. Crops are in memory; nothing is read from disk. The reference
and the fast path (fast.py) run by turns, so that what else the machine does falls on both, at the
tuned settings and at the paper's.
"""

import platform
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from statistics import median

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

from . import fast
from .closed_form import PLUS, Gains, sample_plus
from .device import best_device, best_dtype, synchronize
from .evaluate import BASELINES, CHAINS, METHODS, PRINTED, Bench, Knobs, full_mesh_mm, measure, run
from .pose import PoseDistribution
from .pretrain import Phi, infer
from .splits import Split

FAST = ", fast path"
# Secs. 4.1 and 5.
PAPER = {"steps": PRINTED["steps"], "N": PRINTED["N"], "hypotheses": PRINTED["N"]}
WARM_UP = 1  # untimed runs before the timed ones


def seconds(work: Callable[[], object], repeats: int, warm_up: int = WARM_UP) -> float:
    """Median time of `work` over `repeats` runs after `warm_up` untimed ones."""
    times = []
    for i in range(warm_up + repeats):
        start = now()
        work()
        if i >= warm_up:
            times.append(now() - start)
    return median(times)


def now() -> float:
    """Seconds on a clock, read when the accelerator, if any, has done all it was given."""
    synchronize()
    return time.perf_counter()


def matmul_rate(dtype: torch.dtype, m: int = 2048, k: int = 2048, n: int = 2048) -> float:
    """Operations a second of (m x k) @ (k x n) on the best device: the best of seven runs."""
    a, b = (torch.ones(shape, dtype=dtype, device=best_device()) for shape in ((m, k), (k, n)))
    return 2 * m * k * n / min(seconds(lambda: a @ b, 1) for _ in range(7))


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
    """Time the system and its parts at batch 1 and at the batch of `images`.

    Args:
        images: normalised crops (n, 3, px, px).
        split: n samples; their f_I and U are replaced by those that `phi` computes.
        knobs: the tuned settings of Ours and Ours+; gains: those of Ours+.
    """
    ours, plus = knobs["Ours"], knobs[PLUS]
    reverse = {**both_paths(bench, ours), **both_paths_plus(bench, plus, gains)}
    result: dict = {"subject": bench.subject, "steps": ours.steps, f"steps, {PLUS}": plus.steps}
    result |= {"hypotheses": ours.hypotheses, "N": ours.N, "repeats": repeats, "warm-up": WARM_UP}
    result["hardware"] = hardware()
    about = networks(bench, phi)
    for batch in tqdm(sorted({1, len(images)}), desc=f"{bench.subject} speed"):
        part = split.take(slice(0, batch))
        result[f"batch {batch}"] = time_batch(about, images[:batch], part, reverse, repeats)
    one = split.take(slice(0, 1))
    result["flops per image"] = {
        "backbone and head": flops(lambda: infer(phi, images[:1])),
        **{name: flops(lambda process=process: process(one)) for name, process in reverse.items()},
        **{name: flops(one_pass(bench, name, one)) for name in BASELINES},
    }
    result["matmul FLOP/s"] = rates = {name: matmul_rate(dtype) for name, dtype in dtypes().items()}
    ms = result[f"batch {len(images)}"]["ms per image"]
    result["share of the matmul rate"] = {
        name: result["flops per image"][name]
        / (ms[name]["reverse process"] / 1000)
        / rates[path_of(name)]
        for name in reverse
    }
    result["fast path less reference, mm"] = differences(about, reverse, split)
    steps = min(PAPER["steps"], bench.params.diffusion.K)
    as_printed = both_paths(bench, replace(ours, **(PAPER | {"steps": steps})))
    result["the paper's setting"] = PAPER | {"steps": steps}
    for batch in sorted({1, min(len(images), max(1, CHAINS // PAPER["hypotheses"]))}):
        part = split.take(slice(0, batch))
        timed = time_batch(about, images[:batch], part, as_printed, repeats)
        result["the paper's setting"][f"batch {batch}"] = timed
    return result


Process = Callable[[Split], torch.Tensor]  # images to their meshes h_0 (n, hypotheses, V, 3)
Networks = dict[str, tuple[Bench, Phi]]  # by path


def path_of(name: str) -> str:
    """The path by which a timed system runs."""
    return "fast path" if name.endswith(FAST) else "reference"


def networks(bench: Bench, phi: Phi) -> Networks:
    """What stands before and after every reverse process, phi and the final MLP, by each path."""
    faster = replace(bench, upsampler=fast.as_one_map(bench.upsampler))
    return {"reference": (bench, phi), "fast path": (faster, fast.without_norms(phi))}


def both_paths(bench: Bench, knobs: Knobs) -> dict[str, Process]:
    """The reverse process of Ours, by the reference and by the fast path."""
    ours = METHODS["Ours"]
    return {
        "Ours": lambda part: run(bench, ours, knobs, part).h_0,
        f"Ours{FAST}": lambda part: fast.run(bench, ours, knobs, part).h_0,
    }


def both_paths_plus(bench: Bench, knobs: Knobs, gains: Gains) -> dict[str, Process]:
    """The reverse process of Ours+, likewise."""
    return {
        PLUS: lambda part: sample_plus(bench, knobs, part, gains),
        f"{PLUS}{FAST}": lambda part: fast.sample_plus(bench, knobs, part, gains),
    }


def time_batch(
    about: Networks, x: torch.Tensor, part: Split, reverse: dict[str, Process], repeats: int
) -> dict:
    """Median frames per second of each system, their range over the repeats, and the median ms an
    image of each part; the systems take turns."""
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in reverse}
    for i in range(WARM_UP + repeats):
        for name, process in reverse.items():
            parts = time_parts(*about[path_of(name)], x, part, process)
            if i >= WARM_UP:
                runs[name].append(parts)
    fps = {name: [len(x) / sum(parts.values()) for parts in found] for name, found in runs.items()}
    return {
        "fps": {name: median(values) for name, values in fps.items()},
        "fps range": {name: [min(values), max(values)] for name, values in fps.items()},
        "ms per image": {
            name: {key: 1000 * median(p[key] for p in found) / len(x) for key in found[0]}
            for name, found in runs.items()
        },
    }


def time_parts(
    bench: Bench, phi: Phi, x: torch.Tensor, part: Split, process: Process
) -> dict[str, float]:
    """Seconds of each part of one pass, from images to full meshes."""
    clock = [now()]
    f_I, E_xy, E_z = infer(phi, x)
    clock.append(now())
    U = PoseDistribution(E_xy, E_z, part.U.cube)
    h_0 = process(replace(part, f_I=f_I, U=U))
    clock.append(now())
    full_mesh_mm(bench, h_0.mean(dim=1), part.scale_m)
    clock.append(now())
    names = ("backbone and head", "reverse process", "final MLP")
    return {name: b - a for name, a, b in zip(names, clock, clock[1:], strict=False)}


def differences(about: Networks, reverse: dict[str, Process], split: Split) -> dict[str, dict]:
    """Mean errors by the fast path less those by the reference, mm, on the images of a split."""
    found = {}
    for name, process in reverse.items():
        bench, _ = about[path_of(name)]
        found[name] = measure(bench, process(split).mean(dim=1), split)
    return {
        name: {
            metric: float(found[f"{name}{FAST}"][metric].mean() - found[name][metric].mean())
            for metric in ("MPVE", "MPJPE", "PA_MPJPE")
        }
        for name in ("Ours", PLUS)
    }


def one_pass(bench: Bench, name: str, one: Split) -> Callable[[], torch.Tensor]:
    """Baseline A or B on one image."""
    model = bench.system(BASELINES[name])
    given = one.f_I.to(model.mean), one.heat.to(model.mean)
    return lambda: model(model.condition(*given))


def dtypes() -> dict[str, torch.dtype]:
    """What each path's matrix products are in."""
    return {"reference": torch.float32, "fast path": best_dtype(best_device())}


def hardware() -> dict:
    """What the numbers were taken on."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.machine()
    return {"device": device, "threads": torch.get_num_threads(), "torch": torch.__version__}
