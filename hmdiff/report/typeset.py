"""A table as a small object, and its three forms: CSV, Markdown, LaTeX (booktabs).

Columns come in groups, so that what was published and what was measured stay apart in every form.
A cell is an `Interval`, a number, a text, or None, which prints as an em dash.
"""

import csv
import io
import re
from dataclasses import dataclass, field
from pathlib import Path

from ..files import write_file
from ..stats import Interval

Cell = Interval | float | int | str | None
DASH = "—"


@dataclass(frozen=True)
class Group:
    """Neighbouring columns of one origin: their common title, names, and printed decimals."""

    title: str
    names: tuple[str, ...]
    digits: tuple[int, ...]


@dataclass(frozen=True)
class Section:
    """Neighbouring rows (label, cells of all groups in order); a title where they need one."""

    rows: tuple[tuple[str, tuple[Cell, ...]], ...]
    title: str = ""


@dataclass(frozen=True)
class Sheet:
    """A table.

    Attributes:
        stem: file name without ending.
        facts: constants such as profile and seeds; further columns of the CSV.
        notes: Markdown sentences that stand under the table.
    """

    stem: str
    title: str
    groups: tuple[Group, ...]
    sections: tuple[Section, ...]
    notes: tuple[str, ...]
    facts: dict[str, str] = field(default_factory=dict)

    @property
    def columns(self) -> list[tuple[str, str, int]]:
        """(group title, name, digits) of each column."""
        return [
            (group.title, name, digits)
            for group in self.groups
            for name, digits in zip(group.names, group.digits, strict=True)
        ]


def show(cell: Cell, digits: int) -> str:
    """A cell as text: "82.4 [80.1, 84.7]", "82.4", or a dash."""
    match cell:
        case None:
            return DASH
        case Interval(measured=False):
            return DASH
        case Interval(failed=failed, images=images) if failed:
            return f"diverged on {failed} of {images}"
        case Interval(mean=mean, low=low, high=high):
            return f"{mean:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"
        case str():
            return cell
        case _:
            return f"{cell:.{digits}f}"


def markdown_rows(header: list[str], rows: list[list[str]]) -> list[str]:
    """The lines of a Markdown table: first column left, others right; bars in cells escaped."""
    lines = [header, [":--", *["--:"] * (len(header) - 1)], *rows]
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines]


def markdown(sheet: Sheet) -> str:
    """The sheet as Markdown, titles of groups repeated in each column head."""
    header = ["Method", *(f"{group}: {name}" for group, name, _ in sheet.columns)]
    rows = []
    for section in sheet.sections:
        if section.title:
            rows.append([f"*{section.title}*", *[""] * len(sheet.columns)])
        for label, cells in section.rows:
            texts = [show(c, d) for c, (_, _, d) in zip(cells, sheet.columns, strict=True)]
            rows.append([label, *texts])
    table = "\n".join(markdown_rows(header, rows))
    notes = "\n".join(f"- {note}" for note in sheet.notes)
    return f"### {sheet.title}\n\n{table}\n\n{notes}\n"


def comma_separated(sheet: Sheet) -> str:
    """The sheet as CSV: full precision, an interval as mean, low, high; an empty field for None."""
    grid = [cells for section in sheet.sections for _, cells in section.rows]
    wide = [
        any(isinstance(cell, Interval) for cell in column) for column in zip(*grid, strict=True)
    ]
    header = ["Method"]
    for (group, name, _), is_wide in zip(sheet.columns, wide, strict=True):
        head = plain(f"{group}: {name}")
        header += [head, f"{head} low", f"{head} high"] if is_wide else [head]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*header, *sheet.facts])
    for section in sheet.sections:
        for label, cells in section.rows:
            fields: list[object] = [label]
            for cell, is_wide in zip(cells, wide, strict=True):
                fields += numbers(cell) if is_wide else [cell]
            writer.writerow([*fields, *sheet.facts.values()])
    return text.getvalue()


