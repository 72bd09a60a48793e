"""Mesh files read back by trimesh itself: vertices, unit, axes, colours; hostile files refused."""

import numpy as np
import pytest
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st

from hmdiff.recovery import surfaces
from hmdiff.recovery.surfaces import Surface


@pytest.fixture
def surface() -> Surface:
    """A lump of 0.3 m about the origin, its uncertainty growing along y."""
    ball = trimesh.creation.icosphere(subdivisions=2, radius=0.3)
    vertices = np.array(ball.vertices) * [1, 2, 0.5]
    return surfaces.painted(vertices, np.array(ball.faces), 20 + 30 * vertices[:, 1])


@pytest.mark.parametrize("ending", [".glb", ".obj", ".ply", ".stl", ".off"])
def test_a_file_stands_upright_in_metres(tmp_path, surface, ending):
    path = tmp_path / f"mesh{ending}"
    surfaces.write(path, surface)
    mesh = trimesh.load_mesh(path, process=False)
    assert len(mesh.faces) == len(surface.faces)
    if ending != ".stl":  # which knows corners of triangles alone
        x, y, z = surface.vertices_m.T
        assert np.array(mesh.vertices) == pytest.approx(np.stack([x, -y, -z], axis=1), abs=1e-6)
        assert (np.array(mesh.faces) == surface.faces).all()
    assert mesh.extents == pytest.approx(np.ptp(surface.vertices_m, axis=0), abs=1e-6)
    assert mesh.volume > 0  # turned, not mirrored: faces still look outwards
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("ending", [".glb", ".obj", ".ply"])
def test_colours_are_viridis_of_the_uncertainty(tmp_path, surface, ending):
    surfaces.write(tmp_path / f"mesh{ending}", surface)
    colours = trimesh.load_mesh(tmp_path / f"mesh{ending}", process=False).visual.vertex_colors
    assert len(colours) == len(surface.vertices_m)
    assert np.abs(colours[:, :3] / 255 - surface.colour).max() < 0.006
    surest, least = surface.spread_mm.argmin(), surface.spread_mm.argmax()
    assert colours[least, :3].tolist() == [253, 231, 37]  # viridis ends in this yellow
    assert colours[surest, :3].sum() < colours[least, :3].sum()


def test_a_ply_holds_the_uncertainty_as_numbers(tmp_path, surface):
    surfaces.write(tmp_path / "mesh.ply", surface)
    raw = trimesh.load_mesh(tmp_path / "mesh.ply", process=False).metadata["_ply_raw"]
    numbers = raw["vertex"]["data"]["spread_mm"].ravel()
    assert numbers == pytest.approx(surface.spread_mm, abs=1e-4)


@pytest.mark.parametrize(("unit", "metre"), [("m", 1), ("cm", 100), ("mm", 1000), ("in", 39.3701)])
def test_the_unit_is_the_one_asked_for(tmp_path, surface, unit, metre):
    surfaces.write(tmp_path / "mesh.obj", surface, unit)
    mesh = trimesh.load_mesh(tmp_path / "mesh.obj", process=False)
    assert mesh.extents == pytest.approx(metre * np.ptp(surface.vertices_m, axis=0), rel=1e-5)
    assert f"unit: {unit}" in (tmp_path / "mesh.obj").read_text()


def test_a_glb_is_in_metres_alone(tmp_path, surface):
    with pytest.raises(ValueError, match="in metres by its definition"):
        surfaces.write(tmp_path / "mesh.glb", surface, "mm")
    assert list(tmp_path.iterdir()) == []


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 10**6), count=st.integers(3, 40), ending=st.sampled_from([".glb", ".ply"])
)
def test_what_is_written_is_read_again(tmp_path_factory, seed, count, ending):
    rng = np.random.default_rng(seed)
    faces = np.stack([rng.permutation(count)[:3] for _ in range(9)])
    one = surfaces.painted(rng.normal(size=(count, 3)), faces, rng.random(count))
    path = tmp_path_factory.mktemp("again") / f"mesh{ending}"
    surfaces.write(path, one)
    again = surfaces.read(path)
    assert again.vertices_m == pytest.approx(one.vertices_m, abs=1e-6)
    assert (again.faces == faces).all()
    assert np.abs(again.colour - one.colour).max() < 0.006


def test_reading_follows_no_reference_to_another_file(tmp_path):
    (tmp_path / "secret.mtl").write_text("newmtl a\nmap_Kd secret.png\n")
    path = tmp_path / "mesh.obj"
    path.write_text("mtllib secret.mtl\nusemtl a\nv 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n")
    assert surfaces.read(path).vertices_m.shape == (3, 3)


PLY = "ply\nformat ascii 1.0\nelement vertex 3\nproperty float x\nproperty float y\n\
property float z\nelement face 1\nproperty list uchar int vertex_indices\nend_header\n"


@pytest.mark.parametrize(
    ("name", "content", "fault"),
    [
        ("a.ply", b"", "cannot be read as a mesh"),
        ("a.glb", b"glTF\x02\x00\x00\x00", "cannot be read as a mesh"),
        ("a.obj", b"nothing of a mesh", "mesh|triangles"),
        ("a.obj", b"v 1 2\nv 1 3\nv 0 1\nf 1 2 3\n", "vertices"),
        (
            "a.ply",
            (PLY + "0 0 0\n1 0 0\n0 1 0\n3 0 1 7\n").encode(),
            "no triangles of its vertices",
        ),
        ("a.ply", (PLY + "0 0 0\n1 0 0\n0 nan 0\n3 0 1 2\n").encode(), "NaN"),
        ("a.ply", (PLY + "0 0 0\n1700 0 0\n0 1 0\n3 0 1 2\n").encode(), "give a mesh in metres"),
        ("a.txt", b"", "unknown format .txt"),
        ("mesh", b"", "no ending"),
        ("a.npz", b"PK\x03\x04", "not a recovered mesh"),
    ],
)
def test_a_bad_mesh_is_one_line_that_names_it(tmp_path, name, content, fault):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ValueError, match=fault) as error:
        surfaces.read(path)
    assert str(error.value).startswith(str(path)) and "\n" not in str(error.value)


def test_an_npz_with_pickled_objects_is_never_unpickled(tmp_path):
    path, objects = tmp_path / "a.npz", np.array([{"x": 1}], dtype=object)
    np.savez(path, vertices_m=objects, faces=objects, spread_mm=objects)
    with pytest.raises(ValueError, match="not an array of numbers"):
        surfaces.read(path)
