"""The family of target propagation against a plain numpy account of the thesis' algorithms."""

from functools import reduce
from itertools import pairwise

import jax
import numpy as np
import pytest

import neurosim as ns
from neurosim.credit import CREDITS
from neurosim.plasticity.channel import random_layer
from neurosim.seeds import device_stream

SLOPE, STEP, EPSILON, SIGMA = 0.35, 0.1, 0.5, 1e-3
AUTOENCODING = ("dtp", "ao-sdtp", "dtp-drl", "dtp-ldrl", "dtp-fixed")
ITERATIONS, SAMPLES = 100, 160


# ------------------------------------------------------------------ an independent account


def leaky(a):
    return np.where(a > 0, a, SLOPE * a)


def leaky_slope(a):
    return np.where(a > 0, 1.0, SLOPE)


def leaky_inverse(h):
    return np.where(h > 0, h, h / SLOPE)


def identity(a):
    return a


def ones(a):
    return np.ones_like(a)


class Reference:
    """One network of the thesis, one iteration at a time, sums over samples as written."""

    def __init__(self, method, W, Q, rates, feedback_rates, noise, layer):
        self.method, self.W, self.Q = method, [w.copy() for w in W], [q.copy() for q in Q]
        self.L = len(W)
        self.s = [leaky] * (self.L - 1) + [identity]
        self.ds = [leaky_slope] * (self.L - 1) + [ones]
        self.inverse = [leaky_inverse] * (self.L - 1) + [identity]
        self.rates, self.feedback_rates = rates, feedback_rates
        self.noise, self.layer = noise, layer  # draws of iteration t

    def g(self, i, above):
        """g_i for batch-first activities of layer i+1."""
        if self.method.startswith("original") or self.method in AUTOENCODING:
            return self.s[i - 1](above @ self.Q[i - 1].T)
        return self.inverse[i](above) @ self.Q[i - 1].T

    def iterate(self, t, x, y):
        L, W, method = self.L, self.W, self.method
        a, h, sent = [], [x], []  # layer i sends sent[i], h[i] normalised or as it is
        self.moments = {}
        for i in range(1, L + 1):
            sent.append(self.normalised(i - 1, h[-1]))
            a.append(sent[-1] @ W[i - 1].T)
            h.append(self.s[i - 1](a[-1]))
        D = [None, *(self.ds[i](a[i]) for i in range(L))]  # D[i] of layer i
        e = 2 * (h[L] - y)
        if method == "ao-sdtp":  # the last output unit has no label
            e[:, 2:] = 0
        if method in ("backprop", "bp-fixed", "sbp", "bdfa") or "rbp" in method:
            teaching = self.errors(e, D)
        else:
            target = self.targets(e, h, D)
            teaching = {i: target[i] - h[i] for i in target}
        moving = range(1, L + 1)
        if method in (
            "rtp-ei",
            "rmtp-ei",
            "rmtp",
            "rtp-ai",
            "rdtp-ai",
            "original-rtp",
            "original-rdtp",
        ):
            moving = [self.layer(t)]
        if method == "bp-fixed":
            moving = [L]
        new = [w.copy() for w in W]
        below = x
        for i in range(1, L + 1):
            B = len(x)
            pre, post, slope, taught = sent[i - 1], h[i], D[i], teaching[i]
            if method == "dtp":  # from the bottom up, on what the layers below have become
                pre = below
                post = self.s[i - 1](pre @ W[i - 1].T)
                slope, taught = self.ds[i - 1](pre @ W[i - 1].T), target[i] - post
            if i in moving:
                u = taught / slope if "mtp" in method else slope * taught
                eta = self.rates[i - 1]
                if method.endswith("-ei") and i > 1:
                    new[i - 1], self.Q[i - 2] = self.robust(
                        W[i - 1], self.Q[i - 2], eta * u[0], pre[0]
                    )
                else:
                    for b in range(B):
                        new[i - 1] += eta / B * np.outer(u[b], pre[b])
            if method == "dtp":
                below = self.s[i - 1](below @ new[i - 1].T)
        self.W = new
        if method.endswith("-ai"):
            self.learn_inverses(t, len(x))
        elif method in ("mtp", "rmtp"):
            self.Q = [np.linalg.pinv(w) for w in new[1:]]
        elif method.startswith("original") or method == "ao-sdtp":
            self.learn_autoencoders(h)
        elif method == "dtp":
            self.learn_around_targets(t, target)
        elif method == "bdfa":
            self.learn_to_reconstruct(x, y)
        elif method in ("arbp", "asrbp"):
            self.learn_from_what_passes(h, {i: D[i] * teaching[i] for i in teaching})
        elif method == "dtp-drl":
            self.learn_from_the_way_up(t, h)
        elif method == "dtp-ldrl":
            self.learn_from_both_sides(t, h)

    def normalised(self, i, h):
        """Batch normalisation of layer i [T A.1], for the methods that have it."""
        if self.method not in ("mtp", "rmtp"):
            return h
        B = len(h)
        mean = sum(h) / B
        deviation = np.sqrt(sum((one - mean) ** 2 for one in h) / B + 1e-5)
        self.moments[i] = mean, deviation
        return (h - mean) / deviation

    def errors(self, e, D):
        """Backprop and feedback alignment: −e_L at the top, sent down."""
        teaching = {self.L: -e}
        for i in range(self.L - 1, 0, -1):
            if self.method == "sbp":
                way = reduce(np.matmul, [w.T for w in self.W[i:]])
                teaching[i] = (D[self.L] * -e) @ way.T
            elif self.method in ("srbp", "asrbp"):
                teaching[i] = (D[self.L] * -e) @ self.Q[i - 1].T
            else:
                back = self.W[i]
                if self.method in ("rbp", "arbp", "bdfa"):
                    back = self.Q[i if self.method == "bdfa" else i - 1].T
                teaching[i] = (D[i + 1] * teaching[i + 1]) @ back
        return teaching

    def learn_from_what_passes(self, h, R):
        """ΔQ_i = ⟨h_i R^T⟩ − λ Q_i, with R_{i+1} or R_L."""
        for i in range(1, self.L):
            error = R[i + 1 if self.method == "arbp" else self.L]
            change = sum(map(np.outer, h[i], error)) / len(error) - 0.1 * self.Q[i - 1]
            self.Q[i - 1] = self.Q[i - 1] + self.feedback_rates[i - 1] * change

    def targets(self, e, h, D):
        L = self.L
        target = {L: h[L] - STEP * e}
        if self.method == "dtp":
            target = {L: h[L] - e, L - 1: h[L - 1] - STEP * (e * D[L]) @ self.W[L - 1]}
        for i in range(min(target) - 1, 0, -1):
            target[i] = self.g(i, target[i + 1])
            if i in self.moments:
                mean, deviation = self.moments[i]
                target[i] = deviation * target[i] + mean
            if "dtp" in self.method:
                target[i] += h[i] - self.g(i, h[i + 1])
        return target

    def robust(self, W, inverse, u, v):
        d = v @ inverse @ u
        if abs(1 + d) >= EPSILON:
            return (
                W + np.outer(u, v),
                inverse - inverse @ np.outer(u, v) @ inverse / (1 + d),
            )
        self.shortened = getattr(self, "shortened", 0) + 1
        beta = 1 / (EPSILON - d)
        return (
            W + beta * np.outer(u, v),
            inverse - inverse @ np.outer(u, v) @ inverse / EPSILON,
        )

    def learn_inverses(self, t, B):
        """A.8."""
        for i in range(1, self.L):
            h = self.noise(t, i, B, self.W[i].shape[1])
            above = self.s[i](h @ self.W[i].T)
            back = self.g(i, above)
            change = sum(np.outer(back[b] - h[b], self.inverse[i](above[b])) for b in range(B))
            rate = self.feedback_rates[i - 1]
            self.Q[i - 1] = (1 - rate * 0.1) * self.Q[i - 1] - rate / B * change

    def learn_autoencoders(self, h):
        """A.9."""
        Q = []
        for i in range(1, self.L):
            B, b_i = len(h[0]), h[i + 1] @ self.Q[i - 1].T
            back, slope = self.s[i - 1](b_i), self.ds[i - 1](b_i)
            change = sum(np.outer(slope[b] * (back[b] - h[i][b]), h[i + 1][b]) for b in range(B))
            rate = self.feedback_rates[i - 1]
            Q.append((1 - rate * 0.1) * self.Q[i - 1] - rate / B * change)
        self.Q = Q

    def learn_to_reconstruct(self, x, y):
        """T 3.25–3.27."""
        b, h = {}, {self.L: y}
        for i in range(self.L - 1, 0, -1):
            b[i] = h[i + 1] @ self.Q[i].T
            h[i] = self.s[i - 1](b[i])
        delta = 2 * (h[1] @ self.Q[0].T - x)
        Q = []
        for i, q in enumerate(self.Q):
            if i:
                delta = self.ds[i - 1](b[i]) * (delta @ self.W[i - 1].T)
            rate = self.feedback_rates[i]
            Q.append((1 - rate * 0.1) * q - rate / len(x) * delta.T @ h[i + 1])
        self.Q = Q

    def learn_from_the_way_up(self, t, h):
        """Noise to the output and back, against the same without; W as it has become."""
        Q = []
        for i, q in enumerate(self.Q, start=1):
            B = len(h[i])
            noise = self.noise(t, i, B, h[i].shape[1])
            arrived = []
            for now in (h[i] + SIGMA * noise, h[i]):
                for k in range(i + 1, self.L + 1):
                    now = self.s[k - 1](now @ self.W[k - 1].T)
                for k in range(self.L - 1, i, -1):
                    now = self.g(k, now)
                arrived.append(now)
            noisy, still = (now @ q.T for now in arrived)
            back = (self.s[i - 1](noisy) - self.s[i - 1](still)) / SIGMA
            missing = self.ds[i - 1](noisy) * (noise - back)
            rate = self.feedback_rates[i - 1]
            change = missing.T @ ((arrived[0] - arrived[1]) / SIGMA) / B
            Q.append((1 - rate * 0.1) * q + rate * change)
        self.Q = Q

    def learn_from_both_sides(self, t, h):
        """The gradient of L-DRL to first order in the noise; W as it has become."""
        Q = []
        for i, q in enumerate(self.Q, start=1):
            B, n, m = len(h[i]), h[i].shape[1], q.shape[1]
            own, above = self.noises(t, i, B, n, m)
            up, still = (self.s[i](now @ self.W[i].T) for now in (h[i] + SIGMA * own, h[i]))
            b_i = still @ q.T
            back = (self.s[i - 1]((still + SIGMA * above) @ q.T) - self.s[i - 1](b_i)) / SIGMA
            slope = self.ds[i - 1](b_i)
            change = (slope * own).T @ ((up - still) / SIGMA) - (slope * back).T @ above
            rate = self.feedback_rates[i - 1]
            Q.append((1 - rate * 0.1) * q + rate / B * change)
        self.Q = Q

    def learn_around_targets(self, t, target):
        """D 17, whose gradient comes down through f_{i+1}."""
        Q = []
        for i, q in enumerate(self.Q, start=1):
            B = len(target[i + 1])
            noisy = target[i + 1] + self.noise(t, i, B, q.shape[1])
            b_i = noisy @ q.T
            a = self.s[i - 1](b_i) @ self.W[i].T
            missing = self.s[i](a) - noisy
            down = (self.ds[i](a) * missing) @ self.W[i] * self.ds[i - 1](b_i)
            rate = self.feedback_rates[i - 1]
            Q.append((1 - rate * 0.1) * q - rate / B * down.T @ noisy)
        self.Q = Q


