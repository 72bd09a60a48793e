"""Notebooks run from the project's root, wherever JupyterLab or a test runner opened them."""

import os
from pathlib import Path


def enter() -> Path:
    """Make the project's root, the nearest folder above that holds dvc.yaml, the working folder.

    Raises:
        ValueError: the working folder is not in a copy of the project.
    """
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "dvc.yaml").is_file() and (folder / "params.yaml").is_file():
            os.chdir(folder)
            return folder
    raise ValueError(f"{here}: no dvc.yaml here or above; open the notebook in the project")
