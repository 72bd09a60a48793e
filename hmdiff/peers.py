"""Three rival systems, small, on the same frozen features: what Tables 1 and 2 compare with.

Each is close to its paper in how it gets from image to mesh, and equal to the baselines in all
else: features, splits, loss, steps, batch and sizes (`g` of params.yaml).

    FastMETRO (Cho et al., ECCV 2022): encoder-decoder transformer over joint and vertex queries
    Pose2Mesh (Choi et al., ECCV 2020): graph convolutions over a mesh lifted from a detected pose
    HMR (Kanazawa et al., CVPR 2018), SPIN (Kolotouros et al., ICCV 2019): the body's parameters,
        regressed with iterative feedback

Notation as in `denoiser`: V coarse vertices, J joints; f_I (B, 128, 49); heat (B, 2J, 14, 14);
h_0 (B, V, 3), normalised. All follow `train.OnePass`. What derives from a mesh or body file is a
buffer that no checkpoint holds.
"""

from functools import partial
from pathlib import Path

import pandas as pd
import torch
import torch.nn.functional as F
from smplx.lbs import batch_rigid_transform
from torch import Tensor, nn

from .body import BodyModel
from .checkpoint import load_weights
from .coarse import CoarseMesh
from .device import best_device
from .graph import adjacency, harmonics, laplacian
from .params import Params
from .splits import Split
from .train import OnePass, fit

# How the tables call them.
PEERS = {
    "fastmetro": "FastMETRO-style",
    "pose2mesh": "Pose2Mesh-style",
    "hmr": "HMR-style",
}
BETAS = 10
ITERATIONS = 3  # of HMR's feedback
# Two: in the first, the queries attend to each other before they have seen the image, so that one
# alone would make the adjacency mask mean nothing.
DECODER_LAYERS = 2
GRAPH_BLOCKS = 2


class FastMetro(nn.Module):
    """FastMETRO: image tokens through an encoder; joint and vertex queries through a decoder.

    In the decoder's self-attention a vertex sees its mesh neighbours and all joints; a joint sees
    all. The paper also supervises the joint tokens; here the loss is the baselines', on the mesh.

    Args:
        near: (V, V) bool, see `graph.adjacency`. The vertex queries start as the mesh's harmonics,
            as the baselines' vertex ids do.
        J: joint queries.
        mean: (V, 3), what the output is added to.
    """

    def __init__(
        self, near: Tensor, J: int, mean: Tensor, width: int, heads: int, feedforward: int
    ):
        super().__init__()
        block = {"dropout": 0.0, "activation": "gelu", "batch_first": True, "norm_first": True}
        sizes = (width, heads, feedforward)
        self.J = J
        self.image = nn.Sequential(nn.LayerNorm(128), nn.Linear(128, width))
        self.cell = nn.Parameter(torch.randn(49, width) * 0.02)
        self.encoder = nn.TransformerEncoderLayer(*sizes, **block)
        self.memory = nn.LayerNorm(width)
        queries = torch.cat([torch.randn(J, width), harmonics(near, width)])
        self.query = nn.Parameter(queries)
        self.decoder = nn.ModuleList(
            nn.TransformerDecoderLayer(*sizes, **block) for _ in range(DECODER_LAYERS)
        )
        self.output = head(width)
        self.register_buffer("blocked", F.pad(~near, (J, 0, J, 0)), persistent=False)
        self.register_buffer("mean", mean)

    def condition(self, f_I: Tensor, heat: Tensor) -> Tensor:
        """The encoded image tokens c (B, 49, width)."""
        return self.memory(self.encoder(self.image(f_I.transpose(1, 2)) + self.cell))

    def forward(self, c: Tensor) -> Tensor:
        """c (B, 49, width) -> h_0 (B, V, 3)."""
        x = self.query.expand(len(c), -1, -1)  # B (J + V) width
        for layer in self.decoder:
            x = layer(x, c, tgt_mask=self.blocked)
        return self.mean + self.output(x[:, self.J :])


def head(width: int) -> nn.Sequential:
    """Normalisation and a linear map to coordinates that starts at zero: at the mean mesh."""
    linear = nn.Linear(width, 3)
    nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)
    return nn.Sequential(nn.LayerNorm(width), linear)


