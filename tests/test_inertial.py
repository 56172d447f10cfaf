"""Heavy ball and Nesterov's equation: exact paths, orders, implicit steps, iterates."""

from __future__ import annotations

import pickle
import warnings

import numpy as np
import pytest
from scipy.special import jv

import flows as fl
from flows import theory
from flows.spaces.oscillator import responses

A = np.array([[2.0, 0.7], [0.7, 1.0]])
MIXED = fl.Potential("x**4/4 + x**2*y/3 + y**2 + cos(x)")
EXPLICIT = [
    fl.Euler(),
    fl.Heun(),
    fl.BogackiShampine(),
    fl.RK4(),
    fl.DormandPrince(),
    fl.Tsit5(),
    fl.DOP853(),
]
IMPLICIT = [fl.ImplicitEuler(), fl.TRBDF2(), fl.BDF2(), fl.SDIRK3()]


def end(flow, u0, t, scheme, dt):
    return fl.solve(flow, u0, t, scheme, dt=dt, save_at=[t[1]]).u[-1]


def slopes(errors):
    e = np.asarray(errors)
    return np.log2(e[:-1] / e[1:])


def graded(flow, u0, T, scheme, n, power):
    times = T * (np.arange(n + 1) / n) ** power
    return fl.solve(flow, u0, (0, T), scheme, dt=T, save_at=times).u[-1]


# States.


def test_a_start_packs_positions_at_rest_and_split_takes_them_apart():
    space = fl.HeavyBall()
    assert space.start([1, 2]) == pytest.approx(np.array([1.0, 2.0, 0.0, 0.0]))
    u = space.start(np.ones((3, 2)), [4.0, 5.0])
    assert u.shape == (3, 4)
    x, v = space.split(u)
    assert (x == 1.0).all()
    assert (v == [4.0, 5.0]).all()
    assert space.join(x, v) == pytest.approx(u)
    assert space.project(fl.Dirac([1.0, 2.0])) == pytest.approx([1.0, 2.0, 0, 0])
    assert space.project(fl.Empirical(np.ones((3, 2)))).shape == (3, 4)
    assert space.measure(u[0]).mean == pytest.approx([1.0, 1.0])
    assert space.measure(u).atoms.shape == (3, 2)
    assert space.distance(u, 2 * u) == pytest.approx(np.sqrt(43.0) * np.ones(3))


def test_a_dirac_starts_at_rest():
    p = fl.problems.nesterov(A, [1.0, -1.0])
    flow = fl.Nesterov().flow(p.energy)
    sol = fl.solve(flow, fl.Dirac([1.0, -1.0]), (0, 2.0), fl.RK4(), dt=0.01)
    assert sol.u[-1] == pytest.approx(p.exact(2.0), abs=1e-8)


def test_float32_and_torch_stay_what_they_are():
    torch = pytest.importorskip("torch")
    for space in (fl.HeavyBall(0.5), fl.Nesterov()):
        flow = space.flow(fl.quadratic(A))
        x = np.array([[1.0, 2.0], [0.5, -1.0]])
        for scheme in (fl.RK4(), fl.TRBDF2(), fl.FISTA(), fl.PolyakMomentum()):
            wide = end(flow, space.start(x), (0, 0.5), scheme, 0.1)
            narrow = end(flow, space.start(x.astype("float32")), (0, 0.5), scheme, 0.1)
            tensor = end(flow, space.start(torch.tensor(x)), (0, 0.5), scheme, 0.1)
            assert narrow.dtype == np.float32
            assert narrow == pytest.approx(wide, abs=1e-5)
            assert tensor.dtype == torch.float64
            assert tensor.numpy() == pytest.approx(wide, abs=1e-13)


def test_spaces_and_flows_pickle_and_print_as_typed():
    assert repr(fl.HeavyBall(0.5)) == "HeavyBall(0.5)"
    assert repr(fl.Nesterov(4, dtype="float32")) == "Nesterov(4, dtype='float32')"
    for space in (fl.HeavyBall(2.0), fl.Nesterov(5.0)):
        flow = pickle.loads(pickle.dumps(space.flow(fl.quadratic(A))))
        assert flow.space == space
        u = space.start([1.0, 2.0], [0.5, 0.0])
        again = space.flow(fl.quadratic(A))
        assert (flow.velocity(1.0, u) == again.velocity(1.0, u)).all()


# Exact paths.