def numbers(cell: Cell) -> list[object]:
    """Mean, low and high of a cell to 4 decimals, empty where nothing was measured."""
    if not isinstance(cell, Interval):
        return [cell, None, None]
    if not cell.measured:
        return [None] * 3
    if cell.failed:
        return ["diverged", None, None]
    return [round(value, 4) for value in (cell.mean, cell.low, cell.high)]


def latex(sheet: Sheet) -> str:
    """The sheet as a LaTeX table (needs booktabs, graphicx), notes under it in small type."""
    width = len(sheet.columns) + 1
    top, rules, first = [""], [], 2
    for group in sheet.groups:
        last = first + len(group.names) - 1
        top.append(f"\\multicolumn{{{len(group.names)}}}{{c}}{{{tex(group.title)}}}")
        rules.append(f"\\cmidrule(lr){{{first}-{last}}}")
        first = last + 1
    body = [" & ".join(top) + r" \\", " ".join(rules)]
    body.append(" & ".join(["Method", *(tex(name) for _, name, _ in sheet.columns)]) + r" \\")
    for section in sheet.sections:
        body.append(r"\midrule")
        if section.title:
            body.append(f"\\multicolumn{{{width}}}{{l}}{{\\emph{{{tex(section.title)}}}}} \\\\")
        for label, cells in section.rows:
            texts = [show(c, d) for c, (_, _, d) in zip(cells, sheet.columns, strict=True)]
            body.append(" & ".join(tex(text) for text in (label, *texts)) + r" \\")
    lines = [
        r"\begin{table}[t]",
        r"\centering",
        # LaTeX numbers its tables itself.
        f"\\caption{{{tex(re.sub(r'^Table', 'HMDiff Table', sheet.title))}}}",
        f"\\label{{tab:{sheet.stem}}}",
        r"\resizebox{\linewidth}{!}{%",
        f"\\begin{{tabular}}{{l{'r' * (width - 1)}}}",
        r"\toprule",
        *body,
        r"\bottomrule",
        r"\end{tabular}}",
        r"\par\smallskip\footnotesize\raggedright",
        *(tex(note) + r"\par" for note in sheet.notes),
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


_TEX = {
    "\\": r"\textbackslash{}",
    **{char: "\\" + char for char in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "↓": r"$\downarrow$",
    "↑": r"$\uparrow$",
    "—": "---",
    "<": "$<$",
    ">": "$>$",
}
_SYMBOLS = {"H_U": "$H_U$", "u_c": "$u_c$", "H_0": "$H_0$", "Direct L2": "Direct $L_2$"}
_TOKENS = re.compile("|".join(map(re.escape, (*_SYMBOLS, *_TEX))))


def tex(text: str) -> str:
    """Markdown text as LaTeX: special characters escaped, the paper's symbols as mathematics."""
    escaped = _TOKENS.sub(lambda m: _SYMBOLS.get(m[0]) or _TEX[m[0]], text)
    escaped = re.sub(r"`([^`]*)`", r"\\texttt{\1}", escaped)
    return re.sub(r"\*([^*]+)\*", r"\\emph{\1}", escaped)


def plain(text: str) -> str:
    """Column names for machines: no emphasis, no arrows."""
    return re.sub(r"[*`↓↑]", "", text).strip()


def write_sheets(sheets: list[Sheet], out: str | Path) -> list[Sheet]:
    """Write every sheet in its three forms into `out`; returns them."""
    for sheet in sheets:
        write_sheet(sheet, Path(out))
    return sheets


def write_sheet(sheet: Sheet, out: Path) -> None:
    """Write `<stem>.csv`, `.md` and `.tex` into `out`."""
    forms = {"csv": comma_separated, "md": markdown, "tex": latex}
    for ending, form in forms.items():
        write_file(out / f"{sheet.stem}.{ending}", form(sheet))