class Pose2Mesh(nn.Module):
    """Pose2Mesh: PoseNet mends the detected pose; a graph network makes the mesh of both poses.

    The paper detects 2D poses, lifts them to 3D and goes through meshes of growing detail; U is in
    3D already, and the coarse mesh is the only one that is trained on.

    Args:
        near: (V, V) bool, see `graph.adjacency`.
        mean: (V, 3), what the output is added to.
        cube: side of the heatmaps' cube, normalised.
    """

    def __init__(
        self, near: Tensor, J: int, mean: Tensor, cube: float, width: int, feedforward: int
    ):
        super().__init__()
        self.cube = cube
        self.pose_net = nn.Sequential(
            nn.Linear(3 * J, feedforward),
            Residual(nn.LayerNorm(feedforward), nn.GELU(), nn.Linear(feedforward, feedforward)),
            Residual(nn.LayerNorm(feedforward), nn.GELU(), nn.Linear(feedforward, feedforward)),
            nn.LayerNorm(feedforward),
            nn.Linear(feedforward, 3 * J),
        )
        self.joint = nn.Linear(6, width)
        self.joint_id = nn.Parameter(torch.randn(J, width) * 0.02)
        self.lift = nn.Linear(J, len(near))
        self.vertex_id = nn.Parameter(torch.randn(len(near), width) * 0.02)
        self.blocks = nn.ModuleList(GraphBlock(width) for _ in range(GRAPH_BLOCKS))
        self.output = head(width)
        self.register_buffer("graph", laplacian(near), persistent=False)
        self.register_buffer("mean", mean)

    def condition(self, f_I: Tensor, heat: Tensor) -> Tensor:
        """The detected pose c (B, J, 3), normalised."""
        return expected_pose(heat, self.cube)

    def forward(self, c: Tensor) -> Tensor:
        """c (B, J, 3) -> h_0 (B, V, 3)."""
        mended = c + self.pose_net(c.flatten(1)).view_as(c)
        joints = F.gelu(self.joint(torch.cat([c, mended], dim=-1)) + self.joint_id)  # B J width
        x = self.lift(joints.transpose(1, 2)).transpose(1, 2) + self.vertex_id  # B V width
        for block in self.blocks:
            x = block(x, self.graph)
        return self.mean + self.output(x)


def expected_pose(heat: Tensor, cube: float) -> Tensor:
    """Means of the heatmaps (B, 2J, S, S), E_xy over (y, x) and E_z over (x, z): (B, J, 3)."""
    E_xy, E_z = heat.unflatten(1, (2, -1)).unbind(1)  # B J S S
    shares = torch.stack([E_xy.sum(-2), E_xy.sum(-1), E_z.sum(-2)], dim=2)  # B J 3 S
    S = heat.shape[-1]
    centres = (torch.arange(S, device=heat.device) + 0.5) * (cube / S) - cube / 2
    return shares @ centres


class Residual(nn.Sequential):
    """Layers whose result is added to their input."""

    def forward(self, x: Tensor) -> Tensor:
        """Any shape in, the same out."""
        return x + super().forward(x)


class GraphBlock(nn.Module):
    """Two Chebyshev convolutions of order 3 (two rings of neighbours each), added to their input.

    As matrices the graph is dense: at some hundred vertices that is the fast way.
    """

    def __init__(self, width: int):
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.mix = nn.ModuleList(nn.Linear(3 * width, width) for _ in range(2))

    def forward(self, x: Tensor, graph: Tensor) -> Tensor:
        """x (B, V, width), graph (V, V) -> (B, V, width)."""
        y = x
        for norm, mix in zip(self.norms, self.mix, strict=True):
            T0 = F.gelu(norm(y))
            T1 = graph @ T0
            T2 = 2 * graph @ T1 - T0
            y = mix(torch.cat([T0, T1, T2], dim=-1))
        return x + y


class Skin(nn.Module):
    """Linear blend skinning of some vertices of a body or hand, differentiable.

    Args:
        body: the full model.
        ids: (V,) its vertices to pose.
    """

    def __init__(self, body: BodyModel, ids: Tensor):
        super().__init__()
        layer, keep = body.layer, partial(self.register_buffer, persistent=False)
        keep("template", layer.v_template[ids])
        keep("shapedirs", layer.shapedirs[ids, :, :BETAS])
        keep("posedirs", layer.posedirs.unflatten(1, (-1, 3))[:, ids].flatten(1))
        keep("weights", layer.lbs_weights[ids])
        keep("parents", layer.parents.clone())
        # The joints hang on all vertices, but linearly: regress them once.
        keep("joints", layer.J_regressor @ layer.v_template)
        dirs = torch.einsum("jv,vcb->jcb", layer.J_regressor, layer.shapedirs[..., :BETAS])
        keep("joint_dirs", dirs)

    def forward(self, betas: Tensor, R: Tensor) -> Tensor:
        """betas (B, 10), joint rotations R (B, joints, 3, 3) -> (B, V, 3), m, root-relative."""
        J = self.joints + torch.einsum("bl,jcl->bjc", betas, self.joint_dirs)
        bend = (R[:, 1:] - torch.eye(3).to(R)).flatten(1) @ self.posedirs
        v = self.template + torch.einsum("bl,vcl->bvc", betas, self.shapedirs)
        v = v + bend.unflatten(1, (-1, 3))
        _, A = batch_rigid_transform(R, J, self.parents, R.dtype)
        T = (self.weights @ A.flatten(2)).unflatten(2, (4, 4))  # B V 4 4
        posed = (T[..., :3, :3] @ v[..., None])[..., 0] + T[..., :3, 3]
        return posed - J[:, :1]  # the root turns about itself


