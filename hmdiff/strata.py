"""What makes an image hard: the strata by which the report breaks errors down.

The paper argues that DAT helps where depth is ambiguous and where the body hides itself or is
hidden. So each test image is put into one stratum of each of three kinds:

    visibility  truncated (over 5% of the vertices outside the frame), else occluded (over 10% of
                the person behind something), else visible; the studio knows both, of licensed
                images neither is known
    facing      front, side or back: how the line from the right hip to the left one lies, which
                is to the right in a picture of someone who faces the camera (body only)
    U           narrow, middle or wide: thirds of a set's images by the mean spread of U
"""

from pathlib import Path

import numpy as np
import pandas as pd
import torch

from .splits import Split

KINDS = {
    "visibility": ("visible", "occluded", "truncated"),
    "facing": ("front", "side", "back"),
    "U": ("narrow", "middle", "wide"),
}
TRUNCATED, VISIBLE, SIDEWAYS = 0.05, 0.9, 0.5
LEFT_HIP, RIGHT_HIP = 1, 2  # of SMPL's joints


def visibility(visible: np.ndarray, truncated: np.ndarray) -> np.ndarray:
    """Shares (n,) of the person that nothing hides, and that lie outside the frame, to names."""
    return np.where(
        truncated > TRUNCATED, "truncated", np.where(visible < VISIBLE, "occluded", "visible")
    )


def facing(joints: np.ndarray) -> np.ndarray:
    """Joints (n x 24 x 3, camera axes) to names."""
    across = joints[:, LEFT_HIP] - joints[:, RIGHT_HIP]
    turn = across[:, 0] / np.hypot(across[:, 0], across[:, 2])
    return np.select([turn > SIDEWAYS, turn < -SIDEWAYS], ["front", "back"], "side")


def thirds(spread: pd.Series, sets: pd.Series) -> np.ndarray:
    """The spread of U of each image to its third among the images of its set."""
    rank = spread.groupby(sets.to_numpy()).rank(method="first", pct=True)
    return np.select([rank <= 1 / 3, rank <= 2 / 3], ["narrow", "middle"], "wide")


def stratify(split: Split, joints: np.ndarray, subject: str, studio: Path | None) -> pd.DataFrame:
    """The strata of each image of a split.

    Args:
        joints: n x J x 3, true.
        studio: the folder of the subject's studio sets, which know what is hidden; None where
            the images are not the studio's, and their visibility stays empty.

    Returns:
        columns image, dataset, and one for each of KINDS that the subject has.

    Raises:
        ValueError: an image is not of the studio.
    """
    index = split.index
    found = index[["image", "dataset"]].copy()
    found["visibility"] = None
    if studio is not None:
        seen = known(index["image"], studio)
        found["visibility"] = visibility(seen["visible"].to_numpy(), seen["truncated"].to_numpy())
    if subject == "body":
        found["facing"] = facing(joints)
    spread = torch.cat([U.spread().mean(dim=1) for U in split.U.parts()])
    spread = pd.Series(spread.numpy(), index=index.index)
    found["U"] = thirds(spread, index["dataset"])
    return found


def known(images: pd.Series, studio: Path) -> pd.DataFrame:
    """What the studio knows of each image: columns visible and truncated; errors of `stratify`."""
    seen = pd.concat(
        pd.read_parquet(path).assign(image=lambda t, folder=path.parent: folder / t["image"])
        for path in sorted(studio.glob("*/studio.parquet"))
    )
    seen = seen.assign(image=seen["image"].astype(str)).set_index("image")
    if not images.isin(seen.index).all():
        missing = images[~images.isin(seen.index)].iloc[0]
        raise ValueError(f"{missing}: not in {studio}/*/studio.parquet; capture the sets again")
    return seen.loc[images]
