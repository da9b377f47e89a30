"""From a file, or a ready-made name, and ``--set`` overrides to a configuration."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from aibench.config.model import RunConfig
from aibench.config.validate import to_section
from aibench.errors import ConfigError


class _Loader(yaml.SafeLoader):
    """YAML 1.1 as PyYAML reads it, but ``1e-3`` is a number; infinity and a key given twice are errors."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[object] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, str) and key in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"key {key!r} is given twice", problem_mark=key_node.start_mark
                )
            seen.add(key if isinstance(key, str) else id(key_node))
        return super().construct_mapping(node, deep)

    def construct_finite_float(self, node: yaml.ScalarNode) -> float:
        value = float(self.construct_yaml_float(node))
        if not math.isfinite(value):
            raise yaml.MarkedYAMLError(
                problem=f"expected a finite number, got {node.value}", problem_mark=node.start_mark
            )
        return value


_Loader.add_constructor("tag:yaml.org,2002:float", _Loader.construct_finite_float)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


def ready_made() -> tuple[str, ...]:
    """Names of the configurations that come with the package."""
    folder = resources.files("aibench.config") / "ready"
    return tuple(sorted(item.name.removesuffix(".yaml") for item in folder.iterdir()))


def load_config(source: str, overrides: Sequence[str] = (), *, launcher: str | None = None) -> RunConfig:
    """Read a configuration.

    Args:
        source: A ready-made name or the path of a YAML file.
        launcher: Name of the launcher to use instead; the options of another one are dropped. The overrides
            come after it.
        overrides: ``key.path=value`` items, the value in YAML; list items by number (``workers.0.ranks=2``).

    Raises:
        ConfigError: No such configuration, not YAML, or a value that does not fit.
    """
    document = _parse(_text(source), source)
    if not isinstance(document, dict):
        raise ConfigError(
            "", f"{source}: expected a mapping of keys to values, got {type(document).__name__}"
        )
    if launcher is not None:
        _choose_launcher(document, launcher)
    for override in overrides:
        _apply(document, override)
    return to_section(document, RunConfig)


def _text(source: str) -> str:
    if source in ready_made():
        return (resources.files("aibench.config") / "ready" / f"{source}.yaml").read_text(encoding="utf-8")
    path = Path(source)
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        near = difflib.get_close_matches(source, ready_made(), n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ConfigError(
            "", f"{source}: no such configuration; {hint}give a YAML file or one of {', '.join(ready_made())}"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError("", f"{source}: cannot be read as text ({error})") from error


def _parse(text: str, source: str) -> Any:
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f" line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise ConfigError("", f"{source}{where}: {error.problem}") from error
    except yaml.YAMLError as error:
        raise ConfigError("", f"{source}: not YAML ({' '.join(str(error).split())})") from error
    except (ValueError, RecursionError) as error:  # a date without such a day, digits or depth without end
        raise ConfigError("", f"{source}: not a usable YAML value ({error})") from error


def _choose_launcher(document: dict[str, Any], name: str) -> None:
    section = document.get("launcher")
    if not isinstance(section, dict) or section.get("name", "local") != name:
        document["launcher"] = {"name": name}


def _apply(document: dict[str, Any], override: str) -> None:
    path, separator, text = override.partition("=")
    *parents, last = path.split(".")
    if not separator or not all([*parents, last]):
        raise ConfigError("--set", f"{override!r}: expected key.path=value")
    container: Any = document
    for step in parents:
        container = _descend(container, step, path)
    _assign(container, last, _parse(text, f"--set {path}"), path)


def _descend(container: Any, step: str, path: str) -> Any:
    if isinstance(container, dict):
        return container.setdefault(step, {})
    return container[_index(container, step, path)]


def _assign(container: Any, step: str, value: Any, path: str) -> None:
    if isinstance(container, dict):
        container[step] = value
    else:
        container[_index(container, step, path)] = value


def _index(container: Any, step: str, path: str) -> int:
    if not isinstance(container, list):
        raise ConfigError(f"--set {path}", f"{step!r} is not below a mapping or a list")
    if not step.isdecimal() or int(step) >= len(container):
        raise ConfigError(f"--set {path}", f"{step!r}: expected a number from 0 to {len(container) - 1}")
    return int(step)
