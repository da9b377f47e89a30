"""Figures as people read them: a number, a space, a unit."""

from __future__ import annotations

_SI_PREFIXES = ("", "K", "M", "G", "T", "P", "E", "Z", "Y")
_BINARY_PREFIXES = ("", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei", "Zi", "Yi")
_SIGNIFICANT_DIGITS = 3


def si(value: float, unit: str = "") -> str:
    """Three significant digits with a decimal prefix: ``1.23 GOPS``. Integers below 1000 stay exact."""
    if value < 0:
        return f"-{si(-value, unit)}"
    if value == 0 or (isinstance(value, int) and value < 1000):
        return f"{abs(value):.0f} {unit}".rstrip()
    index = si_index(value)
    digits_before = decimal_exponent(value) - 3 * index + 1
    figure = f"{value / 1000**index:.{max(0, _SIGNIFICANT_DIGITS - digits_before)}f}"
    return f"{figure} {_SI_PREFIXES[index]}{unit}".rstrip()


def si_index(value: float) -> int:
    """Power of 1000 that brings a magnitude, rounded to three digits, to at least 1 and below 1000."""
    return min(max(0, decimal_exponent(value) // 3), len(_SI_PREFIXES) - 1) if value else 0


def si_prefix(index: int) -> str:
    """The decimal prefix for a power of 1000."""
    return _SI_PREFIXES[index]


def decimal_exponent(value: float) -> int:
    """Exponent of a positive value rounded to three significant digits: 2 for 999, 3 for 999.9."""
    return int(f"{value:.{_SIGNIFICANT_DIGITS - 1}e}".partition("e")[2])


def binary(value_bytes: int) -> str:
    """Bytes with a binary prefix and three significant digits, such as ``79.6 GiB``."""
    index = min(max(0, (value_bytes.bit_length() - 1) // 10), len(_BINARY_PREFIXES) - 1)
    scaled = value_bytes / 1024**index
    figure = f"{scaled:.0f}" if scaled >= 100 else f"{scaled:.3g}"
    return f"{figure} {_BINARY_PREFIXES[index]}B"


def duration(seconds: float) -> str:
    """A span in at most two units: ``0.42 s``, ``42.3 s``, ``5 min 07 s``, ``1 h 02 min``."""
    if round(seconds, 2) < 10:
        return f"{seconds:.2f} s"
    if round(seconds, 1) < 60:
        return f"{seconds:.1f} s"
    if round(seconds) < 3600:
        return "{} min {:02} s".format(*divmod(round(seconds), 60))
    return "{} h {:02} min".format(*divmod(round(seconds / 60), 60))


def percent(fraction: float, *, digits: int = 1, signed: bool = False) -> str:
    """A fraction of 1 in percent: ``3.4 %``, or ``+3.4 %`` when ``signed``."""
    rounded = round(100 * fraction, digits) + 0.0
    return f"{rounded:{'+' if signed else ''}.{digits}f} %"


def grouped(value: float) -> str:
    """Every digit, the thousands apart: ``1,234,567.25``."""
    return f"{value + 0:,}"
