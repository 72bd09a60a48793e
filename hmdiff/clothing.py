"""What the open body wears: shirt, trousers, shoes and hair, as labels of its vertices.

Forearms and shins have labels of their own: the studio dresses them in long or short sleeves and
legs. What cloth does to the surface is in `studio/cloth.py`.
"""

import numpy as np

from .rigging import Array

PARTS = ("skin", "hair", "shirt", "trousers", "shoes", "forearm", "shin", "eyes", "lips")


def label_parts(v: Array, joints: Array, W: Array, eyes: Array) -> Array:
    """What each vertex shows (V,), uint8 indices into PARTS, for one person standing at rest.

    Args: v V x 3, joints 24 x 3 (SMPL's order), eyes 2 x 3, in m; W V x 24 skinning weights.
    """
    id_of = {name: i for i, name in enumerate(PARTS)}
    owner = W.argmax(1)
    part = np.zeros(len(v), np.uint8)
    part[np.isin(owner, (3, 6, 9, 13, 14, 16, 17))] = id_of["shirt"]
    part[np.isin(owner, (18, 19))] = id_of["forearm"]
    part[np.isin(owner, (4, 5, 7, 8))] = id_of["shin"]
    part[np.isin(owner, (7, 8, 10, 11)) & (v[:, 1] < joints[7, 1] + 0.03)] = id_of["shoes"]
    trunk = np.isin(owner, (0, 1, 2, 3))
    below_belt = v[:, 1] < joints[0, 1] + 0.045
    part[trunk] = np.where(below_belt, id_of["trousers"], id_of["shirt"])[trunk]
    collar = np.isin(owner, (9, 12, 13, 14))
    neckline = joints[12, 1] + 0.005 - 0.45 * (v[:, 2] - joints[12, 2])
    part[collar] = np.where(v[:, 1] < neckline, id_of["shirt"], id_of["skin"])[collar]
    _label_head(part, v, np.isin(owner, (12, 15)), eyes, id_of)
    return part


def _label_head(part: Array, v: Array, head: Array, eyes: Array, id_of: dict[str, int]) -> None:
    """Hair, eyes and lips, in units of the distance from the eyes to the crown."""
    eye = eyes.mean(0)
    unit = v[head, 1].max() - eye[1]
    up, back = (v[:, 1] - eye[1]) / unit, (eye[2] - v[:, 2]) / unit
    side = np.abs(v[:, 0] - eye[0]) / unit
    hairline = np.interp(
        back, [-0.2, 0.1, 0.55, 0.85, 1.05, 1.2], [0.62, 0.55, 0.25, 0.0, -0.7, -0.8]
    )
    part[head & (up > hairline) & ~((side > 0.68) & (up < 0.15))] = id_of["hair"]
    for one in eyes:
        part[head & (np.linalg.norm(v - one, axis=1) < 0.19 * unit)] = id_of["eyes"]
    lips = (np.abs(up + 0.63) < 0.07) & (side < 0.22) & (back < 0.1)
    part[head & lips] = id_of["lips"]
