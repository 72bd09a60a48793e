"""The field's coarse meshes are read into our CoarseMesh, and broken ones are told."""

import os

import numpy as np
import official
import pytest
import torch
from scipy import sparse

from hmdiff import coarse, coarsening, downsampling

SUBJECTS = ("body", "hand")
FULL = {"body": 6890, "hand": 778}


@pytest.fixture(scope="module")
def both(open_body, open_hand, body_coarse, hand_coarse):
    return {"body": (open_body, body_coarse), "hand": (open_hand, hand_coarse)}


def scipy_of(tensor: torch.Tensor) -> sparse.csc_matrix:
    rows, columns = tensor.indices().numpy()
    return sparse.csc_matrix(
        (tensor.values().double().numpy(), (rows, columns)), shape=tensor.shape
    )


def unsummed(U: sparse.csc_matrix, D: sparse.csc_matrix) -> sparse.csc_matrix:
    """U with rows that sum to 0.83 to 1.05 but for those of kept vertices, as the real file's."""
    scale = np.random.default_rng(0).uniform(0.9, 1.05, U.shape[0])
    scale[D.nonzero()[1]] = 1
    return sparse.csc_matrix(sparse.diags(scale) @ U)


def entries(model, mesh) -> dict[str, list]:
    """D, U, F as the real files hold them: the body's in two steps, the hand's in one and more."""
    faces = [model.faces, mesh.mid_faces, mesh.faces]
    D, U = [mesh.D1, mesh.D2], [mesh.U1, mesh.U2]
    D, U = [scipy_of(m) for m in D], [scipy_of(m) for m in U]
    if model.subject == "hand":
        more = sparse.eye(49, 195, format="csc")
        D, U, faces = [D[1] @ D[0], more], [U[0] @ U[1], more.T.tocsc()], [faces[0], faces[2]]
        faces.append(torch.arange(51).reshape(17, 3) % 49)
    U = [unsummed(u, d) for u, d in zip(U, D, strict=True)]
    return {"D": D, "U": U, "F": [f.numpy().astype(np.uint32) for f in faces]}


class Bomb:
    def __reduce__(self):
        return os.mkdir, ("a-folder-that-nobody-wants",)


def write(path, content, protocol=2):
    """The archive as Python 2 wrote it; M asks for a class that nobody has."""
    lists = {key: [_old(x) for x in value] for key, value in content.items()}
    mesh = official.made(official.named("psbody.mesh.mesh", "Mesh"), v=np.zeros((2, 3)))
    return official.npz(path, protocol, **lists, M=[mesh, Bomb()])


def _old(thing):
    return official.old_csc(thing) if sparse.issparse(thing) else thing


@pytest.fixture(scope="module")
def loaded(both, tmp_path_factory):
    folder, meshes = tmp_path_factory.mktemp("meshes"), {}
    for subject, (model, mesh) in both.items():
        path = write(folder / f"{subject}.npz", entries(model, mesh))
        meshes[subject] = downsampling.load(path, model, samples=100)
    return meshes


@pytest.mark.parametrize("subject", SUBJECTS)
def test_a_shared_mesh_is_the_one_that_was_written(both, loaded, subject):
    model, own = both[subject]
    mesh = loaded[subject]
    assert torch.equal(mesh.ids, own.ids) and torch.equal(mesh.faces, own.faces)
    assert torch.equal(mesh.edges, own.edges)
    D = mesh.D2.to_dense() @ mesh.D1.to_dense()
    assert torch.equal(D @ model.layer.v_template, model.layer.v_template[own.ids])
    U = mesh.U1.to_dense() @ mesh.U2.to_dense()
    torch.testing.assert_close(D @ U, torch.eye(len(own.ids)), atol=1e-6, rtol=0)
    torch.testing.assert_close(mesh.f.sum(1), torch.ones(model.J), atol=1e-5, rtol=0)
    if subject == "body":
        assert torch.equal(mesh.mid_ids, own.mid_ids)
        assert torch.equal(mesh.mid_faces, own.mid_faces)
    else:  # no level between: the middle one is the full mesh
        assert torch.equal(mesh.mid_ids, torch.arange(778))
        assert torch.equal(mesh.mid_faces, model.faces)


def test_f_is_fitted_as_for_our_own_mesh(open_hand, hand_coarse, loaded):
    """On the same vertices and as many samples, it is the same f."""
    meshes = coarsening.random_meshes(open_hand, 100, torch.Generator().manual_seed(0))
    f = coarsening.fit_f(meshes[0][:, hand_coarse.ids], meshes[1])
    torch.testing.assert_close(loaded["hand"].f, f)


@pytest.mark.parametrize("subject", SUBJECTS)
def test_a_shared_mesh_can_be_kept_as_ours(loaded, tmp_path, subject):
    loaded[subject].save(tmp_path / "mesh.npz")
    again = coarse.load(tmp_path / "mesh.npz")
    assert torch.equal(again.U1.to_dense(), loaded[subject].U1.to_dense())


