"""Publish a finished run, so that nobody must repeat it to look at it or to try its networks.

    python -m hmdiff.pipeline.release runs/gpu reports/released/gpu "thirty hours on one card"

A release holds the run's tables, claims and figures with a front page, parameters and lock file;
the weights of phi, g and the baselines of the first seed in half precision, with all else that
`hmdiff recover` needs (bundle.py); and provenance.json: profile, seeds, commit, hardware, versions,
and the remark given. Run from the project's root.
"""

import json
import platform
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

from ..checkpoint import load_weights, save_weights
from ..files import new_folder, write_file
from ..params import read_yaml
from ..recovery.bundle import SUBJECTS, gather, half
from ..report.front_page import write_index
from ..train import VARIANTS
from . import command

REPORTS = ("claims.csv", "claims.md", "explorer.html", "figures", "metrics.json", "plots", "tables")
PACKAGES = ("torch", "numpy", "pandas", "scipy", "smplx", "anny", "embreex", "dvc")
LIMIT_MB = 25  # of all weights together


def release(run: Path, out: Path, remark: str) -> None:
    """Copy what is worth keeping of the run at `run` to `out`, replacing an earlier release.

    Raises:
        FileNotFoundError: the run is not finished; one line that names what it lacks.
        ValueError: its weights are no numbers in half precision, or over LIMIT_MB, or it is of
            licensed files: their bodies cannot be passed on.
    """
    params = read_yaml(run / "params.yaml")
    if params.get("source", "studio") != "studio":
        fault = "made from licensed files, whose bodies cannot be passed on"
        raise ValueError(f"{run}: {fault}; publish its reports/ without them")
    weights = weights_of(run / "data", params["seeds"][0])
    reports = [run / "reports" / name for name in REPORTS]
    for path in (run / "dvc.lock", run / "data/speed/body.json", *reports, *weights.values()):
        if not path.exists():
            raise FileNotFoundError(f"{path}: not there; finish the run with `dvc repro` first")
    with new_folder(out) as part:
        for path in reports:
            (shutil.copytree if path.is_dir() else shutil.copy2)(path, part / path.name)
        for name in ("params.yaml", "dvc.lock"):
            shutil.copy2(run / name, part / name)
        write_index(part)
        for name, path in weights.items():
            tensors, meta = load_weights(path)
            save_weights(part / "weights" / f"{name}.safetensors", half(tensors), meta)
        gather(run, params, part / "weights")
        check_size(part / "weights")
        facts = provenance(run, params, remark)
        write_file(part / "provenance.json", json.dumps(facts, indent=2) + "\n")


def weights_of(data: Path, seed: int) -> dict[str, Path]:
    """Of both subjects phi, g in its variants, and the baselines: released name to file."""
    phi = {f"phi-{subject}": data / f"phi/{subject}/phi.safetensors" for subject in SUBJECTS}
    names = [f"{subject}-{variant}-{seed}" for subject in SUBJECTS for variant in VARIANTS]
    return phi | {name: data / f"checkpoints/{name}/model.safetensors" for name in names}


def check_size(folder: Path) -> None:
    """Refuse what is too much for a git repository; ValueError names the largest file."""
    sizes = {path: path.stat().st_size / 1e6 for path in folder.iterdir()}
    if sum(sizes.values()) > LIMIT_MB:
        largest = max(sizes, key=sizes.get)
        raise ValueError(
            f"{folder}: {sum(sizes.values()):.1f} MB of weights, at most {LIMIT_MB} are released; "
            f"train smaller networks ({largest.name} has {sizes[largest]:.1f} MB)"
        )


def provenance(run: Path, params: dict, remark: str) -> dict:
    """Where the numbers of a run come from."""
    git = ("git", "rev-parse", "HEAD")
    return {
        "profile": params["profile"],
        "seeds": params["seeds"],
        "commit": subprocess.run(git, capture_output=True, text=True).stdout.strip(),
        "hardware": json.loads((run / "data/speed/body.json").read_text())["hardware"],
        "python": platform.python_version(),
        "versions": {name: version(name) for name in PACKAGES},
        "remark": remark,
    }


def main(arguments: list[str] | None = None) -> int:
    """Command line: RUN FOLDER REMARK; exit codes as of `command.run`."""
    usage = "python -m hmdiff.pipeline.release RUN FOLDER REMARK"
    return command.run(usage, lambda run, out, why: release(Path(run), Path(out), why), arguments)


if __name__ == "__main__":
    sys.exit(main())
