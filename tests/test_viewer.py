"""Rendering against geometry that can be written down, and the interactive plots' contents."""

import numpy as np
import pytest
import trimesh

from hmdiff import viewer
from hmdiff.body import PARTS

K = np.array([[300.0, 0, 100.0], [0, 300.0, 80.0], [0, 0, 1]])
SIZE = (160, 200)


def sphere(radius: float, centre) -> tuple[np.ndarray, np.ndarray]:
    mesh = trimesh.creation.icosphere(subdivisions=4, radius=radius)
    return mesh.vertices + centre, mesh.faces


def triangle(z: float, half: float = 0.1) -> np.ndarray:
    return np.array([[-half, -half, z], [half, -half, z], [0, half, z]])


def test_a_sphere_on_the_axis_covers_the_disc_of_its_tangent_cone():
    vertices, faces = sphere(0.3, [0, 0, 2.0])
    alpha = viewer.shade(vertices, faces, K, SIZE)[..., 3] / 255
    radius_px = 300 * 0.3 / np.sqrt(2.0**2 - 0.3**2)
    assert alpha.sum() == pytest.approx(np.pi * radius_px**2, rel=0.01)
    rows, columns = np.nonzero(alpha > 0.5)
    assert columns.mean() == pytest.approx(99.5, abs=0.1)
    assert rows.mean() == pytest.approx(79.5, abs=0.1)


def test_the_light_comes_from_the_upper_left():
    vertices, faces = sphere(0.3, [0, 0, 2.0])
    picture = viewer.shade(vertices, faces, K, SIZE)[..., :3].astype(float).sum(-1)
    assert picture[60, 80] > picture[100, 120]


def test_the_nearer_triangle_hides_the_farther_one():
    vertices = np.concatenate([triangle(2.0, 0.2), triangle(1.0)])
    faces = np.array([[0, 1, 2], [3, 4, 5]])
    colour = np.repeat([[1.0, 0, 0], [0, 0, 1.0]], 3, axis=0)
    middle = viewer.shade(vertices, faces, K, SIZE, colour)[79, 99]
    assert middle[2] > 0
    assert middle[0] == 0


@pytest.mark.parametrize("z", [-1.0, 1.0])
def test_what_is_behind_the_camera_or_beside_the_picture_is_not_seen(z):
    vertices = triangle(z) + (0 if z < 0 else 5.0) * np.array([1.0, 0, 0])
    assert not viewer.shade(vertices, np.array([[0, 1, 2]]), K, SIZE).any()


def test_over_keeps_the_image_where_nothing_was_drawn_and_covers_it_elsewhere():
    image = np.random.default_rng(0).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    picture = np.zeros((4, 5, 4), np.uint8)
    picture[1, 2] = (10, 20, 30, 255)
    laid = viewer.over(picture, image)
    assert laid[1, 2].tolist() == [10, 20, 30]
    laid[1, 2] = image[1, 2]
    assert (laid == image).all()


def test_vertex_normals_of_a_sphere_are_radial():
    vertices, faces = sphere(1.0, [0, 0, 0])
    assert np.abs(viewer.vertex_normals(vertices, faces) - vertices).max() < 0.01


def test_a_portrait_shows_x_to_the_right_and_y_down_and_its_side_shows_z():
    x, y, z = np.eye(3)
    front, side = viewer.View(2.0, 100), viewer.View(2.0, 100, turn_deg=90)
    assert front.project(np.zeros(3)) == pytest.approx([50, 50])
    assert front.project(x)[0] > 60
    assert front.project(y)[1] > 60
    assert front.project(z) == pytest.approx([50, 50])
    assert side.project(z)[0] > 60
    assert side.project(x) == pytest.approx([50, 50])


@pytest.mark.parametrize("turn_deg", [0, 45, 90, 200])
def test_a_fitted_view_holds_all_vertices(turn_deg):
    points = np.random.default_rng(1).normal(size=(200, 3)) * [0.3, 1.0, 0.5] + [3, -2, 1]
    place = viewer.fit_view(points, 128, turn_deg).project(points)
    assert place.min() >= -0.5
    assert place.max() <= 127.5


def test_the_slider_holds_one_frame_a_step_with_the_meshes_given():
    vertices, faces = sphere(1.0, [0, 0, 0])
    frames = np.stack([vertices * s for s in (3.0, 2.0, 1.0)])
    made = viewer.noise_to_mesh(frames, faces, [200, 100, 1])
    assert [frame.name for frame in made.frames] == ["200", "100", "1"]
    assert [step.label for step in made.layout.sliders[0].steps] == ["200", "100", "1"]
    for frame, mesh in zip(made.frames, frames, strict=True):
        got = np.stack([frame.data[0].x, frame.data[0].y, frame.data[0].z], axis=1)
        assert got == pytest.approx(mesh, abs=1e-6)
    with pytest.raises(ValueError, match="3 frames for 2 steps"):
        viewer.noise_to_mesh(frames, faces, [200, 1])


def test_an_interactive_mesh_looks_along_z_with_y_down_and_carries_its_values():
    vertices, faces = sphere(1.0, [0, 0, 0])
    made = viewer.mesh3d(vertices, faces, intensity=vertices[:, 0])
    camera = made.layout.scene.camera
    assert camera.eye.z < 0
    assert camera.up.y == -1
    assert camera.projection.type == "orthographic"
    assert np.asarray(made.data[0].intensity) == pytest.approx(vertices[:, 0], abs=1e-6)
    assert len(made.data[0].i) == len(faces)


def test_a_body_is_dressed_by_its_parts():
    parts = np.array([PARTS.index(name) for name in ("shirt", "forearm", "skin", "trousers")])
    colour = viewer.dress(parts)
    assert (colour[0] == colour[1]).all()
    assert len(np.unique(colour[[0, 2, 3]], axis=0)) == 3
