"""Task and method files: YAML without its traps, read into typed dataclasses by jsonargparse."""

from __future__ import annotations

import re
import sys
from argparse import ArgumentError
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, is_dataclass
from itertools import zip_longest
from os.path import isfile
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from jsonargparse import ArgumentParser, Namespace, get_loader, set_loader

from metakd.errors import InputError, chain

MOST_VALUES, DEEPEST = 20_000, 50  # of a file, with every alias written out
QUOTED = re.compile(r"Expected an? <class 'str'>\. Got value: ")
QUOTE_IT = (
    "YAML reads yes, no, on, off, true, false, null and numbers as such; quote what is a name or a text, "
    "e.g. ['yes', 'no'] or ['0', '1']"
)
Settings = TypeVar("Settings")
load_plain_yaml = get_loader("yaml")


def load_yaml(text: str) -> Any:
    """The values in a YAML text.

    Raises:
        yaml.YAMLError: it is no YAML, has a key twice, a list or mapping inside itself, more than `MOST_VALUES` values
            or a number that is too long.
    """
    check_yaml(text)
    try:
        return load_plain_yaml(text)
    except (ValueError, OverflowError, RecursionError) as error:  # e.g. a number of 5,000 digits
        raise yaml.YAMLError(f"a value cannot be read ({error}); correct it, or quote it if it is a text") from None


@dataclass
class _Collection:
    """A list or mapping that is being read; `size` counts the values in it."""

    anchor: str | None
    is_mapping: bool
    size: int = 1
    entries: int = 0
    keys: set[str] = field(default_factory=set)


def check_yaml(text: str) -> None:
    """Refuse what would hang or be lost silently, from the text's events alone, before anything is built."""
    open_collections: list[_Collection] = []
    sizes: dict[str, int] = {}
    for event in _events(text):
        size = 1
        if isinstance(event, yaml.CollectionEndEvent):
            ended = open_collections.pop()
            size = ended.size
            if ended.anchor is not None:
                sizes[ended.anchor] = size
        elif isinstance(event, yaml.AliasEvent):
            if event.anchor not in sizes:
                raise yaml.YAMLError(f"*{event.anchor} stands inside itself or before its anchor; write it out")
            size = sizes[event.anchor]
        elif isinstance(event, yaml.ScalarEvent):
            if event.anchor is not None:
                sizes[event.anchor] = 1
        elif not isinstance(event, yaml.CollectionStartEvent):
            continue
        if open_collections and not isinstance(event, yaml.CollectionEndEvent):
            parent = open_collections[-1]
            if parent.is_mapping and parent.entries % 2 == 0 and isinstance(event, yaml.ScalarEvent):
                if event.value in parent.keys:
                    line = event.start_mark.line + 1
                    raise yaml.YAMLError(f"the key {event.value!r} occurs twice, again in line {line}; remove one")
                parent.keys.add(event.value)
            parent.entries += 1
        if isinstance(event, yaml.CollectionStartEvent):
            is_mapping = isinstance(event, yaml.MappingStartEvent)
            open_collections.append(_Collection(event.anchor, is_mapping))
            if len(open_collections) > DEEPEST:
                raise yaml.YAMLError(f"lists and mappings lie more than {DEEPEST} deep in each other")
        elif open_collections:
            open_collections[-1].size += size
            if open_collections[-1].size > MOST_VALUES:
                raise yaml.YAMLError(f"it has more than {MOST_VALUES} values, aliases written out; shorten it")


def _events(text: str) -> Iterator[yaml.Event]:
    return yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))


