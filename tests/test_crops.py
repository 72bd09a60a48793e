"""Crops agree with the map that comes with them, and joints turn as their pictures do."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from hmdiff.body import JOINT_NAMES
from hmdiff.crops import (
    MIRROR,
    Augmentation,
    apply_augmentation,
    augment,
    augment_joints,
    crop,
    crop_affine,
    normalise,
    read_image,
)

angles = st.floats(-60, 60)
boxes = st.tuples(st.floats(20, 90), st.floats(20, 90), st.floats(40, 120), st.floats(40, 120))


def spot(at: np.ndarray, size: int = 200, width: float = 6.0) -> np.ndarray:
    """A black image with a soft white spot about a point."""
    y, x = np.mgrid[:size, :size] + 0.5
    level = np.exp(-((x - at[0]) ** 2 + (y - at[1]) ** 2) / (2 * width**2))
    return np.repeat((255 * level).astype(np.uint8)[..., None], 3, axis=2)


def centroid(image: np.ndarray) -> np.ndarray:
    weight = image[..., 0].astype(float)
    y, x = np.mgrid[: len(image), : len(image)] + 0.5
    return np.array([(weight * x).sum(), (weight * y).sum()]) / weight.sum()


@settings(max_examples=40, deadline=None)
@given(box=boxes, rotation=angles, flip=st.booleans(), out=st.sampled_from([64, 112, 224]))
def test_a_spot_lands_where_the_map_says(box, rotation, flip, out):
    x, y, w, h = box
    at = np.array([x + 0.55 * w, y + 0.45 * h])
    picture, affine = crop(spot(at), box, 1.4, out, rotation, flip)
    assert picture.shape == (out, out, 3) and picture.dtype == np.uint8
    assert np.abs(centroid(picture) - affine @ [*at, 1]).max() < 0.25


@pytest.mark.parametrize("side", [448, 700, 1344])
def test_a_spot_lands_where_the_map_says_when_shrunk(side):
    at = np.array([0.55 * side, 0.4 * side])
    picture, affine = crop(spot(at, side, side / 30), np.array([0, 0, side, side]), 1.0, 224)
    assert np.abs(centroid(picture) - affine @ [*at, 1]).max() < 0.1


def test_a_box_of_the_output_size_is_cut_out_exactly():
    image = np.random.default_rng(0).integers(256, size=(90, 120, 3), dtype=np.uint8)
    picture, _ = crop(image, np.array([20, 10, 64, 64]), 1.0, 64)
    assert np.array_equal(picture, image[10:74, 20:84])
    mirrored, _ = crop(image, np.array([20, 10, 64, 64]), 1.0, 64, flip=True)
    assert np.array_equal(mirrored, image[10:74, 20:84][:, ::-1])


@given(box=boxes, scale=st.floats(1, 2), rotation=angles, flip=st.booleans())
def test_the_box_centre_is_the_crop_centre_and_sides_keep_their_ratio(box, scale, rotation, flip):
    x, y, w, h = box
    affine = crop_affine(box, scale, 224, rotation, flip)
    assert np.allclose(affine @ [x + w / 2, y + h / 2, 1], 112)
    singular = np.linalg.svd(affine[:, :2], compute_uv=False)
    assert np.allclose(singular, 224 / (scale * max(w, h)))
    assert (np.linalg.det(affine[:, :2]) < 0) == flip


def test_shrinking_averages_instead_of_picking():
    fine = np.zeros((1120, 1120, 3), dtype=np.uint8)
    fine[::2, ::2] = 255  # one pixel in four
    for side, off in ((1120, 1), (1000, 14)):  # a whole factor of ten, and 8.9
        picture, _ = crop(fine, np.array([0, 0, side, side]), 1.0, 112)
        assert np.abs(picture[2:-2, 2:-2].astype(float) - 255 / 4).max() < off


def test_outside_the_image_is_black():
    picture, _ = crop(np.full((50, 50, 3), 200, np.uint8), np.array([0, 0, 50, 50]), 2.0, 80)
    assert (picture[:18] == 0).all() and (picture[30:50, 30:50] == 200).all()


@pytest.mark.parametrize("box", [(0, 0, 0, 5), (0, 0, 5, -1), (np.nan, 0, 5, 5)])
def test_an_impossible_box_is_refused(box):
    with pytest.raises(ValueError, match="must be positive"):
        crop_affine(box, 1.2, 224)


@given(
    rotation=angles,
    flip=st.booleans(),
    depth=st.floats(2, 9),
    seed=st.integers(0, 99),
)
def test_joints_turn_with_the_picture_of_a_person_on_the_optical_axis(rotation, flip, depth, seed):
    joints = 0.5 * np.random.default_rng(seed).standard_normal((24, 3))
    K = np.array([[500.0, 0, 112], [0, 500, 112], [0, 0, 1]])

    def pixels(points):
        image = (points + np.array([0, 0, depth])) @ K.T
        return image[:, :2] / image[:, 2:]

    affine = crop_affine((12, 12, 200, 200), 224 / 200, 224, rotation, flip)
    moved = augment_joints(joints, Augmentation(rotation_deg=rotation, flip=flip))
    seen = pixels(joints) @ affine[:, :2].T + affine[:, 2]
    draw = Augmentation(rotation_deg=rotation, flip=flip)
    image, box = np.zeros((224, 224, 3), np.uint8), (12, 12, 200, 200)
    *_, shares = apply_augmentation(image, box, joints, pixels(joints), draw, 224 / 200, 224)
    assert np.allclose(shares * 224, pixels(moved))
    assert np.allclose(seen[MIRROR] if flip else seen, pixels(moved))
    assert np.allclose(moved[MIRROR, 2] if flip else moved[:, 2], joints[:, 2])


def test_mirror_swaps_left_and_right_by_name():
    names = JOINT_NAMES["body"]
    swap = {"left": "right", "right": "left"}
    for joint, other in enumerate(MIRROR):
        side, _, rest = names[joint].partition(" ")
        assert names[other] == (f"{swap[side]} {rest}" if side in swap else names[joint])
    assert np.array_equal(MIRROR[MIRROR], np.arange(24))


def test_normalise_is_imagenets_mean_and_spread():
    image = np.random.default_rng(0).integers(256, size=(5, 7, 3), dtype=np.uint8)
    mean, spread = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    got = normalise(image)
    assert got.dtype == np.float32 and got.shape == (3, 5, 7)
    assert np.allclose(got, ((image / 255 - mean) / spread).transpose(2, 0, 1), atol=1e-6)


def test_draws_have_the_recipes_shares_and_ranges():
    rng = np.random.default_rng(1)
    draws = [augment(rng, "body") for _ in range(4000)]
    rotations = np.array([d.rotation_deg for d in draws])
    scales = np.array([d.scale for d in draws])
    colours = np.array([d.colour for d in draws])
    assert abs((rotations != 0).mean() - 0.4) < 0.03
    assert abs(rotations[rotations != 0].std() - 29) < 2 and np.abs(rotations).max() == 60
    assert (scales.min(), scales.max()) == (0.75, 1.25) and abs(scales.mean() - 1) < 0.02
    assert 0.6 <= colours.min() < 0.62 and 1.38 < colours.max() <= 1.4
    assert abs(np.mean([d.flip for d in draws]) - 0.5) < 0.03


def test_a_hand_is_never_mirrored_and_draws_repeat():
    hands = [augment(np.random.default_rng(s), "hand") for s in range(50)]
    bodies = [augment(np.random.default_rng(s), "body") for s in range(50)]
    assert not any(d.flip for d in hands) and any(d.flip for d in bodies)
    assert [d.colour for d in hands] == [d.colour for d in bodies]
    assert hands == [augment(np.random.default_rng(s), "hand") for s in range(50)]


def test_no_augmentation_is_the_plain_crop():
    rng = np.random.default_rng(0)
    image = rng.integers(256, size=(100, 100, 3), dtype=np.uint8)
    joints, box = rng.standard_normal((24, 3)), np.array([10, 20, 60, 70])
    pixels = rng.uniform(0, 100, (24, 2))
    picture, moved, shares = apply_augmentation(image, box, joints, pixels, Augmentation(), 1.2, 64)
    assert np.array_equal(picture, crop(image, box, 1.2, 64)[0])
    assert np.allclose(shares, (pixels - [40, 55]) / 84 + 0.5)
    assert np.array_equal(moved, joints)


def test_colour_scales_each_channel_and_clips():
    image = np.full((60, 60, 3), 200, np.uint8)
    draw = Augmentation(colour=(0.6, 1.0, 1.4))
    box, joints = np.array([10, 10, 30, 30]), np.zeros((24, 3))
    picture, *_ = apply_augmentation(image, box, joints, joints[:, :2], draw, 1, 30)
    assert (picture == [120, 200, 255]).all()


def test_images_of_any_mode_are_read_as_rgb(tmp_path):
    Image.new("L", (6, 4), 77).save(tmp_path / "x.png")
    image = read_image(tmp_path / "x.png")
    assert image.shape == (4, 6, 3) and (image == 77).all()


def test_an_image_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"x\.jpg: no such image"):
        read_image(tmp_path / "x.jpg")
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(256, size=(64, 64, 3), dtype=np.uint8)).save(
        buffer, "jpeg"
    )
    for content in (b"", b"<html>", buffer.getvalue()[:900]):
        (tmp_path / "x.jpg").write_bytes(content)
        with pytest.raises(ValueError, match=r"x\.jpg: cannot be decoded") as caught:
            read_image(tmp_path / "x.jpg")
        assert "\n" not in str(caught.value)
