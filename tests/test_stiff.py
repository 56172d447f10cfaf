"""Radau, Rosenbrock, BDF and Exponential: coefficients, orders, stiffness, control."""

import tracemalloc

import numpy as np
import pytest
from scheme_toys import (
    PROBLEMS,
    START,
    Linear,
    Pointwise,
    density,
    final,
    observed,
    run,
    trees_up_to,
    weight,
)
from scipy import sparse
from scipy.integrate import solve_ivp
from scipy.linalg import expm

import flows as fl
from flows.flow import Flow, Step
from flows.linear import NewtonFailure, Operator, Tridiagonal
from flows.loop import Runner
from flows.schemes import bdf, radau
from flows.schemes.linearized import time_slope
from flows.schemes.tableaus import RODASP

LINEARIZED = [fl.Radau(), fl.Rosenbrock(), fl.Exponential()]


class Given(Flow):
    """A flow from its velocity and Jacobian."""

    def __init__(self, velocity, jacobian):
        self.velocity, self.jacobian = velocity, jacobian


def rosenbrock_matrices():
    """alpha, gamma and the two rows of weights, from the transformed coefficients."""
    C, a = np.zeros((6, 6)), np.zeros((6, 6))
    for i in range(6):
        C[i, :i], a[i, :i] = RODASP.couplings[i], RODASP.stages[i]
    gamma = np.linalg.inv(np.eye(6) / RODASP.gamma - C)
    lower = a[5] @ gamma
    return a @ gamma, gamma, (a[5] + np.eye(6)[5]) @ gamma, lower


def test_radau_satisfies_the_collocation_conditions():
    A, c = np.array(radau.MATRIX), np.array(radau.NODES)
    for k in (1, 2, 3):
        np.testing.assert_allclose(A @ c ** (k - 1), c**k / k, atol=1e-15)
    b = A[2]
    for k in range(1, 6):
        assert abs(b @ c ** (k - 1) - 1.0 / k) < 1e-15
    assert abs(b @ c**5 - 1.0 / 6.0) > 1e-3
    np.testing.assert_allclose(np.array(radau.LAST) @ A, [0.0, 0.0, 1.0], atol=1e-15)
    values = [radau.REAL, radau.PAIR, radau.PAIR.conjugate()]
    np.testing.assert_allclose(np.prod(values), 1.0 / 60.0, atol=1e-16)
    V, W = np.array(radau.VECTORS, dtype=complex).T, np.array(radau.INVERSE)
    np.testing.assert_allclose(A @ V, V * np.array(values[:2]), atol=1e-14)
    np.testing.assert_allclose(W @ V, np.eye(2), atol=1e-14)


def test_the_embedded_method_of_radau_has_order_three():
    """g f(0) + sum e_i Z_i vanishes on slopes 1, t and t^2, times REAL."""
    A, c = np.array(radau.MATRIX), np.array(radau.NODES)
    e = np.array(radau.ERROR)
    assert abs(1.0 + e @ A.sum(axis=1)) < 1e-14
    for k in (1, 2):
        assert abs(e @ A @ c**k) < 1e-14
    assert abs(e @ A @ c**3) > 1e-2


def test_rosenbrock_satisfies_its_order_conditions():
    alpha, gamma, b, lower = rosenbrock_matrices()
    beta = alpha + gamma
    a, e = alpha.sum(axis=1), np.ones(6)
    np.testing.assert_allclose(a, RODASP.times, atol=1e-14)
    np.testing.assert_allclose(gamma.sum(axis=1), RODASP.slopes, atol=1e-14)

    def third(w):
        return [
            w @ e - 1,
            w @ beta @ e - 1 / 2,
            w @ a**2 - 1 / 3,
            w @ beta @ beta @ e - 1 / 6,
        ]

    fourth = [
        b @ a**3 - 1 / 4,
        (b * a) @ alpha @ beta @ e - 1 / 8,
        b @ beta @ a**2 - 1 / 12,
        b @ beta @ beta @ beta @ e - 1 / 24,
    ]
    np.testing.assert_allclose(third(b) + fourth + third(lower), 0.0, atol=1e-14)
    assert abs(lower @ a**3 - 1 / 4) > 1e-2
    # The conditions for parabolic equations, and the end at infinity.
    for j in range(5):
        power = np.linalg.matrix_power(beta, j)
        assert abs(b @ power @ (2 * beta @ beta @ e - a**2)) < 1e-14
    for w in (b, lower):
        assert abs(1.0 - w @ np.linalg.solve(beta, e)) < 1e-12


