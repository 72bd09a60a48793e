"""`make bench`: how fast the studio, the networks, the sampler and training are on this machine.

    python -m hmdiff.pipeline.bench

Everything runs on what the code itself makes, at the sizes of params.yaml: no trained network and
no data are needed, for speed does not depend on weights. The only file read is the open body, which
is baked where it is missing. The numbers go to reports/bench.json, with bars that the study sets
itself and the two sides of each ratio, and are printed beside those of the last commit.
"""

import base64
import json
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from io import BytesIO
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import torch
import yaml
from PIL import Image
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from .. import fast, speed
from .. import params as settings
from ..body import load
from ..coarse import CoarseMesh
from ..crops import augment
from ..cropsets import CropSet
from ..datasets.index import Source, build_index
from ..datasets.tsv import line_starts
from ..device import best_device, best_dtype
from ..files import write_file
from ..image_bytes import address
from ..linear import Upsampler
from ..pose import PoseDistribution
from ..pretrain import Phi, infer
from ..sampler import Guidance, sample
from ..speed import flops, hardware, matmul_rate, seconds
from ..splits import Split
from ..studio.anny_bake import bake_open_body
from ..studio.capture import images_per_second
from ..train import build, loss_of

OUT = Path("reports/bench.json")
STUDIO_BAR = 30  # images a second, two processes, all effects on
BATCH = 16
FAST_BAR = 4  # times the reference, one image at the paper's setting
TRAIN_BAR = 0.5  # of the machine's matmul rate at the size of g
REPEATS = 3  # of the slow ones; seconds() runs each once before
MIX, MIX_BAR_S, MIX_BAR_MB = 300_000, 120, 1000  # annotations of the licensed training mix
SHARD = 10_000  # of them written; the index takes them again and again
CROPS_PX, CROPS_BAR = 224, 150  # the paper's size; images a second, two threads


@dataclass(frozen=True)
class Number:
    """One measurement.

    Attributes:
        bar: what the study asks of it, in its unit.
        sides: of a ratio, the two numbers it is of.
        note: what explains it.
    """

    name: str
    value: float
    unit: str
    bar: float | None = None
    sides: dict[str, float] = field(default_factory=dict)
    note: str = ""


def ratio(name: str, over: tuple[str, float], under: tuple[str, float], **more) -> Number:
    """over / under, which keeps both."""
    return Number(name, over[1] / under[1], "x", sides=dict([over, under]), **more)


def peak() -> Iterator[Number]:
    """What the machine's matrix products reach, in the types that the two paths use."""
    for path, dtype in speed.dtypes().items():
        name = f"matmul of 2048, {str(dtype).removeprefix('torch.')}, as the {path}"
        yield Number(name, matmul_rate(dtype) / 1e9, "GFLOP/s")


def studio(params: settings.Params, model: Path) -> Iterator[Number]:
    """Images a second of the studio's body set, the slower kind."""
    if not model.is_file():
        bake_open_body(model)
    rate = images_per_second("threedpw", load(model), params.studio.image_px, workers=2)
    yield Number("studio, 3DPW-like, two processes", rate, "images/s", STUDIO_BAR)


def untrained_phi(params: settings.Params) -> tuple[Phi, Tensor]:
    """phi of a body, and a batch of images for it."""
    phi = Phi(params.phi, joints=24, cube=1.0).to(best_device(), memory_format=torch.channels_last)
    return phi, torch.rand(BATCH, 3, params.phi.input_px, params.phi.input_px)


def backbone(params: settings.Params) -> Iterator[Number]:
    """Images a second of phi without gradients."""
    phi, images = untrained_phi(params)
    rate = BATCH / seconds(lambda: infer(phi, images), 5)
    yield Number(f"phi_I and phi_P, batch {BATCH}", rate, "images/s")


