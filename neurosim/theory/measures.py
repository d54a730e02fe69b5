"""What `diagnosis` measures of teaching signals, by name."""

PARTS: dict[str, str] = {
    "tp": "the useful signal through the Jacobians of g",
    "rec": "reconstruction errors",
    "approx": "the approximation error, teaching minus the useful signal",
    "gn": "the Gauss–Newton signal",
    "bp": "backprop's signal",
}
"""What the teaching signal is compared with [T 5.57–5.61, 6.22, 6.57]."""


def measured(targets: bool) -> dict[str, str]:
    """The names of what `diagnosis` measures, each with what it is.

    targets: whether teaching comes down through maps g; otherwise there are only `gn` and `bp`.
    """
    parts = PARTS if targets else {name: PARTS[name] for name in ("gn", "bp")}
    norms = {f"norm_{name}": f"norm of {text}" for name, text in parts.items()}
    cosines = {
        f"cosine_{name}": f"cosine of the teaching signal to {text}"
        for name, text in parts.items()
        if name in ("tp", "gn", "bp")
    }
    return {"norm_teaching": "norm of the teaching signal", **norms, **cosines}
