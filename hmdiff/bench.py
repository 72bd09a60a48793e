"""`make bench`: how fast the studio, the networks and the sampler are on this machine.

    python -m hmdiff.bench

Everything runs on what the code itself makes, at the sizes of params.yaml: no trained network and
no data are needed, for speed does not depend on weights. The only file read is the open body, which
is baked where it is missing. One line a number; bars that the study sets itself are printed beside.
"""

import base64
import json
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from io import BytesIO
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
import yaml
from PIL import Image

from . import params as settings
from .anny_bake import bake_open_body
from .body import load
from .capture import images_per_second
from .crops import augment
from .cropsets import CropSet
from .datasets.index import Source, build_index
from .datasets.tsv import line_starts
from .diffusion import make_alpha
from .image_bytes import address
from .pretrain import Phi
from .sampler import Guidance, sample
from .speed import hardware, seconds
from .train import build

STUDIO_BAR = 30  # images a second, two processes, all effects on
BATCH = 16
MIX, MIX_BAR_S, MIX_BAR_MB = 300_000, 120, 1000  # annotations of the licensed training mix
SHARD = 10_000  # of them written; the index takes them again and again
CROPS_PX, CROPS_BAR = 224, 150  # the paper's size; images a second, two threads


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


def mix() -> Iterator[str]:
    """The licensed training mix: how long its index takes, and how fast its images are cut."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        source = write_mix(folder, SHARD, MIX // SHARD)
        with ProcessPoolExecutor(1, get_context("spawn")) as apart:  # its memory is its own
            taken, memory = apart.submit(index_mix, source, folder / "index.parquet").result()
        size = (folder / "index.parquet").stat().st_size / 2**20
        yield (
            f"index of {MIX} annotations: {taken:.0f} s (bar: {MIX_BAR_S}), "
            f"{memory:.0f} MB of memory (bar: {MIX_BAR_MB}), {size:.0f} MB on disk"
        )
        tsv, n = folder / "train.img.tsv", 60 * BATCH
        rows = [address(tsv, start) for start in line_starts(tsv)[:n]]
        picture = base64.b64decode(tsv.open().readline().rpartition("\t")[2])
        files = [folder / f"{i}.jpg" for i in range(n)]
        for path in files:
            path.write_bytes(picture)
        for kind, images in (("files", files), ("rows of a TSV", rows)):
            speed = cut_speed(images, CROPS_PX)
            yield (
                f"crops of {CROPS_PX} px from {kind}, two threads: {speed:.0f} images/s "
                f"(bar: {CROPS_BAR})"
            )


def cut_speed(images: list[Path], px: int) -> float:
    """Images a second, read, augmented, cut and normalised."""
    n, rng = len(images), np.random.default_rng(0)
    boxes, still = np.tile([40.0, 30.0, 140.0, 180.0], (n, 1)), np.zeros((n, 24, 3), np.float32)
    crops = CropSet(images, boxes, still, still[..., :2], "body", 1.2, 1.0)
    plan = [[(i + j, augment(rng, "body")) for j in range(BATCH)] for i in range(0, n, BATCH)]
    return n / seconds(lambda: sum(1 for _ in crops.batches(plan, px)), 3)


def main() -> None:
    """Print every number as it is measured."""
    params = settings.load()
    print(", ".join(f"{key} {value}" for key, value in hardware().items()))
    for part in (
        studio(params, Path("data/models/open_body.npz")),
        backbone(params),
        denoiser(params),
        mix(),
    ):
        for line in part:
            print(line, flush=True)


if __name__ == "__main__":
    main()
