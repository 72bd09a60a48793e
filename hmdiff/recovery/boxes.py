"""Boxes of many pictures in one file, as a detector of people writes them.

A CSV with the columns picture, x, y, width, height (others are left alone), a line a person; the
picture is a file's name, with or without folders. Pictures of two folders with one name cannot be
told apart, and are refused.
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
    folders: dict[str, set[PurePath]] = {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            if missing := [name for name in COLUMNS if name not in (reader.fieldnames or ())]:
                raise ValueError(f"no column {missing[0]}")
            for row in reader:
                name, *numbers = (row[column] or "" for column in COLUMNS)
                box = tuple(number(reader.line_num, text) for text in numbers)
                picture = PurePath(name)
                found.setdefault(picture.name, []).append(box)
                folders.setdefault(picture.name, set()).add(picture.parent)
    except (ValueError, csv.Error) as error:  # bytes that are no UTF-8 among them
        raise broken(path, f"{error!s:.100}", remedy) from None
    for name, places in folders.items():
        if len(named := sorted(places - {PurePath()})) > 1:
            fault = f"names {named[0] / name} and {named[1] / name}"
            raise broken(path, fault, "recover each folder with a file of its own")
    return found


def number(line: int, text: str) -> float:
    """A number in a line of the file."""
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"line {line}: {text[:30]!r} is no number") from None
