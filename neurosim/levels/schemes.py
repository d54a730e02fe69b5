"""The solvers of the rate level by name; diffrax is imported when one is made."""

from collections.abc import Callable
from typing import Any, NamedTuple


class Scheme(NamedTuple):
    """A solver: how it is made for given (rtol, atol) and whether it integrates noise.

    implicit: whether its stages are solved for, which every sample does on its own. estimates:
    whether it knows its own error, by which steps adapt.
    """

    make: Callable
    noisy: bool
    source: str
    implicit: bool = False
    estimates: bool = True


def _explicit(name: str) -> Callable:
    """A method that has no tolerances of its own."""

    def make(rtol: float, atol: float) -> Any:
        import diffrax

        return getattr(diffrax, name)()

    return make


def _heun(rtol: float, atol: float) -> Any:
    from neurosim.levels.heun import Heun

    return Heun()


def _implicit(rtol: float, atol: float) -> Any:
    """Stages by the chord method, ended by Cauchy's criterion.

    diffrax's own choice, `VeryChord`, gives a stage up where it contracts too slowly for its
    taste; tanh networks then fail fixed steps and need three times the adaptive ones.
    """
    import diffrax
    import optimistix

    return diffrax.Kvaerno5(root_finder=optimistix.Chord(rtol=rtol, atol=atol))


TOLERANCES = {"float32": (1e-5, 1e-6), "float64": (1e-6, 1e-9)}
"""rtol and atol by precision, where a protocol names none."""

SCHEMES: dict[str, Scheme] = {
    "euler": Scheme(_explicit("Euler"), True, "forward Euler; Euler–Maruyama", estimates=False),
    "heun": Scheme(_heun, True, "Heun, second order"),
    "dopri5": Scheme(_explicit("Dopri5"), False, "Dormand & Prince 5(4)"),
    "tsit5": Scheme(_explicit("Tsit5"), False, "Tsitouras 5(4)"),
    "kvaerno5": Scheme(_implicit, False, "Kværnø 5(4), implicit, for stiff time constants", True),
}
