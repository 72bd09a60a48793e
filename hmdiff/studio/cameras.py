"""Cameras of the capture studio: where they look from, and how the person fills the frame.

World axes: y up, the floor at y = 0. Camera axes: x right, y down, z forward. A point goes from
world to camera as R x + t; lengths in metres, angles in degrees.
"""

from typing import NamedTuple

import numpy as np

from ..pinhole import project

STRIDE = 6  # points that are left out when a person is framed


class Camera(NamedTuple):
    """R (3 x 3) and t (3, metres) from world to camera, K (3 x 3, pixels)."""

    R: np.ndarray
    t: np.ndarray
    K: np.ndarray


def look(azimuth: float, elevation: float, roll: float = 0.0) -> np.ndarray:
    """R (3 x 3) of a camera that looks at the origin from this direction; azimuth 0 is +z."""
    a, e, r = np.deg2rad([azimuth, elevation, roll])
    z = -np.array([np.cos(e) * np.sin(a), np.sin(e), np.cos(e) * np.cos(a)])
    x = np.cross(z, [0.0, 1.0, 0.0])
    x /= np.linalg.norm(x)
    y = np.cross(z, x)
    turn = np.array([[np.cos(r), -np.sin(r), 0], [np.sin(r), np.cos(r), 0], [0, 0, 1]])
    return turn @ np.stack([x, y, z])


def intrinsics(focal_px: float, px: int) -> np.ndarray:
    """K (3 x 3) with the principal point in the middle of a px x px frame."""
    return np.array([[focal_px, 0, px / 2], [0, focal_px, px / 2], [0, 0, 1.0]])


def frame(
    points: np.ndarray, R: np.ndarray, K: np.ndarray, px: int, fill: float, shift: np.ndarray
) -> np.ndarray:
    """t (3) such that points (n x 3, world) fill the frame: the longer side of their box is
    `fill` of it, the box's middle lies `shift` (2, shares of the frame) off the frame's.

    The camera is moved, never turned, so the direction that R looks in stays.
    """
    turned = points[::STRIDE] @ R.T
    turned_middle = (turned.min(0) + turned.max(0)) / 2
    turned = turned - turned_middle
    depth = max(K[0, 0] * np.ptp(turned[:, :2], axis=0).max() / (fill * px), np.ptp(turned[:, 2]))
    offset = np.array([0.0, 0.0, depth])
    for _ in range(4):
        uv = project(turned + offset, K)
        low, high = uv.min(0), uv.max(0)
        offset[2] = max(offset[2] * (high - low).max() / (fill * px), 0.6 * np.ptp(turned[:, 2]))
        uv = project(turned + offset, K)
        error = (uv.min(0) + uv.max(0)) / 2 - (0.5 + np.asarray(shift)) * px
        offset[:2] -= error * offset[2] / K[0, 0]
    return offset - turned_middle


def outside(points: np.ndarray, K: np.ndarray, px: int) -> float:
    """Share of points (n x 3, camera axes) whose projections miss the frame."""
    uv = project(points, K)
    return float(1 - ((uv >= 0) & (uv < px)).all(1).mean())
