"""Tables 4.1 – 4.3 of the thesis, counted as the operations of one layer of n units run."""

import numpy as np
import pytest


class Counter:
    """Linear algebra that counts its multiplications and additions, as in table 4.1."""

    def __init__(self):
        self.times = self.plus = 0

    def product(self, W, v):
        """Matrix times vector."""
        n, m = W.shape
        out = np.zeros(n)
        for i in range(n):
            terms = []
            for j in range(m):
                terms.append(W[i, j] * v[j])
                self.times += 1
            out[i] = self.sum(terms)
        return out

    def sum(self, terms):
        total = terms[0]
        for term in terms[1:]:
            total = total + term
            self.plus += 1
        return total

    def inner(self, u, v):
        self.times += len(u)
        return self.sum([a * b for a, b in zip(u, v, strict=True)])

    def outer(self, u, v):
        self.times += len(u) * len(v)
        return np.outer(u, v)

    def elementwise(self, u, v):
        self.times += len(u)
        return u * v

    def add(self, A, B):
        self.plus += A.size
        return A + B


SLOPE = 0.35


def leaky(count, a):
    return count.elementwise(np.where(a > 0, 1, SLOPE), a)


def backprop_layer(count, W, W_above, delta_above, below):
    """Forward, error down, update."""
    a = count.product(W, below)
    leaky(count, a)
    delta = count.elementwise(np.where(a > 0, 1, SLOPE), count.product(W_above.T, delta_above))
    return count.add(W, count.outer(delta, below))


def exact_layer(count, W, inverse, target_above, below):
    """Forward, Sherman–Morrison, target down, update."""
    a = count.product(W, below)
    h = leaky(count, a)
    inverse_target = np.where(target_above > 0, 1, 1 / SLOPE)
    target = count.product(inverse, count.elementwise(inverse_target, target_above))
    u = target - h
    left = count.product(inverse, u)
    right = count.product(inverse.T, below)
    d = count.inner(below, left)
    moved = count.add(W, count.outer(u, below))
    return moved, count.add(inverse, -count.outer(left, right) / (1 + d))


@pytest.mark.parametrize("n", [3, 8, 17])
def test_backprop_costs_what_table_4_2_says(n):
    rng, count = np.random.default_rng(0), Counter()
    W, above = rng.standard_normal((2, n, n))
    backprop_layer(count, W, above, *rng.standard_normal((2, n)))
    assert (count.plus, count.times) == (3 * n**2 - 2 * n, 3 * n**2 + 2 * n)


@pytest.mark.parametrize("n", [3, 8, 17])
def test_exact_inverses_cost_less_than_table_4_3_says(n):
    """Two products make a Sherman–Morrison update, W⁻¹u and v^T W⁻¹; the table counts three.

    With the table's third product of n(n−1) additions and n² multiplications its sums come out.
    """
    rng, count = np.random.default_rng(0), Counter()
    W = rng.standard_normal((n, n))
    h, target = rng.standard_normal((2, n))
    moved, inverse = exact_layer(count, W, np.linalg.inv(W), target, h)
    np.testing.assert_allclose(moved @ inverse, np.eye(n), atol=1e-9)
    third = (n * (n - 1), n**2)
    expected = (7 * n**2 - 4 * n - 1, 7 * n**2 + 3 * n)
    assert (count.plus + third[0], count.times + third[1]) == expected
