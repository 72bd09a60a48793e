"""Before `dvc repro`: put away what a kill has cut off of DVC's own two files.

DVC writes dvc.lock and .dvc/tmp/rwlock in place, not at once, and a run that is killed meanwhile
leaves half a file, which the next `dvc repro` refuses. Without them nothing is lost: results are
found again in the cache of runs, and only stages that write reports are run again.

    python -m hmdiff.pipeline.mend && dvc repro
"""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml


def is_lock(content: Any) -> bool:
    """Whether it is a whole dvc.lock: stages, each with a command and lists of files."""
    if not (isinstance(content, dict) and {"schema", "stages"} <= content.keys()):
        return False
    return isinstance(content["stages"], dict) and all(
        isinstance(stage, dict)
        and isinstance(stage.get("cmd"), str)
        and all(
            isinstance(file, dict) and {"path", "md5"} <= {key for key, v in file.items() if v}
            for kind in ("deps", "outs")
            for file in stage.get(kind, []) or [None] * (kind in stage)
        )
        for stage in content["stages"].values()
    )


FILES: dict[str, tuple[Callable[[bytes], Any], Callable[[Any], bool]]] = {
    "dvc.lock": (
        lambda data: yaml.load(data, getattr(yaml, "CSafeLoader", yaml.SafeLoader)), is_lock
    ),
    ".dvc/tmp/rwlock": (json.loads, lambda content: isinstance(content, dict)),
}  # fmt: skip


def mend(root: Path = Path(".")) -> list[Path]:
    """Rename each of the two files that is cut off to <name>.broken; returns those."""
    found = []
    for name, (parse, whole) in FILES.items():
        path = root / name
        if not path.is_file():
            continue
        try:
            fine = whole(parse(path.read_bytes()))
        except (yaml.YAMLError, ValueError):
            fine = False
        if not fine:
            os.replace(path, path.with_name(path.name + ".broken"))
            found.append(path)
    return found


if __name__ == "__main__":
    for broken in mend():
        print(f"{broken}: cut off by a kill, put away as {broken.name}.broken", file=sys.stderr)
