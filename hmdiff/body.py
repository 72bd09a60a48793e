"""The parametric body and hand: SMPL or MANO data, posed by the smplx layers.

A model file is an npz in SMPL's (MANO's) schema; `hmdiff.anny_bake` makes open ones. The pose is
one axis-angle vector a joint, zero at the T-pose (flat hand). Of the body all 24 joints are
used; of the hand 21 keypoints: MANO's 16 joints and 5 fingertip vertices, in FreiHAND's order
wrist, then thumb, index, middle, ring and little finger from the palm to the tip.
"""

from collections.abc import Mapping
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import smplx
import torch
from smplx.utils import Struct
from torch import Tensor, nn

from hmdiff.anny_bake import bake_open_body, bake_open_hand
from hmdiff.clothing import PARTS

__all__ = ["JOINT_NAMES", "PARTS", "BodyModel", "bake_open_body", "bake_open_hand", "load"]

JOINT_NAMES = {
    "body": (
        "pelvis", "left hip", "right hip", "spine 1", "left knee", "right knee", "spine 2",
        "left ankle", "right ankle", "spine 3", "left foot", "right foot", "neck", "left collar",
        "right collar", "head", "left shoulder", "right shoulder", "left elbow", "right elbow",
        "left wrist", "right wrist", "left hand", "right hand",
    ),
    "hand": (
        "wrist",
        *(f"{finger} {part}" for finger in ("thumb", "index", "middle", "ring", "little")
          for part in ("1", "2", "3", "tip")),
    ),
}  # fmt: skip

# Rows of (MANO's 16 joints, then thumb, index, middle, ring, little tips) in FreiHAND's order.
KEYPOINTS_21 = (0, 13, 14, 15, 16, 1, 2, 3, 17, 4, 5, 6, 18, 10, 11, 12, 19, 7, 8, 9, 20)

# Vertex and joint counts that tell one schema from the other.
_SHAPES = {"body": (6890, 24), "hand": (778, 16)}
# Fingertip vertices of the official MANO mesh, for files that do not name their own.
_MANO_TIPS = (745, 317, 444, 556, 673)


class BodyModel(nn.Module):
    """A posable body or hand.

    Attributes:
        subject: "body" or "hand".
        J: joints that `pose` returns, 24 or 21; joint 0 is the root.
        faces: (F, 3) vertex ids; parents: (24,) or (16,) of the posed joints, root -1.
        parts: (V,) uint8, what each vertex shows, an index into `PARTS`.
        joint_regressor: (J, V), joints ~ joint_regressor @ vertices of any pose; rows sum to 1.
    """

    def __init__(self, subject: str, data: Mapping[str, np.ndarray]):
        super().__init__()
        self.subject = subject
        common = {"model_path": "", "data_struct": Struct(**_as_smplx(data)), "num_betas": 10}
        rows = data["joint_regressor"] if "joint_regressor" in data else data["J_regressor"]
        regressor = torch.as_tensor(rows, dtype=torch.float32)
        if subject == "body":
            self.layer = _quiet(smplx.SMPL, **common)
        else:
            self.layer = _quiet(smplx.MANO, use_pca=False, num_pca_comps=45, **common)
            tips = torch.as_tensor(np.asarray(data.get("tips", _MANO_TIPS)), dtype=torch.long)
            self.register_buffer("tips", tips)
            one_hot = torch.zeros(5, regressor.shape[1]).scatter_(1, tips[:, None], 1.0)
            regressor = torch.cat([regressor, one_hot])[list(KEYPOINTS_21)]
        self.register_buffer("joint_regressor", regressor)
        self.register_buffer("parts", torch.as_tensor(_parts(data)))
        self.requires_grad_(False)

    @property
    def J(self) -> int:
        return len(self.joint_regressor)

    @property
    def faces(self) -> Tensor:
        return self.layer.faces_tensor

    @property
    def parents(self) -> Tensor:
        return self.layer.parents

    def pose(self, betas: Tensor, pose: Tensor, trans: Tensor) -> tuple[Tensor, Tensor]:
        """Vertices (B x V x 3) and joints (B x J x 3), both in m.

        Args:
            betas: B x 10 shape, in standard deviations.
            pose: B x 72 (hand B x 48) axis-angle, rad; the first three turn the root joint.
            trans: B x 3 translation, m.
        """
        turn, rest = pose[:, :3], pose[:, 3:]
        if self.subject == "body":
            out = self.layer(betas=betas, global_orient=turn, body_pose=rest, transl=trans)
            return out.vertices, out.joints[:, : self.J]
        out = self.layer(betas=betas, global_orient=turn, hand_pose=rest, transl=trans)
        joints = torch.cat([out.joints, out.vertices[:, self.tips]], dim=1)
        return out.vertices, joints[:, list(KEYPOINTS_21)]


def _quiet(layer: type, **kwargs) -> nn.Module:
    """Build an smplx layer without its warning that ten shape coefficients are few."""
    with redirect_stdout(StringIO()):
        return layer(**kwargs)


def _as_smplx(data: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The entries that smplx reads; of more than ten shape directions the first ten."""
    entries = {key: data[key] for key in _KEYS["hand" if "hands_mean" in data else "body"]}
    entries["shapedirs"] = entries["shapedirs"][..., :10]
    return entries


def _parts(data: Mapping[str, np.ndarray]) -> np.ndarray:
    """The vertices' parts; a file that has none is all skin."""
    return data["parts"] if "parts" in data else np.zeros(len(data["v_template"]), np.uint8)


_KEYS = {
    "body": ("v_template", "shapedirs", "posedirs", "weights", "kintree_table", "f", "J_regressor")
}
_KEYS["hand"] = (*_KEYS["body"], "hands_components", "hands_mean")


def load(path: str | Path) -> BodyModel:
    """Load a body or hand from an npz in SMPL's or MANO's schema; which one, its shapes tell.

    Raises:
        FileNotFoundError, ValueError: one line that names the file, the fault and the remedy.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such body model; run `dvc repro` to bake it")
    try:
        with np.load(path, allow_pickle=False) as file:
            data = {key: file[key] for key in file.files}
    except (ValueError, OSError, EOFError, BadZipFile) as error:
        raise ValueError(f"{path}: not a readable npz ({error}); delete it, bake again") from None
    return BodyModel(_subject(path, data), data)


def _subject(path: Path, data: Mapping[str, np.ndarray]) -> str:
    """Tell body from hand and check every entry's shape."""
    V = len(data["v_template"]) if "v_template" in data else 0
    subject = next((s for s, shape in _SHAPES.items() if shape[0] == V), None)
    if subject is None:
        raise ValueError(
            f"{path}: v_template has {V} vertices, not SMPL's 6890 or MANO's 778; "
            "give a file of one of them"
        )
    J = _SHAPES[subject][1]
    expected = {
        "v_template": (V, 3), "shapedirs": (V, 3, None), "posedirs": (V, 3, 9 * (J - 1)),
        "weights": (V, J), "kintree_table": (2, J), "f": (None, 3), "J_regressor": (J, V),
        "hands_components": (45, 45), "hands_mean": (45,),
    }  # fmt: skip
    for key in _KEYS[subject]:
        if key not in data:
            raise ValueError(f"{path}: key {key!r} is missing; give a complete model file")
        shape = data[key].shape
        fits = len(shape) == len(expected[key]) and all(
            want in (None, have) for want, have in zip(expected[key], shape, strict=True)
        )
        if not fits:
            want = " x ".join("any" if n is None else str(n) for n in expected[key])
            raise ValueError(f"{path}: {key} has shape {shape}, expected {want}; bake it again")
    return subject
