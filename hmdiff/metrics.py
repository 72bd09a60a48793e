"""The paper's error measures (Sec. 5, "Evaluation Metrics"), per image, in millimetres.

Published numbers differ in silence by joint set, root, regressor and reflection, so these four are
one explicit object, the `Protocol`, and its `describe()` is printed with every result.

Notation: B images, P points, V vertices, J rows of the joint regressor. Inputs are in millimetres,
camera axes; everything is computed in float64. A prediction that is not finite has the error NaN.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

METRICS = ("MPVE", "MPJPE", "PA_MPVPE", "PA_MPJPE", "F5", "F15", "AUC")


@dataclass(frozen=True)
class Protocol:
    """How two meshes are compared.

    Attributes:
        name: printed with the result.
        joints: rows of the joint regressor that count as joints.
        root: row of the regressor that is moved to the origin before MPVE and MPJPE.
        regressor: where the joints of both meshes come from, in words.
        reflection: whether Procrustes alignment may mirror the prediction.
        f_mm: F-score thresholds in mm; the paper reports none for bodies.
        file: where the regressor lies below data/raw; None where it is the body model's own.
    """

    name: str
    joints: tuple[int, ...]
    root: int
    regressor: str
    reflection: bool
    f_mm: tuple[int, ...]
    file: str | None = None

    @property
    def skeleton(self) -> bool:
        """Whether its joints are those of the body model, so that a bare pose has them; other
        joints can be regressed from a mesh alone."""
        return self.file is None

    def describe(self) -> str:
        """One sentence: joint set, root, regressor, alignment."""
        mirror = "reflections allowed" if self.reflection else "no reflections"
        return (
            f"{self.name}: {len(self.joints)} joints from {self.regressor} on both sides, or true "
            f"ones as measured where a set has them, rooted at joint {self.root}; Procrustes with "
            f"scale, {mirror}, "
            "joints and vertices aligned separately"
        )


BODY14 = Protocol(
    name="BODY14",
    joints=(8, 5, 2, 1, 4, 7, 21, 19, 17, 16, 18, 20, 12, 15),
    root=0,
    regressor="the 24-joint body regressor",
    reflection=False,
    f_mm=(),
)
HAND21 = Protocol(
    name="HAND21",
    joints=tuple(range(21)),
    root=0,
    regressor="the 16-joint hand regressor and five fingertip vertices",
    reflection=True,  # as FreiHAND's own evaluation
    f_mm=(5, 15),
)
H36M14 = Protocol(  # as SPIN and Pose2Mesh measure 3DPW and Human3.6M
    name="H36M14",
    joints=(3, 2, 1, 4, 5, 6, 16, 15, 14, 11, 12, 13, 8, 10),
    root=0,
    regressor="Human3.6M's 17-joint regressor",
    reflection=False,
    f_mm=(),
    file="models/J_regressor_h36m_correct.npy",
)
PROTOCOLS = {"body": BODY14, "hand": HAND21}


def protocol_of(subject: str, source: str) -> Protocol:
    """The protocol of a subject's sets: on licensed bodies the field's, else of `PROTOCOLS`."""
    return H36M14 if (subject, source) == ("body", "raw") else PROTOCOLS[subject]


def point_error(pred: Tensor, gt: Tensor) -> Tensor:
    """Mean Euclidean distance over points: B x P x 3, B x P x 3 (mm) -> B (mm)."""
    return (pred.double() - gt.double()).norm(dim=-1).mean(dim=-1)


def mpjpe(pred: Tensor, gt: Tensor, protocol: Protocol) -> Tensor:
    """Mean per joint position error of regressed joints, each side rooted: B x J x 3 -> B (mm)."""
    joints, root = list(protocol.joints), protocol.root
    return point_error((pred - pred[:, root, None])[:, joints], (gt - gt[:, root, None])[:, joints])


def mpvpe(pred: Tensor, gt: Tensor, joint_regressor: Tensor, protocol: Protocol) -> Tensor:
    """Mean per vertex error, each mesh at its own regressed root: B x V x 3 -> B (mm).

    This is the paper's MPVE. `joint_regressor` is J x V.
    """
    row = joint_regressor[protocol.root].double()
    root_pred, root_gt = (torch.einsum("v,bvc->bc", row, mesh.double()) for mesh in (pred, gt))
    return point_error(pred.double() - root_pred[:, None], gt.double() - root_gt[:, None])


def procrustes(pred: Tensor, gt: Tensor, reflection: bool = False) -> Tensor:
    """Move `pred` onto `gt` by the least-squares similarity s R x + t.

    Args:
        pred, gt: B x P x 3.
        reflection: False restricts R to rotations (det R = 1), as the human-pose literature does;
            True admits mirror images, as FreiHAND's evaluation does.

    Returns:
        B x P x 3, float64. A prediction without extent (all points alike) lands on the mean of
        `gt`; one that is not finite becomes NaN.
    """
    pred, gt = pred.double(), gt.double()
    finite = torch.isfinite(pred).flatten(1).all(dim=1)
    pred = torch.where(finite[:, None, None], pred, 0.0)
    mean_gt = gt.mean(dim=1, keepdim=True)
    x, y = pred - pred.mean(dim=1, keepdim=True), gt - mean_gt
    # x' y = W S V'  =>  R = V diag(1, 1, +-1) W',  s = tr(S diag(1, 1, +-1)) / |x|^2
    w, s, vt = torch.linalg.svd(x.mT @ y)
    sign = torch.ones_like(s)
    if not reflection:
        sign[:, 2] = torch.det(w @ vt).sign()
    extent = x.square().sum(dim=(1, 2))
    # Points that differ by rounding alone have no extent.
    solid = extent > 1e-20 * pred.square().sum(dim=(1, 2))
    scale = torch.where(solid, (s * sign).sum(dim=1) / torch.where(solid, extent, 1.0), 0.0)
    aligned = scale[:, None, None] * (x @ (w * sign[:, None]) @ vt) + mean_gt
    return torch.where(finite[:, None, None], aligned, torch.nan)


def pa_mpjpe(pred: Tensor, gt: Tensor, protocol: Protocol) -> Tensor:
    """MPJPE after Procrustes alignment of the protocol's joints: B x J x 3 -> B (mm)."""
    joints = list(protocol.joints)
    pred, gt = pred[:, joints], gt[:, joints]
    return point_error(procrustes(pred, gt, protocol.reflection), gt)


