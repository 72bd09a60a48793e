"""The reports' front page: one static HTML file that gathers tables, claims, figures, notebooks.

It needs no script and no network, links relatively, and reads well on a telephone. Whatever is not
there yet is left out; titles of figures are the findings that `figures.save` stored in them.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import jinja2
import mistune
from markupsafe import Markup
from PIL import Image, UnidentifiedImageError

from ..files import write_file

PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>HMDiff, an executable study</title>
<style>
:root { color-scheme: light; --ink: #1d2327; --soft: #59636b; --line: #d9dee2; --link: #0a58a6; }
* { box-sizing: border-box; }
body { max-width: 68rem; margin: 0 auto; padding: 1.5rem 1rem 4rem; color: var(--ink);
       font: 17px/1.55 system-ui, sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: .5rem 0; }
h2 { margin: 2.6rem 0 .6rem; padding-bottom: .2rem; border-bottom: 2px solid var(--line); }
h3 { margin: 1.8rem 0 .4rem; font-size: 1.08rem; }
a { color: var(--link); }
nav a { display: inline-block; margin: .2rem 1.1rem .2rem 0; }
p, li { max-width: 46rem; }
p.files, figcaption, .soft { color: var(--soft); font-size: .9rem; }
.wide { overflow-x: auto; border: 1px solid var(--line); border-radius: 6px; margin: .5rem 0; }
table { border-collapse: collapse; font-size: .84rem; line-height: 1.4; }
th, td { padding: .3rem .6rem; text-align: right; white-space: nowrap; vertical-align: bottom; }
th { white-space: normal; min-width: 5rem; background: #f3f5f6; font-weight: 600; }
tbody tr:nth-child(even) { background: #fafbfb; }
th:first-child, td:first-child { text-align: left; position: sticky; left: 0; background: #fff;
                                 border-right: 1px solid var(--line); min-width: 9rem; }
td.text { white-space: normal; text-align: left; min-width: 14rem; }
.gallery { display: grid; gap: 1.4rem; grid-template-columns: repeat(auto-fit, minmax(min(100%,
           30rem), 1fr)); align-items: start; }
figure { margin: 0; }
figure img { width: 100%; height: auto; border: 1px solid var(--line); border-radius: 6px; }
ul.columns { columns: 18rem; padding-left: 1.2rem; }
</style>
</head>
<body>
<h1>Distribution-Aligned Diffusion for Human Mesh Recovery: an executable study</h1>
<p>Tables, figures and claims of the paper (ICCV 2023) beside what this study measured. Published
numbers and measured ones stand in columns of their own; what was measured on rendered images is
marked <em>synthetic</em>.</p>
{% if explorer %}
<p><a href="explorer.html">Explorer</a>: any two systems against each other, image by image, with
meshes to turn.</p>
{% endif %}
<nav>
{%- for section in sections %}<a href="#{{ section.name }}">{{ section.title }}</a>{% endfor -%}
</nav>
{% for section in sections %}
<h2 id="{{ section.name }}">{{ section.title }}</h2>
{% if section.contents %}<nav>
{%- for link in section.contents %}<a href="{{ link.file }}">{{ link.name }}</a>{% endfor -%}
</nav>{% endif %}
{% for sheet in section.sheets %}
<section id="{{ sheet.stem }}">
{{ sheet.body }}
<p class="files">Files: {% for file in sheet.files %}<a href="{{ file }}">{{ file.split(".")[-1]
}}</a>{{ ", " if not loop.last }}{% endfor %}</p>
</section>
{% endfor %}
{% if section.figures %}<div class="gallery">
{% for figure in section.figures %}
<figure><a href="{{ figure.file }}"><img src="{{ figure.file }}" alt="{{ figure.title }}"
 width="{{ figure.width }}" height="{{ figure.height }}" loading="lazy"></a>
<figcaption>{{ figure.name }}</figcaption></figure>
{% endfor %}
</div>{% endif %}
{% if section.links %}<ul class="columns">
{% for link in section.links %}<li><a href="{{ link.file }}">{{ link.name }}</a></li>
{% endfor %}</ul>{% endif %}
{% endfor %}
</body>
</html>
"""

MARKDOWN = mistune.create_markdown(escape=True, plugins=["table"])
TEMPLATE = jinja2.Environment(
    autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
).from_string(PAGE)


@dataclass(frozen=True)
class Section:
    """A part of the page; the sheets' `body` is HTML made from our own Markdown."""

    name: str
    title: str
    sheets: tuple[dict, ...] = ()
    figures: tuple[dict, ...] = ()
    links: tuple[dict, ...] = ()
    contents: tuple[dict, ...] = ()  # links to the sheets, above them


