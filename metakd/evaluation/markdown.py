"""A report as Markdown: the same sections as in HTML, with tables instead of pictures."""

from __future__ import annotations

from metakd.evaluation.document import Block, Table, to_markdown
from metakd.evaluation.pictures import Report
from metakd.evaluation.text import LONGEST_CELL, shorten


def report_to_markdown(report: Report) -> str:
    """The report as GitHub Markdown. Text from data is escaped; control characters and very long texts are cut."""
    blocks: list[Block] = [f"# {report.title}", f"**{report.verdict}**", *report.about]
    for section in report.sections:
        blocks += [f"## {shorten(section.title, LONGEST_CELL)}", *section.texts]
        if section.lines:
            blocks.append([shorten(line, LONGEST_CELL) for line in section.lines])
        for named in section.tables:
            blocks += [f"{named.title}:", short_cells(named.table)]
    return to_markdown(blocks)


def short_cells(table: Table) -> Table:
    """The table with cells of one line and at most `LONGEST_CELL` letters."""
    rows = [[shorten(cell, LONGEST_CELL) for cell in row] for row in table.rows]
    return Table([shorten(name, LONGEST_CELL) for name in table.headers], rows, table.text_columns)
