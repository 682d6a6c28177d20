"""A report as one HTML file without scripts and without anything that is loaded from elsewhere."""

from __future__ import annotations

from itertools import count

from jinja2 import Environment, PackageLoader, StrictUndefined

from metakd.evaluation.figures import MARKERS, SERIES, draw, look
from metakd.evaluation.pictures import Report, Section
from metakd.evaluation.text import LONGEST_CELL, shorten

LONGEST_CAPTION = 80  # letters of a picture's title
# The markers of `figures.MARKERS` around (0, 0), for legends.
SHAPES = {
    "o": '<circle r="4"/>',
    "s": '<path d="M-3.5-3.5h7v7h-7z"/>',
    "^": '<path d="M0-4.5 4.5 4h-9z"/>',
    "D": '<path d="M0-5 5 0 0 5-5 0z"/>',
    "v": '<path d="M0 4.5-4.5-4h9z"/>',
    "P": '<path d="M-1.5-4.5h3v3h3v3h-3v3h-3v-3h-3v-3h3z"/>',
    "X": '<path d="M-4.2-2.1-2.1-4.2 0-2.1 2.1-4.2 4.2-2.1 2.1 0 4.2 2.1 2.1 4.2 0 2.1-2.1 4.2-4.2 2.1-2.1 0z"/>',
    "p": '<path d="M0-4.6 4.4-1.4 2.7 3.7h-5.4L-4.4-1.4z"/>',
}
assert set(SHAPES) == set(MARKERS)


def to_html(report: Report) -> str:
    """The report as an HTML document. Text from data is escaped; control characters and very long texts are cut."""
    environment = Environment(
        loader=PackageLoader("metakd.evaluation"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    environment.filters["line"] = lambda text: shorten(text, LONGEST_CELL)
    environment.filters["caption"] = lambda text: shorten(text, LONGEST_CAPTION)
    numbers, pictures = {name: number for number, name in enumerate(report.series)}, count(1)

    def legend_numbers(section: Section) -> dict[str, int]:
        """Numbers of the names in a section's legend; names that only this section has, e.g. domains, start at 0."""
        own = [name for name in section.legend if name not in numbers]
        return {name: number for number, name in enumerate(own)} | numbers

    def drawn(section: Section) -> list[tuple[str, str, str]]:
        """(title, basis, SVG element) of each picture."""
        looks = legend_numbers(section)
        return [
            (picture.title, picture.basis, draw(picture, looks, f"p{next(pictures)}-")) for picture in section.pictures
        ]

    def legend(section: Section) -> list[tuple[str, str, str]]:
        """(name, colour, marker) of each name."""
        looks = legend_numbers(section)
        entries = []
        for name in section.legend:
            colour, marker = look(looks[name])
            entries.append((name, f"var(--c{SERIES.index(colour)})", SHAPES[marker]))
        return entries

    return environment.get_template("report.html").render(report=report, drawn=drawn, legend=legend)
