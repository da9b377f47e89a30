"""What every page shares: one HTML document with its style and script inside, everything in it escaped."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from functools import cache
from typing import Any, ParamSpec

from jinja2 import Environment, PackageLoader, StrictUndefined

from aibench.score.plot import coordinate
from aibench.score.units import duration, grouped, percent, si

_SCRIPT = "report.js"
_P = ParamSpec("_P")


def render_page(template: str, *, aibench_version: str, **values: Any) -> str:
    """A page that extends ``page.html.j2``; only its own script may run in it.

    Args:
        template: Name of its template in this package.
        values: What the template names.
    """
    environment = _environment()
    script = environment.get_template(_SCRIPT).render()
    return environment.get_template(template).render(
        aibench_version=aibench_version,
        script=script,
        script_digest=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        **values,
    )


def counted(number: int, noun: str) -> str:
    """A number of things, such as ``1 worker`` or ``2,000 trials``."""
    return f"{grouped(number)} {noun if number == 1 else noun + 's'}"


def unbroken(text_of: Callable[_P, str]) -> Callable[_P, str]:
    """The same text, never broken between a number and its unit."""

    def text(*args: _P.args, **kwargs: _P.kwargs) -> str:
        return text_of(*args, **kwargs).replace(" ", "\N{NO-BREAK SPACE}")

    return text


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("aibench.score"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "si": unbroken(si),
        "duration": unbroken(duration),
        "percent": unbroken(percent),
        "counted": counted,
        "grouped": grouped,
        "coordinate": coordinate,
    }
    return environment