@torch.no_grad()
def sampler(params: settings.Params, V: int = 431, J: int = 24) -> Iterator[Number]:
    """g, one image's reverse process, and an image to its mesh, by the reference and by the fast
    path, DAT active to the end; at the profile's setting and at the paper's."""
    torch.manual_seed(0)
    device, s = best_device(), params.sampler
    g = build("image", "body", params, V, J).to(device).eval().requires_grad_(False)
    f, up = torch.full((J, V), 1 / V, device=device), Upsampler([V, 1723, 6890]).to(device)
    phi, images = untrained_phi(params)
    about = {"reference": (phi, up), "fast path": (fast.without_norms(phi), fast.as_one_map(up))}

    def reverse(f_I: Tensor, u: Tensor, n: int, steps: int, path: str) -> Tensor:
        generator = torch.Generator().manual_seed(0)
        c, u = g.condition(f_I.to(device), torch.zeros(0)), u.to(device)
        image = torch.zeros(n, dtype=torch.long, device=device)
        if path == "fast path":
            bound = fast.BoundDenoiser(g, c, best_dtype(device))
            return fast.sample(bound, f, u, image, steps, s.gamma, 0.0, generator).h_0

        def noise(h_k: Tensor, k: int, chains: Tensor) -> Tensor:
            return g(h_k, torch.full((len(h_k),), k, device=device), c[image[chains]])

        guidance = Guidance("h0_hat", s.gamma, 0.0)
        return sample(noise, f, u[image], g.alpha, steps, guidance, generator).h_0

    def whole(n: int, steps: int, path: str) -> Tensor:
        phi, up = about[path]
        f_I, E_xy, E_z = infer(phi, images[:1])
        u = PoseDistribution(E_xy, E_z, 1.0).sample(s.N, torch.Generator().manual_seed(0))
        return up(reverse(f_I, u, n, steps, path).mean(dim=0))

    f_I, u = torch.zeros(1, 128, 49), torch.zeros(1, s.N, J, 3)
    printed = speed.PAPER["hypotheses"], min(speed.PAPER["steps"], params.diffusion.K)
    for (n, steps), bar in (((s.hypotheses, s.steps), None), (printed, FAST_BAR)):
        name = f"{n} hypotheses, {steps} steps"
        for what, work in (
            ("reverse process", lambda *given: reverse(f_I, u, *given)),
            ("image to mesh", whole),
        ):
            work(n, 1, "reference"), work(n, 1, "fast path")  # warm-up
            taken = alternate(
                {
                    path: lambda work=work, n=n, steps=steps, path=path: work(n, steps, path)
                    for path in ("reference", "fast path")
                }
            )
            for path, ms in taken.items():
                yield Number(f"{what}, one image, {name}, {path}", ms, "ms")
            yield ratio(f"{what}, {name}, fast path against reference", *taken.items(), bar=bar)
        count = flops(lambda n=n, steps=steps: reverse(f_I, u, n, steps, "fast path"))
        yield Number(f"reverse process, {name}, fast path, operations", count / 1e9, "GFLOP")


