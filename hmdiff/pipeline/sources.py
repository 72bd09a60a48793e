"""Where a study's bodies and images come from: the capture studio, or licensed files in data/raw.

`source` of params.yaml chooses. Images and annotations are read from data/studio/{subject}/{set} or
from data/raw/{subject}/{set}, by the same readers. The body and the hand are always
data/models/{subject}.npz, and their coarse meshes {subject}_coarse.npz: with `studio` the open
ones, with `raw` SMPL and MANO as npz, on the field's own coarse meshes where those are there. The
studio itself keeps the open ones, open_{subject}.npz, whatever the source.

MANIFEST lists every file and folder of data/raw that a study can use; `doctor` reports on them.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .. import body, coarsening, downsampling
from ..body import BodyModel
from ..coarse import CoarseMesh
from ..files import new_file
from ..metrics import H36M14
from ..params import Params
from ..studio import anny_bake

BAKE = {"body": anny_bake.bake_open_body, "hand": anny_bake.bake_open_hand}


@dataclass(frozen=True)
class Entry:
    """A licensed file or folder.

    Attributes:
        names: what it may be called below data/raw (patterns); the first is its usual name.
        subject: body or hand; None where it serves both.
        what, origin, licence: in words; `origin` names the page where one signs for it or gets it.
        without: what a study lacks where it is missing.
        needed: whether a study of that subject cannot run without it.
        sha256: of the published file, where we know it; None: unknown.
    """

    names: tuple[str, ...]
    subject: str | None
    what: str
    origin: str
    licence: str
    without: str
    needed: bool = True
    sha256: str | None = None


BODY = Entry(
    names=(
        "models/SMPL_NEUTRAL.pkl",
        "models/basic[mM]odel_neutral_lbs_10_207_0_v1.*.pkl",
        "models/SMPL_NEUTRAL.npz",
    ),
    subject="body",
    what="SMPL, the neutral body",
    origin='Max Planck Institute for Intelligent Systems, "SMPL" or "SMPLify"',
    licence="SMPL body model licence, non-commercial research, on registration",
    without="no body can be posed: nothing runs on 3DPW and Human3.6M",
)
HAND = Entry(
    names=("models/MANO_RIGHT.pkl", "models/MANO_RIGHT.npz"),
    subject="hand",
    what="MANO, the right hand",
    origin='Max Planck Institute for Intelligent Systems, "MANO"',
    licence="MANO licence, non-commercial research, on registration",
    without="no hand can be posed: nothing runs on FreiHAND",
)
BODY_COARSE = Entry(
    names=("models/mesh_downsampling.npz",),
    subject="body",
    what="the coarse meshes of SMPL, 6890 -> 1723 -> 431",
    origin="GitHub, GraphCMR (the same file in METRO, Mesh Graphormer and FastMETRO)",
    licence="GraphCMR's, BSD 3-Clause; derived from SMPL",
    without="our own decimation to 431 other vertices takes its place",
    needed=False,
)
HAND_COARSE = Entry(
    names=("models/mano_downsampling.npz",),
    subject="hand",
    what="the coarse mesh of MANO, 778 -> 195",
    origin="GitHub, Mesh Graphormer",
    licence="Mesh Graphormer's, MIT; derived from MANO",
    without="our own decimation to 195 other vertices takes its place",
    needed=False,
)
H36M_REGRESSOR = Entry(
    names=(H36M14.file,),
    subject="body",
    what="Human3.6M's 17 joints from SMPL's vertices",
    origin="GitHub, Pose2Mesh",
    licence="Pose2Mesh's, MIT; derived from SMPL",
    without="MPJPE cannot be measured as the field does (14 of these joints)",
)
WEIGHTS = Entry(
    names=("weights/hrnetv2_w64_imagenet_pretrained.pth",),
    subject=None,
    what="HRNet-W64, trained on ImageNet",
    origin='GitHub, "HRNet Image Classification"',
    licence="HRNet's, MIT; ImageNet's terms for what was learnt",
    without="the backbone starts at random: set phi.weights to null",
    needed=False,  # unless phi.weights names them
)
THREEDPW = Entry(
    names=("body/threedpw",),
    subject="body",
    what="3DPW: people outdoors, SMPL fits",
    origin='Max Planck Institute for Informatics, "3D Poses in the Wild"',
    licence="non-commercial research, on registration",
    without="Table 1's first columns, Tables 3 to 5",
)
HUMAN36M = Entry(
    names=("body/human36m",),
    subject="body",
    what="Human3.6M with SMPLify-X fits, in Pose2Mesh's layout",
    origin='the data: Romanian Academy, "Human3.6M"; annotations: Pose2Mesh or I2L-MeshNet',
    licence="academic use, on registration",
    without="Table 1's last columns, Table 6",
)
FREIHAND = Entry(
    names=("hand/freihand",),
    subject="hand",
    what="FreiHAND: right hands, MANO fits",
    origin='University of Freiburg, "FreiHAND" v2',
    licence="research only",
    without="Table 2",
)
MODELS = {"body": BODY, "hand": HAND}
COARSE = {"body": BODY_COARSE, "hand": HAND_COARSE}
SETS = {"threedpw": THREEDPW, "human36m": HUMAN36M, "freihand": FREIHAND}
MANIFEST = (
    *(BODY, HAND, BODY_COARSE, HAND_COARSE, H36M_REGRESSOR, WEIGHTS),
    *SETS.values(),
)


def needed(entry: Entry, params: Params) -> bool:
    """Whether a study with these parameters cannot run without an entry."""
    return entry.needed or (entry is WEIGHTS and params.phi.weights is not None)


def find(entry: Entry, params: Params, raw: Path) -> Path | None:
    """The file or folder of an entry below `raw`, weights where phi.weights says; or None."""
    if entry is WEIGHTS and params.phi.weights is not None:
        return params.phi.weights if params.phi.weights.is_file() else None
    return next((path for name in entry.names for path in sorted(raw.glob(name))), None)


def check(subject: str, params: Params, data: Path) -> None:
    """Raise, before anything long begins, for the first file that the study of a subject lacks.

    Raises:
        FileNotFoundError: one line that names the file, its origin and the remedy.
    """
    wanted = [WEIGHTS]  # they serve the studio's images as well
    if params.source == "raw":
        wanted += [entry for entry in MANIFEST if entry.subject == subject]
    for entry in wanted:
        if needed(entry, params) and find(entry, params, data / "raw") is None:
            line = missing(entry, params, data / "raw")
            command = f"hmdiff doctor --profile {params.profile}"
            raise FileNotFoundError(f"{line}; `{command}` lists all that is needed")


def missing(entry: Entry, params: Params, raw: Path) -> str:
    """One line on an entry that is not there."""
    place = (entry is WEIGHTS and params.phi.weights) or raw / entry.names[0]
    return f"{place}: not there; put {entry.what} there, from {entry.origin}"


def build(subject: str, params: Params, data: Path) -> tuple[BodyModel, CoarseMesh]:
    """Make data/models/: open_{subject}.npz, {subject}.npz and {subject}_coarse.npz.

    Returns:
        the body or hand that the study uses, and its coarse mesh.

    Raises:
        FileNotFoundError, ValueError: one line; a licensed file is missing or not what it should
            be.
    """
    check(subject, params, data)
    own, raw = data / "models" / f"{subject}.npz", data / "raw"
    if params.source == "raw":
        convert(find(MODELS[subject], params, raw), own)
    BAKE[subject](own.with_name(f"open_{own.name}"))
    if params.source == "studio":
        with new_file(own) as part:
            shutil.copyfile(own.with_name(f"open_{own.name}"), part)
    model = body.load(own)
    mesh = coarse_mesh(model, params, raw)
    mesh.save(own.with_name(f"{subject}_coarse.npz"))
    return model, mesh


def convert(official: Path, out: Path) -> None:
    """Write what an official body or hand file has of a model as an npz, which holds arrays alone;
    errors as of `body.read`."""
    _, arrays = body.read(official)
    with new_file(out) as part, part.open("wb") as file:
        np.savez_compressed(file, **arrays)


def coarse_mesh(model: BodyModel, params: Params, raw: Path) -> CoarseMesh:
    """The field's coarse mesh of a licensed model where its file is there, else our decimation."""
    path = find(COARSE[model.subject], params, raw) if params.source == "raw" else None
    if path is not None:
        return downsampling.load(path, model)
    return coarsening.build(model, *coarsening.LEVELS[model.subject])
