"""Meshes as files: GLB, OBJ, PLY, STL and OFF through trimesh, and our own npz.

In memory a surface has the camera's axes (x right, y down, z forward), metres. Mesh files stand
upright where other programs open them: x right, y up, z towards the viewer. GLB is in metres by its
definition; of the others the unit is metres unless another was asked for.
"""

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import trimesh

from ..datasets.sample import broken, numbers, present
from ..files import write_file
from ..safe_pickle import load_npz
from ..viewer import paint

UPRIGHT = np.array([1.0, -1.0, -1.0])  # from camera axes to a file's, and back
PER_METRE = {"m": 1.0, "cm": 100.0, "mm": 1000.0, "in": 1 / 0.0254}
MESHES = (".glb", ".obj", ".ply", ".stl", ".off")
LARGEST_M = 20.0  # a larger one is not in metres


@dataclass(frozen=True)
class Surface:
    """A triangle mesh.

    Attributes:
        vertices_m: V x 3, camera axes.
        faces: F x 3.
        colour: V x 3, 0 to 1, or None.
        spread_mm: V, shown by `colour`, or None; mesh files are read without it.
    """

    vertices_m: np.ndarray
    faces: np.ndarray
    colour: np.ndarray | None = None
    spread_mm: np.ndarray | None = None


def scale_mm(spread_mm: np.ndarray) -> float:
    """The spread that the brightest colour stands for; the darkest is zero."""
    return max(float(np.percentile(spread_mm, 99)), 1e-3)


def painted(vertices_m: np.ndarray, faces: np.ndarray, spread_mm: np.ndarray) -> Surface:
    """A surface coloured by its uncertainty (viridis)."""
    colour = paint(spread_mm, 0.0, scale_mm(spread_mm))
    return Surface(vertices_m, faces, colour, spread_mm)


def write(path: Path, surface: Surface, unit: str = "m") -> None:
    """Write a mesh file; its ending is its format. PLY holds `spread_mm` as numbers too.

    Raises:
        ValueError: an unknown ending, or a GLB in another unit than metres.
    """
    ending = checked(path, MESHES)
    if ending == ".glb" and unit != "m":
        raise ValueError(f"{path}: a GLB is in metres by its definition; leave the unit at m")
    mesh = trimesh.Trimesh(
        surface.vertices_m * (UPRIGHT * PER_METRE[unit]), surface.faces, process=False
    )
    if surface.colour is not None:
        mesh.visual.vertex_colors = np.round(255 * surface.colour).astype(np.uint8)
    if surface.spread_mm is not None and ending == ".ply":
        mesh.vertex_attributes["spread_mm"] = surface.spread_mm.astype(np.float32)
    more = (
        {"header": f"unit: {unit}; x right, y up, z towards the viewer"} if ending == ".obj" else {}
    )
    write_file(path, mesh.export(file_type=ending[1:], **more))


def read(path: Path) -> Surface:
    """Read a mesh file in metres, or an npz that `hmdiff recover` wrote.

    Raises:
        FileNotFoundError, ValueError: one line that names the file, its fault and the remedy.
    """
    path = present(Path(path), "correct the path")
    if checked(path, (*MESHES, ".npz")) == ".npz":
        return read_npz(path)
    # From bytes: a mesh file that names other files gets none of them.
    content = io.BytesIO(path.read_bytes())
    try:
        mesh = trimesh.load_mesh(content, file_type=path.suffix.lower()[1:], process=False)
        vertices, faces = np.asarray(mesh.vertices, np.float64), np.asarray(mesh.faces)
        colour = None
        if mesh.visual.kind == "vertex":
            colour = np.asarray(mesh.visual.vertex_colors)[:, :3] / 255
    except Exception as error:  # trimesh's readers raise many kinds on damaged files
        raise broken(path, f"cannot be read as a mesh ({error})", "export it again") from None
    vertices = numbers(path, "vertices", vertices, (None, 3))
    return valid(path, Surface(vertices * UPRIGHT, faces, colour))


def read_npz(path: Path) -> Surface:
    """The surface of a `hypotheses.npz`."""
    try:
        file = load_npz(path, ("vertices_m", "faces", "spread_mm"))
        vertices, faces, spread_mm = (file[n] for n in ("vertices_m", "faces", "spread_mm"))
        faces = np.asarray(faces)
    except (ValueError, KeyError) as error:
        reason = str(error).strip("'\"")
        raise broken(
            path, f"not a recovered mesh ({reason})", "give the hypotheses.npz of `hmdiff recover`"
        ) from None
    vertices = numbers(path, "vertices_m", vertices, (None, 3))
    spread_mm = numbers(path, "spread_mm", spread_mm, (len(vertices),))
    valid(path, Surface(vertices, faces))
    return painted(vertices, faces, spread_mm)


def valid(path: Path, surface: Surface) -> Surface:
    """The surface, if it is one, in metres."""
    vertices, faces = surface.vertices_m, surface.faces
    inside = faces.ndim == 2 and faces.shape[1:] == (3,) and len(faces) > 0
    if not (
        inside and faces.dtype.kind in "iu" and 0 <= faces.min() <= faces.max() < len(vertices)
    ):
        raise broken(path, "its faces are no triangles of its vertices", "export it again")
    if np.ptp(vertices, axis=0).max() == 0:
        raise broken(path, "all its vertices are one point", "export it again")
    if np.ptp(vertices, axis=0).max() > LARGEST_M:
        raise broken(path, f"over {LARGEST_M:g} m large", "give a mesh in metres")
    return surface


def checked(path: Path, endings: tuple[str, ...]) -> str:
    """The path's ending in small letters, if it is one of `endings`."""
    ending = path.suffix.lower()
    if ending not in endings:
        raise broken(path, f"unknown format {ending or '(no ending)'}", f"use {' '.join(endings)}")
    return ending
