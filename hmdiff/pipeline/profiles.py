"""Try a profile in a copy of the project, so that the committed results stay as they are.

    python -m hmdiff.pipeline.profiles smoke runs/smoke && cd runs/smoke && dvc repro

The copy holds the working tree's own files (what git tracks or would track), less the reports and
the lock of the pipeline, and is a DVC project of its own with its own cache. Its params.yaml is
the project's with profiles/<name>.yaml laid over it. Its data/raw is a link to the project's, so
that licensed data lie in one place, for every profile. A second call brings the copy up to date
and leaves its data, cache, lock and reports alone, so that `dvc repro` runs only what changed.
"""

import shutil
import subprocess
import sys
from filecmp import cmp
from pathlib import Path

import yaml

from ..files import write_file
from ..params import overlay, parse, read_yaml
from . import command

OWN = ("reports/", "dvc.lock", "params.yaml", "data/raw/")  # the copy has its own
RAW = Path("data/raw")
LISTING = ".copied"  # in the copy: what the last call put there


def merged(name: str, root: Path = Path(".")) -> dict:
    """The values of params.yaml under the overlay profiles/<name>.yaml, checked; of `default` those
    of params.yaml alone.

    Raises:
        ValueError: one line that names the file, the key, what is wrong and the remedy.
    """
    path = root / "params.yaml"
    values = read_yaml(path)
    if name != "default":
        path = root / "profiles" / f"{name}.yaml"
        if not path.is_file():
            there = ", ".join(sorted(file.stem for file in path.parent.glob("*.yaml")))
            raise ValueError(f"{path}: no such profile; there are: default, {there}")
        values = overlay(values, read_yaml(path))
    parse(values, path)
    return values


def sources(root: Path) -> list[str]:
    """The working tree's files that git tracks or would track, less what a copy has of its own.

    Raises:
        ValueError: `root` is not a git working tree.
    """
    command = ["git", "-C", str(root), "ls-files", "-z", "--cached", "--others"]
    try:
        listed = subprocess.run(
            [*command, "--exclude-standard"], capture_output=True, text=True, check=True
        ).stdout
    except (subprocess.CalledProcessError, FileNotFoundError):
        raise ValueError(f"{root}: git cannot list its files; work in a git clone") from None
    names = sorted(name for name in listed.split("\0") if name and not name.startswith(OWN))
    return [name for name in names if (root / name).is_file()]


def put(text: str, path: Path) -> None:
    """Write `text` at once, and only where it differs from what is there."""
    if not (path.is_file() and path.read_text("utf-8") == text):
        write_file(path, text)


def copy(name: str, to: Path, root: Path = Path(".")) -> None:
    """Make or refresh the copy of the project at `to` with profile `name`; errors as in `merged`.

    Raises:
        ValueError: `to` holds something that is no such copy.
    """
    values, names, listing = merged(name, root), sources(root), to / LISTING
    if to.exists() and any(to.iterdir()) and not listing.is_file():
        raise ValueError(f"{to}: holds other files; name a new folder, or remove it")
    before = set(listing.read_text("utf-8").splitlines()) if listing.is_file() else set()
    put("\n".join(sorted(before.union(names))) + "\n", listing)
    for file in names:
        if not (to / file).is_file() or not cmp(root / file, to / file, shallow=False):
            (to / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(root / file, to / file)
    for file in before.difference(names):
        (to / file).unlink(missing_ok=True)
    put("\n".join(names) + "\n", listing)
    link(root / RAW, to / RAW)
    head = f"# Made from params.yaml for the profile {name}; change that, or profiles/.\n"
    put(head + yaml.safe_dump(values, sort_keys=False), to / "params.yaml")
    # A DVC project of its own: it takes no notice of the git working tree that it lies in.
    put("[core]\n    no_scm = true\n", to / ".dvc" / "config.local")


def link(folder: Path, at: Path) -> None:
    """Make `at` a link to `folder`, in place of an empty folder or another link.

    Raises:
        ValueError: `at` holds files of its own.
    """
    if at.is_symlink():
        at.unlink()
    elif at.is_dir():
        try:
            at.rmdir()
        except OSError:
            fault = f"holds files; move them to {folder}, which it will link to"
            raise ValueError(f"{at}: {fault}") from None
    at.parent.mkdir(parents=True, exist_ok=True)
    at.symlink_to(folder.resolve(), target_is_directory=True)


def main(arguments: list[str] | None = None) -> int:
    """Command line: NAME FOLDER; exit codes as of `command.run`."""
    usage = "python -m hmdiff.pipeline.profiles NAME FOLDER"
    return command.run(usage, lambda name, to: copy(name, Path(to)), arguments)


if __name__ == "__main__":
    sys.exit(main())
