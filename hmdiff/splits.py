"""One split of the study in memory: the frozen networks' outputs beside the meshes they belong to.

Everything is normalised (root-relative, camera axes, divided by `scale_m`), except `mesh`.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from .checkpoint import fingerprint
from .pose import PoseDistribution
from .stored import read_array, read_meta, read_table


@dataclass(frozen=True)
class Split:
    """n samples of one split.

    Attributes:
        index: the samples' rows of index.parquet.
        f_I: image features, (n, 128, 49).
        heat: pooled heatmaps, (n, 2J, 14, 14).
        u_mean: mean of U, (n, J, 3).
        h_0: true coarse meshes, (n, V, 3).
        U: the pose distribution of each sample; None in the split that trains g.
        mesh: true full meshes in metres, root-relative, (n, V_full, 3); None likewise.
        scale_m: metres per normalised unit.
        mocap: joints that the set itself holds predictions against, metres, rooted, (n, 17, 3) of
            Human3.6M's motion capture or (n, 21, 3) of FreiHAND, NaN where a sample has none; None
            where they are not kept (`prepare`).
    """

    index: pd.DataFrame
    f_I: Tensor
    heat: Tensor
    u_mean: Tensor
    h_0: Tensor
    U: PoseDistribution | None
    mesh: Tensor | None
    scale_m: float
    mocap: Tensor | None = None

    def __len__(self) -> int:
        return len(self.index)

    @cached_property
    def content(self) -> str:
        """A hash of what the systems see, and of what they should find."""
        truth = [self.h_0] if self.mocap is None else [self.h_0, self.mocap]
        return fingerprint((self.f_I, self.heat, *truth))

    def take(self, rows: np.ndarray | slice) -> "Split":
        """Some of the samples, by position."""
        return replace(
            self,
            index=self.index.iloc[rows].reset_index(drop=True),
            f_I=self.f_I[rows],
            heat=self.heat[rows],
            u_mean=self.u_mean[rows],
            h_0=self.h_0[rows],
            U=self.U and self.U.take(rows),
            mesh=None if self.mesh is None else self.mesh[rows],
            mocap=None if self.mocap is None else self.mocap[rows],
        )

    def evenly(self, count: int) -> "Split":
        """At most `count` of the samples, evenly spaced."""
        rows = np.linspace(0, len(self) - 1, min(count, len(self))).astype(int)
        return self.take(rows)


def load_split(subject: str, split: str, data: Path, cube_m: float) -> Split:
    """Read split `g`, `val` or `test` of a subject from data/prepared and data/features.

    Raises:
        FileNotFoundError, ValueError: one line that names the file that is missing or damaged.
    """
    prepared, features = data / "prepared" / subject, data / "features" / subject
    for path in (prepared / "index.parquet", features / f"{split}_f_I.npy"):
        if not path.is_file():
            raise FileNotFoundError(f"{path}: not there; run `dvc repro features`")
    scale_m = read_meta(prepared / "meta.json")["scale_m"]
    index = read_table(prepared / "index.parquet")
    rows = np.flatnonzero(index["split"] == split)

    def feature(name: str) -> Tensor:
        return torch.from_numpy(read_array(features / f"{split}_{name}.npy")).float()

    h_0 = read_array(prepared / "h0.npy")[rows[0] : rows[-1] + 1] / scale_m
    U = mesh = None
    if split != "g":
        U = PoseDistribution(*feature("E").unbind(1), cube=cube_m / scale_m)
        mesh = torch.from_numpy(read_array(prepared / f"mesh_{split}.npy"))
    mocap = prepared / f"mocap_{split}.npy"
    return Split(
        index=index.iloc[rows].reset_index(drop=True),
        f_I=feature("f_I"),
        heat=feature("pooled"),
        u_mean=feature("u_mean"),
        h_0=torch.from_numpy(h_0.astype(np.float32)),
        U=U,
        mesh=mesh,
        scale_m=scale_m,
        mocap=torch.from_numpy(read_array(mocap)) if mocap.is_file() else None,
    )
