"""From a matplotlib figure to an SVG element that takes part in its page: the page's colours, fonts and ids."""

from __future__ import annotations

import io
import re
import warnings
from pathlib import Path
from xml.etree import ElementTree

from matplotlib.figure import Figure

# Colours that matplotlib writes and that become variables of the page's style, e.g. var(--c0).
VARIABLES = {"#0000f0": "ink", "#0000f1": "muted", "#0000f2": "grid"} | {
    f"#0000c{number}": f"c{number}" for number in range(8)
}
INK, MUTED, GRID, *SERIES = VARIABLES
SVG, XLINK = "{http://www.w3.org/2000/svg}", "{http://www.w3.org/1999/xlink}"
# What a page's style says already, or what is the default.
SUPERFLUOUS = re.compile(r"(font-family|stroke-linejoin|stroke-linecap|font-size: 11px)[^;]*;?\s*")
NO_ROTATION = re.compile(r"rotate\(-0 [\d. -]+\)")
COLOURS = Path(__file__).parent / "templates/colours.css"
NUMBER = re.compile(r"-?\d+\.\d+")


def inline_svg(figure: Figure, prefix: str, title: str, description: str) -> str:
    """The figure as an `<svg>` element with a title and a description for readers who do not see it.

    Text is escaped. Nothing outside is referred to.

    Args:
        prefix: of all ids, so that they are unique in the page.
    """
    text = io.StringIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # the browser has more fonts
        figure.savefig(
            text, format="svg", transparent=True, metadata=dict.fromkeys(("Date", "Creator", "Type", "Format"))
        )
    root = ElementTree.fromstring(text.getvalue())
    _, _, width, height = root.attrib["viewBox"].split()
    svg = ElementTree.Element("svg", {
        "viewBox": root.attrib["viewBox"], "width": width, "height": height, "role": "img",
        "aria-labelledby": f"{prefix}t {prefix}d",
    })  # fmt: skip
    ElementTree.SubElement(svg, "title", {"id": f"{prefix}t"}).text = title
    ElementTree.SubElement(svg, "desc", {"id": f"{prefix}d"}).text = description
    referenced = set(re.findall(r'(?:href="#|url\(#)([\w.-]+)', text.getvalue()))
    for child in root:
        copied = _cleaned(child, referenced, prefix)
        if copied is not None:
            svg.append(copied)
    return ElementTree.tostring(svg, encoding="unicode")


def svg_file(element: str) -> str:
    """An `<svg>` element as a file that needs no page: with the page's colours and font."""
    style = f"{COLOURS.read_text('utf-8')}text {{ font: 11px system-ui, sans-serif }}"
    head, end, rest = element.partition(">")
    return f'{head} xmlns="http://www.w3.org/2000/svg"{end}<style>{style}</style>{rest}\n'


def _cleaned(element: ElementTree.Element, referenced: set[str], prefix: str) -> ElementTree.Element | None:
    """A copy with page colours, short numbers and unique ids; None for what the page does not need."""
    tag = element.tag.removeprefix(SVG)
    if tag in ("style", "metadata"):
        return None
    copy = ElementTree.Element(tag)
    if tag == "text":
        copy.text = element.text
    for name, value in element.attrib.items():
        _copy_attribute(copy, name.removeprefix(XLINK), value, referenced, prefix)
    for child in element:
        child_copy = _cleaned(child, referenced, prefix)
        if child_copy is not None:
            copy.append(child_copy)
    if tag in ("g", "defs") and not len(copy):
        return None
    _share_style(copy)
    return copy


def _copy_attribute(copy: ElementTree.Element, name: str, value: str, referenced: set[str], prefix: str) -> None:
    if name == "id":
        if value in referenced:
            copy.set("id", prefix + value)
        return
    if name == "style":
        value = SUPERFLUOUS.sub("", value).rstrip("; ")
        for colour, variable in VARIABLES.items():
            value = value.replace(colour, f"var(--{variable})")
    if name == "transform" and NO_ROTATION.fullmatch(value):
        return
    if name in ("d", "x", "y", "transform"):
        value = NUMBER.sub(lambda number: f"{float(number[0]):.1f}".removesuffix(".0"), " ".join(value.split()))
    value = re.sub(r"url\(#|^#", lambda start: start[0] + prefix, value) if name in ("href", "clip-path") else value
    if value:
        copy.set(name, value)


def _share_style(group: ElementTree.Element) -> None:
    """Move the style of the children to their group, if they all have the same: a picture may have 500 points."""
    styles = {child.get("style") for child in group}
    if group.tag == "g" and "style" not in group.attrib and len(group) > 1 and len(styles) == 1 and None not in styles:
        group.set("style", str(styles.pop()))
        for child in group:
            del child.attrib["style"]