@pytest.mark.parametrize("friction", [0.0, 0.5, 2.0, 2.0 * np.sqrt(3.0), 7.0, 300.0])
def test_the_heavy_ball_is_exact_in_every_regime(friction):
    from scipy.linalg import expm

    stiff = np.diag([3.0, 1.0, 0.0, -0.2, 40.0])
    Q = np.linalg.qr(np.random.default_rng(1).normal(size=(5, 5)))[0]
    B = Q @ stiff @ Q.T
    B = 0.5 * (B + B.T)
    x, v, b = np.random.default_rng(2).normal(size=(3, 5))
    space = fl.HeavyBall(friction)
    flow = space.flow(fl.quadratic(B, b=b))
    M = np.zeros((11, 11))
    M[:5, 5:10], M[5:10, :5] = np.eye(5), -B
    M[5:10, 5:10], M[5:10, 10] = -friction * np.eye(5), b
    u = space.start(x, v)
    for h in (1e-3, 0.7, 3.0):
        exact = (expm(h * M) @ np.append(u, 1.0))[:10]
        found = flow.exact(0.0, u, h)
        assert found == pytest.approx(exact, rel=1e-9, abs=1e-10)
        two = flow.exact(0.0, flow.exact(0.0, u, 0.4 * h), 0.6 * h)
        assert two == pytest.approx(found, rel=1e-9, abs=1e-10)


def test_the_responses_of_an_oscillator_do_not_cancel():
    # p'' + g p' + l p = 1 for small t is t^2/2, and with l = 0 (t - s)/g.
    p, s, q = responses(np.array([0.0, 1e-12, 1e6, -3.0]), 2.0, 1e-6)
    assert p == pytest.approx(0.5e-12, rel=1e-5)
    assert s == pytest.approx(1e-6, rel=1e-5)
    assert q == pytest.approx(1.0, rel=1e-5)
    p, s, _ = responses(0.0, 3.0, 10.0)
    assert s == pytest.approx(-np.expm1(-30.0) / 3.0, rel=1e-14)
    assert p == pytest.approx((10.0 - s) / 3.0, rel=1e-14)
    p, s, q = responses(4.0, 4.0, 5.0)
    decay = np.exp(-10.0)
    assert s == pytest.approx(5.0 * decay, rel=1e-12)
    assert q == pytest.approx(-9.0 * decay, rel=1e-12)
    close, _, _ = responses(4.0 * (1.0 - 1e-9), 4.0, 5.0)
    assert close == pytest.approx(p, rel=1e-8)


def test_members_of_a_batch_may_have_their_own_steps():
    space = fl.HeavyBall(0.7)
    u = space.start(np.random.default_rng(0).normal(size=(3, 2)), [1.0, 2.0])
    h, t = np.array([[0.1], [0.5], [2.0]]), np.array([[1.0], [2.0], [3.0]])
    other = fl.Nesterov(3.5).flow(fl.quadratic(A, b=[1.0, 0.0]))
    for flow in (space.flow(fl.quadratic(A, b=[1.0, 0.0])), other):
        rows = [
            flow.resolvent(float(t[i, 0]), u[i], float(h[i, 0]), ())[0]
            for i in range(3)
        ]
        assert flow.resolvent(t, u, h, ())[0] == pytest.approx(np.array(rows))
        one = np.array(
            [flow.velocity(float(s[0]), w) for s, w in zip(t, u, strict=True)]
        )
        assert flow.velocity(t, u) == pytest.approx(one)
        for scheme in (fl.FISTA(), fl.PolyakMomentum()):
            many = scheme.step(flow, t, u, h, None, ()).u
            for i in range(3):
                step = scheme.step(flow, float(t[i, 0]), u[i], float(h[i, 0]), None, ())
                assert many[i] == pytest.approx(step.u)
    flow = space.flow(fl.quadratic(A))
    rows = [flow.exact(0.0, w, float(s[0])) for s, w in zip(h, u, strict=True)]
    assert flow.exact(0.0, u, h) == pytest.approx(np.array(rows))
    assert flow.norm(u).shape == (3,)
    assert isinstance(flow.norm(u[0]), float)