def test_the_start_of_bdf_satisfies_its_order_conditions():
    A = np.zeros((5, 5))
    for i, row in enumerate(bdf.ROWS):
        A[i, :i], A[i, i] = row, bdf.DIAGONAL
    np.testing.assert_allclose(A.sum(axis=1), bdf.TIMES, atol=1e-15)
    b, lower = A[4], A[4] - np.array(bdf.DIFFERENCE)
    for level, trees in enumerate(trees_up_to(4), 1):
        for tree in trees:
            assert abs(b @ weight(tree, A) - 1 / density(tree)) < 2e-15
            if level < 4:
                assert abs(lower @ weight(tree, A) - 1 / density(tree)) < 2e-15


@pytest.mark.parametrize("k", [1, 2, 3, 4, 5])
def test_bdf_formulas_are_exact_on_polynomials(k):
    rng = np.random.default_rng(k)
    distances = list(np.cumsum(rng.uniform(0.5, 2.0, size=k + 1)))
    weights, inverse = bdf.formula(distances[:k])
    times = -np.array(distances)
    for power in range(k + 1):
        slope = 1.0 if power == 1 else 0.0
        left = sum(w * t**power for w, t in zip(weights, times, strict=False))
        assert abs(left + inverse * slope - 0.0**power) < 1e-12
    # On t^(k+1) the estimate is the local error.
    power = k + 1
    local = sum(w * t**power for w, t in zip(weights, times, strict=False))
    miss = -sum(
        p * t**power for p, t in zip(bdf.extrapolation(distances), times, strict=False)
    )
    assert inverse / distances[k] * miss == pytest.approx(local, rel=1e-10)


def test_equal_steps_give_the_textbook_formulas():
    usual = {
        2: ([4 / 3, -1 / 3], 2 / 3),
        3: ([18 / 11, -9 / 11, 2 / 11], 6 / 11),
        4: ([48 / 25, -36 / 25, 16 / 25, -3 / 25], 12 / 25),
        5: ([300 / 137, -300 / 137, 200 / 137, -75 / 137, 12 / 137], 60 / 137),
    }
    for k, (weights, inverse) in usual.items():
        found = bdf.formula([float(j) for j in range(1, k + 1)])
        np.testing.assert_allclose(found[0], weights, atol=1e-14)
        assert found[1] == pytest.approx(inverse, rel=1e-14)


def coupled():
    """Two equations with time in every term, and their solution at 2."""

    def velocity(t, u):
        x, y = u[..., 0], u[..., 1]
        return np.stack(
            [-x + y * y * np.cos(t), -2.0 * y + np.sin(3.0 * t) * x], axis=-1
        )

    def jacobian(t, u):
        return np.array([[-1.0, 2.0 * u[1] * np.cos(t)], [np.sin(3.0 * t), -2.0]])

    u0 = np.array([1.0, 0.5])
    right = solve_ivp(velocity, (0, 2), u0, method="DOP853", rtol=3e-14, atol=1e-15)
    return Given(velocity, jacobian), u0, right.y[:, -1]


@pytest.mark.parametrize(
    ("scheme", "counts"),
    [
        (fl.Radau(), (12, 16, 24, 32)),
        (fl.Rosenbrock(), (24, 32, 48, 64)),
        (fl.Exponential(), (32, 48, 64, 96)),
    ],
    ids=repr,
)
def test_the_derivative_in_time_is_part_of_the_order(scheme, counts):
    flow, u0, right = coupled()
    errors = [np.linalg.norm(final(scheme, flow, u0, 2.0, n) - right) for n in counts]
    slope = observed(2.0 / np.array(counts), errors)
    assert scheme.order - 0.15 <= slope <= scheme.order + 0.3, (slope, errors)


@pytest.mark.parametrize("name", ["linear", "double well"])
@pytest.mark.parametrize("order", [1, 2, 3, 4, 5])
def test_bdf_has_the_order_it_is_given(order, name):
    flow, u0, exact, end = PROBLEMS[name]
    counts = (96, 128, 192, 256)
    errors = []
    for n in counts:
        taken = run(fl.BDF(order), flow, u0, [end / n] * n)
        errors.append(float(np.linalg.norm(taken[-1].u - exact(end, u0))))
        assert [s.error_order for s in taken] == [4] * order + [order + 1] * (n - order)
    slope = observed(end / np.array(counts), errors)
    assert order - 0.1 <= slope <= order + 0.2, (slope, errors)


