"""Notebooks: how they are kept, and what the runner promises about their pages and errors."""

import ast
import re
from pathlib import Path

import nbformat
import pytest
from nbformat import v4
from nbstripout import strip_output

from hmdiff import root
from hmdiff.pipeline import lessons, notebook

ROOT = Path(__file__).parents[1]
PIPELINE = sorted((ROOT / "notebooks/pipeline").glob("*.ipynb"))
EXPLORE = sorted((ROOT / "notebooks/explore").glob("*.ipynb"))
WALKTHROUGHS = sorted((ROOT / "notebooks/walkthrough").glob("*.ipynb"))


def read(path: Path) -> nbformat.NotebookNode:
    """A notebook as it is stored."""
    return nbformat.read(path, as_version=4)


@pytest.mark.parametrize("path", PIPELINE + EXPLORE, ids=lambda path: path.stem)
def test_a_notebook_is_kept_without_outputs(path):
    book = read(path)
    nbformat.validate(book)
    stripped = strip_output(read(path), keep_output=False, keep_count=False, keep_id=True)
    assert stripped == book, f"{path.name}: clear its outputs before saving (nbstripout {path})"


def shows(source: str) -> bool:
    """Whether a cell prints or draws, in a function that it calls by name or outside of any."""
    top = [part for part in ast.parse(source).body if not isinstance(part, ast.FunctionDef)]
    calls = [node.func for part in top for node in ast.walk(part) if isinstance(node, ast.Call)]
    names = {getattr(call, "attr", getattr(call, "id", "")) for call in calls}
    return bool(names & {"print", "show", "subplots", "strip"})


@pytest.mark.parametrize("path", WALKTHROUGHS, ids=lambda path: path.stem)
def test_a_walkthrough_is_kept_as_one_execution_from_top_to_bottom_left_it(path):
    book = read(path)
    nbformat.validate(book)
    code = [cell for cell in book.cells if cell.cell_type == "code"]
    again = f"{path.name}: python -m hmdiff.pipeline.lessons {path.stem}"
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1)), again
    assert not [cell.source for cell in code if shows(cell.source) and not cell.outputs], again
    assert lessons.flaws(book) == []
    cleaned = notebook.clean(read(path)).cells
    for part in ("outputs", "metadata"):
        assert [cell.get(part) for cell in cleaned] == [cell.get(part) for cell in book.cells]
    assert path.read_text() == nbformat.writes(book) + "\n"


def test_the_walkthroughs_outputs_are_light():
    assert sum(path.stat().st_size for path in WALKTHROUGHS) < 10e6


@pytest.mark.parametrize("path", PIPELINE, ids=lambda path: path.stem)
def test_a_pipeline_notebook_is_one_short_job(path):
    book = read(path)
    assert book.cells[0].cell_type == "markdown" and book.cells[0].source.startswith("# ")
    assert notebook.declared(book, path)
    code = [cell.source for cell in book.cells if cell.cell_type == "code"]
    assert all(len(source.splitlines()) <= 20 for source in code), (
        "a long cell wants to be a function"
    )
    assert any("assert " in source for source in code), "nothing is asserted about the result"
    assert any("root.enter()" in source for source in code), "JupyterLab opens it where it lies"
    assert len(book.cells) <= 9


@pytest.mark.parametrize("path", WALKTHROUGHS, ids=lambda path: path.stem)
def test_a_walkthrough_asserts_asks_and_links_to_what_is_there(path):
    book = read(path)
    assert book.cells[0].source.startswith("# ")
    assert "root" in notebook.declared(book, path)
    code = [cell.source for cell in book.cells if cell.cell_type == "code"]
    prose = "\n".join(cell.source for cell in book.cells if cell.cell_type == "markdown")
    assert sum("assert " in source for source in code) >= 3
    assert max(len(source.splitlines()) for source in code) <= 28
    exercises = re.findall(r"> \*\*Exercise (\d+)\.\*\*", prose)
    assert len(exercises) >= 3
    assert [int(n) for n in exercises] == list(range(1, len(exercises) + 1))
    assert prose.count("<details><summary>Answer</summary>") == len(exercises)
    assert prose.count("</details>") == len(exercises)
    headings = {h.replace(" ", "-") for h in re.findall(r"^#+ (.*)$", prose, re.M)}
    for target in re.findall(r"\]\(#(.*?)\) \|", prose):
        assert target.replace("$", "") in {h.replace("$", "") for h in headings}, target
    for target in re.findall(r"\]\(([\w/.]+\.ipynb)\)", prose):
        assert (path.parent / target).is_file(), target


@pytest.mark.parametrize("path", EXPLORE, ids=lambda path: path.stem)
def test_a_notebook_for_analysts_asserts_and_links_to_what_is_there(path):
    book = read(path)
    assert book.cells[0].source.startswith("# ") and "synthetic" in book.cells[0].source
    assert {"root", "dataset", "metric", "seed"} <= notebook.declared(book, path)
    code = [cell.source for cell in book.cells if cell.cell_type == "code"]
    assert sum("assert " in source for source in code) >= 5
    assert max(len(source.splitlines()) for source in code) <= 28
    prose = "\n".join(cell.source for cell in book.cells if cell.cell_type == "markdown")
    for target in re.findall(r"\]\(([\w/.]+\.ipynb)\)", prose):
        assert (path.parent / target).is_file(), target


