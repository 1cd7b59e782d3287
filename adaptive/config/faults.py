"""Turns pydantic's errors into one readable line per fault."""

from __future__ import annotations

import difflib
import re
import types
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from adaptive.config.documents import Mark, Trail
from adaptive.config.fields import ONE, SEVERAL


def describe(
    error: ValidationError, model: type[BaseModel], marks: Mapping[Trail, Mark]
) -> list[str]:
    """One line per fault: path, line in the file, what is wrong and, where one is near, a hint.

    Args:
        error: what validating `model` raised.
        model: the schema at the root.
        marks: places of the values, see `adaptive.config.documents.Document`.
    """
    lines = []
    for each in error.errors(include_url=False):
        trail, keys = _resolve(model, each["loc"])
        if each["type"] == "value_error" and "\n" in each["msg"]:
            lines += each["msg"].removeprefix("Value error, ").splitlines()
            continue
        if trail[-1:] == ("[key]",):  # the location has the key as pydantic prints it
            trail = (*trail[:-2], each["input"], "[key]")
        mark = marks.get(trail)
        path = ".".join(str(step) for step in trail if step != "[key]")
        if mark is not None and mark.text is not None and trail[-1] == "[key]":
            path = ".".join([*(str(step) for step in trail[:-2]), mark.text])
        what = _what(each, keys, mark)
        place = f" (line {mark.line})" if mark else ""
        lines.append(f"{path}{place}: {what}" if path else what)
    return lines


def nearest(word: str, known: Sequence[str]) -> str:
    """`, did you mean 'x'?` where something near is known, else the list of what is."""
    near = difflib.get_close_matches(word, known, n=1)
    if near:
        return f", did you mean {near[0]!r}?"
    return f"; known: {', '.join(known)}" if known else ""


def _what(each: Any, keys: Sequence[str], mark: Mark | None) -> str:
    kind, value = each["type"], each["input"]
    if kind == "missing":
        return "missing"
    if kind in ("extra_forbidden", "invalid_key"):
        return f"unknown key{nearest(str(each['loc'][-1]), keys)}"
    if kind in ("literal_error", "union_tag_invalid"):
        value = each["ctx"].get("tag", value)
        allowed = re.findall(r"'([^']*)'", each["ctx"].get("expected", "") or "")
        allowed = allowed or re.findall(r"'([^']*)'", each["ctx"].get("expected_tags", ""))
        hint = nearest(str(value), allowed)
        return f"{value!r} is not one of the values allowed{hint}"
    if kind == "union_tag_not_found":
        return f"{each['ctx']['discriminator']} is missing"
    if kind == "string_type" and (value is None or isinstance(value, bool | int | float | date)):
        text = mark.text if mark is not None and mark.text else str(value)
        return f'expected text, but YAML reads {_reading(value)}; write it in quotes: "{text}"'
    message = str(each["msg"]).removeprefix("Value error, ").removeprefix("Input ")
    if kind == "value_error":
        return message
    shown = repr(value) if not isinstance(value, Mapping | list) else type(value).__name__
    return f"{message}, found {shown[:60]}"


def _reading(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    return f"the {'date' if isinstance(value, date) else 'number'} {value}"


def _resolve(model: type[BaseModel], loc: tuple[Any, ...]) -> tuple[Trail, Sequence[str]]:
    """The trail without pydantic's union tags, and the keys known where it ends."""
    at: Any = model
    keys: Sequence[str] = ()
    trail: list[Any] = []
    for step in loc:
        options = _options(at)
        chosen = next((each for each in options if _tag(each) == step), None)
        if len(options) > 1 and chosen is not None:
            at = chosen
            continue
        trail.append(step)
        keys, at = (), None
        for option in options:
            if isinstance(option, type) and issubclass(option, BaseModel):
                keys = tuple(option.model_fields)
                field = option.model_fields.get(step) if isinstance(step, str) else None
                at = None if field is None else field.annotation
            elif get_origin(option) in (tuple, dict):
                arguments = get_args(option)
                at = arguments[0] if get_origin(option) is tuple else arguments[1]
    return tuple(trail), keys


def _options(annotation: Any) -> list[Any]:
    """What an annotation allows, without None and Annotated."""
    if get_origin(annotation) is Annotated:
        return _options(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        return [option for each in get_args(annotation) for option in _options(each)]
    return [] if annotation in (None, type(None)) else [annotation]


def _tag(option: Any) -> Any:
    """What pydantic calls a choice of a union: its `kind`, or whether it is one or several."""
    if get_origin(option) is tuple:
        return SEVERAL
    if isinstance(option, type) and issubclass(option, BaseModel) and "kind" in option.model_fields:
        return get_args(option.model_fields["kind"].annotation)[0]
    return ONE
