"""The elements of a JSON file's outermost object, one at a time, in memory that does not grow.

COCO-style annotations are lists under a few keys, fits are objects under many; both come out as
(key, element). Each element is parsed by the standard library; only the outermost two levels are
walked here.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .sample import broken, present

CHUNK = 1 << 20  # characters read at a time
LARGEST = 1 << 26  # characters of one element
SPACE = re.compile(r"[ \t\r\n]*")
FOLLOWS = frozenset(" \t\r\n,:]}")


def elements(path: Path) -> Iterator[tuple[str, Any]]:
    """(key, element) for each element of each list, (key, value) for what is no list.

    Raises:
        FileNotFoundError, ValueError: one line; the file is missing, cut off or no JSON object.
    """
    with present(path).open(encoding="utf-8") as file:
        text = _Text(path, file)
        text.expect("{")
        while not text.skip("}"):
            key = text.value()
            text.expect(":")
            if not isinstance(key, str):
                raise text.fault()
            if text.skip("["):
                while not text.skip("]"):
                    yield key, text.value()
                    if not text.skip(","):
                        text.expect("]")
                        break
            else:
                yield key, text.value()
            if not text.skip(","):
                text.expect("}")
                break
        text.end()


class _Text:
    """A text file and a place in it."""

    def __init__(self, path: Path, file: Any):
        self.path, self.file = path, file
        self.buffer, self.at, self.whole = "", 0, False
        self.decoder = json.JSONDecoder()

    def fault(self) -> ValueError:
        return broken(self.path, "not whole JSON: cut off or another file", "get it again")

    def more(self) -> bool:
        """Read on, and forget what has been read; False at the file's end."""
        try:
            chunk = self.file.read(max(CHUNK, len(self.buffer) - self.at))
        except UnicodeDecodeError:
            raise self.fault() from None
        self.buffer, self.at, self.whole = self.buffer[self.at :] + chunk, 0, not chunk
        return bool(chunk)

    def peek(self) -> str:
        """The next character that is no space, or "" at the end."""
        while True:
            self.at = SPACE.match(self.buffer, self.at).end()
            if self.at < len(self.buffer) or not self.more():
                return self.buffer[self.at : self.at + 1]

    def skip(self, mark: str) -> bool:
        """Pass over a mark, if it is next."""
        found = self.peek() == mark
        self.at += found
        return found

    def expect(self, mark: str) -> None:
        if not self.skip(mark):
            raise self.fault()

    def value(self) -> Any:
        """The next value. What follows it must be seen, for "1" may go on as "1.5"."""
        self.peek()
        while True:
            try:
                value, end = self.decoder.raw_decode(self.buffer, self.at)
                if self.whole or self.buffer[end : end + 1] in FOLLOWS:
                    self.at = end
                    return value
            except RecursionError:
                raise broken(self.path, "nested without end", "get it again") from None
            except ValueError:
                if self.whole:
                    raise self.fault() from None
            if len(self.buffer) - self.at > LARGEST:
                raise self.fault()
            self.more()

    def end(self) -> None:
        if self.peek():
            raise self.fault()
