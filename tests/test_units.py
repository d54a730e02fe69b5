"""Units: text to floats and back without loss, and errors that name both units."""

import math
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, ValidationError

from neurosim import units
from neurosim.units import (
    UNITS,
    Conductance,
    Dimension,
    NonNegativeTime,
    PositiveTime,
    Rate,
    Time,
    Voltage,
    base_unit,
    format_quantity,
    format_time,
    parse,
    shorter_step,
    size_of,
    steps,
)

FINITE = st.floats(allow_nan=False, allow_infinity=False)
DIMENSIONS = st.sampled_from(get_args(Dimension))


class Cell(BaseModel):
    model_config = ConfigDict(extra="forbid")

    tau: PositiveTime = 0.02
    delay: NonNegativeTime | None = None
    shift: Time = 0.0
    rest: Voltage = -0.07
    rates: list[Rate] = []


@pytest.mark.parametrize(
    ("text", "dimension", "value"),
    [
        ("20 ms", "time", 0.02),
        ("20ms", "time", 0.02),
        (" 1.5  s ", "time", 1.5),
        ("5e3 us", "time", 0.005),
        ("5 \N{MICRO SIGN}s", "time", 5e-6),
        ("5 \N{GREEK SMALL LETTER MU}s", "time", 5e-6),
        (".5 ns", "time", 5e-10),
        ("-70 mV", "voltage", -0.07),
        ("+1E-1 kHz", "rate", 100.0),
        ("100 pA", "current", 1e-10),
        ("10 nS", "conductance", 1e-8),
        ("200 pF", "capacitance", 2e-10),
        ("140 mM", "concentration", 140.0),
        ("1 M", "concentration", 1000.0),
        ("310.15 K", "temperature", 310.15),
    ],
)
def test_text_is_read_exactly(text, dimension, value):
    assert parse(text, dimension) == value


def test_negative_zero_is_zero():
    assert math.copysign(1.0, parse("-0 ms", "time")) == 1.0


@pytest.mark.parametrize(
    ("value", "dimension", "text"),
    [
        (0.02, "time", "20 ms"),
        (0.0, "time", "0 s"),
        (0.1 + 0.2, "time", "300.00000000000004 ms"),
        (0.3, "time", "300 ms"),
        (100.0, "time", "100 s"),
        (2.5e-5, "time", "25 us"),
        (1e-20, "time", "1e-11 ns"),
        (1e300, "time", "1e+300 s"),
        (-0.07, "voltage", "-70 mV"),
        (0.5, "rate", "0.5 Hz"),
        (1500.0, "rate", "1.5 kHz"),
        (0.0, "rate", "0 Hz"),
        (1e-10, "current", "100 pA"),
    ],
)
def test_floats_are_written_without_dust(value, dimension, text):
    assert format_quantity(value, dimension) == text
    assert parse(text, dimension) == value


def test_every_count_of_milliseconds_keeps_its_text():
    # 0.001 * 20 and its like are not always the float nearest to the decimal: the text must be.
    for count in range(1, 1000):
        assert format_time(parse(f"{count} ms", "time")) == f"{count} ms"


@given(FINITE, DIMENSIONS)
def test_written_floats_are_read_back_identically(value, dimension):
    assert parse(format_quantity(value, dimension), dimension) == value


@given(st.decimals(allow_nan=False, allow_infinity=False, places=6, min_value=-1e9, max_value=1e9))
def test_reading_equals_the_correctly_rounded_decimal(number):
    assert parse(f"{number} ms", "time") == float(number.scaleb(-3))


@given(st.text(max_size=20), DIMENSIONS)
def test_any_text_is_a_finite_number_or_a_value_error(text, dimension):
    try:
        value = parse(text, dimension)
    except ValueError:
        return
    assert math.isfinite(value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("10 mV", """'10 mV' has the wrong dimension; expected a time such as "10 ms\""""),
        ("10", """'10' has no unit; write "10 ms\""""),
        ("10 Ms", "unknown unit 'Ms'; did you mean 'ms'? (allowed: s, ms, us, ns)"),
        ("10 msec", "unknown unit 'msec'; did you mean 'ms'? (allowed: s, ms, us, ns)"),
        ("10 min", "unknown unit 'min' (allowed: s, ms, us, ns)"),
        ("fast", """'fast' is not a number with a unit; expected a time such as "10 ms\""""),
        ("1_0 ms", """'1_0 ms' is not a number with a unit; expected a time such as "10 ms\""""),
        ("1 ms 2", """'1 ms 2' is not a number with a unit; expected a time such as "10 ms\""""),
        ("", """'' is not a number with a unit; expected a time such as "10 ms\""""),
        ("nan ms", """'nan ms' is not finite; expected a time such as "10 ms\""""),
        ("-inf ms", """'-inf ms' is not finite; expected a time such as "10 ms\""""),
        ("1e999 s", """'1e999 s' is not finite; expected a time such as "10 ms\""""),
    ],
)
def test_what_is_no_time_is_refused_in_words(text, message):
    with pytest.raises(ValueError) as caught:
        parse(text, "time")
    assert str(caught.value) == message


def test_units_are_those_of_si_with_their_prefixes():
    prefixes = {"k": 3, "": 0, "m": -3, "u": -6, "n": -9, "p": -12}
    bases = dict.fromkeys(("s", "V", "Hz", "A", "S", "F", "K"), 0) | {"M": 3}  # 1 M: 1000 mol/m³
    known = {prefix + base: bases[base] + prefixes[prefix] for prefix in prefixes for base in bases}
    for dimension, there in UNITS.items():
        for unit in there:
            assert parse(f"1 {unit}", dimension) == size_of(unit) == float(f"1e{known[unit]}")


