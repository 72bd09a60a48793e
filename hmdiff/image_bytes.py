"""Where the bytes of a picture are: in a file of its own, or in a row of a METRO TSV.

A TSV (`<name>.img.tsv`) holds one picture a line: a key, a tab, the picture as base64 (of more
columns the last). It is addressed as a path below the TSV, `<name>.img.tsv/<offset>`, where offset
is the byte at which the line starts; so it can stand wherever a picture's path can.
"""

import base64
import binascii
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

LONGEST_LINE = 1 << 28  # bytes; a line that goes on beyond is no picture
FORMATS = ("JPEG", "PNG")  # of data sets; for some others Pillow would start programs


def address(tsv: Path, offset: int) -> Path:
    """The path of the picture in the line that starts at a byte of a TSV."""
    return tsv / str(offset)


def located(path: Path) -> tuple[Path, int | None]:
    """The file that holds a picture, and the byte of it where its line starts (None: no TSV)."""
    in_tsv = path.parent.suffix == ".tsv" and path.name.isdecimal()
    return (path.parent, int(path.name)) if in_tsv else (path, None)


def open_picture(path: str | Path) -> BinaryIO:
    """The picture's bytes, as an open file.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the TSV has no line there, or no base64 in it.
    """
    file, offset = located(Path(path))
    try:
        source = file.open("rb")
    except (FileNotFoundError, NotADirectoryError):
        remedy = "copy or make the data set again"
        raise FileNotFoundError(f"{file}: not there; {remedy}") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is no name of a file"
        raise ValueError(f"{file!r}: cannot be opened ({reason:.120}); replace it") from None
    if offset is None:
        return source
    with source:
        source.seek(offset)
        line = source.readline(LONGEST_LINE)
    if not line.endswith(b"\n"):
        fault = "ends within the picture" if line else f"ends before byte {offset}"
        raise ValueError(f"{file}: {fault}: cut off, or its .lineidx is another's; get both again")
    try:
        return BytesIO(base64.b64decode(line.rstrip(b"\r\n").rpartition(b"\t")[2], validate=True))
    except binascii.Error:
        raise ValueError(
            f"{file}: no base64 at byte {offset}; get it and its .lineidx again"
        ) from None
