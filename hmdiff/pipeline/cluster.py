"""A profile's stages as jobs, of this machine or of a Slurm cluster.

    python -m hmdiff.pipeline.cluster licensed runs/licensed --slurm slurm.yaml
    python -m hmdiff.pipeline.cluster smoke runs/smoke --local 4

DVC runs one stage after another, but most do not depend on each other: every variant and seed
trains for itself. So each stage that has to run becomes a job, which submitit starts in a copy of
the project of its own, below RUN/runs. All copies share one cache, that of RUN, and nothing else. A
job fetches from it what its stage reads, runs the stage, and leaves there what it wrote, with DVC's
record of the run. By this record `dvc repro` in RUN takes the results over instead of running the
stage. Reports, which are not cached, it makes itself at the end.

Stages go in waves: one starts when all that it may depend on is done. Who stops this command stops
its jobs; who calls it again goes on where it was. docs/cluster.md has the recipe for Slurm.
"""

import argparse
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from pathlib import Path

import networkx as nx
import submitit
import yaml
from dvc.repo import Repo

from ..files import write_file
from . import profiles

CONFIG = """\
[core]
    no_scm = true
[cache]
    dir = {cache}
    type = "reflink,hardlink,symlink,copy"
"""
YEAR = 525_600  # minutes; submitit wants a limit
LAUNCH = "launch"  # beside submitit's own settings: what HMDIFF_LAUNCH is to be


@contextmanager
def project(folder: Path) -> Iterator[Repo]:
    """A DVC project, in whose folder one then is: its stages are named as seen from there."""
    with chdir(folder), Repo() as repo:
        yield repo


def waves(run: Path) -> list[dict[str, list[str]]]:
    """The stages that become jobs, each with those that it reads from, wave by wave."""
    with project(run) as repo:
        graph = repo.index.graph  # an edge leads to what a stage reads from
        reads = {stage.addressing: {other.addressing for other in graph[stage]} for stage in graph}
        reports = [s.addressing for s in graph if not all(out.use_cache for out in s.outs)]
    order = nx.DiGraph(reads).reverse()
    order.remove_nodes_from({*reports}.union(*(nx.descendants(order, name) for name in reports)))
    return [
        {stage: sorted(reads[stage]) for stage in sorted(wave)}
        for wave in nx.topological_generations(order)
    ]


def changed(run: Path, stages: list[str]) -> list[str]:
    """Those that `dvc repro` would run."""
    with project(run) as repo:
        found = repo.status(targets=stages)
    return [stage for stage in stages if stage in found]


def copy_for(stage: str, profile: str, run: Path) -> Path:
    """A copy of the project that has RUN's lock and cache, and no data."""
    folder = run.resolve() / "runs" / stage.replace("@", "-")
    profiles.copy(profile, folder)
    cache = (run / ".dvc" / "cache").resolve()
    write_file(folder / ".dvc" / "config.local", CONFIG.format(cache=cache))
    if (run / "dvc.lock").is_file():
        shutil.copy2(run / "dvc.lock", folder)
    return folder


def work(folder: Path, stage: str, reads: list[str], launch: str) -> None:
    """What a job does: one stage in a copy, after what it reads is there; `launch` as in
    `notebook`."""
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    os.environ["HMDIFF_LAUNCH"] = launch
    with project(folder) as repo:
        if reads:
            repo.checkout(targets=reads)
        repo.reproduce(targets=[stage], single_item=True)


def take_over(run: Path, stages: dict[str, Path]) -> None:
    """Bring into RUN what finished jobs left in the cache, and the pages of their notebooks."""
    if not stages:
        return
    with project(run) as repo:
        repo.reproduce(targets=list(stages), single_item=True)
    for folder in stages.values():
        pages = folder / "reports" / "notebooks"
        if pages.is_dir():
            shutil.copytree(pages, run / "reports" / "notebooks", dirs_exist_ok=True)


