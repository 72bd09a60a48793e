"""Writers of the three real data sets' annotation files, so that the studio's images go through
the very readers that the licensed data will go through.

Of each data set the fields that its users read are written, in its own units: 3DPW in metres and a
world of its own per sequence; Human3.6M (Pose2Mesh's arrangement) with cameras and joints in
millimetres, the body fit in metres, world z up; FreiHAND in metres and camera axes. Rotations and
translations take the world to the camera: x_camera = R x_world + t. SMPL's own pose and trans are
stored in the world; a reader poses the body there and moves the vertices (or turns the root's
rotation by R, and then corrects trans, since SMPL turns about its root joint).
"""

import json
import pickle
from pathlib import Path

import numpy as np
import torch

from ..body import BodyModel
from ..pinhole import project
from .takes import ACTIONS, Take

# SMPL joints that stand for Human3.6M's 17; nose and crown are vertices, see `_landmarks`.
H36M_JOINTS = (0, 2, 5, 8, 1, 4, 7, 6, 12, "nose", "crown", 16, 18, 20, 17, 19, 21)
# SMPL joints that stand for the 18 of OpenPose's COCO set; eyes and ears are not given.
COCO_JOINTS = ("nose", 12, 17, 19, 21, 16, 18, 20, 2, 5, 8, 1, 4, 7, None, None, None, None)

Arrays = dict[str, np.ndarray]


def write(
    dataset: str, root: Path, takes: list[Take], arrays: list[Arrays], model: BodyModel, px: int
) -> None:
    """Write the annotation files below `root`.

    `arrays[i]` holds, for the n images of `takes[i]`: betas n x 10, pose n x 72 (48), trans n x 3,
    R n x 3 x 3, t n x 3, K n x 3 x 3.
    """
    writer = {"threedpw": _threedpw, "human36m": _human36m, "freihand": _freihand}[dataset]
    writer(root, takes, arrays, model, px)


def posed(model: BodyModel, a: Arrays) -> tuple[np.ndarray, np.ndarray]:
    """Vertices and joints (n x V x 3, n x J x 3, metres) in the world of the annotations."""
    with torch.inference_mode():
        out = model.pose(*(torch.from_numpy(a[k]).float() for k in ("betas", "pose", "trans")))
    return tuple(x.numpy().astype(np.float64) for x in out)


def _landmarks(model: BodyModel) -> dict[str, int]:
    """Vertices: the foremost of the head's middle part, and the highest."""
    v = model.layer.v_template.numpy()
    head = v[:, 1] > float(model.layer.J_regressor[15].numpy() @ v[:, 1])
    return {"nose": int(np.where(head, v[:, 2], -9).argmax()), "crown": int(v[:, 1].argmax())}


def _skeleton(model: BodyModel, names: tuple, vertices: np.ndarray, joints: np.ndarray):
    """n x len(names) x 3: joints by number, landmarks by name, NaN where None."""
    marks = _landmarks(model)
    pick = [
        joints[:, name] if isinstance(name, int)
        else np.full_like(joints[:, 0], np.nan) if name is None
        else vertices[:, marks[name]]
        for name in names
    ]  # fmt: skip
    return np.stack(pick, axis=1)


def to_camera(x: np.ndarray, a: Arrays) -> np.ndarray:
    """World points n x m x 3 in camera axes."""
    return x @ np.swapaxes(a["R"], 1, 2) + a["t"][:, None]


def _pixels(x: np.ndarray, a: Arrays) -> np.ndarray:
    """World points n x m x 3 in pixels, n x m x 2."""
    return project(to_camera(x, a), a["K"])


def _threedpw(
    root: Path, takes: list[Take], arrays: list[Arrays], model: BodyModel, px: int
) -> None:
    """sequenceFiles/<split>/<sequence>.pkl, protocol 2 as 3DPW's own."""
    for take, a in zip(takes, arrays, strict=True):
        n, sequence = len(take.names), take.place["sequence"]
        vertices, joints = posed(model, a)
        pixels = _pixels(_skeleton(model, COCO_JOINTS, vertices, joints), a)
        inside = ((pixels >= 0) & (pixels < px)).all(-1)  # False for NaN
        poses2d = np.concatenate([np.where(inside[..., None], pixels, 0), inside[..., None]], -1)
        cam_poses = np.tile(np.eye(4), (n, 1, 1))
        cam_poses[:, :3, :3], cam_poses[:, :3, 3] = a["R"], a["t"]
        content = {
            "sequence": sequence,
            "poses": [a["pose"]],
            "betas": [a["betas"][0]],
            "trans": [a["trans"]],
            "genders": ["n"],
            "poses2d": [poses2d.transpose(0, 2, 1)],
            "jointPositions": [joints.reshape(n, 72)],
            "cam_poses": cam_poses,
            "cam_intrinsics": a["K"][0],
            "campose_valid": [np.ones(n, dtype=bool)],
            "img_frame_ids": np.arange(n),
        }
        path = root / "sequenceFiles" / take.split / f"{sequence}.pkl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(pickle.dumps(content, protocol=2))


