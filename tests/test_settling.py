"""Phases that settled, to the tolerance or only as far as numbers carry, and what a run says."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import neurosim as ns
from neurosim.levels.settling import FEW, rms

FAINT = {
    "level": "equilibrium",
    "model.layers": [64, 16, 10],
    "model.parameters.mu": 0.05,
    "model.target_step": 0.005,  # as faint as 5 through four layers, which take longer to compile
    "equilibrium.max_newton": 0,
    "stages.0.epochs": None,
    "stages.0.presentations": 2,
    "record.presentations": 0,
}
"""The signal of layer 1 is 1.4e-5 of the activity, 117 roundings of single precision."""


@pytest.mark.parametrize("precision", ["float32", pytest.param("float64", marks=pytest.mark.long)])
def test_a_run_says_where_rounding_ended_a_phase(precision, tmp_path):
    """All samples count as settled in both, in single precision beyond the tolerance of 0.001.

    Sixteen roundings of the state are 16/117 = 0.14 of the signal, where the error is as large as
    the activity.
    """
    run = ns.run(
        ns.load_protocol("quickstart", FAINT | {"precision": precision}), out=tmp_path / "faint.h5"
    )
    assert run.settled == {"free": 1.0, "learning": 1.0}
    with ns.open_trace(run.path) as trace:
        left = trace["metrics/residual"].values.max(axis=0)
    assert list(run.residual.values()) == pytest.approx(left.tolist())
    words = "100 % of samples, to rounding: float32 leaves up to "
    if precision == "float64":
        assert (left <= 1e-3).all() and "to rounding" not in run._repr_html_()
    else:
        assert ((left > 2e-3) & (left < 0.14)).all()
        assert run._repr_html_().count(words) == 2
    shown = [phase["residual_worst"] for phase in ns.inspect(run.path)["phases"]]
    np.testing.assert_allclose(shown, left)


@pytest.mark.parametrize("size", [FEW, FEW + 1, 64, 99])
def test_the_root_mean_square_takes_every_unit_once(size):
    """Of layers of any size, odd ones and those that are halved several times."""
    v = np.random.default_rng(size).standard_normal((size, size))
    with jax.enable_x64(True):
        found, each = jax.jit(jax.vmap(rms))(jnp.asarray([*v, *np.eye(size)])).reshape(2, size)
    np.testing.assert_allclose(found, np.linalg.norm(v, axis=1) / size**0.5, rtol=1e-14)
    np.testing.assert_allclose(each, size**-0.5, rtol=1e-14)
