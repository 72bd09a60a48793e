"""Tables 1 to 6 of the paper as published, and the orderings that they assert, as data.

Every number here was read from the paper (ICCV 2023, Sec. 5). Nothing here was measured by this
project, and nothing here may be mixed into a measured column. Distances in mm; lower is better
except for F-scores and frames per second.
"""

from dataclasses import dataclass
from itertools import pairwise

LOWER = frozenset({"MPVE", "MPJPE", "PA_MPVPE", "PA_MPJPE"})
LABELS = {
    "MPVE": "MPVE",
    "MPJPE": "MPJPE",
    "PA_MPVPE": "PA-MPVPE",
    "PA_MPJPE": "PA-MPJPE",
    "F5": "F@5 mm",
    "F15": "F@15 mm",
    "AUC": "AUC",
    "FPS": "FPS",
    "steps": "Steps needed",
}


@dataclass(frozen=True)
class Column:
    """One published column: the dataset it was measured on and the measure."""

    dataset: str
    metric: str


@dataclass(frozen=True)
class Row:
    """One published row.

    Attributes:
        label: the paper's name.
        values: one for each column, None where the paper prints a dash.
        method: our name of the same system in the errors frames; None for published peers, which
            this project does not run.
    """

    label: str
    values: tuple[float | None, ...]
    method: str | None = None


@dataclass(frozen=True)
class PaperTable:
    """A table as printed; the last row is the paper's own system."""

    number: int
    title: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]

    @property
    def ours(self) -> Row:
        """The paper's own row."""
        return self.rows[-1]


@dataclass(frozen=True)
class Claim:
    """`better` beats `worse` by the published numbers of one table and metric.

    Attributes:
        kind: "ours" (the paper's system against another) or "order" (two neighbours among the
            others, ordered by the published numbers).
    """

    table: int
    dataset: str
    metric: str
    better: Row
    worse: Row
    better_value: float
    worse_value: float
    kind: str

    @property
    def testable(self) -> bool:
        """Whether this project runs both systems."""
        return self.better.method is not None and self.worse.method is not None

    @property
    def gain(self) -> float:
        """By how much `better` is better, as a share of the value of `worse`."""
        return abs(self.worse_value - self.better_value) / self.worse_value


_ABLATION = tuple(Column("3DPW", metric) for metric in ("MPVE", "MPJPE", "PA_MPJPE"))

TABLES = (
    PaperTable(
        1,
        "Comparison results on 3DPW and Human3.6M",
        (*_ABLATION, Column("Human3.6M", "MPJPE"), Column("Human3.6M", "PA_MPJPE")),
        (
            Row("Kanazawa et al.", (None, None, 81.3, 88.0, 56.8)),
            Row("GraphCMR", (None, None, 70.2, None, 50.1)),
            Row("SPIN", (116.4, None, 59.2, None, 41.1)),
            Row("Pose2Mesh", (None, 89.2, 58.9, 64.9, 47.0)),
            Row("I2LMeshNet", (None, 93.2, 57.7, 55.7, 41.1)),
            Row("VIBE", (99.1, 82.0, 51.9, 65.6, 41.4)),
            Row("METRO", (88.2, 77.1, 47.9, 54.0, 36.7)),
            Row("Mesh Graphormer", (87.7, 74.7, 45.6, 51.2, 34.5)),
            Row("FastMETRO", (84.1, 73.5, 44.6, 52.2, 33.7)),
            Row("Ours", (82.4, 72.7, 44.5, 49.3, 32.4), "Ours"),
        ),
    ),
    PaperTable(
        2,
        "Comparison results on FreiHAND",
        tuple(Column("FreiHAND", metric) for metric in ("PA_MPVPE", "PA_MPJPE", "F5", "F15")),
        (
            Row("Hasson et al.", (13.2, None, 0.436, 0.908)),
            Row("Boukhayma et al.", (13.0, None, 0.435, 0.898)),
            Row("FreiHAND", (10.7, None, 0.529, 0.935)),
            Row("Pose2Mesh", (7.8, 7.7, 0.674, 0.969)),
            Row("I2LMeshNet", (7.6, 7.4, 0.681, 0.973)),
            Row("METRO", (6.7, 6.8, 0.717, 0.981)),
            Row("Mesh Graphormer", (5.9, 6.0, 0.764, 0.986)),
            Row("FastMETRO", (None, 6.5, None, 0.982)),
            Row("Ours", (5.7, 5.6, 0.781, 0.986), "Ours"),
        ),
    ),
    PaperTable(
        3,
        "Evaluation of the diffusion pipeline",
        _ABLATION,
        (
            Row("Baseline A", (104.0, 93.2, 57.6), "Baseline A"),
            Row("Baseline B", (97.1, 85.9, 52.7), "Baseline B"),
            Row("Ours", (82.4, 72.7, 44.5), "Ours"),
        ),
    ),
    PaperTable(
        4,
        "Evaluation of the impact of DAT",
        (*_ABLATION, Column("3DPW", "steps")),
        (
            Row("Image Feature", (94.9, 83.3, 51.3, 200), "Image Feature"),
            Row("Pose Feature", (92.7, 81.4, 50.5, 200), "Pose Feature"),
            Row("Both Features", (92.3, 81.1, 49.9, 100), "Both Features"),
            Row("Ours (with DAT)", (82.4, 72.7, 44.5, 40), "Ours"),
        ),
    ),
    PaperTable(
        5,
        "Evaluation of the components of DAT",
        _ABLATION,
        (
            Row("Ours w/ H_U", (93.5, 82.1, 50.4), "Ours w/ H_U"),
            Row("Direct L2", (91.3, 78.0, 50.0), "Direct L2"),
            Row("Ours w/ u_c", (89.9, 76.5, 49.2), "Ours w/ u_c"),
            Row("Ours w/o AS", (85.3, 72.9, 46.6), "Ours w/o AS"),
            Row("Ours", (82.4, 72.7, 44.5), "Ours"),
        ),
    ),
    PaperTable(
        6,
        "Comparison of inference speed",
        (Column("Human3.6M", "MPJPE"), Column("Human3.6M", "FPS")),
        (Row("FastMETRO", (52.2, 23)), Row("Ours", (49.3, 18), "Ours")),
    ),
)


def table(number: int) -> PaperTable:
    """The published table of that number, 1 to 6."""
    return TABLES[number - 1]


def beats(metric: str, a: float, b: float) -> bool:
    """Whether `a` is strictly the better value of `metric`."""
    return a < b if metric in LOWER or metric == "steps" else a > b


def claims() -> list[Claim]:
    """Every strict ordering that the tables print.

    That is the paper's system against each other row, and each row against its neighbour among the
    other systems that this project runs. Ties (F@15 mm of Mesh Graphormer) assert nothing.
    """
    found = []
    for t in TABLES:
        run = [row for row in t.rows[:-1] if row.method is not None]
        pairs = [(t.ours, other, "ours") for other in t.rows[:-1]]
        pairs += [(b, a, "order") for a, b in pairwise(run)]
        for i, column in enumerate(t.columns):
            for a, b, kind in pairs:
                x, y = a.values[i], b.values[i]
                if x is None or y is None or x == y:
                    continue
                if not beats(column.metric, x, y):
                    a, b, x, y = b, a, y, x
                found.append(Claim(t.number, column.dataset, column.metric, a, b, x, y, kind))
    return found
