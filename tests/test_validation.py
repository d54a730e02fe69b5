"""Validation: the exact text and the place of every error, and files mutated at random."""

from enum import Enum
from pathlib import Path
from typing import Annotated, Literal

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from tricky_toml import TRICKY, paths

import neurosim as ns
from neurosim.errors import InputError
from neurosim.specs.toml import Source, Sources, merge, override, parse
from neurosim.specs.validation import validate
from neurosim.units import PositiveTime, Time


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Mixture(Strict):
    kind: Literal["mixture"]
    tau: PositiveTime
    mu: float = Field(0.1, gt=0, lt=0.5)


class Microcircuit(Strict):
    kind: Literal["microcircuit", "circuit"]
    leak: PositiveTime = 0.02


class Network(Strict):
    layers: list[int] = Field(min_length=2, max_length=4)
    activation: Literal["tanh", "identity"] = "tanh"
    bias: bool = False
    shape: tuple[int, int] = (1, 1)
    scales: tuple[float, ...] = ()
    rank: Literal[1, 2] = 1
    colour: Colour | None = None
    name: str = Field("", max_length=5, pattern="^[a-z]*$")
    masks: list[list[bool]] = []
    noise: dict[str, Annotated[PositiveTime, Field(le=0.01)]] = {}
    power: float = Field(1.0, allow_inf_nan=False, alias="lambda")
    count: Annotated[int, Field(ge=0, multiple_of=2)] = 0


def _even(value: int) -> int:
    if value % 2:
        raise ValueError(f"{value} is odd\nexpected an even number")
    return value


class Phase(Strict):
    duration: PositiveTime
    delay: Time | Literal["auto"] | list[Time] | None = None
    window: int | Literal["all"] | Network = "all"
    steps: Annotated[int, Field(gt=0)] | Literal["all"] = "all"
    repeats: Annotated[int, AfterValidator(_even)] = 2

    @model_validator(mode="after")
    def _ordered(self):
        if self.repeats >= 100:
            raise ValueError("repeats are too many for one phase")
        return self


class Whole(Strict):
    dynamics: Annotated[Mixture | Microcircuit, Field(discriminator="kind")]
    network: Network | None = None
    phases: list[Phase] = []
    extras: list[Annotated[Mixture | Microcircuit, Field(discriminator="kind")]] = []
    other: Mixture | Microcircuit | None = Field(None, discriminator="kind")
    path: Path = Path("x")
    first: Time


GOOD = 'first = "1 ms"\n[dynamics]\nkind = "mixture"\ntau = "20 ms"\n'
UNIT = 'a time such as "10 ms"'


def test_good_data_becomes_a_model():
    document = parse(GOOD, "model.toml")
    whole = validate(Whole, document.data, document)
    assert whole.dynamics == Mixture(kind="mixture", tau="20 ms")
    assert whole.first == 0.001


def messages(text, overrides=None):
    document = parse(text, "model.toml")
    data = override(document.data, overrides or {})
    with pytest.raises(InputError) as caught:
        validate(Whole, data, document, overrides)
    assert str(caught.value) == "\n".join(caught.value.messages)
    return list(caught.value.messages)


NETWORK = f"{GOOD}[network]\nlayers = [1, 2]\n"
PHASE = f'{GOOD}[[phases]]\nduration = "1 ms"\n'
LONG = "x" * 100