def alternate(works: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Median ms of each work, which take turns."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(REPEATS):
        for name, work in works.items():
            times[name].append(1000 * seconds(work, 1, warm_up=0))
    return {name: float(np.median(found)) for name, found in times.items()}


def training(params: settings.Params, V: int = 431, J: int = 24) -> Iterator[Number]:
    """A training step of g, against matrix products of its size, and one of phi."""
    torch.manual_seed(0)
    g = build("image", "body", params, V, J).to(best_device())
    optimiser = torch.optim.Adam(g.parameters(), fused=True)
    generator = torch.Generator().manual_seed(0)
    data, mesh = made_up(V, J)

    def learn() -> None:
        loss = loss_of(g, data, mesh, params, generator)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(g.parameters(), params.g.clip)
        optimiser.step()

    B, width = params.g.batch, params.g.width
    dtype = best_dtype(best_device())
    taken, rate = seconds(learn, 9), matmul_rate(dtype, B * V, width, width)
    yield Number(f"training step of g, batch {B}", 1000 * taken, "ms")
    kind = str(dtype).removeprefix("torch.")
    yield Number(f"matmul of {B * V} x {width} x {width}, {kind}", rate / 1e9, "GFLOP/s")
    reached = "its step, GFLOP/s", flops(learn) / taken / 1e9
    yield ratio(
        "training step of g, share of that rate",
        reached,
        ("matmul, GFLOP/s", rate / 1e9),
        bar=TRAIN_BAR,
        note=profiled(learn),
    )
    phi, images = untrained_phi(params)
    optimiser = torch.optim.Adam(phi.parameters())
    images = images[: params.phi.batch].contiguous(memory_format=torch.channels_last)
    images, joints = images.to(best_device()), torch.zeros(len(images), J, 3).to(best_device())

    def learn_phi() -> None:
        loss = phi.loss(images, joints, joints[..., :2] + 0.5, params.phi.sigma_bins)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    taken = seconds(learn_phi, 5)
    yield Number(f"training step of phi, batch {len(images)}", 1000 * taken, "ms")


def made_up(V: int, J: int, n: int = 64) -> tuple[Split, CoarseMesh]:
    """A split and a coarse mesh to train g on: right in shape, otherwise noise."""
    index = pd.DataFrame({"image": [str(i) for i in range(n)]})
    f_I, heat, h_0 = torch.randn(n, 128, 49), torch.zeros(n, 0), torch.randn(n, V, 3)
    data = Split(index, f_I, heat, torch.zeros(n, J, 3), h_0, None, None, 1.0)
    parts = dict.fromkeys(CoarseMesh.__dataclass_fields__, torch.zeros(0))
    faces = torch.stack([torch.arange(2 * V) % V for _ in range(3)], dim=1)
    faces = (faces + torch.arange(3)) % V
    mesh = CoarseMesh(**parts | {"f": torch.full((J, V), 1 / V), "faces": faces})
    return data, mesh.to(best_device())


def profiled(work: Callable[[], object], first: int = 6) -> str:
    """Where the time of `work` goes: its most expensive operations with their shares."""
    with profile(activities=[ProfilerActivity.CPU]) as found:
        for _ in range(3):
            work()
    events = {event.key: event.self_cpu_time_total for event in found.key_averages()}
    whole, most = sum(events.values()), sorted(events, key=events.get, reverse=True)[:first]
    return ", ".join(f"{key.removeprefix('aten::')} {events[key] / whole:.0%}" for key in most)


def write_mix(folder: Path, rows: int, shards: int) -> Source:
    """A data set in METRO's layout: random labels and pictures of 224 px, listed `shards` times."""
    rng, labels = np.random.default_rng(0), []
    noise = Image.fromarray(rng.integers(0, 256, (28, 28, 3), dtype=np.uint8))
    data = BytesIO()
    noise.resize((224, 224), Image.Resampling.BICUBIC).save(data, "jpeg", quality=90)
    picture = base64.b64encode(data.getvalue()).decode()
    for _ in range(rows):
        label = {"center": rng.uniform(80, 140, 2).tolist(), "scale": float(rng.uniform(0.5, 1))}
        label |= {f"has_{name}": 1 for name in ("2d_joints", "3d_joints", "smpl")}
        arrays = {"2d_joints": (24, 3), "3d_joints": (24, 4), "pose": 72, "betas": 10}
        labels.append(label | {k: rng.standard_normal(n).tolist() for k, n in arrays.items()})
    for kind, column in (("img", [picture] * rows), ("label", [json.dumps([x]) for x in labels])):
        text = [f"{i:012d}.jpg\t{cell}\n" for i, cell in enumerate(column)]
        (folder / f"train.{kind}.tsv").write_text("".join(text))
        starts = np.cumsum([0, *map(len, text)])[:-1]
        (folder / f"train.{kind}.lineidx").write_text("\n".join(map(str, starts)))
    pairs = [f"{shard}\t{row}" for shard in range(shards) for row in range(rows)]
    (folder / "train.linelist.tsv").write_text("\n".join(pairs))
    index = {kind: [f"train.{kind}.tsv"] * shards for kind in ("img", "label")}
    (folder / "train.yaml").write_text(yaml.safe_dump(index | {"linelist": "train.linelist.tsv"}))
    return Source("coco", "tsv", folder)


def index_mix(source: Source, out: Path) -> tuple[float, float]:
    """Seconds and the process's most memory (MB) of an index; on Linux."""
    start = time.perf_counter()
    build_index([source], out)
    taken = time.perf_counter() - start
    status = Path("/proc/self/status").read_text()  # ru_maxrss would start at the parent's
    return taken, int(status.partition("VmHWM:")[2].split()[0]) / 1024


def mix() -> Iterator[Number]:
    """The licensed training mix: how long its index takes, and how fast its images are cut."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        source = write_mix(folder, SHARD, MIX // SHARD)
        with ProcessPoolExecutor(1, get_context("spawn")) as apart:  # its memory is its own
            taken, memory = apart.submit(index_mix, source, folder / "index.parquet").result()
        size = (folder / "index.parquet").stat().st_size / 2**20
        yield Number(f"index of {MIX} annotations", taken, "s", MIX_BAR_S)
        yield Number(f"index of {MIX} annotations, memory", memory, "MB", MIX_BAR_MB)
        yield Number(f"index of {MIX} annotations, on disk", size, "MB")
        tsv, n = folder / "train.img.tsv", 60 * BATCH
        rows = [address(tsv, start) for start in line_starts(tsv)[:n]]
        picture = base64.b64decode(tsv.open().readline().rpartition("\t")[2])
        files = [folder / f"{i}.jpg" for i in range(n)]
        for path in files:
            path.write_bytes(picture)
        for kind, images in (("files", files), ("rows of a TSV", rows)):
            name = f"crops of {CROPS_PX} px from {kind}, two threads"
            yield Number(name, cut_speed(images, CROPS_PX), "images/s", CROPS_BAR)


def cut_speed(images: list[Path], px: int) -> float:
    """Images a second, read, augmented, cut and normalised."""
    n, rng = len(images), np.random.default_rng(0)
    boxes, still = np.tile([40.0, 30.0, 140.0, 180.0], (n, 1)), np.zeros((n, 24, 3), np.float32)
    crops = CropSet(images, boxes, still, still[..., :2], "body", 1.2, 1.0)
    plan = [[(i + j, augment(rng, "body")) for j in range(BATCH)] for i in range(0, n, BATCH)]
    return n / seconds(lambda: sum(1 for _ in crops.batches(plan, px)), 3)


def git(*arguments: str) -> str:
    """What git says here, without the line's end; nothing where it cannot."""
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, text=True)
    except FileNotFoundError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def parse(text: str, origin: str) -> dict[tuple[str, str], float]:
    """The values of a bench.json by name and unit.

    Raises:
        ValueError: it is no such file; one line that names `origin`.
    """
    try:
        numbers = json.loads(text)["numbers"]
        return {(x["name"], x["unit"]): float(x["value"]) for x in numbers}
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{origin}: no numbers of `make bench` ({error!r}); run it again and commit the result"
        ) from None