def test_nesterov_on_a_quadratic_is_a_bessel_function():
    t = np.array([0.5, 3.0, 20.0])
    p = fl.problems.nesterov(4.0, 1.0, 3.0, t=(0.0, 20.0))
    z = 2.0 * t
    path = np.array([p.exact(s) for s in t])
    assert path[:, 0] == pytest.approx(2.0 * jv(1, z) / z, rel=1e-12)
    assert path[:, 1] == pytest.approx(-4.0 * jv(2, z) / z, rel=1e-12)
    assert p.exact(0.0) == pytest.approx([1.0, 0.0])
    flow = fl.Nesterov(3.0).flow(p.energy)
    tight = fl.Adaptive(rtol=1e-11, atol=1e-13)
    sol = fl.solve(flow, p.exact(0.0), p.t, fl.DOP853(), dt=tight, save_at=t)
    assert sol.u == pytest.approx(path, abs=1e-9)
    assert sol.energy == pytest.approx([p.exact_energy(s) for s in t], abs=1e-9)


@pytest.mark.parametrize("r", [0.5, 1.0, 3.0, 6.5])
@pytest.mark.parametrize("A", [[4.0, -0.5], [[1.0, 1.0], [1.0, 1.0]]], ids=str)
def test_nesterov_problems_solve_their_equation(r, A):
    p = fl.problems.nesterov(A, [1.0, -0.3], r, center=[0.5, 0.0])
    flow = fl.Nesterov(r).flow(p.energy)
    for t in (0.3, 2.0):
        h = 1e-3
        rate = (p.exact(t + h) - p.exact(t - h)) / (2 * h)
        assert rate == pytest.approx(flow.velocity(t, p.exact(t)), abs=1e-5)
        assert p.exact_energy(t) == pytest.approx(flow.energy(t, p.exact(t)))


@pytest.mark.parametrize("friction", [0.0, 1.0, 2.0, 9.0])
def test_heavy_ball_problems_solve_their_equation(friction):
    p = fl.problems.heavy_ball(
        [1.0, 4.0], [[1.0, -0.3], [2.0, 0.0]], [0.5, 1.0], friction, center=1.0
    )
    flow = fl.HeavyBall(friction).flow(p.energy)
    assert p.exact(0.0) == pytest.approx(p.initial)
    assert flow.exact(0.0, p.exact(0.0), 1.3) == pytest.approx(p.exact(1.3), abs=1e-13)
    rate = (p.exact(1.001) - p.exact(0.999)) / 2e-3
    assert rate == pytest.approx(flow.velocity(1.0, p.exact(1.0)), abs=1e-4)
    assert p.exact_energy(2.0) == pytest.approx(flow.energy(2.0, p.exact(2.0)))
    assert (p.limit is None) == (friction == 0.0)
    if friction:
        far = np.abs(p.exact(60.0) - p.limit).max()
        assert far < 20 * np.exp(-60.0 * p.constants["decay"] * 0.9)


# Orders.


@pytest.mark.parametrize("scheme", EXPLICIT + IMPLICIT, ids=repr)
def test_schemes_keep_their_order_on_the_heavy_ball(scheme):
    space = fl.HeavyBall(0.8)
    flow = space.flow(MIXED)
    u0 = space.start([1.0, -0.7])
    exact = end(flow, u0, (0, 2), fl.DOP853(), 0.01)
    sizes = 1 / np.array([2, 4, 8, 16] if scheme.order > 4 else [16, 32, 64, 128])
    errors = [np.abs(end(flow, u0, (0, 2), scheme, h) - exact).max() for h in sizes]
    assert np.mean(slopes(errors)[1:]) > scheme.order - 0.4


@pytest.mark.parametrize("r", [0.5, 1.0, 2.0, 3.0, 6.0])
@pytest.mark.parametrize("scheme", EXPLICIT + IMPLICIT, ids=repr)
def test_equal_steps_from_zero_have_the_stated_order(scheme, r):
    space = fl.Nesterov(r)
    flow = space.flow(MIXED)
    u0 = space.start([1.0, -0.7])
    exact = graded(flow, u0, 1.0, fl.DOP853(), 120, 3)
    counts = [8, 16, 32, 64] if scheme.order > 3 else [32, 64, 128]
    errors = [
        np.abs(end(flow, u0, (0, 1), scheme, 1 / n) - exact).max() for n in counts
    ]
    mean = np.mean(slopes(errors))
    assert mean > min(scheme.order, 3.0 + r, 6.0) - 0.5
    if scheme.order == 8:
        assert mean < 7.2


