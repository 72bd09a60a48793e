"""The look of the study's figures, and how one is saved.

Colours are Okabe and Ito's, told apart by line style and marker too; values on a mesh are viridis.
A saved figure carries its finding as title and as text for the reports' index. The same data gives
the same bytes.
"""

import io
import textwrap
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter
from PIL import Image, PngImagePlugin

from ..files import write_file

OKABE_ITO = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
LINES, MARKERS = ("-", "--", "-.", ":"), ("o", "s", "^", "D", "v", "P", "X")
# A system looks alike in every figure; two share a look where no figure has both.
OWN_LOOK = {"Ours": 0, "Image Feature": 1, "Pose Feature": 2, "Both Features": 3, "Baseline A": 4}
OWN_LOOK |= {"Baseline B": 5, "Ours+": 6, "Ours w/ H_U": 4, "Direct L2": 5}
STYLE = {
    "axes.grid": True, "grid.alpha": 0.25, "axes.spines.top": False, "axes.spines.right": False,
    "axes.titlelocation": "left", "axes.titlesize": 11, "font.size": 10, "legend.frameon": False,
    "lines.linewidth": 1.8, "lines.markersize": 5, "figure.titlesize": 12,
}  # fmt: skip
LIMIT_BYTES = 400_000


def figure(columns: int, rows: int, width: float, height: float) -> tuple[Figure, np.ndarray]:
    """A figure of rows x columns axes, inches; no global state."""
    made = Figure(figsize=(width, height), layout="constrained")
    return made, made.subplots(rows, columns, squeeze=False)


def look(label: str, i: int = 0) -> dict:
    """Colour, line and marker of a system's curve; of any other the i-th."""
    i = OWN_LOOK.get(label, i)
    return {"color": OKABE_ITO[i % 7], "linestyle": LINES[i % 4], "marker": MARKERS[i % 7]}


def log_scale(ax: Axes) -> None:
    """A logarithmic axis of ordinates whose ticks are plain numbers."""
    ax.set_yscale("log")
    ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    ax.yaxis.set_minor_formatter(NullFormatter())


def save(made: Figure, finding: str, out: Path) -> str:
    """Put the finding above a figure and write it, atomically; returns the finding.

    A file over LIMIT_BYTES is written with 256 colours, and then with fewer and fewer pixels.
    """
    made.suptitle(textwrap.fill(finding, int(made.get_size_inches()[0] * 11)), x=0.01, ha="left")
    note = PngImagePlugin.PngInfo()
    note.add_text("Title", finding)
    for dpi in (120, 100, 80, 60):
        raw = io.BytesIO()
        made.savefig(raw, format="png", dpi=dpi, facecolor="white", metadata={"Software": None})
        picture = Image.open(raw).convert("RGB")
        for image in (picture, picture.quantize(256)):
            data = io.BytesIO()
            image.save(data, "png", optimize=True, pnginfo=note)
            if data.tell() <= LIMIT_BYTES:
                break
        else:
            continue
        break
    write_file(out, data.getvalue())
    return finding


def show(ax: Axes, picture: np.ndarray) -> None:
    """A picture without ticks; as in pinhole.py, the corner of its first pixel is at (0, 0)."""
    height, width = picture.shape[:2]
    ax.imshow(picture, extent=(0, width, height, 0))
    ax.set(xticks=[], yticks=[])
    ax.grid(False)
    ax.spines[:].set_visible(False)
