"""The peers: their bodies, graphs and masks are right, and they train like everything else."""

import pandas as pd
import pytest
import torch
from smplx.lbs import batch_rodrigues

from hmdiff import closed_form
from hmdiff import params as hmdiff_params
from hmdiff.checkpoint import load_weights
from hmdiff.coarsening import random_meshes
from hmdiff.graph import adjacency, laplacian
from hmdiff.peers import (
    PEERS,
    GraphBlock,
    Skin,
    build_peer,
    expected_pose,
    load_peer,
    nearest_turn,
    rotations,
    train_peer,
)
from hmdiff.report import tables
from hmdiff.splits import Split
from hmdiff.train import loss_of, predict

J, n, SCALE_M = 21, 12, 0.05
STEPS = 4


@pytest.fixture(scope="module")
def params():
    values = hmdiff_params.read_yaml("params.yaml")
    small = {
        "g": {"steps": {"body": STEPS, "hand": STEPS}, "batch": 3, "width": 68, "feedforward": 32},
    }
    return hmdiff_params.parse(hmdiff_params.overlay(values, small), "test")


@pytest.fixture(scope="module")
def split(open_hand, hand_coarse):
    generator = torch.Generator().manual_seed(0)
    vertices, joints = random_meshes(open_hand, n, generator)
    h_0 = (vertices[:, hand_coarse.ids] - joints[:, :1]) / SCALE_M
    heat = torch.rand(n, 2 * J, 14, 14, generator=generator)
    heat = heat / heat.sum((2, 3), keepdim=True)
    f_I = torch.randn(n, 128, 49, generator=generator)
    index = pd.DataFrame({"image": [f"{i}.jpg" for i in range(n)], "dataset": "made up"})
    return Split(index, f_I, heat, torch.zeros(n, J, 3), h_0, None, None, SCALE_M)


@pytest.fixture
def peer(params, split, hand_coarse, open_hand):
    """Builds an untrained peer of the hand by name."""

    def make(name, seed=0):
        torch.manual_seed(seed)
        mean = split.h_0.mean(0)
        return build_peer(name, "hand", params, hand_coarse, open_hand, mean, SCALE_M)

    return make


@pytest.fixture
def trained(params, split, hand_coarse, open_hand, tmp_path):
    """Trains a peer into a folder; returns it."""

    def run(name, folder, settings=params):
        out, resume = tmp_path / folder, tmp_path / "resume.pt"
        train_peer(name, "hand", 0, split, split, hand_coarse, open_hand, settings, out, resume)
        return out

    return run


