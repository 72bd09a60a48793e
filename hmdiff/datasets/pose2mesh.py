"""COCO-style annotations with SMPL pseudo ground truth, as Pose2Mesh, I2L-MeshNet and NeuralAnnot
give them out for COCO, MPII and MuCo-3DHP.

    annotations: {"images": [{"id", "file_name", ...}], "annotations": [{"id", "image_id", "bbox",
                  "keypoints" or "keypoints_vis", ...}]}
    fits:        {"<annotation id>": {"pose", "shape", "trans"}}, or these under "smpl_param" beside
                  a "cam_param" {"focal", "princpt"}; MuCo has its camera as "f", "c" in the image

`PARTS` says which files those are. Poses are in camera axes, `trans` in metres, MuCo's joints
(`keypoints_cam`) in millimetres. A fit with translation and camera gives a placed sample; one
without (Pose2Mesh's own fits of COCO have a weak-perspective camera) a root-relative one, with the
annotation's box. Both files are read element by element, for COCO's is half a gigabyte of
text; what is kept of a fit are 89 numbers, of an image its name and camera.
"""

from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from .bodies import SMPL_OF_H36M, BodyFrames
from .json_stream import elements
from .people import part_of, person_of
from .sample import broken, camera_matrix, inside, numbers, present

BLOCK = 4096  # annotations
# Annotations, fits and the folder of the images, by data set; any of the names given.
PARTS = {
    "coco": (
        ("annotations/person_keypoints_train2017.json", "annotations/coco_train.json"),
        ("annotations/coco_smplifyx_train.json", "annotations/coco_smplify_train.json",
         "annotations/MSCOCO_train_SMPL_NeuralAnnot.json",
         "annotations/coco_train_smpl_param.json"),
        ("images/train2017", "train2017"),
    ),
    "mpii": (
        ("annotations/train.json", "annotations/mpii_train.json"),
        ("annotations/MPII_train_SMPL_NeuralAnnot.json", "annotations/mpii_train_smpl_param.json"),
        (".",),
    ),
    "muco": (
        ("MuCo-3DHP.json", "data/MuCo-3DHP.json"),
        ("smpl_param.json", "data/smpl_param.json"),
        ("data", "."),
    ),
    "up3d": (
        ("annotations/up3d_trainval.json",),
        ("annotations/up3d_trainval_smpl_param.json",),
        ("images", "."),
    ),
}  # fmt: skip
FIT = {"pose": 72, "shape": 10, "trans": 3}
LIMIT_MM = 50.0  # for MuCo, as for Human3.6M
# Where Human3.6M's 17 joints are among MuCo's 21; -1 for what MuCo has otherwise.
H36M_OF_MUCO = (14, 8, 9, 10, 11, 12, 13, -1, -1, -1, -1, 5, 6, 7, 2, 3, 4)


def frames(root: Path, dataset: str, split: str, skipped: Counter) -> Iterator[BodyFrames]:
    """Blocks of annotations with a fit, in the file's order."""
    part_of(dataset, split)
    annotations, fits, folder = (_first(root, names) for names in PARTS[dataset])
    fitted = read_fits(fits, skipped)
    images = {
        str(image["id"]): _camera(annotations, image)
        for image in _listed(annotations, "images", ("id", "file_name"))
    }
    if not images or not fitted:
        empty = fits if images else annotations
        raise broken(empty, "holds nothing", "is it another file?")
    people = _listed(annotations, "annotations", ("id", "image_id", "bbox"))
    chosen = (person for person in people if _wanted(person, fitted, skipped))
    found = False
    while block := list(islice(chosen, BLOCK)):
        found = True
        yield _block(annotations, folder, dataset, split, block, images, fitted)
    if not found:
        fault = f"has no fit for the annotations of {annotations.name}"
        raise broken(fits, fault, "do the two files belong together?")


