"""The protocols under which the field's papers measure bodies, by name, where ours differs.

METRO and SPIN take 14 of the 17 joints that Human3.6M's regressor gives from a mesh, and differ in
what they move to the origin: SPIN (and Pose2Mesh) the regressor's pelvis; METRO, Mesh Graphormer
and FastMETRO the middle of the hips for joints, the pelvis for vertices. METRO's ground truth of
3DPW is the neutral body, SPIN's the gendered one. 3DPW's own evaluation compares the 24 joints of
the skeleton of the gendered body, and is not comparable with the others.

What is measured on is a matter of splits: Human3.6M's protocol 2 is subjects 9 and 11, camera
60457274, every fifth frame (the split `test` of every layout), against the joints of the motion
capture and without MPVE; 3DPW's and FreiHAND's are their test parts. FreiHAND's protocol is
`metrics.HAND21`, against the joints of evaluation_xyz.json.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .metrics import H36M14, Protocol, evaluate_meshes, mpvpe

PELVIS, MID_HIP = 0, 17  # rows; the second is `with_mid_hip`'s
HIPS = (1, 4)


@dataclass(frozen=True)
class Published:
    """How a family of papers measures.

    Attributes:
        joints: the protocol of MPJPE and PA-MPJPE.
        mesh_root: the regressor's row that is moved to the origin before MPVE.
        bodies: what the ground truth of 3DPW is posed with.
    """

    joints: Protocol
    mesh_root: int
    bodies: str


PUBLISHED = {
    "METRO": Published(replace(H36M14, name="METRO14", root=MID_HIP), PELVIS, "neutral"),
    "SPIN": Published(H36M14, PELVIS, "gendered"),
    "3DPW": Published(
        Protocol("3DPW24", tuple(range(24)), 0, "the skeleton's 24-joint regressor", False, ()),
        mesh_root=0,
        bodies="gendered",
    ),
}


def with_mid_hip(rows: Tensor) -> Tensor:
    """Human3.6M's joints (... x 17 x 3), or its regressor (17 x V), and, as an 18th row, the middle
    of the hips.

    Raises:
        ValueError: not 17 rows.
    """
    if rows.shape[-2] != 17:
        raise ValueError(f"regressor of {rows.shape[-2]} rows: give Human3.6M's, of 17")
    return torch.cat([rows, rows[..., list(HIPS), :].mean(dim=-2, keepdim=True)], dim=-2)


def evaluate_as(
    name: str, pred: Tensor, gt: Tensor, regressor: Tensor, measured: Tensor | None = None
) -> dict[str, Tensor]:
    """`metrics.evaluate_meshes` as a family of papers has it: B x V x 3 (mm) -> B each.

    Args:
        name: METRO, SPIN or 3DPW.
        regressor: Human3.6M's, 17 x V; for 3DPW the body's own, 24 x V.
        measured: on Human3.6M, the joints of its motion capture (B x 17 x 3, mm), the true ones
            in METRO's and SPIN's papers.

    Raises:
        ValueError: unknown name, or shapes that do not fit together.
    """
    if name not in PUBLISHED:
        raise ValueError(f"protocol {name!r}: unknown; one of {tuple(PUBLISHED)}")
    published = PUBLISHED[name]
    rows = regressor if name == "3DPW" else with_mid_hip(regressor)
    measured = None if measured is None else with_mid_hip(measured)
    result = evaluate_meshes(pred, gt, rows, published.joints, measured)
    row = rows[published.mesh_root : published.mesh_root + 1]
    root = Protocol("root", (0,), 0, "", reflection=False, f_mm=())
    result["MPVE"] = mpvpe(pred, gt, row, root)
    return result
