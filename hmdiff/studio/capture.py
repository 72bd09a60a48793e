"""The capture studio: renders the study's default data sets and writes them in the real layouts.

Everything is decided by the seed. Takes (see `takes`, `shoots`) are shot in parallel; a finished
take stays in a scratch folder, so that a killed run goes on where it was. The finished set moves to
its place in one step. Beside the real layout lies `studio.parquet`: image, and which share of the
person is visible and which is outside the frame; no reader needs it.
"""

import io
import json
import multiprocessing
import os
import pickle
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image, ImageDraw
from tqdm import tqdm

from ..body import BodyModel
from ..checkpoint import fingerprint, own_code
from ..files import new_file, replace_folder
from . import layouts
from .shoots import Shot, shoot
from .takes import RUN, SPLITS, Take, plan
from .wardrobe import Figure, figure

FIELDS = ("betas", "pose", "trans", "R", "t", "K", "visible", "truncated")


def capture_set(
    dataset: str,
    counts: dict[str, int],
    out: Path,
    model: BodyModel,
    seed: int,
    image_px: int = 224,
    workers: int = 2,
    scratch: Path = Path("data/.resume"),
    progress: bool = True,
) -> pd.DataFrame:
    """Make `out`, a data set of counts[split] images a split; returns studio.parquet's rows.

    Args:
        dataset: threedpw, human36m (both of a body model) or freihand (of a hand model).
        counts: images of train, validation and test. FreiHAND has no validation list: a twentieth
            of its training list serves as that, whatever the two counts.
        workers: processes; the result does not depend on it.

    Raises:
        ValueError: unknown data set, missing counts, or a model of the other subject.
    """
    takes = plan(dataset, counts)
    wanted = "hand" if dataset == "freihand" else "body"
    if model.subject != wanted:
        raise ValueError(f"studio.{dataset}: shows a {wanted}, but got the {model.subject} model")
    folder = _open_scratch(scratch / f"studio_{dataset}", dataset, counts, model, seed, image_px)
    missing = [take for take in takes if not _record(folder, take).is_file()]
    total, done = (sum(len(t.names) for t in part) for part in (takes, missing))
    bar = tqdm(total=total, initial=total - done, desc=dataset, unit="image", mininterval=1,
               disable=not progress)  # fmt: skip
    with bar, _studio(model, folder, seed, image_px, workers) as work:
        for count in work(missing):
            bar.update(count)
    arrays = [_annotations(_record(folder, take)) for take in takes]
    tree = folder / "tree"
    layouts.write(dataset, tree, takes, arrays, model, image_px)
    rows = _rows(takes, arrays)
    rows.to_parquet(tree / "studio.parquet")
    replace_folder(tree, out)
    shutil.rmtree(folder)
    return rows


def images_per_second(
    dataset: str, model: BodyModel, image_px: int, workers: int, takes: int = 36
) -> float:
    """The studio's speed, worker start-up not counted; nothing is kept."""
    folder = Path("data/.resume") / f"bench_{dataset}"
    shutil.rmtree(folder, ignore_errors=True)
    every = plan(dataset, {"train": RUN * (takes + workers), "validation": 1, "test": 1})
    try:
        with _studio(model, folder, 0, image_px, workers) as work:
            list(work(every[:workers]))
            start = time.perf_counter()
            count = sum(work(every[workers : workers + takes]))
            return count / (time.perf_counter() - start)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _open_scratch(
    folder: Path, dataset: str, counts: dict[str, int], model: BodyModel, seed: int, px: int
) -> Path:
    """The scratch folder, emptied if it belongs to other settings or code."""
    names = ("v_template", "shapedirs", "lbs_weights", "faces_tensor")
    body = fingerprint([*(getattr(model.layer, name) for name in names), model.parts])
    key = json.dumps([own_code(), dataset, dict(sorted(counts.items())), seed, px, body])
    path = folder / "key.json"
    if not (path.is_file() and path.read_text() == key):
        shutil.rmtree(folder, ignore_errors=True)
        (folder / "tree").mkdir(parents=True)
        path.write_text(key)
    return folder


def _record(folder: Path, take: Take) -> Path:
    return folder / "takes" / f"{take.split}_{take.number:05d}.npz"