def _first(root: Path, names: tuple[str, ...]) -> Path:
    """The first of the names that is there."""
    there = [root / name for name in names if (root / name).exists()]
    return there[0] if there else present(root / names[0], "see data/raw/README.md for the tree")


def read_fits(path: Path, skipped: Counter) -> dict[str, np.ndarray]:
    """Fits by annotation id, 89 numbers each: pose, shape, trans, focal lengths, principal point;
    NaN where a fit has no translation or camera."""
    fits, lost = {}, 0
    for key, value in elements(path):
        value = value if isinstance(value, dict) else {}
        fit = value.get("smpl_param", value)
        missing = [
            name for name in ("pose", "shape") if not (isinstance(fit, dict) and name in fit)
        ]
        if missing:
            raise broken(path, f"fit {key} lacks {', '.join(missing)}", "is it another file?")
        row = _fit(path, key, fit, value.get("cam_param"))
        if np.isfinite(row[:82]).all():
            fits[key] = row
        else:  # MuCo's file has some
            lost += 1
    skipped["fit is not a number"] += lost
    moves = np.array([row[82:85] for row in fits.values()]).reshape(-1, 3)
    moves = np.linalg.norm(moves[np.isfinite(moves).all(axis=1)], axis=1)
    if len(moves) and np.median(moves) > 100:
        raise broken(path, "trans is over 100 m long", "divide it by 1000: metres are expected")
    return fits


def _fit(path: Path, key: str, fit: dict, camera: Any) -> np.ndarray:
    """One fit as 89 numbers."""
    row = np.full(89, np.nan, dtype=np.float32)
    at = 0
    for name, count in FIT.items():
        try:
            if name in fit:  # reshaped, for one number would fill all
                row[at : at + count] = np.reshape(fit[name], count)
        except (TypeError, ValueError, OverflowError):
            fault = f"{name} of fit {key} is not {count} numbers"
            raise broken(path, fault, "is it another data set's file?") from None
        at += count
    if isinstance(camera, dict) and {"focal", "princpt"} <= camera.keys():
        row[85:87] = numbers(path, f"focal of fit {key}", camera["focal"], (2,))
        row[87:89] = numbers(path, f"princpt of fit {key}", camera["princpt"], (2,))
    return row


def _listed(path: Path, key: str, needed: tuple[str, ...]) -> Iterator[dict]:
    """The entries of one list of a COCO-style file, each with the keys needed."""
    for name, entry in elements(path):
        if name != key:
            continue
        missing = [k for k in needed if not (isinstance(entry, dict) and k in entry)]
        if missing:
            raise broken(path, f"one of {key} lacks {', '.join(missing)}", "get it again")
        yield entry


def _camera(path: Path, image: dict) -> tuple[str, np.ndarray]:
    """An image's file name, and its focal lengths and principal point, NaN where it has none."""
    camera = image.get("cam_param", {"focal": image.get("f"), "princpt": image.get("c")})
    camera = camera if isinstance(camera, dict) else {}
    values = [camera.get("focal"), camera.get("princpt")]
    if None in values:
        return str(image["file_name"]), np.full(4, np.nan, dtype=np.float32)
    name = f"camera of {image['file_name']}"
    return str(image["file_name"]), numbers(path, name, values, (2, 2)).ravel().astype(np.float32)


def _wanted(person: dict, fitted: dict[str, np.ndarray], skipped: Counter) -> bool:
    """Whether an annotation shows one person, with joints and a fit; else it is counted."""
    if person.get("iscrowd"):
        skipped["a crowd"] += 1
    elif person.get("num_keypoints") == 0:
        skipped["no joint annotated"] += 1
    elif str(person["id"]) not in fitted:
        skipped["no body fit"] += 1
    else:
        return True
    return False


