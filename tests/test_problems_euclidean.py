"""Exact paths of vectors solve dx/dt = -grad V, through kinks and extinction."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.integrate import solve_ivp
from scipy.linalg import expm
from scipy.special import lambertw

import flows as fl
from flows import problems

LAMBDA = np.array([[2.0, 0.6], [0.6, 1.0]])
SINGULAR = np.array([[1.0, 1.0], [1.0, 1.0]])

SMOOTH = {
    "quadratic": (problems.quadratic, (LAMBDA, [1.0, -2.0], [0.3, 0.1], [1, 2])),
    "indefinite": (problems.quadratic, ([[0.0, 1.0], [1.0, 0.0]], [1.0, -2.0])),
    "singular": (problems.quadratic, (SINGULAR, [1.0, -2.0], [0.5, -0.2])),
    "batch": (problems.quadratic, ([1.0, 4.0], [[1.0, 2.0], [3.0, -1.0]])),
    "power 4": (problems.power, (4.0, [1.0, -0.5, 0.2])),
    "power 2.7": (problems.power, (2.7, -1.5)),
    "power 2": (problems.power, (2.0, [1.0, -0.5])),
    "power 1.5": (problems.power, (1.5, [1.0, -0.5])),
    "power 1": (problems.power, (1.0, [3.0, 4.0])),
    "double well": (problems.double_well, ([0.3, -2.0, 0.0],)),
    "logistic": (problems.logistic, ([-3.0, 0.5],)),
    "log barrier": (problems.log_barrier, ([0.3, 2.0],)),
}
smooth = pytest.mark.parametrize(
    ("factory", "arguments"), SMOOTH.values(), ids=SMOOTH.keys()
)


def velocity(p, x):
    return -sum(term.gradient_at(x) for term in p.energy.terms)


def slope(f, t, h):
    """Central difference of order 4."""
    near, far = f(t + h) - f(t - h), f(t + 2 * h) - f(t - 2 * h)
    return (8.0 * near - far) / (12.0 * h)


@smooth
def test_derivative_of_the_path_is_minus_the_gradient(factory, arguments):
    p = factory(*arguments)
    t = 0.4 * (p.t[0] + p.t[1])
    target = velocity(p, p.exact(t))
    errors = [np.abs(slope(p.exact, t, h) - target).max() for h in (0.04, 0.02, 0.01)]
    # Order 4 of the difference, until it meets rounding.
    assert errors[2] < 1e-6 * (1 + np.abs(target).max())
    assert errors[2] < errors[1] / 12 or errors[2] < 1e-11


@smooth
def test_path_agrees_with_an_independent_solver(factory, arguments):
    p = factory(*arguments)
    x0 = p.exact(0.0)
    sol = solve_ivp(
        lambda t, x: velocity(p, x.reshape(x0.shape)).ravel(),
        p.t,
        x0.ravel(),
        method="DOP853",
        rtol=1e-12,
        atol=1e-13,
    )
    assert np.allclose(sol.y[:, -1], p.exact(p.t[1]).ravel(), rtol=1e-9, atol=1e-10)


@smooth
def test_path_from_an_intermediate_point_is_the_same_path(factory, arguments):
    p = factory(*arguments)
    s, t = 0.3 * p.t[1], p.t[1]
    middle = p.exact(s)
    if factory in (problems.quadratic, problems.power):
        again = factory(arguments[0], middle, *arguments[2:])
    else:
        again = factory(middle)
    assert np.allclose(again.exact(t - s), p.exact(t), rtol=1e-12, atol=1e-14)


def test_quadratic_agrees_with_the_matrix_exponential():
    A, b = np.diag([3.0, 0.0]), np.array([0.5, -0.2])
    Q = np.linalg.qr(np.array([[1.0, 2.0], [-1.0, 1.0]]))[0]
    A, b = Q @ A @ Q.T, Q @ b
    x0 = np.array([1.0, -2.0])
    block = np.zeros((3, 3))
    block[:2, :2], block[:2, 2] = -A, b
    for t in (0.5, 20.0):
        x = expm(t * block) @ np.append(x0, 1.0)
        assert np.allclose(problems.quadratic(A, x0, b).exact(t), x[:2], rtol=1e-12)


def test_kernel_component_of_the_force_drifts_linearly_for_ever():
    p = problems.quadratic(SINGULAR, [0.0, 0.0], b=[1.0, -1.0])
    assert p.limit is None
    assert p.rate is None
    assert np.allclose(p.exact(1e9), [1e9, -1e9], rtol=1e-15)
    settled = problems.quadratic(SINGULAR, [3.0, 1.0], b=[1.0, 1.0])
    # The kernel direction (1, -1) keeps its start, the other goes to b/2.
    assert np.allclose(settled.limit, [1.5, -0.5])
    assert settled.rate == pytest.approx(4.0)
    assert settled.constants["minimum"] == pytest.approx(-0.5)


def test_quadratic_minimum_and_rate_are_sharp():
    p = problems.quadratic([1.0, 9.0], [1.0, 0.0], b=[2.0, 1.0], center=[0.5, 0.0])
    lowest = p.constants["minimum"]
    value = sum(term.value_at(p.limit) for term in p.energy.terms)
    assert value == pytest.approx(lowest, rel=1e-14)
    slow = problems.quadratic([1.0, 9.0], [1.0, 0.0])
    ratio = slow.exact_energy(2.0) / slow.exact_energy(1.0)
    assert ratio == pytest.approx(math.exp(-slow.rate), rel=1e-13)
    assert problems.quadratic(-1.0, [1.0]).limit is None
    assert problems.quadratic(0.0, [1.0]).limit.tolist() == [1.0]


def test_a_large_diagonal_stays_a_vector():
    n = 20_000
    p = problems.quadratic(np.linspace(1.0, 2.0, n), np.ones(n))
    assert np.allclose(p.exact(1.0), np.exp(-np.linspace(1.0, 2.0, n)))


@pytest.mark.parametrize("p", [1.0, 1.2, 1.5, 1.9])
def test_power_below_two_is_extinct_in_finite_time(p):
    problem = problems.power(p, [[3.0, 4.0], [0.0, 0.0], [0.3, 0.4]])
    ends = problem.constants["extinction"]
    assert np.allclose(ends, np.array([5.0, 0.0, 0.5]) ** (2 - p) / (2 - p))
    for k in (0, 2):
        assert np.abs(problem.exact(ends[k] * 0.999)[k]).max() > 0
        assert np.array_equal(problem.exact(ends[k] * 1.001)[k], [0.0, 0.0])
    assert np.array_equal(problem.exact(0.1)[1], [0.0, 0.0])
    assert np.isfinite(problem.exact_energy(0.1)).all()


@pytest.mark.parametrize("p", [1.0, 1.5, 2.0, 2.5, 4.0, 30.0])
@pytest.mark.parametrize("d", [1, 3])
def test_power_has_a_finite_energy_and_no_force_at_zero(p, d):
    problem = problems.power(p, np.zeros(d))
    assert np.array_equal(problem.exact(1.0), np.zeros(d))
    assert sum(term.value_at(np.zeros(d)) for term in problem.energy.terms) == 0.0
    assert np.array_equal(velocity(problem, np.zeros(d)), np.zeros(d))


def test_power_is_continuous_in_the_exponent():
    two = problems.power(2.0, 0.7).exact(1.3)
    for p in (2.0 - 1e-9, 2.0 + 1e-9):
        assert np.allclose(problems.power(p, 0.7).exact(1.3), two, rtol=1e-8)


@pytest.mark.parametrize("p", [1.0, 1.5, 3.0])
def test_minimizing_movements_follow_the_power_law(p):
    problem = problems.power(p, [0.6, 0.8], t=(0.0, 0.5))
    sol = fl.solve(
        fl.Euclidean().flow(problem.energy),
        problem.initial,
        problem.t,
        fl.MinimizingMovement(),
        dt=0.5 / 64,
        save_at=0.5,
    )
    # Exact for p = 1, of order 1 else.
    tolerance = 1e-13 if p == 1.0 else 4e-3
    assert np.abs(sol.u[-1] - problem.exact(0.5)).max() < tolerance


def test_double_well_does_not_overflow_and_keeps_its_saddle():
    p = problems.double_well([1e-3, 0.0, -1e3, 1e200])
    assert np.array_equal(p.exact(1e6), [1.0, 0.0, -1.0, 1.0])
    assert problems.double_well(0.0).rate is None


def test_logistic_solves_its_implicit_equation_up_to_a_million():
    x0 = np.array([-3.0, 0.5, 4.0])
    for t in (1e-8, 1.0, 100.0, 1e6):
        x = problems.logistic(x0).exact(t)
        assert np.allclose(x + np.exp(x), x0 + np.exp(x0) + t, rtol=1e-13)
    c = -3.0 + math.exp(-3.0) + 100.0
    assert problems.logistic(-3.0).exact(100.0)[0] == pytest.approx(
        c - lambertw(math.exp(c)).real, rel=1e-12
    )


def test_logistic_survives_extreme_starts():
    # Far on the left the speed is 1, far on the right e^-x.
    assert problems.logistic(-1e4).exact(10.0)[0] == pytest.approx(-9990.0, rel=1e-15)
    assert problems.logistic(800.0).exact(1e6)[0] == 800.0
    assert problems.logistic(600.0).exact(1e300)[0] == pytest.approx(
        math.log(1e300), rel=1e-12
    )
    # Both branches meet: x - x0 = log(1 + t e^-x0) for large x0.
    for x0 in (499.9, 500.1):
        t = math.exp(x0)
        assert problems.logistic(x0).exact(t)[0] == pytest.approx(
            x0 + math.log(2.0), rel=1e-14
        )


def test_logistic_decays_like_one_over_time():
    p = problems.logistic(0.0)
    assert p.exact_energy(1e6) * 1e6 == pytest.approx(1.0, abs=1e-4)
    assert p.limit is None


def test_absolute_value_walks_at_unit_speed_and_stops():
    p = problems.absolute_value([1.0, -0.4, 0.0])
    assert np.allclose(p.exact(0.3), [0.7, -0.1, 0.0])
    assert np.array_equal(p.exact(1.0), np.zeros(3))
    assert p.t == (0.0, 2.0)


LASSOS = [
    (2.0, 0.5, -1.0),
    (-2.0, 0.5, 1.0),
    (0.3, 0.5, 1.0),
    (0.3, 0.5, -1.0),
    (0.5, 0.5, 1.0),
    (-0.45, 0.5, 1.0),
    (0.45, 0.5, -1.0),
    (2.0, 0.5, 0.0),
    (-2.0, 0.5, 0.0),
    (0.0, 0.5, 0.0),
    (2.0, 0.0, -1.0),
    (2.0, 0.5, 5.0),
    (0.0, 0.0, 1.0),
]


@pytest.mark.parametrize(("b", "lam", "x0"), LASSOS)
def test_lasso_agrees_with_small_proximal_steps(b, lam, x0):
    p = problems.lasso(b, lam, x0)

    def error(h):
        x = x0
        for _ in range(round(1.5 / h)):
            w = (x + h * b) / (1 + h)
            x = math.copysign(max(abs(w) - h * lam / (1 + h), 0.0), w)
        return abs(x - float(p.exact(1.5)[0]))

    coarse, fine = error(1.5 / 256), error(1.5 / 1024)
    assert fine < 3e-3
    # Order 1 on average; at the kink the constant depends on where the steps fall.
    assert fine < 1e-12 or coarse / fine > 2.5


@pytest.mark.parametrize(("b", "lam", "x0"), LASSOS)
def test_lasso_velocity_is_the_least_subgradient(b, lam, x0):
    p = problems.lasso(b, lam, x0)
    for t in (0.05, 0.9, 1.7, 2.9):
        x, h = float(p.exact(t)[0]), 1e-4
        rate = float(slope(p.exact, t, h)[0])
        force = b - x
        least = math.copysign(max(abs(force) - lam, 0.0), force)
        expected = force - lam * np.sign(x) if x else least
        assert rate == pytest.approx(expected, abs=1e-9)


def test_lasso_rate_is_sharp_away_from_the_kink():
    p = problems.lasso(2.0, 0.5, 5.0)
    gap = [p.exact_energy(t) - p.constants["minimum"] for t in (0.0, 1.0)]
    assert gap[1] / gap[0] == pytest.approx(math.exp(-p.rate), rel=1e-12)


def test_lasso_of_several_coordinates_solves_in_euclidean_space():
    p = problems.lasso(1.0, 0.4, [-0.5, 2.0], t=(0.0, 2.0))
    sol = fl.solve(
        fl.Euclidean().flow(p.energy),
        p.initial,
        p.t,
        fl.MinimizingMovement(),
        dt=0.05,
        save_at=2.0,
    )
    assert np.abs(sol.u[-1] - p.exact(2.0)).max() < 2e-2


def test_paths_keep_the_shape_of_the_start():
    for x0 in (1.0, [1.0], [1.0, 2.0], [[1.0, 2.0]], [[1.0], [2.0]]):
        shape = np.atleast_1d(np.asarray(x0)).shape
        for name in (
            "quadratic",
            "power",
            "double_well",
            "logistic",
            "absolute_value",
            "lasso",
            "log_barrier",
        ):
            p = getattr(problems, name)(x0=x0)
            assert p.exact(0.1).shape == shape
            energy = p.exact_energy(0.1)
            assert isinstance(energy, float) if len(shape) == 1 else len(energy)


def test_a_runge_kutta_run_follows_the_double_well():
    p = problems.double_well(0.5)
    flow = fl.Euclidean().flow(p.energy)
    sol = fl.solve(flow, p.initial, p.t, fl.RK4(), dt=0.01, save_at=1.0)
    assert np.allclose(sol.u[-1], p.exact(1.0), atol=1e-9)
