"""Run one parameterised notebook of the pipeline: papermill, then stable bytes, then a web page.

    python -m hmdiff.pipeline.notebook notebooks/pipeline/train.ipynb -p subject body -p seed 0

Where HMDIFF_LAUNCH names a launcher, such as `accelerate launch --num_processes 8`, the notebooks
that know how to share their work (SPREAD) are run by it: every process executes the notebook, and
the first alone writes (see `processes`).

The executed notebook and its page are reports: they show what a stage did and are written beside
each other under reports/notebooks/, named after the notebook and its parameters. They are never
dependencies. Results are what the notebook's calls into the package write.

Two runs of a deterministic notebook give the same bytes: timings and random cell ids go, and so
does what was written to standard error (progress bars, warnings), which the terminal shows instead.
"""

import argparse
import os
import shlex
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

# jsonschema compiles a grammar of internationalised addresses at import, which takes longer than
# everything else here together; a notebook's schema has no use for it, and jsonschema can miss it.
sys.modules.setdefault("rfc3987_syntax", None)

import nbformat
import papermill
import yaml
from nbclient.exceptions import DeadKernelError
from nbstripout import strip_output
from papermill.exceptions import PapermillExecutionError

from ..files import write_file

VOLATILE = ["metadata.papermill", "metadata.widgets", "cell.metadata.papermill",
            "cell.metadata.execution"]  # fmt: skip
SPREAD = {"search", "phi", "features", "train", "train_peer", "tune", "evaluate",
          "ablate_components", "ablate_dat", "readings", "convergence",
          "distribution"}  # fmt: skip
# Errors that are no fault of the code, with what helps where the message itself does not say it.
EXPECTED = {
    "ValueError": "",
    "FileNotFoundError": "",
    "FloatingPointError": "",
    "KeyboardInterrupt": "",
    "OSError": "free space on the disk or mend it, then `dvc repro` goes on",
    "PermissionError": "make the folder writable, then `dvc repro` goes on",
    "MemoryError": "free memory, or lower batch in params.yaml",
    "OutOfMemoryError": "free the device's memory, or lower batch in params.yaml",
}
# glibc gives large blocks back to the system at once, and every fresh one costs its pages anew: a
# seventh of a training step of g. With these it keeps them; other C libraries do not look.
MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(32 * 2**20), "MALLOC_TRIM_THRESHOLD_": str(2**33)}
PAGE = """<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
body {{ max-width: 60rem; margin: 2rem auto; padding: 0 1rem; font: 16px/1.5 sans-serif; }}
pre {{ font: 13px/1.45 monospace; padding: .6rem; overflow-x: auto; }}
.jp-InputArea pre {{ background: #f4f4f4; border-left: 3px solid #bbb; }}
.jp-InputPrompt, .jp-OutputPrompt, .anchor-link {{ display: none; }}
table {{ border-collapse: collapse; font-size: 14px; }}
th, td {{ padding: .2rem .6rem; text-align: right; border-bottom: 1px solid #ddd; }}
img {{ max-width: 100%; }}
</style>
<main>
{body}
</main>
</html>
"""


def declared(notebook: nbformat.NotebookNode, path: Path) -> set[str]:
    """The names that the notebook's one cell tagged `parameters` assigns.

    Raises:
        ValueError: there is no such cell, or more than one.
    """
    cells = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    if len(cells) != 1:
        raise ValueError(f"{path}: {len(cells)} cells are tagged `parameters`; tag exactly one")
    lines = [line for line in cells[0].source.splitlines() if "=" in line and line[0] != "#"]
    return {line.split("=")[0].split(":")[0].strip() for line in lines}


def execute(path: Path, parameters: dict[str, Any], out: Path) -> nbformat.NotebookNode:
    """Run a notebook with papermill from the current folder; stream its progress to the terminal.

    Raises:
        ValueError: the notebook lacks its parameters cell, or does not know a parameter.
        PapermillExecutionError: a cell failed; what ran is left at `out`.
    """
    if not path.is_file():
        raise ValueError(f"{path}: no such notebook")
    known = declared(nbformat.read(path, as_version=4), path)
    for name in parameters:
        if name not in known:
            raise ValueError(f"{path}: no parameter {name!r}; it has {', '.join(sorted(known))}")
    # The working folder's package comes before any other; PYTHONPATH would come before that.
    os.environ.pop("PYTHONPATH", None)
    os.environ.update(MEMORY | os.environ)
    progress = open(os.devnull, "w") if follows() else sys.stderr  # noqa: SIM115
    # A user's own start-up files have no part in a result, and the kernel talks to nobody else.
    kernel = [f"--ipython-dir={out.parent}", "--log-level=ERROR"]
    return papermill.execute_notebook(
        path,
        out,
        parameters,
        kernel_name="python3",
        language="python",
        cwd=str(Path.cwd()),
        progress_bar=False,
        stderr_file=progress,
        extra_arguments=kernel,
        request_save_on_cell_execute=False,
        autosave_cell_every=0,
    )


