"""A contestant that learns once and ends: a problem goes in, weights and how it predicts come out.

Usage of every script beside this one that is named digits_…: python SCRIPT PROBLEM.npz. It prints
one line of JSON when it has learned: the test error, and the peak of its memory.
"""

import sys
from collections.abc import Callable

import numpy as np
from serving import Problem, peak, plain, say

Predict = Callable[[np.ndarray], np.ndarray]
"""Inputs → outputs, the largest of which is the answer."""


def race(learn: Callable[[Problem], Predict]) -> None:
    """Learn and be tested. learn: the problem → how the network that has learned it predicts."""
    with np.load(sys.argv[1]) as given:
        problem = {name: plain(given[name]) for name in given.files}
    predict = learn(problem)
    answers = np.argmax(np.asarray(predict(problem["x_test"])), axis=1)
    finish(float(np.mean(answers != np.argmax(problem["y_test"], axis=1))))


def finish(error: float) -> None:
    """Say how it went."""
    say(error=error, peak=peak())


def orders(problem: Problem, epochs: int) -> np.ndarray:
    """Which samples every presentation shows, (epochs, batches, batch)."""
    rng, batch = np.random.default_rng(problem["seed"]), problem["batch"]
    batches = len(problem["x"]) // batch
    drawn = [rng.permutation(len(problem["x"]))[: batches * batch] for _ in range(epochs)]
    return np.array(drawn).reshape(epochs, batches, batch)