@pytest.mark.parametrize("r", [0.5, 3.0])
@pytest.mark.parametrize("scheme", [fl.DormandPrince(), fl.DOP853()], ids=repr)
def test_graded_steps_from_zero_restore_the_order(scheme, r):
    space = fl.Nesterov(r)
    flow = space.flow(MIXED)
    u0 = space.start([1.0, -0.7])
    exact = graded(flow, u0, 1.0, fl.DOP853(), 120, 3)
    counts = [6, 12, 24] if scheme.order == 8 else [16, 32, 64]
    errors = [np.abs(graded(flow, u0, 1.0, scheme, n, 3) - exact).max() for n in counts]
    assert np.mean(slopes(errors)) > scheme.order - 0.6


def test_adaptive_steps_meet_their_tolerance_from_zero():
    p = fl.problems.nesterov([1.0, 30.0], [1.0, 1.0])
    flow = fl.Nesterov().flow(p.energy)
    for scheme in (fl.DormandPrince(), fl.DOP853(), fl.TRBDF2(), fl.SDIRK3()):
        sol = fl.solve(
            flow, p.exact(0.0), (0, 3), scheme, dt=fl.Adaptive(rtol=1e-7, atol=1e-8)
        )
        assert sol.u[-1] == pytest.approx(p.exact(3.0), abs=2e-5)


# Implicit steps.


@pytest.mark.parametrize("h", [1e-6, 0.1, 10.0])
@pytest.mark.parametrize(
    "space", [fl.HeavyBall(0.0), fl.HeavyBall(3.0), fl.Nesterov()], ids=repr
)
def test_implicit_steps_solve_their_equation(space, h):
    rng = np.random.default_rng(0)
    for energy in (fl.quadratic([1.0, 1e6]), fl.separable("x**4/4 + exp(x)")):
        flow = space.flow(energy)
        w = rng.normal(size=(4, 4))
        v, memory = flow.resolvent(2.0, w, h, ())
        assert memory[0] is v
        x, speed = space.split(v)
        residual = v - w - h * flow.velocity(2.0, v)
        scale = 1 + np.abs(v) + np.abs(w) + h * np.abs(flow.velocity(2.0, v))
        stiff = np.concatenate(
            [0 * x, h * np.abs(energy.terms[0].hessian_at(x)).sum(-1) * np.abs(x)], -1
        )
        assert (np.abs(residual) <= 1e-12 * (scale + stiff)).all()
        short = np.abs(speed - space.split(w)[1])
        if h == 1e-6:
            # Velocities keep their digits in short steps.
            gain = h * np.abs(space.split(flow.velocity(2.0, v))[1])
            assert short == pytest.approx(gain, rel=1e-6, abs=1e-15)


def test_implicit_steps_go_through_stiff_springs_and_kinks():
    space = fl.HeavyBall(1.0)
    flow = space.flow(fl.quadratic([1.0, 1e8]))
    sol = fl.solve(flow, space.start([1.0, 0.0]), (0, 5), fl.TRBDF2(), dt=0.01)
    assert sol.u[-1] == pytest.approx(flow.exact(0.0, sol.u[0], 5.0), abs=1e-4)
    flow = space.flow(fl.Potential("abs(x)"))
    sol = fl.solve(flow, space.start([1.0]), (0, 30), fl.ImplicitEuler(), dt=0.01)
    assert sol.u[-1] == pytest.approx([0.0, 0.0], abs=1e-12)


def test_the_default_scheme_is_that_of_the_first_order_flow():
    space = fl.Nesterov()
    flow = space.flow(fl.Potential("x**4"))
    assert flow.default() == flow.base.default() == ("TRBDF2", None)
    assert fl.solve(flow, space.start([1.0]), (0, 1)).ok


def test_jacobians_are_derivatives_of_the_velocity():
    for space in (fl.HeavyBall(0.7), fl.Nesterov(4.0)):
        flow = space.flow(MIXED)
        u = space.start(np.array([[1.0, -0.5], [0.2, 2.0]]), [0.3, 1.0])
        J = flow.jacobian(1.5, u)
        assert J.shape == (2, 4, 4)
        for k, e in enumerate(np.eye(4)):
            rise = flow.velocity(1.5, u + 1e-5 * e) - flow.velocity(1.5, u - 1e-5 * e)
            assert J[..., k] == pytest.approx(rise / 2e-5, abs=1e-8)


# Splittings.