KEYS = [
    (GOOD, "tua = 1", "5: dynamics.tua: unknown key 'tua'; did you mean 'tau'?"),
    (GOOD, "zzz = 1", "5: dynamics.zzz: unknown key 'zzz' (allowed: kind, tau, mu)"),
    (GOOD, '"t.u" = 1', "5: dynamics.\"t.u\": unknown key 't.u'; did you mean 'tau'?"),
    (GOOD, "[netwrk]", "5: netwrk: unknown key 'netwrk'; did you mean 'network'?"),
    (NETWORK, "lamda = 1", "7: network.lamda: unknown key 'lamda'; did you mean 'lambda'?"),
    (GOOD, "[network]", "5: network.layers: missing; expected a list of whole numbers"),
    (GOOD, "[[phases]]", f"5: phases.0.duration: missing; expected {UNIT}"),
]
UNIONS = [
    (GOOD, "[other]", "5: other.kind: missing; expected 'mixture', 'microcircuit' or 'circuit'"),
    (
        GOOD,
        "[[extras]]\nkind = 'mixtre'",
        "6: extras.0.kind: unknown kind 'mixtre'; did you mean 'mixture'? "
        "(allowed: mixture, microcircuit, circuit)",
    ),
    (GOOD, "[other]\nkind = 'mixture'", f"5: other.tau: missing; expected {UNIT}"),
    (
        GOOD,
        "[[extras]]\nkind = 'circuit'\n[[extras]]\nkind = 'circuit'\nleek = 1",
        "9: extras.1.leek: unknown key 'leek'; did you mean 'leak'?",
    ),
    (GOOD, "[[other]]", "5: other: [a table] has the wrong type; expected a table"),
    (
        PHASE,
        "delay = 'atuo'",
        "7: phases.0.delay: 'atuo' is not allowed; did you mean 'auto'? "
        f"(expected {UNIT}, 'auto' or a list of times such as \"10 ms\")",
    ),
    (
        PHASE,
        "delay = '1 mV'",
        f"7: phases.0.delay: '1 mV' has the wrong dimension; expected {UNIT}, or 'auto', "
        'or a list of times such as "10 ms"',
    ),
    (
        PHASE,
        "delay = ['1 ms',\n'1 mV']",
        f"8: phases.0.delay.1: '1 mV' has the wrong dimension; expected {UNIT}",
    ),
    (
        PHASE,
        "window = 1.5",
        "7: phases.0.window: 1.5 is not allowed; expected a whole number, 'all' or a table",
    ),
    (
        PHASE,
        "window = {layres = [1, 2], layers = [1, 2]}",
        "7: phases.0.window.layres: unknown key 'layres'; did you mean 'layers'?",
    ),
    (
        PHASE,
        "steps = 0",
        "7: phases.0.steps: 0 is out of range; expected greater than 0, or 'all'",
    ),
]
CHOICES = [
    (
        NETWORK,
        "activation = 'tahn'",
        "7: network.activation: unknown activation 'tahn'; did you mean 'tanh'? "
        "(allowed: tanh, identity)",
    ),
    (
        NETWORK,
        "activation = 1",
        "7: network.activation: 1 is not allowed; expected 'tanh' or 'identity'",
    ),
    (NETWORK, "rank = 3", "7: network.rank: 3 is not allowed; expected 1 or 2"),
    (
        NETWORK,
        "colour = 'read'",
        "7: network.colour: unknown colour 'read'; did you mean 'red'? (allowed: red, blue)",
    ),
]
TYPES = [
    (NETWORK, "bias = 'x'", "7: network.bias: 'x' has the wrong type; expected true or false"),
    (NETWORK, "name = 1", "7: network.name: 1 has the wrong type; expected text"),
    (NETWORK, "lambda = 'x'", "7: network.lambda: 'x' has the wrong type; expected a number"),
    (
        NETWORK,
        "lambda = [true, {}]",
        "7: network.lambda: [true, a table] has the wrong type; expected a number",
    ),
    (
        NETWORK,
        f"lambda = '{LONG}'",
        f"7: network.lambda: '{LONG[:27]}...{LONG[:28]}' has the wrong type; expected a number",
    ),
    (
        GOOD,
        "[network]\nlayers = 3",
        "6: network.layers: 3 has the wrong type; expected a list of whole numbers",
    ),
    (
        GOOD,
        "[network]\nlayers = [1,\n2.5]",
        "7: network.layers.1: 2.5 has the wrong type; expected a whole number",
    ),
    (
        NETWORK,
        "scales = 'x'",
        "7: network.scales: 'x' has the wrong type; expected a list of numbers",
    ),
    (
        NETWORK,
        "scales = [1, 'x']",
        "7: network.scales.1: 'x' has the wrong type; expected a number",
    ),
    (
        NETWORK,
        "shape = 'x'",
        "7: network.shape: 'x' has the wrong type; expected a list of 2 whole numbers",
    ),
    (
        NETWORK,
        "shape = [1]",
        "7: network.shape: [1] is too short; expected a list of 2 whole numbers",
    ),
    (
        NETWORK,
        "shape = [1, 2, 3]",
        "7: network.shape: [1, 2, 3] is too long; expected at most 2 elements",
    ),
    (
        NETWORK,
        "masks = 1",
        "7: network.masks: 1 has the wrong type; expected a list of lists of values true or false",
    ),
    (NETWORK, "noise = 1", "7: network.noise: 1 has the wrong type; expected a table"),
    (GOOD, "[phases]", "5: phases: a table has the wrong type; expected a list of tables"),
]
RANGES = [
    (GOOD, "mu = 0.7", "5: dynamics.mu: 0.7 is out of range; expected less than 0.5"),
    (GOOD, "mu = -1", "5: dynamics.mu: -1 is out of range; expected greater than 0"),
    (NETWORK, "count = -2", "7: network.count: -2 is out of range; expected at least 0"),
    (NETWORK, "count = 3", "7: network.count: 3 is out of range; expected a multiple of 2"),
    (NETWORK, "lambda = inf", "7: network.lambda: inf is not finite; expected a number"),
    (
        NETWORK,
        "noise.soma = '20 ms'",
        "7: network.noise.soma: '20 ms' is out of range; expected at most 10 ms",
    ),
    (
        NETWORK,
        "name = 'abcdef'",
        "7: network.name: 'abcdef' is too long; expected at most 5 characters",
    ),
    (NETWORK, "name = 'A'", "7: network.name: 'A' does not match the pattern ^[a-z]*$"),
    (
        GOOD,
        "[network]\nlayers = [1]",
        "6: network.layers: [1] is too short; expected at least 2 elements",
    ),
    (
        GOOD,
        "[network]\nlayers = [1,2,3,4,5,6,7]",
        "6: network.layers: [1, 2, 3, 4, 5, 6, ...] is too long; expected at most 4 elements",
    ),
]
VALIDATORS = [
    (
        f"{GOOD}[[phases]]\n",
        "duration = '1 mV'",
        f"6: phases.0.duration: '1 mV' has the wrong dimension; expected {UNIT}",
    ),
    (
        f"{GOOD}[[phases]]\n",
        "duration = 10",
        '6: phases.0.duration: a bare number has no unit; write "10 ms"',
    ),
    (PHASE, "repeats = 3", "7: phases.0.repeats: 3 is odd; expected an even number"),
    (PHASE, "repeats = 100", "5: phases.0: repeats are too many for one phase"),
]


