"""What a profile finds in data/raw and what it lacks; and a rehearsal on what is there.

    hmdiff doctor [--profile licensed] [--rehearse]

Every entry of `sources.MANIFEST` gets a line: whether it is there and can be read, its size and
sha256, or where it comes from and what is lost without it. Of data sets every split is looked into,
as far as the first sample. `rehearsal` then takes a small batch of each of the study's own through
all stages.
"""

import hashlib
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

from torch import Tensor

from .. import body, coarse, downsampling, evaluate
from ..body import BodyModel
from ..coarse import CoarseMesh
from ..crops import read_image
from ..datasets import DATASETS, FILTERS, SPLITS, Sample, human36m, read
from ..device import best_device
from ..hrnet import HRNet
from ..imagenet import load_imagenet
from ..params import Extra, Params, parse, subject_of
from ..speed import hardware
from . import sources
from .profiles import merged
from .rehearsal import stages
from .sources import Entry

Say = Callable[[str], None]
EXPECTED = (OSError, ValueError, FloatingPointError)  # one line each, by the readers' promise


def doctor(profile: str, rehearse: bool = False, root: Path = Path(), say: Say = print) -> int:
    """Report, line by line, what a profile has and lacks; the exit code: 1 where it cannot run.

    Args:
        profile: `default`, or the name of a file in profiles/.
        rehearse: also take a small batch of each of the study's own sets that is there through
            every stage.
        root: the project's folder.

    Raises:
        ValueError: one line; there is no such profile, or it is not valid.
    """
    params, data = parse(merged(profile, root), profile), root / "data"
    say(f"profile {profile}, source {params.source}: {data / params.source}")
    faults = look(params, data, say)
    if rehearse:
        faults += sum(
            rehearsed(dataset, subject, params, data, say)
            for subject, datasets in DATASETS.items()
            for dataset in datasets
        )
    say(f"{faults} to mend, see above and data/raw/README.md" if faults else "nothing to mend")
    return 1 if faults else 0


def look(params: Params, data: Path, say: Say) -> int:
    """Report on what the study needs of data/raw; returns how many things keep it from running."""
    entries = sources.MANIFEST
    if params.source == "studio":
        say("        the pipeline makes its bodies and images")
        entries = [sources.WEIGHTS] if params.phi.weights else []
    faults = sum(looked_at(entry, params, data / "raw", say) for entry in entries)
    return faults + sum(looked_at_extra(extra, params, data, say) for extra in params.prepare.extra)


def looked_at_extra(extra: Extra, params: Params, data: Path, say: Say) -> int:
    """Report on a further training set as far as its first sample; returns the number of faults."""
    subject = subject_of(extra.dataset)
    root = data / params.source / subject / extra.root
    if not root.is_dir():
        remedy = f"put {extra.dataset} there, or take it out of prepare.extra, phi.mix and g.mix"
        say(f"MISSING {root}: not there; {remedy}")
        return 1
    model = data / "models" / f"{subject}.npz"
    if params.source == "raw":
        model = sources.find(sources.MODELS[subject], params, data / "raw")
    if model is None or not model.is_file():
        say(f"there   {root}: {extra.dataset}; not read, for want of a {subject} model")
        return 0
    try:
        how = (Counter(), extra.layout, FILTERS[extra.filter])
        first = first_of(read(extra.dataset, root, "train", body.load(model), *how), root, "train")
    except Exception as error:  # whatever is wrong with one thing, the others are looked at
        say(f"BROKEN  {one_line(error)}")
        return 1
    say(f"there   {root}: {extra.dataset}, the first is {first}")
    return 0


def looked_at(entry: Entry, params: Params, raw: Path, say: Say) -> int:
    """Report on one entry; returns the number of faults."""
    path = sources.find(entry, params, raw)
    if path is None:
        needed = sources.needed(entry, params)
        word = "MISSING" if needed else "absent "
        say(f"{word} {sources.missing(entry, params, raw)}")
        say(f"        licence: {entry.licence}; without it: {entry.without}")
        return int(needed)
    dataset = next((name for name, one in sources.SETS.items() if one is entry), None)
    if dataset:
        say(f"there   {path}: {entry.what}")
        return sum(looked_into(dataset, path, split, params, raw, say) for split in SPLITS)
    try:
        opened(entry, path, params, raw)
        checked = checksum(entry, path)
    except Exception as error:  # whatever is wrong with one thing, the others are looked at
        say(f"BROKEN  {one_line(error)}")
        return 1
    say(f"there   {path}: {path.stat().st_size / 1e6:.1f} MB, {checked}")
    return 0


def opened(entry: Entry, path: Path, params: Params, raw: Path) -> None:
    """Read a file by its reader; errors of that reader."""
    if entry in sources.MODELS.values():
        body.load(path)
    elif entry in sources.COARSE.values():
        owner = sources.find(sources.MODELS[entry.subject], params, raw)
        if owner:
            downsampling.load(path, body.load(owner), samples=50)
    elif entry is sources.H36M_REGRESSOR:
        body.load_regressor(path, 17)
    elif sources.needed(entry, params):
        p = params.phi
        with redirect_stdout(StringIO()):
            load_imagenet(HRNet(p.width, p.blocks, p.modules, p.context_channels), path)