# ------------------------------------------------------------------ the same runs of neurosim


def weights_of(method, sizes, rng):
    """Well-conditioned forward weights, feedback weights of the method's shapes."""
    W = []
    for n_in, n in pairwise(sizes):
        u, _, vt = np.linalg.svd(rng.standard_normal((n, n_in)), full_matrices=False)
        W.append(u * rng.uniform(0.8, 1.2, min(n, n_in)) @ vt)
    match CREDITS[method].wiring:
        case "none":
            Q = []
        case "direct":
            Q = [rng.standard_normal((n, sizes[-1])) / 2 for n in sizes[1:-1]]
        case "from-input":
            Q = [np.linalg.pinv(w) / 2 for w in W]
        case "hidden":
            Q = [np.linalg.pinv(w) for w in W[1:-1]]
        case _:
            Q = [np.linalg.pinv(w) for w in W[1:]]
    return W, Q


def draws(seed, count):
    """The random layer and the white noise of iteration t, as a run draws them."""
    key = device_stream(seed, "noise")

    def layer(t):
        return int(random_layer(jax.random.fold_in(key, t), count + 1))

    def noise(t, i, batch, n):
        own = jax.random.split(jax.random.fold_in(jax.random.fold_in(key, t), 0), count)[i - 1]
        return np.asarray(jax.random.normal(own, (batch, n), "float64"))

    def noises(t, i, batch, below, above):
        own = jax.random.split(jax.random.fold_in(jax.random.fold_in(key, t), 0), count)[i - 1]
        pairs = zip(jax.random.split(own), (below, above), strict=True)
        return [np.asarray(jax.random.normal(k, (batch, n), "float64")) for k, n in pairs]

    return noise, layer, noises


