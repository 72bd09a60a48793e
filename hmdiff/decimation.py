"""Quadric decimation to a subset of the vertices: collapse edges u -> v, cheapest first.

After Garland and Heckbert (1997): each vertex carries a quadric Q, the sum of squared distances
to the planes of the faces it stands for, and moving u onto v costs x_v' (Q_u + Q_v) x_v. Because
v stays where it is, the coarse vertices are vertices of the fine mesh, as in the meshes that this
paper's field uses. A collapse that would pinch the surface (link condition), fold it or nibble at
its rim is refused: a closed mesh stays watertight and keeps its genus.
"""

import heapq
from dataclasses import dataclass

import numpy as np

LENGTH_COST = 0.1  # cost of an edge's length to the fourth, against slivers and bald planes
RIM_WEIGHT = 10.0  # weight of the planes that hold an open mesh's rim
MIN_COSINE = 0.2  # a face may turn by at most 78 degrees in one collapse


@dataclass(frozen=True)
class Level:
    """A decimated mesh: `ids` (V,) of the vertices kept, `faces` (F, 3) over them, and `owner`
    (V_full,), the kept vertex that each vertex of the full mesh ended in."""

    ids: np.ndarray
    faces: np.ndarray
    owner: np.ndarray


def decimate(
    v: np.ndarray, faces: np.ndarray, counts: tuple[int, ...], rim: int | None = None
) -> list[Level]:
    """Decimate a manifold mesh to each of the falling vertex counts in turn.

    Args:
        v: (V_full, 3) positions; faces: (F, 3).
        counts: vertices of the levels.
        rim: edges that an open mesh's rim shall have at last; None leaves it to the costs.
    Raises:
        ValueError: where no allowed collapse is left before a count is reached.
    """
    mesh = _Mesh(v, faces, rim)
    levels = []
    for count in counts:
        while len(mesh.alive) > count:
            mesh.collapse_cheapest()
        levels.append(mesh.level())
    return levels


