"""One photograph of the capture studio: a posed person or hand, light, place, lens and film.

Input are vertices in camera axes and what surrounds them; output is an 8-bit picture with the
faults of real ones: exposure, colour cast, blur, noise. Every random choice comes from the
generator that the caller passes.
"""

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFilter

from . import props as props_
from . import raycast, scenery
from .cameras import Camera, outside
from .raycast import Light, Solid
from .scenery import Stage
from .textures import to_linear, to_srgb
from .wardrobe import Figure, Outfit, clothed

LEAST_VISIBLE = 0.45  # occluders that leave less of the person are taken away


@dataclass(frozen=True)
class Photo:
    """A picture and how much of the person it shows.

    Attributes:
        image: px x px x 3 uint8, sRGB.
        visible: share of the person's area in the frame that nothing hides.
        truncated: share of the person's vertices outside the frame.
    """

    image: np.ndarray
    visible: float
    truncated: float


def draw_light(rng: np.random.Generator, R: np.ndarray, indoors: bool) -> Light:
    """A lamp or sun and a sky, in the axes of a camera that R (3 x 3) turns the world into."""
    azimuth = rng.uniform(0, 2 * np.pi)
    elevation = np.deg2rad(rng.uniform(35, 85) if indoors else rng.uniform(15, 75))
    towards = np.array(
        [
            np.cos(elevation) * np.sin(azimuth),
            np.sin(elevation),
            np.cos(elevation) * np.cos(azimuth),
        ]
    )
    warmth = rng.uniform(-0.2, 0.3) * np.array([1, 0.1, -1])
    key = rng.uniform(0.25, 0.8) if indoors else rng.uniform(0.0, 1.3)
    sky = rng.uniform(0.35, 0.75)
    return Light(
        towards=(R @ towards).astype(np.float32),
        up=R[:, 1].astype(np.float32),
        key=(key * (1 + warmth)).astype(np.float32),
        sky=(sky * (1 - 0.5 * warmth)).astype(np.float32),
        ground=(sky * rng.uniform(0.25, 0.6) * (1 + 0.3 * warmth)).astype(np.float32),
        width=float(rng.uniform(0.02, 0.14 if indoors else 0.05)),
    )


def photograph(
    figure: Figure, outfit: Outfit, vertices: np.ndarray, things: list[Solid], occluders: int,
    stage: Stage | None, light: Light, camera: Camera, px: int, rng: np.random.Generator,
) -> Photo:  # fmt: skip
    """Render, place before the background, and develop.

    Args:
        vertices: V x 3, camera axes, m.
        things: solids that belong to the scene (a seat, a forearm), camera axes.
        occluders: how many random things to put in the way.
        stage: the place; None for a flat backdrop.
    """
    K = camera.K
    ground = background(stage, camera, px, light, vertices, rng)
    person = clothed(figure, outfit, vertices)
    ahead = [props_.occluder(vertices, K, rng) for _ in range(occluders)]
    common = (figure.near, outfit.soft, outfit.paints, light, K, px, rng)
    shot = raycast.render(person, things + ahead, *common)
    if shot.visible < LEAST_VISIBLE:
        shot = raycast.render(person, things, *common)
    image = expose(shot, ground, stage is not None, rng)
    return Photo(develop(image, rng), shot.visible, outside(vertices, K, px))


def background(
    stage: Stage | None, camera: Camera, px: int, light: Light, person: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray:  # fmt: skip
    """px x px x 3: a stage in linear light, or a backdrop in sRGB; most stages out of focus.

    What is out of focus is rendered at half size and enlarged.
    """
    if stage is None:
        return scenery.backdrop(rng, px)
    sharp = rng.random() < 0.35
    size, radius = (px, 0.5) if sharp else (px // 2, rng.uniform(0.1, 1.4))
    scale = np.diag([size / px, size / px, 1.0])
    small = camera._replace(K=scale @ camera.K)
    stage_light = scenery.draw_stage(stage, small, size, light, person, rng)
    film = Image.fromarray((to_srgb(stage_light) * 255).astype(np.uint8))
    film = film.filter(ImageFilter.GaussianBlur(radius * px / 224))
    film = film if sharp else film.resize((px, px), Image.Resampling.BICUBIC)
    return to_linear(np.asarray(film, np.float32) / 255)


def expose(
    shot: raycast.Picture, ground: np.ndarray, linear: bool, rng: np.random.Generator
) -> np.ndarray:
    """Person over background, px x px x 3, sRGB 0 to 1; a `linear` background shares the exposure.

    The exposure brings the brighter parts of person and place near white.
    """
    alpha = shot.rgba[..., 3:]
    whole = np.maximum(alpha, 1e-3)
    colour = shot.rgba[..., :3] / whole
    person = colour[alpha[..., 0] > 0.5][::5]
    bright = np.percentile(person, 88) if len(person) else 0.5
    if linear:
        bright = max(bright, 0.7 * np.percentile(ground[::7, ::3], 85))
    gain = np.float32(rng.uniform(0.35, 0.85) / max(bright, 0.08))
    if linear:
        ground = to_srgb(ground * gain)
    image = ground.copy()
    x0, y0, x1, y1 = shot.window
    part = image[y0:y1, x0:x1]
    part += alpha * (to_srgb(colour * gain) - part)
    return image


def develop(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Colour cast, contrast, sensor noise and lens blur: px x px x 3 uint8 from sRGB 0 to 1."""
    cast = rng.normal(1, 0.05, 3).astype(np.float32)
    contrast = np.float32(rng.uniform(0.8, 1.2))
    image = (image * cast - np.float32(0.45)) * contrast + np.float32(rng.normal(0.45, 0.04))
    if rng.random() < 0.12:
        grey = image.mean(axis=2, keepdims=True)
        image = grey + np.float32(rng.uniform(0, 0.7)) * (image - grey)
    film = Image.fromarray((np.clip(image, 0, 1) * 255).astype(np.uint8))
    if rng.random() < 0.6:
        film = film.filter(ImageFilter.GaussianBlur(rng.uniform(0.2, 1.1) * len(image) / 224))
    sigma = np.float32(rng.uniform(0, 9) if rng.random() < 0.7 else 0)
    grain = sigma * rng.standard_normal(image.shape, dtype=np.float32)
    return np.clip(np.asarray(film) + grain, 0, 255).astype(np.uint8)