@pytest.mark.parametrize("order", [2, 3, 4, 5])
def test_bdf_keeps_its_order_when_steps_vary(order):
    flow, u0, exact, end = PROBLEMS["double well"]
    pattern = np.array([1.0, 1.3, 0.8, 1.1, 0.9, 0.7, 1.2])
    counts, errors = (12, 16, 24, 32), []
    for n in counts:
        steps = np.tile(pattern, n)
        steps = list(steps * end / steps.sum())
        u = run(fl.BDF(order), flow, u0, steps)[-1].u
        errors.append(float(np.linalg.norm(u - exact(end, u0))))
    slope = observed(1.0 / np.array(counts), errors)
    assert order - 0.2 <= slope <= order + 0.5, (slope, errors)


def test_bdf_takes_lower_orders_for_longer_steps():
    """Steps that grow by half each time make order 5 unstable, order 2 not."""
    flow, steps = Linear(), [1e-9 * 1.5**k for k in range(50)]
    taken = run(fl.BDF(), flow, START, steps)
    exact = flow.exact(0.0, START, sum(steps), None)
    assert np.linalg.norm(taken[-1].u - exact) < 1e-2
    assert max(s.error_order for s in taken[8:]) <= 5
    jumps = run(fl.BDF(), flow, START, [1e-3] * 8 + [1e-2, 1e-3])
    assert [s.stats["resolvent_calls"] for s in jumps[-3:]] == [1, 5, 1]


def test_bdf_lowers_its_order_where_that_is_more_accurate():
    """Of a solution with jumps in its slope, high derivatives are no help."""
    saw = Pointwise(lambda t, u: np.sign(np.sin(40.0 * t)) - 0.0 * u, lambda t, u: 0.0)
    taken = run(fl.BDF(), saw, np.array([1.0]), [0.03] * 60)
    assert min(s.error_order for s in taken[5:]) <= 3


def radau_function(z):
    return (1 + 2 * z / 5 + z**2 / 20) / (1 - 3 * z / 5 + 3 * z**2 / 20 - z**3 / 60)


def rosenbrock_function(z):
    alpha, gamma, b, _ = rosenbrock_matrices()
    beta, e = alpha + gamma, np.ones(6)
    return np.array([1 + x * b @ np.linalg.solve(np.eye(6) - x * beta, e) for x in z])


FUNCTIONS = [
    (fl.Radau(), radau_function),
    (fl.Rosenbrock(), rosenbrock_function),
    (fl.Exponential(), np.exp),
]


@pytest.mark.parametrize(
    ("scheme", "function"), FUNCTIONS, ids=["Radau", "Rosenbrock", "Exponential"]
)
@pytest.mark.parametrize("h", [1e-3, 0.1, 1.0])
def test_iterates_on_a_quadratic_are_powers_of_the_stability_function(
    scheme, function, h
):
    rates = np.array([0.0, 1.0, 30.0, 1e4])
    flow = fl.Euclidean().flow(fl.quadratic(rates, center=[0.0, 2.0, -1.0, 0.5]))
    shift, u0 = np.array([0.0, 2.0, -1.0, 0.5]), np.array([1.0, -1.0, 2.0, 3.0])
    taken = run(scheme, flow, u0, [h] * 5)
    for k, step in enumerate(taken, 1):
        right = shift + function(-h * rates) ** k * (u0 - shift)
        np.testing.assert_allclose(step.u, right, atol=1e-12)


def test_the_stability_functions_vanish_at_infinity_and_stay_below_one():
    z = -np.logspace(-3, 12, 200)
    y = 1j * np.logspace(-3, 3, 200)
    for _, function in FUNCTIONS[:2]:
        assert np.abs(function(z)).max() < 1.0
        assert np.abs(function(z[-1:])) < 1e-10
        assert np.abs([abs(function(np.array([x]))) for x in y]).max() <= 1.0 + 1e-9