def write_index(reports: Path) -> Path:
    """Write reports/index.html from what lies in `reports`; returns its path.

    Read are claims.md, check.md, tables/*.md (with .csv and .tex beside them), figures/*.png,
    notebooks/*.html and other pages.

    Raises:
        FileNotFoundError: there is nothing to show.
        ValueError: a figure is damaged.
    """
    sections = [part for part in (make(reports) for make in MAKERS) if part]
    if not sections:
        raise FileNotFoundError(f"{reports}: no tables, figures or notebooks; run `dvc repro`")
    explorer = (reports / "explorer.html").is_file()
    write_file(reports / "index.html", TEMPLATE.render(sections=sections, explorer=explorer))
    return reports / "index.html"


def html(markdown: str) -> Markup:
    """Markdown as HTML; tags in it are escaped, tables scroll sideways on their own."""
    made = MARKDOWN(markdown)
    made = made.replace("<table>", '<div class="wide"><table>')
    made = made.replace("</table>", "</table></div>")
    # A cell of prose breaks its lines; a cell of numbers does not.
    made = re.sub(r"<td[^>]*>(?=[^<]{40})", '<td class="text">', made)
    return Markup(made)


def claims(reports: Path) -> Section | None:
    """The claims sheet, whole."""
    return _sheet("claims", "Which of the paper's claims hold", reports)


def check(reports: Path) -> Section | None:
    """Which of the committed numbers hold."""
    return _sheet("check", "Does this run repeat the committed numbers", reports)


def _sheet(name: str, title: str, reports: Path) -> Section | None:
    """A sheet of Markdown; its own first heading makes way for the section's."""
    path = reports / f"{name}.md"
    if not path.is_file():
        return None
    text = re.sub(r"\A\s*#+ .*\n", "", path.read_text(encoding="utf-8"))
    sheet = {"stem": f"{name}-sheet", "body": html(text), "files": siblings(path, reports)}
    return Section(name, title, sheets=(sheet,))


def tables(reports: Path) -> Section | None:
    """Every table, in the paper's order, with links to its other forms."""
    sheets = tuple(
        {
            "stem": path.stem,
            "body": html(path.read_text(encoding="utf-8")),
            "files": siblings(path, reports),
        }
        for path in sorted((reports / "tables").glob("*.md"), key=as_in_the_paper)
    )
    shown = tuple({"file": f"#{sheet['stem']}", "name": sheet["stem"]} for sheet in sheets)
    return Section("tables", "Tables", sheets=sheets, contents=shown) if sheets else None


def figures(reports: Path) -> Section | None:
    """Every figure, with the finding that is stored in it as its text for those who cannot see."""
    paths = sorted((reports / "figures").glob("*.png"), key=in_order)
    found = tuple(describe(path, reports) for path in paths)
    return Section("figures", "Figures", figures=found) if found else None


def notebooks(reports: Path) -> Section | None:
    """Links to the executed notebooks' pages."""
    return _links(
        "notebooks", "Executed notebooks", (reports / "notebooks").glob("*.html"), reports
    )


def pages(reports: Path) -> Section | None:
    """Links to other pages, such as interactive ones; the explorer has its link at the top."""
    known = ("index.html", "explorer.html")
    others = [path for path in reports.glob("*.html") if path.name not in known]
    return _links("pages", "More pages", others, reports)


MAKERS = (claims, tables, figures, check, notebooks, pages)


def _links(name: str, title: str, paths, reports: Path) -> Section | None:
    links = tuple(
        {"file": path.relative_to(reports).as_posix(), "name": path.stem}
        for path in sorted(paths, key=in_order)
    )
    return Section(name, title, links=links) if links else None


def as_in_the_paper(path: Path) -> tuple:
    """Sort key: the paper's Tables 1 to 6, then these on other sets, then what is beyond them."""
    return not path.stem.startswith("table"), "_" in path.stem, in_order(path)


def in_order(path: Path) -> list:
    """Sort key: table2 before table10."""
    parts = re.split(r"(\d+)", path.stem)
    return [int(part) if part.isdigit() else part for part in parts]


def siblings(path: Path, reports: Path) -> list[str]:
    """Relative links to a file and to its other forms."""
    forms = (path.with_suffix(suffix) for suffix in (".md", ".csv", ".tex"))
    return [form.relative_to(reports).as_posix() for form in forms if form.is_file()]


def describe(path: Path, reports: Path) -> dict:
    """A figure's relative link, title, name and size."""
    try:
        with Image.open(path) as image:
            title, (width, height) = image.info.get("Title", ""), image.size
    except (UnidentifiedImageError, OSError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{path}: damaged figure ({reason:.80}); delete it, run again") from None
    name = path.stem.replace("_", " ")
    file = path.relative_to(reports).as_posix()
    return {"file": file, "name": name, "title": title or name, "width": width, "height": height}