@pytest.mark.parametrize(("word", "order"), [("BAOAB", 2), ("ABOBA", 2), ("AOB", 1)])
def test_splittings_of_the_heavy_ball_have_their_order(word, order):
    space = fl.HeavyBall(1.3)
    for energy in (MIXED, fl.Potential("(x - sin(2*t))**4/4 + (x - y)**2")):
        flow = space.flow(energy)
        u0 = space.start([1.0, -0.7])
        exact = end(flow, u0, (0, 1), fl.DOP853(), 0.01)
        errors = [
            np.abs(end(flow, u0, (0, 1), fl.Splitting(word), h) - exact).max()
            for h in (1 / 16, 1 / 32, 1 / 64)
        ]
        assert slopes(errors)[-1] == pytest.approx(order, abs=0.15)


def test_the_parts_add_up_to_the_flow_and_have_its_maps():
    space = fl.HeavyBall(1.3)
    flow = space.flow(MIXED)
    u = space.start(np.array([[1.0, 0.3]]), [0.2, -1.0])
    parts = flow.parts()
    assert sum(p.velocity(0.0, u) for p in parts.values()) == pytest.approx(
        flow.velocity(0.0, u)
    )
    for part in parts.values():
        rate = (part.exact(0.0, u, 1e-6) - part.exact(0.0, u, -1e-6)) / 2e-6
        assert rate == pytest.approx(part.velocity(0.0, u), abs=1e-8)
        h = np.array([[0.3]])
        assert part.exact(0.0, u, h) == pytest.approx(part.exact(0.0, u, 0.3))


def test_without_friction_a_splitting_keeps_the_energy_for_long():
    space = fl.HeavyBall(0.0)
    flow = space.flow(fl.Potential("x**4/4"))
    sol = fl.solve(flow, space.start([1.0]), (0, 200), fl.Splitting("BAOAB"), dt=0.05)
    total = theory.lyapunov(sol)
    assert np.abs(total / total[0] - 1).max() < 5e-3


# Lyapunov functions.


def test_lyapunov_functions_fall_while_the_energy_ripples():
    energy = fl.Potential("(x - y)**4/4 + x**2/50 + log(cosh(y))")
    for space in (fl.HeavyBall(0.2), fl.Nesterov(3.0), fl.Nesterov(5.0)):
        flow = space.flow(energy)
        sol = fl.solve(
            flow,
            space.start([3.0, 1.0]),
            (0, 30),
            fl.DOP853(),
            dt=fl.Adaptive(rtol=1e-10, atol=1e-12),
        )
        assert (sol.energy - np.minimum.accumulate(sol.energy)).max() > 1e-4
        values = theory.lyapunov(sol, minimizer=np.zeros(2))
        assert values.shape == sol.t.shape
        if isinstance(space, fl.Nesterov):
            assert np.diff(values).max() < 1e-7 * values[0]
            assert values[0] == pytest.approx(0.5 * (space.r - 1) ** 2 * 10.0)
            later = sol.t > 0
            bound = values[0] / sol.t[later] ** 2
            assert (sol.energy[later] <= bound * (1 + 1e-9)).all()
        else:
            assert np.diff(theory.lyapunov(sol)).max() < 1e-7


def test_the_heavy_ball_reaches_the_strongly_convex_rate():
    mu = 0.5
    for friction in (0.3, 2 * np.sqrt(mu)):
        space = fl.HeavyBall(friction)
        flow = space.flow(fl.Potential("x**4/4 + (x - y)**2 + x**2/4 + y**2/4"))
        sol = fl.solve(flow, space.start([2.0, -1.0]), (0, 20), fl.RK4(), dt=0.02)
        values = theory.lyapunov(sol, minimizer=[0.0, 0.0], minimum=0.0)
        decay = np.exp(-0.5 * friction * np.diff(sol.t))
        assert (values[1:] <= values[:-1] * decay * (1 + 1e-5)).all()


def test_lyapunov_values_of_a_batch_and_of_batched_times():
    space = fl.Nesterov(4.0)
    flow = space.flow(fl.quadratic(A))
    u = space.start(np.array([[1.0, 0.0], [0.0, 2.0]]), [1.0, 0.0])
    each = [flow.lyapunov(1.5, row) for row in u]
    assert flow.lyapunov(1.5, u) == pytest.approx(each)
    assert flow.lyapunov(1.5 * np.ones((2, 1)), u) == pytest.approx(each)
    assert isinstance(each[0], float)


# Discrete methods.


