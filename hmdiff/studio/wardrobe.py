"""What the capture studio's people wear.

A `Figure` is what never changes about a body model; an `Outfit` is one person's skin, hair and
clothes, and the paints of the props beside that person (`props`).
"""

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from ..body import PARTS, BodyModel
from .raycast import Solid, unit
from .scenery import CLOTH_TILES, THINGS
from .textures import Paints, colour, paint, paints, shade, to_linear

SKIN_TONES = to_linear(
    np.array([[0.96, 0.83, 0.74], [0.89, 0.70, 0.57], [0.76, 0.56, 0.41], [0.55, 0.37, 0.26],
              [0.33, 0.22, 0.16]])
)  # fmt: skip
HAIR_TONES = to_linear(
    np.array([[0.08, 0.07, 0.07], [0.2, 0.13, 0.09], [0.42, 0.27, 0.16], [0.8, 0.66, 0.42],
              [0.62, 0.6, 0.58], [0.55, 0.24, 0.12]])
)  # fmt: skip
ROWS = (*PARTS, "front", "print")  # an outfit's paints; then those of four props
PROP_ROWS = 4


@dataclass(frozen=True)
class Figure:
    """The constant side of a body model.

    Attributes:
        subject: "body" or "hand".
        faces: F x 3 int32; corners: V x F incidence; near: V x V, the mean over a vertex and those
            about it; parts: V, indices into PARTS.
        template: V x 3 rest vertices, metres; joints: 24 (hand: 16) x 3 rest joints.
        length: 11, the stature (hand: wrist to fingertips) in metres of the mean person, and what
            each beta adds to it.
    """

    subject: str
    faces: np.ndarray
    corners: sparse.csr_matrix
    near: sparse.csr_matrix
    parts: np.ndarray
    template: np.ndarray
    joints: np.ndarray
    length: np.ndarray


def figure(model: BodyModel) -> Figure:
    """Read the constants off a body model."""
    faces = model.faces.numpy().astype(np.int32)
    template = model.layer.v_template.numpy().astype(np.float64)
    V, F = len(template), len(faces)
    corners = sparse.csr_matrix(
        (np.ones(3 * F, np.float32), (faces.ravel(), np.repeat(np.arange(F), 3))), (V, F)
    )
    near = corners @ corners.T
    near = sparse.diags_array(1 / np.asarray(near.sum(axis=1)).ravel()) @ near
    joints = model.layer.J_regressor.numpy().astype(np.float64) @ template
    axis = 1 if model.subject == "body" else 0
    first, last = template[:, axis].argmin(), template[:, axis].argmax()
    shapes = model.layer.shapedirs.numpy()[[first, last], axis]
    length = np.append(np.ptp(template[:, axis]), shapes[1] - shapes[0])
    return Figure(model.subject, faces, corners, near.tocsr(), model.parts.numpy(),
                  template, joints, length)  # fmt: skip


def vertex_normals(figure: Figure, vertices: np.ndarray) -> np.ndarray:
    """Unit normals (V x 3) of posed vertices: the mean over the faces about, by area."""
    a, b, c = (vertices[figure.faces[:, k]] for k in range(3))
    return unit(figure.corners @ np.cross(b - a, c - a))


@dataclass(frozen=True)
class Outfit:
    """One person's surface.

    Attributes:
        row: V, the paint of each vertex; soft: V x M, how much each paint has of it; rough: V, how
            much cloth wrinkles.
        paints: rows for ROWS, then PROP_ROWS for props.
    """

    row: np.ndarray
    soft: np.ndarray
    rough: np.ndarray
    paints: Paints


def _cloth(rng: np.random.Generator, size: float) -> tuple:
    """A random cloth: dark and muted colours are the commoner ones."""
    a = colour(rng, grey=0.4, low=0.08, high=0.9)
    b = shade(rng, a, 0.3) if rng.random() < 0.4 else colour(rng, grey=0.4)
    return paint(CLOTH_TILES[rng.integers(len(CLOTH_TILES))], size * rng.uniform(0.6, 1.6), a, b)


