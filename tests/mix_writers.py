"""Test writers of the licensed training mix's layouts: the same people in each of them."""

import base64
import json
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
import yaml
from PIL import Image
from scipy.spatial.transform import Rotation
from test_datasets import PX, posed_in_camera, random_people, toy_model

NAMES = {  # an image's name in METRO's and SPIN's files
    "coco": "train2014/COCO_train2014_{:012d}.jpg",
    "mpii": "images/{:09d}.jpg",
    "muco": "unaugmented_set/0/{:05d}.jpg",
    "up3d": "up-3d/{:05d}_image.png",
    "human36m": "images/S1_Directions_1.54138969_{:06d}.jpg",
    "threedpw": "imageFiles/walk_00/image_{:05d}.jpg",
    "freihand": "{:08d}.jpg",
}


def people_in_camera(n: int, seed: int) -> dict[str, np.ndarray]:
    """Bodies in camera axes: betas, poses, trans, K, and their vertices and joints (metres), posed
    in world axes and moved there."""
    people = random_people(np.random.default_rng(seed), n)
    vertices, joints = posed_in_camera(people)
    poses = people["poses"].copy()
    root = Rotation.from_matrix(people["R"]) * Rotation.from_rotvec(poses[:, :3])
    poses[:, :3] = root.as_rotvec()
    rest = joints[:, 0] - at_origin(people["betas"], poses)
    return {"betas": people["betas"], "poses": poses, "trans": rest, "K": people["K"],
            "vertices": vertices, "joints": joints}  # fmt: skip


def at_origin(betas: np.ndarray, poses: np.ndarray) -> np.ndarray:
    """Where the root joint lies without translation."""
    tensors = (torch.from_numpy(x).float() for x in (betas, poses, np.zeros((len(betas), 3))))
    return toy_model("body").pose(*tensors)[1][:, 0].numpy()


def tight_boxes(people: dict[str, np.ndarray]) -> np.ndarray:
    """x, y, w, h of the projected vertices, clipped to the image."""
    boxes = []
    for K, vertices in zip(people["K"], people["vertices"], strict=True):
        pixels = np.array([(K @ v)[:2] / v[2] for v in vertices])
        low, high = np.clip(pixels.min(0), 0, PX), np.clip(pixels.max(0), 0, PX)
        boxes.append(np.concatenate([low, high - low]))
    return np.array(boxes)


