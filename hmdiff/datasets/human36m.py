"""Human3.6M in Pose2Mesh's layout: people indoors, four fixed cameras (the paper's Table 1).

    annotations/Human36M_subject{n}_{data,camera,joint_3d,smpl_param}.json
    images/s_01_act_02_subact_01_ca_01/s_01_act_02_subact_01_ca_01_000001.jpg

`data` lists images and their boxes; `camera` has R, t (millimetres), f, c by camera; `joint_3d` has
17 motion-capture joints (millimetres, world) and `smpl_param` a body fit (pose, shape, trans;
metres, world) by action, subaction and frame. Subjects 1, 5, 6, 7 train, 8 validates, 9 and 11
test. As in the usual protocol, every fifth frame is taken, and tests see camera 4 (60457274) alone.
Frames without a fit are skipped; so are those with a bad one, but for tests.
"""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from .bodies import SMPL_OF_H36M, BodyFrames
from .sample import (
    broken,
    camera_matrix,
    flat,
    inside,
    numbers,
    present,
    read_json,
    rotation,
)

SUBJECTS = {"train": (1, 5, 6, 7), "validation": (8,), "test": (9, 11)}
STEP = 5  # of 50 frames a second
TEST_CAMERA = "4"
# Hips, knees, ankles, shoulders, elbows, wrists: right leg, left leg, left arm, right arm.
H36M_LIMBS = [row for row, joint in enumerate(SMPL_OF_H36M) if joint >= 0]
SMPL_LIMBS = [SMPL_OF_H36M[row] for row in H36M_LIMBS]
LIMIT_MM = 50.0  # METRO's


def frames(root: Path, dataset: str, split: str, skipped: Counter) -> Iterator[BodyFrames]:
    """Frames of one split, subject by subject, in the order of the lists of images.

    A sample's `person` is its subject.
    """
    present(root / "annotations", "see data/raw/README.md for the tree, or run the studio")
    for subject in SUBJECTS[split]:
        yield subject_frames(root, subject, split, skipped)


def subject_frames(root: Path, subject: int, split: str, skipped: Counter) -> BodyFrames:
    """The frames of one subject that the protocol takes and that have a body fit."""
    paths = {
        kind: root / "annotations" / f"Human36M_subject{subject}_{kind}.json"
        for kind in ("data", "camera", "joint_3d", "smpl_param")
    }
    data, camera, joint_3d, smpl = (read_json(path, dict) for path in paths.values())
    images = _listed(paths["data"], data, subject)
    cameras = {index: _camera(paths["camera"], index, value) for index, value in camera.items()}
    rows = []
    for image in images:
        frame = [str(image[key]) for key in ("action_idx", "subaction_idx", "frame_idx")]
        fit, joints = _at(smpl, frame), _at(joint_3d, frame)
        if not _in_protocol(image, split):
            skipped["not in the protocol"] += 1
        elif fit is None or joints is None:
            skipped["no body fit"] += 1
        elif str(image["cam_idx"]) not in cameras:
            fault = f"camera {image['cam_idx']} of {image['file_name']} is not in it"
            raise broken(paths["camera"], fault, "get it again")
        else:
            rows.append((image["file_name"], cameras[str(image["cam_idx"])], fit, joints))
    if not rows:
        fault = f"has no fit for the images that {split} takes from {paths['data'].name}"
        raise broken(paths["smpl_param"], fault, "do the four files belong together?")
    names, views, fits, joints = zip(*rows, strict=True)
    R, t, K = (np.stack(part) for part in zip(*views, strict=True))
    betas, poses, trans = _parameters(paths["smpl_param"], fits)
    world_mm = _joints(paths["joint_3d"], joints)
    return BodyFrames(
        source=paths["smpl_param"],
        images=[inside(root / "images", str(name), paths["data"]) for name in names],
        persons=[f"S{subject}"] * len(names),
        betas=betas,
        poses=poses,
        trans=trans,
        R=R,
        t=t,
        K=K,
        joints=(world_mm / 1000) @ np.swapaxes(R, 1, 2) + t[:, None],
        joint_ids=list(SMPL_OF_H36M),
        limit_mm=LIMIT_MM,
    )


