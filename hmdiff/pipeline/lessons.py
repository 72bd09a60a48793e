"""The walkthroughs with their outputs: executed where they lie, and a web page of each.

    python -m hmdiff.pipeline.lessons                 # all six, from the finished run they lie in
    python -m hmdiff.pipeline.lessons body_model      # or some

The notebooks keep what their cells printed and drew, so that JupyterLab and a forge show them to
who has run nothing; the pages go to reports/walkthrough/. Two executions on one machine give the
same bytes: what goes is what `notebook` drops as well. A page needs no network: pictures
and plotly's script are in it, formulas are MathML, which every browser draws by itself.
"""

import argparse
import copy
import os
import re
import sys
import tempfile
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from ..files import write_file
from ..root import enter
from .notebook import PAGE, clean

FOLDER = Path("notebooks/walkthrough")
PLOTLY = "application/vnd.plotly.v1+json"
# Absolute paths, and addresses in memory.
FOREIGN = re.compile(r"(?<![\w.:+/])(/(home|root|tmp|Users|work|mnt)/|[A-Z]:\\)|\bat 0x[0-9a-f]+")
STYLE = """<style>
.prompt { display: none; }
.input_area pre { background: #f6f7f8; border-left: 3px solid #bbb; margin: 1rem 0 .4rem; }
.output_text pre { margin: .2rem 0 1rem; }
@media (min-width: 60rem) { .output_text pre { white-space: pre-wrap; } }
h1, h2, h3 { line-height: 1.25; }
blockquote { margin: 1rem 0; padding: .1rem 1rem; border-left: 4px solid #0072b2;
             background: #f1f6fa; }
details { margin: 1rem 0; padding: .4rem 1rem; border: 1px solid #ddd; border-radius: 6px; }
table { display: block; overflow-x: auto; margin: 1rem 0; border: 0; }
th, td { border: 0; border-bottom: 1px solid #ddd; }
:is(.text_cell, .output_markdown) :is(th, td) { text-align: left; vertical-align: top; }
:not(pre) > code { background: #f2f3f4; overflow-wrap: anywhere; }
math { font-family: "Cambria Math", "STIX Two Math", "Latin Modern Math", "DejaVu Math TeX Gyre",
       math; }
math[display=block] { margin: .8rem 0; overflow: auto hidden; }
.output_png { overflow-x: auto; }
.output_png img { max-width: max(100%, 40rem); }  /* what is wider than a telephone scrolls */
</style>
"""


def execute(book: NotebookNode, folder: Path, root: Path) -> NotebookNode:
    """A copy of the notebook with the outputs of its code cells, and nothing else changed.

    Args:
        folder: where the kernel works, the notebook's own.
        root: of the project, whose package the kernel imports.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell failed.
    """
    from nbclient import NotebookClient

    done = copy.deepcopy(book)
    with tempfile.TemporaryDirectory() as empty:  # in place of the user's own start-up files
        NotebookClient(
            done,
            kernel_name="python3",
            timeout=None,
            coalesce_streams=True,
            extra_arguments=[f"--ipython-dir={empty}", "--log-level=ERROR"],
            resources={"metadata": {"path": str(folder)}},
        ).execute(env={**os.environ, "PYTHONPATH": str(root)})
    done, kept = clean(done), copy.deepcopy(book)
    for cell, ran in zip(kept.cells, done.cells, strict=True):
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = ran.outputs, ran.execution_count
    return kept


def flaws(book: NotebookNode) -> list[str]:
    """What is wrong with a notebook's outputs, a line each: errors, standard error (warnings,
    progress bars), and what only means something on the machine that ran it."""
    found = []
    for i, cell in enumerate(book.cells):
        for output in cell.get("outputs", []):
            if output.output_type == "error":
                found.append(f"cell {i}: {output.ename}: {output.evalue}")
            if output.get("name") == "stderr":
                found.append(f"cell {i}: standard error: {output.text.strip()[:80]}")
            told = {"text/plain": output.get("text", ""), **output.get("data", {})}
            for kind, text in told.items():
                if not kind.startswith("image/") and (odd := FOREIGN.search(str(text))):
                    found.append(f"cell {i}: its output holds {odd[0]!r}")
    return found


