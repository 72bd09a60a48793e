"""What `hmdiff recover` leaves of one person or hand: a folder of pictures, meshes and numbers.

    index.html                     the page to look at first (page.py)
    overlay.png                    the mesh over the picture, at its resolution
    side.png, top.png              the mesh from its left and from above, coloured by uncertainty
    mesh.glb, mesh.obj, mesh.ply   the mesh, coloured by uncertainty, metres, root at the origin
    hypotheses.npz                 all hypotheses, camera axes, and what the pictures were made of
    joints.json                    joints: names, metres, pixels, spread; camera and settings

The folder gets its name once it is whole. It takes the place of an earlier one of the same picture,
box and subject only, and keeps what else a user has put in there.
"""

import io
import json
import shutil
from pathlib import Path

import numpy as np
from PIL import Image

from .. import viewer
from ..datasets.sample import read_json
from ..files import new_folder, write_file
from ..pinhole import project
from ..viewer import PORTRAIT_DISTANCE, View, dress
from . import page, surfaces
from .api import Answer

FILES = {
    "index.html", "overlay.png", "side.png", "top.png", "mesh.glb", "mesh.obj", "mesh.ply",
    "hypotheses.npz", "joints.json",
}  # fmt: skip
SAME = ("picture", "width_px", "height_px", "subject", "box_px")  # what an answer is of
VIEW_PX = 640
PIXELS_AT_ONCE = 1_000_000  # of an overlay: half a gigabyte of rays
FROM_ABOVE = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])  # (x, y, z) to (x, -z, y)


def deliver(answer: Answer, name: str, box_given: bool, out: Path) -> None:
    """Make the folder `out` of an answer.

    Args:
        name: of the picture, for people.
        box_given: whether the box was, or is the whole picture.

    Raises:
        ValueError: there is something else at `out` already.
    """
    facts = describe(answer, name, box_given)
    kept = others(out, facts)
    with new_folder(out) as part:
        found, faces = answer.found, answer.model.faces.numpy()
        surface = surfaces.painted(found.vertices_m, faces, answer.spread_mm)
        pictures = draw(answer, surface)
        for stem, picture in pictures.items():
            write_file(part / f"{stem}.png", png(picture))
        for ending in ("glb", "obj", "ply"):
            surfaces.write(part / f"mesh.{ending}", surface)
        write_hypotheses(answer, faces, part / "hypotheses.npz")
        write_file(part / "joints.json", json.dumps(facts, indent=1) + "\n")
        write_file(part / "index.html", page.make(facts, surface, pictures))
        for path in kept:
            copy = shutil.copytree if path.is_dir() else shutil.copy2
            copy(path, part / path.name)


def others(out: Path, facts: dict) -> list[Path]:
    """What else lies in the folder of an earlier delivery of the same; ValueError where there is
    anything but that."""
    if not out.is_symlink() and (not out.exists() or (out.is_dir() and not any(out.iterdir()))):
        return []
    try:
        earlier = read_json(out / "joints.json", dict)
        same = all(earlier[key] == facts[key] for key in SAME)
    except (OSError, ValueError, KeyError):
        earlier = None
    if earlier is None or out.is_symlink():
        raise ValueError(f"{out}: holds other files; choose another output folder with -o")
    if not same:
        raise ValueError(
            f"{out}: holds the result of another picture, box or subject; choose another output "
            "folder with -o"
        )
    return [path for path in out.iterdir() if path.name not in FILES]


def draw(answer: Answer, surface: surfaces.Surface) -> dict[str, np.ndarray]:
    """The pictures of an answer, each height x width x 3, uint8."""
    vertices, faces, colour = surface.vertices_m, surface.faces, surface.colour
    return {
        "overlay": overlay(answer),
        "side": viewer.side_view(vertices, faces, VIEW_PX, colour),
        "top": top_view(vertices, faces, VIEW_PX, colour),
    }


def top_view(vertices: np.ndarray, faces: np.ndarray, px: int, colour: np.ndarray) -> np.ndarray:
    """The mesh (V x 3, camera axes) from above, the camera at the bottom: px x px x 3, uint8."""
    turned = vertices @ FROM_ABOVE.T
    low, high = turned.min(axis=0), turned.max(axis=0)
    half = (high - low) / 2
    extent = half[:2].max() + half[2] / PORTRAIT_DISTANCE  # what is nearer looks larger
    view = View(1.12 * extent, px, centre=(low + high) / 2)
    return view.draw(turned, faces, colour)


def overlay(answer: Answer) -> np.ndarray:
    """The dressed mesh over the whole picture, strip by strip, so that a large one fits memory."""
    picture, found, model = answer.picture, answer.found, answer.model
    height, width = picture.shape[:2]
    placed, colour = found.vertices_m + found.translation, dress(model.parts.numpy())
    samples = 2 if height * width <= PIXELS_AT_ONCE else 1  # rays a pixel, along each side
    rows, strips = max(1, PIXELS_AT_ONCE // width), []
    for top in range(0, height, rows):
        below = picture[top : top + rows]
        K = found.K - np.array([[0, 0, 0], [0, 0, top], [0, 0, 0]])
        strips.append(viewer.overlay(below, placed, model.faces.numpy(), K, colour, samples))
    return np.concatenate(strips)


def png(picture: np.ndarray) -> bytes:
    """A picture (H x W x 3, uint8) as a PNG file."""
    return page.encoded(Image.fromarray(picture), "png")


def write_hypotheses(answer: Answer, faces: np.ndarray, path: Path) -> None:
    """All hypotheses and the mesh, root-relative, camera axes; the root lies at translation_m."""
    found = answer.found
    data = io.BytesIO()
    np.savez_compressed(
        data,
        hypotheses_m=found.hypotheses_m.astype(np.float32),
        vertices_m=found.vertices_m.astype(np.float32),
        spread_mm=answer.spread_mm.astype(np.float32),
        faces=faces.astype(np.int32),
        joints_m=answer.joints_m.astype(np.float32),
        translation_m=found.translation,
        K=found.K,
        box=np.array(found.box),
    )
    write_file(path, data.getvalue())


def describe(answer: Answer, name: str, box_given: bool) -> dict:
    """What joints.json says."""
    found, (height, width) = answer.found, answer.picture.shape[:2]
    joints, pixels = answer.joints_m, project(answer.joints_m + found.translation, found.K)
    return {
        "picture": name,
        "width_px": width,
        "height_px": height,
        "subject": answer.model.subject,
        "box_px": list(found.box),
        "box_given": box_given,
        "warning": page.WARNING,
        "focal_length_px": round(found.K[0, 0], 2),
        "focal_length_assumed": True,
        "principal_point_px": found.K[:2, 2].round(2).tolist(),
        "axes": "x right, y down, z forward; joints are relative to the root joint",
        "mesh_axes": "of GLB, OBJ and PLY: x right, y up, z towards the viewer; metres",
        "root_m": found.translation.round(4).tolist(),
        "hypotheses": len(found.hypotheses_m),
        "seed": answer.seed,
        "spread_median_mm": round(float(np.median(answer.spread_mm)), 1),
        "spread_brightest_mm": round(surfaces.scale_mm(answer.spread_mm), 1),
        "joints": [
            {
                "name": joint,
                "position_m": position.round(4).tolist(),
                "pixel": pixel.round(1).tolist(),
                "spread_mm": round(float(spread), 1),
            }
            for joint, position, pixel, spread in zip(
                answer.joint_names, joints, pixels, answer.joint_spread_mm, strict=True
            )
        ],
    }
