"""Plain data into a typed section; a mistake becomes one line with key path, value and what was expected."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

import msgspec

from aibench.errors import ConfigError

Section = TypeVar("Section", bound=msgspec.Struct)

_MESSAGE = re.compile(r"^(?P<problem>.*?)(?: - at (?P<key>`key` in )?`\$(?P<path>[^`]*)`)?$", re.DOTALL)
_UNKNOWN = re.compile(r"unknown field `(?P<name>.*)`", re.DOTALL)
_MISSING = re.compile(r"missing required field `(?P<name>[^`]*)`")
_STEP = re.compile(r"\.(?P<key>[^.\[]+)|\[(?P<index>\d+|\.\.\.)\]")
_ANY_KEY = "..."
"""What msgspec writes in place of a mapping's key."""


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
    problem, steps = match["problem"], _named(_steps(match["path"] or ""), data, section)
    if unknown := _UNKNOWN.search(problem):
        known = _fields_at(section, steps)
        near = difflib.get_close_matches(unknown["name"], known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known) or 'none'}"
        return ConfigError(_join(prefix, [*steps, unknown["name"]]), f"unknown key ({hint})")
    if missing := _MISSING.search(problem):
        return ConfigError(_join(prefix, [*steps, missing["name"]]), "missing, it has no default")
    value = _value_at(data, steps)
    if match["key"] and isinstance(value, dict):
        wrong = next(key for key in value if not isinstance(key, str))
        return ConfigError(_join(prefix, steps), f"got the key {wrong!r}; expected a string as key")
    if problem.startswith("Invalid enum value"):
        return ConfigError(_join(prefix, steps), _not_allowed(value, _allowed_at(section, steps)))
    if problem.startswith("Expected"):
        return ConfigError(_join(prefix, steps), f"got {_shown(value)}; {_in_words(problem)}")
    return ConfigError(_join(prefix, steps), problem[:1].lower() + problem[1:])


def _not_allowed(value: object, allowed: list[str]) -> str:
    near = difflib.get_close_matches(str(value), allowed, n=1)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    return f"got {value!r}; expected one of {', '.join(allowed)}{hint}"


def _shown(value: object) -> str:
    if value and isinstance(value, dict | list):
        return "a mapping" if isinstance(value, dict) else "a list"
    return repr(value)


def _in_words(problem: str) -> str:
    expected = re.sub(r", got `[^`]*`$", "", problem)
    words = re.sub(r"\bobject\b", "mapping", re.sub(r"\barray\b", "list", expected.replace("`", "")))
    words = words.replace(" | ", " or ")
    return words[:1].lower() + words[1:]


def _steps(path: str) -> list[str]:
    return [match["key"] or match["index"] for match in _STEP.finditer(path)]


def _named(pattern: list[str], data: Any, section: type) -> list[str]:
    """Put the offending key in place of each ``...``: the first whose value alone is refused there."""
    steps = pattern
    for position, step in enumerate(pattern):
        before = steps[:position]
        mapping = _value_at(data, before)
        if step == _ANY_KEY and isinstance(mapping, dict):
            culprits = (
                str(key)
                for key, value in mapping.items()
                if _is_refused(_with(data, before, {key: value}), section, pattern)
            )
            steps = [*before, next(culprits, step), *steps[position + 1 :]]
    return steps


def _is_refused(data: object, section: type, pattern: list[str]) -> bool:
    try:
        msgspec.convert(data, section)
    except msgspec.ValidationError as error:
        match = _MESSAGE.match(str(error))
        return match is not None and _steps(match["path"] or "") == pattern
    return False


def _with(data: Any, steps: list[str], value: object) -> object:
    """A copy of ``data`` with another value at ``steps``."""
    if not steps:
        return value
    if isinstance(data, dict):
        return {**data, steps[0]: _with(data[steps[0]], steps[1:], value)}
    changed = list(data)
    changed[int(steps[0])] = _with(data[int(steps[0])], steps[1:], value)
    return changed


def _join(prefix: str, steps: Iterable[str]) -> str:
    readable = (step if step.isprintable() else repr(step) for step in steps)
    return ".".join([prefix, *readable] if prefix else readable)


def _value_at(data: Any, steps: list[str]) -> object:
    for step in steps:
        if isinstance(data, dict):
            data = data.get(step)
        elif isinstance(data, list | tuple) and step.isdigit() and int(step) < len(data):
            data = data[int(step)]
    return data


def _fields_at(section: type, steps: list[str]) -> list[str]:
    struct = _alternative(_type_at(section, steps), msgspec.inspect.StructType)
    return [field.encode_name for field in struct.fields] if struct is not None else []


def _allowed_at(section: type, steps: list[str]) -> list[str]:
    node = _type_at(section, steps)
    if literal := _alternative(node, msgspec.inspect.LiteralType):
        return [str(value) for value in literal.values]
    enum = _alternative(node, msgspec.inspect.EnumType)
    return [str(member.value) for member in enum.cls] if enum else []


def _type_at(section: type, steps: list[str]) -> Any:
    node: Any = msgspec.inspect.type_info(section)
    for step in steps:
        node = _child(node, step)
    return node


def _child(node: Any, step: str) -> Any:
    for member in _members(node):
        if isinstance(member, msgspec.inspect.StructType):
            return next((field.type for field in member.fields if field.encode_name == step), None)
        if isinstance(member, msgspec.inspect.TupleType):
            return member.item_types[int(step)]
        for attribute in ("item_type", "value_type"):
            if hasattr(member, attribute):
                return getattr(member, attribute)
    return None


def _alternative(node: Any, kind: type) -> Any:
    return next((member for member in _members(node) if isinstance(member, kind)), None)


def _members(node: Any) -> Iterator[Any]:
    """The type itself or, of a union, every member, without constraints."""
    if isinstance(node, msgspec.inspect.Metadata):
        yield from _members(node.type)
    elif isinstance(node, msgspec.inspect.UnionType):
        for member in node.types:
            yield from _members(member)
    else:
        yield node