def page(book: NotebookNode, title: str) -> str:
    """One self-contained HTML page: nothing is fetched, plotly's script is there at most once."""
    import plotly.io
    from latex2mathml.converter import convert
    from nbconvert import HTMLExporter
    from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
    from plotly.offline import get_plotlyjs
    from pygments.formatters import HtmlFormatter

    def math(body: str, display: str = "inline") -> str:
        element = convert(body.replace(r"\tag{", r"\qquad\tag{"), display=display)
        return element.replace(' xmlns="http://www.w3.org/1998/Math/MathML"', "")  # implied in HTML

    class Renderer(IPythonRenderer):
        def inline_math(self, body: str) -> str:
            return math(body)

        def block_math(self, body: str) -> str:
            return math(body, display="block")

    book, figures = copy.deepcopy(book), 0
    for output in (output for cell in book.cells for output in cell.get("outputs", [])):
        if figure := output.get("data", {}).get(PLOTLY):
            figures += 1
            output.data["text/html"] = plotly.io.to_html(
                {key: figure.get(key, []) for key in ("data", "layout", "frames")},
                config={"displaylogo": False, "responsive": True},
                auto_play=False,
                include_plotlyjs=False,
                include_mathjax=False,
                full_html=False,
                validate=False,
                div_id=f"figure-{figures}",
            )
    markdown = MarkdownWithMath(renderer=Renderer(escape=False))
    exporter = HTMLExporter(template_name="basic", filters={"markdown2html": markdown.render})
    body, _ = exporter.from_notebook_node(book)
    for other in FOLDER.glob("*.ipynb"):  # from page to page, as from notebook to notebook
        body = body.replace(f'href="{other.name}"', f'href="{other.stem}.html"')
    colours = f"<style>{HtmlFormatter().get_style_defs('.highlight')}</style>\n"
    script = f"<script>{get_plotlyjs()}</script>\n" if figures else ""
    return PAGE.format(title=title, body=colours + STYLE + script + body)


def run(name: str, root: Path, pages: Path) -> Path:
    """Execute one walkthrough, keep its outputs in it and write its page; returns the page's path.

    Raises:
        ValueError: there is no such notebook, a cell failed, or its outputs have flaws; the
            notebook is left as it was.
    """
    from nbclient.exceptions import CellExecutionError

    path = FOLDER / f"{name}.ipynb"
    if not path.is_file():
        there = ", ".join(sorted(other.stem for other in FOLDER.glob("*.ipynb")))
        raise ValueError(f"{path}: no such walkthrough; there are {there}")
    try:
        book = execute(nbformat.read(path, as_version=4), path.parent, root)
    except CellExecutionError as error:
        raise ValueError(f"{path}: {error.ename}: {error.evalue}") from error
    if found := flaws(book):
        raise ValueError(f"{path}: {'; '.join(found)}")
    write_file(path, nbformat.writes(book) + "\n")
    write_file(pages / f"{name}.html", page(book, name.replace("_", " ")))
    return pages / f"{name}.html"


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; the exit code is 1 after an error, which is the last line printed."""
    parser = argparse.ArgumentParser(
        prog="python -m hmdiff.pipeline.lessons",
        description="Execute walkthroughs and keep their outputs",
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="of notebooks; without, all")
    parser.add_argument("--to", type=Path, default=Path("reports/walkthrough"), metavar="FOLDER")
    given = parser.parse_args(arguments)
    try:
        root = enter()
        for name in given.names or sorted(path.stem for path in FOLDER.glob("*.ipynb")):
            print(run(name, root, given.to), flush=True)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
