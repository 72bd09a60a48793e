"""Walkthroughs with their outputs: what is kept, what is refused, and a page that needs nothing."""

import base64
import re
from pathlib import Path

import nbformat
import numpy as np
import plotly.graph_objects as go
import pytest
from browser import browser, program
from nbformat import v4

from hmdiff.pipeline import lessons

PROSE = """# Of $f$ and <b>more</b>

$$h_k = \\sqrt{\\alpha_k}\\, h_0 \\tag{Eq. 4}$$

On to [the other](other.ipynb), or [far away](https://example.org/other.ipynb).

<details><summary>Answer</summary>

Because $a < b$.
</details>
"""


def book_of(*sources: str) -> nbformat.NotebookNode:
    """A notebook of code cells with readable ids."""
    cells = [v4.new_code_cell(source, id=f"cell-{i}") for i, source in enumerate(sources)]
    return v4.new_notebook(cells=cells, metadata={"language_info": {"name": "python"}})


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project with a package and two walkthroughs, `one` to be written by the test."""
    for name in ("dvc.yaml", "params.yaml"):
        (tmp_path / name).touch()
    (tmp_path / "hmdiff").mkdir()
    (tmp_path / "hmdiff/__init__.py").write_text("PLACE = 'of this project'\n")
    (tmp_path / lessons.FOLDER).mkdir(parents=True)
    nbformat.write(book_of("1 + 1"), tmp_path / lessons.FOLDER / "other.ipynb")
    monkeypatch.chdir(tmp_path)

    def write(*sources: str) -> Path:
        nbformat.write(book_of(*sources), lessons.FOLDER / "one.ipynb")
        return lessons.FOLDER / "one.ipynb"

    return write


WORK = """
import sys, time
print("prog" + "ress", time.time(), file=sys.stderr)
for i in range(3):
    print("line", i, flush=True)
    time.sleep(0.05)
"""


def test_outputs_are_kept_where_they_arose_and_two_executions_give_the_same_bytes(project, capsys):
    path = project("import hmdiff\nhmdiff.PLACE", WORK, "open('other.ipynb').read()[:1]")
    sources = [(cell.id, cell.source) for cell in nbformat.read(path, 4).cells]
    kept = []
    for names in (["one"], []):
        assert lessons.main(names) == 0
        kept.append((path.read_bytes(), Path("reports/walkthrough/one.html").read_bytes()))
    assert kept[0] == kept[1]
    pages = ["reports/walkthrough/one.html", "reports/walkthrough/other.html"]
    assert capsys.readouterr().out.split() == [pages[0], *pages]
    book = nbformat.read(path, 4)
    assert [(cell.id, cell.source) for cell in book.cells] == sources
    assert [cell.execution_count for cell in book.cells] == [1, 2, 3]
    assert book.cells[0].outputs[0].data["text/plain"] == "'of this project'"
    assert [output.text for output in book.cells[1].outputs] == ["line 0\nline 1\nline 2\n"]
    assert b"line 2" in kept[0][1] and b"progress" not in b"".join(kept[0])


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("raise ValueError('data: not there; run `make repro` first')", "run `make repro` first"),
        ("print('/home/anna/data')", "cell 1: its output holds '/home/'"),
    ],
)
def test_what_others_could_not_use_is_refused_in_a_line_and_nothing_changes(
    project, capsys, source, message
):
    path = project("1", source)
    before = path.read_bytes()
    assert lessons.main(["one"]) == 1
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("notebooks/walkthrough/one.ipynb: ") and message in line
    assert path.read_bytes() == before and not Path("reports").exists()


def test_an_unknown_walkthrough_is_told_which_there_are(project, capsys):
    assert lessons.main(["two"]) == 1
    assert capsys.readouterr().err.endswith("no such walkthrough; there are other\n")


def test_errors_and_standard_error_are_flaws_and_a_picture_is_not_text():
    book = book_of("a", "b", "c")
    book.cells[0].outputs = [v4.new_output("error", ename="KeyError", evalue="'x'", traceback=[])]
    book.cells[1].outputs = [v4.new_output("stream", name="stderr", text="Warning: odd\n")]
    picture = {
        "image/png": "/tmp/",
        "text/plain": "<Axes at 0x7f>",
        "text/html": "../tmp/x, a/root/b",
    }
    book.cells[2].outputs = [v4.new_output("display_data", data=picture)]
    assert lessons.flaws(book) == [
        "cell 0: KeyError: 'x'",
        "cell 1: standard error: Warning: odd",
        "cell 2: its output holds 'at 0x7f'",
    ]


def drawn() -> nbformat.NotebookNode:
    """Prose with formulas and links, a picture's pixel, a mesh twice."""
    mesh = go.Figure(go.Mesh3d(x=[0.0, 1, 0, 0], y=[0.0, 0, 1, 0], z=[0.0, 0, 0, 1])).to_dict()
    mesh["data"][0]["x"] = {"dtype": "f4", "bdata": base64.b64encode(np.eye(4)[1]).decode()}
    book = book_of("mesh", "mesh")
    for cell in book.cells:
        cell.outputs = [v4.new_output("display_data", data={lessons.PLOTLY: mesh})]
    book.cells.insert(0, v4.new_markdown_cell(PROSE))
    return book


def test_a_page_holds_its_formulas_plots_and_links_to_pages(project):
    page = lessons.page(drawn(), "one")
    body = page.split("</script>", 1)[1]
    assert page.count("<math ") == 3 and "$" not in re.sub(
        "<script.*?</script>", "", body, flags=re.S
    )
    assert "ns0:" not in body and "<msqrt>" in body and "(Eq. 4)" in body
    assert page.count("Plotly.newPlot(") >= 2 and page.count("plotly.js v") == 1
    assert 'href="other.html"' in body and 'href="https://example.org/other.ipynb"' in body
    assert not re.search(r"<(script|img|link|iframe)[^>]*(src|href)=.?http", page)
    assert "plotly.js v" not in lessons.page(book_of("1"), "none")


@pytest.mark.skipif(program() is None, reason="no browser: see tests/browser.py")
def test_a_page_draws_offline_and_fits_a_telephone(project, tmp_path):
    page = tmp_path / "one.html"
    page.write_text(lessons.page(drawn(), "one"))
    with browser(program()) as tab:
        for width in (1400, 390):
            tab.open(page, width)
            assert tab.run("document.querySelectorAll('.js-plotly-plot').length") == 2
            assert tab.run("document.documentElement.scrollWidth") <= width
            assert tab.run("document.querySelector('msqrt').getBoundingClientRect().width") > 10
        assert [url for url in tab.requests if not url.startswith("file:")] == []