@pytest.mark.parametrize("subject", SUBJECTS)
def test_upsampling_moves_with_the_mesh_though_rows_do_not_sum_to_1(both, loaded, subject):
    """Rows sum to 0.9 to 1.05, so U alone leaves a person who stands 3 m off tens of centimetres
    behind; about the root, nobody is. Kept vertices stay where they are."""
    model, mesh = both[subject][0], loaded[subject]
    U = mesh.U1.to_dense() @ mesh.U2.to_dense()
    assert U.sum(1).min() < 0.95 and U.sum(1).max() > 1.02
    v = coarsening.random_meshes(model, 4, torch.Generator().manual_seed(1))[0]
    h, shift = v[:, mesh.ids], torch.tensor([0.5, -1.0, 3.0])
    here, there = downsampling.upsample(mesh, h), downsampling.upsample(mesh, h + shift)
    assert here.shape == v.shape
    torch.testing.assert_close(there - shift, here, atol=1e-5, rtol=0)
    torch.testing.assert_close(here[:, mesh.ids], h, atol=1e-5, rtol=0)
    torch.testing.assert_close(downsampling.upsample(mesh, h[0]), here[0])
    alone = U @ (h + shift) - shift
    assert (alone - v).norm(dim=-1).mean() > 2 * (here - v).norm(dim=-1).mean()


def test_upsampling_by_our_own_mesh_is_its_u(open_hand, hand_coarse):
    """Whose rows sum to 1, so that the root does not matter."""
    h = open_hand.layer.v_template[hand_coarse.ids]
    expected = hand_coarse.U1 @ (hand_coarse.U2 @ h)
    torch.testing.assert_close(downsampling.upsample(hand_coarse, h), expected, atol=1e-6, rtol=0)


def at(content, key, i, change):
    part = list(content[key])
    part[i] = change(part[i])
    return content | {key: part}


def repeated(D):
    rows = D.tolil()
    rows[1] = rows[0]
    return rows.tocsc()


def blended(D):
    rows = D.tolil()
    rows[0] = (rows[0] + rows[1]) / 2
    return rows.tocsc()


def not_a_number(U):
    U = U.copy()
    U.data[0] = np.nan
    return U


WRONG = {
    "no faces": (lambda c: {k: v for k, v in c.items() if k != "F"}, "F is not a list of 2"),
    "no step": (lambda c: c | {"D": []}, "D is not a list of 1 or more"),
    "dense": (lambda c: at(c, "D", 0, lambda m: m.toarray()), r"D\[0\] is not a sparse matrix"),
    "NaN": (lambda c: at(c, "U", 0, not_a_number), r"U\[0\] is not a sparse matrix of finite"),
    "fewer vertices": (lambda c: at(c, "D", 0, lambda m: m[:194]), r"D\[0\] is \(194, 778\)"),
    "U for D": (lambda c: c | {"D": c["U"], "U": c["D"]}, r"D\[0\] is \(778, 195\)"),
    "a vertex twice": (lambda c: at(c, "D", 0, repeated), r"D\[0\] does not pick one vertex"),
    "a mean of vertices": (lambda c: at(c, "D", 0, blended), r"D\[0\] does not pick one vertex"),
    "twice a vertex": (lambda c: at(c, "D", 0, lambda m: 2 * m), r"D\[0\] does not pick one"),
    "U not D's": (lambda c: at(c, "U", 0, lambda m: 1.01 * m), r"is 0\.01 off the identity"),
    "quads": (lambda c: at(c, "F", 1, lambda f: f[:, [0, 1, 2, 0]]), r"F\[1\] is not a list of"),
    "faces astray": (lambda c: at(c, "F", 1, lambda f: f + 1), r"F\[1\] has other corners"),
    "faces of another level": (lambda c: c | {"F": c["F"][1:]}, r"F\[0\] has other corners"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_broken_file_is_told_in_one_line(open_hand, hand_coarse, tmp_path, name):
    change, message = WRONG[name]
    path = write(tmp_path / "x.npz", change(entries(open_hand, hand_coarse)))
    with pytest.raises(ValueError, match=message) as caught:
        downsampling.load(path, open_hand, samples=20)
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)


def test_a_mesh_of_another_subject_or_another_topology_is_told(
    open_body, open_hand, hand_coarse, tmp_path
):
    content = entries(open_hand, hand_coarse)
    path = write(tmp_path / "x.npz", content)
    with pytest.raises(ValueError, match=r"F is not a list of 3|D\[0\] is \(195, 778\)"):
        downsampling.load(path, open_body)
    order = np.random.default_rng(0).permutation(778)
    path = write(
        tmp_path / "y.npz",
        at(at(content, "D", 0, lambda D: D[:, order]), "U", 0, lambda U: U[order]),
    )
    with pytest.raises(ValueError, match=r"its template lies \d+ cm off this hand's"):
        downsampling.load(path, open_hand, samples=20)


def test_a_hostile_or_missing_file_does_nothing(open_hand, hand_coarse, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    content = entries(open_hand, hand_coarse) | {"D": [Bomb()]}
    with pytest.raises(ValueError, match="do not trust it"):
        downsampling.load(write(tmp_path / "x.npz", content), open_hand)
    assert [path.name for path in tmp_path.iterdir()] == ["x.npz"]
    with pytest.raises(FileNotFoundError, match="no such file"):
        downsampling.load(tmp_path / "none.npz", open_hand)
