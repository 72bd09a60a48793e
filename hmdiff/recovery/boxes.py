"""Boxes of many pictures in one file, as a detector of people writes them.

A CSV with the columns picture, x, y, width, height (others are left alone), a line a person; the
picture is a file's name, with or without folders.
"""

import csv
from pathlib import Path, PurePath

from ..datasets.sample import broken, present

COLUMNS = ("picture", "x", "y", "width", "height")
LARGEST = 100_000_000  # bytes; a million boxes take half of it
Box = tuple[float, float, float, float]


def read(path: Path) -> dict[str, list[Box]]:
    """The boxes of each picture by its name without folders, in the file's order.

    Raises:
        FileNotFoundError, ValueError: one line that names the file, its fault and the remedy.
    """
    remedy = f"give a CSV file with the columns {', '.join(COLUMNS)}"
    if not present(path, "correct the path").is_file() or path.stat().st_size > LARGEST:
        raise broken(path, f"no file of at most {LARGEST // 10**6} MB", remedy)
    found: dict[str, list[Box]] = {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            if missing := [name for name in COLUMNS if name not in (reader.fieldnames or ())]:
                raise ValueError(f"no column {missing[0]}")
            for row in reader:
                name, *numbers = (row[column] or "" for column in COLUMNS)
                box = tuple(number(reader.line_num, text) for text in numbers)
                found.setdefault(PurePath(name).name, []).append(box)
    except (ValueError, csv.Error) as error:  # bytes that are no UTF-8 among them
        raise broken(path, f"{error!s:.100}", remedy) from None
    return found


def number(line: int, text: str) -> float:
    """A number in a line of the file."""
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"line {line}: {text[:30]!r} is no number") from None