def test_exponential_is_exact_for_affine_velocities():
    rng = np.random.default_rng(0)
    Q = np.linalg.qr(rng.normal(size=(6, 6)))[0]
    rates = np.array([0.0, 0.0, 0.1, 1.0, 50.0, 1e4])
    X = np.eye(6) + 0.2 * rng.normal(size=(6, 6))
    b, c = rng.normal(size=(2, 6))
    u0 = rng.normal(size=6)
    symmetric = -(Q * rates) @ Q.T
    for A in (symmetric, X @ symmetric @ np.linalg.inv(X), np.diag(-rates)):
        flow = Given(lambda t, u, A=A: A @ u + b + t * c, lambda t, u, A=A: A)
        for h in (1e-3, 0.3, 1.0):
            big = np.zeros((8, 8))
            big[:6, :6], big[:6, 6], big[:6, 7], big[6, 7] = h * A, h * c, h * b, h
            right = (expm(big) @ np.array([*u0, 0.0, 1.0]))[:6]
            step = fl.Exponential().step(flow, 0.0, u0, h, None, ())
            # The velocity is known to rounding of A u only.
            np.testing.assert_allclose(step.u, right, atol=5e-10, rtol=0)
            assert np.abs(step.error).max() < 1e-8
    flow = Given(lambda t, u: -rates * u + b, lambda t, u: np.diag(-rates))
    safe = np.where(rates == 0, 1.0, rates)
    right = np.exp(-rates) * u0 + np.where(rates == 0, 1, -np.expm1(-rates) / safe) * b
    step = fl.Exponential().step(flow, 0.0, u0, 1.0, None, ())
    np.testing.assert_allclose(step.u, right, atol=1e-12)


@pytest.mark.parametrize("scheme", [*LINEARIZED[:2], fl.BDF()], ids=repr)
def test_stiff_forcing_is_followed_without_loss(scheme):
    """u' = -rate (u - cos t) - sin t: errors stay small however large the rate."""
    for rate in (1e3, 1e6, 1e9):
        flow = Given(
            lambda t, u, rate=rate: -rate * (u - np.cos(t)) - np.sin(t),
            lambda t, u, rate=rate: np.array([[-rate]]),
        )
        flow.resolvent = lambda t, w, h, memory, rate=rate: (
            (w + h * (rate * np.cos(t) - np.sin(t))) / (1.0 + h * rate),
            (),
        )
        u = final(scheme, flow, np.array([1.0]), 2.0, 32)
        assert abs(u[0] - np.cos(2.0)) < 1e-8


def test_time_slopes_are_found_and_known_to_vanish():
    flow = Pointwise(lambda t, u: np.sin(3.0 * t) * u - t**3, lambda t, u: 0.0)
    u = np.array([0.7, -1.3])
    slope, calls = time_slope(flow, 0.4, u, 0.1, flow.velocity(0.4, u))
    right = 3 * np.cos(1.2) * u - 3 * 0.16
    np.testing.assert_allclose(slope, right, rtol=1e-5)
    assert calls == 2
    still = Pointwise(lambda t, u: -u, lambda t, u: -1.0)
    assert time_slope(still, 0.4, u, 0.1, -u) == (None, 1)


def test_flows_that_begin_at_a_singular_time_are_run_from_it():
    """sqrt(t) is not defined before 0."""
    flow = Given(
        lambda t, u: -(np.sqrt(t) ** 3) * u,
        lambda t, u: np.array([[-(np.sqrt(t) ** 3)]]),
    )
    for scheme in (fl.Rosenbrock(), fl.Exponential()):
        u = final(scheme, flow, np.array([1.0]), 1.0, 50)
        assert abs(u[0] - np.exp(-0.4)) < 1e-5


def chain(n):
    """u' = n (u_{i-1} - 2 u_i + u_{i+1}) + u - u^3 with its Jacobian in every form."""

    def laplace(v):
        w = -2.0 * v
        w[..., 1:] += v[..., :-1]
        w[..., :-1] += v[..., 1:]
        return n * w

    def line(t, u):
        off = np.full(n - 1, float(n))
        return Tridiagonal(off, 1.0 - 3.0 * u * u - 2.0 * n, off)

    def operator(t, u):
        return Operator(lambda v: laplace(v) + (1.0 - 3.0 * u * u) * v)

    def velocity(t, u):
        return laplace(u) + u - u**3

    forms = {
        "line": line,
        "dense": lambda t, u: line(t, u).dense(),
        "sparse": lambda t, u: sparse.csr_array(line(t, u).dense()),
        "operator": operator,
        "any operator": lambda t, u: Operator(operator(t, u).product, False),
    }
    return {name: Given(velocity, form) for name, form in forms.items()}


@pytest.mark.parametrize("scheme", LINEARIZED, ids=repr)
def test_all_forms_of_the_jacobian_give_one_step(scheme):
    flows, u0 = chain(24), np.sin(np.linspace(0.0, 5.0, 24))
    dense = run(scheme, flows["dense"], u0, [0.05, 0.08])[-1]
    for flow in flows.values():
        step = run(scheme, flow, u0, [0.05, 0.08])[-1]
        np.testing.assert_allclose(step.u, dense.u, atol=1e-11)
        np.testing.assert_allclose(step.error, dense.error, atol=1e-9)


