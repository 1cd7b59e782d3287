"""Reads a YAML document into plain values, refusing what a configuration has no use for.

Duplicate keys, anchors and aliases, tags of foreign types, merge keys, more than one document,
nesting deeper than `MAX_DEPTH` and texts larger than `MAX_BYTES` are faults. All faults found
are raised at once.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from adaptive.errors import ConfigError

MAX_BYTES = 1024 * 1024
MAX_DEPTH = 20
_TAG = "tag:yaml.org,2002:"
_SCALARS = frozenset(_TAG + kind for kind in ("str", "int", "float", "bool", "null", "timestamp"))
Trail = tuple[Any, ...]  # keys and indices from the root to a value


@dataclass(frozen=True, slots=True)
class Mark:
    """Where a value stands in its file, and the text it was read from."""

    line: int  # from 1
    text: str | None  # None for lists and mappings


@dataclass(frozen=True, slots=True)
class Document:
    """A document's value. `marks` has an entry for each value, and for each key under
    the trail (*parents, key, "[key]")."""

    name: str
    value: Any
    marks: dict[Trail, Mark] = field(default_factory=dict)


def read_document(path: str | Path) -> Document:
    """Reads a YAML file.

    Raises:
        ConfigError: the file is missing, too large, not UTF-8, or has faults.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    if len(raw) > MAX_BYTES:
        raise ConfigError(f"{path}: larger than {MAX_BYTES} bytes")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 at byte {error.start}; save it as UTF-8") from error
    return parse_document(text, name=str(path))


def parse_document(text: str, *, name: str = "YAML") -> Document:
    """Parses YAML text; `name` leads the error message.

    Raises:
        ConfigError: with every fault found.
    """
    if len(text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        raise ConfigError(f"{name}: larger than {MAX_BYTES} bytes")
    builder = _Builder()
    value: Any = None
    try:
        builder.loader = yaml.SafeLoader(text)
        value = builder.document()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}: " if mark else ""
        builder.faults.append(f"{where}not valid YAML: {error.problem or error.context}")
    except yaml.YAMLError as error:
        builder.faults.append(f"not valid YAML: {str(error).splitlines()[0]}")
    except _TooDeepError as error:
        builder.faults.append(f"line {error.args[0]}: nested deeper than {MAX_DEPTH}")
    if builder.faults:
        raise ConfigError(f"{name} cannot be read", builder.faults)
    return Document(name, value, builder.marks)


class _TooDeepError(Exception):
    """Ends the walk: nothing beneath is worth reading."""


class _Builder:
    """Builds values from the parser's events, which, unlike nodes, still show every alias."""

    loader: Any  # a SafeLoader; its event methods carry no types

    def __init__(self) -> None:
        self.faults: list[str] = []
        self.marks: dict[Trail, Mark] = {}

    def document(self) -> Any:
        self.loader.get_event()  # start of the stream
        if self.loader.check_event(yaml.StreamEndEvent):
            return None
        self.loader.get_event()  # start of the document
        value = self.build((), 0)
        self.loader.get_event()  # end of the document
        if not self.loader.check_event(yaml.StreamEndEvent):
            self.fault(self.loader.peek_event(), "a second document; one file holds one")
        return value

    def fault(self, event: Any, what: str) -> None:
        self.faults.append(f"line {event.start_mark.line + 1}: {what}")

    def build(self, trail: Trail, depth: int) -> Any:
        """The next value of the event stream, which belongs at `trail`."""
        event = self.loader.get_event()
        line = event.start_mark.line + 1
        if depth > MAX_DEPTH:
            raise _TooDeepError(line)
        if isinstance(event, yaml.AliasEvent):
            self.fault(event, f"alias *{event.anchor}: write the value out")
            return None
        if event.anchor is not None:
            self.fault(event, f"anchor &{event.anchor}: write the value out where it is needed")
        self.marks[trail] = Mark(line, event.value if isinstance(event, yaml.ScalarEvent) else None)
        if isinstance(event, yaml.ScalarEvent):
            return self.scalar(event)
        if event.tag is not None and not event.implicit:
            self.fault(event, f"tag {event.tag} is not allowed")
        if isinstance(event, yaml.SequenceStartEvent):
            return self.sequence(trail, depth)
        return self.mapping(trail, depth)

    def scalar(self, event: Any) -> Any:
        plain, _ = event.implicit
        tag = event.tag
        if tag is None or tag == "!":
            tag = self.loader.resolve(yaml.ScalarNode, event.value, event.implicit)
        if plain and tag == _TAG + "value":  # a lone "=", which the safe loader chokes on
            return event.value
        if tag not in _SCALARS:
            merge = tag == _TAG + "merge"
            self.fault(event, "merge key <<: write it out" if merge else f"tag {tag} not allowed")
            return event.value
        node = yaml.ScalarNode(tag, event.value, event.start_mark, event.end_mark)
        try:
            return self.loader.construct_object(node)
        except (ValueError, OverflowError, LookupError):
            kind = tag.removeprefix(_TAG)
            self.fault(event, f"reads as a {kind} but is none; write it in quotes")
            return event.value

    def sequence(self, trail: Trail, depth: int) -> list[Any]:
        items: list[Any] = []
        while not self.loader.check_event(yaml.SequenceEndEvent):
            items.append(self.build((*trail, len(items)), depth + 1))
        self.loader.get_event()
        return items

    def mapping(self, trail: Trail, depth: int) -> dict[Any, Any]:
        found: dict[Any, Any] = {}
        while not self.loader.check_event(yaml.MappingEndEvent):
            event = self.loader.peek_event()
            key = self.build((*trail, "[key]"), depth + 1)
            if isinstance(key, list | dict):
                self.fault(event, "a list or mapping as a key")
                key = str(key)
            self.marks[(*trail, key, "[key]")] = self.marks.pop(
                (*trail, "[key]"), Mark(event.start_mark.line + 1, None)
            )
            text = event.value if isinstance(event, yaml.ScalarEvent) else str(key)
            value = self.build((*trail, key), depth + 1)
            if key in found:
                shown = ".".join(str(step) for step in (*trail, text))
                quote = "" if isinstance(key, str) else f", it reads as {key!r}; write it in quotes"
                self.fault(event, f"{shown} is given twice{quote}")
            found[key] = value
        self.loader.get_event()
        return found
