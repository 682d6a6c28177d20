"""Task and method files with changed values, and the command-line options that make them."""

from __future__ import annotations

import json
from dataclasses import asdict, is_dataclass
from typing import Any

from metakd.errors import InputError, nearest
from metakd.manifests import to_jsonable
from metakd.settings_files import Settings, parse_settings


def read_settings(
    role: str, kind: type[Settings], file: str, changes: dict[str, Any]
) -> tuple[Settings, tuple[str, ...]]:
    """A task or method with changed values, and the command-line options that make it.

    Args:
        role: name of the option, e.g. "task".
        changes: values by their place in the file, see `StudyMethod`.

    Raises:
        InputError: the file or a changed value is not valid.
    """
    options = [f"--{role}={file}"]
    content = to_jsonable(parse_settings(role, kind, options))
    options += [
        f"--{role}.{place}={option_text(value)}" for place, value in whole_lists(file, content, changes).items()
    ]
    return parse_settings(role, kind, options), tuple(options)


def option_text(value: Any) -> str:
    """A value as the command line takes it: text as it is, everything else as JSON.

    It is read as YAML, which does not know the two escapes that stand for one character in plain JSON.
    """
    if isinstance(value, str):
        return value
    return json.dumps(
        asdict(value) if is_dataclass(value) and not isinstance(value, type) else value, ensure_ascii=False
    )


def whole_lists(file: str, content: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """The changes with those inside a list put into the whole list, since an option replaces a list as a whole.

    Args:
        content: of the file; its lists are changed.

    Raises:
        InputError: a place in a list that is not there.
    """
    result: dict[str, Any] = {}
    for place, value in changes.items():
        top, _, rest = place.partition(".")
        items = content.get(top)
        if isinstance(items, list) and rest:
            change_item(items, rest, value, f"{file}: {place}")
            result[top] = items
        else:
            result[place] = value
    return result


def change_item(items: list[Any], place: str, value: Any, where: str) -> None:
    """Change a value in a list of stages or terms; None removes the item or value.

    Args:
        place: the item's name or feature, then what to change in it, e.g. "prediction.terms.logits.scale".
        where: the change, for errors.
    """
    name, _, rest = place.partition(".")
    names = [item.get("name") or item.get("feature") for item in items]
    if names.count(name) != 1:
        problem = "names several of" if name in names else "is not among"
        raise InputError(f"{where}: {name!r} {problem} {names}{nearest(name, filter(None, names))}")
    item = items[names.index(name)]
    if not rest:
        if value is not None:
            raise InputError(f"{where}: name a value of {name!r}, e.g. {name}.scale, or remove it with null")
        items.remove(item)
        return
    top, _, inner = rest.partition(".")
    if inner and isinstance(item.get(top), list):
        change_item(item[top], inner, value, where)
    elif inner:
        raise InputError(f"{where}: {top!r} of {name!r} has no parts; give it a value as a whole")
    elif value is None:
        item.pop(top, None)
    else:
        item[top] = value
