"""Figures made of pictures: the paper's Fig. 2, and a photograph with its mesh and uncertainty."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.patches import Rectangle

from ..body import BodyModel
from ..evaluate import METHODS, Bench, Knobs, full_mesh_mm, measure, run
from ..params import Params
from ..recovery.photo import Recovery, fit_translation
from ..splits import Split
from ..viewer import dress, fit_view, overlay, paint, side_view
from .canvas import OKABE_ITO, STYLE, figure, save, show
from .labels import labels


@dataclass(frozen=True)
class Row:
    """One image of Fig. 2: the picture, the predicted mesh in its camera, and what it missed by.

    `vertices_m` is root-relative, `colour` V_full x 3; `error_mm` is the MPVE, `label` says which
    image this is.
    """

    image: np.ndarray
    vertices_m: np.ndarray
    faces: np.ndarray
    colour: np.ndarray
    K: np.ndarray
    translation: np.ndarray
    error_mm: float
    label: str


def pick_rows(
    bench: Bench,
    split: Split,
    knobs: Knobs,
    model: BodyModel,
    errors_mm: np.ndarray,
    read_image: Callable[[str], np.ndarray],
    quantiles: Sequence[float] = (0.1, 0.5, 0.9, 0.98),
) -> list[Row]:
    """Rows of Fig. 2 that nobody hand-picked: the images at quantiles of the error of Ours.

    Args:
        errors_mm: MPVE of each of the split's images, for the choice.
        read_image: a function from an index' image path to H x W x 3, uint8.
    """
    order = np.argsort(np.nan_to_num(errors_mm, nan=np.inf), kind="stable")
    places = order[np.round(np.array(quantiles) * (len(order) - 1)).astype(int)]
    chosen = split.take(places)
    h_0 = run(bench, METHODS["Ours"], knobs, chosen, bench.seed).h_0.mean(dim=1)
    error = measure(bench, h_0, chosen)["MPVE"]
    meshes = full_mesh_mm(bench, h_0, chosen.scale_m).double().numpy() / 1000
    rows, faces, colour = [], model.faces.numpy(), dress(model.parts.numpy())
    for i, (_, place) in enumerate(chosen.index.iterrows()):
        K = np.array([[place.fx, 0, place.cx], [0, place.fy, place.cy], [0, 0, 1.0]])
        box = place[["box_x", "box_y", "box_w", "box_h"]].to_numpy(np.float64)
        t = fit_translation(meshes[i], box, K)
        label = f"{bench.subject}, {100 * quantiles[i]:.0f}th percentile"
        image = read_image(place.image)
        rows.append(Row(image, meshes[i], faces, colour, K, t, float(error[i]), label))
    return rows


def figure2(rows: Sequence[Row], params: Params, out: Path) -> str:
    """Fig. 2: input, overlay, side view, for good and difficult images."""
    with rc_context(STYLE):
        made, axes = figure(3, len(rows), 6.6, 2.15 * len(rows) + 0.6)
        for line, row in zip(axes, rows, strict=True):
            placed = row.vertices_m + row.translation
            show(line[0], row.image)
            show(line[1], overlay(row.image, placed, row.faces, row.K, row.colour))
            show(line[2], side_view(row.vertices_m, row.faces, colour=row.colour))
            line[0].set_ylabel(f"{row.label}\nMPVE {row.error_mm:.0f} mm", fontsize=9)
        for ax, title in zip(axes[0], ("input", "overlay", "from the side"), strict=True):
            ax.set_title(title)
        errors = [row.error_mm for row in rows]
        finding = (
            f"From easy to hard, Ours misses the vertices by {min(errors):.0f} to "
            f"{max(errors):.0f} mm ({labels(params).pictures} test images)"
        )
        return save(made, finding, out)


def photo_figure(
    image: np.ndarray, found: Recovery, model: BodyModel, params: Params, out: Path
) -> str:
    """A picture (H x W x 3, uint8) with its box, the mesh over it, its side, and its spread."""
    high = max(float(np.percentile(found.spread_mm, 99)), 1e-3)
    faces, colour = model.faces.numpy(), dress(model.parts.numpy())
    spread = paint(found.spread_mm, 0.0, high)
    placed = found.vertices_m + found.translation
    with rc_context(STYLE):
        made, axes = figure(4, 1, 11.5, 3.5)
        for ax, picture, title in zip(
            axes[0],
            (
                image,
                overlay(image, placed, faces, found.K, colour),
                side_view(found.vertices_m, faces, 320, colour),
                fit_view(found.vertices_m, 320).draw(found.vertices_m, faces, spread),
            ),
            (
                "image and box",
                "overlay",
                "from the side",
                "spread (to its 99th percentile)",
            ),
            strict=True,
        ):
            show(ax, picture)
            ax.set_title(title)
        x, y, w, h = found.box
        frame = Rectangle((x, y), w, h, fill=False, edgecolor=OKABE_ITO[4], linewidth=2)
        axes[0, 0].add_patch(frame)
        values = ScalarMappable(Normalize(0.0, high), "viridis")
        made.colorbar(values, ax=axes[0, 3], shrink=0.7, label="spread, mm")
        finding = (
            f"{labels(params).photograph}: {len(found.hypotheses_m)} hypotheses of Ours "
            f"spread by {np.median(found.spread_mm):.0f} mm in the median vertex, "
            f"up to {found.spread_mm.max():.0f} mm"
        )
        return save(made, finding, out)
