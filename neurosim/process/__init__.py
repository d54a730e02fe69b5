"""The process that computes: who started it, where JAX runs, what is kept, what stops it."""