def test_the_contents_page_lists_every_walkthrough():
    page = (ROOT / "notebooks/walkthrough/README.md").read_text()
    listed = re.findall(r"^\| \d+ \| \[(\w+)\]\((\w+)\.ipynb\)", page, re.M)
    assert all(name == file for name, file in listed)
    assert sorted(name for name, _ in listed) == [path.stem for path in WALKTHROUGHS]


def book_of(*cells: str, tags: tuple[str, ...] = ("parameters",)) -> nbformat.NotebookNode:
    """A notebook whose first cells carry `tags`."""
    book = v4.new_notebook(cells=[v4.new_code_cell(source) for source in cells])
    for cell, tag in zip(book.cells, tags, strict=False):
        cell.metadata["tags"] = [tag]
    return book


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Writes a notebook beside the working folder, which is empty."""
    monkeypatch.chdir(tmp_path)

    def at(book: nbformat.NotebookNode) -> Path:
        nbformat.write(book, "job.ipynb")
        return Path("job.ipynb")

    return at


@pytest.mark.parametrize("tags", [(), ("parameters", "parameters")])
def test_there_is_exactly_one_parameters_cell(tags):
    with pytest.raises(ValueError, match="tag exactly one"):
        notebook.declared(book_of("seed = 0", "other = 1", tags=tags), Path("job.ipynb"))


def test_declared_parameters_are_read_with_comments_and_types():
    source = "# which one\nsubject = 'body'  # or = 'hand'\nseed: int = 0\n\n"
    assert notebook.declared(book_of(source), Path("x")) == {"subject", "seed"}


def test_an_unknown_parameter_is_an_error_before_anything_runs(write, capsys):
    path = write(book_of("seed = 0", "open('ran', 'w')"))
    assert notebook.main([str(path), "-p", "sead", "1"]) == 1
    assert "no parameter 'sead'; it has seed" in capsys.readouterr().err
    assert not Path("ran").exists()


def test_a_missing_notebook_is_one_line(write, capsys):
    assert notebook.main(["none.ipynb"]) == 1
    assert capsys.readouterr().err == "none.ipynb: no such notebook\n"


WORK = """
import sys, time
print("prog" + "ress", time.time(), file=sys.stderr)
print(seed + 1, subject)
"""


def test_two_runs_give_the_same_bytes_and_a_page_that_needs_nothing(write):
    path = write(book_of("seed = 0\nsubject = 'hand'", WORK, "seed"))
    pages = []
    for folder in ("a", "b"):
        args = [str(path), "-p", "seed", "41", "-p", "subject", "body", "--to", folder]
        assert notebook.main(args) == 0
        files = sorted(Path(folder).iterdir())
        assert [file.name for file in files] == ["job-41-body.html", "job-41-body.ipynb"]
        pages.append([file.read_bytes() for file in files])
    assert pages[0] == pages[1]
    html = pages[0][0].decode()
    assert "42 body" in html and "progress" not in html
    assert "http" not in html and "<script" not in html


@pytest.mark.parametrize(
    ("source", "traceback"),
    [("raise ValueError('data/x.json: truncated; copy it again')", False), ("1 / 0", True)],
)
def test_a_failing_cell_ends_in_one_line_and_leaves_nothing(write, capsys, source, traceback):
    path = write(book_of("seed = 0", "a = 1", source))
    assert notebook.main([str(path), "-p", "seed", "3"]) == 1
    lines = capsys.readouterr().err.strip().splitlines()
    assert lines[-1].startswith("job.ipynb, cell 3: ")
    assert ("Traceback" in "\n".join(lines)) == traceback
    assert traceback or lines[-1].endswith("ValueError: data/x.json: truncated; copy it again")
    assert not Path("reports").exists()


def test_the_kernel_sees_the_package_of_the_folder_it_runs_in(write, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    Path("hmdiff").mkdir()
    Path("hmdiff/__init__.py").write_text("PLACE = 'here'\n")
    path = write(book_of("seed = 0", "import hmdiff", "assert hmdiff.PLACE == 'here'"))
    assert notebook.main([str(path)]) == 0


def test_the_kernel_is_told_to_keep_its_memory_unless_a_user_says_otherwise(write, monkeypatch):
    monkeypatch.delenv("MALLOC_MMAP_THRESHOLD_", raising=False)
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "1")
    told = notebook.MEMORY | {"MALLOC_TRIM_THRESHOLD_": "1"}
    check = f"assert {told}.items() <= os.environ.items()"
    assert notebook.main([str(write(book_of("seed = 0", "import os", check)))]) == 0


def test_a_notebook_finds_the_projects_root_from_below(tmp_path, monkeypatch):
    inner = tmp_path / "notebooks" / "pipeline"
    inner.mkdir(parents=True)
    monkeypatch.chdir(inner)
    with pytest.raises(ValueError, match=r"no dvc.yaml here or above"):
        root.enter()
    for name in ("dvc.yaml", "params.yaml"):
        (tmp_path / name).touch()
    assert root.enter() == tmp_path == Path.cwd()