def _skin_tone(rng: np.random.Generator) -> np.ndarray:
    where = rng.uniform(0, len(SKIN_TONES) - 1)
    low = int(where)
    mix = SKIN_TONES[low] + (where - low) * (SKIN_TONES[min(low + 1, 4)] - SKIN_TONES[low])
    return mix * rng.uniform(0.92, 1.08, 3)


def dress(figure: Figure, rng: np.random.Generator) -> Outfit:
    """Draw skin, hair, clothes and the lengths of sleeves and trousers."""
    skin = _skin_tone(rng)
    skin_row = paint("mottled", 0.12, 0.88 * skin, np.minimum(1.1 * skin, 1))
    hair = shade(rng, HAIR_TONES[rng.integers(len(HAIR_TONES))], 0.25)
    hair = colour(rng) if rng.random() < 0.07 else hair  # dyed, or a cap
    shirt, trousers = _cloth(rng, 0.35), _cloth(rng, 0.5)
    if rng.random() < 0.5:
        dark = colour(rng, grey=0.5, low=0.05, high=0.5)
        trousers = paint("denim", 0.4, 0.7 * dark, shade(rng, dark, 0.3))
    shoes = paint("plain", 0.2, *[shade(rng, colour(rng, grey=0.7), 0.2)] * 2)
    worn = {
        "skin": skin_row, "hair": paint("leaves", 0.1, 0.6 * hair, hair), "shirt": shirt,
        "trousers": trousers, "shoes": shoes,
        "forearm": shirt if rng.random() < 0.5 else skin_row,
        "shin": trousers if rng.random() < 0.75 else skin_row,
        "eyes": paint("plain", 0.1, [0.03, 0.02, 0.02], [0.06, 0.05, 0.05]),
        "lips": paint("plain", 0.1, skin * [0.8, 0.42, 0.4], skin * [0.85, 0.45, 0.45]),
        "front": _cloth(rng, 0.3), "print": _cloth(rng, 0.15),
    }  # fmt: skip
    things = []
    for _ in range(PROP_ROWS):
        a = colour(rng, grey=0.4)
        tile = THINGS[rng.integers(len(THINGS))]
        things.append(paint(tile, rng.uniform(0.1, 0.6), a, shade(rng, a, 0.8)))
    row = figure.parts.astype(np.int64)
    if figure.subject == "body":
        row = _cut(figure, row, rng)
    soft = figure.near @ (figure.near @ np.eye(len(ROWS), dtype=np.float32)[row])
    row = soft.argmax(1)
    cloth = np.isin(row, [ROWS.index(n) for n in ("shirt", "trousers", "front", "print")])
    cloth |= (row == ROWS.index("forearm")) & (worn["forearm"] is shirt)
    cloth |= (row == ROWS.index("shin")) & (worn["shin"] is trousers)
    rough = rng.uniform(0.06, 0.2) * cloth
    table = paints([worn[name] for name in ROWS] + things)
    return Outfit(row, soft, rough.astype(np.float32), table)


def _cut(figure: Figure, row: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Vary the cut: sleeveless, an open jacket, a print on the chest."""
    row, (x, y, z) = row.copy(), figure.template.T
    shirt, neck, belt = row == ROWS.index("shirt"), figure.joints[12, 1], figure.joints[3, 1]
    style = rng.random()
    if style < 0.12:
        row[shirt & (np.abs(x) > figure.joints[16, 0] + 0.02)] = ROWS.index("skin")
    elif style < 0.35:
        row[shirt & (np.abs(x) < rng.uniform(0.03, 0.07)) & (z > 0)] = ROWS.index("front")
    elif style < 0.5:
        chest = (np.abs(x) < rng.uniform(0.06, 0.12)) & (z > 0.03)
        row[shirt & chest & (y < neck - 0.1) & (y > belt + 0.1)] = ROWS.index("print")
    return row


def clothed(figure: Figure, outfit: Outfit, vertices: np.ndarray) -> Solid:
    """The person as a solid; `vertices` V x 3 in camera axes."""
    vertices = vertices.astype(np.float32)
    return Solid(
        vertices=vertices,
        normals=vertex_normals(figure, vertices),
        faces=figure.faces,
        uv=(figure.template[:, :2] * [1, -1]).astype(np.float32),
        row=outfit.row,
        rough=outfit.rough,
        open_sky=np.ones(len(vertices), np.float32),
    )