class _Mesh:
    """The mesh under decimation, its quadrics, and the heap of candidate collapses."""

    def __init__(self, v: np.ndarray, faces: np.ndarray, rim: int | None):
        scale = np.ptp(v, axis=0).max()
        self.x = np.concatenate([v / scale, np.ones((len(v), 1))], axis=1)
        self.faces = {i: tuple(face) for i, face in enumerate(faces.tolist())}
        self.around: list[set[int]] = [set() for _ in v]  # faces at each vertex
        for i, face in self.faces.items():
            for a in face:
                self.around[a].add(i)
        self.owner = np.arange(len(v))
        self.alive = {a for a, near in enumerate(self.around) if near}
        edges = np.sort(faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), axis=1)
        edges, uses = np.unique(edges, axis=0, return_counts=True)
        rim_edges = edges[uses == 1]
        self.on_rim = np.zeros(len(v), bool)
        self.on_rim[rim_edges] = True
        self.rim_size, self.rim_goal = len(rim_edges), rim
        self.Q = _quadrics(self.x[:, :3], faces, rim_edges)
        self.stamp = [0] * len(v)
        self.heap: list[tuple] = []
        self.fresh = False

    def neighbours(self, a: int) -> set[int]:
        return {b for face in self.around[a] for b in self.faces[face]} - {a}

    def push(self, u: int, v: int) -> None:
        gap = self.x[u] - self.x[v]
        cost = self.x[v] @ (self.Q[u] + self.Q[v]) @ self.x[v] + LENGTH_COST * (gap @ gap) ** 2
        if self.rim_goal is not None and self.on_rim[u] and self.on_rim[v]:
            cost -= 1.0  # the rim reaches its goal before the rest moves
        heapq.heappush(self.heap, (float(cost), u, v, self.stamp[u], self.stamp[v]))

    def collapse_cheapest(self) -> None:
        """Take candidates from the heap until one is current and allowed, and collapse it."""
        while True:
            while self.heap:
                _, u, v, su, sv = heapq.heappop(self.heap)
                if su == self.stamp[u] and sv == self.stamp[v] and self.allowed(u, v):
                    self.collapse(u, v)
                    self.fresh = False
                    return
            if self.fresh:
                raise ValueError(
                    f"decimation is stuck at {len(self.alive)} vertices; ask for more of them"
                )
            # Collapses that were refused once may have become possible.
            self.fresh = True
            for u in sorted(self.alive):
                for v in sorted(self.neighbours(u)):
                    self.push(u, v)

    def allowed(self, u: int, v: int) -> bool:
        shared = self.around[u] & self.around[v]
        if not shared or len(self.neighbours(u) & self.neighbours(v)) != len(shared):
            return False
        if len(self.alive) == len(self.faces) == 4:  # a tetrahedron, the smallest closed surface
            return False
        if self.on_rim[u] and (not self.on_rim[v] or len(shared) == 2):
            return False
        if self.on_rim[u] and self.rim_size <= max(3, self.rim_goal or 3):
            return False
        return self.keeps_facing(u, v, shared)

    def keeps_facing(self, u: int, v: int, shared: set[int]) -> bool:
        moved = [self.faces[i] for i in self.around[u] - shared]
        if not moved:
            return False
        old = self.x[np.array(moved), :3]
        new = self.x[np.array([[v if a == u else a for a in face] for face in moved]), :3]
        n_old = np.cross(old[:, 1] - old[:, 0], old[:, 2] - old[:, 0])
        n_new = np.cross(new[:, 1] - new[:, 0], new[:, 2] - new[:, 0])
        sizes = np.linalg.norm(n_old, axis=1) * np.linalg.norm(n_new, axis=1)
        return bool(((n_old * n_new).sum(1) > MIN_COSINE * sizes).all())

    def collapse(self, u: int, v: int) -> None:
        for i in self.around[u] & self.around[v]:
            for a in self.faces.pop(i):
                self.around[a].discard(i)
        for i in self.around[u]:
            self.faces[i] = tuple(v if a == u else a for a in self.faces[i])
            self.around[v].add(i)
        self.around[u] = set()
        self.alive.discard(u)
        self.owner[u] = v
        self.rim_size -= int(self.on_rim[u])
        self.Q[v] += self.Q[u]
        self.stamp[u] += 1
        self.stamp[v] += 1
        for a in sorted(self.neighbours(v)):
            self.push(a, v)
            self.push(v, a)

    def level(self) -> Level:
        owner = self.owner
        while (owner[owner] != owner).any():
            owner = owner[owner]
        ids = np.array(sorted(self.alive))
        faces = np.array([self.faces[i] for i in sorted(self.faces)])
        return Level(ids, np.searchsorted(ids, faces), np.searchsorted(ids, owner))


def _quadrics(x: np.ndarray, faces: np.ndarray, rim_edges: np.ndarray) -> np.ndarray:
    """Each vertex's Q (V x 4 x 4): its faces' planes by area, and planes upright on the rim."""
    corners = x[faces]
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    area = np.linalg.norm(normal, axis=1, keepdims=True)
    normal = normal / np.maximum(area, 1e-20)
    Q = np.zeros((len(x), 4, 4))
    _add_planes(Q, normal, corners[:, 0], area[:, 0], faces)
    if len(rim_edges):
        of_edge = {tuple(sorted(p)): i for i, f in enumerate(faces.tolist())
                   for p in ((f[0], f[1]), (f[1], f[2]), (f[2], f[0]))}  # fmt: skip
        face = [of_edge[tuple(edge)] for edge in rim_edges.tolist()]
        along = x[rim_edges[:, 1]] - x[rim_edges[:, 0]]
        upright = np.cross(along, normal[face])
        length = np.linalg.norm(upright, axis=1, keepdims=True)
        weight = RIM_WEIGHT * length[:, 0] ** 2
        _add_planes(Q, upright / length, x[rim_edges[:, 0]], weight, rim_edges)
    return Q


def _add_planes(Q: np.ndarray, normal: np.ndarray, point: np.ndarray, weight: np.ndarray,
                members: np.ndarray) -> None:  # fmt: skip
    plane = np.concatenate([normal, -(normal * point).sum(1, keepdims=True)], axis=1)
    outer = weight[:, None, None] * plane[:, :, None] * plane[:, None]
    for k in range(members.shape[1]):
        np.add.at(Q, members[:, k], outer)
