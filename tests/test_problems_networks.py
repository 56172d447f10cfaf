"""Deep linear networks, stiff energies and the sine valley against integration."""

import pickle

import numpy as np
import pytest

import flows as fl

SPACE = fl.Euclidean()
TIGHT = fl.Adaptive(rtol=1e-12, atol=1e-14)
RNG = np.random.default_rng(7)
M = RNG.normal(size=(3, 3))
M = M + M.T
TARGET = RNG.normal(size=(3, 2))


def balanced(n, m, k, size=0.4):
    """W1 (k, n) and W2 (m, k) with W1 W1^T = W2^T W2."""
    scale = np.diag(size * (1.0 + np.arange(k)))
    left = np.linalg.qr(RNG.normal(size=(m, k)))[0]
    right = np.linalg.qr(RNG.normal(size=(n, k)))[0]
    middle = np.linalg.qr(RNG.normal(size=(k, k)))[0]
    return middle @ scale @ right.T, left @ scale @ middle.T


def integrated(p, t):
    flow = SPACE.flow(p.energy)
    return fl.solve(flow, p.initial, (0.0, t), fl.DOP853(), dt=TIGHT).u[-1]


EXACT = {
    "two weights": fl.problems.two_weights(),
    "two weights, opposite signs": fl.problems.two_weights((0.3, -1.2), 0.8),
    "two weights, negative target": fl.problems.two_weights((0.5, 0.2), -1.1),
    "two weights, feature": fl.problems.two_weights((0.5, 0.2), 0.7, feature=-1.7),
    "two weights, balanced": fl.problems.two_weights((0.1, 0.1), 1.0),
    "two weights, target 0": fl.problems.two_weights((1.0, 1.0), 0.0),
    "two weights, batch": fl.problems.two_weights(RNG.normal(size=(5, 2)), 0.9),
    "two layers": fl.problems.deep_scalar_network(2, 0.3, 1.4),
    "three layers": fl.problems.deep_scalar_network(3, 0.5, 1.0),
    "five layers": fl.problems.deep_scalar_network(5, 0.7, 2.0),
    "four layers from above": fl.problems.deep_scalar_network(4, 1.4, 0.6),
    "two layers from above": fl.problems.deep_scalar_network(2, 1.5, 0.6),
    "quartic": fl.problems.stiff_quartic((1.0, 40.0), (1.0, -2.0)),
    "quartic, line": fl.problems.stiff_quartic(3.0, 1.3),
    "log cosh": fl.problems.log_cosh((1.0, 2.5, 4.0), (1.0, -2.0, 0.0)),
    "log cosh, equal rates": fl.problems.log_cosh(2.0, (1.0, -2.0)),
}


@pytest.mark.parametrize("name", EXACT)
@pytest.mark.parametrize("t", [0.05, 0.7, 2.5])
def test_exact_paths_agree_with_integration(name, t):
    p = EXACT[name]
    assert np.abs(p.exact(0.0) - p.initial).max() <= 1e-14
    assert np.abs(integrated(p, t) - p.exact(t)).max() < 2e-11
    energy = SPACE.flow(p.energy).energy(0.0, p.exact(t))
    assert np.allclose(p.exact_energy(t), energy, rtol=1e-12, atol=1e-14)
    assert np.array_equal(pickle.loads(pickle.dumps(p)).exact(t), p.exact(t))


@pytest.mark.parametrize("r", [1, 2, 3, 4])
def test_the_factorization_of_every_rank_solves_the_riccati_equation(r):
    p = fl.problems.matrix_factorization(M, RNG.normal(size=(3, r)))
    for t in (0.1, 0.8, 2.0):
        X = integrated(p, t).reshape(3, r)
        assert np.abs(X @ X.T - p.constants["product"](t)).max() < 1e-10
        energy = SPACE.flow(p.energy).energy(0.0, X.reshape(-1))
        assert p.exact_energy(t) == pytest.approx(energy, abs=1e-10)


def test_the_factorization_ends_at_the_best_approximation_without_overflow():
    p = fl.problems.matrix_factorization(np.diag([3.0, 1.0, -2.0]), np.ones((3, 1)))
    assert np.abs(p.constants["product"](500.0) - np.diag([3.0, 0, 0])).max() < 1e-12
    assert p.exact_energy(500.0) == pytest.approx(p.constants["minimum"], rel=1e-12)
    assert p.constants["minimum"] == pytest.approx(0.25 * (1.0 + 4.0))


def test_hessian_and_gradients_of_products_are_derivatives():
    p = fl.problems.matrix_factorization(M, RNG.normal(size=(3, 2)))
    flow, u = SPACE.flow(p.energy), p.initial
    assert fl.check_gradient(flow, u).slope == pytest.approx(2.0, abs=0.1)
    e, w = 1e-6, RNG.normal(size=6)
    change = (flow.velocity(0.0, u + e * w) - flow.velocity(0.0, u - e * w)) / (2 * e)
    assert np.allclose(flow.jacobian(0.0, u) @ w, change, atol=1e-8)
    q = fl.problems.linear_network(TARGET, *balanced(2, 3, 2))
    assert fl.check_gradient(SPACE.flow(q.energy), q.initial).slope == pytest.approx(
        2.0, abs=0.1
    )