def run_wave(
    wave: dict[str, list[str]], profile: str, run: Path, cluster: str, settings: dict
) -> None:
    """Run some stages as jobs, and take their results over.

    Args:
        wave: stages that do not depend on each other, each with what it reads from.
        cluster: "slurm" or "local".
        settings: of submitit, by kind of stage, see `settings_of`.

    Raises:
        ValueError: one line that names a job that failed and its log; the others are taken over.
    """
    jobs, done, failed = {}, {}, []
    for stage, reads in wave.items():
        folder, asked = copy_for(stage, profile, run), settings_of(stage, settings)
        launch = asked.pop(LAUNCH, "")
        executor = submitit.AutoExecutor(run / "runs" / "logs", cluster=cluster)
        executor.update_parameters(name=stage, **asked)
        job = executor.submit(work, folder, stage, reads, launch)
        jobs[stage] = folder, job.cancel_at_deletion()
        print(f"{stage}: job {job.job_id}", flush=True)
    for stage, (folder, job) in jobs.items():
        if job.exception() is None:
            done[stage] = folder
        else:
            failed.append(f"{stage}: its job failed; see {job.paths.stderr}")
    take_over(run, done)
    if failed:
        raise ValueError("; ".join(failed))


def settings_of(stage: str, settings: dict) -> dict:
    """What is asked for a stage: what `default` says, and over it what its kind, its name before
    the @, says."""
    kind = stage.partition("@")[0]
    return {"timeout_min": YEAR} | settings.get("default", {}) | settings.get(kind, {})


def read_settings(path: Path) -> dict:
    """A YAML file of kinds of stage, each with settings of submitit, and perhaps `launch`.

    Raises:
        OSError, ValueError: one line; it cannot be read, or says something else.
    """
    try:
        settings = yaml.safe_load(path.read_text("utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not valid YAML ({' '.join(str(error).split())})") from None
    if not isinstance(settings, dict) or not all(isinstance(v, dict) for v in settings.values()):
        raise ValueError(f"{path}: should map `default` and kinds of stage to settings of submitit")
    try:
        for kind in settings:
            asked = settings_of(kind, settings)
            asked.pop(LAUNCH, None)
            submitit.AutoExecutor(path.parent, cluster="debug").update_parameters(**asked)
    except (AssertionError, NameError) as error:
        raise ValueError(f"{path}: {kind}: {' '.join(str(error).split())}") from None
    return settings


def spread(profile: str, run: Path, cluster: str, settings: dict, at_once: int) -> None:
    """Make RUN, a copy of the project with a profile, and run its pipeline, `at_once` jobs at a
    time; errors as of `profiles.copy` and `run_wave`."""
    profiles.copy(profile, run)
    for wave in waves(run):
        todo = changed(run, list(wave))
        for i in range(0, len(todo), at_once):
            part = {stage: wave[stage] for stage in todo[i : i + at_once]}
            run_wave(part, profile, run, cluster, settings)
    with project(run) as repo:
        repo.reproduce()


def main(arguments: list[str] | None = None) -> int:
    """Command line: PROFILE RUN, and where; the exit code is 1 after an error, told in one line."""
    parser = argparse.ArgumentParser(prog="python -m hmdiff.pipeline.cluster")
    parser.add_argument("profile")
    parser.add_argument("run", type=Path)
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--local", type=int, metavar="N", help="N jobs at a time on this machine")
    where.add_argument("--slurm", type=Path, metavar="FILE", help="what to ask of Slurm, YAML")
    given = parser.parse_args(arguments)
    if given.local is not None and given.local < 1:
        parser.error("--local: one job at a time is the least")
    try:
        if given.slurm:
            spread(given.profile, given.run, "slurm", read_settings(given.slurm), sys.maxsize)
        else:
            spread(given.profile, given.run, "local", {}, given.local)
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped, and with it its jobs", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