@pytest.mark.parametrize("r", [3.0, 5.5])
def test_fista_iterates_are_products_of_companion_matrices(r):
    h, x0 = 0.4, np.array([1.0, -2.0])
    space = fl.Nesterov(r)
    sol = fl.solve(
        space.flow(fl.quadratic(A)), space.start(x0), (0, 40 * h), fl.FISTA(), dt=h
    )
    assert len(sol.t) == 41
    for k in (0, 1, 2, 7, 40):
        exact = theory.nesterov_iterate(A, x0, h * h, r, k)
        assert sol.u[k, :2] == pytest.approx(exact, abs=1e-14)


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
def test_momentum_iterates_are_powers_of_the_companion_matrix(momentum):
    rate, x0 = 0.09, np.array([1.0, -2.0])
    h = np.sqrt(rate)
    space = fl.HeavyBall(2 * (1 - momentum) / ((1 + momentum) * h))
    sol = fl.solve(
        space.flow(fl.quadratic(A)),
        space.start(x0),
        (0, 30 * h),
        fl.PolyakMomentum(),
        dt=h,
    )
    assert len(sol.t) == 31
    for k in (0, 1, 2, 7, 30):
        exact = theory.polyak_iterate(A, x0, rate, momentum, k)
        assert sol.u[k, :2] == pytest.approx(exact, abs=1e-14)


@pytest.mark.parametrize("space", [fl.Nesterov(), fl.HeavyBall(1.0)], ids=repr)
@pytest.mark.parametrize("scheme", [fl.FISTA(), fl.PolyakMomentum()], ids=repr)
def test_discrete_methods_converge_to_the_equation_at_order_one(space, scheme):
    flow = space.flow(MIXED)
    u0 = space.start([1.0, -0.7])
    exact = graded(flow, u0, 2.0, fl.DOP853(), 100, 2)
    errors = [
        np.abs(end(flow, u0, (0, 2), scheme, 2 / n) - exact).max()
        for n in (64, 128, 256, 512)
    ]
    assert slopes(errors)[-1] == pytest.approx(1.0, abs=0.12)


def test_fista_keeps_its_bound_and_beats_gradient_descent():
    d = 40
    lap = 2 * np.eye(d) - np.eye(d, k=1) - np.eye(d, k=-1)
    x0 = np.ones(d)
    energy, s = fl.quadratic(lap), 0.25
    h, space = 0.5, fl.Nesterov()
    sol = fl.solve(space.flow(energy), space.start(x0), (0, 200 * h), fl.FISTA(), dt=h)
    k = np.arange(1, 201)
    bound = 2.0 * d / (s * (k + 1.0) ** 2)
    assert (sol.energy[1:] <= bound).all()
    plain = fl.solve(fl.Euclidean().flow(energy), x0, (0, 200 * s), fl.Euler(), dt=s)
    assert sol.energy[150:].max() < 0.1 * plain.energy[-1]


def test_fista_takes_the_proximal_step_of_a_kink():
    space, h = fl.Nesterov(), 0.3
    flow = space.flow(fl.Potential("abs(x)"))
    sol = fl.solve(flow, space.start([1.0]), (0, 3.0), fl.FISTA(), dt=h)
    x, before = np.array([1.0]), np.array([1.0])
    for k in range(10):
        beta = (k - 1) / (k + 2) if k else 0.0
        y = x + beta * (x - before)
        x, before = np.sign(y) * np.maximum(np.abs(y) - h * h, 0.0), x
        assert sol.u[k + 1, 0] == pytest.approx(x[0], abs=1e-14)


def test_fista_splits_a_sum_into_its_smooth_part_and_its_kink():
    b, x0, h = np.array([1.0, -0.3]), np.array([1.0, 1.0]), 0.5
    space = fl.Nesterov()
    flow = space.flow(fl.quadratic(A, b=b) + fl.nonsmooth.l1(0.4))
    sol = fl.solve(flow, space.start(x0), (0, 80 * h), fl.FISTA(), dt=h)
    x, before = x0, x0
    for k in range(80):
        beta = (k - 1) / (k + 2) if k else 0.0
        y = x + beta * (x - before)
        y = y - h * h * (A @ y - b)
        x, before = np.sign(y) * np.maximum(np.abs(y) - h * h * 0.4, 0.0), x
        assert sol.u[k + 1, :2] == pytest.approx(x, abs=1e-14)
    # The conditions of optimality.
    slope = A @ x - b
    active = np.abs(x) > 1e-9
    assert slope[active] == pytest.approx(-0.4 * np.sign(x[active]), abs=1e-4)
    assert (np.abs(slope[~active]) <= 0.4 + 1e-9).all()


def test_discrete_methods_need_a_second_order_flow():
    flow = fl.Euclidean().flow(fl.quadratic(1.0))
    with pytest.raises(TypeError, match="momentum"):
        fl.solve(flow, np.ones(1), (0, 1), fl.FISTA(), dt=0.1)


