"""Functions that texts call by name: transfer functions, losses, inverses."""
