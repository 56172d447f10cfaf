"""Smooth energies plus kinks and bounds: implicit steps, parts, splitting schemes."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

import flows as fl
from flows import nonsmooth as ns
from flows.linear import NewtonFailure
from flows.spaces import composite_steps
from flows.spaces.composite import CompositeFlow
from flows.spaces.kinks import split_at

N = 6
RNG = np.random.default_rng(3)
ROWS = RNG.normal(size=(8, N))
A = ROWS.T @ ROWS / 4
B = RNG.normal(size=N)
SPACE = fl.Euclidean()
QUADRATIC = fl.quadratic(A, b=B)
SMOOTH = {
    "quadratic": QUADRATIC,
    "stiff": 1e3 * fl.quadratic(A) + fl.quadratic(b=B),
    "quartic": QUADRATIC + fl.separable("x**4/4"),
    "number": fl.quadratic(2.0, b=0.5),
    "diagonal": fl.quadratic(np.arange(1.0, N + 1), center=0.3),
    "in time": QUADRATIC + fl.separable("sin(t)*x"),
}
ROUGH = {
    "l1": ns.l1(0.3),
    "l2": ns.l2(0.8),
    "linf": ns.linf(0.5),
    "tv": ns.total_variation(0.3),
    "box": ns.box(-0.3, 0.4),
    "ball": ns.ball(0.5),
    "simplex": ns.simplex(),
    "huber": ns.huber(0.2),
    "hinge": ns.hinge(0.4),
    "l1 in a box": ns.l1(0.2) + ns.box(0.0, 0.5),
    "sparse group": ns.l1(0.2) + ns.l2(0.3),
    "fused lasso": ns.total_variation(0.2) + ns.l1(0.1),
    "tv in a box": ns.total_variation(0.2) + ns.box(0.0, 1.0),
    "l1 in a ball": ns.l1(0.2) + ns.ball(0.4),
    "typed": fl.separable("abs(x)/3 + 2*abs(x - 1/2)"),
    "typed power": fl.separable("abs(x)**1.5"),
    "radius": fl.Potential("r + r**1.5"),
    "twice": ns.l1(0.2) + 0.5 * ns.l1(0.4, center=0.1),
}
rough = pytest.mark.parametrize("kink", ROUGH)


def soft(x, a):
    return np.sign(x) * np.maximum(np.abs(x) - a, 0.0)


def slack(flow, t, u, v, h):
    """How far v is from the inclusion of the proximal step, relative."""
    split = split_at(flow.functional, u)
    g = sum(term.gradient_at(v, t) for term in split.smooth)
    size = 1 + np.abs(g).max(-1) + np.abs(u / h).max(-1)
    least = split.rough.at(t).least(v, g + (v - u) / h)
    return np.max(np.abs(least).max(-1) / size)


@rough
@pytest.mark.parametrize("even", SMOOTH)
def test_proximal_steps_of_a_sum_solve_their_inclusion(kink, even):
    flow = SPACE.flow(SMOOTH[even] + ROUGH[kink])
    assert isinstance(flow, CompositeFlow)
    u = 2 * RNG.normal(size=(3, N))
    for h in (0.05, 1.0, 20.0, np.array([[0.1], [1.0], [5.0]])):
        v, memory = flow.prox(0.4, u, h, ())
        assert slack(flow, 0.4, u, v, h) < (1e-11 if even == "stiff" else 1e-12)
        w, _ = flow.resolvent(0.4, u, h, memory)
        assert w == pytest.approx(v, abs=1e-11)


@rough
def test_proximal_steps_lower_the_objective_everywhere(kink):
    flow = SPACE.flow(QUADRATIC + ROUGH[kink])
    u, h = 2 * RNG.normal(size=N), 0.7
    v, _ = flow.prox(0.0, u, h, ())

    def objective(y):
        return flow.energy(0.0, y) + np.sum((y - u) ** 2) / (2 * h)

    field = split_at(flow.functional, u).rough.at(0.0)
    for size in (1.0, 1e-2, 1e-4):
        for _ in range(20):
            y = field.prox(v + size * RNG.normal(size=N), 0.01)
            gap = objective(y) - objective(v)
            assert gap >= np.sum((y - v) ** 2) / (2 * h) - 1e-12


def test_the_lasso_step_agrees_with_coordinate_descent():
    flow, h, u = SPACE.flow(QUADRATIC + ns.l1(0.3)), 1.3, RNG.normal(size=N)
    v, _ = flow.prox(0.0, u, h, ())
    M, w, x = A + np.eye(N) / h, B + u / h, np.zeros(N)
    for _ in range(2000):
        for i in range(N):
            rest = w[i] - M[i] @ x + M[i, i] * x[i]
            x[i] = soft(rest, 0.3) / M[i, i]
    assert v == pytest.approx(x, abs=1e-13)
    assert ((v == 0) == (x == 0)).all()


@pytest.mark.parametrize("kink", ["l1", "l2", "linf", "tv", "simplex", "fused lasso"])
def test_accelerated_steps_agree_with_newton(kink, monkeypatch):
    flow = SPACE.flow(SMOOTH["quartic"] + ROUGH[kink])
    u = 2 * RNG.normal(size=(3, N))
    v, _ = flow.prox(0.0, u, 2.0, ())
    monkeypatch.setattr(composite_steps, "LARGEST_NEWTON", 1)
    w, _ = flow.prox(0.0, u, 2.0, ())
    assert w == pytest.approx(v, abs=1e-11)


def test_steps_of_many_coordinates_need_no_matrix():
    n = 3000
    k = np.arange(n)
    center = np.sin(k / 100.0)
    flow = SPACE.flow(
        fl.quadratic(1.0 + k / n, center=center) + ns.total_variation(0.1)
    )
    v, _ = flow.prox(0.0, np.zeros(n), 1.0, ())
    assert slack(flow, 0.0, np.zeros(n), v, 1.0) < 1e-12
    one = SPACE.flow(fl.quadratic(1.0 + k / n, center=center) + ns.l1(0.1))
    exact = soft((1.0 + k / n) * center, 0.1) / (2.0 + k / n)
    assert one.prox(0.0, np.zeros(n), 1.0, ())[0] == pytest.approx(exact, abs=1e-15)


def test_inner_steps_are_counted_and_failures_have_residuals(monkeypatch):
    flow = SPACE.flow(QUADRATIC + ns.l1(0.3))
    sol = fl.solve(flow, np.ones(N), (0, 1), fl.ImplicitEuler(), dt=0.1)
    assert sol.stats["newton_iterations"] >= sol.stats["steps"]
    monkeypatch.setattr(composite_steps, "MOST_NEWTON", 1)
    monkeypatch.setattr(composite_steps, "MOST_STEPS", 2)
    with pytest.raises(NewtonFailure, match="did not converge") as caught:
        flow.prox(0.0, np.ones(N), 1.0, ())
    assert caught.value.residuals


def test_too_concave_a_smooth_part_is_reported():
    flow = SPACE.flow(fl.quadratic(-1.0) + ns.l1(0.3))
    with pytest.raises(NewtonFailure, match="too concave"):
        flow.prox(0.0, np.ones(N), 2.0, ())
    assert flow.prox(0.0, np.ones(N), 0.5, ())[0] == pytest.approx(2 * (1 - 0.15))


@rough
def test_the_velocity_is_the_shortest_subgradient(kink):
    flow = SPACE.flow(SMOOTH["quartic"] + ROUGH[kink])
    u = split_at(flow.functional, B).rough.at(0.0).prox(RNG.normal(size=(3, N)), 0.5)
    gaps = []
    for h in (1e-4, 1e-5, 1e-6):
        v, _ = flow.prox(0.0, u, h, ())
        gaps.append(np.abs((v - u) / h - flow.velocity(0.0, u)).max())
    assert gaps[0] < 0.1
    assert gaps[2] < gaps[0] / 20 or gaps[2] < 1e-7


@rough
def test_the_parts_add_up(kink):
    flow = SPACE.flow(SMOOTH["in time"] + ROUGH[kink])
    parts = flow.parts()
    field = split_at(flow.functional, B).rough.at(0.3)
    u = field.prox(RNG.normal(size=(3, N)), 0.2)
    energies = [part.energy(0.3, u) for part in parts.values()]
    assert sum(energies) == pytest.approx(flow.energy(0.3, u), abs=1e-13)
    slope = -parts["smooth"].velocity(0.3, u)
    assert flow.velocity(0.3, u) == pytest.approx(-field.least(u, slope), abs=1e-14)
    v, _ = parts["prox"].prox(0.3, u, 0.2, ())
    assert v == pytest.approx(field.prox(u, 0.2), abs=0)
    again = pickle.loads(pickle.dumps(flow))
    assert again.prox(0.3, u, 0.2, ())[0] == pytest.approx(
        flow.prox(0.3, u, 0.2, ())[0]
    )


def test_a_formula_with_its_kink_splits_too():
    flow = SPACE.flow(fl.Potential("abs(x) + 2*abs(y - 1) + (x - y)**2"))
    u = np.array([[0.7, -0.3], [0.0, 1.0]])
    parts = flow.parts()
    assert parts["smooth"].velocity(0.0, u) == pytest.approx(
        -2 * (u[:, :1] - u[:, 1:]) * [1, -1]
    )
    assert parts["smooth"].energy(0.0, u) == pytest.approx([1.0, 1.0])
    v, _ = parts["prox"].prox(0.0, u, 0.5, ())
    assert v == pytest.approx(
        np.stack([soft(u[:, 0], 0.5), 1 + soft(u[:, 1] - 1, 1.0)], axis=1)
    )
    assert parts["prox"].velocity(0.0, u) == pytest.approx(
        np.array([[-1.0, 2.0], [0.0, 0.0]])
    )


EXACT = {
    "l1": (ns.l1(2.0), lambda x, t: soft(x, 2 * t)),
    "typed": (fl.Potential("2*abs(x - 1)"), lambda x, t: 1 + soft(x - 1, 2 * t)),
    "box": (ns.box(0, 1), lambda x, t: np.clip(x, 0, 1)),
}


@pytest.mark.parametrize("name", EXACT)
def test_flows_without_a_smooth_part_know_their_flow_map(name):
    energy, path = EXACT[name]
    flow, x = SPACE.flow(energy), np.array([[3.0], [-0.5]])
    sol = fl.solve(flow, x, (0, 2), fl.Exact(), dt=0.25)
    steps = fl.solve(flow, x, (0, 2), fl.JKO(), dt=0.25)
    for t, u, v in zip(sol.t[1:], sol.u[1:], steps.u[1:], strict=True):
        assert u == pytest.approx(path(x, t), abs=1e-14)
        assert v == pytest.approx(path(x, t), abs=1e-14)
    assert not hasattr(SPACE.flow(energy + fl.quadratic()), "exact")
    assert not hasattr(SPACE.flow(ns.huber(1.0)), "exact")


def test_splitting_uses_exact_parts():
    flow = SPACE.flow(fl.quadratic([1.0, 3.0]) + ns.l1([0.1, 0.3]))
    x0, T = np.array([1.0, -2.0]), 0.5

    def path(x, a, lam):
        r = np.abs(x)
        return np.sign(x) * ((r + lam / a) * np.exp(-a * T) - lam / a)

    exact = [path(1.0, 1.0, 0.1), path(-2.0, 3.0, 0.3)]

    def error(h):
        word = fl.Splitting("smooth prox smooth")
        return np.abs(fl.solve(flow, x0, (0, T), word, dt=h).u[-1] - exact).max()

    assert fl.convergence(error, [0.1, 0.05, 0.025, 0.0125]).slope > 1.9


def test_energies_outside_of_bounds_are_infinite():
    flow = SPACE.flow(fl.quadratic(1.0, center=2.0) + ns.box(0, 1))
    assert flow.energy(0.0, np.array([1.5])) == np.inf
    assert flow.energy(0.0, np.array([[1.5], [0.5]])).tolist() == [np.inf, 1.125]
    sol = fl.solve(flow, np.array([1.5]), (0, 5), fl.JKO(), dt=0.5)
    assert sol.energy[0] == np.inf
    assert sol.u[-1] == 1.0
    assert sol.ok


@rough
@pytest.mark.parametrize(
    "scheme",
    [fl.JKO(), fl.ImplicitEuler(), fl.ForwardBackward()],
    ids=repr,
)
def test_energies_fall_at_every_step(kink, scheme):
    flow = SPACE.flow(QUADRATIC + ROUGH[kink])
    u = split_at(flow.functional, B).rough.at(0.0).prox(2 * RNG.normal(size=N), 0.1)
    h = 1.0 / np.linalg.eigvalsh(A)[-1]
    sol = fl.solve(flow, u, (0, 40 * h), scheme, dt=h)
    assert fl.check_descent(sol)


@rough
@pytest.mark.parametrize(
    "scheme",
    [fl.JKO(), fl.TRBDF2(), fl.ForwardBackward(), fl.DouglasRachford()],
    ids=repr,
)
def test_all_schemes_come_to_rest_in_the_minimizer(kink, scheme):
    flow = SPACE.flow(fl.quadratic(A + np.eye(N), b=B) + ROUGH[kink])
    sol = fl.solve(flow, np.ones(N), (0, 60), scheme, dt=0.2, save_at=[60.0])
    u = sol.u[-1]
    assert np.abs(flow.velocity(0.0, u)).max() < 1e-8
    best, _ = flow.prox(0.0, u, 1e9, ())
    assert u == pytest.approx(best, abs=1e-8)


@pytest.mark.parametrize(
    "scheme", [fl.ForwardBackward(), fl.DouglasRachford()], ids=repr
)
def test_splitting_schemes_have_order_one(scheme):
    p = fl.problems.lasso(b=0.4, lam=0.5, x0=2.0)
    flows = {
        "through rest": (SPACE.flow(p.energy), np.array([2.0]), p.exact),
        "nonlinear": (
            SPACE.flow(SMOOTH["quartic"] + ns.huber(0.4)),
            np.linspace(-1, 1, N),
            None,
        ),
    }
    for flow, x0, exact in flows.values():
        T = 1.0
        if exact is None:
            end = fl.solve(flow, x0, (0, T), fl.DOP853(), dt=0.005).u[-1]
        else:
            end = exact(T)

        def error(h, flow=flow, x0=x0, end=end):
            return np.abs(fl.solve(flow, x0, (0, 1.0), scheme, dt=h).u[-1] - end).max()

        study = fl.convergence(error, [0.02, 0.01, 0.005, 0.0025])
        assert study.slope == pytest.approx(1.0, abs=0.1)


def test_forward_backward_is_refused_above_its_bound_and_diverges_there():
    flow = SPACE.flow(fl.quadratic(4.0) + ns.l1(0.1))
    assert flow.stable_step(0.0, np.ones(1)) == 0.5
    with pytest.raises(ValueError, match="above the stability bound"):
        fl.solve(flow, np.ones(1), (0, 9), fl.ForwardBackward(), dt=0.6)
    for h, falls in ((0.49, True), (0.51, False)):
        v = np.array([100.0])
        for _ in range(400):
            v = fl.ForwardBackward().step(flow, 0.0, v, h, None, ()).u
        assert (np.abs(v[0]) < 1.0) is np.bool_(falls)
    assert not hasattr(SPACE.flow(SMOOTH["quartic"] + ns.l1(0.1)), "stable_step")


def test_douglas_rachford_takes_any_step_and_changes_it():
    flow = SPACE.flow(1e4 * QUADRATIC + ns.l1(0.3))
    best, _ = flow.prox(0.0, np.ones(N), 1e9, ())
    sol = fl.solve(flow, np.ones(N), (0, 3000), fl.DouglasRachford(), dt=3.0)
    assert sol.u[-1] == pytest.approx(best, abs=1e-6)
    some = SPACE.flow(QUADRATIC + ns.l1(0.3))
    tol = fl.Adaptive(rtol=1e-4, atol=1e-6)
    for scheme in (fl.DouglasRachford(), fl.ForwardBackward()):
        sol = fl.solve(some, np.ones(N), (0, 2), scheme, dt=tol)
        fine = fl.solve(some, np.ones(N), (0, 2), fl.JKO(), dt=1e-3)
        assert len(set(np.round(np.diff(sol.t), 12))) > 3
        assert sol.u[-1] == pytest.approx(fine.u[-1], abs=3e-3)


def test_schemes_of_two_parts_say_what_they_need():
    with pytest.raises(TypeError, match="needs `parts`"):
        fl.solve(SPACE.flow(QUADRATIC), B, (0, 1), fl.ForwardBackward(), dt=0.1)

    class Axes:
        space = None

        def parts(self):
            return {"A": self, "B": self}

    class Halves(Axes):
        def velocity(self, t, u):
            return -u

        def parts(self):
            return {"smooth": self, "prox": self}

    assert "needs the parts 'smooth' and 'prox'" in fl.ForwardBackward().obstacle(
        Axes()
    )
    assert "'prox' of this Halves has no `prox`" in fl.ForwardBackward().obstacle(
        Halves()
    )
    assert "has no `resolvent`" in fl.DouglasRachford().obstacle(Halves())
    formula = SPACE.flow(fl.Potential("abs(x) + x**2"))
    for scheme in (fl.DouglasRachford(), fl.ForwardBackward()):
        assert scheme.obstacle(formula) is None
    unknown = SPACE.flow(ns.l1() + ns.linf())
    assert "not known" in fl.ForwardBackward().obstacle(unknown)


@pytest.mark.parametrize(
    "energy",
    [
        ns.l1() + ns.linf(),
        ns.box(0, 1) + ns.simplex(),
        ns.l1(center=1.0) + ns.l2(),
        ns.total_variation() + ns.box(0, [0.5, 0.6]),
        ns.total_variation() + fl.separable("abs(x - 1)") + ns.ball(),
    ],
    ids=repr,
)
def test_sums_without_a_known_map_are_refused_with_the_remedy(energy):
    flow = SPACE.flow(energy + fl.quadratic())
    for name in ("prox", "resolvent"):
        with pytest.raises(TypeError, match="moreau_envelope"):
            getattr(flow, name)
    first, *others = energy.terms
    rest = sum(others, start=fl.quadratic())
    smoothed = SPACE.flow(rest + fl.theory.moreau_envelope(first, 0.1))
    u = np.array([0.4, 0.5])
    if len(energy.terms) == 2:
        v, _ = smoothed.prox(0.0, u, 0.3, ())
        assert slack(smoothed, 0.0, u, v, 0.3) < 1e-11


def test_negative_kinks_are_refused():
    with pytest.raises(TypeError, match="is not convex"):
        SPACE.flow(-1.0 * ns.l1() + fl.quadratic()).prox  # noqa: B018
    flow = SPACE.flow(fl.separable("abs(x)") - 0.5 * fl.separable("abs(x)"))
    assert flow.prox(0.0, np.ones(1), 1.0, ())[0] == 0.5


def test_matrix_functions_live_in_matrices():
    with pytest.raises(TypeError, match=r"use Matrices\(n, k\)"):
        SPACE.flow(ns.nuclear())
    W = RNG.normal(size=(4, 3))
    flow = fl.Matrices(4, 3).flow(fl.Potential("r**2/2") + ns.nuclear(0.3))
    sol = fl.solve(flow, W, (0, 1), fl.JKO(), dt=0.5)
    U, sigma, Vt = np.linalg.svd(W, full_matrices=False)
    for _ in range(2):
        sigma = np.maximum(sigma - 0.15, 0) / 1.5
    assert sol.u[-1] == pytest.approx((U * sigma) @ Vt, abs=1e-11)
    target = RNG.normal(size=(2, 4, 3))
    both = fl.Potential(
        lambda X: 0.5 * ((X - target) ** 2).sum((-2, -1)),
        gradient=lambda X: X - target,
    )
    flow = fl.Matrices(4, 3).flow(both + ns.spectral_norm_squared())
    sol = fl.solve(flow, 0 * target, (0, 40), fl.ForwardBackward(), dt=0.5)
    best = ns.spectral_norm_squared().function.prox(target, 1.0)
    assert sol.u[-1] == pytest.approx(best, abs=1e-10)


def test_metrics_that_are_numbers_or_diagonal_fit():
    energy = fl.quadratic([1.0, 4.0], b=[1.0, -2.0]) + ns.l1(0.5)
    u, h = np.array([[1.0, -2.0], [0.1, 0.2]]), 0.3
    for metric in (2.0, np.array([2.0, 5.0])):
        flow = fl.Euclidean(metric=metric).flow(energy)
        v, _ = flow.prox(0.0, u, h, ())
        step = h / np.broadcast_to(metric, (2,))
        a = np.array([1.0, 4.0])
        exact = soft(u + step * [1.0, -2.0], 0.5 * step) / (1 + step * a)
        assert v == pytest.approx(exact, abs=1e-14)
        w, _ = flow.prox(0.0, u, 1e-7, ())
        assert (w - u) / 1e-7 == pytest.approx(flow.velocity(0.0, u), abs=1e-5)
        ends = [
            fl.solve(flow, u, (0, 60), scheme, dt=0.1).u[-1]
            for scheme in (fl.ForwardBackward(), fl.DouglasRachford())
        ]
        assert ends[0] == pytest.approx(soft(np.array([[1.0, -2.0]] * 2), 0.5) / a)
        assert ends[1] == pytest.approx(ends[0], abs=1e-6)


@pytest.mark.parametrize(
    ("metric", "energy"),
    [
        (np.array([[2.0, 0.5], [0.5, 1.0]]), ns.l1()),
        ([1.0, 2.0], ns.l2()),
        ([1.0, 2.0], ns.l1() + fl.quadratic(np.array([[2.0, 0.5], [0.5, 1.0]]))),
        (lambda x: (1 + (x**2).sum(-1))[..., None, None] * np.eye(2), ns.l1()),
    ],
)
def test_other_metrics_are_refused_with_the_reason(metric, energy):
    with pytest.raises(TypeError, match="metric other than a number"):
        fl.Euclidean(metric=metric).flow(energy)


def test_typed_kinks_may_be_anywhere_and_depend_on_time():
    flow = SPACE.flow(fl.Potential("(4 + sin(t))*abs(x - t) + x**2/2"))
    for t in (0.0, 1.3):
        for x in (-3.0, 1.2, 1.31, 5.0):
            v, _ = flow.prox(t, np.array([x]), 0.4, ())
            z = x - 1.4 * t
            exact = t + soft(z, 0.4 * (4 + np.sin(t))) / 1.4
            assert v == pytest.approx([exact], abs=1e-14)
    batch = SPACE.flow(fl.Potential("t*abs(x) + abs(y - t) + x*y/3"))
    u, t = RNG.normal(size=(3, 2)), np.array([[0.2], [1.0], [3.0]])
    whole, _ = batch.prox(t, u, 0.5, ())
    for row, s, v in zip(u, t[:, 0], whole, strict=True):
        assert batch.prox(s, row, 0.5, ())[0] == pytest.approx(v, abs=1e-13)

    def error(h):
        sol = fl.solve(flow, np.array([0.1]), (0, 2), fl.ImplicitEuler(), dt=h)
        # The kink is strong enough to carry the point along.
        return abs(sol.u[-1, 0] - 2.0)

    assert error(0.01) < 1e-13
    fading = SPACE.flow(fl.Potential("(1 - t)*abs(x) + x**2"))
    with pytest.raises(ValueError, match=r"weight of a kink is -0\.5 at t = 1\.5"):
        fading.prox(1.5, np.ones(1), 0.1, ())


def test_positive_parts_are_kinks():
    flow = SPACE.flow(fl.Potential("max(x, 0) + max(1 - x, 0)/2 + 0*y"))
    u = np.array([[2.0, 5.0], [0.5, 1.0], [-3.0, 0.0]])
    v, _ = flow.prox(0.0, u, 0.5, ())
    assert v == pytest.approx(np.array([[1.5, 5.0], [0.25, 1.0], [-2.75, 0.0]]))


def test_the_users_prox_joins_a_smooth_part():
    own = fl.Potential("r", prox=lambda x, h: ns.l2().function.prox(x, h))
    u = RNG.normal(size=(3, N))
    ours = SPACE.flow(QUADRATIC + 2.0 * own).prox(0.0, u, 0.7, ())[0]
    theirs = SPACE.flow(QUADRATIC + ns.l2(2.0)).prox(0.0, u, 0.7, ())[0]
    assert ours == pytest.approx(theirs, abs=1e-12)


def test_particles_take_them_as_well():
    energy = fl.quadratic(1.0, center=0.4) + ns.l1(0.5)
    x = RNG.normal(size=(7, 2))
    cloud = fl.solve(fl.Particles(7).flow(energy), x, (0, 1), fl.JKO(), dt=0.25)
    vectors = fl.solve(SPACE.flow(energy), x, (0, 1), fl.JKO(), dt=0.25)
    assert cloud.u[-1] == pytest.approx(vectors.u[-1], abs=1e-14)


@pytest.mark.parametrize("kink", ["l1", "fused lasso", "simplex", "sparse group"])
def test_tensors_take_the_same_steps(kink):
    torch = pytest.importorskip("torch")
    flow = SPACE.flow(SMOOTH["quartic"] + ROUGH[kink])
    u = RNG.normal(size=(3, N))
    v, _ = flow.prox(0.0, u, 0.7, ())
    w, _ = flow.prox(0.0, torch.from_numpy(u), 0.7, ())
    assert w.numpy() == pytest.approx(v, abs=1e-12)
    small, _ = flow.prox(0.0, u.astype(np.float32), 0.7, ())
    assert small.dtype == np.float32
    assert small == pytest.approx(v, abs=1e-5)


ENVELOPES = {
    "l1": ns.l1(0.5),
    "tv": ns.total_variation(0.5),
    "simplex": ns.simplex(),
    "scaled": 2.0 * ns.l2(0.3),
    "sum": QUADRATIC + ns.linf(0.4),
    "smooth": SMOOTH["quartic"],
    "typed": fl.separable("abs(x) + x**4/4"),
}


@pytest.mark.parametrize("name", ENVELOPES)
def test_a_proximal_step_is_an_euler_step_on_the_envelope(name):
    energy, h = ENVELOPES[name], 0.3
    flow, envelope = SPACE.flow(energy), fl.theory.moreau_envelope(energy, h)
    u = RNG.normal(size=(3, N))
    v, _ = flow.prox(0.0, u, h, ())
    euler = fl.Euler().step(SPACE.flow(envelope), 0.0, u, h, None, ()).u
    assert euler == pytest.approx(v, abs=1e-14)
    value = flow.energy(0.0, v) + np.sum((u - v) ** 2, axis=-1) / (2 * h)
    assert envelope.value_at(u) == pytest.approx(value, abs=1e-14)
    e, d = 1e-5, RNG.normal(size=(3, N))
    slope = (envelope.value_at(u + e * d) - envelope.value_at(u - e * d)) / (2 * e)
    assert slope == pytest.approx(np.sum(envelope.gradient_at(u) * d, -1), abs=1e-7)
    assert pickle.loads(pickle.dumps(envelope)).value_at(u) == pytest.approx(value)


@pytest.mark.parametrize("name", ENVELOPES)
def test_the_envelope_has_its_own_proximal_steps_and_curvature(name):
    envelope = fl.theory.moreau_envelope(ENVELOPES[name], 0.3)
    flow, u, h = SPACE.flow(envelope), RNG.normal(size=N), 0.7
    v, _ = flow.prox(0.0, u, h, ())
    assert v - h * flow.velocity(0.0, v) == pytest.approx(u, abs=1e-12)
    if name != "sum" and name != "typed":
        d, e = RNG.normal(size=N), 1e-6
        up, down = (envelope.gradient_at(u + s * e * d) for s in (1, -1))
        bend = (up - down) / (2 * e)
        assert envelope.hessian_at(u) @ d == pytest.approx(bend, abs=1e-6)


def test_the_envelope_runs_and_ends_in_the_same_minimizer():
    energy = QUADRATIC + ns.l1(0.3)
    best, _ = SPACE.flow(energy).prox(0.0, np.zeros(N), 1e9, ())
    flow = SPACE.flow(fl.theory.moreau_envelope(SPACE.flow(energy), 0.5))
    for scheme, dt in ((fl.JKO(), 2.0), (fl.DormandPrince(), fl.Adaptive(rtol=1e-9))):
        sol = fl.solve(flow, np.ones(N), (0, 400), scheme, dt=dt)
        assert sol.u[-1] == pytest.approx(best, abs=1e-4)
    W = RNG.normal(size=(4, 3))
    matrices = fl.theory.moreau_envelope(ns.nuclear(0.5), 0.4)
    v = ns.nuclear(0.5).function.prox(W, 0.4)
    assert W - 0.4 * matrices.gradient_at(W) == pytest.approx(v, abs=1e-14)
    assert repr(matrices) == "moreau_envelope(nonsmooth.nuclear(0.5), 0.4)"


def test_the_envelope_of_a_length_is_hubers_function():
    u = RNG.normal(size=(5, N))
    envelope = fl.theory.moreau_envelope(ns.l1(0.7), 1.0)
    huber = ns.huber(0.7)
    assert envelope.value_at(u) == pytest.approx(huber.value_at(u))
    assert envelope.gradient_at(u) == pytest.approx(huber.gradient_at(u))
    for h in (0.2, 3.0):
        assert envelope.prox(u, h) == pytest.approx(huber.prox(u, h))


@pytest.mark.parametrize(
    ("source", "h", "kind", "text"),
    [
        (ns.l1(), "1", TypeError, "`h` must be a number"),
        (ns.l1(), 0.0, ValueError, "`h` must be positive"),
        (3.0, 1.0, TypeError, "an energy or a flow of vectors"),
        (fl.Quantiles(5).flow(fl.Entropy()), 1.0, TypeError, "a flow of vectors"),
        (fl.Potential("x*sin(t)"), 1.0, TypeError, "depends on time"),
        (ns.l1() + ns.linf(), 1.0, TypeError, "not known"),
    ],
)
def test_envelopes_that_do_not_exist_are_refused(source, h, kind, text):
    with pytest.raises(kind, match=text):
        fl.theory.moreau_envelope(source, h)