@pytest.mark.parametrize(
    ("before", "line", "message"), KEYS + UNIONS + CHOICES + TYPES + RANGES + VALIDATORS
)
def test_one_mistake_is_one_message(before, line, message):
    assert messages(f"{before}{line}\n") == [f"model.toml:{message}"]


def test_a_scalar_short_for_a_table_is_named_itself():
    class Short(Strict):
        network: Annotated[
            Network,
            BeforeValidator(lambda value: {"layers": [1, 2], "activation": value}),
        ]

    document = parse("network = 'tahn'", "model.toml")
    with pytest.raises(InputError) as caught:
        validate(Short, document.data, document)
    assert str(caught.value) == (
        "model.toml:1: network: unknown network 'tahn'; did you mean 'tanh'? "
        "(allowed: tanh, identity)"
    )


def test_all_mistakes_are_reported_at_once():
    text = """
[network]
layers = [784, "a"]
bias = 3

[dynamics]
kind = "mixture"
tua = 1
tau = "10 mV"
mu = 0.5
"""
    assert messages(text) == [
        f"model.toml:9: dynamics.tau: '10 mV' has the wrong dimension; expected {UNIT}",
        "model.toml:10: dynamics.mu: 0.5 is out of range; expected less than 0.5",
        "model.toml:8: dynamics.tua: unknown key 'tua'; did you mean 'tau'?",
        "model.toml:3: network.layers.1: 'a' has the wrong type; expected a whole number",
        "model.toml:4: network.bias: 3 has the wrong type; expected true or false",
        f"model.toml: first: missing; expected {UNIT}",
    ]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"dynamics.mu": 0.7}, "override dynamics.mu: 0.7 is out of range; expected less than 0.5"),
        (
            {"dynamics.um": 0.1},
            "override dynamics.um: unknown key 'um' (allowed: kind, tau, mu)",
        ),
        (
            {"network": {"layers": 3}},
            "override network: network.layers: 3 has the wrong type; "
            "expected a list of whole numbers",
        ),
        (
            {"netwrok.bias": True},
            "override netwrok.bias: netwrok: unknown key 'netwrok'; did you mean 'network'?",
        ),
        (
            {"phases.0.duration": 0.05},
            'override phases.0.duration: a bare number has no unit; write "10 ms"',
        ),
        (
            {"network": {"layers": [1, 2]}, "network.rank": object},
            "override network.rank: <class 'object'> is not allowed; expected 1 or 2",
        ),
    ],
)
def test_an_override_is_named_as_the_place(overrides, message):
    assert messages(PHASE, overrides) == [message]


