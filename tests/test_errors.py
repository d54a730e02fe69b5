"""Errors: their exit codes, pickling, and the words that messages are made of."""

import pickle

from neurosim.errors import (
    DivergedError,
    InputError,
    NeurosimError,
    arrived,
    either,
    nearest,
    unknown,
)


def test_exit_codes():
    assert (InputError("x").exit_code, DivergedError("x").exit_code) == (2, 1)
    assert issubclass(InputError, NeurosimError)
    assert issubclass(DivergedError, NeurosimError)


def test_input_errors_survive_pickling():
    error = pickle.loads(pickle.dumps(InputError(["a", "b"])))
    assert (error.messages, str(error)) == (("a", "b"), "a\nb")


def test_words_for_errors():
    assert nearest("TAHN", ["identity", "tanh"]) == "tanh"
    assert nearest("zzz", ["identity", "tanh"]) is None
    assert unknown("activation", "tahn", ["tanh", "identity"]) == (
        "unknown activation 'tahn'; did you mean 'tanh'? (allowed: tanh, identity)"
    )
    assert unknown("rule", "hebb", []) == "unknown rule 'hebb' (allowed: none)"
    assert either(["a", "b", "b", "c"]) == "a, b or c"
    assert either(["a"]) == "a"
    assert arrived(False) == "false"
    assert arrived(2**5000) == "a huge number"
    assert arrived({"a": 1}) == "a table"
