"""The pipeline and its profiles: what each stage says it depends on is what it uses."""

import ast
import re
import subprocess
from pathlib import Path

import nbformat
import pytest
import yaml

from hmdiff import params
from hmdiff.metrics import protocol_of
from hmdiff.pipeline import profiles
from hmdiff.report import paper

ROOT = Path(__file__).parents[1]
STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
PROFILES = sorted(path.stem for path in (ROOT / "profiles").glob("*.yaml"))

# Modules that no result depends on: DVC tracks the values of params.yaml itself.
APART = {"hmdiff.root", "hmdiff.params"}
# Folders that a stage depends on as a whole.
WHOLE = ("hmdiff/datasets", "hmdiff/report/explorer")


def path_of(module: str) -> Path | None:
    """The file of a module of the package, or None."""
    base = ROOT / module.replace(".", "/")
    for path in (base.with_suffix(".py"), base / "__init__.py"):
        if path.is_file():
            return path
    return None


def imported(tree: ast.AST, package: str) -> set[str]:
    """Modules of the package that a parsed source imports, type-checking blocks apart."""
    found = set()
    skip = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in skip:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) - node.level + 1]
            base = ".".join([*(parents if node.level else []), *filter(None, [node.module])])
            inner = {f"{base}.{alias.name}" for alias in node.names}
            found |= {name for name in inner if path_of(name)} or {base}
            if base.endswith("datasets"):  # its readers are imported by name
                found |= {f"{base}.{path.stem}" for path in (ROOT / "hmdiff/datasets").glob("*.py")}
    return {name for name in found if name.startswith("hmdiff.") and path_of(name)}


def reached(code: str) -> set[str]:
    """Files of the package that a source reaches, less those APART."""
    todo, seen = imported(ast.parse(code), "hmdiff"), set()
    while todo:
        name = todo.pop()
        if name in seen or name in APART:
            continue
        seen.add(name)
        path = path_of(name)
        package = name if path.name == "__init__.py" else name.rpartition(".")[0]
        todo |= imported(ast.parse(path.read_text()), package)
    files = {path_of(name).relative_to(ROOT) for name in seen}
    return {
        next((folder for folder in WHOLE if folder in map(str, file.parents)), str(file))
        for file in files
    }


def body(stage: dict) -> dict:
    """A stage's own keys, whatever it is repeated over."""
    return stage.get("do", stage)


def notebook_of(stage: dict) -> Path | None:
    """The notebook that a stage runs, or None."""
    words = body(stage)["cmd"].split()
    return ROOT / words[3] if words[2] == "hmdiff.pipeline.notebook" else None


def code_of(stage: dict) -> str:
    """What a stage runs: its notebook's code, or the text behind `python -c`."""
    notebook = notebook_of(stage)
    if notebook is None:
        return body(stage)["cmd"].split('"')[1]
    cells = nbformat.read(notebook, as_version=4).cells
    return "\n".join(cell.source for cell in cells if cell.cell_type == "code")


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_depends_on_exactly_the_code_it_runs(name):
    deps = set(body(STAGES[name])["deps"])
    if notebook := notebook_of(STAGES[name]):
        assert notebook.relative_to(ROOT).as_posix() in deps
    used = reached(code_of(STAGES[name]))
    assert {dep for dep in deps if dep.startswith("hmdiff/")} == used


def test_a_new_regressor_of_the_field_measures_anew():
    """Joints of licensed bodies are read with a file that no stage makes."""
    assert protocol_of("body", "raw").file.startswith("models/")
    calls = ("load_bench(", "load_regressor(")
    reading = {n for n, stage in STAGES.items() if any(call in code_of(stage) for call in calls)}
    told = {n for n, stage in STAGES.items() if "data/raw/models" in body(stage)["deps"]}
    assert {"prepare", "tune", "evaluate"} <= reading
    assert told == reading | {"models"}


def test_a_new_figure_style_trains_and_evaluates_nothing():
    drawing = {
        name for name, stage in STAGES.items() if "hmdiff/report/figures.py" in body(stage)["deps"]
    }
    assert drawing <= {"photo", "figures", "explorer"}


def test_a_new_sampler_value_trains_nothing():
    users = {name for name, stage in STAGES.items() if "sampler" in body(stage).get("params", [])}
    assert users
    assert not users & {"models", "studio", "prepare", "phi", "features", "train"}


def test_reports_are_kept_in_git_and_data_in_the_cache():
    for name, stage in STAGES.items():
        for kind in ("outs", "metrics", "plots"):
            for out in body(stage).get(kind, []):
                path, flags = next(iter(out.items())) if isinstance(out, dict) else (out, {})
                assert path.startswith("reports/") == (flags.get("cache") is False), (name, path)
                assert not path.startswith("reports/notebooks"), "pages are reports, not results"


def test_every_figure_in_git_is_what_a_stage_makes():
    text = (ROOT / "dvc.yaml").read_text()
    made = set(re.findall(r"- reports/figures/(\S+): ", text))
    made = {name.replace("${item.subject}", s) for name in made for s in ("body", "hand")}
    assert {path.name for path in (ROOT / "reports/figures").iterdir()} <= made


def test_every_notebook_of_the_pipeline_has_a_stage():
    run = {path.name for path in map(notebook_of, STAGES.values()) if path}
    assert run == {path.name for path in (ROOT / "notebooks/pipeline").glob("*.ipynb")}