def content(folder):
    """Name to bytes of a folder's files."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("name", PEERS)
def test_a_peer_gives_a_mesh_an_image_whatever_its_batch_mates(name, peer, split):
    model = peer(name)
    for p in model.parameters():  # outputs start at zero; move them
        p.data += 0.02 * torch.randn(p.shape, generator=torch.Generator().manual_seed(1))
    h_0 = model(model.condition(split.f_I, split.heat))
    assert h_0.shape == split.h_0.shape and h_0.isfinite().all()
    alone = model(model.condition(split.f_I[3:4], split.heat[3:4]))
    torch.testing.assert_close(h_0[3:4], alone, atol=1e-4, rtol=1e-4)


def test_the_tables_call_the_systems_what_their_makers_do():
    # The tables read frames and import no network; so the names stand twice.
    assert tuple(PEERS.values()) == tables.PEERS
    assert closed_form.PLUS == tables.PLUS


@pytest.mark.parametrize("name", PEERS)
def test_a_checkpoint_holds_no_mesh_or_body(name, peer, split):
    model = peer(name)
    kept = {name for name, _ in model.named_parameters()} | {"mean", "start"}
    assert set(model.state_dict()) <= kept


@pytest.mark.parametrize("subject", ["body", "hand"])
def test_skinned_coarse_vertices_are_the_bodys_own(subject, request):
    body = request.getfixturevalue(f"open_{subject}")
    mesh = request.getfixturevalue(f"{subject}_coarse")
    generator, joints = torch.Generator().manual_seed(0), len(body.parents)
    betas = torch.randn(4, 10, generator=generator)
    pose = torch.randn(4, joints * 3, generator=generator) * 0.7
    vertices, keypoints = body.pose(betas, pose, torch.randn(4, 3, generator=generator))
    # MANO counts its pose from the mean pose; rotations count from the flat hand.
    full = pose + getattr(body.layer, "pose_mean", 0.0)
    R = batch_rodrigues(full.reshape(-1, 3)).view(4, joints, 3, 3)
    posed = Skin(body, mesh.ids)(betas, R)
    expected = vertices[:, mesh.ids] - keypoints[:, :1]
    torch.testing.assert_close(posed, expected, atol=1e-5, rtol=0)


def test_two_columns_give_back_their_rotation_at_any_length():
    R = batch_rodrigues(torch.randn(20, 3, generator=torch.Generator().manual_seed(0)))
    skewed = torch.stack([3 * R[..., 0], 0.5 * R[..., 1] + 0.7 * R[..., 0]], dim=-1)
    torch.testing.assert_close(rotations(skewed), R, atol=1e-5, rtol=0)


def test_the_nearest_turn_is_found_and_never_mirrors():
    x = torch.randn(30, 3, generator=torch.Generator().manual_seed(0))
    R = batch_rodrigues(torch.tensor([[0.3, -2.0, 0.8]]))[0]
    torch.testing.assert_close(nearest_turn(x, x @ R.T), R, atol=1e-5, rtol=0)
    assert torch.det(nearest_turn(x, -x)) > 0.99


def test_hmr_starts_at_the_rest_pose_turned_to_the_mean(open_hand, hand_coarse, params):
    R = batch_rodrigues(torch.tensor([[2.0, 0.5, -1.0], *15 * [[1e-6, 0.0, 0.0]]]))
    rest = Skin(open_hand, hand_coarse.ids)(torch.zeros(1, 10), R[None]) / SCALE_M
    model = build_peer("hmr", "hand", params, hand_coarse, open_hand, rest[0], SCALE_M)
    h_0 = model(model.condition(torch.randn(1, 128, 49), torch.zeros(1, 2 * J, 14, 14)))
    torch.testing.assert_close(h_0, rest, atol=1e-4, rtol=0)


def test_the_expected_pose_is_each_cell_times_its_probability(split):
    pose, cube = expected_pose(split.heat, 2.8), 2.8
    for image, joint in ((0, 0), (3, 20)):
        x = y = z = 0.0
        for row in range(14):
            for column in range(14):
                first, second = ((cell + 0.5) / 14 * cube - cube / 2 for cell in (row, column))
                p_xy = split.heat[image, joint, row, column].item()
                p_z = split.heat[image, J + joint, row, column].item()
                x, y, z = x + p_xy * second, y + p_xy * first, z + p_z * second
        torch.testing.assert_close(pose[image, joint], torch.tensor([x, y, z]), atol=1e-5, rtol=0)


def test_a_fastmetro_vertex_sees_its_neighbours_and_the_joints_only(peer, hand_coarse):
    model, V = peer("fastmetro"), len(hand_coarse.ids)
    faces = [set(face) for face in hand_coarse.faces.tolist()]
    layer = model.decoder[0].double()
    c, x = torch.randn(1, 49, 68).double(), torch.randn(1, J + V, 68).double()

    def who_sees(token):
        """Which tokens of the decoder's first layer change with one token."""
        changed = x.clone()
        changed[0, token] = torch.randn(68)
        before, after = (layer(y, c, tgt_mask=model.blocked) for y in (x, changed))
        return set((before != after).any(-1)[0].nonzero().flatten().tolist())

    assert who_sees(0) == set(range(J + V))
    for v in (0, 57, V - 1):
        ring = {v} | {w for face in faces if v in face for w in face}
        assert who_sees(J + v) == set(range(J)) | {J + w for w in ring}


def test_the_graph_network_does_not_care_how_vertices_are_numbered(hand_coarse):
    graph = laplacian(adjacency(hand_coarse.edges, len(hand_coarse.ids)))
    block, x = GraphBlock(16), torch.randn(2, len(graph), 16)
    order = torch.randperm(len(graph))
    renumbered = block(x[:, order], graph[order][:, order])
    torch.testing.assert_close(renumbered, block(x, graph)[:, order], atol=1e-5, rtol=1e-5)


def test_a_graph_block_reaches_four_rings(hand_coarse):
    near = adjacency(hand_coarse.edges, len(hand_coarse.ids))
    x = torch.randn(1, len(near), 16, requires_grad=True)
    GraphBlock(16)(x, laplacian(near))[0, 0].sum().backward()
    rings = torch.linalg.matrix_power(near.double(), 4)[0] > 0
    assert torch.equal(x.grad[0].abs().sum(-1) > 0, rings)


@pytest.mark.parametrize("name", PEERS)
def test_a_few_steps_reduce_the_loss(name, peer, split, hand_coarse, params):
    model = peer(name)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.003)
    losses = []
    for _ in range(12):
        loss = loss_of(model, split, hand_coarse, params, torch.Generator().manual_seed(0))
        optimizer.zero_grad()
        loss.backward()
        assert all(p.grad is not None for p in model.parameters()), "a parameter has no effect"
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.95 * losses[0]


@pytest.mark.parametrize("name", PEERS)
def test_same_seed_same_bits_and_the_checkpoint_reads_back(
    name, trained, split, params, hand_coarse, open_hand
):
    first, second = trained(name, "a"), trained(name, "b")
    assert content(first) == content(second)
    assert set(content(first)) == {"model.safetensors", "history.csv"}
    assert load_weights(first / "model.safetensors")[1]["lr"] == params.g.lr
    model = load_peer(first / "model.safetensors", params, hand_coarse, open_hand)
    moved = predict(model, split) - split.h_0.mean(0)
    assert moved.isfinite().all() and moved.abs().max() > 1e-4


def test_an_unknown_peer_lists_the_known_ones(peer):
    with pytest.raises(ValueError, match="no peer 'metro'; there are fastmetro, pose2mesh, hmr"):
        peer("metro")
