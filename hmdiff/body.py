"""The parametric body and hand: SMPL or MANO data, posed by the smplx layers.

A model file is an npz in SMPL's (MANO's) schema, as `studio.anny_bake` makes them, or an official
pickle: SMPL_NEUTRAL.pkl, basicmodel_*_lbs_10_207_0_v1.*.pkl, MANO_RIGHT.pkl. The pose is one
axis-angle vector a joint, zero at the T-pose (flat hand); MANO's mean pose and its pose components
are not used. Of the body all 24 joints are used; of the hand 21 keypoints: MANO's 16 joints and 5
fingertip vertices, in FreiHAND's order wrist, then thumb, index, middle, ring and little finger
from the palm to the tip.
"""

from collections.abc import Mapping
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import numpy as np
import smplx
import torch
from scipy import sparse
from smplx.utils import Struct
from smplx.vertex_ids import vertex_ids
from torch import Tensor, nn

from .clothing import PARTS, label_parts
from .safe_pickle import Unknown, load_npz, load_plain

__all__ = [
    "JOINT_NAMES",
    "PARTS",
    "BodyModel",
    "load",
    "load_regressor",
    "read",
]

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
# Fingertip vertices of the official MANO mesh, thumb to little finger, for files that do not name
# their own: FreiHAND's, where its evaluation_xyz.json has the tips. METRO's text names 745, 317,
# 444, 556 and 673.
_MANO_TIPS = (744, 320, 443, 555, 672)
# Vertices of the official SMPL mesh between the lids of the left and the right eye.
_SMPL_EYES = [vertex_ids["smplh"][name] for name in ("leye", "reye")]


class BodyModel(nn.Module):
    """A posable body or hand.

    Attributes:
        subject: "body" or "hand".
        J: joints that `pose` returns, 24 or 21; joint 0 is the root.
        faces: (F, 3) vertex ids; parents: (24,) or (16,) of the posed joints, root -1.
        parts: (V,) uint8, what each vertex shows, an index into `PARTS`.
        joint_regressor: (J, V), joints ~ joint_regressor @ vertices of any pose; rows sum to 1.
        mean_pose: what annotators of hands count MANO's pose from, (45,); of bodies 0. `pose` does
            not add it.
    """

    def __init__(self, subject: str, data: Mapping[str, np.ndarray]):
        super().__init__()
        self.subject = subject
        self.mean_pose = np.asarray(data["hands_mean"] if subject == "hand" else 0.0)
        common = {"model_path": "", "data_struct": Struct(**_as_smplx(data)), "num_betas": 10}
        rows = data["joint_regressor"] if "joint_regressor" in data else data["J_regressor"]
        regressor = torch.as_tensor(rows, dtype=torch.float32)
        if subject == "body":
            self.layer = _quiet(smplx.SMPL, **common)
        else:
            hand = {"use_pca": False, "num_pca_comps": 45, "flat_hand_mean": True}
            self.layer = _quiet(smplx.MANO, **hand, **common)
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
    """The vertices' parts. Official files have none: a hand is all skin, a body gets dressed."""
    v, W = data["v_template"], data["weights"]
    if "parts" in data:
        return data["parts"]
    if "hands_mean" in data:
        return np.zeros(len(v), np.uint8)
    return label_parts(v, data["J_regressor"] @ v, W, v[_SMPL_EYES])


_KEYS = {
    "body": ("v_template", "shapedirs", "posedirs", "weights", "kintree_table", "f", "J_regressor")
}
_KEYS["hand"] = (*_KEYS["body"], "hands_components", "hands_mean")
_OWN_KEYS = ("joint_regressor", "parts", "tips")  # of our own files, beside the schema's


def load(path: str | Path) -> BodyModel:
    """Load a body or a right hand from an npz or an official pickle; errors as in `read`."""
    return BodyModel(*read(path))


