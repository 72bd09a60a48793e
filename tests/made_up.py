"""A tiny split to train g on, and a coarse mesh: right in shape, otherwise noise."""

from dataclasses import fields

import pandas as pd
import torch

from hmdiff.coarse import CoarseMesh
from hmdiff.pose import PoseDistribution
from hmdiff.splits import Split

V, V_FULL, J = 12, 30, 21


def split(n: int) -> Split:
    """n samples of one person."""
    generator = torch.Generator().manual_seed(0)
    full = torch.randn(n, V_FULL, 3, generator=generator)
    E = torch.rand(n, 2, J, 56, 56, generator=generator)
    E = E / E.sum((3, 4), keepdim=True)
    heat = torch.nn.functional.avg_pool2d(E.flatten(1, 2), 4) * 16
    U = PoseDistribution(E[:, 0], E[:, 1], cube=4.0)
    index = pd.DataFrame(
        {"image": [f"{i}.jpg" for i in range(n)], "dataset": "made up", "split": "val", "person": 0}
    )
    f_I = torch.randn(n, 128, 49, generator=generator)
    return Split(index, f_I, heat, U.mean(), full[:, :V], U, full / 10, scale_m=0.1)


def mesh() -> CoarseMesh:
    """A strip of triangles, whose joints are random means of its vertices."""
    f = torch.softmax(torch.randn(J, V, generator=torch.Generator().manual_seed(1)), dim=1)
    faces = torch.tensor([[i, i + 1, i + 2] for i in range(V - 2)])
    edges = torch.tensor([[i, j] for i in range(V) for j in (i + 1, i + 2) if j < V])
    others = dict.fromkeys((field.name for field in fields(CoarseMesh)), torch.zeros(0))
    return CoarseMesh(**others | {"ids": torch.arange(V), "f": f, "faces": faces, "edges": edges})
