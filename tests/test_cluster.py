"""A pipeline spread over jobs: each stage runs once, and what its jobs left is the run's result."""

import subprocess
from pathlib import Path

import pytest
import yaml

from hmdiff.pipeline import cluster

ROOT = Path(__file__).parents[1]

# Two stages side by side, one that reads both, and a report, which is not cached.
PIPELINE = """\
stages:
  part:
    matrix:
      side: [left, right]
    cmd: >-
      echo ${{item.side}} >> {log} && test "${{item.side}}" != "$FAILS"
      && cat word.txt > ${{item.side}}.txt
    deps: [word.txt]
    outs: ["${{item.side}}.txt"]
  join:
    cmd: >-
      echo join >> {log} && mkdir -p reports/notebooks && touch reports/notebooks/join.html
      && cat left.txt right.txt > both.txt
    deps: [left.txt, right.txt]
    outs: [both.txt]
  report:
    cmd: echo report >> {log} && wc -l < both.txt > reports/lines.txt
    deps: [both.txt]
    outs: [reports/lines.txt: {{cache: false}}]
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A git working tree with that pipeline, one profile, and a log of what ran beside it."""
    root = tmp_path / "project"
    for name, text in {
        "params.yaml": (ROOT / "params.yaml").read_text(),
        "profiles/tiny.yaml": "profile: tiny\n",
        "dvc.yaml": PIPELINE.format(log=tmp_path / "log"),
        ".dvc/config": "[core]\n    analytics = false\n",
        ".dvcignore": "runs\n",
        ".gitignore": "/runs/\n/data/*\n",
        "word.txt": "word\n",
        "data/raw/README.md": "",
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    subprocess.run(["git", "init", "-q", root], check=True)
    monkeypatch.chdir(root)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return root


def ran(project):
    return sorted((project.parent / "log").read_text().split())


def test_each_stage_runs_once_and_the_head_runs_none(project, monkeypatch, capfd):
    monkeypatch.setenv("FAILS", "right")
    command = ["tiny", "runs/tiny", "--local", "2"]
    assert cluster.main(command) == 1
    error = capfd.readouterr().err.splitlines()[-1]
    assert error.startswith("part@right: its job failed; see ") and error.endswith(".err")
    assert ran(project) == ["left", "right"]

    monkeypatch.delenv("FAILS")  # mended: what is done is not done again
    assert cluster.main(command) == 0
    assert ran(project) == ["join", "left", "report", "right", "right"]
    run = project / "runs/tiny"
    assert (run / "both.txt").read_text() == "word\nword\n"
    assert (run / "reports/lines.txt").read_text().strip() == "2"
    assert (run / "reports/notebooks/join.html").is_file()
    assert not (run / "runs/report").exists()

    with cluster.project(run) as repo:  # the head's own `dvc repro`
        assert repo.status() == {}
        repo.reproduce()
    for name in ("left.txt", "both.txt", "dvc.lock"):
        (run / name).unlink()
    with cluster.project(run) as repo:  # and one that has the cache alone
        repo.reproduce(targets="join")
    assert (run / "both.txt").read_text() == "word\nword\n"
    assert len(ran(project)) == 5


def test_stages_come_in_waves(project):
    cluster.profiles.copy("tiny", Path("runs/tiny"))
    assert cluster.waves(Path("runs/tiny")) == [
        {"part@left": [], "part@right": []},
        {"join": ["part@left", "part@right"]},
    ]


def test_a_kind_of_stage_may_ask_for_more_than_the_others():
    settings = {"default": {"cpus_per_task": 2}, "phi": {"gpus_per_node": 8, "cpus_per_task": 16}}
    year = {"timeout_min": cluster.YEAR}
    assert cluster.settings_of("train@body-image-0", settings) == year | {"cpus_per_task": 2}
    assert cluster.settings_of("phi@body", settings) == year | settings["phi"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not valid YAML"),
        ("- a", "should map"),
        ("default: 3", "should map"),
        ("default: {gpus: 3}", "default: Parameter 'gpus'"),
        ("phi: {gpus_per_node: many}", 'phi: Parameter "gpus_per_node" expected type'),
    ],
)
def test_wrong_settings_are_one_line_before_anything_is_made(project, capsys, text, message):
    Path("slurm.yaml").write_text(text)
    assert cluster.main(["tiny", "runs/tiny", "--slurm", "slurm.yaml"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("slurm.yaml: ") and message in error and error.count("\n") == 1
    assert not Path("runs").exists()


def test_the_recipe_is_one_that_is_understood():
    page = (ROOT / "docs/cluster.md").read_text()
    recipe = page.split("```yaml\n")[1].split("```")[0]
    assert {"default", "phi"} <= yaml.safe_load(recipe).keys()


def test_all_that_trains_and_evaluates_becomes_a_job():
    """DVC keeps no record of a run that has nothing to read or to write, or keeps old results."""
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    stages = {name: stage.get("do", stage) for name, stage in stages.items()}
    reports = {name for name, stage in stages.items() if "cache: false" in yaml.dump(stage)}
    assert {"report", "figures", "index"} <= reports
    assert not reports & {"studio", "phi", "features", "search", "train", "tune", "evaluate"}
    for stage in stages.values():
        assert stage["deps"] and stage["outs"] and "persist" not in yaml.dump(stage)