def launched() -> bool:
    """Whether this is one of the processes that a launcher started: what `processes` asks torch,
    whose import would take seconds here."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def follows() -> bool:
    """Whether another process reports."""
    return launched() and os.environ["RANK"] != "0"


def clean(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """The executed notebook without what differs from run to run; outputs and counts stay."""
    return strip_output(
        notebook, keep_output=True, keep_count=True, keep_id=False, extra_keys=VOLATILE,
        drop_output_types={"stream:stderr"},
    )  # fmt: skip


def page(notebook: nbformat.NotebookNode, title: str) -> str:
    """One self-contained HTML page: no script, and nothing fetched from a network."""
    from nbconvert import HTMLExporter

    body, _ = HTMLExporter(template_name="basic").from_notebook_node(notebook)
    return PAGE.format(title=title, body=body)


def run(path: Path, parameters: dict[str, Any], folder: Path) -> Path:
    """Execute, clean and export one notebook; returns the page's path. Errors as in `execute`.

    Of several processes the first alone exports it.
    """
    name = "-".join([path.stem, *(str(value) for value in parameters.values())])
    # While the kernel computes, this process idles: load the exporter then.
    threading.Thread(target=__import__, args=("nbconvert",), daemon=True).start()
    with tempfile.TemporaryDirectory() as scratch:
        notebook = clean(execute(path, parameters, Path(scratch) / path.name))
    if follows():
        return folder / f"{name}.html"
    for suffix, text in {
        ".ipynb": nbformat.writes(notebook) + "\n",
        ".html": page(notebook, name),
    }.items():
        write_file(folder / f"{name}{suffix}", text)
    return folder / f"{name}.html"


def explain(error: PapermillExecutionError, path: Path, parameters: dict[str, Any]) -> str:
    """One line for an expected error (bad input, bad value); for any other, the traceback first."""
    # papermill counts from 0, and counts the cell that it injects parameters with.
    cell = error.cell_index + (0 if parameters else 1)
    line = " ".join(f"{path}, cell {cell}: {error.ename}: {error.evalue}".split())
    if error.ename not in EXPECTED:
        return "\n".join([*error.traceback, line])
    return "; ".join(filter(None, [line, EXPECTED[error.ename]]))


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; the exit code is 1 after an error, which is the last line printed."""
    parser = argparse.ArgumentParser(
        prog="python -m hmdiff.pipeline.notebook", description="Run a notebook"
    )
    parser.add_argument("notebook", type=Path)
    parser.add_argument("-p", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"))
    parser.add_argument("--to", type=Path, default=Path("reports/notebooks"), metavar="FOLDER")
    arguments = sys.argv[1:] if arguments is None else arguments
    given = parser.parse_args(arguments)
    launcher = shlex.split(os.environ.get("HMDIFF_LAUNCH", ""))
    if launcher and given.notebook.stem in SPREAD and not launched():
        return subprocess.call([*launcher, "-m", "hmdiff.pipeline.notebook", *arguments])
    parameters = {name: yaml.safe_load(value) for name, value in given.p}
    try:
        exported = run(given.notebook, parameters, given.to)
    except PapermillExecutionError as error:
        print(explain(error, given.notebook, parameters), file=sys.stderr)
        return 1
    except DeadKernelError:
        remedy = "was the memory full? free some, then `dvc repro` goes on"
        print(f"{given.notebook}: its process was killed; {remedy}", file=sys.stderr)
        return 1
    except (OSError, ValueError) as error:
        print(" ".join(str(error).split()), file=sys.stderr)
        return 1
    if not follows():
        print(exported)
    return 0


if __name__ == "__main__":
    sys.exit(main())
