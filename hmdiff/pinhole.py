"""The pinhole camera: from camera axes (x right, y down, z forward) to pixels.

The corner of the first pixel is at (0, 0), so that an image's middle is half its width and height.
"""

import numpy as np


def project(points: np.ndarray, K: np.ndarray) -> np.ndarray:
    """Pixels (..., n, 2) of points (..., n, 3) in camera axes, any unit; K is (..., 3, 3)."""
    image = points @ np.swapaxes(K, -1, -2)
    return image[..., :2] / image[..., 2:]