def _annotations(path: Path) -> dict[str, np.ndarray]:
    """What was recorded of a take; ValueError where the disk has damaged it."""
    try:
        return dict(np.load(path))
    except Exception as error:  # numpy raises many kinds on damaged files
        path.unlink()
        reason = " ".join(str(error).split())
        raise ValueError(f"{path}: damaged ({reason:.120}); run again, it is shot anew") from None


def _shoot_and_save(
    take: Take, model: BodyModel, fixed: Figure, folder: Path, seed: int, px: int
) -> int:
    """Shoot a take; write its images, then its annotations. Returns the number of images."""
    shots = shoot(take, model, fixed, seed, px)
    for name, shot in zip(take.names, shots, strict=True):
        path = folder / "tree" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(_jpeg(shot))
    with new_file(_record(folder, take)) as part, part.open("wb") as file:
        np.savez(file, **{key: np.stack([getattr(s, key) for s in shots]) for key in FIELDS})
    return len(shots)


def _jpeg(shot: Shot) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(shot.image).save(buffer, "JPEG", quality=shot.quality)
    return buffer.getvalue()


@contextmanager
def _studio(model: BodyModel, folder: Path, seed: int, px: int, workers: int) -> Iterator:
    """A function that shoots takes, in this process or in a pool of spawned ones, and yields the
    number of images of each as it is done."""
    with _single_thread():
        if workers <= 1:
            setting = (model, figure(model), folder, seed, px)
            yield lambda takes: (_shoot_and_save(take, *setting) for take in takes)
            return
        spawn = multiprocessing.get_context("spawn")
        with spawn.Pool(workers, _start_worker, (pickle.dumps(model), folder, seed, px)) as pool:
            yield lambda takes: pool.imap_unordered(_work, takes)


@contextmanager
def _single_thread() -> Iterator[None]:
    """One thread for torch here, and for the linear algebra of processes started meanwhile: sums
    keep their order on any number of cores, and workers do not fight for them."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    before, threads = {name: os.environ.get(name) for name in names}, torch.get_num_threads()
    os.environ.update(dict.fromkeys(names, "1"))
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


_SETTING: list = []  # a worker's constants: sent once, not with every take


def _start_worker(model: bytes, folder: Path, seed: int, px: int) -> None:
    torch.set_num_threads(1)
    model = pickle.loads(model)  # from the parent process, over its own pipe
    _SETTING[:] = (model, figure(model), folder, seed, px)


def _work(take: Take) -> int:
    return _shoot_and_save(take, *_SETTING)


def _rows(takes: list[Take], arrays: list[dict[str, np.ndarray]]) -> pd.DataFrame:
    """studio.parquet: one row an image, sorted by path."""
    rows = [
        (name, take.split, float(a["visible"][i]), float(a["truncated"][i]))
        for take, a in zip(takes, arrays, strict=True)
        for i, name in enumerate(take.names)
    ]
    table = pd.DataFrame(rows, columns=["image", "split", "visible", "truncated"])
    return table.sort_values("image", ignore_index=True)


def contact_sheet(root: Path, out_png: Path, columns: int = 8, rows_a_split: int = 2) -> None:
    """A PNG of evenly picked images of each split of a studio set, halved, the split's name above.

    Raises:
        FileNotFoundError: `root` holds no studio set.
    """
    path = root / "studio.parquet"
    if not path.is_file():
        raise FileNotFoundError(f"{path}: not there; run `dvc repro` to capture this set")
    table = pd.read_parquet(path)
    strips = []
    for split in SPLITS:
        names = table["image"][table["split"] == split].to_list()
        pick = np.unique(np.linspace(0, len(names) - 1, columns * rows_a_split).astype(int))
        strips.append((split, [Image.open(root / names[i]).reduce(2) for i in pick]))
    px, title = strips[0][1][0].width, 18
    heights = [title + px * -(-len(images) // columns) for _, images in strips]
    sheet = Image.new("RGB", (columns * px, sum(heights)), "white")
    for (split, images), top in zip(strips, np.cumsum([0, *heights[:-1]]), strict=True):
        ImageDraw.Draw(sheet).text((4, int(top) + 3), split, fill="black")
        for i, image in enumerate(images):
            sheet.paste(image, (i % columns * px, int(top) + title + i // columns * px))
    with new_file(out_png) as part:
        sheet.save(part, "PNG")