def read(path: str | Path) -> tuple[str, dict[str, np.ndarray]]:
    """Body or hand, as its shapes tell, and the entries of a model file that a model is made of:
    those of the schema and our own, checked, sparse ones filled up. Others are not looked at.

    Raises:
        FileNotFoundError, ValueError: one line that names the file, the fault and the remedy.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such body model; run `dvc repro` to bake it")
    data = load_plain(path) if path.suffix == ".pkl" else load_npz(path)
    if not isinstance(data, dict):
        raise ValueError(f"{path}: holds no body model; give SMPL's or MANO's file")
    subject = _subject(path, data)
    keys = [*_KEYS[subject], *(key for key in _OWN_KEYS if key in data)]
    data = {key: _entry(path, data, subject, key) for key in keys}
    _check_sense(path, data, subject)
    return subject, data


def load_regressor(path: str | Path, joints: int) -> Tensor:
    """The rows (joints x 6890) of one of the field's joint regressors of SMPL bodies, as they are.

    J_regressor_extra.npy has 9 of them, J_regressor_h36m_correct.npy 17 (Human3.6M's skeleton).

    Raises:
        FileNotFoundError, ValueError: one line that names the file, the fault and the remedy.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such joint regressor; copy it there")
    try:  # mapped, so that a file cannot claim more than it holds
        rows = np.load(path, mmap_mode="r", allow_pickle=False)
        shape, kind = rows.shape, rows.dtype.kind
    except Exception as error:  # numpy raises many kinds on damaged files
        reason = " ".join(str(error).split())
        raise ValueError(f"{path}: not a readable npy ({reason:.120}); get it again") from None
    V = _SHAPES["body"][0]
    if shape != (joints, V) or kind != "f":
        raise ValueError(f"{path}: {shape} of kind {kind!r}, not {joints} x {V}; is it another?")
    sums = rows.sum(1, dtype=np.float64)
    if not np.abs(sums - 1).max() < 0.05:
        raise ValueError(
            f"{path}: rows sum to {sums.min():.3f} to {sums.max():.3f}, not about 1; get it again"
        )
    return torch.from_numpy(rows.astype(np.float32))


def _subject(path: Path, data: Mapping[str, np.ndarray]) -> str:
    """Tell body from hand by the template's vertices."""
    V = next(iter(getattr(data.get("v_template"), "shape", ())), 0)
    subject = next((s for s, shape in _SHAPES.items() if shape[0] == V), None)
    if subject is None:
        raise ValueError(
            f"{path}: v_template has {V} vertices, not SMPL's 6890 or MANO's 778; "
            "give a file of one of them"
        )
    return subject


def _entry(path: Path, data: Mapping[str, np.ndarray], subject: str, key: str) -> np.ndarray:
    """One entry, an array of finite numbers of the schema's shape; sparse ones are filled up."""
    V, J = _SHAPES[subject]
    expected = {
        "v_template": (V, 3), "shapedirs": (V, 3, None), "posedirs": (V, 3, 9 * (J - 1)),
        "weights": (V, J), "kintree_table": (2, J), "f": (None, 3), "J_regressor": (J, V),
        "hands_components": (45, 45), "hands_mean": (45,),
        "joint_regressor": (J, V), "parts": (V,), "tips": (5,),
    }  # fmt: skip
    if key not in data:
        raise ValueError(f"{path}: key {key!r} is missing; give a complete model file")
    value = data[key]
    if isinstance(value, Unknown):
        raise ValueError(f"{path}: {key} is a {value.name}, not an array; save it as an array")
    shape = getattr(value, "shape", ())
    fits = len(shape) == len(expected[key]) and all(
        want in (None, have) for want, have in zip(expected[key], shape, strict=True)
    )
    if not fits:
        want = " x ".join("any" if n is None else str(n) for n in expected[key])
        raise ValueError(f"{path}: {key} has shape {shape}, expected {want}; make it again")
    value = value.toarray() if sparse.issparse(value) else value
    if value.dtype.kind not in "biuf" or not np.isfinite(value).all():
        raise ValueError(f"{path}: {key} holds other things than finite numbers; make it again")
    return value


def _check_sense(path: Path, data: Mapping[str, np.ndarray], subject: str) -> None:
    """Raise where entries have the right shapes but are no body, or no right hand."""
    V, J = _SHAPES[subject]
    if data["shapedirs"].shape[2] < 10:
        raise ValueError(f"{path}: shapedirs has under 10 betas; give a file with 10 or more")
    for key, count in (("f", V), ("tips", V), ("parts", len(PARTS))):
        ids = data.get(key, np.zeros(1))
        if ids.min(initial=0) < 0 or ids.max(initial=0) >= count:
            raise ValueError(f"{path}: {key} has numbers beyond {count - 1}; make it again")
    parents = data["kintree_table"][0, 1:].astype(np.int64)
    if (parents < 0).any() or (parents >= np.arange(1, J)).any():
        raise ValueError(f"{path}: kintree_table has a joint before its parent; make it again")
    joints = data["J_regressor"] @ data["v_template"]
    if subject == "hand" and joints[1:, 0].mean() > joints[0, 0]:  # MANO's right one points to -x
        raise ValueError(f"{path}: a left hand; the study's hands are right: give MANO_RIGHT.pkl")