def _listed(path: Path, data: dict, subject: int) -> list[dict]:
    """The images that a data file lists, checked."""
    images = data.get("images")
    if not (isinstance(images, list) and images):
        raise broken(path, "lists no images", "is it another data set's file?")
    keys = ("file_name", "subject", "action_idx", "subaction_idx", "cam_idx", "frame_idx")
    for image in images:
        missing = [key for key in keys if not (isinstance(image, dict) and key in image)]
        if missing:
            raise broken(path, f"an image lacks {', '.join(missing)}", "get the file again")
        if not str(image["frame_idx"]).isdecimal():
            raise broken(path, f"frame_idx is {image['frame_idx']!r}", "get the file again")
        if str(image["subject"]) != str(subject):
            fault = f"lists an image of subject {image['subject']}"
            raise broken(path, fault, "rename the file or get it again")
    return images


def _in_protocol(image: dict, split: str) -> bool:
    camera = str(image["cam_idx"])
    return int(image["frame_idx"]) % STEP == 0 and (split != "test" or camera == TEST_CAMERA)


def _at(tree: Any, keys: list[str]) -> Any:
    """tree[k1][k2][k3], or None where there is nothing."""
    for key in keys:
        tree = tree.get(key) if isinstance(tree, dict) else None
    return tree


def _camera(path: Path, index: str, value: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """R (3, 3), t (3) in metres, K (3, 3) of one camera."""
    missing = [key for key in "Rtfc" if not (isinstance(value, dict) and key in value)]
    if missing:
        raise broken(path, f"camera {index} lacks {', '.join(missing)}", "get the file again")
    name = f"camera {index}"
    R = rotation(path, f"R of {name}", numbers(path, f"R of {name}", value["R"], (3, 3)))
    t_mm = flat(path, f"t of {name}", value["t"], 3)
    if np.linalg.norm(t_mm) < 50:
        fault = f"t of {name} is {np.linalg.norm(t_mm):.3g} long, so not in millimetres"
        raise broken(path, fault, "multiply t by 1000")
    f = numbers(path, f"f of {name}", value["f"], (2,))
    c = numbers(path, f"c of {name}", value["c"], (2,))
    K = camera_matrix(path, name, [[f[0], 0, c[0]], [0, f[1], c[1]], [0, 0, 1]])
    return R, t_mm / 1000, K


def _parameters(path: Path, fits: tuple) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """betas (n, 10), poses (n, 72), trans (n, 3) in metres of n body fits."""
    missing = {
        key
        for key in ("shape", "pose", "trans")
        for fit in fits
        if not (isinstance(fit, dict) and key in fit)
    }
    if missing:
        raise broken(path, f"a fit lacks {', '.join(sorted(missing))}", "get the file again")
    n = len(fits)
    betas = numbers(path, "shape", [fit["shape"] for fit in fits], (n, 10))
    poses = np.stack([flat(path, "pose", fit["pose"], 72) for fit in fits])
    trans = np.stack([flat(path, "trans", fit["trans"], 3) for fit in fits])
    if np.median(np.linalg.norm(trans, axis=1)) > 100:
        raise broken(path, "trans is over 100 m long", "divide it by 1000: metres are expected")
    return betas, poses, trans


def _joints(path: Path, joints: tuple) -> np.ndarray:
    """Human3.6M's joints, (n, 17, 3) in millimetres, world axes."""
    joints = numbers(path, "joint positions", list(joints), (len(joints), 17, 3))
    height = np.median(np.ptp(joints[:, H36M_LIMBS], axis=1).max(axis=1))
    if height < 50:
        fault = f"joints span {height:.3g}, so not millimetres"
        raise broken(path, fault, "multiply them by 1000")
    return joints
