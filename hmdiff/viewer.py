"""Meshes as pictures (Embree ray casting) and as interactive plots (plotly).

`shade` renders one plain mesh through a pinhole camera K; `View` is a portrait camera that needs no
K: far away, looking along z with y down, fitted to a chosen extent. Nothing here opens a window or
asks a network for anything.

Notation: V vertices, F faces; camera axes x right, y down, z forward; the corner of the first pixel
is at (0, 0).
"""

from dataclasses import dataclass, field

import numpy as np
import plotly.graph_objects as go
from embreex.mesh_construction import TriangleMesh
from embreex.rtcore_scene import EmbreeScene
from matplotlib import colormaps

from .body import PARTS
from .pinhole import project

CLAY = (0.53, 0.70, 0.84)
# A body is shown dressed, in quiet colours; parts that are not named here look like skin.
_SKIN, _SHIRT, _TROUSERS = (0.87, 0.74, 0.64), (0.45, 0.66, 0.83), (0.35, 0.42, 0.52)
OUTFIT = {
    "hair": (0.36, 0.29, 0.25), "shirt": _SHIRT, "forearm": _SHIRT, "trousers": _TROUSERS,
    "shin": _TROUSERS, "shoes": (0.27, 0.25, 0.25), "eyes": (0.3, 0.3, 0.3),
    "lips": (0.75, 0.5, 0.46),
}  # fmt: skip
LIGHT = np.array([-0.45, -0.65, -0.62])  # towards the lamp: up, left, behind the camera
PORTRAIT_DISTANCE = 8.0  # of the camera from the origin, in extents
GROUND = "#f4f4f2"


def vertex_normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Unit normals (V x 3): the mean of the faces about a vertex, weighted by their areas."""
    a, b, c = (vertices[faces[:, i]] for i in range(3))
    normal = np.cross(b - a, c - a)
    total = np.zeros_like(vertices)
    for i in range(3):
        np.add.at(total, faces[:, i], normal)
    return total / np.maximum(np.linalg.norm(total, axis=1, keepdims=True), 1e-12)


def shade(
    vertices: np.ndarray,
    faces: np.ndarray,
    K: np.ndarray,
    size: tuple[int, int],
    colour: np.ndarray | tuple[float, float, float] = CLAY,
    samples: int = 2,
) -> np.ndarray:
    """Render a mesh with smooth normals and one lamp.

    Args:
        vertices: V x 3, camera axes, any unit; what lies behind the camera is not seen.
        faces: F x 3.
        K: 3 x 3, pixels.
        size: height, width of the picture, pixels.
        colour: one colour or V x 3 of them, 0 to 1.
        samples: rays a pixel along each side.

    Returns:
        height x width x 4, uint8; alpha is the share of a pixel that the mesh covers.
    """
    vertices, faces = np.asarray(vertices, np.float64), np.asarray(faces)
    picture = np.zeros((*size, 4), np.uint8)
    front = vertices[vertices[:, 2] > 1e-6]
    if not len(front) or not np.isfinite(vertices).all():
        return picture
    place = project(front, K)
    top = np.array([size[1], size[0]])
    low = np.clip(np.floor(place.min(0)).astype(int), 0, top)
    high = np.clip(np.ceil(place.max(0)).astype(int), 0, top)
    if (high <= low).any():
        return picture
    offset = (np.arange(samples) + 0.5) / samples
    u, v = (np.arange(a, b)[:, None] + offset for a, b in zip(low, high, strict=True))
    v, u = np.meshgrid(v.ravel(), u.ravel(), indexing="ij")
    pixels = np.stack([u, v, np.ones_like(u)], axis=-1).reshape(-1, 3)
    rays = (pixels @ np.linalg.inv(K).T).astype(np.float32)
    rgba = _cast(vertices, faces, rays, np.broadcast_to(colour, vertices.shape))
    height, width = high[1] - low[1], high[0] - low[0]
    rgba = rgba.reshape(height, samples, width, samples, 4).mean(axis=(1, 3))
    rgba[..., :3] /= np.maximum(rgba[..., 3:], 1e-6)  # colours were weighted by coverage
    picture[low[1] : high[1], low[0] : high[0]] = np.round(255 * rgba.clip(0, 1))
    return picture


def _cast(
    vertices: np.ndarray, faces: np.ndarray, rays: np.ndarray, colour: np.ndarray
) -> np.ndarray:
    """What each ray (n x 3, from the origin) sees: n x 4, all zero where it misses."""
    scene = EmbreeScene()
    TriangleMesh(scene, vertices[faces].astype(np.float32))
    hit = scene.run(np.zeros_like(rays), rays, output=True)
    seen = np.flatnonzero(hit["primID"] >= 0)
    corners = faces[hit["primID"][seen]]
    b, c = hit["u"][seen], hit["v"][seen]
    weights = np.stack([1 - b - c, b, c], axis=1)[..., None]
    normal = (vertex_normals(vertices, faces)[corners] * weights).sum(1)
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-12)
    view = rays[seen] / np.linalg.norm(rays[seen], axis=1, keepdims=True)
    facing = -(normal * view).sum(1)
    normal *= np.sign(facing)[:, None]  # both sides of an open mesh are lit
    lamp = np.maximum(normal @ (LIGHT / np.linalg.norm(LIGHT)), 0)
    light = 0.28 + 0.24 * np.abs(facing) + 0.60 * lamp
    result = np.zeros((len(rays), 4))
    result[seen, :3] = ((colour[corners] * weights).sum(1) * light[:, None]).clip(0, 1)
    result[seen, 3] = 1.0
    return result


def dress(parts: np.ndarray) -> np.ndarray:
    """The colour (V x 3) of each vertex of a body whose parts (V,) index body.PARTS."""
    return np.array([OUTFIT.get(name, _SKIN) for name in PARTS])[np.asarray(parts)]


def over(picture: np.ndarray, below: np.ndarray, opacity: float = 1.0) -> np.ndarray:
    """Lay a rendered picture (H x W x 4) over an image (H x W x 3, uint8): H x W x 3, uint8."""
    alpha = picture[..., 3:].astype(np.float64) / 255 * opacity
    return np.round(alpha * picture[..., :3] + (1 - alpha) * below).astype(np.uint8)


def paint(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Values (V,) as viridis colours (V x 3): dark at `low`, bright at `high`."""
    return colormaps["viridis"]((values - low) / max(high - low, 1e-12))[:, :3]