def pa_mpvpe(pred: Tensor, gt: Tensor, protocol: Protocol) -> Tensor:
    """MPVE after Procrustes alignment of the vertices: B x V x 3 -> B (mm)."""
    return point_error(procrustes(pred, gt, protocol.reflection), gt)


def nearest_distances(pred: Tensor, gt: Tensor, chunk: int = 512) -> tuple[Tensor, Tensor]:
    """Distance from each point to the other set: B x P x 3, B x Q x 3 -> B x P, B x Q.

    `chunk` points of `pred` at a time, so that memory stays at B x chunk x Q.
    """
    pred, gt = pred.double(), gt.double()
    to_gt, to_pred = [], torch.full(gt.shape[:2], torch.inf, dtype=gt.dtype, device=gt.device)
    for part in pred.split(chunk, dim=1):
        # The matrix-product shortcut of cdist loses the millimetre fractions that "<" decides on.
        d = torch.cdist(part, gt, compute_mode="donot_use_mm_for_euclid_dist")
        to_gt.append(d.amin(dim=2))
        to_pred = torch.minimum(to_pred, d.amin(dim=1))
    return torch.cat(to_gt, dim=1), to_pred


def f_score(pred: Tensor, gt: Tensor, *thresholds_mm: float) -> Tensor:
    """Harmonic mean of precision and recall between two point sets, at each threshold.

    A point counts when its nearest neighbour in the other set is strictly nearer than the
    threshold, as in FreiHAND's evaluation. B x P x 3, B x Q x 3 -> B x len(thresholds_mm).
    """
    to_gt, to_pred = nearest_distances(pred, gt)
    limits = torch.tensor(thresholds_mm, dtype=to_gt.dtype, device=to_gt.device)
    precision, recall = ((d[..., None] < limits).double().mean(dim=1) for d in (to_gt, to_pred))
    f = 2 * precision * recall / (precision + recall).clamp_min(1e-300)
    finite = torch.isfinite(pred).flatten(1).all(dim=1)
    return torch.where(finite[:, None], f, torch.nan)