def line(number: Number, before: dict[tuple[str, str], float]) -> str:
    """A number beside what it was, with new / old, its bar, and what explains it."""
    old = before.get((number.name, number.unit))
    was = f"{old:>10.4g} {number.value / old:>8.2f}" if old else f"{'-':>10} {'-':>8}"
    bar = f"{number.bar:>6g}" if number.bar is not None else f"{'-':>6}"
    note = f"  ({number.note})" if number.note else ""
    return f"{number.name:<78} {number.value:>10.4g} {number.unit:<8} {was} {bar}{note}"


def report(numbers: list[Number]) -> dict:
    """What reports/bench.json holds."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": git("rev-parse", "HEAD"),
        "changed since": bool(git("status", "--porcelain", "--untracked-files=no")),
        "hardware": hardware(),
        "versions": {"numpy": np.__version__, "torch": torch.__version__},
        "numbers": [asdict(number) for number in numbers],
    }


def main() -> None:
    """Print every number as it is measured, beside the last commit's; then write them all."""
    params, numbers = settings.load(), []
    committed = git("show", f"HEAD:{OUT}")
    before = parse(committed, f"HEAD:{OUT}") if committed else {}
    print(", ".join(f"{key} {value}" for key, value in hardware().items()))
    print(f"{'':<78} {'now':>10} {'':<8} {'committed':>10} {'new/old':>8} {'bar':>6}")
    for part in (
        peak(),
        studio(params, Path("data/models/open_body.npz")),
        backbone(params),
        sampler(params),
        training(params),
        mix(),
    ):
        for number in part:
            numbers.append(number)
            print(line(number, before), flush=True)
    write_file(OUT, json.dumps(report(numbers), indent=2) + "\n")


if __name__ == "__main__":
    main()