@dataclass(frozen=True)
class View:
    """A portrait camera: from afar, along z, y down, after a turn about the vertical axis.

    Attributes:
        extent: half the side of the square that the picture shows, in the mesh's unit.
        px: side of the picture.
        turn_deg: 0 sees what the camera sees, 90 sees it from the picture's right (z goes right).
        centre: the point in the middle of the picture, and the pivot of the turn.
    """

    extent: float
    px: int = 256
    turn_deg: float = 0.0
    centre: np.ndarray = field(default_factory=lambda: np.zeros(3))

    @property
    def K(self) -> np.ndarray:
        """3 x 3: `extent` at the centre's distance spans half the picture."""
        focal, middle = PORTRAIT_DISTANCE * self.px / 2, self.px / 2
        return np.array([[focal, 0, middle], [0, focal, middle], [0, 0, 1]])

    def see(self, vertices: np.ndarray) -> np.ndarray:
        """Mesh coordinates (... x 3) to this camera's, in extents."""
        cos, sin = np.cos(np.radians(self.turn_deg)), np.sin(np.radians(self.turn_deg))
        turn = np.array([[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]])
        moved = (np.asarray(vertices, np.float64) - self.centre) / self.extent
        return moved @ turn.T + [0, 0, PORTRAIT_DISTANCE]

    def project(self, vertices: np.ndarray) -> np.ndarray:
        """Mesh coordinates (... x 3) to pixels of the picture (... x 2)."""
        return project(self.see(vertices), self.K)

    def draw(self, vertices: np.ndarray, faces: np.ndarray, colour=CLAY) -> np.ndarray:
        """The mesh on a light ground, px x px x 3, uint8."""
        ground = np.full((self.px, self.px, 3), 244, np.uint8)
        picture = shade(self.see(vertices), faces, self.K, (self.px, self.px), colour)
        return over(picture, ground)


def fit_view(vertices: np.ndarray, px: int = 256, turn_deg: float = 0.0) -> View:
    """A view that holds all vertices (... x 3), whichever way they are turned."""
    points = np.asarray(vertices, np.float64).reshape(-1, 3)
    low, high = points.min(0), points.max(0)
    centre = (low + high) / 2
    reach = np.hypot(points[:, 0] - centre[0], points[:, 2] - centre[2]).max()
    return View(1.12 * max(reach, (high[1] - low[1]) / 2), px, turn_deg, centre)


def overlay(
    image: np.ndarray,
    vertices_m: np.ndarray,
    faces: np.ndarray,
    K: np.ndarray,
    colour=CLAY,
    samples: int = 2,
) -> np.ndarray:
    """A mesh (V x 3, m, in the camera: translation added) over its image (H x W x 3, uint8);
    `samples` as in `shade`."""
    drawn = shade(vertices_m, faces, K, image.shape[:2], colour, samples)
    return over(drawn, image, opacity=0.92)


