"""A data/raw in miniature: official-form files of the open models, and sets that show them."""

from pathlib import Path

import numpy as np
import official
import test_downsampling
import torch
import yaml

from hmdiff import body, params
from hmdiff.hrnet import HRNet
from hmdiff.studio import capture

ROOT = Path(__file__).parents[1]
COUNTS = {
    "threedpw": {"train": 4, "validation": 2, "test": 2},
    "human36m": {"train": 5, "validation": 2, "test": 2},
    "freihand": {"train": 20, "validation": 2, "test": 2},
}
SLIM = {"width": 4, "blocks": 1, "modules": [1, 1, 1], "context_channels": 128}
WEIGHTS = "hrnetv2_w64_imagenet_pretrained.pth"


def write_tree(raw: Path, open_body, open_hand, body_coarse, hand_coarse) -> None:
    """Every file and folder of the manifest, below `raw`."""
    models = raw / "models"
    models.mkdir(parents=True)
    write_pickle(models / "SMPL_NEUTRAL.pkl", official.smpl(open_body, 20))
    write_pickle(models / "MANO_RIGHT.pkl", official.mano(open_hand))
    np.save(models / "J_regressor_h36m_correct.npy", h36m_rows(open_body))
    for name, pair in {"mesh": (open_body, body_coarse), "mano": (open_hand, hand_coarse)}.items():
        entries = test_downsampling.entries(*pair)
        test_downsampling.write(models / f"{name}_downsampling.npz", entries)
    (raw / "weights").mkdir()
    torch.manual_seed(3)
    torch.save(HRNet(*SLIM.values()).state_dict(), raw / "weights" / WEIGHTS)
    for dataset, counts in COUNTS.items():
        subject = "hand" if dataset == "freihand" else "body"
        name = {"body": "SMPL_NEUTRAL.pkl", "hand": "MANO_RIGHT.pkl"}[subject]
        model, out = body.load(models / name), raw / subject / dataset
        scratch = raw / "scratch"
        capture.capture_set(dataset, counts, out, model, 7, 64, 1, scratch, progress=False)
        (out / "studio.parquet").unlink()  # the real sets have none


def write_pickle(path: Path, content: dict) -> Path:
    """A pickle of Python 2."""
    path.write_bytes(official.python2(content, 2))
    return path


def h36m_rows(model) -> np.ndarray:
    """17 rows that read the skeleton's joints in Human3.6M's order, as far as there are such."""
    order = [0, 2, 5, 8, 1, 4, 7, 3, 12, 15, 15, 16, 18, 20, 17, 19, 21]
    return model.joint_regressor.numpy()[order]


def project(root: Path, **phi) -> params.Params:
    """A project's params.yaml and a profile `tiny` that reads data/raw; its parameters."""
    (root / "profiles").mkdir(parents=True, exist_ok=True)
    (root / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    values = {
        "profile": "tiny",
        "source": "raw",
        "phi": SLIM | {"input_px": 64, "deconv_channels": 8} | phi,
        "g": {"batch": 2},
        "sampler": {"N": 3},
    }
    (root / "profiles/tiny.yaml").write_text(yaml.safe_dump(values))
    merged = params.overlay(params.read_yaml(root / "params.yaml"), values)
    return params.parse(merged, "tiny")