# Refusals.


def test_odd_states_are_refused_with_the_remedy():
    for space in (fl.HeavyBall(), fl.Nesterov()):
        flow = space.flow(fl.quadratic(1.0))
        with pytest.raises(ValueError, match=r"space\.start\(x0\)"):
            fl.solve(flow, np.ones(3), (0, 1), fl.RK4(), dt=0.1)
        with pytest.raises(ValueError, match=r"positions followed by velocities"):
            space.admit(np.ones((2, 2, 2)))


def test_positions_alone_are_told_from_states():
    space, x0 = fl.Nesterov(), np.array([1.0, 1.0])
    for energy in (fl.quadratic([1.0, 4.0]), fl.Potential("x**2 + y**2")):
        flow = space.flow(energy)
        with pytest.raises(ValueError, match=r"takes \(4,\) or \(b, 4\).*start\(x0\)"):
            fl.solve(flow, x0, (0, 1))
        assert fl.solve(flow, space.start(x0), (0, 1)).ok
    assert flow.space == space


@pytest.mark.parametrize("space", [fl.HeavyBall(0.5), fl.Nesterov()], ids=repr)
def test_large_jacobians_are_sparse_or_operators(space):
    torch = pytest.importorskip("torch")
    n = 3000
    x = np.linspace(-1.0, 2.0, n)
    w = np.random.default_rng(0).normal(size=2 * n)

    def product(flow, u):
        step = 1e-6
        return (flow.velocity(1.0, u + step * w) - flow.velocity(1.0, u - step * w)) / (
            2 * step
        )

    flow, u = space.flow(fl.separable("x**4/4 + x**2")), space.start(x)
    J = flow.jacobian(1.0, u)
    assert J.shape == (2 * n, 2 * n)
    assert J.nnz <= 3 * n
    assert w @ J.T == pytest.approx(product(flow, u), abs=1e-6)

    def chain(x):
        return ((x[..., 1:] - x[..., :-1]) ** 2).sum(-1) + (x**4).sum(-1) / 4

    flow = space.flow(fl.Potential(chain))
    J = flow.jacobian(1.0, space.start(torch.tensor(x)))
    assert J.product(torch.tensor(w)).numpy() == pytest.approx(
        product(flow, u), abs=1e-6
    )
    u0 = space.start(torch.tensor(x))
    steps = {"dt": fl.Adaptive(rtol=1e-5, atol=1e-7), "save_at": [1.5]}
    stiff = fl.solve(flow, u0, (1.0, 1.5), fl.Radau(), **steps).u[-1]
    plain = fl.solve(flow, u0, (1.0, 1.5), fl.DormandPrince(), **steps).u[-1]
    assert float(abs(stiff - plain).max()) < 1e-3


def test_a_solution_can_be_differentiated():
    torch = pytest.importorskip("torch")
    space = fl.HeavyBall(0.5)
    flow = space.flow(MIXED)
    for scheme in (fl.RK4(), fl.TRBDF2(), fl.FISTA()):

        def final(u, scheme=scheme, adjoint=None):
            return fl.solve(
                flow, u, (0, 1), scheme, dt=0.05, save_at=[1.0], adjoint=adjoint
            ).u[-1][0]

        u0 = np.array([1.0, -0.7, 0.0, 0.2])
        u = torch.tensor(u0, requires_grad=True)
        (slope,) = torch.autograd.grad(final(u, adjoint=fl.Backprop()), u)
        near = [(final(u0 + 1e-6 * e) - final(u0 - 1e-6 * e)) / 2e-6 for e in np.eye(4)]
        assert slope.numpy() == pytest.approx(near, abs=1e-7)