def _human36m(
    root: Path, takes: list[Take], arrays: list[Arrays], model: BodyModel, px: int
) -> None:
    """annotations/Human36M_subject<n>_{data,camera,joint_3d,smpl_param}.json."""
    files: dict[int, dict] = {}
    for take, a in zip(takes, arrays, strict=True):
        place, (action, name, *_) = take.place, ACTIONS[take.place["action"]]
        file = files.setdefault(
            place["subject"],
            {"data": {"images": [], "annotations": []}}
            | {kind: {} for kind in ("camera", "joint_3d", "smpl_param")},
        )
        vertices, joints = posed(model, a)
        world_mm = 1000 * _skeleton(model, H36M_JOINTS, vertices, joints)
        pixels = np.clip(_pixels(vertices, a), 0, px)
        boxes = np.concatenate([pixels.min(1), np.ptp(pixels, axis=1)], axis=1)
        for i, path in enumerate(take.names):
            entry = {
                "id": 10**7 * place["subject"] + len(file["data"]["images"]),
                "file_name": path.removeprefix("images/"), "width": px, "height": px,
                "subject": place["subject"], "action_name": name, "action_idx": action,
                "subaction_idx": place["subaction"], "cam_idx": place["cameras"][i],
                "frame_idx": place["frames"][i],
            }  # fmt: skip
            fit = {"pose": a["pose"][i], "shape": a["betas"][i], "trans": a["trans"][i]}
            _human36m_image(
                file, entry, boxes[i], fit, world_mm[i], (a["R"][i], a["t"][i], a["K"][i])
            )
    for subject, parts in files.items():
        for kind, content in parts.items():
            _json(root / "annotations" / f"Human36M_subject{subject}_{kind}.json", content)


def _human36m_image(
    file: dict, entry: dict, box: np.ndarray, fit: Arrays, world_mm: np.ndarray, camera: tuple
) -> None:
    """Add one image to a subject's four files."""
    (R, t, K), number = camera, entry["id"]
    file["data"]["images"].append(entry)
    file["data"]["annotations"].append(
        {"id": number, "image_id": number, "category_id": 1, "iscrowd": 0, "bbox": box.tolist(),
         "area": float(box[2] * box[3]), "keypoints_vis": [True] * len(world_mm)}
    )  # fmt: skip
    file["camera"][str(entry["cam_idx"])] = {
        "R": R.tolist(), "t": (1000 * t).tolist(), "f": [K[0, 0], K[1, 1]], "c": [K[0, 2], K[1, 2]]
    }  # fmt: skip
    action, subaction, frame = (str(entry[f"{k}_idx"]) for k in ("action", "subaction", "frame"))
    for kind, value in (
        ("joint_3d", world_mm.tolist()),
        ("smpl_param", {key: x.tolist() for key, x in fit.items()}),
    ):
        file[kind].setdefault(action, {}).setdefault(subaction, {})[frame] = value


def _freihand(
    root: Path, takes: list[Take], arrays: list[Arrays], model: BodyModel, px: int
) -> None:
    """{training,evaluation}_{K,xyz,verts,mano,scale}.json.

    `mano` is one row of 61 numbers: pose 48, shape 10, the pixel of keypoint 9 (the middle
    finger's knuckle), and focal length over that keypoint's depth. `scale` is the length of the
    bone from keypoint 9 to 10.
    """
    for folder in ("training", "evaluation"):
        mine = [(t, a) for t, a in zip(takes, arrays, strict=True) if t.names[0].startswith(folder)]
        mine.sort(key=lambda pair: pair[0].place["first"])
        lists: dict[str, list] = {kind: [] for kind in ("K", "xyz", "verts", "mano", "scale")}
        for _, a in mine:
            vertices, joints = posed(model, a)
            knuckle = joints[:, 9]
            uv = _pixels(joints[:, 9:10], a)[:, 0]
            depth = a["K"][:, [0, 1], [0, 1]].mean(1) / knuckle[:, 2]
            lists["K"] += a["K"].tolist()
            lists["xyz"] += joints.round(7).tolist()
            lists["verts"] += vertices.round(7).tolist()
            lists["mano"] += np.column_stack([a["pose"], a["betas"], uv, depth])[:, None].tolist()
            lists["scale"] += np.linalg.norm(joints[:, 10] - knuckle, axis=1).tolist()
        for kind, content in lists.items():
            _json(root / f"{folder}_{kind}.json", content)


def _json(path: Path, content: dict | list) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
