"""The table of methods in experiments/methods/README.md, made from the method files."""

from __future__ import annotations

import re
from pathlib import Path

from metakd.cli import run
from metakd.methods.describe import methods_table
from metakd.methods.method import Method
from metakd.settings_files import parse_settings

FOLDER = Path(__file__).parent / "methods"
BEGIN, END = "<!-- methods: experiments/describe_methods.py -->\n", "\n<!-- end of methods -->"


def main(write: bool = False) -> None:
    """Print the table of method files, and say whether the README has it.

    Args:
        write: bring the README up to date.
    """
    readme = FOLDER / "README.md"
    before, _, rest = readme.read_text("utf-8").partition(BEGIN)
    current = before + BEGIN + table() + END + rest.partition(END)[2]
    print(table())
    if write:
        readme.write_text(current, "utf-8")
    elif current != readme.read_text("utf-8"):
        print(f"\n{readme} is not up to date; run this again with --write true")


def table() -> str:
    """The table of all method files."""
    files = sorted(FOLDER.glob("*.yaml"))
    methods = {file.stem: parse_settings("method", Method, [f"--method={file}"]) for file in files}
    arxiv = {file.stem: re.search(r"arXiv (\d{4}\.\d{5})", file.read_text("utf-8")) for file in files}
    return methods_table(methods, {name: match[1] if match else "" for name, match in arxiv.items()})


if __name__ == "__main__":
    run(main)
