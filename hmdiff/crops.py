"""From an image and a person's box to the square crop that phi_I sees (Sec. 4.3), and augmentation.

Pixel coordinates have the corner of the first pixel at (0, 0), so that an image's middle is half
its width and height. A crop is one affine map of the image: the box's longer side times `scale`
becomes `out_px` pixels. The recipe (box x1.2, ImageNet mean and spread, rotation, scale, colour,
flip) is the one that the METRO family trains with.

Two approximations, both usual. A crop's centre is rarely the optical axis, yet its joints stay in
camera axes. A rotated crop turns the joints about the camera's z axis, which is exact only for a
person on the optical axis; off it, a camera that turns about its line of sight to the person would
see the same picture, and the two axes differ by the angle between them.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from .image_bytes import FORMATS, open_picture

MEAN = np.array([0.485, 0.456, 0.406], dtype=np.float32)  # ImageNet, RGB
SPREAD = np.array([0.229, 0.224, 0.225], dtype=np.float32)

# The SMPL joint that takes each joint's place in a mirror.
MIRROR = np.array(
    [0, 2, 1, 3, 5, 4, 6, 8, 7, 9, 11, 10, 12, 14, 13, 15, 17, 16, 19, 18, 21, 20, 23, 22]
)

ROTATION_SIGMA_DEG, ROTATION_SHARE = 30.0, 0.4
SCALE_SPREAD, COLOUR_SPREAD = 0.25, 0.4


@dataclass(frozen=True)
class Augmentation:
    """One draw: rotation (degrees, clockwise in the image), factor on the box's scale, factor on
    each colour channel, and whether the crop is mirrored."""

    rotation_deg: float = 0.0
    scale: float = 1.0
    colour: tuple[float, float, float] = (1.0, 1.0, 1.0)
    flip: bool = False


def read_image(path: str | Path) -> np.ndarray:
    """Decode an image file, or an image in a TSV (`image_bytes`), to H x W x 3 uint8 RGB.

    Raises:
        FileNotFoundError, ValueError: the file is missing, not an image, or cut off.
    """
    try:
        with open_picture(path) as file, Image.open(file, formats=FORMATS) as image:
            return np.asarray(image.convert("RGB"))
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such image; copy or make the data set again") from None
    except Exception as error:  # decoders raise many kinds on damaged files
        reason = " ".join(str(error).split())
        raise ValueError(f"{path}: cannot be decoded ({reason:.120}); replace the image") from None


def crop_affine(
    box: np.ndarray, scale: float, out_px: int, rotation_deg: float = 0.0, flip: bool = False
) -> np.ndarray:
    """The 2 x 3 map from image pixels to crop pixels: u_crop = A @ (u, v, 1).

    Args:
        box: x, y, w, h in pixels; the crop is centred on it.
        scale: the crop's side over the box's longer side.
        rotation_deg: turns the picture's content clockwise about the box's centre.
        flip: mirrors left and right, after the rotation.
    """
    x, y, w, h = np.asarray(box, dtype=np.float64)
    if not (w > 0 and h > 0 and math.isfinite(x + y + w + h)):
        raise ValueError(f"box {x:g}, {y:g}, {w:g}, {h:g}: width and height must be positive")
    centre = np.array([x + w / 2, y + h / 2])
    zoom = out_px / (scale * max(w, h))
    cos, sin = math.cos(math.radians(rotation_deg)), math.sin(math.radians(rotation_deg))
    linear = zoom * np.array([[cos, -sin], [sin, cos]])
    if flip:
        linear[0] = -linear[0]
    return np.hstack([linear, (out_px / 2 - linear @ centre)[:, None]])


def crop(
    image: np.ndarray,
    box: np.ndarray,
    scale: float,
    out_px: int,
    rotation_deg: float = 0.0,
    flip: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """Cut a square out of an image; black where the image ends.

    Args:
        image: H x W x 3 uint8.
        box, scale, rotation_deg, flip: as in `crop_affine`.

    Returns:
        The crop, out_px x out_px x 3 uint8, and the 2 x 3 map from image to crop pixels.
    """
    affine = crop_affine(box, scale, out_px, rotation_deg, flip)
    inverse = np.linalg.inv(np.vstack([affine, [0.0, 0.0, 1.0]]))  # PIL asks where from
    picture = Image.fromarray(image)
    shrink = int(1e-6 + 1 / math.sqrt(abs(np.linalg.det(affine[:, :2]))))
    if shrink >= 2:  # average whole pixels first: bilinear sampling alone would alias
        picture = picture.reduce(shrink)
        inverse[:2] /= shrink
    picture = picture.transform(
        (out_px, out_px), Image.Transform.AFFINE, inverse[:2].ravel(), Image.Resampling.BILINEAR
    )
    return np.asarray(picture), affine


_LEVELS = np.arange(256, dtype=np.float32)[:, None]
_NORMALISED = ((_LEVELS / 255 - MEAN) / SPREAD).T.copy()  # 3 x 256


def normalise(image: np.ndarray) -> np.ndarray:
    """H x W x 3 uint8 to 3 x H x W float32 with ImageNet's mean 0 and spread 1."""
    return np.stack([_NORMALISED[c].take(image[..., c]) for c in range(3)])