def side_view(vertices: np.ndarray, faces: np.ndarray, px: int = 256, colour=CLAY) -> np.ndarray:
    """The mesh (V x 3, camera axes) as seen from the side: px x px x 3, uint8."""
    return fit_view(vertices, px, turn_deg=90).draw(vertices, faces, colour)


def mesh3d(
    vertices: np.ndarray,
    faces: np.ndarray,
    colour: str = "#88b3d6",
    intensity: np.ndarray | None = None,
    unit: str = "mm",
) -> go.Figure:
    """An interactive mesh (V x 3), in one colour or by `intensity` (V,), whose unit is `unit`."""
    figure = go.Figure(_trace(vertices, faces, colour, intensity, unit))
    return figure.update_layout(**_layout(np.abs(vertices).max()))


def noise_to_mesh(frames: np.ndarray, faces: np.ndarray, ks: list[int]) -> go.Figure:
    """A slider and a play button over the meshes of a reverse process.

    Args:
        frames: steps x V x 3, normalised; the mesh at each step of `ks`.
        faces: F x 3, of the coarse mesh: few triangles keep the page small.
    """
    frames = np.asarray(frames, np.float32)
    if len(frames) != len(ks):
        raise ValueError(f"{len(frames)} frames for {len(ks)} steps: give one mesh for each step")
    names = [str(k) for k in ks]
    # Every frame repeats the vertices alone; faces and looks come from the first trace.
    moved = [dict(zip("xyz", mesh.T, strict=True)) for mesh in frames]
    steps = [
        go.Frame(name=name, data=[go.Mesh3d(**xyz)], traces=[0])
        for name, xyz in zip(names, moved, strict=True)
    ]
    figure = go.Figure(_trace(frames[0], faces, "#88b3d6", None, ""), frames=steps)
    timing = {"frame": {"duration": 250, "redraw": True}, "transition": {"duration": 0}}
    still = {**timing, "mode": "immediate"}
    slider = {
        "steps": [{"label": n, "method": "animate", "args": [[n], still]} for n in names],
        "currentvalue": {"prefix": "step k = "},
        "pad": {"t": 10, "b": 30},  # the labels hang below the slider
    }
    play = {"label": "▶ play", "method": "animate", "args": [None, {**timing, "fromcurrent": True}]}
    stop = {"label": "❚❚ pause", "method": "animate", "args": [[None], still]}
    buttons = {"type": "buttons", "direction": "left", "buttons": [play, stop]}
    buttons |= {"x": 0, "xanchor": "left", "y": 1.08}  # beyond the left edge they would push it
    reach = np.percentile(np.abs(frames), 99.5)
    return figure.update_layout(sliders=[slider], updatemenus=[buttons], **_layout(reach))


def _trace(vertices, faces, colour, intensity, unit) -> go.Mesh3d:
    """One lit mesh; coordinates in single precision, which plotly stores compactly."""
    x, y, z = np.asarray(vertices, np.float32).T
    i, j, k = np.asarray(faces, np.int32).T
    look: dict = {"color": colour}
    if intensity is not None:
        bar = {"title": {"text": unit}, "thickness": 12}
        look = {"intensity": np.asarray(intensity, np.float32), "colorscale": "Viridis"}
        look["colorbar"] = bar
    light = {"ambient": 0.45, "diffuse": 0.75, "specular": 0.08, "roughness": 0.9}
    lamp = {"x": -1000, "y": -2000, "z": -2500}
    return go.Mesh3d(
        x=x, y=y, z=z, i=i, j=j, k=k, lighting=light, lightposition=lamp, hoverinfo="skip", **look
    )


def _layout(reach: float) -> dict:
    """An orthographic camera along z with y down, and axes that stay as they are."""
    axis = {"range": [-reach, reach], "visible": False}
    camera = {
        "eye": {"x": 0.0, "y": 0.0, "z": -2.0},
        "up": {"x": 0, "y": -1, "z": 0},
        "projection": {"type": "orthographic"},
    }
    scene = {"xaxis": axis, "yaxis": axis, "zaxis": axis, "camera": camera}
    # A cube that fills the height would be cut off at the sides on a telephone.
    scene |= {"aspectmode": "manual", "aspectratio": dict.fromkeys("xyz", 1.25)}
    margin = {"l": 0, "r": 0, "t": 30, "b": 0}
    return {"scene": scene, "margin": margin, "height": 520, "paper_bgcolor": GROUND}