@pytest.mark.parametrize(
    ("scheme", "states"),
    [(fl.Radau(), 60), (fl.Rosenbrock(), 30), (fl.Exponential(), 40)],
    ids=repr,
)
def test_operators_take_a_fixed_number_of_states(scheme, states):
    n = 100_000
    u = np.sin(np.linspace(0.0, 20.0, n))

    def product(t, u):
        slope = 1.0 - 3.0 * u * u
        return Operator(lambda v: slope * v)

    flow = Given(lambda t, u: u - u**3, product)
    tracemalloc.start()
    step = scheme.step(flow, 0.0, u, 0.1, None, ())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < states * u.nbytes
    exact = u / np.sqrt(u * u + (1.0 - u * u) * np.exp(-0.2))
    assert np.abs(step.u - exact).max() < 1e-4


@pytest.mark.parametrize("scheme", [*LINEARIZED, fl.BDF()], ids=repr)
def test_flows_in_a_metric_are_solved(scheme):
    """The Jacobian -M^{-1} Hess V is not symmetric."""
    M = np.array([[2.0, 0.5], [0.5, 1.0]])
    flow = fl.Euclidean(metric=M).flow(fl.Potential("x**4/4 + y**2 + x*y"))
    u0 = np.array([1.0, -0.5])
    sol = fl.solve(flow, u0, (0, 2), scheme, dt=fl.Adaptive(rtol=1e-7, atol=1e-10))
    right = solve_ivp(flow.velocity, (0, 2), u0, rtol=1e-11, atol=1e-13)
    np.testing.assert_allclose(sol.u[-1], right.y[:, -1], atol=2e-6)


@pytest.mark.parametrize("scheme", [*LINEARIZED, fl.BDF()], ids=repr)
@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_members_of_a_batch_step_by_themselves(scheme, library):
    flow = fl.Euclidean().flow(fl.Potential("(x**2 - 1)**2/4 + 50*(y - x**2)**2"))
    u0 = np.array([[0.3, 0.0], [1.7, 1.0], [-0.1, 2.0]])
    start = u0
    if library == "torch":
        start = pytest.importorskip("torch").from_numpy(u0.copy())
    dt = fl.Adaptive(rtol=1e-6, atol=1e-9)
    sol = fl.solve(flow, start, (0, 2), scheme, dt=dt, save_at=[2.0])
    assert type(sol.u) is type(start)
    for i in range(3):
        right = solve_ivp(flow.velocity, (0, 2), u0[i], "LSODA", rtol=1e-11, atol=1e-13)
        np.testing.assert_allclose(np.asarray(sol.u[-1][i]), right.y[:, -1], atol=2e-5)


def test_radau_says_that_newton_fails_and_a_halved_step_goes_on():
    flow = fl.Euclidean().flow(fl.Potential("exp(8*x) + exp(-8*x)"))
    u0 = np.array([3.0])
    with pytest.raises(NewtonFailure, match="Radau stages does not converge") as caught:
        fl.Radau().step(flow, 0.0, u0, 1.0, None, ())
    assert len(caught.value.residuals) >= 2
    sol = fl.solve(flow, u0, (0, 1), fl.Radau(), dt=fl.Adaptive(rtol=1e-6))
    # exp(8 x) decays like 1/(64 t) until the other wall matters.
    assert sol.ok
    assert abs(sol.u[-1, 0]) < 1e-6
    assert sol.stats["newton_iterations"] > sol.stats["steps"]
    fixed = fl.solve(flow, np.array([0.5]), (0, 1), fl.Radau(), dt=0.03)
    assert fixed.stats["halved"] > 0
    assert abs(fixed.u[-1, 0]) < 1e-6


def test_the_controller_is_told_the_order_of_each_estimate():
    runner = Runner(SPACE.flow(fl.quadratic(1.0)), fl.BDF(), fl.Adaptive())
    assert runner.exponent(None) == 4
    assert runner.exponent(Step(np.ones(1))) == 4
    assert runner.exponent(Step(np.ones(1), error_order=2)) == 2