@pytest.mark.parametrize(
    ("most", "expected"),
    [
        (1e-3, 1e-3), (9e-4, 5e-4), (4e-4, 2.5e-4), (2e-4, 2e-4),
        (1.3e-4, 1.25e-4), (1.2e-4, 1e-4), (4e-5, 2.5e-5), (1.5e-6, 1.25e-6),
    ],
)  # fmt: skip
def test_shorter_steps_are_the_longest_round_parts(most, expected):
    """A half, a quarter, a fifth, an eighth, a tenth, … of 1 ms, all of which divide it."""
    assert shorter_step(1e-3, most) == expected


def test_every_dimension_has_an_example_it_reads():
    for dimension in get_args(Dimension):
        assert (
            format_quantity(parse(units.EXAMPLES[dimension], dimension), dimension)
            == (units.EXAMPLES[dimension])
        )


def test_non_finite_floats_are_not_written():
    with pytest.raises(ValueError, match="nan is not finite; expected a time such as"):
        format_time(math.nan)


# --- in pydantic models ---------------------------------------------------------------------------


def test_fields_read_text_and_write_text_to_json():
    cell = Cell(tau="30 ms", delay="0 ms", shift="-1 ms", rates=["5 Hz", "1 kHz"])
    assert (cell.tau, cell.delay, cell.shift, cell.rates) == (0.03, 0.0, -0.001, [5.0, 1000.0])
    assert cell.model_dump(mode="json") == {
        "tau": "30 ms",
        "delay": "0 s",
        "shift": "-1 ms",
        "rest": "-70 mV",
        "rates": ["5 Hz", "1 kHz"],
    }
    assert cell.model_dump()["tau"] == 0.03


@given(FINITE.filter(lambda value: value > 0), FINITE, st.lists(FINITE, max_size=3))
def test_a_dumped_model_is_loaded_identically(tau, rest, rates):
    cell = Cell.model_construct(tau=tau, rest=rest, rates=rates)
    assert Cell.model_validate(cell.model_dump(mode="json")) == cell
    assert Cell.model_validate_json(cell.model_dump_json()) == cell


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("tau", 10, 'a bare number has no unit; write "10 ms"'),
        ("tau", 0.01, 'a bare number has no unit; write "10 ms"'),
        ("rest", 1, 'a bare number has no unit; write "1 mV"'),
        ("tau", True, 'true is not text; expected a time such as "10 ms"'),
        ("tau", ["1 ms"], 'a list is not text; expected a time such as "10 ms"'),
        ("tau", None, 'an object of type NoneType is not text; expected a time such as "10 ms"'),
        (
            "tau",
            "0 ms",
            """'0 ms' is out of range; expected a time greater than 0 such as "10 ms\"""",
        ),
        (
            "delay",
            "-1 ms",
            """'-1 ms' is out of range; expected a time of at least 0 such as "10 ms\"""",
        ),
    ],
)
def test_fields_refuse_in_words(key, value, message):
    with pytest.raises(ValidationError) as caught:
        Cell.model_validate({key: value})
    [error] = caught.value.errors()
    assert str(error["ctx"]["error"]) == message


def test_a_field_may_not_be_infinite():
    class Synapse(BaseModel):
        leak: Conductance

    with pytest.raises(ValidationError, match="'inf nS' is not finite; expected a conductance"):
        Synapse(leak="inf nS")


# --- steps ----------------------------------------------------------------------------------------


@given(st.integers(0, 10**7), st.sampled_from([1e-3, 1e-4, 2.5e-4, 3e-5, 0.1]))
def test_multiples_of_dt_are_counted(count, dt):
    assert steps(count * dt, dt) == count


@pytest.mark.parametrize(
    ("duration", "dt", "message"),
    [
        (0.1005, 0.001, "100.5 ms is not a multiple of dt = 1 ms; the nearest: 100 ms or 101 ms"),
        (
            0.00035,
            0.0001,
            "350 us is not a multiple of dt = 100 us; the nearest: 300 us or 400 us",
        ),
        (0.0001, 0.001, "100 us is not a multiple of dt = 1 ms; the nearest: 1 ms"),
        (0.6, 1e-10, "600 ms has 6.0e+09 steps of dt = 0.1 ns; expected at most 1e+08"),
        (1e30, 0.01, "1e+30 s has 1.0e+32 steps of dt = 10 ms; expected at most 1e+08"),
        (-0.1, 0.001, "a duration of -0.1 s is out of range; expected at least 0"),
        (math.nan, 0.001, "a duration of nan s is out of range; expected at least 0"),
        (0.1, 0.0, "dt = 0.0 s is out of range; expected a time greater than 0"),
    ],
)
def test_what_is_no_multiple_of_dt_is_refused(duration, dt, message):
    with pytest.raises(ValueError) as caught:
        steps(duration, dt)
    assert str(caught.value) == message


def test_the_tolerance_of_steps_is_relative():
    # 1e-10 of the duration is rounding of the input; 1e-8 of it is a mistake.
    assert steps(100.0 * (1 + 1e-10), 0.001) == 100_000
    with pytest.raises(ValueError, match="is not a multiple of dt"):
        steps(100.0 * (1 + 1e-8), 0.001)


@pytest.mark.parametrize(
    ("text", "unit"),
    [("20 ms", "s"), ("3 \N{MICRO SIGN}V", "V"), ("1 kHz", "Hz"), ("5 nS", "S"), ("0.5", None),
     ("3 apples", None), ("tau", None)],
)  # fmt: skip
def test_the_unit_that_a_quantity_is_read_into(text, unit):
    assert base_unit(text) == unit
