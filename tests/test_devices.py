"""A chunk of presentations asks nothing of the host, and a GPU gives a processor's numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import neurosim as ns
from neurosim.building import assembly
from neurosim.runs.launch import computing, initial_weights, prepare

SMALL = {"batch": 50, "stages.0.epochs": 1, "record.presentations": 0, "record.weights": True}


def chunk(protocol):
    """The engine of a protocol, and what it advances by three presentations with."""
    spec = protocol.spec
    samples, drawn = prepare(protocol, [0])
    engine = assembly.engine(spec, spec.stages[0], 28)
    states = engine.begin(initial_weights(protocol, [0], drawn), 0)
    orders, keys = jnp.arange(150).reshape(1, 3, 50), jax.random.key(0)[None]
    bounds = [jnp.int32(k) for k in (0, 3, 0)]
    return engine, (states, samples.train, samples.axis, orders, keys, *bounds)


def gpu():
    try:
        return bool(jax.devices("gpu"))
    except RuntimeError:
        return False


@pytest.mark.parametrize("level", ["rate", "equilibrium"])
@pytest.mark.parametrize("name", ["quickstart", "microcircuit-digits"])
def test_a_chunk_is_one_program_without_calls_to_the_host(name, level):
    protocol = ns.load_protocol(name, SMALL | {"level": level, "equilibrium.max_newton": 0})
    with computing(protocol.spec, "cpu"):
        engine, arguments = chunk(protocol)
        lowered = jax.jit(lambda *given: engine.advance(*given), static_argnums=2).lower(*arguments)
    text = lowered.as_text()
    assert "stablehlo.while" in text
    for call in ("callback", "infeed", "outfeed", "stablehlo.send", "stablehlo.recv"):
        assert call not in text


@pytest.mark.skipif(not gpu(), reason="JAX sees no GPU here")
@pytest.mark.parametrize("level", ["rate", "equilibrium"])
def test_nothing_is_transferred_within_a_chunk(level):
    protocol = ns.load_protocol("quickstart", SMALL | {"level": level})
    with computing(protocol.spec, "gpu"):
        engine, arguments = chunk(protocol)
        first = engine.advance(*arguments)
        with jax.transfer_guard("disallow_explicit"):
            again = engine.advance(*arguments)
            jax.block_until_ready(again)
        for a, b in zip(first[0].weights["W"], again[0].weights["W"], strict=True):
            assert a.devices() == {jax.devices("gpu")[0]}
            np.testing.assert_array_equal(a, b)


@pytest.mark.skipif(not gpu(), reason="JAX sees no GPU here")
@pytest.mark.parametrize("level", ["rate", "equilibrium"])
def test_a_gpu_learns_what_a_processor_learns(tmp_path, level):
    protocol = ns.load_protocol("quickstart", SMALL | {"precision": "float64", "level": level})
    found = []
    for device in ("cpu", "gpu"):
        done = ns.run(protocol, device=device, out=tmp_path / f"{device}.h5")
        with ns.open_trace(done.path) as trace:
            found.append([trace[f"weights/{name}"].values for name in ("W1", "W2", "Q1")])
    for a, b in zip(*found, strict=True):
        assert np.abs(a[-1] - a[0]).max() > 1e-3
        np.testing.assert_allclose(b, a, rtol=0, atol=1e-11)