def test_every_member_of_a_batch_takes_its_own_steps():
    x = np.linspace(0.1, 3.0, 20)[:, None] * [1.0, -1.0]
    for space in (fl.HeavyBall(0.3), fl.Nesterov()):
        flow = space.flow(MIXED)
        for scheme in (fl.DormandPrince(), fl.TRBDF2()):
            many = fl.solve(flow, space.start(x), (0, 2), scheme, save_at=[2.0])
            one = fl.solve(flow, space.start(x[7]), (0, 2), scheme, save_at=[2.0])
            assert many.u[-1][7] == pytest.approx(one.u[-1], abs=1e-10)


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="`friction` must be at least 0"):
        fl.HeavyBall(-1.0)
    with pytest.raises(ValueError, match="`friction` must be finite"):
        fl.HeavyBall(np.inf)
    with pytest.raises(TypeError, match="`friction` must be a number"):
        fl.HeavyBall("1")
    with pytest.raises(TypeError, match="`friction` must be a number"):
        fl.HeavyBall(None)
    with pytest.raises(ValueError, match="`r` must be positive"):
        fl.Nesterov(0.0)
    with pytest.raises(ValueError, match="`v0` has shape"):
        fl.HeavyBall().start([1.0, 2.0], [1.0, 2.0, 3.0])
    with pytest.raises(TypeError, match="cannot represent the term"):
        fl.Nesterov().flow(fl.Entropy(1.0))
    with pytest.raises(TypeError, match="takes an array or a Dirac"):
        fl.Nesterov().project(fl.Gaussian(0.0, 1.0))


def test_the_singular_start_is_explained():
    space = fl.Nesterov()
    flow = space.flow(fl.quadratic(1.0))
    moving = space.start([1.0], [1.0])
    with pytest.raises(ValueError, match="no solution from t = 0 with a velocity"):
        flow.velocity(0.0, moving)
    with pytest.raises(ValueError, match="no solution from t = -1"):
        flow.velocity(-1.0, space.start([1.0]))
    with pytest.raises(ValueError, match=r"r/t is not defined at t = 0"):
        flow.resolvent(0.0, moving, 0.1, ())
    t = np.array([[0.0], [1.0]])
    u = space.start(np.array([[1.0], [2.0]]))
    assert flow.velocity(t, u) == pytest.approx(np.array([[0, -0.25], [0, -2.0]]))


def test_a_drift_pushes_but_has_no_implicit_steps():
    space = fl.HeavyBall(1.0)
    flow = space.flow(fl.quadratic(1.0), drift=lambda x: 0.0 * x + 2.0)
    sol = fl.solve(flow, space.start([0.0]), (0, 60), fl.RK4(), dt=0.1)
    assert sol.u[-1] == pytest.approx([2.0, 0.0], abs=1e-9)
    with pytest.raises(TypeError, match="resolvent"):
        fl.solve(flow, space.start([0.0]), (0, 1), fl.ImplicitEuler(), dt=0.1)


def test_lyapunov_of_a_first_order_flow_is_its_energy():
    sol = fl.solve(
        fl.Euclidean().flow(fl.quadratic(1.0)), np.ones(1), (0, 1), fl.RK4(), dt=0.1
    )
    with pytest.raises(TypeError, match="no Lyapunov function but its energy"):
        theory.lyapunov(sol)


def test_problems_refuse_wrong_arguments():
    with pytest.raises(ValueError, match="`friction` must be at least 0"):
        fl.problems.heavy_ball(friction=-1.0)
    with pytest.raises(ValueError, match="`v0` has shape"):
        fl.problems.heavy_ball(1.0, [1.0, 2.0], np.ones(3))
    with pytest.raises(ValueError, match="`r` must be greater than 0"):
        fl.problems.nesterov(r=0.0)
    with pytest.raises(ValueError, match="known for t >= 0"):
        fl.problems.nesterov().exact(-1.0)


@pytest.mark.parametrize(
    "p", [fl.problems.heavy_ball(A, [1.0, 2.0]), fl.problems.nesterov(A, [1.0, 2.0])]
)
def test_problems_pickle(p):
    again = pickle.loads(pickle.dumps(p))
    assert (again.exact(1.0) == p.exact(1.0)).all()


def test_a_start_at_time_0_that_requires_grad_gives_no_warning():
    torch = pytest.importorskip("torch")
    u = torch.tensor([1.0, 0.5, 0.0, 0.0], dtype=torch.float64, requires_grad=True)
    flow = fl.Nesterov().flow(fl.Potential("x1**2 + x2**4"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sol = fl.solve(flow, u, (0, 1), fl.RK4(), dt=0.1, adjoint=fl.Backprop())
    (slope,) = torch.autograd.grad(sol.u[-1][0], u)
    start = u.detach().numpy()
    ends = [
        fl.solve(flow, start + e, (0, 1), fl.RK4(), dt=0.1).u[-1][0]
        for e in (np.array([1e-6, 0, 0, 0]), np.array([-1e-6, 0, 0, 0]))
    ]
    assert float(slope[0]) == pytest.approx((ends[0] - ends[1]) / 2e-6, abs=1e-7)
