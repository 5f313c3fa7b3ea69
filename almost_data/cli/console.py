"""The console that every command prints with, and how text, tables and panels look on it."""

import io
import logging
import os
import sys
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from ..cards.markdown import CONTROL, clean

console = Console(highlight=False, markup=False)
MAX_WIDTH = 110


def accept_any_text() -> None:
    """Print a mark for each character that the terminal's encoding lacks, and nothing into a closed stream.

    Else the next file that is opened would get the stream's number, and what libraries print there.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), mode))
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")


def draw_to_files() -> None:
    """Let matplotlib draw without a screen or a home, and without a word about either."""
    os.environ["MPLBACKEND"] = "agg"
    logging.getLogger("matplotlib").setLevel(logging.ERROR)


def text(content: str, style: str = "") -> Text:
    """Text of users and models, without the sequences that a terminal obeys."""
    return Text(clean(content), style=style)


def print_line(content: str, style: str = "") -> None:
    """Print one line, which a narrow terminal wraps: a path or a command in it can be copied whole."""
    console.print(text(content, style), soft_wrap=True)


def print_prose(content: str, style: str = "") -> None:
    """Print sentences, which a terminal wraps between words."""
    console.print(text(content, style), soft_wrap=not console.is_terminal)


def print_cropped(content: str) -> None:
    """Print one line, cropped to the width of a terminal."""
    if console.is_terminal:
        console.print(text(content), no_wrap=True, overflow="ellipsis")
    else:
        print_line(content)


def print_json(value: Any) -> None:
    """Print data for programs."""
    write_json(msgspec.json.format(msgspec.json.encode(value)).decode() + "\n")


def write_json(content: str) -> None:
    """Print JSON; what a terminal would obey is escaped, which is the same JSON."""
    sys.stdout.write(CONTROL.sub(lambda match: f"\\u{ord(match[0]):04x}", content))


def grid(*headings: str, rows: Iterable[Iterable[Any]] = (), title: str = "") -> Table:
    """A table without lines; cells are text, numbers or None. Where it is narrow, words go on the next line.

    A heading that begins with `>` is that of numbers, which are aligned right and never broken.
    """
    table = Table(box=None, pad_edge=False, title=title or None, title_justify="left", title_style="bold")
    for heading in headings:
        if heading.startswith(">"):
            table.add_column(heading[1:], justify="right", no_wrap=True)
        else:
            table.add_column(heading, overflow="fold")
    for cells in rows:
        table.add_row(*map(_cell, cells))
    return table


def print_rows(*headings: str, rows: Iterable[Iterable[str | int]]) -> None:
    """Print a table as `grid` does, but thousands of rows at once.

    A column without a cell is left out. Columns that do not fit a terminal go on the next line, indented.

    >>> print_rows("ref", ">rows", "what", rows=[("queries@1.0.0", 1_000, "dataset"), ("日本語", 7, "")])
    ref             rows  what
    queries@1.0.0  1,000  dataset
    日本語             7
    """
    names = [heading.removeprefix(">") for heading in headings]
    cells = [names, *([_cell(value).plain.replace("\n", " ") for value in row] for row in rows)]
    columns, total = list[list[str]](), 0
    for heading, column in zip(headings, zip(*cells, strict=True), strict=True):
        if not any(column[1:]):
            continue
        widths = list(map(cell_len, column))
        width, is_right = max(widths), heading.startswith(">")
        pads = [" " * (width - w) for w in widths]
        columns.append(list(map(str.__add__, *((pads, column) if is_right else (column, pads)))))
        total += width + 2
        if console.is_terminal and total - 2 > console.width and len(columns) > 1:
            total = width + 4
            columns[-1] = [f"\n  {cell}" for cell in columns[-1]]
    parts = ("  ".join(line).replace("  \n", "\n") for line in zip(*columns, strict=True))
    header, *lines = ("\n".join(filter(None, map(str.rstrip, part.split("\n")))) for part in parts)
    console.out(header, style="bold")
    console.file.write("".join(f"{line}\n" for line in lines))


def _cell(value: Any) -> Text:
    if isinstance(value, Text):
        return value
    if isinstance(value, int | float):
        return Text(f"{value:,}" if isinstance(value, int) else f"{value:,.1f}")
    return text("" if value is None else value)


def print_tables(*tables: Table) -> None:
    """Print the tables that have rows, an empty line after each."""
    for table in tables:
        if table.row_count:
            console.print(table)
            console.print()


def panel(content: RenderableType, title: str, border: str = "dim") -> Panel:
    """A box with a title, narrow enough to be read; a title that is too long for the edge stands inside."""
    width = min(console.width, MAX_WIDTH)
    if cell_len(title) > width - 6:
        content, title = Group(text(title), "", content), ""
    return Panel(content, title=text(title), title_align="left", border_style=border, width=width)


def percent(value: float | None) -> str:
    """A share in one form everywhere; nothing where it was not measured.

    >>> percent(0.7112), percent(None)
    ('71.1%', '')
    """
    return "" if value is None else f"{value:.1%}"


def byte_size(count: int) -> str:
    """A size on disk: `3.2 MB`.

    >>> byte_size(1_234), byte_size(3_210_000)
    ('1 kB', '3.2 MB')
    """
    for unit, size in (("GB", 1e9), ("MB", 1e6)):
        if count >= size:
            return f"{count / size:,.1f} {unit}"
    return f"{count / 1e3:,.0f} kB"


def number(value: float | None) -> str:
    """A measured number, to four digits; nothing where it was not measured."""
    return "" if value is None else f"{value:.4g}"


def print_markdown(template: str, values: Mapping[str, Any]) -> None:
    """Print a template of the cards, filled in."""
    from ..cards.card import page

    sys.stdout.write(page(f"{template}.md.jinja", **values) + "\n")
