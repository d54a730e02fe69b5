"""Transfer functions in the language of Brian2: s, its derivative and its inverse, as text.

A stochastic unit stands for its mean: what it draws, its neurons draw, spike by spike.
"""

from math import inf

from neurosim.functions.activations import (
    Activation,
    Bernoulli,
    LeakyReLU,
    Linear,
    Power,
    Sigmoid,
    Sign,
    Softplus,
    SoftThreshold,
    Tanh,
)

MARGIN = 1e-2
"""How far estimated rates are kept inside the domain of an inverse that is bounded."""


def transfer(activation: Activation, a: str) -> str:
    """s(a) as an expression."""
    match activation:
        case Linear():
            return a
        case LeakyReLU(slope=slope):
            return f"{a} * (int({a} > 0) + {slope!r} * int({a} <= 0))"
        case Tanh():
            return f"tanh({a})"
        case Sigmoid() | Bernoulli():
            return f"1 / (1 + exp(-({a})))"
        case Softplus():
            return f"log1p(exp(-abs({a}))) + clip({a}, 0, inf)"
        case Power(exponent=exponent):
            return f"sign({a}) * abs({a})**{exponent!r}"
        case Sign():
            return f"int({a} > 0)"
        case SoftThreshold(threshold=threshold):
            return f"{a} - clip({a}, {-float(threshold)!r}, {float(threshold)!r})"
    raise TypeError(f"{activation} is not known to Brian2")


def inverse(activation: Activation, h: str) -> str:
    """s⁻¹(h) as an expression."""
    match activation:
        case Linear():
            return h
        case LeakyReLU(slope=slope):
            return f"{h} * (int({h} > 0) + {1 / slope!r} * int({h} <= 0))"
        case Tanh():
            return f"0.5 * log((1 + {h}) / (1 - {h}))"
        case Sigmoid():
            return f"log({h}) - log1p(-{h})"
        case Softplus():
            return f"{h} + log(-expm1(-{h}))"
        case Power(exponent=exponent):
            return f"sign({h}) * abs({h})**{1 / exponent!r}"
    raise TypeError(f"{activation} is not known to Brian2")


def derivative(activation: Activation, a: str) -> str:
    """s'(a) as an expression."""
    match activation:
        case Linear():
            return "1"
        case LeakyReLU(slope=slope):
            return f"int({a} > 0) + {slope!r} * int({a} <= 0)"
        case Tanh():
            return f"1 - tanh({a})**2"
        case Sigmoid() | Bernoulli():
            return f"1 / (1 + exp(-({a}))) / (1 + exp({a}))"
        case Softplus():
            return f"1 / (1 + exp(-({a})))"
        case Power(exponent=exponent):
            return f"{exponent!r} * abs({a})**{exponent - 1!r}"
        case Sign():
            return "0"
        case SoftThreshold(threshold=threshold):
            return f"int(abs({a}) > {float(threshold)!r})"
    raise TypeError(f"{activation} is not known to Brian2")


def known(activation: Activation) -> bool:
    """Whether the expressions above exist."""
    kinds = (
        Linear | LeakyReLU | Tanh | Sigmoid | Softplus | Power | Sign | Bernoulli | SoftThreshold
    )
    return isinstance(activation, kinds)


def kept(activation: Activation) -> tuple[float, float]:
    """Between which bounds rates are kept, inside the domain of s⁻¹."""
    low, high = activation.domain or (-inf, inf)
    return low + MARGIN, high - MARGIN


def within(activation: Activation, h: str) -> str:
    """h kept inside the domain of s⁻¹."""
    low, high = kept(activation)
    return h if (low, high) == (-inf, inf) else f"clip({h}, {low!r}, {high!r})"
