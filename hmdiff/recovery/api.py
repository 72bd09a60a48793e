"""`hmdiff.recover`: a picture in, a mesh with an honest uncertainty out, nothing to train.

    import hmdiff
    answer = hmdiff.recover("photo.jpg", box=(20, 0, 400, 512))
    answer.found.vertices_m, answer.spread_mm, answer.joints_m

The system is Ours+ (closed_form.py, by its fast path) of a released run (bundle.py): the spread of
its hypotheses is fitted to the error of the mesh. That holds for images like those that trained
it, which were rendered; on photographs both are worse than they look.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

import numpy as np
from PIL import Image

from ..body import JOINT_NAMES, BodyModel
from ..fast import sample_plus
from ..hypotheses import spread
from ..params import Subject
from .bundle import RELEASED, Bundle, load
from .photo import Recovery, as_rgb, assumed_camera, check_box, one_sample, place
from .pictures import as_8_bit, read

MOST_SAMPLES = 1000  # hypotheses of a body take 0.2 MB each


@dataclass(frozen=True)
class Answer:
    """One person or hand of one picture.

    Attributes:
        picture: H x W x 3, uint8.
        found: the mesh, its hypotheses, its place; see `photo.Recovery`.
        model: the body or hand model, for faces, parts and joints.
        seed: of the hypotheses.
    """

    picture: np.ndarray
    found: Recovery
    model: BodyModel
    seed: int

    @property
    def spread_mm(self) -> np.ndarray:
        """V_full: how far the truth lies from each vertex, RMS, if the spread is honest."""
        return self.found.spread_mm

    @property
    def joint_names(self) -> tuple[str, ...]:
        return JOINT_NAMES[self.model.subject]

    @property
    def joints_m(self) -> np.ndarray:
        """J x 3, root-relative, camera axes."""
        return self._regressor @ self.found.vertices_m

    @property
    def joint_spread_mm(self) -> np.ndarray:
        """J, as `spread_mm`."""
        return 1000 * spread(self._regressor @ self.found.hypotheses_m)

    @property
    def _regressor(self) -> np.ndarray:
        return self.model.joint_regressor.double().numpy()


def recover(
    image: str | Path | Image.Image | np.ndarray,
    box: tuple[float, float, float, float] | None = None,
    subject: Subject = "body",
    samples: int = 25,
    seed: int = 0,
    weights: str | Path = RELEASED,
) -> Answer:
    """Recover a person or a hand from a picture.

    Args:
        image: a picture file, a picture that Pillow has opened, or H x W (x 1, 3 or 4), uint8.
        box: x, y, width, height around the whole person or right hand, pixels of the upright
            picture; None: the whole picture.
        samples: hypotheses, at least 2.
        weights: a folder of released weights.

    Raises:
        FileNotFoundError, ValueError: one line; picture, box or weights are unusable.
    """
    if subject not in get_args(Subject):
        raise ValueError(f"subject {subject!r}: give one of {', '.join(get_args(Subject))}")
    if isinstance(image, Image.Image):
        picture = as_8_bit(image)
    else:
        picture = read(image) if isinstance(image, (str, Path)) else as_rgb(np.asarray(image))
    return answer(picture, box, load(weights, subject), samples, seed)


def answer(
    picture: np.ndarray,
    box: tuple[float, float, float, float] | None,
    bundle: Bundle,
    samples: int = 25,
    seed: int = 0,
) -> Answer:
    """As `recover`, of a picture (H x W x 3, uint8) that is read, by a system that is loaded."""
    if not 2 <= samples <= MOST_SAMPLES:
        raise ValueError(f"{samples} samples: give 2 to {MOST_SAMPLES}")
    height, width = picture.shape[:2]
    box = check_box((0, 0, width, height) if box is None else box, height, width)
    bench, knobs = bundle.bench, replace(bundle.knobs, hypotheses=samples)
    scale_m = bench.params.phi.cube_m[bench.subject] / bundle.phi.cube
    one = one_sample(picture, box, bench, bundle.phi, bench.params, scale_m)
    h_0 = sample_plus(bench, knobs, one, bundle.gains, seed)[0]
    with_mean = replace(bundle.gains, width=0.0)  # as `closed_form.predict_plus`
    mesh = sample_plus(bench, bundle.knobs, one, with_mean, seed)[0].mean(dim=0)
    if not (h_0.isfinite().all() and mesh.isfinite().all()):
        raise ValueError("the recovered mesh is not finite; the weights are damaged")
    found = place(mesh, h_0, bench, scale_m, box, assumed_camera(height, width))
    return Answer(picture, found, bundle.model, seed)
