"""From one picture and a person's box to a mesh with its uncertainty (Fig. 1 on a user's image).

The networks see a crop and answer with meshes about the root, so where a person stands has to come
from the box. The camera of a found picture is unknown as well: a focal length of 1.2 times the
longer image side is assumed, a field of view of 45 degrees along it. The recovered distance is
proportional to that guess; the mesh itself does not depend on it.

Networks trained on the capture studio's images see a photograph as out of their domain: believe
the spread of the hypotheses as little as their centre there.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from .. import crops, evaluate
from ..hypotheses import spread
from ..params import Params
from ..pinhole import project
from ..pose import PoseDistribution, pooled
from ..pretrain import Phi, infer
from ..splits import Split

FOCAL_PER_SIDE = 1.2
SMALLEST_PX = 16  # of the picture inside the box, each way; less shows nobody
LARGEST_BOX = 50  # sides of the picture; in a larger one it would be a dot


@dataclass(frozen=True)
class Recovery:
    """What one picture gave.

    Attributes:
        vertices_m: the prediction, V_full x 3, root-relative, camera axes.
        hypotheses_m: H x V_full x 3, likewise, without those that diverged.
        spread_mm: V_full, how far one more draw would lie from their centre (hypotheses.spread).
        translation: (3,) m, where the root lies in the camera of `K`.
        K: 3 x 3, assumed, see the module's head.
        box: x, y, w, h, pixels.
    """

    vertices_m: np.ndarray
    hypotheses_m: np.ndarray
    spread_mm: np.ndarray
    translation: np.ndarray
    K: np.ndarray
    box: tuple[float, float, float, float]


def assumed_camera(height: int, width: int) -> np.ndarray:
    """K (3 x 3) of a picture about which nothing is known but its size."""
    focal = FOCAL_PER_SIDE * max(height, width)
    return np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1.0]])


def as_rgb(image: np.ndarray) -> np.ndarray:
    """A grey, RGB or RGBA picture as H x W x 3, uint8; transparency is dropped.

    Raises:
        ValueError: it is empty, or no such picture.
    """
    image = np.asarray(image)
    if image.size == 0:
        raise ValueError(f"image: it is empty, its shape is {image.shape}; give another picture")
    if image.ndim == 2:
        image = image[..., None]
    if image.ndim != 3 or image.shape[2] not in (1, 3, 4) or image.dtype != np.uint8:
        raise ValueError(
            f"image: shape {image.shape} of {image.dtype}; expected height x width (x 1, 3 or 4) "
            "of uint8, convert it first"
        )
    if image.shape[2] == 1:
        image = image.repeat(3, axis=2)
    return np.ascontiguousarray(image[..., :3])


def check_box(box, height: int, width: int) -> np.ndarray:
    """x, y, w, h as float64 (4,).

    Raises:
        ValueError: it is no box, or shows nothing of the picture.
    """
    try:
        x, y, w, h = box = np.asarray(box, dtype=np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"box {box!r}: must be four numbers x, y, width, height") from None
    if not np.isfinite(box).all():
        raise ValueError(f"box {box.tolist()}: must be four finite numbers x, y, width, height")
    if max(w, h) > LARGEST_BOX * max(width, height):
        raise ValueError(
            f"box {box.tolist()}: over {LARGEST_BOX} times as large as the picture of {width} x "
            f"{height} pixels; give x, y, width, height in its pixels"
        )
    seen = min(x + w, width) - max(x, 0), min(y + h, height) - max(y, 0)
    if min(seen) < SMALLEST_PX:
        raise ValueError(
            f"box {box.tolist()}: shows less than {SMALLEST_PX} x {SMALLEST_PX} pixels of the "
            f"picture of {width} x {height}; give x, y, width, height in its pixels"
        )
    return box


def fit_translation(
    vertices_m: np.ndarray, box: np.ndarray, K: np.ndarray, rounds: int = 50
) -> np.ndarray:
    """Where to put a root-relative mesh so that its projection fills a box in width or in height
    and fits in it.

    A fixed point of two corrections: the distance grows by the ratio of the projection's size to
    the box's, of width or height the larger, and the mesh shifts by what their centres differ. The
    box is taken to hold the whole person. A truncated or half hidden one has too small a box, which
    puts the mesh too far away, and towards the part that is seen.

    Args:
        vertices_m: V x 3, root-relative, camera axes, m.
        box: x, y, w, h, pixels.
        K: 3 x 3.

    Returns:
        translation (3,), m; its z keeps every vertex in front of the camera.
    """
    x, y, w, h = np.asarray(box, dtype=np.float64)
    focal, centre = np.array([K[0, 0], K[1, 1]]), np.array([x + w / 2, y + h / 2])
    extent = np.ptp(vertices_m, axis=0)
    nearest = 0.05 - vertices_m[:, 2].min()
    t = np.array([0.0, 0.0, focal.mean() * (extent[:2] / (w, h)).max()])
    t[2] = max(t[2], nearest)
    for _ in range(rounds):
        place = project(vertices_m + t, K)
        low, high = place.min(0), place.max(0)
        depth = max(t[2] * ((high - low) / (w, h)).max(), nearest)
        t[:2] += (centre - (low + high) / 2) * t[2] / focal
        # The line of sight to the centre stays as the distance changes.
        t[:2] *= depth / t[2]
        t[2] = depth
    return t


def recover_by_dat(
    image: np.ndarray,
    box,
    bench: evaluate.Bench,
    phi: Phi,
    params: Params,
    knobs: evaluate.Knobs,
    seed: int = 0,
) -> Recovery:
    """Run Ours, the paper's system, on one picture (`api.recover` runs Ours+).

    Args:
        image: H x W (x 1, 3 or 4), uint8.
        box: x, y, w, h of the person or hand, pixels.
        bench, phi: the trained networks, from `evaluate.load_bench` and `pretrain.load_phi`.
        knobs: the sampler's settings.

    Raises:
        ValueError: one line; picture or box are unusable, or every hypothesis diverged.
    """
    image = as_rgb(image)
    box = check_box(box, *image.shape[:2])
    scale_m = params.phi.cube_m[bench.subject] / phi.cube
    sample = one_sample(image, box, bench, phi, params, scale_m)
    samples = evaluate.run(bench, evaluate.METHODS["Ours"], knobs, sample, seed)
    h_0 = samples.h_0[0, ~samples.diverged[0]]
    if not len(h_0):
        raise ValueError(
            f"all {knobs.hypotheses} hypotheses diverged at gamma = {knobs.gamma:g}; lower gamma"
        )
    camera = assumed_camera(*image.shape[:2])
    return place(h_0.mean(dim=0), h_0, bench, scale_m, box, camera)


def place(
    mesh: torch.Tensor, h_0: torch.Tensor, bench: evaluate.Bench, scale_m: float,
    box: np.ndarray, K: np.ndarray,
) -> Recovery:  # fmt: skip
    """The answer (V x 3) and the hypotheses (H x V x 3), coarse and normalised, as full meshes, of
    which the answer fills its box."""
    coarse = torch.cat([mesh[None], h_0])
    found_m = evaluate.full_mesh_mm(bench, coarse, scale_m).double().numpy() / 1000
    answer, hypotheses_m = found_m[0], found_m[1:]
    return Recovery(
        vertices_m=answer,
        hypotheses_m=hypotheses_m,
        spread_mm=1000 * spread(hypotheses_m),
        translation=fit_translation(answer, box, K),
        K=K,
        box=tuple(box.tolist()),
    )


def one_sample(
    image: np.ndarray,
    box: np.ndarray,
    bench: evaluate.Bench,
    phi: Phi,
    params: Params,
    scale_m: float,
) -> Split:
    """A split of one picture (H x W x 3, uint8), whose truth is unknown (zero, and no mesh)."""
    picture, _ = crops.crop(image, box, params.prepare.box_scale, params.phi.input_px)
    f_I, E_xy, E_z = infer(phi, torch.from_numpy(crops.normalise(picture))[None])
    U = PoseDistribution(E_xy, E_z, phi.cube)
    row = {"image": "picture", "dataset": "photo", "split": "photo", "person": "unknown"}
    return Split(
        index=pd.DataFrame([row]),
        f_I=f_I,
        heat=pooled(E_xy, E_z),
        u_mean=U.mean(),
        h_0=torch.zeros(1, bench.mesh.f.shape[1], 3),
        U=U,
        mesh=None,
        scale_m=scale_m,
    )
