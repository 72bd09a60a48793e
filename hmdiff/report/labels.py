"""What a study's own numbers and sets are called, which its source of images decides.

Numbers from the capture studio's images are *synthetic*, on sets that are like the real ones;
numbers from the licensed sets are *measured*, on those sets themselves. Every table, sheet and
figure takes its words from here.
"""

from dataclasses import dataclass

from ..params import Params

NAMES = {"threedpw": "3DPW", "human36m": "Human3.6M", "freihand": "FreiHAND"}


@dataclass(frozen=True)
class Labels:
    """Words for one source.

    Attributes:
        origin: what a number of our own is: `synthetic` or `measured`.
        pictures: what its images are: `synthetic` or `real`.
        family: what its sets are together: `studio` or `licensed`.
        sets: the name of each data set.
        made: where the pictures come from, as a note says it.
        truth: by data set, what its true meshes are, where that is not plain.
        published: how the paper's columns stand to ours.
        papers: whose the paper's numbers are, beside ours.
        photograph: what a found photograph is to networks that learnt from those images.
    """

    origin: str
    pictures: str
    family: str
    sets: dict[str, str]
    made: str
    truth: dict[str, str]
    published: str
    papers: str
    photograph: str


LABELS = {
    "studio": Labels(
        origin="synthetic",
        pictures="synthetic",
        family="studio",
        sets={dataset: f"{name}-like" for dataset, name in NAMES.items()},
        made="pictures rendered by the capture studio",
        truth={},
        published="Published columns are the paper's, on the licensed sets: other pictures, other "
        "bodies. Compare rows within a column, not published with measured.",
        papers="The paper's numbers are from the licensed sets.",
        photograph="Out of domain (trained on synthetic images)",
    ),
    "raw": Labels(
        origin="measured",
        pictures="real",
        family="licensed",
        sets=NAMES,
        made="on the data sets themselves, read from data/raw",
        truth={
            "threedpw": "3DPW's true meshes are the neutral body in the file's shape and pose, as "
            "METRO takes them; SPIN takes the body of the person's gender.",
            "human36m": "Human3.6M's true joints are those of its motion capture, so that the "
            "regressor reads the predicted ones alone; its true meshes, for MPVE, are body fits to "
            "them, and frames that have none are left out.",
        },
        published="Published columns are the paper's, on the same sets. Its networks for bodies "
        "learnt from UP-3D, MuCo-3DHP, COCO and MPII as well, ours from what prepare.extra names.",
        papers="The paper's numbers are on the same sets.",
        photograph="A found photograph (networks trained on the licensed sets)",
    ),
}


def labels(params: Params) -> Labels:
    """The words for a study's source."""
    return LABELS[params.source]