def test_bdf_starts_newton_again_where_the_extrapolation_fails():
    starts = []

    def resolvent(t, w, h, memory):
        starts.append(float(memory[0][0]))
        if len(starts) == 26:
            raise NewtonFailure("not from there", [1.0])
        v = w / (1.0 + h)
        return v, (v,)

    flow = Given(None, None)
    flow.resolvent = resolvent
    taken = run(fl.BDF(), flow, np.array([1.0]), [0.1] * 6)
    assert taken[-1].stats["resolvent_calls"] == 2
    assert starts[-1] == taken[-2].u[0]


def test_wrong_orders_are_named():
    for order in (0, 6, -1):
        with pytest.raises(ValueError, match="must be 1, 2, 3, 4 or 5"):
            fl.BDF(order)
    for order in (2.0, True, "5", None):
        with pytest.raises(TypeError, match="must be an integer from 1 to 5"):
            fl.BDF(order)


def barrier(t):
    return np.sqrt(1e-4 + 2.0 * t)


def power(t):
    u0 = np.array([1.0, 0.5])
    r = np.linalg.norm(u0)
    return u0 / r * (r**-2 + 2.0 * t) ** -0.5


SPACE = fl.Euclidean()
RATES = np.array([1.0, 100.0, 1e4])
CONTROLLED = {
    "quadratic": (fl.quadratic(RATES), np.ones(3), 1.0, lambda t: np.exp(-RATES * t)),
    "power": (fl.Potential("r**4/4"), np.array([1.0, 0.5]), 5.0, power),
    "double well": (
        fl.Potential("(x**2 - 1)**2/4"),
        np.array([0.1]),
        10.0,
        lambda t: 0.1 / np.sqrt(0.01 + 0.99 * np.exp(-2.0 * t)),
    ),
    "barrier": (fl.Potential("-log(x)"), np.array([0.01]), 10.0, barrier),
}


@pytest.mark.parametrize("name", CONTROLLED)
@pytest.mark.parametrize("scheme", [*LINEARIZED, fl.BDF()], ids=repr)
def test_the_error_follows_the_tolerance(scheme, name):
    energy, u0, end, exact = CONTROLLED[name]
    flow, right = SPACE.flow(energy), exact(end)
    for rtol in (1e-4, 1e-6, 1e-8):
        if rtol < 1e-7 and scheme == fl.Exponential():
            continue
        dt = fl.Adaptive(rtol=rtol, atol=1e-3 * rtol)
        sol = fl.solve(flow, u0, (0, end), scheme, dt=dt)
        error = np.linalg.norm(sol.u[-1] - right) / np.linalg.norm(right)
        assert error < 10.0 * rtol
        assert sol.stats["rejected"] <= 2 + 0.15 * sol.stats["steps"]


@pytest.mark.parametrize("name", CONTROLLED)
@pytest.mark.parametrize(
    ("scheme", "reference", "most"),
    [(fl.BDF(), "BDF", 1.1), (fl.Radau(), "Radau", 1.6)],
)
def test_no_more_steps_than_scipy(scheme, reference, most, name):
    energy, u0, end, _ = CONTROLLED[name]
    flow = SPACE.flow(energy)
    for rtol in (1e-4, 1e-6, 1e-8):
        dt = fl.Adaptive(rtol=rtol, atol=1e-3 * rtol)
        sol = fl.solve(flow, u0, (0, end), scheme, dt=dt)
        other = solve_ivp(
            flow.velocity,
            (0, end),
            u0,
            method=reference,
            rtol=rtol,
            atol=1e-3 * rtol,
            jac=flow.jacobian,
        )
        assert sol.stats["steps"] <= most * len(other.t)


@pytest.mark.parametrize("adaptive", [True, False])
def test_bdf_runs_densities_and_quantiles(adaptive):
    for space, problem, end in [
        (fl.Grid((-8, 8, 200)), fl.problems.ornstein_uhlenbeck(mean=1.5, std=0.5), 2.0),
        (fl.Quantiles(100), fl.problems.barenblatt(m=2, d=1), 1.1),
        (fl.Grid((-3, 3, 150)), fl.problems.barenblatt(m=2, d=1), 1.1),
    ]:
        flow, t = space.flow(problem.energy), (0.1, end)
        start = space.project(problem.exact(0.1))
        dt = fl.Adaptive(rtol=1e-4, atol=1e-7) if adaptive else 0.05
        sol = fl.solve(flow, start, t, fl.BDF(), dt=dt)
        error = space.distance(sol.u[-1], space.project(problem.exact(end)))
        assert error < 1e-3
        if hasattr(space, "mass"):
            assert space.mass(sol.u[-1]) == pytest.approx(space.mass(start), rel=1e-10)