def augment(rng: np.random.Generator, subject: str) -> Augmentation:
    """Draw an augmentation: rotation with spread 30 degrees in 40% of draws, scale within 25%,
    each colour channel times 0.6 to 1.4, and for the body a mirror in half of them.

    A hand is never mirrored: a mirrored right hand is a left one. The number of draws taken from
    `rng` does not depend on their outcome.
    """
    chance, tilt, zoom, mirror = rng.random(), rng.normal(), rng.normal(), rng.random()
    colour = rng.uniform(1 - COLOUR_SPREAD, 1 + COLOUR_SPREAD, 3)
    limit = 2 * ROTATION_SIGMA_DEG
    rotation = float(np.clip(tilt * ROTATION_SIGMA_DEG, -limit, limit))
    return Augmentation(
        rotation_deg=rotation if chance < ROTATION_SHARE else 0.0,
        scale=float(np.clip(1 + SCALE_SPREAD * zoom, 1 - SCALE_SPREAD, 1 + SCALE_SPREAD)),
        colour=tuple(colour.tolist()),
        flip=subject == "body" and mirror < 0.5,
    )


def augment_joints(joints: np.ndarray, augmentation: Augmentation) -> np.ndarray:
    """Turn root-relative joints (... x J x 3, camera axes) about z and mirror them, as the crop."""
    cos = math.cos(math.radians(augmentation.rotation_deg))
    sin = math.sin(math.radians(augmentation.rotation_deg))
    turn = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]], dtype=joints.dtype)
    joints = joints @ turn.T
    if augmentation.flip:
        joints = joints[..., MIRROR, :] * np.array([-1, 1, 1], dtype=joints.dtype)
    return joints


def apply_augmentation(
    image: np.ndarray,
    box: np.ndarray,
    joints: np.ndarray,
    pixels: np.ndarray,
    augmentation: Augmentation,
    box_scale: float,
    out_px: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Crop an image and move its joints by one augmentation.

    Args:
        image: H x W x 3 uint8.
        box: x, y, w, h in pixels.
        joints: J x 3, root-relative, camera axes, any unit.
        pixels: J x 2, where the image shows them.

    Returns:
        The crop, out_px x out_px x 3 uint8; the joints, J x 3; where the crop shows them, J x 2, in
        shares of its side.
    """
    picture, affine = crop(
        image,
        box,
        box_scale * augmentation.scale,
        out_px,
        augmentation.rotation_deg,
        augmentation.flip,
    )
    levels = np.clip(_LEVELS * np.array(augmentation.colour), 0, 255).astype(np.uint8)
    picture = np.stack([levels[:, c].take(picture[..., c]) for c in range(3)], axis=-1)
    shares = (pixels @ affine[:, :2].T + affine[:, 2]) / out_px
    if augmentation.flip:
        shares = shares[MIRROR]
    return picture, augment_joints(joints, augmentation), shares
