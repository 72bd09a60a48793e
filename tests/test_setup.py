"""Set-up: one list of dependencies, one set of pins, and what else has to say the same."""

import ast
import re
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
NEEDED = [Requirement(line) for line in PROJECT["dependencies"]]
TEST = [Requirement(line) for line in PROJECT["optional-dependencies"]["test"]]
LOCK = (ROOT / "requirements.lock").read_text()
PINS = {
    canonicalize_name(name): version
    for name, version in re.findall(r"^([\w.-]+)==(\S+)$", LOCK, flags=re.M)
}
SUPPORTED = ("3.11", "3.12", "3.13")
IMPORT_NAMES = {"pillow": "PIL", "pyyaml": "yaml", "scikit-image": "skimage"}
COMMANDS = {"jupyterlab", "dvc", "ruff", "nbval", "ipykernel", "rtree", "tabulate"}  # not imported


def closure(version: str) -> set[str]:
    """All that the project and its tests need on Linux with a Python version, read from what is
    installed here."""
    system = {"sys_platform": "linux", "platform_system": "Linux", "os_name": "posix"}
    system |= {"python_version": version, "python_full_version": f"{version}.1"}
    todo, seen = [*NEEDED, *TEST], set()
    while todo:
        requirement = todo.pop()
        for extra in ("", *requirement.extras):
            key = (canonicalize_name(requirement.name), extra)
            if key in seen:
                continue
            seen.add(key)
            for line in metadata.requires(requirement.name) or []:
                inner = Requirement(line)
                if inner.marker is None or inner.marker.evaluate({**system, "extra": extra}):
                    todo.append(inner)
    # GPU runtime libraries come with torch's own pins where its build asks for them.
    return {name for name, _ in seen if not re.match(r"nvidia|cuda|triton", name)}


def test_the_lock_pins_every_line_to_one_version():
    lines = [line for line in LOCK.splitlines() if line and not line.startswith("#")]
    assert len(lines) == len(PINS) and all(re.fullmatch(r"[\w.-]+==[\w.!]+", x) for x in lines)
    assert not [name for name in PINS if re.match(r"nvidia|cuda|triton|torchvision", name)]
    assert LOCK.startswith("#") and "make lock" in LOCK


@pytest.mark.parametrize("version", SUPPORTED)
def test_the_lock_is_complete_and_holds_nothing_else(version):
    assert closure(version) <= set(PINS)
    extra = set(PINS) - set().union(*map(closure, SUPPORTED))
    assert not extra, f"requirements.lock pins what nothing needs: {extra}"


def test_the_pins_satisfy_the_project():
    for requirement in [*NEEDED, *TEST]:
        pin = PINS[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(pin), f"{requirement} against =={pin}"


def test_the_pins_are_what_these_tests_run_with():
    for requirement in [*NEEDED, *TEST]:
        installed = metadata.version(requirement.name).split("+")[0]
        assert installed == PINS[canonicalize_name(requirement.name)], requirement.name


def test_conda_installs_the_same_lock():
    listed = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    inner = next(entry["pip"] for entry in listed if isinstance(entry, dict))
    assert inner == ["-r requirements.lock", "-e ."]
    python = next(e for e in listed if isinstance(e, str) and e.startswith("python="))
    assert python.removeprefix("python=") in SUPPORTED
    assert {e.split("=")[0] for e in listed if isinstance(e, str)} == {
        "python",
        "pip",
        "git",
        "make",
    }


def test_the_supported_pythons_are_the_same_everywhere():
    inside = SpecifierSet(PROJECT["requires-python"])
    found = tuple(f"3.{minor}" for minor in range(9, 20) if inside.contains(f"3.{minor}.1"))
    assert found == SUPPORTED
    assert inside.contains(".".join(map(str, sys.version_info[:3])))
    makefile = (ROOT / "Makefile").read_text()
    assert "(3, 11) <= sys.version_info[:2] <= (3, 13)" in makefile


def third_party(folder: Path) -> set[str]:
    """Top-level names of other people's packages that a folder's modules import."""
    found = set()
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                found.add(node.module.split(".")[0])
    own = {path.stem for path in (ROOT / "tests").glob("*.py")}
    return found - set(sys.stdlib_module_names) - {"hmdiff"} - own


def test_what_is_imported_is_named_in_pyproject_and_the_other_way_round():
    names = {r.name: IMPORT_NAMES.get(r.name, r.name.replace("-", "_")) for r in NEEDED}
    used = third_party(ROOT / "hmdiff")
    assert used <= set(names.values())
    test_names = {r.name.replace("-", "_") for r in TEST}
    assert third_party(ROOT / "tests") <= set(names.values()) | test_names | {"packaging"}
    notebooks = "".join(path.read_text() for path in (ROOT / "notebooks").rglob("*.ipynb"))
    unused = {
        name
        for name, module in names.items()
        if module not in used and name not in COMMANDS and f"import {module}" not in notebooks
    }
    assert not unused, f"pyproject.toml names what nothing imports: {unused}"


def test_the_files_that_speak_of_the_project_agree():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == PROJECT["version"]
    assert citation["license"] == PROJECT["license"] == "MIT"
    assert (ROOT / "LICENSE").read_text().startswith("MIT License")