def test_without_a_document_the_key_is_the_place():
    with pytest.raises(InputError) as caught:
        validate(Mixture, {"kind": "mixture", "tau": 20})
    assert str(caught.value) == 'tau: a bare number has no unit; write "10 ms"'


def test_each_error_names_the_file_it_comes_from():
    model = parse('kind = "mixture"\ntau = "1 mV"\n', "m.toml")
    protocol = parse('first = "1 ms"\n[dynamics]\nmu = 2\n', "p.toml")
    data = merge({"dynamics": model.data}, protocol.data)
    sources = Sources((Source(protocol), Source(model, at=("dynamics",))))
    with pytest.raises(InputError) as caught:
        validate(Whole, data, sources)
    assert caught.value.messages == (
        f"m.toml:2: tau: '1 mV' has the wrong dimension; expected {UNIT}",
        "p.toml:3: dynamics.mu: 2 is out of range; expected less than 0.5",
    )


def test_the_keys_of_a_table_are_checked_like_values():
    class Counts(Strict):
        by_layer: dict[int, int]

    with pytest.raises(InputError) as caught:
        validate(Counts, {"by_layer": {"a": 1}})
    assert str(caught.value) == "by_layer.a: 'a' has the wrong type; expected a whole number"


def test_a_dumped_model_is_loaded_identically():
    whole = validate(Whole, parse(GOOD, "model.toml").data)
    assert validate(Whole, whole.model_dump(mode="json", by_alias=True)) == whole


# --- mutated files --------------------------------------------------------------------------------

SCRAPS = ["[", "]", "[[", "{", "}", '"', '"""', "'", "'''", "\\", "=", ".", ",", "#", "\n", "\r\n"]
SCRAPS += ["1", "a", "inf", "1e400", "1979-05-27", "[[[[", "é", " ", "kind", "= [1,", "\0"]
HUGE = "0x" + "f" * 5000


@st.composite
def mutated(draw):
    text = draw(st.sampled_from([text for text, _ in TRICKY.values()] + [GOOD, NETWORK, PHASE]))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(text)))
        end = start + draw(st.integers(0, 3))
        text = text[:start] + draw(st.sampled_from([*SCRAPS, HUGE])) + text[end:]
    return text


@settings(max_examples=600, deadline=None)
@given(mutated())
@example(f"{GOOD}mu = {HUGE}")
@example(f"{NETWORK}count = {HUGE}")
@example(f"{PHASE}delay = [{HUGE}]")
def test_mutated_files_give_positions_or_input_errors(text):
    try:
        document = parse(text, "model.toml")
    except InputError as error:
        assert str(error).startswith("model.toml:")
        return
    assert set(paths(document.data)) == set(document.lines)
    assert max(document.lines.values(), default=1) <= text.count("\n") + 1
    try:
        validate(Whole, document.data, document)
    except InputError as error:
        assert all(message.startswith("model.toml:") for message in error.messages)
        assert error.messages


NAMES = ["kind", "tau", "mu", "layers", "delay", "window", "shape", "noise", "x"]
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=3)
    ),
    max_leaves=8,
)


@settings(max_examples=300, deadline=None)
@given(ANYTHING, st.sampled_from([*Whole.model_fields, "zzz"]))
def test_any_data_is_a_model_or_an_input_error(value, key):
    data = {**parse(GOOD, "model.toml").data, key: value}
    try:
        validate(Whole, data)
    except InputError as error:
        assert all(message.startswith(key) for message in error.messages)
        assert error.messages


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("model.layers", [64, 10**13, 10]),
        ("stages.0.epochs", 10**13),
        ("test_draws", 10**18),
        ("model.spiking.neurons", 10**30),
    ],
)
def test_a_number_that_no_array_can_count_is_refused(key, value):
    with pytest.raises(InputError) as caught:
        ns.load_protocol("quickstart", {key: value})
    largest = value[1] if isinstance(value, list) else value
    assert f"{key}: {largest} is out of range; expected at most 1e+12" in str(caught.value)


def test_a_task_of_too_many_samples_is_refused():
    with pytest.raises(InputError, match=r"task\.train: got 10000000000000; expected at most 1e"):
        ns.load_protocol("student-teacher", {"task.train": 10**13})