class Hmr(nn.Module):
    """HMR and SPIN: an image vector and the current parameters give an update, three times.

    Parameters theta: 6D rotations of all joints (Zhou et al., CVPR 2019), then betas. They start
    at the rest pose and the mean shape, turned as a whole towards the mean mesh. There is no
    camera: meshes are root-relative.

    Args:
        skin: poses the coarse vertices.
        mean: (V, 3), normalised.
        hidden: units of the two hidden layers.
        scale_m: metres per normalised unit.
    """

    def __init__(self, skin: Skin, mean: Tensor, hidden: int, scale_m: float):
        super().__init__()
        self.skin, self.scale_m = skin, scale_m
        joints = len(skin.parents)
        R = torch.eye(3).repeat(joints, 1, 1)
        R[0] = nearest_turn(skin(torch.zeros(1, BETAS), R[None])[0], mean)
        start = torch.cat([R[..., :2].flatten(), torch.zeros(BETAS)])
        self.register_buffer("start", start)
        self.image = nn.LayerNorm(128)
        self.update = nn.Sequential(
            nn.Linear(128 + len(start), hidden),
            nn.GELU(),
            nn.Linear(hidden, hidden),
            nn.GELU(),
            nn.Linear(hidden, len(start)),
        )
        nn.init.zeros_(self.update[-1].weight)
        nn.init.zeros_(self.update[-1].bias)

    def condition(self, f_I: Tensor, heat: Tensor) -> Tensor:
        """The mean image token c (B, 128)."""
        return self.image(f_I.transpose(1, 2)).mean(1)

    def forward(self, c: Tensor) -> Tensor:
        """c (B, 128) -> h_0 (B, V, 3)."""
        betas, R = self.parameters_of(c)
        # In bf16 vertices would move by millimetres.
        with torch.autocast(c.device.type, enabled=False):
            return self.skin(betas.float(), R.float()) / self.scale_m

    def parameters_of(self, c: Tensor) -> tuple[Tensor, Tensor]:
        """c (B, 128) -> betas (B, 10) and rotations (B, joints, 3, 3)."""
        theta = self.start.expand(len(c), -1)
        for _ in range(ITERATIONS):
            theta = theta + self.update(torch.cat([c, theta], dim=1))
        turns, betas = theta[:, :-BETAS], theta[:, -BETAS:]
        return betas, rotations(turns.unflatten(1, (-1, 3, 2)))


def rotations(columns: Tensor) -> Tensor:
    """6D (..., 3, 2), two columns, by Gram-Schmidt to rotation matrices (..., 3, 3)."""
    a, b = columns.unbind(-1)
    x = F.normalize(a, dim=-1)
    y = F.normalize(b - (x * b).sum(-1, keepdim=True) * x, dim=-1)
    return torch.stack([x, y, torch.linalg.cross(x, y)], dim=-1)


def nearest_turn(x: Tensor, y: Tensor) -> Tensor:
    """The rotation (3, 3) that brings points x (V, 3) nearest to y (V, 3), about the origin."""
    w, _, vt = torch.linalg.svd((x.mT @ y).double())
    w[:, 2] *= torch.det(w @ vt).sign()
    return (w @ vt).mT.to(x)


def build_peer(
    name: str,
    subject: str,
    params: Params,
    mesh: CoarseMesh,
    body: BodyModel,
    mean: Tensor,
    scale_m: float,
) -> OnePass:
    """An untrained peer, on the CPU.

    Args:
        name: a key of PEERS.
        mean: the mean coarse mesh of the split that trains g, (V, 3), normalised.
        scale_m: metres per normalised unit.
    """
    g, mesh = params.g, mesh.to(torch.device("cpu"))
    near, J = adjacency(mesh.edges, len(mesh.ids)), len(mesh.f)
    if name == "fastmetro":
        return FastMetro(near, J, mean, g.width, g.heads, g.feedforward)
    if name == "pose2mesh":
        cube = params.phi.cube_m[subject] / scale_m
        return Pose2Mesh(near, J, mean, cube, g.width, g.feedforward)
    if name == "hmr":
        return Hmr(Skin(body, mesh.ids), mean, 2 * g.feedforward, scale_m)
    raise ValueError(f"no peer {name!r}; there are {', '.join(PEERS)}")


def load_peer(path: Path, params: Params, mesh: CoarseMesh, body: BodyModel) -> OnePass:
    """Read a checkpoint that `train_peer` wrote, ready for evaluation on the best device."""
    weights, meta = load_weights(path)
    mean = torch.zeros(meta["V"], 3)  # the true one comes with the weights
    model = build_peer(meta["variant"], meta["subject"], params, mesh, body, mean, meta["scale_m"])
    model.load_state_dict(weights)
    return model.to(best_device()).eval().requires_grad_(False)


def train_peer(
    name: str,
    subject: str,
    seed: int,
    data: Split,
    val: Split,
    mesh: CoarseMesh,
    body: BodyModel,
    params: Params,
    out: Path,
    resume: Path,
) -> pd.DataFrame:
    """Train a peer; arguments, results and errors else as of `train.fit`."""
    torch.manual_seed(seed)
    model = build_peer(name, subject, params, mesh, body, data.h_0.mean(0), data.scale_m)
    more = {"lr": params.g.lr, "scale_m": data.scale_m}
    return fit(model, name, subject, seed, data, val, mesh, params, out, resume, more)