FAMILY = [name for name, credit in CREDITS.items() if credit.own_channel]


@pytest.fixture
def double_precision():
    with jax.enable_x64(True):
        yield


OFTEN = ("dtp-ai", "rdtp-ai")
"""Methods that the usual tests look at; the others are variants of one line."""

SELDOM = [pytest.mark.long, pytest.mark.seldom]


@pytest.mark.parametrize(
    "method", [pytest.param(m, marks=[] if m in OFTEN else SELDOM) for m in FAMILY]
)
def test_a_hundred_iterations_as_in_the_algorithms(method, tmp_path, double_precision):
    rng = np.random.default_rng(3)
    sizes = [4, 5, 5, 5] if method.endswith("-ei") else [4, 6, 5, 3]
    batch = 1 if method.endswith("-ei") else 16
    W, Q = weights_of(method, sizes, rng)
    teacher, _ = weights_of(method, sizes, rng)
    x = rng.standard_normal((SAMPLES, sizes[0]))
    y = reduce(lambda h, w: h @ w.T, teacher, x)
    labels = y[:, :2] if method == "ao-sdtp" else y
    np.savez(tmp_path / "data.npz", x=x, y=labels, x_test=x, y_test=labels)
    arrays = {f"W{i}": w for i, w in enumerate(W, start=1)}
    first = 0 if method == "bdfa" else 1
    arrays |= {f"Q{i}": q for i, q in enumerate(Q, start=first)}
    np.savez(tmp_path / "weights.npz", **arrays)
    rates = [0.03, 0.02, 0.04] if method not in ("rmtp-ei",) else [0.006, 0.005, 0.008]
    feedback_rates = [0.02, 0.03, 0.04][: len(Q)]
    own = {
        "model.credit": {"name": method},
        "model.layers": sizes,
        "model.projections.W": {"init": "file", "file": str(tmp_path / "weights.npz")},
        "model.projections.W.rate": rates,
        "task": {"name": "arrays", "path": str(tmp_path / "data.npz")},
        "batch": batch,
        "shuffle": False,
        "schedule.final": 1.0,
        "stages": [
            {
                "name": "all",
                "presentations": ITERATIONS,
                "phases": [{"name": "rest", "plastic": ["forward", "feedback"]}],
            }
        ],
        "record": {"presentations": 0, "samples": 1},
    }
    if method == "ao-sdtp":
        own["model.auxiliary"] = 1
    if Q:
        own["model.credit"] |= {"init": "file", "decay": 0.1, "rate": feedback_rates}
        own["model.credit"] |= {"noise": SIGMA} if method in ("dtp-drl", "dtp-ldrl") else {}
    if CREDITS[method].feedback == "tied":
        own["model.credit"] = {"name": method, "init": "pseudo-inverse"}
    if CREDITS[method].feedback in ("fixed", "tied", "sherman-morrison"):
        own["stages"][0]["phases"][0]["plastic"] = ["forward"]
    protocol = ns.load_protocol("target-propagation", own)
    run = ns.run(protocol, seed=5, out=tmp_path / "trace.h5")
    trace = ns.open_trace(run.path)
    *drawn, noises = draws(5, max(len(Q), 2))
    reference = Reference(method, W, Q, rates, feedback_rates, *drawn)
    reference.noises = noises
    if method == "dtp":
        reference.noise = draws(5, 1)[0]
    for t in range(ITERATIONS):
        at = t * batch % SAMPLES
        reference.iterate(t, x[at : at + batch], y[at : at + batch])
    assert_followed(trace, reference, W, Q, first)