def test_the_licensed_profile_is_the_papers_setting_and_names_the_papers_results():
    values = params.parse(profiles.merged("licensed", ROOT), "licensed")
    assert values.source == "raw" and values.phi.weights and values.phi.input_px == 224
    assert values.phi.width == 64 and values.diffusion.K == 200 and values.g.lr == 1e-4
    s = values.sampler
    assert (s.N, s.r, s.steps) == (25, 0.05, 40)
    text = (ROOT / "profiles/licensed.yaml").read_text()
    for number in (1, 2):
        for published in paper.table(number).ours.values:
            assert str(published) in text


@pytest.mark.parametrize("name", PROFILES)
def test_a_profile_is_a_valid_overlay(name):
    values = profiles.merged(name, ROOT)
    assert params.parse(values, name).profile == name


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A git working tree with parameters, one profile, one module and a report."""
    root = tmp_path / "project"
    for name, text in {
        "params.yaml": (ROOT / "params.yaml").read_text(),
        "profiles/tiny.yaml": "profile: tiny\ng: {batch: 2}\n",
        "hmdiff/module.py": "a = 1\n",
        "data/raw/README.md": "where to get them\n",
        "reports/metrics.json": "{}",
        "dvc.lock": "schema: '2.0'\n",
        ".gitignore": "/runs/\n/data/*\n!/data/raw/\n",
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    subprocess.run(["git", "init", "-q", root], check=True)
    return root


def test_a_copy_has_the_code_and_the_profile_but_not_the_results(project):
    to = project / "runs" / "tiny"
    profiles.copy("tiny", to, project)
    assert params.load(to / "params.yaml").g.batch == 2
    assert (to / "hmdiff/module.py").read_text() == "a = 1\n"
    assert "no_scm = true" in (to / ".dvc/config.local").read_text()
    assert not (to / "reports").exists() and not (to / "dvc.lock").exists()


def test_a_second_copy_brings_changes_and_keeps_what_the_run_made(project):
    to = project / "runs" / "tiny"
    profiles.copy("tiny", to, project)
    stamp = (to / "params.yaml").stat().st_mtime_ns
    (to / "dvc.lock").write_text("made by the run\n")
    (to / "data").mkdir(exist_ok=True)
    (to / "data" / "result").write_text("made by the run\n")
    (project / "hmdiff/new.py").write_text("b = 2\n")
    (project / "hmdiff/module.py").unlink()
    profiles.copy("tiny", to, project)
    assert (to / "hmdiff/new.py").is_file() and not (to / "hmdiff/module.py").exists()
    assert (to / "dvc.lock").is_file() and (to / "data/result").is_file()
    assert (to / "params.yaml").stat().st_mtime_ns == stamp, "an unchanged file was written again"


def test_a_copy_sees_the_licensed_data_of_the_project_itself(project):
    to = project / "runs" / "tiny"
    profiles.copy("tiny", to, project)
    (project / "data/raw/models").mkdir()
    (project / "data/raw/models/SMPL_NEUTRAL.pkl").write_text("mine\n")
    assert (to / "data/raw").is_symlink()
    assert (to / "data/raw/models/SMPL_NEUTRAL.pkl").read_text() == "mine\n"
    profiles.copy("tiny", to, project)
    assert (to / "data/raw").resolve() == project / "data/raw"
    assert (project / "data/raw/README.md").is_file(), "refreshing went through the link"


def test_an_older_copys_own_page_gives_way_to_the_link_but_nothing_else_does(project):
    to = project / "runs" / "tiny"
    (to / "data/raw").mkdir(parents=True)
    (to / "data/raw/README.md").write_text("older\n")
    (to / profiles.LISTING).write_text("data/raw/README.md\n")
    profiles.copy("tiny", to, project)
    assert (to / "data/raw").is_symlink() and (project / "data/raw/README.md").is_file()
    (to / "data/raw").unlink()
    (to / "data/raw").mkdir()
    (to / "data/raw/mine.pkl").write_text("mine\n")
    with pytest.raises(ValueError, match="data/raw: holds files; move them to"):
        profiles.copy("tiny", to, project)
    assert (to / "data/raw/mine.pkl").is_file()


def test_a_copy_never_lands_on_other_files(project):
    with pytest.raises(ValueError, match="holds other files"):
        profiles.copy("tiny", project / "hmdiff", project)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("g: {bach: 2}\n", "g.bach: unknown key"),
        ("g: {batch: 0}\n", "g.batch"),
        ("g: {\n", "not valid YAML"),
    ],
)
def test_a_wrong_profile_is_named_in_one_line(project, capsys, monkeypatch, text, message):
    (project / "profiles/tiny.yaml").write_text(text)
    monkeypatch.chdir(project)
    assert profiles.main(["tiny", "runs/tiny"]) == 1
    error = capsys.readouterr().err
    assert "profiles/tiny.yaml" in error and message in error and error.count("\n") == 1
    assert not Path("runs").exists()


def test_the_default_profile_is_params_yaml_itself(project):
    assert profiles.merged("default", project) == params.read_yaml(project / "params.yaml")
    profiles.copy("default", project / "runs/default", project)
    assert params.load(project / "runs/default/params.yaml").profile == "default"
    (project / "params.yaml").write_text("profile: default\n")
    with pytest.raises(ValueError, match=r"params\.yaml: seeds"):
        profiles.merged("default", project)


def test_an_unknown_profile_lists_the_known_ones(project):
    with pytest.raises(ValueError, match="there are: default, tiny"):
        profiles.merged("tinny", project)
