"""Circuits as text: what a model file says, parsed and checked, for every level."""
