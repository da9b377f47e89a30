"""Plain data into a typed section; a mistake becomes one line with key path, value and what was expected."""

from __future__ import annotations

import difflib
import re
from typing import Any, TypeVar

import msgspec

from aibench.errors import ConfigError

Section = TypeVar("Section", bound=msgspec.Struct)

_MESSAGE = re.compile(r"^(?P<problem>.*?)(?: - at `(?:key in )?\$(?P<path>[^`]*)`)?$", re.DOTALL)
_UNKNOWN = re.compile(r"unknown field `(?P<name>[^`]*)`")
_MISSING = re.compile(r"missing required field `(?P<name>[^`]*)`")
_STEP = re.compile(r"\.(?P<key>[^.\[]+)|\[(?P<index>\d+|\.\.\.)\]")


def to_section(data: object, section: type[Section], *, path: str = "") -> Section:
    """Convert plain data to ``section``.

    Args:
        path: Key path of ``data`` in the whole configuration, for messages.

    Raises:
        ConfigError: The data does not fit; the message names the key path and the value.
    """
    try:
        return msgspec.convert(data, section)
    except msgspec.ValidationError as error:
        raise _explain(error, data, section, path) from error


def _explain(error: msgspec.ValidationError, data: object, section: type, prefix: str) -> ConfigError:
    match = _MESSAGE.match(str(error))
    assert match
    problem, steps = match["problem"], _steps(match["path"] or "")
    if unknown := _UNKNOWN.search(problem):
        known = _fields_at(section, steps)
        near = difflib.get_close_matches(unknown["name"], known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
        return ConfigError(_join(prefix, [*steps, unknown["name"]]), f"unknown key ({hint})")
    if missing := _MISSING.search(problem):
        return ConfigError(_join(prefix, [*steps, missing["name"]]), "missing, it has no default")
    value = _value_at(data, steps)
    shown = "" if isinstance(value, dict | list) else f"got {value!r}; "
    expected = re.sub(r", got `[^`]*`$", "", problem).replace("`", "")
    return ConfigError(_join(prefix, steps), shown + expected[:1].lower() + expected[1:])


def _steps(path: str) -> list[str]:
    return [match["key"] or match["index"] for match in _STEP.finditer(path)]


def _join(prefix: str, steps: list[str]) -> str:
    return ".".join([prefix, *steps] if prefix else steps)


def _value_at(data: Any, steps: list[str]) -> object:
    for step in steps:
        if isinstance(data, dict):
            data = data.get(step)
        elif isinstance(data, list | tuple) and step.isdigit() and int(step) < len(data):
            data = data[int(step)]
    return data


def _fields_at(section: type, steps: list[str]) -> list[str]:
    node: Any = msgspec.inspect.type_info(section)
    for step in steps:
        node = _child(node, step)
    node = _struct_of(node)
    return [field.encode_name for field in node.fields] if node is not None else []


def _child(node: Any, step: str) -> Any:
    struct = _struct_of(node)
    if struct is not None:
        return next((field.type for field in struct.fields if field.encode_name == step), None)
    for attribute in ("item_type", "value_type"):
        if hasattr(node, attribute):
            return getattr(node, attribute)
    return None


def _struct_of(node: Any) -> Any:
    if isinstance(node, msgspec.inspect.Metadata):
        node = node.type
    if isinstance(node, msgspec.inspect.UnionType):
        node = next((t for t in node.types if isinstance(t, msgspec.inspect.StructType)), None)
    return node if isinstance(node, msgspec.inspect.StructType) else None
