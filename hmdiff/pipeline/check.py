"""Which of the committed numbers hold on this machine, and which of the verdicts.

profiles/expected/{profile}.json holds the metrics of a finished run, each with a tolerance, and its
verdicts on the paper's claims; the last stage of the pipeline compares and writes reports/check.md.
A difference fails nothing: on one machine the CPU repeats a run bit for bit, on another the order
of a sum differs in the last bit, and training makes that grow to, at most, what another seed would
change. Errors may move together by more than the systems differ; the verdicts tell whether the
study says the same.

    python -m hmdiff.pipeline.check runs/smoke   # makes a finished run's numbers the expected ones
"""

import csv
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import yaml

from ..files import write_file
from . import command

EXPECTED = Path("profiles/expected")
# Three trainings in the study differ by 1 % in the median, by over 10 % in some rows of hands.
RELATIVE, LEAST_MM = 0.1, 1.0
HEAD = "| data set | method | measure | expected | here | difference | tolerance |"
RULE = "| :-- | :-- | :-- | --: | --: | --: | --: |"


def rows(metrics: dict, *above: str) -> Iterator[tuple[tuple[str, ...], object]]:
    """((subject, data set, method, measure), value) of a nested metrics.json."""
    for name, value in metrics.items():
        if isinstance(value, dict):
            yield from rows(value, *above, name)
        else:
            yield (*above, name), value


def verdicts(run: Path) -> dict[str, str]:
    """The verdicts of a run's claims that it can test, by claim.

    Raises:
        FileNotFoundError, ValueError: one line; the run is not finished, or the file is damaged.
    """
    path, found = run / "reports/claims.csv", {}
    try:
        with path.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                if row["kind"] == "ours" and row["set"]:
                    claim = f"Table {row['table']}, {row['set']}: {row['better']} < {row['worse']}"
                    found[f"{claim}, {row['metric']}"] = row["verdict"]
    except FileNotFoundError:
        raise unfinished(path) from None
    except (ValueError, KeyError, csv.Error) as error:
        raise ValueError(f"{path}: damaged ({error}); make it again with `dvc repro`") from None
    return found


def expect(run: Path, root: Path = Path(".")) -> Path:
    """Make a finished run's metrics and verdicts the expected ones of its profile; returns the
    file.

    Raises:
        FileNotFoundError, ValueError: one line; the run is not finished, or its files are damaged.
    """
    expected: dict = {}
    for (subject, dataset, method, measure), value in rows(_json(run / "reports/metrics.json")):
        tolerance = round(max(RELATIVE * value, LEAST_MM), 1)
        methods = expected.setdefault(subject, {}).setdefault(dataset, {})
        methods.setdefault(method, {})[measure] = [value, tolerance]
    path = root / EXPECTED / f"{profile(run)}.json"
    text = json.dumps({"errors": expected, "verdicts": verdicts(run)}, indent=1)
    write_file(
        path, text.replace("[\n      ", "[").replace(",\n      ", ", ").replace("\n     ]", "]")
    )
    return path


def profile(run: Path) -> str:
    """The name of a run's profile."""
    return yaml.safe_load((run / "params.yaml").read_text())["profile"]


def write_check(run: Path) -> None:
    """Compare a run with what is expected of its profile; writes reports/check.md.

    Raises:
        FileNotFoundError, ValueError: one line; the run is not finished, or its files are damaged.
    """
    path = run / EXPECTED / f"{profile(run)}.json"
    here = dict(rows(_json(run / "reports/metrics.json")))
    expected = _json(path) if path.is_file() else {}
    lines = compared(profile(run), dict(rows(expected.get("errors", {}))), here)
    lines += changed(expected.get("verdicts", {}), verdicts(run))
    write_file(run / "reports/check.md", "\n".join(lines) + "\n")


def compared(name: str, expected: dict, here: dict) -> list[str]:
    """The lines of check.md.

    Args:
        expected: by (subject, data set, method, measure) a value and its tolerance, mm.
        here: by the same the value measured, mm.
    """
    lines = [f"# Does this run repeat the committed numbers? Profile {name}", ""]
    if not expected:
        return [
            *lines,
            "No numbers are committed for this profile: see `hmdiff/pipeline/check.py`.",
        ]
    both = [key for key in expected if key in here]
    gaps = {key: here[key] - expected[key][0] for key in both}
    out = [key for key in both if not abs(gaps[key]) <= expected[key][1]]
    alone = [" ".join(key) for key in [*expected, *here] if (key in expected) != (key in here)]
    same = sum(gap == 0 for gap in gaps.values())
    lines += [
        f"Of {len(both)} errors (mm) {len(both) - len(out)} hold within their tolerance "
        f"({RELATIVE:.0%} of the value, {LEAST_MM:g} mm at least), {same} of them to the last "
        f"digit; {len(out)} do not.",
        "",
    ]
    for title, keys in {"These do not hold": out, "The largest differences": both}.items():
        worst = sorted(keys, key=lambda key: -abs(gaps[key]) / expected[key][1])[:20]
        table = [
            f"| {dataset} | {method} | {measure} | {expected[key][0]:.1f} | {here[key]:.1f} "
            f"| {gaps[key]:+.1f} | {expected[key][1]:.1f} |"
            for key in worst
            for _, dataset, method, measure in [key]
            if gaps[key]
        ]
        lines += [f"## {title}", "", HEAD, RULE, *table, ""] if table else []
    lines += ["On one side only: " + "; ".join(alone) + "."] if alone else []
    return lines


def changed(expected: dict[str, str], here: dict[str, str]) -> list[str]:
    """The lines of check.md on the verdicts, by claim; none where nothing is expected."""
    both = [claim for claim in expected if claim in here]
    other = [claim for claim in both if here[claim] != expected[claim]]
    if not both:
        return []
    lines = [
        f"Of {len(both)} verdicts on the paper's claims {len(both) - len(other)} are the same."
    ]
    table = [f"| {claim} | {expected[claim]} | {here[claim]} |" for claim in other]
    head = ["", "| claim | expected | here |", "| :-- | :-- | :-- |"]
    return [*lines, *(head + table if table else [])]


def unfinished(path: Path) -> FileNotFoundError:
    """The error for a file that a finished run has."""
    return FileNotFoundError(f"{path}: not there; finish the run with `dvc repro`")


def _json(path: Path) -> dict:
    """The object in a JSON file."""
    try:
        return dict(json.loads(path.read_text()))
    except FileNotFoundError:
        raise unfinished(path) from None
    except (ValueError, TypeError, RecursionError) as error:
        raise ValueError(f"{path}: damaged ({error}); get it again") from None


def main(arguments: list[str] | None = None) -> int:
    """Command line: RUN; exit codes as of `command.run`."""
    return command.run(
        "python -m hmdiff.pipeline.check RUN", lambda run: print(expect(Path(run))), arguments
    )


if __name__ == "__main__":
    sys.exit(main())