def checksum(entry: Entry, path: Path) -> str:
    """The file's sha256 beside the manifest's.

    Raises:
        ValueError: they differ.
    """
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if entry.sha256 is None:
        return f"sha256 {found} (warning: none to compare it with is known)"
    if found != entry.sha256:
        raise ValueError(f"{path}: sha256 {found}, not {entry.sha256}; get it again")
    return f"sha256 {found}, as published"


def looked_into(dataset: str, root: Path, split: str, params: Params, raw: Path, say: Say) -> int:
    """Report on a split of a data set as far as its first sample; returns the number of faults."""
    layout = params.prepare.layouts.get(dataset)
    found = f"{split}, layout {layout}"
    if layout is None:
        annotations, folders = parts(dataset, root, split)
        if not annotations:
            say(f"MISSING   {root}: no annotations for {split}; complete the data set")
            return 1
        images = sum(sum(1 for _ in folder.iterdir()) for folder in folders if folder.is_dir())
        found = f"{split}: {len(annotations)} annotation file(s), {images} images"
    subject = next(name for name, datasets in DATASETS.items() if dataset in datasets)
    official = sources.find(sources.MODELS[subject], params, raw)
    if official is None:
        say(f"there     {found}; not read, for want of {sources.MODELS[subject].names[0]}")
        return 0
    try:
        samples = read(dataset, root, split, body.load(official), layout=layout)
        first = first_of(samples, root, split)
    except Exception as error:  # whatever is wrong with one thing, the others are looked at
        say(f"BROKEN    {found}: {one_line(error)}")
        return 1
    say(f"there     {found}; the first is {first}")
    return 0


def first_of(samples: Iterator[Sample], root: Path, split: str) -> str:
    """Name and size of the first image of a split.

    Raises:
        ValueError: there is none, or it cannot be read; and the errors of the reader.
    """
    sample = next(samples, None)
    if sample is None:
        raise ValueError(f"{root}: no usable sample for {split}; complete the data set")
    height, width, _ = read_image(sample.image).shape
    return f"{sample.image.name}, {width} x {height}"


def parts(dataset: str, root: Path, split: str) -> tuple[list[Path], list[Path]]:
    """The annotation files of a split that are there, and the folders that its images lie in."""
    if dataset == "threedpw":
        files = sorted((root / "sequenceFiles" / split).glob("*.pkl"))
        return files, [root / "imageFiles" / path.stem for path in files]
    if dataset == "human36m":
        people = human36m.SUBJECTS[split]
        files = [root / f"annotations/Human36M_subject{n}_data.json" for n in people]
        folders = [path for n in people for path in root.glob(f"images/s_{n:02d}_*")]
        return [path for path in files if path.is_file()], folders
    name = "evaluation" if split == "test" else "training"
    files = [root / f"{name}_{kind}.json" for kind in ("K", "xyz", "verts")]
    return [path for path in files if path.is_file()], [root / name / "rgb"]


def rehearsed(dataset: str, subject: str, params: Params, data: Path, say: Say) -> int:
    """Rehearse the study on a data set, if it is there; returns the number of faults."""
    root, begun = data / params.source / subject / dataset, time.perf_counter()
    if not root.is_dir():
        made = params.source == "studio"  # what the pipeline makes is there or was not made
        say(f"absent  {root}: no rehearsal{'; run `dvc repro studio` first' if made else ''}")
        return int(made)
    if layout := params.prepare.layouts.get(dataset):
        say(f"absent  {root}: no rehearsal in layout {layout}, which may be without cameras")
        return 0
    on = hardware()
    say(f"rehearsal of {root} on {best_device().type}, {on['device']}, {on['threads']} threads")
    try:
        for what in stages(dataset, root, *models(subject, params, data), params):
            say(f"OK      {what} ({time.perf_counter() - begun:.1f} s)")
            begun = time.perf_counter()
    except Exception as error:  # whatever is wrong with one thing, the others are looked at
        say(f"FAILED  {one_line(error)} ({time.perf_counter() - begun:.1f} s)")
        return 1
    return 0


def models(subject: str, params: Params, data: Path) -> tuple[BodyModel, CoarseMesh, Tensor]:
    """The body or hand of the profile, its coarse mesh and the regressor of its protocol."""
    if params.source == "raw":
        sources.check(subject, params, data)
        model = body.load(sources.find(sources.MODELS[subject], params, data / "raw"))
        mesh = sources.coarse_mesh(model, params, data / "raw")
    else:
        model = body.load(data / "models" / f"{subject}.npz")
        mesh = coarse.load(data / "models" / f"{subject}_coarse.npz")
    return model, mesh, evaluate.read_regressor(model, data, params)


def one_line(error: Exception) -> str:
    """An error's message without line breaks; of an error that nobody expected, its kind first."""
    text = " ".join(str(error).split())[:400]
    return text if isinstance(error, EXPECTED) else f"{type(error).__name__}: {text}"
