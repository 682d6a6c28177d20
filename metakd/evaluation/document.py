"""Paragraphs, lists and tables, printed as Markdown for a file or as text for a console."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from tabulate import tabulate

from metakd.evaluation.text import printable

ENTITIES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", "|": "&#124;", "\\": "&#92;"})
# What makes a link or an image: a bracket before its target, and addresses, of which GitHub makes links by themselves.
LINK = re.compile(r"(?i)\](?=[(\[:])|(?<=www)\.|:(?=//)")


class Table(NamedTuple):
    """Rows of text below headers; columns of text come first, columns of numbers after them."""

    headers: list[str]
    rows: list[list[str]]
    text_columns: int = 1


Block = str | list[str] | Table  # a paragraph, a list, a table


def titled_list(title: str, named_texts: Iterable[tuple[str, str]]) -> list[Block]:
    """A title and a list of the texts, each once, with the names that it belongs to; nothing if there is no text."""
    names: dict[str, list[str]] = defaultdict(list)
    for name, text in named_texts:
        if text and name not in names[text]:
            names[text].append(name)
    lines = [f"{', '.join(names[text])}: {text}" for text in names]
    return [title, lines] if lines else []


def to_markdown(blocks: Sequence[Block]) -> str:
    """The blocks as GitHub Markdown; text from data can neither break a table nor become HTML, a link or an image."""
    return _join(blocks, escape, "pipe")


def to_console(blocks: Sequence[Block]) -> str:
    """The blocks as plain text in aligned columns."""
    return _join(blocks, one_line, "simple")


def escape(text: str) -> str:
    """Text on one line, with entities for what has a meaning in tables, links, images, addresses or HTML."""
    return LINK.sub(lambda found: f"&#{ord(found[0])};", one_line(text).translate(ENTITIES))


def one_line(text: str) -> str:
    """Text with spaces for line breaks, which would split a table cell, and for what a terminal would obey."""
    return printable(" ".join(text.splitlines()))


def _join(blocks: Sequence[Block], change: Callable[[str], str], table_format: str) -> str:
    return "\n\n".join(_render(block, change, table_format) for block in blocks) + "\n"


def _render(block: Block, change: Callable[[str], str], table_format: str) -> str:
    if isinstance(block, str):
        return change(block)
    if isinstance(block, list):
        return "\n".join(f"- {change(line)}" for line in block)
    numbers = len(block.headers) - block.text_columns
    return tabulate(
        [[change(cell) for cell in row] for row in block.rows],
        headers=[change(name) for name in block.headers],
        tablefmt=table_format,
        colalign=["left"] * block.text_columns + ["right"] * numbers,
        disable_numparse=True,  # cells are text already; tabulate would format those that look like numbers
    )