@pytest.mark.parametrize("k", [1, 2])
def test_a_balanced_network_has_the_product_of_the_formula(k):
    p = fl.problems.linear_network(TARGET, *balanced(2, 3, k))
    for t in (0.2, 1.0, 3.0):
        w = integrated(p, t)
        W1, W2 = w[: 2 * k].reshape(k, 2), w[2 * k :].reshape(3, k)
        assert np.abs(W2 @ W1 - p.constants["product"](t)).max() < 1e-10
        assert np.abs(W1 @ W1.T - W2.T @ W2).max() < 1e-10
        energy = SPACE.flow(p.energy).energy(0.0, w)
        assert p.exact_energy(t) == pytest.approx(energy, abs=1e-10)
    assert p.exact_energy(60.0) == pytest.approx(p.constants["minimum"], abs=1e-9)


def test_two_equal_layers_are_the_logistic_equation():
    u0, s, t = 0.04, 1.3, 2.1
    w = fl.problems.two_weights((0.2, 0.2), s).exact(t)
    grown = np.exp(2 * s * t)
    assert w[0] * w[1] == pytest.approx(s * u0 * grown / (u0 * (grown - 1) + s))
    deep = fl.problems.deep_scalar_network(2, 0.2, s).exact(t)
    assert np.allclose(w, deep, rtol=1e-13)


def test_two_weights_keep_the_imbalance_and_know_their_end():
    p = fl.problems.two_weights((2.8, 3.5), 0.6)
    for t in (0.0, 0.3, 2.0, 50.0, 1e4):
        a, b = p.exact(t)
        assert a * a - b * b == pytest.approx(p.constants["invariant"], rel=1e-13)
    assert p.constants["sum_of_squares"] == pytest.approx(4.57035, abs=5e-6)
    assert a * a + b * b == pytest.approx(p.constants["sum_of_squares"], rel=1e-13)
    assert a * b == pytest.approx(0.6, rel=1e-13)
    saddle = fl.problems.two_weights((0.7, -0.7), 1.0)
    assert np.abs(saddle.exact(40.0)).max() < 1e-15
    assert np.array_equal(fl.problems.two_weights((0.0, 0.0)).exact(3.0), [0.0, 0.0])


def test_a_small_balanced_start_loses_no_digits():
    from mpmath import mp, mpf

    mp.dps = 40
    u0, s, t = mpf(10) ** -20, mpf(1), mpf(24)
    grown = mp.exp(2 * s * t)
    product = s * u0 * grown / (u0 * (grown - 1) + s)
    a, b = fl.problems.two_weights((1e-10, 1e-10), 1.0).exact(24.0)
    assert a * b == pytest.approx(float(product), rel=1e-13)


def test_gradient_descent_multiplies_the_imbalance_by_one_minus_h_r_squared():
    p, h = fl.problems.two_weights((2.8, 3.5), 0.6), 0.05
    path = fl.solve(SPACE.flow(p.energy), p.initial, (0, 2), fl.Euler(), dt=h).u
    gap, r = path[:, 0] ** 2 - path[:, 1] ** 2, 0.6 - path[:, 0] * path[:, 1]
    assert np.abs(gap[1:] - gap[:-1] * (1 - (h * r[:-1]) ** 2)).max() < 4e-15
    assert abs(gap[-1] - gap[0]) > 0.1


def test_the_sine_valley_has_the_largest_constant_of_its_inequality():
    p = fl.problems.sine_valley()
    x = np.linspace(-12, 12, 200_001)
    x = x[x != 0.0]
    value, slope = x**2 + 3 * np.sin(x) ** 2, 2 * x + 3 * np.sin(2 * x)
    local = slope**2 / (2 * value)
    assert local.min() == pytest.approx(p.constants["mu"], rel=1e-7)
    assert local.min() >= p.constants["mu"] * (1 - 1e-12)
    assert (2 + 6 * np.cos(2 * x)).min() == pytest.approx(p.constants["convexity"])


def test_log_cosh_is_stable_far_out():
    p = fl.problems.log_cosh(2.0, (900.0, -900.0))
    assert np.allclose(p.exact(3.0), (894.0, -894.0), rtol=1e-15)
    assert p.exact_energy(0.0) == pytest.approx(4 * (900 - np.log(2)))


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: fl.problems.two_weights((1.0, 2.0, 3.0)), "expected \\(2,\\)"),
        (lambda: fl.problems.two_weights(feature=0.0), "must not be 0"),
        (lambda: fl.problems.deep_scalar_network(1), "at least 2"),
        (lambda: fl.problems.deep_scalar_network(3, -1.0), "greater than 0"),
        (lambda: fl.problems.matrix_factorization(M, np.ones(3)), "must be a matrix"),
        (
            lambda: fl.problems.linear_network(
                TARGET, np.ones((2, 2)), np.ones((2, 2))
            ),
            "must have the shape",
        ),
        (
            lambda: fl.problems.linear_network(
                TARGET, np.ones((2, 2)), np.zeros((3, 2))
            ),
            "must be balanced",
        ),
        (lambda: fl.problems.stiff_quartic(-1.0), "must be positive"),
        (lambda: fl.problems.log_cosh((1.0, 2.0, 3.0)), "expected a number or"),
    ],
)
def test_wrong_arguments_are_named(make, match):
    with pytest.raises(ValueError, match=match):
        make()