class SettingsParser(ArgumentParser):
    """jsonargparse's parser; its errors name the file, and say what to do about YAML's traps."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.settings_files: dict[str, str] = {}  # by option

    def parse_args(self, args: Sequence[str] | None = None, *others: Any, **options: Any) -> Namespace:
        args = sys.argv[1:] if args is None else args
        self.settings_files = named_files(args)
        try:
            config = super().parse_args(self.with_whole_kinds(args), *others, **options)
        except UnicodeError as error:
            files = [file for file in self.settings_files.values() if not is_utf8(file)]
            raise InputError(f"{', '.join(files)}: {error}; save it as text in UTF-8") from None
        for option, file in self.settings_files.items():
            if option in config and config[option] is None:
                raise InputError(f"{file} is empty; write the settings, or leave --{option} out")
        return config

    def with_whole_kinds(self, arguments: Sequence[str]) -> list[str]:
        """The arguments, with a text before each mapping for a value of several kinds, e.g. a student.

        jsonargparse would merge the mapping, or a part of it, with that of the file, and of two kinds make a third.

        Raises:
            InputError: an option for a part of such a value.
        """
        result = []
        for word, following in zip_longest(arguments, arguments[1:], fillvalue=""):
            option, equals, value = word.partition("=")
            whole, _, part = option.rpartition(".")
            if part != "help" and self._has_kinds(whole):
                raise InputError(
                    f"{option}: there are several kinds of {whole}; give it as a whole, {{key: value, ...}}"
                )
            if self._has_kinds(option) and (value if equals else following).lstrip().startswith("{"):
                result.append(f"{option}=-")
            result.append(word)
        return result

    def _has_kinds(self, option: str) -> bool:
        hint = getattr(self._option_string_actions.get(option), "_typehint", None)
        return sum(is_dataclass(kind) for kind in get_args(hint)) > 1

    def error(self, message: str, ex: Exception | None = None) -> Any:
        message = re.sub(r"\n *Given value( type)?: .*Namespace.*", "", message)  # nobody can read it
        if QUOTED.search(message) and QUOTE_IT not in message:
            message += f"\n{QUOTE_IT}"
        option = re.match(r'Parser key "(\w+)', message)
        file = self.settings_files.get(option[1]) if option else None
        return super().error(message if file is None or file in message else f"{file}: {message}", ex)

    def instantiate(self, config: Namespace, **options: Any) -> Namespace:
        """The dataclasses of the values.

        Raises:
            InputError: a value that a dataclass refuses, or a value where a mapping belongs; names the files.
        """
        read = [option for option in self.settings_files if isinstance(config.get(option), Namespace)]
        files = f"{', '.join(self.settings_files[option] for option in read)}: " if read else ""
        for name in self.groups:
            if name in config and not isinstance(config[name], Namespace | Mapping):
                raise InputError(f"{files}{name} is {config[name]}; it must be a mapping, key: value")
        try:
            return super().instantiate(config, **options)
        except (InputError, TypeError, ValueError) as error:
            # jsonargparse hides the error of a type that has alternatives
            cause = next((one for one in chain(error) if isinstance(one, InputError)), error)
            raise InputError(f"{files}{cause}") from None


def named_files(arguments: Sequence[str]) -> dict[str, str]:
    """The values of a command line that are files, by the name of their option."""
    files = {}
    for word, following in zip_longest(arguments, arguments[1:], fillvalue=""):
        option, _, value = word.partition("=")
        value = value or following
        if option.startswith("--") and isfile(value):  # noqa: PTH113  a Path does not take any text
            files[option.removeprefix("--")] = value
    return files


def is_utf8(file: str) -> bool:
    try:
        Path(file).read_text("utf-8")
    except UnicodeError:
        return False
    return True


def parse_settings(role: str, kind: type[Settings], options: Sequence[str]) -> Settings:
    """A task, method or study from command-line options.

    Args:
        role: name of the option, e.g. "task".
        options: the file, e.g. "--task=F", then changed values, e.g. "--task.max_length=8".

    Raises:
        InputError: a file or value that is not valid; names the options and the key.
    """
    parser = SettingsParser(exit_on_error=False)
    parser.add_argument(f"--{role}", type=kind)
    try:
        return getattr(parser.instantiate(parser.parse_args(options)), role)
    except (ArgumentError, InputError) as error:
        raise InputError(f"{' '.join(options)}: {error}") from None


set_loader("yaml", load_yaml, exceptions=(yaml.YAMLError,))