def metro_boxes(boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """center and scale as METRO's scripts compute them from boxes."""
    centre = np.stack([boxes[:, 0] + boxes[:, 2] / 2, boxes[:, 1] + boxes[:, 3] / 2], axis=1)
    return centre, 1.2 * np.maximum(boxes[:, 2], boxes[:, 3]) / 200


def jpeg(colour: int = 90) -> bytes:
    out = BytesIO()
    Image.new("RGB", (PX, PX), (colour, 120, 150)).save(out, "jpeg", quality=50)
    return out.getvalue()


def write_rows(path: Path, rows: list[tuple]) -> None:
    """A TSV and its .lineidx, as METRO's `tsv_writer` writes them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = ["\t".join(map(str, row)) + "\n" for row in rows]
    path.write_text("".join(lines))
    starts = np.cumsum([0, *map(len, lines)])[:-1]
    path.with_suffix(".lineidx").write_text("".join(f"{start}\n" for start in starts))


def write_tsv(
    root: Path, people: dict, dataset: str = "coco", stem: str = "train", keys: list | None = None
) -> None:
    """img, hw, label, linelist and index; `people` as from `people_in_camera`."""
    n, hand = len(people["betas"]), dataset == "freihand"
    keys = keys or [NAMES[dataset].format(i).removeprefix("imageFiles/") for i in range(n)]
    centre, scale = metro_boxes(tight_boxes(people))
    count = 21 if hand else 24
    labels = [
        {
            "center": centre[i].tolist(), "scale": float(scale[i]),
            "2d_joints": np.ones((1, count, 3)).tolist(), "has_2d_joints": 1,
            "3d_joints": np.ones((count, 4)).tolist(), "has_3d_joints": 1,
            "pose": people["poses"][i].tolist(), "betas": people["betas"][i].tolist(),
            "has_smpl": 1, "gender": "neutral",
        }
        for i in range(n)
    ]  # fmt: skip
    picture = base64.b64encode(jpeg()).decode()
    parts = {
        "img": [(key, picture) for key in keys],
        "hw": [(key, json.dumps([{"height": PX, "width": PX}])) for key in keys],
        "label": [(k, json.dumps([label])) for k, label in zip(keys, labels, strict=True)],
        "linelist": [(i,) for i in range(n)],
    }
    for kind, rows in parts.items():
        write_rows(root / f"{stem}.{kind}.tsv", rows)
    (root / f"{stem}.yaml").write_text(yaml.safe_dump({k: f"{stem}.{k}.tsv" for k in parts}))


def write_spin(root: Path, people: dict, dataset: str, name: str, images: list | None = None):
    """An npz and its images."""
    n = len(people["betas"])
    images = images or [NAMES[dataset].format(i) for i in range(n)]
    centre, scale = metro_boxes(tight_boxes(people))
    root.mkdir(parents=True, exist_ok=True)
    np.savez(
        root / name, imgname=images, center=centre, scale=scale, pose=people["poses"],
        shape=people["betas"], gender=["m"] * n, part=np.ones((n, 24, 3)),
    )  # fmt: skip
    for image in images:
        (root / image).parent.mkdir(parents=True, exist_ok=True)
        (root / image).write_bytes(jpeg())


def write_pose2mesh(root: Path, people: dict, dataset: str) -> None:
    """Annotations, fits and images: COCO's and MPII's with cameras beside the fits, MuCo's in its
    images and with joints, UP-3D's in its images."""
    files = {
        "coco": ("annotations/person_keypoints_train2017.json",
                 "annotations/coco_smplifyx_train.json", "images/train2017"),
        "mpii": ("annotations/train.json", "annotations/MPII_train_SMPL_NeuralAnnot.json", "."),
        "muco": ("MuCo-3DHP.json", "smpl_param.json", "data"),
        "up3d": ("annotations/up3d_trainval.json", "annotations/up3d_trainval_smpl_param.json",
                 "images"),
    }[dataset]  # fmt: skip
    boxes, images, annotations, fits = tight_boxes(people), [], [], {}
    beside = dataset in ("coco", "mpii")
    for i in range(len(boxes)):
        K = people["K"][i]
        focal, princpt = [K[0, 0], K[1, 1]], [K[0, 2], K[1, 2]]
        image = {"id": i, "file_name": f"{i:06d}.jpg", "width": PX, "height": PX}
        camera = {"muco": {"f": focal, "c": princpt}}.get(
            dataset, {"cam_param": {"focal": focal, "princpt": princpt}}
        )
        images.append(image if beside else image | camera)
        annotation = {
            "id": 100 + i, "image_id": i, "bbox": boxes[i].tolist(), "iscrowd": 0,
            "keypoints": [1, 2, 2] * (i + 1) + [0, 0, 0] * (16 - i), "num_keypoints": i + 1,
        }  # fmt: skip
        if dataset == "muco":
            annotation["keypoints_cam"] = muco_joints_mm(people["joints"][i]).tolist()
        annotations.append(annotation)
        fit = {"pose": people["poses"][i].tolist(), "shape": people["betas"][i].tolist(),
               "trans": people["trans"][i].tolist()}  # fmt: skip
        fits[str(100 + i)] = {"smpl_param": fit, **camera} if beside else fit
        path = root / files[2] / image["file_name"]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(jpeg())
    for name, content in zip(
        files, ({"images": images, "annotations": annotations}, fits), strict=False
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(json.dumps(content))


def muco_joints_mm(joints: np.ndarray) -> np.ndarray:
    """MuCo's 21 joints, those that SMPL (24 x 3, metres) has alike; the others at the pelvis."""
    out = np.repeat(joints[:1], 21, axis=0)
    muco = [14, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13]
    out[muco] = joints[[0, 17, 19, 21, 16, 18, 20, 2, 5, 8, 1, 4, 7]]
    return 1000 * out
