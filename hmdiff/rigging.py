"""Geometry for baking a rigged mesh into SMPL's schema: frames, skinning and its inverse,
smoothing, shape components, joint regressors. Plain numpy, no knowledge of where the mesh is from.

Notation: S shapes, V vertices, F faces, J joints; W skinning weights (V x J, rows sum to 1);
`parents[j] < j`, -1 for the root; `world[j]` the rotation of joint j in world axes.
"""

import numpy as np
from scipy import sparse

Array = np.ndarray

JOINT_WEIGHT = 30.0


def unit(x: Array) -> Array:
    """Vectors (... x 3) scaled to length 1."""
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def frame(x: Array, y: Array) -> Array:
    """Right-handed orthonormal frames (... x 3 x 3, columns) along x, with y in the xy plane."""
    x = unit(x)
    y = unit(y - x * (x * y).sum(-1, keepdims=True))
    return np.stack([x, y, np.cross(x, y)], axis=-1)


def turn(x_from: Array, y_from: Array, x_to: Array, y_to: Array) -> Array:
    """Rotations (... x 3 x 3) from the frame of (x_from, y_from) to that of (x_to, y_to)."""
    return frame(x_to, y_to) @ np.swapaxes(frame(x_from, y_from), -1, -2)


def shortest_turn(a: Array, b: Array) -> Array:
    """Rotations (... x 3 x 3) that carry direction a onto b about the axis normal to both.

    Rodrigues' formula with the axis a x b; a and b must not be opposite.
    """
    a, b = np.broadcast_arrays(unit(a), unit(b))
    v, c = np.cross(a, b), (a * b).sum(-1)
    zero = np.zeros_like(c)
    x = np.stack([zero, -v[..., 2], v[..., 1], v[..., 2], zero, -v[..., 0], -v[..., 1], v[..., 0],
                  zero], axis=-1).reshape(*c.shape, 3, 3)  # fmt: skip
    return np.eye(3) + x + x @ x / (1 + c)[..., None, None]


def place_joints(joints: Array, world: Array, parents: list[int]) -> Array:
    """Joints (S x J x 3, m) after forward kinematics with world rotations (S x J x 3 x 3).

    p'_j = p'_parent + R_parent (p_j - p_parent); the root stays where it is.
    """
    placed = joints.copy()
    for j, parent in enumerate(parents):
        if parent >= 0:
            bone = joints[:, j] - joints[:, parent]
            placed[:, j] = placed[:, parent] + np.einsum("sab,sb->sa", world[:, parent], bone)
    return placed


def skin(vertices: Array, joints: Array, placed: Array, world: Array, W: Array) -> Array:
    """Linear blend skinning: v' = sum_j W_vj (R_j (v - p_j) + p'_j), in m.

    Args: vertices S x V x 3, joints and placed S x J x 3, world S x J x 3 x 3, W V x J.
    """
    shift = placed - np.einsum("sjab,sjb->sja", world, joints)
    R = np.einsum("vj,sjab->svab", W, world)
    return np.einsum("svab,svb->sva", R, vertices) + np.einsum("vj,sja->sva", W, shift)


def unskin(vertices: Array, joints: Array, placed: Array, world: Array, W: Array) -> Array:
    """The vertices (S x V x 3) that `skin`, given the same arguments, carries onto `vertices`.

    A mesh straightened so looks, once it bends its limbs again, as its sculptor left it: all
    loss of volume is spent in the pose in which nobody stands.
    """
    shift = placed - np.einsum("sjab,sjb->sja", world, joints)
    R = np.einsum("vj,sjab->svab", W, world)
    moved = vertices - np.einsum("vj,sja->sva", W, shift)
    return np.linalg.solve(R, moved[..., None])[..., 0]


def neighbour_mean(faces: Array, count: int) -> sparse.csr_matrix:
    """The matrix (V x V) that replaces each vertex by the mean of its neighbours."""
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    edges = np.unique(np.sort(edges, axis=1), axis=0)
    both = np.concatenate([edges, edges[:, ::-1]])
    A = sparse.csr_matrix((np.ones(len(both)), (both[:, 0], both[:, 1])), shape=(count, count))
    return sparse.diags(1 / np.maximum(np.asarray(A.sum(1)).ravel(), 1)) @ A