def assert_followed(trace, reference, W, Q, first=1):
    """The final weights are those of the account, and went somewhere."""
    method = reference.method
    for letter, expected, before, number in (
        ("W", reference.W, W, 1),
        ("Q", reference.Q, Q, first),
    ):
        for i, (w, w0) in enumerate(zip(expected, before, strict=True), start=number):
            found = trace[f"weights/{letter}{i}"].values[1]
            np.testing.assert_allclose(found, w, rtol=1e-6, atol=1e-9 * np.abs(w).max())
            if letter == "W" and (method != "bp-fixed" or i == 3):
                assert np.abs(w - w0).max() > 1e-2  # it went somewhere


# ------------------------------------------------------------------ batch normalisation


def mtp_protocol(**own):
    own = {
        "model.credit": "mtp",
        "model.layers": [6, 6, 6, 6],
        "task.layers": [6, 6, 6, 6],
        "task.train": 64,
        "task.test": 50,
        "model.projections.W.rate": 0.01,
        "stages.0.epochs": 3,
        "stages.0.phases.0.plastic": ["forward"],
    } | {key.replace("__", "."): value for key, value in own.items()}
    return ns.load_protocol("target-propagation", own)


@pytest.mark.long
@pytest.mark.seldom
def test_layers_of_modified_target_propagation_are_normalised(tmp_path):
    """Hidden units have mean 0 and variance 1 over every batch; recorded and evaluated so."""
    small = {"record__samples": 32, "model__target_step": 1e-5}
    run = ns.run(
        mtp_protocol(**small, model__projections__W__rate=100.0), out=tmp_path / "trace.h5"
    )
    trace = ns.open_trace(run.path)
    for i in (1, 2):
        rates = trace[f"traces/layer{i}/rate"].values[:, :, -1]  # presentation, sample, unit
        np.testing.assert_allclose(rates.mean(axis=1), 0, atol=1e-6)
        np.testing.assert_allclose(rates.var(axis=1), 1, atol=1e-3)  # 1e-5 is added to variances
    assert trace["evaluation/loss"].values[-1] < trace["evaluation/loss"].values[0]
    assert np.allclose(trace["metrics/cosine_gn"].values, 1)  # exact inverses, no kink crossed


@pytest.mark.seldom
@pytest.mark.long
def test_modified_target_propagation_learns_its_inverses_too(tmp_path, double_precision):
    """Feedback by white noise through normalised layers, from far away, ends at the inverses."""
    protocol = mtp_protocol(
        model__credit={"name": "mtp", "rule": "white-noise", "init": "random", "rate": 0.02},
        model__projections__W__init="orthogonal",
        model__projections__W__rate=0.0,
        stages__0__epochs=400,
        stages__0__phases__0__plastic=["feedback"],
    )
    trace = ns.open_trace(ns.run(protocol, out=tmp_path / "trace.h5").path)
    for i in (1, 2):
        W, Q = trace[f"weights/W{i + 1}"].values, trace[f"weights/Q{i}"].values
        assert np.abs(Q[0] @ W[0] - np.eye(6)).max() > 0.5
        np.testing.assert_allclose(Q[1] @ W[1], np.eye(6), atol=1e-3)
