"""Decimation keeps vertices, the surface's kind and its place; the cheapest collapse goes first."""

import networkx
import numpy as np
import pytest
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st

from hmdiff.decimation import RIM_WEIGHT, _Mesh, decimate

SPHERE = trimesh.creation.icosphere(subdivisions=3, radius=0.7)
TORUS = trimesh.creation.torus(1.0, 0.35, major_sections=40, minor_sections=16)


def patch(n: int) -> trimesh.Trimesh:
    """A square sheet of n x n vertices in the plane z = 0, two triangles a cell."""
    x, y = np.meshgrid(np.arange(n), np.arange(n), indexing="ij")
    v = np.stack([x, y, 0 * x], -1).reshape(-1, 3) / (n - 1)
    a = (x[:-1, :-1] * n + y[:-1, :-1]).ravel()
    faces = np.concatenate([np.stack([a, a + n, a + 1], 1), np.stack([a + 1, a + n, a + n + 1], 1)])
    return trimesh.Trimesh(v, faces, process=False)


def level_of(mesh: trimesh.Trimesh, *counts: int, rim: int | None = None):
    levels = decimate(np.array(mesh.vertices), np.array(mesh.faces), counts, rim)
    meshes = [trimesh.Trimesh(mesh.vertices[x.ids], x.faces, process=False) for x in levels]
    return levels, meshes


@pytest.mark.parametrize(("mesh", "euler"), [(SPHERE, 2), (TORUS, 0)])
def test_a_closed_mesh_stays_closed_and_keeps_its_genus(mesh, euler):
    """Counts are met; by trimesh the levels are watertight, one piece, and enclose nearly as much
    (seen: 300 vertices lose 3%, 90 lose 11% of a torus, as corners on a round surface must)."""
    levels, meshes = level_of(mesh, 300, 90)
    for level, coarse, count in zip(levels, meshes, (300, 90), strict=True):
        assert len(level.ids) == len(set(level.ids.tolist())) == count
        assert coarse.is_watertight and coarse.is_winding_consistent
        assert coarse.euler_number == mesh.euler_number == euler
        assert coarse.body_count == 1
        assert set(level.faces.ravel().tolist()) == set(range(count))
        assert len(np.unique(np.sort(level.faces, axis=1), axis=0)) == len(level.faces)
        assert coarse.area_faces.min() > 0
        assert (0.85 if count == 90 else 0.95) < coarse.volume / mesh.volume < 1
    assert set(levels[1].ids) <= set(levels[0].ids)


def test_an_open_mesh_keeps_its_rim_and_its_plane():
    """Of a flat sheet, nothing is lost: corners and area stay, whatever the count."""
    sheet = patch(15)
    _, (coarse,) = level_of(sheet, 40)
    assert coarse.euler_number == 1
    assert coarse.area == pytest.approx(1, abs=1e-9)
    corners = {(0.0, 0.0), (0.0, 1.0), (1.0, 0.0), (1.0, 1.0)}
    assert corners <= set(map(tuple, coarse.vertices[:, :2].tolist()))


def test_the_rim_gets_the_edges_asked_for():
    levels, (coarse,) = level_of(patch(15), 120, rim=16)
    edges, uses = np.unique(coarse.edges_sorted, axis=0, return_counts=True)
    assert len(levels[0].ids) == 120
    rim = networkx.Graph(edges[uses == 1].tolist())
    assert rim.number_of_edges() == 16
    assert networkx.is_connected(rim) and {d for _, d in rim.degree} == {2}


def test_owners_are_reached_by_edges_and_kept_vertices_own_themselves():
    """Each cluster of vertices with one owner is a connected piece of the fine mesh."""
    (level,), _ = level_of(SPHERE, 60)
    np.testing.assert_array_equal(level.owner[level.ids], np.arange(60))
    graph = networkx.Graph(SPHERE.edges_unique.tolist())
    for k in range(60):
        assert networkx.is_connected(graph.subgraph(np.flatnonzero(level.owner == k).tolist()))


def test_quadrics_are_squared_distances_to_planes():
    """x' Q x against a loop over the faces of the vertex, and the upright planes of the rim."""
    mesh = patch(4)
    mesh.vertices[:, 2] = np.random.default_rng(0).normal(0, 0.1, 16)
    v, faces = np.array(mesh.vertices), np.array(mesh.faces)
    inner = _Mesh(v, faces, None)
    scale = np.ptp(v, axis=0).max()
    point = np.array([0.3, -0.2, 0.6])
    edges, uses = np.unique(mesh.edges_sorted, axis=0, return_counts=True)
    for a in range(16):
        expected = 0.0
        for face in faces:
            p, q, r = v[face] / scale
            n = np.cross(q - p, r - p)
            size = np.linalg.norm(n)
            if a in face:
                expected += size * (n / size @ (point - p)) ** 2
            for b, c in edges[uses == 1]:
                if a in (b, c) and b in face and c in face:
                    along = (v[c] - v[b]) / scale
                    up = np.cross(along, n / size)
                    gap = up / np.linalg.norm(up) @ (point - v[b] / scale)
                    expected += RIM_WEIGHT * (along @ along) * gap**2
        x = np.append(point, 1)
        assert x @ inner.Q[a] @ x == pytest.approx(expected)


def test_collapses_cost_little_where_the_surface_is_flat():
    """On a cube whose sides are grids, edges and corners outlive the insides of the sides."""
    cube = trimesh.creation.box((1, 1, 1)).subdivide().subdivide().subdivide()
    _, (coarse,) = level_of(cube, 60)
    assert coarse.volume == pytest.approx(1, abs=1e-9)
    on_edges = (np.isclose(np.abs(coarse.vertices), 0.5).sum(1) >= 2).mean()
    assert on_edges > (np.isclose(np.abs(cube.vertices), 0.5).sum(1) >= 2).mean()


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), st.integers(20, 150))
def test_bumpy_spheres_stay_spheres(seed, count):
    rng = np.random.default_rng(seed)
    mesh = trimesh.creation.icosphere(subdivisions=2)
    v = mesh.vertices * (1 + 0.25 * rng.random((len(mesh.vertices), 1)))
    (level,) = decimate(v, np.array(mesh.faces), (count,))
    coarse = trimesh.Trimesh(v[level.ids], level.faces, process=False)
    assert coarse.is_watertight and coarse.euler_number == 2
    assert len(level.faces) == 2 * count - 4  # Euler's formula for a triangulated sphere


def test_the_same_mesh_gives_the_same_levels():
    (a,), _ = level_of(TORUS, 100)
    (b,), _ = level_of(TORUS, 100)
    for name in ("ids", "faces", "owner"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))


def test_a_mesh_that_cannot_get_smaller_says_so():
    """A tetrahedron is the smallest closed surface, a triangle the smallest open one; a hole asks
    for more vertices than either."""
    for mesh, least in ((SPHERE, 4), (patch(5), 3)):
        (level,), _ = level_of(mesh, least)
        assert len(level.faces) == 2 * least - (4 if mesh is SPHERE else 5)
        with pytest.raises(ValueError, match=f"stuck at {least} vertices; ask for more of them"):
            level_of(mesh, least - 1)
    with pytest.raises(ValueError, match=r"decimation is stuck at \d+ vertices; ask for more"):
        level_of(TORUS, 6)