def smoother(faces: Array, mask: Array, rounds: int) -> sparse.csr_matrix:
    """A linear smoothing (V x V): `rounds` half steps to the neighbours' mean where mask is 1."""
    mean, M = neighbour_mean(faces, len(mask)), sparse.diags(0.5 * mask)
    step = (sparse.eye(len(mask)) - M + M @ mean).tocsr()
    S = sparse.eye(len(mask), format="csr")
    for _ in range(rounds):
        S = step @ S
    return S


def apply(A: sparse.csr_matrix, meshes: Array) -> Array:
    """A (V' x V) on the vertices of meshes (S x V x 3): S x V' x 3."""
    flat = meshes.transpose(1, 0, 2).reshape(A.shape[1], -1)
    return (A @ flat).reshape(A.shape[0], -1, 3).transpose(1, 0, 2)


def shape_components(meshes: Array, joints: Array, count: int) -> tuple[Array, ...]:
    """The linear shape space of people (S x V x 3 and S x J x 3, m) by principal components.

    Surface and skeleton vary together: a joint, which moves everything beyond it, counts as
    much as `JOINT_WEIGHT` squared vertices. Each component is scaled by its standard deviation,
    so that betas have unit variance, and signed so that its largest coordinate is positive.

    Returns:
        template V x 3, shapedirs V x 3 x count, and the same two for the joints, in m.
    """
    both = np.concatenate([meshes, JOINT_WEIGHT * joints], axis=1)
    flat = both.reshape(len(both), -1)
    mean = flat.mean(0)
    _, singular, Vt = np.linalg.svd(flat - mean, full_matrices=False)
    Vt = Vt[:count]
    signs = np.sign(Vt[np.arange(count), np.abs(Vt).argmax(1)])
    dirs = (Vt * signs[:, None] * singular[:count, None] / np.sqrt(len(flat) - 1)).T
    mean, dirs, V = mean.reshape(-1, 3), dirs.reshape(-1, 3, count), meshes.shape[1]
    return mean[:V], dirs[:V], mean[V:] / JOINT_WEIGHT, dirs[V:] / JOINT_WEIGHT


def spread_out(x: Array, count: int) -> Array:
    """Ids (count,) of points of x (n x 3) far from each other: farthest-point sampling."""
    ids, away = [0], np.linalg.norm(x - x[0], axis=1)
    while len(ids) < min(count, len(x)):
        ids.append(int(away.argmax()))
        away = np.minimum(away, np.linalg.norm(x - x[ids[-1]], axis=1))
    return np.sort(ids)


def near_joints(v: Array, W: Array, parents: list[int], count: int) -> list[Array]:
    """For each joint at most `count` vertices, well spread, on the bones that meet in it."""
    near = []
    for j, parent in enumerate(parents):
        bones = {j, max(parent, 0)} | {child for child, p in enumerate(parents) if p == j}
        ids = np.flatnonzero(W[:, sorted(bones)].sum(1) > 0.5)
        near.append(ids[spread_out(v[ids], count)])
    return near


def fit_regressor(meshes: Array, joints: Array, near: list[Array], noise_m: float) -> Array:
    """A sparse J x V regressor, rows summing to 1, with joints ~ regressor @ mesh.

    Least squares over the vertices `near` each joint, as if each of their coordinates carried
    noise of `noise_m`: the more noise, the less the weights cancel each other.

        min_w  mean_s |sum_v w_v (v_s - p_s)|^2 + 3 noise^2 |w|^2   subject to sum(w) = 1

    Args: meshes S x V x 3, joints S x J x 3, both in m.
    """
    regressor = np.zeros((joints.shape[1], meshes.shape[1]))
    for j, ids in enumerate(near):
        X = (meshes[:, ids] - joints[:, j, None]).transpose(0, 2, 1).reshape(-1, len(ids))
        system = X.T @ X / len(meshes) + 3 * noise_m**2 * np.eye(len(ids))
        weights = np.linalg.solve(system, np.ones(len(ids)))
        regressor[j, ids] = weights / weights.sum()
    return regressor