def auc(pred: Tensor, gt: Tensor, upto_mm: float = 50.0, steps: int = 100) -> Tensor:
    """Area under the share of keypoints within t, for t of 0 to `upto_mm`, scaled to 0..1.

    FreiHAND takes the curve per keypoint over images and then the mean over keypoints; as the area
    is linear in the curve, the mean over images of this value is that same number.
    B x P x 3 -> B.
    """
    d = (pred.double() - gt.double()).norm(dim=-1)
    t = torch.linspace(0.0, upto_mm, steps, dtype=d.dtype, device=d.device)
    area = torch.trapezoid((d[..., None] <= t).double(), t, dim=-1).mean(dim=-1) / upto_mm
    return torch.where(torch.isfinite(d).all(dim=-1), area, torch.nan)


def evaluate_joints(pred: Tensor, gt: Tensor, protocol: Protocol) -> dict[str, Tensor]:
    """MPJPE, PA_MPJPE and AUC (of aligned joints) of poses: B x J x 3 (mm) -> B each.

    Every other measure of `METRICS` is there as NaN: a pose has no vertices.
    """
    joints = list(protocol.joints)
    aligned = procrustes(pred[:, joints], gt[:, joints], protocol.reflection)
    result = {name: aligned.new_full(pred.shape[:1], torch.nan) for name in METRICS}
    result["MPJPE"] = mpjpe(pred, gt, protocol)
    result["PA_MPJPE"] = point_error(aligned, gt[:, joints])
    result["AUC"] = auc(aligned, gt[:, joints])
    return result


def evaluate_meshes(
    pred: Tensor,
    gt: Tensor,
    joint_regressor: Tensor,
    protocol: Protocol,
    measured: Tensor | None = None,
) -> dict[str, Tensor]:
    """All of `METRICS` for B meshes: B x V x 3 (mm), J x V -> B each, float64.

    The joints of both meshes are regressed from their vertices, or true ones taken from `measured`
    (B x J x 3, mm), which is NaN for a mesh without any. F-scores are taken after alignment of the
    vertices, and are NaN where the protocol asks for none.

    Raises:
        ValueError: the shapes do not fit together, or the ground truth is not finite.
    """
    V = joint_regressor.shape[1]
    if pred.shape != gt.shape or gt.shape[1:] != (V, 3):
        raise ValueError(
            f"evaluate_meshes: pred {tuple(pred.shape)} and gt {tuple(gt.shape)} must both be "
            f"B x {V} x 3 for this joint regressor; pass full meshes of one subject"
        )
    if not torch.isfinite(gt).all():
        raise ValueError("evaluate_meshes: gt holds NaN or infinity; run prepare again")
    pred, gt, regressor = pred.double(), gt.double(), joint_regressor.double()
    joints_pred, joints_gt = (torch.einsum("jv,bvc->bjc", regressor, m) for m in (pred, gt))
    if measured is not None:
        joints_gt = torch.where(measured.isnan(), joints_gt, measured.double())
    aligned = procrustes(pred, gt, protocol.reflection)
    result = evaluate_joints(joints_pred, joints_gt, protocol)
    result["MPVE"] = mpvpe(pred, gt, regressor, protocol)
    result["PA_MPVPE"] = point_error(aligned, gt)
    if protocol.f_mm:
        f = f_score(aligned, gt, *protocol.f_mm)
        result |= {f"F{mm}": f[:, i] for i, mm in enumerate(protocol.f_mm)}
    return result
