import pytest

from aibench.score.units import binary, duration, grouped, percent, si, si_index


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (1.23e9, "OPS", "1.23 GOPS"),
        (812_345_678_901.25, "OPS", "812 GOPS"),
        (1.0e3, "OPS", "1.00 KOPS"),
        (12_345.0, "OPS", "12.3 KOPS"),
        (1.5e15, "OPS", "1.50 POPS"),
        (2.0e18, "OPS", "2.00 EOPS"),
        (3.0e27, "OPS", "3000 YOPS"),
        (25_557_032, "", "25.6 M"),
        (999, "op", "999 op"),
        (7, "", "7"),
        (0.0, "OPS", "0 OPS"),
        (-0.0, "OPS", "0 OPS"),
        (0.5, "OPS", "0.500 OPS"),
        (0.001234, "OPS", "0.00123 OPS"),
        (-1500.0, "OPS", "-1.50 KOPS"),
    ],
)
def test_si_gives_three_significant_digits_and_a_prefix(value: float, unit: str, text: str) -> None:
    assert si(value, unit) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(999.4, "999 OPS"), (999.5, "1.00 KOPS"), (999_999_999.0, "1.00 GOPS"), (9.999, "10.0 OPS")],
)
def test_si_changes_the_prefix_where_rounding_does(value: float, text: str) -> None:
    assert si(value, "OPS") == text


@pytest.mark.parametrize(("value", "index"), [(0.0, 0), (0.02, 0), (1.0, 0), (999.6, 1), (1e6, 2), (1e30, 8)])
def test_si_index_is_the_power_of_1000(value: float, index: int) -> None:
    assert si_index(value) == index


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0.00 s"),
        (0.418, "0.42 s"),
        (9.996, "10.0 s"),
        (42.34, "42.3 s"),
        (59.96, "1 min 00 s"),
        (307.0, "5 min 07 s"),
        (3599.7, "1 h 00 min"),
        (3720.0, "1 h 02 min"),
        (183_840.0, "51 h 04 min"),
    ],
)
def test_duration_uses_at_most_two_units(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_percent_rounds_and_signs_on_request() -> None:
    assert percent(0.034) == "3.4 %"
    assert percent(0.21974, digits=2) == "21.97 %"
    assert percent(0.012, signed=True) == "+1.2 %"
    assert percent(-0.05, digits=0, signed=True) == "-5 %"


def test_percent_has_no_negative_zero() -> None:
    assert percent(-0.0001) == "0.0 %"
    assert percent(-0.0001, signed=True) == "+0.0 %"


@pytest.mark.parametrize(
    ("value_bytes", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1 KiB"),
        (16 * 1024**3, "16 GiB"),
        (85_520_809_984, "79.6 GiB"),
        (150_110_011_392, "140 GiB"),
    ],
)
def test_binary_gives_three_significant_digits_and_a_prefix(value_bytes: int, text: str) -> None:
    assert binary(value_bytes) == text


def test_grouped_keeps_every_digit() -> None:
    assert grouped(1_234_567) == "1,234,567"
    assert grouped(812_345_678_901.25) == "812,345,678,901.25"
    assert grouped(-0.0) == "0.0"