def _block(
    path: Path, folder: Path, dataset: str, split: str, people: list[dict], images: dict,
    fitted: dict[str, np.ndarray],
) -> BodyFrames:  # fmt: skip
    """Annotations as arrays."""
    shown = [str(person["image_id"]) for person in people]
    lost = [image for image in shown if image not in images]
    if lost:
        raise broken(path, f"image {lost[0]} of an annotation is not listed", "get it again")
    names, cameras = zip(*(images[image] for image in shown), strict=True)
    fits = np.stack([fitted[str(person["id"])] for person in people]).astype(np.float64)
    lens = np.where(np.isfinite(fits[:, 85:]), fits[:, 85:], np.stack(cameras))
    placed = np.isfinite(fits[:, 82:85]).all(axis=1) & np.isfinite(lens).all(axis=1)
    n = len(people)
    K = np.full((n, 3, 3), np.nan)
    K[placed] = np.eye(3)
    K[placed, 0, 0], K[placed, 1, 1] = lens[placed, 0], lens[placed, 1]
    K[placed, :2, 2] = lens[placed, 2:]
    for i in np.flatnonzero(placed & ~((lens[:, :2] > 1).all(axis=1)))[:1]:
        camera_matrix(path, f"camera of {names[i]}", K[i])
    joints = _joints(path, people)
    given = np.ones((n, 3), dtype=bool)
    given[:, 1] = joints.shape[1] > 0
    return BodyFrames(
        source=path,
        images=[inside(folder, name, path) for name in names],
        persons=[person_of(dataset, name, split) for name in names],
        betas=fits[:, 72:82],
        poses=fits[:, :72],
        trans=np.where(placed[:, None], fits[:, 82:85], 0.0),
        R=np.broadcast_to(np.eye(3), (n, 3, 3)),
        t=np.zeros((n, 3)),
        K=K,
        joints=joints,
        joint_ids=list(SMPL_OF_H36M) if joints.shape[1] else [],
        limit_mm=LIMIT_MM,
        boxes=_boxes(path, people),
        visible=np.array([_visible(path, person) for person in people]),
        given=given,
    )


def _boxes(path: Path, people: list[dict]) -> np.ndarray:
    """The annotations' boxes, (n, 4)."""
    for person in people:
        box = numbers(path, f"bbox of annotation {person['id']}", person["bbox"], (4,))
        if (box[2:] <= 0).any():
            raise broken(path, f"bbox of annotation {person['id']} is empty", "mend or drop it")
    return np.array([person["bbox"] for person in people], dtype=np.float64)


def _visible(path: Path, person: dict) -> int:
    """How many joints of an annotation the image shows."""
    key = "keypoints_vis" if "keypoints_vis" in person else "keypoints"
    try:
        values = np.ravel(np.asarray(person.get(key, []), dtype=np.float64))
    except (TypeError, ValueError, OverflowError):
        fault = f"{key} of annotation {person['id']} are no numbers"
        raise broken(path, fault, "get it again") from None
    if key == "keypoints_vis":
        return int(np.count_nonzero(values))
    if values.size % 3:
        fault = f"keypoints of annotation {person['id']} are {values.size} numbers, not n x 3"
        raise broken(path, fault, "get it again")
    return int(np.count_nonzero(values.reshape(-1, 3)[:, 2] > 0))


def _joints(path: Path, people: list[dict]) -> np.ndarray:
    """Human3.6M's 17 joints as far as MuCo gives them, (n, 17, 3) metres; (n, 0, 3) without any."""
    if "keypoints_cam" not in people[0]:
        return np.zeros((len(people), 0, 3))
    values = [person.get("keypoints_cam") for person in people]
    joints_mm = numbers(path, "keypoints_cam", values, (len(people), 21, 3))
    if np.median(np.ptp(joints_mm, axis=1).max(axis=1)) < 50:
        raise broken(path, "keypoints_cam are not in millimetres", "multiply them by 1000")
    rows = np.array(H36M_OF_MUCO)
    return np.where((rows >= 0)[:, None], joints_mm[:, rows] / 1000, np.nan)
